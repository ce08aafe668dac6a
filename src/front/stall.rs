//! A socket that gives up on a peer that takes nothing.
//!
//! hyper bounds how long a client may take to send a head, not how long it may take to read an
//! answer: a client that stops reading would hold its connection, its permit and its place in a
//! flight for ever. Sits directly on the socket, below TLS, where "takes nothing" means what it says.
//! It does not see an HTTP/2 client that starves one stream by flow control; [`super::pace`] does.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Instant, Sleep},
};

use super::Tally;

/// A socket that can be given up at once. Without it the system goes on offering what was written,
/// and keeps that in its buffers for minutes, to a peer that has proved not to read.
pub(super) trait GiveUp {
    /// Closes by a reset instead of by an orderly end.
    fn give_up(&self);
}

impl GiveUp for TcpStream {
    fn give_up(&self) {
        // It only spares memory: a failure changes nothing else.
        let _ = self.set_zero_linger();
    }
}

impl GiveUp for UnixStream {
    /// What the peer has not read is gone with the socket.
    fn give_up(&self) {}
}

/// `I` with a deadline on every write, flush and shutdown that the peer blocks.
pub(super) struct Stall<I> {
    io: I,
    limit: Duration,
    /// Made when the peer blocks for the first time: most never do.
    timer: Option<Pin<Box<Sleep>>>,
    /// Runs from the first blocked write until one succeeds.
    blocked: bool,
    tally: Arc<Tally>,
}

impl<I: GiveUp> Stall<I> {
    pub(super) fn new(io: I, limit: Duration, tally: Arc<Tally>) -> Self {
        Self { io, limit, timer: None, blocked: false, tally }
    }

    /// Passes on what the socket said; turns a block that has lasted for the limit into an error.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        said: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.blocked = false;
            return said;
        }
        let deadline = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.blocked {
            timer.as_mut().reset(deadline);
            self.blocked = true;
        }
        ready!(timer.as_mut().poll(context));
        self.tally.stalled();
        self.io.give_up();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Stall<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<I: AsyncWrite + GiveUp + Unpin> AsyncWrite for Stall<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.io).poll_write(context, bytes);
        self.bounded(context, said)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.bounded(context, said)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.io).poll_flush(context);
        // TCP's flush is always ready and says nothing about the peer: it must not stop the clock
        // of a write that is still blocked.
        if said.is_ready() { said } else { self.bounded(context, said) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.io).poll_shutdown(context);
        self.bounded(context, said)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    impl GiveUp for DuplexStream {
        fn give_up(&self) {}
    }

    const LIMIT: Duration = Duration::from_secs(60);

    fn pair() -> (Stall<DuplexStream>, DuplexStream, Arc<Tally>) {
        let (ours, theirs) = tokio::io::duplex(16);
        let tally = Arc::<Tally>::default();
        (Stall::new(ours, LIMIT, Arc::clone(&tally)), theirs, tally)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_the_limit() {
        let (mut ours, _theirs, tally) = pair();
        let began = Instant::now();
        let error = ours.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 60);
        assert_eq!(tally.stalls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_not_a_stalled_one() {
        let (mut ours, mut theirs, tally) = pair();
        let reader = tokio::spawn(async move {
            let mut seen = 0;
            let mut buffer = [0; 8];
            while seen < 160 {
                tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
                seen += theirs.read(&mut buffer).await.unwrap();
            }
            seen
        });
        ours.write_all(&[0; 160]).await.unwrap();
        assert_eq!(reader.await.unwrap(), 160);
        assert_eq!(tally.stalls(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ready_flush_does_not_stop_the_clock() {
        let (mut ours, _theirs, _) = pair();
        let began = Instant::now();
        let error = std::future::poll_fn(|context| {
            loop {
                let wrote = Pin::new(&mut ours).poll_write(context, &[0; 8]);
                let Poll::Ready(result) = wrote else {
                    assert!(Pin::new(&mut ours).poll_flush(context).is_ready());
                    return Poll::Pending;
                };
                if let Err(error) = result {
                    return Poll::Ready(error);
                }
            }
        });
        assert_eq!(error.await.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 60);
    }
}

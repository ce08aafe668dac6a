use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http_body_util::{Full, StreamBody};
use hyper::body::{Frame, SizeHint};
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;

const LIMITS: BodyLimits =
    BodyLimits { bytes: 100, idle: Duration::from_secs(10), total: Duration::from_secs(60) };

/// With room for everybody.
async fn whole<B>(headers: &HeaderMap, body: B, limits: BodyLimits) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    read_whole(headers, body, limits, &Room::new(1 << 30)).await.map(|(bytes, _)| bytes)
}

#[tokio::test]
async fn all_bodies_share_one_room_and_leave_it() {
    let room = Room::new(150);
    let body = || Full::new(Bytes::from_static(&[b'x'; 100]));
    let first = read_whole(&HeaderMap::new(), body(), LIMITS, &room).await.unwrap();
    assert_eq!(room.taken(), 100);
    let fault = read_whole(&HeaderMap::new(), body(), LIMITS, &room).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Overloaded);
    assert!(fault.retry_after.is_some());
    drop(first);
    assert_eq!(room.taken(), 0);
    read_whole(&HeaderMap::new(), body(), LIMITS, &room).await.unwrap();
}

/// A body that a test feeds by hand, with an announced length.
struct Fed {
    pieces: mpsc::Receiver<Result<Frame<Bytes>, &'static str>>,
    announced: u64,
    taken: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Body for Fed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        if let Some(Ok(frame)) = &piece {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.taken.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        }
        Poll::Ready(piece)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.announced);
        hint
    }
}

fn fed(announced: u64) -> (mpsc::Sender<Result<Frame<Bytes>, &'static str>>, Fed) {
    let (sender, pieces) = mpsc::channel(64);
    (sender, Fed { pieces, announced, taken: std::sync::Arc::default() })
}

fn data(length: usize) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from(vec![b'x'; length])))
}

#[tokio::test]
async fn one_piece_is_not_copied() {
    let sent = Bytes::from_static(b"{\"model\":\"m\"}");
    let got = whole(&HeaderMap::new(), Full::new(sent.clone()), LIMITS).await.unwrap();
    assert_eq!(got.as_ptr(), sent.as_ptr());
    assert_eq!(got, sent);
}

#[tokio::test]
async fn trailers_and_empty_pieces_are_ignored() {
    let (sender, body) = fed(0);
    sender.send(data(0)).await.unwrap();
    sender.send(data(3)).await.unwrap();
    sender.send(Ok(Frame::trailers(HeaderMap::new()))).await.unwrap();
    drop(sender);
    assert_eq!(whole(&HeaderMap::new(), body, LIMITS).await.unwrap(), "xxx");
}

#[tokio::test]
async fn exactly_the_limit_passes_and_one_byte_more_does_not() {
    for (length, passes) in [(100, true), (101, false)] {
        let body = Full::new(Bytes::from(vec![0; length]));
        let got = whole(&HeaderMap::new(), body, LIMITS).await;
        assert_eq!(got.is_ok(), passes, "{length}");
    }
}

#[tokio::test]
async fn an_unannounced_body_that_grows_past_the_limit_is_drained_then_refused() {
    let (sender, body) = fed(0);
    let taken = std::sync::Arc::clone(&body.taken);
    for _ in 0..5 {
        sender.send(data(30)).await.unwrap();
    }
    drop(sender);
    let fault = whole(&HeaderMap::new(), body, LIMITS).await.unwrap_err();
    assert_eq!(fault.kind, Kind::BodyTooLarge);
    assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 150, "the client could finish");
}

#[tokio::test]
async fn draining_ends_at_the_limit_again() {
    let (sender, body) = fed(1 << 40);
    let taken = std::sync::Arc::clone(&body.taken);
    let endless = tokio::spawn(async move { while sender.send(data(30)).await.is_ok() {} });
    let fault = whole(&HeaderMap::new(), body, LIMITS).await.unwrap_err();
    assert_eq!(fault.kind, Kind::BodyTooLarge);
    assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 120);
    endless.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn draining_ends_after_five_seconds_of_a_silent_client() {
    let (_sender, body) = fed(101);
    let began = Instant::now();
    let fault = whole(&HeaderMap::new(), body, LIMITS).await.unwrap_err();
    assert_eq!(fault.kind, Kind::BodyTooLarge);
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_expects_a_continue_is_refused_unread() {
    let (_sender, body) = fed(101);
    let mut headers = HeaderMap::new();
    headers.insert(header::EXPECT, "100-continue".parse().unwrap());
    let began = Instant::now();
    let fault = whole(&headers, body, LIMITS).await.unwrap_err();
    assert_eq!(fault.kind, Kind::BodyTooLarge);
    assert_eq!(began.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn silence_is_cut_at_the_idle_limit() {
    let (sender, body) = fed(0);
    sender.send(data(1)).await.unwrap();
    let began = Instant::now();
    let fault = whole(&HeaderMap::new(), body, LIMITS).await.unwrap_err();
    assert_eq!(fault.kind, Kind::BodyTimeout);
    assert!(fault.message.contains("limits.body_idle (10s)"), "{fault}");
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_drip_is_cut_at_the_total_limit() {
    let (sender, body) = fed(0);
    let drip = tokio::spawn(async move {
        while sender.send(data(1)).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
    });
    let began = Instant::now();
    let fault = whole(&HeaderMap::new(), body, LIMITS).await.unwrap_err();
    assert_eq!(fault.kind, Kind::BodyTimeout);
    assert!(fault.message.contains("limits.body_time (1m)"), "{fault}");
    assert_eq!(began.elapsed().as_secs(), 60);
    drip.await.unwrap();
}

#[tokio::test]
async fn a_broken_body_is_the_clients_fault() {
    let (sender, body) = fed(0);
    sender.send(data(1)).await.unwrap();
    sender.send(Err("reset")).await.unwrap();
    let fault = whole(&HeaderMap::new(), body, LIMITS).await.unwrap_err();
    assert_eq!(fault.kind, Kind::BodyAborted);
}

#[tokio::test(start_paused = true)]
async fn an_upload_passes_frames_and_trailers_and_fails_only_on_silence() {
    let (sender, body) = fed(7);
    let mut upload = Upload::new(body, LIMITS.idle);
    assert_eq!(upload.size_hint().lower(), 7);
    let client = tokio::spawn(async move {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            sender.send(data(2)).await.unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        sender
    });
    for _ in 0..3 {
        let frame = upload.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "xx");
        // The upstream's time is not the client's.
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    assert!(upload.frame().await.unwrap().unwrap().is_trailers());
    let _silent = client.await.unwrap();
    let began = Instant::now();
    assert_eq!(upload.frame().await.unwrap().unwrap_err().kind, Kind::BodyTimeout);
    assert_eq!(began.elapsed(), LIMITS.idle);
}

#[tokio::test]
async fn an_upload_that_breaks_is_the_clients_fault() {
    let (sender, body) = fed(0);
    sender.send(Err("reset")).await.unwrap();
    let mut upload = Upload::new(body, LIMITS.idle);
    assert_eq!(upload.frame().await.unwrap().unwrap_err().kind, Kind::BodyAborted);
}

proptest! {
    /// Whatever the pieces, the result is their concatenation, or too large exactly when it is.
    #[test]
    fn pieces_join(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let expected = pieces.concat();
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let got = runtime.block_on(whole(&HeaderMap::new(), body, LIMITS));
        match got {
            Ok(got) => prop_assert_eq!(got, expected),
            Err(fault) => {
                prop_assert_eq!(fault.kind, Kind::BodyTooLarge);
                prop_assert!(expected.len() > LIMITS.bytes);
            }
        }
    }
}

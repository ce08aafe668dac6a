//! Hearing how a streamed answer begins before anybody is told that it does.
//!
//! A model server that fails after it has sent `200` and its head says so in the first event. Once
//! the head is the client's, nobody can try elsewhere any more; so it is held back until then.

use std::{collections::VecDeque, future::poll_fn, pin::Pin};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame};
use tokio::time::Instant;

use super::{replica::Failure, reply::Reply};
use crate::wire::{Beginning, Listener, refusal::Refusal};

/// A server that has sent so much without a word of answer (comments that keep the connection
/// alive) is taken for one that speaks.
const SILENCE_BYTES: usize = 64 << 10;

impl Reply {
    /// Waits for the first event. A stream that begins with an error becomes that error, with an
    /// error's status; one that breaks off before it began, or takes longer to than
    /// `timeouts.first_token`, becomes a failed attempt.
    pub(super) async fn heard(mut self, mut ears: Box<dyn Listener>) -> Result<Self, Failure> {
        let sent = Instant::now() - self.timing.first_byte;
        self.body.expect_token(sent);
        let mut held = VecDeque::new();
        let mut bytes = 0;
        let beginning = loop {
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
            let Some(frame) = frame else { break Beginning::Speaking };
            let frame = frame.map_err(Failure::of)?;
            if let Some(data) = frame.data_ref() {
                ears.hear(data);
                bytes += data.len();
            }
            held.push_back(frame);
            match ears.beginning() {
                Beginning::Silent if bytes < SILENCE_BYTES => {}
                beginning => break beginning,
            }
        };
        // The client's head waits for it too: it is the model's time, and nobody else's.
        self.timing.first_byte = sent.elapsed();
        if beginning == Beginning::Failed {
            return Ok(self.refused(held));
        }
        self.body.hold(held, sent);
        Ok(self)
    }

    /// Waits for the first bytes of a whole answer, so that one that breaks off right behind its
    /// head is a failed attempt too: its client would be waiting for them anyway.
    pub(super) async fn begun(mut self) -> Result<Self, Failure> {
        let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
        if let Some(frame) = frame {
            let frame = frame.map_err(Failure::of)?;
            self.body.put_back(frame);
        }
        Ok(self)
    }

    /// The same answer as the error that it is.
    fn refused(mut self, held: VecDeque<Frame<Bytes>>) -> Self {
        let said: Bytes = held.into_iter().filter_map(|it| it.into_data().ok()).flatten().collect();
        let headers = &mut self.head.headers;
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::TRAILER);
        let words = match Refusal::of(&said) {
            Some(Refusal { status, words }) => {
                self.head.status = status.unwrap_or(StatusCode::BAD_GATEWAY);
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                words
            }
            None => {
                self.head.status = StatusCode::BAD_GATEWAY;
                said
            }
        };
        headers.insert(header::CONTENT_LENGTH, words.len().into());
        self.declined =
            self.head.status.is_server_error() || self.head.status == StatusCode::TOO_MANY_REQUESTS;
        self.body.replace(words, self.declined);
        self
    }
}

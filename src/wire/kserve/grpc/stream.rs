//! `ModelStreamInfer`: one call for many requests, each with any number of answers (decoupled models).
//!
//! An answer names its request by `id`, which its asker chose: it is no part of the key, and is written
//! on each answer that is handed out.
//!
//! Source: KServe `grpc_predict_v2.proto`; Triton `grpc_service.proto`, `docs/user_guide/decoupled_models.md`.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;

use super::{
    super::super::{Call, Dialect, Listener, Many, NotStorable, Prompt, Shape, Unread},
    Account, Event, Fault, Fields, Names, add, error, grpc, hearing, read, request, response,
};

pub(super) const METHOD: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// `ModelStreamInferResponse`'s fields.
mod told {
    pub(super) const ERROR: u64 = 1;
    pub(super) const ANSWER: u64 = 2;
}

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct ModelStreamInfer;

impl Dialect for ModelStreamInfer {
    fn name(&self) -> &str {
        "kserve_grpc_stream"
    }

    fn claims(&self, path: &str) -> bool {
        path == METHOD
    }

    fn reads_headers(&self) -> &'static [&'static str] {
        &["content-type"]
    }

    /// One request of a call, as if it were alone in it.
    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        read(call, Names::Aside)
    }

    fn many(&self) -> Option<&dyn Many> {
        Some(self)
    }

    fn listener(&self, _: Shape) -> Box<dyn Listener> {
        hearing::whole(|account: &mut Account, event: Event<'_>| {
            account.unreadable |= add_all(account, event.data).is_none();
        })
    }

    fn ended(&self, trailers: Option<&HeaderMap>) -> Result<(), NotStorable> {
        grpc::ended(trailers)
    }

    fn trailers(&self, end: Result<(), &Fault>) -> Option<HeaderMap> {
        Some(grpc::trailers(end))
    }

    fn content_type(&self, _: Shape) -> &'static str {
        "application/grpc"
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    fn stream_error(&self, _: Shape, _: &Fault, _: Option<u8>) -> Option<Bytes> {
        None
    }
}

impl Many for ModelStreamInfer {
    /// A sequence's requests are steps of one computation.
    fn waits(&self, asked: Call<'_>) -> bool {
        matches!(read(asked, Names::Aside), Err(Unread::Stateful))
    }

    /// A message in a field that is there already is merged into it, and the last of two ids holds
    /// (protobuf.dev, "Last One Wins"): the rest of the answer stays as it came.
    fn readdressed(&self, asked: &[u8], answer: Bytes) -> Bytes {
        let Some(name) = name_of(asked) else { return answer };
        let Some(message) = grpc::message(&answer) else { return answer };
        if named(message) == Some(name) {
            return answer;
        }
        let mut id = BytesMut::new();
        delimited(&mut id, response::ID, name.as_bytes());
        let mut more = BytesMut::new();
        delimited(&mut more, told::ANSWER, &id);
        grpc::framed(&[message, &more])
    }
}

fn name_of(asked: &[u8]) -> Option<&str> {
    Fields::of(grpc::message(asked)?)?.text(request::ID)
}

/// The name that an answer bears; `None` where it is no answer.
fn named(message: &[u8]) -> Option<&str> {
    match Fields::of(message)?.list(told::ANSWER)?[..] {
        [answer] => Fields::of(answer)?.text(response::ID),
        _ => None,
    }
}

fn delimited(out: &mut BytesMut, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// Adds all answers of a request; `None` where one is none.
fn add_all(account: &mut Account, mut body: &[u8]) -> Option<()> {
    while !body.is_empty() {
        let (message, rest) = grpc::first(body)?;
        body = rest;
        let said = Fields::of(message)?;
        account.failed |= !said.text(told::ERROR)?.is_empty();
        let [answer] = said.list(told::ANSWER)?[..] else { return None };
        // The last one of a decoupled model may say no more than that it is the last.
        if !Fields::of(answer)?.all(response::OUTPUTS).is_empty() {
            add(account, answer)?;
        }
    }
    Some(())
}

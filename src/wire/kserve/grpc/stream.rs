//! `ModelStreamInfer`: one call for many requests, each with any number of answers (decoupled models).
//!
//! An answer names its request by `id`, which its asker chose: it is no part of the key, and is written
//! on each answer that is handed out.
//!
//! Source: KServe `grpc_predict_v2.proto`; Triton `grpc_service.proto`, `docs/user_guide/decoupled_models.md`.

use bytes::Bytes;
use prost::Message;

use super::{Account, Fields, add, grpc, request, response};

/// `ModelStreamInferResponse`'s fields.
mod told {
    pub(super) const ERROR: u64 = 1;
    pub(super) const ANSWER: u64 = 2;
}

/// `ModelStreamInferResponse`, of which no more is said than whose answer it is.
#[derive(Clone, PartialEq, Message)]
struct More {
    #[prost(message, optional, tag = "2")]
    answer: Option<Name>,
}

/// `ModelInferResponse`'s id. It is written when it is empty, too.
#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, optional, tag = "3")]
    id: Option<String>,
}

/// An answer to the same request of anybody, as an answer to this one.
///
/// A message in a field that is there already is merged into it, and the last of two ids holds
/// (protobuf.dev, "Last One Wins"): the rest of the answer stays as it came.
pub(super) fn readdressed(asked: &[u8], answer: Bytes) -> Bytes {
    let Some(name) = name_of(asked) else { return answer };
    let Some(message) = grpc::message(&answer) else { return answer };
    if named(message) == Some(name) {
        return answer;
    }
    let more = More { answer: Some(Name { id: Some(name.to_owned()) }) };
    grpc::framed(&[message, &more.encode_to_vec()])
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

/// Adds all answers of a request; `None` where one is none.
pub(super) fn add_all(account: &mut Account, mut body: &[u8]) -> Option<()> {
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

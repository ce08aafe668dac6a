//! OpenAI's API, and everything that speaks like it: vLLM, TGI's Messages API, TensorRT-LLM's
//! `trtllm-serve`, SGLang, llama.cpp, Ollama's `/v1`, Azure, most hosted APIs.
//!
//! [`Chat`] is its first dialect; the others have a file each. Azure's paths
//! (`/openai/deployments/NAME/...`) end in the same words; the deployment is in the path and the
//! version in the query, and both are in the key.
//!
//! Source: OpenAI API reference, "Chat" (create, and the chunk object of a stream).

mod completions;
mod embeddings;
mod listen;
mod request;
mod reshape;
mod responses;

use bytes::Bytes;
use serde_json::json;

pub use self::{completions::Completions, embeddings::Embeddings, responses::Responses};
use super::{
    Call, Dialect, Listener, Prompt, Shape, Unread, dress::Marks, framing::Framing, hearing,
    oneshot::OneShot, sse,
};
use crate::fault::{Fault, Whose};

/// Chat completions.
#[derive(Clone, Copy, Debug)]
pub struct Chat;

/// The data of the event that ends a complete stream.
const DONE: &[u8] = b"[DONE]";

/// Moderations: a rating of a text.
pub(super) const MODERATIONS: OneShot =
    OneShot { name: "openai_moderations", ends: &["/moderations"], said: "results", error };

/// Rerank as Cohere, Jina, vLLM and TEI have it.
pub(super) const RERANK: OneShot =
    OneShot { name: "rerank", ends: &["/rerank"], said: "results", error };

impl Dialect for Chat {
    fn name(&self) -> &str {
        "openai"
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with("/chat/completions")
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        request::read(call)
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        listener(shape)
    }

    fn reshape(&self, stored: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
        reshape::reshape(stored, body, wanted)
    }

    fn marks(&self) -> Marks<'_> {
        Marks {
            framing: Some(Framing::Sse),
            ids: vec!["/id"],
            times: vec!["/created"],
            counts: vec!["/usage"],
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    fn stream_error(&self, _: Shape, fault: &Fault, _: Option<u8>) -> Option<Bytes> {
        Some(stream_error(fault))
    }
}

/// Ears for chat and legacy completions.
fn listener(shape: Shape) -> Box<dyn Listener> {
    match shape {
        Shape::Whole => hearing::whole(listen::ears()),
        Shape::Stream { .. } | Shape::Array => hearing::stream(Framing::Sse, listen::ears()),
    }
}

/// `{"error": {"message", "type", "param", "code"}}`.
pub(super) fn error(fault: &Fault) -> Bytes {
    let kind = match fault.kind.whose() {
        Whose::Client => "invalid_request_error",
        Whose::Upstream => "upstream_error",
        Whose::Cache | Whose::Us => "server_error",
    };
    let body = json!({"error": {
        "message": fault.message, "type": kind, "param": null, "code": fault.kind.name(),
    }});
    Bytes::from(body.to_string())
}

/// Completions have no standard event for a stream that failed. An `error` object inside a data
/// event is what servers of this family send and what the official clients raise on; `[DONE]`, the
/// mark of success, is never made up.
fn stream_error(fault: &Fault) -> Bytes {
    sse::last_word(&error(fault))
}

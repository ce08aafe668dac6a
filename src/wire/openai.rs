//! OpenAI's chat completions, and everything that speaks like them: vLLM, TGI's Messages API,
//! TensorRT-LLM's `trtllm-serve`, SGLang, llama.cpp, Ollama's `/v1`, most hosted APIs.
//!
//! Source: OpenAI API reference, "Chat" (create, and the chunk object of a stream).

mod listen;
mod request;
mod reshape;

use bytes::Bytes;
use serde_json::json;

use super::{Dialect, Listener, Prompt, Shape, Unreadable, sse};
use crate::fault::{Fault, Whose};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct OpenAi;

/// The data of the event that ends a complete stream.
const DONE: &[u8] = b"[DONE]";

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with("/chat/completions")
    }

    fn read(&self, path: &str, body: &[u8], ignored: &[String]) -> Result<Prompt, Unreadable> {
        request::read(path, body, ignored)
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        match shape {
            Shape::Whole => Box::new(listen::Whole::default()),
            Shape::Stream { .. } => Box::new(listen::Stream::new()),
        }
    }

    fn reshape(&self, stored: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
        reshape::reshape(stored, body, wanted)
    }

    fn content_type(&self, shape: Shape) -> &'static str {
        match shape {
            Shape::Whole => "application/json",
            Shape::Stream { .. } => "text/event-stream; charset=utf-8",
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
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

    /// Chat completions have no standard event for a stream that failed. An `error` object inside a
    /// data event is what servers of this family send and what the official clients raise on;
    /// `[DONE]`, the mark of success, is never made up.
    fn stream_error(&self, fault: &Fault) -> Option<Bytes> {
        // The leading blank line closes an event that the cut may have left open.
        let mut out = b"\n\n".to_vec();
        sse::write(&mut out, &self.error(fault));
        Some(Bytes::from(out))
    }
}

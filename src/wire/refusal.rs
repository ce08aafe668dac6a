//! The error that a stream began with, as the answer of its own that it should have been.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::sse::Splitter;

/// The most bytes of an error: a page of a server's own stack trace fits.
const ERROR_MAX: usize = 256 << 10;

/// `529 Overloaded`, which Anthropic's API answers.
const OVERLOADED: u16 = 529;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status that it would have had, where it says so.
    pub status: Option<StatusCode>,
    /// The error object, as JSON.
    pub words: Bytes,
}

impl Refusal {
    /// Out of what a server has `said` up to its error, as server-sent events or as lines of JSON;
    /// `None` where that holds no JSON.
    pub fn of(said: &[u8]) -> Option<Self> {
        let mut last = None;
        let mut splitter = Splitter::new(ERROR_MAX);
        let mut hear = |data: &[u8]| {
            if let Ok(told @ Value::Object(_)) = serde_json::from_slice(data) {
                last = Some((told, Bytes::copy_from_slice(data)));
            }
        };
        splitter.feed(said, |event| hear(event.data));
        splitter.finish(|event| hear(event.data));
        said.split(|byte| *byte == b'\n').for_each(|line| hear(line.trim_ascii()));
        let (told, words) = last?;
        Some(Self { status: status(&told), words })
    }
}

/// vLLM, SGLang, OpenRouter and Gemini put the status into the error's `code`; Anthropic and OpenAI
/// have words for it.
fn status(told: &Value) -> Option<StatusCode> {
    let error = told.get("error").unwrap_or(told);
    let code = ["code", "status"].iter().find_map(|name| error.get(name)?.as_u64());
    let word = ["code", "type"].iter().find_map(|name| match error.get(name)?.as_str()? {
        "overloaded_error" => Some(OVERLOADED),
        "rate_limit_error" | "rate_limit_exceeded" => Some(429),
        "invalid_request_error" => Some(400),
        _ => None,
    });
    let code = code.and_then(|code| u16::try_from(code).ok()).or(word)?;
    let status = StatusCode::from_u16(code).ok()?;
    (status.is_client_error() || status.is_server_error()).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_behind_comments_and_with_its_status() {
        for (said, status, words) in [
            (
                ": ping\n\ndata: {\"error\":{\"code\":503}}\n\n",
                Some(503),
                "{\"error\":{\"code\":503}}",
            ),
            ("data: {\"error\":{\"code\":\"odd\"}}\n\n", None, "{\"error\":{\"code\":\"odd\"}}"),
            ("data: {\"error\":{\"code\":200}}", None, "{\"error\":{\"code\":200}}"),
            ("event: error\ndata: {\"code\":429}\n\n", Some(429), "{\"code\":429}"),
            (
                "event: error\ndata: {\"error\":{\"type\":\"overloaded_error\"}}\n\n",
                Some(529),
                "{\"error\":{\"type\":\"overloaded_error\"}}",
            ),
            ("{\"error\":\"no such model\"}\n", None, "{\"error\":\"no such model\"}"),
        ] {
            let refusal = Refusal::of(said.as_bytes()).unwrap();
            assert_eq!(refusal.status.map(|status| status.as_u16()), status, "{said}");
            assert_eq!(refusal.words, words);
        }
        for said in ["", "data: [DONE]\n\n", "event: error\n\n", "data: 7\n\n", "\u{fffd}"] {
            assert_eq!(Refusal::of(said.as_bytes()), None, "{said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_server_says_panics(said: Vec<u8>) {
            let _ = Refusal::of(&said);
        }
    }
}

//! Reading a request's body, once for all of its byte-identical repeats.
//!
//! Parsing a body and hashing its canonical form costs several times what answering it from memory
//! does. The same bytes at the same path read the same, so what was read is remembered under their
//! plain digest. Whose request it is stays out of it: the cache's key is made anew from every
//! request's own scope.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use super::{House, call::call};
use crate::{
    frames::Frames,
    wire::{Dialect, Prompt, Unread},
};

/// What the remembered readings may weigh: several thousand questions of usual length.
const READINGS_BYTES: u64 = 8 << 20;

/// Bodies from here on are read off the connection's thread, which serves others too: 1 MB of JSON
/// takes some 3 ms.
const LARGE: usize = 256 << 10;

/// What was read before.
#[derive(Clone, Debug)]
pub struct Readings(moka::sync::Cache<[u8; 32], Prompt>);

impl Default for Readings {
    fn default() -> Self {
        let weigh = |_: &[u8; 32], prompt: &Prompt| {
            let question = prompt.question.as_ref().map_or(0, |text| text.len());
            let bytes = 256 + prompt.model.len() + question + prompt.opening.len();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self(moka::sync::Cache::builder().max_capacity(READINGS_BYTES).weigher(weigh).build())
    }
}

/// Reads a body as its dialect does.
///
/// # Errors
/// The dialect is not certain of it.
pub(super) async fn read(
    house: &Arc<House>,
    dialect: &Arc<dyn Dialect>,
    parts: &Parts,
    body: &Bytes,
) -> Result<Prompt, Unread> {
    let digest = digest(&**dialect, parts, body);
    if let Some(prompt) = house.readings.0.get(&digest) {
        return Ok(prompt);
    }
    let prompt = if body.len() < LARGE {
        dialect.read(call(house, parts, body))?
    } else {
        let (house, dialect, parts) = (house.clone(), dialect.clone(), parts.clone());
        let body = body.clone();
        let reading = move || dialect.read(call(&house, &parts, &body));
        tokio::task::spawn_blocking(reading).await.map_err(|_| Unread::Unreadable)??
    };
    house.readings.0.insert(digest, prompt.clone());
    Ok(prompt)
}

/// Everything that a dialect looks at.
fn digest(dialect: &dyn Dialect, parts: &Parts, body: &[u8]) -> [u8; 32] {
    let mut looked_at = Frames::default();
    looked_at.tagged(b'd', dialect.name().as_bytes());
    looked_at.tagged(b'p', parts.uri.path().as_bytes());
    looked_at.tagged(b'q', parts.uri.query().unwrap_or_default().as_bytes());
    for name in dialect.reads_headers().iter().copied() {
        let value = parts.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        looked_at.tagged(b'h', value);
    }
    looked_at.tagged(b'b', body);
    looked_at.finish().into()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::wire::dialects::{Dialects, Family};

    #[test]
    fn whatever_a_dialect_looks_at_is_in_the_digest() {
        let dialects = Dialects::of(&Family::Auto);
        let parts = |target: &str, length: &str| {
            let request = Request::post(target).header("inference-header-content-length", length);
            request.header("x-request-id", "7").body(()).unwrap().into_parts().0
        };
        let infer = "/v2/models/m/infer";
        let of = |target: &str, length: &str, body: &[u8]| {
            let parts = parts(target, length);
            digest(&**dialects.at(parts.uri.path()).unwrap(), &parts, body)
        };
        let one = of(infer, "2", b"{}");
        assert_eq!(one, of(infer, "2", b"{}"));
        assert_ne!(one, of(infer, "1", b"{}"), "a header that the dialect reads");
        assert_ne!(one, of(infer, "2", b"{ }"), "another body");
        assert_ne!(one, of("/v2/models/n/infer", "2", b"{}"), "another path");
        assert_ne!(one, of("/v2/models/m/infer?a", "2", b"{}"), "another query");
        assert_ne!(one, of("/v1/chat/completions", "2", b"{}"), "another dialect");
    }
}

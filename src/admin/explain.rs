//! What would happen to a request, and why, without letting it happen.
//!
//! The posted body is the client's own, byte for byte: a number written otherwise is another
//! request. What the client sends beside it comes in the query (`?path=/v1/chat/completions`) and
//! in headers that begin with `x-client-`: `authorization` alone is the admin listener's.

use axum::{
    Json,
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, Uri},
};
use serde::{Deserialize, Serialize};

use super::{Admin, authority::Writer, refusal::Refusal};
use crate::{fault::Fault, observe::Prompts};

/// What a client's header is called here: `x-client-authorization` stands for `authorization`.
pub const CLIENT: &str = "x-client-";

/// Where chat completions are asked for, in most APIs.
const USUAL_PATH: &str = "/v1/chat/completions";

/// Larger requests are streamed through and not kept, or nothing to explain by hand.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;

/// A request as its client would send it.
#[derive(Clone, Debug)]
pub struct Question {
    /// Path and query.
    pub target: Uri,
    /// The client's headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What would happen, and what it hangs on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Explained {
    /// `hit`, `miss` (looked for and not found) or `bypass` (not looked for).
    pub outcome: String,
    /// As in `Cache-Status`: `exact`, `semantic` or `stale`, or the reason.
    pub detail: String,
    /// The same in a sentence.
    pub why: String,
    /// The upstream it would go to.
    pub route: String,
    /// How its API is read.
    pub dialect: String,
    /// The model asked for.
    pub model: Option<String>,
    /// Whose request it is: the keyed hash.
    pub tenant: Option<String>,
    /// Everything but the last user turn, hashed: neighbours come from here alone.
    pub partition: Option<String>,
    /// The id under which its own answer is, or would be, kept.
    pub entry: Option<String>,
    /// The last user turn; only with `log.prompts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The stored answer to exactly this request.
    pub exact: Option<ExactAnswer>,
    /// The answer that would be served by meaning.
    pub answer: Option<String>,
    /// The verdict, where it came to one.
    pub verdict: Option<Judged>,
    /// The nearest stored questions of the partition, nearest first.
    pub nearest: Vec<Nearest>,
    /// Microseconds that each step took just now.
    pub took_us: Took,
}

/// An answer to exactly this request.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ExactAnswer {
    /// `memory` or `store`.
    pub tier: String,
    /// Unix milliseconds at which it was generated.
    pub generated_ms: u64,
    /// Unix milliseconds from which it is not served as fresh.
    pub expires_ms: u64,
    /// Why it would not be served.
    pub refused: Option<String>,
}

/// A verdict with all that went into it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Judged {
    /// `verified`, `threshold`, `vcache` or `off`.
    pub policy: String,
    /// `serve`, `doubtful`, `guarded`, `suspended`, `no_neighbour` ...
    pub ruling: String,
    /// The key whose answer is judged.
    pub key: Option<String>,
    /// Its cosine similarity to the question.
    pub similarity: f32,
    /// Best similarity of another answer's key; 0 if there is none.
    pub rival: f32,
    /// How far ahead of its rival it is.
    pub margin: f32,
    /// The number that the policy judged by.
    pub feature: f32,
    /// Believed probability that the answer is right.
    pub alpha: f64,
    /// What had to be reached: `alpha` for `verified`, `similarity` for `threshold`.
    pub line: Option<f64>,
    /// Guards that object.
    pub guards: Vec<String>,
    /// `serving`, or `exact_only` where too many hits went wrong of late.
    pub trust: String,
    /// Wrong answers per hit in this namespace as its audits show it: low, point, high (95 %).
    pub wrong_hits: [f64; 3],
}

/// A stored question near this one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Nearest {
    /// The key.
    pub entry: String,
    /// The answer that it leads to.
    pub answer: String,
    /// Cosine similarity.
    pub similarity: f32,
    /// Guards that are on and object to it.
    pub guards: Vec<String>,
    /// Guards that would object if they were on.
    pub guards_off: Vec<String>,
    /// Unix milliseconds at which its life ends.
    pub expires_ms: u64,
    /// Its text; only with `log.prompts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
}

/// Microseconds by step; 0 for one that was not needed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Took {
    /// The store asked by id.
    pub by_id: u64,
    /// The embedding.
    pub embed: u64,
    /// The search.
    pub search: u64,
    /// Guards and verdict.
    pub verdict: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    path: Option<String>,
}

pub(super) async fn explain(
    writer: Writer,
    State(admin): State<Admin>,
    place: Result<Query<Place>, QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Explained>, Refusal> {
    let Query(place) = place.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    let path = place.path.as_deref().unwrap_or(USUAL_PATH);
    let target = path.parse().ok().filter(|_| path.starts_with('/')).ok_or_else(|| {
        Refusal::bad_request("`path` is the path that a client would post to, such as /v1/messages")
    })?;
    let question = Question { target, headers: client_headers(&headers)?, body };
    let mut explained = admin.entries.explain(writer.peer, question).await?;
    if admin.observer.prompts() == Prompts::Withheld {
        explained.question = None;
        explained.nearest.iter_mut().for_each(|near| near.question = None);
    }
    Ok(Json(explained))
}

/// The client's own headers out of those of the admin request.
fn client_headers(headers: &HeaderMap) -> Result<HeaderMap, Refusal> {
    let mut own = HeaderMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(CLIENT) else { continue };
        let name: HeaderName = name.parse().map_err(|_| {
            Refusal::bad_request(format!("`{CLIENT}` needs a header's name behind it"))
        })?;
        own.append(name, value.clone());
    }
    Ok(own)
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::bad_request(fault.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clients_own_headers_are_explained() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer admin"),
            ("x-client-authorization", "Bearer alice"),
            ("x-client-x-reprise-mode", "exact"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let own = client_headers(&headers).unwrap();
        assert_eq!(own.len(), 2);
        assert_eq!(own["authorization"], "Bearer alice");
        headers.insert("x-client-", "x".parse().unwrap());
        assert_eq!(client_headers(&headers).unwrap_err().code, "bad_request");
    }
}

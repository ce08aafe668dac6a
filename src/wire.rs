//! Room 3: the neutral words between an API and the cache; one file a dialect.
//!
//! A [`Dialect`] reads a request into a [`Prompt`], hears an answer go by with a [`Listener`] (it
//! never touches the bytes), and can turn a stored answer into the shape that a client asked for.
//! The cache knows these words and no API; a new API is one new file here and a line in
//! [`dialects`], which finds the dialect of a request by its upstream's family and its path.
//!
//! What dialects share: `conversation` separates the question from everything that must match,
//! `hearing` keeps account of an answer, `framing` cuts a stream into events.

pub mod anthropic;
pub mod bedrock;
pub mod cohere;
mod conversation;
pub mod custom;
pub mod dialects;
pub mod dress;
pub mod framing;
pub mod gemini;
pub mod grpc;
mod hearing;
pub mod json;
pub mod kserve;
pub mod llamacpp;
pub mod ollama;
mod oneshot;
pub mod openai;
mod protobuf;
pub mod refusal;
pub mod sse;
pub mod tgi;
#[cfg(test)]
mod trial;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use self::dress::Marks;
use crate::fault::Fault;

/// In which form an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// One body.
    Whole,
    /// Events as they are generated.
    Stream {
        /// The client asked for a last event with token counts.
        usage: bool,
    },
    /// The same events as the elements of one JSON list (Gemini without `alt=sse`).
    Array,
}

impl Shape {
    /// Stable name for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Stream { .. } => "stream",
            Self::Array => "array",
        }
    }

    /// Does it travel as events?
    pub const fn is_events(self) -> bool {
        !matches!(self, Self::Whole)
    }
}

/// A request to be read.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The path of its target, without the query.
    pub path: &'a str,
    /// Its query, `""` if none.
    pub query: &'a str,
    /// Its headers, after hygiene.
    pub headers: &'a HeaderMap,
    /// Its body, in full.
    pub body: &'a [u8],
    /// What the operator knows better than any dialect.
    pub rules: Rules<'a>,
}

/// What the operator says about requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    /// Top-level fields that cannot change an answer.
    pub ignored: &'a [String],
    /// How prompts that wrap their question are written.
    pub templates: &'a [Template],
    /// Names of the tensors (KServe, BYTES) that hold a question.
    pub text_inputs: &'a [String],
}

/// A prompt that wraps its question, such as one with retrieved documents: what stands outside of
/// the two marks is context and must match exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The question begins after the last place where this stands.
    #[serde(default)]
    pub after: String,
    /// And ends before the next place where this stands; empty: at the end.
    #[serde(default)]
    pub before: String,
}

/// A request as the cache sees it.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The model that was asked for, as written.
    pub model: Arc<str>,
    /// The form in which the client wants its answer.
    pub shape: Shape,
    /// Digest of everything that must match exactly: all but the text of the last user turn.
    pub context: blake3::Hash,
    /// Digest of the text of the last user turn, part by part.
    pub turn: blake3::Hash,
    /// That text, for matching by meaning, or why it must not be matched so.
    pub question: Result<Arc<str>, ExactOnly>,
    /// The sampling temperature, where given.
    pub temperature: Option<f64>,
    /// How the conversation begins, up to [`OPENING_MAX`] bytes of its texts: model servers keep
    /// what they computed for it, so equal openings should go to the same replica.
    pub opening: Bytes,
}

/// The most bytes of a [`Prompt::opening`].
pub const OPENING_MAX: usize = 1024;

/// Why a readable request is only ever answered by an exact repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExactOnly {
    /// Several answers were asked for.
    Choices,
    /// Token probabilities were asked for: they belong to these very tokens.
    Logprobs,
    /// The last turn is a tool's result or an assistant's beginning, not a question.
    LastTurnNotUser,
    /// The last user turn holds no text.
    NoText,
    /// Something other than text was asked for.
    Modality,
    /// It is no question: vectors, ratings, rankings, numbers.
    NotAQuestion,
    /// It goes on from an earlier answer that only the server knows.
    Continued,
    /// The server runs tools of its own for it.
    ServerTools,
}

impl ExactOnly {
    /// Stable name for headers, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Choices => "several_choices",
            Self::Logprobs => "logprobs",
            Self::LastTurnNotUser => "last_turn_not_user",
            Self::NoText => "no_text",
            Self::Modality => "modality",
            Self::NotAQuestion => "not_a_question",
            Self::Continued => "continued",
            Self::ServerTools => "server_tools",
        }
    }
}

/// Why a request is forwarded untouched and its answer not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// This dialect cannot read it with certainty: what is wrong with it is for the server to say.
    Unreadable,
    /// Its answer depends on what the server holds, or changes it.
    Stateful,
}

/// Tokens that a model server counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// In the prompt.
    pub prompt: u64,
    /// In the answer.
    pub completion: u64,
}

/// What a complete, storable answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The first choice's text (empty for a pure tool call).
    pub text: String,
    /// Token counts, where the server sent them.
    pub usage: Option<Usage>,
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStorable {
    /// Not a 2xx answer.
    Status,
    /// It ended before its dialect's own mark of completeness.
    Incomplete,
    /// The model was cut off by its token limit.
    Length,
    /// A filter cut or replaced it.
    Filtered,
    /// It says nothing.
    Empty,
    /// The server reported an error inside a 200.
    UpstreamError,
    /// It is not what this dialect speaks.
    Unreadable,
    /// It ended for a reason that this dialect does not know.
    UnknownFinish,
    /// It passed `cache.max_entry`.
    TooLarge,
    /// It came compressed although it was not asked to.
    Encoded,
    /// The upstream said `no-store` or `private`. Its `no-cache` is not heard: hosted APIs send it
    /// with every answer.
    NoStore,
    /// Nobody waited for it and `cache.finish_abandoned` is off.
    Abandoned,
}

impl NotStorable {
    /// Stable name for headers, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Incomplete => "incomplete",
            Self::Length => "length",
            Self::Filtered => "filtered",
            Self::Empty => "empty",
            Self::UpstreamError => "upstream_error",
            Self::Unreadable => "unreadable_answer",
            Self::UnknownFinish => "unknown_finish",
            Self::TooLarge => "too_large",
            Self::Encoded => "encoded",
            Self::NoStore => "upstream_no_store",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What the beginning of an answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing meaningful yet.
    Silent,
    /// The first piece of an answer was heard.
    Speaking,
    /// A 200 that is an error.
    Failed,
}

/// Hears an answer go by. It sees the same bytes as the client, in any chunking, and never changes
/// them; whatever it does not understand ends in a [`NotStorable`], never in an error for anybody.
pub trait Listener: Send {
    /// The next bytes of the body.
    fn hear(&mut self, bytes: &[u8]);

    /// What has been heard so far.
    fn beginning(&self) -> Beginning;

    /// The body ended cleanly and was `body` in full: is it an answer to keep?
    ///
    /// # Errors
    /// Why not.
    fn finish(self: Box<Self>, body: &[u8]) -> Result<Answer, NotStorable>;
}

/// A request whose inputs are answered one by one.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What each input would ask alone, in order.
    pub prompts: Vec<Prompt>,
}

/// A stored answer in the shape that is wanted; `None` where it cannot have it, or would not be heard
/// as an answer there: what a server left out of one shape may be what makes the other one whole.
pub fn reshaped(
    dialect: &dyn Dialect,
    stored: Shape,
    body: &Bytes,
    wanted: Shape,
) -> Option<Bytes> {
    let reshaped = dialect.reshape(stored, body, wanted)?;
    if stored != wanted {
        let mut ears = dialect.listener(wanted);
        ears.hear(&reshaped);
        ears.finish(&reshaped).ok()?;
    }
    Some(reshaped)
}

/// One API.
pub trait Dialect: Send + Sync + 'static {
    /// Stable name for keys, logs and metrics.
    fn name(&self) -> &str;

    /// Is a POST to this path (no query) a call whose answer can be kept?
    fn claims(&self, path: &str) -> bool;

    /// The part of a query that can change an answer's content (what only changes its shape is not
    /// part of the key).
    fn keyed_query<'q>(&self, query: &'q str) -> Cow<'q, str> {
        Cow::Borrowed(query)
    }

    /// The headers that [`Self::read`] looks at. What the same bytes read as is remembered, by the
    /// path, the query and these: one that is missing here would be taken from an earlier request.
    fn reads_headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`Unread`] for anything that this dialect is not certain of.
    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread>;

    /// Takes a request apart whose inputs are answered one by one; `None` where there is nothing to
    /// take apart.
    fn items(&self, call: Call<'_>) -> Option<Batch> {
        let _ = call;
        None
    }

    /// A batch's body with these of its items alone.
    fn without(&self, body: &[u8], kept: &[usize]) -> Option<Bytes> {
        let _ = (body, kept);
        None
    }

    /// A batch's answer, taken apart into the answers that its items alone would have.
    fn apart(&self, body: &[u8]) -> Option<Vec<Bytes>> {
        let _ = body;
        None
    }

    /// The answer of a batch from those of its items; `asked` is what the server said for those
    /// that were not known, if there were any.
    fn together(&self, items: &[Bytes], asked: Option<&[u8]>) -> Option<Bytes> {
        let _ = (items, asked);
        None
    }

    /// Do its calls carry many requests, each a gRPC message, of which [`Self::read`] reads one, and whose
    /// answers go back over the same call?
    fn carries_many(&self) -> bool {
        false
    }

    /// A message that answers the same request of anybody, as an answer to this one.
    fn readdressed(&self, asked: &[u8], answer: Bytes) -> Bytes {
        let _ = asked;
        answer
    }

    /// Ears for an answer that travels in this shape.
    fn listener(&self, shape: Shape) -> Box<dyn Listener>;

    /// A whole answer as the stream that says the same; `None` where there is no such stream.
    fn split(&self, whole: &Bytes) -> Option<Bytes> {
        let _ = whole;
        None
    }

    /// A stream as the whole answer that says the same; `None` where there is no such answer.
    fn join(&self, stream: &Bytes) -> Option<Bytes> {
        let _ = stream;
        None
    }

    /// A stored answer in another shape; `None` where it lacks what that shape must have.
    fn reshape(&self, stored: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
        match (stored, wanted) {
            (Shape::Whole, Shape::Stream { .. }) => self.split(body),
            (Shape::Stream { .. }, Shape::Whole) => self.join(body),
            (stored, wanted) => (stored == wanted).then(|| body.clone()),
        }
    }

    /// The content type of a reshaped answer.
    fn content_type(&self, shape: Shape) -> &'static str {
        match shape {
            Shape::Whole | Shape::Array => "application/json",
            Shape::Stream { .. } => "text/event-stream; charset=utf-8",
        }
    }

    /// Where an answer says something about itself.
    fn marks(&self) -> Marks<'_> {
        Marks::default()
    }

    /// A header beside the content type without which a replayed body cannot be read.
    fn header(&self, body: &[u8], content_type: &str) -> Option<(HeaderName, HeaderValue)> {
        let _ = (body, content_type);
        None
    }

    /// May an answer be kept whose body ended with these trailers?
    ///
    /// # Errors
    /// Why not.
    fn ended(&self, trailers: Option<&HeaderMap>) -> Result<(), NotStorable> {
        let _ = trailers;
        Ok(())
    }

    /// The trailers that end a kept answer, or one that broke off; `None` where there are none.
    fn trailers(&self, end: Result<(), &Fault>) -> Option<HeaderMap> {
        let _ = end;
        None
    }

    /// A fault in this dialect's error shape.
    fn error(&self, fault: &Fault) -> Bytes;

    /// How a stream that dies half-way says so, as its last bytes; `None` where the dialect has no
    /// such mark and the connection must be cut instead. `last` is the byte after which it comes.
    fn stream_error(&self, shape: Shape, fault: &Fault, last: Option<u8>) -> Option<Bytes>;
}

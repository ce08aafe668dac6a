//! Markers in a prompt that make the server misbehave on demand.
//!
//! They are looked for in the text of every message, so that a test can put them into the system
//! prompt and leave the last user turn as a person would write it.

use std::time::Duration;

use http::StatusCode;

use crate::api_error::ApiError;

/// What `--help` says about the markers.
pub(crate) const HELP: &str = "\
Markers in the text of any message change the answer (N counts tokens, T is like 500ms or 2s):
  [[fail:STATUS]]   answer with this 4xx or 5xx status, in OpenAI's error shape
  [[tokens:N]]      an answer of N tokens
  [[slow:T]]        first token after T
  [[rate:N]]        N tokens a second; 0 is as fast as possible
  [[stall:N]]       after N tokens say nothing for 60s; [[stall:N,T]] for T
  [[cut:N]]         break the connection after N tokens
  [[sse-error:N]]   after N tokens an error frame inside the 200 stream, then its end (whole: 500)
  [[nodone]]        a stream without [DONE]
  [[length]]        finish_reason length
  [[filter]]        half an answer, finish_reason content_filter
  [[empty]]         an answer without content
  [[garbage]]       a body that is not JSON
  [[no-store]]      the response says Cache-Control: no-store
  [[calls:N]]       call the tool N times in parallel

Control: GET /sim/stats (what arrived: calls by path, in flight, aborted, bytes, the last request's
headers), POST /sim/reset, any method on /echo (answers with the body as it comes).
The key sim-invalid gets 401, a model named missing-* gets 404.";

const STALL: Duration = Duration::from_secs(60);

/// How the body of the answer goes wrong, if it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It does not.
    #[default]
    Complete,
    /// Everything but the terminal `[DONE]`.
    NoDone,
    /// The connection breaks after so many tokens.
    Cut(usize),
    /// An error frame takes the place of what follows after so many tokens.
    SseError(usize),
}

/// What the answer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Content {
    /// An answer to the prompt.
    #[default]
    Sensible,
    /// No token at all.
    Empty,
    /// Bytes that are not JSON.
    Garbage,
    /// Half an answer, ended by a content filter.
    Filtered,
    /// An answer that says it was cut at its length limit.
    Truncated,
}

/// Silence in the middle of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    /// Tokens before it.
    pub(crate) after: usize,
    /// How long it lasts.
    pub(crate) pause: Duration,
}

/// All that a prompt's markers asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Script {
    /// Refuse with this status.
    pub(crate) fail: Option<StatusCode>,
    /// What the answer holds.
    pub(crate) content: Content,
    /// How it ends.
    pub(crate) ending: Ending,
    /// Where it pauses.
    pub(crate) stall: Option<Stall>,
    /// Time to the first token.
    pub(crate) first_token: Option<Duration>,
    /// Tokens a second, 0 for no limit.
    pub(crate) token_rate: Option<f64>,
    /// Tokens in the answer.
    pub(crate) tokens: Option<usize>,
    /// Parallel tool calls.
    pub(crate) calls: Option<usize>,
    /// The response's `Cache-Control`, where the prompt set it.
    pub(crate) cache_control: Option<&'static str>,
}

impl Script {
    /// Reads the markers of `text`. Unknown names are ordinary text; a known name with an argument
    /// that cannot be read is refused, because a test that relied on it would prove nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut script = Self::default();
        for marker in markers(text) {
            let (name, argument) = marker.split_once(':').unwrap_or((marker, ""));
            script.obey(name, argument).ok_or_else(|| {
                ApiError::invalid(format!("The marker [[{marker}]] cannot be read."))
            })?;
        }
        Ok(script)
    }

    /// Takes one marker; `None` if `argument` cannot be read.
    fn obey(&mut self, name: &str, argument: &str) -> Option<()> {
        match name {
            "fail" => self.fail = Some(failure(argument)?),
            "tokens" => self.tokens = Some(argument.parse().ok()?),
            "slow" => self.first_token = Some(humantime::parse_duration(argument).ok()?),
            "rate" => self.token_rate = Some(rate(argument).ok()?),
            "stall" => self.stall = Some(stall(argument)?),
            "cut" => self.ending = Ending::Cut(argument.parse().ok()?),
            "sse-error" => self.ending = Ending::SseError(argument.parse().ok()?),
            "nodone" => self.ending = Ending::NoDone,
            "length" => self.content = Content::Truncated,
            "filter" => self.content = Content::Filtered,
            "empty" => self.content = Content::Empty,
            "garbage" => self.content = Content::Garbage,
            "no-store" => self.cache_control = Some("no-store"),
            "calls" => self.calls = Some(argument.parse().ok()?),
            _ => {}
        }
        Some(())
    }
}

/// `text` without its markers, for the part of an answer that repeats the question.
pub(crate) fn without_markers(text: &str) -> String {
    let mut plain = text.to_owned();
    for marker in markers(text) {
        plain = plain.replace(&format!("[[{marker}]]"), "");
    }
    plain
}

/// Reads a token rate: a finite number that is not negative.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err(format!("`{text}` is not a number of tokens a second")),
    }
}

fn markers(text: &str) -> impl Iterator<Item = &str> {
    text.split("[[").skip(1).filter_map(|rest| rest.split_once("]]")).map(|(marker, _)| marker)
}

fn failure(argument: &str) -> Option<StatusCode> {
    let status = StatusCode::from_bytes(argument.as_bytes()).ok()?;
    (status.is_client_error() || status.is_server_error()).then_some(status)
}

fn stall(argument: &str) -> Option<Stall> {
    let (after, pause) = match argument.split_once(',') {
        Some((after, pause)) => (after, humantime::parse_duration(pause).ok()?),
        None => (argument, STALL),
    };
    Some(Stall { after: after.parse().ok()?, pause })
}

//! Hearing a completion go by: chat completions and legacy ones, whole or as events.

use serde::{Deserialize, de::IgnoredAny};

use super::{
    super::{
        Usage,
        framing::Event,
        hearing::{Account, Finish, Hear},
    },
    DONE,
};

/// Both the whole answer and one event of a stream, as far as keeping it goes.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Tokens>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default, alias = "message")]
    delta: Option<Delta>,
    /// A legacy completion's.
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    function_call: Option<IgnoredAny>,
    #[serde(default)]
    audio: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// Ears for both shapes: a body is one message, a stream is many and `[DONE]`.
pub(super) fn ears() -> impl Hear {
    |account: &mut Account, event: Event<'_>| {
        if event.data == DONE {
            account.done = true;
        } else if event.kind == b"error" {
            account.failed = true;
        } else {
            match serde_json::from_slice(event.data) {
                Ok(message) => add(account, message),
                Err(_) => account.unreadable = true,
            }
        }
        // An error ends a stream as surely as the mark does.
        account.done |= account.failed;
    }
}

fn add(account: &mut Account, message: Message) {
    account.failed |= message.error.is_some();
    if let Some(tokens) = message.usage {
        account.usage =
            Some(Usage { prompt: tokens.prompt_tokens, completion: tokens.completion_tokens });
    }
    for choice in message.choices.unwrap_or_default() {
        let heard = account.choice(choice.index);
        heard.text.push_str(&choice.text.unwrap_or_default());
        if let Some(delta) = choice.delta {
            heard.says_something |= delta.tool_calls.is_some_and(|calls| !calls.is_empty())
                || delta.function_call.is_some()
                || delta.audio.is_some();
            heard.refused |= delta.refusal.is_some_and(|refusal| !refusal.is_empty());
            heard.text.push_str(&delta.content.unwrap_or_default());
        }
        if let Some(reason) = choice.finish_reason {
            heard.finish = Some(finish(&reason));
        }
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        "stop" | "tool_calls" | "function_call" => Finish::Clean,
        // TGI's own words for a clean end.
        "eos_token" | "stop_sequence" => Finish::Clean,
        "length" => Finish::Length,
        "content_filter" => Finish::Filtered,
        _ => Finish::Unknown,
    }
}

#[cfg(test)]
mod tests;

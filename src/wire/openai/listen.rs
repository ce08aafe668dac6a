//! Hearing a chat completion go by: is it complete, is it an answer, what does it say?

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::{
    super::{Answer, Beginning, Listener, NotStorable, Usage, sse::Splitter},
    DONE,
};

/// The most bytes of one event. Tool calls of hundreds of kilobytes in one event are real.
const EVENT_MAX: usize = 4 << 20;

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

/// What is known of one choice so far.
#[derive(Default)]
struct Heard {
    text: String,
    says_something: bool,
    refused: bool,
    finish: Option<String>,
}

/// What is known of the answer so far.
#[derive(Default)]
struct Account {
    choices: BTreeMap<u64, Heard>,
    usage: Option<Usage>,
    failed: bool,
    unreadable: bool,
}

impl Account {
    fn add(&mut self, message: Message) {
        self.failed |= message.error.is_some();
        if let Some(tokens) = message.usage {
            self.usage =
                Some(Usage { prompt: tokens.prompt_tokens, completion: tokens.completion_tokens });
        }
        for choice in message.choices.unwrap_or_default() {
            let heard = self.choices.entry(choice.index).or_default();
            if let Some(delta) = choice.delta {
                let content = delta.content.unwrap_or_default();
                heard.says_something |= !content.is_empty()
                    || delta.tool_calls.is_some_and(|calls| !calls.is_empty())
                    || delta.function_call.is_some()
                    || delta.audio.is_some();
                heard.refused |= delta.refusal.is_some_and(|refusal| !refusal.is_empty());
                heard.text.push_str(&content);
            }
            if choice.finish_reason.is_some() {
                heard.finish = choice.finish_reason;
            }
        }
    }

    fn verdict(mut self) -> Result<Answer, NotStorable> {
        if self.failed {
            return Err(NotStorable::UpstreamError);
        }
        if self.unreadable {
            return Err(NotStorable::Unreadable);
        }
        if self.choices.is_empty() {
            return Err(NotStorable::Empty);
        }
        for heard in self.choices.values() {
            match heard.finish.as_deref() {
                Some("stop" | "tool_calls" | "function_call") => {}
                // TGI's own words for a clean end.
                Some("eos_token" | "stop_sequence") => {}
                Some("length") => return Err(NotStorable::Length),
                Some("content_filter") => return Err(NotStorable::Filtered),
                Some(_) => return Err(NotStorable::UnknownFinish),
                None => return Err(NotStorable::Incomplete),
            }
            if heard.refused {
                return Err(NotStorable::Filtered);
            }
            if !heard.says_something {
                return Err(NotStorable::Empty);
            }
        }
        let text = self.choices.pop_first().map(|(_, heard)| heard.text).unwrap_or_default();
        Ok(Answer { text, usage: self.usage })
    }
}

/// Hears an answer in one body: everything is decided at its end.
#[derive(Default)]
pub(super) struct Whole {
    heard: bool,
}

impl Listener for Whole {
    fn hear(&mut self, bytes: &[u8]) {
        self.heard |= !bytes.is_empty();
    }

    fn beginning(&self) -> Beginning {
        if self.heard { Beginning::Speaking } else { Beginning::Silent }
    }

    fn finish(self: Box<Self>, body: &[u8]) -> Result<Answer, NotStorable> {
        let mut account = Account::default();
        match serde_json::from_slice(body) {
            Ok(message) => account.add(message),
            Err(_) => account.unreadable = true,
        }
        account.verdict()
    }
}

/// Hears an answer as events.
pub(super) struct Stream {
    splitter: Splitter,
    account: Account,
    beginning: Beginning,
    done: bool,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            splitter: Splitter::new(EVENT_MAX),
            account: Account::default(),
            beginning: Beginning::Silent,
            done: false,
        }
    }

    fn event(
        kind: &[u8],
        data: &[u8],
        (account, beginning, done): (&mut Account, &mut Beginning, &mut bool),
    ) {
        if data == DONE {
            *done = true;
        } else if kind == b"error" {
            account.failed = true;
        } else {
            match serde_json::from_slice(data) {
                Ok(message) => account.add(message),
                Err(_) => account.unreadable = true,
            }
        }
        if *beginning == Beginning::Silent {
            *beginning = if account.failed { Beginning::Failed } else { Beginning::Speaking };
        }
    }
}

impl Listener for Stream {
    fn hear(&mut self, bytes: &[u8]) {
        let Self { splitter, account, beginning, done } = self;
        splitter.feed(bytes, |event| {
            Self::event(event.kind, event.data, (account, beginning, done));
        });
    }

    fn beginning(&self) -> Beginning {
        self.beginning
    }

    fn finish(mut self: Box<Self>, _body: &[u8]) -> Result<Answer, NotStorable> {
        let Self { splitter, account, beginning, done } = self.as_mut();
        splitter.finish(|event| Self::event(event.kind, event.data, (account, beginning, done)));
        if self.splitter.overflowed() {
            return Err(NotStorable::Unreadable);
        }
        if !self.done && !self.account.failed {
            return Err(NotStorable::Incomplete);
        }
        self.account.verdict()
    }
}

#[cfg(test)]
mod tests;

//! Keeping account of an answer that goes by: is it complete, is it an answer, what does it say?
//!
//! A dialect says what one event (or one whole body) adds; the rules for what is kept are the same
//! for all of them.

use std::collections::BTreeMap;

use serde_json::Value;

pub(super) use super::framing::Event;
use super::{
    Answer, Beginning, Listener, NotStorable, Usage,
    framing::{Framing, Splitter, State},
};

/// The most bytes of one event. Tool calls of hundreds of kilobytes in one event are real.
const EVENT_MAX: usize = 4 << 20;

/// How a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// The model had said all.
    Clean,
    /// Its token limit cut it off.
    Length,
    /// A filter cut or replaced it.
    Filtered,
    /// For a reason that the dialect does not know, or that is no end.
    Unknown,
}

/// What is known of one choice so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) text: String,
    /// It says something other than text: a tool call, a picture, numbers.
    pub(super) says_something: bool,
    pub(super) refused: bool,
    pub(super) finish: Option<Finish>,
}

/// What is known of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) choices: BTreeMap<u64, Heard>,
    pub(super) usage: Option<Usage>,
    /// The server reported an error.
    pub(super) failed: bool,
    /// Something was not understood.
    pub(super) unreadable: bool,
    /// The dialect's own mark of completeness was heard.
    pub(super) done: bool,
}

impl Account {
    pub(super) fn choice(&mut self, index: u64) -> &mut Heard {
        self.choices.entry(index).or_default()
    }

    /// Takes token counts, where both are numbers or absent.
    pub(super) fn count(&mut self, prompt: Option<u64>, completion: Option<u64>) {
        if prompt.is_some() || completion.is_some() {
            let usage = self.usage.get_or_insert_default();
            usage.prompt = prompt.unwrap_or(usage.prompt);
            usage.completion = completion.unwrap_or(usage.completion);
        }
    }

    pub(super) fn verdict(mut self) -> Result<Answer, NotStorable> {
        if self.failed {
            return Err(NotStorable::UpstreamError);
        }
        if self.unreadable {
            return Err(NotStorable::Unreadable);
        }
        if !self.done {
            return Err(NotStorable::Incomplete);
        }
        if self.choices.is_empty() {
            return Err(NotStorable::Empty);
        }
        for heard in self.choices.values() {
            match heard.finish {
                Some(Finish::Clean) => {}
                Some(Finish::Length) => return Err(NotStorable::Length),
                Some(Finish::Filtered) => return Err(NotStorable::Filtered),
                Some(Finish::Unknown) => return Err(NotStorable::UnknownFinish),
                None => return Err(NotStorable::Incomplete),
            }
            if heard.refused {
                return Err(NotStorable::Filtered);
            }
            if heard.text.is_empty() && !heard.says_something {
                return Err(NotStorable::Empty);
            }
        }
        let text = self.choices.pop_first().map(|(_, heard)| heard.text).unwrap_or_default();
        Ok(Answer { text, usage: self.usage })
    }
}

/// What one event, or one whole body, adds to an account.
pub(super) trait Hear: FnMut(&mut Account, Event<'_>) + Send + 'static {}
impl<F: FnMut(&mut Account, Event<'_>) + Send + 'static> Hear for F {}

/// Ears for an answer in one body: everything is decided at its end.
pub(super) fn whole(hear: impl Hear) -> Box<dyn Listener> {
    Box::new(Whole { heard: false, hear })
}

/// Ears for a stream.
pub(super) fn stream(framing: Framing, hear: impl Hear) -> Box<dyn Listener> {
    let splitter = Splitter::new(framing, EVENT_MAX);
    Box::new(Stream { splitter, account: Account::default(), beginning: Beginning::Silent, hear })
}

/// Reads an event's data as JSON before `add` sees it; what is no JSON is unreadable.
pub(super) fn json(add: impl Fn(&mut Account, &[u8], &Value) + Send + 'static) -> impl Hear {
    move |account: &mut Account, event: Event<'_>| match serde_json::from_slice(event.data) {
        Ok(value) => add(account, event.kind, &value),
        Err(_) => account.unreadable = true,
    }
}

struct Whole<H> {
    heard: bool,
    hear: H,
}

impl<H: Hear> Listener for Whole<H> {
    fn hear(&mut self, bytes: &[u8]) {
        self.heard |= !bytes.is_empty();
    }

    fn beginning(&self) -> Beginning {
        if self.heard { Beginning::Speaking } else { Beginning::Silent }
    }

    fn finish(mut self: Box<Self>, body: &[u8]) -> Result<Answer, NotStorable> {
        // A body has no end mark of its own: that it ended cleanly is all there is.
        let mut account = Account { done: true, ..Account::default() };
        (self.hear)(&mut account, Event { kind: b"", data: body });
        account.verdict()
    }
}

struct Stream<H> {
    splitter: Splitter,
    account: Account,
    beginning: Beginning,
    hear: H,
}

impl<H: Hear> Stream<H> {
    fn each(&mut self, bytes: Option<&[u8]>) {
        let Self { splitter, account, beginning, hear } = self;
        let each = |event: Event<'_>| {
            hear(account, event);
            if *beginning == Beginning::Silent {
                *beginning = if account.failed { Beginning::Failed } else { Beginning::Speaking };
            }
        };
        match bytes {
            Some(bytes) => splitter.feed(bytes, each),
            None => splitter.finish(each),
        }
    }
}

impl<H: Hear> Listener for Stream<H> {
    fn hear(&mut self, bytes: &[u8]) {
        self.each(Some(bytes));
    }

    fn beginning(&self) -> Beginning {
        self.beginning
    }

    fn finish(mut self: Box<Self>, _body: &[u8]) -> Result<Answer, NotStorable> {
        self.each(None);
        match self.splitter.state() {
            State::Broken => return Err(NotStorable::Unreadable),
            State::Open => return Err(NotStorable::Incomplete),
            State::Even => {}
        }
        self.account.verdict()
    }
}

// === reading JSON answers ===

/// The text at a path of members.
pub(super) fn text_at<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at a path of members.
pub(super) fn number_at(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

/// Is there anything but null at a member?
pub(super) fn has(value: &Value, name: &str) -> bool {
    value.get(name).is_some_and(|value| !value.is_null())
}

/// The elements of a list, none where there is no list.
pub(super) fn list_at<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

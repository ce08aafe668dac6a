//! Separates the last user turn's text (fuzzy) from everything else (exact).
//!
//! Each dialect walks its own request and says what it meets; here it becomes the two digests of a
//! [`Prompt`]. Whatever goes in is framed by a tag and a length, so that no two different requests
//! have the same digests.

use std::sync::Arc;

use super::{ExactOnly, OPENING_MAX, Prompt, Rules, Shape, Template, Unread, json::Json};
use crate::frames::Frames;

/// Which turn a text belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its text must match exactly.
    Past,
    /// Its text is the question.
    Last,
}

/// A request on its way to a prompt.
pub(super) struct Conversation<'r> {
    context: Frames,
    turn: Frames,
    texts: Vec<String>,
    opening: Vec<u8>,
    rules: Rules<'r>,
}

/// What the digests do not say.
#[derive(Default)]
pub(super) struct Manner<'m> {
    pub(super) model: &'m str,
    pub(super) temperature: Option<f64>,
    /// Why the question must not be matched by meaning.
    pub(super) exact_only: Option<ExactOnly>,
}

/// How a message's parts are written.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    /// The `type` of a part that is plain text; empty where parts have no type.
    pub(super) text_types: &'static [&'static str],
    /// Members that cannot change an answer (`cache_control`).
    pub(super) silent: &'static [&'static str],
}

impl<'r> Conversation<'r> {
    /// A request to this path (in its canonical form, where an API has two for one question).
    pub(super) fn new(path: &str, rules: Rules<'r>) -> Self {
        let mut context = Frames::default();
        context.tagged(b'p', path.as_bytes());
        Self { context, turn: Frames::default(), texts: Vec::new(), opening: Vec::new(), rules }
    }

    /// A member that must match, unless the operator says that it cannot change an answer.
    pub(super) fn parameter(&mut self, name: &str, value: &Json<'_>) {
        if !self.is_ignored(name) {
            self.member(name, value);
        }
    }

    pub(super) fn is_ignored(&self, name: &str) -> bool {
        self.rules.ignored.iter().any(|one| one == name)
    }

    /// A member that must match.
    pub(super) fn member(&mut self, name: &str, value: &Json<'_>) {
        self.context.tagged(b'm', name.as_bytes());
        value.hash_into(&mut self.context);
    }

    /// Bytes that must match.
    pub(super) fn mark(&mut self, tag: u8, bytes: &[u8]) {
        self.context.tagged(tag, bytes);
    }

    /// A message: an object whose member `content` is a text or a list of parts.
    pub(super) fn message(
        &mut self,
        message: &Json<'_>,
        content: &str,
        turn: Turn,
        parts: Parts,
    ) -> Result<(), Unread> {
        let Json::Object(members) = message else { return Err(Unread::Unreadable) };
        self.mark(b'M', &(members.len() as u64).to_le_bytes());
        for (name, value) in members {
            if parts.silent.contains(&name.as_ref()) {
                continue;
            }
            self.mark(b'm', name.as_bytes());
            if name == content {
                self.content(value, turn, parts)?;
            } else {
                value.hash_into(&mut self.context);
            }
        }
        Ok(())
    }

    /// A text, or a list of parts.
    pub(super) fn content(
        &mut self,
        content: &Json<'_>,
        turn: Turn,
        parts: Parts,
    ) -> Result<(), Unread> {
        match content {
            Json::Text(text) => self.text(text, turn),
            Json::List(items) => {
                for item in items {
                    self.part(item, turn, parts)?;
                }
            }
            Json::Null => self.mark(b'0', b""),
            _ => return Err(Unread::Unreadable),
        }
        Ok(())
    }

    /// One content part. A plain text part means what the bare string means; everything else, such
    /// as an image, is part of the context, where its digest must match.
    fn part(&mut self, part: &Json<'_>, turn: Turn, parts: Parts) -> Result<(), Unread> {
        let Json::Object(members) = part else { return Err(Unread::Unreadable) };
        let is_text = match part.get("type") {
            Some(kind) => parts.text_types.contains(&kind.text().ok_or(Unread::Unreadable)?),
            None if parts.text_types.is_empty() => true,
            None => return Err(Unread::Unreadable),
        };
        let text = part.get("text").and_then(Json::text).filter(|_| is_text);
        let tag = if text.is_some() { b'x' } else { b'y' };
        if let Some(text) = text {
            self.text(text, turn);
        } else {
            self.mark(b'Y', b"");
        }
        for (name, value) in members {
            let said = text.is_some() && matches!(name.as_ref(), "type" | "text");
            if said || parts.silent.contains(&name.as_ref()) {
                continue;
            }
            self.mark(tag, name.as_bytes());
            match value {
                // A tool's result holds parts of its own.
                Json::List(_) if name == "content" && !parts.silent.is_empty() => {
                    self.nested(value, parts);
                }
                _ => value.hash_into(&mut self.context),
            }
        }
        Ok(())
    }

    /// A list of objects, without their silent members.
    pub(super) fn nested(&mut self, list: &Json<'_>, parts: Parts) {
        let Json::List(items) = list else { return list.hash_into(&mut self.context) };
        self.mark(b'L', &(items.len() as u64).to_le_bytes());
        for item in items {
            let Json::Object(members) = item else {
                item.hash_into(&mut self.context);
                continue;
            };
            self.mark(b'O', b"");
            for (name, value) in members {
                if !parts.silent.contains(&name.as_ref()) {
                    self.member(name, value);
                }
            }
        }
    }

    /// A text of the conversation.
    pub(super) fn text(&mut self, text: &str, turn: Turn) {
        let room = OPENING_MAX - self.opening.len();
        self.opening.extend_from_slice(&text.as_bytes()[..text.len().min(room)]);
        if turn == Turn::Past {
            return self.mark(b't', text.as_bytes());
        }
        let question = match self.rules.templates.iter().find_map(|one| one.question(text)) {
            Some((before, question, after)) => {
                self.mark(b'B', before.as_bytes());
                self.mark(b'A', after.as_bytes());
                question
            }
            None => {
                self.mark(b'q', b"");
                text
            }
        };
        self.turn.tagged(b't', question.as_bytes());
        self.texts.push(question.to_owned());
    }

    /// The prompt.
    pub(super) fn finish(self, shape: Shape, manner: Manner<'_>) -> Prompt {
        let text = self.texts.join("\n");
        let question = match manner.exact_only {
            Some(why) => Err(why),
            None if text.trim().is_empty() => Err(ExactOnly::NoText),
            None => Ok(Arc::from(text)),
        };
        Prompt {
            model: Arc::from(manner.model),
            shape,
            context: self.context.finish(),
            turn: self.turn.finish(),
            question,
            temperature: manner.temperature,
            opening: self.opening.into(),
        }
    }
}

impl Template {
    /// What stands before the question, the question, and what stands behind it.
    fn question<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str, &'t str)> {
        let at = text.rfind(&self.after)? + self.after.len();
        let (before, rest) = text.split_at(at);
        let end = match self.before.as_str() {
            "" => rest.len(),
            mark => rest.find(mark)?,
        };
        let (question, after) = rest.split_at(end);
        Some((before, question, after))
    }
}

/// The members of a request.
pub(super) fn members<'j, 'a>(
    request: &'j Json<'a>,
) -> Result<&'j [(std::borrow::Cow<'a, str>, Json<'a>)], Unread> {
    match request {
        Json::Object(members) => Ok(members),
        _ => Err(Unread::Unreadable),
    }
}

/// A request's `model`, `""` where it names none.
pub(super) fn model<'j>(request: &'j Json<'_>) -> Result<&'j str, Unread> {
    match request.get("model") {
        None => Ok(""),
        Some(model) => model.text().ok_or(Unread::Unreadable),
    }
}

/// A switch: on, off, absent or null (`None`).
pub(super) fn switch(request: &Json<'_>, name: &str) -> Result<Option<bool>, Unread> {
    match request.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Bool(on)) => Ok(Some(*on)),
        Some(_) => Err(Unread::Unreadable),
    }
}

/// The shape that a request's `stream` asks for.
pub(super) fn shape(request: &Json<'_>, unless_said: Shape) -> Result<Shape, Unread> {
    Ok(match switch(request, "stream")? {
        None => unless_said,
        Some(true) => Shape::Stream { usage: false },
        Some(false) => Shape::Whole,
    })
}

/// A member's number, if it has one.
pub(super) fn number(request: &Json<'_>, name: &str) -> Option<f64> {
    request.get(name).and_then(Json::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, templates: &[Template]) -> Prompt {
        let rules = Rules { templates, ..Rules::default() };
        let mut conversation = Conversation::new("/p", rules);
        conversation.text(text, Turn::Last);
        conversation.finish(Shape::Whole, Manner::default())
    }

    #[test]
    fn a_template_names_the_question_and_the_rest_is_context() {
        let rag = [Template { after: "Question:".into(), before: "\nAnswer:".into() }];
        let one = asked("Use this: [doc 1]\nQuestion: what is a?\nAnswer:", &rag);
        assert_eq!(one.question.as_deref(), Ok(" what is a?"));
        let reworded = asked("Use this: [doc 1]\nQuestion: what's a?\nAnswer:", &rag);
        assert_eq!(reworded.context, one.context);
        assert_ne!(reworded.turn, one.turn);
        let elsewhere = asked("Use this: [doc 2]\nQuestion: what is a?\nAnswer:", &rag);
        assert_ne!(elsewhere.context, one.context);
        assert_eq!(elsewhere.turn, one.turn);
        let plain = asked("what is a?", &rag);
        assert_eq!(plain.question.as_deref(), Ok("what is a?"));
        let unfinished = asked("Question: what is a?", &rag);
        assert_eq!(unfinished.question.as_deref(), Ok("Question: what is a?"));
    }

    #[test]
    fn a_wrapped_question_and_a_bare_one_are_two_requests() {
        let marks = [Template { after: "Q:".into(), before: String::new() }];
        let (wrapped, bare) = (asked("Q:x", &marks), asked("x", &marks));
        assert_eq!(wrapped.turn, bare.turn);
        assert_ne!(wrapped.context, bare.context);
    }
}

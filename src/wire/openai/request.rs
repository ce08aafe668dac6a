//! Reading a chat completion request.

use std::{borrow::Cow, sync::Arc};

use super::super::{
    ExactOnly, OPENING_MAX, Prompt, Shape, Unreadable,
    json::{Json, tagged},
};

/// Separates the last user turn's text (fuzzy) from everything else (exact).
struct Reader {
    context: blake3::Hasher,
    turn: blake3::Hasher,
    texts: Vec<String>,
    opening: Vec<u8>,
}

pub(super) fn read(path: &str, body: &[u8], ignored: &[String]) -> Result<Prompt, Unreadable> {
    let request = Json::parse(body).map_err(|_| Unreadable)?;
    let Json::Object(members) = &request else { return Err(Unreadable) };
    let model = match request.get("model") {
        None => "",
        Some(model) => model.text().ok_or(Unreadable)?,
    };
    let shape = shape(&request)?;
    let Some(Json::List(messages)) = request.get("messages") else { return Err(Unreadable) };
    let (last, history) = messages.split_last().ok_or(Unreadable)?;

    let mut reader = Reader {
        context: blake3::Hasher::new(),
        turn: blake3::Hasher::new(),
        texts: Vec::new(),
        opening: Vec::new(),
    };
    tagged(&mut reader.context, b'p', path.as_bytes());
    for (name, value) in members {
        reader.parameter(name, value, ignored);
    }
    let last_is_user = role(last)? == "user";
    for message in history {
        role(message)?;
        reader.message(message, Turn::Past)?;
    }
    reader.message(last, if last_is_user { Turn::Last } else { Turn::Past })?;

    let question = exact_only(&request, last_is_user).map_or_else(|| reader.question(), Err);
    Ok(Prompt {
        model: Arc::from(model),
        shape,
        context: reader.context.finalize(),
        turn: reader.turn.finalize(),
        question,
        opening: reader.opening,
        temperature: request.get("temperature").and_then(Json::number),
    })
}

/// Which turn a message is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Its text must match exactly.
    Past,
    /// Its text is the question.
    Last,
}

impl Reader {
    /// A top-level member other than the conversation: exact, unless it cannot change an answer.
    fn parameter(&mut self, name: &str, value: &Json<'_>, ignored: &[String]) {
        let is_ignored = ignored.iter().any(|one| one == name);
        match name {
            "messages" => {}
            // Only what `Shape` knows of it is ignored: another option (vLLM's
            // `continuous_usage_stats`) changes the bytes of the stream.
            "stream_options" if is_ignored => {
                let Json::Object(options) = value else { return };
                for (name, value) in options {
                    if name != "include_usage" && name != "include_obfuscation" {
                        tagged(&mut self.context, b's', name.as_bytes());
                        value.hash_into(&mut self.context);
                    }
                }
            }
            _ if is_ignored => {}
            _ => {
                tagged(&mut self.context, b'm', name.as_bytes());
                value.hash_into(&mut self.context);
            }
        }
    }

    fn message(&mut self, message: &Json<'_>, turn: Turn) -> Result<(), Unreadable> {
        let Json::Object(members) = message else { return Err(Unreadable) };
        tagged(&mut self.context, b'M', &(members.len() as u64).to_le_bytes());
        for (name, value) in members {
            tagged(&mut self.context, b'm', name.as_bytes());
            match (name.as_ref(), value) {
                ("content", Json::Text(text)) => self.text(text, turn),
                ("content", Json::List(parts)) => {
                    for part in parts {
                        self.part(part, turn)?;
                    }
                }
                ("content", Json::Null) => tagged(&mut self.context, b'0', b""),
                ("content", _) => return Err(Unreadable),
                _ => value.hash_into(&mut self.context),
            }
        }
        Ok(())
    }

    /// One content part. A plain text part means what the bare string means; everything else, such
    /// as an image, is part of the context, where its digest must match.
    fn part(&mut self, part: &Json<'_>, turn: Turn) -> Result<(), Unreadable> {
        let Json::Object(members) = part else { return Err(Unreadable) };
        let kind = part.get("type").and_then(Json::text).ok_or(Unreadable)?;
        let text = part.get("text").and_then(Json::text);
        let Some(text) = text.filter(|_| kind == "text") else {
            part.hash_into(&mut self.context);
            return Ok(());
        };
        self.text(text, turn);
        let more: Vec<_> =
            members.iter().filter(|(name, _)| !matches!(name.as_ref(), "type" | "text")).collect();
        for (name, value) in more {
            tagged(&mut self.context, b'x', name.as_bytes());
            value.hash_into(&mut self.context);
        }
        Ok(())
    }

    fn text(&mut self, text: &str, turn: Turn) {
        let room = OPENING_MAX - self.opening.len();
        self.opening.extend_from_slice(&text.as_bytes()[..text.len().min(room)]);
        match turn {
            Turn::Past => tagged(&mut self.context, b't', text.as_bytes()),
            Turn::Last => {
                tagged(&mut self.context, b'q', b"");
                tagged(&mut self.turn, b't', text.as_bytes());
                self.texts.push(text.to_owned());
            }
        }
    }

    fn question(&self) -> Result<Arc<str>, ExactOnly> {
        let text = self.texts.join("\n");
        if text.trim().is_empty() { Err(ExactOnly::NoText) } else { Ok(Arc::from(text)) }
    }
}

fn role<'j>(message: &'j Json<'_>) -> Result<&'j str, Unreadable> {
    message.get("role").and_then(Json::text).ok_or(Unreadable)
}

fn shape(request: &Json<'_>) -> Result<Shape, Unreadable> {
    match request.get("stream") {
        None | Some(Json::Null | Json::Bool(false)) => Ok(Shape::Whole),
        Some(Json::Bool(true)) => {
            let options = request.get("stream_options");
            let usage = options.and_then(|options| options.get("include_usage"));
            Ok(Shape::Stream { usage: usage == Some(&Json::Bool(true)) })
        }
        Some(_) => Err(Unreadable),
    }
}

/// Why this request must not be matched by meaning.
fn exact_only(request: &Json<'_>, last_is_user: bool) -> Option<ExactOnly> {
    let number = |name| request.get(name).and_then(Json::number).unwrap_or_default();
    if number("n") > 1.0 {
        return Some(ExactOnly::Choices);
    }
    if request.get("logprobs") == Some(&Json::Bool(true)) || number("top_logprobs") > 0.0 {
        return Some(ExactOnly::Logprobs);
    }
    let text_only = match request.get("modalities") {
        None | Some(Json::Null) => true,
        Some(Json::List(kinds)) => {
            kinds.iter().all(|kind| *kind == Json::Text(Cow::Borrowed("text")))
        }
        Some(_) => false,
    };
    if !text_only {
        return Some(ExactOnly::Modality);
    }
    (!last_is_user).then_some(ExactOnly::LastTurnNotUser)
}

#[cfg(test)]
mod tests;

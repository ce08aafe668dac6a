//! What to say: the tokens of every alternative and why each of them ends.

use serde_json::{Value, json};

use crate::{
    ask::{Ask, Format},
    schema::Instance,
    script::Content,
    stamp::Stamp,
};

/// Words that answers are made of; some are not ASCII, so that a proxy which cuts a character in
/// two is found out.
const WORDS: [&str; 40] = [
    " the",
    " answer",
    " depends",
    " on",
    " a",
    " few",
    " things",
    ":",
    " first",
    " check",
    " your",
    " settings",
    ",",
    " then",
    " open",
    " the",
    " page",
    " that",
    " lists",
    " every",
    " open",
    " request",
    ".",
    " Usually",
    " it",
    " takes",
    " two",
    " days",
    ";",
    " café",
    " naïve",
    " 東京",
    " ✓",
    " “so",
    " far”",
    " 🙂",
    "\n",
    " and",
    " \"quoted\"",
    " back\\slash",
];
const TOPIC_WORDS: usize = 8;
const JSON_TOKEN_CHARS: usize = 6;

/// Why an alternative ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
}

impl Finish {
    /// OpenAI's `finish_reason`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// One token on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A piece of the text.
    Text(String),
    /// The call's head: its id and the function's name.
    Call { index: usize, id: String, name: String },
    /// A piece of the call's arguments.
    Arguments { index: usize, piece: String },
}

/// One alternative.
#[derive(Debug)]
pub(crate) struct Choice {
    /// In the order in which they are sent.
    pub(crate) tokens: Vec<Token>,
    /// Why there are no more.
    pub(crate) finish: Finish,
}

/// The alternatives for `ask`; `tokens` is the length of an answer that nothing else bounds.
pub(crate) fn compose(ask: &Ask, stamp: &Stamp, tokens: usize) -> Vec<Choice> {
    (0..ask.n).map(|index| choice(ask, stamp, index, tokens)).collect()
}

fn choice(ask: &Ask, stamp: &Stamp, index: usize, tokens: usize) -> Choice {
    let (tokens, finish) = match &ask.tool_use {
        Some(tool) => {
            let count = ask.script.calls.unwrap_or(1);
            let calls = (0..count).flat_map(|call| {
                let seed = index * count + call;
                tool_call(&tool.name, &tool.parameters, &ask.question, stamp, call, seed)
            });
            (calls.collect(), Finish::ToolCalls)
        }
        None => text(ask, stamp, index, ask.script.tokens.unwrap_or(tokens)),
    };
    shortened(ask, tokens, finish)
}

/// The limits and markers that end an answer early.
fn shortened(ask: &Ask, mut tokens: Vec<Token>, mut finish: Finish) -> Choice {
    match ask.script.content {
        Content::Empty => tokens.clear(),
        Content::Filtered => {
            tokens.truncate(tokens.len() / 2);
            finish = Finish::ContentFilter;
        }
        Content::Truncated => finish = Finish::Length,
        Content::Sensible | Content::Garbage => {}
    }
    if let Some(limit) = ask.max_tokens.filter(|limit| *limit < tokens.len()) {
        tokens.truncate(limit);
        finish = Finish::Length;
    }
    Choice { tokens, finish }
}

fn text(ask: &Ask, stamp: &Stamp, choice: usize, length: usize) -> (Vec<Token>, Finish) {
    let mark = format!("[sim:{}]", stamp.short());
    let pieces = match &ask.format {
        Format::Text => prose(&ask.question, &mark, stamp, choice, length),
        Format::JsonObject => {
            let note = WORDS[stamp.draw(choice, 0) as usize % WORDS.len()].trim();
            split(&json!({"topic": topic(&ask.question), "stamp": mark, "note": note}))
        }
        Format::JsonSchema(schema) => {
            let text = format!("{} {mark}", topic(&ask.question));
            split(&Instance::of(schema, stamp, choice, text))
        }
    };
    let pieces = until_stop(pieces, &ask.stop);
    (pieces.into_iter().map(Token::Text).collect(), Finish::Stop)
}

/// A line about the question's topic, the stamp, and filler up to `length` tokens. An answer too
/// short for the topic line keeps the stamp: it is what the tests look for.
fn prose(question: &str, mark: &str, stamp: &Stamp, choice: usize, length: usize) -> Vec<String> {
    let mut pieces = vec!["On:".to_owned()];
    pieces.extend(topic(question).split(' ').map(|word| format!(" {word}")));
    pieces.extend(["\n".to_owned(), mark.to_owned()]);
    if pieces.len() > length {
        pieces = vec![mark.to_owned()];
    }
    for position in pieces.len()..length {
        pieces.push(WORDS[stamp.draw(choice, position) as usize % WORDS.len()].to_owned());
    }
    pieces
}

fn topic(question: &str) -> String {
    let words: Vec<&str> = question.split_whitespace().take(TOPIC_WORDS).collect();
    words.join(" ").to_lowercase()
}

/// JSON text in pieces of a few characters, as tokenizers cut it: keys and escapes fall apart.
fn split(value: &Value) -> Vec<String> {
    let text: Vec<char> = value.to_string().chars().collect();
    text.chunks(JSON_TOKEN_CHARS).map(|piece| piece.iter().collect()).collect()
}

/// The pieces before the first of the `stops`; a piece that a stop begins inside of is cut.
fn until_stop(pieces: Vec<String>, stops: &[String]) -> Vec<String> {
    let text = pieces.concat();
    let Some(end) = stops.iter().filter_map(|stop| text.find(stop.as_str())).min() else {
        return pieces;
    };
    let mut left = end;
    let mut kept = Vec::new();
    for mut piece in pieces {
        piece.truncate(left);
        left -= piece.len();
        if !piece.is_empty() {
            kept.push(piece);
        }
    }
    kept
}

fn tool_call(
    name: &str,
    parameters: &Value,
    question: &str,
    stamp: &Stamp,
    index: usize,
    seed: usize,
) -> Vec<Token> {
    let text = format!("{} [sim:{}]", topic(question), stamp.short());
    let arguments = match parameters {
        Value::Null => json!({}),
        schema => Instance::of(schema, stamp, seed, text),
    };
    let id = format!("call_{}{seed:02}", stamp.short());
    let mut tokens = vec![Token::Call { index, id, name: name.to_owned() }];
    let pieces = split(&arguments).into_iter();
    tokens.extend(pieces.map(|piece| Token::Arguments { index, piece }));
    tokens
}

//! The events of a response, and the way between them and a whole response.
//!
//! The last event of a stream holds the whole response, so nothing has to be added up.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::super::{
    framing::{self, Framing},
    sse,
};

/// How the events between the first and the last one are named, with what they are about.
const KNOWN: [&str; 24] = [
    "created",
    "queued",
    "in_progress",
    "output_item.",
    "content_part.",
    "output_text.",
    "refusal.",
    "reasoning_text.",
    "reasoning_summary_part.",
    "reasoning_summary_text.",
    "reasoning.",
    "reasoning_part.",
    "function_call_arguments.",
    "custom_tool_call_input.",
    "file_search_call.",
    "web_search_call.",
    "code_interpreter_call.",
    "code_interpreter_call_code.",
    "image_generation_call.",
    "mcp_call.",
    "mcp_call_arguments.",
    "mcp_list_tools.",
    "audio.",
    "local_shell_call.",
];

pub(super) fn is_known(kind: &str) -> bool {
    let Some(name) = kind.strip_prefix("response.") else { return false };
    KNOWN.iter().any(|known| match known.ends_with('.') {
        true => name.starts_with(known),
        false => name == *known,
    })
}

pub(super) fn join(body: &[u8]) -> Option<Bytes> {
    let events = framing::events(Framing::Sse, body)?;
    let last = events.iter().rev().find(|(_, event)| event["type"] == "response.completed");
    let whole = last?.1.get("response")?;
    Some(Bytes::from(whole.to_string()))
}

pub(super) fn split(body: &[u8]) -> Option<Bytes> {
    let whole: Value = serde_json::from_slice(body).ok()?;
    let mut begun = whole.clone();
    begun["status"] = "in_progress".into();
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let mut writer = Writer { out: Vec::with_capacity(body.len() * 3), number: 0 };
    writer.event("response.created", json!({"response": begun}));
    writer.event("response.in_progress", json!({"response": begun}));
    for (place, item) in whole.get("output")?.as_array()?.iter().enumerate() {
        writer.item(place, item);
    }
    writer.event("response.completed", json!({"response": whole}));
    Some(Bytes::from(writer.out))
}

struct Writer {
    out: Vec<u8>,
    number: u64,
}

impl Writer {
    fn event(&mut self, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["sequence_number"] = self.number.into();
        self.number += 1;
        sse::write_kind(&mut self.out, kind, event.to_string().as_bytes());
    }

    fn item(&mut self, place: usize, item: &Value) {
        let mut begun = item.clone();
        for (member, empty) in [
            ("content", json!([])),
            ("arguments", json!("")),
            ("input", json!("")),
            ("summary", json!([])),
        ] {
            // A tool's whole input travels with its item; only what has events of its own is
            // emptied first.
            let grows = match member {
                "arguments" => item["type"] == "function_call",
                "input" => item["type"] == "custom_tool_call",
                "content" => item["type"] == "message",
                _ => item["type"] == "reasoning",
            };
            if grows && item.get(member).is_some() {
                begun[member] = empty;
            }
        }
        if item.get("status").is_some() {
            begun["status"] = "in_progress".into();
        }
        self.event("response.output_item.added", json!({"output_index": place, "item": begun}));
        self.inside(place, item);
        self.event("response.output_item.done", json!({"output_index": place, "item": item}));
    }

    fn inside(&mut self, place: usize, item: &Value) {
        let at = |more: Value| {
            let mut event = json!({"item_id": item["id"], "output_index": place});
            if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
                event.extend(more);
            }
            event
        };
        match item["type"].as_str() {
            Some("message") => {
                for (index, part) in super::list_at(item, "/content").iter().enumerate() {
                    self.part(&at(json!({"content_index": index})), part);
                }
            }
            Some("function_call") => {
                let text = &item["arguments"];
                let kind = "response.function_call_arguments";
                self.event(&format!("{kind}.delta"), at(json!({"delta": text})));
                let done = json!({"arguments": text, "name": item["name"]});
                self.event(&format!("{kind}.done"), at(done));
            }
            Some("custom_tool_call") => {
                let text = &item["input"];
                let kind = "response.custom_tool_call_input";
                self.event(&format!("{kind}.delta"), at(json!({"delta": text})));
                self.event(&format!("{kind}.done"), at(json!({"input": text})));
            }
            Some("reasoning") => {
                for (index, part) in super::list_at(item, "/summary").iter().enumerate() {
                    let empty = json!({"type": part["type"], "text": ""});
                    let text = &part["text"];
                    for (kind, more) in [
                        ("part.added", json!({"part": empty})),
                        ("text.delta", json!({"delta": text})),
                        ("text.done", json!({"text": text})),
                        ("part.done", json!({"part": part})),
                    ] {
                        let mut event = at(more);
                        event["summary_index"] = index.into();
                        self.event(&format!("response.reasoning_summary_{kind}"), event);
                    }
                }
            }
            _ => {}
        }
    }

    /// A message's part: a text with its annotations.
    fn part(&mut self, at: &Value, part: &Value) {
        let event = |more: Value| {
            let mut event = at.clone();
            if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
                event.extend(more);
            }
            event
        };
        let mut empty = part.clone();
        if part.get("text").is_some() {
            empty["text"] = "".into();
            empty["annotations"] = json!([]);
        }
        self.event("response.content_part.added", event(json!({"part": empty})));
        if part["type"] == "output_text" {
            let logprobs = part.get("logprobs").cloned().unwrap_or_else(|| json!([]));
            let delta = json!({"delta": part["text"], "logprobs": logprobs});
            self.event("response.output_text.delta", event(delta));
            for (index, annotation) in super::list_at(part, "/annotations").iter().enumerate() {
                let added = json!({"annotation_index": index, "annotation": annotation});
                self.event("response.output_text.annotation.added", event(added));
            }
            let done = json!({"text": part["text"], "logprobs": logprobs});
            self.event("response.output_text.done", event(done));
        }
        self.event("response.content_part.done", event(json!({"part": part})));
    }
}

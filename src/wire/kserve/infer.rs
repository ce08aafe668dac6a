//! `/v2/models/M[/versions/V]/infer`: tensors in, tensors out, as JSON or as bytes behind it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::{
    super::{
        Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
        conversation::{Conversation, Manner, Turn, members},
        hearing::{self, Account, Event, Finish, has, list_at, number_at},
        json::Json,
    },
    error, model,
};
use crate::fault::Fault;

/// How long the JSON before the tensors is.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Infer;

impl Dialect for Infer {
    fn name(&self) -> &str {
        "kserve_infer"
    }

    fn claims(&self, path: &str) -> bool {
        model(path, "infer").is_some()
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        read(call)
    }

    fn listener(&self, _: Shape) -> Box<dyn Listener> {
        hearing::whole(|account: &mut Account, event: Event<'_>| match apart(event.data) {
            Some((answer, tensors)) => add(account, &answer, tensors),
            None => account.unreadable = true,
        })
    }

    /// Without it a client cannot tell where the JSON ends.
    fn reads_headers(&self) -> &'static [&'static str] {
        &["inference-header-content-length"]
    }

    fn header(&self, body: &[u8], content_type: &str) -> Option<(HeaderName, HeaderValue)> {
        if content_type.starts_with("application/json") {
            return None;
        }
        let (_, tensors) = apart(body)?;
        Some((HEADER_LENGTH, HeaderValue::from(body.len() - tensors.len())))
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    fn stream_error(&self, _: Shape, _: &Fault, _: Option<u8>) -> Option<Bytes> {
        None
    }
}

// === reading ===

fn read(call: Call<'_>) -> Result<Prompt, Unread> {
    let (header, mut tensors) = match call.headers.get(&HEADER_LENGTH) {
        None => (call.body, &b""[..]),
        Some(length) => {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            call.body
                .split_at_checked(length.ok_or(Unread::Unreadable)?)
                .ok_or(Unread::Unreadable)?
        }
    };
    let request = Json::parse(header).map_err(|_| Unread::Unreadable)?;
    let Some(Json::List(inputs)) = request.get("inputs") else { return Err(Unread::Unreadable) };
    if keeps_state(&request) {
        return Err(Unread::Stateful);
    }
    let mut conversation = Conversation::new(call.path, call.rules);
    for (name, value) in members(&request)? {
        if name != "inputs" {
            conversation.member(name, value);
        }
    }
    let is_text = |input: &Json<'_>| {
        let name = input.get("name").and_then(Json::text).unwrap_or_default();
        call.rules.text_inputs.iter().any(|one| one == name)
    };
    let one_text = inputs.iter().filter(|input| is_text(input)).count() == 1;
    let mut asks = false;
    for input in inputs {
        let bytes = take_tensor(input, &mut tensors)?;
        describe(&mut conversation, input)?;
        match text(input, bytes).filter(|_| one_text && is_text(input)) {
            Some(text) => {
                conversation.text(text, Turn::Last);
                asks = true;
            }
            None => {
                conversation.member("data", input.get("data").unwrap_or(&Json::Null));
                conversation.mark(b'T', bytes.unwrap_or_default());
            }
        }
    }
    if !tensors.is_empty() {
        return Err(Unread::Unreadable);
    }
    let exact_only = (!asks).then_some(ExactOnly::NotAQuestion);
    let model = model(call.path, "infer").unwrap_or_default();
    Ok(conversation.finish(Shape::Whole, Manner { model, exact_only, ..Manner::default() }))
}

/// Does its answer depend on something that the request does not hold?
fn keeps_state(request: &Json<'_>) -> bool {
    let parameter = |of: &Json<'_>, prefix: &str| match of.get("parameters") {
        Some(Json::Object(parameters)) => parameters.iter().any(|(name, value)| {
            let off = matches!(value, Json::Null | Json::Bool(false) | Json::Int(0));
            name.starts_with(prefix) && !off
        }),
        _ => false,
    };
    let shares = |list| match request.get(list) {
        Some(Json::List(tensors)) => tensors.iter().any(|one| parameter(one, "shared_memory_")),
        _ => false,
    };
    parameter(request, "sequence_") || shares("inputs") || shares("outputs")
}

/// The bytes of an input that travel behind the JSON.
fn take_tensor<'b>(input: &Json<'_>, rest: &mut &'b [u8]) -> Result<Option<&'b [u8]>, Unread> {
    let parameters = input.get("parameters").unwrap_or(&Json::Null);
    let size = match parameters.get("binary_data_size") {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::Int(size)) => usize::try_from(*size).map_err(|_| Unread::Unreadable)?,
        Some(_) => return Err(Unread::Unreadable),
    };
    let (bytes, after) = rest.split_at_checked(size).ok_or(Unread::Unreadable)?;
    *rest = after;
    Ok(Some(bytes))
}

/// What an input says of itself: all but its content, however that travels.
fn describe(conversation: &mut Conversation<'_>, input: &Json<'_>) -> Result<(), Unread> {
    conversation.mark(b'I', b"");
    for (name, value) in members(input)? {
        match (name.as_ref(), value) {
            ("data", _) => {}
            ("parameters", Json::Object(parameters)) => {
                for (name, value) in parameters {
                    if name != "binary_data_size" {
                        conversation.mark(b'P', name.as_bytes());
                        conversation.member(name, value);
                    }
                }
            }
            _ => conversation.member(name, value),
        }
    }
    Ok(())
}

/// The one text of a BYTES tensor: JSON, or four bytes of length (little-endian) and UTF-8.
fn text<'t>(input: &'t Json<'_>, bytes: Option<&'t [u8]>) -> Option<&'t str> {
    if input.get("datatype").and_then(Json::text) != Some("BYTES") {
        return None;
    }
    match bytes {
        Some(bytes) => one_element(bytes),
        None => {
            let mut data = input.get("data")?;
            // Nested as the shape says, or flat.
            while let Json::List(items) = data {
                let [one] = items.as_slice() else { return None };
                data = one;
            }
            data.text()
        }
    }
}

pub(super) fn one_element(bytes: &[u8]) -> Option<&str> {
    let (length, text) = bytes.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    std::str::from_utf8(text).ok().filter(|text| text.len() == length)
}

// === hearing ===

/// The JSON of a body, and what follows it.
fn apart(body: &[u8]) -> Option<(Value, &[u8])> {
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let answer = documents.next()?.ok()?;
    let tensors = body.get(documents.byte_offset()..)?;
    Some((answer, tensors))
}

fn add(account: &mut Account, answer: &Value, mut tensors: &[u8]) {
    account.failed |= has(answer, "error");
    let outputs = list_at(answer, "/outputs");
    if outputs.is_empty() {
        account.unreadable = true;
        return;
    }
    let heard = account.choice(0);
    heard.says_something = true;
    heard.finish = Some(Finish::Clean);
    for output in outputs {
        let is_text = output["datatype"] == "BYTES";
        if let Some(size) = number_at(output, "/parameters/binary_data_size") {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let Some((bytes, after)) = tensors.split_at_checked(size) else {
                account.unreadable = true;
                return;
            };
            tensors = after;
            heard.text.push_str(one_element(bytes).filter(|_| is_text).unwrap_or_default());
        } else if let [Value::String(text)] = list_at(output, "/data") {
            heard.text.push_str(text);
        }
    }
    account.unreadable |= !tensors.trim_ascii().is_empty();
}

#[cfg(test)]
mod tests;

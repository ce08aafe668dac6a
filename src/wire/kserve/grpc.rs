//! `inference.GRPCInferenceService/ModelInfer`: the same tensors as protobuf, over gRPC; and, in
//! [`stream`], `ModelStreamInfer`, whose calls carry many of the same requests.
//!
//! Source: KServe `grpc_predict_v2.proto`; Triton `protocol/extension_*.md`.

mod stream;

use bytes::Bytes;
use http::HeaderMap;

pub use self::Inference::{ModelInfer, ModelStreamInfer};

use super::{
    super::{
        Call, Dialect, ExactOnly, Listener, NotStorable, Prompt, Shape, Unread,
        conversation::{Conversation, Manner, Turn},
        grpc,
        hearing::{self, Account, Event, Finish},
        protobuf::{Fields, Value},
    },
    error,
    infer::one_element,
};
use crate::fault::Fault;

const METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";
const STREAM_METHOD: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// `ModelInferRequest`'s fields; those of the answer differ.
mod request {
    pub(super) const MODEL: u64 = 1;
    pub(super) const VERSION: u64 = 2;
    pub(super) const ID: u64 = 3;
    pub(super) const PARAMETERS: u64 = 4;
    pub(super) const INPUTS: u64 = 5;
    pub(super) const OUTPUTS: u64 = 6;
    pub(super) const RAW: u64 = 7;
}

/// `ModelInferResponse`'s.
mod response {
    pub(super) const ID: u64 = 3;
    pub(super) const OUTPUTS: u64 = 5;
    pub(super) const RAW: u64 = 6;
}

/// `InferInputTensor`'s and `InferOutputTensor`'s.
mod tensor {
    pub(super) const NAME: u64 = 1;
    pub(super) const DATATYPE: u64 = 2;
    pub(super) const SHAPE: u64 = 3;
    pub(super) const PARAMETERS: u64 = 4;
    pub(super) const CONTENTS: u64 = 5;
}

/// `InferRequestedOutputTensor`'s.
mod wanted {
    pub(super) const NAME: u64 = 1;
    pub(super) const PARAMETERS: u64 = 2;
}

/// `InferTensorContents.bytes_contents`.
const BYTES_CONTENTS: u64 = 8;

/// The dialect of each method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inference {
    /// One request, one answer.
    ModelInfer,
    /// Many requests a call, any number of answers each.
    ModelStreamInfer,
}

impl Dialect for Inference {
    fn name(&self) -> &str {
        match self {
            ModelInfer => "kserve_grpc",
            ModelStreamInfer => "kserve_grpc_stream",
        }
    }

    fn claims(&self, path: &str) -> bool {
        match self {
            ModelInfer => path == METHOD,
            ModelStreamInfer => path == STREAM_METHOD,
        }
    }

    /// gRPC-Web comes to the same path.
    fn reads_headers(&self) -> &'static [&'static str] {
        &["content-type"]
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        read(call, *self)
    }

    fn carries_many(&self) -> bool {
        *self == ModelStreamInfer
    }

    fn readdressed(&self, asked: &[u8], answer: Bytes) -> Bytes {
        match self {
            ModelInfer => answer,
            ModelStreamInfer => stream::readdressed(asked, answer),
        }
    }

    fn listener(&self, _: Shape) -> Box<dyn Listener> {
        let add = match self {
            ModelInfer => add_one,
            ModelStreamInfer => stream::add_all,
        };
        hearing::whole(move |account: &mut Account, event: Event<'_>| {
            account.unreadable |= add(account, event.data).is_none();
        })
    }

    fn ended(&self, trailers: Option<&HeaderMap>) -> Result<(), NotStorable> {
        grpc::ended(trailers)
    }

    fn trailers(&self, end: Result<(), &Fault>) -> Option<HeaderMap> {
        Some(grpc::trailers(end))
    }

    fn content_type(&self, _: Shape) -> &'static str {
        "application/grpc"
    }

    /// Only for clients that do not speak gRPC: the others are told in its own way.
    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    fn stream_error(&self, _: Shape, _: &Fault, _: Option<u8>) -> Option<Bytes> {
        None
    }
}

// === reading ===

fn read(call: Call<'_>, method: Inference) -> Result<Prompt, Unread> {
    if !grpc::is_protobuf(call.headers) {
        return Err(Unread::Unreadable);
    }
    let message = grpc::message(call.body).ok_or(Unread::Unreadable)?;
    let asked = known(message, request::RAW)?;
    let (inputs, raw) = (list(&asked, request::INPUTS)?, list(&asked, request::RAW)?);
    // All of the tensors travel behind the message, or none of them.
    if inputs.is_empty() || !(raw.is_empty() || raw.len() == inputs.len()) {
        return Err(Unread::Unreadable);
    }
    let mut conversation = Conversation::new(call.path, call.rules);
    let model = text(&asked, request::MODEL)?;
    let name = match (method, text(&asked, request::ID)?) {
        // Its answers bear it too.
        (ModelInfer, name) => name,
        // Whoever hands an answer out writes the asker's name on it.
        (ModelStreamInfer, _) => "",
    };
    for text in [model, text(&asked, request::VERSION)?, name] {
        conversation.mark(b's', text.as_bytes());
    }
    parameters(&mut conversation, &asked, request::PARAMETERS, "sequence_")?;
    let outputs = list(&asked, request::OUTPUTS)?;
    conversation.mark(b'N', &(outputs.len() as u64).to_le_bytes());
    for output in outputs {
        let output = known(output, wanted::PARAMETERS)?;
        conversation.mark(b'O', text(&output, wanted::NAME)?.as_bytes());
        parameters(&mut conversation, &output, wanted::PARAMETERS, "shared_memory_")?;
    }
    let inputs: Result<Vec<_>, _> =
        inputs.into_iter().map(|input| known(input, tensor::CONTENTS)).collect();
    let inputs = inputs?;
    let is_text = |input: &Fields<'_>| {
        let name = input.text(tensor::NAME).unwrap_or_default();
        call.rules.text_inputs.iter().any(|one| one == name)
    };
    let one_text = inputs.iter().filter(|input| is_text(input)).count() == 1;
    let mut asks = false;
    for (at, input) in inputs.iter().enumerate() {
        let words = describe(&mut conversation, input, raw.get(at).copied())?;
        match words.filter(|_| one_text && is_text(input)) {
            Some(words) => {
                conversation.text(words, Turn::Last);
                asks = true;
            }
            None => content(&mut conversation, input, raw.get(at).copied()),
        }
    }
    let exact_only = (!asks).then_some(ExactOnly::NotAQuestion);
    Ok(conversation.finish(Shape::Whole, Manner { model, exact_only, ..Manner::default() }))
}

/// What an input says of itself, all but its content; and its one text, if it is one.
fn describe<'b>(
    conversation: &mut Conversation<'_>,
    input: &Fields<'b>,
    raw: Option<&'b [u8]>,
) -> Result<Option<&'b str>, Unread> {
    conversation.mark(b'I', text(input, tensor::NAME)?.as_bytes());
    let datatype = text(input, tensor::DATATYPE)?;
    conversation.mark(b'D', datatype.as_bytes());
    input.all(tensor::SHAPE).iter().for_each(|value| hash(conversation, *value));
    parameters(conversation, input, tensor::PARAMETERS, "shared_memory_")?;
    let contents = list(input, tensor::CONTENTS)?;
    match (&contents[..], raw) {
        // A message that was sent twice is the two put together: nobody does.
        ([_, _, ..], _) | ([_], Some(_)) => Err(Unread::Unreadable),
        _ if datatype != "BYTES" => Ok(None),
        ([contents], None) => Ok(only_text(contents)),
        ([], raw) => Ok(raw.and_then(one_element)),
    }
}

fn content(conversation: &mut Conversation<'_>, input: &Fields<'_>, raw: Option<&[u8]>) {
    match raw {
        Some(raw) => conversation.mark(b'T', raw),
        None => {
            conversation.mark(b'C', b"");
            input.all(tensor::CONTENTS).iter().for_each(|value| hash(conversation, *value));
        }
    }
}

/// A map of parameters, which have no order. Those that begin with `state` tie the answer to what
/// only the server holds.
fn parameters(
    conversation: &mut Conversation<'_>,
    of: &Fields<'_>,
    field: u64,
    state: &str,
) -> Result<(), Unread> {
    let mut entries = Vec::new();
    for entry in list(of, field)? {
        let pair = known(entry, 2)?;
        let name = text(&pair, 1)?;
        let values = list(&pair, 2)?.into_iter().map(|value| known(value, 5));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let is_off = |value: &Fields<'_>| {
            value.numbers().all(|kind| value.all(kind).iter().all(|one| one.is_default()))
        };
        if name.starts_with(state) && !values.iter().all(is_off) {
            return Err(Unread::Stateful);
        }
        entries.push((name, entry));
    }
    entries.sort_unstable();
    if entries.windows(2).any(|two| matches!(two, [one, other] if one.0 == other.0)) {
        return Err(Unread::Unreadable);
    }
    conversation.mark(b'P', &(entries.len() as u64).to_le_bytes());
    entries.into_iter().for_each(|(_, entry)| conversation.mark(b'p', entry));
    Ok(())
}

/// The one text of `InferTensorContents`.
fn only_text(contents: &[u8]) -> Option<&str> {
    let contents = Fields::up_to(contents, BYTES_CONTENTS)?;
    let mut numbers = contents.numbers();
    let alone = numbers.next() == Some(BYTES_CONTENTS);
    match contents.list(BYTES_CONTENTS)?[..] {
        [one] if alone => std::str::from_utf8(one).ok(),
        _ => None,
    }
}

fn known(message: &[u8], last: u64) -> Result<Fields<'_>, Unread> {
    Fields::up_to(message, last).ok_or(Unread::Unreadable)
}

fn text<'b>(of: &Fields<'b>, field: u64) -> Result<&'b str, Unread> {
    of.text(field).ok_or(Unread::Unreadable)
}

fn list<'b>(of: &Fields<'b>, field: u64) -> Result<Vec<&'b [u8]>, Unread> {
    of.list(field).ok_or(Unread::Unreadable)
}

fn hash(conversation: &mut Conversation<'_>, value: Value<'_>) {
    match value {
        Value::Varint(number) => conversation.mark(b'0', &number.to_le_bytes()),
        Value::Fixed64(bytes) => conversation.mark(b'1', bytes),
        Value::Bytes(bytes) => conversation.mark(b'2', bytes),
        Value::Fixed32(bytes) => conversation.mark(b'5', bytes),
    }
}

// === hearing ===

/// Adds the answer that a body is; `None` where it is none.
fn add_one(account: &mut Account, body: &[u8]) -> Option<()> {
    add(account, grpc::message(body)?)
}

/// Adds an answer; `None` where it is none.
fn add(account: &mut Account, message: &[u8]) -> Option<()> {
    let answer = Fields::of(message)?;
    let (outputs, raw) = (answer.list(response::OUTPUTS)?, answer.list(response::RAW)?);
    if outputs.is_empty() || !(raw.is_empty() || raw.len() == outputs.len()) {
        return None;
    }
    let heard = account.choice(0);
    heard.says_something = true;
    heard.finish = Some(Finish::Clean);
    for (at, output) in outputs.into_iter().enumerate() {
        let output = Fields::of(output)?;
        if output.text(tensor::DATATYPE)? == "BYTES" {
            let words = match raw.get(at) {
                Some(raw) => one_element(raw),
                None => output.list(tensor::CONTENTS)?.first().and_then(|one| only_text(one)),
            };
            heard.text.push_str(words.unwrap_or_default());
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;

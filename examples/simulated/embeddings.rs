//! `POST /v1/embeddings`: unit vectors that depend on the text alone.

use serde_json::{Value, json};

use crate::{
    api_error::ApiError,
    ask::{self, count, present},
};

const DIMENSIONS: usize = 64;
const INPUTS_MAX: usize = 2048;

/// How vectors are written.
enum Encoding {
    Float,
    /// Little-endian 32-bit floats in base64, which OpenAI's Python client asks for.
    Base64,
}

/// The whole answer.
pub(crate) fn answer(body: &Value) -> Result<Value, ApiError> {
    let fields = ask::object(body)?;
    let model = ask::model(fields)?;
    let input = fields.get("input").ok_or_else(|| ApiError::missing("input"))?;
    let inputs = inputs(input)?;
    let dimensions = count(fields, "dimensions", 1..=4096)?.unwrap_or(DIMENSIONS);
    let encoding = match present(fields, "encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => Encoding::Float,
        Some(Some("base64")) => Encoding::Base64,
        Some(_) => return Err(ApiError::bad_value("encoding_format", "no such encoding")),
    };
    let tokens: usize = inputs.iter().map(|text| text.split_whitespace().count()).sum();
    let data = inputs.iter().enumerate().map(|(index, text)| {
        let vector = vector(text, dimensions);
        let vector = match encoding {
            Encoding::Float => json!(vector),
            Encoding::Base64 => base64(&vector).into(),
        };
        json!({"object": "embedding", "index": index, "embedding": vector})
    });
    Ok(json!({
        "object": "list", "data": data.collect::<Vec<_>>(), "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

/// The texts to embed; arrays of token numbers stand for the text of their JSON.
fn inputs(input: &Value) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::wrong_type("input", "a string, strings, or token arrays", input);
    match input {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) if items.is_empty() || items.len() > INPUTS_MAX => Err(wrong()),
        Value::Array(items) if items.iter().all(Value::is_number) => Ok(vec![input.to_string()]),
        Value::Array(items) => {
            let text = |item: &Value| match item {
                Value::String(text) => Some(text.clone()),
                Value::Array(_) => Some(item.to_string()),
                _ => None,
            };
            items.iter().map(text).collect::<Option<_>>().ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// A unit vector drawn from the hash of `text`.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut noise = blake3::Hasher::new().update(text.as_bytes()).finalize_xof();
    let mut component = || {
        let mut bytes = [0; 2];
        noise.fill(&mut bytes);
        f32::from(i16::from_le_bytes(bytes)) + 0.5
    };
    let vector: Vec<f32> = (0..dimensions).map(|_| component()).collect();
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.into_iter().map(|value| value / length).collect()
}

/// RFC 4648 section 4.
fn base64(vector: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for digit in 0..4 {
            match digit <= group.len() {
                true => text.push(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize].into()),
                false => text.push('='),
            }
        }
    }
    text
}

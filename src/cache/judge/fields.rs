//! Structured answers, compared field by field.

use serde_json::Value;

/// Whether two JSON answers hold the same; `None` unless both are JSON objects or arrays, fenced or
/// not.
///
/// Order of keys, white space and the spelling of numbers do not matter; order of array items does.
pub fn fields_agree(a: &str, b: &str) -> Option<bool> {
    let (a, b) = (structured(a)?, structured(b)?);
    Some(same(&a, &b))
}

fn structured(text: &str) -> Option<Value> {
    let text = text.trim();
    let inner = text
        .strip_prefix("```json")
        .or_else(|| text.strip_prefix("```"))
        .and_then(|t| t.strip_suffix("```"))
        .unwrap_or(text);
    let inner = inner.trim();
    if !inner.starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(inner).ok()
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y
                || x.as_f64()
                    .zip(y.as_f64())
                    .is_some_and(|(x, y)| (x - y).abs() <= 1e-9 * x.abs().max(1.0))
        }
        (Value::String(x), Value::String(y)) => {
            x == y || super::normal(x) == super::normal(y) && !super::normal(x).is_empty()
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_keys_and_fences_do_not_matter() {
        assert_eq!(
            fields_agree("```json\n{\"a\": 1, \"b\": \"X\"}\n```", "{\"b\":\"x\",\"a\":1.0}"),
            Some(true)
        );
        assert_eq!(fields_agree("[1, 2]", "[2, 1]"), Some(false));
        assert_eq!(fields_agree("{\"a\": 1}", "{\"a\": 1, \"b\": 2}"), Some(false));
    }

    #[test]
    fn prose_is_not_structured() {
        assert_eq!(fields_agree("{not json", "{\"a\": 1}"), None);
        assert_eq!(fields_agree("42", "42"), None);
    }
}

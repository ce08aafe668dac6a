//! Embeddings: vectors for texts, known ones text by text.
//!
//! A request may hold many inputs of which some are known. [`Embeddings::items`] takes it apart, so
//! that the server is asked for the rest alone: the one place where a body is not the client's own
//! (`exchange::batch` tells how). Source: OpenAI API reference, "Embeddings".

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    super::{
        Batch, Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
        conversation::{Conversation, Manner, members, model},
        json::Json,
        oneshot,
    },
    error,
};
use crate::fault::Fault;

/// The most inputs that a request is taken apart for; OpenAI takes 2048.
const ITEMS_MAX: usize = 2048;

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Embeddings;

impl Dialect for Embeddings {
    fn name(&self) -> &str {
        "openai_embeddings"
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with("/embeddings")
    }

    /// One input alone and the same in a list of one are the same request.
    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
        let input = request.get("input").ok_or(Unread::Unreadable)?;
        match input {
            Json::List(items) if is_batch(items) && items.len() == 1 => {
                prompt(call, &request, &items[0])
            }
            other => prompt(call, &request, other),
        }
    }

    fn items(&self, call: Call<'_>) -> Option<Batch> {
        let request = Json::parse(call.body).ok()?;
        let Some(Json::List(items)) = request.get("input") else { return None };
        if !is_batch(items) || !(2..=ITEMS_MAX).contains(&items.len()) {
            return None;
        }
        let prompts: Result<Vec<_>, _> =
            items.iter().map(|item| prompt(call, &request, item)).collect();
        Some(Batch { prompts: prompts.ok()? })
    }

    fn without(&self, body: &[u8], kept: &[usize]) -> Option<Bytes> {
        let mut request: Value = serde_json::from_slice(body).ok()?;
        let input = request.get_mut("input")?;
        let kept: Option<Vec<_>> = kept.iter().map(|index| input.get(index).cloned()).collect();
        *input = Value::Array(kept?);
        Some(Bytes::from(request.to_string()))
    }

    fn apart(&self, body: &[u8]) -> Option<Vec<Bytes>> {
        let mut answer: Value = serde_json::from_slice(body).ok()?;
        let alone = |answer: &Value, mut item: Value| {
            let mut one = answer.clone();
            item["index"] = 0.into();
            one["data"] = json!([item]);
            Bytes::from(one.to_string())
        };
        let Value::Array(items) = answer.get_mut("data")?.take() else { return None };
        if items.len() > 1 {
            // What one of several cost is not known, and clients want a number: its replay says
            // what it costs then.
            answer.as_object_mut()?.insert("usage".into(), nothing());
        }
        let in_order = items
            .iter()
            .enumerate()
            .all(|(place, item)| item.get("index").and_then(Value::as_u64) == Some(place as u64));
        in_order.then(|| items.into_iter().map(|item| alone(&answer, item)).collect())
    }

    /// `usage` says what the server counted for this very request: nothing for what was known.
    fn together(&self, items: &[Bytes], asked: Option<&[u8]>) -> Option<Bytes> {
        let read = |body: &[u8]| serde_json::from_slice::<Value>(body).ok();
        let mut data = Vec::with_capacity(items.len());
        let mut answer = json!({});
        for (place, item) in items.iter().enumerate() {
            let mut one = read(item)?;
            let mut vector = one.get_mut("data")?.get_mut(0)?.take();
            vector["index"] = place.into();
            data.push(vector);
            answer = one;
        }
        answer["data"] = Value::Array(data);
        answer["usage"] = match asked {
            Some(asked) => read(asked)?.get_mut("usage")?.take(),
            None => nothing(),
        };
        Some(Bytes::from(answer.to_string()))
    }

    fn listener(&self, _: Shape) -> Box<dyn Listener> {
        oneshot::ears("data")
    }

    fn reshape(&self, stored: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
        (stored == wanted).then(|| body.clone())
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    fn stream_error(&self, _: Shape, _: &Fault, _: Option<u8>) -> Option<Bytes> {
        None
    }
}

fn nothing() -> Value {
    json!({"prompt_tokens": 0, "total_tokens": 0})
}

/// Several inputs, or one that is a list of token numbers?
fn is_batch(items: &[Json<'_>]) -> bool {
    items.iter().all(|item| matches!(item, Json::Text(_) | Json::List(_)))
}

fn prompt(call: Call<'_>, request: &Json<'_>, input: &Json<'_>) -> Result<Prompt, Unread> {
    let mut conversation = Conversation::new(call.path, call.rules);
    for (name, value) in members(request)? {
        if name != "input" {
            conversation.parameter(name, value);
        }
    }
    conversation.member("input", input);
    let manner = Manner {
        model: model(request)?,
        exact_only: Some(ExactOnly::NotAQuestion),
        ..Manner::default()
    };
    Ok(conversation.finish(Shape::Whole, manner))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::wire::Rules;

    fn call<'a>(body: &'a str, headers: &'a HeaderMap) -> Call<'a> {
        let body = body.as_bytes();
        Call { path: "/v1/embeddings", query: "", headers, body, rules: Rules::default() }
    }

    #[test]
    fn each_input_has_the_key_that_it_has_alone() {
        let headers = HeaderMap::new();
        let batch = r#"{"model":"m","input":["a",[1,2],"b"]}"#;
        let batch = Embeddings.items(call(batch, &headers)).unwrap().prompts;
        for (item, place) in [("\"a\"", 0), ("[\"a\"]", 0), ("[1,2]", 1), ("[[1,2]]", 1)] {
            let body = format!(r#"{{"input":{item},"model":"m"}}"#);
            let alone = Embeddings.read(call(&body, &headers)).unwrap();
            assert_eq!(alone.context, batch[place].context, "{item}");
        }
        for no_batch in [r#"{"input":"a"}"#, r#"{"input":[1,2]}"#, r#"{"input":["a"]}"#] {
            assert!(Embeddings.items(call(no_batch, &headers)).is_none());
        }
    }

    #[test]
    fn an_answer_comes_apart_and_together_again() {
        let vector = |index: usize, value: f64| json!({"object": "embedding", "index": index, "embedding": [value]});
        let usage = json!({"prompt_tokens": 2, "total_tokens": 2});
        let answer = json!({
            "object": "list", "model": "m", "data": [vector(0, 0.1), vector(1, 0.2)],
            "usage": usage,
        });
        let items = Embeddings.apart(answer.to_string().as_bytes()).unwrap();
        assert!(String::from_utf8_lossy(&items[0]).contains("\"total_tokens\":0"));
        let swapped = [items[1].clone(), items[0].clone()];
        let together = Embeddings.together(&swapped, None).unwrap();
        let together: Value = serde_json::from_slice(&together).unwrap();
        assert_eq!(together["data"], json!([vector(0, 0.2), vector(1, 0.1)]));
        assert_eq!(together["usage"]["prompt_tokens"], 0);
        let asked = answer.to_string();
        let together = Embeddings.together(&swapped, Some(asked.as_bytes())).unwrap();
        let together: Value = serde_json::from_slice(&together).unwrap();
        assert_eq!(together["usage"], usage);
        assert!(Embeddings.apart(b"{\"data\":[{\"index\":1}]}").is_none());
    }

    #[test]
    fn the_rest_alone_is_asked_for() {
        let body = br#"{"model":"m","input":["a","b","c"],"dimensions":4}"#;
        let rest: Value =
            serde_json::from_slice(&Embeddings.without(body, &[0, 2]).unwrap()).unwrap();
        assert_eq!(rest, json!({"model": "m", "input": ["a", "c"], "dimensions": 4}));
        assert!(Embeddings.without(body, &[3]).is_none());
    }
}

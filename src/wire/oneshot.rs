//! Calls whose answer is one body and no conversation: ratings, rankings, counts, vectors.
//!
//! They are repeated exactly or not at all: all of the request is in the key.

use bytes::Bytes;

use super::{
    Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, members, model, shape},
    dress::Marks,
    hearing::{self, Account, Finish},
    json::Json,
};
use crate::fault::Fault;

/// One such call.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneShot {
    pub(super) name: &'static str,
    /// How its paths end.
    pub(super) ends: &'static [&'static str],
    /// The member that an answer has.
    pub(super) said: &'static str,
    /// An error in the shape of its family.
    pub(super) error: fn(&Fault) -> Bytes,
}

impl Dialect for OneShot {
    fn name(&self) -> &str {
        self.name
    }

    fn claims(&self, path: &str) -> bool {
        self.ends.iter().any(|end| path.ends_with(end))
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        read(call)
    }

    fn listener(&self, _: Shape) -> Box<dyn Listener> {
        ears(self.said)
    }

    fn marks(&self) -> Marks<'_> {
        Marks { ids: vec!["/id"], counts: vec!["/usage"], ..Marks::default() }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        (self.error)(fault)
    }

    fn stream_error(&self, _: Shape, _: &Fault, _: Option<u8>) -> Option<Bytes> {
        None
    }
}

/// A request that is in the key as a whole.
pub(super) fn read(call: Call<'_>) -> Result<Prompt, Unread> {
    let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
    if shape(&request, Shape::Whole)? != Shape::Whole {
        return Err(Unread::Unreadable);
    }
    let mut conversation = Conversation::new(call.path, call.rules);
    for (name, value) in members(&request)? {
        conversation.parameter(name, value);
    }
    let manner = Manner {
        model: model(&request)?,
        exact_only: Some(ExactOnly::NotAQuestion),
        ..Manner::default()
    };
    Ok(conversation.finish(Shape::Whole, manner))
}

/// Ears for a JSON object that has this member, and no error.
pub(super) fn ears(said: &'static str) -> Box<dyn Listener> {
    hearing::whole(hearing::json(move |account: &mut Account, _, answer| {
        // TEI's rerank answers with a bare list.
        let bare = answer.as_array().is_some_and(|list| !list.is_empty());
        account.failed |= hearing::has(answer, "error");
        account.unreadable |= !bare && !hearing::has(answer, said);
        for prompt in ["/usage/prompt_tokens", "/usage/total_tokens", "/meta/tokens/input_tokens"] {
            account.count(
                hearing::number_at(answer, prompt).filter(|_| account.usage.is_none()),
                None,
            );
        }
        let heard = account.choice(0);
        heard.says_something = true;
        heard.finish = Some(Finish::Clean);
    }))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::wire::{NotStorable, Rules, openai};

    #[test]
    fn all_of_it_is_the_key_and_it_is_no_question() {
        let read = |body: &str| {
            let rules = Rules::default();
            let headers = HeaderMap::new();
            let body = body.as_bytes();
            openai::RERANK.read(Call { path: "/rerank", query: "", headers: &headers, body, rules })
        };
        let one = read(r#"{"model":"m","query":"q","documents":["a","b"]}"#).unwrap();
        let other = read(r#"{"model":"m","query":"q","documents":["b","a"]}"#).unwrap();
        assert_ne!(one.context, other.context);
        assert_eq!(one.question, Err(ExactOnly::NotAQuestion));
        assert_eq!(&*one.model, "m");
        assert_eq!(read("[1]").unwrap_err(), Unread::Unreadable);
        assert_eq!(read(r#"{"stream":true}"#).unwrap_err(), Unread::Unreadable);
    }

    #[test]
    fn only_an_answer_is_kept() {
        let heard = |body: &str| ears("results").finish(body.as_bytes());
        let good = r#"{"results":[],"usage":{"prompt_tokens":4,"total_tokens":4}}"#;
        assert_eq!(heard(good).unwrap().usage.unwrap().prompt, 4);
        assert!(heard(r#"[{"index":0,"score":0.5}]"#).is_ok());
        assert_eq!(heard(r#"{"error":{"message":"x"}}"#), Err(NotStorable::UpstreamError));
        for bad in ["", "{}", "[]", "null", "{\"results\":null}", "<"] {
            assert_eq!(heard(bad), Err(NotStorable::Unreadable), "{bad}");
        }
    }
}

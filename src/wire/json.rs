//! JSON as a key needs it: borrowed, its objects sorted, and certain.
//!
//! `serde_json::Value` is not enough for a cache key: it lets the last of two equal names win where
//! a model server may take the first, and it rounds large numbers, so that two different requests
//! could share a key. Such documents are refused here; they are then forwarded uncached.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use crate::frames::Frames;

/// A JSON value; object members are sorted by name and unique.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number, below 2^53 so that it is told apart from its neighbours.
    Float(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Json<'a>>),
    /// An object, sorted by name.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Parses one document.
    ///
    /// # Errors
    /// Not JSON, nested deeper than 128, a name twice in one object, a number too large to be told
    /// apart from its neighbours, a lone surrogate.
    pub fn parse(bytes: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }

    /// The member of this name, if this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        let at = members.binary_search_by(|(key, _)| key.as_ref().cmp(name)).ok()?;
        members.get(at).map(|(_, value)| value)
    }

    /// What stands at a JSON pointer (RFC 6901) through objects; the value itself for `""`.
    pub fn pointer(&self, pointer: &str) -> Option<&Self> {
        pointer
            .split('/')
            .skip(1)
            .try_fold(self, |value, name| value.get(&name.replace("~1", "/").replace("~0", "~")))
    }

    /// The text, if this is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if this is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            // Sampling parameters are small; the cast is exact below 2^53.
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// Feeds an unambiguous form of the value to a hash: a tag, then a length, then the content,
    /// so that no two different values have the same form.
    pub fn hash_into(&self, hash: &mut Frames) {
        match self {
            Self::Null => hash.tagged(b'n', b""),
            Self::Bool(value) => hash.tagged(b'b', &[u8::from(*value)]),
            Self::Int(value) => hash.tagged(b'i', &value.to_le_bytes()),
            Self::Float(value) => hash.tagged(b'f', &value.to_bits().to_le_bytes()),
            Self::Text(text) => hash.tagged(b't', text.as_bytes()),
            Self::List(items) => {
                hash.tagged(b'l', &(items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.hash_into(hash));
            }
            Self::Object(members) => {
                hash.tagged(b'o', &(members.len() as u64).to_le_bytes());
                for (name, value) in members {
                    hash.tagged(b'k', name.as_bytes());
                    value.hash_into(hash);
                }
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Json<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Int(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
        if value.abs() >= EXACT {
            return Err(E::custom("a number too large to be told apart from its neighbours"));
        }
        if value.fract() == 0.0 {
            return Ok(Json::Int(value as i128)); // 1.0 means what 1 means
        }
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        while let Some((Name(name), value)) = from.next_entry()? {
            members.push((name, value));
        }
        members.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(A::Error::custom("a name occurs twice in one object"));
        }
        Ok(Json::Object(members))
    }
}

/// A member's name, borrowed where it holds no escape.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Name<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a member's name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(text: &str) -> blake3::Hash {
        let mut hash = Frames::default();
        Json::parse(text.as_bytes()).unwrap().hash_into(&mut hash);
        hash.finish()
    }

    #[test]
    fn equal_meaning_gives_equal_digests() {
        assert_eq!(digest(r#"{"a":1,"b":[true,null]}"#), digest(r#" {"b":[true,null], "a":1.0} "#));
        assert_eq!(digest(r#""\u00e9\/""#), digest("\"é/\""));
    }

    #[test]
    fn different_meaning_gives_different_digests() {
        let all = [
            "null",
            "0",
            "1",
            "0.5",
            "\"\"",
            "\"0\"",
            "[]",
            "{}",
            "[0]",
            "[[]]",
            "{\"a\":0}",
            "{\"a\":\"0\"}",
            "[\"a\",\"b\"]",
            "[\"ab\"]",
            "[\"a\",[\"b\"]]",
            "true",
            "false",
            "[1,2]",
            "[12]",
            "18446744073709551615",
            "-1",
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(digest(one), digest(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn uncertain_documents_are_refused() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            "36893488147419103232",
            "1e300",
            r#""\ud800""#,
            "{",
            "[1,]",
            "",
            "nul",
        ] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(Json::parse(deep.as_bytes()).is_err());
        let fine = "[".repeat(20) + &"]".repeat(20);
        assert!(Json::parse(fine.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Json::parse(&bytes);
        }

        #[test]
        fn texts_are_kept(text in ".{0,40}") {
            let encoded = serde_json::to_string(&text).unwrap();
            let json = Json::parse(encoded.as_bytes()).unwrap();
            prop_assert_eq!(json.text(), Some(text.as_str()));
        }
    }
}

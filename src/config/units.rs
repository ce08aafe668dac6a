//! Durations and sizes as people write them, and strings that may be empty to mean "not set".

use std::{str::FromStr, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de::Error};

/// A duration written as `"250ms"`, `"5s"`, `"10m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// The duration itself.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("expected a duration such as \"250ms\" or \"5m\", not \"{text}\"");
        humantime::parse_duration(text).map(Self).map_err(wrong)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A size in bytes written as `"64KiB"`, `"512MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// Bytes as this machine counts memory; saturates on 32-bit machines.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        ByteSize::from_str(&text).map(|size| Self(size.as_u64())).map_err(|_| {
            D::Error::custom(format!(
                "expected a size such as \"64KiB\" or \"2GiB\", not \"{text}\""
            ))
        })
    }
}

/// An empty string means that the key is not set; anything else must parse.
pub(super) fn optional<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| D::Error::custom(format!("`{text}`: {error}")))
}

/// The same for what must not be repeated in an error.
pub(super) fn secret<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(D::Error::custom)
}

/// A duration, or an empty string for none.
pub(super) fn optional_span<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Span>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    Span::deserialize(serde::de::value::StringDeserializer::new(text)).map(Some)
}

/// Header names, in any case.
pub(super) fn header_names<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<http::HeaderName>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let parse = |name: String| {
        name.parse().map_err(|_| D::Error::custom(format!("`{name}` is not a header's name")))
    };
    names.into_iter().map(parse).collect()
}

//! Settings that no log, error or report ever shows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for whoever sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// 256 bits, written as 64 hex digits (`openssl rand -hex 32`) or as `file:PATH` of a file that holds
/// those, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// The bits themselves.
    pub const fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The text is not a key. It is not repeated: it may be one with a typo.
#[derive(Debug, thiserror::Error)]
pub enum NotAKey {
    /// Something else.
    #[error("expected 64 hex digits, as `openssl rand -hex 32` makes them, or \"file:PATH\"")]
    Text,
    /// The file cannot be read.
    #[error("the key's file cannot be read: {0}")]
    File(#[from] std::io::Error),
}

impl FromStr for SecretKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("file:") {
            return std::fs::read_to_string(path)?.trim().parse();
        }
        let digits = text.as_bytes();
        let mut key = [0; 32];
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(NotAKey::Text);
        }
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAKey::Text)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAKey::Text)?;
        }
        Ok(Self(key))
    }
}

impl<'de> Deserialize<'de> for SecretKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let (secret, key) = ("s3cret".parse::<Secret>().unwrap(), "0f".repeat(32));
        let parsed: SecretKey = key.parse().unwrap();
        assert_eq!(parsed.reveal(), &[15; 32]);
        assert_eq!(format!("{secret:?} {parsed:?}"), "*** ***");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{key}\n")).unwrap();
        let read: SecretKey = format!("file:{}", file.path().display()).parse().unwrap();
        assert_eq!(read, parsed);
        for wrong in ["", "0f", &"0g".repeat(32), &"é".repeat(32)] {
            assert!(!wrong.parse::<SecretKey>().unwrap_err().to_string().contains("0g"));
        }
    }
}

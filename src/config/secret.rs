//! Settings that no log, error or report ever shows.

use std::{fmt, str::FromStr};

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

/// 256 bits, written as 64 hex digits (`openssl rand -hex 32`), never printed.
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
#[error("expected 64 hex digits, as `openssl rand -hex 32` makes them")]
pub struct NotAKey;

impl FromStr for SecretKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        let mut key = [0; 32];
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(NotAKey);
        }
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAKey)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAKey)?;
        }
        Ok(Self(key))
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
        for wrong in ["", "0f", &"0g".repeat(32), &"é".repeat(32)] {
            assert!(!wrong.parse::<SecretKey>().unwrap_err().to_string().contains("0g"));
        }
    }
}

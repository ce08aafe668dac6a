//! A short text while it is written: a header's value, a name in hexadecimal digits.

use std::fmt;

use http::HeaderValue;

/// More than any value that we write has: the longest is `Server-Timing` with twelve stages of 35 bytes.
const CAPACITY: usize = 512;

/// A short text on the stack. A value that grows piece by piece on the heap costs an allocation for each
/// step and one for its reference count; this costs one, at the end.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; CAPACITY], length: 0 }
    }
}

impl Line {
    /// Nothing yet?
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends as much of `more` as there is room for.
    pub fn push(&mut self, more: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        debug_assert!(more.len() <= room.len(), "a line too long");
        let fits = more.len().min(room.len());
        room[..fits].copy_from_slice(&more[..fits]);
        self.length += fits;
    }

    /// Appends `number` in decimal, padded with zeros to `width`. By hand: it runs several times for each
    /// request, and `write!` costs several times as much.
    pub fn number(&mut self, mut number: u64, width: usize) {
        const DIGITS_MAX: usize = 20;
        let mut digits = [b'0'; DIGITS_MAX];
        let mut at = DIGITS_MAX;
        while number > 0 || DIGITS_MAX - at < width.min(DIGITS_MAX) {
            at -= 1;
            digits[at] = b"0123456789"[(number % 10) as usize];
            number /= 10;
        }
        self.push(&digits[at..]);
    }

    /// Each byte as two lower-case hexadecimal digits; by hand for the same reason.
    pub fn of_hex(bytes: &[u8]) -> Self {
        debug_assert!(2 * bytes.len() <= CAPACITY, "a line too long");
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 0xf)];
        let mut line = Self::default();
        for (pair, byte) in line.bytes.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(*byte)]);
            line.length += 2;
        }
        line
    }

    /// What was written; nothing where that is no text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// It as a header's value; empty where it holds what no header may.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.as_bytes()).unwrap_or(HeaderValue::from_static(""))
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        self.push(more.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_everybody_writes_them(number in any::<u64>(), width in 0_usize..24) {
            let mut line = Line::default();
            line.number(number, width);
            let width = width.min(20);
            let expected = if number == 0 && width == 0 { String::new() } else { format!("{number:0width$}") };
            prop_assert_eq!(line.as_bytes(), expected.as_bytes());
        }

        #[test]
        fn so_are_bytes(bytes in any::<[u8; 32]>()) {
            let line = Line::of_hex(&bytes);
            let expected = blake3::Hash::from_bytes(bytes).to_hex();
            prop_assert_eq!(line.as_str(), expected.as_str());
        }
    }

    #[test]
    fn what_is_written_becomes_a_header() {
        let mut line = Line::default();
        assert!(line.is_empty());
        write!(line, "{:02x}", 10).unwrap();
        line.push(b"; b");
        assert_eq!(line.header(), "0a; b");
        line.push(b"\n");
        assert_eq!(line.header(), "");
    }
}

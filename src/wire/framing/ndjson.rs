//! A JSON document a line (Ollama).

use bytes::Bytes;

use super::Event;

/// Splits a stream at its line feeds; blank lines are nothing.
pub(crate) struct Splitter {
    line: Vec<u8>,
    limit: usize,
    overflowed: bool,
}

impl Splitter {
    pub(super) fn new(limit: usize) -> Self {
        Self { line: Vec::new(), limit, overflowed: false }
    }

    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Event<'_>)) {
        while !self.overflowed {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.keep(bytes);
                return;
            };
            self.keep(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.finish(&mut each);
        }
    }

    pub(super) fn finish(&mut self, mut each: impl FnMut(Event<'_>)) {
        let line = self.line.trim_ascii();
        if !line.is_empty() && !self.overflowed {
            each(Event { kind: b"", data: line });
        }
        self.line.clear();
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.line.len().saturating_add(bytes.len()) > self.limit {
            self.overflowed = true;
        } else {
            self.line.extend_from_slice(bytes);
        }
    }
}

/// A last line, after the end of one that `last`, the byte before it, left open. A blank line would
/// be no JSON to the clients of Ollama.
pub(crate) fn last_word(line: &[u8], last: Option<u8>) -> Bytes {
    let open = last.is_some_and(|byte| byte != b'\n');
    Bytes::from([if open { &b"\n"[..] } else { b"" }, line, b"\n"].concat())
}

//! Server-sent events, split out of bytes that come in any chunking.
//!
//! Source: WHATWG HTML, "Server-sent events", section 9.2.6: lines end with CR LF, LF or CR; a
//! blank line ends an event; `data` lines of one event are joined by LF; a line that begins with a
//! colon is a comment. One departure, on purpose: an event that the end of the stream leaves
//! unfinished is still reported by [`Splitter::finish`], because real servers forget the last blank
//! line and that event holds the token counts.

use bytes::Bytes;

/// Splits a stream into the data of its events.
#[derive(Debug)]
pub struct Splitter {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    event: Vec<u8>,
    skip_lf: bool,
    at_start: bool,
    limit: usize,
    overflowed: bool,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field, empty where there was none.
    pub kind: &'a [u8],
    /// The `data` lines, joined by LF.
    pub data: &'a [u8],
}

impl Splitter {
    /// A splitter that gives up on an event of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            event: Vec::new(),
            skip_lf: false,
            at_start: true,
            limit,
            overflowed: false,
        }
    }

    /// True once an event passed the limit; nothing more is reported then.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The next bytes; `each` is called for every event that they complete.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Event<'_>)) {
        // One line feed at most belongs to a carriage return, also where it is a chunk by itself.
        if self.skip_lf
            && let Some((first, rest)) = bytes.split_first()
        {
            self.skip_lf = false;
            if *first == b'\n' {
                bytes = rest;
            }
        }
        while !self.overflowed {
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.keep(bytes);
                return;
            };
            self.keep(&bytes[..end]);
            let carriage = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if carriage {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.skip_lf = true,
                }
            }
            self.end_line(&mut each);
        }
    }

    /// The stream ended: reports an event that was still open.
    pub fn finish(&mut self, mut each: impl FnMut(Event<'_>)) {
        if self.overflowed {
            return;
        }
        if !self.line.is_empty() {
            self.end_line(&mut each);
        }
        self.dispatch(&mut each);
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.line.len() + self.data.len() + bytes.len() > self.limit {
            self.overflowed = true;
            return;
        }
        self.line.extend_from_slice(bytes);
    }

    fn end_line(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if self.overflowed {
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        let mut text = line.as_slice();
        if std::mem::take(&mut self.at_start) {
            text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        }
        if text.is_empty() {
            self.dispatch(each);
        } else {
            self.field(text);
        }
        line.clear();
        self.line = line; // keeps its capacity
    }

    fn field(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.event.clear();
                self.event.extend_from_slice(value);
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if self.has_data {
            each(Event { kind: &self.event, data: &self.data });
        }
        self.has_data = false;
        self.data.clear();
        self.event.clear();
    }
}

/// Appends one event.
pub fn write(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

/// Appends one event with its `event` field.
pub fn write_kind(out: &mut Vec<u8>, kind: &str, data: &[u8]) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'\n');
    write(out, data);
}

/// A last event. The blank line before it closes one that a cut may have left open.
pub fn last_word(data: &[u8]) -> Bytes {
    let mut out = b"\n\n".to_vec();
    write(&mut out, data);
    Bytes::from(out)
}

/// A last event with its `event` field.
pub fn last_word_of(kind: &str, data: &[u8]) -> Bytes {
    let mut out = b"\n\n".to_vec();
    write_kind(&mut out, kind, data);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Found by fuzzing.
    #[test]
    fn a_line_feed_that_comes_alone_is_taken_once() {
        let cut = split(&[b"data\r", b"\n", b"\ndata: x\n\n"]);
        assert_eq!(cut, split(&[b"data\r\n\ndata: x\n\n"]));
        assert_eq!(cut.len(), 2);
    }

    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut splitter = Splitter::new(1 << 20);
        let mut events = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, |event| events.push((event.kind.to_vec(), event.data.to_vec())));
        }
        splitter.finish(|event| events.push((event.kind.to_vec(), event.data.to_vec())));
        events
    }

    fn datas(text: &str) -> Vec<String> {
        let events = split(&[text.as_bytes()]);
        events.into_iter().map(|(_, data)| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn the_specification_s_own_cases() {
        assert_eq!(datas("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
        assert_eq!(datas(": comment\n\ndata\n\ndata\ndata\n\ndata:"), ["", "\n", ""]);
        assert_eq!(datas("data:test\n\ndata: test\n\n"), ["test", "test"]);
        assert_eq!(datas("data: a\r\rdata: b\r\n\r\ndata: c\n\n"), ["a", "b", "c"]);
        assert_eq!(datas("\u{feff}data: a\n\n"), ["a"]);
        assert_eq!(datas("id: 1\nretry: 5\nevent: x\n\n"), Vec::<String>::new());
    }

    #[test]
    fn an_event_type_belongs_to_its_event_only() {
        let events = split(&[b"event: error\ndata: 1\n\ndata: 2\n\n"]);
        assert_eq!(events[0].0, b"error");
        assert_eq!(events[1].0, b"");
    }

    #[test]
    fn a_too_large_event_stops_the_splitter() {
        let mut splitter = Splitter::new(16);
        let mut seen = 0;
        splitter.feed(b"data: ok\n\ndata: 0123456789abcdef\n\ndata: later\n\n", |_| seen += 1);
        assert!(splitter.overflowed());
        assert_eq!(seen, 1);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(
            lines in proptest::collection::vec("(data: ?[a-z:]{0,6}|event: x|:c|)(\r\n|\n|\r)", 0..24),
            cuts in proptest::collection::vec(0_usize..200, 0..12),
        ) {
            let text: String = lines.concat();
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut from = 0;
            let mut chunks = Vec::new();
            for cut in cuts {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(split(&chunks), split(&[bytes]));
        }

        #[test]
        fn what_is_written_is_read_back(data in "[^\r\n]{0,40}") {
            let mut out = Vec::new();
            write(&mut out, data.as_bytes());
            prop_assert_eq!(split(&[&out]), vec![(Vec::new(), data.into_bytes())]);
        }
    }
}

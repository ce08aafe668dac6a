//! AWS' event stream encoding, `application/vnd.amazon.eventstream`.
//!
//! Source: Amazon Transcribe developer guide, "Event stream encoding": all numbers big-endian; a
//! prelude of total length, headers' length and the CRC-32 of those eight bytes; headers; payload;
//! the CRC-32 of everything before it. A header is a name (one byte of length), a type, a value;
//! type 7 is a string with two bytes of length.

use super::{Event, State};

/// Total length, headers' length, their checksum.
const PRELUDE: usize = 12;
/// The last checksum.
const TRAILER: usize = 4;
/// A string's type in a header.
const STRING: u8 = 7;

/// Splits a stream into messages. An event's kind is its `:event-type`, an exception's its
/// `:exception-type`.
pub(crate) struct Splitter {
    held: Vec<u8>,
    limit: usize,
    broken: bool,
}

impl Splitter {
    pub(super) fn new(limit: usize) -> Self {
        Self { held: Vec::new(), limit, broken: false }
    }

    pub(super) fn state(&self) -> State {
        match (self.broken, self.held.is_empty()) {
            (true, _) => State::Broken,
            (false, true) => State::Even,
            (false, false) => State::Open,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Event<'_>)) {
        if self.broken {
            return;
        }
        self.held.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(prelude) = self.held.get(from..from + PRELUDE) {
            let total = number(&prelude[..4]) as usize;
            let sound = crc32(&prelude[..8]) == number(&prelude[8..])
                && (PRELUDE + TRAILER..=self.limit).contains(&total);
            if !sound {
                self.broken = true;
                break;
            }
            let Some(message) = self.held.get(from..from + total) else { break };
            match parse(message) {
                Some((kind, data)) => each(Event { kind, data }),
                None => {
                    self.broken = true;
                    break;
                }
            }
            from += total;
        }
        self.held.drain(..from);
    }
}

/// Kind and payload of one message, its checksums checked.
fn parse(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, checksum) = message.split_at_checked(message.len().checked_sub(TRAILER)?)?;
    if crc32(content) != number(checksum) {
        return None;
    }
    let headers_length = number(content.get(4..8)?) as usize;
    let (mut headers, payload) = content.get(PRELUDE..)?.split_at_checked(headers_length)?;
    let mut kind: &[u8] = b"";
    while let Some((length, rest)) = headers.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (value, rest) = header_value(rest)?;
        if name == b":event-type" || name == b":exception-type" || name == b":error-code" {
            kind = value;
        }
        headers = rest;
    }
    Some((kind, payload))
}

/// A header's value, and what follows it.
fn header_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let length = match *kind {
        0 | 1 => 0, // true, false
        2 => 1,     // byte
        3 => 2,     // short
        4 => 4,     // integer
        5 | 8 => 8, // long, timestamp
        9 => 16,    // UUID
        6 | STRING => {
            let (length, rest) = rest.split_at_checked(2)?;
            let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
            return rest.split_at_checked(length);
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Appends one event with a JSON payload.
pub(crate) fn write(out: &mut Vec<u8>, kind: &str, payload: &[u8]) {
    let mut headers = Vec::new();
    let own =
        [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    for (name, value) in own {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(STRING);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let begin = out.len();
    let total = PRELUDE + headers.len() + payload.len() + TRAILER;
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32(&out[begin..]).to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32(&out[begin..]).to_be_bytes());
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// CRC-32 as in Ethernet and zlib (reflected polynomial 0xEDB88320).
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xEDB8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    let step = |crc: u32, byte: &u8| TABLE[((crc ^ u32::from(*byte)) & 0xFF) as usize] ^ crc >> 8;
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}

//! Protobuf's wire format, without a schema: what a message says, field by field, nothing copied.
//!
//! A generated reader skips what it does not know, and a key must not: whoever reads here names the
//! fields that it knows and is refused any other.
//!
//! Source: protobuf.dev, "Encoding".

use std::collections::BTreeMap;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value<'b> {
    /// An integer, a boolean or an enumeration.
    Varint(u64),
    /// Eight bytes.
    Fixed64(&'b [u8]),
    /// A text, bytes, a message, or packed numbers.
    Bytes(&'b [u8]),
    /// Four bytes.
    Fixed32(&'b [u8]),
}

impl<'b> Value<'b> {
    /// The bytes of a delimited field.
    pub(super) const fn bytes(self) -> Option<&'b [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Is it what a field holds that was not sent?
    pub(super) fn is_default(self) -> bool {
        match self {
            Self::Varint(number) => number == 0,
            Self::Fixed64(bytes) | Self::Bytes(bytes) | Self::Fixed32(bytes) => {
                bytes.iter().all(|byte| *byte == 0)
            }
        }
    }
}

/// The fields of a message by number, each with its values in order.
#[derive(Debug, Default)]
pub(super) struct Fields<'b>(BTreeMap<u64, Vec<Value<'b>>>);

impl<'b> Fields<'b> {
    /// All fields, whatever they are; `None` where it is no message.
    pub(super) fn of(mut bytes: &'b [u8]) -> Option<Self> {
        let mut fields: BTreeMap<u64, Vec<Value<'b>>> = BTreeMap::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let value = match tag & 7 {
                0 => Value::Varint(varint(&mut bytes)?),
                1 => Value::Fixed64(take(&mut bytes, 8)?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    Value::Bytes(take(&mut bytes, length)?)
                }
                5 => Value::Fixed32(take(&mut bytes, 4)?),
                _ => return None, // groups: no API of ours has them
            };
            fields.entry(tag >> 3).or_default().push(value);
        }
        Some(Self(fields))
    }

    /// The fields of a message that has none but those up to this number.
    pub(super) fn up_to(bytes: &'b [u8], last: u64) -> Option<Self> {
        Self::of(bytes).filter(|fields| fields.0.keys().all(|number| (1..=last).contains(number)))
    }

    /// Every value of a repeated field.
    pub(super) fn all(&self, number: u64) -> &[Value<'b>] {
        self.0.get(&number).map_or(&[], Vec::as_slice)
    }

    /// Every value of a repeated field of bytes or messages; `None` where one is something else.
    pub(super) fn list(&self, number: u64) -> Option<Vec<&'b [u8]>> {
        self.all(number).iter().map(|value| value.bytes()).collect()
    }

    /// A text, `""` where it was not sent; `None` where it is none, or there are several.
    pub(super) fn text(&self, number: u64) -> Option<&'b str> {
        match self.all(number) {
            [] => Some(""),
            [one] => std::str::from_utf8(one.bytes()?).ok(),
            _ => None,
        }
    }

    /// The numbers of the fields that are there.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for at in 0..10_u32 {
        let [byte] = take(bytes, 1)? else { return None };
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if at == 9 && part > 1 {
            return None;
        }
        number |= part << (7 * at);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Sample {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(uint64, tag = "2")]
        count: u64,
        #[prost(bytes, repeated, tag = "3")]
        raw: Vec<Vec<u8>>,
        #[prost(double, tag = "16")]
        share: f64,
        #[prost(float, tag = "17")]
        part: f32,
    }

    proptest::proptest! {
        #[test]
        fn what_prost_writes_is_read(
            name in ".{0,9}",
            count in proptest::num::u64::ANY,
            raw in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..200), 0..4),
        ) {
            let sample = Sample { name, count, raw, share: 0.5, part: 0.25 };
            let bytes = sample.encode_to_vec();
            let fields = Fields::of(&bytes).unwrap();
            assert_eq!(fields.text(1), Some(&*sample.name));
            let count = fields.all(2).first().copied().unwrap_or(Value::Varint(0));
            assert_eq!(count, Value::Varint(sample.count));
            assert_eq!(fields.list(3).unwrap(), sample.raw);
            assert_eq!(fields.all(16), [Value::Fixed64(&0.5_f64.to_le_bytes())]);
            assert_eq!(fields.all(17), [Value::Fixed32(&0.25_f32.to_le_bytes())]);
            assert!(Fields::up_to(&bytes, 17).is_some() && Fields::up_to(&bytes, 16).is_none());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0_u8.., 0..60)) {
            if let Some(fields) = Fields::of(&bytes) {
                assert!(fields.numbers().count() <= bytes.len());
            }
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [&b"\x08"[..], b"\x0a\x05abc", b"\x0b\x0c", b"\x09abc", b"\x0d", &[0xff; 12]] {
            assert!(Fields::of(bad).is_none(), "{bad:?}");
        }
        let twice = b"\x0a\x01a\x0a\x01b";
        assert_eq!(Fields::of(twice).unwrap().text(1), None, "several");
        assert_eq!(Fields::of(b"\x08\x01").unwrap().text(1), None, "a number");
        assert_eq!(Fields::of(b"\x0a\x01\xff").unwrap().text(1), None, "no UTF-8");
        assert_eq!(Fields::of(b"").unwrap().text(1), Some(""));
    }
}

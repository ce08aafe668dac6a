//! The id that ties a client's log to ours.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::line::Line;

/// The header that carries it, both ways.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ones are not ids but an attempt to fill our logs.
const MAX_LEN: usize = 128;

/// A request's id: the client's own, or 32 lower-case hex digits. Printable ASCII without spaces or
/// quotes, so it can stand in any log and any header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Text);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    /// 32 digits of ours: no allocation of their own.
    Made([u8; 32]),
    Given(Arc<str>),
}

impl RequestId {
    /// The header that carries it, both ways.
    pub const HEADER: HeaderName = HEADER;

    /// The id's text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Made(digits) => str::from_utf8(digits).unwrap_or_default(),
            Text::Given(text) => text,
        }
    }

    /// The id as a header's value.
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(self.as_str()).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Makes ids: unique within the process by construction (a bijection of a counter), and among
/// processes by 128 random bits at start. Asking the kernel for each would cost a system call.
pub(super) struct RequestIds {
    seeds: [u64; 2],
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        Self { seeds: [random(), random()], next: AtomicU64::new(0) }
    }

    pub(super) fn of(&self, headers: &HeaderMap) -> RequestId {
        let mut given = headers.get_all(HEADER).iter();
        let first = given.next().and_then(|value| value.to_str().ok()).filter(|id| sane(id));
        match (first, given.next()) {
            (Some(id), None) => RequestId(Text::Given(id.into())),
            _ => self.fresh(),
        }
    }

    fn fresh(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = self.seeds.map(|seed| mix(seed.wrapping_add(count)));
        let number = (u128::from(high) << 64) | u128::from(low);
        let mut digits = [0; 32];
        digits.copy_from_slice(Line::of_hex(&number.to_be_bytes()).as_bytes());
        RequestId(Text::Made(digits))
    }
}

fn sane(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@,".contains(&byte);
    !id.is_empty() && id.len() <= MAX_LEN && id.bytes().all(allowed)
}

/// 64 random bits of the kernel's.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| clock_nanos())
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection on 64 bits.
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Where the kernel has no randomness to give: still different from one start to the next.
fn clock_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (HEADER, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_clients_id_is_kept() {
        let ids = RequestIds::new();
        assert_eq!(ids.of(&headers(&["req_01J-a.b:7"])).as_str(), "req_01J-a.b:7");
    }

    #[test]
    fn what_is_no_id_is_replaced() {
        let ids = RequestIds::new();
        let long: &'static str = Box::leak("x".repeat(129).into_boxed_str());
        for bad in ["", "two words", "quo\"te", long] {
            let id = ids.of(&headers(&[bad]));
            assert_eq!(id.as_str().len(), 32, "for {bad:?}");
            assert!(id.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        // Two of them: neither can be trusted to be the one that the client logged.
        assert_eq!(ids.of(&headers(&["one", "two"])).as_str().len(), 32);
        assert_eq!(ids.of(&HeaderMap::new()).as_str().len(), 32);
    }

    #[test]
    fn fresh_ids_never_repeat() {
        let ids = RequestIds::new();
        let seen: HashSet<_> = (0..10_000).map(|_| ids.fresh().as_str().to_owned()).collect();
        assert_eq!(seen.len(), 10_000);
        assert_ne!(ids.fresh(), RequestIds::new().fresh());
    }

    #[test]
    fn an_id_can_be_sent_as_a_header() {
        let ids = RequestIds::new();
        let id = ids.fresh();
        assert_eq!(id.to_header(), id.as_str());
    }
}

//! Sending prompts that begin alike to the same replica, whose KV cache then holds the beginning.

/// Bytes of a prompt that decide: about 256 tokens, what SGLang's `prefix_hash` takes. Longer ones
/// would tell conversations apart whose shared beginning is what the cache is for.
const PREFIX_BYTES: usize = 1024;

/// Places of each replica on the ring: enough that shares differ by a tenth or so.
const POINTS: u32 = 128;

/// How a prompt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(u64);

impl Prefix {
    /// Of a prompt in its parts, system prompt first, in the order in which the model reads them.
    /// All of the first part is not enough: it is often one system prompt for everybody.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = blake3::Hasher::new();
        let mut left = PREFIX_BYTES;
        for part in parts {
            let taken = &part[..part.len().min(left)];
            hash.update(taken);
            left -= taken.len();
            if left == 0 {
                break;
            }
        }
        Self(first_eight(hash.finalize().as_bytes()))
    }
}

/// A consistent-hash ring over replicas, by their URLs: the same in each process, and a replica
/// more moves only its own share of prompts.
#[derive(Debug)]
pub(super) struct Ring {
    /// (place, replica), by place.
    points: Vec<(u64, usize)>,
}

impl Ring {
    pub(super) fn new<'a>(urls: impl IntoIterator<Item = &'a str>) -> Self {
        let mut points = Vec::new();
        for (replica, url) in urls.into_iter().enumerate() {
            for point in 0..POINTS {
                let place = blake3::hash(format!("{url} {point}").as_bytes());
                points.push((first_eight(place.as_bytes()), replica));
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// Replicas in this prefix's order of preference. Each comes up many times.
    pub(super) fn walk(&self, prefix: Prefix) -> impl Iterator<Item = usize> {
        let first = self.points.partition_point(|(place, _)| *place < prefix.0);
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(|(_, replica)| *replica)
    }
}

fn first_eight(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

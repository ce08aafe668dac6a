//! BLAKE3 over a list of pieces, framed so that no two lists feed the same bytes.

/// What most lists fit into as a whole. One call over all of it takes half the instructions of a call for
/// each piece.
const ROOM: usize = 512;

/// A hash of pieces that is not finished yet.
pub struct Frames {
    key: Option<[u8; 32]>,
    waiting: [u8; ROOM],
    filled: usize,
    /// What did not fit. Boxed: it is 1.9 KB, and most lists never need it.
    overflow: Option<Box<blake3::Hasher>>,
}

impl Default for Frames {
    fn default() -> Self {
        Self { key: None, waiting: [0; ROOM], filled: 0, overflow: None }
    }
}

impl Frames {
    /// Of which nobody without the key can make the same.
    pub fn keyed(key: [u8; 32]) -> Self {
        Self { key: Some(key), ..Self::default() }
    }

    /// Feeds a piece: its length, then its bytes.
    pub fn piece(&mut self, content: &[u8]) {
        self.feed(&(content.len() as u64).to_le_bytes());
        self.feed(content);
    }

    /// Feeds a piece of a kind: its tag, then as [`Frames::piece`].
    pub fn tagged(&mut self, tag: u8, content: &[u8]) {
        self.feed(&[tag]);
        self.piece(content);
    }

    /// The hash of everything fed.
    pub fn finish(mut self) -> blake3::Hash {
        let waiting = self.waiting.get(..self.filled).unwrap_or_default();
        match (&mut self.overflow, &self.key) {
            (Some(hasher), _) => hasher.update(waiting).finalize(),
            (None, Some(key)) => blake3::keyed_hash(key, waiting),
            (None, None) => blake3::hash(waiting),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if let Some(room) = self.waiting.get_mut(self.filled..self.filled + bytes.len()) {
            room.copy_from_slice(bytes);
            self.filled += bytes.len();
            return;
        }
        let key = &self.key;
        let hasher = self.overflow.get_or_insert_with(|| {
            Box::new(key.as_ref().map_or_else(blake3::Hasher::new, blake3::Hasher::new_keyed))
        });
        hasher.update(self.waiting.get(..self.filled).unwrap_or_default()).update(bytes);
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plainly(hasher: &mut blake3::Hasher, pieces: &[(Option<u8>, Vec<u8>)]) -> blake3::Hash {
        for (tag, content) in pieces {
            hasher.update(tag.as_slice());
            hasher.update(&(content.len() as u64).to_le_bytes());
            hasher.update(content);
        }
        hasher.finalize()
    }

    #[test]
    fn the_room_may_be_filled_to_the_last_byte_and_passed_by_one() {
        for length in [ROOM - 9, ROOM - 8, ROOM - 7, ROOM - 1, ROOM, ROOM + 1] {
            let piece = (None, vec![7; length]);
            let mut frames = Frames::default();
            frames.piece(&piece.1);
            frames.piece(b"more");
            let pieces = [piece, (None, b"more".to_vec())];
            assert_eq!(frames.finish(), plainly(&mut blake3::Hasher::new(), &pieces), "{length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_fits_or_not_is_hashed_as_one_text(
            pieces in proptest::collection::vec(
                (any::<Option<u8>>(), proptest::collection::vec(any::<u8>(), 0..600)),
                0..12,
            ),
            key in any::<[u8; 32]>(),
        ) {
            let mut open = Frames::default();
            let mut keyed = Frames::keyed(key);
            for (tag, content) in &pieces {
                for frames in [&mut open, &mut keyed] {
                    match tag {
                        Some(tag) => frames.tagged(*tag, content),
                        None => frames.piece(content),
                    }
                }
            }
            prop_assert_eq!(open.finish(), plainly(&mut blake3::Hasher::new(), &pieces));
            prop_assert_eq!(keyed.finish(), plainly(&mut blake3::Hasher::new_keyed(&key), &pieces));
        }
    }
}

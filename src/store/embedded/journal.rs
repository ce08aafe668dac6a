//! The append-only file that makes a `put` survive the death of the process.
//!
//! Edge keeps fresh changes in memory-mapped files that are only consistent after a flush, and its
//! own log is not replayed when a shard is opened. So each change is written here first, replayed
//! at the next open (every change is idempotent), and forgotten once a flush has covered it.
//!
//! A `write(2)` outlives the process, not the machine: after a power cut the changes since the last
//! flush may be gone. For a cache that is the right price for not waiting on the disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Read, Write},
    path::Path,
};

use super::change::Change;
use crate::store::StoreFault;

/// Length (u32, little endian) and the first 8 bytes of the body's BLAKE3.
const HEAD_BYTES: usize = 12;

/// A longer frame cannot have been written by us: its length field is damaged.
const FRAME_MAX_BYTES: u32 = 256 << 20;

/// The journal of one collection; only the writer thread holds it.
pub(super) struct Journal {
    file: File,
    /// Bytes of whole frames.
    len: u64,
    /// Whether bytes of a failed write may follow `len`: they must go before anything is appended,
    /// or a replay would stop at them and lose what follows.
    torn: bool,
}

impl Journal {
    /// Opens or creates the journal at `path` and hands every whole change in it to `replay`, oldest
    /// first. What follows the first damaged frame is cut off: it was never acknowledged.
    pub(super) fn open(
        path: &Path,
        mut replay: impl FnMut(Change) -> Result<(), StoreFault>,
    ) -> Result<Self, StoreFault> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path);
        let mut journal = Self { file: file.map_err(fault)?, len: 0, torn: false };
        let mut reader = BufReader::new(journal.file.try_clone().map_err(fault)?);
        while let Some((change, bytes)) = read_frame(&mut reader).map_err(fault)? {
            replay(change)?;
            journal.len += bytes;
        }
        let found = journal.file.metadata().map_err(fault)?.len();
        if found > journal.len {
            let cut = found - journal.len;
            tracing::warn!(journal = %path.display(), cut, "cut a torn tail off the store's journal");
            journal.torn = true;
            journal.mend().map_err(fault)?;
        }
        Ok(journal)
    }

    /// Bytes that a replay would read.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Writes the frames of `changes` in one go; after an error none of them is in the journal.
    pub(super) fn append(&mut self, changes: &[Change]) -> Result<(), StoreFault> {
        self.mend().map_err(fault)?;
        let mut frames = Vec::new();
        for change in changes {
            frame(change, &mut frames).map_err(fault)?;
        }
        self.torn = true;
        if let Err(error) = self.file.write_all(&frames) {
            // The write's own error is the one to tell; if cutting fails too, the next append tries.
            self.mend().ok();
            return Err(fault(error));
        }
        self.torn = false;
        self.len += frames.len() as u64;
        Ok(())
    }

    /// Takes back what was appended after the journal was `len` bytes long.
    pub(super) fn cut_to(&mut self, len: u64) -> Result<(), StoreFault> {
        self.len = self.len.min(len);
        self.torn = true;
        self.mend().map_err(fault)
    }

    /// Waits until the journal is on the disk itself.
    pub(super) fn sync(&self) -> Result<(), StoreFault> {
        self.file.sync_data().map_err(fault)
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        Ok(())
    }
}

/// A full disk has a name of its own: it passes.
fn fault(error: io::Error) -> StoreFault {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => StoreFault::Full(error.to_string()),
        _ => StoreFault::Failed(format!("the journal: {error}")),
    }
}

fn frame(change: &Change, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    change.encode(out);
    let body = &out[start + HEAD_BYTES..];
    let len = u32::try_from(body.len()).ok().filter(|len| *len <= FRAME_MAX_BYTES);
    let Some(len) = len else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record is too large"));
    };
    let sum = checksum(body);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + HEAD_BYTES].copy_from_slice(&sum);
    Ok(())
}

/// The next change and its frame's length, or `None` at the end or at the first damaged frame.
fn read_frame(reader: &mut impl Read) -> io::Result<Option<(Change, u64)>> {
    let mut head = [0; HEAD_BYTES];
    if !filled(reader, &mut head)? {
        return Ok(None);
    }
    let [a, b, c, d, sum @ ..] = head;
    let len = u32::from_le_bytes([a, b, c, d]);
    if len > FRAME_MAX_BYTES {
        return Ok(None);
    }
    let mut body = Vec::new();
    reader.take(u64::from(len)).read_to_end(&mut body)?;
    if body.len() != len as usize || checksum(&body) != sum {
        return Ok(None);
    }
    let bytes = (HEAD_BYTES + body.len()) as u64;
    Ok(Change::decode(&body).map(|change| (change, bytes)))
}

/// Fills `buffer`, or says `false` where the file ends first.
fn filled(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::EntryId;

    fn replayed(path: &Path) -> (Journal, Vec<Change>) {
        let mut changes = Vec::new();
        let journal = Journal::open(path, |change| {
            changes.push(change);
            Ok(())
        })
        .unwrap();
        (journal, changes)
    }

    fn deletion(ids: std::ops::Range<u128>) -> Change {
        Change::Delete(ids.map(EntryId).collect())
    }

    proptest! {
        /// Wherever the process dies inside a write, whole frames come back and nothing else does.
        #[test]
        fn a_cut_anywhere_keeps_exactly_the_whole_frames(
            counts in prop::collection::vec(0_u128..5, 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            let mut ends = vec![0];
            let (mut journal, _) = replayed(&path);
            for count in &counts {
                journal.append(&[deletion(0..*count)]).unwrap();
                ends.push(journal.len());
            }
            let cut = cut.index(journal.len() as usize + 1) as u64;
            journal.file.set_len(cut).unwrap();
            drop(journal);

            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let (journal, changes) = replayed(&path);
            prop_assert_eq!(changes.len(), whole);
            prop_assert_eq!(journal.file.metadata().unwrap().len(), ends[whole]);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_replay_and_appending_goes_on_behind_the_last_whole_frame() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = replayed(&path);
        journal.append(&[deletion(0..1)]).unwrap();
        let first = journal.len() as usize;
        journal.append(&[deletion(0..2), deletion(0..3)]).unwrap();
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[first + HEAD_BYTES + 3] ^= 1;
        std::fs::write(&path, bytes).unwrap();

        let (mut journal, changes) = replayed(&path);
        assert_eq!(changes, [deletion(0..1)]);
        journal.append(&[deletion(5..6)]).unwrap();
        drop(journal);
        assert_eq!(replayed(&path).1, [deletion(0..1), deletion(5..6)]);
    }

    #[test]
    fn what_is_cut_is_not_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = replayed(&path);
        journal.append(&[deletion(0..1)]).unwrap();
        let kept = journal.len();
        journal.append(&[deletion(0..2)]).unwrap();
        journal.cut_to(kept).unwrap();
        journal.append(&[deletion(0..3)]).unwrap();
        assert_eq!(replayed(&path).1, [deletion(0..1), deletion(0..3)]);
        journal.cut_to(0).unwrap();
        assert!(replayed(&path).1.is_empty());
    }

    /// `/dev/full` refuses each write as a full disk does.
    #[test]
    fn a_full_disk_is_an_error_that_says_so() {
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut journal = Journal { file, len: 0, torn: false };
        let error = journal.append(&[deletion(0..1)]).unwrap_err();
        assert!(matches!(error, StoreFault::Full(_)), "{error}");
        assert_eq!(journal.len(), 0);
    }
}

//! How much disk there is and how much of it the store takes.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use crate::store::StoreFault;

/// Free space that the store never touches. Edge writes through sparse memory-mapped files: a page
/// that the disk has no room for is not an error there but a SIGBUS, the end of the process.
const RESERVE_BYTES: u64 = 128 << 20;

/// Whether `bytes` of disk can be taken below `dir` without touching the reserve.
pub(super) fn check(dir: &Path, bytes: u64) -> Result<(), StoreFault> {
    let wanted = RESERVE_BYTES.saturating_add(bytes);
    match free(dir) {
        Some(free) if free < wanted => {
            let (free, dir) = (free >> 20, dir.display());
            Err(StoreFault::Full(format!("only {free} MiB are free for `{dir}`")))
        }
        _ => Ok(()),
    }
}

/// Bytes that an unprivileged process may still write, where the file system says so.
fn free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes of disk that everything below `dir` takes: blocks, not lengths, for most of Edge's files are
/// sparse. What vanishes meanwhile counts as nothing.
pub(super) fn taken(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => taken(&entry.path()),
        // POSIX counts in units of 512 bytes, whatever the file system's block is.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_disk_is_full() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(check(dir.path(), u64::MAX), Err(StoreFault::Full(_))));
    }

    #[test]
    fn holes_take_nothing_and_folders_are_walked() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        fs::write(dir.path().join("below/file"), vec![7; 1 << 20]).unwrap();
        fs::File::open(dir.path().join("below/file")).unwrap().sync_all().unwrap();
        let taken = taken(dir.path());
        assert!((1 << 20..2 << 20).contains(&taken), "{taken}");
    }
}

//! Keeps Edge's own write-ahead logs small.
//!
//! Edge appends every change to a log of `closed-N` files and one `open-N`, and never shortens it:
//! each answer would stay on disk twice, and each open would read all of it. A flush has made the
//! closed files useless except for the newest, whose first index and length give the next change its
//! number. (Numbers must keep growing: Edge ignores a change that is older than the point it meets.)

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

/// Deletes the closed files of the log in `dir` except the newest. Only right after a flush, or
/// before the shard is opened. Failing is harmless: the next flush tries again.
pub(super) fn trim(dir: &Path) {
    let mut closed = closed_files(dir);
    closed.sort_unstable();
    closed.pop();
    for (_, path) in closed {
        // The running shard keeps the file mapped, and a mapped file keeps its blocks after the last
        // name is gone. Holes are legal to read, so nothing can break on them (a truncated file
        // would kill the process at the first touch).
        if let Ok(file) = File::options().write(true).open(&path)
            && let Ok(metadata) = file.metadata()
        {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&file, flags, 0, metadata.len()).ok();
        }
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(%error, path = %path.display(), "a covered log file stays");
        }
    }
}

/// The closed files with the index of their first change.
fn closed_files(dir: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let name = entry.file_name();
        let first = name.to_str()?.strip_prefix("closed-")?.parse().ok()?;
        Some((first, entry.path()))
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_closed_file_and_the_open_one_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["closed-0", "closed-90", "closed-1000", "open-7", "first-index"] {
            fs::write(dir.path().join(name), b"entries").unwrap();
        }
        trim(dir.path());
        let left = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["closed-1000", "first-index", "open-7"]);
    }

    #[test]
    fn a_log_that_is_not_there_yet_is_fine() {
        trim(Path::new("/nowhere/at/all"));
    }
}

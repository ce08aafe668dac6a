//! One folder a collection: its name, its lock, and what happens when it cannot be opened.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    journal::Journal,
    shard::{Layout, guarded},
    shards::Shards,
};
use crate::{embed::Identity, store::StoreFault};

/// So many changes are replayed at once.
const REPLAY_BATCH: usize = 256;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has this collection open.
    #[error("another process has the store at `{}` open", .0.display())]
    Locked(PathBuf),
    /// The folder cannot be made, read or written.
    #[error("the store's folder `{}` cannot be used: {source}", path.display())]
    Folder {
        /// Which folder or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The files are there, but something about this machine keeps them from being opened.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] StoreFault),
}

/// An opened collection.
pub(super) struct Loaded {
    pub(super) shards: Shards,
    pub(super) journal: Journal,
}

/// A claimed folder. The claim ends when this is dropped.
pub(super) struct Collection {
    /// The folder's name.
    pub(super) name: String,
    /// The folder itself.
    pub(super) dir: PathBuf,
    /// Held, never read: the operating system frees the lock however the process ends.
    _lock: File,
}

impl Collection {
    /// Makes the folder of `identity`'s collection under `path` and locks it.
    pub(super) fn claim(path: &Path, identity: &Identity) -> Result<Self, OpenError> {
        let name = crate::store::collection::Collection::of("", identity).name;
        let dir = path.join(&name);
        fs::create_dir_all(&dir).map_err(|source| unusable(&dir, source))?;
        // Beside the folder, not in it: the lock stays when a corrupt folder is moved away.
        let lock_path = path.join(format!("{name}.lock"));
        let lock = File::options().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(|source| unusable(&lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir)),
            Err(TryLockError::Error(source)) => return Err(unusable(&lock_path, source)),
        }
        tell_of_others(path, &name);
        Ok(Self { name, dir, _lock: lock })
    }

    /// Opens the shards. A collection that does not open is moved aside, never deleted, and a fresh
    /// one is opened; the second value then says where the old one went, or what is missing in this one.
    pub(super) fn open(&self, layout: Layout) -> Result<(Loaded, Option<String>), OpenError> {
        let fault = match self.load(layout) {
            Ok(loaded) => {
                let notice = tell_of_lost(&loaded.shards);
                return Ok((loaded, notice));
            }
            Err(fault) if is_of_the_machine(&fault) => return Err(fault.into()),
            Err(fault) => fault,
        };
        let aside = self.set_aside().map_err(|source| unusable(&self.dir, source))?;
        let notice = format!("a corrupt store was set aside as `{}`: {fault}", aside.display());
        tracing::error!(aside = %aside.display(), %fault, "a corrupt store was set aside");
        Ok((self.load(layout)?, Some(notice)))
    }

    /// Opens the shards and brings them up to the journal's end.
    pub(super) fn load(&self, layout: Layout) -> Result<Loaded, StoreFault> {
        let shards = Shards::open(&self.dir, layout)?;
        match replay(&self.dir.join("journal"), &shards) {
            Ok(journal) => Ok(Loaded { shards, journal }),
            Err(fault) => {
                shards.close();
                Err(fault)
            }
        }
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let free = (now..).map(|second| self.dir.with_extension(format!("corrupt-{second}")));
        let aside = free.into_iter().find(|path| !path.exists()).unwrap_or_default();
        fs::rename(&self.dir, &aside)?;
        fs::create_dir_all(&self.dir)?;
        Ok(aside)
    }
}

/// What is missing in a store that opened.
fn tell_of_lost(shards: &Shards) -> Option<String> {
    match guarded("comparing", || shards.drop_bereft()) {
        Ok(0) => None,
        Ok(lost) => {
            let notice = format!(
                "answers lost by a damaged file or a power cut: at least {lost}; the others are served"
            );
            tracing::error!(notice, "the store is not whole");
            Some(notice)
        }
        // It opened: what cannot be compared may still be served.
        Err(fault) => {
            tracing::warn!(%fault, "the store's vectors could not be compared with its answers");
            None
        }
    }
}

/// Replays in batches: a change alone costs Edge several times its share of a batch.
fn replay(path: &Path, shards: &Shards) -> Result<Journal, StoreFault> {
    let mut waiting = Vec::new();
    let journal = Journal::open(path, |change| {
        waiting.push(change);
        if waiting.len() < REPLAY_BATCH {
            return Ok(());
        }
        shards.apply(&std::mem::take(&mut waiting))
    })?;
    shards.apply(&waiting)?;
    Ok(journal)
}

/// Names of the other collections in the folder of `collection`.
pub(super) fn others(path: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours =
        |other: &String| *other != name && other.starts_with('v') && !other.contains(".corrupt-");
    names.filter(ours).collect()
}

fn tell_of_others(path: &Path, name: &str) {
    for other in others(path, name) {
        tracing::info!(
            other,
            using = name,
            "the store's folder also holds a collection of another embedder or an older schema, which is \
             left alone: `reprise export` of the build that wrote it and `import` take it over"
        );
    }
}

/// Faults that say nothing about the files: moving a healthy store away would throw it out.
/// Edge hands errors on as texts, so the system's error number is all there is to go by: 12 memory,
/// 13 permission, 23 and 24 too many files, 28 disk full, 30 read-only.
fn is_of_the_machine(fault: &StoreFault) -> bool {
    let text = fault.to_string();
    [12, 13, 23, 24, 28, 30].iter().any(|number| text.contains(&format!("(os error {number})")))
}

fn unusable(path: &Path, source: io::Error) -> OpenError {
    OpenError::Folder { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_taken_for_corruption() {
        let full = StoreFault::Failed("write: No space left on device (os error 28)".into());
        assert!(is_of_the_machine(&full));
        assert!(!is_of_the_machine(&StoreFault::Failed("bad magic (os error 2)".into())));
    }
}

//! Answers out of a store, into a file.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write},
    path::Path,
};

use super::{
    Depot, Moved, TransferFault,
    line::{Head, Line},
};
use crate::{
    cache::entry::now_ms,
    store::{EntryId, Holding, Selector},
};

impl Depot {
    /// Writes every answer to `path` (`-`: stdout). A file that is there is gone on with. `tell` hears
    /// how many of how many are done.
    ///
    /// # Errors
    /// The store's, the file's.
    pub async fn export(
        &self,
        path: &Path,
        mut tell: impl FnMut(u64, u64),
    ) -> Result<Moved, TransferFault> {
        let failed = |source| TransferFault::File { path: path.display().to_string(), source };
        let (mut out, there) = self.begin(path)?;
        // Keys that were learned for an answer have answers of their own for exact repeats.
        let held = self.store.holdings(Selector::All).await?;
        let (mut moved, now) = (Moved::default(), now_ms());
        for (done, Holding { id, .. }) in held.iter().enumerate() {
            tell(done as u64, held.len() as u64);
            if there.contains(id) {
                moved.already += 1;
                continue;
            }
            let Some(record) = self.store.get(*id).await? else { continue };
            if record.expires_ms <= now {
                moved.expired += 1;
                continue;
            }
            let mut line = serde_json::to_vec(&Line::of(record))
                .map_err(|error| failed(io::Error::other(error)))?;
            line.push(b'\n');
            out.write_all(&line).map_err(failed)?;
            moved.moved += 1;
        }
        out.flush().map_err(failed)?;
        Ok(moved)
    }

    /// The file behind its last whole line, and the answers in it.
    fn begin(&self, path: &Path) -> Result<(Box<dyn Write>, HashSet<EntryId>), TransferFault> {
        let failed = |source| TransferFault::File { path: path.display().to_string(), source };
        let head = self.head();
        let mut first = serde_json::to_vec(&head).map_err(|error| failed(error.into()))?;
        first.push(b'\n');
        if path == Path::new("-") {
            let mut out = io::stdout();
            out.write_all(&first).map_err(failed)?;
            return Ok((Box::new(out), HashSet::new()));
        }
        let opened =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let mut file = opened.map_err(failed)?;
        let (mut there, mut whole) = (HashSet::new(), 0);
        let mut lines = BufReader::new(&file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 && line.ends_with(b"\n") {
            if whole == 0 {
                if serde_json::from_slice::<Head>(&line).ok().as_ref() != Some(&head) {
                    let reason = "is no export of this store's collection: name another file";
                    return Err(failed(io::Error::other(reason)));
                }
            } else if let Ok(line) = serde_json::from_slice::<Line>(&line) {
                there.insert(line.id);
            }
            whole += line.len() as u64;
            line.clear();
        }
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        if whole == 0 {
            file.write_all(&first).map_err(failed)?;
        }
        Ok((Box::new(BufWriter::new(file)), there))
    }
}

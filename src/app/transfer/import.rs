//! Answers out of a file, into a store.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use super::{
    Depot, Moved, TransferFault,
    line::{FORMAT, Head, Line},
};
use crate::{
    cache::{entry::now_ms, guards::Veil, wording},
    embed::Embedded,
    store::Record,
};

/// Answers of one write.
const BATCH: usize = 64;

impl Depot {
    /// Reads the answers of `path` into the store. Those that are there already, and as new, are left
    /// alone, so that running it again goes on where it stopped.
    ///
    /// # Errors
    /// The store's, the file's.
    pub async fn import(
        &self,
        path: &Path,
        mut tell: impl FnMut(u64, u64),
    ) -> Result<Moved, TransferFault> {
        let name = path.display().to_string();
        let failed = |source| TransferFault::File { path: name.clone(), source };
        let wrong = |line, reason| TransferFault::Line { path: name.clone(), line, reason };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let mut lines = BufReader::new(file).lines();
        let head = lines.next().transpose().map_err(failed)?.unwrap_or_default();
        let head: Head = serde_json::from_str(&head)
            .map_err(|error| wrong(1, format!("no export of reprise: {error}")))?;
        if head.reprise_export != FORMAT {
            return Err(wrong(1, format!("format {}, expected {FORMAT}", head.reprise_export)));
        }
        let same = head == self.head();
        let (mut moved, mut read, mut batch) = (Moved::default(), 0, Vec::new());
        for (index, line) in lines.enumerate() {
            let line = line.map_err(failed)?;
            read += line.len() as u64 + 1;
            tell(read, bytes);
            let parsed = serde_json::from_str::<Line>(&line).map_err(|error| error.to_string());
            let record = parsed.and_then(|line| line.record(head.dimension));
            let record = record.map_err(|reason| wrong(index + 2, reason))?;
            if let Some(record) = self.wanted(record, same, &mut moved).await? {
                batch.push(record);
            }
            if batch.len() >= BATCH {
                self.put(std::mem::take(&mut batch), &mut moved).await?;
            }
        }
        self.put(batch, &mut moved).await?;
        self.store.flush().await?;
        Ok(moved)
    }

    async fn wanted(
        &self,
        record: Record,
        same: bool,
        moved: &mut Moved,
    ) -> Result<Option<Record>, TransferFault> {
        if record.expires_ms <= now_ms() {
            moved.expired += 1;
            return Ok(None);
        }
        let there = self.store.get(record.id).await?;
        if there.is_some_and(|there| there.generated_ms >= record.generated_ms) {
            moved.already += 1;
            return Ok(None);
        }
        let record = self.of_our_model(record, same, moved).await;
        Ok(Some(match &self.veil {
            Some(veil) => wording::covered(veil, record),
            None => record,
        }))
    }

    async fn of_our_model(&self, record: Record, same: bool, moved: &mut Moved) -> Record {
        if same || record.vector.is_none() {
            return record;
        }
        if Veil::is_covered(&record.question) {
            // There is no text to embed: it is found by its exact request alone.
            return Record { vector: None, ..record };
        }
        // Vectors of two models never meet: this one's text gets one of ours.
        let vector = match self.embedder.embed(record.question.clone()).await {
            Ok(Embedded::Vector(vector)) => {
                moved.embedded += 1;
                Some(vector)
            }
            // Then it is found by its exact request alone.
            Ok(Embedded::BeyondWindow { .. } | Embedded::UnknownWords { .. }) | Err(_) => None,
        };
        Record { vector, ..record }
    }

    async fn put(&self, mut batch: Vec<Record>, moved: &mut Moved) -> Result<(), TransferFault> {
        let limit = self.store.payload_max_bytes();
        let all = batch.len();
        batch.retain(|record| record.payload.len() <= limit);
        moved.refused += (all - batch.len()) as u64;
        let count = batch.len() as u64;
        if count > 0 {
            self.store.put(batch).await?;
        }
        moved.moved += count;
        Ok(())
    }
}

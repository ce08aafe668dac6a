//! What must outlive the process: kept answers, and what was learned of them.

use super::Cache;
use crate::store::StoreFault;

impl Cache {
    /// Writes down what was learned about near questions, and what answers were worth.
    ///
    /// # Errors
    /// The file system's.
    pub fn save_learned(&self) -> std::io::Result<()> {
        let worth = self.worth.as_ref().map_or(Ok(()), |worth| worth.save());
        self.namespaces.save().and(worth)
    }

    /// Makes every kept answer durable, and leaves what was learned to replicas that begin later.
    ///
    /// # Errors
    /// The store's.
    pub async fn flush(&self) -> Result<(), StoreFault> {
        if let Some(writer) = &self.writer {
            writer.flush().await?;
        }
        match &self.replicas {
            Some(replicas) => {
                replicas.tell_lessons().await?;
                replicas.publish().await
            }
            None => Ok(()),
        }
    }
}

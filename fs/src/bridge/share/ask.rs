//! What the shared index is asked, each question within a moment: who asks has an index of this machine's own.

use super::{Share, error_line};
use notefs_indexer::{Entity, Hit, Index, SharedError, SharedIndex};
use std::time::Duration;

/// How long a question waits for it.
const ANSWER_WAIT_MS: u64 = 2_000;

impl Share {
    /// Notes that the shared index finds, best first, if it answers in time.
    pub(crate) fn search(&self, query: &str, limit: usize) -> Result<Vec<Hit>, String> {
        self.ask(async |database| database.search(query, limit, 0).await)
    }

    /// Its tags, and how many notes have each.
    pub(crate) fn tags(&self) -> Result<Vec<(String, u64)>, String> {
        self.ask(async |database| database.tags().await)
    }

    /// The notes below a folder that were changed last.
    pub(crate) fn recent(&self, below: &[u8], limit: usize) -> Result<Vec<Entity>, String> {
        self.ask(async |database| database.recent(below, limit).await)
    }

    /// An index that knows the links and backlinks of one note.
    pub(crate) fn around(&self, path: &[u8]) -> Result<Index, String> {
        let changes = self.ask(async |database| database.around(path).await)?;
        Index::of(changes).map_err(|error| error.to_string().replace("\n\n", ". "))
    }

    fn ask<T>(&self, question: impl AsyncFnOnce(&SharedIndex) -> Result<T, SharedError>) -> Result<T, String> {
        let inner = &self.inner;
        let answer = async { question(inner.database().await?).await };
        let wait = Duration::from_millis(ANSWER_WAIT_MS);
        let answer = inner
            .runtime
            .block_on(async { tokio::time::timeout(wait, answer).await });
        match answer {
            Ok(answer) => answer.map_err(error_line),
            Err(_) => Err(format!(
                "The shared index {} did not answer within {} s",
                inner.address,
                ANSWER_WAIT_MS / 1_000
            )),
        }
    }
}

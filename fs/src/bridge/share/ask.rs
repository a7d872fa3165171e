//! What the shared index is asked, each question within a moment: who asks has an index of this machine's own.

use super::{Share, error_line};
use notefs_indexer::{Entity, Hit, Index, SharedError, SharedIndex};
use std::time::{Duration, Instant};

/// How long a question waits for it.
const ANSWER_WAIT_MS: u64 = 2_000;

/// For how long after a question without an answer others are not asked: a folder of `.notefs` asks hundreds, one after the other.
const UNANSWERED_PAUSE_MS: u64 = 5_000;

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
        if let Some((since, error)) = &inner.state.lock().unanswered
            && since.elapsed() < Duration::from_millis(UNANSWERED_PAUSE_MS)
        {
            return Err(error.clone());
        }
        let answer = async { question(inner.database().await?).await };
        let wait = Duration::from_millis(ANSWER_WAIT_MS);
        let answer = inner
            .runtime
            .block_on(async { tokio::time::timeout(wait, answer).await });
        let (away, error) = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => (error.away(), error_line(error)),
            Err(_) => {
                let seconds = ANSWER_WAIT_MS / 1_000;
                let error = format!("The shared index {} did not answer within {seconds} s", inner.address);
                (true, error)
            }
        };
        if away {
            inner.state.lock().unanswered = Some((Instant::now(), error.clone()));
        }
        Err(error)
    }
}

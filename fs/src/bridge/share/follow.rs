//! Rows of other machines as hints where to look: so their changes are seen also where their feeds are not.

use super::{Inner, Trouble};
use notefs_cache::Hint;
use notefs_cache::replica::StoredPath;
use notefs_indexer::SharedRow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows taken at once.
const ROWS_PER_STEP: usize = 500;

/// Pauses after a failure: the first, and the longest.
const FAILED_PAUSE_MS: u64 = 1_000;
const FAILED_PAUSE_MS_MAX: u64 = 30_000;

/// When a row is told anew that the bucket did not bear out: its writer may be about to do that itself.
const DOUBT_PAUSE_MS: u64 = 10_000;

impl Inner {
    /// Follows the rows until the mount ends.
    pub(super) async fn follow(self: Arc<Inner>) {
        let (mut stopped, mut failures) = (self.stopped.clone(), 0_u32);
        while !*stopped.borrow() {
            let pause = match self.follow_once().await {
                Ok(more) => {
                    failures = 0;
                    if more {
                        Duration::ZERO
                    } else {
                        self.replica.hint_pause()
                    }
                }
                Err(trouble) => {
                    tracing::debug!(
                        ?trouble,
                        "The rows of other machines could not be followed; it is tried again"
                    );
                    failures += 1;
                    let pause_ms = FAILED_PAUSE_MS.saturating_mul(1 << (failures - 1).min(10));
                    Duration::from_millis(pause_ms.min(FAILED_PAUSE_MS_MAX))
                }
            };
            tokio::select! {
                _ = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Takes the next rows; answers whether there may be more.
    async fn follow_once(&self) -> Result<bool, Trouble> {
        let seen_row = self.state.lock().seen_row;
        let (rows, cursor) = self.database().await?.changes_after(seen_row, ROWS_PER_STEP).await?;
        if !rows.is_empty() {
            self.state.lock().has_rows = true;
            let hints: Vec<Hint> = rows.iter().map(hint).collect();
            self.replica.take_hints(&hints).await?;
            self.doubt(rows.iter())?;
        }
        let mut state = self.state.lock();
        if cursor < state.seen_row {
            tracing::warn!("The shared index was made anew; all notes are compared with it");
            state.compared_ms = 0;
        }
        state.seen_row = cursor;
        Ok(rows.len() >= ROWS_PER_STEP)
    }

    /// Rows that still say something else than the bucket are told anew.
    fn doubt<'row>(&self, rows: impl Iterator<Item = &'row SharedRow>) -> Result<(), Trouble> {
        let due = Instant::now() + Duration::from_millis(DOUBT_PAUSE_MS);
        for row in rows {
            let differs = match self.replica.stored_path(&row.path)? {
                StoredPath::Stored { etag, .. } => row.gone || etag != row.version.etag,
                StoredPath::Gone { .. } => !row.gone,
                StoredPath::Pending | StoredPath::Unknown => false,
            };
            if differs {
                self.state.lock().owed.add(row.path.clone(), u64::MAX, due);
            }
        }
        Ok(())
    }
}

fn hint(row: &SharedRow) -> Hint {
    Hint {
        path: row.path.clone(),
        etag: (!row.gone).then(|| row.version.etag.clone()),
        writer: row.version.writer.clone(),
    }
}

//! Notes that could not be read when their change came, and the pauses between tries.
//!
//! Owns the bounded list of such notes. It lives in memory; a mark on disk says that there were some, so that the next run
//! looks through all notes again. Does not own reading (`bridge/gather.rs`).

use super::gather::{Failed, Planned};
use notefs_cache::Replica;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Notes remembered; beyond it, all notes are looked through again.
const RETRIES_MAX: usize = 10_000;

/// Tries for one note before it is left out until it changes.
pub(super) const TRIES_MAX: u32 = 12;

/// The first pause after a failure.
const PAUSE_FIRST_MS: u64 = 250;

/// The longest pause.
const PAUSE_MAX_MS: u64 = 60_000;

/// Pauses that double.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether nothing has failed since the last success.
    pub(super) fn is_first(&self) -> bool {
        self.failures == 0
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure and answers how long to wait.
    pub(super) fn next(&mut self) -> Duration {
        let pause_ms = pause_ms(self.failures);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(pause_ms)
    }

    /// Forgets failures; answers whether there were any.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }
}

fn pause_ms(failures: u32) -> u64 {
    PAUSE_FIRST_MS.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX_MS)
}

struct Retry {
    failed: Failed,
    due: Instant,
}

/// The notes to try again, oldest first.
pub(super) struct RetryList {
    mark: PathBuf,
    marked: bool,
    retries: VecDeque<Retry>,
}

impl RetryList {
    /// An empty list with its mark at `mark`.
    pub(super) fn open(mark: PathBuf) -> RetryList {
        RetryList {
            marked: mark.exists(),
            mark,
            retries: VecDeque::new(),
        }
    }

    /// Whether the mark of an earlier run is there.
    pub(super) fn earlier_run_left_some(&self) -> bool {
        self.marked && self.retries.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> u64 {
        self.retries.len() as u64
    }

    /// Adds a note; answers whether the list was full, so that all notes must be looked through.
    pub(super) fn add(&mut self, mut failed: Failed) -> bool {
        failed.tries += 1;
        if failed.tries > TRIES_MAX && !failed.retryable {
            tracing::warn!("A note is left out of the index: {}", failed.error);
            return false;
        }
        if self.retries.len() >= RETRIES_MAX {
            return true;
        }
        self.set_mark(true);
        let due = Instant::now() + Duration::from_millis(pause_ms(failed.tries));
        self.retries.push_back(Retry { failed, due });
        false
    }

    /// The next note whose pause is over, if it is still at its path; a later change has taken care of any other.
    pub(super) fn take_due(&mut self, now: Instant, replica: &Replica) -> Option<Planned> {
        while self.retries.front().is_some_and(|retry| retry.due <= now) {
            let failed = self.retries.pop_front()?.failed;
            match replica.resolve(&failed.path) {
                Ok(attr) if attr.ino != failed.ino => {}
                Err(notefs_cache::Error::Posix(_)) => {}
                _ => {
                    return Some(Planned::Read {
                        path: failed.path,
                        ino: failed.ino,
                        tries: failed.tries,
                    });
                }
            }
        }
        None
    }

    /// To be called once what was taken is indexed or added again.
    pub(super) fn settle(&mut self) {
        if self.retries.is_empty() {
            self.set_mark(false);
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.retries.clear();
        self.set_mark(false);
    }

    fn set_mark(&mut self, wanted: bool) {
        if self.marked == wanted {
            return;
        }
        let done = if wanted {
            std::fs::write(&self.mark, b"")
        } else {
            std::fs::remove_file(&self.mark)
        };
        match done {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("Could not change {}: {error}", self.mark.display());
            }
            _ => self.marked = wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        assert!(backoff.is_first() && !backoff.succeeded());
        assert_eq!(backoff.next(), Duration::from_millis(250));
        assert_eq!(backoff.next(), Duration::from_millis(500));
        assert!((0..100).all(|_| backoff.next() <= Duration::from_secs(60)));
        assert!(backoff.succeeded() && backoff.is_first());
    }

    #[test]
    fn the_mark_outlives_the_list() {
        let mark = std::env::temp_dir().join(format!("notefs-retry-{}", std::process::id()));
        let failed = |retryable| Failed {
            path: b"a.md".to_vec(),
            ino: 2,
            error: "away".into(),
            retryable,
            tries: 0,
        };
        let mut list = RetryList::open(mark.clone());
        assert!(!list.earlier_run_left_some());
        assert!(!list.add(failed(true)));
        assert_eq!(list.len(), 1);
        drop(list);
        let mut list = RetryList::open(mark.clone());
        assert!(list.earlier_run_left_some());
        list.clear();
        assert!(!mark.exists());
        assert!((0..RETRIES_MAX).all(|_| !list.add(failed(true))));
        assert!(list.add(failed(true)), "a full list asks for a look at everything");
        list.clear();
    }
}

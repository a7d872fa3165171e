//! The trash: what a deletion or an overwriting would lose is copied inside the store first, and kept for a while.
//!
//! A copy is an object of its own, `.notefs/trash/DAY/TIME-WHY-ID/KEY`: its key says what it was, when it went and why, and it bears the
//! content and metadata of the lost version. Any tool can copy it back.
//!
//! Owns what is kept ([`keeps`]) and the keeping. `trash/name.rs` owns the keys, `trash/list.rs` what is there, its end and its return.
//! Costs: a HEAD and a COPY for a removal, and for the first change of content of a key in an hour.

mod list;
mod name;

pub(crate) use name::PREFIX;
pub use name::{Trashed, Why};

use crate::error::Result;
use crate::replica::Replica;
use crate::store::{ETag, ObjectKey, Written};
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// One version of a key is kept in this time, however often it is overwritten.
const ONE_VERSION_MS: u64 = 3_600_000;

/// Keys whose last keeping is remembered; of a forgotten one another version may be kept.
const KEYS_REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Tries of one inode after which its change is stored without a copy of what it replaces, if the store answers all else.
const TRIES_MAX: u32 = 3;

/// What the replica remembers of its trash.
pub(crate) struct Trash {
    /// How long copies are kept, in milliseconds; 0: there is no trash.
    keep_ms: AtomicU64,
    /// The bucket keeps old versions itself.
    versioned: AtomicBool,
    /// When an overwritten version of a key was kept last (monotonic, ms).
    kept: Mutex<LruCache<String, u64>>,
    /// The store's refusal was told.
    refused: AtomicBool,
}

impl Default for Trash {
    fn default() -> Trash {
        Trash {
            keep_ms: AtomicU64::new(0),
            versioned: AtomicBool::new(false),
            kept: Mutex::new(LruCache::new(KEYS_REMEMBERED_MAX)),
            refused: AtomicBool::new(false),
        }
    }
}

/// A version that is about to be lost under its key.
pub(crate) struct Loss<'a> {
    pub(crate) key: &'a str,
    /// Empty: a write whose outcome is unknown.
    pub(crate) etag: &'a str,
    pub(crate) why: Why,
    /// The same content stays stored, under this key or another.
    pub(crate) content_stays: bool,
    /// How long ago a version of this key was kept, if one was.
    pub(crate) kept_ago_ms: Option<u64>,
}

/// Whether a version is to be kept: not what was never stored, what is not lost, nor the second one within an hour.
pub(crate) fn keeps(loss: &Loss<'_>) -> bool {
    let is_note = !loss.etag.is_empty() && !loss.key.ends_with('/') && !loss.key.starts_with(".notefs/");
    let soon = loss.why == Why::Overwritten && loss.kept_ago_ms.is_some_and(|ago| ago < ONE_VERSION_MS);
    is_note && !loss.content_stays && !soon
}

impl Trash {
    /// How long copies are kept; `None` where nothing is.
    pub(crate) fn keep(&self) -> Option<Duration> {
        let keep_ms = self.keep_ms.load(Ordering::Acquire);
        (keep_ms > 0).then(|| Duration::from_millis(keep_ms))
    }

    pub(crate) fn is_versioned(&self) -> bool {
        self.versioned.load(Ordering::Acquire)
    }

    pub(crate) fn set_versioned(&self, versioned: bool) {
        self.versioned.store(versioned, Ordering::Release);
    }

    /// The next version of this key is kept again.
    fn forget(&self, key: &str) {
        self.kept.lock().pop(key);
    }

    fn kept_ago_ms(&self, key: &str, now_ms: u64) -> Option<u64> {
        self.kept.lock().peek(key).map(|at| now_ms.saturating_sub(*at))
    }
}

impl Replica {
    /// Keeps what is deleted and overwritten for so long; `None`: keeps nothing. Before [`Replica::start`]. Off unless this is called.
    pub fn set_trash(&self, keep: Option<Duration>) {
        let keep_ms = keep.map_or(0, |keep| keep.as_millis() as u64);
        self.trash.keep_ms.store(keep_ms, Ordering::Release);
    }

    /// Copies a version into the trash before it is lost, if it is to be kept. Its failure is a reason to try again, for a while.
    pub(crate) async fn keep_lost(self: &Arc<Self>, mut loss: Loss<'_>, tries: u32) -> Result<()> {
        if self.trash.keep().is_none() || self.trash.is_versioned() || !self.capabilities.copy {
            return Ok(());
        }
        loss.kept_ago_ms = self.trash.kept_ago_ms(loss.key, self.now_ms());
        if !keeps(&loss) {
            return Ok(());
        }
        let name = name::compose(loss.key, self.options.clock.now(), loss.why, &self.writer_id);
        let (Ok(from), Ok(to)) = (ObjectKey::parse(loss.key), ObjectKey::parse(&name)) else {
            tracing::warn!(key = loss.key, "Its key is too long for the trash; no copy is kept");
            return Ok(());
        };
        let condition = crate::store::Condition::None;
        let copied = self
            .store
            .copy(&from, &ETag(loss.etag.to_owned()), &to, &condition)
            .await;
        self.note_health(&copied);
        match copied {
            Ok(Written::Done(_)) => {
                self.trash.kept.lock().put(loss.key.to_owned(), self.now_ms());
            }
            // Somebody else changed it: what is done next will find that out.
            Ok(Written::ConditionFailed) => {}
            Err(error) if error.retryable && (tries < TRIES_MAX || self.store.head(&from).await.is_err()) => {
                return Err(error.into());
            }
            Err(error) => {
                if !self.trash.refused.swap(true, Ordering::AcqRel) {
                    tracing::warn!(%error, "The store takes no copy into the trash; changes are stored without");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(why: Why) -> Loss<'static> {
        Loss {
            key: "ideas/a.md",
            etag: "e",
            why,
            content_stays: false,
            kept_ago_ms: None,
        }
    }

    #[test]
    fn what_is_lost_is_kept_once_an_hour() {
        assert!(keeps(&loss(Why::Deleted)) && keeps(&loss(Why::Overwritten)));
        let again = |why, ago| Loss {
            kept_ago_ms: Some(ago),
            ..loss(why)
        };
        assert!(!keeps(&again(Why::Overwritten, ONE_VERSION_MS - 1)));
        assert!(keeps(&again(Why::Overwritten, ONE_VERSION_MS)));
        assert!(keeps(&again(Why::Deleted, 1)), "a deletion loses the last version");
    }

    #[test]
    fn what_is_not_lost_is_not_kept() {
        let not = |loss: Loss<'_>| assert!(!keeps(&loss));
        not(Loss {
            etag: "",
            ..loss(Why::Deleted)
        });
        not(Loss {
            content_stays: true,
            ..loss(Why::Overwritten)
        });
        not(Loss {
            key: "ideas/",
            ..loss(Why::Deleted)
        });
        not(Loss {
            key: ".notefs/hints/x",
            ..loss(Why::Deleted)
        });
    }
}

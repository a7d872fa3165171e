//! The pull side: learns what others wrote to the bucket, brings what that needs, and offers it to the folder.
//!
//! ```text
//!  listing ─┐                 confirm              propose                     offer
//!           ├─> looks ─> GET or HEAD of each ─> moves, places ─> [RemoteChange + effect] ─> announcer or replica
//!  feeds ───┘
//! ```
//!
//! A look is only a hint that a key is worth a question; what takes effect is the bucket's own answer. What is owed by this machine is left
//! to `push`, which finds out by its conditions.
//!
//! Owns: when to look and the order of a round. `pull/diff.rs` owns the decisions, as functions of values.

mod confirm;
mod diff;
mod listing;
mod places;
mod propose;
mod readers;

use crate::replica::Replica;
use crate::store::{ObjectInfo, UserMetadata};
use crate::store::Listed;
use crate::types::Ino;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the loop looks at what is due.
const TICK_MS: u64 = 50;

/// Keys remembered that cannot be shown.
const FRUITLESS_MAX: usize = 10_000;

/// A key that may hold something else than is known here.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) key: String,
    /// Who says so: a writer, or "foreign".
    pub(crate) origin: String,
    /// The key under which the object was before, if the writer says so.
    pub(crate) moved_from: Option<String>,
    /// What a listing shows, or a feed tells; `None`: it may be gone.
    pub(crate) info: Option<ObjectInfo>,
    /// What a feed tells of its metadata.
    pub(crate) meta: Option<UserMetadata>,
}

/// What the pull side remembers between rounds.
#[derive(Default)]
pub(crate) struct Puller {
    /// One round at a time brings changes about.
    round: tokio::sync::Mutex<()>,
    pub(crate) readers: readers::Readers,
    /// Directories of which the last listing showed nothing.
    doubtful: Mutex<HashSet<Ino>>,
    /// Keys that cannot be shown as they are, with the version for which that was found out.
    fruitless: Mutex<HashMap<String, String>>,
    /// When the whole bucket was last looked at (monotonic, ms).
    pub(crate) listed_ms: AtomicU64,
}

impl Puller {
    /// Whether a line was looked into before, in vain.
    fn is_fruitless(&self, listed: &Listed) -> bool {
        self.fruitless.lock().get(&listed.key).is_some_and(|etag| *etag == etag_of(listed))
    }

    fn note_fruitless(&self, listed: &Listed) {
        let mut fruitless = self.fruitless.lock();
        if fruitless.len() >= FRUITLESS_MAX {
            fruitless.clear();
        }
        fruitless.insert(listed.key.clone(), etag_of(listed));
    }
}

fn etag_of(listed: &Listed) -> String {
    listed.object.as_ref().map(|info| info.etag.0.clone()).unwrap_or_default()
}

impl Replica {
    pub(crate) async fn run_puller(self: Arc<Self>) {
        let interval = self.options.poll.unwrap_or(Duration::from_secs(5));
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        while !self.stopping.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
            let last_ms = self.puller.listed_ms.load(Ordering::Acquire);
            if self.now_ms() < last_ms.saturating_add(interval_ms) {
                continue;
            }
            if let Err(error) = self.look_at_everything().await {
                tracing::debug!(%error, "Could not look for what others wrote; it is tried again");
            }
            self.puller.listed_ms.store(self.now_ms(), Ordering::Release);
        }
    }
}

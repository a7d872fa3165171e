//! No read mixes two versions: a large file that somebody reads right now changes when the reading pauses, or after a few seconds. A file that a
//! program has open for writing does not change at all under it: its own write would go astray.
//!
//! Opens are not seen here, only the reads that reach the replica; so "being read" means: read a moment ago. A file that fits into one
//! read, and one that only grew, need no waiting.

use super::diff::only_appends;
use crate::error::Result;
use crate::replica::{Offer, Replica, Theirs};
use crate::state::{Inode, Place};
use crate::types::Ino;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Files whose last read is remembered.
const READ_FILES_MAX: usize = 1024;

/// A reader that has not come back for this long has ended.
const PAUSE_MS: u64 = 300;

/// How long a change waits for readers.
const WAIT_MAX_MS: u64 = 5_000;

/// How often it looks, and how often after writers, who may take hours.
const LOOK_MS: u64 = 50;
const WRITER_LOOK_MS: u64 = 500;

/// When large files were last read, and which of them have a change that waits.
pub(crate) struct Readers {
    reads: Mutex<LruCache<Ino, u64>>,
    awaited: Mutex<HashSet<Ino>>,
}

impl Default for Readers {
    fn default() -> Readers {
        let capacity = NonZeroUsize::new(READ_FILES_MAX).unwrap_or(NonZeroUsize::MIN);
        Readers {
            reads: Mutex::new(LruCache::new(capacity)),
            awaited: Mutex::default(),
        }
    }
}

impl Readers {
    /// A part of a large file is read now.
    pub(crate) fn note(&self, ino: Ino, now_ms: u64) {
        self.reads.lock().put(ino, now_ms);
    }

    fn is_reading(&self, ino: Ino, now_ms: u64) -> bool {
        self.reads
            .lock()
            .peek(&ino)
            .is_some_and(|last| now_ms < last + PAUSE_MS)
    }

    /// Whether a change of this file waits already.
    pub(super) fn is_awaited(&self, ino: Ino) -> bool {
        self.awaited.lock().contains(&ino)
    }
}

impl Replica {
    /// Whether a change of content must wait for a reader.
    pub(super) fn is_being_read(&self, inode: &Inode, theirs: &Theirs) -> Result<bool> {
        if !self.puller.readers.is_reading(inode.ino, self.now_ms()) {
            return Ok(false);
        }
        let whole =
            self.view(|tables| Ok(inode.place == Place::Blob && tables.present(inode.ino)? == [(0, inode.size)]))?;
        let (Some(new), true) = (&theirs.bytes, whole) else {
            return Ok(true);
        };
        let old = self.read(inode.ino, 0, inode.size as usize)?;
        Ok(!only_appends(&old, new))
    }
}

/// Whether a program has the file open for writing, so that it may neither change nor go. Then its directory is looked at again once no program has,
/// or once the file has changed here: then it is for its push to bring both together.
pub(super) fn waits_for_writers(replica: &Arc<Replica>, ino: Ino, dir: Ino) -> bool {
    if !replica.is_being_written(ino) {
        return false;
    }
    if !replica.puller.readers.awaited.lock().insert(ino) {
        return true;
    }
    let waiting = Arc::clone(replica);
    replica.runtime.spawn(async move {
        let goes_on = || !waiting.stopping.load(Ordering::Acquire) && !waiting.state.lock().dirty.contains_key(&ino);
        while goes_on() && waiting.is_being_written(ino) {
            tokio::time::sleep(Duration::from_millis(WRITER_LOOK_MS)).await;
        }
        waiting.puller.readers.awaited.lock().remove(&ino);
        let _listings = waiting.puller.listings.lock().await;
        if let Err(error) = waiting.look_at_directory(dir).await {
            tracing::debug!(%error, "A directory could not be looked at; the next listing finds what has changed");
        }
    });
    true
}

/// Offers the change when nobody reads the file any more, without holding up others.
pub(super) fn wait_and_offer(replica: &Arc<Replica>, ino: Ino, offer: Offer) {
    if !replica.puller.readers.awaited.lock().insert(ino) {
        return;
    }
    let waiting = Arc::clone(replica);
    replica.runtime.spawn(async move {
        let until_ms = waiting.now_ms() + WAIT_MAX_MS;
        while waiting.now_ms() < until_ms && waiting.puller.readers.is_reading(ino, waiting.now_ms()) {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
        waiting.offer(vec![offer], false).await;
        waiting.puller.readers.awaited.lock().remove(&ino);
    });
}

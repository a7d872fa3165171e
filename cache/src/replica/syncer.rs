//! One thread that flushes the disk for everybody who waits, ends the shared transaction regularly, and moves the log.

use super::Replica;
use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The shared transaction lives at most this long.
const COMMIT_INTERVAL_MS: u64 = 100;

/// What nobody asked to flush is flushed at this pace, as local file systems do.
const SYNC_INTERVAL_MS: u64 = 5_000;

/// Callers of `fsync` that may wait at a time; more are refused with EAGAIN.
const WAITING_MAX: usize = 4096;

type Done = Box<dyn FnOnce(Result<()>) + Send>;

#[derive(Default)]
pub(super) struct Syncer {
    waiting: Mutex<Vec<Done>>,
    signal: Condvar,
}

impl Replica {
    /// Makes everything written so far *synced*, then calls `done` from another thread. Concurrent calls share one disk flush.
    pub fn sync(&self, done: Done) {
        let mut waiting = self.syncer.waiting.lock();
        if waiting.len() >= WAITING_MAX || self.stopping.load(Ordering::Acquire) {
            drop(waiting);
            return done(Err(Error::Posix(libc::EAGAIN)));
        }
        waiting.push(done);
        drop(waiting);
        self.syncer.signal.notify_one();
    }

    /// The same, waiting for it.
    pub fn sync_now(&self) -> Result<()> {
        self.blobs.sync()?;
        let seq = self.written_seq();
        let op = self.state.sync()?;
        self.synced_op.fetch_max(op, Ordering::AcqRel);
        self.synced_seq.fetch_max(seq, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn run_syncer(self: Arc<Self>) {
        let mut synced_ms = 0;
        while !self.stopping.load(Ordering::Acquire) {
            let waiting = {
                let mut waiting = self.syncer.waiting.lock();
                if waiting.is_empty() {
                    self.syncer
                        .signal
                        .wait_for(&mut waiting, Duration::from_millis(COMMIT_INTERVAL_MS));
                }
                std::mem::take(&mut *waiting)
            };
            if waiting.is_empty() {
                self.keep_house();
                let idle = self.state.lock().op() <= self.synced_op.load(Ordering::Acquire);
                if !idle && self.now_ms() >= synced_ms + SYNC_INTERVAL_MS {
                    synced_ms = self.now_ms();
                    self.sync_quietly();
                }
                continue;
            }
            let result = self.sync_now();
            for done in waiting {
                done(result.as_ref().copied().map_err(|error| Error::Posix(error.errno())));
            }
            if let Err(error) = result {
                tracing::error!(%error, "fsync failed");
            }
        }
        for done in self.syncer.waiting.lock().drain(..) {
            done(Err(Error::Posix(libc::EIO)));
        }
    }

    fn sync_quietly(&self) {
        if let Err(error) = self.sync_now() {
            tracing::warn!(%error, "Could not flush the disk; it is tried again");
        }
    }

    fn keep_house(&self) {
        self.note_space();
        if let Err(error) = self.state.commit() {
            tracing::warn!(%error, "Could not commit; everything acknowledged is in the journal, and it is tried again");
        }
        if let Err(error) = self.state.checkpoint(false) {
            tracing::warn!(%error, "Could not shorten the write-ahead log; it is tried again");
        }
        self.evict(None);
    }
}

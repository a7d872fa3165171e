//! One thread that flushes the disk for everybody who waits, ends the shared transaction regularly, and moves the log.

use super::Replica;
use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The shared transaction lives at most this long.
const COMMIT_INTERVAL_MS: u64 = 100;

/// What nobody asked to flush is flushed at this pace, as local file systems do.
const SYNC_INTERVAL_MS: u64 = 5_000;

/// A log below this is left alone even while the disk is short of space.
const SHORT_LOG_BYTES: u64 = 256 << 10;

/// Callers of `fsync` that may wait at a time; more are refused with EAGAIN.
const WAITING_MAX: usize = 4096;

type Done = Box<dyn FnOnce(Result<()>) + Send>;

#[derive(Default)]
pub(super) struct Syncer {
    waiting: Mutex<Vec<Done>>,
    signal: Condvar,
    /// The thread is there.
    running: AtomicBool,
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
        if self.flush_failed.load(Ordering::Acquire) {
            return Err(Error::Posix(libc::EIO));
        }
        // Written before the blobs are flushed: what comes later may speak of bytes that are not.
        let (op, seq) = self.view(|tables| Ok((tables.op(), tables.change_seq())))?;
        let flushed = self.blobs.sync().and_then(|()| self.state.sync());
        let reached = flushed.inspect_err(|error| self.note_flush(error))?;
        self.synced_op.fetch_max(op, Ordering::AcqRel);
        self.synced_seq.fetch_max(seq, Ordering::AcqRel);
        self.blobs.bury(reached);
        Ok(())
    }

    /// The kernel reports a failed flush once and then takes the pages for clean: a later flush that succeeds proves nothing.
    fn note_flush(&self, error: &Error) {
        let Error::Local { action, source, .. } = error else {
            return;
        };
        let is_full = matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
        if !action.starts_with("flush") || is_full || self.flush_failed.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(%error, "The cache disk failed to flush: nothing is called synced until notefs is mounted again; uploads go on");
        if let Err(error) = self.remember(super::lifecycle::FLUSH_FAILED, &self.options.clock.boot_id()) {
            tracing::error!(%error, "That could not be noted for the next start");
        }
    }

    /// Returns when everything written before the call is *synced*: a change climbs the ladder step by step, so nothing is stored
    /// that a power cut could make this machine forget. A disk that cannot flush is no reason not to upload.
    pub(crate) async fn synced(&self) -> Result<()> {
        if self.flush_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        if !self.syncer.running.load(Ordering::Acquire) {
            return self.sync_now();
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.sync(Box::new(move |result| drop(sender.send(result))));
        receiver.await.unwrap_or(Err(Error::Posix(libc::EIO)))
    }

    /// The same for what was done to one inode.
    pub(crate) async fn synced_inode(&self, ino: crate::types::Ino) -> Result<()> {
        let op = self.view(|tables| Ok(tables.dirty.get(&ino).map_or(0, |debt| debt.op)))?;
        if op <= self.synced_op.load(Ordering::Acquire) {
            return Ok(());
        }
        self.synced().await
    }

    pub(super) fn run_syncer(self: Arc<Self>) {
        let (mut synced_ms, mut kept_ms) = (0, 0);
        self.syncer.running.store(true, Ordering::Release);
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
            let asked = !waiting.is_empty();
            if asked {
                self.serve(waiting);
            }
            // Also while somebody always waits for a flush, and before many flushes have filled the disk with log.
            if !asked
                || self.now_ms() >= kept_ms + COMMIT_INTERVAL_MS
                || self.state.log_bytes() >= self.state.log_bytes_max()
            {
                kept_ms = self.now_ms();
                self.keep_house();
            }
            let idle = self.state.lock().op() <= self.synced_op.load(Ordering::Acquire);
            if !asked && !idle && self.now_ms() >= synced_ms + SYNC_INTERVAL_MS {
                synced_ms = self.now_ms();
                self.sync_quietly();
            }
        }
        self.syncer.running.store(false, Ordering::Release);
        for done in self.syncer.waiting.lock().drain(..) {
            done(Err(Error::Posix(libc::EIO)));
        }
    }

    fn serve(&self, waiting: Vec<Done>) {
        let known_to_fail = self.flush_failed.load(Ordering::Acquire);
        let result = self.sync_now();
        for done in waiting {
            done(result.as_ref().copied().map_err(|error| Error::Posix(error.errno())));
        }
        if let Err(error) = result
            && !known_to_fail
        {
            tracing::error!(%error, "fsync failed");
        }
    }

    fn sync_quietly(&self) {
        if self.flush_failed.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.sync_now() {
            tracing::warn!(%error, "Could not flush the disk; it is tried again");
        }
    }

    /// What happens ten times a second: the shared transaction ends, the log is shortened, the cache kept under its limit.
    /// For those who drive a replica by hand, without [`Replica::start`].
    pub fn keep_house(&self) {
        self.note_space();
        let short = self.disk_short.load(Ordering::Acquire);
        if short && self.blobs.has_retired() {
            self.sync_quietly();
        }
        if let Err(error) = self.state.commit() {
            tracing::warn!(%error, "Could not commit; everything acknowledged is in the journal, and it is tried again");
        }
        let from_bytes = if short {
            SHORT_LOG_BYTES
        } else {
            self.state.log_bytes_max()
        };
        if let Err(error) = self.state.shorten_log(from_bytes) {
            tracing::warn!(%error, "Could not shorten the write-ahead log; it is tried again");
        }
        self.evict(None);
    }
}

//! Room: on the cache disk, which is never filled to the last byte, and in the debt to the bucket, which is bounded.
//!
//! Owns both limits and the waits. Does not own what is removed to make room (`evict`).

use super::Replica;
use crate::error::{Error, Need, Result};
use crate::types::Ino;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Contents that may wait for the bucket where nobody said otherwise.
pub(super) const DIRTY_LIMIT_DEFAULT_BYTES: u64 = 10 << 30;

/// Part of the cache disk that is never filled, so that what is acknowledged can still be committed.
const DISK_RESERVE_BYTES_MAX: u64 = 64 << 20;

/// ... and of a small disk at most this part.
const DISK_RESERVE_SHARE: u64 = 4;

/// Small writes may fill free pages of `state.db` as long as there are so many.
const FREE_PAGES_BYTES_MIN: u64 = 2 << 20;

/// Bytes written between two looks at the disk.
const UNWEIGHED_BYTES_MAX: u64 = 1 << 20;

/// Between two looks whether there is room again.
const ROOM_POLL_MS: u64 = 25;

impl Replica {
    /// Bounds the bytes of files that are not stored: a write beyond it waits until the bucket has taken some, at most
    /// `Options::remote_deadline`, and then fails with ENOSPC. One file alone may be larger.
    pub fn set_dirty_limit(&self, bytes: u64) {
        self.dirty_limit_bytes.store(bytes, Ordering::Release);
    }

    /// Counts what goes into `state.db`, and looks at the disk before much more than its reserve could be spent.
    pub(super) fn weigh(&self, bytes: u64) {
        if self.unweighed_bytes.fetch_add(bytes, Ordering::AcqRel) > UNWEIGHED_BYTES_MAX {
            self.unweighed_bytes.store(0, Ordering::Release);
            self.note_space();
        }
    }

    /// Whether a file may grow to this size now; [`Need::Room`] if too much waits already.
    pub(super) fn check_dirty_limit(&self, ino: Ino, size_bytes: u64) -> Result<()> {
        if self.has_room(ino, size_bytes) {
            Ok(())
        } else {
            Err(Error::Need(Need::Room { ino, size_bytes }))
        }
    }

    fn has_room(&self, ino: Ino, size_bytes: u64) -> bool {
        let limit = self.dirty_limit_bytes.load(Ordering::Acquire);
        let tables = self.state.lock();
        let owed = tables.dirty.get(&ino).map_or(0, |debt| debt.bytes);
        let others = tables.dirty_bytes - owed;
        size_bytes <= owed || others + size_bytes <= limit || tables.dirty_bytes == 0
    }

    /// Returns when there is room, or fails.
    pub(super) async fn wait_for_room(&self, ino: Ino, size_bytes: u64) -> Result<()> {
        let until_ms = self.now_ms() + self.options.remote_deadline.as_millis() as u64;
        while !self.has_room(ino, size_bytes) {
            if self.now_ms() >= until_ms {
                tracing::warn!(ino, "A write was refused: too much waits for the bucket");
                return Err(Error::Posix(libc::ENOSPC));
            }
            self.pusher.hurry(self.now_ms() + 1_000);
            tokio::time::sleep(Duration::from_millis(ROOM_POLL_MS)).await;
        }
        Ok(())
    }

    /// Looks whether the cache disk is about to be full; small writes only ask for the outcome.
    pub(super) fn note_space(&self) {
        let short = self.free_bytes().is_ok_and(|free| free == 0);
        self.disk_short.store(short, Ordering::Release);
        let free_pages = || self.view(|tables| tables.free_page_bytes());
        let full = short && free_pages().is_ok_and(|free| free < FREE_PAGES_BYTES_MIN);
        self.disk_full.store(full, Ordering::Release);
    }

    /// What the cache disk can still take, less the reserve.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let (free, reserve) = look_at_disk(&self.options.cache_dir)?;
        Ok(free.saturating_sub(reserve))
    }
}

/// What is free on the disk of the cache folder, and how much of it is reserve, in bytes.
pub(super) fn look_at_disk(cache_dir: &Path) -> Result<(u64, u64)> {
    let disk = rustix::fs::statvfs(cache_dir).map_err(|error| Error::Local {
        action: "ask how much space is left",
        path: cache_dir.to_owned(),
        source: error.into(),
        advice: "Check that the folder is still there",
    })?;
    let reserve = DISK_RESERVE_BYTES_MAX.min(disk.f_blocks * disk.f_frsize / DISK_RESERVE_SHARE);
    Ok((disk.f_bavail * disk.f_frsize, reserve))
}

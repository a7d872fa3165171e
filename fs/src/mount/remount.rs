//! A mount that no longer answers is broken off and made anew, since its programs would wait in the kernel for ever.
//!
//! Owns how often that is tried, and its order. Does not own the signs (`fuse/watchdog.rs`).

use super::front_end::FrontEnd;
use super::{End, Mount};
use crate::failure::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// A mount that stops answering more often than this within [`REMOUNT_WINDOW_SECONDS`] is given up: programs then get ENOTCONN.
const REMOUNTS_MAX: usize = 5;

/// How long a remount counts.
const REMOUNT_WINDOW_SECONDS: u64 = 600;

/// The remounts of late.
#[derive(Debug, Default)]
pub(super) struct Remounts {
    lately: Vec<Instant>,
    /// Grows with each remount, so that the end of an old session is not taken for that of the mount.
    session_number: Arc<AtomicU64>,
}

impl Remounts {
    /// Whether one more may be made now.
    fn allow(&mut self, now: Instant) -> bool {
        let window = Duration::from_secs(REMOUNT_WINDOW_SECONDS);
        self.lately.retain(|then| now.duration_since(*then) < window);
        self.lately.push(now);
        self.lately.len() <= REMOUNTS_MAX
    }
}

impl Mount {
    /// Hears of an `umount` from outside, and of the watchdog.
    pub(super) fn watch_session(&self, ends: &SyncSender<End>) {
        let (front_end, current) = (self.front_end.clone(), self.remounts.session_number.clone());
        let number = current.load(Ordering::Acquire);
        let gone = ends.clone();
        self.runtime.spawn(async move {
            front_end.ended().await;
            if current.load(Ordering::Acquire) == number {
                // If the queue is full, the mount is ending anyway.
                gone.try_send(End::Gone).ok();
            }
        });
        let ends = ends.clone();
        self.front_end.watch(move |reason| {
            ends.try_send(End::Stuck(reason)).ok();
        });
    }

    /// Breaks the connection off and mounts anew. What was written is in the replica, which goes on.
    pub(super) fn remount(&mut self, reason: &str, ends: &SyncSender<End>) -> Result<(), Failure> {
        let dir = self.plan.dir.display().to_string();
        tracing::error!(
            "The mount at {dir} does not answer ({reason}): programs that wait for it get an error, and it is mounted anew"
        );
        self.remounts.session_number.fetch_add(1, Ordering::AcqRel);
        let aborted = self.front_end.abort();
        aborted.map_err(|error| Failure::new(format!("The mount at {dir} could not be broken off: {error}")))?;
        if !self.remounts.allow(Instant::now()) {
            return Err(Failure::new(format!("The mount at {dir} stopped answering too often")));
        }
        self.unseal();
        let front_end = FrontEnd::start(&self.plan, &self.replica.status().store, self.filesystem.clone());
        if let Some(underneath) = &self.underneath {
            underneath.seal();
        }
        self.front_end = Arc::new(front_end?);
        self.observed.now_served_by(&self.front_end);
        self.watch_session(ends);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_stops_again_and_again_is_given_up() {
        let (mut remounts, start) = (Remounts::default(), Instant::now());
        assert!((0..REMOUNTS_MAX).all(|_| remounts.allow(start)));
        assert!(!remounts.allow(start));
        assert!(remounts.allow(start + Duration::from_secs(REMOUNT_WINDOW_SECONDS)));
    }
}

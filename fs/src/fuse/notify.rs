//! Tells the kernel to forget what has changed without it.
//!
//! The replica reports changes that no local program made; they are queued here and a thread of its own hands them to
//! the kernel. It must be a thread of its own: dropping a name waits for the lock of its directory, which a program may
//! hold that waits for an answer of ours.
//!
//! - A name: the entry is dropped, positive or negative, *and* the parent's listing and attributes. (The kernel marks a
//!   directory as changed only if it knew the name.)
//! - An inode: attributes and pages are dropped.
//!
//! What an operation waits on for the network is told last: the kernel holds its lock so long, and other changes must not
//! queue behind it. After [`DEFERRALS_MAX`] rounds it is told all the same.
//!
//! The queue is bounded. What does not fit is not lost but widened to "everything": all names at once by
//! FUSE_NOTIFY_INC_EPOCH (kernel 6.16, which fuser 0.18 does not know), then each inode that the kernel was ever told of.
//! On older kernels names are given a short time to live instead ([`TTL_WITHOUT_EPOCH`]), which bounds the loss.
//!
//! Known hazard (measured): a daemon that is killed by SIGKILL while this thread waits for a lock whose holder waits for the
//! daemon leaves a mount that hangs instead of answering ENOTCONN; `umount -f` frees it. Deferring makes that rare.
//!
//! Owns: the queue and its thread. Does not own: deciding what changed (`notefs_cache`), inotify events.

use super::felt::Felt;
use crate::filesystem::Filesystem;
use fuser::{INodeNo, Notifier, Version};
use notefs_cache::replica::Observer;
use notefs_cache::{Ino, ROOT_INO};
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Names and inodes that may wait to be told; at most about 25 MiB of long names.
const PENDING_MAX: usize = 65_536;

/// How long to leave what must be deferred.
const DEFERRAL: Duration = Duration::from_millis(50);

/// How often something may be deferred: half a minute.
const DEFERRALS_MAX: u32 = 600;

/// FUSE_NOTIFY_INC_EPOCH of the kernel's `fuse.h`.
const NOTIFY_INC_EPOCH: i32 = 8;

/// The first protocol that has it.
const EPOCH_VERSION: Version = Version(7, 44);

/// How long names and attributes hold in the kernel where everything can be dropped at once.
const TTL_WITH_EPOCH: Duration = Duration::from_secs(60 * 60);

/// The same where it cannot: how long a lost notification can be felt.
const TTL_WITHOUT_EPOCH: Duration = Duration::from_secs(60);

/// How long the kernel may remember what it is told.
pub(super) fn time_to_live(kernel: Version) -> Duration {
    if kernel >= EPOCH_VERSION {
        TTL_WITH_EPOCH
    } else {
        TTL_WITHOUT_EPOCH
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Pending {
    names: HashSet<(Ino, Box<[u8]>)>,
    inodes: HashSet<Ino>,
    /// More than fits: drop all that the kernel knows.
    everything: bool,
    stopped: bool,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.inodes.is_empty() && !self.everything
    }

    fn make_room(&mut self) {
        if self.names.len() + self.inodes.len() >= PENDING_MAX {
            self.names = HashSet::new();
            self.inodes = HashSet::new();
            self.everything = true;
        }
    }

    fn add_name(&mut self, parent: Ino, name: &[u8]) {
        if !self.everything {
            self.names.insert((parent, name.into()));
            self.inodes.insert(parent);
            self.make_room();
        }
    }

    fn add_inode(&mut self, ino: Ino) {
        if !self.everything {
            self.inodes.insert(ino);
            self.make_room();
        }
    }

    /// Takes out what can be told now, leaving in `self` what must wait.
    fn split_off_free(&mut self, is_held: impl Fn(Ino) -> bool) -> Pending {
        Pending {
            names: self.names.extract_if(|(parent, _)| !is_held(*parent)).collect(),
            inodes: self.inodes.extract_if(|ino| !is_held(*ino)).collect(),
            everything: std::mem::take(&mut self.everything),
            stopped: false,
        }
    }

    /// Puts back what could not be told.
    fn put_back(&mut self, deferred: Pending) {
        if !self.everything {
            self.names.extend(deferred.names);
            self.inodes.extend(deferred.inodes);
            self.make_room();
        }
    }

    /// What is to be told, leaving nothing but the order to stop.
    fn take(&mut self) -> Pending {
        let stopped = self.stopped;
        std::mem::replace(
            self,
            Pending {
                stopped,
                ..Pending::default()
            },
        )
    }
}

/// What the kernel caches of this mount, as seen by those who change things behind its back.
#[derive(Default)]
pub(super) struct KernelCache {
    pending: Mutex<Pending>,
    changed: Condvar,
    /// No inode above this was ever told to the kernel.
    highest_told: AtomicU64,
    /// Told of what changed without an event.
    felt: OnceLock<Arc<Felt>>,
}

impl Observer for KernelCache {
    fn entry_changed(&self, parent: Ino, name: &[u8]) {
        self.pending.lock().add_name(parent, name);
        self.changed.notify_one();
    }

    fn inode_changed(&self, ino: Ino) {
        self.pending.lock().add_inode(ino);
        self.changed.notify_one();
    }
}

impl KernelCache {
    /// From now on, folders in which something changed without an event are touched.
    pub(super) fn touch_through(&self, felt: Arc<Felt>) {
        self.felt.set(felt).ok();
    }

    fn touch_changed(&self, told: &Pending) {
        let Some(felt) = self.felt.get() else { return };
        let folders: HashSet<Ino> = told.names.iter().map(|(parent, _)| *parent).collect();
        let root = told.everything.then_some(ROOT_INO);
        let inodes = told.inodes.iter().copied().filter(|ino| !folders.contains(ino));
        felt.changed_silently(folders.iter().copied().chain(root), inodes);
    }

    /// The kernel is about to learn of this inode.
    pub(super) fn told(&self, ino: Ino) {
        if ino > self.highest_told.load(Ordering::Relaxed) {
            self.highest_told.fetch_max(ino, Ordering::Relaxed);
        }
    }

    /// Starts telling the kernel; `channel` is another handle of the notifier's device.
    pub(super) fn start(
        self: &Arc<Self>,
        filesystem: Arc<Filesystem>,
        notifier: Notifier,
        channel: File,
    ) -> io::Result<JoinHandle<()>> {
        let this = Arc::clone(self);
        std::thread::Builder::new().name("fuse-notify".into()).spawn(move || {
            let mut deferrals = 0;
            while let Some(mut pending) = this.next() {
                let is_last_round = deferrals == DEFERRALS_MAX;
                let is_held = |ino| !is_last_round && filesystem.is_waited_on(ino);
                let free = pending.split_off_free(is_held);
                tell(&notifier, &free);
                if free.everything {
                    pending
                        .inodes
                        .extend(this.tell_everything(&notifier, &channel, is_held));
                }
                this.touch_changed(&free);
                if pending.is_empty() {
                    deferrals = 0;
                } else {
                    deferrals += 1;
                    this.defer(pending);
                }
            }
        })
    }

    fn defer(&self, deferred: Pending) {
        let mut pending = self.pending.lock();
        pending.put_back(deferred);
        self.changed
            .wait_while_for(&mut pending, |pending| !pending.stopped, DEFERRAL);
    }

    /// Makes the thread end once it has told what it is telling.
    pub(super) fn stop(&self) {
        self.pending.lock().stopped = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Pending> {
        let mut pending = self.pending.lock();
        while pending.is_empty() && !pending.stopped {
            self.changed.wait(&mut pending);
        }
        if pending.stopped { None } else { Some(pending.take()) }
    }

    /// Answers the inodes that it must leave for later.
    fn tell_everything(&self, notifier: &Notifier, channel: &File, is_held: impl Fn(Ino) -> bool) -> Vec<Ino> {
        let highest = self.highest_told.load(Ordering::Relaxed);
        tracing::info!(highest, "Many changes at once: the kernel forgets all it knows");
        note(increment_epoch(channel), "drop all names");
        let mut held = Vec::new();
        for ino in ROOT_INO..=highest {
            if is_held(ino) {
                held.push(ino);
            } else {
                note(notifier.inval_inode(INodeNo(ino), 0, 0), "drop an inode");
            }
        }
        held
    }
}

fn tell(notifier: &Notifier, pending: &Pending) {
    for (parent, name) in &pending.names {
        note(
            notifier.inval_entry(INodeNo(*parent), OsStr::from_bytes(name)),
            "drop a name",
        );
    }
    for ino in &pending.inodes {
        note(notifier.inval_inode(INodeNo(*ino), 0, 0), "drop an inode");
    }
}

/// Makes the kernel look up every name anew.
fn increment_epoch(mut channel: &File) -> io::Result<()> {
    // struct fuse_out_header: length, code, and 0 for "no request".
    let mut message = [0; 16];
    message[..4].copy_from_slice(&16_u32.to_ne_bytes());
    message[4..8].copy_from_slice(&NOTIFY_INC_EPOCH.to_ne_bytes());
    channel.write_all(&message)
}

/// The kernel refuses when it knows nothing of the name or inode, or is unmounting: all the better.
fn note(result: io::Result<()>, action: &'static str) {
    if let Err(error) = result {
        tracing::debug!("The kernel did not {action}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_drops_its_directory_too_and_repeats_cost_nothing() {
        let mut pending = Pending::default();
        pending.add_name(7, b"a");
        pending.add_name(7, b"a");
        assert_eq!((pending.names.len(), pending.inodes.len()), (1, 1));
        assert!(pending.inodes.contains(&7));
    }

    #[test]
    fn too_much_becomes_everything_and_begins_anew_once_taken() {
        let mut pending = Pending::default();
        for ino in 0..PENDING_MAX as u64 {
            pending.add_inode(ino);
        }
        assert!(pending.everything && pending.inodes.is_empty() && !pending.is_empty());
        pending.add_name(7, b"a");
        assert!(pending.names.is_empty());
        assert!(pending.take().everything);
        assert!(pending.is_empty());
        pending.add_inode(1);
        assert!(!pending.is_empty() && !pending.everything);
    }

    #[test]
    fn what_is_waited_on_stays_and_the_rest_goes() {
        let mut pending = Pending::default();
        pending.add_name(7, b"a");
        pending.add_name(8, b"b");
        let free = pending.split_off_free(|ino| ino == 7);
        assert!(free.names.contains(&(8, b"b"[..].into())) && free.inodes.contains(&8) && free.names.len() == 1);
        let mut later = Pending::default();
        later.add_inode(9);
        later.put_back(pending);
        assert_eq!((later.names.len(), later.inodes.len()), (1, 2));
    }

    #[test]
    fn a_lost_notification_is_bounded_where_the_kernel_cannot_drop_everything() {
        assert_eq!(time_to_live(Version(7, 31)), TTL_WITHOUT_EPOCH);
        assert_eq!(time_to_live(Version(7, 45)), TTL_WITH_EPOCH);
    }
}

//! Makes changes of the bucket felt: each takes effect as an operation of the actor, so that the kernel raises the inotify
//! events of a local change.
//!
//! ```text
//!  replica ── announce ──> queue ── this thread ── command ──> actor ── request ──> handler: take_effect, answer
//!                                        └── without an actor, or in a storm: take_effect, tell the kernel
//! ```
//!
//! - The handler of the actor's request is the moment in which a change takes effect: before, nobody can see it.
//! - Changed content takes effect first, then the kernel drops its pages, and then comes the event: who reads because of
//!   the event reads what is new.
//! - What cannot be felt (a lock is held too long, the actor is gone, a folder is not writable) takes effect all the same,
//!   and so do more than [`QUEUE_FELT_MAX`] changes at once and what the replica did by itself. Afterwards each folder of
//!   such changes is touched once.
//!
//! No lock is held while the kernel is told something or a command is under way.
//!
//! Owns: the queue, its thread, the actor's life. Does not own: the actor (`felt`), what a change does (`notefs_cache`),
//! the kernel's other caches (`fuse/notify.rs`).

mod answers;
mod feel;
mod gate;
mod staff;

pub(super) use answers::{ActorDesk, Refuse};
pub(super) use gate::{Act, Gate};

use super::notify::KernelCache;
use crate::events::Events;
use crate::filesystem::Filesystem;
use feel::Feeler;
use fuser::Notifier;
use notefs_cache::replica::{ANNOUNCED_MAX, Announcer, RemoteChange};
use notefs_cache::{Ino, ROOT_INO};
use parking_lot::{Condvar, Mutex};
use staff::Staff;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Changes that may wait and still have events of their own: a round's, and those that have waited for readers.
const QUEUE_FELT_MAX: usize = ANNOUNCED_MAX + 1_000;

/// Changes that may wait at all. The replica lets what does not fit take effect by itself.
const QUEUE_MAX: usize = 65_536;

/// Folders touched after a storm; of more, only the root is.
const TOUCHED_FOLDERS_MAX: usize = 1_000;

/// How long the thread sleeps before it looks after actors that have ended.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// What the thread is to do next.
#[derive(Debug)]
enum Job {
    /// Let it be felt.
    Feel(RemoteChange),
    /// Let it take effect; its folder is touched later.
    Quietly(RemoteChange),
    /// Touch a folder.
    Touch(Ino),
    /// Touch the folder of a file.
    TouchAround(Ino),
    /// Nothing; look after the actor.
    Idle,
}

#[derive(Debug, Default)]
struct Queue {
    changes: VecDeque<RemoteChange>,
    /// Set by too many changes, until all of them have taken effect.
    storm: bool,
    touches: HashSet<Ino>,
    /// Files whose folders are to be touched.
    files: HashSet<Ino>,
    stopped: bool,
}

impl Queue {
    fn add(&mut self, change: RemoteChange) {
        if self.stopped || self.changes.len() >= QUEUE_MAX {
            return;
        }
        self.changes.push_back(change);
        if self.changes.len() > QUEUE_FELT_MAX && !self.storm {
            tracing::info!("Many changes at once: only their folders raise events");
            self.storm = true;
        }
    }

    fn touch_later(&mut self, folder: Ino) {
        if self.touches.len() >= TOUCHED_FOLDERS_MAX {
            self.touches.clear();
            self.touches.insert(ROOT_INO);
        }
        self.touches.insert(folder);
    }

    fn next(&mut self) -> Option<Job> {
        if let Some(change) = self.changes.pop_front() {
            return Some(if self.storm {
                Job::Quietly(change)
            } else {
                Job::Feel(change)
            });
        }
        self.storm = false;
        if let Some(file) = self.files.iter().next().copied() {
            self.files.remove(&file);
            return Some(Job::TouchAround(file));
        }
        let folder = self.touches.iter().next().copied()?;
        self.touches.remove(&folder);
        Some(Job::Touch(folder))
    }
}

/// The announcer of one mount.
pub(super) struct Felt {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What is needed to start.
pub(super) struct FeltParts {
    pub(super) filesystem: Arc<Filesystem>,
    pub(super) kernel: Arc<KernelCache>,
    pub(super) gate: Arc<Gate>,
    pub(super) notifier: Notifier,
    pub(super) events: Arc<Events>,
    /// Where, and which mount (`major:minor`); none where nothing is to raise events.
    pub(super) place: Option<(PathBuf, String)>,
}

impl Announcer for Felt {
    fn announce(&self, change: RemoteChange) {
        self.queue.lock().add(change);
        self.changed.notify_one();
    }
}

impl Felt {
    /// Starts the thread, and the actor with it.
    pub(super) fn start(parts: FeltParts) -> io::Result<(Arc<Felt>, JoinHandle<()>)> {
        let felt = Arc::new(Felt {
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let this = Arc::clone(&felt);
        let thread = std::thread::Builder::new().name("fuse-felt".into()).spawn(move || {
            let staff = Staff::new(parts.place.clone(), Arc::clone(&parts.gate));
            this.run(Feeler::new(parts, staff));
        })?;
        Ok((felt, thread))
    }

    fn run(&self, mut feeler: Feeler) {
        feeler.staff.look_after();
        while let Some(job) = self.next() {
            feeler.staff.look_after();
            let unfelt = match job {
                Job::Feel(change) => (!feeler.feel(&change)).then_some(change.parent),
                Job::Quietly(change) => feeler.take_effect(&change).then_some(change.parent),
                Job::Touch(folder) => {
                    feeler.touch(folder);
                    None
                }
                Job::TouchAround(file) => feeler.folder_of(file),
                Job::Idle => None,
            };
            if let Some(folder) = unfelt {
                self.queue.lock().touch_later(folder);
            }
        }
        feeler.staff.dismiss();
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        if queue.stopped {
            return None;
        }
        if let Some(job) = queue.next() {
            return Some(job);
        }
        self.changed.wait_for(&mut queue, IDLE_WAIT);
        if queue.stopped {
            return None;
        }
        Some(queue.next().unwrap_or(Job::Idle))
    }

    /// The kernel was told of these names' folders and of these inodes: what changed there had no events of its own.
    pub(super) fn changed_silently(&self, folders: impl Iterator<Item = Ino>, inodes: impl Iterator<Item = Ino>) {
        let mut queue = self.queue.lock();
        folders.for_each(|folder| queue.touch_later(folder));
        for ino in inodes {
            if queue.files.len() < QUEUE_MAX {
                queue.files.insert(ino);
            }
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// Makes the thread send the actor away and end. What still waits is left to the replica.
    pub(super) fn stop(&self) {
        let mut queue = self.queue.lock();
        queue.stopped = true;
        queue.changes.clear();
        drop(queue);
        self.changed.notify_all();
    }
}

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
//! - What happens in a folder that has just been made waits a moment, so that watchers watch it by then (`fresh`).
//! - What cannot be felt (a lock is held too long, the actor is gone, a folder is not writable) takes effect all the same,
//!   and so do more than [`QUEUE_FELT_MAX`] changes at once and what the replica did by itself. Afterwards each folder of
//!   such changes is touched once, as soon as there is an actor to do it.
//!
//! No lock is held while the kernel is told something or a command is under way.
//!
//! Owns: the queue, its thread, the actor's life. Does not own: the actor (`felt`), what a change does (`notefs_cache`),
//! the kernel's other caches (`fuse/notify.rs`).

mod answers;
mod feel;
mod fresh;
mod gate;
mod staff;

pub(super) use answers::{ActorDesk, Refuse};
pub(super) use gate::{Act, Gate};

use super::notify::KernelCache;
use crate::events::Events;
use crate::filesystem::Filesystem;
use feel::Feeler;
use fuser::Notifier;
use notefs_cache::replica::{ANNOUNCED_MAX, Announcer, RemoteChange, RemoteChangeKind};
use notefs_cache::{Ino, ROOT_INO};
use parking_lot::{Condvar, Mutex};
use staff::Staff;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Changes that may wait and still have events of their own: a round's, and those that have waited for readers.
const QUEUE_FELT_MAX: usize = ANNOUNCED_MAX + 1_000;

/// Changes that may wait at all. The replica lets what does not fit take effect by itself.
const QUEUE_MAX: usize = 65_536;

/// Folders touched after a storm; of more, only the root is.
const TOUCHED_FOLDERS_MAX: usize = 1_000;

/// How often a folder is touched by actors that end before they have done it.
const TOUCH_TRIES_MAX: u32 = 5;

/// Folders are touched when nothing has changed without an event for so long, so that a storm touches each of them once.
const TOUCH_QUIET_MS: u64 = 100;

/// But no later than this: whoever watches is to hear of a storm that does not end.
const TOUCH_WAIT_MAX_MS: u64 = 2_000;

/// How long the thread sleeps before it looks after actors that have ended.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// The same while folders wait to be touched, for a moment of quiet or for an actor.
const TOUCH_WAIT: Duration = Duration::from_millis(50);

/// What the thread is to do next.
#[derive(Debug)]
enum Job {
    /// Let it be felt.
    Feel(RemoteChange),
    /// Let it take effect; its folder is touched later.
    Quietly(RemoteChange),
    /// Touch a folder that has been tried so often before.
    Touch(Ino, u32),
    /// Touch the folder of a file.
    TouchAround(Ino),
    /// Nothing; look after the actor.
    Idle,
}

/// When something changes without events.
#[derive(Debug, Clone, Copy)]
struct Silence {
    first: Instant,
    newest: Instant,
}

#[derive(Debug, Default)]
struct Queue {
    changes: VecDeque<RemoteChange>,
    /// Set by too many changes, until all of them have taken effect.
    storm: bool,
    /// Folders to be touched, and how often each was tried in vain.
    touches: HashMap<Ino, u32>,
    /// Of those that are to be touched now.
    silence: Option<Silence>,
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
        let now = Instant::now();
        self.silence
            .get_or_insert(Silence {
                first: now,
                newest: now,
            })
            .newest = now;
        self.touch_after(folder, 0);
    }

    /// Whether more silent changes are likely to come, so that folders are not touched yet.
    fn is_gathering(&self, now: Instant) -> bool {
        self.silence.is_some_and(|silence| {
            now < silence.newest + Duration::from_millis(TOUCH_QUIET_MS)
                && now < silence.first + Duration::from_millis(TOUCH_WAIT_MAX_MS)
        })
    }

    /// What changed without an event: the folder that has the name now, and the one that had it.
    fn touch_around(&mut self, change: &RemoteChange) {
        self.touch_later(change.parent);
        if let RemoteChangeKind::Moved { from_parent, .. } = &change.kind {
            self.touch_later(*from_parent);
        }
    }

    fn touch_after(&mut self, folder: Ino, tries: u32) {
        if tries >= TOUCH_TRIES_MAX {
            return;
        }
        if self.touches.len() >= TOUCHED_FOLDERS_MAX {
            self.touches.clear();
            self.touches.insert(ROOT_INO, 0);
        }
        self.touches.entry(folder).or_insert(tries);
    }

    /// `can_touch`: there is somebody who touches folders. What is to be touched waits until there is.
    fn next(&mut self, can_touch: bool, now: Instant) -> Option<Job> {
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
        if self.is_gathering(now) {
            return None;
        }
        let Some((folder, tries)) = self.touches.iter().next() else {
            self.silence = None;
            return None;
        };
        if !can_touch {
            return None;
        }
        let job = Job::Touch(*folder, *tries);
        let folder = *folder;
        self.touches.remove(&folder);
        Some(job)
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
        while let Some(job) = self.next(feeler.can_touch()) {
            feeler.staff.look_after();
            match job {
                Job::Feel(change) => {
                    if !feeler.feel(&change) {
                        self.queue.lock().touch_around(&change);
                    }
                }
                Job::Quietly(change) => {
                    if feeler.take_effect(&change) {
                        self.queue.lock().touch_around(&change);
                    }
                }
                Job::Touch(folder, tries) => {
                    if !feeler.touch(folder) {
                        self.queue.lock().touch_after(folder, tries + 1);
                    }
                }
                Job::TouchAround(file) => {
                    if let Some(folder) = feeler.folder_of(file) {
                        self.queue.lock().touch_later(folder);
                    }
                }
                Job::Idle => {}
            }
        }
        feeler.staff.dismiss();
    }

    fn next(&self, can_touch: bool) -> Option<Job> {
        let mut queue = self.queue.lock();
        if queue.stopped {
            return None;
        }
        if let Some(job) = queue.next(can_touch, Instant::now()) {
            return Some(job);
        }
        let wait = if queue.touches.is_empty() {
            IDLE_WAIT
        } else {
            TOUCH_WAIT
        };
        self.changed.wait_for(&mut queue, wait);
        if queue.stopped {
            return None;
        }
        Some(queue.next(can_touch, Instant::now()).unwrap_or(Job::Idle))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_wait_for_somebody_who_touches_them_but_are_not_tried_for_ever() {
        let mut queue = Queue::default();
        queue.touch_later(7);
        let later = Instant::now() + Duration::from_millis(TOUCH_QUIET_MS);
        assert!(queue.next(false, later).is_none());
        for tries in 0..TOUCH_TRIES_MAX {
            assert!(matches!(queue.next(true, later), Some(Job::Touch(7, before)) if before == tries));
            assert!(queue.next(true, later).is_none());
            queue.touch_after(7, tries + 1);
        }
        assert!(queue.next(true, later).is_none());
    }

    #[test]
    fn folders_are_touched_once_a_storm_is_over_or_goes_on_for_too_long() {
        let mut queue = Queue::default();
        queue.touch_later(7);
        let Some(Silence { first, newest }) = queue.silence else {
            panic!("it is not noted")
        };
        let (quiet, long) = (
            Duration::from_millis(TOUCH_QUIET_MS),
            Duration::from_millis(TOUCH_WAIT_MAX_MS),
        );
        assert!(queue.next(true, newest).is_none());
        queue.silence = Some(Silence {
            first,
            newest: first + long,
        });
        assert!(queue.next(true, first + quiet).is_none(), "it goes on");
        assert!(matches!(queue.next(true, first + long), Some(Job::Touch(7, 0))));
        assert!(queue.next(true, first + long).is_none());
        assert!(queue.silence.is_none(), "the next storm waits anew");
    }

    #[test]
    fn what_moved_without_an_event_touches_both_folders() {
        let mut queue = Queue::default();
        queue.touch_around(&RemoteChange {
            id: 1,
            kind: RemoteChangeKind::Moved {
                from_parent: 7,
                from_name: b"a".to_vec(),
            },
            parent: 8,
            name: b"b".to_vec(),
            ino: 9,
            is_dir: false,
            origin: "foreign".to_owned(),
        });
        let mut folders: Vec<Ino> = queue.touches.into_keys().collect();
        folders.sort_unstable();
        assert_eq!(folders, [7, 8]);
    }
}

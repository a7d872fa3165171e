//! The stream of changes that `notefs events` prints: what programs here did, and what came from the bucket.
//!
//! It costs nothing while nobody reads. Each reader has a bounded queue; what does not fit is counted and told. Writes to
//! one file within a moment are one event.
//!
//! Owns: readers, their queues, joining writes. Does not own: where changes come from (`filesystem`, `fuse/felt.rs`), how
//! they are printed (`cli/events.rs`).

use notefs_cache::{FileKind, Ino, Replica};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The origin of changes that programs on this machine made.
pub(crate) const ORIGIN_LOCAL: &str = "local";

/// The origin of a folder's change that stands for many changes in it.
pub(crate) const ORIGIN_SEVERAL: &str = "several";

/// Events that may wait for one reader.
const QUEUE_EVENTS_MAX: usize = 4_096;

/// Files whose writes may be joined at once.
const WRITTEN_FILES_MAX: usize = 4_096;

/// Writes are told when none came for this long ...
const WRITES_QUIET_MS: u64 = 100;

/// ... or after this.
const WRITES_JOINED_MAX_MS: u64 = 1_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventKind {
    /// A name is new.
    Created,
    /// Content or attributes changed.
    Modified,
    /// A name is gone.
    Removed,
    /// A name moved.
    Moved,
}

/// One change of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// When it was told, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// [`ORIGIN_LOCAL`], [`ORIGIN_SEVERAL`], the writer's id, or `foreign` for a program that is no notefs.
    pub(crate) origin: String,
    /// What happened.
    pub(crate) kind: EventKind,
    /// The path below the mount.
    pub(crate) path: Vec<u8>,
    /// The path before, if it moved.
    pub(crate) from: Option<Vec<u8>>,
    /// Whether it is a folder.
    pub(crate) is_folder: bool,
    /// Whether a change from elsewhere raised file events of its own.
    pub(crate) felt: Option<bool>,
}

impl Event {
    /// A local one, now.
    pub(crate) fn new(kind: EventKind, path: Vec<u8>, from: Option<Vec<u8>>, is_folder: bool) -> Event {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Event {
            at_ms: now.as_millis() as u64,
            origin: ORIGIN_LOCAL.to_owned(),
            kind,
            path,
            from,
            is_folder,
            felt: None,
        }
    }

    /// Whether it concerns this folder or what is in it; the empty path is the root.
    pub(crate) fn is_below(&self, folder: &[u8]) -> bool {
        let inside = |path: &[u8]| {
            folder.is_empty() || (path.starts_with(folder) && matches!(path.get(folder.len()), None | Some(b'/')))
        };
        inside(&self.path) || self.from.as_deref().is_some_and(inside)
    }
}

/// A change that a program made, before it has a path.
#[derive(Debug)]
pub(crate) enum LocalChange {
    /// A name appeared or vanished.
    Name(EventKind, (Ino, Vec<u8>), bool),
    /// A name moved.
    Moved {
        /// Folder and name before.
        from: (Ino, Vec<u8>),
        /// Folder and name after.
        to: (Ino, Vec<u8>),
        /// The other name moved the other way.
        is_exchange: bool,
    },
    /// Content or attributes.
    Inode(Ino),
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum Next {
    /// The next event.
    Event(Arc<Event>),
    /// So many are missing here, because the reader was too slow.
    Lost(u64),
    /// None within the time.
    Nothing,
    /// The mount has ended.
    Ended,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Arc<Event>>,
    lost: u64,
    ended: bool,
}

#[derive(Debug, Default)]
struct Inbox {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// First and newest write of a file.
type Written = (Instant, Instant);

/// All readers of one mount.
#[derive(Debug, Default)]
pub(crate) struct Events {
    readers: Mutex<Vec<Arc<Inbox>>>,
    reader_count: AtomicUsize,
    written: Mutex<HashMap<Ino, Written>>,
    ended: AtomicBool,
}

impl Events {
    /// Whether anybody reads: else nothing needs to be told.
    pub(crate) fn has_readers(&self) -> bool {
        self.reader_count.load(Ordering::Relaxed) > 0
    }

    /// From now on, tells all events to the reader.
    pub(crate) fn subscribe(self: &Arc<Self>) -> Reader {
        let inbox = Arc::new(Inbox::default());
        let mut readers = self.readers.lock();
        readers.push(Arc::clone(&inbox));
        self.reader_count.store(readers.len(), Ordering::Relaxed);
        drop(readers);
        Reader {
            events: Arc::clone(self),
            inbox,
        }
    }

    /// Tells an event to all readers.
    pub(crate) fn publish(&self, event: Event) {
        let event = Arc::new(event);
        for inbox in self.readers.lock().iter() {
            let mut queue = inbox.queue.lock();
            if queue.lost > 0 || queue.events.len() >= QUEUE_EVENTS_MAX {
                queue.lost += 1;
            } else {
                queue.events.push_back(Arc::clone(&event));
            }
            drop(queue);
            inbox.filled.notify_one();
        }
    }

    /// Tells what a program did. Its path is the one that holds now.
    pub(crate) fn tell(&self, replica: &Replica, change: LocalChange) {
        match change {
            LocalChange::Name(kind, (parent, name), is_folder) => {
                if let Some(path) = path_of(replica, parent, &name) {
                    self.publish(Event::new(kind, path, None, is_folder));
                }
            }
            LocalChange::Moved { from, to, is_exchange } => {
                self.tell_moved(replica, &from, &to);
                if is_exchange {
                    self.tell_moved(replica, &to, &from);
                }
            }
            LocalChange::Inode(ino) => {
                let now = Instant::now();
                let mut written = self.written.lock();
                if written.len() < WRITTEN_FILES_MAX || written.contains_key(&ino) {
                    written.entry(ino).or_insert((now, now)).1 = now;
                } else {
                    drop(written);
                    self.tell_written(replica, ino);
                }
            }
        }
    }

    fn tell_moved(&self, replica: &Replica, from: &(Ino, Vec<u8>), to: &(Ino, Vec<u8>)) {
        let path = path_of(replica, to.0, &to.1);
        let is_folder = replica
            .lookup(to.0, &to.1)
            .is_ok_and(|attr| attr.kind == FileKind::Directory);
        if let (Some(from), Some(path)) = (path_of(replica, from.0, &from.1), path) {
            self.publish(Event::new(EventKind::Moved, path, Some(from), is_folder));
        }
    }

    fn tell_written(&self, replica: &Replica, ino: Ino) {
        let is_folder = replica.attr(ino).is_ok_and(|attr| attr.kind == FileKind::Directory);
        // A file that has no name any more needs no event.
        if let Ok(path) = replica.path(ino) {
            self.publish(Event::new(EventKind::Modified, path, None, is_folder));
        }
    }

    /// Tells of files that were written and are quiet now. To be called again and again by who reads.
    pub(crate) fn settle(&self, replica: &Replica, now: Instant) {
        let is_due = |(first, newest): &Written| {
            now.saturating_duration_since(*newest) >= Duration::from_millis(WRITES_QUIET_MS)
                || now.saturating_duration_since(*first) >= Duration::from_millis(WRITES_JOINED_MAX_MS)
        };
        let due: Vec<Ino> = self
            .written
            .lock()
            .extract_if(|_, times| is_due(times))
            .map(|(ino, _)| ino)
            .collect();
        due.into_iter().for_each(|ino| self.tell_written(replica, ino));
    }

    /// Tells all readers that the mount has ended.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        for inbox in self.readers.lock().iter() {
            inbox.queue.lock().ended = true;
            inbox.filled.notify_one();
        }
    }

    /// Whether the mount has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

fn path_of(replica: &Replica, parent: Ino, name: &[u8]) -> Option<Vec<u8>> {
    let mut path = replica.path(parent).ok()?;
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend(name);
    Some(path)
}

/// One who reads events; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Reader {
    events: Arc<Events>,
    inbox: Arc<Inbox>,
}

impl Reader {
    /// Waits for the next event.
    pub(crate) fn next(&self, timeout: Duration) -> Next {
        let mut queue = self.inbox.queue.lock();
        if queue.events.is_empty() && queue.lost == 0 && !queue.ended {
            self.inbox.filled.wait_for(&mut queue, timeout);
        }
        match queue.events.pop_front() {
            Some(event) => Next::Event(event),
            None if queue.lost > 0 => Next::Lost(std::mem::take(&mut queue.lost)),
            None if queue.ended => Next::Ended,
            None => Next::Nothing,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = self.events.readers.lock();
        readers.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        self.events.reader_count.store(readers.len(), Ordering::Relaxed);
        if readers.is_empty() {
            self.events.written.lock().clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(path: &str) -> Event {
        Event::new(EventKind::Created, path.into(), None, false)
    }

    #[test]
    fn a_slow_reader_is_told_how_many_it_missed() {
        let events = Arc::new(Events::default());
        assert!(!events.has_readers());
        let (slow, quick) = (events.subscribe(), events.subscribe());
        for number in 0..QUEUE_EVENTS_MAX + 7 {
            events.publish(event(&number.to_string()));
            assert!(matches!(quick.next(Duration::ZERO), Next::Event(_)));
        }
        for number in 0..QUEUE_EVENTS_MAX {
            let Next::Event(seen) = slow.next(Duration::ZERO) else {
                panic!("event {number} is missing")
            };
            assert_eq!(seen.path, number.to_string().into_bytes());
        }
        assert!(matches!(slow.next(Duration::ZERO), Next::Lost(7)));
        events.publish(event("a"));
        assert!(matches!(slow.next(Duration::ZERO), Next::Event(seen) if seen.path == b"a"));
        assert!(matches!(slow.next(Duration::ZERO), Next::Nothing));
        events.end();
        assert!(matches!(slow.next(Duration::ZERO), Next::Ended));
        drop((slow, quick));
        assert!(!events.has_readers());
    }

    #[test]
    fn a_folder_is_no_prefix_of_its_neighbour() {
        let moved = Event::new(EventKind::Moved, b"c/x".to_vec(), Some(b"a/x".to_vec()), false);
        assert!(moved.is_below(b"") && moved.is_below(b"a") && moved.is_below(b"c") && moved.is_below(b"c/x"));
        assert!(!event("ab/x").is_below(b"a") && !event("a").is_below(b"a/x"));
    }
}

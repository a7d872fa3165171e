//! Turns the replica's changes into the index's: leaves out what is no note, and reads what is.
//!
//! Owns: which changes matter, reading notes with what they need from the bucket, bounds on memory and fetches. Does not
//! own: when, and what happens to notes that could not be read (`bridge.rs`, `bridge/retry.rs`).

use notefs_cache::replica::Change;
use notefs_cache::{Error, FileKind, Ino, Need, Replica};
use notefs_indexer::{MAX_NOTE_BYTES, is_note};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Notes read at once stay within about this much memory.
const PART_BYTES_MAX: u64 = 4 << 20;

/// What a note that is read weighs besides its bytes.
const NOTE_OVERHEAD_BYTES: u64 = 4 << 10;

/// Fetches from the bucket at once on behalf of the index.
const FETCHES_MAX: usize = 8;

/// How long one fetch may take; the replica's own deadline is usually shorter.
const FETCH_DEADLINE_SECONDS: u64 = 60;

/// Rounds of fetches for one part, so that what ever needs more comes later.
const ROUNDS_MAX: usize = 256;

/// A step towards the index.
pub(super) enum Planned {
    /// Needs no reading.
    Now(notefs_indexer::Change),
    /// The note must be read.
    Read {
        /// Path below the mount.
        path: Vec<u8>,
        /// The file.
        ino: Ino,
        /// How often it could not be read.
        tries: u32,
    },
}

/// A note that could not be read.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    /// Path below the mount.
    pub(super) path: Vec<u8>,
    /// The file.
    pub(super) ino: Ino,
    /// Why.
    pub(super) error: String,
    /// Whether it may work later by itself.
    pub(super) retryable: bool,
    /// How often it could not be read.
    pub(super) tries: u32,
}

/// What reading brought.
#[derive(Default)]
pub(super) struct Gathered {
    /// For the index, in order.
    pub(super) changes: Vec<notefs_indexer::Change>,
    /// To be tried again.
    pub(super) failed: Vec<Failed>,
    /// Whether the failed ones only lacked time.
    pub(super) interrupted: bool,
}

/// What of the changes matters to the index. Of several states of one path only the last is read.
pub(super) fn plan(changes: Vec<Change>) -> Vec<Planned> {
    let mut planned: Vec<Option<Planned>> = Vec::with_capacity(changes.len());
    let mut last_of: HashMap<Vec<u8>, usize> = HashMap::new();
    for change in changes {
        let (path, step) = match change {
            Change::Moved { from, to } => {
                last_of.clear();
                planned.push(Some(Planned::Now(notefs_indexer::Change::Moved { from, to })));
                continue;
            }
            Change::Upsert { path, .. } | Change::Gone { path } if !is_note(&path) => {
                tracing::trace!("{} is no note", String::from_utf8_lossy(&path));
                continue;
            }
            Change::Upsert { path, ino } => (path.clone(), Planned::Read { path, ino, tries: 0 }),
            Change::Gone { path } => (path.clone(), Planned::Now(notefs_indexer::Change::Gone { path })),
        };
        if let Some(earlier) = last_of.insert(path, planned.len()) {
            planned[earlier] = None;
        }
        planned.push(Some(step));
    }
    planned.into_iter().flatten().collect()
}

/// Whether a moved directory comes from where nothing is indexed to where notes are.
pub(super) fn becomes_visible(from: &[u8], to: &[u8]) -> bool {
    let shown = |dir: &[u8]| is_note(&[dir, b"/x.md"].concat());
    !shown(from) && shown(to)
}

/// Cuts a plan into parts that fit in memory.
pub(super) fn split(planned: Vec<Planned>, replica: &Replica) -> Vec<Vec<Planned>> {
    let weigh = |planned: &Planned| match planned {
        Planned::Read { ino, .. } => {
            NOTE_OVERHEAD_BYTES + replica.attr(*ino).map_or(0, |attr| attr.size.min(MAX_NOTE_BYTES))
        }
        Planned::Now(_) => NOTE_OVERHEAD_BYTES,
    };
    let mut parts: Vec<Vec<Planned>> = Vec::new();
    let mut weight = u64::MAX;
    for step in planned {
        let step_weight = weigh(&step);
        weight = weight.saturating_add(step_weight);
        if weight > PART_BYTES_MAX {
            weight = step_weight;
            parts.push(Vec::new());
        }
        parts.extend(parts.is_empty().then(Vec::new));
        if let Some(part) = parts.last_mut() {
            part.push(step);
        }
    }
    parts
}

/// The backlog's items that are done: read, no notes, gone, or given up after many tries.
pub(super) fn settled(items: &[(u64, Ino)], failed: &[Failed], failures: u32) -> Vec<u64> {
    let again = |failed: &&Failed| failed.retryable || failures < super::retry::TRIES_MAX;
    let again: HashSet<Ino> = failed.iter().filter(again).map(|failed| failed.ino).collect();
    items
        .iter()
        .filter(|(_, ino)| !again.contains(ino))
        .map(|(cookie, _)| *cookie)
        .collect()
}

/// Reads notes, fetching what is missing.
pub(super) struct Gatherer {
    pub(super) replica: Arc<Replica>,
    pub(super) runtime: Handle,
    /// Becomes true when the mount ends: then nothing is fetched any more.
    pub(super) stop: watch::Receiver<bool>,
}

/// A step on its way.
enum Slot {
    /// For the index.
    Ready(notefs_indexer::Change),
    /// Gone again already: a later change says so.
    Skipped,
    /// Not read yet.
    Open(Failed, Option<Need>),
}

impl Gatherer {
    /// Reads what is planned. Gives up, for now, what cannot be fetched; once `hurry` says so, also what is not fetched yet.
    pub(super) fn gather(&self, planned: Vec<Planned>, hurry: &dyn Fn() -> bool) -> Gathered {
        let mut slots: Vec<Slot> = planned.into_iter().map(Slot::from).collect();
        let mut interrupted = false;
        for _ in 0..ROUNDS_MAX {
            slots.iter_mut().for_each(|slot| self.read_slot(slot));
            match self.fetch(&mut slots) {
                Fetched::Nothing | Fetched::Away => break,
                Fetched::Some => {}
            }
            interrupted = hurry();
            if interrupted {
                slots.iter_mut().for_each(|slot| self.read_slot(slot));
                break;
            }
        }
        let mut gathered = Gathered {
            interrupted: interrupted || *self.stop.borrow(),
            ..Gathered::default()
        };
        for slot in slots {
            match slot {
                Slot::Ready(change) => gathered.changes.push(change),
                Slot::Skipped => {}
                Slot::Open(failed, _) => gathered.failed.push(failed),
            }
        }
        gathered
    }

    /// Reads a note, or learns what it needs.
    fn read_slot(&self, slot: &mut Slot) {
        let Slot::Open(note, need) = slot else {
            return;
        };
        if !note.retryable {
            return;
        }
        match self.read(&note.path, note.ino) {
            Ok(change) => *slot = Slot::Ready(change),
            Err(Error::Need(missing)) => *need = Some(missing),
            Err(Error::Posix(_)) => *slot = Slot::Skipped,
            Err(error) => {
                note.retryable = error.is_retryable();
                note.error = error.to_string();
                *need = None;
            }
        }
    }

    /// Fetches what some of the slots need.
    fn fetch(&self, slots: &mut [Slot]) -> Fetched {
        let needed = |slot: &Slot| matches!(slot, Slot::Open(_, Some(_)));
        let mut some: Vec<&mut Slot> = slots.iter_mut().filter(|slot| needed(slot)).take(FETCHES_MAX).collect();
        if some.is_empty() || *self.stop.borrow() {
            return Fetched::Nothing;
        }
        let needs = some.iter_mut().map(|slot| match slot {
            Slot::Open(_, need) => need.take(),
            _ => None,
        });
        let results = self.fetch_all(needs.collect());
        let mut fetched = Fetched::Some;
        for (slot, result) in some.into_iter().zip(results) {
            if let (Slot::Open(note, _), Err((error, retryable))) = (slot, result) {
                note.error = error;
                note.retryable = retryable;
                if retryable {
                    fetched = Fetched::Away;
                }
            }
        }
        fetched
    }

    /// Asks for all of them at once and waits, but not beyond the end of the mount.
    fn fetch_all(&self, needs: Vec<Option<Need>>) -> Vec<Result<(), (String, bool)>> {
        let mut results = vec![Err(("the mount ends".to_owned(), true)); needs.len()];
        let mut stop = self.stop.clone();
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for (position, need) in needs.into_iter().enumerate() {
                let replica = self.replica.clone();
                tasks.spawn_on(
                    async move {
                        let Some(need) = need else { return (position, Ok(())) };
                        (position, fetch_one(&replica, need).await)
                    },
                    &self.runtime,
                );
            }
            loop {
                let done = tokio::select! {
                    done = tasks.join_next() => done,
                    _ = stop.wait_for(|stop| *stop) => None,
                };
                match done {
                    Some(Ok((position, result))) => results[position] = result,
                    Some(Err(error)) => tracing::error!("A fetch for the index panicked: {error}"),
                    None => break,
                }
            }
        });
        results
    }

    /// The change that the index shall see for a path. What is not a regular file is no note.
    fn read(&self, path: &[u8], ino: Ino) -> Result<notefs_indexer::Change, Error> {
        let attr = self.replica.attr(ino)?;
        if attr.kind != FileKind::File {
            return Ok(notefs_indexer::Change::Gone { path: path.to_vec() });
        }
        let bytes = self.replica.read(ino, 0, attr.size.min(MAX_NOTE_BYTES) as usize)?;
        Ok(notefs_indexer::Change::Upsert {
            path: path.to_vec(),
            total_bytes: attr.size.max(bytes.len() as u64),
            bytes: bytes.into(),
            mtime_ns: attr.mtime.as_nanos(),
        })
    }
}

/// How a round of fetches went.
enum Fetched {
    /// Nothing is needed.
    Nothing,
    /// Something came.
    Some,
    /// The bucket does not answer: the rest would only wait for it, too.
    Away,
}

impl From<Planned> for Slot {
    fn from(planned: Planned) -> Slot {
        match planned {
            Planned::Now(change) => Slot::Ready(change),
            Planned::Read { path, ino, tries } => {
                let error = "it has not been fetched yet".to_owned();
                Slot::Open(
                    Failed {
                        path,
                        ino,
                        error,
                        retryable: true,
                        tries,
                    },
                    None,
                )
            }
        }
    }
}

/// The error and whether it may work later.
async fn fetch_one(replica: &Replica, need: Need) -> Result<(), (String, bool)> {
    let deadline = Duration::from_secs(FETCH_DEADLINE_SECONDS);
    match tokio::time::timeout(deadline, replica.satisfy(need)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err((error.to_string(), error.is_retryable())),
        Err(_) => Err((format!("no answer from the bucket in {FETCH_DEADLINE_SECONDS} s"), true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upsert(path: &str, ino: Ino) -> Change {
        Change::Upsert { path: path.into(), ino }
    }

    fn shown(planned: &[Planned]) -> Vec<String> {
        let show = |step: &Planned| match step {
            Planned::Read { path, ino, .. } => format!("read {} {ino}", String::from_utf8_lossy(path)),
            Planned::Now(notefs_indexer::Change::Gone { path }) => format!("gone {}", String::from_utf8_lossy(path)),
            Planned::Now(_) => "other".to_owned(),
        };
        planned.iter().map(show).collect()
    }

    #[test]
    fn only_the_last_state_of_a_path_is_read() {
        let gone = |path: &str| Change::Gone { path: path.into() };
        let changes = vec![
            upsert("a.md", 2),
            upsert("b.md", 3),
            upsert("a.md", 4),
            gone("b.md"),
            upsert("c.png", 5),
        ];
        assert_eq!(shown(&plan(changes)), ["read a.md 4", "gone b.md"]);
    }

    #[test]
    fn a_moved_directory_keeps_the_order() {
        let moved = Change::Moved {
            from: b"a".to_vec(),
            to: b"b".to_vec(),
        };
        let changes = vec![upsert("a/x.md", 2), moved, upsert("a/x.md", 3)];
        assert_eq!(shown(&plan(changes)), ["read a/x.md 2", "other", "read a/x.md 3"]);
        assert!(becomes_visible(b".trash/d", b"d") && !becomes_visible(b"c", b"d") && !becomes_visible(b"d", b".d"));
    }

    #[test]
    fn what_failed_stays_in_the_backlog_for_a_while() {
        let failed = |ino, retryable| Failed {
            path: Vec::new(),
            ino,
            error: String::new(),
            retryable,
            tries: 0,
        };
        let items = [(10, 1), (11, 2), (12, 3)];
        assert_eq!(settled(&items, &[failed(2, false)], 0), [10, 12]);
        assert_eq!(settled(&items, &[failed(2, false), failed(3, true)], 99), [10, 11]);
    }
}

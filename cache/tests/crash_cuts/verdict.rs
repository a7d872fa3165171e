//! What a recording promises at each of its events, and whether what is found after a cut keeps it.

use crate::disk::{Cut, Disk};
use crate::machine::{HandClock, Machine};
use crate::script::{Mark, Node, Tree, differences};
use crate::syscalls::{Event, Recorded};
use notefs_cache::store::MemoryStore;
use std::path::Path;
use std::sync::Arc;

/// A script that was run, and everything that happened meanwhile.
pub(crate) struct Recording {
    /// The tree before each step, and at the end.
    pub(crate) trees: Vec<Tree>,
    pub(crate) events: Vec<Recorded>,
}

/// The moment of a cut: the disk, the store, and how far the promises reach.
#[derive(Default)]
pub(crate) struct Moment {
    pub(crate) disk: Disk,
    pub(crate) store: Option<Arc<MemoryStore>>,
    /// Steps that were answered, that had begun, and that are synced.
    done: usize,
    begun: usize,
    synced: usize,
}

impl Moment {
    /// Goes on by one event. Tells whether a cut here can show anything new.
    pub(crate) fn advance(&mut self, recorded: &Recorded) -> bool {
        self.disk.apply(&recorded.event);
        if let Some(store) = &recorded.store {
            self.store = Some(store.clone());
        }
        match recorded.event {
            Event::Mark(Mark::Begun(step)) => self.begun = step + 1,
            Event::Mark(Mark::Done(step)) => self.done = step + 1,
            Event::Mark(Mark::Synced(step)) => self.synced = step + 1,
            _ => return true,
        }
        !matches!(recorded.event, Event::Mark(Mark::Begun(_)))
    }
}

/// Lays out what the cut leaves, starts from it, and checks every promise.
pub(crate) fn check(recording: &Recording, moment: &Moment, cut: Cut, scratch: &Path) -> Result<(), String> {
    let dir = scratch.join("cut");
    moment.disk.lay_out(cut, &dir).map_err(|error| error.to_string())?;
    let outcome = judge(recording, moment, cut, scratch);
    for name in ["cut", "cold"] {
        std::fs::remove_dir_all(scratch.join(name)).ok();
    }
    outcome
}

fn judge(recording: &Recording, moment: &Moment, cut: Cut, scratch: &Path) -> Result<(), String> {
    let Some(store) = moment.store.as_ref().map(|store| store.snapshot()) else {
        return Ok(());
    };
    let boot = if cut == Cut::Kill { 1 } else { 2 };
    let runtime = crate::machine::runtime();
    let dir = scratch.join("cut");
    let clock = HandClock::new(10_000_000, boot);
    let machine = Machine::open(&dir, &store, clock, &runtime).map_err(|error| format!("cannot be opened: {error}"))?;
    let seen = machine.tree().map_err(|error| format!("cannot be read: {error}"))?;
    let lowest = if cut == Cut::Kill { moment.done } else { moment.synced };
    let range = lowest..=moment.begun.max(lowest);
    // Where several trees look alike, it may be the last of them that came back.
    let found = range.clone().rev().find(|at| could_be(recording, &seen, *at, &range));
    let Some(found) = found else {
        let wanted = &recording.trees[*range.start()];
        return Err(format!(
            "no tree of steps {range:?} fits; from the first:\n  {}",
            differences(&seen, wanted).join("\n  ")
        ));
    };
    nothing_is_ahead(recording, &store, *range.end(), found)?;
    intact(&dir)?;
    machine.drain()?;
    let after = machine
        .tree()
        .map_err(|error| format!("cannot be read after the drain: {error}"))?;
    same("the drain changed the folder", &after, &seen)?;
    let cold = Machine::open(&scratch.join("cold"), &store, HandClock::new(0, 1), &runtime);
    let cold = cold.map_err(|error| format!("a cold start fails: {error}"))?;
    let bucket = cold
        .tree()
        .map_err(|error| format!("a cold start cannot read: {error}"))?;
    same("the bucket differs from the folder", &bucket, &seen)?;
    match machine.replica.status().conflicts {
        0 => Ok(()),
        count => Err(format!("{count} conflicts with nobody")),
    }
}

fn same(what: &str, seen: &Tree, wanted: &Tree) -> Result<(), String> {
    match differences(seen, wanted) {
        lines if lines.is_empty() => Ok(()),
        lines => Err(format!("{what}:\n  {}", lines.join("\n  "))),
    }
}

fn intact(dir: &Path) -> Result<(), String> {
    let connection = rusqlite::Connection::open(dir.join("state.db")).map_err(|error| error.to_string())?;
    let verdict: rusqlite::Result<String> = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        other => Err(format!("state.db: {other:?}")),
    }
}

/// Whether `seen` is the tree before step `at`, where bytes that were being changed since the first of `range` may be old or new.
fn could_be(recording: &Recording, seen: &Tree, at: usize, range: &std::ops::RangeInclusive<usize>) -> bool {
    let wanted = &recording.trees[at];
    seen.len() == wanted.len()
        && wanted.iter().all(|(path, node)| match (node, seen.get(path)) {
            (
                Node::File { id, bytes, mode },
                Some(Node::File {
                    bytes: found,
                    mode: found_mode,
                    ..
                }),
            ) => mode == found_mode && (bytes == found || could_be_content(recording, found, bytes.len(), *id, range)),
            (node, found) => found == Some(node),
        })
}

fn could_be_content(
    recording: &Recording,
    found: &[u8],
    size: usize,
    id: u64,
    range: &std::ops::RangeInclusive<usize>,
) -> bool {
    let versions: Vec<Option<&[u8]>> = recording.trees[range.clone()]
        .iter()
        .map(|tree| content_of(tree, id))
        .collect();
    if found.len() != size || versions.iter().all(|version| *version == versions[0]) {
        return false;
    }
    let safe = versions[0].unwrap_or_default();
    found.iter().enumerate().all(|(at, byte)| {
        let old_or_new = versions.iter().flatten().any(|version| version.get(at) == Some(byte));
        old_or_new || (*byte == 0 && at >= safe.len())
    })
}

fn content_of(tree: &Tree, wanted: u64) -> Option<&[u8]> {
    tree.values().find_map(|node| match node {
        Node::File { id, bytes, .. } if *id == wanted => Some(bytes.as_slice()),
        _ => None,
    })
}

/// The bucket may only hold what this machine knows to have written: else the next push would undo what is stored.
fn nothing_is_ahead(recording: &Recording, store: &MemoryStore, end: usize, found: usize) -> Result<(), String> {
    // The object of a link is empty, as that of an empty file is.
    let holds = |trees: &[Tree], key: &str, bytes: &[u8]| {
        trees.iter().any(|tree| match tree.get(key) {
            Some(Node::File { bytes: known, .. }) => known.as_slice() == bytes,
            Some(_) => bytes.is_empty(),
            None => false,
        })
    };
    for key in store.keys() {
        let Some((bytes, _)) = store.raw_get(&key) else {
            continue;
        };
        let ahead = holds(&recording.trees[..=end], &key, &bytes) && !holds(&recording.trees[..=found], &key, &bytes);
        if ahead {
            return Err(format!(
                "the bucket holds {key:?} as it is after step {found}, which this machine has forgotten"
            ));
        }
    }
    Ok(())
}

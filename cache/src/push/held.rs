//! What is held: changes that no program asked for, shown and not carried out until somebody says so.
//!
//! Owns the list, its report and its release. Does not own the decision (`push/guard.rs`). A held inode stays owed; a new operation of a
//! program on it, a new start or a release has it judged anew.

use super::guard::{Case, Doubt, UNASKED_WINDOW_MS, doubt, too_many};
use super::plan::Plan;
use super::run::{Snapshot, in_blob, parse};
use crate::error::Result;
use crate::replica::{HeldChange, Replica};
use crate::state::{Marks, Tables};
use crate::types::Ino;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Removals remembered for the share of a minute.
const LATELY_MAX: usize = 10_000;

/// Held changes kept in one list for people.
const SHOWN_MAX: usize = 100;

/// Held inodes, and the removals done lately without anybody's asking.
#[derive(Default)]
pub(super) struct Held(Mutex<List>);

#[derive(Default)]
struct List {
    inodes: HashMap<Ino, Why>,
    lately_ms: VecDeque<u64>,
}

struct Why {
    /// The newest operation on it when it was held.
    op: u64,
    since_ms: u64,
    reason: String,
}

impl Held {
    /// Whether an inode is held and nothing has happened to it since.
    pub(super) fn contains(&self, ino: Ino, op: u64) -> bool {
        self.0.lock().inodes.get(&ino).is_some_and(|why| why.op == op)
    }

    fn lately(&self, now_ms: u64) -> u64 {
        let mut list = self.0.lock();
        while list
            .lately_ms
            .front()
            .is_some_and(|at| at + UNASKED_WINDOW_MS <= now_ms || list.lately_ms.len() > LATELY_MAX)
        {
            list.lately_ms.pop_front();
        }
        list.lately_ms.len() as u64
    }
}

impl Replica {
    /// Looks whether a plan does what no program asked for; if so, notes and tells it, and nothing of the plan is to be done.
    pub(super) async fn hold_if_unasked(self: &Arc<Self>, snapshot: &Snapshot, plan: &Plan) -> Result<bool> {
        let inode = snapshot.inode.as_ref();
        let case = Case {
            ino: snapshot.ino,
            inode,
            marks: snapshot.marks,
            wanted: &snapshot.wanted,
            at_wanted: &snapshot.at_wanted,
            content_vanished: inode
                .is_some_and(|inode| in_blob(inode) && inode.size > 0 && !self.blobs.exists(inode.ino)),
        };
        let reason = match doubt(&case, plan) {
            None => None,
            Some(Doubt::Emptying { key, etag }) => {
                let head = self.store.head(&parse(&key)?).await;
                self.note_health(&head);
                let full = head?.is_some_and(|info| info.size > 0 && info.etag.0 == etag);
                full.then(|| format!("{key} would become empty, and no program emptied it"))
            }
            Some(Doubt::Vanished { key }) => Some(format!(
                "the local content of {key} has vanished from the cache, and zeros would replace it"
            )),
            Some(Doubt::Bereaving) => Some("its objects would be removed although it still has a name".to_owned()),
            Some(Doubt::Removal { objects }) => self.judge_removal(objects)?,
        };
        match reason {
            Some(reason) => self.hold(snapshot, reason),
            None => {
                self.pusher.held.0.lock().inodes.remove(&snapshot.ino);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn judge_removal(&self, objects: u64) -> Result<Option<String>> {
        let now = self.now_ms();
        let lately = self.pusher.held.lately(now);
        let (waiting, known) = self.view(|tables| {
            let known = tables.count("remote")?;
            Ok((unasked_removals(tables, known)?, known))
        })?;
        if too_many(waiting.max(objects), lately, known) {
            return Ok(Some(format!(
                "{waiting} of {known} objects would be removed, and no program removed these files"
            )));
        }
        let mut list = self.pusher.held.0.lock();
        list.lately_ms.extend(std::iter::repeat_n(now, objects as usize));
        Ok(None)
    }

    fn hold(&self, snapshot: &Snapshot, reason: String) {
        let (op, since_ms) = (snapshot.op, self.now_ms());
        let mut list = self.pusher.held.0.lock();
        let first = list.inodes.is_empty();
        let before = list.inodes.insert(
            snapshot.ino,
            Why {
                op,
                since_ms,
                reason: reason.clone(),
            },
        );
        drop(list);
        if first {
            tracing::error!(
                "Held back what no program asked for: {reason}. `notefs status` lists all of it, `notefs check` mends it, \
                 `notefs sync --release-held` has it done all the same"
            );
        } else if before.is_none() {
            tracing::warn!(ino = snapshot.ino, reason, "Held back as well");
        }
    }

    /// How many changes are held.
    pub(crate) fn held_count(&self) -> u64 {
        self.pusher.held.0.lock().inodes.len() as u64
    }

    /// Why an inode's change is held, if it is.
    pub(crate) fn held_reason(&self, ino: Ino) -> Option<String> {
        self.pusher
            .held
            .0
            .lock()
            .inodes
            .get(&ino)
            .map(|why| format!("Held back: {}", why.reason))
    }

    /// Held inodes.
    pub(crate) fn held_inodes(&self) -> Vec<Ino> {
        self.pusher.held.0.lock().inodes.keys().copied().collect()
    }

    /// An inode is not held any more.
    pub(crate) fn unhold(&self, ino: Ino) {
        self.pusher.held.0.lock().inodes.remove(&ino);
    }

    /// The first held changes, for a report.
    pub(crate) fn held_changes(&self) -> Vec<HeldChange> {
        let now = self.now_ms();
        let list = self.pusher.held.0.lock();
        let mut shown: Vec<(Ino, u64, String)> = list
            .inodes
            .iter()
            .map(|(ino, why)| (*ino, now.saturating_sub(why.since_ms), why.reason.clone()))
            .collect();
        drop(list);
        shown.sort_unstable();
        shown.truncate(SHOWN_MAX);
        let change = |(ino, age_ms, reason)| HeldChange {
            path: self.owed_path(ino).unwrap_or_default(),
            reason,
            age_ms,
        };
        shown.into_iter().map(change).collect()
    }

    /// Whether all that is owed is held, or waits for what is held: waiting for the store is no use then.
    pub fn only_held_left(&self) -> bool {
        let held = self.held_inodes();
        if held.is_empty() || self.pusher.in_flight_count() > 0 {
            return false;
        }
        let waits = self.view(|tables| {
            let owing: Vec<Ino> = tables.dirty.keys().copied().collect();
            for ino in owing.into_iter().filter(|ino| !held.contains(ino)) {
                let directory = match tables.inode(ino)? {
                    Some(inode) => inode.is_dir(),
                    None => tables.remotes_of(ino)?.iter().all(|remote| remote.key.ends_with('/')),
                };
                if !directory {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        waits.unwrap_or(false)
    }

    /// Has what is held done all the same; tells how many changes that are.
    pub fn release_held(&self) -> Result<u64> {
        let held = self.held_inodes();
        self.change(|op| {
            for ino in held
                .iter()
                .filter(|ino| op.tables.dirty.contains_key(ino))
                .copied()
                .collect::<Vec<_>>()
            {
                op.owe_for(ino, Marks::RELEASED);
            }
            Ok(())
        })?;
        for ino in &held {
            self.unhold(*ino);
        }
        tracing::warn!(count = held.len(), "Released what was held back");
        Ok(held.len() as u64)
    }
}

/// Objects whose removal waits without a program having asked for it; counting ends where the sum is beyond doubt.
fn unasked_removals(tables: &mut Tables, enough: u64) -> Result<u64> {
    let unmarked = tables
        .dirty
        .iter()
        .filter(|(_, debt)| !debt.marks.has(Marks::REMOVED) && !debt.marks.has(Marks::RELEASED));
    let unmarked: Vec<Ino> = unmarked.map(|(ino, _)| *ino).collect();
    let mut objects = 0;
    for ino in unmarked {
        if tables.inode(ino)?.is_none_or(|inode| inode.nlink == 0) {
            let remotes = tables.remotes_of(ino)?;
            objects += remotes.iter().filter(|remote| !remote.key.ends_with('/')).count() as u64;
        }
        if objects >= enough {
            break;
        }
    }
    Ok(objects)
}

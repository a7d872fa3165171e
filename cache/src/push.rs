//! Write-back: the loop that makes the bucket hold what the ledger says it should.
//!
//! The ledger is state, not a log: for each key what the bucket holds (`remote` rows), for each inode what it should (its names and
//! versions). A round compares the two for one inode ([`plan`]), acts on the store, and notes what the store acknowledged. Running a round
//! twice is harmless, so recovery after any stop is the normal loop.
//!
//! Owns: when an inode is pushed, how many at a time, retries. `plan` owns what is done, `push/run.rs` the doing, `push/conflict.rs` what
//! happens when somebody else was faster.

mod attempts;
mod conflict;
mod deletions;
mod directory;
mod guard;
mod held;
mod keys;
mod merging;
mod moved;
mod plan;
mod run;
mod upload;

pub(crate) use guard::too_many;
pub(crate) use keys::{is_replaced, resolve_key};
pub(crate) use moved::lies_elsewhere;

use crate::error::{Error, Result};
use crate::owed_object::OwedObject;
use crate::replica::Replica;
use crate::state::{Marks, Mutation};
use crate::types::Ino;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Inodes pushed at a time.
const PUSHES_MAX: usize = 16;

/// How often the loop looks for what is due.
const TICK_MS: u64 = 25;

/// Pauses between tries of an inode that fails: the first, and the longest.
const RETRY_FIRST_MS: u64 = 250;
const RETRY_LONGEST_MS: u64 = 15_000;

/// Hint objects are written this long after the last time at the earliest, when nothing else is owed.
const HINTS_INTERVAL_MS: u64 = 60_000;

/// Descendants of a moved directory marked in one step.
const EXPAND_STEP: usize = 500;

/// What is under way, and what went wrong.
#[derive(Default)]
pub(crate) struct Pusher {
    /// Something may have become due.
    pub(crate) owed: AtomicBool,
    /// The hint object is out of date.
    pub(crate) hints: OwedObject,
    /// Inodes that somebody waits for, and how many do: their delays do not count.
    urgent: Mutex<HashMap<Ino, usize>>,
    /// Until then, delays do not count (monotonic, ms).
    hurry_until_ms: AtomicU64,
    in_flight: Mutex<InFlight>,
    failures: Mutex<HashMap<Ino, Failure>>,
    /// When a push was last given up without an answer (monotonic, ms): what it sent may still arrive.
    unanswered: Mutex<HashMap<Ino, u64>>,
    pub(crate) deletions_tried: Mutex<deletions::DeletionsTried>,
    /// Not before then (monotonic, ms), hurry or not: something else must be stored first.
    postponed: Mutex<HashMap<Ino, u64>>,
    /// Disputes that wait for a program to be done with the file, since then (monotonic, ms).
    waiting_since: Mutex<HashMap<Ino, u64>>,
    /// Texts of uploads that may have landed.
    attempts: attempts::Attempts,
    /// What no program asked for and is not done until somebody says so.
    held: held::Held,
}

#[derive(Default)]
struct InFlight {
    inodes: HashSet<Ino>,
    keys: HashSet<String>,
}

struct Failure {
    tries: u32,
    next_ms: u64,
    at_ms: u64,
    message: String,
    retryable: bool,
}

impl Pusher {
    /// Whether a push of this inode is under way: its outcome is not in the tables yet.
    pub(crate) fn is_in_flight(&self, ino: Ino) -> bool {
        self.in_flight.lock().inodes.contains(&ino)
    }

    pub(crate) fn in_flight_count(&self) -> u64 {
        self.in_flight.lock().inodes.len() as u64
    }

    /// Everything is due until then.
    pub(crate) fn hurry(&self, until_ms: u64) {
        self.hurry_until_ms.fetch_max(until_ms, Ordering::AcqRel);
        self.owed.store(true, Ordering::Release);
    }

    /// Somebody waits for this inode until the answer is dropped.
    pub(crate) fn wait_for(&self, ino: Ino) -> Urgency<'_> {
        *self.urgent.lock().entry(ino).or_default() += 1;
        self.owed.store(true, Ordering::Release);
        Urgency { pusher: self, ino }
    }

    /// Why the newest push of an inode failed.
    pub(crate) fn failure_of(&self, ino: Ino) -> Option<String> {
        self.failures.lock().get(&ino).map(|failure| failure.message.clone())
    }

    /// How often an inode has failed since it last succeeded.
    pub(crate) fn tries_of(&self, ino: Ino) -> u32 {
        self.failures.lock().get(&ino).map_or(0, |failure| failure.tries)
    }

    /// The newest failure of all: message, when, whether it is retried.
    pub(crate) fn newest_failure(&self) -> Option<(String, u64, bool)> {
        let failures = self.failures.lock();
        let newest = failures.values().max_by_key(|failure| failure.at_ms)?;
        Some((newest.message.clone(), newest.at_ms, newest.retryable))
    }
}

/// Somebody waits for an inode.
pub(crate) struct Urgency<'a> {
    pusher: &'a Pusher,
    ino: Ino,
}

impl Drop for Urgency<'_> {
    fn drop(&mut self) {
        let mut urgent = self.pusher.urgent.lock();
        if let Some(count) = urgent.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                urgent.remove(&self.ino);
            }
        }
    }
}

impl Replica {
    pub(crate) async fn run_pusher(self: Arc<Self>) {
        let mut tasks = tokio::task::JoinSet::new();
        // Uploads do not wait for the hint object, which may be large.
        let mut hints = tokio::task::JoinSet::new();
        let mut hints_written_ms = self.now_ms();
        while !self.stopping.load(Ordering::Acquire) {
            while tasks.try_join_next().is_some() {}
            while hints.try_join_next().is_some() {}
            if self.pusher.owed.load(Ordering::Acquire) {
                for ino in self.due(PUSHES_MAX - tasks.len().min(PUSHES_MAX)) {
                    tasks.spawn(Arc::clone(&self).push_one(ino));
                }
            } else if self.now_ms() > hints_written_ms + HINTS_INTERVAL_MS && hints.is_empty() {
                hints_written_ms = self.now_ms();
                hints.spawn(Arc::clone(&self).write_hints_quietly());
            }
            tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
        }
        while tasks.join_next().await.is_some() {}
        while hints.join_next().await.is_some() {}
    }

    async fn write_hints_quietly(self: Arc<Self>) {
        if let Err(error) = self.write_hints().await {
            tracing::warn!(%error, "Could not store the hint object; it is tried again");
        }
    }

    /// One round of write-back for what is due now, to its end; tells how many inodes were tried. For those who drive a replica by
    /// hand, without [`Replica::start`].
    pub async fn push_due(self: &Arc<Self>) -> usize {
        let due = self.due(PUSHES_MAX);
        let count = due.len();
        let mut tasks = tokio::task::JoinSet::new();
        for ino in due {
            tasks.spawn(Arc::clone(self).push_one(ino));
        }
        while tasks.join_next().await.is_some() {}
        count
    }

    /// The inodes whose time has come, oldest debt first, those last that had to wait for others, in the order in which they had been tried, so
    /// that each has its turn; they count as in flight from now on.
    fn due(&self, free: usize) -> Vec<Ino> {
        let now = self.now_ms();
        let hurry = self.pusher.hurry_until_ms.load(Ordering::Acquire) > now;
        let unreachable = self.store_unreachable();
        // Somebody waits: then it is asked at the quickest pace.
        let longest = if hurry { RETRY_FIRST_MS } else { RETRY_LONGEST_MS };
        let paused = self.pause_until_ms((RETRY_FIRST_MS, longest)) > now;
        let mut tables = self.state.lock();
        let failures = self.pusher.failures.lock();
        let mut postponed = self.pusher.postponed.lock();
        postponed.retain(|ino, _| tables.dirty.contains_key(ino));
        self.pusher
            .waiting_since
            .lock()
            .retain(|ino, _| tables.dirty.contains_key(ino));
        self.pusher
            .unanswered
            .lock()
            .retain(|ino, _| tables.dirty.contains_key(ino));
        self.pusher
            .deletions_tried
            .lock()
            .retain(|_, (ino, _)| tables.dirty.contains_key(ino));
        let urgent = self.pusher.urgent.lock();
        let mut in_flight = self.pusher.in_flight.lock();
        if tables.dirty.is_empty() {
            self.pusher.owed.store(false, Ordering::Release);
            return Vec::new();
        }
        let free = match unreachable {
            true if in_flight.inodes.is_empty() && !paused => free.min(1),
            true => 0,
            false => free,
        };
        let retry_at = |ino: &Ino| failures.get(ino).map_or(0, |failure| failure.next_ms);
        let mut due: Vec<(Option<u64>, u64, Ino)> = tables
            .dirty
            .iter()
            .filter(|(ino, debt)| (hurry || debt.due_ms <= now || urgent.contains_key(*ino)) && retry_at(ino) <= now)
            .filter(|(ino, _)| !in_flight.inodes.contains(ino) && postponed.get(ino).is_none_or(|until| *until <= now))
            .filter(|(ino, debt)| !self.pusher.held.contains(**ino, debt.op))
            .map(|(ino, debt)| (postponed.get(ino).copied(), debt.since_ms, *ino))
            .collect();
        due.sort_unstable();
        due.truncate(free);
        in_flight.inodes.extend(due.iter().map(|(_, _, ino)| *ino));
        tables.dirty.shrink_to(1024);
        due.into_iter().map(|(_, _, ino)| ino).collect()
    }

    /// Pushes what is due now, and returns when that is done: what the loop does by itself, for those who own the time.
    pub async fn write_back_once(self: &Arc<Self>) {
        for ino in self.due(PUSHES_MAX) {
            Arc::clone(self).push_one(ino).await;
        }
    }

    async fn push_one(self: Arc<Self>, ino: Ino) {
        let was_unreachable = self.store_unreachable();
        let result = match self.expand_subtree(ino) {
            Ok(()) => self.push_inode(ino).await,
            failed => failed,
        };
        self.tell_round(ino);
        let now = self.now_ms();
        let mut failures = self.pusher.failures.lock();
        match result {
            Ok(()) => {
                failures.remove(&ino);
                if was_unreachable {
                    failures.values_mut().for_each(|failure| failure.next_ms = now);
                }
            }
            Err(error) => {
                let failure = failures.entry(ino).or_insert(Failure {
                    tries: 0,
                    next_ms: 0,
                    at_ms: now,
                    message: String::new(),
                    retryable: true,
                });
                let pause = RETRY_FIRST_MS
                    .saturating_mul(1 << failure.tries.min(10))
                    .min(RETRY_LONGEST_MS);
                if failure.tries == 0 {
                    tracing::warn!(ino, %error, "Could not store a change; it is safe here and tried again");
                }
                failure.tries += 1;
                failure.at_ms = now;
                failure.next_ms = now + pause;
                failure.message = error.to_string();
                failure.retryable = error.is_retryable();
                self.pusher.unanswered.lock().insert(ino, now);
            }
        }
        drop(failures);
        self.pusher.in_flight.lock().inodes.remove(&ino);
    }

    /// Everything below a directory that moved is owed, too; its mark goes only when all of theirs are there.
    fn expand_subtree(&self, dir: Ino) -> Result<()> {
        let mut open = match self.state.lock().dirty.get(&dir) {
            Some(debt) if debt.marks.has(Marks::SUBTREE) => vec![dir],
            _ => return Ok(()),
        };
        while let Some(at) = open.pop() {
            let mut cookie = 0;
            loop {
                let children = self.view(|tables| tables.children(at, cookie, EXPAND_STEP))?;
                let Some(last) = children.last() else { break };
                cookie = last.cookie;
                self.change(|op| {
                    for child in &children {
                        op.owe(child.ino);
                        if op.tables.inode(child.ino)?.is_some_and(|inode| inode.is_dir()) {
                            open.push(child.ino);
                        }
                    }
                    Ok(())
                })?;
            }
        }
        self.change(|op| {
            let debt = op.tables.dirty.get(&dir);
            let (since_ms, marks) = debt.map_or((0, Marks::NONE), |debt| (debt.since_ms, debt.marks));
            op.push(Mutation::ClearDirty(dir));
            op.push(Mutation::MarkDirty {
                ino: dir,
                since_ms,
                marks: marks.without(Marks::SUBTREE),
            });
            Ok(())
        })
    }

    /// Puts an inode off for a moment: something else must be stored first.
    pub(crate) fn postpone(&self, ino: Ino, milliseconds: u64) {
        let until = self.now_ms() + milliseconds;
        let mut postponed = self.pusher.postponed.lock();
        let known = postponed.entry(ino).or_default();
        *known = until.max(*known);
    }

    /// How long a write of this inode whose outcome is unknown may still take place, in milliseconds: one that was given up, or one
    /// that an earlier daemon sent before it died. Until then, that its object is not there says nothing.
    fn late_write_wait_ms(&self, ino: Ino) -> u64 {
        let given_up_ms = self.pusher.unanswered.lock().get(&ino).copied().unwrap_or(0);
        let until_ms = self.opened_ms.max(given_up_ms) + self.capabilities.late_write_ms;
        until_ms.saturating_sub(self.now_ms())
    }
}

/// A store's answer that cannot be true; the round is given up and comes again.
fn contradiction(what: &str) -> Error {
    tracing::warn!(what, "The store contradicts itself; the change is tried again");
    Error::Posix(libc::EAGAIN)
}

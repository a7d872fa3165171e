//! Faults that a test asks a [`super::MemoryStore`] for.
//!
//! Owns the plan of what fails next. Does not own what a call does.

use super::MemoryStore;
use crate::store::{FEED_PREFIX, RequestCounts, StoreError, StoreErrorKind};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Calls told apart by the requests they make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// `head`.
    Head,
    /// `get`.
    Get,
    /// `put`, each part of `put_large`, `put_marker`.
    Put,
    /// `copy`.
    Copy,
    /// `delete`, `delete_marker`.
    Delete,
    /// Each page of a listing.
    List,
}

/// What [`super::MemoryStore::set_hook`] takes: told the kind of a call and its key.
pub type Hook = Arc<dyn Fn(CallKind, &str) + Send + Sync>;

#[derive(Default)]
pub(super) struct Faults {
    planned: VecDeque<Fault>,
    pub(super) refusal: Option<StoreErrorKind>,
    pub(super) latency: Duration,
    pub(super) hook: Option<Hook>,
}

#[derive(Debug)]
struct Fault {
    call: Option<CallKind>,
    outcome: Outcome,
    count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Pass,
    Fail(StoreErrorKind),
    LoseReply,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("planned", &self.planned)
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// With `down`, every call fails with `Unavailable` and does nothing.
    pub fn set_down(&self, down: bool) {
        self.refuse_all(down.then_some(StoreErrorKind::Unavailable));
    }

    /// Makes every call fail so and do nothing, until this is called again (`None`: no more).
    pub fn refuse_all(&self, kind: Option<StoreErrorKind>) {
        self.state.lock().faults.refusal = kind;
    }
}

impl Faults {
    pub(super) fn fail_next(&mut self, call: Option<CallKind>, error: StoreErrorKind, count: u32) {
        self.planned.push_back(Fault {
            call,
            outcome: Outcome::Fail(error),
            count,
        });
    }

    pub(super) fn lose_replies(&mut self, call: Option<CallKind>, count: u32) {
        self.planned.push_back(Fault {
            call,
            outcome: Outcome::LoseReply,
            count,
        });
    }

    /// What becomes of the next call; the first fault that fits is used up by one.
    pub(super) fn next(&mut self, call: CallKind) -> Outcome {
        if let Some(kind) = self.refusal {
            return Outcome::Fail(kind);
        }
        self.planned.retain(|fault| fault.count > 0);
        let fits = |fault: &&mut Fault| fault.call.is_none_or(|wanted| wanted == call);
        let Some(fault) = self.planned.iter_mut().find(fits) else {
            return Outcome::Pass;
        };
        fault.count -= 1;
        fault.outcome
    }
}

impl CallKind {
    /// Counts a call about a key or a prefix.
    pub(in crate::store) fn count(self, target: &str, counts: &mut RequestCounts) {
        if target.starts_with(FEED_PREFIX) {
            counts.feed += 1;
            return;
        }
        match self {
            CallKind::Head => counts.head += 1,
            CallKind::Get => counts.get += 1,
            CallKind::Put => counts.put += 1,
            CallKind::Copy => counts.copy += 1,
            CallKind::Delete => counts.delete += 1,
            CallKind::List => counts.list += 1,
        }
    }

    pub(in crate::store) fn verb(self) -> &'static str {
        match self {
            CallKind::Head => "look up",
            CallKind::Get => "read",
            CallKind::Put => "write",
            CallKind::Copy => "copy",
            CallKind::Delete => "delete",
            CallKind::List => "list",
        }
    }
}

pub(super) fn injected(call: CallKind, target: &str, kind: StoreErrorKind) -> StoreError {
    StoreError {
        kind,
        operation: call.verb(),
        target: target.to_owned(),
        message: format!("the memory store was told to fail ({kind:?})"),
        advice: String::new(),
        retryable: matches!(
            kind,
            StoreErrorKind::Unavailable | StoreErrorKind::SlowDown | StoreErrorKind::Garbled
        ),
    }
}

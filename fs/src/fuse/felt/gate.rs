//! Tells the actor's requests from those of programs, and lets in only the one that was asked for.
//!
//! The kernel puts the caller's thread id into each request; the actor has one thread. Before a command is given, what its
//! request will be is stored here, once; whatever else comes from the actor is refused, so a stray request changes nothing.

use fuser::INodeNo;
use notefs_cache::Ino;
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// No process has this number.
const NOBODY: u32 = 0;

/// What a request of the actor does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fuse) enum Act {
    /// Makes this name.
    Make {
        /// The folder.
        parent: Ino,
        /// The name.
        name: Vec<u8>,
        /// Whether by `mkdir`.
        is_dir: bool,
    },
    /// Removes this name.
    Remove {
        /// The folder.
        parent: Ino,
        /// The name.
        name: Vec<u8>,
        /// Whether by `rmdir`.
        is_dir: bool,
    },
    /// Gives a new name.
    Move {
        /// Folder and name before.
        from: (Ino, Vec<u8>),
        /// Folder and name after.
        to: (Ino, Vec<u8>),
    },
    /// Sets times.
    Touch(Ino),
}

impl Act {
    /// What CREATE or MKDIR of this name does.
    pub(in crate::fuse) fn making((parent, name): (INodeNo, &OsStr), is_dir: bool) -> Act {
        Act::Make {
            parent: parent.0,
            name: name.as_bytes().to_vec(),
            is_dir,
        }
    }

    /// What UNLINK or RMDIR of this name does.
    pub(in crate::fuse) fn removal((parent, name): (INodeNo, &OsStr), is_dir: bool) -> Act {
        Act::Remove {
            parent: parent.0,
            name: name.as_bytes().to_vec(),
            is_dir,
        }
    }

    /// What RENAME does.
    pub(in crate::fuse) fn renaming(from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> Act {
        let own = |(parent, name): (INodeNo, &OsStr)| (parent.0, name.as_bytes().to_vec());
        Act::Move {
            from: own(from),
            to: own(to),
        }
    }
}

/// How the request that was asked for went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) enum Outcome {
    /// It has not come.
    Missing,
    /// It came, and the change took effect.
    Done,
    /// It came and the change took effect, but not as this request could answer it: there is no event.
    Unfelt,
    /// It came, but the change did not apply any more.
    Void,
}

#[derive(Debug)]
struct Expected {
    act: Act,
    /// The change that takes effect with it; none where it has taken effect already.
    change: Option<u64>,
    outcome: Outcome,
}

/// What is known of the actor.
#[derive(Debug, Default)]
pub(in crate::fuse) struct Gate {
    /// The newest actor, on the path of every request.
    newest: AtomicU32,
    /// How many older ones may still have requests under way, and which.
    older_count: AtomicU32,
    older: Mutex<Vec<u32>>,
    expected: Mutex<Option<Expected>>,
}

impl Gate {
    /// Requests of this process are the actor's from now on.
    pub(super) fn admit(&self, pid: u32) {
        let before = self.newest.swap(pid, Ordering::AcqRel);
        if before != NOBODY {
            let mut older = self.older.lock();
            older.push(before);
            self.older_count.store(older.len() as u32, Ordering::Release);
        }
    }

    /// There is no process of this number any more.
    pub(super) fn forget(&self, pid: u32) {
        // If it is not the newest, it is among the older ones.
        self.newest
            .compare_exchange(pid, NOBODY, Ordering::AcqRel, Ordering::Relaxed)
            .ok();
        let mut older = self.older.lock();
        older.retain(|known| *known != pid);
        self.older_count.store(older.len() as u32, Ordering::Release);
    }

    /// Whether a request comes from an actor.
    pub(in crate::fuse) fn is_actor(&self, pid: u32) -> bool {
        pid != NOBODY
            && (self.newest.load(Ordering::Acquire) == pid
                || (self.older_count.load(Ordering::Acquire) > 0 && self.older.lock().contains(&pid)))
    }

    /// Lets this in, once. `change` takes effect with it.
    pub(super) fn expect(&self, act: Act, change: Option<u64>) {
        let outcome = Outcome::Missing;
        *self.expected.lock() = Some(Expected { act, change, outcome });
    }

    /// Whether this is what is asked for.
    pub(in crate::fuse) fn expects(&self, is: impl FnOnce(&Act) -> bool) -> bool {
        let expected = self.expected.lock();
        expected
            .as_ref()
            .is_some_and(|expected| expected.outcome == Outcome::Missing && is(&expected.act))
    }

    /// The request came: if it was asked for, `effect` is run on its change, without any lock held, and says how it went.
    pub(in crate::fuse) fn pass<T>(
        &self,
        act: &Act,
        effect: impl FnOnce(Option<u64>) -> Result<T, Outcome>,
    ) -> Option<T> {
        let change = {
            let mut expected = self.expected.lock();
            let expected = expected.as_mut().filter(|expected| expected.act == *act)?;
            if expected.outcome != Outcome::Missing {
                return None;
            }
            // Until it is done: a second request of this kind must not pass.
            expected.outcome = Outcome::Void;
            expected.change
        };
        let (outcome, value) = match effect(change) {
            Ok(value) => (Outcome::Done, Some(value)),
            Err(outcome) => (outcome, None),
        };
        let mut expected = self.expected.lock();
        if let Some(expected) = expected
            .as_mut()
            .filter(|expected| expected.act == *act && expected.change == change)
        {
            expected.outcome = outcome;
        }
        value
    }

    /// Nothing is asked for any more; answers how it went.
    pub(super) fn settle(&self) -> Outcome {
        self.expected
            .lock()
            .take()
            .map_or(Outcome::Missing, |expected| expected.outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(name: &[u8]) -> Act {
        Act::making((INodeNo(1), OsStr::from_bytes(name)), false)
    }

    #[test]
    fn only_what_is_asked_for_passes_and_only_once() {
        let gate = Gate::default();
        assert_eq!(gate.pass(&make(b"a"), Ok), None);
        gate.expect(make(b"a"), Some(7));
        assert_eq!(gate.pass(&make(b"b"), Ok), None);
        assert_eq!(gate.pass(&Act::Touch(1), Ok), None);
        assert!(gate.expects(|act| *act == make(b"a")));
        assert_eq!(gate.pass(&make(b"a"), Ok), Some(Some(7)));
        assert_eq!(gate.pass(&make(b"a"), Ok), None);
        assert!(!gate.expects(|_| true));
        assert_eq!(gate.settle(), Outcome::Done);
        assert_eq!(gate.pass(&make(b"a"), Ok), None);
    }

    #[test]
    fn what_did_not_come_or_did_not_apply_is_told_apart() {
        let gate = Gate::default();
        gate.expect(make(b"a"), Some(7));
        assert_eq!(gate.settle(), Outcome::Missing);
        gate.expect(make(b"a"), Some(8));
        assert_eq!(gate.pass(&make(b"a"), |_| Err::<(), _>(Outcome::Void)), None);
        assert_eq!(gate.settle(), Outcome::Void);
        gate.expect(make(b"a"), Some(9));
        assert_eq!(gate.pass(&make(b"a"), |_| Err::<(), _>(Outcome::Unfelt)), None);
        assert_eq!(gate.settle(), Outcome::Unfelt);
    }

    #[test]
    fn an_actor_is_known_until_it_is_gone() {
        let gate = Gate::default();
        assert!(!gate.is_actor(0) && !gate.is_actor(5));
        gate.admit(5);
        gate.admit(6);
        assert!(gate.is_actor(5) && gate.is_actor(6) && !gate.is_actor(0));
        gate.forget(5);
        assert!(!gate.is_actor(5) && gate.is_actor(6));
        gate.forget(6);
        assert!(!gate.is_actor(6));
    }
}

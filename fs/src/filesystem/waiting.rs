//! Which operations wait for the bucket: how many, and on what.
//!
//! While an operation waits, the program that asked holds the kernel's lock of the directory or file. Who would have to
//! wait for that lock can ask here first.

use notefs_cache::Ino;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// How many operations may wait for the bucket at once.
pub const OPERATIONS_WAITING_MAX: usize = 1024;

/// The operations that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    operations: usize,
    by_inode: HashMap<Ino, usize>,
}

/// One operation that waits; it has ended when this is dropped.
#[derive(Debug)]
pub(super) struct WaitingOperation {
    waiting: Arc<Waiting>,
    inodes: [Ino; 2],
}

impl Waiting {
    /// Counts an operation on these inodes; `None` if too many wait already.
    pub(super) fn begin(self: &Arc<Self>, inodes: [Ino; 2]) -> Option<WaitingOperation> {
        let mut state = self.state.lock();
        if state.operations >= OPERATIONS_WAITING_MAX {
            return None;
        }
        state.operations += 1;
        for ino in inodes {
            *state.by_inode.entry(ino).or_default() += 1;
        }
        Some(WaitingOperation {
            waiting: Arc::clone(self),
            inodes,
        })
    }

    /// How many operations wait.
    pub(super) fn count(&self) -> usize {
        self.state.lock().operations
    }

    /// Whether an operation on this inode waits.
    pub(super) fn holds(&self, ino: Ino) -> bool {
        self.state.lock().by_inode.contains_key(&ino)
    }
}

impl Drop for WaitingOperation {
    fn drop(&mut self) {
        let mut state = self.waiting.state.lock();
        state.operations -= 1;
        for ino in self.inodes {
            if let Some(count) = state.by_inode.get_mut(&ino) {
                *count -= 1;
                if *count == 0 {
                    state.by_inode.remove(&ino);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_held_as_long_as_any_operation_on_it_waits() {
        let waiting = Arc::new(Waiting::default());
        let first = waiting.begin([7, 7]).unwrap();
        let second = waiting.begin([7, 8]).unwrap();
        drop(first);
        assert!(waiting.holds(7) && waiting.holds(8) && !waiting.holds(9));
        drop(second);
        assert!(!waiting.holds(7) && !waiting.holds(8));
    }

    #[test]
    fn no_more_wait_than_may() {
        let waiting = Arc::new(Waiting::default());
        let mut all: Vec<_> = (0..OPERATIONS_WAITING_MAX as u64)
            .map(|ino| waiting.begin([ino, 0]))
            .collect();
        assert!(all.iter().all(Option::is_some) && waiting.begin([1, 1]).is_none());
        all.pop();
        assert!(waiting.begin([1, 1]).is_some());
    }
}

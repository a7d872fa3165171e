//! From the replica's log to the paths that are owed.

use super::{Inner, State, Trouble};
use notefs_cache::Replica;
use notefs_cache::replica::Change;
use notefs_indexer::is_note;
use std::time::Instant;

/// Changes read at once.
const BATCH_CHANGES_MAX: usize = 256;

/// Paths owed beyond which nothing more is read: the log keeps the rest.
pub(super) const OWED_PATHS_MAX: usize = 50_000;

/// Changes that the log keeps for the shared index; of more than these it is not told one by one, but all notes are compared.
const LOG_CHANGES_MAX: u64 = 200_000;

/// Objects looked through at once, for a folder that moved.
const OBJECTS_PAGE: usize = 1_000;

impl Inner {
    /// Takes in what has changed since the last time.
    pub(super) fn read_changes(&self) -> Result<(), Trouble> {
        loop {
            let (read_seq, full) = {
                let state = self.state.lock();
                (state.read_seq, state.stop || state.owed.len() >= OWED_PATHS_MAX)
            };
            let written_seq = self.replica.written_seq();
            if written_seq <= read_seq || full {
                break;
            }
            let (changes, upto) = self.replica.changes_after(read_seq, BATCH_CHANGES_MAX)?;
            if upto <= read_seq {
                // Its number is given out, its transaction not committed yet.
                break;
            }
            for change in changes {
                self.take_in(change, read_seq + 1)?;
            }
            self.state.lock().read_seq = upto;
        }
        self.bound_log();
        Ok(())
    }

    fn take_in(&self, change: Change, seq: u64) -> Result<(), Trouble> {
        match change {
            Change::Upsert { path, .. } | Change::Gone { path } => {
                if is_note(&path) {
                    self.state.lock().owed.add(path, seq, Instant::now());
                }
            }
            Change::Moved { from, to } => {
                let now = Instant::now();
                self.state.lock().owed.moved(&from, &to, now);
                // The bucket may hold them under either path by now.
                for below in [&from, &to] {
                    self.add_both((&from, &to), below, seq)?;
                }
            }
        }
        Ok(())
    }

    /// Both paths of all objects below one of them are owed.
    fn add_both(&self, (from, to): (&[u8], &[u8]), below: &[u8], seq: u64) -> Result<(), Trouble> {
        let (mut after, now) = (String::new(), Instant::now());
        loop {
            let (objects, next) = self.replica.known_objects(below, &after, OBJECTS_PAGE)?;
            let mut state = self.state.lock();
            for rest in objects.iter().filter_map(|object| object.path.strip_prefix(below)) {
                for path in [[from, rest].concat(), [to, rest].concat()] {
                    if is_note(&path) {
                        state.owed.add(path, seq, now);
                    }
                }
            }
            drop(state);
            match next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    /// The log does not grow for ever while something cannot be told.
    fn bound_log(&self) {
        let mut state = self.state.lock();
        let kept = self.replica_log(&state);
        if kept > LOG_CHANGES_MAX {
            tracing::warn!("The shared index is {kept} changes behind; all notes will be compared with it instead");
            give_up_log(&mut state, &self.replica);
        }
    }

    fn replica_log(&self, state: &State) -> u64 {
        let written_seq = self.replica.written_seq();
        written_seq.saturating_sub(state.owed.told_seq(state.read_seq))
    }
}

fn give_up_log(state: &mut State, replica: &Replica) {
    state.owed.unbind();
    state.read_seq = replica.written_seq();
    state.compared_ms = 0;
}

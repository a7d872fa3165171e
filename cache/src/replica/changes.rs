//! The stream of changes, for one index: what was logged, what came with the bucket, and what the index has.

use super::{BacklogItem, Change, Replica};
use crate::error::Result;
use crate::state::{LoggedChange, Mutation};
use std::collections::HashSet;
use std::time::Duration;

/// Files put into the backlog in one step.
const REFILL_STEP: usize = 1000;

impl Replica {
    /// The seq of the newest change; 0 if there was none.
    pub fn written_seq(&self) -> u64 {
        self.state.lock().change_seq()
    }

    /// Blocks the calling thread until there is a change after `seq` or backlog to do, or `timeout` has passed.
    /// Returns whether there is.
    pub fn wait_for_changes(&self, seq: u64, timeout: Duration) -> bool {
        if self.has_changes(seq) {
            return true;
        }
        let mut guard = self.changed.lock();
        self.changed_signal.wait_for(&mut guard, timeout);
        drop(guard);
        self.has_changes(seq)
    }

    fn has_changes(&self, seq: u64) -> bool {
        let mut tables = self.state.lock();
        tables.change_seq() > seq || tables.backlog(1).is_ok_and(|backlog| !backlog.is_empty())
    }

    /// At most `limit` changes after `seq` (more, if a directory has moved since), and the seq that applying them reaches: first names that went or moved, oldest first,
    /// then every file with new content under the path that it has *now*. Content is read afterwards and may be newer than the
    /// change, and the path may be one that a later move leads to: applying that move must keep what is at its target already.
    pub fn changes_after(&self, seq: u64, limit: usize) -> Result<(Vec<Change>, u64)> {
        self.view(|tables| {
            tables.unread_changes.clear();
            // A path that only a later move makes true must not be told before that move.
            let limit = limit.max(tables.last_move(seq)?.saturating_sub(seq) as usize);
            let logged = tables.logged_changes(seq, limit)?;
            let reached = if logged.len() < limit {
                tables.change_seq()
            } else {
                logged.last().map_or(seq, |last| last.0)
            };
            let (mut changes, mut inodes) = (Vec::with_capacity(logged.len()), Vec::new());
            for (_, change) in logged {
                match change {
                    LoggedChange::Gone(path) => changes.push(Change::Gone { path }),
                    LoggedChange::Moved { from, to } => changes.push(Change::Moved { from, to }),
                    LoggedChange::Content(ino) => inodes.push(ino),
                }
            }
            let mut seen = HashSet::new();
            for ino in inodes.into_iter().filter(|ino| seen.insert(*ino)) {
                for name in tables.names_of(ino)? {
                    let path = tables.path_of(name.parent, &name.name)?;
                    changes.push(Change::Upsert { path, ino });
                }
            }
            Ok((changes, reached))
        })
    }

    /// Forgets changes up to `seq`: the index has them on disk.
    pub fn trim_changes(&self, seq: u64) -> Result<()> {
        self.change(|op| {
            op.push(Mutation::TrimChanges(seq));
            Ok(())
        })
    }

    /// How many files wait for their first indexing.
    pub fn backlog_count(&self) -> Result<u64> {
        self.view(|tables| tables.count("backlog"))
    }

    /// At most `limit` of them, without taking them.
    pub fn backlog(&self, limit: usize) -> Result<Vec<BacklogItem>> {
        self.view(|tables| {
            let mut items = Vec::new();
            for ino in tables.backlog(limit)? {
                let names = tables.names_of(ino)?;
                if names.is_empty() {
                    items.push(BacklogItem {
                        cookie: ino,
                        path: Vec::new(),
                        ino,
                    });
                }
                for name in names {
                    let path = tables.path_of(name.parent, &name.name)?;
                    items.push(BacklogItem { cookie: ino, path, ino });
                }
            }
            Ok(items)
        })
    }

    /// They are indexed (or given up).
    pub fn backlog_done(&self, cookies: &[u64]) -> Result<()> {
        self.change(|op| {
            cookies.iter().for_each(|ino| op.push(Mutation::DropBacklog(*ino)));
            Ok(())
        })
    }

    /// Puts every file into the backlog: the index starts anew.
    pub fn backlog_refill(&self) -> Result<()> {
        self.state.commit()?;
        let mut after = 0;
        loop {
            let files = self.view(|tables| tables.files_after(after, REFILL_STEP))?;
            let Some(last) = files.last() else { return Ok(()) };
            after = *last;
            self.change(|op| {
                files.iter().for_each(|ino| op.push(Mutation::AddBacklog(*ino)));
                Ok(())
            })?;
        }
    }
}

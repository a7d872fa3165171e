//! What the daemon does for each command.
//!
//! Owns the meaning of requests. Does not own the socket (`control/server.rs`) nor the words that people see (`cli`).
//! Every wait here is bounded by the request, reports progress, and ends when nobody waits for it any more.

use super::{End, Remaining, left_names, report};
use crate::bridge::{Bridge, Share, index_failure};
use crate::control::protocol::{Answer, Behind, Progress, Reply, Request, WaitStep};
use crate::control::registry::Record;
use crate::control::server::{Asker, Handler};
use crate::events::{Events, Next};
use crate::failure::Failure;
use notefs_cache::{Attr, Error, Replica, Step};
use notefs_indexer::{Index, is_note};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long a search waits for the index to see what was just written.
const CATCH_UP_DEADLINE_MS: u64 = 5_000;

/// Between two looks while a command waits.
pub(super) const POLL_MS: u64 = 100;

/// How often one path may need something from the bucket.
const NEEDS_MAX: usize = 64;

/// How long after its own deadline the end of a mount may take before its asker gives up.
const END_GRACE_SECONDS: u64 = 120;

/// How often a reader of events is told that there are none, so that either side notices the other's death.
const SIGN_OF_LIFE_SECONDS: u64 = 5;

/// Does what commands ask of one mount.
pub(super) struct Desk {
    pub(super) record: Record,
    pub(super) read_only: bool,
    pub(super) replica: Arc<Replica>,
    pub(super) index: Arc<Index>,
    pub(super) bridge: Arc<Bridge>,
    pub(super) share: Option<Arc<Share>>,
    pub(super) runtime: Handle,
    pub(super) remaining: Arc<Remaining>,
    pub(super) ends: SyncSender<End>,
    pub(super) events: Arc<Events>,
}

impl Handler for Desk {
    fn handle(&self, request: Request, asker: &Asker) -> Result<Answer, Failure> {
        match request {
            Request::Status {} => self.status(),
            Request::FileStatus { path } => self.file_status(&path),
            Request::Wait { step, path, timeout_ms } => {
                let until = Instant::now() + Duration::from_millis(timeout_ms);
                match (step, path) {
                    (WaitStep::Stored, None) => Ok(self.wait_stored(until, asker)),
                    (WaitStep::Stored, Some(path)) => self.wait_file_stored(&path, until, asker),
                    (WaitStep::Indexed, _) => Ok(self.wait_indexed(until, asker)),
                    (WaitStep::Pinned, _) => Ok(self.wait_pinned(until, asker)),
                    (WaitStep::Shared, _) => self.wait_shared(until, asker),
                }
            }
            Request::Search {
                query,
                limit,
                offset,
                below,
            } => self.search(&query, offset as usize..(offset + limit) as usize, &below),
            Request::Know { question } => self.know(&question),
            Request::Backlinks { path } => Ok(Answer::Links(self.rows(self.backlinks(&path)?))),
            Request::Links { path } => Ok(Answer::Links(self.rows(self.links(&path)?))),
            Request::Tags {} => Ok(Answer::Tags(self.rows(self.tags()?))),
            Request::Conflicts {} => self.conflicts(),
            Request::ConflictDismiss { id } => {
                let gone = self.replica.dismiss_conflict(id);
                gone.map_err(|error| Failure::new(format!("Could not end the conflict: {error}")))?;
                self.conflicts()
            }
            Request::IndexRebuild { timeout_ms } => {
                self.bridge.rebuild()?;
                Ok(self.wait_indexed(Instant::now() + Duration::from_millis(timeout_ms), asker))
            }
            Request::Events { below } => Ok(self.tell_events(&below, asker)),
            Request::Pins {} => self.pins(),
            Request::Pin { path, remove } => self.set_pin(&path, remove),
            Request::ReleaseHeld {} => self.release_held(),
            Request::TrashList { below } => self.trash_list(&below),
            Request::TrashRestore {
                path,
                version,
                overwrite,
            } => self.trash_restore(&path, version.as_deref(), overwrite),
            Request::Check { dry_run } => self.check(dry_run, asker),
            Request::Unmount { timeout_ms } => self.unmount(Duration::from_millis(timeout_ms), asker),
        }
    }
}

impl Desk {
    pub(super) fn status(&self) -> Result<Answer, Failure> {
        let notes = self.index.note_count().map_err(index_failure)?;
        let status = report::mount_status(&self.record, self.replica.status(), self.bridge.progress(), notes);
        Ok(Answer::Status(Box::new(crate::control::protocol::MountStatus {
            read_only: self.read_only,
            moves: self.replica.recorded_move_count().unwrap_or(0),
            shared: self.share.as_ref().map(|share| report::shared(share.status())),
            weaker: crate::promises::weaker(self.replica.trial()),
            ..status
        })))
    }

    fn conflicts(&self) -> Result<Answer, Failure> {
        let failed = |error: Error| Failure::new(format!("Could not list the conflicts: {error}"));
        let rows = self.replica.conflicts().map_err(failed)?.into_iter();
        Ok(Answer::Conflicts(rows.map(report::conflict_row).collect()))
    }

    fn file_status(&self, path: &[u8]) -> Result<Answer, Failure> {
        let attr = self.resolve(path)?;
        let file = self.with_needs(path, |replica| replica.file_status(attr.ino))?;
        let seen = self.bridge.catch_up(
            self.replica.written_seq(),
            Duration::from_millis(CATCH_UP_DEADLINE_MS / 10),
        );
        let indexed = seen && is_note(path) && self.index.contains(path).map_err(index_failure)?;
        Ok(Answer::File(Box::new(report::file_report(file, indexed))))
    }

    fn resolve(&self, path: &[u8]) -> Result<Attr, Failure> {
        self.with_needs(path, |replica| replica.resolve(path))
    }

    /// Runs an operation of the replica until it is answered.
    pub(super) fn with_needs<T>(
        &self,
        path: &[u8],
        operation: impl Fn(&Replica) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let failed = |error: Error| {
            let path = String::from_utf8_lossy(path);
            Failure::new(format!(
                "Could not look at {}/{path}: {error}",
                self.record.mountpoint.display()
            ))
        };
        for _ in 0..NEEDS_MAX {
            match operation(&self.replica) {
                Err(Error::Need(need)) => self.runtime.block_on(self.replica.satisfy(need)).map_err(failed)?,
                answered => return answered.map_err(failed),
            }
        }
        Err(Failure::new(format!(
            "{} needs too much from the bucket",
            String::from_utf8_lossy(path)
        )))
    }

    fn wait_stored(&self, until: Instant, asker: &Asker) -> Answer {
        let mut left;
        loop {
            // In slices, so that an asker who has gone does not keep the upload hurried.
            let slice = until
                .saturating_duration_since(Instant::now())
                .min(Duration::from_secs(1));
            let progress = |owed: notefs_cache::replica::Owed| {
                asker.progress(Progress {
                    left: owed.count,
                    left_bytes: owed.bytes,
                });
            };
            let owed = self.runtime.block_on(self.replica.drain(slice, &progress));
            left = Progress {
                left: owed.count,
                left_bytes: owed.bytes,
            };
            let held = if self.replica.only_held_left() { left.left } else { 0 };
            if left.left == 0 || held > 0 || Instant::now() >= until || asker.is_gone() {
                return Answer::Waited {
                    reached: left.left == 0,
                    left,
                    names: left_names(&self.replica, left.left),
                    held,
                };
            }
            asker.progress(left);
        }
    }

    fn wait_file_stored(&self, path: &[u8], until: Instant, asker: &Asker) -> Result<Answer, Failure> {
        let ino = self.resolve(path)?.ino;
        if self.replica.is_kept_here(ino).unwrap_or(false) {
            let shown = String::from_utf8_lossy(path);
            return Err(Failure::new(format!(
                "{shown} is kept on this machine only, as what macOS strews about is"
            ))
            .hint("Mount with --litter store to have it stored"));
        }
        loop {
            let reached = self.with_needs(path, |replica| replica.step(ino))? >= Step::Stored;
            let left = Progress {
                left: u64::from(!reached),
                left_bytes: 0,
            };
            if reached || Instant::now() >= until || asker.is_gone() {
                return Ok(Answer::Waited {
                    reached,
                    left,
                    names: Vec::new(),
                    held: 0,
                });
            }
            asker.progress(left);
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
    }

    fn wait_indexed(&self, until: Instant, asker: &Asker) -> Answer {
        let target_seq = self.replica.written_seq();
        loop {
            let slice = until
                .saturating_duration_since(Instant::now())
                .min(Duration::from_secs(1));
            let caught_up = self.bridge.catch_up(target_seq, slice);
            let behind = self.behind();
            let left = if caught_up { 0 } else { behind.changes } + behind.backlog + behind.unlisted_directories;
            let left = Progress { left, left_bytes: 0 };
            if left.left == 0 || Instant::now() >= until || asker.is_gone() {
                return Answer::Waited {
                    reached: left.left == 0,
                    left,
                    names: Vec::new(),
                    held: 0,
                };
            }
            asker.progress(left);
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
    }

    pub(super) fn behind(&self) -> Behind {
        report::behind(&self.bridge.progress(), self.replica.status().unlisted_directories)
    }

    /// Lets the index see everything that was written before this call.
    pub(super) fn catch_up(&self) {
        self.bridge
            .catch_up(self.replica.written_seq(), Duration::from_millis(CATCH_UP_DEADLINE_MS));
    }

    /// Tells of changes until the asker goes or the mount ends.
    fn tell_events(&self, below: &[u8], asker: &Asker) -> Answer {
        let reader = self.events.subscribe();
        let tell = |reply: &Reply| asker.tell(reply, || self.events.has_ended());
        tell(&Reply::Progress(Progress::default()));
        let mut told = Instant::now();
        while !asker.is_gone() {
            match reader.next(Duration::from_millis(POLL_MS / 2)) {
                Next::Event(event) if event.is_below(below) => tell(&Reply::Event(Box::new((*event).clone()))),
                Next::Lost(count) => tell(&Reply::Lost(count)),
                Next::Ended => break,
                Next::Event(_) | Next::Nothing => {}
            }
            let now = Instant::now();
            self.events.settle(&self.replica, now);
            if now.saturating_duration_since(told) >= Duration::from_secs(SIGN_OF_LIFE_SECONDS) {
                tell(&Reply::Progress(Progress::default()));
                told = now;
            }
        }
        Answer::Ended
    }

    fn unmount(&self, timeout: Duration, asker: &Asker) -> Result<Answer, Failure> {
        let (reply, answer) = sync_channel(1);
        let asked = self.ends.try_send(End::Asked { timeout, reply });
        asked.map_err(|_| Failure::new("The mount is ending already").hint("Wait for its daemon to be gone"))?;
        let until = Instant::now() + timeout + Duration::from_secs(END_GRACE_SECONDS);
        loop {
            match answer.recv_timeout(Duration::from_millis(POLL_MS)) {
                Ok(left) => return Ok(Answer::Unmounted(left)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {
                    let (left, left_bytes) = self.remaining.get();
                    asker.progress(Progress { left, left_bytes });
                }
                Err(_) => {
                    return Err(Failure::new("The mount does not end")
                        .hint(format!("Its daemon has the pid {}", self.record.pid)));
                }
            }
        }
    }
}

/// A row as JSON. Paths as bytes are left out where the text says the same.
pub(super) fn row(value: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or(Value::Null);
    leave_out_bytes(&mut value);
    value
}

fn leave_out_bytes(value: &mut Value) {
    match value {
        Value::Array(rows) => rows.iter_mut().for_each(leave_out_bytes),
        Value::Object(fields) => {
            let exact = |text: Option<&Value>| {
                text.and_then(Value::as_str)
                    .is_none_or(|text| !text.contains('\u{fffd}'))
            };
            for name in ["path", "resolved"] {
                if fields.contains_key(name) && exact(fields.get(name)) {
                    fields.remove(&format!("{name}_bytes"));
                }
            }
            // What notes say of themselves may hold any key and is left alone.
            let own = fields.iter_mut().filter(|(name, _)| name.as_str() != "properties");
            own.for_each(|(_, value)| leave_out_bytes(value));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_bytes_are_told_only_where_text_fails() {
        let plain = serde_json::json!({"path": "a.md", "path_bytes": [97, 46, 109, 100]});
        assert_eq!(row(&plain), serde_json::json!({"path": "a.md"}));
        let strange = serde_json::json!({"path": "\u{fffd}.md", "path_bytes": [255, 46, 109, 100]});
        assert_eq!(row(&strange), strange);
    }
}

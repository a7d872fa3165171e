//! What travels over the control socket.
//!
//! Owns requests, answers and the JSON of `notefs status`. Paths are bytes, relative to the mount's root. Nothing here is
//! ever a secret.

mod pins;

pub(crate) use pins::{PinAmount, PinList, PinRow, Pinned};

use super::question::{Known, Question};
use crate::events::Event;
use crate::failure::Failure;
use notefs_cache::check::CheckReport;
use notefs_cache::trash::Trashed;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest request line.
pub(crate) const REQUEST_BYTES_MAX: u64 = 1 << 20;

/// The longest reply line.
pub(crate) const REPLY_BYTES_MAX: u64 = 64 << 20;

/// Connections served at once.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// How long one side waits for the other's next line; a long request sends progress more often than that.
pub(crate) const SILENCE_MAX_SECONDS: u64 = 20;

/// A command to the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// The state of the mount.
    Status {},
    /// The state of one file or folder.
    FileStatus {
        /// Which.
        path: Vec<u8>,
    },
    /// Wait until everything written before is stored or indexed; a file's path narrows it to that file.
    Wait {
        /// How far.
        step: WaitStep,
        /// Only this file.
        path: Option<Vec<u8>>,
        /// How long at most.
        timeout_ms: u64,
    },
    /// Find notes.
    Search {
        /// What the user typed.
        query: String,
        /// How many.
        limit: u32,
        /// After so many.
        offset: u32,
        /// Only below this folder; empty for everywhere.
        below: Vec<u8>,
    },
    /// What the notes know.
    Know {
        /// What of it.
        question: Question,
    },
    /// The links to a note.
    Backlinks {
        /// Which.
        path: Vec<u8>,
    },
    /// The links of a note.
    Links {
        /// Which.
        path: Vec<u8>,
    },
    /// All tags.
    Tags {},
    /// The conflicts that are not resolved.
    Conflicts {},
    /// Strike one from the list.
    ConflictDismiss {
        /// Which.
        id: u64,
    },
    /// Build the index anew and wait for the end.
    IndexRebuild {
        /// How long at most.
        timeout_ms: u64,
    },
    /// Tell of changes, until the asker goes or the mount ends.
    Events {
        /// Only below this folder; empty for everywhere.
        below: Vec<u8>,
    },
    /// The pins.
    Pins {},
    /// Pin a path, or take its pin back.
    Pin { path: Vec<u8>, remove: bool },
    /// Have done what is held back.
    ReleaseHeld {},
    /// List the trash.
    TrashList {
        /// Only below this folder; empty for everywhere.
        below: Vec<u8>,
    },
    /// Bring a version back.
    TrashRestore {
        /// Its path.
        path: Vec<u8>,
        /// Which; the newest without.
        version: Option<String>,
        /// Replace what is there.
        overwrite: bool,
    },
    /// Compare the replica with the bucket and mend it.
    Check {
        /// Only tell.
        dry_run: bool,
    },
    /// Store what is left, unmount and end.
    Unmount {
        /// How long to wait for the store.
        timeout_ms: u64,
    },
}

/// What a request may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitStep {
    /// The object store has acknowledged it.
    Stored,
    /// Search finds it.
    Indexed,
    /// All that is pinned is on this machine.
    Pinned,
    /// The shared index knows what is stored.
    Shared,
}

/// One line from the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Still at it.
    Progress(Progress),
    /// A change, to `Events`.
    Event(Box<Event>),
    /// So many changes were not told, to `Events`.
    Lost(u64),
    /// The end, and it worked.
    Done(Answer),
    /// The end, and it did not.
    Failed(Failure),
}

/// How much is still to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Things.
    pub(crate) left: u64,
    /// Their bytes, where that is known.
    pub(crate) left_bytes: u64,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// To `Status`.
    Status(Box<MountStatus>),
    /// To `FileStatus`.
    File(Box<FileReport>),
    /// To `Wait` and `IndexRebuild`.
    Waited {
        /// Whether it was reached in time.
        reached: bool,
        /// What is still to do.
        left: Progress,
        /// Some names of what is not stored.
        #[serde(default)]
        names: Vec<String>,
        /// How much of it is held back: waiting is no use for that.
        #[serde(default)]
        held: u64,
    },
    /// To `Pins`, and to `Pin`.
    Pins(PinList),
    /// To `ReleaseHeld`: how many changes.
    Released(u64),
    /// To `TrashList`.
    Trash(TrashList),
    /// To `TrashRestore`: what came back, as a file of this name beside its path.
    Restored {
        /// The version.
        trashed: Box<Trashed>,
        /// The file's name, to be renamed into place.
        draft: Vec<u8>,
    },
    /// To `Check`.
    Checked(Box<CheckReport>),
    /// To `Search`.
    Found(Found),
    /// To `Know`.
    Known(Known),
    /// To `Backlinks` and `Links`.
    Links(IndexRows),
    /// To `Tags`.
    Tags(IndexRows),
    /// To `Events`: the mount has ended.
    Ended,
    /// To `Conflicts`, and to `ConflictDismiss` with those that are left.
    Conflicts(Vec<ConflictRow>),
    /// To `Unmount`, once it is unmounted.
    Unmounted(Left),
}

/// One conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConflictRow {
    /// Names it.
    pub(crate) id: u64,
    /// The note.
    pub(crate) path: Vec<u8>,
    /// What this machine wrote, if that was kept beside it.
    pub(crate) copy: Option<Vec<u8>>,
    /// The path that was disputed.
    pub(crate) disputed: Vec<u8>,
    /// The machine that met the other version.
    pub(crate) host: String,
    /// When, in UTC.
    pub(crate) when: String,
    /// `edited`, `created` or `renamed`.
    pub(crate) kind: String,
}

/// What could not be stored before the end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Left {
    /// Files and folders.
    pub(crate) count: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Some of their names.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// The folder where they are safe.
    pub(crate) cache_dir: String,
    /// The newest failure, if that is why.
    pub(crate) last_error: Option<String>,
    /// Programs still had files open.
    pub(crate) was_busy: bool,
}

/// What the trash holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrashList {
    /// Newest first.
    pub(crate) versions: Vec<Trashed>,
    /// How long versions are kept; none are without.
    pub(crate) keeps_ms: Option<u64>,
    /// The bucket keeps old versions by itself.
    pub(crate) bucket_keeps_versions: bool,
}

/// A change that is held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldChange {
    pub(crate) path: String,
    pub(crate) reason: String,
    pub(crate) age_ms: u64,
}

/// How far the index is behind the notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Behind {
    /// Changes that search does not see yet.
    pub(crate) changes: u64,
    /// Notes that came with the bucket and are not indexed yet.
    pub(crate) backlog: u64,
    /// How many of these there were in the beginning.
    pub(crate) backlog_total: u64,
    /// Directories of the bucket whose names are not known yet.
    pub(crate) unlisted_directories: u64,
}

impl Behind {
    /// Whether search sees everything.
    pub(crate) fn is_complete(&self) -> bool {
        self.changes == 0 && self.backlog == 0 && self.unlisted_directories == 0
    }
}

/// Search results: hits as the index describes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// How far the index was behind.
    pub(crate) behind: Behind,
    /// Best first.
    pub(crate) hits: Vec<Value>,
    /// There are more.
    pub(crate) has_more: bool,
    /// The shared index answered, too, since the index of this machine is behind.
    #[serde(default)]
    pub(crate) shared: bool,
    /// Why it did not.
    #[serde(default)]
    pub(crate) shared_error: Option<String>,
}

/// Rows of the index as it describes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct IndexRows {
    /// How far the index was behind.
    pub(crate) behind: Behind,
    /// The rows.
    pub(crate) rows: Vec<Value>,
    /// The shared index answered, too, since the index of this machine is behind.
    #[serde(default)]
    pub(crate) shared: bool,
    /// Why it did not.
    #[serde(default)]
    pub(crate) shared_error: Option<String>,
}

/// The JSON of `notefs status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountStatus {
    pub(crate) mountpoint: String,
    pub(crate) store: String,
    pub(crate) pid: u32,
    pub(crate) cache_dir: String,
    pub(crate) written: Written,
    pub(crate) synced: Synced,
    pub(crate) owed: Owed,
    /// What of it is held back, because no program asked for it: the first, and how many.
    #[serde(default)]
    pub(crate) held: Vec<HeldChange>,
    #[serde(default)]
    pub(crate) held_count: u64,
    /// What this store does not promise, in plain words.
    #[serde(default)]
    pub(crate) weaker: Vec<String>,
    pub(crate) in_flight: u64,
    pub(crate) indexed: Indexed,
    /// The index of all machines, if there is one.
    #[serde(default)]
    pub(crate) shared: Option<SharedIndexed>,
    pub(crate) cache: CacheUse,
    #[serde(default)]
    pub(crate) pinned: Pinned,
    pub(crate) requests: Requests,
    pub(crate) pull: Pull,
    pub(crate) last_error: Option<LastError>,
    pub(crate) store_reachable: bool,
    pub(crate) unlisted_directories: u64,
    pub(crate) skipped_keys: Vec<SkippedKey>,
    pub(crate) skipped_key_count: u64,
    pub(crate) conflicts: u64,
    /// Moves whose links are being rewritten.
    #[serde(default)]
    pub(crate) moves: u64,
    pub(crate) read_only: bool,
}

/// What programs have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// Files and folders known.
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) seq: u64,
}

/// What survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Synced {
    pub(crate) seq: u64,
}

/// What is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owed {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// Beyond these, writers wait.
    pub(crate) limit_bytes: u64,
    pub(crate) oldest_age_ms: Option<u64>,
}

/// What search sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Indexed {
    pub(crate) written_seq: u64,
    pub(crate) indexed_seq: u64,
    pub(crate) behind: u64,
    pub(crate) backlog: u64,
    pub(crate) notes: u64,
    pub(crate) last_error: Option<String>,
}

/// What the shared index sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedIndexed {
    /// Where it is, without secrets.
    pub(crate) address: String,
    /// Notes and changes of which it may not know.
    pub(crate) behind: u64,
    /// Notes among them that are known to be owed.
    pub(crate) owed: u64,
    /// All notes were compared with it once.
    pub(crate) compared: bool,
    /// For how long it has not done what it was asked for.
    pub(crate) away_ms: Option<u64>,
    pub(crate) last_error: Option<String>,
}

/// Local content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheUse {
    pub(crate) bytes: u64,
    pub(crate) limit_bytes: u64,
}

/// Calls to the store since the daemon began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Requests {
    pub(crate) put: u64,
    pub(crate) get: u64,
    pub(crate) head: u64,
    pub(crate) list: u64,
    pub(crate) copy: u64,
    pub(crate) delete: u64,
    /// About the change feed, of any kind; not among the others.
    #[serde(default)]
    pub(crate) feed: u64,
    pub(crate) failed: u64,
}

/// How what others write is followed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Pull {
    /// Age of the last look at the whole bucket; none before the first.
    pub(crate) listed_age_ms: Option<u64>,
    /// The pause between two of these now.
    pub(crate) interval_ms: u64,
    /// Other machines whose feeds are followed.
    pub(crate) peers: Vec<Peer>,
    /// The store keeps no conditions: of two savers the last wins.
    pub(crate) weaker: bool,
}

/// Another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) writer: String,
    /// How long ago it had something new.
    pub(crate) quiet_ms: Option<u64>,
}

/// The newest failure that still matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastError {
    pub(crate) message: String,
    pub(crate) age_ms: u64,
    pub(crate) retryable: bool,
}

/// A key that is not shown under its own name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SkippedKey {
    pub(crate) key: String,
    pub(crate) reason: String,
    pub(crate) alias: Option<String>,
}

/// The JSON of `notefs status FILE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileReport {
    pub(crate) path: String,
    pub(crate) step: String,
    pub(crate) size: u64,
    pub(crate) cached_bytes: u64,
    pub(crate) key: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) owed_for_ms: Option<u64>,
    pub(crate) indexed: bool,
    pub(crate) last_error: Option<String>,
}

#[cfg(test)]
#[path = "protocol/tests.rs"]
mod tests;

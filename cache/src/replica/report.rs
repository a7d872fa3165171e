//! What the replica tells about itself: the ladder of durability and what is owed.
//!
//! Does not own the stream of changes for an index (`replica/changes.rs`), only its types.

use super::Replica;
use crate::error::{Error, Result};
use crate::state::Tables;
use crate::store::RequestCounts;
use crate::types::*;
use serde::Serialize;
use std::sync::atomic::Ordering;

/// What has not reached the bucket yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Owed {
    /// Files and directories with changes that are not stored.
    pub count: u64,
    /// Their bytes, as far as content must be sent.
    pub bytes: u64,
    /// Age of the oldest such change in milliseconds.
    pub oldest_age_ms: Option<u64>,
}

/// A key of the bucket that is not shown under its own name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedKey {
    /// The key as the store lists it.
    pub key: String,
    /// Why, in words for people.
    pub reason: String,
    /// The path under which it can be reached, if it can.
    pub alias: Option<String>,
}

/// A change that is held back, because no program asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldChange {
    /// Its path below the mount, or its key where it has no name any more.
    pub path: String,
    /// What would be done, and why it is not.
    pub reason: String,
    /// For how long it is held, in milliseconds.
    pub age_ms: u64,
}

/// The newest failure, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What, where and what to do, in one line.
    pub message: String,
    /// How long ago it happened, in milliseconds.
    pub age_ms: u64,
    /// Whether it is tried again by itself.
    pub retryable: bool,
}

/// The state of a whole replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicaStatus {
    /// The store's name, without secrets.
    pub store: String,
    /// Files and directories known.
    pub inodes: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Changes since the replica was made: the seq of the newest one.
    pub written_seq: u64,
    /// The seq up to which changes are *synced*.
    pub synced_seq: u64,
    /// What is not stored.
    pub owed: Owed,
    /// What of it is held back (the first 100).
    pub held: Vec<HeldChange>,
    /// How much that is in all.
    pub held_count: u64,
    /// Bound on `owed.bytes`, beyond which writers wait; see [`Replica::set_dirty_limit`].
    pub dirty_limit_bytes: u64,
    /// Uploads, copies and deletions under way now.
    pub in_flight: u64,
    /// Bytes of content on the local disk, with what is kept to merge with.
    pub cache_bytes: u64,
    /// `Options::cache_size_bytes`.
    pub cache_limit_bytes: u64,
    /// Contents dropped since the replica was opened to keep it so.
    pub evictions: u64,
    /// Requests made to the store since the replica was opened.
    pub requests: RequestCounts,
    /// How what others write is followed.
    pub pull: PullStatus,
    /// Whether the newest call to the store was answered.
    pub store_reachable: bool,
    /// The newest failure that still matters.
    pub last_error: Option<Problem>,
    /// Directories whose names are not known yet; 0 when the whole bucket has been listed.
    pub unlisted_directories: u64,
    /// Keys that are hidden or shown under an alias (the first 100).
    pub skipped_keys: Vec<SkippedKey>,
    /// How many there are in all.
    pub skipped_key_count: u64,
    /// Conflicts that nobody has resolved yet.
    pub conflicts: u64,
    /// What is kept on this machine.
    pub pinned: crate::pin::PinStatus,
}

/// How what others write is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PullStatus {
    /// Age of the last look at the whole bucket in milliseconds; `None` before the first.
    pub listed_age_ms: Option<u64>,
    /// The pause between two of these now, in milliseconds.
    pub interval_ms: u64,
    /// Other writers whose feeds are followed.
    pub peers: Vec<PeerStatus>,
    /// The store keeps no conditions: of two savers the last wins.
    pub weaker: bool,
}

/// Another writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Its id.
    pub writer: String,
    /// How long ago it had something new, in milliseconds; `None`: not since this replica was opened.
    pub quiet_ms: Option<u64>,
}

/// The state of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileStatus {
    /// Its path below the mount.
    pub path: String,
    /// Its highest step.
    pub step: Step,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of it on the local disk.
    pub cached_bytes: u64,
    /// The object's key.
    pub key: Option<String>,
    /// The object's version as far as known.
    pub etag: Option<String>,
    /// How long ago its oldest change that is not stored was made, in milliseconds.
    pub owed_for_ms: Option<u64>,
    /// Why its newest upload failed, if it did.
    pub last_error: Option<String>,
}

/// One change of the namespace or of content, in the order of its seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The file at this path is new or has new content: read it now.
    Upsert {
        /// Path below the mount.
        path: Vec<u8>,
        /// The file.
        ino: Ino,
    },
    /// No file is at this path any more.
    Gone {
        /// Path below the mount.
        path: Vec<u8>,
    },
    /// A directory got another path, and everything below it too.
    Moved {
        /// Path before.
        from: Vec<u8>,
        /// Path after.
        to: Vec<u8>,
    },
}

/// A file that an index has not seen yet, although nobody changed it: it came with the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BacklogItem {
    /// Names it for [`Replica::backlog_done`].
    pub cookie: u64,
    /// Path below the mount.
    pub path: Vec<u8>,
    /// The file.
    pub ino: Ino,
}

/// Skipped keys that a status shows.
const SKIPPED_SHOWN_MAX: usize = 100;

/// Reports.
impl Replica {
    /// The state of the whole replica.
    pub fn status(&self) -> ReplicaStatus {
        let owed = self.owed();
        let (held, pinned) = (self.held_changes(), self.pin_status());
        let unlisted_directories = self.unlisted_directories();
        // Each has a lock of its own, so it is asked before `State` is locked.
        let (held_count, in_flight) = (self.held_count(), self.pusher.in_flight_count());
        let (requests, pull) = (self.store.requests(), self.pull_status());
        let (store_reachable, last_error) = (!self.store_unreachable(), self.problem());
        if let Err(error) = self.state.commit() {
            tracing::warn!(%error, "Could not commit before a status; its counts may be a moment old");
        }
        let mut tables = self.state.lock();
        let skipped = tables.skipped(SKIPPED_SHOWN_MAX).unwrap_or_default();
        let skipped = skipped
            .into_iter()
            .map(|(key, reason, alias)| SkippedKey { key, reason, alias });
        ReplicaStatus {
            store: self.store.name(),
            inodes: tables.count("inode").unwrap_or(0),
            bytes: tables.total_bytes().unwrap_or(0),
            written_seq: tables.change_seq(),
            synced_seq: self.synced_seq.load(Ordering::Acquire),
            owed,
            held,
            held_count,
            dirty_limit_bytes: self.dirty_limit_bytes.load(Ordering::Acquire),
            in_flight,
            cache_bytes: tables.local_bytes + tables.bases_bytes(),
            cache_limit_bytes: self.options.cache_size_bytes,
            evictions: self.evictions.load(Ordering::Relaxed),
            requests,
            pull,
            store_reachable,
            last_error,
            unlisted_directories,
            skipped_keys: skipped.collect(),
            skipped_key_count: tables.count("skipped").unwrap_or(0),
            pinned,
            conflicts: tables.conflicts().map_or(0, |conflicts| conflicts.len() as u64),
        }
    }

    /// Directories whose names are not known yet.
    pub fn unlisted_directories(&self) -> u64 {
        let mut tables = self.state.lock();
        tables.count("inode WHERE kind = 1 AND known = 0").unwrap_or(0)
    }

    fn pull_status(&self) -> PullStatus {
        let listed_ms = self.puller.listed_ms.load(Ordering::Acquire);
        PullStatus {
            listed_age_ms: (listed_ms > 0).then(|| self.now_ms().saturating_sub(listed_ms)),
            interval_ms: self.puller.interval_ms.load(Ordering::Acquire),
            peers: self.peers(),
            weaker: self.trial().map_or(
                !(self.capabilities.put_if_absent && self.capabilities.put_if_match),
                |found| !(found.put_if_absent && found.put_if_match),
            ),
        }
    }

    fn problem(&self) -> Option<Problem> {
        if self.flush_failed.load(Ordering::Acquire) {
            let message = "The cache disk failed to flush, so nothing is called synced until notefs is mounted again. Check the disk; \
                           uploads go on";
            return Some(Problem {
                message: message.to_owned(),
                age_ms: 0,
                retryable: false,
            });
        }
        let now = self.now_ms();
        let push = self.pusher.newest_failure();
        let push = push.map(|(message, at_ms, retryable)| Problem {
            message,
            age_ms: now.saturating_sub(at_ms),
            retryable,
        });
        let health = self.health.lock();
        let call = health
            .last_error
            .as_ref()
            .filter(|_| health.unreachable || push.is_some());
        push.or_else(|| {
            call.map(|(at_ms, error)| Problem {
                message: error.to_string(),
                age_ms: now.saturating_sub(*at_ms),
                retryable: error.retryable,
            })
        })
    }

    /// What is not stored.
    pub(crate) fn owed(&self) -> Owed {
        let now_ms = (self.options.clock.now().as_nanos() / 1_000_000).max(0) as u64;
        let mut tables = self.state.lock();
        let oldest = tables.dirty.values().map(|debt| debt.since_ms).min();
        let owing: Vec<Ino> = tables.dirty.keys().copied().collect();
        let sizes = owing
            .into_iter()
            .filter_map(|ino| tables.inode(ino).ok().flatten().map(|inode| inode.size));
        let bytes = sizes.sum();
        Owed {
            count: tables.dirty.len() as u64,
            bytes,
            oldest_age_ms: oldest.map(|since| now_ms.saturating_sub(since)),
        }
    }

    /// At most `limit` paths that are not stored, for a report of what is left; an unlinked file has none and shows as its key.
    pub fn owed_paths(&self, limit: usize) -> Result<Vec<String>> {
        self.view(|tables| {
            let owing: Vec<Ino> = tables.dirty.keys().copied().take(limit).collect();
            let mut paths = Vec::new();
            for ino in owing {
                paths.push(path_or_key(tables, ino)?);
            }
            Ok(paths)
        })
    }

    /// The path of a directory, or the first path of anything else, below the mount; empty for the root. ENOENT if it has none.
    pub fn path(&self, ino: Ino) -> Result<Vec<u8>> {
        self.view(|tables| {
            let inode = tables.live_inode(ino)?;
            if inode.is_dir() && inode.nlink > 0 {
                let path = tables.directory_key(ino)?.path;
                return Ok(path.strip_suffix(b"/").unwrap_or(&path).to_vec());
            }
            let names = tables.names_of(ino)?;
            let name = names.first().ok_or(Error::Posix(libc::ENOENT))?;
            tables.path_of(name.parent, &name.name)
        })
    }

    /// The path of one inode, or its key if it has no name.
    pub(crate) fn owed_path(&self, ino: Ino) -> Result<String> {
        self.view(|tables| path_or_key(tables, ino))
    }

    /// The state of one file or directory.
    pub fn file_status(&self, ino: Ino) -> Result<FileStatus> {
        let step = self.step(ino)?;
        let now_ms = (self.options.clock.now().as_nanos() / 1_000_000).max(0) as u64;
        let mut tables = self.state.lock();
        let inode = tables.live_inode(ino)?;
        let path = match inode.is_dir() {
            true => tables.directory_key(ino)?.path.to_vec(),
            false => match tables.names_of(ino)?.first() {
                Some(name) => tables.path_of(name.parent, &name.name)?,
                None => Vec::new(),
            },
        };
        let remote = tables.remotes_of(ino)?.into_iter().next();
        let owed_for_ms = tables.dirty.get(&ino).map(|debt| now_ms.saturating_sub(debt.since_ms));
        Ok(FileStatus {
            path: String::from_utf8_lossy(&path).into_owned(),
            step,
            size: inode.attr().size,
            cached_bytes: tables.local_bytes_of(ino),
            key: remote.as_ref().map(|remote| remote.key.clone()),
            etag: remote.map(|remote| remote.etag).filter(|etag| !etag.is_empty()),
            owed_for_ms,
            last_error: self.held_reason(ino).or_else(|| self.pusher.failure_of(ino)),
        })
    }

    /// Whether a file or directory stays on this machine alone ([`crate::litter`]): then it is never *stored*.
    pub fn is_kept_here(&self, ino: Ino) -> Result<bool> {
        self.view(|tables| tables.is_kept_here(ino))
    }

    /// The step alone: cheap.
    pub fn step(&self, ino: Ino) -> Result<Step> {
        let mut tables = self.state.lock();
        let inode = tables.live_inode(ino)?;
        let step = match tables.dirty.get(&ino).copied() {
            None if inode.is_dir() && self.pusher.hints.is_owed() => Step::Synced,
            None if tables.is_kept_here(ino)? => Step::Synced,
            None => Step::Stored,
            Some(debt) if debt.op <= self.synced_op.load(Ordering::Acquire) => Step::Synced,
            Some(_) => Step::Written,
        };
        Ok(step)
    }
}

fn path_or_key(tables: &mut Tables, ino: Ino) -> Result<String> {
    let is_dir = tables
        .inode(ino)?
        .is_some_and(|inode| inode.is_dir() && inode.nlink > 0);
    let path = match tables.names_of(ino)?.first() {
        Some(_) if is_dir => tables.directory_key(ino)?.path.to_vec(),
        Some(name) => tables.path_of(name.parent, &name.name)?,
        None => tables
            .remotes_of(ino)?
            .first()
            .map(|remote| remote.key.clone())
            .unwrap_or_default()
            .into_bytes(),
    };
    Ok(String::from_utf8_lossy(&path).into_owned())
}

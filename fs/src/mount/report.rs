//! The state of a mount in the shape that `notefs status` shows.
//!
//! Owns the translation from the replica's and the index's own reports. Owns no numbers and no wording.

use crate::bridge::{IndexProgress, ShareStatus};
use crate::control::protocol::{
    Behind, CacheUse, ConflictRow, FileReport, HeldChange, Indexed, LastError, MountStatus, Owed, Peer, Pull, Requests,
    SharedIndexed, SkippedKey, Synced, Written,
};
use crate::control::registry::Record;
use notefs_cache::ConflictKind;
use notefs_cache::replica::{ConflictReport, FileStatus, PeerStatus, PullStatus, ReplicaStatus};

/// The whole mount.
pub(super) fn mount_status(record: &Record, replica: ReplicaStatus, index: IndexProgress, notes: u64) -> MountStatus {
    let requests = replica.requests;
    MountStatus {
        mountpoint: record.mountpoint.display().to_string(),
        store: replica.store,
        pid: record.pid,
        cache_dir: record.cache_dir.display().to_string(),
        written: Written {
            count: replica.inodes,
            bytes: replica.bytes,
            seq: replica.written_seq,
        },
        synced: Synced {
            seq: replica.synced_seq,
        },
        owed: Owed {
            count: replica.owed.count,
            bytes: replica.owed.bytes,
            limit_bytes: replica.dirty_limit_bytes,
            oldest_age_ms: replica.owed.oldest_age_ms,
        },
        held: held(replica.held),
        held_count: replica.held_count,
        weaker: Vec::new(),
        in_flight: replica.in_flight,
        indexed: Indexed {
            written_seq: index.written_seq,
            indexed_seq: index.indexed_seq,
            behind: index.behind(),
            backlog: index.backlog,
            notes,
            last_error: index.last_error,
        },
        shared: None,
        cache: CacheUse {
            bytes: replica.cache_bytes,
            limit_bytes: replica.cache_limit_bytes,
        },
        pinned: super::pins::pinned(&replica.pinned),
        requests: Requests {
            put: requests.put,
            get: requests.get,
            head: requests.head,
            list: requests.list,
            copy: requests.copy,
            delete: requests.delete,
            feed: requests.feed,
            failed: requests.failed,
        },
        pull: pull(replica.pull),
        last_error: replica.last_error.map(|problem| LastError {
            message: problem.message,
            age_ms: problem.age_ms,
            retryable: problem.retryable,
        }),
        store_reachable: replica.store_reachable,
        unlisted_directories: replica.unlisted_directories,
        skipped_keys: replica.skipped_keys.into_iter().map(skipped_key).collect(),
        skipped_key_count: replica.skipped_key_count,
        conflicts: replica.conflicts,
        moves: 0,
        read_only: false,
    }
}

fn skipped_key(skipped: notefs_cache::replica::SkippedKey) -> SkippedKey {
    SkippedKey {
        key: skipped.key,
        reason: skipped.reason,
        alias: skipped.alias,
    }
}

fn pull(pull: PullStatus) -> Pull {
    let peer = |peer: PeerStatus| Peer {
        writer: peer.writer,
        quiet_ms: peer.quiet_ms,
    };
    Pull {
        listed_age_ms: pull.listed_age_ms,
        interval_ms: pull.interval_ms,
        peers: pull.peers.into_iter().map(peer).collect(),
        weaker: pull.weaker,
    }
}

/// One conflict.
pub(super) fn conflict_row(conflict: ConflictReport) -> ConflictRow {
    let kind = match conflict.kind {
        ConflictKind::Edited => "edited",
        ConflictKind::Created => "created",
        ConflictKind::Renamed => "renamed",
    };
    ConflictRow {
        id: conflict.id,
        path: conflict.path,
        copy: conflict.copy,
        disputed: conflict.disputed,
        host: conflict.host,
        when: conflict.when.to_utc_text(),
        kind: kind.to_owned(),
    }
}

fn held(changes: Vec<notefs_cache::replica::HeldChange>) -> Vec<HeldChange> {
    let shown = changes.into_iter().map(|held| HeldChange {
        path: held.path,
        reason: held.reason,
        age_ms: held.age_ms,
    });
    shown.collect()
}

/// One file.
pub(super) fn file_report(file: FileStatus, indexed: bool) -> FileReport {
    FileReport {
        path: file.path,
        step: file.step.as_str().to_owned(),
        size: file.size,
        cached_bytes: file.cached_bytes,
        key: file.key,
        etag: file.etag,
        owed_for_ms: file.owed_for_ms,
        indexed,
        last_error: file.last_error,
    }
}

/// The index of all machines.
pub(super) fn shared(share: ShareStatus) -> SharedIndexed {
    SharedIndexed {
        behind: share.left(),
        address: share.address,
        owed: share.owed,
        compared: share.compared,
        away_ms: share.away_ms,
        last_error: share.last_error,
    }
}

/// How far search is behind.
pub(super) fn behind(index: &IndexProgress, unlisted_directories: u64) -> Behind {
    Behind {
        changes: index.behind(),
        backlog: index.backlog,
        backlog_total: index.backlog_total,
        unlisted_directories,
    }
}

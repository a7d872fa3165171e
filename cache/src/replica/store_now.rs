//! Waiting until what was written is *stored*, for mounts whose `fsync` promises that.
//!
//! Owns the wait and its deadline. Does not own the uploads (`push`), which only hear that somebody waits.

use super::Replica;
use crate::error::{Error, Result};
use crate::state::Tables;
use crate::types::Ino;
use std::time::Duration;

/// How long the store may take, before the time for the bytes.
const STORED_DEADLINE_SECONDS: u64 = 60;

/// The slowest upload that is waited for: each byte lengthens the deadline by this much.
const SLOWEST_BYTES_PER_SECOND: u64 = 1 << 20;

/// Between two looks.
const LOOK_MS: u64 = 5;

/// A content that is waited for.
#[derive(Clone, Copy)]
struct Awaited {
    ino: Ino,
    version: u64,
}

impl Replica {
    /// Uploads a file at once and returns when the store has acknowledged what was written to it before this call; of a directory, all
    /// that is owed now. EIO after [`STORED_DEADLINE_SECONDS`] and a second for each MiB: it is *written* and uploaded later all the same.
    pub async fn store_now(&self, ino: Ino) -> Result<()> {
        let (mut awaited, bytes) = self.view(|tables| awaited(tables, ino))?;
        let _urgencies: Vec<_> = awaited.iter().map(|of| self.pusher.wait_for(of.ino)).collect();
        let deadline = Duration::from_secs(STORED_DEADLINE_SECONDS + bytes / SLOWEST_BYTES_PER_SECOND);
        let until = self.now_ms() + deadline.as_millis() as u64;
        loop {
            awaited = self.view(|tables| not_stored(tables, &awaited))?;
            let Some(first) = awaited.first() else { return Ok(()) };
            let held = awaited.iter().find_map(|of| self.held_reason(of.ino));
            if held.is_some() || self.now_ms() >= until {
                let path = self.owed_path(first.ino).unwrap_or_default();
                let failure = || self.pusher.failure_of(first.ino);
                let reason = held
                    .or_else(failure)
                    .unwrap_or_else(|| "the store has not answered".to_owned());
                tracing::error!(
                    path,
                    left = awaited.len(),
                    "Not stored within {deadline:?}, so fsync or close gave EIO: {reason}. It is safe here and tried again"
                );
                return Err(Error::Posix(libc::EIO));
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}

/// What there is to wait for, and its bytes.
fn awaited(tables: &mut Tables, ino: Ino) -> Result<(Vec<Awaited>, u64)> {
    let is_dir = tables.inode(ino)?.is_some_and(|inode| inode.is_dir());
    let owing: Vec<Ino> = match is_dir {
        true => tables.dirty.keys().copied().collect(),
        false => vec![ino],
    };
    let (mut awaited, mut bytes) = (Vec::new(), 0);
    for ino in owing {
        let inode = tables.inode(ino)?;
        // Of an unlinked file there is nothing to store; that its object goes is waited for only with its directory.
        if !is_dir && inode.as_ref().is_none_or(|inode| inode.nlink == 0) {
            continue;
        }
        bytes += inode.as_ref().map_or(0, |inode| inode.size);
        awaited.push(Awaited {
            ino,
            version: inode.map_or(u64::MAX, |inode| inode.content_version),
        });
    }
    Ok((awaited, bytes))
}

/// Those of them that the store does not hold yet. Who goes on writing does not keep others waiting: an object of this content or a
/// later one is enough.
fn not_stored(tables: &mut Tables, awaited: &[Awaited]) -> Result<Vec<Awaited>> {
    let mut left = Vec::new();
    for of in awaited {
        if !tables.dirty.contains_key(&of.ino) {
            continue;
        }
        let holds = |remote: &crate::state::Remote| !remote.etag.is_empty() && remote.content_version >= of.version;
        let is_changed = tables
            .inode(of.ino)?
            .is_some_and(|inode| inode.content_version > of.version);
        if !(is_changed && tables.remotes_of(of.ino)?.iter().any(holds)) {
            left.push(*of);
        }
    }
    Ok(left)
}

//! The index of a whole vault in a database that all its machines share: libSQL (Turso, `sqld`) or PostgreSQL.
//!
//! Owns [`SharedIndex`], the handle; what it takes in ([`SharedChange`]) and hands out ([`SharedRow`], [`Hit`]). Its
//! parts: `address` (where the database is), `failure` (what can go wrong), `version` (which of two versions of a note
//! stands), `rows` (a note as rows), `libsql` and `postgres` (one database each). Does not decide when changes are sent
//! or fetched, never reads a note, and keeps nothing on this machine.
//!
//! A database holds any number of vaults. Every call ends by [`CALL_DEADLINE_SECONDS`], and every answer is bounded.

mod address;
mod failure;
mod version;

pub use address::SharedAddress;
pub use failure::SharedError;
pub use version::ObjectVersion;

use std::sync::Arc;

use crate::model::Hit;

/// The longest that one call takes, in seconds; each batch of [`SharedIndex::apply`] has its own.
pub const CALL_DEADLINE_SECONDS: u64 = 30;
/// Rows handed out at most by one call, whatever limit is asked for.
pub const MAX_SHARED_ROWS: usize = 5_000;
/// Changes written by one transaction.
pub const MAX_BATCH_CHANGES: usize = 256;

/// One change of a note, with the version of its object in the store.
#[derive(Clone, Debug)]
pub enum SharedChange {
    /// The object at this path has this version, and its content is this.
    Upsert {
        /// Where the note is.
        path: Vec<u8>,
        /// Which version of the object this is.
        version: ObjectVersion,
        /// The etag of the version that this one was made from, if its writer knows.
        replaces: Option<String>,
        /// Its content, or the first [`crate::MAX_NOTE_BYTES`] of it.
        bytes: Vec<u8>,
        /// The size of the object in bytes; larger than `bytes` when those are a prefix.
        total_bytes: u64,
        /// Modification time, nanoseconds since 1970.
        mtime_ns: i64,
    },
    /// The object at this path is gone.
    Gone {
        /// Where the note was.
        path: Vec<u8>,
        /// The version that is gone.
        version: ObjectVersion,
    },
}

/// What the shared index knows of one path, without the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRow {
    /// Where the note is, or was.
    pub path: Vec<u8>,
    /// The version of its object that the index stands for.
    pub version: ObjectVersion,
    /// Whether that version is gone.
    pub gone: bool,
    /// When this row changed last, in the order of the database.
    pub seq: u64,
    /// The title of the note.
    pub title: String,
}

/// A handle to the shared index of one vault. Clones share its connection.
#[derive(Clone)]
pub struct SharedIndex {
    inner: Arc<Inner>,
}

struct Inner {
    address: SharedAddress,
}

impl std::fmt::Debug for SharedIndex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SharedIndex({})", self.inner.address)
    }
}

impl SharedIndex {
    /// Connects to the database and brings its schema up to date. `vault` is the identity of the store: every machine that
    /// mounts the same notes gives the same.
    ///
    /// # Errors
    /// When the database is away, refuses the token or password, or was made by a newer program.
    pub async fn open(address: &SharedAddress, vault: &str) -> Result<Self, SharedError> {
        let _ = vault;
        Err(SharedError::away(
            address,
            "open the shared index",
            "no database is built in",
        ))
    }

    /// Applies the changes in batches of [`MAX_BATCH_CHANGES`], each one transaction in one round trip. Which of two versions of
    /// a note stands is told by the versions, not by who comes last; what is applied twice changes nothing. Paths that are no
    /// note's are passed over.
    ///
    /// # Errors
    /// When the database fails; then the batches before may be applied, and all may be sent again.
    pub async fn apply(&self, changes: &[SharedChange]) -> Result<(), SharedError> {
        let _ = changes;
        Ok(())
    }

    /// The rows that changed after `cursor`, in the order of the database, and the cursor to ask with next. The first cursor
    /// is 0. Only the last change of a row is seen. A cursor that the database has not reached (it was made anew) is taken
    /// for 0.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn changes_after(&self, cursor: u64, limit: usize) -> Result<(Vec<SharedRow>, u64), SharedError> {
        let _ = limit;
        Ok((Vec::new(), cursor))
    }

    /// As [`crate::Index::search`], ranked by the database's own full text.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn search(&self, query: &str, limit: usize, offset: usize) -> Result<Vec<Hit>, SharedError> {
        let _ = (query, limit, offset);
        Ok(Vec::new())
    }

    /// What is known of one path.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn row(&self, path: &[u8]) -> Result<Option<SharedRow>, SharedError> {
        let _ = path;
        Ok(None)
    }

    /// The rows behind `path` in the order of paths, those that are gone among them; an empty path begins.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn paths_after(&self, path: &[u8], limit: usize) -> Result<Vec<SharedRow>, SharedError> {
        let _ = (path, limit);
        Ok(Vec::new())
    }

    /// Drops the rows of notes that have been gone for this many days of the database's clock, and says how many. A machine
    /// that was away for longer must compare whole indexes ([`Self::paths_after`]).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_gone(&self, older_than_days: u32) -> Result<u64, SharedError> {
        let _ = older_than_days;
        Ok(0)
    }

    /// Where the database is, without any secret.
    pub fn address(&self) -> &SharedAddress {
        &self.inner.address
    }
}

//! All the local truth: inodes, names, small contents, and the ledger of what is owed to the bucket.
//!
//! One SQLite file behind one lock. Operations share an open transaction, and each is made safe against the daemon's death by
//! one record in the journal (`state/journal.rs`) before it is applied. [`State::commit`] ends the shared transaction some
//! ten times a second; [`State::sync`] ends it and flushes the disk once for everybody who waits.
//!
//! Inode rows and inline contents are written behind: they live in `cache`, marked dirty, and reach their tables at the commit,
//! so that a note that is created, written and renamed costs one row, not three.
//!
//! Lock order: the content stripe of an inode (`replica`), then the checkpointer's lock, then `State`'s, then `replica`'s reference counts.
//!
//! Owns SQL. Does not own meaning: which mutations an operation consists of is `replica`'s and `push`'s business.

mod apply;
mod base;
mod cache;
mod commit;
mod journal;
mod local;
mod moved;
mod pin;
mod query;
mod record;
mod row;
mod schema;
mod tried;

pub(crate) use pin::PinnedRow;
pub(crate) use query::DirectoryKey;
pub use record::ConflictKind;
pub(crate) use record::{
    Base, BaseMetadata, Conflict, DIRECTORY_VERSION_MAX, Dentry, Inode, LoggedChange, Marks, Moved, Mutation, Place,
    Remote,
};

use crate::error::{Error, Result};
use crate::types::Ino;
use cache::RowCache;
use journal::Journal;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Commit when the journal has grown to this part of the disk's reserve: the commit, and its way from the log into the tables,
/// must still fit.
const JOURNAL_SHARE_OF_RESERVE: u64 = 8;

/// Move the log into the tables, and empty it, when it has grown to this part.
const LOG_SHARE_OF_RESERVE: u64 = 4;

/// Commit when this many operations share the transaction.
const OPERATIONS_PER_COMMIT_MAX: u64 = 2000;

/// What is known in memory of an inode that is owed to the bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Debt {
    /// Wall clock, milliseconds: kept across restarts.
    pub(crate) since_ms: u64,
    /// Why it is owed.
    pub(crate) marks: Marks,
    /// Not to be pushed before this, on the monotonic clock in milliseconds.
    pub(crate) due_ms: u64,
    /// When it was first owed in this run, on the monotonic clock; 0 if before.
    pub(crate) first_ms: u64,
    /// When a program last wrote to it in this run, on the monotonic clock; 0 if none did.
    pub(crate) written_ms: u64,
    /// The operation that made it owed; 0 if that was in an earlier run.
    pub(crate) born: u64,
    /// Size of its content when it was last changed.
    pub(crate) bytes: u64,
    /// The version of its content that may be in the bucket without our having heard of it; 0 if there is none.
    pub(crate) sent_version: u64,
    /// The newest operation on it: once that is flushed, the inode is *synced*.
    pub(crate) op: u64,
}

/// The tables, open for reading and changing. Reached only through [`State::lock`].
pub(crate) struct Tables {
    connection: Connection,
    journal: Journal,
    cache: RowCache,
    in_transaction: bool,
    /// What the cache disk keeps free, so that commits fit.
    reserve_bytes: u64,
    /// The newest operation.
    op: u64,
    /// The newest operation that SQLite has committed.
    committed_op: u64,
    next_ino: Ino,
    next_cookie: u64,
    change_seq: u64,
    /// Owed inodes.
    pub(crate) dirty: HashMap<Ino, Debt>,
    /// Their contents together.
    pub(crate) dirty_bytes: u64,
    /// Inodes that ceased to be owed, and by which operation, as long as that is not flushed: on the disk they are still owed.
    settled: HashMap<Ino, u64>,
    /// Inodes with a content change in the log that nobody has read yet.
    pub(crate) unread_changes: HashSet<Ino>,
    /// Paths and keys of directories, as last computed.
    pub(crate) directory_keys: HashMap<Ino, DirectoryKey>,
    /// Content on the local disk, and how much that is.
    local: local::Local,
    pub(crate) local_bytes: u64,
    /// What users pinned: a folder by an empty name, a file by its folder and name.
    pub(crate) pins: HashMap<Ino, HashSet<Vec<u8>>>,
    bases: base::Bases,
    tried: tried::TriedTexts,
    /// What macOS strews about is stored like anything else.
    pub(crate) stores_litter: bool,
}

/// `state.db` and its journal.
pub(crate) struct State {
    tables: Mutex<Tables>,
    checkpointer: Mutex<Connection>,
    wal: Mutex<File>,
    wal_path: PathBuf,
    wal_bytes_max: u64,
}

impl State {
    /// Whether an earlier run has not ended by itself: SQLite removes its log when it is closed.
    pub(crate) fn was_killed(cache_dir: &Path) -> bool {
        std::fs::metadata(cache_dir.join("state.db-wal")).is_ok_and(|log| log.len() > 0)
    }

    /// Opens and recovers, and flushes what it has recovered; see [`schema::open`] for what is refused. `boot` names this start of
    /// the machine, `reserve_bytes` are what the disk keeps free.
    pub(crate) fn open(cache_dir: &Path, boot: &str, reserve_bytes: u64) -> Result<State> {
        let path = cache_dir.join("state.db");
        let connection = schema::open(&path)?;
        let wal_path = cache_dir.join("state.db-wal");
        let mut tables = Tables {
            connection,
            journal: Journal::open(&cache_dir.join("journal"))?,
            cache: RowCache::default(),
            in_transaction: false,
            reserve_bytes,
            op: 0,
            committed_op: 0,
            next_ino: 2,
            next_cookie: 16,
            change_seq: 0,
            dirty: HashMap::new(),
            dirty_bytes: 0,
            settled: HashMap::new(),
            unread_changes: HashSet::new(),
            directory_keys: HashMap::new(),
            local: local::Local::default(),
            local_bytes: 0,
            pins: HashMap::new(),
            bases: base::Bases::default(),
            tried: tried::TriedTexts::default(),
            stores_litter: false,
        };
        tables.recover(Some(boot))?;
        tables.commit()?;
        let checkpointer = schema::open_for_checkpoints(&path).map_err(|e| database("open a second connection", &e))?;
        let wal = File::open(&wal_path).map_err(|source| Error::Local {
            action: "open the write-ahead log",
            path: wal_path.clone(),
            source,
            advice: "Check that the disk is writable and not full",
        })?;
        let state = State {
            tables: Mutex::new(tables),
            checkpointer: Mutex::new(checkpointer),
            wal: Mutex::new(wal),
            wal_path,
            wal_bytes_max: reserve_bytes / LOG_SHARE_OF_RESERVE,
        };
        state.sync()?;
        state.lock().journal.clear()?;
        Ok(state)
    }

    /// Exclusive use of the tables. Never held across a network call or a kernel notification; across a disk flush only while the log
    /// is emptied ([`State::shorten_log`]).
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock()
    }
}

impl Tables {
    /// Makes `mutations` one operation: journaled as one, then applied. Fails with nothing done.
    pub(crate) fn write(&mut self, mutations: &[Mutation<'_>]) -> Result<u64> {
        if mutations.is_empty() {
            return Ok(self.op);
        }
        if self.journal.len() > self.reserve_bytes / JOURNAL_SHARE_OF_RESERVE
            || self.op - self.committed_op >= OPERATIONS_PER_COMMIT_MAX
        {
            self.commit()?;
        }
        self.begin()?;
        let before = self.journal.len();
        self.journal.append(self.op + 1, &mutations)?;
        self.op += 1;
        if let Err(error) = mutations.iter().try_for_each(|mutation| self.apply(mutation)) {
            self.journal.rewind(before)?;
            self.roll_back()?;
            return Err(error);
        }
        Ok(self.op)
    }

    /// Whether the disk may still say that an inode is owed, though it is not.
    pub(crate) fn is_owed_on_disk(&self, ino: Ino) -> bool {
        self.settled.contains_key(&ino)
    }

    /// The newest operation's number.
    pub(crate) fn op(&self) -> u64 {
        self.op
    }

    /// A number that no inode had before.
    pub(crate) fn new_ino(&mut self) -> Ino {
        self.next_ino += 1;
        self.next_ino - 1
    }

    /// A directory position that no name had before.
    pub(crate) fn new_cookie(&mut self) -> u64 {
        self.next_cookie += 1;
        self.next_cookie - 1
    }

    /// The seq of the newest change for the index.
    pub(crate) fn change_seq(&self) -> u64 {
        self.change_seq
    }
}

/// A database error as one of ours.
fn database(action: &'static str, error: &rusqlite::Error) -> Error {
    let full = matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::SystemIoFailure)
    ) && error.to_string().contains("full");
    Error::Database {
        action,
        message: error.to_string(),
        errno: if full { libc::ENOSPC } else { libc::EIO },
    }
}

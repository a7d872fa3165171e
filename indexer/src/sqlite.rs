//! The index in one SQLite file: the only place that names rusqlite.
//!
//! Owns opening (private file, write-ahead log, numbered migrations), one connection that writes and a few that read,
//! and the translation of database errors. Its parts: `schema` (tables), `batch`, `parts` and `full_text` (writing),
//! `search` (full text), `graph` (links and tags), `entity` (notes and what they say), `readonly` (queries of users),
//! `report` (counts and warnings). Does not parse notes, resolve links or cut
//! snippets; it hands out and takes in plain rows, so that another database can stand beside it.
//!
//! Locks: the writer's and the readers' are never held together.

mod batch;
mod entity;
mod filter;
mod full_text;
mod graph;
mod parts;
mod readonly;
mod report;
mod schema;
mod search;

use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

pub(crate) use batch::Batch;
pub(crate) use entity::NoteRow;
pub(crate) use graph::{InboundRow, OutboundRow};
pub(crate) use search::HitRow;

use crate::error::IndexError;

/// How long a call waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reading connections kept open; more are opened when needed and closed again.
const MAX_IDLE_READERS: usize = 4;
/// Statements each connection keeps compiled.
const STATEMENT_CACHE: usize = 64;

/// One SQLite database.
pub(crate) struct Database {
    path: PathBuf,
    /// Closed before the writer, since only the writer can empty the log as the last one to close.
    idle_readers: Mutex<Vec<Connection>>,
    writer: Mutex<Connection>,
}

impl Database {
    /// Opens the database, creating or migrating it. A file that is not ours, damaged or newer is left as it is.
    pub(crate) fn open(path: &Path) -> Result<Self, IndexError> {
        create_private(path)?;
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::prepare(&mut writer, path)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            idle_readers: Mutex::default(),
        })
    }

    /// One in memory, which is gone with its last user.
    pub(crate) fn in_memory() -> Result<Self, IndexError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("file:notefs-index-{number}?mode=memory&cache=shared"));
        let mut writer = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        schema::prepare(&mut writer, &path)?;
        Ok(Self {
            path,
            writer: Mutex::new(writer),
            idle_readers: Mutex::default(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held left at most an open transaction, which the next batch rolls back.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empties the writer's page cache; those of the readers are small and serve the next search.
    pub(crate) fn relax(&self) -> Result<(), IndexError> {
        let shrunk = self.writer().execute_batch("PRAGMA shrink_memory");
        shrunk.map_err(self.failed("give memory back"))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle_readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A view of the database as it is now, unchanged until dropped.
    pub(crate) fn snapshot(&self) -> Result<Snapshot<'_>, IndexError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        };
        connection
            .execute_batch("BEGIN")
            .map_err(self.failed("begin reading"))?;
        Ok(Snapshot {
            database: self,
            connection: Some(connection),
        })
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> IndexError + '_ {
        move |error| translate(&self.path, action, error)
    }
}

/// A reading transaction on a borrowed connection.
pub(crate) struct Snapshot<'a> {
    database: &'a Database,
    /// `None` only while being dropped.
    connection: Option<Connection>,
}

impl Snapshot<'_> {
    /// Runs `query`; `action` says what it is for, should it fail.
    fn run<T>(
        &self,
        action: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        match &self.connection {
            Some(connection) => query(connection).map_err(self.database.failed(action)),
            None => Err(self.database.failed(action)(rusqlite::Error::InvalidQuery)),
        }
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // A connection whose transaction does not end is not used again.
        if connection.execute_batch("ROLLBACK").is_ok() {
            let mut idle = self.database.idle();
            if idle.len() < MAX_IDLE_READERS {
                idle.push(connection);
            }
        }
    }
}

impl Deref for Batch<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection()
    }
}

/// Creates the file with mode 0600 before SQLite sees it; its log and shared memory take the mode over.
fn create_private(path: &Path) -> Result<(), IndexError> {
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    opened.map(drop).map_err(|source| IndexError::Open {
        path: path.to_owned(),
        source: source.into(),
    })
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, IndexError> {
    let failed = |error| match translate(path, "open", error) {
        IndexError::Database { path, source, .. } => IndexError::Open { path, source },
        other => other,
    };
    let is_address = path.to_str().is_some_and(|path| path.starts_with("file:"));
    let address = if is_address {
        OpenFlags::SQLITE_OPEN_URI
    } else {
        OpenFlags::empty()
    };
    let connection =
        Connection::open_with_flags(path, access | address | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

/// SQLite integers are signed; nothing stored here comes near their end.
fn signed(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

/// A count or size read back.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A byte offset read back.
fn offset(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

fn translate(path: &Path, action: &'static str, error: rusqlite::Error) -> IndexError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => IndexError::Corrupt {
            path,
            detail: error.to_string(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => IndexError::Busy { path, action },
        Some(ErrorCode::DiskFull) => IndexError::Full { path, action },
        _ => IndexError::Database {
            path,
            action,
            source: error.into(),
        },
    }
}

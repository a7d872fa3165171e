//! What can go wrong with the index, as data.
//!
//! Owns [`IndexError`]: each value says what failed, on which file, and what to do; [`IndexError::is_retryable`]
//! answers the one question a loop has. A strange *note* is never an error: it is a [`crate::Warning`].
//! Does not log; whoever swallows an error does.

use std::path::PathBuf;

/// The cause below, kept without naming the database library.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A failure of the index. The notes themselves are never at stake: an index can always be rebuilt from them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The file is damaged or is no database at all. It is left as it is.
    #[error(
        "The index {path} is damaged ({detail})\n\n\
         Rebuild it with `notefs index rebuild`, or delete the file: the notes are not touched, and the \
         index is made anew from them",
        path = path.display()
    )]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What the database reported.
        detail: String,
    },
    /// A later notefs wrote this index. It is left as it is.
    #[error(
        "The index {path} has schema version {found}, but this notefs knows only up to {known}\n\n\
         Use the notefs that wrote it, or delete the file to have the index made anew",
        path = path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest version this program understands.
        known: i64,
    },
    /// The file is a database of another program. It is left as it is.
    #[error(
        "{path} is a SQLite database of another program, not a notefs index\n\n\
         Give the index another path, or move that file away",
        path = path.display()
    )]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The file cannot be created or opened.
    #[error(
        "Cannot open the index {path}: {source}\n\n\
         Check that its folder exists and is writable by you",
        path = path.display()
    )]
    Open {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: Source,
    },
    /// Another process held the database for longer than the busy timeout.
    #[error(
        "The index {path} is locked by another process while trying to {action}\n\n\
         Try again; if it stays, see who holds it with `fuser {path}`",
        path = path.display()
    )]
    Busy {
        /// The database file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
    },
    /// The disk below the index is full.
    #[error(
        "No space left for the index {path} while trying to {action}\n\n\
         Free some space on that disk; indexing then goes on by itself",
        path = path.display()
    )]
    Full {
        /// The database file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
    },
    /// A query that a user wrote was refused or failed.
    #[error(
        "The query failed: {reason}\n\n\
         Tables and views are described in indexer/SCHEMA.md; `SELECT name, sql FROM sqlite_schema` lists them"
    )]
    Query {
        /// What is wrong with it.
        reason: String,
    },
    /// Any other failure of the database.
    #[error(
        "The index {path} failed to {action}: {source}\n\n\
         If it happens again, rebuild the index with `notefs index rebuild`",
        path = path.display()
    )]
    Database {
        /// The database file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// Why.
        source: Source,
    },
}

impl IndexError {
    /// Whether the same call may succeed later without anybody repairing the index.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Full { .. })
    }
}

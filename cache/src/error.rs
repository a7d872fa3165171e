//! Errors of the replica: what, where, what to do next, and whether trying again can help.
//!
//! Front ends turn [`Error::errno`] into their own protocol; nobody parses the text.

use crate::store::StoreError;
use crate::types::Ino;
use std::path::PathBuf;

/// The result of a replica operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Something that must be brought from the bucket before an operation can be answered.
///
/// Not a failure: satisfy it with [`crate::Replica::satisfy`] and run the operation again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// The names in this directory.
    Listing(Ino),
    /// The user metadata of this inode's object (its type cannot be told without).
    Metadata(Ino),
    /// These bytes of the inode's content.
    Content {
        /// The file.
        ino: Ino,
        /// First byte that is missing.
        offset: u64,
        /// How many bytes the operation wants from there.
        length_bytes: u64,
    },
    /// Too much waits for the bucket; see [`crate::Replica::set_dirty_limit`].
    Room {
        /// The file that is to grow.
        ino: Ino,
        /// Its size then.
        size_bytes: u64,
    },
}

/// What went wrong in the replica.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not local yet; see [`Need`].
    #[error("{0:?} must be fetched first")]
    Need(Need),
    /// A POSIX error that a program expects and handles; carries the errno of `libc`.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Posix(i32),
    /// The object store could not be asked, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local cache disk failed.
    #[error("The cache at {path} could not {action}: {source}. {advice}", path = path.display())]
    Local {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The file or folder it was attempted on.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
        /// What the user can do about it.
        advice: &'static str,
    },
    /// The state database answered with an error.
    #[error("The state database failed to {action}: {message}")]
    Database {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The database's own words.
        message: String,
        /// The errno that a program should see (ENOSPC when the disk is full, else EIO).
        errno: i32,
    },
    /// The cache folder cannot be used; the text says why and what to do.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    /// The errno that a program should see.
    pub fn errno(&self) -> i32 {
        match self {
            Error::Posix(errno) | Error::Database { errno, .. } => *errno,
            Error::Local { source, .. } => match source.raw_os_error() {
                Some(errno @ (libc::ENOSPC | libc::EDQUOT)) => errno,
                _ => libc::EIO,
            },
            Error::Need(_) | Error::Store(_) | Error::Unusable(_) => libc::EIO,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Store(error) => error.retryable,
            Error::Need(_) => true,
            _ => false,
        }
    }
}

//! The local replica of one bucket: its namespace, its content, its debt to the bucket and its agreement with it.
//!
//! Owns: `state.db`, the journal, blob files, the ledger, the push and pull loops, the object store adapter.
//! Does not own: the kernel (`notefs`' front ends), the meaning of notes (`notefs-indexer`), the command line.

pub mod clock;
pub mod error;
pub mod litter;
pub mod merge;
pub mod replica;
pub mod store;
pub mod types;

pub mod check;

mod blob;
mod feed;
mod hints;
mod owed_object;
pub mod pin;
mod pull;
mod push;
mod state;
pub mod trash;

pub use error::{Error, Need, Result};
pub use pin::Pinning;
pub use pull::Hint;
pub use replica::{Options, Replica};
pub use state::ConflictKind;
pub use types::*;

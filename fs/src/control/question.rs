//! Questions about the knowledge in the notes, as they travel over the control socket.
//!
//! Owns their shape. The answers are the index's own rows. Does not own search, links and tags (`protocol.rs`).

use super::protocol::Behind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is asked. Paths are bytes below the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Question {
    /// A note, by its path, or what a link with this text leads to.
    Note {
        /// Its path, if that is known.
        path: Option<Vec<u8>>,
        /// Else its permalink, title or alias.
        name: String,
    },
    /// A note and what is around it.
    Context {
        /// Which.
        path: Vec<u8>,
        /// How many links away.
        depth: u32,
        /// How many notes.
        limit: u32,
    },
    /// Notes that no other note links to.
    Orphans {
        /// How many.
        limit: u32,
    },
    /// Names that links call and no note has.
    Unresolved {
        /// How many.
        limit: u32,
    },
    /// The notes that were changed last.
    Recent {
        /// Only below this folder; empty for everywhere.
        below: Vec<u8>,
        /// How many.
        limit: u32,
    },
    /// Notes and the links between them.
    Graph {
        /// Only what is around this note.
        around: Option<Vec<u8>>,
        /// How many links away from it.
        depth: u32,
        /// How many notes.
        limit: u32,
    },
    /// A query in SQL that may only read.
    Query {
        /// The query.
        sql: String,
        /// How many rows.
        limit: u32,
    },
    /// What was strange about notes.
    Warnings {
        /// How many.
        limit: u32,
    },
}

/// The answer: rows of the index as it describes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// How far the index was behind.
    pub(crate) behind: Behind,
    /// What it says.
    pub(crate) value: Value,
    /// The shared index answered, too.
    #[serde(default)]
    pub(crate) shared: bool,
    /// Why it did not.
    #[serde(default)]
    pub(crate) shared_error: Option<String>,
}

//! Everything in a folder as lines of JSON, and back.
//!
//! Owns the format's version and its two spellings. Does not own what a line says (`entry`), how a folder is read (`export`) or made
//! (`import`).
//!
//! A `jsonl` archive is a head and one line for each entry; a `json` archive is one object whose `entries` are these lines. The order is
//! that of names, so that two archives of the same folder are the same bytes and differ where the folders do.

mod entry;
mod export;
mod import;

pub(crate) use export::{Exported, Knowledge, export};
pub(crate) use import::import;

use serde::{Deserialize, Serialize};

/// The version of the format that is written; others are refused.
const VERSION: u32 = 1;

/// Content of one line; longer files continue in further lines.
const PIECE_BYTES: usize = 3 << 20;

/// How an archive is spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// One object.
    Json,
    /// A line for each entry.
    Jsonl,
}

/// What stands first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    notefs_export: u32,
}

//! What each tool takes; the texts here are what an agent reads about it.
//!
//! Owns names, meanings and bounds of arguments. Does not own what the tools do.

use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;

/// Rows and entries that one answer holds at most.
pub(super) const ROWS_MAX: u32 = 200;

/// Bytes of a note's text that one `read` answers at most.
pub(super) const READ_BYTES_MAX: usize = 256 << 10;

fn twenty() -> u32 {
    20
}

fn hundred() -> u32 {
    100
}

fn one() -> u32 {
    1
}

fn read_bytes() -> usize {
    64 << 10
}

/// `search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// Words that must all occur; "a phrase", word*, -not, tag:x, path:x, title:x, type:x, category:x, before:2026-01-31,
    /// after:2026-01, prop:key=value narrow it down.
    pub(super) query: String,
    /// Only notes below this folder.
    #[serde(default)]
    pub(super) folder: String,
    /// At most this many notes.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 200))]
    pub(super) limit: u32,
    /// Leave out the first so many: next_offset of the page before.
    #[serde(default)]
    #[schemars(range(max = 100_000))]
    pub(super) offset: u32,
}

/// `read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    /// The note, relative to the folder, as in projects/plan.md.
    pub(super) path: String,
    /// Where to begin: next_offset_bytes of the part before.
    #[serde(default)]
    pub(super) offset_bytes: usize,
    /// At most this many bytes.
    #[serde(default = "read_bytes")]
    #[schemars(range(min = 1, max = 262_144))]
    pub(super) limit_bytes: usize,
}

/// `write`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    /// The note, relative to the folder; folders on the way are made.
    pub(super) path: String,
    /// All of its text.
    pub(super) text: String,
    /// To replace a note: its version, as `read` gave it. Without it the note must not exist yet.
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// `edit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// The note, relative to the folder.
    pub(super) path: String,
    /// The text to replace, exactly as `read` gives it; it must occur once. Without it new_text is added at the end.
    #[serde(default)]
    pub(super) old_text: Option<String>,
    /// What stands there afterwards.
    pub(super) new_text: String,
    /// Replace every occurrence.
    #[serde(default)]
    pub(super) all: bool,
    /// Only if the note still is this version, as `read` gave it.
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// `list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// Which folder; without it, the whole one.
    #[serde(default)]
    pub(super) folder: String,
    /// Begin behind this name: next_after of the page before.
    #[serde(default)]
    pub(super) after: Option<String>,
    /// At most this many entries.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 200))]
    pub(super) limit: u32,
}

/// `move`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    /// The note or folder.
    pub(super) from: String,
    /// Its new path, at which there must be nothing; folders on the way are made.
    pub(super) to: String,
}

/// `delete`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    /// The note, or an empty folder.
    pub(super) path: String,
    /// Only if the note still is this version, as `read` gave it.
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// `backlinks`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Backlinks {
    /// The note; it need not exist.
    pub(super) path: String,
    /// At most this many links.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 200))]
    pub(super) limit: u32,
}

/// `build_context`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BuildContext {
    /// The note.
    pub(super) path: String,
    /// How many links away.
    #[serde(default = "one")]
    #[schemars(range(max = 10))]
    pub(super) depth: u32,
    /// At most this many notes around it.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 200))]
    pub(super) limit: u32,
}

/// `recent`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Recent {
    /// Only notes below this folder.
    #[serde(default)]
    pub(super) folder: String,
    /// At most this many notes.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 200))]
    pub(super) limit: u32,
}

/// `conflicts`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Conflicts {
    /// Only those below this folder.
    #[serde(default)]
    pub(super) folder: String,
}

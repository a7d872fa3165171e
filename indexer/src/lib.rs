//! notefs-indexer: what the notes mean, kept in one SQLite file and searched there.
//!
//! Changes come in with a sequence number, in order, and each batch commits its rows together with that number: what
//! [`Index::indexed_seq`] says is indexed, is. Notes are parsed by pure functions (`parse`) that never
//! fail; links are stored as written and resolved when asked for (`resolve`), so an index kept up to
//! date equals one built anew.
//!
//! Owns: which files are notes, parsing, the schema, ranking, snippets, link resolution.
//! Does not own: reading notes (the daemon brings their bytes), watching, the command line, threads.
//!
//! Only `sqlite` names rusqlite.

mod columns;
mod error;
mod fts5;
mod index;
mod model;
mod note_path;
mod parse;
mod query;
mod resolve;
mod rewrite;
mod shared;
mod snippet;
mod sqlite;
mod text;

pub use error::{IndexError, Source};
pub use index::{Index, MAX_DEPTH, MAX_HITS, MAX_NOTES, MAX_OFFSET, Rewriter};
pub use model::{
    Backlink, Change, Context, Edge, Entity, EntityDetail, Graph, Hit, IndexStats, Link, LinkKind, LinkSource,
    MAX_NOTE_BYTES, MovedPath, Node, Observation, Related, Table, Unresolved, Warning, WarningKind,
};
pub use note_path::is_note;
pub use shared::{
    CALL_DEADLINE_SECONDS, MAX_AROUND_NOTES, MAX_BATCH_CHANGES, MAX_SHARED_ROWS, ObjectVersion, Rejected,
    SharedAddress, SharedChange, SharedError, SharedIndex, SharedRow,
};
pub use snippet::{MARK_END, MARK_START, marked_snippet, plain_snippet};

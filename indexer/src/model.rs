//! What goes in and what comes out: changes, and the rows of answers.
//!
//! Owns plain data only. Paths are bytes relative to the mount root, '/'-separated, without a leading slash; where
//! a struct carries a path twice, `path` is its lossy form for display and `path_bytes` the real one.

mod knowledge;

pub use knowledge::{
    Context, Edge, Entity, EntityDetail, Graph, Node, Observation, Related, Source as LinkSource, Table, Unresolved,
};

use serde::Serialize;

/// The type of a link that its note gives none.
pub(crate) const PLAIN_RELATION: &str = "links_to";

/// Bytes of a note that are indexed (4 MiB). Of a longer note the beginning is indexed, with a warning; nobody needs
/// to read more than this of a file.
pub const MAX_NOTE_BYTES: u64 = 4 << 20;

/// One change to the tree of notes.
#[derive(Clone, Debug)]
pub enum Change {
    /// The note at this path now has this content.
    Upsert {
        /// Where the note is.
        path: Vec<u8>,
        /// Its content, or the first [`MAX_NOTE_BYTES`] of it.
        bytes: Vec<u8>,
        /// The size of the file in bytes; larger than `bytes` when those are a prefix.
        total_bytes: u64,
        /// Modification time, nanoseconds since 1970.
        mtime_ns: i64,
    },
    /// There is no note at this path any more. Unknown paths are fine.
    Gone {
        /// Where the note was.
        path: Vec<u8>,
    },
    /// The file or directory at `from` is now called `to`; the notes there and below move along without being parsed
    /// again. A note already at a destination is newer and is kept, the one that moved goes; so does one whose new path is no
    /// note's path.
    Moved {
        /// The old path.
        from: Vec<u8>,
        /// The new path.
        to: Vec<u8>,
    },
}

/// A note or folder that got another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedPath {
    /// The old path.
    pub from: Vec<u8>,
    /// The new path.
    pub to: Vec<u8>,
}

/// One search result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// The note, for display.
    pub path: String,
    /// The note.
    pub path_bytes: Vec<u8>,
    /// Its title.
    pub title: String,
    /// A line of text around the best matches, these between [`crate::MARK_START`] and [`crate::MARK_END`].
    pub snippet: String,
    /// Higher is better; comparable within one result only.
    pub score: f64,
    /// The line of the file (from 1) where the snippet's first match is; `None` if the body has no match.
    pub line: Option<u32>,
}

/// How a link was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// `[[Target]]` or, as an embed, `![[Target]]`.
    Wiki,
    /// `[text](target.md)` or, as an embed, `![text](target.png)`.
    Markdown,
}

/// One link out of a note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The target as written, without heading and alias, percent-decoded.
    pub target: String,
    /// The heading or block after `#`.
    pub fragment: Option<String>,
    /// The text shown instead of the target.
    pub alias: Option<String>,
    /// How it was written.
    pub kind: LinkKind,
    /// Whether it shows its target in place (`!`).
    pub embed: bool,
    /// Its type: what the list item around it says, else "links_to".
    pub relation: String,
    /// The remark in parentheses behind it.
    pub context: Option<String>,
    /// The line of the file, from 1.
    pub line: u32,
    /// Whether it calls a file that is no note, such as a picture.
    pub is_file: bool,
    /// The note it leads to, for display; `None` while there is none.
    pub resolved: Option<String>,
    /// The note it leads to.
    pub resolved_bytes: Option<Vec<u8>>,
}

/// One link into a note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backlink {
    /// The note that has the link, for display.
    pub path: String,
    /// The note that has the link.
    pub path_bytes: Vec<u8>,
    /// That note's title.
    pub title: String,
    /// The line in that note, from 1.
    pub line: u32,
    /// The text of that line, shortened around the link if it is long.
    pub text: String,
    /// The heading or block it points at.
    pub fragment: Option<String>,
    /// Its type: what the list item around it says, else "links_to".
    pub relation: String,
    /// How it was written.
    pub kind: LinkKind,
    /// Whether it shows the note in place.
    pub embed: bool,
}

/// What was strange about a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// Bytes that are no UTF-8 were replaced.
    NotUtf8,
    /// Only the beginning was indexed.
    TooLarge,
    /// The frontmatter is no YAML mapping, or larger than allowed; it was indexed as text.
    Frontmatter,
    /// More links, tags, headings or properties than are kept.
    TooMany,
    /// A parser gave up; the note was indexed as plain text.
    Parser,
    /// A property of the frontmatter has the wrong type; it is kept as a property and not used.
    Property,
    /// Another note has the same permalink.
    Permalink,
    /// The shared index does not take the note.
    NotShared,
}

/// One strange thing about one note. The note is indexed all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The note, for display.
    pub path: String,
    /// The note.
    pub path_bytes: Vec<u8>,
    /// What kind of thing.
    pub kind: WarningKind,
    /// A sentence for people.
    pub message: String,
}

/// Counts over the whole index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IndexStats {
    /// Notes indexed.
    pub notes: u64,
    /// Links out of notes, attachments included.
    pub links: u64,
    /// Links that name a note which does not exist; attachments are not counted.
    pub unresolved_links: u64,
    /// Different tags.
    pub tags: u64,
    /// Warnings.
    pub warnings: u64,
    /// Size of the database and its write-ahead log, in bytes.
    pub disk_bytes: u64,
    /// The sequence number this index stands for.
    pub indexed_seq: u64,
}

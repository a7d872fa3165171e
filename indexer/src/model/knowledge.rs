//! The rows of answers about the knowledge graph: notes as entities, what they say, and how they hang together.
//!
//! Owns plain data only. Times are text in UTC, as `2026-01-31T12:00:00Z`.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Backlink, Link};

/// A note as an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entity {
    /// The note, for display.
    pub path: String,
    /// The note.
    pub path_bytes: Vec<u8>,
    /// Its title.
    pub title: String,
    /// Its type; "note" unless its frontmatter says otherwise.
    #[serde(rename = "type")]
    pub note_type: String,
    /// The permalink its frontmatter names, or the one its path makes; may be empty.
    pub permalink: String,
    /// When it was made, if its frontmatter says so.
    pub created: Option<String>,
    /// When it was last changed: what its frontmatter says, else the file's time.
    pub modified: String,
}

/// A fact in a note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// What kind of fact; "note" if it only has a tag.
    pub category: String,
    /// The fact, tags included.
    pub content: String,
    /// The remark in parentheses at its end.
    pub context: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The line of the file, from 1.
    pub line: u32,
}

/// A note and all that it says of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EntityDetail {
    /// The note.
    #[serde(flatten)]
    pub entity: Entity,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its frontmatter, typed.
    pub properties: Map<String, Value>,
    /// Its facts.
    pub observations: Vec<Observation>,
}

/// A note near another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// The note.
    #[serde(flatten)]
    pub entity: Entity,
    /// How many links away.
    pub distance: u32,
    /// The note one link nearer.
    pub via: String,
    /// The type of that link.
    pub relation: String,
    /// Whether that link leads from the nearer note to this one.
    pub outbound: bool,
}

/// A note with what is around it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Context {
    /// The note.
    pub note: EntityDetail,
    /// Its links.
    pub links: Vec<Link>,
    /// The links to it.
    pub backlinks: Vec<Backlink>,
    /// Notes up to the wanted distance, nearest first.
    pub related: Vec<Related>,
    /// There are more than were wanted.
    pub has_more: bool,
}

/// A name that links call and no note has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unresolved {
    /// As written.
    pub target: String,
    /// How many links call it.
    pub count: u64,
    /// The first of these.
    pub sources: Vec<Source>,
}

/// Where a link is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The note, for display.
    pub path: String,
    /// The line, from 1.
    pub line: u32,
}

/// Notes and how they link to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// The notes, by path.
    pub nodes: Vec<Node>,
    /// Who links to whom, each pair once a direction.
    pub edges: Vec<Edge>,
    /// Notes that were left out to keep it small.
    pub left_out: u64,
}

/// One note of a [`Graph`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The note.
    #[serde(flatten)]
    pub entity: Entity,
    /// How many notes of the whole index it links to or is linked from; of a part of the graph, in that part.
    pub degree: u64,
}

/// One edge of a [`Graph`], by the places of its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// The node with the link.
    pub from: usize,
    /// The node it leads to.
    pub to: usize,
    /// Its type; the first typed one if there are several.
    pub relation: String,
}

/// What a query in SQL found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The names of its columns.
    pub columns: Vec<String>,
    /// Its rows; bytes are shown as text.
    pub rows: Vec<Vec<Value>>,
    /// There are more rows than were wanted.
    pub has_more: bool,
}

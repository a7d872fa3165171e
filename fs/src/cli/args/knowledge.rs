//! The grammar of what asks about the knowledge in the notes: the graph, what is new, and SQL.
//!
//! Does not own search, links and tags (`args/find.rs`).

use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// `notefs orphans`, `notefs unresolved`, `notefs recent`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The mounted folder; without it, the mount around the current folder. `recent` takes a folder in it, too
    pub(crate) dir: Option<PathBuf>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `notefs context`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows what a note is, the facts in it (`- [category] fact #tag (context)`), its links with their
types (`- type [[Target]]`), and the notes around it along links in both directions, nearest first.
Exits with 1 if there is no such note.

Examples:
  notefs context ~/notes/ideas/fuse.md
  notefs context ~/notes/ideas/fuse.md --depth 2 --limit 20
  notefs context ~/notes/ideas/fuse.md --json | jq -r '.related[].path'")]
pub(crate) struct ContextArgs {
    /// The note
    pub(crate) path: PathBuf,
    /// How many links away
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10))]
    pub(crate) depth: u32,
    /// At most this many notes around it
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// A picture.
    Svg,
    /// Graphviz's language.
    Dot,
    /// Nodes and edges for programs.
    Json,
    /// A page with the picture, to zoom and search in.
    Html,
}

/// `notefs graph`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --around, the notes with the most links are shown if there are more than --limit. The page
that `html` makes needs nothing else and calls nobody. Exits with 1 if there is no such note.

Examples:
  notefs graph ~/notes > notes.svg
  notefs graph --around ~/notes/ideas/fuse.md --depth 2 --format html --output fuse.html
  notefs graph ~/notes --format dot | dot -Tpng > notes.png
  notefs graph ~/notes --format json | jq '.nodes | length'")]
pub(crate) struct GraphArgs {
    /// The mounted folder; without it, the mount around the current folder
    #[arg(conflicts_with = "around")]
    pub(crate) dir: Option<PathBuf>,
    /// Only this note and what is around it
    #[arg(long, value_name = "PATH")]
    pub(crate) around: Option<PathBuf>,
    /// How many links away from it
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=10), requires = "around")]
    pub(crate) depth: u32,
    /// At most this many notes
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "svg")]
    pub(crate) format: GraphFormat,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `notefs query`.
#[derive(Debug, Args)]
#[command(
    override_usage = "notefs query [OPTIONS] [DIR] SQL",
    after_help = "\
The query runs on the index of this machine, which is SQLite; it can only read, and for 10 s at
most. Views to ask: notes, links, observations, tags, properties, headings; the full text is
full_text.

Examples:
  notefs query 'SELECT path, title FROM notes ORDER BY modified DESC LIMIT 5'
  notefs query ~/notes 'SELECT category, count(*) FROM observations GROUP BY category'
  notefs query ~/notes 'SELECT tag, count(*) AS n FROM tags GROUP BY tag ORDER BY n' --json"
)]
pub(crate) struct QueryArgs {
    /// A mounted folder, if it is not the mount around the current folder, and the query
    #[arg(value_name = "[DIR] SQL", num_args = 1..=2, required = true)]
    pub(crate) words: Vec<OsString>,
    /// At most this many rows
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// Write JSON: columns, rows, and whether there are more
    #[arg(long)]
    pub(crate) json: bool,
}

//! The grammar of what asks the index and the stream of events.
//!
//! Does not own the other commands (`args.rs`).

use super::super::units::parse_duration;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// `notefs search`.
#[derive(Debug, Args)]
#[command(
    override_usage = "notefs search [OPTIONS] [DIR] QUERY",
    after_help = "\
All words must occur, the last one also as the beginning of a word. \"two words\" is an exact phrase,
word* matches beginnings, -word must not occur. These narrow it down, each also with a minus or \"quotes\":
  tag:x         the tag x, or one below it         before:DATE   last changed before (2026, 2026-01, 2026-01-31)
  path:x        x somewhere in the path            after:DATE    last changed then or later, in UTC
  title:x       x in the title                     category:x    with an observation of this category
  type:x        of this type                       prop:KEY      with this key in its frontmatter; also
                                                   prop:KEY=VALUE, and with < <= > >=
Exits with 1 if nothing is found.

Examples:
  notefs search fuse
  notefs search ~/notes '\"object storage\" tigr*'
  notefs search ~/notes/projects kernel --limit 5
  notefs search 'type:meeting after:2026-01 category:decision -tag:private'
  notefs search 'prop:priority>3' --limit 20 --offset 20
  notefs search fuse --json | jq -r '.hits[].path'"
)]
pub(crate) struct SearchArgs {
    /// A folder in the mount, if it is not the mount around the current folder, and what to look for
    #[arg(value_name = "[DIR] QUERY", num_args = 1..=2, required = true)]
    pub(crate) words: Vec<OsString>,
    /// At most this many notes
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
    /// Leave out the first so many, to see the next page
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) offset: u32,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `notefs backlinks`, `notefs links`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  notefs backlinks ~/notes/ideas/fuse.md
  notefs links ~/notes/ideas/fuse.md --json")]
pub(crate) struct PathArgs {
    /// The note; for backlinks it need not exist
    pub(crate) path: PathBuf,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `notefs tags`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  notefs tags
  notefs tags ~/notes --json")]
pub(crate) struct TagsArgs {
    /// The mounted folder; without it, the mount around the current folder
    pub(crate) dir: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `notefs events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each change is one line of JSON: at_ms, origin (local, the id of the notefs that wrote it, or foreign),
event (created, modified, removed, moved), path, from for moves, folder, and for changes from elsewhere
felt: whether they raised file events of their own. A reader that is too slow is told {\"event\":\"lost\",\"count\":N}.

Examples:
  notefs events                                   The mount around the current folder
  notefs events ~/notes/projects | jq -r .path")]
pub(crate) struct EventsArgs {
    /// A mounted folder, or a folder in one; without it, the mount around the current folder
    pub(crate) dir: Option<PathBuf>,
}

/// `notefs index …`.
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Forget the index and build it anew from the notes
    #[command(after_help = "\
The notes are not touched. Search answers from what is indexed so far and says so.

Examples:
  notefs index rebuild ~/notes")]
    Rebuild {
        /// The mounted folder
        dir: PathBuf,
        /// How long to wait for the end; the work goes on after it
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
        timeout: Duration,
    },
}

//! The grammar of what takes a folder's state elsewhere and brings it back.
//!
//! Does not own the other commands (`args.rs`).

use super::super::units::parse_duration;
use clap::{ArgGroup, Args};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// `notefs export`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("spelling").required(true),
    after_help = "\
Contents, modes, owners, times, links and extended attributes, in the order of the names: the same
folder makes the same bytes, so an archive does well under version control. FILE may be - for the
standard output.

Examples:
  notefs export ~/notes --jsonl notes.jsonl
  notefs export --json - | jq -r '.entries[].path'
  notefs export --graph --jsonl - | jq -r 'select(.note) | [.path, .note.links[].target] | @tsv'"
)]
pub(crate) struct ExportArgs {
    /// The mounted folder; without it, the mount around the current folder
    pub(crate) dir: Option<PathBuf>,
    /// One JSON object
    #[arg(long, value_name = "FILE", group = "spelling")]
    pub(crate) json: Option<PathBuf>,
    /// One JSON object for each line
    #[arg(long, value_name = "FILE", group = "spelling")]
    pub(crate) jsonl: Option<PathBuf>,
    /// With each note, also what the index knows of it; an import makes nothing of that
    #[arg(long)]
    pub(crate) graph: bool,
}

/// `notefs import`.
#[derive(Debug, Args)]
#[command(
    override_usage = "notefs import [DIR] FILE",
    after_help = "\
What the archive names is made as it was; what it does not name stays. FILE may be - for the
standard input.

Examples:
  notefs import ~/notes notes.jsonl
  ssh other notefs export notes --jsonl - | notefs import ~/notes -"
)]
pub(crate) struct ImportArgs {
    /// The mounted folder, if it is not the mount around the current folder, and the archive
    #[arg(value_name = "[DIR] FILE", num_args = 1..=2, required = true)]
    pub(crate) words: Vec<OsString>,
}

/// `notefs snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each snapshot is a commit on top of what the branch holds, and is pushed; others' commits are never
overwritten. Only what has changed is read. Empty folders, special files, owners and times are not
kept (see `notefs export`), nor is a folder named .git. git is run as you would: its credentials are
used, and nobody is asked.

Examples:
  notefs snapshot ~/notes --git git@example.org:me/notes.git
  notefs snapshot --git /srv/backup/notes.git --every 10m
  notefs snapshot ~/notes --git /srv/backup/notes.git --restore
  notefs snapshot ~/notes --git /srv/backup/notes.git --restore --at HEAD~3 --delete")]
pub(crate) struct SnapshotArgs {
    /// The mounted folder; without it, the mount around the current folder
    pub(crate) dir: Option<PathBuf>,
    /// The repository to push to, as git names it
    #[arg(long, value_name = "REMOTE", env = "NOTEFS_SNAPSHOT_GIT", hide_env_values = true)]
    pub(crate) git: String,
    /// Its branch
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) branch: String,
    /// The commit's message
    #[arg(long, short, value_name = "TEXT", conflicts_with = "restore")]
    pub(crate) message: Option<String>,
    /// Go on, with this time between two snapshots, until the mount ends
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "restore")]
    pub(crate) every: Option<Duration>,
    /// Bring the files of a snapshot back instead
    #[arg(long)]
    pub(crate) restore: bool,
    /// Which commit to bring back; without it, the newest of the branch
    #[arg(long, value_name = "COMMIT", requires = "restore")]
    pub(crate) at: Option<String>,
    /// Remove the files that the snapshot does not have
    #[arg(long, requires = "restore")]
    pub(crate) delete: bool,
    /// How long git may take
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    pub(crate) timeout: Duration,
}

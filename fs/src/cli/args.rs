//! The command line's grammar and help.
//!
//! Owns names, defaults and examples. The build script compiles this file too, for completions and man pages, so it uses
//! nothing of the crate but `units`. Does not own what the commands do.

// The paths are written out, since the build script finds this file by its path.
#[path = "args/find.rs"]
mod find;
#[path = "args/knowledge.rs"]
mod knowledge;
#[path = "args/mcp.rs"]
mod mcp;
#[path = "args/mount.rs"]
mod mount;
#[path = "args/pin.rs"]
mod pin;
#[path = "args/ways_out.rs"]
mod ways_out;

pub(crate) use find::{EventsArgs, IndexCommand, PathArgs, SearchArgs, TagsArgs};
pub(crate) use knowledge::{ContextArgs, GraphArgs, GraphFormat, ListArgs, QueryArgs};
pub(crate) use mcp::McpArgs;
pub(crate) use mount::{
    DotNotefs, Durability, Litter, LogFormat, LogLevel, MountArgs, Pin, Protocol, RunArgs, ServeCommand, ServeNfsArgs,
};
pub(crate) use pin::PinArgs;
pub(crate) use ways_out::{ExportArgs, ImportArgs, SnapshotArgs};

use super::units::parse_duration;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Mounts a bucket of notes as a folder that behaves like a local disk.
#[derive(Debug, Parser)]
#[command(
    name = "notefs",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  notefs mount ~/notes                            Notes on this machine, no server needed
  notefs mount s3://my-bucket/notes ~/notes       A bucket; credentials come from AWS_* or ~/.aws
  notefs search \"object storage\"                  Find a note, from inside the folder
  notefs status                                   What is written, synced, stored and indexed
  notefs unmount ~/notes                          Store the rest, then leave"
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount a store as a folder
    Mount(Box<MountArgs>),
    /// Serve a store without mounting it
    #[command(subcommand)]
    Serve(ServeCommand),
    /// Mount a store, run a command with it, store what it wrote and leave with its exit code
    Run(Box<RunArgs>),
    /// Store what is left, unmount a folder and end its daemon
    Unmount(UnmountArgs),
    /// Show how far changes have come: written, synced, stored, indexed
    Status(StatusArgs),
    /// Wait until everything written is stored in the bucket
    Sync(SyncArgs),
    /// Keep files and folders on this machine, so that they can be read while the store is away
    Pin(PinArgs),
    /// List what two sides changed at once and what was kept twice, and put an end to it
    Conflicts(ConflictsArgs),
    /// Find notes by their words
    Search(SearchArgs),
    /// Show the notes that link to a note
    Backlinks(PathArgs),
    /// Show where a note's links lead
    Links(PathArgs),
    /// Show a note, the facts in it and the notes around it
    Context(ContextArgs),
    /// List the notes that no other note links to
    #[command(after_help = "\
Examples:
  notefs orphans
  notefs orphans ~/notes --json | jq -r '.[].path'")]
    Orphans(ListArgs),
    /// List the names that links call and no note has
    #[command(after_help = "\
The names that most links call come first; each with the first places that call it. A title that
several notes have is among them: nobody can tell which is meant.

Examples:
  notefs unresolved
  notefs unresolved ~/notes --json | jq -r '.[].target'")]
    Unresolved(ListArgs),
    /// List the notes that were changed last
    #[command(after_help = "\
A `modified` date in a note's frontmatter counts instead of the file's time.

Examples:
  notefs recent --limit 10
  notefs recent ~/notes/projects --json | jq -r '.[].path'")]
    Recent(ListArgs),
    /// Draw the notes and their links
    Graph(GraphArgs),
    /// Ask the index in SQL, reading only
    Query(QueryArgs),
    /// Print changes as they happen, here and elsewhere
    Events(EventsArgs),
    /// Let agents work with the notes, over the Model Context Protocol
    Mcp(McpArgs),
    /// List the tags and how many notes bear each
    Tags(TagsArgs),
    /// Look after the search index
    #[command(subcommand)]
    Index(IndexCommand),
    /// Performs changes on a mount for its daemon; started by notefs itself.
    #[command(hide = true)]
    Perform {
        /// The mounted folder.
        dir: PathBuf,
        /// Its device, as `major:minor`.
        device: String,
    },
    /// List and bring back deleted and overwritten notes
    #[command(subcommand)]
    Trash(TrashCommand),
    /// Try what a store and this machine can promise
    Doctor(DoctorArgs),
    /// Compare a mount with its bucket, and mend what differs
    Check(CheckArgs),
    /// Write a whole folder to a file, as JSON
    Export(ExportArgs),
    /// Make what such a file holds
    Import(ImportArgs),
    /// Commit a folder's state to a git repository, or bring one back
    Snapshot(SnapshotArgs),
    /// Print a shell's completion script
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// `notefs unmount`.
#[derive(Debug, Args)]
#[command(after_help = "\
What cannot be stored in time stays safe in the cache folder and goes on with the next mount; the
command then says how much that is and exits with 1.

Examples:
  notefs unmount ~/notes
  notefs unmount --timeout 5m ~/notes")]
pub(crate) struct UnmountArgs {
    /// The mounted folder
    pub(crate) dir: PathBuf,
    /// How long to wait for the store
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    pub(crate) timeout: Duration,
}

/// What `--wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// The object store has acknowledged it.
    Stored,
    /// Search finds it.
    Indexed,
    /// All that is pinned is on this machine.
    Pinned,
    /// The shared index knows what is stored.
    Shared,
}

/// `notefs status`.
#[derive(Debug, Args)]
#[command(after_help = "\
The steps of a change: written (survives the daemon's death), synced (survives a power cut), stored
(the bucket has it), indexed (search finds it).

Examples:
  notefs status                                   All mounts
  notefs status ~/notes/ideas.md                  One note
  notefs status ~/notes --wait stored --timeout 5m
  notefs status ~/notes --warnings                Notes that are broken in some way
  notefs status ~/notes --json | jq .owed.count")]
pub(crate) struct StatusArgs {
    /// A mounted folder, or a file or folder in one; without it, all mounts
    pub(crate) path: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Wait until everything has come this far
    #[arg(long, value_name = "STEP")]
    pub(crate) wait: Option<WaitFor>,
    /// How long to wait
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    pub(crate) timeout: Duration,
    /// List what was strange about the notes of one mount; they are indexed all the same
    #[arg(long, conflicts_with = "wait")]
    pub(crate) warnings: bool,
}

/// `notefs sync`.
#[derive(Debug, Args)]
#[command(after_help = "\
What no program asked for is held back and never done by itself: a note that would become empty, or
many that would be removed because the cache lost something. `notefs status` lists it. `notefs
check` takes it back; --release-held has it done.

Examples:
  notefs sync                                     The mount around the current folder
  notefs sync ~/notes --timeout 1h
  notefs sync ~/notes --release-held              Do what was held back, too")]
pub(crate) struct SyncArgs {
    /// The mounted folder; without it, the mount around the current folder
    pub(crate) dir: Option<PathBuf>,
    /// How long to wait
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    pub(crate) timeout: Duration,
    /// Have done what is held back because no program asked for it
    #[arg(long)]
    pub(crate) release_held: bool,
}

/// `notefs trash …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TrashCommand {
    /// List what can be brought back, newest first
    #[command(after_help = "\
Exits with 1 if there is nothing.

Examples:
  notefs trash ls                                 The mount around the current folder
  notefs trash ls ~/notes/projects
  notefs trash ls ~/notes --json | jq -r '.versions[].path'")]
    Ls {
        /// A folder in a mount; without it, all of the mount around the current folder
        dir: Option<PathBuf>,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring a note back, as it was when it was deleted or overwritten
    #[command(
        override_usage = "notefs trash restore [OPTIONS] [DIR] PATH",
        after_help = "\
The note becomes an ordinary file again; its copy in the trash stays until its time is over.

Examples:
  notefs trash restore ~/notes/ideas/fuse.md
  notefs trash restore ~/notes ideas/fuse.md
  notefs trash restore ~/notes/a.md --version 20261125T222659.007-1a2b3c4d --overwrite"
    )]
    Restore {
        /// The mounted folder, if PATH is below it, and the note's path
        #[arg(value_name = "[DIR] PATH", num_args = 1..=2, required = true)]
        words: Vec<OsString>,
        /// Which version, as `trash ls` names it; without it, the newest
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        /// Replace what is at PATH now; its version goes to the trash
        #[arg(long)]
        overwrite: bool,
    },
}

/// `notefs doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writers race for small objects below .notefs/probe/, which are removed again; nothing else is
touched. Some servers answer \"done\" to a condition and ignore it: only a race shows that. Exits with
0 if all promises hold, and with 1 if one does not or the store cannot be asked.

Examples:
  notefs doctor s3://my-bucket/notes
  notefs doctor 's3://my-bucket?endpoint=https://minio.example:9000' --json
  notefs doctor fs:///srv/notes")]
pub(crate) struct DoctorArgs {
    /// The store's URL, as for `notefs mount`
    pub(crate) store: String,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `notefs check`.
#[derive(Debug, Args)]
#[command(after_help = "\
What the bucket lacks and this machine holds is uploaded again, what the folder does not show is
adopted, a damaged local copy is fetched anew, and what was held back is taken back. Nothing is
deleted from the bucket. Exits with 1 if something is left that could not be mended, or, in a dry
run, if there is anything to mend.

Examples:
  notefs check ~/notes
  notefs check ~/notes --dry-run
  notefs check ~/notes --json | jq .step_count")]
pub(crate) struct CheckArgs {
    /// The mounted folder
    pub(crate) dir: PathBuf,
    /// Only tell what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a conflict ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resolution {
    /// The copy, which is what this machine wrote, becomes the note.
    Ours,
    /// The note stays as it is, and the copy goes.
    Theirs,
    /// Both in an editor, to make one text of them.
    Merge,
}

/// `notefs conflicts`.
#[derive(Debug, Args)]
#[command(after_help = "\
When two saves race and their texts do not merge, the one that was stored first keeps the name, and
the other one is kept beside it as `NAME (conflict from HOST DATE)`. Deleting the copy, or renaming
it over the note, ends the conflict, too.

Examples:
  notefs conflicts                                The mount around the current folder
  notefs conflicts ~/notes --json
  notefs conflicts --diff ~/notes/idea.md
  notefs conflicts --resolve merge ~/notes/idea.md
  notefs conflicts --resolve ours ~/notes/idea.md")]
pub(crate) struct ConflictsArgs {
    /// A mounted folder or one in it; with --diff or --resolve, the note or its copy
    pub(crate) path: Option<PathBuf>,
    /// Write JSON
    #[arg(long, conflicts_with_all = ["diff", "resolve"])]
    pub(crate) json: bool,
    /// Show how the copy differs from the note
    #[arg(long, requires = "path", conflicts_with = "resolve")]
    pub(crate) diff: bool,
    /// End the conflict
    #[arg(long, value_name = "HOW", requires = "path")]
    pub(crate) resolve: Option<Resolution>,
}

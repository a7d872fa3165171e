//! The command line's grammar and help.
//!
//! Owns names, defaults and examples. The build script compiles this file too, for completions and man pages, so it uses
//! nothing of the crate but `units`. Does not own what the commands do.

use super::units::{Keep, parse_duration, parse_keep, parse_size};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::net::SocketAddr;
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
    /// List what two sides changed at once and what was kept twice, and put an end to it
    Conflicts(ConflictsArgs),
    /// Find notes by their words
    Search(SearchArgs),
    /// Show the notes that link to a note
    Backlinks(PathArgs),
    /// Show where a note's links lead
    Links(PathArgs),
    /// Print changes as they happen, here and elsewhere
    Events(EventsArgs),
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

/// How programs reach a mounted folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// The kernel's file systems in user space
    #[default]
    Fuse,
    /// The system's NFS client, for systems without FUSE
    Nfs,
}

/// `notefs mount`.
#[derive(Debug, Default, Args)]
#[command(
    override_usage = "notefs mount [OPTIONS] [STORE] DIR",
    after_help = "\
STORE is s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME] or fs:///PATH. Without it, notes are kept
in $XDG_DATA_HOME/notefs/default. NOTEFS_STORE names it, too.

Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the AWS profile files, never
from the command line. An option given here wins over its NOTEFS_* variable, and that over the file
of --config.

Examples:
  notefs mount ~/notes
  notefs mount s3://my-bucket ~/notes
  notefs mount 's3://my-bucket/team?endpoint=https://minio.example:9000' ~/notes
  notefs mount --write-back 250ms --cache-size 2G s3://my-bucket ~/notes
  notefs mount --config /etc/notefs/team.toml --foreground"
)]
pub(crate) struct MountArgs {
    /// The store's URL, if it is not the default one, and the folder
    #[arg(value_name = "[STORE] DIR", num_args = 0..=2)]
    pub(crate) words: Vec<OsString>,

    /// Stay in this process and log to stderr
    #[arg(long)]
    pub(crate) foreground: bool,

    /// Where cached content and edits that are not stored yet live [default: a folder below $XDG_STATE_HOME/notefs]
    #[arg(long, value_name = "DIR", env = "NOTEFS_CACHE", hide_env = true)]
    pub(crate) cache: Option<PathBuf>,

    /// Bound on cached content that is stored; edits that are not stored are kept beyond it [default: 10G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, env = "NOTEFS_CACHE_SIZE", hide_env = true)]
    pub(crate) cache_size: Option<u64>,

    /// Bound on edits that are not stored: beyond it writers wait up to 30s, then get ENOSPC [default: 10G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, env = "NOTEFS_DIRTY_LIMIT", hide_env = true)]
    pub(crate) dirty_limit: Option<u64>,

    /// How long after the last write a file is uploaded, as in 250ms, 5s or 2m [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, env = "NOTEFS_WRITE_BACK", hide_env = true)]
    pub(crate) write_back: Option<Duration>,

    /// How often to look for what other tools wrote to the bucket, as in 5s or 10m [default: as often as it seems worth]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, env = "NOTEFS_POLL", hide_env = true)]
    pub(crate) poll: Option<Duration>,

    /// How long deleted notes, and the first version of one that is overwritten within an hour, are kept in the bucket
    /// below .notefs/trash, or off [default: 30d]
    #[arg(long, value_name = "TIME|off", value_parser = parse_keep, env = "NOTEFS_TRASH", hide_env = true)]
    pub(crate) trash: Option<Keep>,

    /// Refuse every change
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          value_parser = clap::builder::BoolishValueParser::new(), env = "NOTEFS_READ_ONLY", hide_env = true)]
    pub(crate) read_only: Option<bool>,

    /// Let other users of this machine in, as file permissions allow
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          value_parser = clap::builder::BoolishValueParser::new(), env = "NOTEFS_ALLOW_OTHER", hide_env = true)]
    pub(crate) allow_other: Option<bool>,

    /// How programs reach the folder
    #[arg(long, value_enum, default_value_t, value_name = "PROTOCOL")]
    pub(crate) protocol: Protocol,

    /// Where the NFS server of this mount listens [default: a port of 127.0.0.1 that follows from the folder's name]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) addr: Option<SocketAddr>,
    /// Whether changes of other machines raise file events, as local ones do: on or off [default: on]
    #[arg(long, value_name = "on|off", value_parser = clap::builder::BoolishValueParser::new(),
          env = "NOTEFS_EVENTS", hide_env = true)]
    pub(crate) events: Option<bool>,

    /// Mount over a folder that holds files, which hides them
    #[arg(long)]
    pub(crate) nonempty: bool,

    /// A TOML file with the same names: store, dir, cache, cache-size, dirty-limit, write-back, poll, trash, read-only, allow-other,
    /// events, log
    #[arg(long, value_name = "FILE", env = "NOTEFS_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,

    /// Where the daemon logs [default: notefs.log in the cache folder]
    #[arg(long, value_name = "FILE", env = "NOTEFS_LOG", hide_env = true)]
    pub(crate) log: Option<PathBuf>,

    /// Log more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Set by notefs itself when it starts the daemon.
    #[arg(long, hide = true)]
    pub(crate) daemon: bool,
}

/// `notefs serve …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServeCommand {
    /// Serve a store to NFS clients of this machine, until a signal or `notefs unmount nfs://ADDRESS:PORT`
    Nfs(Box<ServeNfsArgs>),
}

/// `notefs serve nfs`.
#[derive(Debug, Args)]
#[command(after_help = "\
NFS version 3 with its MOUNT protocol, both on one TCP port. Only programs of this machine are served,
and only the calls of the user who runs this.

Examples:
  notefs serve nfs s3://my-bucket/notes
  notefs serve nfs fs:///srv/notes --addr 127.0.0.1:2049 --cache /var/lib/notefs
  notefs status nfs://127.0.0.1:20490
  notefs unmount nfs://127.0.0.1:20490")]
pub(crate) struct ServeNfsArgs {
    /// The store's URL, as for `notefs mount`
    pub(crate) store: String,

    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:20490")]
    pub(crate) addr: SocketAddr,

    /// Where cached content and edits that are not stored yet live [default: a folder below $XDG_STATE_HOME/notefs]
    #[arg(long, value_name = "DIR", env = "NOTEFS_CACHE", hide_env = true)]
    pub(crate) cache: Option<PathBuf>,

    /// Bound on cached content that is stored; edits that are not stored are kept beyond it [default: 10G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, env = "NOTEFS_CACHE_SIZE", hide_env = true)]
    pub(crate) cache_size: Option<u64>,

    /// How long after the last write a file is uploaded, as in 250ms, 5s or 2m [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, env = "NOTEFS_WRITE_BACK", hide_env = true)]
    pub(crate) write_back: Option<Duration>,

    /// Refuse every change
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Serve the calls of all users, as file permissions allow
    #[arg(long)]
    pub(crate) allow_other: bool,

    /// Serve other machines, too; whoever reaches the port can then act as any user that is served
    #[arg(long)]
    pub(crate) insecure_listen: bool,

    /// Log to this file instead of stderr
    #[arg(long, value_name = "FILE", env = "NOTEFS_LOG", hide_env = true)]
    pub(crate) log: Option<PathBuf>,

    /// Log more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// `notefs run`.
#[derive(Debug, Args)]
#[command(
    override_usage = "notefs run [OPTIONS] [STORE] DIR -- COMMAND [ARGUMENTS]...",
    after_help = "\
For containers, jobs and machines that vanish: it may be process 1. Signals go to the command, whose
folder is in NOTEFS_DIR. When it has ended, the rest is stored and the folder unmounted.

Exits with the command's code; 74 if something could not be stored within --drain, and says what.

Examples:
  notefs run s3://tenant-7 /notes -- my-service --data /notes
  notefs run --wait indexed ~/notes -- sh -c 'notefs search \"$NOTEFS_DIR\" todo'
  notefs run --drain 5m s3://ci-artifacts /out -- make report"
)]
pub(crate) struct RunArgs {
    /// The mount.
    #[command(flatten)]
    pub(crate) mount: MountArgs,

    /// How long the store may take after the command has ended
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub(crate) drain: Duration,

    /// How long the command may take to end once it was asked to, before it is killed
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub(crate) grace: Duration,

    /// Wait for this before the command is started
    #[arg(long, value_name = "STEP")]
    pub(crate) wait: Option<WaitFor>,

    /// How long to wait for that
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    pub(crate) wait_timeout: Duration,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
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
When two saves race and their texts do not merge, the one that was stored first keeps the name, and the
other one is kept beside it as `NAME (conflict from HOST DATE)`. Deleting the copy, or renaming it over
the note, ends the conflict, too.

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

/// `notefs search`.
#[derive(Debug, Args)]
#[command(
    override_usage = "notefs search [OPTIONS] [DIR] QUERY",
    after_help = "\
All words must occur, the last one also as the beginning of a word. \"two words\" is an exact phrase,
word* matches beginnings, -word must not occur; tag:x, path:x and title:x narrow it down.
Exits with 1 if nothing is found.

Examples:
  notefs search fuse
  notefs search ~/notes '\"object storage\" tigr*'
  notefs search ~/notes/projects kernel --limit 5
  notefs search fuse --json | jq -r '.hits[].path'"
)]
pub(crate) struct SearchArgs {
    /// A folder in the mount, if it is not the mount around the current folder, and what to look for
    #[arg(value_name = "[DIR] QUERY", num_args = 1..=2, required = true)]
    pub(crate) words: Vec<OsString>,
    /// At most this many notes
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
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

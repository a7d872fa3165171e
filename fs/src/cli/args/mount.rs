//! The grammar of what mounts or serves a store: `mount`, `serve`, `run`.
//!
//! Does not own the other commands (`args.rs`).

use super::super::units::{Keep, parse_duration, parse_keep, parse_rate, parse_size};
use super::WaitFor;
use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How programs reach a mounted folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// The kernel's file systems in user space
    #[default]
    Fuse,
    /// The system's NFS client, for systems without FUSE
    Nfs,
}

/// When `fsync` and `close` return.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// `fsync` when it is safe from a power cut, `close` when it is safe from the daemon's death
    #[default]
    Local,
    /// Both when the store has acknowledged it; EIO after a minute
    Stored,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

/// Which log lines are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// What needs somebody
    Error,
    /// And what may need somebody
    Warn,
    /// And what happens rarely
    #[default]
    Info,
    /// And decisions
    Debug,
    /// And each request
    Trace,
}

/// What becomes of files that macOS strews about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Litter {
    /// They stay on this machine
    Local,
    /// They are stored like any other
    Store,
}

/// What is kept on this machine without being named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pin {
    /// Every file
    All,
    /// Text notes up to 1 MiB
    Notes,
    /// Nothing
    Off,
}

/// What becomes of the virtual folder `.notefs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DotNotefs {
    /// It is there for who names it
    #[default]
    Hidden,
    /// Listings show it, too
    Shown,
    /// There is none
    Off,
}

impl DotNotefs {
    /// Whether listings show it, if it is there.
    pub(crate) fn shown(self) -> Option<bool> {
        (self != DotNotefs::Off).then_some(self == DotNotefs::Shown)
    }
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
  notefs mount --config /etc/notefs/team.toml --foreground
  notefs mount --durability stored s3://my-bucket ~/notes
  notefs mount --index libsql://notes-me.turso.io s3://my-bucket ~/notes
  notefs mount --fleet /etc/notefs/fleet.toml"
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

    /// Where ._*, .DS_Store and the like go, which macOS strews about: local (they stay on this machine) or store [default: local]
    #[arg(
        long,
        value_enum,
        value_name = "local|store",
        hide_possible_values = true,
        env = "NOTEFS_LITTER",
        hide_env = true
    )]
    pub(crate) litter: Option<Litter>,

    /// A database that all machines of the vault search, beside each one's own index: libsql://HOST, http://HOST:PORT of
    /// sqld, or postgres://USER@HOST/DATABASE. Its token comes from NOTEFS_INDEX_TOKEN or a credentials file; NOTEFS_INDEX
    /// may hold the address with it. [default: none]
    #[arg(long, value_name = "URL|off")]
    pub(crate) index: Option<String>,

    /// What is kept on this machine, to be read while the store is away, beside what `notefs pin` names [default: notes]
    #[arg(long, value_enum, value_name = "WHAT", env = "NOTEFS_PIN", hide_env = true)]
    pub(crate) pin: Option<Pin>,

    /// The virtual folder .notefs, which holds searches, tags, backlinks, recent notes and conflicts as links [default: hidden]
    #[arg(long, value_enum, value_name = "HOW", env = "NOTEFS_DOT_NOTEFS", hide_env = true)]
    pub(crate) dot_notefs: Option<DotNotefs>,

    /// Refuse every change
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          value_parser = clap::builder::BoolishValueParser::new(), env = "NOTEFS_READ_ONLY", hide_env = true)]
    pub(crate) read_only: Option<bool>,

    /// Let other users of this machine in, as file permissions allow
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          value_parser = clap::builder::BoolishValueParser::new(), env = "NOTEFS_ALLOW_OTHER", hide_env = true)]
    pub(crate) allow_other: Option<bool>,

    /// How programs reach the folder [default: fuse]
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    pub(crate) protocol: Option<Protocol>,

    /// Where the NFS server of this mount listens [default: a port of 127.0.0.1 that follows from the folder's name]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) addr: Option<SocketAddr>,
    /// Whether changes of other machines raise file events, as local ones do: on or off [default: on]
    #[arg(long, value_name = "on|off", value_parser = clap::builder::BoolishValueParser::new(),
          env = "NOTEFS_EVENTS", hide_env = true)]
    pub(crate) events: Option<bool>,

    /// When programs of this machine move a note or a folder, rewrite the links that led there
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          value_parser = clap::builder::BoolishValueParser::new(), env = "NOTEFS_REWRITE_LINKS", hide_env = true)]
    pub(crate) rewrite_links: Option<bool>,

    /// When fsync and close return: stored is for machines that vanish [default: local]
    #[arg(long, value_enum, value_name = "STEP", env = "NOTEFS_DURABILITY", hide_env = true)]
    pub(crate) durability: Option<Durability>,

    /// Bound on the daemon's memory, which sizes what it keeps and how much it does at once [default: half of the
    /// container's limit, if it has one]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, env = "NOTEFS_MEMORY", hide_env = true)]
    pub(crate) memory: Option<u64>,

    /// Bound on requests to the store, on average; what programs wait for goes first [default: none]
    #[arg(long, value_name = "COUNT", value_parser = parse_rate, env = "NOTEFS_REQUESTS_PER_SECOND", hide_env = true)]
    pub(crate) requests_per_second: Option<u32>,

    /// A file of profiles with the store's keys, as ~/.aws/credentials; read again when it changes
    #[arg(long, value_name = "FILE", env = "NOTEFS_CREDENTIALS_FILE", hide_env = true)]
    pub(crate) credentials_file: Option<PathBuf>,

    /// Serve metrics, health and readiness over HTTP: 127.0.0.1:PORT or unix:PATH [default: not]
    #[arg(long, value_name = "ADDRESS", env = "NOTEFS_METRICS", hide_env = true)]
    pub(crate) metrics: Option<String>,

    /// Let --metrics be reached from other machines
    #[arg(long)]
    pub(crate) insecure_metrics: bool,

    /// Mount over a folder that holds files, which hides them
    #[arg(long)]
    pub(crate) nonempty: bool,

    /// A TOML file with these options under the same names, and store and dir
    #[arg(long, value_name = "FILE", env = "NOTEFS_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,

    /// Where the daemon logs [default: notefs.log in the cache folder]
    #[arg(long, value_name = "FILE", env = "NOTEFS_LOG", hide_env = true)]
    pub(crate) log: Option<PathBuf>,

    /// How log lines look [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", env = "NOTEFS_LOG_FORMAT", hide_env = true)]
    pub(crate) log_format: Option<LogFormat>,

    /// Which log lines are kept [default: info]
    #[arg(long, value_enum, value_name = "LEVEL", env = "NOTEFS_LOG_LEVEL", hide_env = true)]
    pub(crate) log_level: Option<LogLevel>,

    /// Log more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Run all mounts of this TOML file, each in a process of its own, until a signal; SIGHUP reads it again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["words", "foreground", "config"])]
    pub(crate) fleet: Option<PathBuf>,

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
NFS version 3 with its MOUNT protocol, both on one TCP port. Only programs of this machine are
served, and only the calls of the user who runs this.

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

    /// Where ._*, .DS_Store and the like go, which macOS strews about: local (they stay on this machine) or store [default: local]
    #[arg(
        long,
        value_enum,
        value_name = "local|store",
        hide_possible_values = true,
        env = "NOTEFS_LITTER",
        hide_env = true
    )]
    pub(crate) litter: Option<Litter>,

    /// What is kept on this machine, to be read while the store is away, beside what `notefs pin` names [default: notes]
    #[arg(long, value_enum, value_name = "WHAT", env = "NOTEFS_PIN", hide_env = true)]
    pub(crate) pin: Option<Pin>,

    /// When a note or a folder is moved, rewrite the links that led there
    #[arg(long)]
    pub(crate) rewrite_links: bool,

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

    /// Commit the folder's state to this git repository when the command has ended
    #[arg(long, value_name = "REMOTE", env = "NOTEFS_SNAPSHOT_GIT", hide_env_values = true)]
    pub(crate) snapshot_git: Option<String>,

    /// The branch for that
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) snapshot_branch: String,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

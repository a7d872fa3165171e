//! The command line: from words to work, and from results to words.
//!
//! Owns which command does what, exit codes and everything that people read. Does not own mounting (`mount`), the daemon
//! (`daemon`) or the protocol (`control`).

pub(crate) mod args;
mod check;
mod conflicts;
mod doctor;
mod events;
mod find;
mod fleet;
mod graph;
mod knowledge;
mod mcp;
mod mount;
pub(crate) mod output;
mod pin;
mod progress;
mod run;
mod serve;
mod status;
mod trash;
pub(crate) mod units;
mod unmount;
mod wait;
mod ways_out;

use crate::control::registry::{Record, Registry};
use crate::failure::{EXIT_FAILED, EXIT_USAGE, Failure};
use args::{Cli, Command, IndexCommand, ServeCommand, TrashCommand};
use clap::{CommandFactory, Parser};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The manual page, made by the build.
const MANUAL: &str = include_str!(concat!(env!("OUT_DIR"), "/man/notefs.1"));

/// What a command answers: its exit code.
type Outcome = Result<u8, Failure>;

/// Runs the program with this process's arguments.
pub fn run() -> ExitCode {
    let code = match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command).unwrap_or_else(|failure| output::failure(&failure)),
        Err(error) => {
            // If nobody reads the message, the exit code still tells.
            error.print().ok();
            if error.use_stderr() { EXIT_USAGE } else { 0 }
        }
    };
    ExitCode::from(code)
}

fn dispatch(command: Command) -> Outcome {
    match command {
        Command::Mount(args) if args.daemon => Ok(crate::daemon::run()),
        Command::Mount(args) => mount::run(&args),
        Command::Serve(ServeCommand::Nfs(args)) => serve::nfs(&args),
        Command::Run(args) => run::run(&args),
        Command::Unmount(args) => unmount::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Sync(args) => wait::sync(&args),
        Command::Pin(args) => pin::run(&args),
        Command::Conflicts(args) => conflicts::run(&args),
        Command::Search(args) => find::search(&args),
        Command::Backlinks(args) => find::backlinks(&args),
        Command::Links(args) => find::links(&args),
        Command::Tags(args) => find::tags(&args),
        Command::Orphans(args) => knowledge::orphans(&args),
        Command::Unresolved(args) => knowledge::unresolved(&args),
        Command::Recent(args) => knowledge::recent(&args),
        Command::Context(args) => knowledge::context(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Query(args) => knowledge::query(&args),
        Command::Events(args) => events::run(&args),
        Command::Mcp(args) => mcp::run(&args),
        Command::Trash(TrashCommand::Ls { dir, json }) => trash::list(dir.as_deref(), json),
        Command::Trash(TrashCommand::Restore {
            words,
            version,
            overwrite,
        }) => trash::restore(&words, version, overwrite),
        Command::Doctor(args) => doctor::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Export(args) => ways_out::export(&args),
        Command::Import(args) => ways_out::import(&args),
        Command::Snapshot(args) => ways_out::snapshot(&args),
        Command::Index(IndexCommand::Rebuild { dir, timeout }) => wait::rebuild(&dir, timeout),
        Command::Perform { dir, device } => Ok(crate::felt::run(&dir, &device)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "notefs", &mut script);
            output::write(&script).map(|()| 0)
        }
        Command::Man => output::write(MANUAL.as_bytes()).map(|()| 0),
    }
}

/// The mount around a path, or around the current folder, and the path below it.
fn find_mount(path: Option<&Path>) -> Result<(Record, Vec<u8>), Failure> {
    let path = path.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    Registry::of_this_user()
        .find(&path)
        .map_err(|failure| explain_dead(&path).unwrap_or(failure))
}

/// The mount at exactly this folder.
fn mount_at(dir: &Path) -> Result<Record, Failure> {
    let (record, below) = find_mount(Some(dir))?;
    if below.is_empty() {
        return Ok(record);
    }
    let mountpoint = record.mountpoint.display();
    Err(
        Failure::new(format!("{} lies inside the mount {mountpoint}", dir.display()))
            .hint(format!("Name the mounted folder itself: {mountpoint}")),
    )
}

/// The mount that was named, or the one around the current folder; it must be one that has a folder.
fn whole_mount(dir: Option<&Path>) -> Result<Record, Failure> {
    let record = match dir {
        Some(dir) => mount_at(dir)?,
        None => find_mount(None)?.0,
    };
    if record.mountpoint.is_absolute() {
        return Ok(record);
    }
    let served = record.mountpoint.display();
    Err(Failure::new(format!("{served} is served and not mounted here")).hint("Mount it, and name the folder"))
}

/// If a path leads into a mount whose daemon is gone, that is what to say.
fn explain_dead(path: &Path) -> Option<Failure> {
    let mount = crate::mount::point::dead_mount_around(path)?;
    Some(Failure {
        exit_code: EXIT_FAILED,
        ..Failure::new(format!("The daemon of the mount at {} is gone", mount.display()))
            .hint("`notefs mount` with the same store and folder replaces the dead mount; nothing written is lost")
    })
}

//! `notefs run`: mounts, runs one command in it, and leaves when everything that it wrote is stored.
//!
//! Owns the order: mount, wait, run, drain, unmount; and the exit code. Does not own the daemon (`daemon`), nor signals and children
//! (`supervise`).

use super::args::RunArgs;
use super::units::{show_bytes, show_things};
use super::{Outcome, mount, mount_at, output, wait, ways_out};
use crate::control::client;
use crate::control::protocol::{Answer, Left, Request};
use crate::control::registry::Record;
use crate::failure::{EXIT_NOT_STORED, Failure};
use crate::service;
use crate::supervise::{Ended, Supervisor};
use std::path::Path;
use std::time::Duration;

/// Names the folder to the command.
const DIR_VARIABLE: &str = "NOTEFS_DIR";

/// How long the daemon may take to be gone after its last answer.
const EXIT_DEADLINE_SECONDS: u64 = 10;

/// Runs the command.
pub(super) fn run(args: &RunArgs) -> Outcome {
    if args.mount.fleet.is_some() {
        return Err(Failure::usage("`notefs run` makes one mount").hint("Use `notefs mount --fleet FILE`"));
    }
    if args.mount.foreground {
        return Err(Failure::usage("`notefs run` needs its own process for the mount").hint("Leave --foreground out"));
    }
    // Before anything starts a thread: what comes while the mount is made is heard afterwards.
    let supervisor = Supervisor::new()?;
    let plan = mount::start_daemon(&args.mount)?;
    let record = mount_at(&plan.dir)?;
    service::ready(plan.dir.display(), || true);
    let ended = command(args, &supervisor, &record, &plan.dir);
    service::stopping(args.drain);
    let taken = snapshot(args, &record);
    let left = leave(&record, args.drain);
    let code = conclude(&record, ended?, left)?;
    taken.map(|()| code)
}

/// Waits for what was asked for, then runs the command; a signal that came meanwhile is its end.
fn command(args: &RunArgs, supervisor: &Supervisor, record: &Record, dir: &Path) -> Result<Ended, Failure> {
    if let Some(step) = args.wait {
        let code = wait::wait(record, step, None, args.wait_timeout)?;
        if code != 0 {
            return Err(Failure::new("The command was not started"));
        }
    }
    if supervisor.asked_to_end() {
        return Err(Failure::new("Asked to end before the command was started"));
    }
    let environment = [(DIR_VARIABLE, dir.into())];
    supervisor.run(&args.command, &environment, record.pid, args.grace)
}

/// Commits what the command has left, if that was asked for.
fn snapshot(args: &RunArgs, record: &Record) -> Result<(), Failure> {
    let Some(remote) = &args.snapshot_git else {
        return Ok(());
    };
    let target = ways_out::target(record, remote, &args.snapshot_branch, args.drain);
    match crate::snapshot::take(&record.mountpoint, &target, None) {
        Ok(taken) => {
            ways_out::tell(&taken);
            Ok(())
        }
        Err(failure) => Err(Failure {
            exit_code: EXIT_NOT_STORED,
            ..failure
        }),
    }
}

/// Stores the rest and unmounts; `None` if the daemon cannot be asked any more.
fn leave(record: &Record, drain: Duration) -> Option<Left> {
    let timeout_ms = drain.as_millis() as u64;
    match client::ask(record, &Request::Unmount { timeout_ms }, &mut |_| {}) {
        Ok(Answer::Unmounted(left)) => {
            record.await_end(Duration::from_secs(EXIT_DEADLINE_SECONDS));
            Some(left)
        }
        Ok(_) | Err(_) => None,
    }
}

fn conclude(record: &Record, ended: Ended, left: Option<Left>) -> Outcome {
    if ended.was_killed {
        output::warning(format_args!("The command did not end in time and was killed"));
    }
    if ended.lost_support {
        output::warning(format_args!(
            "The daemon of the mount ended first, so the command was asked to end"
        ));
    }
    let code = ended.code;
    let Some(left) = left else {
        let cache = record.cache_dir.display();
        return Err(Failure {
            exit_code: EXIT_NOT_STORED,
            ..Failure::new(format!(
                "The daemon of the mount ended before its time (the command's exit code is {code})"
            ))
            .hint(format!(
                "What was written is safe in {cache} and goes on with the next mount"
            ))
        });
    };
    if left.count == 0 {
        return Ok(code);
    }
    let (count, bytes) = (show_things(left.count, "change"), show_bytes(left.bytes));
    let reason = left
        .last_error
        .as_ref()
        .map_or(String::new(), |error| format!(": {error}"));
    let names = output::names_of(&left.names, left.count);
    Err(Failure {
        exit_code: EXIT_NOT_STORED,
        ..Failure::new(format!(
            "{count} ({bytes}) could not be stored{reason}{names} (the command's exit code is {code})"
        ))
        .hint(format!(
            "Keep {} and mount it again, or the changes are lost with it",
            left.cache_dir
        ))
    })
}

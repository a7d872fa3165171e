//! `notefs mount`: checks everything that can be checked here, then starts the daemon or serves in this process.
//!
//! Owns the order of checks on the folder. Does not own the plan (`config`) nor what the daemon does (`mount`).

use super::args::MountArgs;
use super::units::{show_bytes, show_things};
use super::{Outcome, output};
use crate::config::{self, MountPlan, Places, SystemMountPlan};
use crate::control::registry::Registry;
use crate::daemon::{self, log};
use crate::failure::{EXIT_FAILED, Failure};
use crate::mount::point::{self, Found};
use crate::mount::system_mount;
use std::path::Path;
use std::time::Duration;

/// How long the daemon of a mount that is gone may take to end.
const END_DEADLINE_SECONDS: u64 = 5;

/// Runs the command.
pub(super) fn run(args: &MountArgs) -> Outcome {
    if let Some(file) = &args.fleet {
        return super::fleet::run(file, args);
    }
    if args.foreground {
        let (plan, _) = prepare(args)?;
        return serve_here(&plan, &mut || Ok(()));
    }
    let plan = start_daemon(args)?;
    output::note(format_args!("Mounted {} at {}", plan.store, plan.dir.display()));
    Ok(0)
}

/// Starts the daemon of a mount and waits until it answers; what it warns of is shown.
pub(super) fn start_daemon(args: &MountArgs) -> Result<MountPlan, Failure> {
    let (plan, cache_is_new) = prepare(args)?;
    let warnings = daemon::start(&plan).inspect_err(|failure| {
        if cache_is_new {
            clear_unused_cache(&plan, failure);
        }
    })?;
    warnings.iter().for_each(output::warning);
    Ok(plan)
}

fn prepare(args: &MountArgs) -> Result<(MountPlan, bool), Failure> {
    make_ready(config::plan(args, &Places::from_environment()?)?)
}

/// The plan, with folder, store and cache made ready; and whether the cache is new.
pub(super) fn make_ready(mut plan: MountPlan) -> Result<(MountPlan, bool), Failure> {
    plan.dir = point::locate(&plan.dir)?;
    if rejoins(&mut plan)? {
        output::note(format_args!(
            "{} is mounted already and waits for its server",
            plan.dir.display()
        ));
    } else {
        prepare_folder(&plan.dir, plan.nonempty)?;
    }
    config::check_places(&plan)?;
    if plan.make_store {
        make_store(&plan)?;
    }
    let cache_is_new = !plan.cache_dir.exists();
    point::prepare_cache(&plan.cache_dir)?;
    Ok((plan, cache_is_new))
}

/// Whether the folder is an NFS mount whose daemon has died: then its programs wait for the server, and get it.
fn rejoins(plan: &mut MountPlan) -> Result<bool, Failure> {
    let dir = plan.dir.clone();
    let Some(nfs) = plan.nfs() else { return Ok(false) };
    if !system_mount::is_mounted_from(nfs.address, &dir)? {
        return Ok(false);
    }
    let live = Registry::of_this_user().live();
    if let Some(record) = live.iter().find(|record| record.mountpoint == dir)
        && !record.await_end(Duration::from_secs(END_DEADLINE_SECONDS))
    {
        return Err(already_mounted(&dir, &record.store));
    }
    nfs.mount = SystemMountPlan::Rejoin;
    Ok(true)
}

/// Makes sure that the folder can be mounted on; clears away a dead mount.
fn prepare_folder(dir: &Path, nonempty: bool) -> Result<(), Failure> {
    let record = Registry::of_this_user()
        .live()
        .into_iter()
        .find(|record| record.mountpoint == dir);
    let store = record.as_ref().map_or("a store", |record| &record.store);
    // The mount itself tells whether it is alive: a killed daemon is in the list of processes for a while.
    match point::look(dir)? {
        Found::Live => return Err(already_mounted(dir, store)),
        Found::Dead => {
            crate::fuse::clear_dead_mount(dir).map_err(|e| Failure::new(e.to_string()))?;
            output::note(format_args!("Cleared away a dead mount at {}", dir.display()));
        }
        Found::Plain => {}
    }
    let end = Duration::from_secs(END_DEADLINE_SECONDS);
    if record.as_ref().is_some_and(|record| !record.await_end(end)) {
        return Err(already_mounted(dir, store));
    }
    point::check_folder(dir, nonempty)
}

fn already_mounted(dir: &Path, store: &str) -> Failure {
    let dir = dir.display();
    Failure::new(format!("{dir} is a mount of {store} already")).hint(format!("Unmount it first: notefs unmount {dir}"))
}

/// Makes the folder of the store that everybody has.
fn make_store(plan: &MountPlan) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    match config::store_folder(&plan.store) {
        Some(folder) => {
            let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&folder);
            made.map_err(Failure::io("create the store", &folder))
        }
        None => Ok(()),
    }
}

/// A mistyped store shall leave no folder behind. Whatever but a log is in it stays, and so does a log that is to be read.
fn clear_unused_cache(plan: &MountPlan, failure: &Failure) {
    let log = plan.cache_dir.join("notefs.log");
    let log_matters = failure.hint.as_ref().is_some_and(|hint| hint.contains("log"));
    let only_log =
        std::fs::read_dir(&plan.cache_dir).is_ok_and(|entries| entries.flatten().all(|entry| entry.path() == log));
    if only_log && !log_matters {
        std::fs::remove_file(&log).ok();
        std::fs::remove_dir(&plan.cache_dir).ok();
    }
}

/// Serves in this process: logs to stderr, or to a file if one was asked for. Calls `ready` when programs are served.
pub(super) fn serve_here(plan: &MountPlan, ready: &mut dyn FnMut() -> Result<(), Failure>) -> Outcome {
    match &plan.log {
        Some(path) => log::to_file(path, plan.log_look())?,
        None => log::to_stderr(plan.log_look()),
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let left = crate::mount::run(plan, &mut |warnings| {
        warnings.iter().for_each(output::warning);
        ready()
    })?;
    if left.count == 0 {
        return Ok(0);
    }
    let (count, bytes) = (show_things(left.count, "change"), show_bytes(left.bytes));
    output::warning(format_args!(
        "{count} ({bytes}) not stored yet; safe in {}{}",
        left.cache_dir,
        output::names_of(&left.names, left.count)
    ));
    Ok(EXIT_FAILED)
}

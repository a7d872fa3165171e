//! `notefs unmount`: lets the store take what is left, ends the daemon, and says what could not be stored.
//!
//! Owns the wait until the daemon is gone, and the clearing away of a mount whose daemon has died. Does not own draining
//! (`mount`).

use super::args::UnmountArgs;
use super::progress::Bar;
use super::units::{show_bytes, show_things};
use super::{Outcome, mount_at, output};
use crate::control::client;
use crate::control::protocol::{Answer, Left, Request};
use crate::control::registry::{Record, Registry, absolute};
use crate::failure::{EXIT_FAILED, Failure};
use crate::mount::point::{self, Found};
use std::path::Path;
use std::time::Duration;

/// How long the daemon may take to be gone after its last answer.
const EXIT_DEADLINE_SECONDS: u64 = 30;

/// Runs the command.
pub(super) fn run(args: &UnmountArgs) -> Outcome {
    let record = match mount_at(&args.dir) {
        Ok(record) => record,
        Err(failure) => return clear_dead(&args.dir)?.ok_or(failure),
    };
    let timeout_ms = args.timeout.as_millis() as u64;
    let mut bar = Bar::new("Storing");
    let answer = client::ask(&record, &Request::Unmount { timeout_ms }, &mut |left| bar.show(left));
    bar.end();
    let left = match answer {
        Ok(Answer::Unmounted(left)) => left,
        Ok(_) => return Err(client::unexpected(&record)),
        // It may have been killed meanwhile.
        Err(failure) => return clear_dead(&args.dir)?.ok_or(failure),
    };
    await_exit(&record)?;
    Ok(tell(&record, &left))
}

/// Unmounts what a dead daemon left; `None` if there is no such mount.
fn clear_dead(dir: &Path) -> Result<Option<u8>, Failure> {
    let dir = point::beside_parent(&absolute(dir)?)?;
    if point::look(&dir)? != Found::Dead {
        return Ok(None);
    }
    crate::fuse::clear_dead_mount(&dir).map_err(|e| Failure::new(e.to_string()))?;
    drop(point::Underneath::open(&dir)?);
    Registry::of_this_user().remove(&dir);
    output::note(format_args!("Cleared away the dead mount at {}", dir.display()));
    output::note("What was written is safe in its cache and is stored after the next `notefs mount`");
    Ok(Some(0))
}

/// Waits until the process is gone, so that its cache can be used again at once.
fn await_exit(record: &Record) -> Result<(), Failure> {
    if record.await_end(Duration::from_secs(EXIT_DEADLINE_SECONDS)) {
        return Ok(());
    }
    let message = format!(
        "Unmounted, but the daemon (pid {}) has not ended after {EXIT_DEADLINE_SECONDS} s",
        record.pid
    );
    Err(Failure::new(message).hint(format!("Its log is in {}", record.cache_dir.display())))
}

fn tell(record: &Record, left: &Left) -> u8 {
    if left.was_busy {
        output::warning(format_args!(
            "Programs still used {}: it was detached under them, and what they have open there fails from now on",
            record.mountpoint.display()
        ));
    }
    if left.count == 0 {
        return 0;
    }
    let (count, bytes) = (show_things(left.count, "change"), show_bytes(left.bytes));
    let reason = left
        .last_error
        .as_ref()
        .map_or(String::new(), |error| format!(": {error}"));
    output::failure(
        &Failure::new(format!(
            "Unmounted, but {count} ({bytes}) could not be stored{reason}{}",
            output::names_of(&left.names, left.count)
        ))
        .hint(format!(
            "Nothing is lost: it is kept in {} and goes on with the next mount",
            left.cache_dir
        )),
    );
    EXIT_FAILED
}

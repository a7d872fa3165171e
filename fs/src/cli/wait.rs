//! Commands that wait: `notefs sync`, `notefs status --wait`, `notefs index rebuild`.
//!
//! Owns their progress bars and what is said when time is up. Does not own the waiting (`mount/serve.rs`).

use super::args::{SyncArgs, WaitFor};
use super::progress::Bar;
use super::units::{show_bytes, show_ms, show_things};
use super::{Outcome, find_mount, mount_at, output};
use crate::control::client;
use crate::control::protocol::{Answer, Progress, Request, WaitStep};
use crate::control::registry::Record;
use crate::failure::{EXIT_FAILED, Failure};
use std::path::Path;
use std::time::Duration;

/// `notefs sync`.
pub(super) fn sync(args: &SyncArgs) -> Outcome {
    let (record, _) = find_mount(args.dir.as_deref())?;
    if args.release_held {
        let Answer::Released(count) = client::ask(&record, &Request::ReleaseHeld {}, &mut |_| ())? else {
            return Err(client::unexpected(&record));
        };
        output::note(format_args!("Released {}", show_things(count, "held change")));
    }
    wait(&record, WaitFor::Stored, None, args.timeout)
}

/// `notefs index rebuild`.
pub(super) fn rebuild(dir: &Path, timeout: Duration) -> Outcome {
    let record = mount_at(dir)?;
    let request = Request::IndexRebuild {
        timeout_ms: timeout.as_millis() as u64,
    };
    conclude(&record, &request, "Indexing", timeout)
}

/// Waits until a mount, or one path in it, has come to a step; answers the exit code.
pub(super) fn wait(record: &Record, step: WaitFor, path: Option<Vec<u8>>, timeout: Duration) -> Outcome {
    let (step, title) = match step {
        WaitFor::Stored => (WaitStep::Stored, "Storing"),
        WaitFor::Indexed => (WaitStep::Indexed, "Indexing"),
        WaitFor::Pinned => (WaitStep::Pinned, "Fetching"),
        WaitFor::Shared => (WaitStep::Shared, "Sharing"),
    };
    let request = Request::Wait {
        step,
        path,
        timeout_ms: timeout.as_millis() as u64,
    };
    conclude(record, &request, title, timeout)
}

fn conclude(record: &Record, request: &Request, title: &'static str, timeout: Duration) -> Outcome {
    let mut bar = Bar::new(title);
    let answer = client::ask(record, request, &mut |left| bar.show(left));
    bar.end();
    match answer? {
        Answer::Waited { reached: true, .. } => Ok(0),
        Answer::Waited { names, held, .. } if held > 0 => {
            let failure = Failure::new(format!(
                "{} held back, because no program asked for it{}",
                show_things(held, "change"),
                output::names_of(&names, held)
            ));
            output::failure(&failure.hint(
                "`notefs status` says why. `notefs check DIR` takes it back from the bucket; `notefs sync --release-held` has it done",
            ));
            Ok(EXIT_FAILED)
        }
        Answer::Waited { left, names, .. } => {
            let failure = Failure::new(format!(
                "Not done after {}: {}{}",
                show_ms(timeout.as_millis() as u64),
                show_left(left),
                output::names_of(&names, left.left)
            ));
            output::failure(
                &failure.hint("It goes on by itself; `notefs status` shows how far it is and what hinders it"),
            );
            Ok(EXIT_FAILED)
        }
        _ => Err(client::unexpected(record)),
    }
}

fn show_left(left: Progress) -> String {
    let things = show_things(left.left, "change");
    match left.left_bytes {
        0 => format!("{things} to go"),
        bytes => format!("{things} ({}) to go", show_bytes(bytes)),
    }
}

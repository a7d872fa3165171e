//! `notefs events`: prints changes as lines of JSON.
//!
//! Owns what a line holds. Does not own where changes come from (`events.rs`).

use super::args::EventsArgs;
use super::{Outcome, find_mount, output};
use crate::control::client::{self, Interim};
use crate::control::protocol::{Answer, Request};
use crate::events::Event;
use crate::failure::{EXIT_FAILED, Failure};
use serde_json::{Value, json};

/// Runs the command until the mount ends or nobody reads.
pub(super) fn run(args: &EventsArgs) -> Outcome {
    let (record, below) = find_mount(args.dir.as_deref())?;
    let below = if args.dir.is_some() { below } else { Vec::new() };
    let mut is_listening = false;
    let mut take = |interim| match interim {
        Interim::Event(event) => line(&show(&event)),
        Interim::Lost(count) => line(&json!({"event": "lost", "count": count})),
        Interim::Progress(_) => {
            if !std::mem::replace(&mut is_listening, true) {
                output::note(format_args!("Waiting for changes in {}", record.mountpoint.display()));
            }
            Ok(())
        }
    };
    match client::listen(&record, &Request::Events { below }, &mut take) {
        Ok(Answer::Ended) => {
            output::note("The mount has ended");
            Ok(EXIT_FAILED)
        }
        Ok(_) => Err(client::unexpected(&record)),
        Err(failure) if failure == nobody_reads() => Ok(0),
        Err(failure) => Err(failure),
    }
}

/// Ends the command in silence, as `head -1` wants it.
fn nobody_reads() -> Failure {
    Failure::new("Nobody reads the events any more")
}

fn line(value: &Value) -> Result<(), Failure> {
    if output::is_read() {
        output::line(value)
    } else {
        Err(nobody_reads())
    }
}

/// A path as text, and as bytes where text fails.
fn put_path(fields: &mut Value, name: &str, path: &[u8]) {
    fields[name] = String::from_utf8_lossy(path).into();
    if std::str::from_utf8(path).is_err() {
        fields[format!("{name}_bytes")] = path.into();
    }
}

fn show(event: &Event) -> Value {
    let mut fields = json!({
        "at_ms": event.at_ms,
        "origin": event.origin,
        "event": event.kind,
        "folder": event.is_folder,
    });
    put_path(&mut fields, "path", &event.path);
    if let Some(from) = &event.from {
        put_path(&mut fields, "from", from);
    }
    if let Some(felt) = event.felt {
        fields["felt"] = felt.into();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventKind;

    #[test]
    fn a_line_tells_what_there_is_to_tell() {
        let event = Event {
            at_ms: 7,
            ..Event::new(EventKind::Moved, b"\xff".to_vec(), Some(b"a.md".to_vec()), false)
        };
        let expected = json!({
            "at_ms": 7, "origin": "local", "event": "moved", "folder": false,
            "path": "\u{fffd}", "path_bytes": [255], "from": "a.md",
        });
        assert_eq!(show(&event), expected);
    }
}

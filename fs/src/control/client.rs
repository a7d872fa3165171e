//! The asking side of the control socket.
//!
//! Owns connecting, deadlines and reading replies. A daemon that is silent for too long is an error, never an endless wait.

use super::protocol::{Answer, Progress, REPLY_BYTES_MAX, Reply, Request, SILENCE_MAX_SECONDS};
use super::registry::Record;
use crate::events::Event;
use crate::failure::Failure;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What arrives before the answer.
pub(crate) enum Interim {
    /// Still at it.
    Progress(Progress),
    /// A change.
    Event(Box<Event>),
    /// So many changes were not told.
    Lost(u64),
}

/// Sends a request to a mount's daemon and waits for its answer, reporting progress on the way.
pub(crate) fn ask(record: &Record, request: &Request, progress: &mut dyn FnMut(Progress)) -> Result<Answer, Failure> {
    listen(record, request, &mut |interim| {
        if let Interim::Progress(left) = interim {
            progress(left);
        }
        Ok(())
    })
}

/// The same, for requests that are answered by many lines. It ends when `take` fails.
pub(crate) fn listen(
    record: &Record,
    request: &Request,
    take: &mut dyn FnMut(Interim) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let silence = Duration::from_secs(SILENCE_MAX_SECONDS);
    let connect = || {
        let stream = UnixStream::connect(&record.socket)?;
        stream.set_read_timeout(Some(silence))?;
        stream.set_write_timeout(Some(silence))?;
        Ok(stream)
    };
    let mut stream: UnixStream = connect().map_err(|e| unanswered(record, &e))?;
    let mut line =
        serde_json::to_vec(request).map_err(|e| Failure::new(format!("Could not write the request: {e}")))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(|e| unanswered(record, &e))?;
    let mut replies = BufReader::new(stream.take(REPLY_BYTES_MAX));
    loop {
        let mut line = String::new();
        let length = replies.read_line(&mut line).map_err(|e| unanswered(record, &e))?;
        if length == 0 {
            return Err(Failure::new(format!(
                "The daemon of {} ended before it answered",
                record.mountpoint.display()
            ))
            .hint(format!("Its log is in {}", record.cache_dir.display())));
        }
        replies.get_mut().set_limit(REPLY_BYTES_MAX);
        match serde_json::from_str(&line) {
            Ok(Reply::Progress(left)) => take(Interim::Progress(left))?,
            Ok(Reply::Event(event)) => take(Interim::Event(event))?,
            Ok(Reply::Lost(count)) => take(Interim::Lost(count))?,
            Ok(Reply::Done(answer)) => return Ok(answer),
            Ok(Reply::Failed(failure)) => return Err(failure),
            Err(error) => return Err(other_version(record, &error)),
        }
    }
}

/// An answer of a kind that does not fit the request.
pub(crate) fn unexpected(record: &Record) -> Failure {
    other_version(record, &"it answered another question")
}

fn other_version(record: &Record, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!(
        "The daemon of {} was not understood: {error}",
        record.mountpoint.display()
    ))
    .hint("It may be of another version: unmount and mount again")
}

fn unanswered(record: &Record, error: &std::io::Error) -> Failure {
    let silent = matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    );
    let reason = if silent {
        format!("silent for {SILENCE_MAX_SECONDS} s")
    } else {
        error.to_string()
    };
    Failure::new(format!(
        "The daemon of {} (pid {}) does not answer: {reason}",
        record.mountpoint.display(),
        record.pid
    ))
    .hint(format!("Its log is in {}", record.cache_dir.display()))
}

//! Everything that a command tells its user: results to stdout, the rest to stderr.
//!
//! Owns the streams, their colours and what happens when nobody reads them. Owns no wording.

use crate::failure::EXIT_FAILED;
use crate::failure::Failure;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Writes one line to stdout. A reader that has gone away (`notefs search x | head -1`) is success.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    write(format!("{text}\n").as_bytes())
}

/// Writes a value as indented JSON to stdout.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(format!("Could not write JSON: {e}")))?;
    line(text)
}

/// Writes bytes to stdout as they are.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(format!("Could not write to standard output: {error}"))),
    }
}

/// Whether stdout still has a reader, as far as the kernel tells without a write.
pub(crate) fn is_read() -> bool {
    let mut poll = libc::pollfd {
        fd: libc::STDOUT_FILENO,
        events: 0,
        revents: 0,
    };
    // SAFETY: `poll` is one valid pollfd; standard output is open or the kernel says that it is not.
    let answered = unsafe { libc::poll(&raw mut poll, 1, 0) };
    answered <= 0 || poll.revents & (libc::POLLERR | libc::POLLNVAL) == 0
}

/// Writes one line to stderr; if nobody can read it, there is nobody to tell.
pub(crate) fn note(text: impl std::fmt::Display) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Writes a warning to stderr.
pub(crate) fn warning(text: impl std::fmt::Display) {
    note(format_args!("Warning: {text}"));
}

/// Writes a failure and its hint to stderr and answers the exit code.
pub(crate) fn failure(failure: &Failure) -> u8 {
    note(format_args!("Error: {}", failure.message));
    if let Some(hint) = &failure.hint {
        note(format_args!("\nHint: {hint}"));
    }
    failure.exit_code.max(EXIT_FAILED)
}

/// Names below a message, one a line, and how many of `count` are not among them.
pub(crate) fn names_of(names: &[String], count: u64) -> String {
    let mut text = String::new();
    for name in names {
        // An empty path is the mounted folder itself.
        let name = if name.is_empty() { "." } else { name.as_str() };
        text.push_str(&format!("\n  {}", printable(name)));
    }
    match count.saturating_sub(names.len() as u64) {
        more if more > 0 && !names.is_empty() => format!("{text}\n  … and {more} more"),
        _ => text,
    }
}

/// Whether stdout is a terminal that shows colours.
pub(crate) fn stdout_has_colours() -> bool {
    io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// Text from a note, safe to show: control characters that could drive a terminal become `?`.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

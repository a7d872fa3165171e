//! The one error that people see: what went wrong and where, what to do about it, and the exit code.
//!
//! Owns the shape of messages. Does not own their display (`cli/output.rs`) nor the causes, which the crates below word.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// Exit code of a command that failed, or of a search that found nothing.
pub(crate) const EXIT_FAILED: u8 = 1;

/// Exit code of a command that was called wrongly.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Exit code of `notefs run` when something that was written could not be stored (EX_IOERR of sysexits.h).
pub(crate) const EXIT_NOT_STORED: u8 = 74;

/// A failure in words for people; it travels unchanged from the daemon to the command that asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What and where, one line, a capital first and no full stop at the end.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// The exit code of the command.
    pub(crate) exit_code: u8,
}

impl Failure {
    /// Something did not work.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            hint: None,
            exit_code: EXIT_FAILED,
        }
    }

    /// The command was called wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            hint: None,
            exit_code: EXIT_USAGE,
        }
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// For `map_err`: "Could not `action` `path`: …".
    pub(crate) fn io<E: std::fmt::Display>(action: &str, path: &Path) -> impl FnOnce(E) -> Failure {
        move |error| Failure::new(format!("Could not {action} {}: {error}", path.display()))
    }
}

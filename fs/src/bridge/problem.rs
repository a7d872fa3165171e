//! What an error of the index says, to people and in a line of the log.

use crate::failure::Failure;
use notefs_indexer::IndexError;

/// An index error for people: its advice becomes the hint.
pub(crate) fn index_failure(error: IndexError) -> Failure {
    let text = error.to_string();
    match text.split_once("\n\n") {
        Some((message, hint)) => Failure::new(message).hint(hint),
        None => Failure::new(text),
    }
}

/// In one line.
pub(super) fn index_text(error: IndexError) -> String {
    error.to_string().replace("\n\n", ". ")
}

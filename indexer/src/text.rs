//! Words as the index sees them: folding, splitting, and the spaceless scripts.
//!
//! Owns the text transforms everything else is built on: [`fold`] (names that are equal although their bytes
//! differ), [`segment`] (running Chinese, Japanese, Korean or Thai text cut so that a word inside it is found), and
//! [`tokens`] (where the words of a text are, for snippets and titles), [`slug`] (permalinks) and [`date`].
//! Does not own queries (`query`), nor the tokenizer that fills the full-text table (SQLite's `unicode61`); the
//! tokens here agree with it closely enough for marking hits, and marking is all they decide.

pub(crate) mod date;
pub(crate) mod fold;
pub(crate) mod segment;
pub(crate) mod slug;
pub(crate) mod tokens;

/// The last path segment.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Everything before the last slash, "" at the root.
pub(crate) fn folder(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..at])
}

/// At most `max_bytes` of `text`, cut between characters.
pub(crate) fn clip(text: &str, max_bytes: usize) -> &str {
    if text.len() <= max_bytes {
        return text;
    }
    &text[..floor_boundary(text, max_bytes)]
}

/// The largest character boundary at or below `at`.
pub(crate) fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

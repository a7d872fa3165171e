//! What commands and agents ask a mount's daemon about its notes, and the JSON of the answers.
//!
//! Owns one call for each question, so that nobody takes one answer for another. Does not own how answers look to people (`cli`), nor
//! how much of them an agent is given (`mcp`).

use super::client;
use super::protocol::{Answer, ConflictRow, Found, IndexRows, Request};
use super::question::{Known, Question};
use super::registry::Record;
use crate::failure::Failure;
use notefs_indexer::plain_snippet;
use serde_json::{Value, json};

/// What is searched for.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    /// The query.
    pub(crate) query: String,
    /// How many.
    pub(crate) limit: u32,
    /// After so many.
    pub(crate) offset: u32,
    /// Only below this folder; empty for everywhere.
    pub(crate) below: Vec<u8>,
}

impl Search {
    /// Asks.
    pub(crate) fn ask(&self, record: &Record) -> Result<Found, Failure> {
        let request = Request::Search {
            query: self.query.clone(),
            limit: self.limit,
            offset: self.offset,
            below: self.below.clone(),
        };
        match client::ask(record, &request, &mut |_| ())? {
            Answer::Found(found) => Ok(found),
            _ => Err(client::unexpected(record)),
        }
    }

    /// The answer for programs, its snippets without marks.
    pub(crate) fn json(&self, record: &Record, found: Found) -> Value {
        let hits: Vec<Value> = found.hits.into_iter().map(plain).collect();
        json!({
            "query": self.query,
            "mountpoint": record.mountpoint,
            "complete": found.behind.is_complete(),
            "behind": found.behind,
            "from": source(found.shared),
            "shared_error": found.shared_error,
            "next_offset": found.has_more.then(|| self.offset + self.limit),
            "hits": hits,
        })
    }
}

/// What gave an answer: this machine's index alone, or the shared one, too.
pub(crate) fn source(shared: bool) -> &'static str {
    if shared { "shared" } else { "local" }
}

fn plain(mut hit: Value) -> Value {
    if let Some(snippet) = hit.get_mut("snippet")
        && let Some(text) = snippet.as_str()
    {
        *snippet = Value::from(plain_snippet(text));
    }
    hit
}

/// Asks what the notes know.
pub(crate) fn know(record: &Record, question: Question) -> Result<Known, Failure> {
    match client::ask(record, &Request::Know { question }, &mut |_| ())? {
        Answer::Known(known) => Ok(known),
        _ => Err(client::unexpected(record)),
    }
}

/// Asks for links or tags.
pub(crate) fn rows(record: &Record, request: &Request) -> Result<IndexRows, Failure> {
    match client::ask(record, request, &mut |_| ())? {
        Answer::Links(rows) | Answer::Tags(rows) => Ok(rows),
        _ => Err(client::unexpected(record)),
    }
}

/// Asks for the conflicts below a folder, or of one path; empty for all.
pub(crate) fn conflicts(record: &Record, below: &[u8]) -> Result<Vec<ConflictRow>, Failure> {
    match client::ask(record, &Request::Conflicts {}, &mut |_| ())? {
        Answer::Conflicts(rows) => Ok(rows.into_iter().filter(|row| lies_below(row, below)).collect()),
        _ => Err(client::unexpected(record)),
    }
}

fn lies_below(row: &ConflictRow, below: &[u8]) -> bool {
    let prefix = [below, b"/"].concat();
    let mut paths = [Some(&row.path), row.copy.as_ref()].into_iter().flatten();
    below.is_empty() || paths.any(|path| path == below || path.starts_with(&prefix))
}

/// A conflict for programs.
pub(crate) fn conflict_json(row: &ConflictRow) -> Value {
    json!({
        "path": String::from_utf8_lossy(&row.path),
        "copy": row.copy.as_ref().map(|copy| String::from_utf8_lossy(copy)),
        "disputed": String::from_utf8_lossy(&row.disputed),
        "host": row.host,
        "when": row.when,
        "kind": row.kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_lies_where_its_note_or_its_copy_lies() {
        let row = ConflictRow {
            id: 1,
            path: b"a/note.md".to_vec(),
            copy: Some(b"b/copy.md".to_vec()),
            disputed: b"a/note.md".to_vec(),
            host: String::new(),
            when: String::new(),
            kind: "edited".to_owned(),
        };
        for (below, expected) in [
            ("", true),
            ("a", true),
            ("b", true),
            ("a/note.md", true),
            ("a/n", false),
            ("c", false),
        ] {
            assert_eq!(lies_below(&row, below.as_bytes()), expected, "{below:?}");
        }
    }
}

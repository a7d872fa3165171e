//! Asking what the notes know.
//!
//! Owns how much of an answer an agent is given. The questions are those of `notefs search`, `context`, `recent`, `backlinks` and
//! `conflicts` (`control/knowledge.rs`). Does not own what is known.

use super::arguments::{Backlinks, BuildContext, Conflicts, ROWS_MAX, Recent, Search};
use super::problem::{Kind, Problem};
use super::vault::{Vault, Visit};
use crate::beneath::Missing;
use crate::control::knowledge::{self as ask, conflict_json};
use crate::control::protocol::{Behind, Request};
use crate::control::question::Question;
use serde_json::{Map, Value, json};

/// The longest query.
const QUERY_BYTES_MAX: usize = 4 << 10;

/// The longest string in an answer about knowledge, such as a note's property.
const STRING_BYTES_MAX: usize = 2 << 10;

/// `search`.
pub(super) fn search(vault: &Vault, wanted: &Search) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    if wanted.query.len() > QUERY_BYTES_MAX {
        return Err(Problem::new(
            Kind::TooLarge,
            "query",
            format!("The query has more than {QUERY_BYTES_MAX} bytes"),
            "Search for a few words",
        ));
    }
    let search = ask::Search {
        query: wanted.query.clone(),
        limit: wanted.limit.clamp(1, ROWS_MAX),
        offset: wanted.offset,
        below: below(&visit, &wanted.folder)?,
    };
    let found = search
        .ask(&visit.record)
        .map_err(|failure| visit.failure(&wanted.query, failure))?;
    Ok(trimmed(search.json(&visit.record, found)))
}

/// `backlinks`.
pub(super) fn backlinks(vault: &Vault, wanted: &Backlinks) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    let path = wanted.path.as_bytes().to_vec();
    let rows = ask::rows(&visit.record, &Request::Backlinks { path });
    let mut found = rows.map_err(|failure| visit.failure(&wanted.path, failure))?;
    let count = found.rows.len();
    found.rows.truncate(wanted.limit.clamp(1, ROWS_MAX) as usize);
    let mut told = json!({"path": wanted.path, "count": count, "links": found.rows});
    say_source(&mut told, &found.behind, found.shared, found.shared_error);
    Ok(trimmed(told))
}

/// `build_context`.
pub(super) fn build_context(vault: &Vault, wanted: &BuildContext) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    let place = visit.reach(&wanted.path, Missing::Left)?;
    std::fs::symlink_metadata(&place).map_err(|error| visit.io(&wanted.path, &error))?;
    let question = Question::Context {
        path: wanted.path.as_bytes().to_vec(),
        depth: wanted.depth,
        limit: wanted.limit.clamp(1, ROWS_MAX),
    };
    know(&visit, &wanted.path, "context", question)
}

/// `recent`.
pub(super) fn recent(vault: &Vault, wanted: &Recent) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    let question = Question::Recent {
        below: below(&visit, &wanted.folder)?,
        limit: wanted.limit.clamp(1, ROWS_MAX),
    };
    know(&visit, &wanted.folder, "notes", question)
}

/// `conflicts`.
pub(super) fn conflicts(vault: &Vault, wanted: &Conflicts) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    let below = below(&visit, &wanted.folder)?;
    let rows = ask::conflicts(&visit.record, &below).map_err(|failure| visit.failure(&wanted.folder, failure))?;
    let told = rows.iter().map(|row| {
        let mut told = conflict_json(row);
        told["what_to_do"] = match &row.copy {
            Some(_) => "Read path and copy; edit path so that it says what both mean; then delete copy".into(),
            None => "Both sides renamed it: the user ends this with `notefs conflicts --resolve`".into(),
        };
        told
    });
    let told: Vec<Value> = told.collect();
    Ok(trimmed(json!({"count": told.len(), "conflicts": told})))
}

/// The answer to a question, under a name.
fn know(visit: &Visit, place: &str, name: &str, question: Question) -> Result<Value, Problem> {
    let known = ask::know(&visit.record, question).map_err(|failure| visit.failure(place, failure))?;
    let mut told = json!({name: known.value});
    say_source(&mut told, &known.behind, known.shared, known.shared_error);
    Ok(trimmed(told))
}

/// Whether an answer is whole, and which index gave it, in the words of `search`.
fn say_source(told: &mut Value, behind: &Behind, shared: bool, shared_error: Option<String>) {
    told["complete"] = behind.is_complete().into();
    told["from"] = ask::source(shared).into();
    told["shared_error"] = shared_error.into();
}

/// A folder that there is, as the index names it.
fn below(visit: &Visit, folder: &str) -> Result<Vec<u8>, Problem> {
    if folder.is_empty() || folder == "." {
        return Ok(Vec::new());
    }
    let place = visit.reach(folder, Missing::Left)?;
    std::fs::symlink_metadata(&place).map_err(|error| visit.io(folder, &error))?;
    Ok(folder.as_bytes().to_vec())
}

/// An answer with no list and no string beyond its bound; what is left out is counted beside it. The bytes of paths, which stand
/// beside their texts, are not for agents.
fn trimmed(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut kept = Map::new();
            let mut left_out = Map::new();
            for (name, value) in fields {
                let over = value
                    .as_array()
                    .map_or(0, |rows| rows.len().saturating_sub(ROWS_MAX as usize));
                if over > 0 {
                    left_out.insert(name.clone(), over.into());
                }
                if !name.ends_with("_bytes") || !value.is_array() {
                    kept.insert(name, trimmed(value));
                }
            }
            if !left_out.is_empty() {
                kept.insert("left_out".to_owned(), left_out.into());
            }
            Value::Object(kept)
        }
        Value::Array(rows) => rows.into_iter().take(ROWS_MAX as usize).map(trimmed).collect(),
        Value::String(text) if text.len() > STRING_BYTES_MAX => {
            Value::String(format!("{}…", &text[..text.floor_char_boundary(STRING_BYTES_MAX)]))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_and_say_what_they_leave_out() {
        let rows = ROWS_MAX as usize;
        let many: Vec<Value> = (0..rows + 7)
            .map(|n| json!({"path": n, "path_bytes": [1, 2]}))
            .collect();
        let value = trimmed(json!({"note": {"links": many, "title": "é".repeat(5_000)}, "few": [1], "size_bytes": 3}));
        let note = &value["note"];
        assert_eq!(note["links"].as_array().map(Vec::len), Some(rows));
        assert_eq!(note["left_out"]["links"], 7);
        assert_eq!(note["links"][0], json!({"path": 0}));
        assert!(note["title"].as_str().unwrap().len() <= STRING_BYTES_MAX + 3);
        assert_eq!((&value["few"], &value["size_bytes"]), (&json!([1]), &json!(3)));
        assert!(value.get("left_out").is_none());
    }
}

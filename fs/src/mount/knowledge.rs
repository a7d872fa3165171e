//! Answers to questions about the knowledge in the notes.
//!
//! Owns which question the index is asked, and what is said of a note that it does not have. Does not own the rows.

use super::serve::{Desk, row};
use crate::bridge::index_failure;
use crate::control::protocol::Answer;
use crate::control::question::{Known, Question};
use crate::failure::Failure;
use notefs_indexer::{Index, IndexError};
use serde::Serialize;
use serde_json::Value;

impl Desk {
    /// Answers from an index that has seen everything written before.
    pub(super) fn know(&self, question: &Question) -> Result<Answer, Failure> {
        if let Question::Recent { below, limit } = question {
            let both = Desk::recent(self, below, *limit as usize)?;
            return Ok(Answer::Known(Known {
                behind: self.behind(),
                value: shown(both.rows),
                shared: both.shared,
                shared_error: both.shared_error,
            }));
        }
        self.catch_up();
        let value = ask(&self.index, question).map_err(index_failure)?;
        let mut value = value.ok_or_else(|| self.no_such_note(question))?;
        if let (Question::Warnings { limit }, Value::Array(rows), Some(share)) = (question, &mut value, &self.share) {
            let room = (*limit as usize).saturating_sub(rows.len());
            rows.extend(share.warnings(room).iter().map(row));
        }
        Ok(Answer::Known(Known {
            behind: self.behind(),
            value,
            shared: false,
            shared_error: None,
        }))
    }

    fn no_such_note(&self, question: &Question) -> Failure {
        let name = match question {
            Question::Note { path: None, name } => name.clone(),
            Question::Note { path: Some(path), .. }
            | Question::Context { path, .. }
            | Question::Graph { around: Some(path), .. } => String::from_utf8_lossy(path).into_owned(),
            _ => String::new(),
        };
        let mountpoint = self.record.mountpoint.display();
        let behind = if self.behind().is_complete() {
            "`notefs search` finds notes by their words"
        } else {
            "The index is still behind; `notefs status --wait indexed` waits for it"
        };
        Failure::new(format!("There is no note {name:?} in {mountpoint}")).hint(behind)
    }
}

/// `None` if the note asked about does not exist.
fn ask(index: &Index, question: &Question) -> Result<Option<Value>, IndexError> {
    Ok(match question {
        Question::Note { path, name } => {
            let path = match path {
                Some(path) => Some(path.clone()),
                None => index.resolve(name)?,
            };
            match path {
                Some(path) => index.entity(&path)?.map(shown),
                None => None,
            }
        }
        Question::Context { path, depth, limit } => index.context(path, *depth, *limit as usize)?.map(shown),
        Question::Orphans { limit } => Some(shown(index.orphans(*limit as usize)?)),
        Question::Unresolved { limit } => Some(shown(index.unresolved(*limit as usize)?)),
        Question::Recent { below, limit } => Some(shown(index.recent(below, *limit as usize)?)),
        Question::Graph {
            around: Some(path),
            depth,
            limit,
        } => index.graph_around(path, *depth, *limit as usize)?.map(shown),
        Question::Graph { limit, .. } => Some(shown(index.graph(*limit as usize)?)),
        Question::Query { sql, limit } => Some(shown(index.query(sql, *limit as usize)?)),
        Question::Warnings { limit } => Some(shown(index.warnings(*limit as usize)?)),
    })
}

fn shown(value: impl Serialize) -> Value {
    row(&value)
}

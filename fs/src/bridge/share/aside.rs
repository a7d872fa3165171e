//! Notes that the shared index does not take: they are set aside, so that the others go on, and told as warnings.
//!
//! Each is tried again when it changes, and when all notes are compared; nothing is kept on disk. Pure.

use notefs_indexer::{Rejected, Warning, WarningKind};
use std::collections::BTreeMap;

/// Notes remembered with a reason; more are set aside all the same.
const REMEMBERED_NOTES_MAX: usize = 1_000;

/// The notes, with what the database said.
#[derive(Debug, Default)]
pub(super) struct Aside {
    reasons: BTreeMap<Vec<u8>, String>,
}

impl Aside {
    /// The database does not take this note.
    pub(super) fn add(&mut self, rejected: Rejected) {
        let path = String::from_utf8_lossy(&rejected.path);
        tracing::warn!("{path} is set aside, the other notes go on: {}", rejected.reason);
        if self.reasons.len() < REMEMBERED_NOTES_MAX {
            self.reasons.insert(rejected.path, rejected.reason);
        }
    }

    /// The shared index knows all of this note.
    pub(super) fn settle(&mut self, path: &[u8]) {
        self.reasons.remove(path);
    }

    /// None is set aside.
    pub(super) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The first `limit` of them as warnings.
    pub(super) fn warnings(&self, limit: usize) -> Vec<Warning> {
        let warning = |(path, reason): (&Vec<u8>, &String)| Warning {
            path: String::from_utf8_lossy(path).into_owned(),
            path_bytes: path.clone(),
            kind: WarningKind::NotShared,
            message: format!("Other machines do not find it by the shared index. {reason}"),
        };
        self.reasons.iter().take(limit).map(warning).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_a_warning_until_it_is_taken() {
        let mut aside = Aside::default();
        for number in 0..REMEMBERED_NOTES_MAX + 5 {
            aside.add(Rejected {
                path: format!("{number:04}.md").into_bytes(),
                reason: "too odd".into(),
            });
        }
        assert_eq!(aside.warnings(usize::MAX).len(), REMEMBERED_NOTES_MAX);
        assert!(aside.warnings(1)[0].message.ends_with("too odd"));
        aside.settle(b"0000.md");
        assert_eq!(aside.warnings(1)[0].path, "0001.md");
        assert!(!aside.is_empty());
    }
}

//! Links resolved against one snapshot.
//!
//! Owns the memory of candidates, since links repeat. The rules are `crate::resolve`'s.

use std::collections::HashMap;

use crate::error::IndexError;
use crate::model::LinkKind;
use crate::resolve::{Candidate, LookupKeys, Wanted};
use crate::sqlite::{InboundRow, OutboundRow, Snapshot};

/// Different targets whose candidates are remembered; one more, and all are forgotten.
const MAX_REMEMBERED_TARGETS: usize = 100_000;

/// Candidates already looked up, since links repeat.
pub(super) struct Resolver<'a> {
    snapshot: &'a Snapshot<'a>,
    candidates: HashMap<LookupKeys, Vec<Candidate>>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(snapshot: &'a Snapshot<'a>) -> Self {
        Self {
            snapshot,
            candidates: HashMap::new(),
        }
    }

    /// The note that a link in the note at `source` leads to.
    pub(super) fn resolve(&mut self, source: &[u8], row: &OutboundRow) -> Result<Option<(i64, Vec<u8>)>, IndexError> {
        if row.is_file {
            return Ok(None);
        }
        self.find(source, row.kind, &row.target, row.keys.clone())
    }

    /// The same for a target that is looked up by `keys`.
    pub(super) fn find(
        &mut self,
        source: &[u8],
        kind: LinkKind,
        target: &str,
        keys: LookupKeys,
    ) -> Result<Option<(i64, Vec<u8>)>, IndexError> {
        if self.candidates.len() >= MAX_REMEMBERED_TARGETS {
            self.candidates.clear();
        }
        let candidates = match self.candidates.entry(keys) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(unknown) => {
                let found = self.snapshot.candidates(unknown.key())?;
                unknown.insert(found)
            }
        };
        let wanted = Wanted::new(kind, target, &String::from_utf8_lossy(source));
        Ok(wanted.best(candidates).map(|best| (best.note_id, best.path.clone())))
    }
    /// The links that lead to a note, by the path of their note, then by place.
    pub(super) fn inbound(&mut self, note_id: i64) -> Result<Vec<InboundRow>, IndexError> {
        let mut rows = Vec::new();
        for row in self.snapshot.links_naming(note_id)? {
            if self.resolve(&row.path, &row.link)?.is_some_and(|(id, _)| id == note_id) {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

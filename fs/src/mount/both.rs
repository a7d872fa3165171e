//! Links, tags and recent notes: what this machine's index knows, and what the shared one adds while this one is behind.
//!
//! Owns how two answers become one. Does not own what they say (`notefs_indexer`), nor search (`search.rs`), whose rule holds here, too: what
//! this machine knows of a note is newer than what it was told.

use super::serve::{Desk, row};
use crate::bridge::{Share, index_failure};
use crate::control::protocol::IndexRows;
use crate::failure::Failure;
use notefs_indexer::{Backlink, Entity, Index, Link};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// Rows, and how the shared index took part.
pub(super) struct Both<T> {
    pub(super) rows: Vec<T>,
    /// Whether it has answered.
    pub(super) shared: bool,
    /// Why it has not.
    pub(super) shared_error: Option<String>,
}

impl Desk {
    /// The links into a note.
    pub(super) fn backlinks(&self, path: &[u8]) -> Result<Both<Backlink>, Failure> {
        self.both(
            |index| index.backlinks(path),
            |share| share.around(path)?.backlinks(path).map_err(|error| error.to_string()),
            |ours, theirs| {
                let known: HashSet<(Vec<u8>, u32)> =
                    ours.iter().map(|link| (link.path_bytes.clone(), link.line)).collect();
                for link in theirs {
                    let is_known = known.contains(&(link.path_bytes.clone(), link.line));
                    if !is_known && (self.knows_no_better(&link.path_bytes)? || self.has_unresolved(&link)?) {
                        ours.push(link);
                    }
                }
                ours.sort_by(|a, b| (&a.path_bytes, a.line).cmp(&(&b.path_bytes, b.line)));
                Ok(())
            },
        )
    }

    /// The links out of a note: as this machine knows its text, if it does, and where they lead as either index knows.
    pub(super) fn links(&self, path: &[u8]) -> Result<Both<Link>, Failure> {
        self.both(
            |index| index.links(path),
            |share| share.around(path)?.links(path).map_err(|error| error.to_string()),
            |ours, mut theirs| {
                for link in &mut theirs {
                    if let Some(target) = &link.resolved_bytes
                        && self.is_gone_here(target)?
                    {
                        (link.resolved, link.resolved_bytes) = (None, None);
                    }
                }
                if self.knows_no_better(path)? {
                    *ours = theirs;
                } else {
                    resolve(ours, &theirs);
                }
                Ok(())
            },
        )
    }

    /// Tags and in how many notes each is: the greater number counts, since neither index may have all.
    pub(super) fn tags(&self) -> Result<Both<(String, u64)>, Failure> {
        self.both(Index::tags, Share::tags, |ours, theirs| {
            *ours = merge_tags(std::mem::take(ours), theirs);
            Ok(())
        })
    }

    /// The notes below a folder that were changed last.
    pub(super) fn recent(&self, below: &[u8], limit: usize) -> Result<Both<Entity>, Failure> {
        self.both(
            |index| index.recent(below, limit),
            |share| share.recent(below, limit),
            |ours, theirs| {
                for note in theirs {
                    if self.knows_no_better(&note.path_bytes)? {
                        ours.push(note);
                    }
                }
                ours.sort_by(|a, b| (&b.modified, &a.path_bytes).cmp(&(&a.modified, &b.path_bytes)));
                ours.truncate(limit);
                Ok(())
            },
        )
    }

    /// Whether this machine knows that a note is not there, whatever the shared index says: what leads to it leads nowhere.
    fn is_gone_here(&self, path: &[u8]) -> Result<bool, Failure> {
        Ok(!self.index.contains(path).map_err(index_failure)? && !self.knows_no_better(path)?)
    }

    /// Whether a link stands in a note as this machine has indexed it, with a target that is not indexed yet.
    fn has_unresolved(&self, link: &Backlink) -> Result<bool, Failure> {
        let here = self.index.links(&link.path_bytes).map_err(index_failure)?;
        Ok(here.iter().any(|known| {
            known.resolved_bytes.is_none()
                && (known.line, known.kind, &known.fragment) == (link.line, link.kind, &link.fragment)
        }))
    }

    /// Asks this machine's index, and the shared one too while this one is behind.
    fn both<T>(
        &self,
        here: impl Fn(&Index) -> Result<Vec<T>, notefs_indexer::IndexError>,
        there: impl Fn(&Share) -> Result<Vec<T>, String>,
        merge: impl Fn(&mut Vec<T>, Vec<T>) -> Result<(), Failure>,
    ) -> Result<Both<T>, Failure> {
        self.catch_up();
        let share = self.share.as_ref().filter(|_| !self.behind().is_complete());
        let theirs = share.map(|share| there(share)).transpose();
        let mut rows = here(&self.index).map_err(index_failure)?;
        let (shared, shared_error) = match theirs {
            Ok(Some(theirs)) => {
                merge(&mut rows, theirs)?;
                (true, None)
            }
            Ok(None) => (false, None),
            Err(error) => (false, Some(error)),
        };
        Ok(Both {
            rows,
            shared,
            shared_error,
        })
    }

    /// The rows as they travel.
    pub(super) fn rows<T: Serialize>(&self, both: Both<T>) -> IndexRows {
        IndexRows {
            behind: self.behind(),
            rows: both.rows.iter().map(row).collect(),
            shared: both.shared,
            shared_error: both.shared_error,
        }
    }
}

/// Links that lead nowhere lead where another index has the same target lead.
fn resolve(ours: &mut [Link], theirs: &[Link]) {
    for link in ours.iter_mut().filter(|link| link.resolved_bytes.is_none()) {
        let same = |other: &&Link| other.target == link.target && other.kind == link.kind;
        if let Some(other) = theirs.iter().find(same) {
            link.resolved.clone_from(&other.resolved);
            link.resolved_bytes.clone_from(&other.resolved_bytes);
        }
    }
}

fn merge_tags(ours: Vec<(String, u64)>, theirs: Vec<(String, u64)>) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<String, (String, u64)> = BTreeMap::new();
    for (tag, count) in theirs.into_iter().chain(ours) {
        let known = counts.entry(tag.to_lowercase()).or_insert((tag.clone(), 0));
        *known = (known.0.clone().max(tag), known.1.max(count));
    }
    let mut tags: Vec<(String, u64)> = counts.into_values().collect();
    tags.sort_by(|(one, one_count), (two, two_count)| (two_count, one).cmp(&(one_count, two)));
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_counts_of_a_tag_the_greater_one_counts() {
        let tags = |tags: &[(&str, u64)]| {
            tags.iter()
                .map(|(tag, count)| ((*tag).to_owned(), *count))
                .collect::<Vec<_>>()
        };
        let merged = merge_tags(
            tags(&[("new", 1), ("Todo", 9), ("few", 2)]),
            tags(&[("todo", 7), ("few", 30)]),
        );
        assert_eq!(merged, tags(&[("few", 30), ("todo", 9), ("new", 1)]));
    }
}

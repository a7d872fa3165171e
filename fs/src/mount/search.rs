//! Search: what this machine's index finds, and what the shared one adds while this one has not seen everything.
//!
//! Owns which of two answers counts for a note: what this machine knows of a path is newer than what it was told. Does not own ranking
//! (`notefs_indexer`) nor the way to the shared index (`bridge/share.rs`).

use super::both::Both;
use super::report;
use super::serve::{Desk, POLL_MS, row};
use crate::bridge::index_failure;
use crate::control::protocol::{Answer, Found, Progress};
use crate::control::server::Asker;
use crate::failure::Failure;
use notefs_cache::replica::StoredPath;
use notefs_indexer::{Hit, MAX_HITS};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Hits looked at to find those below one folder.
const HITS_SCANNED_MAX: usize = 10_000;

/// Hits asked for at once.
const HITS_PAGE: usize = 500;

impl Desk {
    /// The hits of these places among all below a folder.
    pub(super) fn search(&self, query: &str, places: Range<usize>, below: &[u8]) -> Result<Answer, Failure> {
        let (both, has_more) = self.found(query, &places, below)?;
        Ok(Answer::Found(Found {
            behind: self.behind(),
            hits: both.rows.iter().map(row).collect(),
            has_more,
            shared: both.shared,
            shared_error: both.shared_error,
        }))
    }

    /// The same as rows, and whether there are more.
    pub(super) fn found(&self, query: &str, places: &Range<usize>, below: &[u8]) -> Result<(Both<Hit>, bool), Failure> {
        self.catch_up();
        let (mut shared, mut shared_error) = (None, None);
        if let Some(share) = self.share.as_ref().filter(|_| !self.behind().is_complete()) {
            // One more than wanted, to know whether there are more.
            let wanted = if below.is_empty() { places.end + 1 } else { HITS_PAGE };
            match share.search(query, wanted.min(MAX_HITS)) {
                Ok(hits) => shared = Some(hits),
                Err(error) => shared_error = Some(error),
            }
        }
        let (rows, has_more) = match &shared {
            None => self.search_here(query, places, below)?,
            Some(theirs) => self.search_both(query, theirs, places, below)?,
        };
        let shared = shared.is_some();
        Ok((
            Both {
                rows,
                shared,
                shared_error,
            },
            has_more,
        ))
    }

    /// What this machine's index finds, and whether there is more.
    fn search_here(&self, query: &str, places: &Range<usize>, below: &[u8]) -> Result<(Vec<Hit>, bool), Failure> {
        let wanted = places.len() + 1;
        let (first, page) = if below.is_empty() {
            (places.start, wanted)
        } else {
            (0, HITS_PAGE)
        };
        let mut skip = places.start - first;
        let mut hits = Vec::new();
        for offset in (first..first.saturating_add(HITS_SCANNED_MAX)).step_by(page) {
            let found = self.index.search(query, page, offset).map_err(index_failure)?;
            let is_last = found.len() < page;
            for hit in found.into_iter().filter(|hit| lies_below(&hit.path_bytes, below)) {
                if skip > 0 {
                    skip -= 1;
                } else {
                    hits.push(hit);
                }
            }
            if is_last || hits.len() >= wanted {
                break;
            }
        }
        let has_more = hits.len() >= wanted;
        hits.truncate(places.len());
        Ok((hits, has_more))
    }

    /// What both find.
    fn search_both(
        &self,
        query: &str,
        theirs: &[Hit],
        places: &Range<usize>,
        below: &[u8],
    ) -> Result<(Vec<Hit>, bool), Failure> {
        let first = 0..if below.is_empty() { places.end } else { HITS_PAGE };
        let (ours, _) = self.search_here(query, &first, below)?;
        let found_here: HashSet<&[u8]> = ours.iter().map(|hit| hit.path_bytes.as_slice()).collect();
        let mut believed = Vec::new();
        for hit in theirs.iter().filter(|hit| lies_below(&hit.path_bytes, below)) {
            if found_here.contains(hit.path_bytes.as_slice()) || self.knows_no_better(&hit.path_bytes)? {
                believed.push(hit.clone());
            }
        }
        let mut hits = merge(ours, believed);
        let has_more = hits.len() > places.end;
        hits.truncate(places.end);
        Ok((hits.split_off(places.start.min(hits.len())), has_more))
    }

    /// Whether this machine knows nothing of a note that it had to be told: what is indexed here, gone or changed is known better.
    pub(super) fn knows_no_better(&self, path: &[u8]) -> Result<bool, Failure> {
        if self.index.contains(path).map_err(index_failure)? {
            return Ok(false);
        }
        let known = self.replica.stored_path(path);
        Ok(!matches!(known, Ok(StoredPath::Gone { .. } | StoredPath::Pending)))
    }

    /// Waits until the shared index knows what is stored.
    pub(super) fn wait_shared(&self, until: Instant, asker: &Asker) -> Result<Answer, Failure> {
        let Some(share) = &self.share else {
            return Err(Failure::new("This mount has no shared index").hint("`notefs mount --index URL` names one"));
        };
        loop {
            let left = Progress {
                left: report::shared(share.status()).behind,
                left_bytes: 0,
            };
            if left.left == 0 || Instant::now() >= until || asker.is_gone() {
                return Ok(Answer::Waited {
                    reached: left.left == 0,
                    left,
                    names: Vec::new(),
                    held: 0,
                });
            }
            asker.progress(left);
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
    }
}

fn lies_below(path: &[u8], below: &[u8]) -> bool {
    below.is_empty() || path.strip_prefix(below).is_some_and(|rest| rest.starts_with(b"/"))
}

/// One list without a path twice: first what only this machine has, then the order of the index that sees more, in which this machine's own
/// hits take the place of those of the same note.
fn merge(ours: Vec<Hit>, theirs: Vec<Hit>) -> Vec<Hit> {
    let told: HashSet<Vec<u8>> = theirs.iter().map(|hit| hit.path_bytes.clone()).collect();
    let (both, mut hits): (Vec<Hit>, Vec<Hit>) = ours.into_iter().partition(|hit| told.contains(&hit.path_bytes));
    let mut both: HashMap<Vec<u8>, Hit> = both.into_iter().map(|hit| (hit.path_bytes.clone(), hit)).collect();
    hits.extend(
        theirs
            .into_iter()
            .map(|hit| both.remove(&hit.path_bytes).unwrap_or(hit)),
    );
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(path: &str, title: &str) -> Hit {
        Hit {
            path: path.to_owned(),
            path_bytes: path.into(),
            title: title.to_owned(),
            snippet: String::new(),
            score: 1.0,
            line: None,
        }
    }

    #[test]
    fn of_two_hits_for_a_note_this_machines_own_counts() {
        let ours = vec![hit("a", "here"), hit("b", "here")];
        let theirs = vec![hit("c", "there"), hit("a", "there")];
        let merged: Vec<_> = merge(ours, theirs)
            .into_iter()
            .map(|hit| (hit.path, hit.title))
            .collect();
        let expected = [("b", "here"), ("c", "there"), ("a", "here")];
        assert_eq!(
            merged,
            expected.map(|(path, title)| (path.to_owned(), title.to_owned()))
        );
    }

    #[test]
    fn a_folder_holds_what_lies_below_it() {
        assert!(lies_below(b"a/b.md", b"a") && lies_below(b"a/b.md", b""));
        assert!(!lies_below(b"ab.md", b"a") && !lies_below(b"a", b"a"));
    }
}

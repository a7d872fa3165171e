//! Looking at the whole bucket, or at one directory that is in use, for what no feed tells of: other tools' writes, and what feeds have forgotten.
//!
//! The lines are compared with the rows page by page, so that a bucket of any size costs little memory: only of what has a row here a hash
//! is kept, to find what has vanished. What gets its row while the listing is read is younger than it, and never judged by it.

use super::Look;
use super::diff::{Verdict, judge};
use super::places::{Placed, Planned, place};
use crate::error::Result;
use crate::replica::{FOREIGN, RESERVED_NAME, Replica};
use crate::state::Remote;
use crate::store::{Listed, ObjectKey, StoreError};
use crate::types::*;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Differences taken up from one listing; the next one finds the rest.
const LOOKS_MAX: usize = 50_000;

/// Objects that have vanished from one listing are asked for one by one up to this many.
const ASKED_FOR_MAX: usize = 256;

/// Rows read under one lock.
const ROWS_PER_STEP: usize = 500;

/// What a complete listing shows of that which is known here: keys, and directories as prefixes with a final `/`.
#[derive(Default)]
pub(super) struct Shown {
    hasher: RandomState,
    hashes: HashSet<u64>,
    /// The directory of the last line, whose prefixes are in already.
    last_directory: String,
}

impl Shown {
    /// Notes a key that is known, if it is, and the directories above it that are.
    fn add(&mut self, key: &str, is_known: &mut impl FnMut(&str) -> Result<bool>) -> Result<()> {
        if is_known(key)? {
            self.hashes.insert(self.hasher.hash_one(key));
        }
        let directory = key.rfind('/').map_or("", |at| &key[..=at]);
        if directory == self.last_directory {
            return Ok(());
        }
        self.last_directory = directory.to_owned();
        for (at, _) in directory.match_indices('/') {
            if is_known(&directory[..=at])? {
                self.hashes.insert(self.hasher.hash_one(&directory[..=at]));
            }
        }
        Ok(())
    }

    fn has(&self, key: &str) -> bool {
        self.hashes.contains(&self.hasher.hash_one(key))
    }
}

/// What a complete listing says beside what is known.
#[derive(Default)]
pub(super) struct Differences {
    pub(super) looks: Vec<Look>,
    /// Objects that are not there any more.
    pub(super) vanished: Vec<Remote>,
    /// Directories of which nothing is there any more.
    pub(super) vanished_directories: Vec<Ino>,
    /// Who told that a key is gone, where somebody did.
    pub(super) origins: HashMap<String, String>,
    /// Pages read.
    pub(super) pages: u64,
    /// What may be half a rename is to wait for its other half.
    pub(super) may_wait: bool,
    /// Since when what has waited already did so (monotonic, ms).
    pub(super) waited: HashMap<String, u64>,
}

impl Replica {
    /// Looks at the whole bucket and brings about what differs, but for what `may_wait` as it may be half a rename; answers how many pages
    /// there were.
    pub(super) async fn look_at_everything(self: &Arc<Self>, may_wait: bool) -> Result<u64> {
        let _reading = self.read_listing();
        let (began, known) = self.view(|tables| Ok((tables.op(), tables.live_inode(ROOT_INO)?.known)))?;
        if !known {
            return Ok(0);
        }
        let mut found = self.compare("", true, began).await?;
        let pages = found.pages;
        found.may_wait = may_wait;
        self.bring_about(found, began).await?;
        Ok(pages)
    }

    /// Looks at the names in one directory alone.
    pub(super) async fn look_at_directory(self: &Arc<Self>, dir: Ino) -> Result<()> {
        let _reading = self.read_listing();
        let place = self.view(|tables| {
            let known = tables.inode(dir)?.is_some_and(|inode| inode.known && inode.nlink > 0);
            Ok((
                tables.op(),
                if known {
                    Some(tables.directory_key(dir)?.key)
                } else {
                    None
                },
            ))
        })?;
        let (began, Some(prefix)) = place else { return Ok(()) };
        let mut found = self.compare(&prefix, false, began).await?;
        found.may_wait = true;
        self.bring_about(found, began).await
    }

    /// What no feed tells may lie in new directories, too. They count as known from the start: so what comes in them is felt, also by who reads
    /// them in the same moment.
    pub(super) async fn look_into(self: &Arc<Self>, made: HashSet<Ino>) -> Result<()> {
        for dir in &made {
            let place = self.view(|tables| {
                let inode = tables.inode(*dir)?.filter(|inode| inode.nlink > 0);
                match inode.filter(|inode| !made.contains(&inode.parent)) {
                    Some(_) => Ok(Some((tables.op(), tables.directory_key(*dir)?.key))),
                    None => Ok(None),
                }
            })?;
            let Some((began, prefix)) = place else { continue };
            let mut found = self.compare(&prefix, true, began).await?;
            found.may_wait = true;
            self.round(found, began).await.1?;
        }
        Ok(())
    }

    /// A listing may be a moment old: where only a few objects have vanished from it, each is asked for.
    fn doubt_few(found: &mut Differences) {
        if found.vanished.len() <= ASKED_FOR_MAX {
            let vanished = std::mem::take(&mut found.vanished);
            let doubts = vanished.into_iter().map(|row| Look::doubt(row.key, FOREIGN));
            found.looks.extend(doubts);
        }
    }

    async fn compare(&self, prefix: &str, recursive: bool, began: u64) -> Result<Differences> {
        let listed = self.compare_pages(prefix, recursive, began).await;
        if let Err(crate::Error::Store(error)) = &listed {
            self.note_health::<()>(&Err(error.clone()));
        }
        let mut found = listed?;
        Replica::doubt_few(&mut found);
        self.note_health(&Ok::<(), StoreError>(()));
        Ok(found)
    }

    async fn compare_pages(&self, prefix: &str, recursive: bool, began: u64) -> Result<Differences> {
        let mut lister = self.store.list(prefix, recursive).await?;
        let (mut shown, mut found) = (Shown::default(), Differences::default());
        while let Some(page) = lister.next_page().await? {
            found.pages += 1;
            for listed in &page {
                shown.add(&listed.key, &mut |key| {
                    Ok(self.view(|tables| tables.remote(key))?.is_some())
                })?;
            }
            let room = LOOKS_MAX.saturating_sub(found.looks.len());
            found
                .looks
                .extend(self.compare_page(&page, began)?.into_iter().take(room));
        }
        self.find_vanished((prefix, recursive), &shown, &mut found, began)?;
        Ok(found)
    }

    fn compare_page(&self, page: &[Listed], began: u64) -> Result<Vec<Look>> {
        let mut looks = Vec::new();
        for listed in page {
            let ours = listed
                .key
                .strip_prefix(RESERVED_NAME)
                .is_some_and(|rest| rest.starts_with('/'));
            if ours || listed.object.is_none() {
                continue;
            }
            let parsed = ObjectKey::parse(listed.key.strip_suffix('/').unwrap_or(&listed.key));
            // What was in its way may be gone by now.
            if self.puller.is_fruitless(listed) && (parsed.is_err() || !self.has_place(&listed.key)?) {
                continue;
            }
            if let Err(problem) = parsed {
                self.skip(&listed.key, problem.to_string(), None)?;
                self.puller.note_fruitless(listed);
                continue;
            }
            let known = self.view(|tables| tables.remote(&listed.key))?;
            let directory = listed.key.ends_with('/');
            let etag = listed.object.as_ref().map(|info| info.etag.0.as_str());
            let verdict = match directory {
                true if known.is_some() => Verdict::Nothing,
                _ => judge(known.as_ref(), etag, began),
            };
            if verdict != Verdict::Nothing {
                looks.push(Look {
                    key: listed.key.clone(),
                    origin: FOREIGN.to_owned(),
                    moved_from: None,
                    info: listed.object.clone(),
                    meta: None,
                    version: 0,
                });
            }
        }
        Ok(looks)
    }

    /// Whether nothing is in the way of a key.
    fn has_place(&self, key: &str) -> Result<bool> {
        let placed = self.view(|tables| place(tables, &mut Planned::default(), key))?;
        Ok(matches!(placed, Placed::At { .. }))
    }

    fn find_vanished(
        &self,
        (prefix, recursive): (&str, bool),
        shown: &Shown,
        found: &mut Differences,
        began: u64,
    ) -> Result<()> {
        let mut after = String::new();
        let mut doubtful = HashSet::new();
        loop {
            let rows = self.view(|tables| tables.remotes_under(prefix, &after, ROWS_PER_STEP))?;
            let Some(last) = rows.last() else { break };
            after = last.key.clone();
            let below = |row: &Remote| recursive || !row.key[prefix.len()..].contains('/');
            for row in rows.into_iter().filter(|row| below(row) && !shown.has(&row.key)) {
                if row.key.ends_with('/') {
                    if row.noted <= began {
                        doubtful.insert(row.ino);
                    }
                } else if judge(Some(&row), None, began) == Verdict::Vanished {
                    found.vanished.push(row);
                }
            }
        }
        // Only a look at everything judges directories: what it doubts is compared with the look before.
        if !recursive || !prefix.is_empty() {
            return Ok(());
        }
        // A machine that deletes a directory's last file writes its marker a moment later: so look twice.
        let before = std::mem::replace(&mut *self.puller.doubtful.lock(), doubtful.clone());
        found.vanished_directories = doubtful.into_iter().filter(|ino| before.contains(ino)).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_shows_keys_and_all_directories_above_them() {
        let mut shown = Shown::default();
        for key in ["a/b/c.md", "a/b/d.md", "a/x", "e/", "f.md"] {
            shown.add(key, &mut |_| Ok(true)).unwrap();
        }
        for key in ["a/", "a/b/", "a/b/c.md", "a/b/d.md", "a/x", "e/", "f.md"] {
            assert!(shown.has(key), "{key}");
        }
        for key in ["a", "a/b", "a/c/", "f.md/", "e/x", "g/"] {
            assert!(!shown.has(key), "{key}");
        }
    }

    #[test]
    fn of_what_is_not_known_nothing_is_kept() {
        let mut shown = Shown::default();
        for number in 0..10_000 {
            let key = format!("folder{number}/note.md");
            shown
                .add(&key, &mut |key| Ok(key == "folder7/" || key == "folder8/note.md"))
                .unwrap();
        }
        assert_eq!(shown.hashes.len(), 2);
        assert!(shown.has("folder7/") && shown.has("folder8/note.md"));
    }
}

//! Learning names from the bucket: a directory is listed when somebody first looks into it.
//!
//! A recursive listing is tried first, for it answers a whole vault in a few pages; a bucket that is too big for that is listed directory by
//! directory. What a listing shows is adopted only where nothing local speaks against it.

use super::Replica;
use super::flights::Flight;
use super::told::{News, ToldDirectory};
use crate::error::{Error, Result};
use crate::feed::tells_nothing;
use crate::push::too_many;
use crate::state::Remote;
use crate::store::{Listed, Lister, ObjectKey, StoreError, StoreErrorKind};
use crate::trash::PREFIX as TRASH_PREFIX;
use crate::types::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) mod adopt;

pub(crate) use adopt::own_name;

/// A vault with at most this many keys is learnt by one recursive listing.
const RECURSIVE_KEYS_MAX: usize = 20_000;

/// Vanished objects that are asked for alone before a listing without very many is believed.
const CONFIRMATIONS_MAX: usize = 8;

/// Objects whose metadata is looked at to find out whether this bucket's objects carry any.
const SAMPLES: usize = 3;

/// A directory's own link count: its name and its `.`.
const LINKS_WITHOUT_FOLDERS: u32 = 2;

/// What is deleted from the bucket while listings of it are being read: their lines are older than that.
#[derive(Default)]
pub(super) struct Deletions {
    listings: u32,
    keys: HashSet<String>,
}

/// A listing being read.
pub(crate) struct Reading<'r>(&'r Replica);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut deletions = self.0.deletions.lock();
        deletions.listings -= 1;
        if deletions.listings == 0 {
            deletions.keys = HashSet::new();
        }
    }
}

impl Replica {
    /// Notes that a key is gone from the bucket; to be called before its row goes.
    pub(crate) fn note_deletion(&self, key: &str) {
        let mut deletions = self.deletions.lock();
        if deletions.listings > 0 {
            deletions.keys.insert(key.to_owned());
        }
    }

    /// Whether our own deletion of a key came after the look that is being brought about.
    pub(super) fn was_deleted_meanwhile(&self, key: &str) -> bool {
        self.deletions.lock().keys.contains(key)
    }

    /// Objects of this bucket do carry metadata.
    pub(crate) fn note_bearing(&self) -> Result<()> {
        self.bears_metadata.store(true, Ordering::Release);
        self.remember("bears_metadata", "1")
    }

    /// Keeps note of deletions for as long as what it returns lives.
    pub(crate) fn read_listing(&self) -> Reading<'_> {
        self.deletions.lock().listings += 1;
        Reading(self)
    }

    /// Whether objects of this bucket may carry metadata that a listing does not show.
    pub(crate) fn bears_metadata(&self) -> bool {
        self.bears_metadata.load(Ordering::Acquire)
    }

    /// Learns the names in a directory, and below it if they are not too many.
    pub(crate) async fn list_directory(self: &Arc<Self>, dir: Ino) -> Result<()> {
        let _flight = self.flights.board(Flight::Listing(dir)).await;
        let known = self.view(|tables| Ok(tables.live_inode(dir)?.known))?;
        if known {
            return Ok(());
        }
        let listed = self.learn_names(dir).await;
        if let Err(Error::Store(error)) = &listed {
            self.note_health::<()>(&Err(error.clone()));
        }
        listed
    }

    /// Lists again what is known already and follows what others changed; at a start with a cache from an earlier run.
    pub(crate) async fn refresh(self: &Arc<Self>) -> Result<()> {
        let _flight = self.flights.board(Flight::Listing(ROOT_INO)).await;
        let known = self.view(|tables| Ok(tables.live_inode(ROOT_INO)?.known))?;
        if !known {
            return Ok(());
        }
        self.learn_names(ROOT_INO).await?;
        self.learn_hinted_directories()
    }

    /// While nothing was mounted here, others may have changed directories that are known, and their feeds may have forgotten it.
    fn learn_hinted_directories(&self) -> Result<()> {
        let hinted: Vec<(String, ToldDirectory)> = {
            let hints = self.hints.lock();
            let directories = hints.iter().filter(|(key, _)| key.ends_with('/'));
            let told = directories.filter_map(|(key, line)| Some((key.clone(), line.directory()?.0)));
            told.collect()
        };
        for (key, told) in hinted {
            let known = self.view(|tables| match tables.remote(&key)? {
                Some(remote) => tables.inode(remote.ino),
                None => Ok(None),
            })?;
            let Some(dir) = known.filter(|inode| inode.is_dir() && inode.nlink > 0) else {
                continue;
            };
            if self.view(|tables| told.news(tables, &dir))? == News::Nothing {
                continue;
            }
            let news = self.change(|op| match op.tables.inode(dir.ino)? {
                Some(mut inode) => told.give(op, &mut inode),
                None => Ok(News::Nothing),
            })?;
            if let Some(observer) = self.observer().filter(|_| news == News::Attributes) {
                observer.inode_changed(dir.ino);
            }
        }
        Ok(())
    }

    async fn learn_names(self: &Arc<Self>, dir: Ino) -> Result<()> {
        if dir == ROOT_INO {
            self.learn_root().await?;
        }
        let _reading = self.read_listing();
        let (prefix, began) = self.view(|tables| Ok((tables.directory_key(dir)?.key, tables.op())))?;
        let mut lister = self.store.list(&prefix, true).await?;
        let (page, complete) = collect(lister.as_mut(), RECURSIVE_KEYS_MAX).await?;
        self.note_health(&Ok::<(), StoreError>(()));
        if dir == ROOT_INO {
            self.look_at_bucket(&page).await?;
        }
        let mut visited = HashSet::from([dir]);
        if complete {
            let seen: HashSet<&str> = page.iter().map(|listed| listed.key.as_str()).collect();
            for listed in &page {
                self.adopt((dir, &prefix), listed, began, &mut visited)?;
            }
            self.drop_vanished(&prefix, &seen, began).await?;
            return self.mark_known(visited);
        }
        drop(page);
        let mut lister = self.store.list(&prefix, false).await?;
        while let Some(page) = lister.next_page().await? {
            for listed in &page {
                self.adopt((dir, &prefix), listed, began, &mut visited)?;
            }
        }
        self.mark_known(HashSet::from([dir]))
    }

    /// Reads the hints, and finds out whether there can be metadata beyond them.
    async fn look_at_bucket(&self, page: &[Listed]) -> Result<()> {
        // Who has only shown itself has stored nothing that bears metadata.
        let mut reserved = page
            .iter()
            .filter(|listed| listed.key.starts_with(super::RESERVED_NAME));
        let ours = reserved.any(|listed| !tells_nothing(listed));
        let hints = if ours {
            self.read_hints().await?
        } else {
            Default::default()
        };
        *self.hints.lock() = hints;
        let mut bears = ours || self.bears_metadata();
        let samples = page
            .iter()
            .filter(|listed| listed.object.is_some())
            .filter_map(|listed| ObjectKey::parse(&listed.key).ok());
        for key in samples.take(SAMPLES) {
            if bears || !self.capabilities.user_metadata {
                break;
            }
            bears = self
                .store
                .head(&key)
                .await?
                .and_then(|info| info.user)
                .is_some_and(|user| !user.is_empty());
        }
        self.bears_metadata.store(bears, Ordering::Release);
        self.remember("bears_metadata", if bears { "1" } else { "0" })
    }

    fn mark_known(&self, directories: HashSet<Ino>) -> Result<()> {
        for dir in directories {
            let links = self.change(|op| {
                let Some(mut inode) = op.tables.inode(dir)?.filter(|inode| inode.is_dir() && !inode.known) else {
                    return Ok(0);
                };
                inode.known = true;
                op.put(&inode);
                Ok(inode.nlink)
            })?;
            // Whoever looked at it before saw fewer folders in it than there are.
            if let Some(observer) = self.observer().filter(|_| links > LINKS_WITHOUT_FOLDERS) {
                observer.inode_changed(dir);
            }
        }
        Ok(())
    }

    /// Objects that we knew and that a complete listing no longer shows are gone, unless they are younger than it.
    async fn drop_vanished(&self, prefix: &str, seen: &HashSet<&str>, began: u64) -> Result<()> {
        let mut after = String::new();
        let (mut vanished, mut known) = (Vec::new(), 0);
        loop {
            let rows = self.view(|tables| tables.remotes_under(prefix, &after, 500))?;
            let Some(last) = rows.last() else { break };
            after = last.key.clone();
            known += rows.len() as u64;
            let older = rows.into_iter().filter(|row| row.noted <= began);
            let gone = older.filter(|row| !row.key.ends_with('/') && !row.etag.is_empty());
            vanished.extend(gone.filter(|row| !seen.contains(row.key.as_str())));
        }
        if too_many(vanished.len() as u64, 0, known) {
            self.confirm_vanished(prefix, &vanished).await?;
        }
        vanished.iter().try_for_each(|row| self.object_vanished(row))
    }

    /// A listing that lacks a large share of what was there is not believed before some of it was asked for alone.
    async fn confirm_vanished(&self, prefix: &str, vanished: &[Remote]) -> Result<()> {
        for row in vanished
            .iter()
            .step_by(vanished.len().div_ceil(CONFIRMATIONS_MAX).max(1))
        {
            let Ok(key) = ObjectKey::parse(&row.key) else { continue };
            if self.store.head(&key).await?.is_some() {
                return Err(Error::Store(StoreError {
                    kind: StoreErrorKind::Garbled,
                    operation: "list",
                    target: format!("{}/{prefix}", self.store.name()),
                    message: format!(
                        "{} objects are missing from the listing, but {key} is there",
                        vanished.len()
                    ),
                    advice: "Nothing was removed; `notefs doctor` tries what the store keeps".to_owned(),
                    retryable: true,
                }));
            }
        }
        Ok(())
    }
}

/// Reads pages until the end, or until there are too many lines.
async fn collect(lister: &mut dyn Lister, keys_max: usize) -> Result<(Vec<Listed>, bool), StoreError> {
    let mut all = Vec::new();
    while let Some(page) = lister.next_page().await? {
        // The trash is nobody's folder, and may be larger than the vault.
        all.extend(page.into_iter().filter(|listed| !listed.key.starts_with(TRASH_PREFIX)));
        if all.len() > keys_max {
            return Ok((all, false));
        }
    }
    Ok((all, true))
}

//! Keeping the cache under its limit: least recently used first, only what the bucket surely has, and pinned content last.

use super::Replica;
use super::content::is_stored;
use crate::error::Result;
use crate::state::{Mutation, Place};
use crate::types::Ino;
use std::sync::atomic::Ordering;

/// Contents looked at in one round, so that a cache full of unsaved work costs little.
const LOOKED_AT_MAX: usize = 512;

impl Replica {
    /// Drops clean contents until the cache is under its limit, or until all that is left is owed, pinned or in use; pinned contents only
    /// where they, with what is owed, are more than the cache may hold. `keep` was just fetched for somebody who has not seen it yet.
    pub(crate) fn evict(&self, keep: Option<Ino>) {
        for pinned in [false, true] {
            let (all, excess) = {
                let tables = self.state.lock();
                let unmovable_bytes = tables.kept_bytes() + tables.dirty_bytes;
                (
                    tables.local_count(pinned),
                    unmovable_bytes > self.options.cache_size_bytes,
                )
            };
            if pinned && !excess {
                return;
            }
            for _ in 0..all.min(LOOKED_AT_MAX) {
                match self.evict_next(pinned, keep) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(%error, "Could not evict a file from the cache");
                        return;
                    }
                }
            }
            if all > LOOKED_AT_MAX {
                return;
            }
        }
    }

    /// Looks at one content; `false`: there is room again.
    fn evict_next(&self, pinned: bool, keep: Option<Ino>) -> Result<bool> {
        let candidate = {
            let mut tables = self.state.lock();
            if tables.local_bytes <= self.options.cache_size_bytes {
                return Ok(false);
            }
            tables.longest_unused(pinned)
        };
        let Some((ino, _)) = candidate.filter(|(ino, _)| Some(*ino) != keep) else {
            return Ok(candidate.is_some());
        };
        if !pinned && self.is_pinned(ino)? {
            self.state.lock().keep(ino);
            return Ok(true);
        }
        self.evict_one(ino)?;
        Ok(true)
    }

    fn evict_one(&self, ino: Ino) -> Result<()> {
        let Some(_exclusive) = self.stripe(ino).try_write() else {
            return Ok(());
        };
        let blob = self.change(|op| {
            let Some(mut inode) = op.tables.inode(ino)? else {
                return Ok(false);
            };
            if !is_stored(op.tables, &inode)? || op.tables.dirty.contains_key(&ino) {
                return Ok(false);
            }
            let blob = inode.place == Place::Blob;
            op.push(Mutation::DropContent(ino));
            if blob {
                op.push(Mutation::DropPresent(ino));
            }
            inode.place = Place::Nowhere;
            inode.base_version = inode.content_version;
            op.put(&inode);
            self.evictions.fetch_add(1, Ordering::Relaxed);
            Ok(blob)
        })?;
        self.remove_blob(blob.then_some(ino));
        Ok(())
    }
}

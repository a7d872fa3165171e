//! Keeping the cache under its limit: least recently used first, and only what the bucket surely has.

use super::Replica;
use super::content::is_stored;
use crate::error::Result;
use crate::state::{Mutation, Place};
use crate::types::Ino;
use std::sync::atomic::Ordering;

/// Contents looked at in one round, so that a cache full of unsaved work costs little.
const LOOKED_AT_MAX: usize = 512;

impl Replica {
    /// Drops clean contents until the cache is under its limit, or until all that is left is owed or in use. `keep` was just fetched for
    /// somebody who has not seen it yet.
    pub(crate) fn evict(&self, keep: Option<Ino>) {
        for _ in 0..LOOKED_AT_MAX {
            let candidate = {
                let mut tables = self.state.lock();
                if tables.local_bytes <= self.options.cache_size_bytes {
                    return;
                }
                let Some(ino) = tables.local.peek_lru().map(|(ino, _)| *ino) else {
                    return;
                };
                tables.local.promote(&ino);
                ino
            };
            if Some(candidate) == keep {
                continue;
            }
            if let Err(error) = self.evict_one(candidate) {
                tracing::warn!(ino = candidate, %error, "Could not evict a file from the cache");
                return;
            }
        }
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

//! Directories in the bucket: a marker while they are empty, nothing while they are not, and no trace when they are gone.

use super::keys::resolve_key;
use super::run::parse;
use crate::error::Result;
use crate::replica::Replica;
use crate::state::{Mutation, Remote};
use crate::types::{Ino, ROOT_INO};
use std::sync::Arc;

/// How long a directory waits for the objects below it to be deleted.
const CHILDREN_FIRST_MS: u64 = 100;

/// Says of a marker that it was written, where an implied directory has no ETag at all.
const WRITTEN: &str = "marker";

impl Replica {
    pub(super) async fn push_directory(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let keys = self.directory_keys_of(ino)?;
        let Some(_guard) = self.hold_keys(keys.clone()) else {
            self.postpone(ino, CHILDREN_FIRST_MS);
            return Ok(());
        };
        if self.directory_keys_of(ino)? != keys {
            return Ok(());
        }
        if self.view(|tables| tables.is_kept_here(ino))? {
            return self.settle_kept(ino).await;
        }
        let (wanted, empty, mine) = self.view(|tables| {
            let inode = tables.inode(ino)?.filter(|inode| inode.nlink > 0 && ino != ROOT_INO);
            let wanted = match inode {
                Some(_) => Some(tables.directory_key(ino)?.key.to_string()),
                None => None,
            };
            Ok((wanted, !tables.shows_children(ino, None)?, tables.remotes_of(ino)?))
        })?;
        if let Some(key) = &wanted {
            let there = mine.iter().find(|remote| remote.key == *key);
            let marked = there.is_some_and(|remote| remote.etag == WRITTEN);
            if there.is_none() {
                self.note_directory(ino, key, "")?;
                if !mine.is_empty() {
                    self.renew_directory(ino)?;
                }
                self.synced().await?;
            }
            if empty && !marked {
                // A deletion that is still on its way would take it.
                let wait_ms = self.late_deletion_wait_ms(key)?;
                if wait_ms > 0 {
                    self.postpone(ino, wait_ms);
                    return Ok(());
                }
                let marker = self.store.put_marker(&parse(key.trim_end_matches('/'))?).await;
                self.note_health(&marker);
                marker?;
                self.note_directory(ino, key, WRITTEN)?;
            }
        }
        self.synced_inode(ino).await?;
        let mut waits = false;
        for remote in mine.iter().filter(|remote| Some(&remote.key) != wanted.as_ref()) {
            waits |= !self.remove_marker(ino, remote).await?;
        }
        self.pusher.hints.owe();
        let told = self.tell_directory(ino, wanted.as_deref())?;
        if waits {
            self.postpone(ino, CHILDREN_FIRST_MS);
            return Ok(());
        }
        self.change(|op| {
            let inode = op.tables.inode(ino)?;
            if inode.as_ref().map(|inode| inode.meta_version) != told {
                return Ok(());
            }
            let now = match inode.filter(|inode| inode.nlink > 0 && ino != ROOT_INO) {
                Some(_) => Some(op.tables.directory_key(ino)?.key.to_string()),
                None => None,
            };
            if now == wanted && (now.is_none() || op.tables.shows_children(ino, None)? != empty) {
                op.push(Mutation::ClearDirty(ino));
            }
            Ok(())
        })
    }

    /// The bucket is to know nothing of it.
    async fn settle_kept(&self, ino: Ino) -> Result<()> {
        self.synced_inode(ino).await?;
        self.change(|op| {
            if op.tables.is_kept_here(ino)? {
                op.push(Mutation::ClearDirty(ino));
            }
            Ok(())
        })
    }

    /// Its mode and owner have no object that could bring them to others. Answers the version of them that is told.
    fn tell_directory(&self, ino: Ino, key: Option<&str>) -> Result<Option<u64>> {
        let inode = self.view(|tables| tables.inode(ino))?;
        if let (Some(inode), Some(key)) = (&inode, key) {
            self.tell_written(inode, key, "", None)?;
        }
        Ok(inode.map(|inode| inode.meta_version))
    }

    /// A directory above it was renamed: others may know an older directory of this one's new name.
    fn renew_directory(&self, ino: Ino) -> Result<()> {
        self.change(|op| {
            if let Some(mut inode) = op.tables.inode(ino)? {
                inode.renew_meta(op.now);
                op.put(&inode);
            }
            Ok(())
        })
    }

    fn directory_keys_of(&self, ino: Ino) -> Result<Vec<String>> {
        self.view(|tables| {
            let mut keys: Vec<String> = tables.remotes_of(ino)?.into_iter().map(|remote| remote.key).collect();
            if tables.inode(ino)?.is_some_and(|inode| inode.nlink > 0) && ino != ROOT_INO {
                keys.push(tables.directory_key(ino)?.key.to_string());
            }
            keys.sort_unstable();
            keys.dedup();
            Ok(keys)
        })
    }

    /// Removes what is left of a directory under an old key; `false` if there are still objects below, or if another directory of that
    /// key is about to take it over.
    async fn remove_marker(self: &Arc<Self>, ino: Ino, remote: &Remote) -> Result<bool> {
        let waits = self.view(|tables| {
            let other = resolve_key(tables, &remote.key)?.filter(|other| *other != ino);
            let taken = match other {
                Some(other) => tables.inode(other)?.is_some_and(|inode| inode.is_dir()),
                None => false,
            };
            Ok(taken || !tables.remotes_under(&remote.key, &remote.key, 1)?.is_empty())
        })?;
        if waits {
            return Ok(false);
        }
        if remote.etag == WRITTEN {
            // Without an answer nobody knows whether it is there: a directory that gets this name back writes it again.
            self.note_directory(ino, &remote.key, "")?;
            self.synced().await?;
        }
        let gone = self
            .store
            .delete_marker(&parse(remote.key.trim_end_matches('/'))?)
            .await;
        self.note_health(&gone);
        if let Err(error) = gone {
            self.note_deletion_asked(ino, &remote.key);
            return Err(error.into());
        }
        self.pusher.deletions_tried.lock().remove(&remote.key);
        self.note_deletion(&remote.key);
        self.tell_gone(ino, &remote.key);
        self.change(|op| {
            if op.tables.remote(&remote.key)?.is_some_and(|now| now.ino == ino) {
                op.push(Mutation::DropRemote(remote.key.clone()));
            }
            Ok(())
        })?;
        Ok(true)
    }

    fn note_directory(&self, ino: Ino, key: &str, etag: &str) -> Result<()> {
        self.change(|op| {
            let remote = Remote {
                key: key.to_owned(),
                ino,
                etag: etag.to_owned(),
                content_version: 1,
                meta_version: 1,
                noted: 0,
            };
            op.push(Mutation::PutRemote(remote));
            Ok(())
        })
    }
}

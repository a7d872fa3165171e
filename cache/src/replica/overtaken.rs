//! A file whose object is not the one that the ledger knows: what the store's answer about it does to the file.
//!
//! Owns what becomes of names, content and row when an object was met changed or gone while something else was asked for. Does not own
//! changes that are looked for (`pull`, `replica/effect.rs`), nor what is owed (`push`).

use super::Replica;
use super::content::is_stored;
use super::op::Op;
use super::replaced::is_whole;
use crate::error::Result;
use crate::push::{is_replaced, lies_elsewhere};
use crate::state::{Dentry, Inode, LoggedChange, Mutation, Place, Remote};
use crate::store::ObjectInfo;
use crate::types::*;

impl Replica {
    /// The object may be what another file of this replica has stored there without an answer: then the row is that one's, and says nothing of
    /// this file any more. `false`: it is not.
    pub(super) fn hand_over(&self, known: &Remote, info: &ObjectInfo) -> Result<bool> {
        let writer = self.writer_of(info, &known.key, None)?;
        let Some(writer) = writer.filter(|ino| *ino != known.ino) else {
            return Ok(false);
        };
        self.change(|op| {
            let now = op.tables.remote(&known.key)?;
            if now.is_some_and(|now| now.ino == known.ino && now.etag == known.etag) {
                op.push(Mutation::PutRemote(Remote {
                    key: known.key.clone(),
                    ino: writer,
                    etag: info.etag.0.clone(),
                    content_version: 0,
                    meta_version: 0,
                    noted: 0,
                }));
                op.owe(writer);
                op.owe(known.ino);
            }
            Ok(())
        })?;
        Ok(true)
    }

    /// Somebody else wrote the object, and a program's own request has found it: it is felt, too.
    pub(super) fn adopt_changed(&self, known: &Remote, info: &ObjectInfo) -> Result<()> {
        let followed = self.object_changed(known, info)?;
        if let Some(replica) = self.me.upgrade().filter(|_| followed) {
            replica.feel_adopted(known, info);
        }
        Ok(())
    }

    /// Somebody else wrote the object. A content that was not changed here follows; another stays, and its upload will find out. Tells which.
    pub(crate) fn object_changed(&self, known: &Remote, info: &ObjectInfo) -> Result<bool> {
        if self.hand_over(known, info)? {
            return Ok(false);
        }
        let _exclusive = self.stripe(known.ino).write();
        let Some(had_blob) = self.change(|op| self.follow_object(op, known, info))? else {
            return Ok(false);
        };
        self.remove_blob(had_blob.then_some(known.ino));
        drop(_exclusive);
        if let Some(observer) = self.observer() {
            observer.inode_changed(known.ino);
        }
        Ok(true)
    }

    /// Answers whether the content that goes was in a blob; `None`: the file stays as it is.
    fn follow_object(&self, op: &mut Op<'_>, known: &Remote, info: &ObjectInfo) -> Result<Option<bool>> {
        let Some(mut inode) = op.tables.inode(known.ino)? else {
            return Ok(None);
        };
        let now = op.tables.remote(&known.key)?;
        let current = now.is_some_and(|now| now.ino == known.ino && now.etag == known.etag);
        let owed = op.tables.dirty.contains_key(&inode.ino);
        if !current || !is_stored(op.tables, &inode)? || owed && !follows(op, &inode, &known.key)? {
            return Ok(None);
        }
        let had_blob = inode.place == Place::Blob;
        op.push(Mutation::DropContent(inode.ino));
        op.push(Mutation::DropPresent(inode.ino));
        inode.content_version += 1;
        inode.meta_version += 1;
        inode.base_version = inode.content_version;
        inode.place = Place::Nowhere;
        inode.size = if inode.kind == FileKind::File { info.size } else { 0 };
        inode.ctime = op.now;
        if !owed {
            inode.mtime = info.last_modified;
            inode.known = !self.bears_metadata();
        }
        op.push(Mutation::PutRemote(Remote {
            etag: info.etag.0.clone(),
            content_version: inode.content_version,
            meta_version: if owed { 0 } else { inode.meta_version },
            ..known.clone()
        }));
        op.put(&inode);
        op.log(LoggedChange::Content(inode.ino));
        Ok(Some(had_blob))
    }

    /// Somebody else deleted the object. A clean file goes, with its blob; one with changes of its own stays and will be stored anew.
    pub(crate) fn object_vanished(&self, known: &Remote) -> Result<()> {
        self.note_deletion(&known.key);
        let _exclusive = self.stripe(known.ino).write();
        let (names, blob) = self.change(|op| self.lose_object(op, known))?;
        self.remove_blob(blob);
        drop(_exclusive);
        if let Some(observer) = self.observer() {
            names
                .iter()
                .for_each(|name| observer.entry_changed(name.parent, &name.name));
        }
        Ok(())
    }

    /// Answers the names that went, and a blob to remove.
    fn lose_object(&self, op: &mut Op<'_>, known: &Remote) -> Result<(Vec<Dentry>, Option<Ino>)> {
        let now = op.tables.remote(&known.key)?;
        if now.is_none_or(|now| now.etag != known.etag) {
            return Ok((Vec::new(), None));
        }
        op.push(Mutation::DropRemote(known.key.clone()));
        let owed = op.tables.dirty.contains_key(&known.ino);
        let Some(mut inode) = op.tables.inode(known.ino)?.filter(|_| !owed) else {
            return Ok((Vec::new(), None));
        };
        let mut gone = Vec::new();
        for name in op.tables.names_of(inode.ino)? {
            if op.tables.key_of(&name)?.is_ok_and(|key| key.as_str() == known.key) {
                let path = op.tables.path_of(name.parent, &name.name)?;
                op.log(LoggedChange::Gone(path));
                op.push(Mutation::DropDentry {
                    parent: name.parent,
                    name: name.name.clone(),
                });
                inode.nlink = inode.nlink.saturating_sub(1);
                gone.push(name);
            }
        }
        if inode.nlink > 0 || self.references.lock().contains_key(&inode.ino) {
            op.put(&inode);
            return Ok((gone, None));
        }
        op.push(Mutation::DropInode(inode.ino));
        Ok((gone, (inode.place == Place::Blob).then_some(inode.ino)))
    }
}

/// Whether a file that owes something takes what somebody has stored: what it owes may be metadata alone, then nothing of this machine's is lost
/// with the old content.
fn follows(op: &mut Op<'_>, inode: &Inode, key: &str) -> Result<bool> {
    if inode.base_version != inode.content_version {
        return Ok(false);
    }
    // Where bytes are missing nothing else can be, since they are fetched before another file of ours is written there.
    let whole = is_whole(op.tables, inode)?;
    if has_key(op, inode, key)? {
        // What is there may be built upon another file of ours, which had this name for a while, or be made anew: the push finds out.
        return match whole {
            true => Ok(!op.tables.is_in_doubt(key, inode.ino)),
            false => Ok(!op.tables.was_deletion_tried(key) || !lies_elsewhere(op.tables, inode, key)?),
        };
    }
    // For a file that has left the key, it may be for the file that has taken its place, or be of that one.
    Ok(!whole && !is_replaced(op.tables, inode.ino, key)? && !has_arrived(op, inode)?)
}

/// Whether what was stored elsewhere is stored under the file's own name by now: then its other objects are on their way out, and what comes
/// there is another file, or an edit that the deletion meets.
fn has_arrived(op: &mut Op<'_>, inode: &Inode) -> Result<bool> {
    for remote in op.tables.remotes_of(inode.ino)? {
        let holds = remote.content_version == inode.content_version && !remote.etag.is_empty();
        if holds && has_key(op, inode, &remote.key)? && !op.tables.is_in_doubt(&remote.key, inode.ino) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_key(op: &mut Op<'_>, inode: &Inode, key: &str) -> Result<bool> {
    for name in op.tables.names_of(inode.ino)? {
        if op.tables.key_of(&name)?.is_ok_and(|of| of.as_str() == key) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{INLINE_BYTES_MAX, Options};
    use crate::store::{MemoryStore, UserMetadata};
    use std::sync::Arc;
    use std::time::Duration;

    /// How long a removal that does not wait for the writer is given to show.
    const HASTE_MS: u64 = 200;

    /// A file whose content is in a blob here.
    fn read_large(test: impl AsyncFnOnce(Arc<Replica>, Arc<MemoryStore>, Remote)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("overtaken"));
            store.raw_put("large", vec![b'x'; INLINE_BYTES_MAX as usize + 1], UserMetadata::new());
            let options = Options {
                cache_dir: dir.path().join("cache"),
                cache_size_bytes: 10 << 20,
                write_back: Duration::from_secs(600),
                poll: None,
                stores_litter: false,
                read_only: false,
                default_uid: 0,
                default_gid: 0,
                host: "a".to_owned(),
                remote_deadline: Duration::from_secs(60),
                clock: Arc::new(crate::clock::SystemClock::default()),
            };
            let replica = Replica::open(options, store.clone(), tokio::runtime::Handle::current()).unwrap();
            replica.list_directory(ROOT_INO).await.unwrap();
            let known = replica.view(|tables| tables.remote("large")).unwrap().unwrap();
            replica.fetch_whole(known.ino).await.unwrap();
            assert!(replica.blobs.exists(known.ino), "a large file's content is in a blob");
            test(replica, store, known).await;
        });
    }

    /// A write between the change and the removal of the old blob would put its bytes into a blob that then goes.
    #[test]
    fn a_blob_does_not_go_while_its_file_is_written_to() {
        read_large(async |replica, store, known| {
            store.raw_put("large", vec![b'y'; INLINE_BYTES_MAX as usize + 2], UserMetadata::new());
            let key = crate::store::ObjectKey::parse("large").unwrap();
            let info = replica.store.head(&key).await.unwrap().unwrap();
            let writer = replica.stripe(known.ino).write();
            let (other, row) = (Arc::clone(&replica), known.clone());
            let change = std::thread::spawn(move || other.object_changed(&row, &info));
            std::thread::sleep(Duration::from_millis(HASTE_MS));
            assert!(replica.blobs.exists(known.ino), "somebody is writing");
            drop(writer);
            change.join().unwrap().unwrap();
            assert!(!replica.blobs.exists(known.ino), "the old content is of no use");
        });
    }

    #[test]
    fn the_blob_of_a_file_that_vanished_goes_at_once() {
        read_large(async |replica, store, known| {
            store.raw_delete("large");
            replica.refresh().await.unwrap();
            let gone = replica.view(|tables| tables.inode(known.ino)).unwrap();
            assert!(gone.is_none(), "the listing does not show it");
            assert!(!replica.blobs.exists(known.ino), "nor is its content here");
        });
    }
}

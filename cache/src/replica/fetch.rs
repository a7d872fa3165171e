//! Bringing content from the bucket: whole while it is small, by ranges with read-ahead when it is large.

use super::content::is_stored;
use super::flights::Flight;
use super::replaced::is_whole;
use super::{INLINE_BYTES_MAX, Op, Replica};
use crate::blob::ranges;
use crate::error::{Error, Need, Result};
use crate::push::is_replaced;
use crate::state::{Inode, LoggedChange, Mutation, Place, Remote};
use crate::store::{ETag, ObjectInfo, ObjectKey, in_front};
use crate::types::*;
use std::borrow::Cow;
use std::sync::Arc;

/// An object that is always another one than asked for is given up for now after so many tries.
const FETCHES_IN_VAIN_MAX: u32 = 3;

/// Fetches of large files begin at multiples of this.
const ALIGNMENT_BYTES: u64 = 1 << 20;

impl Replica {
    /// Brings what an operation said it needs. Concurrent calls for the same thing share one request.
    /// Fails with the store's error, or after `Options::remote_deadline`.
    pub async fn satisfy(&self, need: Need) -> Result<()> {
        let replica = self.me.upgrade().ok_or(Error::Posix(libc::EIO))?;
        if let Need::Room { ino, size_bytes } = need {
            return replica.wait_for_room(ino, size_bytes).await;
        }
        let work = async {
            match need {
                Need::Listing(dir) => replica.list_directory(dir).await,
                Need::Metadata(ino) => replica.fetch_metadata(ino).await,
                Need::Content {
                    ino,
                    offset,
                    length_bytes,
                } => replica.fetch_content(ino, offset, length_bytes).await,
                Need::Room { .. } => Ok(()),
            }
        };
        match tokio::time::timeout(self.options.remote_deadline, in_front(work)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Error::Posix(libc::EIO)),
        }
    }

    /// Makes every byte of an inode local: before it is uploaded, and before its only object is overwritten.
    pub(crate) async fn fetch_whole(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let (mut last, mut in_vain) = (None, 0);
        loop {
            let gap = self.view(|tables| {
                let Some(inode) = tables.inode(ino)? else {
                    return Ok(None);
                };
                let present = match inode.place {
                    Place::Inline => vec![(0, inode.size)],
                    Place::Blob => tables.present(ino)?,
                    Place::Nowhere => Vec::new(),
                };
                Ok(ranges::first_gap(&present, 0, inode.size))
            })?;
            let Some((start, end)) = gap else { return Ok(()) };
            in_vain = if last == gap { in_vain + 1 } else { 0 };
            if in_vain > FETCHES_IN_VAIN_MAX {
                return Err(Error::Posix(libc::EAGAIN));
            }
            last = gap;
            self.fetch_content(ino, start, end - start).await?;
        }
    }

    async fn fetch_content(self: &Arc<Self>, ino: Ino, offset: u64, length: u64) -> Result<()> {
        let _flight = self.flights.board(Flight::Content(ino)).await;
        let (inode, source) = self.view(|tables| {
            let inode = tables.live_inode(ino)?;
            let source = tables
                .remotes_of(ino)?
                .into_iter()
                .find(|remote| remote.content_version == inode.base_version);
            Ok((inode, source))
        })?;
        if inode.size == 0 || inode.place == Place::Inline {
            return Ok(());
        }
        let Some(source) = source else {
            tracing::error!(ino, "A file's content is neither here nor in the bucket");
            return Err(Error::Posix(libc::EIO));
        };
        if inode.size <= INLINE_BYTES_MAX && inode.place == Place::Nowhere {
            self.fetch_small(&inode, &source).await
        } else {
            self.fetch_range(&inode, &source, offset, length).await
        }
    }

    async fn fetch_small(&self, inode: &Inode, source: &Remote) -> Result<()> {
        let key = key_of(source)?;
        let got = self.store.get(&key, None, Some(&ETag(source.etag.clone()))).await;
        self.note_health(&got);
        let Some(object) = got?.filter(|object| object.bytes.len() as u64 == inode.size) else {
            return self.look_again(source).await;
        };
        self.change(|op| {
            let Some(mut now) = op.tables.inode(inode.ino)? else {
                return Ok(());
            };
            if now.place != Place::Nowhere || now.base_version != inode.base_version || now.size != inode.size {
                return Ok(());
            }
            op.push(Mutation::PutContent {
                ino: now.ino,
                bytes: Cow::Owned(object.bytes.to_vec()),
            });
            now.place = Place::Inline;
            op.put(&now);
            Ok(())
        })?;
        self.make_room_for(inode.ino);
        Ok(())
    }

    async fn fetch_range(&self, inode: &Inode, source: &Remote, offset: u64, length: u64) -> Result<()> {
        let key = key_of(source)?;
        let start = offset / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
        let window = self
            .flights
            .window(inode.ino, offset)
            .max(length.min(8 * ALIGNMENT_BYTES));
        let end = (start + window).next_multiple_of(ALIGNMENT_BYTES).min(inode.size);
        let present = self.view(|tables| tables.present(inode.ino))?;
        // Only the gap: what lies behind it may be local and longer than the object.
        let Some((start, end)) = ranges::first_gap(&present, start, end) else {
            return Ok(());
        };
        let _turn = self.transfers.turn(end - start).await;
        let got = self
            .store
            .get(&key, Some(start..end), Some(&ETag(source.etag.clone())))
            .await;
        self.note_health(&got);
        let Some(object) = got?.filter(|object| object.bytes.len() as u64 == end - start) else {
            return self.look_again(source).await;
        };
        self.check_space(end - start)?;
        let _exclusive = self.stripe(inode.ino).write();
        let (mut present, now) = self.view(|tables| Ok((tables.present(inode.ino)?, tables.inode(inode.ino)?)))?;
        let Some(now) = now.filter(|now| now.base_version == inode.base_version) else {
            return Ok(());
        };
        for (from, to) in ranges::gaps(&present, start, end.min(now.size)) {
            self.blobs.write(
                now.ino,
                from,
                &object.bytes[(from - start) as usize..(to - start) as usize],
            )?;
            ranges::add(&mut present, from, to);
        }
        if self.view(|tables| Ok(tables.dirty.contains_key(&inode.ino)))? {
            // What is owed is never fetched again, so these bytes must be on the disk before the row that says so.
            self.blobs.sync_one(inode.ino)?;
        }
        self.change(|op| {
            let mut now = op.tables.live_inode(now.ino)?;
            op.push(Mutation::PutPresent {
                ino: now.ino,
                ranges: present,
            });
            if now.place != Place::Blob {
                now.place = Place::Blob;
                op.put(&now);
            }
            Ok(())
        })?;
        drop(_exclusive);
        self.make_room_for(inode.ino);
        Ok(())
    }

    fn make_room_for(&self, ino: Ino) {
        if self.state.lock().local_bytes > self.options.cache_size_bytes {
            self.evict(Some(ino));
        }
    }

    /// The object is not the one we knew: find out what it is now.
    async fn look_again(&self, source: &Remote) -> Result<()> {
        let key = key_of(source)?;
        let head = self.store.head(&key).await;
        self.note_health(&head);
        match head? {
            Some(info) if info.etag.0 == source.etag => {
                tracing::error!(key = source.key, "The store's answer does not have the object's length");
                Err(Error::Posix(libc::EIO))
            }
            Some(info) if self.is_replaced(source.ino, &source.key)? => {
                self.recover_replaced(source, &info).await.map(drop)
            }
            Some(info) => self.object_changed(source, &info),
            None => self.object_vanished(source),
        }
    }

    /// Somebody else wrote the object. A content that was not changed here follows; another stays, and its upload will find out.
    pub(crate) fn object_changed(&self, known: &Remote, info: &ObjectInfo) -> Result<()> {
        let followed = self.change(|op| {
            let Some(mut inode) = op.tables.inode(known.ino)? else {
                return Ok(false);
            };
            let current = op
                .tables
                .remote(&known.key)?
                .is_some_and(|remote| remote.etag == known.etag);
            // What is owed may be metadata alone: then nothing of this machine's is lost with the old content. A file that has left the key is
            // another matter: what is there may be for the file that has taken its place, or be of that one. Where bytes are missing it is
            // not, since they are fetched before ours is written.
            let owed = op.tables.dirty.contains_key(&inode.ino);
            let follows = !owed
                || has_key(op, &inode, &known.key)?
                || !is_replaced(op.tables, inode.ino, &known.key)? && !is_whole(op.tables, &inode)?;
            let untouched = inode.base_version == inode.content_version && follows;
            if !current || !is_stored(op.tables, &inode)? || owed && !untouched {
                return Ok(false);
            }
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
            let etag = info.etag.0.clone();
            let (content_version, meta_version) = (inode.content_version, if owed { 0 } else { inode.meta_version });
            op.push(Mutation::PutRemote(Remote {
                etag,
                content_version,
                meta_version,
                ..known.clone()
            }));
            op.put(&inode);
            op.log(LoggedChange::Content(inode.ino));
            Ok(true)
        })?;
        if followed {
            self.blobs.remove(known.ino);
            if let Some(observer) = self.observer() {
                observer.inode_changed(known.ino);
            }
            return Ok(());
        }
        Ok(())
    }

    /// Somebody else deleted the object. A clean file goes; one with changes of its own stays and will be stored anew.
    pub(crate) fn object_vanished(&self, known: &Remote) -> Result<()> {
        self.note_deletion(&known.key);
        let names = self.change(|op| {
            let still = op
                .tables
                .remote(&known.key)?
                .is_some_and(|remote| remote.etag == known.etag);
            if !still {
                return Ok(Vec::new());
            }
            op.push(Mutation::DropRemote(known.key.clone()));
            let Some(mut inode) = op.tables.inode(known.ino)? else {
                return Ok(Vec::new());
            };
            if op.tables.dirty.contains_key(&inode.ino) {
                return Ok(Vec::new());
            }
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
            if inode.nlink == 0 && !self.references.lock().contains_key(&inode.ino) {
                op.push(Mutation::DropInode(inode.ino));
            } else {
                op.put(&inode);
            }
            Ok(gone)
        })?;
        if let Some(observer) = self.observer() {
            names
                .iter()
                .for_each(|name| observer.entry_changed(name.parent, &name.name));
        }
        Ok(())
    }
}

fn has_key(op: &mut Op<'_>, inode: &Inode, key: &str) -> Result<bool> {
    for name in op.tables.names_of(inode.ino)? {
        if op.tables.key_of(&name)?.is_ok_and(|of| of.as_str() == key) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The key of a row of the ledger.
pub(super) fn key_of(remote: &Remote) -> Result<ObjectKey> {
    ObjectKey::parse(&remote.key).map_err(|problem| Error::Unusable(format!("{}: {problem}", remote.key)))
}

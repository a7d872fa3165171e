//! Bringing content from the bucket: whole while it is small, by ranges with read-ahead when it is large.

use super::flights::Flight;
use super::{INLINE_BYTES_MAX, Replica};
use crate::blob::ranges;
use crate::error::{Error, Need, Result};
use crate::push::is_replaced;
use crate::state::{Inode, Mutation, Place, Remote, Tables};
use crate::store::{ETag, ObjectKey, in_front};
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
        let (inode, sources) = self.view(|tables| {
            let inode = tables.live_inode(ino)?;
            let sources = sources_of(tables, &inode)?;
            Ok((inode, sources))
        })?;
        if inode.size == 0 || inode.place == Place::Inline {
            return Ok(());
        }
        let Some(first) = sources.first() else {
            tracing::error!(ino, "A file's content is neither here nor in the bucket");
            return Err(Error::Posix(libc::EIO));
        };
        for source in &sources {
            let fetched = if inode.size <= INLINE_BYTES_MAX && inode.place == Place::Nowhere {
                self.fetch_small(&inode, &source.remote).await?
            } else {
                self.fetch_range(&inode, &source.remote, offset, length).await?
            };
            if fetched {
                return Ok(());
            }
            if !source.doubtful && !source.left {
                return self.look_again(&source.remote).await;
            }
        }
        self.look_again(&first.remote).await
    }

    /// `false`: another object is there.
    async fn fetch_small(&self, inode: &Inode, source: &Remote) -> Result<bool> {
        let key = key_of(source)?;
        let got = self.store.get(&key, None, Some(&ETag(source.etag.clone()))).await;
        self.note_health(&got);
        let Some(object) = got?.filter(|object| object.bytes.len() as u64 == inode.size) else {
            return Ok(false);
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
        Ok(true)
    }

    /// `false`: another object is there.
    async fn fetch_range(&self, inode: &Inode, source: &Remote, offset: u64, length: u64) -> Result<bool> {
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
            return Ok(true);
        };
        let _turn = self.transfers.turn(end - start).await;
        let got = self
            .store
            .get(&key, Some(start..end), Some(&ETag(source.etag.clone())))
            .await;
        self.note_health(&got);
        let Some(object) = got?.filter(|object| object.bytes.len() as u64 == end - start) else {
            return Ok(false);
        };
        self.check_space(end - start)?;
        let _exclusive = self.stripe(inode.ino).write();
        let (mut present, now) = self.view(|tables| Ok((tables.present(inode.ino)?, tables.inode(inode.ino)?)))?;
        let Some(now) = now.filter(|now| now.base_version == inode.base_version) else {
            return Ok(true);
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
        Ok(true)
    }

    /// Somebody else deleted the object, and a program's own request has found it: it is felt, too.
    pub(super) fn adopt_vanished(&self, known: &Remote) -> Result<()> {
        let shown = self.shown(known)?;
        self.object_vanished(known)?;
        if let (Some(replica), Some(shown)) = (self.me.upgrade(), shown) {
            replica.feel_vanished(shown);
        }
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
            Some(info) if self.hand_over(source, &info)? => Ok(()),
            Some(info) if self.is_replaced(source.ino, &source.key)? => {
                self.recover_replaced(source, &info).await.map(drop)
            }
            Some(info) => self.adopt_changed(source, &info),
            None => self.adopt_vanished(source),
        }
    }
}

/// An object that the ledger takes for the content of a file.
struct Source {
    remote: Remote,
    /// Another file has the key's name, or was stored there without an answer: the object may be that one's by now.
    doubtful: bool,
    /// The file has left the key, and its deletion may have taken place.
    left: bool,
}

/// Where a file's content lies, the surest place first. A key whose row is another file's, or stands for a write without an answer, is none;
/// that the file has a name says nothing.
fn sources_of(tables: &mut Tables, inode: &Inode) -> Result<Vec<Source>> {
    let holds = |remote: &Remote| remote.content_version == inode.base_version && !remote.etag.is_empty();
    let held = tables.remotes_of(inode.ino)?.into_iter().filter(holds);
    let wanted = tables.wanted_keys(inode.ino)?;
    let mut sources = Vec::new();
    for remote in held {
        let doubtful = tables.is_in_doubt(&remote.key, inode.ino) || is_replaced(tables, inode.ino, &remote.key)?;
        let left = !wanted.contains(&remote.key);
        sources.push(Source { remote, doubtful, left });
    }
    sources.sort_by_key(|source| (source.doubtful, source.left));
    Ok(sources)
}

/// The row of the object that bears a file's metadata: that of its content, else any that stands for an object.
pub(super) fn source_of(tables: &mut Tables, inode: &Inode) -> Result<Option<Remote>> {
    if let Some(source) = sources_of(tables, inode)?.into_iter().next() {
        return Ok(Some(source.remote));
    }
    let mut held = tables.remotes_of(inode.ino)?.into_iter();
    Ok(held.find(|remote| !remote.etag.is_empty()))
}

/// The key of a row of the ledger.
pub(super) fn key_of(remote: &Remote) -> Result<ObjectKey> {
    ObjectKey::parse(&remote.key).map_err(|problem| Error::Unusable(format!("{}: {problem}", remote.key)))
}

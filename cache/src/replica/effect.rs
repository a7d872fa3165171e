//! What a change of the bucket does to the folder: each one durable step, and only where nothing local speaks against it.
//!
//! An inode that owes something to the bucket is never touched: its push will find out that somebody else was faster. What is owed after an
//! effect is nothing, for the bucket holds it already.
//!
//! Does not own: what has changed (`pull`), when it takes effect (`replica/remote_change.rs`), first listings (`replica/listing/adopt.rs`).

mod content;

pub(super) use self::content::put_xattrs;
use self::content::{describe, put_content, replace};
use super::Replica;
use super::content::is_stored;
use super::listing::adopt::{blank, own_segment, remote};
use super::metadata::learn;
use super::names::touch_directory;
use super::op::Op;
use super::told::{News, ToldDirectory};
use crate::error::Result;
use crate::state::{Dentry, Inode, LoggedChange, Mutation, Place, Remote};
use crate::store::{ObjectInfo, PartialMetadata};
use crate::types::*;
use bytes::Bytes;

/// Where a key shows in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) parent: Ino,
    pub(crate) name: Vec<u8>,
    /// The key's last segment, without a final slash.
    pub(crate) segment: String,
    /// The inode that it has, or will have.
    pub(crate) ino: Ino,
}

/// An object as the bucket holds it.
#[derive(Debug, Clone)]
pub(crate) struct Theirs {
    pub(crate) key: String,
    pub(crate) info: ObjectInfo,
    /// `None`: to be found out when somebody asks.
    pub(crate) meta: Option<PartialMetadata>,
    /// The whole content, if it was fetched.
    pub(crate) bytes: Option<Bytes>,
    /// What has been learnt here after this operation is newer than this.
    pub(crate) began: u64,
}

impl Theirs {
    /// The whole content of a regular file.
    fn content(&self, inode: &Inode) -> Option<&Bytes> {
        let whole = |bytes: &&Bytes| bytes.len() as u64 == self.info.size && inode.kind == FileKind::File;
        self.bytes.as_ref().filter(whole)
    }
}

impl Replica {
    /// A file that was not there.
    pub(crate) fn effect_created(&self, spot: &Spot, theirs: &Theirs) -> Result<Option<Attr>> {
        if self.was_deleted_meanwhile(&theirs.key) {
            return Ok(None);
        }
        let _exclusive = self.stripe(spot.ino).write();
        let made = self.change(|op| {
            let Some(mut directory) = free_spot(op, spot, &theirs.key)? else {
                return Ok(None);
            };
            let owner = (self.options.default_uid, self.options.default_gid);
            let mut inode = Inode {
                ino: spot.ino,
                ..blank(op, FileKind::File, 0o644, owner.0, owner.1)
            };
            describe(op, &mut inode, theirs, self.bears_metadata())?;
            let links = theirs.meta.as_ref().is_some_and(|meta| meta.link_id.is_some());
            inode.known &= !links;
            let cookie = op.tables.new_cookie();
            put_content(op, &mut inode, theirs);
            op.push(Mutation::PutDentry(dentry(spot, cookie)));
            op.push(Mutation::PutRemote(remote(
                theirs.key.clone(),
                &inode,
                theirs.info.etag.0.clone(),
            )));
            op.put(&inode);
            touch_directory(op, &mut directory);
            if inode.kind == FileKind::File {
                op.log(LoggedChange::Content(inode.ino));
            }
            Ok(Some((inode, links)))
        })?;
        let Some((inode, links)) = made else { return Ok(None) };
        self.put_large_content(&inode, theirs)?;
        if let Some(meta) = theirs.meta.as_ref().filter(|_| links) {
            self.change(|op| learn(op, inode.ino, meta))?;
        }
        self.view(|tables| {
            let now = tables.name(spot.parent, &spot.name)?.map_or(spot.ino, |(ino, _)| ino);
            Ok(tables.inode(now)?.map(|inode| inode.attr()))
        })
    }

    /// Other content, or other metadata of the same content.
    pub(crate) fn effect_modified(&self, ino: Ino, theirs: &Theirs) -> Result<Option<Attr>> {
        let _exclusive = self.stripe(ino).write();
        let changed = self.change(|op| {
            let known = op.tables.remote(&theirs.key)?.filter(|known| known.ino == ino);
            let (Some(known), Some(mut inode)) = (known, clean_inode(op, ino)?) else {
                return Ok(None);
            };
            if known.noted > theirs.began {
                return Ok(None);
            }
            let had_blob = replace(op, &mut inode, &known.etag, theirs, self.bears_metadata())?;
            op.push(Mutation::PutRemote(remote(
                theirs.key.clone(),
                &inode,
                theirs.info.etag.0.clone(),
            )));
            op.put(&inode);
            Ok(Some((inode, had_blob)))
        })?;
        let Some((inode, had_blob)) = changed else {
            return Ok(None);
        };
        self.remove_blob(had_blob.then_some(ino));
        self.put_large_content(&inode, theirs)?;
        Ok(Some(inode.attr()))
    }

    /// The object is gone, and with it the name.
    pub(crate) fn effect_removed(&self, known: &Remote, began: u64) -> Result<Option<Attr>> {
        self.note_deletion(&known.key);
        let _exclusive = self.stripe(known.ino).write();
        let removed = self.change(|op| {
            let now = op.tables.remote(&known.key)?;
            let (Some(now), Some(inode)) = (now, clean_inode(op, known.ino)?) else {
                return Ok(None);
            };
            if now.ino != known.ino || now.noted > began || now.etag != known.etag {
                return Ok(None);
            }
            op.push(Mutation::DropRemote(known.key.clone()));
            let Some(name) = name_of_key(op, &inode, &known.key)? else {
                return Ok(None);
            };
            let gone = self.drop_name(op, inode.clone(), &name)?;
            touch_parent(op, name.parent)?;
            Ok(Some((inode.attr(), gone)))
        })?;
        let Some((attr, gone)) = removed else { return Ok(None) };
        self.remove_blob(gone);
        Ok(Some(attr))
    }

    /// The object has another key now; what stood there gives way, if it owes nothing.
    pub(crate) fn effect_moved(&self, from: &Remote, spot: &Spot, theirs: &Theirs) -> Result<Option<Attr>> {
        if self.was_deleted_meanwhile(&theirs.key) {
            return Ok(None);
        }
        self.note_deletion(&from.key);
        let _exclusive = self.stripe(from.ino).write();
        let moved = self.change(|op| self.move_name(op, from, spot, theirs))?;
        let Some((inode, had_blob, gone)) = moved else {
            return Ok(None);
        };
        self.remove_blob(had_blob.then_some(inode.ino));
        self.put_large_content(&inode, theirs)?;
        drop(_exclusive);
        self.remove_blob_of_gone(gone);
        Ok(Some(inode.attr()))
    }

    /// Answers the moved inode, whether it had a blob that is no use any more, and the blob of what it has replaced.
    fn move_name(
        &self,
        op: &mut Op<'_>,
        from: &Remote,
        spot: &Spot,
        theirs: &Theirs,
    ) -> Result<Option<(Inode, bool, Option<Ino>)>> {
        let now = op.tables.remote(&from.key)?;
        let (Some(now), Some(mut inode)) = (now, clean_inode(op, from.ino)?) else {
            return Ok(None);
        };
        let Some(old) = name_of_key(op, &inode, &from.key)? else {
            return Ok(None);
        };
        if now.ino != from.ino || now.noted > theirs.began || spot.ino != inode.ino {
            return Ok(None);
        }
        let (gone, mut directory) = match op.tables.dentry(spot.parent, &spot.name)? {
            None => match free_spot(op, spot, &theirs.key)? {
                Some(directory) => (None, directory),
                None => return Ok(None),
            },
            Some(target) => match self.give_way(op, &target, spot, theirs)? {
                Some(given) => given,
                None => return Ok(None),
            },
        };
        let had_blob = replace(op, &mut inode, &now.etag, theirs, self.bears_metadata())?;
        if inode.kind == FileKind::File {
            let path = op.tables.path_of(old.parent, &old.name)?;
            op.log(LoggedChange::Gone(path));
            op.log(LoggedChange::Content(inode.ino));
        }
        let cookie = op.tables.new_cookie();
        op.push(Mutation::DropRemote(from.key.clone()));
        op.push(Mutation::PutRemote(remote(
            theirs.key.clone(),
            &inode,
            theirs.info.etag.0.clone(),
        )));
        op.push(Mutation::DropDentry {
            parent: old.parent,
            name: old.name.clone(),
        });
        op.push(Mutation::PutDentry(dentry(spot, cookie)));
        op.put(&inode);
        touch_directory(op, &mut directory);
        if old.parent != spot.parent {
            touch_parent(op, old.parent)?;
        }
        Ok(Some((inode, had_blob, gone)))
    }

    /// A clean file of this name loses it to another; answers its blob and the directory.
    fn give_way(
        &self,
        op: &mut Op<'_>,
        target: &Dentry,
        spot: &Spot,
        theirs: &Theirs,
    ) -> Result<Option<(Option<Ino>, Inode)>> {
        let known = op.tables.remote(&theirs.key)?;
        let (Some(known), Some(loser)) = (known, clean_inode(op, target.ino)?) else {
            return Ok(None);
        };
        let directory = op.tables.inode(spot.parent)?.filter(|inode| inode.nlink > 0);
        let Some(directory) = directory.filter(|_| known.ino == loser.ino && !loser.is_dir()) else {
            return Ok(None);
        };
        Ok(Some((self.drop_name(op, loser, target)?, directory)))
    }

    /// A directory that was not there, or the attributes of one that is, whatever it owes. What lies in it is told or found next.
    pub(crate) fn effect_directory(&self, spot: &Spot, told: Option<&ToldDirectory>) -> Result<Option<Attr>> {
        self.change(|op| {
            let Some(mut parent) = op.tables.inode(spot.parent)? else {
                return Ok(None);
            };
            let key = format!("{}{}/", op.tables.directory_key(spot.parent)?.key, spot.segment);
            if let Some((there, _)) = op.tables.name(spot.parent, &spot.name)? {
                let there = op.tables.inode(there)?.filter(|inode| inode.is_dir());
                let (Some(mut inode), Some(told)) = (there, told) else {
                    return Ok(None);
                };
                let news = told.give(op, &mut inode)?;
                return Ok((news == News::Attributes).then(|| inode.attr()));
            }
            if !parent.is_dir() || parent.nlink == 0 {
                return Ok(None);
            }
            let owner = (self.options.default_uid, self.options.default_gid);
            let mut inode = Inode {
                ino: spot.ino,
                known: true,
                parent: spot.parent,
                text: spot.name.clone(),
                segment: own_segment(&spot.segment, &spot.name),
                ..blank(op, FileKind::Directory, 0o755, owner.0, owner.1)
            };
            let cookie = op.tables.new_cookie();
            op.push(Mutation::PutDentry(dentry(spot, cookie)));
            op.push(Mutation::PutRemote(remote(key, &inode, String::new())));
            parent.nlink += 1;
            touch_directory(op, &mut parent);
            match told {
                Some(told) => told.give_all(op, &mut inode)?,
                None => op.put(&inode),
            }
            Ok(Some(inode.attr()))
        })
    }

    /// A directory that the bucket does not hold any more goes once it is empty but for what is worth nothing without it, unless
    /// something is owed for it.
    pub(crate) fn effect_directory_removed(&self, ino: Ino, began: u64) -> Result<Option<Attr>> {
        let removed = self.change(|op| {
            let inode = op.tables.inode(ino)?.filter(|inode| inode.is_dir() && inode.nlink > 0);
            let Some(mut inode) = inode.filter(|inode| inode.ino != ROOT_INO) else {
                return Ok(None);
            };
            let key = op.tables.directory_key(ino)?.key.to_string();
            let known = op.tables.remote(&key)?.filter(|known| known.noted <= began);
            let owed = op.tables.dirty.contains_key(&ino);
            if known.is_none() || owed {
                return Ok(None);
            }
            let Some(views) = op.tables.only_folder_views(ino)? else {
                return Ok(None);
            };
            let mut blobs = Vec::new();
            for view in &views {
                blobs.push(self.drop_kept(op, view)?);
            }
            let attr = inode.attr();
            op.push(Mutation::DropRemote(key));
            op.push(Mutation::DropDentry {
                parent: inode.parent,
                name: inode.text.clone(),
            });
            inode.nlink = 0;
            inode.ctime = op.now;
            if self.references.lock().contains_key(&ino) {
                op.put(&inode);
            } else {
                op.push(Mutation::DropInode(ino));
            }
            if let Some(mut parent) = op.tables.inode(inode.parent)? {
                parent.nlink = parent.nlink.saturating_sub(1);
                touch_directory(op, &mut parent);
            }
            Ok(Some((attr, blobs)))
        })?;
        let Some((attr, blobs)) = removed else { return Ok(None) };
        blobs.into_iter().for_each(|blob| self.retire_blob(blob));
        Ok(Some(attr))
    }

    /// What the bucket knows nothing of goes with its directory; answers a blob to remove.
    fn drop_kept(&self, op: &mut Op<'_>, name: &Dentry) -> Result<Option<Ino>> {
        let Some(inode) = op.tables.inode(name.ino)? else {
            return Ok(None);
        };
        if inode.nlink == 1 && op.tables.dirty.contains_key(&name.ino) {
            op.push(Mutation::ClearDirty(name.ino));
        }
        self.drop_name(op, inode, name)
    }

    /// Takes a name that the bucket does not hold any more; answers a blob to remove.
    fn drop_name(&self, op: &mut Op<'_>, mut inode: Inode, name: &Dentry) -> Result<Option<Ino>> {
        if inode.kind == FileKind::File {
            let path = op.tables.path_of(name.parent, &name.name)?;
            op.log(LoggedChange::Gone(path));
        }
        op.push(Mutation::DropDentry {
            parent: name.parent,
            name: name.name.clone(),
        });
        inode.nlink = inode.nlink.saturating_sub(1);
        inode.ctime = op.now;
        if inode.nlink > 0 || self.references.lock().contains_key(&inode.ino) {
            op.put(&inode);
            return Ok(None);
        }
        op.push(Mutation::DropInode(inode.ino));
        Ok((inode.place == Place::Blob).then_some(inode.ino))
    }
}

/// An inode that owes nothing and whose content the bucket has.
fn clean_inode(op: &mut Op<'_>, ino: Ino) -> Result<Option<Inode>> {
    let Some(inode) = op.tables.inode(ino)? else {
        return Ok(None);
    };
    let clean = !op.tables.dirty.contains_key(&ino) && is_stored(op.tables, &inode)?;
    Ok(clean.then_some(inode))
}

/// The directory of a spot, if the spot is free and still has this key.
fn free_spot(op: &mut Op<'_>, spot: &Spot, key: &str) -> Result<Option<Inode>> {
    let directory = op.tables.inode(spot.parent)?;
    let Some(directory) = directory.filter(|inode| inode.is_dir() && inode.nlink > 0) else {
        return Ok(None);
    };
    let here = format!("{}{}", op.tables.directory_key(spot.parent)?.key, spot.segment);
    let free = op.tables.name(spot.parent, &spot.name)?.is_none() && op.tables.remote(key)?.is_none();
    Ok((free && here == key).then_some(directory))
}

fn dentry(spot: &Spot, cookie: u64) -> Dentry {
    Dentry {
        parent: spot.parent,
        name: spot.name.clone(),
        ino: spot.ino,
        cookie,
        segment: own_segment(&spot.segment, &spot.name),
    }
}

/// The name under which an inode has this key.
fn name_of_key(op: &mut Op<'_>, inode: &Inode, key: &str) -> Result<Option<Dentry>> {
    for name in op.tables.names_of(inode.ino)? {
        if op.tables.key_of(&name)?.is_ok_and(|of| of.as_str() == key) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn touch_parent(op: &mut Op<'_>, parent: Ino) -> Result<()> {
    if let Some(mut directory) = op.tables.inode(parent)? {
        touch_directory(op, &mut directory);
    }
    Ok(())
}

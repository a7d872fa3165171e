//! Names: lookup, creation, links, removal, listing. Renames have their own file.

use super::op::{Op, known_inode};
use super::{RESERVED_NAME, Replica, base};
use crate::error::{Error, Need, Result};
use crate::state::{Dentry, Inode, LoggedChange, Marks, Mutation, Place};
use crate::store::{KeyProblem, escape_name};
use crate::types::*;

/// As ext4's.
const LINKS_MAX: u32 = 65_000;

const SETGID: u32 = 0o2000;

/// All of these answer ENOENT only when the name is known not to exist.
impl Replica {
    /// The inode behind a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        check_length(name)?;
        self.note_use();
        self.view(|tables| match tables.name(parent, name)? {
            Some((ino, _)) => Ok(known_inode(tables, ino)?.attr()),
            None => {
                let parent = tables.live_inode(parent)?;
                match (parent.is_dir(), parent.known) {
                    (false, _) => Err(Error::Posix(libc::ENOTDIR)),
                    (true, true) => Err(Error::Posix(libc::ENOENT)),
                    (true, false) if is_reserved(parent.ino, name) => Err(Error::Posix(libc::ENOENT)),
                    (true, false) => Err(Error::Need(Need::Listing(parent.ino))),
                }
            }
        })
    }

    /// Makes a file, directory, symlink, fifo, socket or device node.
    pub fn create(&self, parent: Ino, name: &[u8], new: &NewInode) -> Result<Attr> {
        self.writable()?;
        check_new_name(parent, name)?;
        self.check_segment(name)?;
        self.grow(|op| {
            let mut directory = op.directory(parent)?;
            if op.find(&directory, name)?.is_some() {
                return Err(Error::Posix(libc::EEXIST));
            }
            let inode = fresh_inode(op, &directory, name, new)?;
            let cookie = op.tables.new_cookie();
            let dentry = Dentry {
                parent,
                name: name.to_vec(),
                ino: inode.ino,
                cookie,
                segment: None,
            };
            check_key(op, &dentry, inode.is_dir())?;
            op.put(&inode);
            op.push(Mutation::PutDentry(dentry));
            directory.nlink += u32::from(inode.is_dir());
            touch_directory(op, &mut directory);
            op.owe_for(inode.ino, Marks::EMPTIED);
            if inode.kind == FileKind::File {
                op.content_changed(inode.ino);
            }
            Ok(inode.attr())
        })
    }

    /// Gives an inode one more name; EPERM for directories.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        self.writable()?;
        check_new_name(parent, name)?;
        self.check_segment(name)?;
        self.grow(|op| {
            let mut directory = op.directory(parent)?;
            let mut inode = known_inode(op.tables, ino)?;
            if inode.is_dir() {
                return Err(Error::Posix(libc::EPERM));
            }
            if inode.nlink >= LINKS_MAX {
                return Err(Error::Posix(libc::EMLINK));
            }
            if op.find(&directory, name)?.is_some() {
                return Err(Error::Posix(libc::EEXIST));
            }
            if inode.nlink == 0 {
                return Err(Error::Posix(libc::ENOENT));
            }
            inode.nlink += 1;
            if inode.link_id == 0 {
                inode.link_id = self.new_link_id(ino);
                op.push(Mutation::PutLink {
                    link_id: inode.link_id,
                    ino,
                });
            }
            inode.touch_meta(op.now);
            let cookie = op.tables.new_cookie();
            let dentry = Dentry {
                parent,
                name: name.to_vec(),
                ino,
                cookie,
                segment: None,
            };
            check_key(op, &dentry, false)?;
            op.put(&inode);
            op.push(Mutation::PutDentry(dentry));
            touch_directory(op, &mut directory);
            op.owe(ino);
            if inode.kind == FileKind::File {
                op.log(LoggedChange::Content(ino));
            }
            Ok(inode.attr())
        })
    }

    /// Removes a name of anything but a directory. The inode lives on while it is retained (see [`Replica::retain`]).
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        if let Some((ino, _)) = self.view(|tables| tables.name(parent, name))? {
            let _shared = self.stripe(ino).read();
            self.keep_tried_of_blob(ino)?;
        }
        let gone = self.change(|op| {
            let mut directory = op.directory(parent)?;
            let (dentry, inode) = op.find(&directory, name)?.ok_or(Error::Posix(libc::ENOENT))?;
            if inode.is_dir() {
                return Err(Error::Posix(libc::EISDIR));
            }
            op.push(Mutation::DropDentry {
                parent,
                name: dentry.name.clone(),
            });
            let gone = self.lose_name(op, inode, &dentry)?;
            touch_directory(op, &mut directory);
            owe_if_emptied(op, parent, name)?;
            Ok(gone)
        })?;
        self.retire_blob(gone);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        self.change(|op| {
            let mut directory = op.directory(parent)?;
            let (dentry, inode) = op.find(&directory, name)?.ok_or(Error::Posix(libc::ENOENT))?;
            check_empty(op, &inode)?;
            op.push(Mutation::DropDentry {
                parent,
                name: dentry.name.clone(),
            });
            self.lose_directory(op, inode)?;
            directory.nlink = directory.nlink.saturating_sub(1);
            touch_directory(op, &mut directory);
            owe_if_emptied(op, parent, name)
        })
    }

    /// At most `limit` entries after `cookie` (0 to begin), in cookie order; fewer only at the end. `.` and `..` are not among them.
    pub fn read_dir(&self, dir: Ino, cookie: u64, limit: usize) -> Result<Vec<DirEntry>> {
        self.note_use();
        self.puller.note_directory(dir, self.now_ms());
        self.view(|tables| {
            let inode = tables.live_inode(dir)?;
            if !inode.is_dir() {
                return Err(Error::Posix(libc::ENOTDIR));
            }
            if !inode.known {
                return Err(Error::Need(Need::Listing(dir)));
            }
            let dentries = tables.children(dir, cookie, limit)?;
            let entries = dentries.into_iter().map(|dentry| {
                let attr = known_inode(tables, dentry.ino)?.attr();
                Ok(DirEntry {
                    cookie: dentry.cookie,
                    name: dentry.name,
                    attr,
                })
            });
            entries.collect()
        })
    }

    /// The parent of a directory (the root's is itself).
    pub fn parent_of(&self, dir: Ino) -> Result<Ino> {
        self.view(|tables| Ok(tables.live_inode(dir)?.parent.max(ROOT_INO)))
    }

    /// The inode at a path relative to the root, `/`-separated, not following symlinks; empty for the root.
    pub fn resolve(&self, path: &[u8]) -> Result<Attr> {
        let mut attr = self.attr(ROOT_INO)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            attr = self.lookup(attr.ino, name)?;
        }
        Ok(attr)
    }

    /// Keeps an inode alive without names: one count for each entry told to the kernel, or handle given out.
    pub fn retain(&self, ino: Ino) {
        *self.references.lock().entry(ino).or_default() += 1;
    }

    /// Takes back `count` of [`Replica::retain`]; an inode with neither names nor counts is removed.
    pub fn forget(&self, ino: Ino, count: u64) {
        {
            let mut references = self.references.lock();
            let Some(held) = references.get_mut(&ino) else { return };
            *held = held.saturating_sub(count);
            if *held > 0 {
                return;
            }
            references.remove(&ino);
        }
        let reaped = self.change(|op| match op.tables.inode(ino)? {
            Some(inode) if inode.nlink == 0 && !self.references.lock().contains_key(&ino) => {
                op.push(Mutation::DropInode(ino));
                Ok((inode.place == Place::Blob).then_some(ino))
            }
            _ => Ok(None),
        });
        match reaped {
            Ok(gone) => self.retire_blob(gone),
            Err(error) => tracing::warn!(ino, %error, "An unlinked file could not be swept; the next start does it"),
        }
    }

    /// Takes a name away from an inode; without names it goes, or waits for its last user. Returns a blob to remove.
    pub(super) fn lose_name(&self, op: &mut Op<'_>, mut inode: Inode, dentry: &Dentry) -> Result<Option<Ino>> {
        let ino = inode.ino;
        base::keep_if_replaced(op, ino)?;
        if inode.kind == FileKind::File {
            let path = op.tables.path_of(dentry.parent, &dentry.name)?;
            op.log(LoggedChange::Gone(path));
        }
        inode.nlink = inode.nlink.saturating_sub(1);
        inode.ctime = op.now;
        let in_bucket = !op.tables.remotes_of(ino)?.is_empty() || self.pusher.is_in_flight(ino);
        if inode.nlink > 0 || in_bucket {
            op.owe_for(ino, Marks::REMOVED);
        } else if op.tables.dirty.contains_key(&ino) {
            op.push(Mutation::ClearDirty(ino));
        }
        if inode.nlink == 0 && !self.references.lock().contains_key(&ino) {
            op.push(Mutation::DropInode(ino));
            return Ok((inode.place == Place::Blob).then_some(ino));
        }
        op.put(&inode);
        Ok(None)
    }

    pub(super) fn lose_directory(&self, op: &mut Op<'_>, mut inode: Inode) -> Result<()> {
        inode.nlink = 0;
        inode.ctime = op.now;
        op.owe_for(inode.ino, Marks::REMOVED);
        if self.references.lock().contains_key(&inode.ino) {
            op.put(&inode);
        } else {
            op.push(Mutation::DropInode(inode.ino));
        }
        Ok(())
    }

    /// Of a deleted file: its blob goes when the deletion is flushed.
    pub(super) fn retire_blob(&self, ino: Option<Ino>) {
        if let Some(ino) = ino {
            let op = self.state.lock().op();
            self.blobs.retire(ino, op);
        }
    }

    /// Of content that is nowhere in the tables, or stored. As long as the rows on the disk still take it for owed, a power cut would
    /// leave a file that is owed and has no content: they are flushed first. The caller holds the inode's stripe, or a write in between would
    /// lose its bytes.
    pub(crate) fn remove_blob(&self, ino: Option<Ino>) {
        let Some(ino) = ino else { return };
        if self.state.lock().is_owed_on_disk(ino)
            && let Err(error) = self.state.sync()
        {
            tracing::warn!(%error, "Could not flush what is stored before its local content goes");
        }
        self.blobs.remove(ino);
    }

    /// The blob of an inode that is gone, by who does not hold its stripe.
    pub(super) fn remove_blob_of_gone(&self, ino: Option<Ino>) {
        let Some(gone) = ino else { return };
        let _exclusive = self.stripe(gone).write();
        self.remove_blob(ino);
    }

    /// Stores that are folders cannot hold a segment that escaping has made longer than a file name.
    pub(super) fn check_segment(&self, name: &[u8]) -> Result<()> {
        let fits = escape_name(name).len() <= self.capabilities.segment_length_max_bytes;
        if fits {
            Ok(())
        } else {
            Err(Error::Posix(libc::ENAMETOOLONG))
        }
    }

    fn new_link_id(&self, ino: Ino) -> u64 {
        u64::from(crc32fast::hash(self.writer_id.as_bytes())) << 32 | (ino & 0xffff_ffff)
    }
}

fn fresh_inode(op: &mut Op<'_>, directory: &Inode, name: &[u8], new: &NewInode) -> Result<Inode> {
    let is_dir = new.kind == FileKind::Directory;
    if new.kind == FileKind::Symlink && new.target.len() > SYMLINK_LENGTH_MAX_BYTES {
        return Err(Error::Posix(libc::ENAMETOOLONG));
    }
    let inherits = directory.mode & SETGID != 0;
    let text = match new.kind {
        FileKind::Directory => name.to_vec(),
        FileKind::Symlink => new.target.clone(),
        _ => Vec::new(),
    };
    let mode = (new.mode & 0o7777) | if inherits && is_dir { SETGID } else { 0 };
    let owner = (new.uid, if inherits { directory.gid } else { new.gid });
    let mut inode = Inode::new(op.tables.new_ino(), new.kind, mode, owner, op.now);
    if is_dir {
        inode.renew_meta(op.now);
    }
    let parent = if is_dir { directory.ino } else { 0 };
    Ok(Inode {
        rdev: new.rdev,
        parent,
        text,
        ..inode
    })
}

/// The directory's own times after a name came or went.
pub(super) fn touch_directory(op: &mut Op<'_>, directory: &mut Inode) {
    directory.mtime = op.now;
    directory.ctime = op.now;
    op.directory_touched = true;
    op.put(directory);
}

/// A directory that loses its last name must become a marker in the bucket, or it would vanish there.
pub(super) fn owe_if_emptied(op: &mut Op<'_>, directory: Ino, leaving: &[u8]) -> Result<()> {
    if directory == ROOT_INO {
        return Ok(());
    }
    if !op.tables.shows_children(directory, Some(leaving))? {
        op.owe(directory);
    }
    Ok(())
}

pub(super) fn check_empty(op: &mut Op<'_>, inode: &Inode) -> Result<()> {
    if !inode.is_dir() {
        return Err(Error::Posix(libc::ENOTDIR));
    }
    if !inode.known {
        return Err(Error::Need(Need::Listing(inode.ino)));
    }
    if op.tables.has_children(inode.ino)? {
        Err(Error::Posix(libc::ENOTEMPTY))
    } else {
        Ok(())
    }
}

/// Whether an object can have this name's key; what cannot be carried is refused now, not dropped later.
pub(super) fn check_key(op: &mut Op<'_>, dentry: &Dentry, is_dir: bool) -> Result<()> {
    let problem = match op.tables.key_of(dentry)? {
        Ok(key) if is_dir && key.as_str().len() + 1 > crate::store::KEY_LENGTH_MAX_BYTES => KeyProblem::TooLong,
        Ok(_) => return Ok(()),
        Err(problem) => problem,
    };
    Err(Error::Posix(if problem == KeyProblem::TooLong {
        libc::ENAMETOOLONG
    } else {
        libc::EILSEQ
    }))
}

fn check_length(name: &[u8]) -> Result<()> {
    if name.len() > NAME_LENGTH_MAX_BYTES {
        Err(Error::Posix(libc::ENAMETOOLONG))
    } else {
        Ok(())
    }
}

pub(super) fn check_new_name(parent: Ino, name: &[u8]) -> Result<()> {
    check_length(name)?;
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Err(Error::Posix(libc::EINVAL));
    }
    if name == b"." || name == b".." {
        return Err(Error::Posix(libc::EEXIST));
    }
    if is_reserved(parent, name) {
        Err(Error::Posix(libc::EPERM))
    } else {
        Ok(())
    }
}

fn is_reserved(parent: Ino, name: &[u8]) -> bool {
    parent == ROOT_INO && name == RESERVED_NAME.as_bytes()
}

//! Attributes, symlink targets, extended attributes, space.

use super::op::{Op, known_inode};
use super::{Replica, base};
use crate::error::{Error, Result};
use crate::state::{Inode, Mutation};
use crate::store::USER_METADATA_MAX_BYTES;
use crate::types::*;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

impl Replica {
    /// The inode's attributes.
    pub fn attr(&self, ino: Ino) -> Result<Attr> {
        self.view(|tables| Ok(known_inode(tables, ino)?.attr()))
    }

    /// Changes attributes, size included; answers the new ones.
    pub fn set_attr(&self, ino: Ino, change: &AttrChange) -> Result<Attr> {
        self.writable()?;
        if let Some(size) = change.size {
            self.resize(ino, size, change.clear_setid)?;
        }
        self.change(|op| {
            let mut inode = known_inode(op.tables, ino)?;
            let before = inode.clone();
            base::keep_metadata(op, &before)?;
            apply_ownership(&mut inode, change);
            if let Some(mode) = change.mode {
                inode.mode = mode & 0o7777;
            }
            if let Some(atime) = change.atime {
                inode.atime = time(atime, op.now);
            }
            if let Some(mtime) = change.mtime {
                inode.mtime = time(mtime, op.now);
            }
            let asked = change.clear_setid
                || change.mode.is_some()
                || change.uid.is_some()
                || change.gid.is_some()
                || change.atime.is_some()
                || change.mtime.is_some();
            if !asked {
                return Ok(inode.attr());
            }
            inode.ctime = op.now;
            if travels(&before) != travels(&inode) {
                // The times of a directory follow its names, and are no part of what its version speaks of.
                if !inode.is_dir() || owned(&before) != owned(&inode) {
                    inode.touch_meta(op.now);
                }
                op.owe(ino);
            }
            op.put(&inode);
            Ok(inode.attr())
        })
    }

    /// A symlink's target.
    pub fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.view(|tables| known_inode(tables, ino))?;
        if inode.kind == FileKind::Symlink {
            Ok(inode.text)
        } else {
            Err(Error::Posix(libc::EINVAL))
        }
    }

    /// The value of an extended attribute; ENODATA if there is none.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let found = self.view(|tables| {
            known_inode(tables, ino)?;
            Ok(tables.xattrs(ino)?.into_iter().find(|xattr| xattr.0 == name))
        })?;
        found.map(|xattr| xattr.1).ok_or(Error::Posix(libc::ENODATA))
    }

    /// The names of the extended attributes.
    pub fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.view(|tables| {
            known_inode(tables, ino)?;
            Ok(tables.xattrs(ino)?.into_iter().map(|xattr| xattr.0).collect())
        })
    }

    /// Sets an extended attribute; ENOSPC when an object's metadata cannot hold it (about 1.5 KiB in all).
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.writable()?;
        self.change(|op| {
            let inode = known_inode(op.tables, ino)?;
            let mut xattrs = op.tables.xattrs(ino)?;
            let old = xattrs.iter().position(|xattr| xattr.0 == name);
            match (mode, old) {
                (XattrMode::Create, Some(_)) => return Err(Error::Posix(libc::EEXIST)),
                (XattrMode::Replace, None) => return Err(Error::Posix(libc::ENODATA)),
                (_, Some(at)) => xattrs[at].1 = value.to_vec(),
                (_, None) => xattrs.push((name.to_vec(), value.to_vec())),
            }
            base::keep_metadata(op, &inode)?;
            let size = self.object_metadata(&inode, xattrs).encoded_size();
            if size > USER_METADATA_MAX_BYTES {
                return Err(Error::Posix(libc::ENOSPC));
            }
            op.push(Mutation::PutXattr {
                ino,
                name: name.to_vec(),
                value: value.to_vec(),
            });
            meta_changed(op, inode);
            Ok(())
        })
    }

    /// Removes an extended attribute; ENODATA if there is none.
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        self.change(|op| {
            let inode = known_inode(op.tables, ino)?;
            if !op.tables.xattrs(ino)?.iter().any(|xattr| xattr.0 == name) {
                return Err(Error::Posix(libc::ENODATA));
            }
            base::keep_metadata(op, &inode)?;
            op.push(Mutation::DropXattr {
                ino,
                name: name.to_vec(),
            });
            meta_changed(op, inode);
            Ok(())
        })
    }

    /// Space and inodes, for `statfs`.
    pub fn space(&self) -> Result<SpaceUsage> {
        self.state.commit()?;
        let (inodes, used_bytes) = self.view(|tables| Ok((tables.count("inode")?, tables.total_bytes()?)))?;
        Ok(SpaceUsage {
            used_bytes,
            free_bytes: self.free_bytes()?,
            inodes,
        })
    }
}

fn apply_ownership(inode: &mut Inode, change: &AttrChange) {
    inode.uid = change.uid.unwrap_or(inode.uid);
    inode.gid = change.gid.unwrap_or(inode.gid);
    if (change.uid.is_some() || change.gid.is_some() || change.clear_setid) && !inode.is_dir() {
        clear_setid(inode);
    }
}

pub(super) fn has_setid(inode: &Inode) -> bool {
    inode.mode & (SETUID | SETGID) != 0
}

/// As the kernel does after a write by an unprivileged process.
pub(super) fn clear_setid(inode: &mut Inode) {
    inode.mode &= !SETUID;
    if inode.mode & GROUP_EXECUTE != 0 {
        inode.mode &= !SETGID;
    }
}

fn time(change: TimeChange, now: Timestamp) -> Timestamp {
    match change {
        TimeChange::Now => now,
        TimeChange::To(time) => time,
    }
}

fn owned(inode: &Inode) -> (u32, u32, u32) {
    (inode.mode, inode.uid, inode.gid)
}

/// What of an inode's attributes goes with its object.
fn travels(inode: &Inode) -> (u32, u32, u32, Timestamp) {
    (inode.mode, inode.uid, inode.gid, inode.mtime)
}

fn meta_changed(op: &mut Op<'_>, mut inode: Inode) {
    inode.touch_meta(op.now);
    op.put(&inode);
    op.owe(inode.ino);
}

//! Renames: replacing, refusing to replace, and exchanging, each one durable step.

use super::names::{check_empty, check_key, check_new_name, owe_if_emptied, touch_directory};
use super::op::Op;
use super::{Replica, base};
use crate::error::{Error, Result};
use crate::litter::is_litter;
use crate::state::{Dentry, Inode, LoggedChange, Marks, Mutation};
use crate::store::{KEY_LENGTH_MAX_BYTES, escape_name};
use crate::types::*;

/// Stands for a path that no file can have, while two directories exchange theirs in the index.
const EXCHANGE_PATH: &[u8] = b".notefs/exchange";

/// Directories looked into to find out whether a longer prefix makes a key too long.
const KEY_CHECK_INODES_MAX: usize = 100_000;

/// One side of a rename.
struct Side {
    directory: Inode,
    dentry: Dentry,
    inode: Inode,
}

impl Replica {
    /// Renames, atomically.
    pub fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()> {
        self.writable()?;
        check_new_name(to.0, to.1)?;
        self.check_segment(to.1)?;
        if let Some((replaced, _)) = self.view(|tables| tables.name(to.0, to.1))? {
            let _shared = self.stripe(replaced).read();
            self.keep_base_of_blob(replaced)?;
        }
        let gone = self.change(|op| {
            let source_dir = op.directory(from.0)?;
            let target_dir = op.directory(to.0)?;
            let (dentry, inode) = op.find(&source_dir, from.1)?.ok_or(Error::Posix(libc::ENOENT))?;
            let source = Side {
                directory: source_dir,
                dentry,
                inode,
            };
            let target = op.find(&target_dir, to.1)?.map(|(dentry, inode)| Side {
                directory: target_dir.clone(),
                dentry,
                inode,
            });
            check_no_loop(op, &source.inode, &target_dir)?;
            match (mode, target) {
                (RenameMode::NoReplace, Some(_)) => Err(Error::Posix(libc::EEXIST)),
                (RenameMode::Exchange, None) => Err(Error::Posix(libc::ENOENT)),
                (_, Some(target)) if target.inode.ino == source.inode.ino => Ok(None),
                (RenameMode::Exchange, Some(target)) => {
                    check_no_loop(op, &target.inode, &source.directory)?;
                    self.exchange(op, source, target).map(|()| None)
                }
                (_, target) => self.move_over(op, source, target_dir, to.1, target),
            }
        })?;
        self.retire_blob(gone);
        Ok(())
    }

    fn move_over(
        &self,
        op: &mut Op<'_>,
        source: Side,
        mut target_dir: Inode,
        name: &[u8],
        target: Option<Side>,
    ) -> Result<Option<Ino>> {
        let Side {
            directory: mut source_dir,
            dentry,
            mut inode,
        } = source;
        let cookie = place_in_listing(op, &dentry, target_dir.ino, target.as_ref());
        let moved = Dentry {
            parent: target_dir.ino,
            name: name.to_vec(),
            ino: inode.ino,
            cookie,
            segment: None,
        };
        check_key(op, &moved, inode.is_dir())?;
        check_descendants(op, &inode, &dentry, &moved)?;
        let mut gone = None;
        let mut lost_directory = false;
        // What takes a file's place is that file saved anew.
        let is_save = target.as_ref().is_some_and(|target| !target.inode.is_dir());
        if let Some(target) = target {
            match (inode.is_dir(), target.inode.is_dir()) {
                (true, false) => return Err(Error::Posix(libc::ENOTDIR)),
                (false, true) => return Err(Error::Posix(libc::EISDIR)),
                (true, true) => {
                    check_empty(op, &target.inode)?;
                    self.lose_directory(op, target.inode)?;
                    lost_directory = true;
                }
                (false, false) => {
                    base::keep(op, target.inode.ino, None)?;
                    owe_replacement(op, &inode);
                    gone = self.lose_name(op, target.inode, &target.dentry)?;
                }
            }
        }
        log_move(op, &inode, &dentry, &moved)?;
        self.note_move(op, (&inode, is_save), (&dentry, &moved))?;
        resolve_conflict(op, &moved)?;
        inode.ctime = op.now;
        place_directory(op, &mut inode, &moved);
        op.put(&inode);
        op.push(Mutation::DropDentry {
            parent: dentry.parent,
            name: dentry.name.clone(),
        });
        op.push(Mutation::PutDentry(moved));
        op.owe_tree(inode.ino, inode.is_dir());
        if source_dir.ino == target_dir.ino {
            if is_litter(name) {
                owe_if_emptied(op, dentry.parent, &dentry.name)?;
            }
            source_dir.nlink -= u32::from(lost_directory);
            touch_directory(op, &mut source_dir);
        } else {
            owe_if_emptied(op, dentry.parent, &dentry.name)?;
            source_dir.nlink -= u32::from(inode.is_dir());
            target_dir.nlink += u32::from(inode.is_dir() && !lost_directory);
            touch_directory(op, &mut source_dir);
            touch_directory(op, &mut target_dir);
        }
        Ok(gone)
    }

    fn exchange(&self, op: &mut Op<'_>, source: Side, target: Side) -> Result<()> {
        let Side {
            directory: mut source_dir,
            dentry: source_name,
            mut inode,
        } = source;
        let Side {
            directory: mut target_dir,
            dentry: target_name,
            inode: mut other,
        } = target;
        let there = Dentry {
            ino: inode.ino,
            segment: None,
            ..target_name.clone()
        };
        let here = Dentry {
            ino: other.ino,
            segment: None,
            ..source_name.clone()
        };
        check_key(op, &there, inode.is_dir())?;
        check_key(op, &here, other.is_dir())?;
        check_descendants(op, &inode, &source_name, &there)?;
        check_descendants(op, &other, &target_name, &here)?;
        log_exchange(op, (&inode, &source_name), (&other, &target_name))?;
        for (inode, name) in [(&mut inode, &there), (&mut other, &here)] {
            inode.ctime = op.now;
            place_directory(op, inode, name);
            op.put(inode);
            op.owe_tree(inode.ino, inode.is_dir());
            owe_replacement(op, inode);
        }
        op.push(Mutation::PutDentry(there));
        op.push(Mutation::PutDentry(here));
        if source_dir.ino != target_dir.ino {
            let (gives, takes) = (u32::from(inode.is_dir()), u32::from(other.is_dir()));
            source_dir.nlink = source_dir.nlink + takes - gives;
            target_dir.nlink = target_dir.nlink + gives - takes;
            touch_directory(op, &mut target_dir);
        }
        touch_directory(op, &mut source_dir);
        Ok(())
    }
}

/// Where a folder's listing shows what is moved there: in the place of what it replaces, else in its own of before. So who lists
/// the folder meanwhile sees each name once, and comes to an end.
fn place_in_listing(op: &mut Op<'_>, moved: &Dentry, folder: Ino, replaced: Option<&Side>) -> u64 {
    match replaced {
        Some(replaced) => replaced.dentry.cookie,
        None if moved.parent == folder => moved.cookie,
        None => op.tables.new_cookie(),
    }
}

/// A conflict copy that takes the disputed name ends the conflict: somebody has decided for it.
fn resolve_conflict(op: &mut Op<'_>, moved: &Dentry) -> Result<()> {
    if let Some(conflict) = op.tables.conflict_of(moved.ino)?
        && op.tables.path_of(moved.parent, &moved.name)? == conflict.path
    {
        op.push(Mutation::DropConflict(moved.ino));
    }
    Ok(())
}

/// A program puts this file in the place of another: if it is empty, that is what the program asked for.
fn owe_replacement(op: &mut Op<'_>, inode: &Inode) {
    if inode.kind == FileKind::File && inode.size == 0 {
        op.owe_for(inode.ino, Marks::EMPTIED);
    }
}

fn place_directory(op: &mut Op<'_>, inode: &mut Inode, name: &Dentry) {
    if inode.is_dir() {
        inode.parent = name.parent;
        inode.text = name.name.clone();
        inode.segment = None;
        // Of its new name, too, it is the latest that there is to tell.
        inode.renew_meta(op.now);
        op.tables.directory_keys.clear();
    }
}

/// A directory cannot move into itself or below itself.
fn check_no_loop(op: &mut Op<'_>, moving: &Inode, into: &Inode) -> Result<()> {
    if !moving.is_dir() {
        return Ok(());
    }
    let mut at = into.clone();
    loop {
        if at.ino == moving.ino {
            return Err(Error::Posix(libc::EINVAL));
        }
        if at.ino == ROOT_INO {
            return Ok(());
        }
        at = op.tables.live_inode(at.parent)?;
    }
}

/// No key below a directory may become too long by its move.
fn check_descendants(op: &mut Op<'_>, inode: &Inode, from: &Dentry, to: &Dentry) -> Result<()> {
    if !inode.is_dir() {
        return Ok(());
    }
    let length = |op: &mut Op<'_>, dentry: &Dentry| -> Result<usize> {
        Ok(op.tables.directory_key(dentry.parent)?.key.len() + escape_name(&dentry.name).len() + 1)
    };
    let (before, after) = (length(op, from)?, length(op, to)?);
    if after <= before {
        return Ok(());
    }
    let mut open = vec![(inode.ino, after)];
    let mut seen = 0;
    while let Some((dir, prefix)) = open.pop() {
        for child in op.tables.children(dir, 0, KEY_CHECK_INODES_MAX)? {
            let length = prefix
                + child
                    .segment
                    .as_ref()
                    .map_or_else(|| escape_name(&child.name).len(), String::len);
            seen += 1;
            if length + 1 > KEY_LENGTH_MAX_BYTES || seen > KEY_CHECK_INODES_MAX {
                return Err(Error::Posix(libc::ENAMETOOLONG));
            }
            open.push((child.ino, length + 1));
        }
    }
    Ok(())
}

fn log_move(op: &mut Op<'_>, inode: &Inode, from: &Dentry, to: &Dentry) -> Result<()> {
    let before = op.tables.path_of(from.parent, &from.name)?;
    let after = op.tables.path_of(to.parent, &to.name)?;
    match inode.kind {
        FileKind::Directory => op.log(LoggedChange::Moved {
            from: before,
            to: after,
        }),
        FileKind::File => {
            op.log(LoggedChange::Gone(before));
            op.log(LoggedChange::Content(inode.ino));
        }
        _ => {}
    }
    Ok(())
}

fn log_exchange(op: &mut Op<'_>, a: (&Inode, &Dentry), b: (&Inode, &Dentry)) -> Result<()> {
    let path_a = op.tables.path_of(a.1.parent, &a.1.name)?;
    let path_b = op.tables.path_of(b.1.parent, &b.1.name)?;
    let moved = |from: &[u8], to: &[u8]| LoggedChange::Moved {
        from: from.to_vec(),
        to: to.to_vec(),
    };
    for (inode, path) in [(a.0, &path_a), (b.0, &path_b)] {
        if inode.kind == FileKind::File {
            op.log(LoggedChange::Gone(path.clone()));
        }
    }
    match (a.0.is_dir(), b.0.is_dir()) {
        (true, true) => {
            op.log(moved(&path_a, EXCHANGE_PATH));
            op.log(moved(&path_b, &path_a));
            op.log(moved(EXCHANGE_PATH, &path_b));
        }
        (true, false) => op.log(moved(&path_a, &path_b)),
        (false, true) => op.log(moved(&path_b, &path_a)),
        (false, false) => {}
    }
    for inode in [a.0, b.0] {
        if inode.kind == FileKind::File {
            op.log(LoggedChange::Content(inode.ino));
        }
    }
    Ok(())
}

//! Following a file to the place to which somebody else moved it, with what was changed here.

use super::Replica;
use super::names::touch_directory;
use super::op::Op;
use crate::error::Result;
use crate::push::resolve_key;
use crate::state::{Conflict, ConflictKind, Dentry, Inode, LoggedChange, Mutation, Place, Remote};
use crate::store::{is_canonical, unescape_segment};
use crate::types::*;

impl Replica {
    /// Gives the inode the name of the object `place` instead of the one whose key is `renamed`, or `key`. Only where nothing else has been
    /// done at either place.
    pub(crate) fn follow_move(&self, ino: Ino, key: &str, place: &Remote, renamed: Option<&str>) -> Result<bool> {
        let base = self.base_of(key)?;
        let done = self.change(|op| {
            let (names, Some(mut inode)) = (op.tables.names_of(ino)?, op.tables.inode(ino)?) else {
                return Ok(None);
            };
            let [old] = names.as_slice() else { return Ok(None) };
            let Some(new) = self.name_at(op, ino, &place.key)? else {
                return Ok(None);
            };
            let held = renamed.unwrap_or(key);
            if !op.tables.key_of(old)?.is_ok_and(|of| of.as_str() == held) {
                return Ok(None);
            }
            let path = op.tables.path_of(old.parent, &old.name)?;
            op.push(Mutation::DropDentry {
                parent: old.parent,
                name: old.name.clone(),
            });
            op.log(LoggedChange::Gone(path.clone()));
            let gone = self.make_way(op, &new)?;
            op.push(Mutation::PutDentry(new.clone()));
            op.push(Mutation::DropRemote(key.to_owned()));
            if renamed.is_some_and(|renamed| renamed != key) {
                op.push(Mutation::DropRemote(held.to_owned()));
            }
            // Versions count by inode: those of another one, which ours has replaced, say nothing.
            let (content_version, meta_version) = match place.ino == ino {
                true => (place.content_version, place.meta_version),
                false => (0, 0),
            };
            op.push(Mutation::PutRemote(Remote {
                ino,
                content_version,
                meta_version,
                ..place.clone()
            }));
            if let Some(base) = base {
                op.push(Mutation::PutBase(crate::state::Base {
                    key: place.key.clone(),
                    ..base
                }));
            }
            if renamed.is_some() {
                op.push(Mutation::PutConflict(self.renamed_twice(op.now, ino, path)));
            }
            for parent in [old.parent, new.parent] {
                if let Some(mut directory) = op.tables.inode(parent)? {
                    touch_directory(op, &mut directory);
                }
            }
            inode.ctime = op.now;
            op.put(&inode);
            op.owe(ino);
            op.log(LoggedChange::Content(ino));
            Ok(Some((old.clone(), new, gone)))
        })?;
        let Some((old, new, gone)) = done else { return Ok(false) };
        self.remove_blob_of_gone(gone);
        if let Some(observer) = self.observer() {
            observer.entry_changed(old.parent, &old.name);
            observer.entry_changed(new.parent, &new.name);
        }
        Ok(true)
    }

    fn renamed_twice(&self, when: Timestamp, ino: Ino, path: Vec<u8>) -> Conflict {
        Conflict {
            ino,
            note: ino,
            path,
            host: self.options.host.clone(),
            when,
            kind: ConflictKind::Renamed,
        }
    }

    /// A file of which only the name or the metadata was changed here, whose content was never here, and whose object somebody deleted, is
    /// gone: there is nothing to store. `true`: it was one.
    pub(crate) fn let_go(&self, ino: Ino) -> Result<bool> {
        let mut any = false;
        loop {
            let gone = self.change(|op| {
                let Some(inode) = op.tables.inode(ino)? else {
                    return Ok(None);
                };
                let Some(name) = op.tables.names_of(ino)?.into_iter().next() else {
                    return Ok(None);
                };
                if !has_lost_its_content(op, &inode)? {
                    return Ok(None);
                }
                op.push(Mutation::DropDentry {
                    parent: name.parent,
                    name: name.name.clone(),
                });
                let blob = self.lose_name(op, inode, &name)?;
                Ok(Some((name, blob)))
            })?;
            let Some((name, blob)) = gone else { return Ok(any) };
            any = true;
            self.remove_blob_of_gone(blob);
            let shown = String::from_utf8_lossy(&name.name).into_owned();
            tracing::warn!(
                name = shown,
                "A file was renamed or changed in mode here while it was deleted elsewhere"
            );
            if let Some(observer) = self.observer() {
                observer.entry_changed(name.parent, &name.name);
            }
        }
    }

    /// The name that a key has here, or would have; `None` if something of this machine's own is there, or no folder for it.
    fn name_at(&self, op: &mut Op<'_>, ino: Ino, key: &str) -> Result<Option<Dentry>> {
        let (folder, segment) = key.rsplit_once('/').unwrap_or(("", key));
        let parent = if folder.is_empty() {
            Some(ROOT_INO)
        } else {
            resolve_key(op.tables, folder)?
        };
        let Some(parent) = parent.filter(|_| is_canonical(segment)) else {
            return Ok(None);
        };
        if !op.tables.inode(parent)?.is_some_and(|inode| inode.is_dir()) {
            return Ok(None);
        }
        let name = unescape_segment(segment);
        if let Some((other, _)) = op.tables.name(parent, &name)? {
            let theirs = op.tables.remote(key)?.is_some_and(|remote| remote.ino == other);
            if !theirs || op.tables.dirty.contains_key(&other) {
                return Ok(None);
            }
        }
        let cookie = op.tables.new_cookie();
        Ok(Some(Dentry {
            parent,
            name,
            ino,
            cookie,
            segment: None,
        }))
    }

    /// The file that was learnt from the bucket in the meantime is the one that we have already.
    fn make_way(&self, op: &mut Op<'_>, at: &Dentry) -> Result<Option<Ino>> {
        let Some(dentry) = op.tables.dentry(at.parent, &at.name)? else {
            return Ok(None);
        };
        match op.tables.inode(dentry.ino)? {
            Some(other) => self.lose_name(op, other, &dentry),
            None => Ok(None),
        }
    }
}

/// Not changed here, not whole here, and in no object.
fn has_lost_its_content(op: &mut Op<'_>, inode: &Inode) -> Result<bool> {
    if inode.kind != FileKind::File || inode.size == 0 || inode.base_version != inode.content_version {
        return Ok(false);
    }
    let whole = match inode.place {
        Place::Inline => true,
        Place::Nowhere => false,
        Place::Blob => crate::blob::ranges::first_gap(&op.tables.present(inode.ino)?, 0, inode.size).is_none(),
    };
    let mut objects = op.tables.remotes_of(inode.ino)?.into_iter();
    Ok(!whole && !objects.any(|remote| remote.content_version == inode.base_version && !remote.etag.is_empty()))
}

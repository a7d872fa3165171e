//! Making one line of a listing part of the folder: under its own name, or under an alias if that cannot be, or in the list of
//! skipped keys if not even that.

use crate::error::Result;
use crate::replica::metadata::{fill_directory, learn};
use crate::replica::op::Op;
use crate::replica::{RESERVED_NAME, Replica};
use crate::state::{Dentry, Inode, Mutation, Remote};
use crate::store::{Listed, ObjectInfo, ObjectKey, escape_name, is_canonical, unescape_segment};
use crate::types::*;
use std::collections::HashSet;

/// How much of a name that is too long its alias keeps, in bytes.
const ALIAS_STEM_BYTES: usize = 200;

impl Replica {
    /// Adopts one line of its own, whose directories need not be known.
    pub(crate) fn adopt_line(&self, listed: &Listed) -> Result<()> {
        self.deletions.lock().keys.remove(&listed.key);
        self.adopt((ROOT_INO, ""), listed, u64::MAX, &mut HashSet::new())
    }

    /// Adopts one line below a directory (given with its key prefix), of a listing that began after the operation `began`; notes the
    /// directories passed through in `visited`.
    pub(crate) fn adopt(
        &self,
        below: (Ino, &str),
        listed: &Listed,
        began: u64,
        visited: &mut HashSet<Ino>,
    ) -> Result<()> {
        let (dir, prefix) = below;
        let Some(below) = listed.key.strip_prefix(prefix).filter(|below| !below.is_empty()) else {
            return Ok(());
        };
        if listed.key.starts_with(RESERVED_NAME) && listed.key[RESERVED_NAME.len()..].starts_with('/') {
            return Ok(());
        }
        let stem = listed.key.strip_suffix('/').unwrap_or(&listed.key);
        if let Err(problem) = ObjectKey::parse(stem) {
            return self.skip(&listed.key, problem.to_string(), None);
        }
        if let Some(known) = self.view(|tables| tables.remote(&listed.key))? {
            return match &listed.object {
                _ if known.noted > began || listed.key.ends_with('/') => Ok(()),
                Some(info) if known.etag != info.etag.0 => self.object_changed(&known, info).map(drop),
                _ => Ok(()),
            };
        }
        if self.deletions.lock().keys.contains(&listed.key) {
            return Ok(());
        }
        let is_directory = below.ends_with('/');
        let mut segments: Vec<&str> = below.trim_end_matches('/').split('/').collect();
        let leaf = if is_directory { None } else { segments.pop() };
        let mut parent = dir;
        for segment in segments {
            parent = self.adopt_directory(parent, segment)?;
            visited.insert(parent);
        }
        match (leaf, &listed.object) {
            (Some(segment), Some(info)) => self.adopt_object(parent, segment, &listed.key, info),
            _ => Ok(()),
        }
    }

    fn adopt_directory(&self, parent: Ino, segment: &str) -> Result<Ino> {
        let name = name_for(segment);
        if let Some((ino, _)) = self.view(|tables| tables.name(parent, &name))?
            && self.view(|tables| Ok(tables.inode(ino)?.is_some_and(|inode| inode.is_dir())))?
        {
            return Ok(ino);
        }
        let (ino, shown_before) = self.change(|op| {
            let mut directory = op.tables.live_inode(parent)?;
            if let Some((file, _)) = op.tables.name(parent, &name)? {
                self.step_aside(op, parent, &name, file)?;
            }
            let mut inode = blank(
                op,
                FileKind::Directory,
                0o755,
                self.options.default_uid,
                self.options.default_gid,
            );
            inode.parent = parent;
            inode.text = name.clone();
            inode.segment = own_segment(segment, &name);
            let key = format!("{}{segment}/", op.tables.directory_key(parent)?.key);
            if let Some((told, changed)) = self.hints.lock().get(&key).and_then(|line| line.directory()) {
                fill_directory(op, &mut inode, &told, changed)?;
            }
            let cookie = op.tables.new_cookie();
            let segment = inode.segment.clone();
            op.put(&inode);
            op.push(Mutation::PutDentry(Dentry {
                parent,
                name: name.clone(),
                ino: inode.ino,
                cookie,
                segment,
            }));
            op.push(Mutation::PutRemote(remote(key, &inode, String::new())));
            directory.nlink += 1;
            op.put(&directory);
            Ok((inode.ino, directory.known))
        })?;
        if let Some(observer) = self.observer().filter(|_| shown_before) {
            observer.entry_changed(parent, &name);
        }
        Ok(ino)
    }

    /// A file that is in the way of a directory of the same name gets an alias; its key stays.
    fn step_aside(&self, op: &mut Op<'_>, parent: Ino, name: &[u8], file: Ino) -> Result<()> {
        let Some(dentry) = op.tables.dentry(parent, name)? else {
            return Ok(());
        };
        let segment = dentry.segment.clone().unwrap_or_else(|| escape_name(name));
        let alias = [name, b" (file beside folder)"].concat();
        let key = format!("{}{segment}", op.tables.directory_key(parent)?.key);
        let shown = String::from_utf8_lossy(&op.tables.path_of(parent, &alias)?).into_owned();
        op.push(Mutation::DropDentry {
            parent,
            name: name.to_vec(),
        });
        op.push(Mutation::PutDentry(Dentry {
            name: alias,
            segment: Some(segment),
            ..dentry
        }));
        op.content_changed(file);
        let reason = "A folder has the same name".to_owned();
        op.push(Mutation::PutSkipped {
            key,
            reason,
            alias: Some(shown),
        });
        Ok(())
    }

    fn adopt_object(&self, parent: Ino, segment: &str, key: &str, info: &ObjectInfo) -> Result<()> {
        let mut name = name_for(segment);
        let mut why = None;
        if name.len() != segment.len() && own_segment(segment, &name).is_some() {
            why = Some("Its name is too long for a file".to_owned());
        }
        let taken = self.view(|tables| tables.dentry(parent, &name))?;
        if let Some(taken) = taken {
            let same_key = taken.segment.clone().unwrap_or_else(|| escape_name(&taken.name)) == segment;
            let is_dir = self.view(|tables| Ok(tables.inode(taken.ino)?.is_some_and(|inode| inode.is_dir())))?;
            match (same_key, is_dir) {
                (true, false) => return Ok(()),
                (_, true) => {
                    name.extend_from_slice(b" (file beside folder)");
                    why = Some("A folder has the same name".to_owned());
                }
                (false, false) => {
                    name = alias(segment);
                    why = Some("Another key has the same name".to_owned());
                }
            }
        }
        if self.view(|tables| tables.name(parent, &name))?.is_some() {
            return Ok(());
        }
        self.adopt_as(parent, name, segment, (key, info), why)
    }

    fn adopt_as(
        &self,
        parent: Ino,
        name: Vec<u8>,
        segment: &str,
        object: (&str, &ObjectInfo),
        why: Option<String>,
    ) -> Result<()> {
        let (key, info) = object;
        let shown_before = self.view(|tables| Ok(tables.live_inode(parent)?.known))?;
        let hint = self.hints.lock().get(key).and_then(|line| line.metadata(info));
        let ino = self.change(|op| {
            let mut inode = blank(
                op,
                FileKind::File,
                0o644,
                self.options.default_uid,
                self.options.default_gid,
            );
            inode.size = info.size;
            inode.mtime = info.last_modified;
            inode.atime = info.last_modified;
            inode.ctime = info.last_modified;
            inode.known = hint.is_none() && !self.bears_metadata();
            let cookie = op.tables.new_cookie();
            let segment = own_segment(segment, &name);
            op.put(&inode);
            op.push(Mutation::PutDentry(Dentry {
                parent,
                name: name.clone(),
                ino: inode.ino,
                cookie,
                segment,
            }));
            op.push(Mutation::PutRemote(remote(key.to_owned(), &inode, info.etag.0.clone())));
            op.push(Mutation::AddBacklog(inode.ino));
            if let Some(reason) = why {
                let shown = String::from_utf8_lossy(&op.tables.path_of(parent, &name)?).into_owned();
                op.push(Mutation::PutSkipped {
                    key: key.to_owned(),
                    reason,
                    alias: Some(shown),
                });
            }
            Ok(inode.ino)
        })?;
        if let Some(meta) = hint.filter(|meta| meta.kind != Some(FileKind::Symlink) || meta.target.is_some()) {
            self.change(|op| learn(op, ino, &meta))?;
        }
        if let Some(observer) = self.observer().filter(|_| shown_before) {
            observer.entry_changed(parent, &name);
        }
        Ok(())
    }

    pub(crate) fn skip(&self, key: &str, reason: String, alias: Option<String>) -> Result<()> {
        self.change(|op| {
            op.push(Mutation::PutSkipped {
                key: key.to_owned(),
                reason,
                alias,
            });
            Ok(())
        })
    }
}

/// An inode whose content is in the bucket and whose metadata is to be found out.
pub(in crate::replica) fn blank(op: &mut Op<'_>, kind: FileKind, mode: u32, uid: u32, gid: u32) -> Inode {
    let inode = Inode::new(op.tables.new_ino(), kind, mode, (uid, gid), op.now);
    Inode {
        base_version: 1,
        known: false,
        ..inode
    }
}

pub(in crate::replica) fn remote(key: String, inode: &Inode, etag: String) -> Remote {
    let (content_version, meta_version) = (inode.content_version, inode.meta_version);
    Remote {
        key,
        ino: inode.ino,
        etag,
        content_version,
        meta_version,
        noted: 0,
    }
}

/// The file name that shows a key segment.
fn name_for(segment: &str) -> Vec<u8> {
    let name = if is_canonical(segment) {
        unescape_segment(segment)
    } else {
        segment.as_bytes().to_vec()
    };
    if name.len() > NAME_LENGTH_MAX_BYTES {
        alias(segment)
    } else {
        name
    }
}

/// The file name that shows a key segment, unless it needs an alias.
pub(crate) fn own_name(segment: &str) -> Option<Vec<u8>> {
    let name = name_for(segment);
    let aliased = name.len() != segment.len() && own_segment(segment, &name).is_some();
    (!aliased && !name.is_empty()).then_some(name)
}

/// A name for a segment that cannot have its own.
fn alias(segment: &str) -> Vec<u8> {
    let mut end = segment.len().min(ALIAS_STEM_BYTES);
    while !segment.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{:08x}", &segment[..end], crc32fast::hash(segment.as_bytes())).into_bytes()
}

/// The segment, where the name does not say it already.
pub(in crate::replica) fn own_segment(segment: &str, name: &[u8]) -> Option<String> {
    (escape_name(name) != segment).then(|| segment.to_owned())
}

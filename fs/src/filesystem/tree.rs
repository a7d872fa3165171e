//! What one attempt of an operation sees: the replica, and the virtual folder in its root.
//!
//! Owns which of both answers a question. Changes are the replica's alone: nothing in the virtual folder can be changed, which is said
//! before an operation is attempted.

use super::virtual_folder::{VIRTUAL_NAME, VirtualFolder, is_virtual};
use bytes::Bytes;
use notefs_cache::{Attr, DirEntry, Error, Ino, ROOT_INO, Replica, SeekTarget, Step};
use std::ops::Deref;
use std::sync::Arc;

/// Both, to be kept.
#[derive(Clone)]
pub(super) struct View {
    pub(super) replica: Arc<Replica>,
    pub(super) folder: Option<Arc<VirtualFolder>>,
}

impl View {
    pub(super) fn tree(&self) -> Tree<'_> {
        Tree {
            replica: &self.replica,
            folder: self.folder.as_deref(),
        }
    }
}

/// Both, for one attempt. What is not asked of the virtual folder is the replica's.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a> {
    replica: &'a Replica,
    folder: Option<&'a VirtualFolder>,
}

impl Deref for Tree<'_> {
    type Target = Replica;

    fn deref(&self) -> &Replica {
        self.replica
    }
}

impl Tree<'_> {
    /// The virtual folder, if the inode is of it.
    fn virtual_at(&self, ino: Ino) -> Result<Option<&VirtualFolder>, Error> {
        match (is_virtual(ino), self.folder) {
            (false, _) => Ok(None),
            (true, Some(folder)) => Ok(Some(folder)),
            (true, None) => Err(Error::Posix(libc::ESTALE)),
        }
    }

    pub(super) fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr, Error> {
        if let (ROOT_INO, VIRTUAL_NAME, Some(folder)) = (parent, name, self.folder) {
            return Ok(folder.top());
        }
        match self.virtual_at(parent)? {
            Some(folder) => folder.lookup(self, parent, name),
            None => self.replica.lookup(parent, name),
        }
    }

    pub(super) fn attr(&self, ino: Ino) -> Result<Attr, Error> {
        match self.virtual_at(ino)? {
            Some(folder) => folder.attr(ino),
            None => self.replica.attr(ino),
        }
    }

    pub(super) fn parent_of(&self, ino: Ino) -> Result<Ino, Error> {
        match self.virtual_at(ino)? {
            Some(folder) => folder.parent_of(ino),
            None => self.replica.parent_of(ino),
        }
    }

    pub(super) fn read_dir(&self, dir: Ino, cookie: u64, limit: usize) -> Result<Vec<DirEntry>, Error> {
        if let Some(folder) = self.virtual_at(dir)? {
            return folder.read_dir(self, dir, (cookie, limit));
        }
        let mut entries = self.replica.read_dir(dir, cookie, limit)?;
        if let (ROOT_INO, Some(folder)) = (dir, self.folder)
            && entries.len() < limit
        {
            entries.extend(folder.in_root(cookie));
        }
        Ok(entries)
    }

    pub(super) fn read_link(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        match self.virtual_at(ino)? {
            Some(folder) => folder.read_link(ino),
            None => self.replica.read_link(ino),
        }
    }

    pub(super) fn read(&self, ino: Ino, offset: u64, length: usize) -> Result<Bytes, Error> {
        let Some(folder) = self.virtual_at(ino)? else {
            return self.replica.read(ino, offset, length);
        };
        let content = folder.content(ino)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(length).min(content.len());
        Ok(Bytes::copy_from_slice(&content[start..end]))
    }

    pub(super) fn seek(&self, ino: Ino, offset: u64, target: SeekTarget) -> Result<u64, Error> {
        let Some(folder) = self.virtual_at(ino)? else {
            return self.replica.seek(ino, offset, target);
        };
        let size = folder.content(ino)?.len() as u64;
        match target {
            _ if offset >= size => Err(Error::Posix(libc::ENXIO)),
            SeekTarget::Data => Ok(offset),
            SeekTarget::Hole => Ok(size),
        }
    }

    pub(super) fn step(&self, ino: Ino) -> Result<Step, Error> {
        match self.virtual_at(ino)? {
            Some(_) => Err(Error::Posix(libc::ENODATA)),
            None => self.replica.step(ino),
        }
    }

    pub(super) fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Error> {
        match self.virtual_at(ino)? {
            Some(_) => Err(Error::Posix(libc::ENODATA)),
            None => self.replica.xattr(ino, name),
        }
    }

    pub(super) fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>, Error> {
        match self.virtual_at(ino)? {
            Some(_) => Ok(Vec::new()),
            None => self.replica.list_xattrs(ino),
        }
    }
}

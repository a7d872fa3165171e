//! Files and directories of the folder: reads that are whole, writes that last.
//!
//! Owns `.notefs/tmp` inside the folder: drafts of objects, and the lock that all notefs processes share.

use super::super::{Condition, Deleted, ETag, Object, ObjectInfo, ObjectKey, UserMetadata, Written};
use super::describe::{Failure, MARKER_XATTR, bind_user, etag_of, info_of, is_marked, user_of};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{FlockOperation, RenameFlags, XattrFlags};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where drafts live, inside the folder; never listed.
pub(super) const TEMPORARY: &str = ".notefs/tmp";
const LOCK: &str = ".notefs/tmp/lock";
/// Tries to read a file that is being written in place, or to write into a folder that is being removed.
const TRIES_MAX: usize = 5;

#[derive(Debug)]
pub(super) struct Folder {
    name: String,
    root: PathBuf,
    /// Device and inode of the root: an unmounted disk must not look like an empty store.
    identity: (u64, u64),
    keeps_metadata: bool,
    drafts: AtomicU64,
    /// Guards the commits of this process; inside, the file whose flock guards those of all.
    commits: Mutex<Option<File>>,
    /// Held shared as long as the store is open: whoever gets it alone may clear old drafts away.
    presence: Mutex<Option<File>>,
}

/// An object on its way; removed unless committed.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    file: File,
    committed: bool,
}

/// The right to change what is in the folder.
struct Lock<'a>(MutexGuard<'a, Option<File>>);

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Folder, Failure> {
        let root = match path.canonicalize() {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::NoFolder),
            Err(error) => return Err(error.into()),
        };
        let metadata = root.metadata()?;
        if !metadata.is_dir() {
            return Err(Failure::Refused("the path is not a folder"));
        }
        // Asked without writing: a store is only opened here, and may turn out not to be the right one.
        let asked = rustix::fs::getxattr(&root, MARKER_XATTR, &mut [0u8; 8][..]);
        let keeps_metadata = !matches!(asked, Err(rustix::io::Errno::NOTSUP));
        Ok(Folder {
            name: format!("fs://{}", root.display()),
            identity: (metadata.dev(), metadata.ino()),
            root,
            keeps_metadata,
            drafts: AtomicU64::new(0),
            commits: Mutex::new(None),
            presence: Mutex::new(None),
        })
    }

    /// Enters the store before the first write; reading leaves no trace.
    fn be_present(&self) -> Result<(), Failure> {
        let mut presence = self.presence.lock();
        if presence.is_none() {
            *presence = Some(self.enter()?);
        }
        Ok(())
    }

    /// Makes the place for drafts, and clears away what a crash has left there if no other process uses the store.
    fn enter(&self) -> Result<File, Failure> {
        let temporary = self.root.join(TEMPORARY);
        std::fs::create_dir_all(&temporary)?;
        let presence = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(temporary.join("users"))?;
        if rustix::fs::flock(&presence, FlockOperation::NonBlockingLockExclusive).is_ok() {
            for entry in std::fs::read_dir(&temporary)?.flatten() {
                if entry.file_name().to_string_lossy().starts_with("draft-") {
                    drop(std::fs::remove_file(entry.path()));
                }
            }
        }
        rustix::fs::flock(&presence, FlockOperation::LockShared)?;
        Ok(presence)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn keeps_metadata(&self) -> bool {
        self.keeps_metadata
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// An error unless the root is the folder that was opened.
    pub(super) fn check_root(&self) -> Result<(), Failure> {
        match self.root.symlink_metadata() {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.identity => Ok(()),
            _ => Err(Failure::Moved),
        }
    }

    /// `None` if nothing is there, which is certain only while the root is.
    fn absent<T>(&self) -> Result<Option<T>, Failure> {
        self.check_root().map(|()| None)
    }

    /// The path of a key. No part may be a link, which could lead out of the folder.
    fn path(&self, key: &ObjectKey) -> Result<PathBuf, Failure> {
        if key.as_str() == TEMPORARY || key.as_str().starts_with(".notefs/tmp/") {
            return Err(Failure::Refused("this name belongs to the store itself"));
        }
        let mut path = self.root.clone();
        for segment in key.as_str().split('/') {
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
                return Err(Failure::InTheWay);
            }
            path.push(segment);
        }
        Ok(path)
    }

    /// Opens a regular file, never through a link and never waiting on a pipe.
    fn open_file(&self, key: &ObjectKey) -> Result<Option<(File, Metadata)>, Failure> {
        let path = self.path(key)?;
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if is_nothing(&error) => return self.absent(),
            Err(error) => return Err(Failure::Disk(error)),
        };
        let metadata = file.metadata()?;
        if metadata.is_file() {
            Ok(Some((file, metadata)))
        } else {
            self.absent()
        }
    }

    pub(super) fn describe(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, Failure> {
        let Some((file, metadata)) = self.open_file(key)? else {
            return Ok(None);
        };
        Ok(Some(ObjectInfo {
            user: Some(user_of(&file, &metadata)),
            ..info_of(&metadata)
        }))
    }

    pub(super) fn read(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
        if_match: Option<&ETag>,
    ) -> Result<Option<Object>, Failure> {
        for _ in 0..TRIES_MAX {
            let Some((file, metadata)) = self.open_file(key)? else {
                return Ok(None);
            };
            let info = ObjectInfo {
                user: Some(user_of(&file, &metadata)),
                ..info_of(&metadata)
            };
            if if_match.is_some_and(|etag| *etag != info.etag) {
                return Ok(None);
            }
            let wanted = range.clone().unwrap_or(0..info.size);
            let (start, end) = (wanted.start.min(info.size), wanted.end.min(info.size));
            let mut bytes = vec![0; end.saturating_sub(start) as usize];
            let whole = file.read_exact_at(&mut bytes, start).is_ok();
            if whole && etag_of(&file.metadata()?) == info.etag {
                return Ok(Some(Object {
                    info,
                    bytes: Bytes::from(bytes),
                }));
            }
        }
        Err(Failure::Torn)
    }

    pub(super) fn draft(&self) -> Result<Draft, Failure> {
        self.be_present()?;
        self.check_root()?;
        let directory = self.root.join(TEMPORARY);
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("draft-{}-{number}-{:p}", std::process::id(), self));
        let options = || OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = options().or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => std::fs::create_dir_all(&directory).and_then(|()| options()),
            _ => Err(error),
        })?;
        Ok(Draft {
            path,
            file,
            committed: false,
        })
    }

    /// Makes a draft the object of a key, if the condition holds; returns when that would survive a power cut.
    pub(super) fn commit(
        &self,
        mut draft: Draft,
        key: &ObjectKey,
        user: &UserMetadata,
        condition: &Condition,
    ) -> Result<Written, Failure> {
        let metadata = draft.file.metadata()?;
        if self.keeps_metadata {
            bind_user(&draft.file, &metadata, user)?;
        }
        draft.file.sync_all()?;
        let path = self.path(key)?;
        let lock = self.lock()?;
        if !self.holds(key, condition)? {
            return Ok(Written::ConditionFailed);
        }
        let placed = self.place(&draft.path, &path, *condition == Condition::Absent);
        drop(lock);
        if !placed? {
            return Ok(Written::ConditionFailed);
        }
        draft.committed = true;
        sync_directory(path.parent().unwrap_or(&self.root))?;
        Ok(Written::Done(etag_of(&metadata)))
    }

    /// Moves a draft to its place; `false` if something is there although nothing may be.
    fn place(&self, draft: &Path, path: &Path, must_be_absent: bool) -> Result<bool, Failure> {
        let mut tries = 0;
        loop {
            self.make_parents(path)?;
            let flags = if must_be_absent {
                RenameFlags::NOREPLACE
            } else {
                RenameFlags::empty()
            };
            match rustix::fs::renameat_with(rustix::fs::CWD, draft, rustix::fs::CWD, path, flags) {
                Ok(()) => return Ok(true),
                Err(rustix::io::Errno::EXIST) if must_be_absent && path.is_dir() => return Err(Failure::InTheWay),
                Err(rustix::io::Errno::EXIST) if must_be_absent => return Ok(false),
                // File systems without NOREPLACE; the lock still keeps notefs processes apart.
                Err(rustix::io::Errno::INVAL) if must_be_absent => {
                    return match std::fs::hard_link(draft, path) {
                        Ok(()) => std::fs::remove_file(draft).map(|()| true).map_err(Failure::from),
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                        Err(error) => Err(error.into()),
                    };
                }
                // The folder went between its making and the move.
                Err(rustix::io::Errno::NOENT) if tries < TRIES_MAX => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn holds(&self, key: &ObjectKey, condition: &Condition) -> Result<bool, Failure> {
        let Condition::Matches(etag) = condition else {
            return Ok(true);
        };
        Ok(self
            .open_file(key)?
            .is_some_and(|(_, metadata)| etag_of(&metadata) == *etag))
    }

    pub(super) fn copy(
        &self,
        from: &ObjectKey,
        source: &ETag,
        to: &ObjectKey,
        condition: &Condition,
    ) -> Result<Written, Failure> {
        let Some((mut file, metadata)) = self.open_file(from)? else {
            return Ok(Written::ConditionFailed);
        };
        if etag_of(&metadata) != *source {
            return Ok(Written::ConditionFailed);
        }
        let user = user_of(&file, &metadata);
        let mut draft = self.draft()?;
        let size = io::copy(&mut file, &mut draft.file)?;
        if size != metadata.len() || etag_of(&file.metadata()?) != *source {
            return Ok(Written::ConditionFailed);
        }
        self.commit(draft, to, &user, condition)
    }

    pub(super) fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<Deleted, Failure> {
        let path = self.path(key)?;
        let lock = self.lock()?;
        let Some((_, metadata)) = self.open_file(key)? else {
            return Ok(Deleted::Done);
        };
        if if_match.is_some_and(|etag| *etag != etag_of(&metadata)) {
            return Ok(Deleted::ConditionFailed);
        }
        std::fs::remove_file(&path)?;
        self.prune(path.parent())?;
        drop(lock);
        Ok(Deleted::Done)
    }

    pub(super) fn make_directory(&self, key: &ObjectKey) -> Result<(), Failure> {
        let path = self.path(key)?;
        let lock = self.lock()?;
        self.make_parents(&path.join("child"))?;
        if self.keeps_metadata {
            let directory = File::open(&path)?;
            rustix::fs::fsetxattr(&directory, MARKER_XATTR, b"1", XattrFlags::empty())?;
            directory.sync_all()?;
        }
        drop(lock);
        Ok(())
    }

    pub(super) fn remove_directory(&self, key: &ObjectKey) -> Result<(), Failure> {
        let path = self.path(key)?;
        let lock = self.lock()?;
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {
                let _ = rustix::fs::removexattr(&path, MARKER_XATTR);
                self.prune(Some(&path))?;
            }
            _ => self.check_root()?,
        }
        drop(lock);
        Ok(())
    }

    /// Makes the folders above `path`, each lasting.
    fn make_parents(&self, path: &Path) -> Result<(), Failure> {
        self.check_root()?;
        let Some(parent) = path.parent().filter(|parent| *parent != self.root) else {
            return Ok(());
        };
        if parent.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(());
        }
        self.make_parents(parent)?;
        match std::fs::create_dir(parent) {
            Ok(()) => sync_directory(parent.parent().unwrap_or(&self.root)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && parent.is_dir() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a folder that is empty and not marked, and those above it likewise; makes the removal last.
    fn prune(&self, from: Option<&Path>) -> Result<(), Failure> {
        let mut directory = from;
        while let Some(path) = directory.filter(|path| *path != self.root && self.keeps_metadata) {
            if is_marked(path) || std::fs::remove_dir(path).is_err() {
                break;
            }
            directory = path.parent();
        }
        sync_directory(directory.unwrap_or(&self.root))
    }

    /// Keeps all other commits out, also those of other processes, until it is dropped.
    fn lock(&self) -> Result<Lock<'_>, Failure> {
        self.check_root()?;
        self.be_present()?;
        let mut guard = self.commits.lock();
        if guard.is_none() {
            std::fs::create_dir_all(self.root.join(TEMPORARY))?;
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(self.root.join(LOCK))?;
            *guard = Some(file);
        }
        if let Some(file) = guard.as_ref() {
            rustix::fs::flock(file, FlockOperation::LockExclusive)?;
        }
        Ok(Lock(guard))
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.0.as_ref() {
            let _ = rustix::fs::flock(file, FlockOperation::Unlock);
        }
    }
}

impl Draft {
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(Failure::from)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Errors that mean that no such file is there.
fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENXIO)
    )
}

fn sync_directory(path: &Path) -> Result<(), Failure> {
    match File::open(path) {
        Ok(directory) => directory.sync_all().map_err(Failure::from),
        // Removed meanwhile: then its parent has been flushed by whoever did.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

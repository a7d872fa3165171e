//! Sparse files for large contents, one per inode, below `blobs/` in the cache folder.
//!
//! Owns the files and a bounded set of open descriptors. Does not know which ranges are real: `state` does. A blob without a row in
//! `state` is garbage of a crash and is removed at the start.

pub(crate) mod ranges;

use crate::error::{Error, Result};
use crate::types::Ino;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Descriptors kept open.
const OPEN_FILES_MAX: usize = 64;

/// Folders that the blobs are spread over.
const SHARDS: u64 = 256;

pub(crate) struct Blobs {
    root: PathBuf,
    open: Mutex<LruCache<Ino, Arc<File>>>,
    /// Written since their last flush.
    unsynced: Mutex<HashSet<Ino>>,
}

impl Blobs {
    pub(crate) fn open(root: &Path) -> Result<Blobs> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(|source| local("make the folder for large files", root, source))?;
        let open = Mutex::new(LruCache::new(
            NonZeroUsize::new(OPEN_FILES_MAX).unwrap_or(NonZeroUsize::MIN),
        ));
        Ok(Blobs {
            root: root.to_owned(),
            open,
            unsynced: Mutex::new(HashSet::new()),
        })
    }

    fn path(&self, ino: Ino) -> PathBuf {
        self.root.join(format!("{:02x}", ino % SHARDS)).join(format!("{ino:x}"))
    }

    /// The inode's file, made if it is not there.
    pub(crate) fn file(&self, ino: Ino) -> Result<Arc<File>> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(&ino) {
            return Ok(Arc::clone(file));
        }
        let path = self.path(ino);
        let create = || {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
        };
        let file = match create() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let parent = path.parent().unwrap_or(&self.root);
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(parent)
                    .and_then(|()| create())
            }
            other => other,
        };
        let file = Arc::new(file.map_err(|source| local("open a large file's content", &path, source))?);
        open.put(ino, Arc::clone(&file));
        Ok(file)
    }

    /// Whether the inode has a file here at all.
    pub(crate) fn exists(&self, ino: Ino) -> bool {
        self.path(ino).exists()
    }

    /// Reads exactly `length` bytes; what the file lacks at its end is zeros.
    pub(crate) fn read(&self, ino: Ino, offset: u64, length: usize) -> Result<Vec<u8>> {
        let file = self.file(ino)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(local("read a large file's content", &self.path(ino), source)),
            }
        }
        Ok(bytes)
    }

    pub(crate) fn write(&self, ino: Ino, offset: u64, bytes: &[u8]) -> Result<()> {
        self.unsynced.lock().insert(ino);
        let written = self.file(ino)?.write_all_at(bytes, offset);
        written.map_err(|source| local("write a large file's content", &self.path(ino), source))
    }

    pub(crate) fn set_size(&self, ino: Ino, size: u64) -> Result<()> {
        self.unsynced.lock().insert(ino);
        let done = self.file(ino)?.set_len(size);
        done.map_err(|source| local("resize a large file's content", &self.path(ino), source))
    }

    /// Zeroes a range and gives its disk space back, where the disk's file system can.
    pub(crate) fn punch(&self, ino: Ino, offset: u64, length: u64) -> Result<()> {
        self.unsynced.lock().insert(ino);
        let file = self.file(ino)?;
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        if length == 0 || rustix::fs::fallocate(&*file, flags, offset, length).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; 1 << 20];
        let mut at = offset;
        while at < offset + length {
            let count = (offset + length - at).min(zeros.len() as u64);
            self.write(ino, at, &zeros[..count as usize])?;
            at += count;
        }
        Ok(())
    }

    /// The next data (`hole` false) or hole at or after `offset`; `None` past the end.
    pub(crate) fn seek(&self, ino: Ino, offset: u64, hole: bool) -> Result<Option<u64>> {
        let file = self.file(ino)?;
        let whence = if hole {
            rustix::fs::SeekFrom::Hole(offset)
        } else {
            rustix::fs::SeekFrom::Data(offset)
        };
        match rustix::fs::seek(&*file, whence) {
            Ok(found) => Ok(Some(found)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(local("search a large file for holes", &self.path(ino), error.into())),
        }
    }

    pub(crate) fn remove(&self, ino: Ino) {
        self.open.lock().pop(&ino);
        self.unsynced.lock().remove(&ino);
        if let Err(error) = std::fs::remove_file(self.path(ino))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%ino, %error, "Could not remove a large file's local content; its disk space is lost until the next start");
        }
    }

    /// Flushes every blob that was written since its last flush.
    pub(crate) fn sync(&self) -> Result<()> {
        let pending: Vec<Ino> = self.unsynced.lock().drain().collect();
        for (at, ino) in pending.iter().enumerate() {
            if let Err(source) = self.file(*ino)?.sync_data() {
                self.unsynced.lock().extend(&pending[at..]);
                return Err(local("flush a large file's content", &self.path(*ino), source));
            }
        }
        Ok(())
    }

    /// Every inode that has a file here; for the sweep at the start.
    pub(crate) fn inodes(&self) -> Vec<Ino> {
        let shards = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let files = shards.flat_map(|shard| std::fs::read_dir(shard.path()).into_iter().flatten().flatten());
        files
            .filter_map(|file| Ino::from_str_radix(file.file_name().to_str()?, 16).ok())
            .collect()
    }
}

fn local(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Local {
        action,
        path: path.to_owned(),
        source,
        advice: "Free space on that disk, or check its health",
    }
}

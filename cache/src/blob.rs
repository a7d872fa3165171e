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
use std::os::fd::AsRawFd;
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
    /// Folders with names that are not flushed.
    unsynced_folders: Mutex<HashSet<PathBuf>>,
    /// Of deleted files, with the operation that deleted them: their bytes go once that is flushed, so that no power cut brings back
    /// a file without its bytes.
    retired: Mutex<Vec<(u64, Ino)>>,
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
            unsynced_folders: Mutex::new(HashSet::new()),
            retired: Mutex::new(Vec::new()),
        })
    }

    fn path(&self, ino: Ino) -> PathBuf {
        self.root.join(format!("{:02x}", ino % SHARDS)).join(format!("{ino:x}"))
    }

    /// The inode's file, made if it is not there: only for those who write all that it lacks.
    pub(crate) fn file(&self, ino: Ino) -> Result<Arc<File>> {
        if let Some(file) = self.existing(ino)? {
            return Ok(file);
        }
        let path = self.path(ino);
        let made = self.create(&path);
        let file = Arc::new(made.map_err(|source| local("make a large file's content", &path, source))?);
        self.open.lock().put(ino, Arc::clone(&file));
        Ok(file)
    }

    /// The inode's file, if there is one. One that has vanished must not come back as zeros because somebody looked.
    fn existing(&self, ino: Ino) -> Result<Option<Arc<File>>> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(&ino) {
            return Ok(Some(Arc::clone(file)));
        }
        let path = self.path(ino);
        let file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => Arc::new(other.map_err(|source| local("open a large file's content", &path, source))?),
        };
        open.put(ino, Arc::clone(&file));
        Ok(Some(file))
    }

    /// The inode's file, or an error if it has vanished.
    fn kept(&self, ino: Ino) -> Result<Arc<File>> {
        self.existing(ino)?.ok_or_else(|| {
            let gone = std::io::Error::from_raw_os_error(libc::EIO);
            local("find a large file's content", &self.path(ino), gone)
        })
    }

    /// Whether the inode has a file here at all.
    pub(crate) fn exists(&self, ino: Ino) -> bool {
        self.path(ino).exists()
    }

    fn create(&self, path: &Path) -> std::io::Result<File> {
        let parent = path.parent().unwrap_or(&self.root);
        if !parent.exists() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            self.unsynced_folders.lock().insert(self.root.clone());
        }
        self.unsynced_folders.lock().insert(parent.to_owned());
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(path)
    }

    /// Reads exactly `length` bytes; what the file lacks at its end is zeros.
    pub(crate) fn read(&self, ino: Ino, offset: u64, length: usize) -> Result<Vec<u8>> {
        let file = self.kept(ino)?;
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
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is open as long as `file`.
        let punched = unsafe { libc::fallocate64(file.as_raw_fd(), mode, offset as i64, length as i64) } == 0;
        if length == 0 || punched {
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
        let file = self.kept(ino)?;
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
            if let Err(error) = self.sync_bytes(*ino) {
                self.unsynced.lock().extend(&pending[at..]);
                return Err(error);
            }
        }
        self.sync_folders()
    }

    /// Flushes one blob, written in this run or not.
    pub(crate) fn sync_one(&self, ino: Ino) -> Result<()> {
        self.unsynced.lock().remove(&ino);
        self.sync_bytes(ino)?;
        self.sync_folders()
    }

    fn sync_bytes(&self, ino: Ino) -> Result<()> {
        let Some(file) = self.existing(ino)? else { return Ok(()) };
        let flushed = file.sync_data();
        flushed.map_err(|source| local("flush a large file's content", &self.path(ino), source))
    }

    fn sync_folders(&self) -> Result<()> {
        let folders: Vec<PathBuf> = self.unsynced_folders.lock().drain().collect();
        for folder in folders {
            let flushed = File::open(&folder).and_then(|open| open.sync_all());
            flushed.map_err(|source| local("flush a folder of large files", &folder, source))?;
        }
        Ok(())
    }

    /// The names of blobs may not be on the disk: an earlier run made them.
    pub(crate) fn distrust_names(&self) {
        let shards = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut folders = self.unsynced_folders.lock();
        folders.extend(shards.map(|shard| shard.path()).chain([self.root.clone()]));
    }

    /// Its bytes may not be on the disk: an earlier run wrote them.
    pub(crate) fn distrust(&self, ino: Ino) {
        self.unsynced.lock().insert(ino);
    }

    /// Removes the blob of a deleted file as soon as operation `op` is flushed.
    pub(crate) fn retire(&self, ino: Ino, op: u64) {
        self.open.lock().pop(&ino);
        self.unsynced.lock().remove(&ino);
        self.retired.lock().push((op, ino));
    }

    /// Operations up to `op` are flushed.
    pub(crate) fn bury(&self, op: u64) {
        let ready: Vec<(u64, Ino)> = {
            let mut retired = self.retired.lock();
            retired.extract_if(.., |(by, _)| *by <= op).collect()
        };
        ready.into_iter().for_each(|(_, ino)| self.remove(ino));
    }

    /// Whether deleted files still take up space.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.lock().is_empty()
    }

    /// Writes a blob's bytes once more: after a flush that failed, the kernel takes them for clean.
    pub(crate) fn rewrite(&self, ino: Ino) -> Result<()> {
        let Some(file) = self.existing(ino)? else { return Ok(()) };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        for offset in (0..length).step_by(1 << 20) {
            let bytes = self.read(ino, offset, (length - offset).min(1 << 20) as usize)?;
            self.write(ino, offset, &bytes)?;
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

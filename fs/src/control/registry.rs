//! The running mounts of this user: one record and one socket for each, in a private runtime folder.
//!
//! Owns where records lie, which of them are alive, and which mount a path belongs to. Does not own the protocol, nor the
//! mount table of the kernel (`mount/point.rs`).

use crate::config::long_hash;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest path of a Unix socket that the kernel takes, terminator included.
const SOCKET_PATH_MAX_BYTES: usize = 108;

/// Between two looks whether a daemon has ended.
const END_POLL_MS: u64 = 5;

/// A record is smaller than this, or it is none of ours.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// A running mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The folder, canonical.
    pub(crate) mountpoint: PathBuf,
    /// The store's name, without secrets.
    pub(crate) store: String,
    /// The cache folder.
    pub(crate) cache_dir: PathBuf,
    /// The daemon.
    pub(crate) pid: u32,
    /// When the daemon began, in clock ticks since boot: tells it from a later process with its pid.
    pub(crate) pid_start_ticks: u64,
    /// Where the daemon listens.
    pub(crate) socket: PathBuf,
    /// The mode that the folder underneath had.
    pub(crate) mode_before: u32,
}

impl Record {
    /// Whether the daemon lives.
    pub(crate) fn is_alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.pid_start_ticks)
    }

    /// Waits until the daemon is gone, so that its cache can be used again at once; answers whether it is.
    pub(crate) fn await_end(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        while self.is_alive() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(END_POLL_MS));
        }
        true
    }
}

/// When a living process began. A zombie does not count once its last thread, and with that its files and locks, is gone.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so count from its end: the state comes first, the number of threads is
    // the 18th field from there, the start time the 20th.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let threads: u32 = fields.get(17)?.parse().ok()?;
    if matches!(*fields.first()?, "Z" | "X") && threads <= 1 {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// The folder of records.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    folder: PathBuf,
}

impl Registry {
    /// `$XDG_RUNTIME_DIR/notefs`; without it `/run/notefs` for root, and for others `/run/user/UID/notefs` if that is there, else
    /// `/tmp/notefs-UID`. Clients of agents start their servers without that variable.
    pub(crate) fn of_this_user() -> Registry {
        let user = rustix::process::geteuid();
        let usable = |path: &PathBuf| path.is_absolute() && path.is_dir();
        let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(usable);
        let usual = || Some(PathBuf::from(format!("/run/user/{}", user.as_raw()))).filter(usable);
        let folder = match named {
            Some(runtime) => runtime.join("notefs"),
            None if user.is_root() => PathBuf::from("/run/notefs"),
            None => match usual() {
                Some(runtime) => runtime.join("notefs"),
                None => PathBuf::from(format!("/tmp/notefs-{}", user.as_raw())),
            },
        };
        Registry { folder }
    }

    /// Makes the folder, private; refuses one that another user could have prepared.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        match std::fs::DirBuilder::new().mode(0o700).create(&self.folder) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::io("create the runtime folder", &self.folder)(error)),
        }
        let metadata = std::fs::symlink_metadata(&self.folder).map_err(Failure::io("look at", &self.folder))?;
        let ours = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
        if !ours || metadata.mode() & 0o077 != 0 {
            let message = format!("The runtime folder {} is not private to you", self.folder.display());
            return Err(Failure::new(message).hint("Remove it, or set XDG_RUNTIME_DIR to a private folder of yours"));
        }
        Ok(())
    }

    /// Where the records lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the socket of a mount lies; the mount point's hash keeps it short.
    pub(crate) fn socket_path(&self, mountpoint: &Path) -> Result<PathBuf, Failure> {
        let path = self.path_of(mountpoint, "sock");
        if path.as_os_str().len() >= SOCKET_PATH_MAX_BYTES {
            let message = format!("The path of the control socket {} is too long", path.display());
            return Err(Failure::new(message).hint("Set XDG_RUNTIME_DIR to a folder with a shorter path"));
        }
        Ok(path)
    }

    fn path_of(&self, mountpoint: &Path, extension: &str) -> PathBuf {
        let hash = long_hash(mountpoint.as_os_str().as_encoded_bytes());
        self.folder.join(format!("{hash:016x}.{extension}"))
    }

    /// Writes a record, whole or not at all.
    pub(crate) fn add(&self, record: &Record) -> Result<(), Failure> {
        let path = self.path_of(&record.mountpoint, "json");
        let temporary = path.with_extension("new");
        let text = serde_json::to_vec_pretty(record)
            .map_err(|e| Failure::new(format!("Could not describe the mount: {e}")))?;
        let write = || {
            use std::io::Write;
            let options = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .clone();
            options.open(&temporary)?.write_all(&text)?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(Failure::io("write", &path))
    }

    /// Removes a mount's record and socket.
    pub(crate) fn remove(&self, mountpoint: &Path) {
        for extension in ["json", "sock"] {
            let path = self.path_of(mountpoint, extension);
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!("Could not remove {}: {error}", path.display());
            }
        }
    }

    /// The mounts whose daemons live, by mount point; what dead ones left is cleaned up.
    pub(crate) fn live(&self) -> Vec<Record> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut records = Vec::new();
        for path in entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
        {
            match read_record(&path) {
                Some(record) if record.is_alive() => records.push(record),
                Some(record) => self.remove(&record.mountpoint),
                None => {}
            }
        }
        records.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint));
        records
    }

    /// The mount that a path belongs to, and the path below it. The path itself need not exist.
    pub(crate) fn find(&self, path: &Path) -> Result<(Record, Vec<u8>), Failure> {
        let records = self.live();
        // A server that is mounted nowhere goes by its address, which is no path.
        if let Some(record) = records.iter().find(|record| record.mountpoint == path) {
            return Ok((record.clone(), Vec::new()));
        }
        let textual = absolute(path)?;
        let found = deepest(&records, &textual).or_else(|| {
            // Symlinks on the way: the last component may be missing or dead, so only its parent is asked.
            let parent = std::fs::canonicalize(textual.parent()?).ok()?;
            let real = parent.join(textual.file_name()?);
            deepest(&records, &real).or_else(|| deepest(&records, &std::fs::canonicalize(&real).ok()?))
        });
        found.ok_or_else(|| {
            let message = format!("{} is in no mounted folder", textual.display());
            Failure::new(message).hint("`notefs status` lists the mounts; `notefs mount [STORE] DIR` makes one")
        })
    }
}

/// One record; `None` if it is unreadable, which may be another version's.
fn read_record(path: &Path) -> Option<Record> {
    let size = std::fs::metadata(path).ok()?.len();
    let text = (size <= RECORD_BYTES_MAX).then(|| std::fs::read(path).ok()).flatten()?;
    serde_json::from_slice(&text).ok()
}

/// The path from the root, with `.` and `..` resolved as text.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let start = if path.is_absolute() {
        PathBuf::new()
    } else {
        std::env::current_dir().map_err(Failure::io("find", Path::new("the current folder")))?
    };
    let mut result = start.clone();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir => {}
            other => result.push(other),
        }
    }
    Ok(result)
}

/// The record whose mount point is the longest prefix of the path, and the rest.
fn deepest(records: &[Record], path: &Path) -> Option<(Record, Vec<u8>)> {
    let inside = records.iter().filter(|record| path.starts_with(&record.mountpoint));
    let record = inside.max_by_key(|record| record.mountpoint.components().count())?;
    let below = path.strip_prefix(&record.mountpoint).ok()?;
    Some((record.clone(), below.as_os_str().as_encoded_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(mountpoint: &str, pid: u32, pid_start_ticks: u64) -> Record {
        Record {
            mountpoint: mountpoint.into(),
            store: "memory://".into(),
            cache_dir: "/c".into(),
            pid,
            pid_start_ticks,
            socket: "/s".into(),
            mode_before: 0o755,
        }
    }

    #[test]
    fn paths_belong_to_the_deepest_mount() {
        let records = [record("/n", 1, 0), record("/n/team", 1, 0), record("/notes", 1, 0)];
        let found = |path: &str| deepest(&records, Path::new(path)).map(|(r, rest)| (r.mountpoint, rest));
        assert_eq!(found("/n/a/b.md"), Some(("/n".into(), b"a/b.md".to_vec())));
        assert_eq!(found("/n/team/x.md"), Some(("/n/team".into(), b"x.md".to_vec())));
        assert_eq!(found("/n/team"), Some(("/n/team".into(), Vec::new())));
        assert_eq!(found("/notes2/x.md"), None);
        assert_eq!(found("/elsewhere"), None);
    }

    #[test]
    fn dots_are_resolved_as_text() {
        assert_eq!(absolute(Path::new("/n/./a/../b.md")).unwrap(), Path::new("/n/b.md"));
        assert_eq!(absolute(Path::new("/../..")).unwrap(), Path::new("/"));
        assert_eq!(
            absolute(Path::new("x")).unwrap(),
            std::env::current_dir().unwrap().join("x")
        );
    }

    #[test]
    fn records_of_dead_daemons_are_cleaned_up() {
        let folder = std::env::temp_dir().join(format!("notefs-registry-{}", std::process::id()));
        let registry = Registry { folder: folder.clone() };
        registry.prepare().unwrap();
        let me = std::process::id();
        let ticks = start_ticks(me).unwrap();
        registry.add(&record("/alive", me, ticks)).unwrap();
        registry.add(&record("/reused", me, ticks + 1)).unwrap();
        registry.add(&record("/dead", u32::MAX >> 1, 5)).unwrap();
        std::fs::write(folder.join("strange.json"), "{").unwrap();
        assert_eq!(registry.live(), vec![record("/alive", me, ticks)]);
        assert!(!registry.path_of(Path::new("/dead"), "json").exists());
        assert!(!registry.path_of(Path::new("/reused"), "json").exists());
        assert_eq!(registry.find(Path::new("/alive/x/../y.md")).unwrap().1, b"y.md");
        assert!(registry.find(Path::new("/dead/y.md")).is_err());
        registry.remove(Path::new("/alive"));
        assert!(registry.live().is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn an_open_runtime_folder_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("notefs-open-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Registry { folder: folder.clone() }.prepare().is_err());
        std::fs::remove_dir_all(&folder).unwrap();
        let long = Registry {
            folder: PathBuf::from("/").join("x".repeat(100)),
        };
        assert!(long.socket_path(Path::new("/n")).is_err());
    }
}

//! What programs of this machine hold of the mount: files open for writing, and what they watch.
//!
//! Opens never reach the daemon, and watches cannot: so it is read in `/proc` when it matters. That asks the kernel alone, never the mount. Only
//! processes that this user may look into are seen (all, for root), and neither a mapping whose file was closed nor, before Linux 5.14, anything.
//!
//! A program that opened a file to append does not count as its writer: whatever the file holds, it writes at its end.
//!
//! Owns reading `/proc`. Does not own what follows from it (`notefs_cache`).

use super::felt::Gate;
use notefs_cache::replica::Writers;
use notefs_cache::{Ino, Replica};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// That nobody was seen counts for this long, and so many times as long as it took to look. Who was seen is looked at again each time.
const SEEN_COUNTS_MS: u64 = 250;
const SEEN_COUNTS_FACTOR: u32 = 4;

/// How often watches are looked for: so far apart, or so many times as long as it took to look, and how finely the end of the mount is noticed.
const WATCHES_INTERVAL_MS: u64 = 10_000;
const WATCHES_INTERVAL_MAX_MS: u64 = 60_000;
const WATCHES_INTERVAL_FACTOR: u32 = 50;
const END_POLL_MS: u64 = 500;

/// Watched directories that are told of; who watches more watches everything.
const WATCHED_DIRECTORIES_MAX: usize = 16;

/// Looks into `/proc` for what is held of one mount.
pub(super) struct Programs {
    /// The device of the mount, as `major:minor`.
    device: String,
    gate: Arc<Gate>,
    seen: Mutex<Option<Seen>>,
}

/// Files open for writing at a moment.
struct Seen {
    /// Where the kernel tells of each of them.
    written: HashMap<Ino, Vec<PathBuf>>,
    until: Instant,
}

impl Programs {
    pub(super) fn new(device: String, gate: Arc<Gate>) -> Arc<Programs> {
        Arc::new(Programs {
            device,
            gate,
            seen: Mutex::default(),
        })
    }

    /// Tells the replica what programs watch, for as long as it lives: they use the folder without asking for anything.
    pub(super) fn tell_of_watches(self: &Arc<Self>, replica: &Arc<Replica>) -> std::io::Result<()> {
        let (programs, replica) = (Arc::downgrade(self), Arc::downgrade(replica));
        std::thread::Builder::new()
            .name("notefs-watches".into())
            .spawn(move || tell_of_watches(&programs, &replica))
            .map(drop)
    }

    /// Calls `visit` with the folder in `/proc` of each process that is neither ours nor the actor.
    fn each_process(&self, mut visit: impl FnMut(&Path)) {
        let own = std::process::id();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            if pid.is_some_and(|pid| pid != own && !self.gate.is_actor(pid)) {
                visit(&entry.path());
            }
        }
    }

    fn open_for_writing(&self) -> HashMap<Ino, Vec<PathBuf>> {
        let mut written: HashMap<Ino, Vec<PathBuf>> = HashMap::new();
        self.each_process(|process| {
            let mut mounts = None;
            for_each_descriptor(process, |link, info| {
                let Some(open) = leads_to_writable_file(link).then(|| read_open(info)).flatten() else {
                    return;
                };
                let mounts = mounts.get_or_insert_with(|| mounts_of(process, &self.device));
                if open.writes && mounts.contains(&open.mount) {
                    written.entry(open.ino).or_default().push(info.to_owned());
                }
            });
        });
        written
    }

    fn watched(&self) -> HashSet<Ino> {
        let mut watched = HashSet::new();
        let Some(device) = kernel_device(&self.device) else {
            return watched;
        };
        self.each_process(|process| {
            for_each_descriptor(process, |link, info| {
                if fs::read_link(link).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify")
                    && let Ok(info) = fs::read_to_string(info)
                {
                    watched.extend(info.lines().filter_map(|line| parse_watch(line, device)));
                }
            });
        });
        watched
    }
}

impl Writers for Programs {
    fn is_open_for_writing(&self, ino: Ino) -> bool {
        let mut seen = self.seen.lock();
        let holds = |info: &PathBuf| read_open(info).is_some_and(|open| open.writes && open.ino == ino);
        let known = seen.as_ref().and_then(|seen| seen.written.get(&ino));
        if known.is_some_and(|infos| infos.iter().any(holds)) {
            return true;
        }
        let now = Instant::now();
        if seen.as_ref().is_some_and(|seen| now < seen.until) {
            return false;
        }
        let written = self.open_for_writing();
        let counts = Duration::from_millis(SEEN_COUNTS_MS).max(now.elapsed() * SEEN_COUNTS_FACTOR);
        let is_held = written.contains_key(&ino);
        *seen = Some(Seen {
            written,
            until: Instant::now() + counts,
        });
        is_held
    }
}

fn tell_of_watches(programs: &Weak<Programs>, replica: &Weak<Replica>) {
    let mut due = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(END_POLL_MS));
        let (Some(programs), Some(replica)) = (programs.upgrade(), replica.upgrade()) else {
            return;
        };
        let now = Instant::now();
        if now < due {
            continue;
        }
        let watched = programs.watched();
        replica.note_watched(&watched.into_iter().take(WATCHED_DIRECTORIES_MAX).collect::<Vec<_>>());
        let pause = (now.elapsed() * WATCHES_INTERVAL_FACTOR).min(Duration::from_millis(WATCHES_INTERVAL_MAX_MS));
        due = Instant::now() + pause.max(Duration::from_millis(WATCHES_INTERVAL_MS));
    }
}

/// Calls `visit` with the link of each descriptor of a process, and where the kernel tells of it.
fn for_each_descriptor(process: &Path, mut visit: impl FnMut(&Path, &Path)) {
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        visit(&entry.path(), &process.join("fdinfo").join(entry.file_name()));
    }
}

/// Whether a descriptor was opened for writing: the link's own mode tells, and nothing is asked of where it leads.
fn leads_to_writable_file(link: &Path) -> bool {
    let writable = fs::symlink_metadata(link).is_ok_and(|link| link.permissions().mode() & 0o200 != 0);
    writable && fs::read_link(link).is_ok_and(|target| target.is_absolute())
}

/// An open file, as the kernel tells of it.
#[derive(Debug, PartialEq, Eq)]
struct Open {
    mount: u64,
    ino: Ino,
    /// For writing, and not only at its end.
    writes: bool,
}

fn read_open(info: &Path) -> Option<Open> {
    parse_open(&fs::read_to_string(info).ok()?)
}

fn parse_open(info: &str) -> Option<Open> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = i32::from_str_radix(field("flags:")?, 8).ok()?;
    Some(Open {
        mount: field("mnt_id:")?.parse().ok()?,
        ino: field("ino:")?.parse().ok()?,
        writes: flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_APPEND == 0,
    })
}

/// The watched inode, if it is on this device.
fn parse_watch(line: &str, device: u64) -> Option<Ino> {
    let rest = line.strip_prefix("inotify ")?;
    let field = |name: &str| {
        let text = rest.split(' ').find_map(|word| word.strip_prefix(name))?;
        u64::from_str_radix(text, 16).ok()
    };
    (field("sdev:")? == device).then(|| field("ino:")).flatten()
}

/// The ids under which a process has the device mounted.
fn mounts_of(process: &Path, device: &str) -> HashSet<u64> {
    let text = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    let ours = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let id = words.next()?.parse().ok()?;
        (words.nth(1)? == device).then_some(id)
    });
    ours.collect()
}

/// `major:minor` as the kernel writes devices among watches.
fn kernel_device(device: &str) -> Option<u64> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse::<u64>().ok()? << 20) | minor.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_open_to_write_anywhere_count() {
        let info = |flags: &str| format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t29\nino:\t5\n");
        let open = |flags: &str| parse_open(&info(flags)).unwrap();
        assert_eq!(
            open("0100002"),
            Open {
                mount: 29,
                ino: 5,
                writes: true
            }
        );
        assert!(open("0100001").writes && !open("0100000").writes && !open("0102001").writes);
        assert_eq!(parse_open("pos:\t0\nflags:\t02\n"), None);
    }

    #[test]
    fn watches_are_told_apart_by_their_device() {
        let line =
            "inotify wd:1 ino:1a sdev:40002f mask:fce ignored_mask:0 fhandle-bytes:8 fhandle-type:81 f_handle:1a";
        let device = kernel_device("4:47").unwrap();
        assert_eq!(parse_watch(line, device), Some(0x1a));
        assert_eq!(parse_watch(line, kernel_device("0:47").unwrap()), None);
        assert_eq!(parse_watch("pos:\t0", device), None);
    }

    #[test]
    fn this_process_sees_what_it_holds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut found = false;
        for_each_descriptor(Path::new("/proc/self"), |link, info| {
            if fs::read_link(link).is_ok_and(|target| target == file.path()) {
                found = leads_to_writable_file(link) && read_open(info).unwrap().writes;
            }
        });
        assert!(found);
    }
}

//! One scratch folder a test process, and the removal of what killed processes left behind.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

const PREFIX: &str = "notefs-tests-";

/// A new, empty folder below this process's scratch folder.
pub fn folder(purpose: &str) -> Result<PathBuf> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let path = process_folder().join(format!("{purpose}{serial}"));
    std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

/// Whether a mount (alive or dead) lies at exactly `dir`.
pub fn is_mounted(dir: &Path) -> bool {
    mounts().iter().any(|mounted| mounted == dir)
}

/// Takes a mount away without asking its daemon.
pub fn force_unmount(dir: &Path) {
    let Ok(path) = std::ffi::CString::new(dir.as_os_str().as_encoded_bytes()) else {
        return;
    };
    // SAFETY: the path is a valid C string.
    let done = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) } == 0;
    if !done && is_mounted(dir) {
        std::process::Command::new("fusermount3")
            .arg("-uz")
            .arg(dir)
            .status()
            .ok();
    }
}

fn process_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        sweep();
        std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()))
    })
}

/// Removes the scratch folders of processes that no longer live, and the dead mounts in them.
fn sweep() {
    for mounted in mounts() {
        if owner_of(&mounted).is_some_and(|pid| !is_alive(pid)) {
            force_unmount(&mounted);
        }
    }
    let still_mounted = mounts();
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        let dead = owner_of(&path).is_some_and(|pid| !is_alive(pid));
        if dead && !still_mounted.iter().any(|mounted| mounted.starts_with(&path)) {
            let homes = std::fs::read_dir(&path).into_iter().flatten().flatten();
            homes.for_each(|home| crate::sys::unseal(&home.path().join("notes")));
            std::fs::remove_dir_all(&path).ok();
        }
    }
}

fn owner_of(path: &Path) -> Option<u32> {
    let below = path.strip_prefix(std::env::temp_dir()).ok()?;
    below.iter().next()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn mounts() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let fields = table.lines().filter_map(|line| line.split(' ').nth(4));
    fields.map(|field| PathBuf::from(field.replace("\\040", " "))).collect()
}

/// Removes this process's scratch folder; for programs that end in order (tests leave that to the next sweep).
pub fn clean_up() {
    std::fs::remove_dir_all(process_folder()).ok();
}

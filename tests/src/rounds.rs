//! Rounds of work under `kill -9`, with a manifest of what each call has promised, for the quick tests and for the long ones.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::mount::Mount;
use crate::store::Store;

/// Files that each writer works on.
const FILES_PER_WRITER: usize = 12;

/// What a file was told to hold: its newest version that a call has acknowledged, and the one under way.
#[derive(Clone, Debug, Default)]
struct Promise {
    acknowledged: Option<Vec<u8>>,
    under_way: Option<Vec<u8>>,
    synced: bool,
}

/// The manifest of all writers.
#[derive(Debug, Default)]
pub struct Manifest {
    files: Mutex<BTreeMap<String, Promise>>,
}

/// What one round has shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundReport {
    /// Versions acknowledged so far.
    pub acknowledged: u64,
    /// Of these, with an fsync that had returned.
    pub synced: u64,
    /// Bytes that were promised and are not there.
    pub lost_bytes: u64,
}

impl Manifest {
    fn begin(&self, name: &str, bytes: &[u8]) {
        let mut files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        files.entry(name.to_owned()).or_default().under_way = Some(bytes.to_vec());
    }

    fn done(&self, name: &str, synced: bool) {
        let mut files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let promise = files.entry(name.to_owned()).or_default();
        promise.acknowledged = promise.under_way.take();
        promise.synced = synced;
    }

    /// Compares the folder with what was promised, and goes on from what is there.
    fn check(&self, root: &Path) -> Result<RoundReport> {
        let mut files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut report = RoundReport::default();
        for (name, promise) in files.iter_mut() {
            let found = match std::fs::read(root.join(name)) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| name.clone()),
            };
            report.acknowledged += u64::from(promise.acknowledged.is_some());
            report.synced += u64::from(promise.synced && promise.acknowledged.is_some());
            let kept = found == promise.acknowledged || (promise.under_way.is_some() && found == promise.under_way);
            if !kept {
                report.lost_bytes += promise
                    .acknowledged
                    .as_ref()
                    .map_or(1, |bytes| bytes.len().max(1) as u64);
            }
            *promise = Promise {
                acknowledged: found,
                ..Promise::default()
            };
        }
        Ok(report)
    }
}

/// Replaces files by temporary name, fsync and rename, so that each is old or new at any moment; until the mount is gone.
fn work(root: PathBuf, writer: usize, round: usize, manifest: &Manifest, stop: &AtomicBool) {
    for turn in 0.. {
        let name = format!("writer {writer}/note {:02}.md", turn % FILES_PER_WRITER);
        let length = [40, 900, 7_000, 90_000, 300_000][(turn + writer) % 5];
        let line = format!("writer {writer}, round {round}, turn {turn}\n");
        let bytes = line.repeat(length / line.len() + 1).into_bytes();
        let synced = turn % 3 != 0;
        if stop.load(Ordering::SeqCst) {
            return;
        }
        manifest.begin(&name, &bytes);
        if replace(&root.join(&name), &bytes, synced).is_err() {
            return;
        }
        manifest.done(&name, synced);
    }
}

fn replace(path: &Path, bytes: &[u8], synced: bool) -> std::io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(bytes)?;
    if synced {
        file.sync_all()?;
    }
    std::fs::rename(&draft, path)?;
    if synced {
        file.sync_all()?;
    }
    Ok(())
}

/// Kills a mount in the middle of the work of `writers`, `rounds` times, and checks the manifest after each remount; in the end the bucket
/// must hold it too. `told` hears of each round.
pub fn kill_rounds(
    store: &Store,
    rounds: usize,
    writers: usize,
    mut told: impl FnMut(usize, RoundReport),
) -> Result<u64> {
    let mut mount = Mount::start(store)?;
    let manifest = Manifest::default();
    let mut lost_bytes = 0;
    for writer in 0..writers {
        std::fs::create_dir(mount.path(&format!("writer {writer}")))?;
    }
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..writers {
                let (root, manifest, stop) = (mount.dir().to_owned(), &manifest, &stop);
                scope.spawn(move || work(root, writer, round, manifest, stop));
            }
            // Different moments of write-back, commit and flush.
            std::thread::sleep(Duration::from_millis(120 + (round as u64 * 377) % 1900));
            mount.kill9();
            stop.store(true, Ordering::SeqCst);
        });
        mount
            .remount()
            .with_context(|| format!("after the kill of round {round}"))?;
        let report = manifest.check(mount.dir()).with_context(|| format!("round {round}"))?;
        lost_bytes += report.lost_bytes;
        told(round, report);
    }
    mount.settle()?;
    let files = manifest.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (name, promise) in files.iter() {
        ensure!(
            store.get(name)? == promise.acknowledged,
            "the bucket holds another version of {name}"
        );
    }
    Ok(lost_bytes)
}

//! Pins: content that is kept on this machine, so that it can be read while the store is away.
//!
//! What is pinned follows from a policy (by default all text notes up to 1 MiB) and from the files and folders that a user named. A folder's
//! pin follows the folder wherever it is moved, and ends with it; a file's pin belongs to its name, since editors put new files in the place
//! of old ones. Pins are this machine's own: they lie in `state.db`.
//!
//! Pinned content leaves the cache last. It may take nine tenths of the cache; what does not fit is told by [`PinStatus`] and read on demand.
//!
//! Owns: what is pinned, and how much of it is here. `pin/fetcher.rs` owns bringing the rest, `pin/scan.rs` looking for it.

mod fetcher;
mod scan;

use crate::error::{Error, Result};
use crate::replica::Replica;
use crate::state::{Mutation, Tables};
use crate::types::*;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// Text notes up to this size are pinned by default, and come along with the change that tells of them.
pub(crate) const NOTE_BYTES_MAX: u64 = 1 << 20;

/// Files and folders that a user may name.
const PINS_MAX: usize = 10_000;

/// Endings of names whose files are taken for text.
const TEXT_ENDINGS: [&str; 10] = [
    ".md",
    ".markdown",
    ".mdx",
    ".txt",
    ".org",
    ".rst",
    ".adoc",
    ".tex",
    ".csv",
    ".canvas",
];

/// What is pinned without being named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pinning {
    /// Every file.
    All,
    /// Text notes up to 1 MiB.
    #[default]
    Notes,
    /// Nothing.
    Off,
}

impl Pinning {
    /// The word that users write and see.
    pub fn as_str(self) -> &'static str {
        match self {
            Pinning::All => "all",
            Pinning::Notes => "notes",
            Pinning::Off => "off",
        }
    }

    /// Whether a file of this name (or key) and size is pinned.
    pub(crate) fn covers(self, name: &[u8], size_bytes: u64) -> bool {
        match self {
            Pinning::All => true,
            Pinning::Notes => size_bytes <= NOTE_BYTES_MAX && is_text(name),
            Pinning::Off => false,
        }
    }
}

fn is_text(name: &[u8]) -> bool {
    let ends = |ending: &&str| {
        let at = name.len().checked_sub(ending.len());
        at.is_some_and(|at| name[at..].eq_ignore_ascii_case(ending.as_bytes()))
    };
    TEXT_ENDINGS.iter().any(ends)
}

/// How much is pinned, and how much of that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PinAmount {
    /// Pinned files with content.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them of which something is not here yet.
    pub missing_files: u64,
    /// The bytes that are not here.
    pub missing_bytes: u64,
}

impl PinAmount {
    fn add(&mut self, size_bytes: u64, missing_bytes: u64) {
        self.files += 1;
        self.bytes += size_bytes;
        self.missing_files += u64::from(missing_bytes > 0);
        self.missing_bytes += missing_bytes;
    }
}

/// The state of all that is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PinStatus {
    /// What is pinned without being named.
    pub policy: Pinning,
    /// Files and folders that were named.
    pub named: u64,
    /// All pinned files together, as of the last look.
    pub amount: PinAmount,
    /// Missing files for which the cache has no room.
    pub unfit_files: u64,
    /// The bytes that they lack.
    pub unfit_bytes: u64,
    /// Folders that are pinned, and whose names are not known yet.
    pub unlisted: u64,
    /// Everything that is pinned and fits is here.
    pub complete: bool,
}

/// One file or folder that was named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinReport {
    /// Its path below the mount; empty for all of it.
    pub path: Vec<u8>,
    /// Whether it is a folder, with all that is in it.
    pub is_dir: bool,
    /// How much that is.
    pub amount: PinAmount,
}

/// Pins as the replica holds them in memory.
#[derive(Default)]
pub(crate) struct Pins {
    policy: Mutex<Pinning>,
    /// Something pinned may be missing, or there is less of it than was told.
    look: AtomicBool,
    status: Mutex<PinStatus>,
}

impl Pins {
    /// Content may be missing from now on.
    pub(crate) fn look_soon(&self) {
        self.look.store(true, Ordering::Release);
    }

    pub(crate) fn policy(&self) -> Pinning {
        *self.policy.lock()
    }
}

/// Pins.
impl Replica {
    /// Says what is pinned without being named; [`Pinning::Notes`] if nobody does.
    pub fn set_pinning(&self, policy: Pinning) {
        *self.pins.policy.lock() = policy;
        self.pins.status.lock().complete = false;
        self.pins.look_soon();
    }

    /// Pins a file, or a folder with all that is and will be in it. [`Error::Need`] and ENOENT as any operation; ENOSPC beyond
    /// 10,000 pins.
    pub fn pin(&self, path: &[u8]) -> Result<()> {
        let (dir, name) = self.pin_place(path)?;
        self.pins.status.lock().complete = false;
        self.change(|op| {
            if op.tables.pins.values().map(HashSet::len).sum::<usize>() >= PINS_MAX {
                return Err(Error::Posix(libc::ENOSPC));
            }
            op.push(Mutation::PutPin { dir, name });
            Ok(())
        })?;
        self.pins.look_soon();
        Ok(())
    }

    /// Takes a pin back; `false` if exactly this path has none. What is here stays until room is needed.
    pub fn unpin(&self, path: &[u8]) -> Result<bool> {
        let (dir, name) = match self.pin_place(path) {
            // The file may be gone, and its pin is not.
            Err(Error::Posix(libc::ENOENT)) => self.name_place(path)?,
            place => place?,
        };
        let known = self.change(|op| {
            let known = op.tables.pins.get(&dir).is_some_and(|names| names.contains(&name));
            if known {
                op.push(Mutation::DropPin { dir, name });
            }
            Ok(known)
        })?;
        self.pins.look_soon();
        Ok(known)
    }

    /// The files and folders that were named, each with how much of it is here, by their paths.
    pub fn pin_reports(&self) -> Result<Vec<PinReport>> {
        let mut reports = self.scan_pins()?.reports;
        reports.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(reports)
    }

    /// The state of all that is pinned, as of the last look for what is missing.
    pub fn pin_status(&self) -> PinStatus {
        let status = *self.pins.status.lock();
        PinStatus {
            policy: self.pins.policy(),
            named: self.state.lock().pins.values().map(|names| names.len() as u64).sum(),
            complete: status.complete && !self.pins.look.load(Ordering::Acquire),
            ..status
        }
    }

    /// Whether some name of the inode is pinned.
    pub(crate) fn is_pinned(&self, ino: Ino) -> Result<bool> {
        let policy = self.pins.policy();
        self.view(|tables| {
            let size_bytes = tables.inode(ino)?.map_or(0, |inode| inode.size);
            for name in tables.names_of(ino)? {
                if policy.covers(&name.name, size_bytes) || tables.pinned_by_name(name.parent, &name.name)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// What names a pin: a folder and nothing, or a file's folder and its name.
    fn pin_place(&self, path: &[u8]) -> Result<(Ino, Vec<u8>)> {
        let attr = self.resolve(path)?;
        match attr.kind {
            FileKind::Directory => Ok((attr.ino, Vec::new())),
            _ => self.name_place(path),
        }
    }

    fn name_place(&self, path: &[u8]) -> Result<(Ino, Vec<u8>)> {
        let cut = path.iter().rposition(|byte| *byte == b'/');
        let (folder, name) = cut.map_or((&[][..], path), |at| (&path[..at], &path[at + 1..]));
        Ok((self.resolve(folder)?.ino, name.to_vec()))
    }
}

impl Tables {
    /// Whether a user named this file, or a folder that it lies in.
    pub(crate) fn pinned_by_name(&mut self, parent: Ino, name: &[u8]) -> Result<bool> {
        if self.pins.is_empty() {
            return Ok(false);
        }
        if self.pins.get(&parent).is_some_and(|names| names.contains(name)) {
            return Ok(true);
        }
        self.pinned_directory(parent)
    }

    /// Whether a user named this folder, or one that it lies in.
    pub(crate) fn pinned_directory(&mut self, dir: Ino) -> Result<bool> {
        let mut at = dir;
        while !self.pins.is_empty() {
            if self.pins.get(&at).is_some_and(|names| names.contains(&[][..])) {
                return Ok(true);
            }
            match self.inode(at)? {
                Some(inode) if at != ROOT_INO => at = inode.parent,
                _ => break,
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_notes_up_to_a_mebibyte_are_pinned_by_default() {
        let covers = |policy: Pinning, name: &str, size| policy.covers(name.as_bytes(), size);
        assert!(covers(Pinning::Notes, "a.md", 0) && covers(Pinning::Notes, "d/B.TXT", NOTE_BYTES_MAX));
        assert!(!covers(Pinning::Notes, "a.md", NOTE_BYTES_MAX + 1));
        assert!(!covers(Pinning::Notes, "a.png", 1) && !covers(Pinning::Notes, "md", 1));
        assert!(covers(Pinning::All, "a.png", u64::MAX) && !covers(Pinning::Off, "a.md", 1));
    }
}

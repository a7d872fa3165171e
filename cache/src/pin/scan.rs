//! Looking through all files for what is pinned and not here.
//!
//! In steps of a few hundred rows, so that nobody waits for it; what changes meanwhile is found by the next look.

use super::{PinAmount, PinReport, PinStatus, Pinning};
use crate::error::Result;
use crate::replica::Replica;
use crate::state::{PinnedRow, Tables};
use crate::types::*;
use std::collections::HashMap;

/// Rows read under one lock.
const ROWS_PER_STEP: usize = 500;

/// Missing files kept from one look; the next one finds the rest.
const WANTED_MAX: usize = 4_096;

/// Pinned content may take this part of the cache, in tenths: the rest is for what programs read besides.
const SHARE_OF_CACHE_TENTHS: u64 = 9;

/// Folders whose names are not known yet that are kept from one look.
const UNLISTED_MAX: usize = 64;

/// With the policy alone, folders of a bucket are looked into up to so many files and folders; more are learnt as programs look.
const WALKED_INODES_MAX: u64 = 200_000;

/// A file of which something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    /// Newest first: the order of the file's time, turned round.
    age: std::cmp::Reverse<i64>,
    pub(super) ino: Ino,
    pub(super) missing_bytes: u64,
}

/// What a look has found.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) status: PinStatus,
    /// What is to be fetched, the newest first.
    pub(super) wanted: Vec<Wanted>,
    /// Folders to be listed.
    pub(super) unlisted: Vec<Ino>,
    pub(super) reports: Vec<PinReport>,
}

/// Where the next step goes on, and what has been found out about folders.
struct Cursor {
    at: (Ino, Ino, Vec<u8>),
    policy: Pinning,
    /// The named folders around a folder, as positions of their reports.
    around: HashMap<Ino, Vec<usize>>,
    /// Positions of reports by their names.
    places: Places,
    counted: Ino,
}

impl Replica {
    /// Looks through all files.
    pub(super) fn scan_pins(&self) -> Result<Scan> {
        self.state.commit()?;
        let (mut scan, places) = self.view(named)?;
        let mut cursor = Cursor {
            at: (0, 0, Vec::new()),
            policy: self.pins.policy(),
            around: HashMap::new(),
            places,
            counted: 0,
        };
        while self.view(|tables| step(tables, &mut cursor, &mut scan))? {
            if scan.wanted.len() > 2 * WANTED_MAX {
                keep_newest(&mut scan.wanted);
            }
        }
        keep_newest(&mut scan.wanted);
        self.view(|tables| find_unlisted(tables, cursor.policy, &mut scan))?;
        let here = scan.status.amount.bytes - scan.status.amount.missing_bytes;
        let owed = self.state.lock().dirty_bytes;
        let room = self.options.cache_size_bytes / 10 * SHARE_OF_CACHE_TENTHS;
        fit(&mut scan, room.saturating_sub(here + owed));
        Ok(scan)
    }
}

/// Where in the reports a directory and a name in it are told of.
type Places = HashMap<(Ino, Vec<u8>), usize>;

/// The named files and folders, with nothing counted yet.
fn named(tables: &mut Tables) -> Result<(Scan, Places)> {
    let (mut scan, mut places) = (Scan::default(), HashMap::new());
    let pins = tables.pins.clone();
    for (dir, names) in pins {
        for name in names {
            let folder = match dir {
                ROOT_INO => Vec::new(),
                dir if tables.inode(dir)?.is_some() => tables.directory_key(dir)?.path.to_vec(),
                _ => continue,
            };
            let is_dir = name.is_empty();
            let mut path = [folder, name.clone()].concat();
            if is_dir {
                path.pop();
            }
            places.insert((dir, name), scan.reports.len());
            scan.reports.push(PinReport {
                path,
                is_dir,
                amount: PinAmount::default(),
            });
        }
    }
    Ok((scan, places))
}

/// One step; `false`: it was the last.
fn step(tables: &mut Tables, cursor: &mut Cursor, scan: &mut Scan) -> Result<bool> {
    let rows = tables.rows_to_pin((cursor.at.0, cursor.at.1, &cursor.at.2), ROWS_PER_STEP)?;
    let more = rows.len() == ROWS_PER_STEP;
    if let Some(last) = rows.last() {
        cursor.at = (last.ino, last.parent, last.name.clone());
    }
    for row in rows {
        let named = cursor.named_around(tables, &row)?;
        let missing = row.size.saturating_sub(tables.local_bytes_of(row.ino));
        for at in &named {
            scan.reports[*at].amount.add(row.size, missing);
        }
        if named.is_empty() && !cursor.policy.covers(&row.name, row.size) {
            tables.keep_no_longer(row.ino);
            continue;
        }
        // Another name of a file that is counted already.
        if std::mem::replace(&mut cursor.counted, row.ino) == row.ino {
            continue;
        }
        scan.status.amount.add(row.size, missing);
        if missing > 0 {
            scan.wanted.push(Wanted {
                age: std::cmp::Reverse(row.mtime_s),
                ino: row.ino,
                missing_bytes: missing,
            });
        }
    }
    Ok(more)
}

impl Cursor {
    /// The named folders and files that a file belongs to.
    fn named_around(&mut self, tables: &mut Tables, row: &PinnedRow) -> Result<Vec<usize>> {
        if self.places.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self.folders_around(tables, row.parent)?;
        found.extend(self.places.get(&(row.parent, row.name.clone())));
        Ok(found)
    }

    fn folders_around(&mut self, tables: &mut Tables, dir: Ino) -> Result<Vec<usize>> {
        if let Some(known) = self.around.get(&dir) {
            return Ok(known.clone());
        }
        let mut found = Vec::new();
        let mut at = dir;
        loop {
            found.extend(self.places.get(&(at, Vec::new())));
            match tables.inode(at)? {
                Some(inode) if at != ROOT_INO => at = inode.parent,
                _ => break,
            }
        }
        self.around.insert(dir, found.clone());
        Ok(found)
    }
}

fn keep_newest(wanted: &mut Vec<Wanted>) {
    wanted.sort_unstable();
    wanted.truncate(WANTED_MAX);
}

/// Folders whose files nobody knows yet, where they are pinned.
fn find_unlisted(tables: &mut Tables, policy: Pinning, scan: &mut Scan) -> Result<()> {
    let all = match policy {
        Pinning::All => true,
        Pinning::Notes => tables.count("inode")? <= WALKED_INODES_MAX,
        Pinning::Off => false,
    };
    let mut after = 0;
    while all || !tables.pins.is_empty() {
        let dirs = tables.unlisted_after(after, ROWS_PER_STEP)?;
        let Some(last) = dirs.last() else { break };
        after = *last;
        for dir in dirs {
            if all || tables.pinned_directory(dir)? {
                scan.status.unlisted += 1;
                scan.unlisted.push(dir);
            }
        }
        scan.unlisted.truncate(UNLISTED_MAX);
    }
    Ok(())
}

/// Leaves out what there is no room for: the newest come first, and a small file may still fit where a large one does not.
fn fit(scan: &mut Scan, mut room_bytes: u64) {
    let status = &mut scan.status;
    scan.wanted.retain(|wanted| {
        let fits = wanted.missing_bytes <= room_bytes;
        if fits {
            room_bytes -= wanted.missing_bytes;
        } else {
            status.unfit_files += 1;
            status.unfit_bytes += wanted.missing_bytes;
        }
        fits
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(mtime_s: i64, ino: Ino, missing_bytes: u64) -> Wanted {
        Wanted {
            age: std::cmp::Reverse(mtime_s),
            ino,
            missing_bytes,
        }
    }

    #[test]
    fn the_newest_come_first_and_what_does_not_fit_is_counted() {
        let mut scan = Scan {
            wanted: vec![wanted(1, 2, 10), wanted(3, 3, 50), wanted(2, 4, 60), wanted(-5, 5, 1)],
            ..Scan::default()
        };
        keep_newest(&mut scan.wanted);
        fit(&mut scan, 100);
        let fitting: Vec<Ino> = scan.wanted.iter().map(|wanted| wanted.ino).collect();
        assert_eq!(fitting, [3, 2, 5]);
        assert_eq!((scan.status.unfit_files, scan.status.unfit_bytes), (1, 60));
    }
}

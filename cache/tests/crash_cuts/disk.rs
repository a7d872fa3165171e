//! A disk as it is at one moment of a recording: what the kernel shows, and what is really on the platters.
//!
//! POSIX's strict reading: a byte is safe once its file was flushed afterwards, a name once its folder was. What was not flushed may be there,
//! be gone, or be torn at sectors, each write for itself.

use crate::script::Random;
use crate::syscalls::Event;
use std::collections::BTreeMap;
use std::path::Path;

const SECTOR_BYTES: usize = 512;

/// How the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The daemon dies; the kernel goes on.
    Kill,
    /// Power is lost, and with it everything that was not flushed.
    DropAll,
    /// ... but for what was written to files whose names begin so: the kernel happened to write them back.
    Keep(&'static str),
    /// ... and of each unflushed write nothing, all, or some sectors are there.
    Torn(u64),
}

#[derive(Debug, Default, Clone)]
struct FileState {
    visible: Vec<u8>,
    flushed: Vec<u8>,
    /// Since the last flush.
    pending: Vec<Event>,
    is_folder: bool,
    /// The name is there for the kernel, and on the disk.
    named: bool,
    name_flushed: bool,
}

/// The files below the recorded folder.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<String, FileState>,
}

impl Disk {
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::MakeFolder(path) | Event::Create(path) => {
                let file = self.files.entry(path.clone()).or_default();
                let name_flushed = file.name_flushed;
                *file = FileState {
                    is_folder: matches!(event, Event::MakeFolder(_)),
                    named: true,
                    name_flushed,
                    ..FileState::default()
                };
            }
            Event::Write { path, .. } | Event::Resize { path, .. } | Event::Punch { path, .. } => {
                if let Some(file) = self.files.get_mut(path) {
                    change(&mut file.visible, event, |_| true);
                    file.pending.push(event.clone());
                }
            }
            Event::Flush(path) => self.flush(path),
            Event::FlushFailed(path) => {
                if let Some(file) = self.files.get_mut(path) {
                    file.pending.clear();
                }
            }
            Event::Unlink(path) => {
                if let Some(file) = self.files.get_mut(path) {
                    file.named = false;
                }
            }
            // Of a file that is new under both names: the old one is gone, the new one as safe as its folder.
            Event::Rename { from, to } => {
                if let Some(file) = self.files.remove(from) {
                    let name_flushed = self.files.get(to).is_some_and(|file| file.name_flushed);
                    self.files.insert(to.clone(), FileState { name_flushed, ..file });
                }
            }
            Event::Mark(_) => {}
        }
    }

    fn flush(&mut self, path: &str) {
        let is_folder = path.is_empty() || self.files.get(path).is_some_and(|file| file.is_folder);
        if !is_folder {
            if let Some(file) = self.files.get_mut(path) {
                let pending = std::mem::take(&mut file.pending);
                pending
                    .iter()
                    .for_each(|event| change(&mut file.flushed, event, |_| true));
            }
            return;
        }
        for (name, file) in &mut self.files {
            if name.rsplit_once('/').map_or("", |(folder, _)| folder) == path {
                file.name_flushed = file.named;
            }
        }
    }

    /// Writes into `target` what is found after the cut.
    pub(crate) fn lay_out(&self, cut: Cut, target: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(target)?;
        let mut random = Random::new(if let Cut::Torn(seed) = cut { seed } else { 1 });
        let mut lost_folders: Vec<String> = Vec::new();
        for (path, file) in &self.files {
            let there = file.is_there(path, cut, &mut random)
                && !lost_folders
                    .iter()
                    .any(|folder| path.starts_with(&format!("{folder}/")));
            if !there {
                lost_folders.extend(file.is_folder.then(|| path.clone()));
                continue;
            }
            if file.is_folder {
                std::fs::create_dir_all(target.join(path))?;
            } else {
                std::fs::write(target.join(path), file.content(path, cut, &mut random))?;
            }
        }
        Ok(())
    }
}

impl FileState {
    fn is_there(&self, path: &str, cut: Cut, random: &mut Random) -> bool {
        match cut {
            Cut::Kill => self.named,
            Cut::Keep(prefix) if path.starts_with(prefix) => self.named,
            Cut::DropAll | Cut::Keep(_) => self.name_flushed,
            Cut::Torn(_) if random.below(2) == 0 => self.named,
            Cut::Torn(_) => self.name_flushed,
        }
    }

    fn content(&self, path: &str, cut: Cut, random: &mut Random) -> Vec<u8> {
        match cut {
            Cut::Kill => self.visible.clone(),
            Cut::Keep(prefix) if path.starts_with(prefix) => self.visible.clone(),
            Cut::DropAll | Cut::Keep(_) => self.flushed.clone(),
            Cut::Torn(_) => {
                let mut bytes = self.flushed.clone();
                for event in &self.pending {
                    match random.below(3) {
                        0 => {}
                        1 => change(&mut bytes, event, |_| true),
                        _ => change(&mut bytes, event, |_sector| random.below(2) == 0),
                    }
                }
                bytes
            }
        }
    }
}

/// Does to `bytes` what the event did to the file, in those sectors that `keep` names.
fn change(bytes: &mut Vec<u8>, event: &Event, mut keep: impl FnMut(usize) -> bool) {
    match event {
        Event::Write { offset, bytes: new, .. } => {
            for (at, sector) in new.chunks(SECTOR_BYTES).enumerate() {
                if keep(at) {
                    let start = *offset as usize + at * SECTOR_BYTES;
                    let end = start + sector.len();
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[start..end].copy_from_slice(sector);
                }
            }
        }
        Event::Resize { size, .. } => bytes.resize(*size as usize, 0),
        Event::Punch { offset, length, .. } => {
            let end = bytes.len().min((offset + length) as usize);
            if (*offset as usize) < end && keep(0) {
                bytes[*offset as usize..end].fill(0);
            }
        }
        _ => {}
    }
}

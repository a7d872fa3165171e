//! An archive becomes a folder.
//!
//! Owns that each file comes back whole by a rename, that what is there already is not written again, and that no path leads out of the
//! folder. What the archive does not name stays as it is.

use super::entry::{Kind, Line, decoded};
use super::{Head, VERSION};
use crate::beneath::{Beneath, Place};
use crate::failure::Failure;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, lsetxattr, makedev,
    mknodat, utimensat,
};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Imported {
    /// Entries that the archive names.
    pub(crate) entries: u64,
    /// Files that were written, since they were not there with that content.
    pub(crate) written: u64,
}

/// A file that is being put together.
struct Open {
    path: Vec<u8>,
    line: Line,
    place: Place,
    draft: PathBuf,
    file: File,
    size: u64,
}

struct Importer {
    beneath: Beneath,
    open: Option<Open>,
    /// Folders get their modes and times last, when nothing below them changes any more.
    folders: Vec<(Vec<u8>, Line)>,
    done: Imported,
}

/// Reads an archive of either spelling into `folder`.
pub(crate) fn import(folder: &Path, archive: impl BufRead) -> Result<Imported, Failure> {
    let mut importer = Importer {
        beneath: Beneath::new(folder)?,
        open: None,
        folders: Vec::new(),
        done: Imported::default(),
    };
    let read = read_lines(archive, &mut |line| importer.line(line));
    let ended = read.and_then(|()| importer.end());
    if let Some(open) = importer.open.take() {
        std::fs::remove_file(&open.draft).ok();
    }
    ended.map(|()| importer.done)
}

type Take<'a> = dyn FnMut(Line) -> Result<(), Failure> + 'a;

/// Hands each line on as it is read; `jsonl` is a sequence of values, `json` a single one.
fn read_lines(archive: impl BufRead, take: &mut Take<'_>) -> Result<(), Failure> {
    let mut failed = None;
    let mut stream = serde_json::Deserializer::from_reader(archive);
    let has_entries = {
        let top = Top {
            take,
            failed: &mut failed,
        };
        top.deserialize(&mut stream)
    };
    if let Some(failure) = failed {
        return Err(failure);
    }
    if has_entries.map_err(damaged)? {
        return stream.end().map_err(damaged);
    }
    for line in stream.into_iter::<Line>() {
        take(line.map_err(damaged)?)?;
    }
    Ok(())
}

/// The first value: a head, with or without the entries in it.
struct Top<'a, 'b> {
    take: &'a mut Take<'b>,
    failed: &'a mut Option<Failure>,
}

impl<'de> DeserializeSeed<'de> for Top<'_, '_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = bool;

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("the head of an archive that notefs made")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        use serde::de::Error;
        let mut head = None;
        let mut has_entries = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "notefs_export" => {
                    let notefs_export = map.next_value()?;
                    head = Some(Head { notefs_export });
                }
                "entries" if head.is_some() => {
                    map.next_value_seed(Entries {
                        take: self.take,
                        failed: self.failed,
                    })?;
                    has_entries = true;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            if head.as_ref().is_some_and(|head| head.notefs_export != VERSION) {
                return Err(Error::custom("this archive is of another version of the format"));
            }
        }
        head.map(|_| has_entries)
            .ok_or_else(|| Error::custom("it does not begin as an archive of notefs does"))
    }
}

/// The entries of a `json` archive.
struct Entries<'a, 'b> {
    take: &'a mut Take<'b>,
    failed: &'a mut Option<Failure>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        use serde::de::Error;
        while let Some(line) = seq.next_element::<Line>()? {
            if let Err(failure) = (self.take)(line) {
                let message = failure.message.clone();
                *self.failed = Some(failure);
                return Err(Error::custom(message));
            }
        }
        Ok(())
    }
}

fn damaged(error: serde_json::Error) -> Failure {
    Failure::new(format!("The archive cannot be read: {error}"))
        .hint("What was read before is imported; an archive that was made anew goes on from there")
}

impl Importer {
    fn line(&mut self, line: Line) -> Result<(), Failure> {
        let path = line.path().map_err(|what| odd(b"", &what))?;
        if line.kind.is_none() {
            return self.go_on(&path, &line);
        }
        self.finish_file()?;
        self.done.entries += 1;
        let place = self.beneath.place(&path)?;
        if let Some(first) = &line.same_as {
            let first = first.bytes().map_err(|what| odd(&path, &what))?;
            let first = self.beneath.place(&first)?;
            return self.link(first.as_ref(), &place);
        }
        match line.kind {
            Some(Kind::Folder) => self.folder(path, place, line),
            Some(Kind::File) => self.file(path, place, line),
            _ => self.other(&path, &place, &line),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.finish_file()?;
        for (path, line) in std::mem::take(&mut self.folders).iter().rev() {
            let place = self.beneath.place(path)?;
            describe(place.as_ref(), path, line)?;
        }
        Ok(())
    }

    fn folder(&mut self, path: Vec<u8>, place: Place, line: Line) -> Result<(), Failure> {
        match std::fs::create_dir(&place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_folder(&place) => {}
            made => made.map_err(|error| odd(&path, &error.to_string()))?,
        }
        self.folders.push((path, line));
        Ok(())
    }

    fn file(&mut self, path: Vec<u8>, place: Place, line: Line) -> Result<(), Failure> {
        let draft = draft_of(&place);
        let file = create(&draft, &path)?;
        self.open = Some(Open {
            path,
            line,
            place,
            draft,
            file,
            size: 0,
        });
        let Some(open) = &mut self.open else { return Ok(()) };
        let line = open.line.clone();
        open.line.content = None;
        open.append(&line)
    }

    fn go_on(&mut self, path: &[u8], line: &Line) -> Result<(), Failure> {
        match &mut self.open {
            Some(open) if open.path == path && line.offset == Some(open.size) => open.append(line),
            _ => Err(odd(path, "a line continues a file that does not come before it")),
        }
    }

    fn finish_file(&mut self) -> Result<(), Failure> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let same = open.is_there_already();
        let place = open.place.as_ref();
        if same {
            std::fs::remove_file(&open.draft).map_err(|error| odd(&open.path, &error.to_string()))?;
            return describe(place, &open.path, &open.line);
        }
        describe(&open.draft, &open.path, &open.line)?;
        std::fs::rename(&open.draft, place).map_err(|error| odd(&open.path, &error.to_string()))?;
        self.done.written += 1;
        Ok(())
    }

    fn link(&mut self, first: &Path, place: &Place) -> Result<(), Failure> {
        let draft = draft_of(place);
        std::fs::remove_file(&draft).ok();
        std::fs::hard_link(first, &draft)
            .and_then(|()| std::fs::rename(&draft, place))
            .map_err(Failure::io("link", first))?;
        // A rename of one name of a file over another of its names does nothing.
        std::fs::remove_file(&draft).ok();
        Ok(())
    }

    fn other(&mut self, path: &[u8], place: &Place, line: &Line) -> Result<(), Failure> {
        let failed = |error: std::io::Error| odd(path, &error.to_string());
        let draft = draft_of(place);
        std::fs::remove_file(&draft).ok();
        let target = match &line.content {
            Some(target) => target.bytes().map_err(|what| odd(path, &what))?,
            None => Vec::new(),
        };
        let kind = match line.kind {
            Some(Kind::Symlink) => {
                let target = PathBuf::from(OsString::from_vec(target));
                if std::fs::read_link(place).is_ok_and(|there| there == target) {
                    return describe(place.as_ref(), path, line);
                }
                std::os::unix::fs::symlink(target, &draft).map_err(failed)?;
                None
            }
            Some(Kind::Fifo) => Some(FileType::Fifo),
            Some(Kind::Socket) => Some(FileType::Socket),
            Some(Kind::BlockDevice) => Some(FileType::BlockDevice),
            _ => Some(FileType::CharacterDevice),
        };
        if let Some(kind) = kind {
            let (major, minor) = line.device.unwrap_or_default();
            let mode = Mode::from_raw_mode(0o600);
            mknodat(CWD, &draft, kind, mode, makedev(major, minor)).map_err(|error| failed(error.into()))?;
        }
        describe(&draft, path, line)?;
        std::fs::rename(&draft, place).map_err(failed)?;
        self.done.written += 1;
        Ok(())
    }
}

impl Open {
    fn append(&mut self, line: &Line) -> Result<(), Failure> {
        let bytes = match &line.content {
            Some(content) => content.bytes().map_err(|what| odd(&self.path, &what))?,
            None => Vec::new(),
        };
        self.file
            .write_all(&bytes)
            .map_err(|error| odd(&self.path, &error.to_string()))?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Whether the file is there with this content; what cannot be read counts as different.
    fn is_there_already(&mut self) -> bool {
        let there = std::fs::symlink_metadata(&self.place);
        if !there.is_ok_and(|there| there.is_file() && there.len() == self.size) {
            return false;
        }
        let Ok(there) = File::open(&self.place) else {
            return false;
        };
        if self.file.seek(SeekFrom::Start(0)).is_err() {
            return false;
        }
        same_bytes(there, &self.file).unwrap_or(false)
    }
}

fn same_bytes(a: File, b: &File) -> std::io::Result<bool> {
    let (mut a, mut b) = (std::io::BufReader::new(a), std::io::BufReader::new(b));
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let count = left.len().min(right.len());
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
        a.consume(count);
        b.consume(count);
    }
}

fn is_folder(place: &Place) -> bool {
    std::fs::symlink_metadata(place).is_ok_and(|there| there.is_dir())
}

fn create(draft: &Path, path: &[u8]) -> Result<File, Failure> {
    std::fs::remove_file(draft).ok();
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    options.open(draft).map_err(|error| odd(path, &error.to_string()))
}

/// A name of its own beside the entry, short enough wherever the entry's own name is allowed.
fn draft_of(place: &Place) -> PathBuf {
    place.beside(&format!(".notefs-import-{}.tmp", std::process::id()))
}

/// Owner first, since a change of owner takes setuid away, and times last.
fn describe(place: &Path, path: &[u8], line: &Line) -> Result<(), Failure> {
    let failed = |error: std::io::Error| odd(path, &error.to_string());
    let (uid, gid) = (line.uid.map(Uid::from_raw), line.gid.map(Gid::from_raw));
    match chownat(CWD, place, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
        // Only root gives files away: others own what they import.
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(failed(error.into())),
    }
    if let Some(mode) = line.mode().map_err(|what| odd(path, &what))? {
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    for (name, value) in &line.xattrs {
        let value = decoded(value).map_err(|what| odd(path, &what))?;
        match lsetxattr(place, name.as_str(), &value, XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    if let Some((seconds, nanos)) = line.mtime().map_err(|what| odd(path, &what))? {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: seconds,
                tv_nsec: nanos.into(),
            },
        };
        utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

fn odd(path: &[u8], what: &str) -> Failure {
    Failure::new(format!("Could not import {:?}: {what}", String::from_utf8_lossy(path)))
}

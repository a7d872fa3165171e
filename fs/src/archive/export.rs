//! A folder becomes an archive.
//!
//! Owns what is read of each entry. One piece of one file is in memory at a time.

use super::entry::{Bytes, Kind, Line, encoded};
use super::{Head, PIECE_BYTES, Spelling, VERSION};
use crate::failure::Failure;
use crate::walk::{Below, Entry, walk};
use rustix::fs::{lgetxattr, llistxattr};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The longest list of attribute names, and the longest value, that Linux has.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Attributes that answer questions to notefs and are not stored.
const VIRTUAL_XATTRS: &str = "user.notefs.";

/// What was exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Exported {
    /// Files, folders, links and the like.
    pub(crate) entries: u64,
    /// Content.
    pub(crate) bytes: u64,
}

/// What is known of the note at a path; none of what is no note.
pub(crate) type Knowledge<'a> = &'a dyn Fn(&[u8]) -> Result<Option<serde_json::Value>, Failure>;

struct Writer<'a, W> {
    out: W,
    knowledge: Option<Knowledge<'a>>,
    spelling: Spelling,
    lines: u64,
    /// Files with more names than one, and the first of these.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    done: Exported,
}

/// Writes everything below `folder`, and what is known of its notes if that is asked for.
pub(crate) fn export(
    folder: &Path,
    out: impl Write,
    spelling: Spelling,
    knowledge: Option<Knowledge>,
) -> Result<Exported, Failure> {
    let mut writer = Writer {
        out,
        knowledge,
        spelling,
        lines: 0,
        first_names: HashMap::new(),
        done: Exported::default(),
    };
    writer.begin()?;
    walk(folder, &mut |entry| {
        writer.entry(&entry)?;
        Ok(Below::Enter)
    })?;
    writer.end()?;
    Ok(writer.done)
}

impl<W: Write> Writer<'_, W> {
    fn begin(&mut self) -> Result<(), Failure> {
        match self.spelling {
            Spelling::Json => self.raw(&format!("{{\"notefs_export\":{VERSION},\"entries\":[\n")),
            Spelling::Jsonl => {
                let head = Head { notefs_export: VERSION };
                self.raw(&format!("{}\n", serde_json::to_string(&head).map_err(unspeakable)?))
            }
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.spelling == Spelling::Json {
            self.raw(if self.lines == 0 { "]}\n" } else { "\n]}\n" })?;
        }
        self.out.flush().map_err(write_failed)
    }

    fn raw(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(write_failed)
    }

    fn line(&mut self, line: &Line) -> Result<(), Failure> {
        let text = serde_json::to_string(line).map_err(unspeakable)?;
        match self.spelling {
            Spelling::Json if self.lines > 0 => self.raw(&format!(",\n{text}"))?,
            Spelling::Json => self.raw(&text)?,
            Spelling::Jsonl => self.raw(&format!("{text}\n"))?,
        }
        self.lines += 1;
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Failure> {
        let Some(kind) = kind_of(&entry.metadata) else {
            return Ok(());
        };
        self.done.entries += 1;
        let metadata = &entry.metadata;
        if metadata.nlink() > 1 && kind != Kind::Folder {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = self.first_names.get(&identity) {
                let same_as = Some(Bytes::of(first.clone()));
                return self.line(&Line {
                    kind: Some(kind),
                    same_as,
                    ..Line::of(&entry.path)
                });
            }
            self.first_names.insert(identity, entry.path.clone());
        }
        let mut line = described(entry, kind)?;
        if let (Kind::File, Some(knowledge)) = (kind, self.knowledge) {
            line.note = knowledge(&entry.path)?;
        }
        match kind {
            Kind::File => self.file(entry, line),
            _ => self.line(&line),
        }
    }

    fn file(&mut self, entry: &Entry, mut line: Line) -> Result<(), Failure> {
        let mut file = std::fs::File::open(&entry.place).map_err(Failure::io("read", &entry.place))?;
        let mut offset = 0;
        loop {
            let mut piece = Vec::new();
            (&mut file)
                .take(PIECE_BYTES as u64)
                .read_to_end(&mut piece)
                .map_err(Failure::io("read", &entry.place))?;
            let count = piece.len();
            if count == 0 && offset > 0 {
                return Ok(());
            }
            line.content = Some(Bytes::of(piece));
            self.line(&line)?;
            self.done.bytes += count as u64;
            if count < PIECE_BYTES {
                return Ok(());
            }
            offset += count as u64;
            line = Line {
                offset: Some(offset),
                ..Line::of(&entry.path)
            };
        }
    }
}

fn described(entry: &Entry, kind: Kind) -> Result<Line, Failure> {
    const PERMISSIONS: u32 = 0o7777;
    let metadata = &entry.metadata;
    let mut line = Line {
        kind: Some(kind),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
        mtime: Some(format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())),
        xattrs: xattrs(&entry.place),
        ..Line::of(&entry.path)
    };
    match kind {
        Kind::Symlink => {
            let target = std::fs::read_link(&entry.place).map_err(Failure::io("read the link", &entry.place))?;
            line.content = Some(Bytes::of(target.as_os_str().as_bytes().to_vec()));
        }
        _ => line.mode = Some(format!("{:04o}", metadata.mode() & PERMISSIONS)),
    }
    if matches!(kind, Kind::BlockDevice | Kind::CharDevice) {
        let device = metadata.rdev();
        line.device = Some((rustix::fs::major(device), rustix::fs::minor(device)));
    }
    Ok(line)
}

/// The attributes that this user may read; a file system without any has none.
fn xattrs(place: &Path) -> BTreeMap<String, String> {
    let mut names = vec![0; XATTR_BYTES_MAX];
    let count = llistxattr(place, names.as_mut_slice()).unwrap_or(0);
    let names = String::from_utf8_lossy(&names[..count]).into_owned();
    let kept =
        |name: &&str| (name.starts_with("user.") || name.starts_with("trusted.")) && !name.starts_with(VIRTUAL_XATTRS);
    let mut value = vec![0; XATTR_BYTES_MAX];
    let mut found = BTreeMap::new();
    for name in names.split('\0').filter(kept) {
        if let Ok(count) = lgetxattr(place, name, value.as_mut_slice()) {
            found.insert(name.to_owned(), encoded(&value[..count]));
        }
    }
    found
}

fn kind_of(metadata: &std::fs::Metadata) -> Option<Kind> {
    let kind = metadata.file_type();
    let kinds = [
        (kind.is_file(), Kind::File),
        (kind.is_dir(), Kind::Folder),
        (kind.is_symlink(), Kind::Symlink),
        (kind.is_fifo(), Kind::Fifo),
        (kind.is_socket(), Kind::Socket),
        (kind.is_block_device(), Kind::BlockDevice),
        (kind.is_char_device(), Kind::CharDevice),
    ];
    kinds.iter().find(|(is, _)| *is).map(|(_, kind)| *kind)
}

fn write_failed(error: std::io::Error) -> Failure {
    Failure::new(format!("Could not write the archive: {error}"))
}

fn unspeakable(error: serde_json::Error) -> Failure {
    Failure::new(format!("Could not write the archive: {error}"))
}

//! One of two folders in which the same is done, and what it answers.

use std::fs::File;
use std::io::{Error, Result, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::step::{OPEN_MAX, Piece, Step};
use crate::sys;

/// A folder and the files that are open in it.
#[derive(Debug)]
pub(super) struct Side {
    root: PathBuf,
    open: [Option<File>; OPEN_MAX],
}

/// A call's answer: what it brought, or the errno.
pub(super) type Answer = std::result::Result<String, i32>;

const XATTR: &str = "user.model";

impl Side {
    /// Nothing is open yet.
    pub(super) fn new(root: &Path) -> Side {
        Side {
            root: root.to_owned(),
            open: Default::default(),
        }
    }

    /// Where it is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// What the death of all programs does.
    pub(super) fn close_all(&mut self) {
        self.open = Default::default();
    }

    /// Does a step that programs do.
    pub(super) fn perform(&mut self, step: &Step) -> Answer {
        let done = match step {
            Step::Open(..) | Step::WriteOpen(..) | Step::ReadOpen(_) | Step::Close(_) => self.with_open(step),
            Step::Write(..) | Step::Append(..) | Step::Replace(..) | Step::Punch(..) => self.change_content(step),
            _ => self.with_path(step),
        };
        done.map_err(|error: Error| error.raw_os_error().unwrap_or(-1))
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    fn with_path(&self, step: &Step) -> Result<String> {
        let at = |below: &str| self.path(below);
        match *step {
            Step::Create(path) => done(File::options().write(true).create_new(true).mode(0o644).open(at(path))),
            Step::Folder(path) => done(std::fs::create_dir(at(path))),
            Step::Symlink(path, target) => done(std::os::unix::fs::symlink(target, at(path))),
            Step::Link(from, to) => done(std::fs::hard_link(at(from), at(to))),
            Step::Truncate(path, size) => done(sys::truncate(&at(path), size)),
            Step::Read(path) => std::fs::read(at(path)).map(|bytes| digest(&bytes)),
            Step::List(path) => names(&at(path)),
            Step::Stat(path) => stat(&at(path)),
            Step::Unlink(path) => done(std::fs::remove_file(at(path))),
            Step::RemoveFolder(path) => done(std::fs::remove_dir(at(path))),
            Step::Rename(from, to, flags) => done(sys::rename_with(&at(from), &at(to), flags)),
            Step::Chmod(path, mode) => done(std::fs::set_permissions(at(path), PermissionsExt::from_mode(mode))),
            Step::SetTime(path, seconds) => done(sys::set_times(&at(path), seconds, 123_456_789)),
            Step::SetXattr(path, byte) => done(sys::set_xattr(&at(path), XATTR, &[byte; 20], 0)),
            Step::RemoveXattr(path) => done(sys::remove_xattr(&at(path), XATTR)),
            Step::Sync(path) => done(File::open(at(path)).and_then(|file| file.sync_all())),
            _ => Ok(String::new()),
        }
    }

    fn change_content(&self, step: &Step) -> Result<String> {
        match *step {
            Step::Write(path, piece) => done(
                File::options()
                    .write(true)
                    .open(self.path(path))
                    .and_then(|file| file.write_all_at(&piece.bytes(), piece.offset)),
            ),
            Step::Append(path, piece) => done(
                File::options()
                    .append(true)
                    .open(self.path(path))
                    .and_then(|mut file| file.write_all(&piece.bytes())),
            ),
            Step::Replace(path, piece) => done(self.replace(path, piece)),
            Step::Punch(path, piece) => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                let file = File::options().write(true).open(self.path(path))?;
                // A hole wholly beyond the end is none; only whether the times change differs, and nothing says what they should.
                if piece.offset >= file.metadata()?.len() {
                    return Ok("beyond the end".to_owned());
                }
                done(sys::fallocate(&file, mode, piece.offset as i64, piece.length as i64))
            }
            _ => Ok(String::new()),
        }
    }

    fn replace(&self, path: &str, piece: Piece) -> Result<()> {
        let draft = self.path("draft.tmp");
        let mut file = File::create(&draft)?;
        file.write_all(&piece.bytes())?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&draft, self.path(path)).or_else(|error| {
            std::fs::remove_file(&draft)?;
            Err(error)
        })
    }

    fn with_open(&mut self, step: &Step) -> Result<String> {
        match *step {
            Step::Open(slot, path) => {
                self.open[slot] = None;
                self.open[slot] = Some(File::options().read(true).write(true).open(self.path(path))?);
            }
            Step::WriteOpen(slot, piece) => {
                if let Some(file) = &self.open[slot] {
                    file.write_all_at(&piece.bytes(), piece.offset)?;
                }
            }
            Step::ReadOpen(slot) => {
                if let Some(file) = &self.open[slot] {
                    let mut bytes = vec![0; file.metadata()?.len() as usize];
                    file.read_exact_at(&mut bytes, 0)?;
                    return Ok(format!("{} links, {}", file.metadata()?.nlink(), digest(&bytes)));
                }
            }
            Step::Close(slot) => self.open[slot] = None,
            _ => {}
        }
        Ok(String::new())
    }
}

fn done<T>(result: Result<T>) -> Result<String> {
    result.map(|_| String::new())
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let hash = crate::sigv4::hex(&Sha256::digest(bytes)[..8]);
    format!("{} bytes, {hash}", bytes.len())
}

fn names(folder: &Path) -> Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        names.push(format!("{:?} {:?}", entry.file_name(), entry.file_type()?));
    }
    names.sort();
    Ok(names.join(", "))
}

fn stat(path: &Path) -> Result<String> {
    let meta = path.symlink_metadata()?;
    let size = if meta.is_dir() { 0 } else { meta.len() };
    let links = if meta.is_dir() { 0 } else { meta.nlink() };
    Ok(format!("mode {:o}, {size} bytes, {links} links", meta.mode()))
}

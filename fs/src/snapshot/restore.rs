//! Files come back from a commit.
//!
//! Owns that only what differs is written, each file whole by a rename. Leaves alone what the commit does not have, unless asked.

use super::Target;
use super::git::{Git, no_git};
use super::plan::{self, Known, Object, Tree};
use crate::beneath::{Beneath, Place};
use crate::failure::Failure;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

/// Bits that make a file a program.
const EXECUTABLE: u32 = 0o111;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restored {
    /// The commit.
    pub(crate) commit: String,
    /// Files that were written.
    pub(crate) written: u64,
    /// Files that were removed, since the commit does not have them.
    pub(crate) removed: u64,
}

/// Makes the folder show what a commit of the branch holds; `at` is a commit, or the branch's newest.
pub(crate) fn restore(folder: &Path, target: &Target, at: Option<&str>, remove: bool) -> Result<Restored, Failure> {
    let git = Git::open(target, Instant::now() + target.timeout)?;
    let newest = git
        .fetch()?
        .ok_or_else(|| Failure::new(format!("There is no branch {}", git.name())))?;
    let commit = match at {
        Some(name) => git
            .call_newest(&newest)
            .and_then(|()| git.resolve(name))
            .map_err(|_| Failure::new(format!("There is no commit {name:?} in {}", git.name())))?,
        None => newest,
    };
    let tree = git.tree(&commit)?;
    let now = plan::plan(folder, &tree, &Known::load(&target.work))?;
    let mut removed = 0;
    if remove {
        for path in now.seen.keys().filter(|path| !tree.contains_key(*path)) {
            let place = folder.join(OsStr::from_bytes(path));
            std::fs::remove_file(&place).map_err(Failure::io("remove", &place))?;
            removed += 1;
        }
    }
    let differing = |path: &Vec<u8>| !now.seen.contains_key(path) || now.puts.iter().any(|put| put.path == *path);
    let wanted: Tree = tree.into_iter().filter(|(path, _)| differing(path)).collect();
    let mut objects = Objects::open(&git)?;
    let beneath = Beneath::new(folder)?;
    let mut written = 0;
    for (path, object) in &wanted {
        let place = beneath.place(path)?;
        let shown = folder.join(OsStr::from_bytes(path));
        if !is_already(place.as_ref(), object, &mut objects)? {
            bring_back(&place, object, &mut objects).map_err(Failure::io("bring back", &shown))?;
            written += 1;
        }
    }
    objects.close();
    Ok(Restored {
        commit,
        written,
        removed,
    })
}

/// A `git cat-file --batch` that is asked for one object after another.
struct Objects {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Objects {
    fn open(git: &Git) -> Result<Objects, Failure> {
        let mut command = git.command(&["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(no_git)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(ask), Some(answers)) => Ok(Objects {
                child,
                ask,
                answers: BufReader::new(answers),
            }),
            _ => Err(Failure::new("git cat-file has no streams")),
        }
    }

    /// Passes an object's content on piece by piece; it is read to its end in any case.
    fn read(&mut self, id: &str, take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        writeln!(self.ask, "{id}")?;
        let mut head = String::new();
        self.answers.read_line(&mut head)?;
        let size = head.trim_end().rsplit(' ').next().and_then(|size| size.parse().ok());
        let mut left: u64 = size.ok_or_else(|| std::io::Error::other(format!("git has no {id}")))?;
        let mut taken = Ok(());
        while left > 0 {
            let piece = self.answers.fill_buf()?;
            let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if taken.is_ok() {
                taken = take(&piece[..count]);
            }
            self.answers.consume(count);
            left -= count as u64;
        }
        self.answers.read_exact(&mut [0])?;
        taken
    }

    fn close(self) {
        let Objects { mut child, ask, .. } = self;
        drop(ask);
        child.wait().ok();
    }
}

/// Whether the file is there with this content, so that it is not written again.
fn is_already(place: &Path, object: &Object, objects: &mut Objects) -> Result<bool, Failure> {
    let Ok(metadata) = std::fs::symlink_metadata(place) else {
        return Ok(false);
    };
    if object.mode == "120000" || !metadata.is_file() {
        return Ok(false);
    }
    if (metadata.permissions().mode() & EXECUTABLE != 0) != (object.mode == "100755") {
        return Ok(false);
    }
    let mut file = BufReader::new(std::fs::File::open(place).map_err(Failure::io("read", place))?);
    let mut same = true;
    objects
        .read(&object.id, &mut |piece| {
            let mut here = vec![0; piece.len()];
            same = same && file.read_exact(&mut here).is_ok() && here == piece;
            Ok(())
        })
        .map_err(Failure::io("compare", place))?;
    let mut rest = [0];
    let ends = same && file.read(&mut rest).map_err(Failure::io("read", place))? == 0;
    Ok(ends)
}

fn bring_back(place: &Place, object: &Object, objects: &mut Objects) -> std::io::Result<()> {
    // Short enough wherever the file's own name is allowed.
    let draft = place.beside(&format!(".notefs-restore-{}.tmp", std::process::id()));
    std::fs::remove_file(&draft).ok();
    write_draft(&draft, object, objects)
        .and_then(|()| std::fs::rename(&draft, place))
        .inspect_err(|_| {
            std::fs::remove_file(&draft).ok();
        })
}

fn write_draft(draft: &Path, object: &Object, objects: &mut Objects) -> std::io::Result<()> {
    if object.mode == "120000" {
        let mut target = Vec::new();
        objects.read(&object.id, &mut |piece| {
            target.extend_from_slice(piece);
            Ok(())
        })?;
        return std::os::unix::fs::symlink(OsString::from_vec(target), draft);
    }
    let mut file = std::fs::File::create_new(draft)?;
    objects.read(&object.id, &mut |piece| file.write_all(piece))?;
    if object.mode == "100755" {
        let mode = file.metadata()?.permissions().mode();
        let readers = mode & 0o444;
        file.set_permissions(std::fs::Permissions::from_mode(mode | readers >> 2))?;
    }
    Ok(())
}

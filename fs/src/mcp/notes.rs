//! Reading and changing notes with ordinary file operations through the mount, so that every promise of the folder holds.
//!
//! Owns that a change is made only to what its caller has seen. What a tool has answered survives a power cut. Does not own which paths
//! are allowed (`vault`) nor what becomes of a text (`change`).

use super::arguments::{Delete, Edit, Move, READ_BYTES_MAX, Read, Write};
use super::change::{edited, expect, page, version};
use super::problem::{Kind, Problem};
use super::vault::{Vault, Visit};
use crate::beneath::{Missing, Place};
use crate::save::Draft;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::fs::{File, Metadata};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;

/// A note that tools read or write is no larger, as the index reads no more of one.
pub(super) const NOTE_BYTES_MAX: usize = 4 << 20;

/// How often a change is made anew because somebody else was faster.
const SWAP_TRIES_MAX: usize = 8;

/// A file that became a link or a pipe since a look is neither followed nor waited for.
const SAFE_OPEN: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;

/// `read`.
pub(super) fn read(vault: &Vault, wanted: &Read) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    let place = visit.reach(&wanted.path, Missing::Left)?;
    let text = text_of(&visit, &place, &wanted.path)?;
    let limit = wanted.limit_bytes.clamp(1, READ_BYTES_MAX);
    let (part, next) = page(&text, wanted.offset_bytes, limit);
    Ok(json!({
        "path": wanted.path,
        "version": version(text.as_bytes()),
        "size_bytes": text.len(),
        "text": part,
        "next_offset_bytes": next,
    }))
}

/// `write`.
pub(super) fn write(vault: &Vault, wanted: &Write) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    fits(&wanted.path, wanted.text.len())?;
    if wanted.version.is_some() {
        return swap(&visit, &wanted.path, &|seen| {
            expect(&wanted.path, seen.as_bytes(), wanted.version.as_deref())?;
            Ok(wanted.text.clone())
        });
    }
    let place = visit.reach(&wanted.path, Missing::Made)?;
    create(&place, wanted.text.as_bytes()).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Problem::new(
            Kind::Exists,
            &wanted.path,
            "There is something of this name already",
            "Read it; then change a part of it with `edit`, or replace all of it by `write` with the version that `read` gives",
        ),
        _ => visit.io(&wanted.path, &error),
    })?;
    flush_folder(&visit, &place, &wanted.path)?;
    Ok(saved(&wanted.path, &wanted.text))
}

/// `edit`.
pub(super) fn edit(vault: &Vault, wanted: &Edit) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    swap(&visit, &wanted.path, &|seen| {
        expect(&wanted.path, seen.as_bytes(), wanted.version.as_deref())?;
        edited(seen, wanted)
    })
}

/// `move`.
pub(super) fn rename(vault: &Vault, wanted: &Move) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    let from = visit.reach(&wanted.from, Missing::Left)?;
    std::fs::symlink_metadata(&from).map_err(|error| visit.io(&wanted.from, &error))?;
    let to = visit.reach(&wanted.to, Missing::Made)?;
    let _turn = visit.turn(&wanted.from)?;
    let moved = match renameat_with(CWD, from.as_ref(), CWD, to.as_ref(), RenameFlags::NOREPLACE) {
        // Where the kernel's client has no such flag, as that of NFS, the turn is what keeps agents apart.
        Err(Errno::INVAL | Errno::NOSYS) => match std::fs::symlink_metadata(&to) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(_) => std::fs::rename(&from, &to),
        },
        moved => moved.map_err(Into::into),
    };
    moved.map_err(|error| Problem::io(&wanted.to, &error))?;
    flush_folder(&visit, &to, &wanted.to)?;
    Ok(json!({"from": wanted.from, "to": wanted.to}))
}

/// `delete`.
pub(super) fn delete(vault: &Vault, wanted: &Delete) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    let path = wanted.path.as_str();
    let place = visit.reach(path, Missing::Left)?;
    let _turn = visit.turn(path)?;
    let found = std::fs::symlink_metadata(&place).map_err(|error| visit.io(path, &error))?;
    if wanted.version.is_some() {
        let text = text_of(&visit, &place, path)?;
        expect(path, text.as_bytes(), wanted.version.as_deref())?;
    }
    let gone = match found.is_dir() {
        true => std::fs::remove_dir(&place),
        false => std::fs::remove_file(&place),
    };
    gone.map_err(|error| visit.io(path, &error))?;
    flush_folder(&visit, &place, path)?;
    Ok(json!({"path": path, "how_to_bring_back": "A note: `notefs trash restore`, once its deletion is stored"}))
}

/// Replaces a note's text by what `plan` makes of it, if it still says what `plan` saw. The new text is written and flushed beside it
/// first, so that between the last look and the rename there is nothing that takes time.
fn swap(visit: &Visit, path: &str, plan: &dyn Fn(&str) -> Result<String, Problem>) -> Result<Value, Problem> {
    let place = visit.reach(path, Missing::Left)?;
    for _ in 0..SWAP_TRIES_MAX {
        let seen = text_of(visit, &place, path)?;
        let text = plan(&seen)?;
        fits(path, text.len())?;
        if text == seen {
            return Ok(saved(path, &text));
        }
        let draft = Draft::write(place.as_ref(), text.as_bytes()).map_err(|error| visit.io(path, &error))?;
        let turn = visit.turn(path)?;
        // Held open for writing, so that no change from elsewhere takes effect in between, and a note that is read-only stays it.
        let held = File::options().write(true).custom_flags(SAFE_OPEN).open(&place);
        let _held = held.map_err(|error| visit.io(path, &error))?;
        if text_of(visit, &place, path)? == seen {
            draft.replace().map_err(|error| visit.io(path, &error))?;
            drop(turn);
            flush_folder(visit, &place, path)?;
            return Ok(saved(path, &text));
        }
    }
    Err(Problem::new(
        Kind::Busy,
        path,
        format!("The note was changed by others {SWAP_TRIES_MAX} times meanwhile"),
        "Read it again, and try again",
    ))
}

fn saved(path: &str, text: &str) -> Value {
    json!({"path": path, "version": version(text.as_bytes()), "size_bytes": text.len()})
}

/// A new note. If its text cannot be written, it is none.
fn create(place: &Place, text: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(place)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    written.inspect_err(|_| {
        // The first error is the one to tell.
        std::fs::remove_file(place).ok();
    })
}

/// The whole text of a note.
fn text_of(visit: &Visit, place: &Place, path: &str) -> Result<String, Problem> {
    let failed = |error| visit.io(path, &error);
    let found = std::fs::symlink_metadata(place).map_err(failed)?;
    is_note(place, path, &found)?;
    fits(path, usize::try_from(found.len()).unwrap_or(usize::MAX))?;
    let opened = File::options().read(true).custom_flags(SAFE_OPEN).open(place);
    let mut content = Vec::new();
    let mut bounded = opened.map_err(failed)?.take(NOTE_BYTES_MAX as u64 + 1);
    bounded.read_to_end(&mut content).map_err(failed)?;
    fits(path, content.len())?;
    String::from_utf8(content).map_err(|_| {
        Problem::new(
            Kind::NotText,
            path,
            "This is no text in UTF-8",
            "Leave it as it is: these tools only read and write text",
        )
    })
}

fn is_note(place: &Place, path: &str, found: &Metadata) -> Result<(), Problem> {
    if found.is_file() {
        return Ok(());
    }
    let (what, what_to_do) = if found.is_dir() {
        ("This is a folder".to_owned(), "`list` shows what it holds")
    } else if found.is_symlink() {
        let target = std::fs::read_link(place).unwrap_or_default();
        let what = format!("This is a link to {:?}, and links are not followed", target.display());
        (what, "Name the note itself, if it lies in this folder")
    } else {
        ("This is no file".to_owned(), "`list` shows what is a note")
    };
    Err(Problem::new(Kind::NotANote, path, what, what_to_do))
}

fn fits(path: &str, bytes: usize) -> Result<(), Problem> {
    if bytes <= NOTE_BYTES_MAX {
        return Ok(());
    }
    Err(Problem::new(
        Kind::TooLarge,
        path,
        format!(
            "These are {bytes} bytes, and notes of more than {NOTE_BYTES_MAX} bytes are not read or written by these tools"
        ),
        "Make several smaller notes; of a large one that exists, `search` shows the passages",
    ))
}

/// Makes a change of names survive a power cut. The change itself is done: nobody must take its failure for one.
fn flush_folder(visit: &Visit, place: &Place, path: &str) -> Result<(), Problem> {
    let folder = File::open(place.beside("."));
    let flushed = folder.and_then(|folder| folder.sync_all());
    flushed.map_err(|error| {
        let problem = visit.io(path, &error);
        let what = format!("It is done, but not safe from a power cut yet: {}", problem.what);
        let what_to_do = "Do not do it again; tell the user if this goes on".to_owned();
        Problem {
            what,
            what_to_do,
            retryable: false,
            ..problem
        }
    })
}

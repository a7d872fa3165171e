//! `notefs conflicts`: what was kept twice, how the two differ, and putting an end to it.
//!
//! A conflict is resolved by what any program could do in the folder (rename the copy over the note, delete it, save the note), so that it
//! is stored and felt like every other change. Does not own which conflicts there are (`notefs_cache`).

use super::args::{ConflictsArgs, Resolution};
use super::units::show_things;
use super::{Outcome, find_mount, output};
use crate::control::client;
use crate::control::knowledge::{conflict_json, conflicts};
use crate::control::protocol::{ConflictRow, Request};
use crate::control::registry::Record;
use crate::failure::Failure;
use crate::save::Draft;
use notefs_cache::merge::{unified_diff, with_markers};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an edited merge must not contain any more, at the beginning of a line.
const MARKERS: [&[u8]; 2] = [b"<<<<<<< ", b">>>>>>> "];

/// Runs the command.
pub(super) fn run(args: &ConflictsArgs) -> Outcome {
    let (record, below) = find_mount(args.path.as_deref())?;
    let below = if args.path.is_some() { below } else { Vec::new() };
    if let Some(resolution) = args.resolve {
        let conflict = the_one(&record, &below)?;
        return resolve(&record, &conflict, resolution).map(|()| 0);
    }
    if args.diff {
        let conflict = the_one(&record, &below)?;
        return show_diff(&record, &conflict);
    }
    list(&record, &below, args.json)
}

fn list(record: &Record, below: &[u8], json: bool) -> Outcome {
    let rows = conflicts(record, below)?;
    if json {
        let rows: Vec<_> = rows.iter().map(conflict_json).collect();
        return output::json(&rows).map(|()| 0);
    }
    for row in &rows {
        output::line(block(row))?;
    }
    if rows.is_empty() {
        output::note("No conflicts");
    } else {
        output::note(format_args!(
            "{}; see `notefs conflicts --help` for how to end them",
            show_things(rows.len() as u64, "conflict")
        ));
    }
    Ok(0)
}

fn block(row: &ConflictRow) -> String {
    let show = |path: &[u8]| output::printable(&String::from_utf8_lossy(path));
    let what = match row.kind.as_str() {
        "created" => "made on both sides",
        "renamed" => "renamed on both sides",
        _ => "changed on both sides",
    };
    let mut lines = vec![
        show(&row.path),
        format!("  {what}; met by {} at {}", output::printable(&row.host), row.when),
    ];
    match &row.copy {
        Some(copy) => lines.push(format!("  copy: {}", show(copy))),
        None => lines.push(format!("  was to be {} here", show(&row.disputed))),
    }
    lines.join("\n")
}

/// The conflict of a note, or of a copy.
fn the_one(record: &Record, path: &[u8]) -> Result<ConflictRow, Failure> {
    let shown = output::printable(&String::from_utf8_lossy(path));
    let mut rows = conflicts(record, &[])?;
    rows.retain(|row| row.path == path || row.copy.as_deref() == Some(path));
    match rows.len() {
        1 => Ok(rows.remove(0)),
        0 => Err(Failure::new(format!("{shown} is in no conflict"))
            .hint("`notefs conflicts` lists them; name the note or its copy")),
        _ => {
            let copies = rows.iter().filter_map(|row| row.copy.as_ref());
            let copies: Vec<String> = copies
                .map(|copy| output::printable(&String::from_utf8_lossy(copy)))
                .collect();
            Err(Failure::new(format!("{shown} is in several conflicts"))
                .hint(format!("Name the copy: {}", copies.join(", "))))
        }
    }
}

fn place(record: &Record, path: &[u8]) -> PathBuf {
    record.mountpoint.join(OsStr::from_bytes(path))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(Failure::io("read", path))
}

fn show_diff(record: &Record, conflict: &ConflictRow) -> Outcome {
    let Some(copy) = &conflict.copy else {
        output::note("Both sides renamed it; there is only one text");
        return Ok(0);
    };
    let (note, copy) = (place(record, &conflict.path), place(record, copy));
    let (theirs, ours) = (read(&note)?, read(&copy)?);
    let names = (note.display().to_string(), copy.display().to_string());
    output::write(unified_diff((&names.0, &theirs), (&names.1, &ours)).as_bytes()).map(|()| 0)
}

fn resolve(record: &Record, conflict: &ConflictRow, resolution: Resolution) -> Result<(), Failure> {
    let note = place(record, &conflict.path);
    match (&conflict.copy, resolution) {
        (Some(copy), Resolution::Ours) => {
            let copy = place(record, copy);
            std::fs::rename(&copy, &note).map_err(Failure::io("rename", &copy))?;
            // A note that has been moved since has another name than the disputed one, and its conflict would stay.
            match conflicts(record, &[])?.iter().any(|row| row.id == conflict.id) {
                true => dismiss(record, conflict),
                false => Ok(()),
            }
        }
        (Some(copy), Resolution::Theirs) => {
            let copy = place(record, copy);
            std::fs::remove_file(&copy).map_err(Failure::io("delete", &copy))
        }
        (Some(copy), Resolution::Merge) => edit(&note, &place(record, copy)),
        (None, Resolution::Ours) => {
            let wanted = place(record, &conflict.disputed);
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                &note,
                rustix::fs::CWD,
                &wanted,
                rustix::fs::RenameFlags::NOREPLACE,
            )
            .map_err(Failure::io("rename", &note))?;
            dismiss(record, conflict)
        }
        (None, Resolution::Theirs) => dismiss(record, conflict),
        (None, Resolution::Merge) => {
            Err(Failure::usage("Both sides renamed it; there is only one text").hint("Resolve it with ours or theirs"))
        }
    }
}

fn dismiss(record: &Record, conflict: &ConflictRow) -> Result<(), Failure> {
    client::ask(record, &Request::ConflictDismiss { id: conflict.id }, &mut |_| ()).map(drop)
}

/// Lets the user make one text of both, saves it as the note, and deletes the copy; only if neither has changed in the meantime.
fn edit(note: &Path, copy: &Path) -> Result<(), Failure> {
    let (theirs, ours) = (read(note)?, read(copy)?);
    let marked = with_markers(("ours", &ours), ("theirs", &theirs));
    let marked = marked
        .ok_or_else(|| Failure::new(format!("{} is no text", note.display())).hint("Resolve it with ours or theirs"))?;
    let folder = std::env::temp_dir().join(format!("notefs-resolve-{}", std::process::id()));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(Failure::io("make", &folder))?;
    let draft = folder.join(note.file_name().unwrap_or_default());
    std::fs::write(&draft, marked).map_err(Failure::io("write", &draft))?;
    run_editor(&draft)?;
    let text = read(&draft)?;
    let kept = format!("Your text is kept in {}", draft.display());
    if text
        .split(|byte| *byte == b'\n')
        .any(|line| MARKERS.iter().any(|marker| line.starts_with(marker)))
    {
        return Err(Failure::new("There are conflict markers left; nothing was changed").hint(kept));
    }
    if (read(note)?, read(copy)?) != (theirs, ours) {
        return Err(Failure::new(format!(
            "{} or its copy has changed in the meantime; nothing was done",
            note.display()
        ))
        .hint(kept));
    }
    let saved = Draft::write(note, &text).and_then(Draft::replace);
    saved.map_err(Failure::io("save", note))?;
    std::fs::remove_file(copy).map_err(Failure::io("delete", copy))?;
    std::fs::remove_dir_all(&folder).map_err(Failure::io("delete", &folder))
}

/// `$VISUAL` or `$EDITOR` may have arguments, as in `code --wait`.
fn run_editor(draft: &Path) -> Result<(), Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let editor = set("VISUAL")
        .or_else(|| set("EDITOR"))
        .unwrap_or_else(|| OsString::from("vi"));
    let mut words = editor
        .as_bytes()
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let program = OsString::from_vec(words.next().unwrap_or(b"vi").to_vec());
    let status = Command::new(&program)
        .args(words.map(OsStr::from_bytes))
        .arg(draft)
        .status();
    let status = status.map_err(Failure::io("run the editor", Path::new(&program)))?;
    if status.success() {
        return Ok(());
    }
    Err(
        Failure::new(format!("The editor ended with {status}; nothing was changed"))
            .hint(format!("Your text is kept in {}", draft.display())),
    )
}

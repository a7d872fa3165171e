//! `notefs export`, `notefs import` and `notefs snapshot`.
//!
//! Owns what they say and where archives lie. Does not own the archives (`archive`) nor the commits (`snapshot`).

use super::args::{ExportArgs, ImportArgs, SnapshotArgs, WaitFor};
use super::units::{show_bytes, show_things};
use super::{Outcome, output, wait, whole_mount};
use crate::archive::{self, Exported, Knowledge, Spelling};
use crate::control::knowledge;
use crate::control::protocol::Request;
use crate::control::question::Question;
use crate::control::registry::Record;
use crate::failure::{EXIT_FAILED, Failure};
use crate::snapshot::{self, Taken, Target};
use serde_json::Value;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an export with the graph waits for the index.
const INDEXED_WITHIN: Duration = Duration::from_secs(600);

/// How many paths that git does not keep are shown.
const LEFT_OUT_SHOWN_MAX: usize = 5;

/// `notefs export`.
pub(super) fn export(args: &ExportArgs) -> Outcome {
    let record = whole_mount(args.dir.as_deref())?;
    if args.graph {
        let code = wait::wait(&record, WaitFor::Indexed, None, INDEXED_WITHIN)?;
        if code != 0 {
            return Ok(code);
        }
    }
    let know = |path: &[u8]| knowledge_of(&record, path);
    let knowledge: Option<Knowledge> = if args.graph { Some(&know) } else { None };
    let (file, spelling) = match (&args.json, &args.jsonl) {
        (Some(file), None) => (file, Spelling::Json),
        (None, Some(file)) => (file, Spelling::Jsonl),
        _ => return Err(Failure::usage("Name one file, with --json or --jsonl")),
    };
    let done = if is_dash(file) {
        archive::export(
            &record.mountpoint,
            BufWriter::new(std::io::stdout().lock()),
            spelling,
            knowledge,
        )?
    } else {
        // What a link leads to is replaced, not the link.
        let file = behind_links(file);
        export_to(&file, |out| {
            archive::export(&record.mountpoint, BufWriter::new(out), spelling, knowledge)
        })?
    };
    output::note(format_args!(
        "Exported {} ({})",
        show_things(done.entries, "entry"),
        show_bytes(done.bytes)
    ));
    Ok(0)
}

/// Where a file is, or will be, if a link leads there.
fn behind_links(file: &Path) -> PathBuf {
    if let Ok(place) = std::fs::canonicalize(file) {
        return place;
    }
    match std::fs::read_link(file) {
        Ok(target) => file.parent().map_or(target.clone(), |folder| folder.join(&target)),
        Err(_) => file.to_owned(),
    }
}

/// A reader never finds half an archive, and the one before stays until this one is whole. A pipe or a device is written to as it is.
fn export_to(file: &Path, export: impl FnOnce(&File) -> Result<Exported, Failure>) -> Result<Exported, Failure> {
    if std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
        let out = File::options()
            .write(true)
            .open(file)
            .map_err(Failure::io("write", file))?;
        return export(&out);
    }
    let draft = beside(file);
    let out = File::create(&draft).map_err(Failure::io("write", &draft))?;
    export(&out)
        .and_then(|done| out.sync_all().map(|()| done).map_err(Failure::io("write", &draft)))
        .and_then(|done| {
            std::fs::rename(&draft, file)
                .map(|()| done)
                .map_err(Failure::io("write", file))
        })
        .inspect_err(|_| {
            std::fs::remove_file(&draft).ok();
        })
}

/// What the index knows of a note: its own row, and where its links lead.
fn knowledge_of(record: &Record, path: &[u8]) -> Result<Option<Value>, Failure> {
    if !notefs_indexer::is_note(path) {
        return Ok(None);
    }
    let question = Question::Note {
        path: Some(path.to_vec()),
        name: String::new(),
    };
    let mut note = knowledge::know(record, question)?.value;
    let path = path.to_vec();
    let links = knowledge::rows(record, &Request::Links { path })?.rows;
    if let Some(fields) = note.as_object_mut() {
        // The line has the path already.
        fields.retain(|name, _| name != "path" && name != "path_bytes");
        fields.insert("links".to_owned(), links.into());
    }
    Ok(Some(note))
}

/// `notefs import`.
pub(super) fn import(args: &ImportArgs) -> Outcome {
    let (dir, file) = match args.words.as_slice() {
        [file] => (None, Path::new(file)),
        [dir, file, ..] => (Some(Path::new(dir)), Path::new(file)),
        [] => return Err(Failure::usage("The archive is missing")),
    };
    let record = whole_mount(dir)?;
    let done = if is_dash(file) {
        archive::import(&record.mountpoint, BufReader::new(std::io::stdin().lock()))?
    } else {
        let from = File::open(file).map_err(Failure::io("read", file))?;
        archive::import(&record.mountpoint, BufReader::new(from))?
    };
    output::note(format_args!(
        "Imported {}, {} of them written",
        show_things(done.entries, "entry"),
        done.written
    ));
    Ok(0)
}

/// `notefs snapshot`.
pub(super) fn snapshot(args: &SnapshotArgs) -> Outcome {
    let record = whole_mount(args.dir.as_deref())?;
    let target = target(&record, &args.git, &args.branch, args.timeout);
    if args.restore {
        let done = snapshot::restore(&record.mountpoint, &target, args.at.as_deref(), args.delete)?;
        output::line(&done.commit)?;
        output::note(format_args!(
            "Restored: {} written, {} removed",
            show_things(done.written, "file"),
            done.removed
        ));
        return Ok(0);
    }
    let take = || snapshot::take(&record.mountpoint, &target, args.message.as_deref());
    let Some(pause) = args.every else {
        let taken = take()?;
        output::line(&taken.commit)?;
        tell(&taken);
        return Ok(0);
    };
    while record.is_alive() {
        match take() {
            Ok(taken) => tell(&taken),
            // The next one stands for this one, too.
            Err(failure) => {
                output::failure(&failure);
            }
        }
        record.await_end(pause);
    }
    output::note("The mount has ended");
    Ok(EXIT_FAILED)
}

/// Says what a snapshot was.
pub(super) fn tell(taken: &Taken) {
    output::note(format_args!(
        "Snapshot {:.10}: {} changed, {} removed",
        taken.commit,
        show_things(taken.changed, "file"),
        taken.removed
    ));
    if !taken.left_out.is_empty() {
        let shown: Vec<String> = taken
            .left_out
            .iter()
            .take(LEFT_OUT_SHOWN_MAX)
            .map(|path| output::printable(path))
            .collect();
        output::warning(format_args!(
            "git does not keep {}: {}",
            show_things(taken.left_out.len() as u64, "path"),
            shown.join(", ")
        ));
    }
}

/// Where the snapshots of a mount go.
pub(super) fn target(record: &Record, remote: &str, branch: &str, timeout: Duration) -> Target {
    Target {
        remote: remote.to_owned(),
        branch: branch.to_owned(),
        work: record.cache_dir.join("snapshot"),
        timeout,
    }
}

fn is_dash(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    file.with_file_name(name)
}

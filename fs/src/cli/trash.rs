//! `notefs trash ls` and `notefs trash restore`.
//!
//! Owns how the trash looks. Does not own what it holds (`notefs_cache::trash`).

use super::units::{show_bytes, show_ms};
use super::{Outcome, find_mount, output};
use crate::control::client;
use crate::control::protocol::{Answer, Request, TrashList};
use crate::failure::{EXIT_FAILED, Failure};
use notefs_cache::trash::{Trashed, Why};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `notefs trash ls`.
pub(super) fn list(dir: Option<&Path>, as_json: bool) -> Outcome {
    let (record, below) = find_mount(dir)?;
    let below = if dir.is_some() { below } else { Vec::new() };
    let answer = client::ask(&record, &Request::TrashList { below }, &mut |_| ())?;
    let Answer::Trash(trash) = answer else {
        return Err(client::unexpected(&record));
    };
    let nothing = trash.versions.is_empty();
    if as_json {
        let versions: Vec<Value> = trash.versions.iter().map(row).collect();
        output::json(&json!({
            "mountpoint": record.mountpoint,
            "keeps_ms": trash.keeps_ms,
            "bucket_keeps_versions": trash.bucket_keeps_versions,
            "versions": versions,
        }))?;
        return Ok(if nothing { EXIT_FAILED } else { 0 });
    }
    for version in &trash.versions {
        output::line(line(version))?;
    }
    if nothing {
        output::note(why_empty(&trash));
        return Ok(EXIT_FAILED);
    }
    Ok(0)
}

fn why_empty(trash: &TrashList) -> String {
    match (trash.bucket_keeps_versions, trash.keeps_ms) {
        (true, _) => {
            "The trash is empty: this bucket keeps old versions by itself; its own tools bring them back".to_owned()
        }
        (false, None) => "The trash is empty: this mount keeps none (--trash off)".to_owned(),
        (false, Some(ms)) => format!("The trash is empty; what goes is kept for {}", show_ms(ms)),
    }
}

fn path_of(version: &Trashed) -> String {
    String::from_utf8_lossy(&version.path).into_owned()
}

fn why(version: &Trashed) -> &'static str {
    match version.why {
        Why::Deleted => "deleted",
        Why::Overwritten => "overwritten",
    }
}

fn row(version: &Trashed) -> Value {
    json!({
        "path": path_of(version),
        "version": version.version,
        "when_ms": version.when.as_nanos() / 1_000_000,
        "why": version.why,
        "size": version.size,
        "key": version.key,
    })
}

fn line(version: &Trashed) -> String {
    format!(
        "{}  {:<11}  {:>10}  {}",
        version.version,
        why(version),
        show_bytes(version.size),
        output::printable(&path_of(version))
    )
}

/// `notefs trash restore`.
pub(super) fn restore(words: &[OsString], version: Option<String>, overwrite: bool) -> Outcome {
    let (record, path) = match words {
        [path] => find_mount(Some(Path::new(path)))?,
        [dir, path, ..] => {
            let (record, below) = find_mount(Some(Path::new(dir)))?;
            let absolute = Path::new(path).strip_prefix(&record.mountpoint).ok();
            let path = absolute.unwrap_or(Path::new(path)).as_os_str().as_bytes();
            let inside = absolute.is_some() || below.is_empty();
            let path = if inside {
                path.to_vec()
            } else {
                [&below, path].join(&b'/')
            };
            (record, path)
        }
        [] => return Err(Failure::usage("The note's path is missing")),
    };
    if path.is_empty() {
        return Err(
            Failure::usage("The note's path is missing").hint("`notefs trash ls` lists what can be brought back")
        );
    }
    let place = record.mountpoint.join(std::ffi::OsStr::from_bytes(&path));
    make_way(&place, overwrite)?;
    let request = Request::TrashRestore {
        path,
        version,
        overwrite,
    };
    let Answer::Restored { trashed, draft } = client::ask(&record, &request, &mut |_| ())? else {
        return Err(client::unexpected(&record));
    };
    // By this program and through the mount: so that the kernel and all watchers hear of it.
    let draft = place.with_file_name(std::ffi::OsStr::from_bytes(&draft));
    if let Err(error) = std::fs::rename(&draft, &place) {
        std::fs::remove_file(&draft).ok();
        return Err(Failure::io("restore", &place)(error));
    }
    output::note(format_args!(
        "Restored {} as it was when {} ({})",
        place.display(),
        why(&trashed),
        trashed.version
    ));
    Ok(0)
}

/// Makes the folder that a note is to come back to, and refuses to replace what must not be.
fn make_way(place: &Path, overwrite: bool) -> Result<(), Failure> {
    match std::fs::symlink_metadata(place) {
        Ok(there) if there.is_dir() => {
            let message = format!("{} is a folder now", place.display());
            return Err(Failure::new(message).hint("Move it away first"));
        }
        Ok(_) if !overwrite => {
            let message = format!("{} is there", place.display());
            return Err(Failure::new(message).hint("Move it away first, or replace it with --overwrite"));
        }
        _ => {}
    }
    let folder = place.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(Failure::io("make the folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_trash_says_why() {
        let trash = |bucket_keeps_versions, keeps_ms| TrashList {
            versions: Vec::new(),
            keeps_ms,
            bucket_keeps_versions,
        };
        assert!(why_empty(&trash(true, Some(1))).contains("by itself"));
        assert!(why_empty(&trash(false, None)).contains("--trash off"));
        assert!(why_empty(&trash(false, Some(30 * 86_400_000))).contains("30 days"));
    }
}

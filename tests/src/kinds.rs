//! The nine kinds of change that another machine can make, and what inotify must say of each: none missing, none double, in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::pair::{fill, shows};
use crate::watch::{Watcher, by_path};
use crate::{Mount, PATIENCE};

/// Changes of each of the nine kinds.
pub const EACH: usize = 150;

/// A reader that knows only what the writer itself tells: a listing in between may show half of a rename.
pub const ONLY_TOLD: [&str; 3] = ["-v", "--poll", "1h"];

/// The nine kinds: folders with what must be there before, known to the reader as the kind wants it.
pub fn prepare(writer: &Mount, reader: &Mount) -> Result<()> {
    for folder in ["cold", "cached", "moved", "across", "gone"] {
        fill(writer, folder, (folder, EACH))?;
    }
    for folder in ["unknown", "negative", "listed", "target", "made", "emptied"] {
        std::fs::create_dir(writer.path(folder))?;
    }
    for number in 0..EACH {
        std::fs::create_dir(writer.path(&format!("emptied/{number}")))?;
    }
    std::fs::write(writer.path("emptied/stays.md"), "")?;
    writer.drain()?;
    for folder in ["cold", "cached", "moved", "across", "gone"] {
        shows(reader, folder, EACH)?;
    }
    shows(reader, "emptied", EACH + 1)?;
    for number in 0..EACH {
        let path = |folder: &str| reader.path(&format!("{folder}/{number}.md"));
        ensure!(!path("negative").exists(), "there already");
        std::fs::read(path("cached"))?;
    }
    for folder in ["unknown", "negative", "listed", "target", "made"] {
        shows(reader, folder, 0)?;
    }
    Ok(())
}

/// What the watchers of a path must see, in order.
pub type Expected = BTreeMap<String, Vec<&'static str>>;

const NEW: [&str; 3] = ["CREATE", "OPEN", "CLOSE_WRITE"];
const CHANGED: [&str; 3] = ["OPEN", "MODIFY", "CLOSE_WRITE"];

/// Parts of the nine kinds: changes on the writer, and what the reader's watchers must see.
pub const PARTS: [fn(&Mount) -> Result<Expected>; 4] = [
    make,
    edit_and_remove,
    |writer| rename(writer, "moved", "moved/new "),
    |writer| rename(writer, "across", "target/"),
];

fn make(writer: &Mount) -> Result<Expected> {
    let mut expected = Expected::new();
    for number in 0..EACH {
        for folder in ["unknown", "negative", "listed"] {
            let name = format!("{folder}/{number}.md");
            std::fs::write(writer.path(&name), format!("new {name}\n"))?;
            expected.insert(name, NEW.to_vec());
        }
        let made = format!("made/{number}");
        std::fs::create_dir(writer.path(&made))?;
        expected.insert(made, vec!["CREATE,ISDIR"]);
    }
    Ok(expected)
}

fn edit_and_remove(writer: &Mount) -> Result<Expected> {
    let mut expected = Expected::new();
    for number in 0..EACH {
        for folder in ["cold", "cached"] {
            let name = format!("{folder}/{number}.md");
            let old = std::fs::read_to_string(writer.path(&name))?;
            std::fs::write(writer.path(&name), old.to_uppercase())?;
            expected.insert(name, CHANGED.to_vec());
        }
        let (emptied, gone) = (format!("emptied/{number}"), format!("gone/{number}.md"));
        std::fs::remove_dir(writer.path(&emptied))?;
        std::fs::remove_file(writer.path(&gone))?;
        expected.insert(emptied, vec!["DELETE,ISDIR"]);
        expected.insert(gone, vec!["DELETE"]);
    }
    Ok(expected)
}

fn rename(writer: &Mount, from: &str, to: &str) -> Result<Expected> {
    let mut expected = Expected::new();
    for number in 0..EACH {
        let (from, to) = (format!("{from}/{number}.md"), format!("{to}{number}.md"));
        std::fs::rename(writer.path(&from), writer.path(&to))?;
        expected.insert(from, vec!["MOVED_FROM"]);
        expected.insert(to, vec!["MOVED_TO"]);
    }
    Ok(expected)
}

/// Whether these events of a path are a rename as it looks in the bucket, where for a moment both names exist.
fn is_rename_in_steps(seen: &[String], expected: &[&str]) -> bool {
    match expected {
        ["MOVED_FROM"] => *seen == ["DELETE"],
        ["MOVED_TO"] => {
            *seen == NEW || (seen.starts_with(&NEW.map(str::to_owned)) && seen[NEW.len()..] == ["MOVED_TO"])
        }
        _ => false,
    }
}

/// The reader's events against what was expected; paths that end in a slash are a folder's own watch.
pub fn compare(seen: &BTreeMap<String, Vec<String>>, expected: &Expected) -> Result<()> {
    let mut wrong = Vec::new();
    for (path, events) in expected {
        let seen = seen.get(path).map(Vec::as_slice).unwrap_or_default();
        if seen != events.as_slice() && !is_rename_in_steps(seen, events) {
            wrong.push(format!("{path}: {seen:?}, not {events:?}"));
        }
    }
    for (path, events) in seen {
        if !expected.contains_key(path) && !path.ends_with('/') && !path.is_empty() {
            wrong.push(format!("{path}: {events:?}, not expected"));
        }
    }
    let total = expected.len();
    let first = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n  ");
    ensure!(
        wrong.is_empty(),
        "{} of {total} paths were felt wrongly:\n  {first}",
        wrong.len()
    );
    Ok(())
}

/// How many names were felt as renamed, and not as new or gone.
pub fn moved(seen: &BTreeMap<String, Vec<String>>, expected: &Expected) -> usize {
    let moved = expected.iter().filter(|(path, events)| {
        events[0].starts_with("MOVED") && seen.get(*path).is_some_and(|seen| seen == events.as_slice())
    });
    moved.count()
}

/// After its event, each file has the content that the writer gave it.
pub fn same_content(writer: &Mount, reader: &Mount, expected: &Expected) -> Result<()> {
    for (path, _) in expected.iter().filter(|(_, events)| events.contains(&"CLOSE_WRITE")) {
        let (there, here) = (std::fs::read(writer.path(path))?, std::fs::read(reader.path(path))?);
        ensure!(there == here, "{path} is stale");
    }
    Ok(())
}

/// Waits for as long as events go on coming. What is missing in the end is told by the comparison.
pub fn wait_for_all(watcher: &Watcher, expected: &Expected) -> Result<()> {
    let (mut count, mut since) = (0, Instant::now());
    loop {
        let lines = watcher.lines()?;
        if lines.len() > count {
            (count, since) = (lines.len(), Instant::now());
        }
        let seen = by_path(&lines);
        if expected.keys().all(|path| seen.contains_key(path)) || since.elapsed() > PATIENCE {
            return Ok(());
        }
        // Each look reads everything.
        std::thread::sleep(Duration::from_millis(300));
    }
}

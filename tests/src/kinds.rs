//! The nine kinds of change that another machine can make, and what inotify must say of each: none missing, none double, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::pair::{fill, shows};
use crate::watch::{Watcher, by_path};
use crate::{Mount, PATIENCE};

/// Changes of each of the nine kinds where time allows.
pub const EACH: usize = 150;

/// A reader that knows only what the writer itself tells: a listing in between may show half of a rename.
pub const ONLY_TOLD: [&str; 3] = ["-v", "--poll", "1h"];

/// The nine kinds, with `each` changes of each: folders with what must be there before, known to the reader as the kind wants it.
pub fn prepare(writer: &Mount, reader: &Mount, each: usize) -> Result<()> {
    for folder in ["cold", "cached", "moved", "across", "gone"] {
        fill(writer, folder, (folder, each))?;
    }
    for folder in ["unknown", "negative", "listed", "target", "made", "emptied"] {
        std::fs::create_dir(writer.path(folder))?;
    }
    for number in 0..each {
        std::fs::create_dir(writer.path(&format!("emptied/{number}")))?;
    }
    std::fs::write(writer.path("emptied/stays.md"), "")?;
    writer.drain()?;
    for folder in ["cold", "cached", "moved", "across", "gone"] {
        shows(reader, folder, each)?;
    }
    shows(reader, "emptied", each + 1)?;
    for number in 0..each {
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
pub const PARTS: [fn(&Mount, usize) -> Result<Expected>; 4] = [
    make,
    edit_and_remove,
    |writer, each| rename(writer, ("moved", "moved/new "), each),
    |writer, each| rename(writer, ("across", "target/"), each),
];

fn make(writer: &Mount, each: usize) -> Result<Expected> {
    let mut expected = Expected::new();
    for number in 0..each {
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

fn edit_and_remove(writer: &Mount, each: usize) -> Result<Expected> {
    let mut expected = Expected::new();
    for number in 0..each {
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

fn rename(writer: &Mount, (from, to): (&str, &str), each: usize) -> Result<Expected> {
    let mut expected = Expected::new();
    for number in 0..each {
        let (from, to) = (format!("{from}/{number}.md"), format!("{to}{number}.md"));
        std::fs::rename(writer.path(&from), writer.path(&to))?;
        expected.insert(from, vec!["MOVED_FROM"]);
        expected.insert(to, vec!["MOVED_TO"]);
    }
    Ok(expected)
}

/// All parts, stored.
pub fn change_all(writer: &Mount, each: usize) -> Result<Expected> {
    let mut expected = Expected::new();
    for part in PARTS {
        expected.append(&mut part(writer, each)?);
    }
    writer.drain()?;
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

/// Whether a path has had its events, no more and no less.
fn is_felt(seen: &[String], expected: &[&str]) -> bool {
    seen == expected || is_rename_in_steps(seen, expected)
}

/// The reader's events against what was expected; paths that end in a slash are a folder's own watch.
pub fn compare(seen: &BTreeMap<String, Vec<String>>, expected: &Expected) -> Result<()> {
    let mut wrong = Vec::new();
    for (path, events) in expected {
        let seen = seen.get(path).map(Vec::as_slice).unwrap_or_default();
        if !is_felt(seen, events) {
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

/// Waits for as long as expected paths go on being felt; whatever else happens meanwhile counts for nothing. What is missing in the
/// end is told by the comparison.
pub fn wait_for_all(watcher: &Watcher, expected: &Expected) -> Result<()> {
    let (mut missing, mut since) = (expected.len() + 1, Instant::now());
    loop {
        let seen = by_path(&watcher.lines()?);
        let felt = |path| seen.get(path).map(Vec::as_slice).unwrap_or_default();
        let left = expected
            .iter()
            .filter(|(path, events)| !is_felt(felt(*path), events))
            .count();
        if left < missing {
            (missing, since) = (left, Instant::now());
        }
        if left == 0 || since.elapsed() > PATIENCE {
            return Ok(());
        }
        // Each look reads everything.
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Paths and contents; folders have none.
pub type Scan = BTreeMap<String, Option<Vec<u8>>>;

/// What a program sees that looks at everything once, while names come and go.
pub fn scan(mount: &Mount) -> Result<Scan> {
    let (mut scan, mut todo) = (Scan::new(), vec![String::new()]);
    while let Some(folder) = todo.pop() {
        let Some(names) = unless_gone(std::fs::read_dir(mount.path(&folder)))? else {
            continue;
        };
        for name in names {
            let name = name?;
            let path = format!("{folder}{}", name.file_name().to_string_lossy());
            if name.file_type()?.is_dir() {
                todo.push(format!("{path}/"));
                scan.insert(path, None);
            } else if let Some(content) = unless_gone(std::fs::read(mount.path(&path)))? {
                scan.insert(path, Some(content));
            }
        }
    }
    Ok(scan)
}

fn unless_gone<T>(result: std::io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until both machines show the same.
pub fn same_everywhere(writer: &Mount, reader: &Mount) -> Result<Scan> {
    crate::wait_until("same names and contents on both machines", PATIENCE, || {
        let look = |mount| scan(mount).map_err(|error| format!("{error:#}"));
        let (there, here) = (look(writer)?, look(reader)?);
        let differs = |path: &&String| there.get(*path) != here.get(*path);
        let all = there
            .keys()
            .chain(here.keys().filter(|path| !there.contains_key(*path)));
        let wrong: Vec<_> = all.filter(differs).collect();
        if wrong.is_empty() {
            return Ok(here);
        }
        Err(format!(
            "{} paths differ, such as {:?}",
            wrong.len(),
            &wrong[..wrong.len().min(5)]
        ))
    })
}

/// Events that tell of a change; a reader opens and closes as well.
const TELLING: [&str; 7] = [
    "CREATE",
    "CREATE,ISDIR",
    "MODIFY",
    "DELETE",
    "DELETE,ISDIR",
    "MOVED_FROM",
    "MOVED_TO",
];

/// Whether watchers have heard of each of these paths: by events of its own, or by its folder, which was touched. Nothing may have been
/// told twice, but for the opening and closing of a file whose events were cut off and came anew.
pub fn told_of<'path>(lines: &[String], paths: impl Iterator<Item = &'path String>) -> Result<()> {
    let mut seen = by_path(lines);
    let mut touched: BTreeSet<String> = seen.keys().cloned().collect();
    touched.retain(|folder| seen[folder].iter().any(|event| event == "ATTRIB,ISDIR"));
    for events in seen.values_mut() {
        events.retain(|event| TELLING.contains(&event.as_str()));
    }
    let is_told = |path: &&String| {
        // The mount's own watch has an empty name.
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        touched.contains(folder) || seen.get(*path).is_some_and(|events| !events.is_empty())
    };
    let missing: Vec<_> = paths.filter(|path| !is_told(path)).collect();
    ensure!(
        missing.is_empty(),
        "{} paths were neither felt nor told of by their folders: {:?}",
        missing.len(),
        &missing[..missing.len().min(20)]
    );
    for (path, events) in &seen {
        let once: BTreeSet<&String> = events.iter().collect();
        ensure!(once.len() == events.len(), "{path} was felt twice: {events:?}");
    }
    Ok(())
}

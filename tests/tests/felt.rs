//! Changes of one machine raise file events on another, as local changes do: none missing, none double, in the right order,
//! and who reads because of one reads what is new.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use notefs_tests::pair::{fill, reads, shows, signal, two_machines};
use notefs_tests::process::{self, shell};
use notefs_tests::watch::{Watcher, by_path};
use notefs_tests::{Mount, PATIENCE, Store, wait_until};

/// Changes of each of the nine kinds.
const EACH: usize = 150;

/// A reader that knows only what the writer itself tells: a listing in between may show half of a rename.
const ONLY_TOLD: [&str; 3] = ["-v", "--poll", "1h"];

/// The nine kinds: folders with what must be there before, known to the reader as the kind wants it.
fn prepare(writer: &Mount, reader: &Mount) -> Result<()> {
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
type Expected = BTreeMap<String, Vec<&'static str>>;

const NEW: [&str; 3] = ["CREATE", "OPEN", "CLOSE_WRITE"];
const CHANGED: [&str; 3] = ["OPEN", "MODIFY", "CLOSE_WRITE"];

/// Parts of the nine kinds: changes on the writer, and what the reader's watchers must see.
const PARTS: [fn(&Mount) -> Result<Expected>; 4] = [
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
fn compare(seen: &BTreeMap<String, Vec<String>>, expected: &Expected) -> Result<()> {
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

/// After its event, each file has the content that the writer gave it.
fn same_content(writer: &Mount, reader: &Mount, expected: &Expected) -> Result<()> {
    for (path, _) in expected.iter().filter(|(_, events)| events.contains(&"CLOSE_WRITE")) {
        let (there, here) = (std::fs::read(writer.path(path))?, std::fs::read(reader.path(path))?);
        ensure!(there == here, "{path} is stale");
    }
    Ok(())
}

/// Waits for as long as events go on coming. What is missing in the end is told by the comparison.
fn wait_for_all(watcher: &Watcher, expected: &Expected) -> Result<()> {
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

/// The reader sees each part when it is complete in the bucket, so that a rename is one.
#[test]
fn every_kind_of_change_is_felt_exactly_once() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &ONLY_TOLD)?;
    prepare(&writer, &reader)?;
    let watcher = Watcher::inotify(reader.dir())?;
    let mut expected = Expected::new();
    let daemon = i32::try_from(reader.pid()?)?;
    for part in PARTS {
        signal(daemon, libc::SIGSTOP);
        let changed = part(&writer).and_then(|part| writer.drain().map(|()| part));
        signal(daemon, libc::SIGCONT);
        expected.append(&mut changed?);
        wait_for_all(&watcher, &expected)?;
    }
    let seen = by_path(&watcher.everything("end-mark")?);
    compare(&seen, &expected)?;
    // The look at the bucket decides whether a rename is one; nearly all are.
    let moved = expected
        .iter()
        .filter(|(path, events)| seen[*path] == events.as_slice() && events[0].starts_with("MOVED"));
    let moved = moved.count();
    ensure!(
        moved >= 2 * EACH,
        "only {moved} names of {} were felt as renamed",
        4 * EACH
    );
    same_content(&writer, &reader, &expected)
}

#[test]
fn every_kind_of_change_is_felt_under_load() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &["-v"])?;
    std::fs::create_dir(reader.path("noise"))?;
    prepare(&writer, &reader)?;
    let watcher = Watcher::inotify(reader.dir())?;
    let stop = AtomicBool::new(false);
    // Each round looks everywhere and changes something of its own.
    let round = "ls -lR . >/dev/null; stat nothing/here */missing.md >/dev/null 2>&1 || true
        echo $RANDOM > noise/a; mv noise/a noise/b; cat noise/b >/dev/null; rm noise/b; sleep 0.1";
    let (lines, expected) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                shell(reader.dir(), round).ok();
            }
        });
        let felt = || {
            let mut expected = Expected::new();
            PARTS
                .iter()
                .try_for_each(|part| part(&writer).map(|mut part| expected.append(&mut part)))?;
            wait_for_all(&watcher, &expected)?;
            anyhow::Ok((watcher.everything("end-mark")?, expected))
        };
        let felt = felt();
        stop.store(true, Ordering::Relaxed);
        felt
    })?;
    let mut seen = by_path(&lines);
    seen.retain(|path, _| !path.starts_with("noise"));
    compare(&seen, &expected)?;
    same_content(&writer, &reader, &expected)
}

#[test]
fn who_reads_because_of_an_event_reads_what_is_new() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &[])?;
    fill(&writer, "notes", ("old", EACH))?;
    writer.drain()?;
    shows(&reader, "notes", EACH)?;
    shell(reader.dir(), "cat notes/*.md >/dev/null")?;
    let watcher = Watcher::inotify(reader.dir())?;
    let rewritten = "new words";
    for number in 0..EACH {
        std::fs::write(writer.path(&format!("notes/{number}.md")), format!("new {number:04}\n"))?;
    }
    let mut read = std::collections::BTreeSet::new();
    let mut stale = Vec::new();
    wait_until("events of all notes", PATIENCE, || {
        for line in watcher.lines().map_err(|error| format!("{error:#}"))? {
            let Some(path) = line.strip_prefix("MODIFY ").filter(|path| !read.contains(*path)) else {
                continue;
            };
            let text = std::fs::read_to_string(reader.path(path)).map_err(|error| error.to_string())?;
            let length = std::fs::metadata(reader.path(path))
                .map_err(|error| error.to_string())?
                .size();
            if !text.starts_with("new ") || length != text.len() as u64 {
                stale.push(format!("{path}: {text:?}, {length} bytes"));
            }
            read.insert(path.to_owned());
        }
        if read.len() == EACH {
            Ok(())
        } else {
            Err(format!("{} of {EACH}", read.len()))
        }
    })?;
    ensure!(stale.is_empty(), "stale: {stale:?}");
    std::fs::write(writer.path("notes/0.md"), rewritten)?;
    reads(&reader, "notes/0.md", rewritten)?;
    wait_until("index with the new content", PATIENCE, || {
        match reader.search("words").map_err(|error| format!("{error:#}"))?.as_slice() {
            [path] if path == "notes/0.md" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn a_watch_on_the_file_itself_and_tail_feel_it_too() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &ONLY_TOLD)?;
    std::fs::write(writer.path("log.md"), "first\n")?;
    std::fs::write(writer.path("gone.md"), "gone\n")?;
    reads(&reader, "log.md", "first\n")?;
    reads(&reader, "gone.md", "gone\n")?;
    let (log, gone) = (reader.path("log.md"), reader.path("gone.md"));
    let (watcher, other) = (Watcher::inotify(&log)?, Watcher::inotify(&gone)?);
    let output = reader.notefs().home().join("tail");
    let mut tail = std::process::Command::new("tail");
    tail.args(["-n", "+1", "-F"])
        .arg(&log)
        .stdout(std::fs::File::create(&output)?);
    let _tail = process::spawn(tail)?;
    shell(writer.dir(), "echo second >> log.md; rm gone.md")?;
    let has = |lines: &[String], event: &str| lines.iter().any(|line| line.starts_with(event));
    watcher.wait("MODIFY of the file", |lines| has(lines, "MODIFY"))?;
    other.wait("DELETE_SELF of the file", |lines| has(lines, "DELETE_SELF"))?;
    wait_until("appended line in tail", PATIENCE, || {
        match std::fs::read_to_string(&output) {
            Ok(text) if text == "first\nsecond\n" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let daemon = i32::try_from(reader.pid()?)?;
    signal(daemon, libc::SIGSTOP);
    let renamed = shell(writer.dir(), "mv log.md moved.md").and_then(|_| writer.drain());
    signal(daemon, libc::SIGCONT);
    renamed?;
    watcher.wait("MOVE_SELF of the file", |lines| has(lines, "MOVE_SELF"))?;
    Ok(())
}

/// One change of each kind that these programs tell apart.
fn told_by(start: impl Fn(&Path) -> Result<Watcher>, words: [&str; 3]) -> Result<Vec<String>> {
    let (writer, reader) = two_machines(&Store::folder()?, &[])?;
    shell(writer.dir(), "echo one > changed.md; echo two > gone.md")?;
    reads(&reader, "changed.md", "one\n")?;
    reads(&reader, "gone.md", "two\n")?;
    let watcher = start(reader.dir())?;
    shell(writer.dir(), "echo new > new.md; echo other > changed.md; rm gone.md")?;
    let expected = [(words[0], "new.md"), (words[1], "changed.md"), (words[2], "gone.md")];
    let all = |lines: &[String]| {
        expected
            .iter()
            .all(|(word, path)| lines.iter().any(|line| line.trim() == format!("{word} {path}")))
    };
    watcher.wait("changes that are told", all)?;
    watcher.everything("end-mark")
}

#[test]
fn watchfiles_tells_each_change_once() -> Result<()> {
    let mut lines = told_by(Watcher::watchfiles, ["added", "modified", "deleted"])?;
    lines.retain(|line| line != "ready");
    lines.sort();
    ensure!(
        lines == ["added new.md", "deleted gone.md", "modified changed.md"],
        "{lines:?}"
    );
    Ok(())
}

#[test]
fn watchdog_tells_each_change() -> Result<()> {
    let lines = told_by(Watcher::watchdog, ["created", "modified", "deleted"])?;
    let deleted = lines.iter().filter(|line| line.starts_with("deleted")).count();
    ensure!(deleted == 1, "{lines:?}");
    Ok(())
}

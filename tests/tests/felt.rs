//! Changes of one machine raise file events on another, as local changes do: none missing, none double, in the right order,
//! and who reads because of one reads what is new.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use notefs_tests::kinds::{
    EACH, Expected, ONLY_TOLD, PARTS, change_all, compare, moved, prepare, same_content, wait_for_all,
};
use notefs_tests::pair::{fill, reads, shows, signal, two_machines};
use notefs_tests::process::{self, shell};
use notefs_tests::watch::{Watcher, by_path};
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, wait_until};

/// The reader sees each part when it is complete in the bucket, so that a rename is one.
fn felt_exactly_once(store: &Store) -> Result<()> {
    let (writer, reader) = two_machines(store, &ONLY_TOLD)?;
    prepare(&writer, &reader, EACH)?;
    let watcher = Watcher::inotify(reader.dir())?;
    let mut expected = Expected::new();
    let daemon = i32::try_from(reader.pid()?)?;
    for part in PARTS {
        signal(daemon, libc::SIGSTOP);
        let changed = part(&writer, EACH).and_then(|part| writer.drain().map(|()| part));
        signal(daemon, libc::SIGCONT);
        expected.append(&mut changed?);
        wait_for_all(&watcher, &expected)?;
    }
    let seen = by_path(&watcher.everything("end-mark")?);
    compare(&seen, &expected)?;
    let moved = moved(&seen, &expected);
    ensure!(
        moved == 4 * EACH,
        "only {moved} names of {} were felt as renamed",
        4 * EACH
    );
    same_content(&writer, &reader, &expected)
}

#[test]
fn every_kind_of_change_is_felt_exactly_once() -> Result<()> {
    felt_exactly_once(&Store::folder()?)
}

#[test]
fn every_kind_of_change_is_felt_exactly_once_on_ministack() -> Result<()> {
    felt_exactly_once(&Store::ministack()?)
}

#[test]
fn every_kind_of_change_is_felt_exactly_once_on_weed() -> Result<()> {
    felt_exactly_once(&Store::weed()?)
}

/// All parts come with one look of the reader.
#[test]
fn many_changes_at_once_are_felt_each() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &ONLY_TOLD)?;
    prepare(&writer, &reader, EACH)?;
    let watcher = Watcher::inotify(reader.dir())?;
    // What was prepared may still touch a folder.
    std::fs::write(writer.path("ready.md"), "ready\n")?;
    let is_ready = |line: &String| line == "CLOSE_WRITE,CLOSE ready.md";
    let before = watcher
        .wait("note of the writer", |lines| lines.iter().any(is_ready))?
        .len();
    let daemon = i32::try_from(reader.pid()?)?;
    signal(daemon, libc::SIGSTOP);
    let expected = change_all(&writer, EACH);
    signal(daemon, libc::SIGCONT);
    let expected = expected?;
    wait_for_all(&watcher, &expected)?;
    let lines = watcher.everything("end-mark")?;
    compare(&by_path(&lines[before..]), &expected)?;
    same_content(&writer, &reader, &expected)
}

#[test]
fn every_kind_of_change_is_felt_under_load() -> Result<()> {
    felt_under_load(&Store::folder()?)
}

#[test]
fn every_kind_of_change_is_felt_under_load_on_weed() -> Result<()> {
    felt_under_load(&Store::weed()?)
}

fn felt_under_load(store: &Store) -> Result<()> {
    let (writer, reader) = two_machines(store, &["-v"])?;
    std::fs::create_dir(reader.path("noise"))?;
    prepare(&writer, &reader, EACH)?;
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
            for part in PARTS {
                expected.append(&mut part(&writer, EACH)?);
            }
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

/// No look at the bucket: the read itself finds it. What is no note is not fetched ahead.
#[test]
fn what_a_read_finds_to_be_gone_is_felt() -> Result<()> {
    let store = Store::folder()?;
    for name in ["gone.bin", "stays.bin"] {
        store.put(name, b"text")?;
    }
    let reader = Mount::start_with(&store, MountOptions::args(&ONLY_TOLD))?;
    shows(&reader, ".", 2)?;
    let watcher = Watcher::inotify(reader.dir())?;
    store.delete("gone.bin")?;
    ensure!(std::fs::read(reader.path("gone.bin")).is_err(), "it was read ahead");
    let gone = "DELETE gone.bin".to_owned();
    watcher.wait("event of the removal", |lines| lines.contains(&gone))?;
    let lines = watcher.everything("end-mark")?;
    ensure!(
        by_path(&lines)["gone.bin"]
            .iter()
            .filter(|event| *event == "DELETE")
            .count()
            == 1,
        "{lines:?}"
    );
    ensure!(
        shell(reader.dir(), "ls -A")?.lines().eq(["end-mark", "stays.bin"]),
        "the folder shows something else"
    );
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

#[test]
fn chokidar_tells_each_change_once() -> Result<()> {
    let mut lines = told_by(Watcher::chokidar, ["add", "change", "unlink"])?;
    lines.retain(|line| line != "ready");
    lines.sort();
    ensure!(
        lines == ["add new.md", "change changed.md", "unlink gone.md"],
        "{lines:?}"
    );
    Ok(())
}

#[test]
fn parcels_watcher_tells_each_change_once() -> Result<()> {
    let mut lines = told_by(Watcher::parcel, ["create", "update", "delete"])?;
    lines.retain(|line| line != "ready");
    lines.sort();
    ensure!(
        lines == ["create new.md", "delete gone.md", "update changed.md"],
        "{lines:?}"
    );
    Ok(())
}

//! Changes of one machine raise file events on another, as local changes do: none missing, none double, in the right order,
//! and who reads because of one reads what is new. Nothing hangs when the parts of it die.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{self, shell};
use notefs_tests::watch::{Watcher, by_path};
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, wait_until};
use serde_json::Value;

/// Changes of each of the nine kinds.
const EACH: usize = 150;

/// A reader that knows only what the writer itself tells: a listing in between may show half of a rename.
const ONLY_TOLD: [&str; 3] = ["-v", "--poll", "1h"];

/// A machine that writes, and one that feels it.
fn two_machines(store: &Store, args: &[&str]) -> Result<(Mount, Mount)> {
    let writer = Mount::start_with(store, MountOptions::args(&["--write-back", "100ms"]))?;
    let reader = Mount::start_with(store, MountOptions::args(args))?;
    Ok((writer, reader))
}

/// Waits until the other machine shows exactly these paths, without looking any of them up.
fn shows(mount: &Mount, folder: &str, count: usize) -> Result<()> {
    wait_until(&format!("{count} names in {folder}"), PATIENCE, || {
        let listed = shell(mount.dir(), &format!("ls -U -1 '{folder}' 2>/dev/null | wc -l"));
        match listed.map(|text| text.trim().parse::<usize>()) {
            Ok(Ok(seen)) if seen == count => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
}

/// Waits until a file has this content.
fn reads(mount: &Mount, path: &str, content: &str) -> Result<()> {
    wait_until(
        &format!("new content of {path}"),
        PATIENCE,
        || match std::fs::read_to_string(mount.path(path)) {
            Ok(text) if text == content => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
}

fn fill(mount: &Mount, folder: &str, content: &str) -> Result<()> {
    std::fs::create_dir_all(mount.path(folder))?;
    for number in 0..EACH {
        std::fs::write(
            mount.path(&format!("{folder}/{number}.md")),
            format!("{content} {number:04}\n"),
        )?;
    }
    Ok(())
}

/// The nine kinds: folders with what must be there before, known to the reader as the kind wants it.
fn prepare(writer: &Mount, reader: &Mount) -> Result<()> {
    for folder in ["cold", "cached", "moved", "across", "gone"] {
        fill(writer, folder, folder)?;
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
fn compare(seen: &BTreeMap<String, Vec<String>>, expected: &Expected, in_steps: bool) -> Result<()> {
    let mut wrong = Vec::new();
    for (path, events) in expected {
        let seen = seen.get(path).map(Vec::as_slice).unwrap_or_default();
        if seen != events.as_slice() && !(in_steps && is_rename_in_steps(seen, events)) {
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

fn wait_for_all(watcher: &Watcher, expected: &Expected) {
    let all = |lines: &[String]| {
        let seen = by_path(lines);
        expected.keys().all(|path| seen.contains_key(path))
    };
    // What is missing is told by the comparison.
    watcher.wait("events of all changes", all).ok();
}

/// The reader sees each part when it is complete in the bucket, so that a rename is one.
#[test]
fn every_kind_of_change_is_felt_exactly_once() -> Result<()> {
    let (writer, reader) = two_machines(&Store::ministack()?, &ONLY_TOLD)?;
    prepare(&writer, &reader)?;
    let watcher = Watcher::inotify(reader.dir())?;
    let mut expected = Expected::new();
    let daemon = i32::try_from(reader.pid()?)?;
    for part in PARTS {
        signal(daemon, libc::SIGSTOP);
        let changed = part(&writer).and_then(|part| writer.drain().map(|()| part));
        signal(daemon, libc::SIGCONT);
        expected.append(&mut changed?);
        wait_for_all(&watcher, &expected);
    }
    compare(&by_path(&watcher.everything("end-mark")?), &expected, false)?;
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
            wait_for_all(&watcher, &expected);
            anyhow::Ok((watcher.everything("end-mark")?, expected))
        };
        let felt = felt();
        stop.store(true, Ordering::Relaxed);
        felt
    })?;
    let mut seen = by_path(&lines);
    seen.retain(|path, _| !path.starts_with("noise"));
    compare(&seen, &expected, true)?;
    same_content(&writer, &reader, &expected)
}

#[test]
fn who_reads_because_of_an_event_reads_what_is_new() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &[])?;
    fill(&writer, "notes", "old")?;
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

#[test]
fn without_events_changes_show_all_the_same() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &["--events", "off"])?;
    std::fs::write(writer.path("a.md"), "one\n")?;
    reads(&reader, "a.md", "one\n")?;
    ensure!(actor_of(&reader)?.is_none(), "there is a process that raises events");
    let watcher = Watcher::inotify(reader.dir())?;
    std::fs::write(writer.path("a.md"), "two\n")?;
    reads(&reader, "a.md", "two\n")?;
    let lines = watcher.everything("end-mark")?;
    let felt = by_path(&lines).remove("a.md").unwrap_or_default();
    ensure!(!felt.iter().any(|event| event != "OPEN"), "{felt:?}");
    Ok(())
}

/// The process that raises events for a mount.
fn actor_of(mount: &Mount) -> Result<Option<i32>> {
    let daemon = mount.pid()?.to_string();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let is_zombie = field("State:").is_some_and(|state| state.starts_with('Z'));
        if field("PPid:") == Some(daemon.as_str()) && !is_zombie {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: the process is a daemon of this test, or was just seen as a child of one.
    unsafe { libc::kill(pid, signal) };
}

/// Whether a process with this number, other than one that waits to be reaped, lives.
fn lives(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status
        .rsplit(") ")
        .next()
        .is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

fn some_actor(mount: &Mount) -> Result<i32> {
    wait_until("process that raises events", PATIENCE, || match actor_of(mount) {
        Ok(Some(pid)) => Ok(pid),
        other => Err(format!("{other:?}")),
    })
}

/// Each path's change was felt, or at least its folder was touched.
fn felt_or_touched(lines: &[String], paths: &[String]) -> Result<()> {
    let seen = by_path(lines);
    let touched = lines.iter().any(|line| line.starts_with("ATTRIB,ISDIR"));
    let missing: Vec<_> = paths.iter().filter(|path| !seen.contains_key(*path)).collect();
    ensure!(missing.is_empty() || touched, "neither felt nor touched: {missing:?}");
    Ok(())
}

fn kept_while(interfere: impl Fn(i32) + Sync) -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &["-v"])?;
    std::fs::create_dir(writer.path("notes"))?;
    wait_until("folder of the other machine", PATIENCE, || {
        std::fs::read_dir(reader.path("notes"))
            .map(drop)
            .map_err(|error| error.to_string())
    })?;
    let watcher = Watcher::inotify(reader.dir())?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                actor_of(&reader).ok().flatten().into_iter().for_each(&interfere);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let filled = fill(&writer, "notes", "text").and_then(|()| shows(&reader, "notes", EACH));
        done.store(true, Ordering::Relaxed);
        filled
    })?;
    for number in 0..EACH {
        let path = format!("notes/{number}.md");
        let text = std::fs::read_to_string(reader.path(&path))?;
        ensure!(text == format!("text {number:04}\n"), "{path} holds {text:?}");
    }
    ensure!(
        std::fs::read_dir(reader.path("notes"))?.count() == EACH,
        "other files are there"
    );
    let paths: Vec<_> = (0..EACH).map(|number| format!("notes/{number}.md")).collect();
    let settled = |lines: &[String]| felt_or_touched(lines, &paths).is_ok();
    watcher.wait("events, or a touched folder", settled)?;
    // Another one comes by itself, and does its work.
    some_actor(&reader)?;
    wait_until("event of a later change", PATIENCE, || {
        let name = format!("later {}.md", std::process::id());
        std::fs::write(writer.path(&name), "later").map_err(|error| error.to_string())?;
        wait_until("file", PATIENCE, || {
            reader.path(&name).exists().then_some(()).ok_or("".into())
        })
        .map_err(|error| format!("{error:#}"))?;
        std::fs::remove_file(writer.path(&name)).map_err(|error| error.to_string())?;
        wait_until("removal", PATIENCE, || {
            (!reader.path(&name).exists()).then_some(()).ok_or("".into())
        })
        .map_err(|error| format!("{error:#}"))?;
        let lines = watcher.lines().map_err(|error| format!("{error:#}"))?;
        let felt = lines.contains(&format!("DELETE {name}"));
        if felt { Ok(()) } else { Err(lines.join(" | ")) }
    })
}

#[test]
fn nothing_is_lost_while_the_process_that_raises_events_is_killed() -> Result<()> {
    kept_while(|pid| signal(pid, libc::SIGKILL))
}

#[test]
fn nothing_hangs_while_the_process_that_raises_events_is_stopped() -> Result<()> {
    kept_while(|pid| signal(pid, libc::SIGSTOP))
}

#[test]
fn a_killed_daemon_leaves_neither_the_process_nor_a_mount_that_hangs() -> Result<()> {
    let (writer, mut reader) = two_machines(&Store::folder()?, &[])?;
    for round in 0..5 {
        let folder = format!("round{round}");
        let actor = some_actor(&reader)?;
        fill(&writer, &folder, "text")?;
        wait_until("first change", PATIENCE, || {
            let count = std::fs::read_dir(reader.path(&folder)).map(Iterator::count);
            if count.as_ref().is_ok_and(|count| *count > round) {
                Ok(())
            } else {
                Err(format!("{count:?}"))
            }
        })?;
        reader.kill9();
        let listed = process::run(
            {
                let mut ls = std::process::Command::new("ls");
                ls.arg(reader.dir());
                ls
            },
            PATIENCE,
        )?;
        ensure!(listed.stderr.contains("not connected"), "{}", listed.stderr);
        wait_until("end of the process", PATIENCE, || {
            if lives(actor) { Err(actor.to_string()) } else { Ok(()) }
        })?;
        reader.remount()?;
        shows(&reader, &folder, EACH)?;
    }
    Ok(())
}

#[test]
fn a_mount_that_feels_can_be_unmounted_from_outside() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &[])?;
    let watcher = Watcher::inotify(reader.dir())?;
    std::fs::write(writer.path("a.md"), "one\n")?;
    watcher.wait("event", |lines| lines.iter().any(|line| line == "CREATE a.md"))?;
    drop(watcher);
    wait_until("umount that is not refused", PATIENCE, || {
        let mut umount = std::process::Command::new("umount");
        umount.arg(reader.dir());
        let finished = process::run(umount, PATIENCE).map_err(|error| format!("{error:#}"))?;
        if finished.status.success() {
            Ok(())
        } else {
            Err(finished.stderr)
        }
    })
}

#[test]
fn a_storm_touches_each_folder() -> Result<()> {
    let store = Store::folder()?;
    let (_writer, reader) = two_machines(&store, &["--poll", "1s"])?;
    store.put("one/first.md", b"1")?;
    store.put("two/first.md", b"2")?;
    reads(&reader, "one/first.md", "1")?;
    reads(&reader, "two/first.md", "2")?;
    let watcher = Watcher::inotify(reader.dir())?;
    for number in 0..1_500 {
        store.put(&format!("{}/{number}.md", ["one", "two"][number % 2]), b"text")?;
    }
    shows(&reader, "one", 751)?;
    shows(&reader, "two", 751)?;
    let touched = |lines: &[String], path: &str| lines.contains(&format!("ATTRIB,ISDIR {path}"));
    let felt = |lines: &[String]| {
        let seen = by_path(lines);
        let all = |folder: &str| {
            (0..1_500)
                .step_by(2)
                .all(|number| seen.contains_key(&format!("{folder}/{number}.md")))
        };
        touched(lines, "one") || all("one")
    };
    watcher.wait("touched folder", felt)?;
    Ok(())
}

/// The lines of `notefs events` so far.
fn told(output: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(output).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[test]
fn events_are_printed_with_their_origin() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &[])?;
    std::fs::create_dir(reader.path("sub"))?;
    let home = reader.notefs().home().to_owned();
    let (output, said) = (home.join("events"), home.join("said"));
    let mut command = reader.notefs().command(["events"])?;
    command.arg(reader.path("sub"));
    command
        .stdout(std::fs::File::create(&output)?)
        .stderr(std::fs::File::create(&said)?);
    let _events = process::spawn(command)?;
    wait_until("reader of events", PATIENCE, || match std::fs::read_to_string(&said) {
        Ok(text) if text.starts_with("Waiting for changes") => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    shell(
        reader.dir(),
        "echo x > outside.md; echo x > sub/a.md; mv sub/a.md sub/b.md; rm sub/b.md; mkdir sub/c",
    )?;
    wait_until("folder of the other machine", PATIENCE, || {
        std::fs::write(writer.path("sub/theirs.md"), "theirs").map_err(|error| error.to_string())
    })?;
    reads(&reader, "sub/theirs.md", "theirs")?;
    let lines = wait_until("event of the other machine", PATIENCE, || {
        let lines = told(&output);
        if lines.iter().any(|line| line["path"] == "sub/theirs.md") {
            Ok(lines)
        } else {
            Err(format!("{lines:?}"))
        }
    })?;
    let seen = |line: &Value| format!("{} {} {}", line["event"], line["path"], line["from"]).replace('"', "");
    let local: Vec<String> = lines
        .iter()
        .filter(|line| line["origin"] == "local")
        .map(seen)
        .collect();
    let steps = [
        "created sub/a.md null",
        "moved sub/b.md sub/a.md",
        "removed sub/b.md null",
        "created sub/c null",
    ];
    let told: Vec<_> = local.iter().filter(|line| !line.starts_with("modified")).collect();
    ensure!(told == steps, "{local:?}");
    ensure!(
        !lines.iter().any(|line| line["path"] == "outside.md"),
        "a neighbour is told: {lines:?}"
    );
    let theirs = lines
        .iter()
        .find(|line| line["path"] == "sub/theirs.md")
        .context("theirs")?;
    ensure!(
        theirs["origin"] != "local" && theirs["felt"] == true && theirs["event"] == "created",
        "{theirs}"
    );
    Ok(())
}

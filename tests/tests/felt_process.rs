//! The process that raises file events: nothing is lost and nothing hangs when it or its daemon is killed, and it keeps no mount.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use notefs_tests::kinds::{ONLY_TOLD, PARTS, change_all, prepare, same_everywhere, scan, told_of};
use notefs_tests::pair::{fill, reads, shows, signal, two_machines};
use notefs_tests::process;
use notefs_tests::watch::{Watcher, by_path};
use notefs_tests::{Mount, PATIENCE, Store, wait_until};

/// Notes that one machine makes while something happens to the other.
const COUNT: usize = 150;

/// Changes of each kind while something is killed.
const SOME: usize = 30;

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
    is_there(&reader, "notes")?;
    let watcher = Watcher::inotify(reader.dir())?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                actor_of(&reader).ok().flatten().into_iter().for_each(&interfere);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let filled = fill(&writer, "notes", ("text", COUNT)).and_then(|()| shows(&reader, "notes", COUNT));
        done.store(true, Ordering::Relaxed);
        filled
    })?;
    for number in 0..COUNT {
        let path = format!("notes/{number}.md");
        let text = std::fs::read_to_string(reader.path(&path))?;
        ensure!(text == format!("text {number:04}\n"), "{path} holds {text:?}");
    }
    ensure!(
        std::fs::read_dir(reader.path("notes"))?.count() == COUNT,
        "other files are there"
    );
    let paths: Vec<_> = (0..COUNT).map(|number| format!("notes/{number}.md")).collect();
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

/// It is replaced when it has not answered for a while, and the changes that waited have their events by the next one.
#[test]
fn a_process_that_is_stopped_costs_the_events_of_one_change() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &ONLY_TOLD)?;
    std::fs::create_dir(writer.path("notes"))?;
    is_there(&reader, "notes")?;
    let watcher = Watcher::inotify(reader.dir())?;
    signal(some_actor(&reader)?, libc::SIGSTOP);
    fill(&writer, "notes", ("text", SOME))?;
    shows(&reader, "notes", SOME)?;
    let felt = |lines: &[String]| {
        let new = |line: &&String| line.starts_with("CREATE notes/");
        lines.iter().filter(new).count()
    };
    let touched = "ATTRIB,ISDIR notes".to_owned();
    watcher.wait("events of the others, and a touched folder", |lines| {
        felt(lines) >= SOME - 1 && lines.contains(&touched)
    })?;
    Ok(())
}

/// Waits until a folder of the other machine is there.
fn is_there(mount: &Mount, folder: &str) -> Result<()> {
    wait_until("folder of the other machine", PATIENCE, || {
        std::fs::read_dir(mount.path(folder))
            .map(drop)
            .map_err(|error| error.to_string())
    })
}

#[test]
fn a_killed_daemon_leaves_neither_the_process_nor_a_mount_that_hangs() -> Result<()> {
    let (writer, mut reader) = two_machines(&Store::folder()?, &[])?;
    for round in 0..5 {
        let folder = format!("round{round}");
        let actor = some_actor(&reader)?;
        fill(&writer, &folder, ("text", COUNT))?;
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
        shows(&reader, &folder, COUNT)?;
    }
    Ok(())
}

/// Nine kinds of change, while the process that makes them felt is killed again and again.
fn all_kinds_without_the_process(store: &Store) -> Result<()> {
    let (writer, reader) = two_machines(store, &["-v"])?;
    prepare(&writer, &reader, SOME)?;
    let watcher = Watcher::inotify(reader.dir())?;
    let (done, killed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let expected = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Some(pid) = actor_of(&reader).ok().flatten() {
                    signal(pid, libc::SIGKILL);
                    killed.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let changed =
            change_all(&writer, SOME).and_then(|expected| same_everywhere(&writer, &reader).map(|_| expected));
        done.store(true, Ordering::Relaxed);
        changed
    })?;
    let killed = killed.load(Ordering::Relaxed);
    ensure!(killed > 2, "only {killed} were killed");
    watcher
        .wait("word of all changes", |lines| told_of(lines, expected.keys()).is_ok())
        .ok();
    told_of(&watcher.everything("end-mark")?, expected.keys())
}

#[test]
fn all_kinds_are_told_of_while_the_process_is_killed_on_ministack() -> Result<()> {
    all_kinds_without_the_process(&Store::ministack()?)
}

#[test]
fn all_kinds_are_told_of_while_the_process_is_killed_on_weed() -> Result<()> {
    all_kinds_without_the_process(&Store::weed()?)
}

/// Nine kinds of change, while the daemon that makes them felt is killed in the middle of each part. A program that watches anew and then
/// looks at everything knows all there is from what it saw then and heard since.
fn all_kinds_over_kills(store: &Store) -> Result<()> {
    let (writer, mut reader) = two_machines(store, &["-v"])?;
    prepare(&writer, &reader, SOME)?;
    let mut watcher = Watcher::inotify(reader.dir())?;
    for (round, part) in PARTS.iter().enumerate() {
        let expected = part(&writer, SOME)?;
        let begun = |lines: &[String]| {
            by_path(lines)
                .keys()
                .filter(|path| expected.contains_key(*path))
                .count()
                > round
        };
        watcher.wait("first events", begun)?;
        reader.kill9();
        // What is listed the kernel may still know.
        let mut touch = std::process::Command::new("touch");
        touch.arg(reader.path("nobody.md"));
        let touched = process::run(touch, PATIENCE)?;
        ensure!(touched.stderr.contains("not connected"), "{}", touched.stderr);
        reader.remount()?;
        watcher = Watcher::inotify(reader.dir())?;
        let before = scan(&reader)?;
        writer.drain()?;
        let after = same_everywhere(&writer, &reader)?;
        let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed = || all.iter().copied().filter(|path| before.get(*path) != after.get(*path));
        watcher
            .wait("word of all changes", |lines| told_of(lines, changed()).is_ok())
            .ok();
        told_of(&watcher.everything(&format!("end-mark{round}"))?, changed())?;
        std::fs::remove_file(reader.path(&format!("end-mark{round}")))?;
    }
    Ok(())
}

#[test]
fn all_kinds_are_told_of_over_kills_of_the_daemon_on_ministack() -> Result<()> {
    all_kinds_over_kills(&Store::ministack()?)
}

#[test]
fn all_kinds_are_told_of_over_kills_of_the_daemon_on_weed() -> Result<()> {
    all_kinds_over_kills(&Store::weed()?)
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

//! Two mounts with caches of their own are two machines: what one writes, the other shows by itself, in the folder and in its search; and
//! what another tool writes to the bucket shows on both.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use notefs_tests::proxy::{Class, Seen};
use notefs_tests::{Mount, MountOptions, PATIENCE, Proxy, Store, wait_until};

struct Machines {
    store: Store,
    a: Mount,
    b: Mount,
}

fn machines(store: Store) -> Result<Machines> {
    let options = || MountOptions::args(&["--write-back", "100ms", "--poll", "1s"]);
    let a = Mount::start_with(&store, options())?;
    let b = Mount::start_with(&store, options())?;
    Ok(Machines { store, a, b })
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Waits until `holds` says so of a mount.
fn soon(what: &str, mount: &Mount, holds: impl Fn() -> Result<bool>) -> Result<()> {
    wait_until(what, PATIENCE, || match holds() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "not yet; status {:?}",
            mount.status().map(|status| status.to_string())
        )),
        Err(error) => Err(format!("{error:#}")),
    })
}

fn shows(mount: &Mount, path: &str, expected: &str) -> Result<()> {
    soon(&format!("{path} on the other machine"), mount, || {
        Ok(text(&mount.path(path))? == expected)
    })
}

fn lacks(mount: &Mount, path: &str) -> Result<()> {
    soon(&format!("{path} gone on the other machine"), mount, || {
        match mount.path(path).symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(false),
        }
    })
}

fn finds(mount: &Mount, word: &str, expected: &[&str]) -> Result<()> {
    soon(&format!("a search for {word}"), mount, || {
        Ok(mount.search(word)? == expected)
    })
}

/// What another tool writes; S3 has no move.
fn every_change_shows(store: Store) -> Result<()> {
    let Machines { store, a, b } = machines(store)?;
    ensure!(std::fs::read_dir(b.dir())?.count() == 0, "not empty");
    std::fs::write(a.path("note.md"), "a zebra\n")?;
    shows(&b, "note.md", "a zebra\n")?;
    finds(&b, "zebra", &["note.md"])?;
    let ino = b.path("note.md").metadata()?.ino();
    std::fs::write(a.path("note.md"), "a giraffe\n")?;
    shows(&b, "note.md", "a giraffe\n")?;
    finds(&b, "giraffe", &["note.md"])?;
    finds(&b, "zebra", &[])?;
    std::fs::create_dir(a.path("ideas"))?;
    soon("a new folder", &b, || Ok(b.path("ideas").is_dir()))?;
    std::fs::rename(a.path("note.md"), a.path("ideas/moved.md"))?;
    shows(&b, "ideas/moved.md", "a giraffe\n")?;
    lacks(&b, "note.md")?;
    ensure!(
        b.path("ideas/moved.md").metadata()?.ino() == ino,
        "a renamed note is another inode"
    );
    finds(&b, "giraffe", &["ideas/moved.md"])?;
    std::fs::set_permissions(a.path("ideas/moved.md"), std::fs::Permissions::from_mode(0o600))?;
    soon("a new mode", &b, || {
        Ok(b.path("ideas/moved.md").metadata()?.mode() & 0o7777 == 0o600)
    })?;
    std::fs::write(b.path("ideas/back.md"), "from the other side\n")?;
    shows(&a, "ideas/back.md", "from the other side\n")?;
    std::fs::remove_file(a.path("ideas/moved.md"))?;
    lacks(&b, "ideas/moved.md")?;
    finds(&b, "giraffe", &[])?;
    std::fs::remove_file(b.path("ideas/back.md"))?;
    lacks(&a, "ideas/back.md")?;
    std::fs::remove_dir(a.path("ideas"))?;
    lacks(&b, "ideas")?;
    another_tool(&store, &a, &b)
}

fn another_tool(store: &Store, a: &Mount, b: &Mount) -> Result<()> {
    store.put("raw/tool.md", b"an okapi")?;
    for mount in [a, b] {
        shows(mount, "raw/tool.md", "an okapi")?;
        finds(mount, "okapi", &["raw/tool.md"])?;
    }
    store.put("raw/tool.md", b"a tapir, longer")?;
    for mount in [a, b] {
        shows(mount, "raw/tool.md", "a tapir, longer")?;
        finds(mount, "tapir", &["raw/tool.md"])?;
    }
    store.delete("raw/tool.md")?;
    for mount in [a, b] {
        lacks(mount, "raw/tool.md")?;
        lacks(mount, "raw")?;
        finds(mount, "tapir", &[])?;
    }
    Ok(())
}

#[test]
fn every_change_shows_on_the_other_machine_on_ministack() -> Result<()> {
    every_change_shows(Store::ministack()?)
}

#[test]
fn every_change_shows_on_the_other_machine_on_weed() -> Result<()> {
    every_change_shows(Store::weed()?)
}

#[test]
fn an_open_file_follows_what_is_appended_elsewhere() -> Result<()> {
    let Machines { a, b, .. } = machines(Store::ministack()?)?;
    std::fs::write(a.path("log.md"), "one\n")?;
    shows(&b, "log.md", "one\n")?;
    let mut open = std::fs::File::open(b.path("log.md"))?;
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut open, &mut seen)?;
    let mut log = std::fs::OpenOptions::new().append(true).open(a.path("log.md"))?;
    for line in ["two\n", "three\n"] {
        std::io::Write::write_all(&mut log, line.as_bytes())?;
        let reader = std::cell::RefCell::new((&mut open, &mut seen));
        soon("an appended line", &b, || {
            let (open, seen) = &mut *reader.borrow_mut();
            std::io::Read::read_to_string(*open, seen)?;
            Ok(seen.ends_with(line))
        })?;
    }
    ensure!(seen == "one\ntwo\nthree\n", "an open file shows {seen:?}");
    Ok(())
}

#[test]
fn a_machine_that_was_away_catches_up() -> Result<()> {
    let Machines { store, a, mut b } = machines(Store::ministack()?)?;
    for number in 0..20 {
        std::fs::write(a.path(&format!("{number}.md")), "before")?;
    }
    shows(&b, "19.md", "before")?;
    b.unmount()?;
    for number in 0..300 {
        std::fs::write(a.path(&format!("{number}.md")), "after")?;
    }
    std::fs::remove_file(a.path("7.md"))?;
    a.settle()?;
    store.put("tool.md", b"by a tool")?;
    b.remount()?;
    shows(&b, "299.md", "after")?;
    shows(&b, "3.md", "after")?;
    shows(&b, "tool.md", "by a tool")?;
    lacks(&b, "7.md")?;
    ensure!(
        std::fs::read_dir(b.dir())?.count() == 300,
        "something is missing or too much"
    );
    Ok(())
}

#[test]
fn an_idle_machine_costs_one_cheap_request_a_second() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let a = Mount::start_with(&store, MountOptions::args(&["--write-back", "100ms"]))?;
    std::fs::write(a.path("note.md"), "text")?;
    a.settle()?;
    let b = Mount::start(&store.via(proxy.address())?)?;
    ensure!(text(&b.path("note.md"))? == "text", "the note differs");
    soon("a followed machine", &b, || {
        Ok(b.status()?["pull"]["peers"]
            .as_array()
            .is_some_and(|peers| peers.len() == 1))
    })?;
    let feed = |log: &[Seen]| log.iter().filter(|seen| seen.key.starts_with(".notefs/feed/")).count();
    soon("feed of its own, and one that was read", &b, || {
        let log = proxy.log();
        let done = |class| {
            let mut seen = log.iter();
            seen.any(|seen| seen.class == class && seen.key.starts_with(".notefs/feed/") && seen.status == 200)
        };
        Ok(done(Class::Put) && done(Class::Get))
    })?;
    proxy.forget();
    let began = std::time::Instant::now();
    std::thread::sleep(std::time::Duration::from_secs(20));
    let (log, seconds) = (proxy.log(), began.elapsed().as_secs());
    let asked = feed(&log);
    ensure!(
        asked as u64 <= seconds + 1 && asked >= 5,
        "{asked} requests for one feed in {seconds} s"
    );
    let full: Vec<_> = log
        .iter()
        .filter(|seen| seen.key.starts_with(".notefs/feed/") && seen.status != 304)
        .collect();
    ensure!(full.is_empty(), "not all were answered by 304: {full:?}");
    let others = log.len() - asked;
    ensure!(others <= 5, "{others} other requests in {seconds} s: {log:?}");
    Ok(())
}

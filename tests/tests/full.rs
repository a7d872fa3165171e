//! A cache disk that fills up, a bucket that does not take what is written, flushes that are counted, and a mount that stops answering.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use notefs_tests::{Class, Fault, Mount, MountOptions, PATIENCE, Proxy, Store, process, scratch, sys, wait_until};

/// A disk of its own for a cache, so small that a test can fill it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(megabytes: u64) -> Result<SmallDisk> {
        let dir = scratch::folder("disk")?;
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(&dir);
        process::run(command, PATIENCE)?
            .ok()
            .context("a tmpfs as the cache disk")?;
        Ok(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        scratch::force_unmount(&self.0);
    }
}

/// A mount whose cache lies on a small disk, of a store that can be made to refuse everything.
fn on_small_disk(megabytes: u64) -> Result<(Mount, SmallDisk, Store, Proxy)> {
    let disk = SmallDisk::new(megabytes)?;
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let options = MountOptions {
        cache: Some(disk.0.join("cache")),
        ..MountOptions::default()
    };
    let mount = Mount::start_with(&store.via(proxy.address())?, options)?;
    Ok((mount, disk, store, proxy))
}

/// Writes files of `length` bytes until one is refused; answers how many are whole, and the errno.
fn fill(mount: &Mount, length: usize, most: usize) -> Result<(usize, i32)> {
    for number in 0..most {
        let path = mount.path(&format!("{length}-{number}.bin"));
        let written = std::fs::File::create(&path).and_then(|mut file| {
            file.write_all(&content(length, number))?;
            file.sync_all()
        });
        if written.is_err() {
            std::fs::remove_file(&path).ok();
            return Ok((number, sys::errno(&written)));
        }
    }
    Ok((most, 0))
}

fn content(length: usize, number: usize) -> Vec<u8> {
    vec![(number % 251) as u8 + 1; length]
}

fn are_whole(dir: &Path, length: usize, count: usize) -> Result<()> {
    for number in 0..count {
        let name = format!("{length}-{number}.bin");
        let bytes = std::fs::read(dir.join(&name)).with_context(|| name.clone())?;
        ensure!(bytes == content(length, number), "{name} is not what fsync promised");
    }
    Ok(())
}

/// What lies in a folder: names, and sizes in bytes.
fn sizes(dir: &Path) -> Result<String> {
    let mut told = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        told.push(format!(
            "{} {}",
            entry.file_name().to_string_lossy(),
            entry.metadata()?.len()
        ));
    }
    told.sort();
    Ok(told.join(", "))
}

/// Whatever was acknowledged before the disk was full is there, also after a kill; with room again, all goes on.
fn fills_and_recovers(length: usize) -> Result<()> {
    let (mut mount, disk, store, proxy) = on_small_disk(40)?;
    proxy.set_fault(Fault::Unavailable);
    let (count, errno) = fill(&mount, length, 40_000_000 / length)?;
    ensure!(errno == libc::ENOSPC, "after {count} files the errno was {errno}");
    are_whole(mount.dir(), length, count)?;
    mount.kill9();
    // What the next start has to move into the database must fit beside it.
    let cache = disk.0.join("cache");
    let log = std::fs::metadata(cache.join("state.db-wal"))?.len();
    ensure!(log < 5_000_000, "the log has {log} bytes: {}", sizes(&cache)?);
    let held = sizes(&cache)?;
    mount
        .remount()
        .with_context(|| format!("after {count} files, with a cache folder of {held}"))?;
    are_whole(mount.dir(), length, count)?;
    // Removing makes room again, even while nothing can be stored.
    let (kept, removed) = (count / 2, count - count / 2);
    for number in kept..count {
        std::fs::remove_file(mount.path(&format!("{length}-{number}.bin")))?;
    }
    wait_until("room for new files", PATIENCE, || {
        let (more, _) = fill(&mount, length + 1, 2).map_err(|error| format!("{error:#}"))?;
        if more == 2 {
            Ok(())
        } else {
            Err(format!("{more} more files after {removed} were removed"))
        }
    })?;
    proxy.set_fault(Fault::None);
    mount.settle()?;
    are_whole(mount.dir(), length, kept)?;
    for number in 0..kept {
        let stored = store.get(&format!("{length}-{number}.bin"))?;
        ensure!(
            stored.as_deref() == Some(content(length, number).as_slice()),
            "file {number} did not arrive"
        );
    }
    Ok(())
}

#[test]
fn a_full_cache_disk_refuses_large_files_and_loses_nothing() -> Result<()> {
    fills_and_recovers(1_500_000)
}

#[test]
fn a_full_cache_disk_refuses_notes_and_loses_nothing() -> Result<()> {
    fills_and_recovers(40_000)
}

#[test]
fn writers_wait_at_the_dirty_limit_and_are_refused_after_a_while() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let mount = Mount::start_with(
        &store.via(proxy.address())?,
        MountOptions::args(&["--dirty-limit", "4M"]),
    )?;
    let limit = mount.status()?["owed"]["limit_bytes"].as_u64();
    ensure!(limit == Some(4 << 20), "status tells a limit of {limit:?}");
    // While the store takes what is written, far more than the limit goes through.
    let (count, errno) = fill(&mount, 1_000_000, 16)?;
    ensure!(
        count == 16 && errno == 0,
        "with the store there, {count} of 16 files, then errno {errno}"
    );
    mount.settle()?;
    proxy.set_fault_on(Class::Put, Fault::Unavailable);
    let (count, errno) = fill(&mount, 1_000_001, 16)?;
    ensure!(
        errno == libc::ENOSPC,
        "with the store away, {count} files, then errno {errno}"
    );
    ensure!(
        (2..=4).contains(&count),
        "{count} files of 1 MB went below a limit of 4 MiB"
    );
    are_whole(mount.dir(), 1_000_001, count)?;
    proxy.set_fault(Fault::None);
    mount.settle()?;
    let (more, errno) = fill(&mount, 1_000_002, 8)?;
    ensure!(more == 8, "with the store back, {more} of 8 files, then errno {errno}");
    Ok(())
}

/// The flushes that the daemon makes while `work` is done, counted by strace.
fn flushes_during(mount: &Mount, work: impl FnOnce() -> Result<()>) -> Result<usize> {
    let trace = scratch::folder("trace")?.join("flushes");
    let mut command = Command::new(process::tool("strace")?);
    command
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(&trace);
    command.args(["-p", &mount.pid()?.to_string()]);
    let tracer = process::spawn(command)?;
    let traced = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", mount.pid().unwrap_or_default()));
        status
            .unwrap_or_default()
            .lines()
            .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    wait_until("a tracer", PATIENCE, || {
        if traced() { Ok(()) } else { Err("not attached".into()) }
    })?;
    work()?;
    tracer.signal(libc::SIGINT);
    wait_until("the tracer's end", PATIENCE, || {
        if traced() { Err("attached".into()) } else { Ok(()) }
    })?;
    drop(tracer);
    let text = std::fs::read_to_string(&trace)?;
    Ok(text
        .lines()
        .filter(|line| line.contains("sync(") && !line.contains("resumed"))
        .count())
}

#[test]
fn an_fsync_is_one_flush_and_many_share_one() -> Result<()> {
    // Nothing is uploaded meanwhile: an upload flushes what nobody has flushed before.
    let mount = Mount::start_with(&Store::folder()?, MountOptions::args(&["--write-back", "10m"]))?;
    let notes: Vec<std::fs::File> = (0..32)
        .map(|number| std::fs::File::create(mount.path(&format!("{number}.md"))))
        .collect::<std::io::Result<_>>()?;
    notes[0].sync_all()?;
    let mut rounds = 0;
    // The flush of every five seconds can fall into a round; then there are two.
    let single = wait_until("an fsync with one flush", PATIENCE, || {
        rounds += 1;
        let count = flushes_during(&mount, || {
            (&notes[0]).write_all(format!("round {rounds}").as_bytes())?;
            Ok(notes[0].sync_all()?)
        });
        match count {
            Ok(1) => Ok(1),
            other => Err(format!("{other:?}")),
        }
    })?;
    let together = flushes_during(&mount, || {
        std::thread::scope(|scope| {
            let workers: Vec<_> = notes
                .iter()
                .map(|mut note| {
                    scope.spawn(move || {
                        note.write_all(b"together")?;
                        note.sync_all()
                    })
                })
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into())))
        })?;
        Ok(())
    })?;
    ensure!(
        single == 1 && together < notes.len(),
        "{together} flushes for {} concurrent fsyncs",
        notes.len()
    );
    Ok(())
}

/// Ends the event loops that read the kernel's requests, as a bug in them would.
fn end_event_loops(mount: &Mount) -> Result<()> {
    let trace = scratch::folder("trace")?.join("reads");
    let mut command = Command::new(process::tool("strace")?);
    command.args([
        "-f",
        "-qq",
        "-P",
        "/dev/fuse",
        "-e",
        "trace=read,readv",
        "-e",
        "inject=read,readv:error=EBADF",
        "-o",
    ]);
    command.arg(&trace).args(["-p", &mount.pid()?.to_string()]);
    let tracer = process::spawn(command)?;
    let asked = mount.dir().to_owned();
    std::thread::spawn(move || sys::stat_fs(&asked));
    wait_until("an event loop that fails", PATIENCE, || {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        if text.contains("INJECTED") { Ok(()) } else { Err(text) }
    })?;
    drop(tracer);
    Ok(())
}

#[test]
fn a_mount_that_stops_answering_is_mounted_anew() -> Result<()> {
    let mount = Mount::start(&Store::folder()?)?;
    std::fs::write(mount.path("note.md"), "before")?;
    end_event_loops(&mount)?;
    // Whoever asks now is not left waiting in the kernel for ever.
    let (answer, inbox) = std::sync::mpsc::sync_channel(1);
    let path = mount.path("after.md");
    std::thread::spawn(move || answer.send(std::fs::write(path, "meanwhile")));
    inbox
        .recv_timeout(3 * PATIENCE)
        .context("the program still waits")?
        .ok();
    wait_until("a mount that answers again", PATIENCE, || {
        let text = std::fs::read_to_string(mount.path("note.md")).map_err(|error| error.to_string())?;
        std::fs::write(mount.path("after.md"), "after").map_err(|error| error.to_string())?;
        if text == "before" { Ok(()) } else { Err(text) }
    })?;
    mount.settle()?;
    ensure!(
        std::fs::read_to_string(mount.path("after.md"))? == "after",
        "the new mount forgets"
    );
    Ok(())
}

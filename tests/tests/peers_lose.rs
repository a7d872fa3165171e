//! The cases in which other mounts of a bucket lose data without an error, each seen three times: at once, after `kill -9`
//! and the next mount, and by a machine that starts cold.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::{Mount, Store, sys};

/// Runs `act` on a fresh mount of a bucket that `fill` filled, and `check` afterwards: warm, drained, cold; and once more on
/// another bucket where the daemon is killed right after `act`.
fn holds(
    fill: impl Fn(&Store) -> Result<()>,
    act: impl Fn(&mut Mount) -> Result<()>,
    check: impl Fn(&Path) -> Result<()>,
) -> Result<()> {
    for killed in [false, true] {
        let store = Store::ministack()?;
        fill(&store)?;
        let mut mount = Mount::start(&store)?;
        act(&mut mount)?;
        if killed {
            mount.kill9();
            mount.remount()?;
            check(mount.dir()).context("after kill -9 and the next mount")?;
        } else {
            check(mount.dir()).context("at once")?;
        }
        mount.drain()?;
        check(mount.dir()).with_context(|| format!("when stored, killed before: {killed}"))?;
        mount.start_cold()?;
        check(mount.dir()).with_context(|| format!("after a cold start, killed before: {killed}"))?;
    }
    Ok(())
}

fn empty(_store: &Store) -> Result<()> {
    Ok(())
}

/// Fails unless the file has these bytes.
fn has(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let seen = std::fs::read(dir.join(name)).with_context(|| format!("reading {name}"))?;
    let differs = seen.iter().zip(bytes).position(|(seen, byte)| seen != byte);
    ensure!(
        seen == bytes,
        "{name} has {} bytes, not {}; they differ at {differs:?}",
        seen.len(),
        bytes.len()
    );
    Ok(())
}

/// Fails unless the folder has these names, in order.
fn names(dir: &Path, expected: &[&str]) -> Result<()> {
    let mut seen: Vec<_> = std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    seen.sort();
    ensure!(seen == expected, "{} holds {seen:?}, not {expected:?}", dir.display());
    Ok(())
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|byte| (byte * 31 / 7) as u8).collect()
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(path).context("opening")
}

#[test]
fn truncating_a_file_that_is_not_cached_is_kept() -> Result<()> {
    let (small, large) = (pattern(3_000), pattern(2_000_000));
    let fill = |store: &Store| {
        store.put("by-path.md", &small)?;
        store.put("by-handle.md", &small)?;
        store.put("longer.md", &small)?;
        store.put("to-nothing.bin", &large)?;
        store.put("by-path.bin", &large)?;
        store.put("by-handle.bin", &large)
    };
    let act = |mount: &mut Mount| {
        // `truncate -s` opens the file; `truncate(2)` by path does not.
        let by_path = |name: &str, size: u64| sys::truncate(&mount.path(name), size);
        by_path("by-path.md", 1_000)?;
        by_path("by-path.bin", 1_000_001)?;
        by_path("to-nothing.bin", 0)?;
        by_path("longer.md", 5_000)?;
        open(&mount.path("by-handle.md"))?.set_len(2_999)?;
        let file = open(&mount.path("by-handle.bin"))?;
        file.set_len(70_000)?;
        Ok(file.write_all_at(b"end", 70_000)?)
    };
    let check = |dir: &Path| {
        has(dir, "by-path.md", &small[..1_000])?;
        has(dir, "by-handle.md", &small[..2_999])?;
        has(dir, "longer.md", &[&small[..], &[0; 2_000]].concat())?;
        has(dir, "to-nothing.bin", b"")?;
        has(dir, "by-path.bin", &large[..1_000_001])?;
        has(dir, "by-handle.bin", &[&large[..70_000], b"end"].concat())
    };
    holds(fill, act, check)
}

#[test]
fn appending_to_a_file_whose_upload_was_pending_at_a_kill_is_kept() -> Result<()> {
    let (small, large) = (pattern(900), pattern(300_000));
    let act = |mount: &mut Mount| {
        std::fs::write(mount.path("closed.md"), &small)?;
        std::fs::write(mount.path("large.bin"), &large)?;
        let synced = File::create(mount.path("synced.md"))?;
        (&synced).write_all(&small)?;
        synced.sync_all()?;
        mount.kill9();
        drop(synced);
        mount.remount()?;
        for name in ["closed.md", "large.bin", "synced.md"] {
            let mut file = OpenOptions::new().append(true).open(mount.path(name))?;
            file.write_all(b"appended")?;
        }
        Ok(())
    };
    let check = |dir: &Path| {
        for (name, bytes) in [("closed.md", &small), ("large.bin", &large), ("synced.md", &small)] {
            has(dir, name, &[bytes, &b"appended"[..]].concat())?;
        }
        Ok(())
    };
    holds(empty, act, check)
}

#[test]
fn a_folder_renamed_with_dirty_open_files_keeps_them() -> Result<()> {
    let fill = |store: &Store| store.put("old/stored.md", b"stored");
    let act = |mount: &mut Mount| {
        std::fs::create_dir_all(mount.path("old/deep"))?;
        let fresh = File::create(mount.path("old/deep/fresh.md"))?;
        (&fresh).write_all(b"before ")?;
        let mut stored = open(&mount.path("old/stored.md"))?;
        stored.seek(SeekFrom::End(0))?;
        stored.write_all(b" edited")?;
        std::fs::rename(mount.path("old"), mount.path("new"))?;
        (&fresh).write_all(b"after")?;
        stored.write_all(b" twice")?;
        fresh.sync_all()?;
        std::fs::create_dir(mount.path("old"))?;
        Ok(std::fs::write(mount.path("old/stored.md"), "another file")?)
    };
    let check = |dir: &Path| {
        has(dir, "new/deep/fresh.md", b"before after")?;
        has(dir, "new/stored.md", b"stored edited twice")?;
        has(dir, "old/stored.md", b"another file")?;
        names(dir, &["new", "old"])?;
        names(&dir.join("old"), &["stored.md"])
    };
    holds(fill, act, check)
}

#[test]
fn a_write_through_an_unlinked_handle_never_reaches_the_new_file() -> Result<()> {
    let fill = |store: &Store| store.put("again.md", b"old");
    let act = |mount: &mut Mount| {
        let old = open(&mount.path("again.md"))?;
        std::fs::remove_file(mount.path("again.md"))?;
        std::fs::write(mount.path("again.md"), "new")?;
        old.write_all_at(b"OLD, and longer than the new one", 0)?;
        old.sync_all()?;
        let gone = File::create(mount.path("gone.md"))?;
        std::fs::remove_file(mount.path("gone.md"))?;
        (&gone).write_all(b"written after the end")?;
        gone.sync_all()?;
        ensure!(old.metadata()?.nlink() == 0, "the unlinked file has a name again");
        Ok(())
    };
    let check = |dir: &Path| {
        has(dir, "again.md", b"new")?;
        names(dir, &["again.md"])
    };
    holds(fill, act, check)
}

#[test]
fn a_folder_is_never_renamed_over_a_full_one() -> Result<()> {
    let fill = |store: &Store| {
        store.put("full/kept.md", b"kept")?;
        store.put("source/mine.md", b"mine")
    };
    let act = |mount: &mut Mount| {
        let refused = std::fs::rename(mount.path("source"), mount.path("full"));
        ensure!(
            sys::errno(&refused) == libc::ENOTEMPTY,
            "onto a full folder: {refused:?}"
        );
        std::fs::create_dir(mount.path("empty"))?;
        std::fs::create_dir(mount.path("moved"))?;
        std::fs::write(mount.path("moved/in.md"), "in")?;
        Ok(std::fs::rename(mount.path("moved"), mount.path("empty"))?)
    };
    let check = |dir: &Path| {
        names(dir, &["empty", "full", "source"])?;
        names(&dir.join("full"), &["kept.md"])?;
        names(&dir.join("source"), &["mine.md"])?;
        has(dir, "empty/in.md", b"in")
    };
    holds(fill, act, check)
}

#[test]
fn an_exchange_is_whole() -> Result<()> {
    let fill = |store: &Store| {
        store.put("stored.md", b"stored")?;
        store.put("one/a.md", b"a")?;
        store.put("two/b.md", b"b")
    };
    let act = |mount: &mut Mount| {
        std::fs::write(mount.path("fresh.md"), "fresh")?;
        std::fs::write(mount.path("file"), "a file")?;
        std::fs::create_dir(mount.path("folder"))?;
        std::fs::write(mount.path("folder/in.md"), "in")?;
        let exchange =
            |one: &str, other: &str| sys::rename_with(&mount.path(one), &mount.path(other), libc::RENAME_EXCHANGE);
        exchange("stored.md", "fresh.md")?;
        exchange("one", "two")?;
        exchange("file", "folder")?;
        let none = exchange("file", "nothing");
        ensure!(sys::errno(&none) == libc::ENOENT, "an exchange with nothing: {none:?}");
        let whiteout = sys::rename_with(&mount.path("one"), &mount.path("three"), libc::RENAME_WHITEOUT);
        ensure!(sys::errno(&whiteout) == libc::EINVAL, "a whiteout: {whiteout:?}");
        Ok(())
    };
    let check = |dir: &Path| {
        has(dir, "stored.md", b"fresh")?;
        has(dir, "fresh.md", b"stored")?;
        has(dir, "one/b.md", b"b")?;
        has(dir, "two/a.md", b"a")?;
        has(dir, "file/in.md", b"in")?;
        has(dir, "folder", b"a file")?;
        names(dir, &["file", "folder", "fresh.md", "one", "stored.md", "two"])
    };
    holds(fill, act, check)
}

#[test]
fn times_before_1970_and_in_2100_are_kept() -> Result<()> {
    const TIMES: [(i64, i64); 6] = [
        (-1, 999_999_999),
        (-1_000_000_000, 1),
        (-2_208_988_800, 0),
        (0, 0),
        (4_102_444_800, 5),
        (8_589_934_592, 999_999_999),
    ];
    let act = |mount: &mut Mount| {
        for (number, (seconds, nanoseconds)) in TIMES.into_iter().enumerate() {
            let file = mount.path(&format!("{number}.md"));
            let folder = mount.path(&format!("{number}.d"));
            std::fs::write(&file, "x")?;
            std::fs::create_dir(&folder)?;
            std::os::unix::fs::symlink("x", mount.path(&format!("{number}.link")))?;
            for path in [file, folder, mount.path(&format!("{number}.link"))] {
                sys::set_times(&path, seconds, nanoseconds)?;
            }
        }
        Ok(())
    };
    let check = |dir: &Path| {
        for (number, time) in TIMES.into_iter().enumerate() {
            for ending in ["md", "d", "link"] {
                let meta = dir.join(format!("{number}.{ending}")).symlink_metadata()?;
                let seen = (meta.mtime(), meta.mtime_nsec());
                ensure!(seen == time, "{number}.{ending} has {seen:?}, not {time:?}");
            }
        }
        Ok(())
    };
    holds(empty, act, check)
}

#[test]
fn readers_of_a_replaced_file_see_old_or_new_also_when_it_is_not_cached() -> Result<()> {
    let version = |number: usize| format!("version {number:04} ").repeat(9_000).into_bytes();
    let is_whole = |bytes: &[u8]| {
        let first = bytes.get(..13).map(|first| first.repeat(9_000));
        ensure!(first.as_deref() == Some(bytes), "a torn file of {} bytes", bytes.len());
        Ok(())
    };
    let fill = |store: &Store| store.put("note.md", &version(0));
    let act = |mount: &mut Mount| {
        let path = mount.path("note.md");
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let read = || -> Result<()> {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    is_whole(&std::fs::read(&path).context("a replaced file vanished")?)?;
                }
                Ok(())
            };
            let readers = [scope.spawn(read), scope.spawn(read)];
            for number in 1..=60 {
                std::fs::write(mount.path("note.tmp"), version(number))?;
                std::fs::rename(mount.path("note.tmp"), &path)?;
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            readers
                .into_iter()
                .try_for_each(|reader| reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?)
        })
    };
    let check = |dir: &Path| {
        has(dir, "note.md", &version(60))?;
        names(dir, &["note.md"])
    };
    holds(fill, act, check)
}

#[test]
fn a_copied_range_outlives_its_source() -> Result<()> {
    let bytes = pattern(700_000);
    let fill = |store: &Store| store.put("from.bin", &bytes);
    let act = |mount: &mut Mount| {
        shell(mount.dir(), "cp --reflink=auto from.bin copy.bin; cp from.bin twin.bin")?;
        let (from, to) = (
            File::open(mount.path("from.bin"))?,
            File::create(mount.path("part.bin"))?,
        );
        let mut left = 500_000;
        while left > 0 {
            let copied = sys::copy_range(&from, &to, left)?;
            ensure!(copied > 0, "{left} bytes were not copied");
            left -= copied;
        }
        Ok(std::fs::remove_file(mount.path("from.bin"))?)
    };
    let check = |dir: &Path| {
        has(dir, "copy.bin", &bytes)?;
        has(dir, "twin.bin", &bytes)?;
        has(dir, "part.bin", &bytes[..500_000])?;
        names(dir, &["copy.bin", "part.bin", "twin.bin"])
    };
    holds(fill, act, check)
}

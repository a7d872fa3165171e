//! `kill -9` at any moment: what a program was told is written is there after the next mount, and arrives in the bucket.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use notefs_tests::{Class, Fault, Mount, PATIENCE, Proxy, Store, sys, wait_until};

const WRITES: usize = 1_000;

fn name(number: usize) -> String {
    format!("folder{}/note {number:04}.md", number % 7)
}

fn content(number: usize) -> String {
    format!("# Note {number}\n").repeat(1 + number % 40)
}

/// Writes until the mount dies or all is done; counts the closed files. Every third by temporary file and rename.
fn write_until_killed(root: PathBuf, closed: &AtomicUsize) -> std::io::Result<()> {
    for number in 0..WRITES {
        let path = root.join(name(number));
        if number.is_multiple_of(3) {
            let temporary = path.with_extension("tmp");
            std::fs::write(&temporary, content(number))?;
            std::fs::rename(temporary, path)?;
        } else {
            std::fs::write(path, content(number))?;
        }
        closed.store(number + 1, Ordering::SeqCst);
    }
    Ok(())
}

fn killed_in_the_middle(store: &Store, kill_at: usize) -> Result<()> {
    let mut mount = Mount::start(store)?;
    (0..7).try_for_each(|folder| std::fs::create_dir(mount.path(&format!("folder{folder}"))))?;
    let closed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let root = mount.dir().to_owned();
        let writer = scope.spawn(|| write_until_killed(root, &closed));
        wait_until("enough writes", PATIENCE, || match closed.load(Ordering::SeqCst) {
            done if done >= kill_at || writer.is_finished() => Ok(()),
            done => Err(format!("{done} files closed")),
        })?;
        mount.kill9();
        let ended = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        ensure!(ended.is_err(), "all {WRITES} writes were done before the kill");
        Ok(())
    })?;
    let closed = closed.load(Ordering::SeqCst);
    ensure!(closed >= kill_at, "only {closed} files were closed");
    mount.remount()?;
    for number in 0..closed {
        let text = std::fs::read_to_string(mount.path(&name(number))).with_context(|| name(number))?;
        ensure!(
            text == content(number),
            "{} has {} bytes of another content",
            name(number),
            text.len()
        );
    }
    // Appending to a file that still waits for its upload must not lose what waits.
    for number in 0..20 {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(mount.path(&name(number)))?;
        std::io::Write::write_all(&mut file, b"appended")?;
    }
    mount.settle()?;
    for number in 0..closed {
        let mut expected = content(number);
        expected.push_str(if number < 20 { "appended" } else { "" });
        let stored = store
            .get(&name(number))?
            .with_context(|| format!("{} never arrived", name(number)))?;
        ensure!(
            stored == expected.as_bytes(),
            "{} arrived with another content",
            name(number)
        );
    }
    Ok(())
}

#[test]
fn closed_files_survive_on_weed() -> Result<()> {
    killed_in_the_middle(&Store::weed()?, 500)
}

#[test]
fn closed_files_survive_on_a_folder_store() -> Result<()> {
    killed_in_the_middle(&Store::folder()?, 700)
}

#[test]
fn closed_files_survive_an_early_kill() -> Result<()> {
    killed_in_the_middle(&Store::ministack()?, 21)
}

#[test]
fn removed_and_renamed_notes_do_not_come_back() -> Result<()> {
    let store = Store::ministack()?;
    let mut mount = Mount::start(&store)?;
    for number in 0..60 {
        std::fs::write(mount.path(&format!("{number}.md")), format!("note {number}"))?;
    }
    mount.settle()?;
    for number in 0..20 {
        std::fs::remove_file(mount.path(&format!("{number}.md")))?;
    }
    for number in 20..40 {
        std::fs::rename(
            mount.path(&format!("{number}.md")),
            mount.path(&format!("moved {number}.md")),
        )?;
    }
    mount.kill9();
    let mut expected: Vec<String> = (20..40).map(|number| format!("moved {number}.md")).collect();
    expected.extend((40..60).map(|number| format!("{number}.md")));
    expected.sort();
    mount.remount()?;
    ensure!(
        names(&mount)? == expected,
        "after the kill the folder shows {:?}",
        names(&mount)?
    );
    mount.settle()?;
    ensure!(
        store.keys()? == expected,
        "after the kill the bucket holds {:?}",
        store.keys()?
    );
    mount.unmount()?;
    mount.wipe_cache()?;
    mount.remount()?;
    ensure!(names(&mount)? == expected, "a new machine sees {:?}", names(&mount)?);
    Ok(())
}

fn names(mount: &Mount) -> Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(mount.dir())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names)
}

#[test]
fn a_dead_mount_is_replaced() -> Result<()> {
    let mut mount = Mount::start(&Store::folder()?)?;
    std::fs::write(mount.path("a.md"), "a")?;
    mount.kill9();
    // Attributes may still come from the kernel's cache; this always asks the daemon.
    let dead = sys::stat_fs(mount.dir());
    ensure!(
        sys::errno(&dead) == libc::ENOTCONN,
        "a dead mount answered {:?}",
        dead.err()
    );
    mount.remount()?;
    ensure!(std::fs::read_to_string(mount.path("a.md"))? == "a", "content differs");
    Ok(())
}

#[test]
fn a_lost_reply_is_no_conflict() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let mut mount = Mount::start_with(&store.via(proxy.address())?, Default::default())?;
    std::fs::write(mount.path("note.md"), "first")?;
    mount.settle()?;
    proxy.set_fault_on(Class::Put, Fault::DropReply);
    std::fs::write(mount.path("note.md"), "second")?;
    wait_until("second version in the bucket", PATIENCE, || {
        match store.get("note.md") {
            Ok(Some(bytes)) if bytes == b"second" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    mount.kill9();
    proxy.set_fault(Fault::None);
    mount.remount()?;
    mount.settle()?;
    ensure!(
        names(&mount)? == ["note.md"],
        "a conflict copy appeared: {:?}",
        names(&mount)?
    );
    ensure!(store.keys()? == ["note.md"], "the bucket holds {:?}", store.keys()?);
    ensure!(
        std::fs::read_to_string(mount.path("note.md"))? == "second",
        "another content"
    );
    Ok(())
}

#[test]
fn an_unlinked_open_file_leaves_nothing_after_a_kill() -> Result<()> {
    let store = Store::ministack()?;
    let mut mount = Mount::start(&store)?;
    let file = std::fs::File::create_new(mount.path("gone.md"))?;
    std::io::Write::write_all(&mut &file, b"unlinked")?;
    std::fs::remove_file(mount.path("gone.md"))?;
    std::fs::write(mount.path("kept.md"), "kept")?;
    mount.kill9();
    drop(file);
    mount.remount()?;
    mount.settle()?;
    ensure!(names(&mount)? == ["kept.md"], "the folder shows {:?}", names(&mount)?);
    ensure!(store.keys()? == ["kept.md"], "the bucket holds {:?}", store.keys()?);
    Ok(())
}

#[test]
fn a_terminated_daemon_drains_and_unmounts() -> Result<()> {
    let store = Store::ministack()?;
    let mut mount = Mount::start(&store)?;
    for number in 0..50 {
        std::fs::write(mount.path(&format!("{number}.md")), "drained")?;
    }
    mount.terminate()?;
    ensure!(
        store.keys()?.len() == 50,
        "only {} of 50 notes arrived",
        store.keys()?.len()
    );
    Ok(())
}

#[test]
fn what_fsync_promised_survives_kill_after_kill() -> Result<()> {
    let mut promised = 0;
    let lost = notefs_tests::rounds::kill_rounds(&Store::ministack()?, 4, 2, |_, report| promised += report.synced)?;
    ensure!(promised > 0, "no fsync returned before a kill");
    ensure!(lost == 0, "{lost} bytes were promised and are lost");
    Ok(())
}

//! Guard rails: what no program asked for is held back and shown, what a user asked for goes on, and `notefs check` mends.

use anyhow::{Context, Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::{Fault, Mount, MountOptions, PATIENCE, Proxy, Store, wait_until};
use serde_json::Value;

const NOTES: usize = 12;

fn name(number: usize) -> String {
    format!("ideas/note {number}.md")
}

fn text(number: usize) -> String {
    format!("# Note {number}\n\nnot to be lost\n")
}

/// A mount whose notes are all cached and stored.
fn vault(store: &Store, options: MountOptions) -> Result<Mount> {
    for number in 0..NOTES {
        store.put(&name(number), text(number).as_bytes())?;
    }
    let mount = Mount::start_with(store, options)?;
    notes_are_there(&mount)?;
    mount.settle()?;
    Ok(mount)
}

fn notes_are_there(mount: &Mount) -> Result<()> {
    for number in 0..NOTES {
        let seen = std::fs::read_to_string(mount.path(&name(number))).with_context(|| name(number))?;
        ensure!(seen == text(number), "{} shows {seen:?}", name(number));
    }
    Ok(())
}

/// Spoils the cache as a bug, a bad disk or a half-restored backup would.
fn spoil(mount: &mut Mount, sql: &str) -> Result<()> {
    mount.unmount()?;
    shell(mount.cache(), &format!("sqlite3 state.db \"{sql}\""))?;
    mount.remount()
}

/// The names of all notes are gone, and their objects seem to be owed a removal.
fn lose_names(mount: &mut Mount) -> Result<()> {
    spoil(
        mount,
        "insert into dirty select ino, 0, 0 from inode where kind = 0; update inode set nlink = 0 where kind = 0;
         delete from dentry where ino in (select ino from inode where kind = 0)",
    )
}

fn held(status: &Value) -> u64 {
    status["held_count"].as_u64().unwrap_or(0)
}

fn await_held(mount: &Mount, count: u64) -> Result<()> {
    wait_until("changes that are held", PATIENCE, || {
        let status = mount.status().map_err(|error| format!("{error:#}"))?;
        if held(&status) == count && status["in_flight"] == 0 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
}

fn bucket_is_whole(store: &Store) -> Result<()> {
    for number in 0..NOTES {
        let stored = store
            .get(&name(number))?
            .with_context(|| format!("{} is gone", name(number)))?;
        ensure!(stored == text(number).as_bytes(), "{} was changed", name(number));
    }
    Ok(())
}

/// A cache that lost the names of its notes removes none of them, says so, and gets them back.
fn lost_names_remove_nothing(store: &Store) -> Result<()> {
    let mut mount = vault(store, MountOptions::default())?;
    let dir = mount.dir().display().to_string();
    lose_names(&mut mount)?;
    await_held(&mount, NOTES as u64)?;
    bucket_is_whole(store)?;
    let status = mount.status()?;
    let reason = status["held"][0]["reason"].as_str().unwrap_or_default().to_owned();
    ensure!(reason.contains("no program removed"), "the reason: {reason}");
    ensure!(
        status["held"][0]["path"]
            .as_str()
            .unwrap_or_default()
            .starts_with("ideas/"),
        "{status}"
    );
    let shown = mount.notefs().output(&["status", &dir])?;
    ensure!(
        shown.contains("held") && shown.contains("--release-held"),
        "status shows {shown}"
    );
    ensure!(
        mount.log_tail().contains("no program"),
        "the log says nothing: {}",
        mount.log_tail()
    );
    let told = mount.notefs().failure(&["sync", &dir], 1)?;
    ensure!(told.contains("held back"), "sync said {told}");
    bucket_is_whole(store)?;
    let dry = mount.notefs().run(&["check", &dir, "--dry-run"])?;
    ensure!(
        dry.code() == 1 && dry.stdout.contains("would be taken back"),
        "{} {}",
        dry.stdout,
        dry.stderr
    );
    await_held(&mount, NOTES as u64)?;
    let report = mount.notefs().json(&["check", &dir, "--json"])?;
    ensure!(report["left"] == 0, "left unmended: {report}");
    notes_are_there(&mount)?;
    mount.drain()?;
    ensure!(held(&mount.status()?) == 0, "still held");
    bucket_is_whole(store)
}

#[test]
fn lost_names_remove_nothing_on_ministack() -> Result<()> {
    lost_names_remove_nothing(&Store::ministack()?)
}

#[test]
fn lost_names_remove_nothing_on_weed() -> Result<()> {
    lost_names_remove_nothing(&Store::weed()?)
}

#[test]
fn what_is_released_is_done() -> Result<()> {
    let store = Store::ministack()?;
    let mut mount = vault(&store, MountOptions::default())?;
    lose_names(&mut mount)?;
    await_held(&mount, NOTES as u64)?;
    let dir = mount.dir().display().to_string();
    mount.notefs().output(&["sync", &dir, "--release-held"])?;
    ensure!(store.keys()?.is_empty(), "left in the bucket: {:?}", store.keys()?);
    ensure!(held(&mount.status()?) == 0, "still held");
    Ok(())
}

#[test]
fn a_note_that_lost_its_content_does_not_empty_its_object() -> Result<()> {
    let store = Store::ministack()?;
    let mut mount = vault(&store, MountOptions::default())?;
    let of_note = "(select ino from dentry where name = cast('note 3.md' as blob))";
    spoil(
        &mut mount,
        &format!(
            "insert into dirty select ino, 0, 0 from inode where ino in {of_note}; delete from content where ino in {of_note};
             update inode set size = 0, place = 0, content_version = content_version + 1 where ino in {of_note}"
        ),
    )?;
    await_held(&mount, 1)?;
    bucket_is_whole(&store)?;
    let dir = mount.dir().display().to_string();
    mount.notefs().output(&["check", &dir])?;
    notes_are_there(&mount)?;
    mount.drain()?;
    bucket_is_whole(&store)
}

#[test]
fn content_that_vanished_from_the_cache_is_not_replaced_by_zeros() -> Result<()> {
    let store = Store::ministack()?;
    let mut mount = Mount::start_with(&store, MountOptions::args(&["--write-back", "1h"]))?;
    let before = vec![7; 300_000];
    std::fs::write(mount.path("large.bin"), &before)?;
    mount.drain()?;
    std::fs::write(mount.path("large.bin"), vec![8; 300_000])?;
    mount.kill9();
    std::fs::remove_dir_all(mount.cache().join("blobs"))?;
    mount.set_args(&[]);
    mount.remount()?;
    await_held(&mount, 1)?;
    ensure!(
        store.get("large.bin")?.as_deref() == Some(&before[..]),
        "the object was overwritten"
    );
    Ok(())
}

/// What a user removes and empties goes on, whatever share of the bucket it is, also after a kill.
#[test]
fn what_a_user_asked_for_is_not_held() -> Result<()> {
    let store = Store::ministack()?;
    store.put("keep.md", b"to be emptied")?;
    store.put("shrink.md", b"to be truncated")?;
    let proxy = Proxy::start(store.client()?.address)?;
    let mut mount = vault(&store.via(proxy.address())?, MountOptions::default())?;
    std::fs::read(mount.path("keep.md"))?;
    proxy.set_fault(Fault::Unavailable);
    shell(mount.dir(), "rm -rf ideas; > keep.md; truncate -s 0 shrink.md")?;
    mount.kill9();
    mount.remount()?;
    proxy.set_fault(Fault::None);
    mount.drain()?;
    let mut keys = store.keys()?;
    keys.sort();
    ensure!(keys == ["keep.md", "shrink.md"], "the bucket holds {keys:?}");
    for key in ["keep.md", "shrink.md"] {
        ensure!(store.get(key)?.as_deref() == Some(&b""[..]), "{key} is not empty");
    }
    ensure!(held(&mount.status()?) == 0, "something was held");
    Ok(())
}

/// A removal of everything at once is no reason to hold it either.
#[test]
fn a_running_mount_removes_what_a_user_removes() -> Result<()> {
    let store = Store::weed()?;
    let mount = vault(&store, MountOptions::default())?;
    shell(mount.dir(), "rm -rf ideas")?;
    mount.drain()?;
    ensure!(store.keys()?.is_empty(), "left: {:?}", store.keys()?);
    Ok(())
}

/// `notefs check` finds and mends each kind of difference, and says so.
#[test]
fn a_check_mends_each_difference() -> Result<()> {
    let store = Store::ministack()?;
    let mut mount = vault(&store, MountOptions::default())?;
    let of_note = "(select ino from dentry where name = cast('note 4.md' as blob))";
    spoil(
        &mut mount,
        &format!("update content set bytes = cast(upper(bytes) as blob) where ino in {of_note}"),
    )?;
    store.delete(&name(1))?;
    store.put("unknown.md", b"nobody told the mount")?;
    let dir = mount.dir().display().to_string();
    let dry = mount.notefs().run(&["check", &dir, "--dry-run", "--json"])?;
    ensure!(dry.code() == 1, "a dry run with differences exits with {}", dry.code());
    ensure!(store.get(&name(1))?.is_none(), "a dry run changed the bucket");
    let report = mount.notefs().json(&["check", &dir, "--json"])?;
    let steps = report["steps"].to_string();
    for words in [
        "its object is gone from the bucket",
        "does not show it",
        "its local copy is damaged",
    ] {
        ensure!(steps.contains(words), "no step says {words:?}: {report}");
    }
    ensure!(report["step_count"] == 3 && report["left"] == 0, "{report}");
    mount.drain()?;
    notes_are_there(&mount)?;
    bucket_is_whole(&store)?;
    let adopted = std::fs::read_to_string(mount.path("unknown.md"))?;
    ensure!(adopted == "nobody told the mount", "adopted: {adopted:?}");
    let again = mount.notefs().json(&["check", &dir, "--json"])?;
    ensure!(again["step_count"] == 0, "not mended: {again}");
    Ok(())
}

#[test]
fn a_check_of_a_sound_mount_finds_nothing_on_weed() -> Result<()> {
    let store = Store::weed()?;
    let mount = vault(&store, MountOptions::default())?;
    std::fs::write(mount.path("new.md"), "new")?;
    mount.drain()?;
    let report = mount
        .notefs()
        .json(&["check", &mount.dir().display().to_string(), "--json"])?;
    ensure!(report["step_count"] == 0, "a sound mount: {report}");
    ensure!(report["objects"] == NOTES as u64 + 1, "{report}");
    ensure!(
        report["contents"].as_u64() >= Some(NOTES as u64),
        "contents were not compared: {report}"
    );
    Ok(())
}

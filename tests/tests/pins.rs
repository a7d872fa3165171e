//! What is kept on this machine: all notes by themselves, and the files and folders that a user names.

use anyhow::{Context, Result, ensure};
use notefs_tests::{Class, Fault, Mount, MountOptions, PATIENCE, Proxy, Store, sys, vault, wait_until};
use serde_json::Value;

/// Larger than what an inode's row holds, so that it lies in a file of its own.
const ATTACHMENT_BYTES: usize = 300_000;

fn attachment(number: usize) -> Vec<u8> {
    (0..ATTACHMENT_BYTES).map(|at| (at * 7 + number) as u8).collect()
}

fn wait_pinned(mount: &Mount) -> Result<()> {
    let dir = mount.dir().display().to_string();
    mount.notefs().output(&["status", &dir, "--wait", "pinned"]).map(drop)
}

fn pinned(mount: &Mount) -> Result<Value> {
    Ok(mount.status()?["pinned"].clone())
}

fn cached(mount: &Mount, below: &str) -> Result<u64> {
    let path = mount.path(below).display().to_string();
    let report = mount.notefs().json(&["status", &path, "--json"])?;
    report["cached_bytes"].as_u64().context("no count of cached bytes")
}

/// All notes of a bucket that others filled come by themselves, once each though the index reads them too, and can be read and found while
/// the store is down; attachments are left alone.
#[test]
fn all_notes_of_a_bucket_can_be_read_while_the_store_is_down() -> Result<()> {
    let store = Store::ministack()?;
    let mut notes = vault::generate(80, 11);
    notes.retain(|file| file.path.ends_with(".md"));
    vault::put_to(&notes, &store)?;
    store.put("lists/words.txt", b"not for the index, but a text\n")?;
    store.put("lists/long.md", &vec![b'x'; 2 << 20])?;
    store.put("assets/photo.bin", &attachment(0))?;
    let proxy = Proxy::start(store.client()?.address)?;
    let mount = Mount::start(&store.via(proxy.address())?)?;
    wait_pinned(&mount)?;
    let dir = mount.dir().display().to_string();
    mount.notefs().output(&["status", &dir, "--wait", "indexed"])?;
    let log = proxy.log();
    let gets = |key: &str| {
        log.iter()
            .filter(|seen| seen.class == Class::Get && seen.key.ends_with(key))
            .count()
    };
    for note in &notes {
        ensure!(
            gets(&note.path) == 1,
            "{} was fetched {} times",
            note.path,
            gets(&note.path)
        );
    }
    ensure!(gets("photo.bin") == 0, "the attachment was fetched");
    let status = pinned(&mount)?;
    ensure!(
        status["policy"] == "notes" && status["missing_files"] == 0 && status["files"] == notes.len() + 1,
        "{status}"
    );
    proxy.set_fault(Fault::Reset);
    for note in &notes {
        let bytes = std::fs::read(mount.path(&note.path)).with_context(|| note.path.clone())?;
        ensure!(bytes == note.bytes, "{} differs", note.path);
    }
    ensure!(std::fs::read(mount.path("lists/words.txt"))?.starts_with(b"not for"));
    let unread = std::fs::read(mount.path("assets/photo.bin"));
    ensure!(
        sys::errno(&unread) == libc::EIO,
        "the attachment gave {:?}",
        unread.map(|bytes| bytes.len())
    );
    Ok(())
}

/// A folder that is named comes whole, what is new in it too, and stays when other content needs room; its pin follows it, outlives the
/// daemon, and can be taken back.
#[test]
fn a_named_folder_comes_whole_and_stays() -> Result<()> {
    let store = Store::ministack()?;
    for number in 0..3 {
        store.put(&format!("travel/{number}.bin"), &attachment(number))?;
    }
    for number in 0..12 {
        store.put(&format!("archive/{number}.bin"), &attachment(number))?;
    }
    let proxy = Proxy::start(store.client()?.address)?;
    let options = MountOptions::args(&["--cache-size", "2M", "--poll", "1s"]);
    let mut mount = Mount::start_with(&store.via(proxy.address())?, options)?;
    let travel = mount.path("travel").display().to_string();
    mount.notefs().output(&["pin", &travel])?;
    wait_pinned(&mount)?;
    for number in 0..12 {
        ensure!(std::fs::read(mount.path(&format!("archive/{number}.bin")))? == attachment(number));
    }
    for number in 0..3 {
        let here = cached(&mount, &format!("travel/{number}.bin"))?;
        ensure!(
            here == ATTACHMENT_BYTES as u64,
            "{here} bytes of a pinned file are left"
        );
    }
    store.put("travel/new.bin", &attachment(9))?;
    wait_until("new file of the pinned folder", PATIENCE, || {
        match cached(&mount, "travel/new.bin") {
            Ok(bytes) if bytes == ATTACHMENT_BYTES as u64 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    std::fs::rename(mount.path("travel"), mount.path("trip"))?;
    mount.unmount()?;
    mount.remount()?;
    let list = mount
        .notefs()
        .json(&["pin", "--list", &mount.dir().display().to_string(), "--json"])?;
    let pins = list["pins"].as_array().context("no list of pins")?;
    ensure!(
        pins.len() == 1 && pins[0]["path"] == "trip" && pins[0]["folder"] == true,
        "{list}"
    );
    proxy.set_fault(Fault::Reset);
    for number in 0..3 {
        ensure!(std::fs::read(mount.path(&format!("trip/{number}.bin")))? == attachment(number));
    }
    proxy.set_fault(Fault::None);
    let trip = mount.path("trip").display().to_string();
    mount.notefs().output(&["pin", "--remove", &trip])?;
    ensure!(
        mount.notefs().run(&["pin", "--remove", &trip])?.code() == 1,
        "there is no pin any more"
    );
    ensure!(pinned(&mount)?["named"] == 0);
    Ok(())
}

/// What the cache has no room for is told, and is no reason to fetch for ever.
#[test]
fn what_does_not_fit_is_told() -> Result<()> {
    let store = Store::ministack()?;
    for number in 0..8 {
        store.put(&format!("{number}.bin"), &attachment(number))?;
    }
    let options = MountOptions::args(&["--cache-size", "1M", "--pin", "all"]);
    let mount = Mount::start_with(&store, options)?;
    wait_until("pins that fill the cache", PATIENCE, || {
        let status = pinned(&mount).map_err(|error| format!("{error:#}"))?;
        let done = status["complete"] == true && status["files"] == 8;
        if done { Ok(()) } else { Err(status.to_string()) }
    })?;
    let status = mount.status()?;
    let (pinned, cache) = (&status["pinned"], &status["cache"]);
    ensure!(pinned["policy"] == "all" && pinned["unfit_files"] == 5, "{pinned}");
    ensure!(cache["bytes"].as_u64() <= cache["limit_bytes"].as_u64(), "{cache}");
    let dir = mount.dir().display().to_string();
    let shown = mount.notefs().output(&["status", &dir])?;
    ensure!(shown.contains("do not fit: raise --cache-size"), "{shown}");
    Ok(())
}

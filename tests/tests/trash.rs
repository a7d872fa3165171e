//! The trash: what is deleted or overwritten can be brought back, at a bounded cost, and goes when its time is over.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use notefs_tests::{Class, Mount, MountOptions, PATIENCE, Proxy, Store, wait_until};
use serde_json::Value;

const NOTE: &str = "ideas/old note.md";

/// The versions in the trash, newest first.
fn versions(mount: &Mount) -> Result<Vec<Value>> {
    let finished = mount
        .notefs()
        .run(&["trash", "ls", &mount.dir().display().to_string(), "--json"])?;
    let answer: Value =
        serde_json::from_str(&finished.stdout).with_context(|| format!("{} {}", finished.stdout, finished.stderr))?;
    let versions = answer["versions"].as_array().context("no list of versions")?.clone();
    ensure!(
        finished.code() == i32::from(versions.is_empty()),
        "exit {} with {} versions",
        finished.code(),
        versions.len()
    );
    Ok(versions)
}

fn copies(store: &Store) -> Result<Vec<String>> {
    let mut keys = store.all_keys()?;
    keys.retain(|key| key.starts_with(".notefs/trash/") && !key.ends_with('/'));
    Ok(keys)
}

/// A note that was deleted with its folder comes back as it was, and is stored again.
fn a_deleted_note_comes_back(store: &Store) -> Result<()> {
    let mount = Mount::start(store)?;
    std::fs::create_dir(mount.path("ideas"))?;
    std::fs::write(mount.path(NOTE), "remember")?;
    std::fs::set_permissions(mount.path(NOTE), std::fs::Permissions::from_mode(0o600))?;
    mount.drain()?;
    std::fs::remove_dir_all(mount.path("ideas"))?;
    mount.drain()?;
    ensure!(store.get(NOTE)?.is_none(), "the note is still in the bucket");
    let found = versions(&mount)?;
    ensure!(
        found.len() == 1 && found[0]["path"] == NOTE && found[0]["why"] == "deleted",
        "{found:?}"
    );
    ensure!(
        found[0]["size"] == 8 && found[0]["when_ms"].as_i64() > Some(1_700_000_000_000),
        "{found:?}"
    );
    let kept = store.get(found[0]["key"].as_str().context("no key")?)?;
    ensure!(kept.as_deref() == Some(b"remember"), "the copy is not the note");
    let path = mount.path(NOTE).display().to_string();
    mount.notefs().output(&["trash", "restore", &path])?;
    let seen = std::fs::read_to_string(mount.path(NOTE))?;
    ensure!(seen == "remember", "restored as {seen:?}");
    let mode = std::fs::metadata(mount.path(NOTE))?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "restored with mode {mode:o}");
    let left: Vec<_> = std::fs::read_dir(mount.path("ideas"))?.collect::<Result<_, _>>()?;
    ensure!(left.len() == 1, "a draft is left: {left:?}");
    mount.drain()?;
    ensure!(store.get(NOTE)?.as_deref() == Some(b"remember"), "not stored again");
    Ok(())
}

#[test]
fn a_deleted_note_comes_back_on_ministack() -> Result<()> {
    a_deleted_note_comes_back(&Store::ministack()?)
}

#[test]
fn a_deleted_note_comes_back_on_weed() -> Result<()> {
    a_deleted_note_comes_back(&Store::weed()?)
}

#[test]
fn a_deleted_note_comes_back_on_a_folder_store() -> Result<()> {
    a_deleted_note_comes_back(&Store::folder()?)
}

/// Of several saves within an hour the first version is kept, by one copy inside the store, and each save is one PUT still.
#[test]
fn the_first_version_of_an_hour_is_kept() -> Result<()> {
    let store = Store::ministack()?;
    store.put(NOTE, b"version 0")?;
    let proxy = Proxy::start(store.client()?.address)?;
    let mount = Mount::start(&store.via(proxy.address())?)?;
    std::fs::read(mount.path(NOTE))?;
    mount.settle()?;
    proxy.forget();
    for number in 1..4 {
        std::fs::write(mount.path(NOTE), format!("version {number}"))?;
        mount.drain()?;
    }
    ensure!(proxy.count(Class::Copy) == 1, "copies: {}", proxy.count(Class::Copy));
    let puts: Vec<_> = proxy
        .changes()
        .into_iter()
        .filter(|change| change.starts_with("Put"))
        .collect();
    ensure!(puts.len() == 3, "puts: {puts:?}");
    let found = versions(&mount)?;
    ensure!(found.len() == 1 && found[0]["why"] == "overwritten", "{found:?}");
    let (dir, path) = (
        mount.dir().display().to_string(),
        mount.path(NOTE).display().to_string(),
    );
    let told = mount.notefs().failure(&["trash", "restore", &path], 1)?;
    ensure!(told.contains("--overwrite"), "{told}");
    ensure!(
        std::fs::read_to_string(mount.path(NOTE))? == "version 3",
        "changed all the same"
    );
    mount
        .notefs()
        .output(&["trash", "restore", &dir, NOTE, "--overwrite"])?;
    ensure!(
        std::fs::read_to_string(mount.path(NOTE))? == "version 0",
        "not restored"
    );
    mount.drain()?;
    let kept = versions(&mount)?;
    ensure!(kept.len() == 2, "what a restoration replaced is not kept: {kept:?}");
    let newest = kept[0]["version"].as_str().context("no version")?.to_owned();
    mount
        .notefs()
        .output(&["trash", "restore", &path, "--overwrite", "--version", &newest])?;
    ensure!(
        std::fs::read_to_string(mount.path(NOTE))? == "version 3",
        "not the named version"
    );
    let told = mount
        .notefs()
        .failure(&["trash", "restore", &path, "--overwrite", "--version", "never"], 1)?;
    ensure!(told.contains("trash ls"), "{told}");
    Ok(())
}

/// What loses nothing costs nothing: files that were never stored, renames, changes of mode.
#[test]
fn what_is_not_lost_is_not_copied() -> Result<()> {
    let store = Store::ministack()?;
    store.put(NOTE, b"stays")?;
    let mount = Mount::start_with(&store, MountOptions::args(&["--write-back", "500ms"]))?;
    std::fs::write(mount.path("draft.tmp"), "never stored")?;
    std::fs::remove_file(mount.path("draft.tmp"))?;
    std::fs::rename(mount.path(NOTE), mount.path("ideas/new name.md"))?;
    mount.drain()?;
    std::fs::set_permissions(mount.path("ideas/new name.md"), std::fs::Permissions::from_mode(0o640))?;
    mount.drain()?;
    ensure!(copies(&store)?.is_empty(), "copies: {:?}", copies(&store)?);
    Ok(())
}

#[test]
fn no_trash_is_kept_when_it_is_off() -> Result<()> {
    let store = Store::ministack()?;
    store.put(NOTE, b"goes")?;
    let mount = Mount::start_with(&store, MountOptions::args(&["--trash", "off"]))?;
    std::fs::remove_file(mount.path(NOTE))?;
    mount.drain()?;
    ensure!(
        copies(&store)?.is_empty() && store.get(NOTE)?.is_none(),
        "{:?}",
        store.all_keys()?
    );
    let dir = mount.dir().display().to_string();
    let told = mount.notefs().failure(&["trash", "ls", &dir], 1)?;
    ensure!(told.contains("--trash off"), "{told}");
    Ok(())
}

/// A bucket that keeps versions by itself gets no second trash.
#[test]
fn a_bucket_with_versions_needs_no_trash() -> Result<()> {
    let store = Store::ministack()?;
    store.client()?.keep_versions()?;
    store.put(NOTE, b"goes")?;
    let mount = Mount::start(&store)?;
    std::fs::remove_file(mount.path(NOTE))?;
    mount.drain()?;
    ensure!(copies(&store)?.is_empty(), "copies: {:?}", copies(&store)?);
    let told = mount
        .notefs()
        .failure(&["trash", "ls", &mount.dir().display().to_string()], 1)?;
    ensure!(told.contains("by itself"), "{told}");
    Ok(())
}

#[test]
fn the_trash_is_emptied_when_its_time_is_over() -> Result<()> {
    let store = Store::ministack()?;
    store.put(NOTE, b"goes")?;
    store.put(".notefs/trash/20200101/000000.000-deleted-0000000a/ancient.md", b"old")?;
    let mount = Mount::start_with(&store, MountOptions::args(&["--trash", "3s"]))?;
    std::fs::remove_file(mount.path(NOTE))?;
    mount.drain()?;
    wait_until("empty trash", PATIENCE, || {
        let left = copies(&store).map_err(|error| format!("{error:#}"))?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
}

#[test]
fn a_wrong_time_to_keep_is_wrong_usage() -> Result<()> {
    let store = Store::folder()?;
    let mount = Mount::start(&store)?;
    let told = mount
        .notefs()
        .failure(&["mount", "--trash", "soon", &store.url, "/tmp/x"], 2)?;
    ensure!(told.contains("30d"), "{told}");
    Ok(())
}

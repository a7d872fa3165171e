//! Other tools write to the bucket: what programs read or watch is looked at first, and what was away long comes back in order.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use notefs_tests::mount::owed;
use notefs_tests::pair::reads;
use notefs_tests::proxy::Seen;
use notefs_tests::s3::percent_decoded;
use notefs_tests::watch::Watcher;
use notefs_tests::{Class, Fault, Mount, MountOptions, PATIENCE, Proxy, Store, wait_until};

/// More keys than one page of a listing shows, so that the whole bucket is looked at seldom.
const NOTES: usize = 1_200;
const FOLDERS: usize = 60;

/// Edits made during an outage, and how many of them may be under way at once and overtake each other.
const EDITS: usize = 80;
const ABREAST: usize = 32;

fn big_bucket() -> Result<Store> {
    let store = Store::ministack()?;
    for number in 0..NOTES {
        let key = format!("folder-{:02}/{number:04}.md", number % FOLDERS);
        store.put(&key, format!("note {number}\n").as_bytes())?;
    }
    Ok(store)
}

/// Looks at this folder of the bucket alone.
fn looks_at(log: &[Seen], folder: &str) -> usize {
    let prefix = format!("prefix={folder}/");
    log.iter()
        .filter(|seen| seen.class == Class::List && percent_decoded(&seen.query).contains(&prefix))
        .count()
}

fn mounted(store: &Store) -> Result<(Proxy, Mount)> {
    let proxy = Proxy::start(store.client()?.address)?;
    let mount = Mount::start(&store.via(proxy.address())?)?;
    wait_until("listing of the bucket", PATIENCE, || {
        let status = mount.status().map_err(|error| format!("{error:#}"))?;
        let listed = !status["pull"]["listed_age_ms"].is_null() && status["unlisted_directories"] == 0;
        if listed { Ok(()) } else { Err(status.to_string()) }
    })?;
    Ok((proxy, mount))
}

/// Whether another tool's note shows by a look at its folder alone.
fn shows_by_a_look_at_its_folder(store: &Store, proxy: &Proxy, mount: &Mount) -> Result<()> {
    store.put("folder-07/new.md", b"new\n")?;
    reads(mount, "folder-07/new.md", "new\n")?;
    let log = proxy.log();
    ensure!(looks_at(&log, "folder-07") > 0, "the folder was never looked at alone");
    ensure!(
        looks_at(&log, "folder-08") == 0,
        "a folder was looked at that nobody uses"
    );
    Ok(())
}

#[test]
fn a_folder_that_a_program_reads_is_looked_at_first() -> Result<()> {
    let store = big_bucket()?;
    let (proxy, mount) = mounted(&store)?;
    proxy.forget();
    let seen = std::fs::read_dir(mount.path("folder-07"))?.count();
    ensure!(seen == NOTES / FOLDERS, "{seen} notes");
    shows_by_a_look_at_its_folder(&store, &proxy, &mount)
}

/// A watcher asks for nothing, and is told all the same.
#[test]
fn a_folder_that_a_program_watches_is_looked_at_first() -> Result<()> {
    let store = big_bucket()?;
    let (proxy, mount) = mounted(&store)?;
    let watcher = Watcher::inotify(&mount.path("folder-07"))?;
    // What it has read to begin with is forgotten over these.
    for other in ["folder-01", "folder-02", "folder-03", "folder-04"] {
        std::fs::read_dir(mount.path(other))?.count();
    }
    wait_until("look at the watched folder", 3 * PATIENCE, || {
        proxy.forget();
        std::thread::sleep(std::time::Duration::from_secs(1));
        match looks_at(&proxy.log(), "folder-07") {
            0 => Err("none".into()),
            _ => Ok(()),
        }
    })?;
    store.put("folder-07/watched.md", b"watched\n")?;
    watcher.wait("creation of the watched note", |lines| {
        lines
            .iter()
            .any(|line| line.starts_with("CREATE") && line.ends_with("watched.md"))
    })?;
    Ok(())
}

/// A name that appears while a known cache is being compared with the bucket shows in a folder that a program has listed meanwhile.
#[test]
fn a_name_that_appears_while_a_known_cache_is_refreshed_shows() -> Result<()> {
    let store = Store::ministack()?;
    store.put("folder/old.md", b"old\n")?;
    let proxy = Proxy::start(store.client()?.address)?;
    let mut mount = Mount::start(&store.via(proxy.address())?)?;
    reads(&mount, "folder/old.md", "old\n")?;
    mount.unmount()?;
    store.put("folder/new.md", b"new\n")?;
    proxy.set_fault_on(Class::List, Fault::BlackHole);
    mount.remount()?;
    let names = || -> Result<Vec<String>, String> {
        let entries = std::fs::read_dir(mount.path("folder")).map_err(|error| error.to_string())?;
        Ok(entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect())
    };
    ensure!(names().map_err(anyhow::Error::msg)? == ["old.md"]);
    ensure!(std::fs::metadata(mount.path("folder/new.md")).is_err());
    proxy.set_fault(Fault::None);
    wait_until("the new name", PATIENCE, || match names()? {
        names if names.len() == 2 => Ok(()),
        names => Err(format!("{names:?}")),
    })?;
    reads(&mount, "folder/new.md", "new\n")
}

/// After days without the store: what was done first is stored first, the count goes down as status tells it, what others did meanwhile is
/// brought together with it, and nothing is lost.
#[test]
fn work_of_an_outage_is_stored_oldest_first_and_brought_together_with_that_of_others() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let other = Mount::start_with(&store, MountOptions::args(&["--write-back", "100ms"]))?;
    let mount = Mount::start_with(
        &store.via(proxy.address())?,
        MountOptions::args(&["--write-back", "100ms"]),
    )?;
    std::fs::write(other.path("shared.md"), "one\ntwo\nthree\n")?;
    std::fs::write(other.path("removed.md"), "removed there, edited here\n")?;
    other.drain()?;
    reads(&mount, "shared.md", "one\ntwo\nthree\n")?;
    reads(&mount, "removed.md", "removed there, edited here\n")?;
    proxy.set_fault(Fault::Reset);
    for number in 0..EDITS {
        std::fs::write(mount.path(&format!("{number:02}.md")), format!("offline {number}\n"))?;
    }
    std::fs::write(mount.path("shared.md"), "one\ntwo\nthree, here\n")?;
    std::fs::write(mount.path("removed.md"), "edited here\n")?;
    std::fs::write(other.path("shared.md"), "one, there\ntwo\nthree\n")?;
    std::fs::remove_file(other.path("removed.md"))?;
    std::fs::write(other.path("new.md"), "new there\n")?;
    other.drain()?;
    wait_until("status that tells of the outage", PATIENCE, || {
        let status = mount.status().map_err(|error| format!("{error:#}"))?;
        let told = status["store_reachable"] == false && !status["owed"]["oldest_age_ms"].is_null();
        if told && owed(&status) == Some(EDITS as u64 + 2) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })?;
    // What was being tried when the outage ended comes with its next try; the rest is in order.
    let tried: BTreeSet<String> = proxy.changes().into_iter().collect();
    ensure!(!tried.is_empty(), "nothing was tried during the outage");
    proxy.forget();
    proxy.set_fault(Fault::None);
    mount.settle()?;
    let changes = proxy.changes();
    let place: BTreeMap<&str, usize> = changes
        .iter()
        .enumerate()
        .filter_map(|(at, change)| Some((change.strip_prefix("Put ")?, at)))
        .collect();
    for number in ABREAST..EDITS {
        let at = |number: usize| place.get(format!("{number:02}.md").as_str()).copied();
        let (earlier, later) = (
            at(number - ABREAST).context("not stored")?,
            at(number).context("not stored")?,
        );
        let was_tried = tried.contains(&format!("Put {:02}.md", number - ABREAST));
        ensure!(
            earlier < later || was_tried,
            "{number} came before {}: {changes:?}",
            number - ABREAST
        );
    }
    for (path, content) in [
        ("shared.md", "one, there\ntwo\nthree, here\n"),
        ("removed.md", "edited here\n"),
        ("new.md", "new there\n"),
        ("79.md", "offline 79\n"),
    ] {
        reads(&mount, path, content)?;
        reads(&other, path, content)?;
    }
    Ok(())
}

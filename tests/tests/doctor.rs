//! `notefs doctor` finds out by races what a store keeps, a mount tells of what it does not, and remembers it.

use anyhow::{Context, Result, ensure};
use notefs_tests::{Mount, Notefs, Proxy, Store, scratch};
use serde_json::Value;

fn user(store: &Store) -> Result<Notefs> {
    Ok(Notefs::new(&scratch::folder("doctor")?, &store.env))
}

/// The doctor's findings, and its exit code.
fn examine(store: &Store) -> Result<(Value, i32)> {
    let finished = user(store)?.run(&["doctor", &store.url, "--json"])?;
    let answer = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("no JSON: {} {}", finished.stdout, finished.stderr))?;
    Ok((answer, finished.code()))
}

fn verdict<'a>(answer: &'a Value, name: &str) -> &'a str {
    let findings = answer["findings"].as_array();
    let finding = findings.into_iter().flatten().find(|finding| finding["name"] == name);
    finding
        .and_then(|finding| finding["verdict"].as_str())
        .unwrap_or("missing")
}

const ESSENTIAL: [&str; 6] = [
    "create-if-absent",
    "update-if-unchanged",
    "delete-if-unchanged",
    "list-after-write",
    "metadata",
    "clocks",
];

/// The conditions that notefs rests on hold, and the trial leaves nothing behind.
fn essentials_hold(store: &Store) -> Result<()> {
    store.put("note.md", b"untouched")?;
    let (answer, code) = examine(store)?;
    for name in ESSENTIAL {
        ensure!(verdict(&answer, name) == "holds", "{name}: {answer}");
    }
    let fails = answer["findings"].to_string().contains("\"fails\"");
    ensure!(
        code == i32::from(fails) && answer["holds"] == !fails,
        "exit {code}: {answer}"
    );
    ensure!(answer["promises"].to_string().contains("No save is lost"), "{answer}");
    ensure!(answer["kernel"]["can_mount"] == true, "{answer}");
    let protocol = answer["kernel"]["protocol"]["Ok"].as_str().unwrap_or_default();
    ensure!(protocol.starts_with("7."), "the kernel's protocol: {answer}");
    ensure!(store.all_keys()? == ["note.md"], "left behind: {:?}", store.all_keys()?);
    Ok(())
}

#[test]
fn essentials_hold_on_ministack() -> Result<()> {
    essentials_hold(&Store::ministack()?)
}

#[test]
fn essentials_hold_on_weed() -> Result<()> {
    essentials_hold(&Store::weed()?)
}

#[test]
fn a_folder_store_keeps_everything() -> Result<()> {
    let store = Store::folder()?;
    let (answer, code) = examine(&store)?;
    ensure!(code == 0, "exit {code}: {answer}");
    let shown = user(&store)?.output(&["doctor", &store.url])?;
    ensure!(
        shown.contains("What this means") && shown.contains("/dev/fuse"),
        "{shown}"
    );
    Ok(())
}

/// A server that answers "done" and ignores conditions is found out, and people are told what that means.
#[test]
fn a_store_that_ignores_conditions_is_found_out() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    proxy.ignore_conditions(true);
    let weak = store.via(proxy.address())?;
    let (answer, code) = examine(&weak)?;
    ensure!(code == 1, "exit {code}");
    for name in [
        "create-if-absent",
        "update-if-unchanged",
        "delete-if-unchanged",
        "large-create-if-absent",
    ] {
        ensure!(verdict(&answer, name) == "fails", "{name}: {answer}");
    }
    ensure!(answer["promises"].to_string().contains("the last one wins"), "{answer}");
    ensure!(!answer["promises"].to_string().contains("No save is lost"), "{answer}");
    Ok(())
}

#[test]
fn a_mount_tells_of_a_weaker_store_and_remembers_it() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    proxy.ignore_conditions(true);
    let mut mount = Mount::start(&store.via(proxy.address())?)?;
    let status = mount.status()?;
    ensure!(status["weaker"].as_array().map(Vec::len) == Some(4), "{status}");
    let shown = mount.notefs().output(&["status", &mount.dir().display().to_string()])?;
    ensure!(
        shown.contains("the last one wins") && shown.contains("Copies inside this store"),
        "{shown}"
    );
    ensure!(
        mount.log_tail().contains("the last one wins"),
        "the mount said nothing: {}",
        mount.log_tail()
    );
    // Later saves are still kept both, because a write looks first.
    std::fs::write(mount.path("note.md"), "ours")?;
    mount.drain()?;
    store.put("note.md", b"theirs")?;
    std::fs::write(mount.path("note.md"), "ours again")?;
    mount.drain()?;
    let keys = store.keys()?;
    ensure!(keys.len() == 2, "not both kept: {keys:?}");
    ensure!(
        store.get("note.md")?.as_deref() == Some(b"theirs"),
        "theirs was overwritten"
    );
    mount.unmount()?;
    proxy.forget();
    mount.remount()?;
    let tried: Vec<_> = proxy
        .log()
        .into_iter()
        .filter(|seen| seen.key.starts_with(".notefs/probe/"))
        .collect();
    ensure!(tried.is_empty(), "a known store was tried again: {tried:?}");
    ensure!(
        mount.status()?["weaker"].as_array().map(Vec::len) == Some(4),
        "forgotten"
    );
    Ok(())
}

#[test]
fn a_sound_store_is_tried_once_and_left_clean() -> Result<()> {
    let store = Store::weed()?;
    let mount = Mount::start(&store)?;
    let status = mount.status()?;
    ensure!(status["weaker"].as_array().map(Vec::len) == Some(0), "{status}");
    let left: Vec<_> = store
        .all_keys()?
        .into_iter()
        .filter(|key| key.starts_with(".notefs/probe/"))
        .collect();
    ensure!(left.iter().all(|key| key.ends_with('/')), "left behind: {left:?}");
    Ok(())
}

#[test]
fn a_wrong_address_is_wrong_usage_and_a_store_that_is_away_a_failure() -> Result<()> {
    let store = Store::ministack()?;
    user(&store)?.failure(&["doctor", "no-address"], 2)?;
    user(&store)?.failure(&["doctor"], 2)?;
    let away = "s3://bucket?endpoint=http://127.0.0.1:1&region=us-east-1";
    let told = user(&store)?.failure(&["doctor", away], 1)?;
    ensure!(told.contains("Could not"), "{told}");
    Ok(())
}

//! Two machines save one note at once: what merges is merged in both folders, what does not is listed, shown and resolved by command.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use notefs_tests::{Class, Fault, Mount, MountOptions, PATIENCE, Proxy, Store, wait_until};
use serde_json::Value;

const NOTE: &str = "note.md";
const BASE: &str = "---\ntitle: Shared\ntags:\n- one\n---\nfirst\nsecond\nthird\nfourth\n";

/// Two mounts of one bucket in which both have read the note; the second one's requests pass the proxy.
fn two() -> Result<(Store, Mount, Mount, Proxy)> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    store.put(NOTE, BASE.as_bytes())?;
    let options = || MountOptions::args(&["--write-back", "1h", "--poll", "1s"]);
    let (a, b) = (
        Mount::start_with(&store, options())?,
        Mount::start_with(&store.via(proxy.address())?, options())?,
    );
    for mount in [&a, &b] {
        ensure!(std::fs::read_to_string(mount.path(NOTE))? == BASE);
    }
    Ok((store, a, b, proxy))
}

fn shows(mount: &Mount, name: &str, text: &str) -> Result<()> {
    wait_until("the other machine's text", PATIENCE, || {
        match std::fs::read_to_string(mount.path(name)) {
            Ok(seen) if seen == text => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

fn conflicts(mount: &Mount) -> Result<Vec<Value>> {
    let listed = mount
        .notefs()
        .json(&["conflicts", &mount.dir().display().to_string(), "--json"])?;
    Ok(listed.as_array().cloned().unwrap_or_default())
}

fn resolve(mount: &Mount, how: &str, name: &str) -> Result<()> {
    let path = mount.path(name).display().to_string();
    mount.notefs().output(&["conflicts", "--resolve", how, &path]).map(drop)
}

/// Both write the first line; the second to store it has a conflict, whose copy is named.
fn dispute(a: &Mount, b: &Mount, proxy: &Proxy) -> Result<String> {
    // An upload that an earlier drain hurries must not be the first.
    proxy.set_fault_on(Class::Put, Fault::Unavailable);
    let before = std::fs::read_to_string(b.path(NOTE))?;
    std::fs::write(a.path(NOTE), before.replace("first", "first of a"))?;
    std::fs::write(b.path(NOTE), before.replace("first", "first of b"))?;
    a.drain()?;
    proxy.set_fault_on(Class::Put, Fault::None);
    b.drain()?;
    let listed = conflicts(b)?;
    ensure!(listed.len() == 1, "{listed:?}");
    ensure!(listed[0]["path"] == NOTE && listed[0]["kind"] == "edited", "{listed:?}");
    ensure!(b.status()?["conflicts"] == 1);
    Ok(listed[0]["copy"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn edits_of_different_lines_and_keys_are_merged_in_both_folders() -> Result<()> {
    let (store, a, b, _proxy) = two()?;
    std::fs::write(
        a.path(NOTE),
        BASE.replace("title: Shared", "title: Renamed")
            .replace("first", "FIRST"),
    )?;
    std::fs::write(
        b.path(NOTE),
        BASE.replace("- one", "- one\n- two").replace("fourth", "FOURTH"),
    )?;
    a.drain()?;
    b.drain()?;
    let merged = "---\ntitle: Renamed\ntags:\n- one\n- two\n---\nFIRST\nsecond\nthird\nFOURTH\n";
    for mount in [&b, &a] {
        shows(mount, NOTE, merged)?;
        ensure!(conflicts(mount)?.is_empty());
    }
    ensure!(store.get(NOTE)?.as_deref() == Some(merged.as_bytes()));
    ensure!(store.keys()? == [NOTE], "{:?}", store.keys()?);
    ensure!(
        b.search("FOURTH")? == [NOTE] && b.search("FIRST")? == [NOTE],
        "the merged text is indexed"
    );
    Ok(())
}

#[test]
fn a_conflict_is_listed_shown_indexed_and_resolved_either_way() -> Result<()> {
    let (store, a, b, proxy) = two()?;
    let copy = dispute(&a, &b, &proxy)?;
    let path = b.path(NOTE).display().to_string();
    let diff = b.notefs().output(&["conflicts", "--diff", &path])?;
    ensure!(
        diff.contains("\n-first of a\n") && diff.contains("\n+first of b\n"),
        "{diff}"
    );
    // The other machine's text comes out of the bucket once more; until then a search says that it is not complete.
    b.notefs()
        .output(&["status", &path, "--wait", "indexed", "--timeout", "60s"])?;
    let both = b.search("first")?;
    ensure!(both.len() == 2 && both.contains(&copy), "{both:?}");
    resolve(&b, "ours", NOTE)?;
    ensure!(conflicts(&b)?.is_empty() && b.status()?["conflicts"] == 0);
    b.drain()?;
    let ours = BASE.replace("first", "first of b");
    shows(&a, NOTE, &ours)?;
    ensure!(store.get(NOTE)?.as_deref() == Some(ours.as_bytes()));
    ensure!(store.keys()? == [NOTE], "{:?}", store.keys()?);

    let copy = dispute(&a, &b, &proxy)?;
    resolve(&b, "theirs", &copy)?;
    ensure!(conflicts(&b)?.is_empty() && !b.path(&copy).exists());
    ensure!(std::fs::read_to_string(b.path(NOTE))?.contains("first of a"));

    let copy = dispute(&a, &b, &proxy)?;
    std::fs::remove_file(b.path(&copy))?;
    ensure!(conflicts(&b)?.is_empty(), "deleting the copy ends it, too");
    Ok(())
}

#[test]
fn a_conflict_is_merged_in_an_editor() -> Result<()> {
    let (_store, a, b, proxy) = two()?;
    let copy = dispute(&a, &b, &proxy)?;
    let path = b.path(NOTE).display().to_string();
    let editor = |name: &str, script: &str| -> Result<String> {
        let file = b.notefs().home().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        Ok(file.display().to_string())
    };
    let run = |editor: &str, code: i32| -> Result<()> {
        let mut command = b.notefs().command(["conflicts", "--resolve", "merge", &path])?;
        command.env("EDITOR", editor).env_remove("VISUAL");
        let finished = notefs_tests::process::run(command, PATIENCE)?;
        ensure!(finished.code() == code, "{}", finished.stderr);
        Ok(())
    };
    run(&editor("fails", "exit 3")?, 1)?;
    run(&editor("leaves", "true")?, 1)?;
    let note = b.path(NOTE).display().to_string();
    run(
        &editor(
            "races",
            &format!("sed -i '/^[<=>]\\{{7\\}}/d' \"$1\"; echo more >> '{note}'"),
        )?,
        1,
    )?;
    ensure!(
        conflicts(&b)?.len() == 1 && b.path(&copy).exists(),
        "nothing was done so far"
    );
    run(&editor("merges", "sed -i '/^[<=>]\\{7\\}/d' \"$1\"")?, 0)?;
    let text = std::fs::read_to_string(b.path(NOTE))?;
    ensure!(
        text.contains("first of b\nfirst of a\n") && text.ends_with("more\n"),
        "{text}"
    );
    ensure!(conflicts(&b)?.is_empty() && !Path::new(&b.path(&copy)).exists());
    Ok(())
}

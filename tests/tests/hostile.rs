//! Names that are no names: keys which a file system cannot show, and file names which a bucket cannot carry. None of
//! them is lost, none of them is dangerous.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::tree::{Kind, Tree};
use notefs_tests::{Mount, Store, sys};

fn hostile_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "../outside.md",
        "a/../../outside.md",
        "a//b.md",
        "//lead.md",
        "./dot.md",
        "x/./y.md",
        "plain",
        "plain/below.md",
        "control\u{1}.md",
        "line\nbreak.md",
        "tab\t.md",
        "back\\slash.md",
        "%41.md",
        "A.md",
        "%0A.md",
        "%2e%2e/x.md",
        "plus+plus.md",
        "space at end ",
        "caf\u{e9}.md",
        "cafe\u{301}.md",
        "Case.md",
        "case.md",
        "..",
        ".",
        "trailing/",
        "emoji 🗒️.md",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push(format!("{}.md", "s".repeat(300)));
    keys.push(format!("deep/{}/x.md", "d".repeat(300)));
    keys
}

/// Which key a file shows is told by its content.
fn body(key: &str) -> Vec<u8> {
    format!("the body of {key:?}").into_bytes()
}

#[test]
fn hostile_keys_are_shown_or_listed_and_never_lost() -> Result<()> {
    let store = Store::ministack()?;
    for key in hostile_keys() {
        store
            .put(&key, &body(&key))
            .with_context(|| format!("the server refuses {key:?}"))?;
    }
    // What the server itself cannot hold apart is not notefs's to keep.
    let held: BTreeMap<String, Vec<u8>> = store
        .all_keys()?
        .into_iter()
        .filter_map(|key| store.get(&key).ok().flatten().map(|bytes| (key, bytes)))
        .collect();
    ensure!(held.len() > 20, "the server holds only {:?}", held.keys());
    let mut mount = Mount::start(&store)?;
    let tree = Tree::read(mount.dir())?;
    let files = tree.entries.iter().filter(|(_, entry)| entry.kind == Kind::File);
    let shown: Vec<Vec<u8>> = files
        .map(|(path, _)| Ok(std::fs::read(mount.dir().join(path))?))
        .collect::<Result<_>>()?;
    let status = mount.status()?;
    let listed = status["skipped_keys"].to_string();
    let skipped = status["skipped_keys"]
        .as_array()
        .context("status lists no skipped keys")?;
    for (key, bytes) in &held {
        // A listing that came through another library may have lost slashes at a key's beginning.
        let bare = |key: &str| key.trim_start_matches('/').to_owned();
        let told = skipped
            .iter()
            .any(|line| line["key"].as_str().map(bare) == Some(bare(key)));
        ensure!(
            told || shown.contains(bytes) || key.ends_with('/'),
            "{key:?} is neither shown nor listed: {listed}"
        );
    }
    ensure!(
        skipped.iter().all(|line| line["reason"].is_string()),
        "a key without a reason: {listed}"
    );
    ensure!(
        !mount.dir().with_file_name("outside.md").exists(),
        "a key escaped from the mount"
    );
    std::fs::write(mount.path("new.md"), "work goes on")?;
    mount.drain()?;
    mount.unmount()?;
    for (key, bytes) in &held {
        ensure!(
            store.get(key)?.as_ref() == Some(bytes),
            "{key:?} was changed or lost in the bucket"
        );
    }
    Ok(())
}

/// The path that shows the file with this content: an escaped key has another name in the folder than in the bucket.
fn showing(mount: &Mount, bytes: &[u8]) -> Result<PathBuf> {
    let tree = Tree::read(mount.dir())?;
    let files = tree.entries.into_iter().filter(|(_, entry)| entry.kind == Kind::File);
    let mut paths = files.map(|(path, _)| mount.dir().join(path));
    let found = paths.find(|path| std::fs::read(path).is_ok_and(|shown| shown == bytes));
    found.with_context(|| format!("no file shows {:?}", String::from_utf8_lossy(bytes)))
}

#[test]
fn twins_and_escapes_are_files_of_their_own() -> Result<()> {
    let store = Store::ministack()?;
    let twins = [
        "caf\u{e9}.md",
        "cafe\u{301}.md",
        "Case.md",
        "case.md",
        "A.md",
        "plus+plus.md",
    ];
    let escaped = ["%41.md", "%0A.md", "%250A.md", "%5C.md", "%"];
    let keys: Vec<&str> = twins.iter().chain(&escaped).copied().collect();
    keys.iter().try_for_each(|key| store.put(key, &body(key)))?;
    let mount = Mount::start(&store)?;
    for key in twins {
        let bytes = std::fs::read(mount.path(key)).with_context(|| format!("{key:?}"))?;
        ensure!(bytes == body(key), "{key:?} shows another key's content");
    }
    for key in &keys {
        std::fs::write(showing(&mount, &body(key))?, format!("edited {key}"))?;
    }
    mount.drain()?;
    for key in &keys {
        let stored = store.get(key)?.context("lost")?;
        ensure!(
            stored == format!("edited {key}").into_bytes(),
            "the edit of {key:?} went elsewhere"
        );
    }
    ensure!(
        store.keys()?.len() == keys.len(),
        "the bucket holds {:?}",
        store.keys()?
    );
    Ok(())
}

#[test]
fn a_file_beside_a_folder_of_its_name_is_reachable() -> Result<()> {
    let store = Store::ministack()?;
    store.put("a", b"the file")?;
    store.put("a/b.md", b"below")?;
    let mount = Mount::start(&store)?;
    let bytes = std::fs::read(mount.path("a/b.md")).context("what lies below the folder")?;
    ensure!(bytes == b"below", "the note below shows {bytes:?}");
    let tree = Tree::read(mount.dir())?;
    let files = tree.entries.iter().filter(|(_, entry)| entry.kind == Kind::File);
    let aliased = files
        .map(|(path, _)| path)
        .any(|path| std::fs::read(mount.dir().join(path)).ok() == Some(b"the file".to_vec()));
    let status = mount.status()?;
    let listed = status["skipped_keys"]
        .as_array()
        .is_some_and(|keys| keys.iter().any(|line| line["key"] == "a"));
    ensure!(
        aliased || listed,
        "'a' is neither under another name nor listed: {status}"
    );
    Ok(())
}

fn hostile_names() -> Vec<OsString> {
    let mut names: Vec<OsString> = [
        b"control\x01\x1f\x7f.md".as_slice(),
        b"line\nbreak.md",
        b"carriage\rreturn",
        b"tab\t.md",
        b"back\\slash.md",
        b"%41.md",
        b"A.md",
        b"%0A",
        b"%",
        b"%%25",
        b"%2F",
        b"plus+plus",
        b"not \xff\xfe utf-8",
        b"\xc3\x28",
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        b" space ",
        b"-rf",
        b"~",
        b"...",
        b"..x",
        b"trailing.",
        b"quote'\"`$(x)",
        b"a:b*c?d|e<f>g",
        b"#hash?query&x=y",
        "👩‍👩‍👧.md".as_bytes(),
        "\u{202e}gnp.md".as_bytes(),
        "\u{fffe}".as_bytes(),
        b"Thumbs.db",
        b"x.rclonelink",
    ]
    .iter()
    .map(|bytes| OsStr::from_bytes(bytes).to_owned())
    .collect();
    names.push(OsString::from("n".repeat(255)));
    names.push(OsString::from("ü".repeat(127)));
    names
}

/// A name is kept exactly, or refused at once; both with its content and as a folder.
fn odd_names_survive(store: &Store) -> Result<()> {
    let mut mount = Mount::start(store)?;
    let mut made: Vec<PathBuf> = Vec::new();
    for name in hostile_names() {
        let path = mount.dir().join(&name);
        match std::fs::write(&path, name.as_bytes()) {
            Ok(()) => made.push(path),
            Err(error) => {
                let refused = [libc::ENAMETOOLONG, libc::EILSEQ].contains(&error.raw_os_error().unwrap_or(0));
                ensure!(refused, "{name:?} failed with {error}");
                continue;
            }
        }
        let folder = mount.dir().join("folders").join(&name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("in.md"), name.as_bytes())?;
    }
    ensure!(made.len() >= 25, "only {} names were accepted", made.len());
    let facts = ["folder mtime"];
    let before = Tree::read(mount.dir())?.without(&facts);
    mount.start_cold()?;
    before.assert_same(
        &Tree::read(mount.dir())?.without(&facts),
        "odd names after a cold start",
    )?;
    for path in &made {
        let name = path.file_name().context("a path without a name")?;
        ensure!(
            std::fs::read(path)? == name.as_bytes(),
            "{name:?} shows another file's content"
        );
        std::fs::remove_file(path)?;
    }
    std::fs::remove_dir_all(mount.path("folders"))?;
    mount.drain()?;
    ensure!(
        store.keys()?.is_empty(),
        "removed, but still in the bucket: {:?}",
        store.keys()?
    );
    Ok(())
}

#[test]
fn odd_names_survive_on_ministack() -> Result<()> {
    odd_names_survive(&Store::ministack()?)
}

#[test]
fn odd_names_survive_on_weed() -> Result<()> {
    odd_names_survive(&Store::weed()?)
}

#[test]
fn odd_names_survive_on_a_folder_store() -> Result<()> {
    odd_names_survive(&Store::folder()?)
}

#[test]
fn a_name_too_long_for_the_store_is_refused_at_once() -> Result<()> {
    let store = Store::ministack()?;
    let mount = Mount::start(&store)?;
    let long = std::fs::write(mount.path(&"n".repeat(256)), "x");
    ensure!(sys::errno(&long) == libc::ENAMETOOLONG, "256 bytes in a name: {long:?}");
    let mut folder = mount.dir().to_owned();
    let refused = (0..6).find_map(|_| {
        folder.push("f".repeat(200));
        std::fs::create_dir(&folder).err()
    });
    let refused = refused.context("a key over 1,024 bytes was accepted as a folder")?;
    ensure!(
        refused.raw_os_error() == Some(libc::ENAMETOOLONG),
        "refused with {refused}"
    );
    let deepest = folder.parent().context("no parent")?;
    let name = "x".repeat(1_020 - (deepest.as_os_str().len() - mount.dir().as_os_str().len()));
    if name.len() <= 255 {
        std::fs::write(deepest.join(&name), "fits").context("a key of just under 1,024 bytes")?;
    }
    mount.drain()?;
    ensure!(
        mount.status()?["owed"]["count"] == 0,
        "something can never be stored: {}",
        mount.status()?
    );
    Ok(())
}

/// Renaming a folder makes every key below it longer; that must not strand a note which then fits nowhere.
#[test]
fn a_rename_that_makes_keys_too_long_is_refused() -> Result<()> {
    let mount = Mount::start(&Store::ministack()?)?;
    let deep: PathBuf = ["d".repeat(250), "e".repeat(250), "f".repeat(250)].iter().collect();
    std::fs::create_dir_all(mount.dir().join("short").join(&deep))?;
    std::fs::write(mount.dir().join("short").join(&deep).join("g".repeat(240)), "deep")?;
    let renamed = std::fs::rename(mount.path("short"), mount.path(&"l".repeat(200)));
    ensure!(
        sys::errno(&renamed) == libc::ENAMETOOLONG,
        "the rename gave {renamed:?}"
    );
    mount.drain()
}

#[test]
fn hidden_tools_work_on_odd_names() -> Result<()> {
    let mount = Mount::start(&Store::folder()?)?;
    let made = shell(
        mount.dir(),
        "touch $'a\\nb' -- -n; find . -type f -print0 | xargs -0 ls -ld | wc -l",
    )?;
    ensure!(made.trim() == "3", "find and xargs saw {made}");
    ensure!(Path::new(&mount.path("a\nb")).exists(), "the name is gone");
    Ok(())
}

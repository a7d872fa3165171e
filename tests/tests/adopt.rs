//! A bucket that another tool filled becomes a folder, and everything done to that folder is in the bucket: a machine
//! that knows nothing sees the same tree, contents, modes, times and links.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::tree::Tree;
use notefs_tests::vault::{self, VaultFile};
use notefs_tests::{Mount, Store, scratch, sys};

fn adopted(store: &Store, count: usize) -> Result<(Mount, Vec<VaultFile>)> {
    let files = vault::generate(count, 7);
    vault::put_to(&files, store)?;
    Ok((Mount::start(store)?, files))
}

fn shows_exactly(mount: &Mount, files: &[VaultFile]) -> Result<()> {
    let expected = scratch::folder("expected")?;
    vault::write_to(files, &expected)?;
    let content_only = [
        "folder mtime",
        "mtime",
        "mode",
        "owner",
        "xattrs",
        "links",
        "same inode as",
    ];
    let read = |dir: &Path| Ok::<_, anyhow::Error>(Tree::read(dir)?.without(&content_only));
    read(&expected)?.assert_same(&read(mount.dir())?, "adopted bucket")
}

fn change_everything(root: &Path, files: &[VaultFile]) -> Result<()> {
    let path = |number: usize| root.join(&files[number].path);
    std::fs::write(path(0), "edited\n")?;
    shell(
        root,
        "printf 'appended' >> 'ideas/note 00001.md'; mkdir -p new/deep/empty emptied; echo x > emptied/x",
    )?;
    std::fs::remove_file(root.join("emptied/x"))?;
    std::fs::write(root.join("new/deep/fresh.md"), "# Fresh\n")?;
    std::fs::write(root.join("new/empty.md"), "")?;
    std::fs::rename(path(2), root.join("new/moved.md"))?;
    std::fs::remove_file(path(3))?;
    std::fs::set_permissions(path(4), std::fs::Permissions::from_mode(0o600))?;
    std::fs::set_permissions(root.join("new/deep"), std::fs::Permissions::from_mode(0o2750))?;
    chown(path(5), Some(1234), Some(4321)).context("chown (the tests need root)")?;
    symlink("../ideas/é → 検索.md", root.join("new/link"))?;
    std::fs::hard_link(path(6), root.join("new/twin.md"))?;
    sys::set_times(&path(7), -86_400, 123_456_789)?;
    sys::set_times(&root.join("new/empty.md"), 4_102_444_800, 1)?;
    sys::set_xattr(&path(8), "user.comment", "grüße\n".as_bytes(), 0)?;
    std::fs::write(root.join("new/large.bin"), pattern(3_000_000))?;
    Ok(())
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|byte| (byte * 31 / 7) as u8).collect()
}

fn survives_a_new_machine(store: &Store) -> Result<()> {
    let (mut mount, files) = adopted(store, 60)?;
    shows_exactly(&mount, &files)?;
    change_everything(mount.dir(), &files)?;
    let before = Tree::read(mount.dir())?;
    mount.drain()?;
    Tree::read(mount.dir())?.assert_same(&before, "the push changed the folder")?;
    mount.start_cold()?;
    before.assert_same(&Tree::read(mount.dir())?, "after a new start without cache")?;
    ensure!(
        store.get("new/deep/fresh.md")?.as_deref() == Some(b"# Fresh\n"),
        "not readable by other tools"
    );
    ensure!(
        store.get(&files[3].path)?.is_none(),
        "a removed note is still in the bucket"
    );
    Ok(())
}

#[test]
fn everything_survives_a_new_machine_on_ministack() -> Result<()> {
    survives_a_new_machine(&Store::ministack()?)
}

#[test]
fn everything_survives_a_new_machine_on_weed() -> Result<()> {
    survives_a_new_machine(&Store::weed()?)
}

#[test]
fn everything_survives_a_new_machine_on_a_folder_store() -> Result<()> {
    survives_a_new_machine(&Store::folder()?)
}

#[test]
fn a_prefix_of_a_bucket_is_a_vault_of_its_own() -> Result<()> {
    let mut store = Store::ministack()?;
    store.put("other/secret.md", b"not ours")?;
    store.put("team/notes/one.md", b"ours")?;
    store.url = store.url.replace('?', "/team/notes?");
    let mount = Mount::start(&store)?;
    let names: Vec<_> = Tree::read(mount.dir())?.entries.into_keys().collect();
    ensure!(names == [Path::new("one.md")], "the mount shows {names:?}");
    std::fs::write(mount.path("two.md"), "two")?;
    mount.drain()?;
    ensure!(
        store.get("team/notes/two.md")?.as_deref() == Some(b"two"),
        "not below the prefix"
    );
    Ok(())
}

#[test]
fn inode_numbers_survive_a_remount() -> Result<()> {
    let (mut mount, _) = adopted(&Store::ministack()?, 40)?;
    let before = Tree::read(mount.dir())?;
    mount.unmount()?;
    mount.remount()?;
    let after = Tree::read(mount.dir())?;
    for (path, entry) in &before.entries {
        let now = after.entries.get(path).map(|entry| entry.ino);
        ensure!(now == Some(entry.ino), "{path:?} was inode {}, is {now:?}", entry.ino);
    }
    Ok(())
}

fn git_works(store: &Store) -> Result<()> {
    let (mut mount, _) = adopted(store, 40)?;
    let settings = "git config user.name T; git config user.email t@example.org; git config commit.gpgsign false";
    shell(
        mount.dir(),
        &format!("git init -q .; {settings}; git add -A; git commit -qm first"),
    )?;
    shell(
        mount.dir(),
        "git mv 'note 00000.md' renamed.md; echo more >> renamed.md; git commit -qam second",
    )?;
    shell(mount.dir(), "git gc -q; git fsck --strict")?;
    let history = shell(mount.dir(), "git log --format=%H")?;
    mount.start_cold()?;
    let safe = "git config --global --add safe.directory '*' || true; ";
    shell(
        mount.dir(),
        &format!("export HOME=$(mktemp -d); {safe} git fsck --strict"),
    )?;
    let status = shell(mount.dir(), "git status --porcelain")?;
    ensure!(status.is_empty(), "git sees changes after a new start: {status}");
    ensure!(shell(mount.dir(), "git log --format=%H")? == history, "another history");
    Ok(())
}

#[test]
fn git_works_on_ministack() -> Result<()> {
    git_works(&Store::ministack()?)
}

#[test]
fn git_works_on_a_folder_store() -> Result<()> {
    git_works(&Store::folder()?)
}

/// Archive mode with hard links and attributes; a second run must find nothing left to copy.
fn rsync(from: &Path, to: &Path) -> Result<()> {
    let copy = |flags: &str| shell(from, &format!("rsync {flags} -aHAX --delete ./ '{}/'", to.display()));
    copy("")?;
    let left = copy("-i --checksum --dry-run")?;
    ensure!(left.is_empty(), "rsync would copy again: {left}");
    Ok(())
}

#[test]
fn rsync_in_and_out_loses_nothing() -> Result<()> {
    let (origin, back) = (scratch::folder("origin")?, scratch::folder("back")?);
    let files = vault::generate(60, 3);
    vault::write_to(&files, &origin)?;
    std::fs::create_dir_all(origin.join("new"))?;
    change_everything(&origin, &files)?;
    let mut mount = Mount::start(&Store::weed()?)?;
    rsync(&origin, mount.dir())?;
    mount.start_cold()?;
    rsync(mount.dir(), &back)?;
    Tree::read(&origin)?.assert_same(&Tree::read(&back)?, "in, cold, and out again")
}

#[test]
fn a_cold_walk_asks_nothing_for_each_note() -> Result<()> {
    let store = Store::ministack()?;
    let (mut mount, _) = adopted(&store, 200)?;
    std::fs::write(mount.path("hint.md"), "one of ours")?;
    mount.drain()?;
    mount.unmount()?;
    mount.wipe_cache()?;
    let proxy = notefs_tests::Proxy::start(store.client()?.address)?;
    mount.set_store(&store.via(proxy.address())?);
    mount.remount()?;
    shell(mount.dir(), "find . -type f -size -100M -printf '%m %TY %p\\n' | wc -l")?;
    let asked = proxy.count(notefs_tests::Class::Head);
    ensure!(asked < 100, "{asked} HEAD requests for a walk of 204 files");
    Ok(())
}

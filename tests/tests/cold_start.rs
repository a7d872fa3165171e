//! Everything that a local disk keeps is there after the cache is deleted and the bucket mounted again, and on a second
//! machine: rsync and tar, which know a file system's small print, find nothing to do.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::{Mount, PATIENCE, Store, scratch, sys, wait_until};

/// A tree that has everything: every kind of file, every bit of a mode, times of three centuries, all namespaces of
/// extended attributes that root may set, odd names, holes, and folders whose own attributes are set last.
const EVERYTHING: &str = r#"
mkdir -p notes/deep/er empty/of/files 'sticky' 'shared' closed
printf 'a note\n' > notes/plain.md; printf 'x' > notes/deep/er/x.md; : > notes/empty.md
head -c 300000 /dev/urandom > notes/large.bin
truncate -s 5M notes/sparse.bin; printf 'middle' | dd of=notes/sparse.bin bs=1 seek=3000000 conv=notrunc status=none
printf '#!/bin/sh\n' > notes/setuid; chmod 4755 notes/setuid
printf '#!/bin/sh\n' > notes/setgid; chmod 2755 notes/setgid
printf 'secret' > notes/secret.md; chmod 0400 notes/secret.md; : > notes/none; chmod 0 notes/none
chown 1234:4321 notes/plain.md; chown -h 7:8 notes/deep/er
ln notes/plain.md notes/deep/second-name.md; ln notes/plain.md third-name.md; ln notes/large.bin notes/deep/large.bin
ln -s plain.md notes/link; ln -s ../nowhere 'notes/dangling link'; ln -s "$(printf 'y%.0s' $(seq 3000))" notes/long-link
chown -h 11:12 notes/link; touch -h -d '2001-02-03 04:05:06.123456789 UTC' notes/link
mkfifo -m 0620 notes/fifo; mknod notes/null c 1 3; mknod notes/loop b 7 0; chmod 0660 notes/loop
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("notes/socket")'
ln notes/fifo notes/deep/same-fifo; ln -P notes/link notes/deep/same-link
printf 'n' > "$(printf 'n%.0s' $(seq 255))"; printf 'b' > $'not utf-8 \xff\xfe'; printf 'c' > $'control \x01\n\t'; printf 'p' > '100% %41'
printf 'nfc' > $'\u00e9.md'; printf 'nfd' > $'e\u0301.md'; printf 's' > ' leading and trailing '; printf 'w' > 'back\slash'
setfattr -n user.comment -v 'on a file' notes/plain.md; setfattr -n user.binary -v 0x00ff0a3d notes/large.bin
setfattr -n trusted.note -v 'root only' notes/secret.md; setfattr -n security.note -v label notes/empty.md
setfattr -n user.folder -v 'on a folder' notes/deep; setfattr -n user.empty empty/of/files; setfattr -n trusted.root -v r .
setfattr -h -n trusted.link -v l notes/link; setfattr -n trusted.fifo -v f notes/fifo
touch -d '1960-05-06 07:08:09.5 UTC' notes/secret.md; touch -d '1969-12-31 23:59:59.999999999 UTC' notes/empty.md
touch -d '2100-01-01 00:00:00.000000001 UTC' notes/plain.md; touch -d '1970-01-01 UTC' notes/none
touch -d '1999-09-09 09:09:09.009 UTC' notes/fifo notes/null notes/socket notes/loop
touch -h -d '2003-03-03 03:03:03.033 UTC' 'notes/dangling link' notes/long-link
chmod 1777 sticky; chmod 2770 shared; chown 0:4321 shared; chmod 0700 empty/of/files; chmod 0500 closed
touch -d '1955-01-01 UTC' sticky; touch -d '2099-12-31 23:59:59.000000009 UTC' empty/of/files
touch -d '2005-05-05 05:05:05.555555555 UTC' empty/of empty notes/deep/er notes/deep closed
touch -d '2006-06-06 06:06:06.666666666 UTC' notes shared
chmod 0751 .; chown 3:4 .; touch -d '2007-07-07 07:07:07.777777777 UTC' .
"#;

/// Every name with all that `find` can say of it; a folder's size is the file system's own affair.
fn facts(dir: &Path) -> Result<String> {
    let common = r"%p\t%y %m %U:%G links %n, %T@";
    shell(
        dir,
        &format!(
            "{{ find . -type d -printf '{common}\\0'; find . ! -type d -printf '{common}, %s bytes -> %l\\0'; }} \
             | LC_ALL=C sort -z | tr '\\0' '\\n'"
        ),
    )
}

/// Fails with what rsync, tar and find see differently.
fn looks_the_same(origin: &Path, archive: &Path, mounted: &Path, when: &str) -> Result<()> {
    let (expected, seen) = (facts(origin)?, facts(mounted)?);
    let differences: Vec<&str> = expected
        .lines()
        .filter(|line| !seen.contains(line))
        .chain(seen.lines().filter(|line| !expected.contains(line)))
        .collect();
    ensure!(differences.is_empty(), "{when}: find sees\n{}", differences.join("\n"));
    let rsync = format!(
        "rsync -n -i --checksum -aHAX --numeric-ids --delete ./ '{}/'",
        mounted.display()
    );
    let left = shell(origin, &rsync)?;
    ensure!(left.is_empty(), "{when}: rsync would copy\n{left}");
    let tar = format!(
        "tar --compare --numeric-owner --xattrs --file '{}' 2>&1",
        archive.display()
    );
    let told = shell(mounted, &tar)?;
    ensure!(told.is_empty(), "{when}: tar sees\n{told}");
    let xattrs = "getfattr -R -h -d -m - -e hex --absolute-names . | LC_ALL=C sort";
    let (expected, seen) = (shell(origin, xattrs)?, shell(mounted, xattrs)?);
    ensure!(expected == seen, "{when}: attributes were\n{expected}\nand are\n{seen}");
    Ok(())
}

/// A folder's link count grows while its names are learnt, and a mount may answer before they all are.
fn await_folders(links: u64, mounted: &Path) -> Result<()> {
    std::fs::read_dir(mounted)?.try_for_each(|entry| entry.map(drop))?;
    wait_until("count of folders", PATIENCE, || match mounted.metadata() {
        Ok(meta) if meta.nlink() == links => Ok(()),
        other => Err(format!("{:?}", other.map(|meta| meta.nlink()))),
    })
}

fn made() -> Result<(PathBuf, PathBuf)> {
    let origin = scratch::folder("origin")?.join("tree");
    std::fs::create_dir(&origin)?;
    shell(&origin, EVERYTHING)?;
    let archive = scratch::folder("archive")?.join("tree.tar");
    // Sockets cannot be archived, and tar says so.
    let pack = format!(
        "tar --create --numeric-owner --xattrs --sparse --exclude ./notes/socket --file '{}' .",
        archive.display()
    );
    shell(&origin, &pack)?;
    Ok((origin, archive))
}

fn keeps_everything(store: &Store) -> Result<()> {
    let (origin, archive) = made()?;
    let links = origin.metadata()?.nlink();
    let mut mount = Mount::start(store)?;
    let copy = format!("rsync -aHAX --numeric-ids --sparse ./ '{}/'", mount.dir().display());
    shell(&origin, &copy)?;
    looks_the_same(&origin, &archive, mount.dir(), "warm")?;
    mount.drain()?;
    looks_the_same(&origin, &archive, mount.dir(), "drained")?;
    mount.start_cold()?;
    await_folders(links, mount.dir())?;
    looks_the_same(&origin, &archive, mount.dir(), "after a cold start")?;
    mount.kill9();
    mount.remount()?;
    looks_the_same(&origin, &archive, mount.dir(), "after a kill")?;
    let second = Mount::start(store)?;
    await_folders(links, second.dir())?;
    looks_the_same(&origin, &archive, second.dir(), "on a second machine")
}

#[test]
fn everything_is_kept_on_ministack() -> Result<()> {
    keeps_everything(&Store::ministack()?)
}

#[test]
fn everything_is_kept_on_weed() -> Result<()> {
    keeps_everything(&Store::weed()?)
}

#[test]
fn everything_is_kept_on_a_folder_store() -> Result<()> {
    keeps_everything(&Store::folder()?)
}

#[test]
fn a_folders_time_is_kept_after_names_came_and_went() -> Result<()> {
    let mut mount = Mount::start(&Store::ministack()?)?;
    shell(mount.dir(), "mkdir -p a/b c; echo 1 > a/b/kept.md; echo 2 > a/gone.md")?;
    mount.drain()?;
    // Nothing of this is ever uploaded, and still it changes the folders' times.
    shell(
        mount.dir(),
        "touch a/b/tmp c/tmp tmp; rm a/b/tmp c/tmp tmp; rm a/gone.md; mv a/b/kept.md a/b/moved.md",
    )?;
    let (before, links) = (facts(mount.dir())?, mount.dir().metadata()?.nlink());
    mount.start_cold()?;
    await_folders(links, mount.dir())?;
    let now = facts(mount.dir())?;
    ensure!(before == now, "before\n{before}\nafter a cold start\n{now}");
    Ok(())
}

#[test]
fn the_roots_own_attributes_are_kept() -> Result<()> {
    let mut mount = Mount::start(&Store::folder()?)?;
    std::fs::write(mount.path("note.md"), "x")?;
    shell(
        mount.dir(),
        "chmod 1750 .; chown 5:6 .; setfattr -n user.vault -v mine .",
    )?;
    sys::set_times(mount.dir(), -1_000_000_000, 5)?;
    for again in 1..=2 {
        mount.start_cold()?;
        let told = shell(
            mount.dir(),
            "stat -c '%a %u:%g %.9Y' .; getfattr --only-values -n user.vault .",
        )?;
        ensure!(
            told == "1750 5:6 -1000000000.000000005\nmine" || told == "1750 5:6 -999999999.999999995\nmine",
            "cold start {again}: {told}"
        );
        // A mount that only looks must not make others forget.
        ensure!(std::fs::read(mount.path("note.md"))? == b"x", "content differs");
    }
    Ok(())
}

//! What programs expect of a local file system, on a real mount.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use notefs_tests::mount::scaled;
use notefs_tests::process::shell;
use notefs_tests::tree::Tree;
use notefs_tests::{Mount, Store, sys};

fn mounted() -> Result<Mount> {
    Mount::start(&Store::folder()?)
}

fn read_write(path: PathBuf) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

#[test]
fn an_unlinked_file_lives_until_its_last_close() -> Result<()> {
    let mount = mounted()?;
    let path = mount.path("gone.md");
    let mut file = read_write(path.clone())?;
    file.write_all(b"before ")?;
    std::fs::remove_file(&path)?;
    ensure!(
        file.metadata()?.nlink() == 0,
        "an unlinked file has {} names",
        file.metadata()?.nlink()
    );
    file.write_all(b"after")?;
    std::fs::write(&path, "a new file of that name")?;
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    ensure!(text == "before after", "the unlinked file shows {text:?}");
    ensure!(
        std::fs::read_to_string(&path)? == "a new file of that name",
        "the new file was written to"
    );
    std::fs::create_dir(mount.path("d"))?;
    let inner = File::create(mount.path("d/f"))?;
    std::fs::remove_file(mount.path("d/f"))?;
    std::fs::remove_dir(mount.path("d")).context("a folder whose only file is unlinked but open")?;
    drop(inner);
    Ok(())
}

#[test]
fn renames_replace_exchange_and_refuse() -> Result<()> {
    let mount = mounted()?;
    let (one, two) = (mount.path("one"), mount.path("two"));
    std::fs::write(&one, "1")?;
    std::fs::write(&two, "2")?;
    let refused = sys::rename_with(&one, &two, libc::RENAME_NOREPLACE);
    ensure!(sys::errno(&refused) == libc::EEXIST, "NOREPLACE gave {refused:?}");
    sys::rename_with(&one, &two, libc::RENAME_EXCHANGE).context("EXCHANGE")?;
    ensure!(
        std::fs::read(&one)? == b"2" && std::fs::read(&two)? == b"1",
        "EXCHANGE lost a file"
    );
    let open = File::open(&two)?;
    std::fs::rename(&one, &two)?;
    ensure!(
        std::fs::read(&two)? == b"2" && !one.exists(),
        "a rename did not replace"
    );
    let mut old = [0];
    open.read_at(&mut old, 0)?;
    ensure!(&old == b"1", "a reader of the replaced file sees the new one");
    shell(mount.dir(), "mkdir -p full/x empty from/y")?;
    let path = |below: &str| mount.path(below);
    let onto_full = std::fs::rename(path("from"), path("full"));
    ensure!(
        sys::errno(&onto_full) == libc::ENOTEMPTY,
        "a folder onto a full one gave {onto_full:?}"
    );
    std::fs::rename(path("from"), path("empty")).context("a folder onto an empty one")?;
    let into_itself = std::fs::rename(path("empty"), path("empty/y/z"));
    ensure!(
        sys::errno(&into_itself) == libc::EINVAL,
        "a folder into itself gave {into_itself:?}"
    );
    let onto_file = std::fs::rename(path("empty"), path("two"));
    ensure!(
        sys::errno(&onto_file) == libc::ENOTDIR,
        "a folder onto a file gave {onto_file:?}"
    );
    let onto_folder = std::fs::rename(path("two"), path("empty"));
    ensure!(
        sys::errno(&onto_folder) == libc::EISDIR,
        "a file onto a folder gave {onto_folder:?}"
    );
    Ok(())
}

#[test]
fn readers_of_a_replaced_file_see_old_or_new() -> Result<()> {
    let mount = mounted()?;
    let path = mount.path("note.md");
    std::fs::write(&path, "v0 ".repeat(2_000))?;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<usize> {
            let mut reads = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) || reads == 0 {
                let text = std::fs::read_to_string(&path).context("a replaced file vanished")?;
                let first = text.get(..3).context("a reader saw an empty file")?.to_owned();
                ensure!(text == first.repeat(2_000), "a reader saw two versions mixed");
                reads += 1;
            }
            Ok(reads)
        });
        for number in 1..100 {
            let temporary = mount.path("note.tmp");
            std::fs::write(&temporary, format!("v{} ", number % 10).repeat(2_000))?;
            std::fs::rename(&temporary, &path)?;
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        reader
            .join()
            .map_err(|_| anyhow::anyhow!("the reader panicked"))?
            .map(drop)
    })
}

#[test]
fn appends_of_several_writers_are_all_kept() -> Result<()> {
    let mount = mounted()?;
    let path = mount.path("log.md");
    std::thread::scope(|scope| {
        let append = |writer: usize| {
            let path = path.clone();
            move || -> Result<()> {
                let mut file = OpenOptions::new().append(true).create(true).open(path)?;
                (0..100).try_for_each(|number| {
                    Ok(file.write_all(format!("writer {writer} line {number:03}\n").as_bytes())?)
                })
            }
        };
        let writers: Vec<_> = (0..4).map(|writer| scope.spawn(append(writer))).collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().map_err(|_| anyhow::anyhow!("panicked"))?)
    })?;
    let text = std::fs::read_to_string(&path)?;
    let lines: std::collections::BTreeSet<_> = text.lines().collect();
    ensure!(
        text.lines().count() == 400 && lines.len() == 400,
        "{} lines, {} different",
        text.lines().count(),
        lines.len()
    );
    Ok(())
}

#[test]
fn shared_mappings_write_to_the_file() -> Result<()> {
    let mut mount = Mount::start(&Store::ministack()?)?;
    let file = read_write(mount.path("mapped.bin"))?;
    file.set_len(300_000)?;
    let mut mapping = sys::Mapping::new(&file, 300_000)?;
    mapping.bytes()[250_000..250_006].copy_from_slice(b"mapped");
    mapping.sync()?;
    let mut seen = [0; 6];
    File::open(mount.path("mapped.bin"))?.read_at(&mut seen, 250_000)?;
    ensure!(&seen == b"mapped", "a reader sees {seen:?}");
    mapping.bytes()[0] = b'!';
    drop(mapping);
    drop(file);
    mount.start_cold()?;
    let bytes = std::fs::read(mount.path("mapped.bin"))?;
    ensure!(
        bytes.len() == 300_000 && bytes[0] == b'!' && &bytes[250_000..250_006] == b"mapped",
        "lost after a cold start"
    );
    Ok(())
}

#[test]
fn ranges_are_allocated_punched_and_found() -> Result<()> {
    let mount = mounted()?;
    let file = read_write(mount.path("ranges.bin"))?;
    sys::fallocate(&file, 0, 0, 200_000).context("fallocate")?;
    ensure!(
        file.metadata()?.len() == 200_000,
        "allocated {} bytes",
        file.metadata()?.len()
    );
    sys::fallocate(&file, libc::FALLOC_FL_KEEP_SIZE, 200_000, 100_000).context("fallocate, keeping the size")?;
    ensure!(file.metadata()?.len() == 200_000, "the size was not kept");
    file.write_all_at(&[7; 100_000], 50_000)?;
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    sys::fallocate(&file, punch, 60_000, 1_000).context("punch a hole")?;
    let mut bytes = vec![1; 3_000];
    file.read_exact_at(&mut bytes, 59_000)?;
    let expected = [vec![7; 1_000], vec![0; 1_000], vec![7; 1_000]].concat();
    ensure!(bytes == expected, "the hole is not where it was punched");
    let sparse = read_write(mount.path("sparse.bin"))?;
    sparse.write_all_at(b"end", 1_000_000)?;
    ensure!(
        sys::seek(&sparse, 0, libc::SEEK_HOLE)? <= 1_000_003,
        "no hole, not even at the end"
    );
    let data = sys::seek(&sparse, 0, libc::SEEK_DATA)?;
    ensure!(data <= 1_000_000, "data is said to begin at {data}");
    let past = sys::seek(&sparse, 2_000_000, libc::SEEK_DATA);
    ensure!(sys::errno(&past) == libc::ENXIO, "beyond the end: {past:?}");
    Ok(())
}

#[test]
fn copy_file_range_copies() -> Result<()> {
    let mount = mounted()?;
    let bytes: Vec<u8> = (0..500_000_u32).map(|byte| (byte / 3) as u8).collect();
    std::fs::write(mount.path("from.bin"), &bytes)?;
    let (from, to) = (File::open(mount.path("from.bin"))?, File::create(mount.path("to.bin"))?);
    let mut copied = 0;
    while copied < bytes.len() {
        match sys::copy_range(&from, &to, bytes.len() - copied)? {
            0 => break,
            more => copied += more,
        }
    }
    ensure!(
        std::fs::read(mount.path("to.bin"))? == bytes,
        "the copy differs after {copied} bytes"
    );
    std::fs::remove_file(mount.path("from.bin"))?;
    ensure!(
        std::fs::read(mount.path("to.bin"))? == bytes,
        "the copy depends on the removed original"
    );
    Ok(())
}

#[test]
fn extended_attributes_are_kept() -> Result<()> {
    let mut mount = Mount::start(&Store::ministack()?)?;
    std::fs::write(mount.path("note.md"), "x")?;
    let path = mount.path("note.md");
    sys::set_xattr(&path, "user.one", b"1", 0)?;
    sys::set_xattr(&path, "user.binary", &[0, 255, 10, 61], 0)?;
    sys::set_xattr(&path, "user.empty", b"", 0)?;
    let again = sys::set_xattr(&path, "user.one", b"2", libc::XATTR_CREATE);
    ensure!(
        sys::errno(&again) == libc::EEXIST,
        "XATTR_CREATE on an existing one: {again:?}"
    );
    let missing = sys::set_xattr(&path, "user.none", b"2", libc::XATTR_REPLACE);
    ensure!(
        sys::errno(&missing) == libc::ENODATA,
        "XATTR_REPLACE on a missing one: {missing:?}"
    );
    sys::set_xattr(&path, "user.gone", b"x", 0)?;
    sys::remove_xattr(&path, "user.gone")?;
    mount.start_cold()?;
    let names = sys::list_xattrs(&path)?;
    for (name, value) in [
        ("user.one", b"1".as_slice()),
        ("user.binary", &[0, 255, 10, 61]),
        ("user.empty", b""),
    ] {
        let now = sys::get_xattr(&path, name).with_context(|| format!("{name} among {names:?}"))?;
        ensure!(now == value, "{name} is {now:?} after a cold start");
    }
    let gone = sys::get_xattr(&path, "user.gone");
    ensure!(sys::errno(&gone) == libc::ENODATA, "a removed attribute: {gone:?}");
    Ok(())
}

#[test]
fn a_listing_is_exact_while_its_names_are_deleted() -> Result<()> {
    let mount = mounted()?;
    std::fs::create_dir(mount.path("many"))?;
    let names: std::collections::BTreeSet<_> = (0..scaled(10_000)).map(|number| format!("note-{number:05}")).collect();
    for name in &names {
        File::create(mount.path("many").join(name))?;
    }
    let mut seen = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(mount.path("many"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        std::fs::remove_file(mount.path("many").join(&name))?;
        ensure!(seen.insert(name.clone()), "{name} was listed twice");
    }
    ensure!(seen == names, "{} of {} names were listed", seen.len(), names.len());
    std::fs::remove_dir(mount.path("many")).context("the emptied folder")
}

#[test]
fn the_file_system_tells_its_size() -> Result<()> {
    let mount = mounted()?;
    let answer = sys::stat_fs(mount.dir())?;
    ensure!(
        answer.f_blocks > 0 && answer.f_bavail > 0 && answer.f_namelen == 255,
        "{answer:?}"
    );
    shell(mount.dir(), "df . >/dev/null; df -i . >/dev/null")?;
    Ok(())
}

#[test]
fn direct_io_and_synchronous_writes_work() -> Result<()> {
    let mount = mounted()?;
    shell(
        mount.dir(),
        "dd if=/dev/zero of=direct.bin bs=4096 count=8 oflag=direct status=none",
    )?;
    shell(
        mount.dir(),
        "dd if=direct.bin of=/dev/null bs=4096 iflag=direct status=none",
    )?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .custom_flags(libc::O_SYNC)
        .open(mount.path("sync"))?;
    file.write_all(b"synchronous")?;
    ensure!(
        mount.path("direct.bin").metadata()?.len() == 32_768,
        "direct writes are missing"
    );
    File::open(mount.dir())?.sync_all().context("fsync of a folder")
}

#[test]
fn special_files_and_links_are_kept() -> Result<()> {
    let mut mount = Mount::start(&Store::ministack()?)?;
    sys::make_node(&mount.path("fifo"), libc::S_IFIFO | 0o640, 0)?;
    sys::make_node(&mount.path("socket"), libc::S_IFSOCK | 0o600, 0)?;
    sys::make_node(&mount.path("device"), libc::S_IFCHR | 0o666, libc::makedev(1, 3)).context("device (needs root)")?;
    symlink("x".repeat(1_000), mount.path("long link"))?;
    std::fs::write(mount.path("first"), "linked")?;
    std::fs::hard_link(mount.path("first"), mount.path("second"))?;
    std::fs::write(mount.path("second"), "through the other name")?;
    ensure!(
        std::fs::read_to_string(mount.path("first"))? == "through the other name",
        "hard links differ"
    );
    ensure!(
        mount.path("first").metadata()?.nlink() == 2,
        "two names, but {} links",
        mount.path("first").metadata()?.nlink()
    );
    let before = Tree::read(mount.dir())?;
    mount.start_cold()?;
    before.assert_same(&Tree::read(mount.dir())?, "special files after a cold start")?;
    ensure!(
        mount.path("fifo").symlink_metadata()?.file_type().is_fifo(),
        "no fifo any more"
    );
    Ok(())
}

fn sqlite_works(journal: &str) -> Result<()> {
    let mut mount = Mount::start(&Store::folder()?)?;
    let sql = |text: &str| {
        shell(
            mount.dir(),
            &format!("sqlite3 -cmd '.timeout 60000' notes.db \"{text}\""),
        )
    };
    sql(&format!(
        "pragma journal_mode={journal}; create table t(writer, number)"
    ))?;
    let insert = |writer: usize| {
        let line = format!("insert into t values({writer}, 1);\\n");
        format!("(for i in $(seq 50); do printf '{line}'; done | sqlite3 -cmd '.timeout 60000' notes.db) & ")
    };
    let script: String = (0..3).map(insert).collect();
    shell(mount.dir(), &format!("{script} wait"))?;
    ensure!(
        sql("select count(*) from t; pragma integrity_check")? == "150\nok\n",
        "rows: {}",
        sql("select count(*) from t")?
    );
    mount.start_cold()?;
    let told = shell(
        mount.dir(),
        "sqlite3 notes.db 'select count(*) from t; pragma integrity_check'",
    )?;
    ensure!(told == "150\nok\n", "after a cold start: {told}");
    Ok(())
}

#[test]
fn sqlite_works_in_wal_mode() -> Result<()> {
    sqlite_works("wal")
}

#[test]
fn sqlite_works_in_delete_mode() -> Result<()> {
    sqlite_works("delete")
}

#[test]
fn a_big_sparse_file_is_kept() -> Result<()> {
    let mut mount = Mount::start(&Store::folder()?)?;
    let file = read_write(mount.path("big.bin"))?;
    file.write_all_at(b"start", 0)?;
    file.write_all_at(b"middle", 40_000_000)?;
    file.set_len(64 << 20)?;
    drop(file);
    mount.start_cold()?;
    let file = read_write(mount.path("big.bin"))?;
    ensure!(
        file.metadata()?.len() == 64 << 20,
        "the size is {}",
        file.metadata()?.len()
    );
    let mut middle = [0; 8];
    file.read_exact_at(&mut middle, 39_999_999)?;
    ensure!(&middle == b"\0middle\0", "the middle is {middle:?}");
    file.set_len(3)?;
    drop(file);
    mount.start_cold()?;
    ensure!(
        std::fs::read(mount.path("big.bin"))? == b"sta",
        "a file truncated cold did not stay so"
    );
    Ok(())
}

#[test]
fn truncating_an_uncached_file_is_kept() -> Result<()> {
    let store = Store::ministack()?;
    store.put("cold.bin", &vec![9; 2_000_000])?;
    let mut mount = Mount::start(&store)?;
    read_write(mount.path("cold.bin"))?.set_len(1_500_000)?;
    mount.start_cold()?;
    ensure!(
        std::fs::read(mount.path("cold.bin"))? == vec![9; 1_500_000],
        "the truncation was lost or damaged the rest"
    );
    Ok(())
}

#[test]
fn permissions_are_checked_for_other_users() -> Result<()> {
    // The mount itself must be open to others for the kernel to ask about the file's permissions.
    let options = notefs_tests::MountOptions::args(&["--allow-other"]);
    let mount = Mount::start_with(&Store::folder()?, options)?;
    std::fs::write(mount.path("private.md"), "secret")?;
    std::fs::set_permissions(mount.path("private.md"), Permissions::from_mode(0o600))?;
    std::fs::write(mount.path("public.md"), "open")?;
    std::fs::set_permissions(mount.path("public.md"), Permissions::from_mode(0o644))?;
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    shell(mount.dir(), &format!("{nobody} cat public.md"))?;
    let denied = shell(mount.dir(), &format!("{nobody} cat private.md"));
    ensure!(denied.is_err(), "another user read a private note");
    let denied = shell(mount.dir(), &format!("{nobody} sh -c 'echo x > public.md'"));
    ensure!(denied.is_err(), "another user wrote to a note");
    Ok(())
}

#[test]
fn times_follow_the_changes() -> Result<()> {
    let mount = mounted()?;
    let path = mount.path("note.md");
    std::fs::write(&path, "1")?;
    sys::set_times(&path, 1_000_000_000, 999_999_999)?;
    let set = path.metadata()?;
    ensure!(
        (set.mtime(), set.mtime_nsec()) == (1_000_000_000, 999_999_999),
        "the time set is not kept"
    );
    std::fs::set_permissions(&path, Permissions::from_mode(0o640))?;
    ensure!(
        path.metadata()?.mtime() == 1_000_000_000,
        "chmod changed the modification time"
    );
    ensure!(path.metadata()?.ctime() > 1_700_000_000, "chmod left the change time");
    OpenOptions::new().append(true).open(&path)?.write_all(b"2")?;
    ensure!(
        path.metadata()?.mtime() > 1_700_000_000,
        "a write left the modification time"
    );
    let parent = mount.dir().metadata()?;
    std::fs::write(mount.path("another.md"), "")?;
    let now = mount.dir().metadata()?;
    ensure!(
        (now.mtime(), now.mtime_nsec()) > (parent.mtime(), parent.mtime_nsec()),
        "the folder's time stood still"
    );
    Ok(())
}

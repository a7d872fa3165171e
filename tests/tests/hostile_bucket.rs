//! A bucket whose owner means harm: more keys than memory, objects larger than disks, metadata that no tool writes, symlinks that lead
//! out. The mount answers, its memory stays bounded, and nothing outside of the folder and the bucket is touched.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notefs_tests::endless::Endless;
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, scratch, wait_until};

/// What a mount may use at its peak, whatever its bucket holds.
const MEMORY_KIB_MAX: u64 = 384 << 10;

/// How long the mount of the endless bucket is watched.
const WATCHED_SECONDS: u64 = 20;

/// The most memory that a process has had.
fn peak_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn disk_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// Work goes on, and the daemon is the one that was there from the start.
#[allow(clippy::print_stdout, reason = "the figure belongs to the test's output")]
fn is_sound(mount: &Mount, pid: u32) -> Result<()> {
    let path = mount.path("written here.md");
    std::fs::write(&path, "work goes on")?;
    wait_until("stored note", PATIENCE, || match mount.state_of("written here.md") {
        Ok(state) if state == "stored" => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    ensure!(mount.pid()? == pid && std::fs::read(&path)? == b"work goes on");
    ensure!(!mount.log_tail().contains("panicked"), "{}", mount.log_tail());
    let peak = peak_kib(pid)?;
    println!("peak memory: {} MiB", peak >> 10);
    ensure!(peak < MEMORY_KIB_MAX, "{peak} KiB of memory\n{}", mount.log_tail());
    Ok(())
}

#[test]
fn ten_million_keys_cost_bounded_memory_and_the_mount_answers() -> Result<()> {
    let server = Endless::start(5_000, 5_000_000)?;
    let store = Store::s3(server.client())?;
    let mount = Mount::start(&store)?;
    let pid = mount.pid()?;
    let watched = Instant::now();
    let names = std::fs::read_dir(mount.dir())?.collect::<std::io::Result<Vec<_>>>()?;
    ensure!(names.len() == 5_001, "{} names in the root", names.len());
    // Somebody looks into the folder of five million; nobody else waits for that.
    let flat = mount.path("zflat");
    std::thread::spawn(move || std::fs::read_dir(flat).map(Iterator::count));
    let mut folder = 0;
    while watched.elapsed() < Duration::from_secs(WATCHED_SECONDS) {
        folder = (folder + 617) % 5_000;
        let names = std::fs::read_dir(mount.path(&format!("folder{folder:05}")))?;
        let names: BTreeSet<_> = names
            .collect::<std::io::Result<Vec<_>>>()?
            .iter()
            .map(std::fs::DirEntry::file_name)
            .collect();
        ensure!(names.len() == 1_000, "{} names in folder {folder}", names.len());
        let note = std::fs::read_to_string(mount.path(&format!("folder{folder:05}/note123.md")))?;
        ensure!(note == format!("# Note {}\n", folder * 1_000 + 123), "{note}");
    }
    println!("{} lines of listings sent", server.lines());
    ensure!(server.lines() > 25_000, "only {} lines were listed", server.lines());
    is_sound(&mount, pid)
}

#[test]
fn an_object_larger_than_the_disk_is_read_where_it_is_asked_for() -> Result<()> {
    const TEBIBYTES_5: u64 = 5 << 40;
    let server = Endless::start(0, 0)?;
    server.show("huge.bin", TEBIBYTES_5, &[], b"the beginning");
    server.show("huge.md", TEBIBYTES_5, &[], b"# A note of five tebibytes\n");
    server.show("absurd.bin", u64::MAX, &[], b"");
    server.show("negative.bin", 1 << 63, &[], b"");
    server.show("plain.md", 6, &[], b"plain\n");
    let mount = Mount::start(&Store::s3(server.client())?)?;
    let pid = mount.pid()?;
    let names = std::fs::read_dir(mount.dir())?.collect::<std::io::Result<Vec<_>>>()?;
    ensure!(names.len() >= 3, "{names:?}");
    let huge = std::fs::File::open(mount.path("huge.bin"))?;
    ensure!(huge.metadata()?.len() == TEBIBYTES_5);
    let mut bytes = [1; 13];
    huge.read_exact_at(&mut bytes, 0)?;
    ensure!(&bytes == b"the beginning");
    huge.read_exact_at(&mut bytes, TEBIBYTES_5 - 13)?;
    ensure!(bytes == [0; 13]);
    for name in ["absurd.bin", "negative.bin"] {
        // Shown or not, read or refused: nothing more comes of it.
        let read = std::fs::File::open(mount.path(name)).and_then(|file| file.read_at(&mut bytes, 0));
        println!("{name}: {read:?}");
    }
    ensure!(std::fs::read(mount.path("plain.md"))? == b"plain\n");
    is_sound(&mount, pid)?;
    let used = disk_bytes(mount.cache());
    ensure!(used < 1 << 30, "{used} bytes of cache");
    Ok(())
}

/// Metadata under which a server of honest people would break down itself.
fn bombs() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let long = |text: &str, count: usize| text.repeat(count);
    vec![
        (
            "times.md",
            vec![("x-amz-meta-mtime", "-999999999999999999.999999999".into())],
        ),
        ("late.md", vec![("x-amz-meta-mtime", "999999999999999999".into())]),
        (
            "nothing.md",
            vec![("x-amz-meta-mtime", String::new()), ("x-amz-meta-mode", String::new())],
        ),
        (
            "mode.md",
            vec![
                ("x-amz-meta-mode", "99999999999999999999".into()),
                ("x-amz-meta-uid", "-1".into()),
            ],
        ),
        ("folder.md", vec![("x-amz-meta-mode", "40777".into())]),
        (
            "base64.md",
            vec![("x-amz-meta-notefsxattrs", "*!!!=*???,user.%00=%zz,=,,=".into())],
        ),
        (
            "attributes.md",
            vec![("x-amz-meta-notefsxattrs", long("user.x=%41%41%41,", 2_000))],
        ),
        ("link id.md", vec![("x-amz-meta-notefslink", long("A", 30_000))]),
        ("write id.md", vec![("x-amz-meta-notefswrite", long("%FF", 10_000))]),
        (
            "empty link.md",
            vec![
                ("x-amz-meta-mode", "120777".into()),
                ("x-amz-meta-notefstarget", String::new()),
            ],
        ),
        (
            "long link.md",
            vec![
                ("x-amz-meta-mode", "120777".into()),
                ("x-amz-meta-notefstarget", long("a", 60_000)),
            ],
        ),
        (
            "null link.md",
            vec![
                ("x-amz-meta-mode", "120777".into()),
                ("x-amz-meta-notefstarget", "a%00b".into()),
            ],
        ),
        (
            "device.md",
            vec![
                ("x-amz-meta-mode", "60666".into()),
                ("x-amz-meta-rdev", "ffffffffffffffffff".into()),
            ],
        ),
    ]
}

#[test]
fn metadata_bombs_hurt_nobody() -> Result<()> {
    let server = Endless::start(0, 0)?;
    let names: Vec<&str> = bombs().iter().map(|(name, _)| *name).collect();
    for (name, headers) in bombs() {
        server.show(name, 5, &headers, b"bomb\n");
    }
    let many: Vec<(String, String)> = (0..90)
        .map(|number| (format!("x-amz-meta-junk{number}"), "j".repeat(300)))
        .collect();
    let many: Vec<(&str, String)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    server.show("many.md", 5, &many, b"bomb\n");
    // A symlink whose target would be its content, which is as large as a disk.
    server.show(
        "endless link",
        5 << 40,
        &[("x-amz-meta-mode", "120777".into())],
        b"/etc/passwd\0",
    );
    // What notefs believes of other notefs machines.
    server.show(".notefs/hints/evil", 5 << 40, &[], b"{\"k\":\"a\"}\n");
    server.show(
        ".notefs/hints/evil2",
        40 << 20,
        &[],
        "{\"k\":\"x\",\"e\":\"\",\"m\":{}}\n".repeat(10_000).as_bytes(),
    );
    server.show(".notefs/feed/evil", 5 << 40, &[], b"{}\n");
    server.show("plain.md", 6, &[], b"plain\n");
    let mount = Mount::start(&Store::s3(server.client())?)?;
    let pid = mount.pid()?;
    let shown: BTreeSet<String> = std::fs::read_dir(mount.dir())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    for name in names.iter().chain(&["plain.md", "many.md", "endless link"]) {
        ensure!(shown.contains(*name), "{name} is not shown: {shown:?}");
        let seen = std::fs::symlink_metadata(mount.path(name));
        println!(
            "{name}: {:?}",
            seen.as_ref()
                .map(|metadata| (metadata.mode(), metadata.mtime(), metadata.len()))
        );
        let metadata = seen.with_context(|| (*name).to_owned())?;
        if metadata.is_file() && metadata.len() == 5 {
            ensure!(std::fs::read(mount.path(name))? == b"bomb\n", "{name} cannot be read");
        }
    }
    ensure!(std::fs::read(mount.path("plain.md"))? == b"plain\n");
    wait_until("indexed note", PATIENCE, || match mount.search("plain") {
        Ok(found) if found == ["plain.md"] => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    is_sound(&mount, pid)
}

#[test]
fn symlinks_are_data_and_never_followed() -> Result<()> {
    let outside = scratch::folder("outside")?;
    std::fs::write(outside.join("secret.md"), "# wordofhost\n")?;
    let store = Store::ministack()?;
    let mut mount = Mount::start(&store)?;
    std::os::unix::fs::symlink(outside.join("secret.md"), mount.path("link.md"))?;
    std::os::unix::fs::symlink(&outside, mount.path("folder"))?;
    std::os::unix::fs::symlink("/etc", mount.path("etc"))?;
    mount.start_cold()?;
    // Keys below the name of a symlink: its owner would have notefs write through it.
    mount.drain()?;
    mount.unmount()?;
    store.put("folder/planted.md", b"planted")?;
    store.put("etc/planted.md", b"planted")?;
    mount.wipe_cache()?;
    mount.remount()?;
    ensure!(std::fs::read_link(mount.path("link.md"))? == outside.join("secret.md"));
    let names: Vec<_> = std::fs::read_dir(mount.dir())?.collect::<std::io::Result<Vec<_>>>()?;
    println!("shown: {names:?}");
    let dir = mount.dir().display().to_string();
    mount.notefs().output(&["index", "rebuild", &dir])?;
    let checked = mount.notefs().run(&["check", &dir])?;
    ensure!(checked.code() == 0, "{}{}", checked.stdout, checked.stderr);
    let found = mount.search("wordofhost")?;
    ensure!(found.is_empty(), "the index followed a symlink: {found:?}");
    mount.drain()?;
    let left: Vec<_> = std::fs::read_dir(&outside)?.collect::<std::io::Result<Vec<_>>>()?;
    ensure!(left.len() == 1, "notefs wrote through a symlink: {left:?}");
    ensure!(!Path::new("/etc/planted.md").exists());
    for key in store.all_keys()? {
        let bytes = store.get(&key)?.unwrap_or_default();
        let copied = bytes.windows(10).any(|part| part == b"wordofhost");
        ensure!(!copied, "{key} holds what a symlink leads to");
    }
    Ok(())
}

/// A folder store in which somebody else made links: what lies behind them is neither shown nor written to.
#[test]
fn links_in_a_folder_store_lead_nowhere() -> Result<()> {
    let outside = scratch::folder("outside")?;
    std::fs::write(outside.join("secret.md"), "wordofhost")?;
    let store = Store::folder()?;
    let folder = Path::new(store.url.trim_start_matches("fs://"));
    std::os::unix::fs::symlink(&outside, folder.join("out"))?;
    std::os::unix::fs::symlink(outside.join("secret.md"), folder.join("file.md"))?;
    let mount = Mount::start_with(&store, MountOptions::args(&["--write-back", "50ms"]))?;
    ensure!(std::fs::read_dir(mount.dir())?.count() == 0, "a link is shown");
    ensure!(
        std::fs::read(mount.path("out/secret.md")).is_err(),
        "a link was followed"
    );
    std::fs::create_dir(mount.path("out"))?;
    std::fs::write(mount.path("out/secret.md"), "mine")?;
    std::fs::write(mount.path("out/new.md"), "mine")?;
    std::fs::write(mount.path("file.md"), "mine")?;
    let synced = mount
        .notefs()
        .run(&["sync", &mount.dir().display().to_string(), "--timeout", "5s"])?;
    println!("sync: exit {}: {}", synced.code(), synced.stderr);
    ensure!(std::fs::read_dir(&outside)?.count() == 1, "notefs wrote through a link");
    ensure!(
        std::fs::read(outside.join("secret.md"))? == b"wordofhost",
        "notefs wrote through a link"
    );
    ensure!(std::fs::read(mount.path("out/new.md"))? == b"mine");
    Ok(())
}

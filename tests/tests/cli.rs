//! The command line keeps its word: exit codes, one clear sentence for each mistake, and nothing half done.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use notefs_tests::{Mount, MountOptions, Notefs, PATIENCE, Store, scratch, sys, wait_until};

/// A user with an empty folder to mount on.
fn user(store: &Store) -> Result<(Notefs, PathBuf, String)> {
    let home = scratch::folder("user")?;
    let dir = home.join("notes");
    std::fs::create_dir(&dir)?;
    let shown = dir.display().to_string();
    Ok((Notefs::new(&home, &store.env), dir, shown))
}

#[test]
fn wrong_usage_is_exit_code_2() -> Result<()> {
    let (notefs, _, _) = user(&Store::folder()?)?;
    for args in [
        &["mount"][..],
        &["no-such-command"],
        &["mount", "--no-such-option", "x"],
        &["search"],
        &["search", "x", "--limit", "0"],
        &["context"],
        &["query"],
        &["graph", "--format", "gif"],
        &["graph", "--depth", "2"],
        &[],
    ] {
        let words = notefs.failure(args, 2)?;
        let helps = ["usage", "missing", "--help"]
            .iter()
            .any(|word| words.to_lowercase().contains(word));
        ensure!(helps, "{args:?} does not say how to use it: {words}");
    }
    Ok(())
}

#[test]
fn every_command_has_help_with_examples() -> Result<()> {
    let (notefs, _, _) = user(&Store::folder()?)?;
    let version = notefs.output(&["--version"])?;
    ensure!(version.starts_with("notefs 0."), "version: {version}");
    for command in [
        "mount",
        "unmount",
        "status",
        "sync",
        "search",
        "backlinks",
        "tags",
        "context",
        "orphans",
        "unresolved",
        "recent",
        "graph",
        "query",
        "index rebuild",
        "trash ls",
        "trash restore",
        "doctor",
        "check",
    ] {
        let help = notefs.output(&command.split(' ').chain(["--help"]).collect::<Vec<_>>())?;
        ensure!(
            help.contains("xample"),
            "'notefs {command} --help' has no example: {help}"
        );
        ensure!(
            help.contains(&format!("notefs {command}")),
            "the example does not show {command}: {help}"
        );
    }
    Ok(())
}

/// A mistake in the store is told in a sentence that names it, and mounts nothing.
fn refuses(store: &Store, url: &str, words: &[&str]) -> Result<()> {
    let (notefs, dir, shown) = user(store)?;
    // An address that is none is wrong usage; one that leads nowhere is a failure.
    let finished = notefs.run(&["mount", url, &shown])?;
    ensure!(
        [1, 2].contains(&finished.code()),
        "{url}: exit {}: {}",
        finished.code(),
        finished.stderr
    );
    let told = finished.stderr;
    ensure!(!told.contains("panicked"), "{url}: {told}");
    let low = told.to_lowercase();
    ensure!(
        words.iter().any(|word| low.contains(word)),
        "{url}: {told:?} names none of {words:?}"
    );
    ensure!(
        told.trim().lines().count() <= 6,
        "{url}: not one clear sentence: {told}"
    );
    ensure!(!scratch::is_mounted(&dir), "{url}: mounted all the same");
    std::fs::write(dir.join("x"), "x").context("the folder was left unwritable after a refused mount")?;
    Ok(())
}

#[test]
fn a_wrong_bucket_is_named() -> Result<()> {
    for store in [Store::ministack()?, Store::weed()?] {
        let bucket = store.client()?.bucket.clone();
        refuses(
            &store,
            &store.url.replace(&bucket, "no-such-bucket"),
            &["no-such-bucket"],
        )?;
    }
    Ok(())
}

#[test]
fn a_wrong_secret_or_key_is_named() -> Result<()> {
    let store = Store::weed()?;
    for (name, value) in [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "nobody")] {
        let mut wrong = store.clone();
        wrong
            .env
            .iter_mut()
            .filter(|(given, _)| given == name)
            .for_each(|(_, given)| *given = value.into());
        refuses(&wrong, &store.url, &["secret", "access key", "credentials", "key"])?;
    }
    let mut none = store.clone();
    none.env = vec![("AWS_EC2_METADATA_DISABLED".into(), "true".into())];
    refuses(&none, &store.url, &["aws_access_key_id", "credentials"])
}

#[test]
fn a_wrong_endpoint_or_url_is_named() -> Result<()> {
    let store = Store::ministack()?;
    let port = notefs_tests::process::free_ports(1)?[0];
    let nobody = store.via(([127, 0, 0, 1], port).into())?;
    refuses(&store, &nobody.url, &[&port.to_string(), "endpoint", "reach"])?;
    refuses(&store, "s3://", &["bucket"])?;
    refuses(&store, "gopher://x/y", &["gopher"])?;
    refuses(&store, "fs:///no/such/folder/at/all", &["/no/such/folder"])?;
    refuses(&store, &format!("{}&colour=red", store.url), &["colour"])
}

#[test]
fn a_wrong_mount_point_is_named() -> Result<()> {
    let store = Store::folder()?;
    let (notefs, dir, shown) = user(&store)?;
    let file = dir.join("file");
    std::fs::write(&file, "")?;
    let told = notefs.failure(&["mount", &store.url, &file.display().to_string()], 1)?;
    ensure!(told.contains("file"), "a file as mount point: {told}");
    let told = notefs.failure(&["mount", &store.url, &shown], 1)?;
    ensure!(
        told.contains("empty") && file.exists(),
        "a folder with files in it as mount point: {told}"
    );
    notefs.failure(&["status", "/"], 1)?;
    notefs.failure(&["unmount", &shown], 1)?;
    Ok(())
}

#[test]
fn a_mount_in_the_background_answers_when_it_returns() -> Result<()> {
    let store = Store::ministack()?;
    store.put("a.md", b"adopted")?;
    let (notefs, dir, shown) = user(&store)?;
    notefs.output(&["mount", &store.url, &shown])?;
    let mounted = scratch::is_mounted(&dir);
    let check = || -> Result<()> {
        ensure!(mounted, "the command returned before the mount was there");
        ensure!(std::fs::read(dir.join("a.md"))? == b"adopted", "content differs");
        std::fs::write(dir.join("b.md"), "saved")?;
        let status = notefs.output(&["status"])?;
        ensure!(status.contains(&shown), "status does not know the mount: {status}");
        notefs.output(&["unmount", &shown])?;
        ensure!(!scratch::is_mounted(&dir), "still mounted");
        ensure!(
            store.get("b.md")?.as_deref() == Some(b"saved"),
            "unmounted before the note was stored"
        );
        ensure!(!dir.join("a.md").exists(), "notes are left in the folder underneath");
        Ok(())
    };
    let result = check();
    // A daemon in the background is no child of this test: unmounting ends it.
    if scratch::is_mounted(&dir) {
        notefs.run(&["unmount", &shown, "--timeout", "1s"]).ok();
        scratch::force_unmount(&dir);
    }
    result
}

/// While nothing is mounted there, nothing can be saved beside the vault (root is let through by the kernel unless the
/// folder is immutable, so it is another user who tries).
#[test]
fn the_folder_underneath_is_unwritable() -> Result<()> {
    let mut mount = Mount::start(&Store::folder()?)?;
    mount.kill9();
    scratch::force_unmount(mount.dir());
    let mode = std::fs::metadata(mount.dir())?.permissions().mode();
    let nobody = format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups touch '{}/x'",
        mount.dir().display()
    );
    let saved = notefs_tests::process::shell(std::path::Path::new("/"), &nobody);
    ensure!(
        saved.is_err() && mode & 0o222 == 0,
        "a crash left a writable folder underneath (mode {mode:o})"
    );
    mount.remount().context("mounting again on the unwritable folder")
}

#[test]
fn the_cache_is_private_and_has_one_daemon() -> Result<()> {
    let store = Store::folder()?;
    let mount = Mount::start(&store)?;
    let mode = std::fs::metadata(mount.cache())?.permissions().mode() & 0o777;
    ensure!(mode == 0o700, "the cache folder has mode {mode:o}");
    let (notefs, dir, shown) = user(&store)?;
    let cache = mount.cache().display().to_string();
    let told = notefs.failure(&["mount", &store.url, &shown, "--cache", &cache], 1)?;
    ensure!(
        told.contains(&cache) || told.contains(&mount.pid()?.to_string()),
        "who holds the cache? {told}"
    );
    ensure!(!scratch::is_mounted(&dir), "two daemons on one cache");
    std::fs::write(mount.path("still.md"), "works")?;
    Ok(())
}

#[test]
fn a_cache_belongs_to_one_store() -> Result<()> {
    let mut mount = Mount::start(&Store::folder()?)?;
    std::fs::write(mount.path("mine.md"), "mine")?;
    mount.drain()?;
    mount.unmount()?;
    let (notefs, dir, shown) = user(&Store::folder()?)?;
    let other = Store::folder()?;
    let cache = mount.cache().display().to_string();
    notefs.failure(&["mount", &other.url, &shown, "--cache", &cache], 1)?;
    ensure!(!scratch::is_mounted(&dir), "one store's cache was used for another");
    ensure!(
        other.keys()?.is_empty(),
        "one store's notes went to another: {:?}",
        other.keys()?
    );
    mount.remount()?;
    ensure!(
        std::fs::read(mount.path("mine.md"))? == b"mine",
        "the cache was discarded"
    );
    Ok(())
}

#[test]
fn changed_options_keep_the_cache() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = notefs_tests::Proxy::start(store.client()?.address)?;
    let mut mount = Mount::start(&store.via(proxy.address())?)?;
    proxy.set_fault_on(notefs_tests::Class::Put, notefs_tests::Fault::Unavailable);
    std::fs::write(mount.path("owed.md"), "owed")?;
    mount.kill9();
    mount.set_args(&["--cache-size", "64M", "--write-back", "2s"]);
    mount.remount()?;
    ensure!(
        std::fs::read(mount.path("owed.md"))? == b"owed",
        "a changed option discarded what was owed"
    );
    proxy.set_fault(notefs_tests::Fault::None);
    mount.settle()?;
    ensure!(store.get("owed.md")?.as_deref() == Some(b"owed"), "never arrived");
    Ok(())
}

#[test]
fn a_read_only_mount_changes_nothing() -> Result<()> {
    let store = Store::ministack()?;
    store.put("a.md", b"read me")?;
    let mount = Mount::start_with(&store, MountOptions::args(&["--read-only"]))?;
    ensure!(std::fs::read(mount.path("a.md"))? == b"read me", "content differs");
    let attempts = [
        ("write", std::fs::write(mount.path("a.md"), "x")),
        ("create", std::fs::write(mount.path("b.md"), "x")),
        ("unlink", std::fs::remove_file(mount.path("a.md"))),
        ("mkdir", std::fs::create_dir(mount.path("d"))),
        ("rename", std::fs::rename(mount.path("a.md"), mount.path("c.md"))),
        (
            "chmod",
            std::fs::set_permissions(mount.path("a.md"), PermissionsExt::from_mode(0o600)),
        ),
    ];
    for (what, attempt) in &attempts {
        ensure!(
            sys::errno(attempt) == libc::EROFS,
            "{what} on a read-only mount: {attempt:?}"
        );
    }
    drop(mount);
    ensure!(
        store.all_keys()?.iter().all(|key| key == "a.md"),
        "the bucket changed: {:?}",
        store.all_keys()?
    );
    Ok(())
}

#[test]
fn a_file_tells_its_step_of_the_ladder() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = notefs_tests::Proxy::start(store.client()?.address)?;
    let mount = Mount::start(&store.via(proxy.address())?)?;
    proxy.set_fault_on(notefs_tests::Class::Put, notefs_tests::Fault::BlackHole);
    let path = mount.path("note.md");
    let shown = path.display().to_string();
    std::fs::write(&path, "ladder")?;
    ensure!(
        mount.state_of("note.md")? == "written",
        "after the write: {}",
        mount.state_of("note.md")?
    );
    std::fs::File::open(&path)?.sync_all()?;
    ensure!(
        mount.state_of("note.md")? == "synced",
        "after fsync: {}",
        mount.state_of("note.md")?
    );
    let status = mount.notefs().output(&["status", &shown])?;
    ensure!(status.contains("synced"), "status of the file: {status}");
    proxy.set_fault(notefs_tests::Fault::None);
    mount.drain()?;
    ensure!(
        mount.state_of("note.md")? == "stored",
        "after the drain: {}",
        mount.state_of("note.md")?
    );
    let status = mount.status()?;
    for field in [
        "mountpoint",
        "store",
        "pid",
        "written",
        "owed",
        "indexed",
        "cache",
        "requests",
        "skipped_keys",
    ] {
        ensure!(!status[field].is_null(), "status has no {field:?}: {status}");
    }
    ensure!(
        status["requests"]["put"].as_u64() >= Some(1),
        "no PUT counted: {status}"
    );
    let secret = &store.client()?.credentials.secret_key;
    ensure!(
        !status.to_string().contains(secret.as_str()),
        "status prints the secret"
    );
    ensure!(!mount.log_tail().contains(secret.as_str()), "the log prints the secret");
    Ok(())
}

/// A state that this version cannot read is refused with its path, and not one byte of it is touched.
fn refuses_state(damage: impl Fn(&std::path::Path) -> Result<()>) -> Result<()> {
    let store = Store::folder()?;
    let mut mount = Mount::start(&store)?;
    std::fs::write(mount.path("a.md"), "a")?;
    mount.drain()?;
    mount.unmount()?;
    let state = mount.cache().join("state.db");
    ensure!(state.is_file(), "there is no {}", state.display());
    damage(&state)?;
    let before = std::fs::read(&state)?;
    let cache = mount.cache().display().to_string();
    let shown = mount.dir().display().to_string();
    let told = mount
        .notefs()
        .failure(&["mount", &store.url, &shown, "--cache", &cache], 1)?;
    ensure!(
        told.contains(&state.display().to_string()),
        "the path is missing: {told}"
    );
    ensure!(std::fs::read(&state)? == before, "the refused state was changed");
    ensure!(!scratch::is_mounted(mount.dir()), "mounted all the same");
    Ok(())
}

#[test]
fn a_corrupt_state_is_refused_and_untouched() -> Result<()> {
    refuses_state(|state| {
        let length = std::fs::metadata(state)?.len() as usize;
        Ok(std::fs::write(state, b"no database ".repeat(length / 12))?)
    })
}

#[test]
fn a_newer_state_is_refused_and_untouched() -> Result<()> {
    refuses_state(|state| {
        let sql = "PRAGMA user_version = 99999; PRAGMA wal_checkpoint(TRUNCATE)";
        let folder = state.parent().context("no parent")?;
        notefs_tests::process::shell(folder, &format!("sqlite3 state.db '{sql}'"))?;
        Ok(())
    })
}

#[test]
fn the_embedded_store_needs_no_url() -> Result<()> {
    let (notefs, dir, shown) = user(&Store::folder()?)?;
    let mut command = notefs.command(["mount", &shown, "--foreground"])?;
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let daemon = notefs_tests::process::spawn(command)?;
    let result = wait_until("mount of the embedded store", PATIENCE, || {
        notefs
            .output(&["status", &shown])
            .map(drop)
            .map_err(|error| format!("{error:#}"))
    })
    .and_then(|()| Ok(std::fs::write(dir.join("first.md"), "first")?))
    .and_then(|()| notefs.output(&["unmount", &shown]).map(drop));
    drop(daemon);
    scratch::force_unmount(&dir);
    result?;
    let stored = notefs_tests::process::shell(&notefs.home().join("data"), "find . -name first.md")?;
    ensure!(!stored.is_empty(), "the note is no plain file in the XDG data folder");
    Ok(())
}

#[test]
fn a_configuration_file_is_read_and_its_mistakes_are_told() -> Result<()> {
    let store = Store::folder()?;
    let (notefs, _, shown) = user(&store)?;
    let config = notefs.home().join("notefs.toml");
    std::fs::write(&config, "write_bakc = \"3s\"\n")?;
    let config = config.display().to_string();
    let told = notefs.run(&["mount", &store.url, &shown, "--config", &config])?;
    ensure!(
        told.code() != 0 && told.stderr.contains("write_bakc"),
        "an unknown setting: {}",
        told.stderr
    );
    let missing = notefs.run(&["mount", &store.url, &shown, "--config", "/no/such.toml"])?;
    ensure!(
        missing.code() != 0 && missing.stderr.contains("/no/such.toml"),
        "no such file: {}",
        missing.stderr
    );
    Ok(())
}

#[test]
fn completions_and_a_manual_page_are_made() -> Result<()> {
    let (notefs, _, _) = user(&Store::folder()?)?;
    for shell in ["bash", "zsh", "fish"] {
        let script = notefs.output(&["completions", shell])?;
        ensure!(
            script.contains("notefs") && script.contains("backlinks"),
            "no completions for {shell}: {script}"
        );
    }
    let page = notefs.output(&["man"])?;
    ensure!(
        page.contains(".TH") && page.contains("unmount"),
        "no manual page: {page}"
    );
    Ok(())
}

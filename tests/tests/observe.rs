//! A mount as seen from outside: metrics, health, logs, the service manager; and no secret in any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use notefs_tests::{Mount, MountOptions, Notefs, PATIENCE, Store, process, scratch, wait_until};

/// The secret half of the key that the servers of these tests know.
const SECRET: &str = "notefs-test-secret";

/// Status and body of a page.
fn get(mut stream: impl Read + Write, page: &str) -> Result<(u16, String)> {
    write!(stream, "GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of headers")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// Reads a page of metrics as strictly as Prometheus does; answers each sample by its name and labels.
fn samples(page: &str) -> Result<BTreeMap<String, f64>> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut found = BTreeMap::new();
    ensure!(page.ends_with('\n'), "the last line has no end");
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("a help without words")?;
            ensure!(helped.insert(name), "{name} is explained twice");
            ensure!(!help.is_empty(), "{name} has no help");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("a type without a kind")?;
            ensure!(
                helped.contains(name) && kinds.insert(name, kind).is_none(),
                "type of {name}"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
            let name = series.split('{').next().unwrap_or_default();
            let ends = ["_bucket", "_sum", "_count"];
            let family = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let kind = kinds
                .get(name)
                .or_else(|| kinds.get(family))
                .with_context(|| format!("no type: {line}"))?;
            ensure!(*kind != "counter" || name.ends_with("_total"), "counter {name}");
            let value: f64 = value.parse().with_context(|| line.to_owned())?;
            ensure!(
                found.insert(series.to_owned(), value).is_none(),
                "{series} is told twice"
            );
        }
    }
    Ok(found)
}

fn metrics_of(place: &Path) -> Result<BTreeMap<String, f64>> {
    let (status, page) = get(UnixStream::connect(place)?, "/metrics")?;
    ensure!(status == 200, "status {status}: {page}");
    samples(&page)
}

#[test]
fn metrics_and_health_are_served_on_a_private_socket() -> Result<()> {
    let place = scratch::folder("metrics")?.join("m.sock");
    let shown = format!("unix:{}", place.display());
    let store = Store::ministack()?;
    store.put("there.md", b"# There\n")?;
    let mut mount = Mount::start_with(&store, MountOptions::args(&["--metrics", &shown]))?;
    let mode = std::fs::metadata(&place)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "mode {mode:o}");
    let ask = |page: &str| get(UnixStream::connect(&place)?, page);
    ensure!(ask("/healthz")?.0 == 200);
    ensure!(ask("/readyz")?.0 == 200);
    ensure!(ask("/")?.0 == 404);
    std::fs::write(mount.path("new.md"), "# New\n")?;
    ensure!(std::fs::read(mount.path("there.md"))? == b"# There\n");
    mount.drain()?;
    wait_until("an index that is ready", PATIENCE, || match ask("/readyz?indexed") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    let told = metrics_of(&place)?;
    let of = |name: &str| told.get(name).copied().with_context(|| format!("no {name}"));
    ensure!(of("notefs_serving")? == 1.0);
    ensure!(of("notefs_unstored_entries")? == 0.0);
    ensure!(of("notefs_written_entries")? == 3.0);
    ensure!(of("notefs_indexed_notes")? == 2.0);
    ensure!(of("notefs_store_requests_total{kind=\"put\"}")? >= 1.0);
    ensure!(of("notefs_operation_seconds_count{operation=\"write\"}")? >= 1.0);
    let count = of("notefs_operation_seconds_count{operation=\"read\"}")?;
    ensure!(of("notefs_operation_seconds_bucket{operation=\"read\",le=\"+Inf\"}")? == count && count >= 1.0);
    ensure!(of("notefs_operation_waits_total{operation=\"read\"}")? + of("notefs_cache_hits_total")? == count);
    mount.unmount()?;
    ensure!(!place.exists(), "the socket is left behind");
    Ok(())
}

#[test]
fn metrics_are_served_on_loopback_and_nowhere_else() -> Result<()> {
    let port = process::free_ports(1)?[0];
    let address = format!("127.0.0.1:{port}");
    let store = Store::folder()?;
    let mut mount = Mount::start_with(&store, MountOptions::args(&["--metrics", &address]))?;
    let (status, page) = get(TcpStream::connect(&address)?, "/metrics")?;
    ensure!(
        status == 200 && samples(&page)?.contains_key("notefs_serving"),
        "{status}: {page}"
    );
    let dir = mount.dir().display().to_string();
    for place in ["0.0.0.0:9100", "192.0.2.1:9100", "localhost", "unix:"] {
        let words = mount
            .notefs()
            .failure(&["mount", &store.url, &dir, "--metrics", place], 2)?;
        ensure!(words.contains("Hint"), "{place}: {words}");
    }
    mount.unmount()
}

#[test]
fn log_lines_are_json_where_asked_for() -> Result<()> {
    let log = scratch::folder("log")?.join("log.json");
    let shown = log.display().to_string();
    let options = MountOptions::args(&["--log", &shown, "--log-format", "json", "--log-level", "trace"]);
    let mut mount = Mount::start_with(&Store::folder()?, options)?;
    std::fs::write(mount.path("a.md"), "a")?;
    mount.unmount()?;
    let text = std::fs::read_to_string(&log)?;
    let mut levels = BTreeSet::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        ensure!(line["timestamp"].is_string() && line["target"].is_string(), "{line}");
        levels.insert(line["level"].as_str().unwrap_or_default().to_owned());
    }
    ensure!(
        levels.contains("INFO") && levels.contains("TRACE"),
        "levels: {levels:?}"
    );
    Ok(())
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    entries
        .flat_map(|path| match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => files(&path),
            Ok(metadata) if metadata.is_file() => vec![path],
            _ => vec![],
        })
        .collect()
}

#[test]
fn a_secret_stands_in_its_file_and_nowhere_else() -> Result<()> {
    let store = Store::weed()?;
    let keys = scratch::folder("keys")?.join("credentials");
    let profile =
        |secret: &str| format!("[default]\naws_access_key_id = notefskey\naws_secret_access_key = {secret}\n");
    std::fs::write(&keys, profile(SECRET))?;
    let place = scratch::folder("metrics")?.join("m.sock");
    let (keys, socket) = (keys.display().to_string(), format!("unix:{}", place.display()));
    let args = [
        "--credentials-file",
        &keys,
        "--metrics",
        &socket,
        "--log-level",
        "trace",
    ];
    let mut bare = store.clone();
    bare.env.clear();
    let mut mount = Mount::start_with(&bare, MountOptions::args(&args))?;
    std::fs::write(mount.path("a.md"), "stored with keys of a file")?;
    mount.drain()?;
    ensure!(store.get("a.md")?.is_some(), "not stored");
    let pid = mount.pid()?;
    let mut told = vec![("status".to_owned(), mount.status()?.to_string())];
    told.push(("metrics".to_owned(), get(UnixStream::connect(&place)?, "/metrics")?.1));
    for name in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{pid}/{name}"))?;
        told.push((name.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    mount.unmount()?;
    std::fs::write(&keys, profile("a-wrong-secret"))?;
    let dir = mount.dir().display().to_string();
    let words = mount
        .notefs()
        .failure(&["mount", &bare.url, &dir, "--credentials-file", &keys, "-vv"], 1)?;
    ensure!(!words.contains("a-wrong-secret"), "{words}");
    let home = mount.notefs().home();
    for path in files(home) {
        told.push((
            path.display().to_string(),
            String::from_utf8_lossy(&std::fs::read(&path)?).into_owned(),
        ));
    }
    ensure!(told.len() > 6, "only {} places were looked at", told.len());
    for (what, text) in told {
        ensure!(
            !text.contains(SECRET) && !text.contains("a-wrong-secret"),
            "the secret stands in {what}"
        );
    }
    Ok(())
}

#[test]
fn the_service_manager_is_told_of_life_and_end() -> Result<()> {
    let folder = scratch::folder("notify")?;
    let socket = UnixDatagram::bind(folder.join("n.sock"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (home, dir) = (folder.join("home"), folder.join("notes"));
    std::fs::create_dir_all(&home)?;
    std::fs::create_dir_all(&dir)?;
    let notefs = Notefs::new(&home, &[]);
    let store = Store::folder()?;
    let mut command = notefs.command(["mount", "--foreground", &store.url, &dir.display().to_string()])?;
    command
        .env("NOTIFY_SOCKET", folder.join("n.sock"))
        .env("WATCHDOG_USEC", "150000");
    let mut daemon = process::spawn(command)?;
    let heard = |wanted: &str| -> Result<()> {
        let mut seen = Vec::new();
        for _ in 0..1_000 {
            let mut buffer = [0; 4096];
            let length = socket
                .recv(&mut buffer)
                .with_context(|| format!("no {wanted} after {seen:?}"))?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line == wanted) {
                return Ok(());
            }
            seen.push(text);
        }
        anyhow::bail!("no {wanted} among {seen:?}")
    };
    heard("READY=1")?;
    ensure!(scratch::is_mounted(&dir), "ready before it was mounted");
    heard("WATCHDOG=1")?;
    heard("WATCHDOG=1")?;
    daemon.signal(libc::SIGTERM);
    heard("STOPPING=1")?;
    ensure!(daemon.wait(PATIENCE)?.success());
    Ok(())
}

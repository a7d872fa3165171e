//! Many tenants on one machine: fleets whose mounts do not touch each other, and machines that vanish.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{self, Guarded};
use notefs_tests::{Mount, MountOptions, Notefs, PATIENCE, Store, scratch, wait_until};
use serde_json::Value;

/// A fleet and its supervisor.
struct Fleet {
    home: PathBuf,
    file: PathBuf,
    notefs: Notefs,
    supervisor: Guarded,
}

impl Fleet {
    fn start(text: impl Fn(&Path) -> Result<String>) -> Result<Fleet> {
        let home = scratch::folder("fleet")?;
        let file = home.join("fleet.toml");
        std::fs::write(&file, text(&home)?)?;
        let notefs = Notefs::new(&home, &[]);
        let log = std::fs::File::create(home.join("supervisor.log"))?;
        let mut command = notefs.command(["mount", "--fleet", &file.display().to_string()])?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let supervisor = process::spawn(command)?;
        Ok(Fleet {
            home,
            file,
            notefs,
            supervisor,
        })
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// The record of one mount, as `notefs status FILE --json` shows it.
    fn row(&self, name: &str) -> Result<Value> {
        let file = self.file.display().to_string();
        let shown = self.notefs.run(&["status", &file, "--json"])?;
        let fleet: Value = serde_json::from_str(&shown.stdout).with_context(|| shown.stderr.clone())?;
        let rows = fleet["mounts"].as_array().cloned().unwrap_or_default();
        let row = rows.into_iter().find(|row| row["name"] == name);
        row.with_context(|| format!("no mount {name}: {fleet}"))
    }

    fn await_row(&self, name: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let seen = wait_until(&format!("state of {name}"), PATIENCE, || match self.row(name) {
            Ok(row) if is_so(&row) => Ok(row),
            Ok(row) => Err(row.to_string()),
            Err(error) => Err(format!("{error:#}")),
        });
        seen.with_context(|| std::fs::read_to_string(self.home.join("supervisor.log")).unwrap_or_default())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for name in ["a", "b", "c"] {
            // Its process may be gone already.
            if let Some(pid) = self.row(name).ok().and_then(|row| row["pid"].as_i64()) {
                // SAFETY: it takes numbers only.
                unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            }
            scratch::force_unmount(&self.dir(name));
            notefs_tests::sys::unseal(&self.dir(name));
        }
    }
}

/// A table of the file, with keys in a file of their own.
fn table(home: &Path, name: &str, store: &Store, secret: &str) -> Result<String> {
    let keys = home.join(format!("{name}.keys"));
    std::fs::create_dir_all(home.join(name))?;
    std::fs::write(
        &keys,
        format!("[default]\naws_access_key_id = notefskey\naws_secret_access_key = {secret}\n"),
    )?;
    Ok(format!(
        "[mount.{name}]\nstore = \"{}\"\ndir = \"{name}\"\ncredentials-file = \"{name}.keys\"\n",
        store.url
    ))
}

const SECRET: &str = "notefs-test-secret";

#[test]
fn a_fleet_restarts_what_dies_and_one_trouble_touches_no_other() -> Result<()> {
    let stores = [Store::weed()?, Store::weed()?, Store::weed()?];
    let mut fleet = Fleet::start(|home| {
        let tables = [
            table(home, "a", &stores[0], SECRET)?,
            table(home, "b", &stores[1], SECRET)?,
            table(home, "c", &stores[2], "wrong-secret")?,
        ];
        Ok(tables.concat())
    })?;
    let running = |row: &Value| row["state"] == "running";
    let first = fleet.await_row("a", running)?;
    let other = fleet.await_row("b", running)?;
    let troubled = fleet.await_row("c", |row| row["restarts"].as_u64() > Some(0))?;
    let why = troubled["last_error"].as_str().unwrap_or_default();
    ensure!(why.contains("secret") && !why.contains("wrong-secret"), "{troubled}");
    std::fs::write(fleet.dir("a").join("a.md"), "before the kill")?;
    let pid = first["pid"].as_i64().context("no pid")? as i32;
    // SAFETY: it takes numbers only, and the process is the fleet's.
    let killed = unsafe { libc::kill(pid, libc::SIGKILL) };
    ensure!(killed == 0, "no process {pid}");
    let again = fleet.await_row("a", |row| running(row) && row["pid"] != first["pid"])?;
    ensure!(again["restarts"] == 1, "{again}");
    ensure!(std::fs::read_to_string(fleet.dir("a").join("a.md"))? == "before the kill");
    ensure!(fleet.row("b")?["pid"] == other["pid"], "the other mount was touched");
    // The right secret comes, and the next try works.
    table(&fleet.home, "c", &stores[2], SECRET)?;
    fleet.await_row("c", running)?;
    std::fs::write(fleet.dir("c").join("c.md"), "late")?;
    let kept = std::fs::read_to_string(&fleet.file)?.replace("[mount.b]", "[mount.bb]");
    std::fs::write(&fleet.file, kept.replace("dir = \"b\"", "dir = \"b\"\ncolour = 'red'"))?;
    fleet.supervisor.signal(libc::SIGHUP);
    wait_until("a refused file", PATIENCE, || {
        let shown = fleet.notefs.run(&["status"]).map_err(|error| error.to_string())?.stdout;
        if shown.contains("colour") { Ok(()) } else { Err(shown) }
    })?;
    ensure!(running(&fleet.row("b")?), "a wrong file changed something");
    std::fs::write(&fleet.file, kept.split("[mount.bb]").next().unwrap_or_default())?;
    fleet.supervisor.signal(libc::SIGHUP);
    wait_until("the end of b", PATIENCE, || match fleet.row("b") {
        Err(_) if !scratch::is_mounted(&fleet.dir("b")) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    fleet.supervisor.signal(libc::SIGTERM);
    let status = fleet.supervisor.wait(PATIENCE * 2)?;
    ensure!(status.success(), "ended with {status}");
    ensure!(!scratch::is_mounted(&fleet.dir("a")), "still mounted");
    ensure!(
        stores[0].get("a.md")?.as_deref() == Some(b"before the kill"),
        "a.md is not stored"
    );
    Ok(())
}

#[test]
fn a_fleets_mounts_end_with_their_supervisor() -> Result<()> {
    let store = Store::folder()?;
    let fleet = Fleet::start(|home| table(home, "a", &store, SECRET))?;
    fleet.await_row("a", |row| row["state"] == "running")?;
    std::fs::write(fleet.dir("a").join("a.md"), "orphan")?;
    fleet.supervisor.signal(libc::SIGKILL);
    wait_until("the end of its mount", PATIENCE, || {
        if scratch::is_mounted(&fleet.dir("a")) {
            Err("mounted".to_owned())
        } else {
            Ok(())
        }
    })?;
    ensure!(
        store.get("a.md")?.as_deref() == Some(b"orphan"),
        "what was written is not stored"
    );
    Ok(())
}

#[test]
fn what_fsync_or_close_returned_of_is_in_the_bucket_of_a_machine_that_vanishes() -> Result<()> {
    let store = Store::weed()?;
    let options = MountOptions::args(&["--durability", "stored", "--write-back", "1h"]);
    let mut mount = Mount::start_with(&store, options)?;
    let mut synced = std::fs::File::create(mount.path("synced.md"))?;
    synced.write_all(b"bytes before the end")?;
    synced.sync_all()?;
    std::fs::write(mount.path("closed.md"), "closed")?;
    let big: Vec<u8> = (0..20u32 << 20).map(|byte| (byte % 251) as u8).collect();
    std::fs::write(mount.path("big.bin"), &big)?;
    std::fs::write(mount.path("draft.md"), "renamed")?;
    std::fs::rename(mount.path("draft.md"), mount.path("final.md"))?;
    std::fs::File::open(mount.dir())?.sync_all()?;
    mount.kill9();
    scratch::force_unmount(mount.dir());
    mount.wipe_cache()?;
    drop(synced);
    for (name, bytes) in [
        ("synced.md", &b"bytes before the end"[..]),
        ("closed.md", b"closed"),
        ("final.md", b"renamed"),
        ("big.bin", &big),
    ] {
        let stored = store.get(name)?.with_context(|| format!("{name} is lost"))?;
        ensure!(stored == bytes, "{name} has {} bytes, or others", stored.len());
    }
    ensure!(store.get("draft.md")?.is_none(), "the old name is still there");
    Ok(())
}

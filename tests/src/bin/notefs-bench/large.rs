//! A vault of thousands of notes: memory, mounting again, and search.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::{Mount, Store, vault, wait_until};

use crate::table::Table;
use crate::{Column, timed};

/// Long enough for thousands of notes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Rows that rclone has nothing to answer to; grep is the local answer to a search.
pub(crate) fn measure(notes: usize, table: &mut Table) -> Result<()> {
    let files = vault::generate(notes, 99);
    let mut mount = Mount::start(&Store::folder()?)?;
    vault::write_to(&files, mount.dir())?;
    wait_until("index and store that are complete", PATIENCE, || {
        let status = mount.status().map_err(|error| format!("{error:#}"))?;
        let done =
            status["indexed"]["behind"] == 0 && status["indexed"]["backlog"] == 0 && status["owed"]["count"] == 0;
        if done { Ok(()) } else { Err(status.to_string()) }
    })?;
    table.add(
        &format!("memory with {notes} notes"),
        "MiB",
        Column::Notefs,
        resident_mib(mount.pid()?)?,
    );
    let local = notefs_tests::scratch::folder("local")?;
    vault::write_to(&files, &local)?;
    for round in 0..5 {
        let word = format!("unique{:05}", notes * (2 * round + 1) / 10);
        let taken = timed(|| ensure_found(&mount.search(&word)?, &word))?;
        let name = format!("search in {notes} notes, as a command");
        table.add(&name, "ms", Column::Notefs, taken.as_secs_f64() * 1e3);
        let taken = timed(|| shell(&local, &format!("grep -rl {word} . >/dev/null")).map(drop))?;
        table.add(&name, "ms", Column::Local, taken.as_secs_f64() * 1e3);
        let path = mount.path(&format!("fresh{round}.md"));
        let taken = timed(|| {
            std::fs::write(&path, format!("# Fresh\n\nfreshword{round}x\n"))?;
            ensure_found(&mount.search(&format!("freshword{round}x"))?, "a fresh note")
        })?;
        table.add(
            "write to searchable, as a command",
            "ms",
            Column::Notefs,
            taken.as_secs_f64() * 1e3,
        );
    }
    // What a command costs that asks nothing, to be taken off the rows above.
    for _ in 0..5 {
        let taken = timed(|| mount.notefs().output(&["--version"]).map(drop))?;
        table.add(
            "  of which: starting the command",
            "ms",
            Column::Notefs,
            taken.as_secs_f64() * 1e3,
        );
    }
    mount.drain()?;
    for _ in 0..3 {
        mount.unmount()?;
        let taken = timed(|| mount.remount())?;
        table.add(
            &format!("mount of a known cache, {notes} notes"),
            "ms",
            Column::Notefs,
            taken.as_secs_f64() * 1e3,
        );
    }
    table.add(
        "  memory after mounting again",
        "MiB",
        Column::Notefs,
        resident_mib(mount.pid()?)?,
    );
    Ok(())
}

fn ensure_found(found: &[String], what: &str) -> Result<()> {
    ensure!(!found.is_empty(), "the search did not find {what}");
    Ok(())
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

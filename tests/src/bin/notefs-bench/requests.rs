//! Requests of everyday work and what they cost at S3's list prices, as a table.

use std::time::Duration;

use anyhow::Result;
use notefs_tests::Store;
use notefs_tests::requests::{Machines, Requests, save_notes};

const MINUTE: Duration = Duration::from_secs(60);

/// The size of a large file.
const LARGE_BYTES: usize = 64 << 20;

/// Measures on ministack, which is flat as S3 is.
pub(crate) fn measure() -> Result<String> {
    let mut lines = vec![
        "| what | PUT, COPY, POST | LIST | GET, HEAD | DELETE | price |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    let mut tell = |what: &str, requests: Requests| {
        let line = row(what, requests);
        eprintln!("{line}");
        lines.push(line);
    };
    let one = Machines::start(&Store::ministack()?, 1)?;
    // Until everybody's metadata is told, which is done once a minute.
    std::thread::sleep(MINUTE);
    tell("one machine, idle for an hour", one.idle(MINUTE).times(60.0));
    tell("a note is saved", save_notes(&one, 10)?);
    let renamed = one.work(|mount| Ok(std::fs::rename(mount.path("note.md"), mount.path("renamed.md"))?))?;
    tell("a note is renamed", renamed);
    let removed = one.work(|mount| Ok(std::fs::remove_file(mount.path("renamed.md"))?))?;
    tell("a note is deleted", removed);
    let bytes = vec![7; LARGE_BYTES];
    let large = one.work(|mount| Ok(std::fs::write(mount.path("large.bin"), &bytes)?))?;
    tell("a file of 64 MiB is saved", large);
    drop(one);
    let two = Machines::start(&Store::ministack()?, 2)?;
    std::thread::sleep(MINUTE);
    tell("two machines, idle for an hour, together", two.idle(MINUTE).times(60.0));
    Ok(lines.join("\n"))
}

fn row(what: &str, requests: Requests) -> String {
    let cell = |count: f64| match count {
        _ if count >= 10.0 => format!("{count:.0}"),
        _ => format!("{count:.1}"),
    };
    format!(
        "| {what} | {} | {} | {} | {} | ${:.6} |",
        cell(requests.writes),
        cell(requests.lists),
        cell(requests.reads),
        cell(requests.deletes),
        requests.dollars(),
    )
}

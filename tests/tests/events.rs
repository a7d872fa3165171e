//! Many changes at once, and `notefs events`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use notefs_tests::pair::{reads, shows, signal, two_machines};
use notefs_tests::process::{self, shell};
use notefs_tests::watch::{Watcher, by_path};
use notefs_tests::{PATIENCE, Store, wait_until};
use serde_json::Value;

/// More than has events of its own.
const STORM: usize = 6_000;

#[test]
fn a_storm_touches_each_folder() -> Result<()> {
    let store = Store::folder()?;
    let (_writer, reader) = two_machines(&store, &["--poll", "1s"])?;
    store.put("one/first.md", b"1")?;
    store.put("two/first.md", b"2")?;
    reads(&reader, "one/first.md", "1")?;
    reads(&reader, "two/first.md", "2")?;
    let watcher = Watcher::inotify(reader.dir())?;
    // One look finds all of them.
    let daemon = i32::try_from(reader.pid()?)?;
    signal(daemon, libc::SIGSTOP);
    let put =
        (0..STORM).try_for_each(|number| store.put(&format!("{}/{number}.md", ["one", "two"][number % 2]), b"text"));
    signal(daemon, libc::SIGCONT);
    put?;
    shows(&reader, "one", STORM / 2 + 1)?;
    shows(&reader, "two", STORM / 2 + 1)?;
    let touched = |lines: &[String], path: &str| lines.contains(&format!("ATTRIB,ISDIR {path}"));
    let lines = watcher.wait("touched folders", |lines| {
        touched(lines, "one") && touched(lines, "two")
    })?;
    let seen = by_path(&lines);
    let own: Vec<_> = seen.keys().filter(|path| path.ends_with(".md")).take(5).collect();
    ensure!(own.is_empty(), "events of their own: {own:?}");
    Ok(())
}

/// The lines of `notefs events` so far.
fn told(output: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(output).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[test]
fn events_are_printed_with_their_origin() -> Result<()> {
    let (writer, reader) = two_machines(&Store::folder()?, &[])?;
    std::fs::create_dir(reader.path("sub"))?;
    let home = reader.notefs().home().to_owned();
    let (output, said) = (home.join("events"), home.join("said"));
    let mut command = reader.notefs().command(["events"])?;
    command.arg(reader.path("sub"));
    command
        .stdout(std::fs::File::create(&output)?)
        .stderr(std::fs::File::create(&said)?);
    let _events = process::spawn(command)?;
    wait_until("reader of events", PATIENCE, || match std::fs::read_to_string(&said) {
        Ok(text) if text.starts_with("Waiting for changes") => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    shell(
        reader.dir(),
        "echo x > outside.md; echo x > sub/a.md; mv sub/a.md sub/b.md; rm sub/b.md; mkdir sub/c",
    )?;
    wait_until("folder of the other machine", PATIENCE, || {
        std::fs::write(writer.path("sub/theirs.md"), "theirs").map_err(|error| error.to_string())
    })?;
    reads(&reader, "sub/theirs.md", "theirs")?;
    let lines = wait_until("event of the other machine", PATIENCE, || {
        let lines = told(&output);
        if lines.iter().any(|line| line["path"] == "sub/theirs.md") {
            Ok(lines)
        } else {
            Err(format!("{lines:?}"))
        }
    })?;
    let seen = |line: &Value| format!("{} {} {}", line["event"], line["path"], line["from"]).replace('"', "");
    let local: Vec<String> = lines
        .iter()
        .filter(|line| line["origin"] == "local")
        .map(seen)
        .collect();
    let steps = [
        "created sub/a.md null",
        "moved sub/b.md sub/a.md",
        "removed sub/b.md null",
        "created sub/c null",
    ];
    let told: Vec<_> = local.iter().filter(|line| !line.starts_with("modified")).collect();
    ensure!(told == steps, "{local:?}");
    ensure!(
        !lines.iter().any(|line| line["path"] == "outside.md"),
        "a neighbour is told: {lines:?}"
    );
    let theirs = lines
        .iter()
        .find(|line| line["path"] == "sub/theirs.md")
        .context("theirs")?;
    ensure!(
        theirs["origin"] != "local" && theirs["felt"] == true && theirs["event"] == "created",
        "{theirs}"
    );
    Ok(())
}

//! Work on files that are there: what a desk feels all day.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::vault;

use crate::table::Table;
use crate::{Column, timed};

const FILES: usize = 200;
const SAVES: usize = 60;
const BIG_MIB: usize = 64;

/// All rows once, in a folder of its own.
pub(crate) fn round(column: Column, root: &Path, round: usize, table: &mut Table) -> Result<()> {
    let folder = root.join(format!("round{round}"));
    std::fs::create_dir(&folder)?;
    let text = "A line of a note with some words in it.\n".repeat(40);
    let note = |number: usize| folder.join(format!("note{number:04}.md"));
    let mut each = |name: &str, count: usize, work: &mut dyn FnMut(usize) -> Result<()>| -> Result<()> {
        let taken = timed(|| (0..count).try_for_each(&mut *work))?;
        table.add(name, "us", column, taken.as_secs_f64() * 1e6 / count as f64);
        Ok(())
    };
    each("create", FILES, &mut |number| Ok(std::fs::write(note(number), &text)?))?;
    each("atomic save", SAVES, &mut |number| {
        save(&folder, &note(number), &text, false)
    })?;
    each("atomic save with fsync", SAVES, &mut |number| {
        save(&folder, &note(number), &text, true)
    })?;
    each("append", FILES, &mut |number| {
        Ok(OpenOptions::new()
            .append(true)
            .open(note(number))?
            .write_all(b"one more line\n")?)
    })?;
    each("warm read", FILES * 3, &mut |number| {
        let bytes = std::fs::read(note(number % FILES))?;
        ensure!(bytes.len() >= text.len(), "short read");
        Ok(())
    })?;
    each("stat", FILES * 3, &mut |number| {
        std::fs::metadata(note(number % FILES))?;
        Ok(())
    })?;
    each("list with metadata, 200 names", 10, &mut |_| {
        let names: Vec<_> = std::fs::read_dir(&folder)?.collect::<std::io::Result<_>>()?;
        ensure!(names.len() == FILES, "{} names", names.len());
        names.iter().try_for_each(|name| {
            name.metadata()?;
            Ok(())
        })
    })?;
    tools(column, &folder, table)?;
    big_file(column, &folder, table)
}

fn save(folder: &Path, path: &Path, text: &str, flushed: bool) -> Result<()> {
    let temporary = folder.join(".save.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    if flushed {
        file.sync_all()?;
    }
    drop(file);
    Ok(std::fs::rename(temporary, path)?)
}

/// grep over a vault that was just written, and a first commit of it.
fn tools(column: Column, folder: &Path, table: &mut Table) -> Result<()> {
    let vault_folder = folder.join("vault");
    vault::write_to(&vault::generate(300, 42), &vault_folder)?;
    for _ in 0..3 {
        let taken = timed(|| shell(&vault_folder, "grep -rc unique00299 . >/dev/null").map(drop))?;
        table.add("grep -r, 300 notes", "ms", column, taken.as_secs_f64() * 1e3);
    }
    let who = "-c user.name=B -c user.email=b@example.org -c gc.auto=0";
    let script = format!("git init -q .; git add -A; git {who} commit -qm one; git status --porcelain");
    let taken = timed(|| shell(&vault_folder, &script).map(drop))?;
    table.add("git init, add, commit, status", "ms", column, taken.as_secs_f64() * 1e3);
    Ok(())
}

fn big_file(column: Column, folder: &Path, table: &mut Table) -> Result<()> {
    let path = folder.join("big.bin");
    let chunk: Vec<u8> = (0..1 << 20)
        .map(|byte: u32| (byte.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let written = timed(|| {
        let mut file = File::create(&path)?;
        (0..BIG_MIB).try_for_each(|_| file.write_all(&chunk))?;
        Ok(file.sync_all()?)
    })?;
    table.add(
        "big file: write 64 MiB, fsync",
        "ms",
        column,
        written.as_secs_f64() * 1e3,
    );
    let read = timed(|| {
        let (mut file, mut buffer, mut total) = (File::open(&path)?, vec![0; 1 << 20], 0);
        while let count @ 1.. = file.read(&mut buffer)? {
            total += count;
        }
        ensure!(total == BIG_MIB << 20, "read {total} bytes");
        Ok(())
    })?;
    table.add("big file: read 64 MiB", "ms", column, read.as_secs_f64() * 1e3);
    std::fs::remove_file(&path)?;
    Ok(())
}

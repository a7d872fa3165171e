//! A program keeps a note open for writing while others change it: its file is not replaced under it, and no line is lost.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use anyhow::{Result, ensure};
use notefs_tests::pair::{reads, two_machines};
use notefs_tests::{Mount, PATIENCE, Store, wait_until};

/// Two machines that both have the note; the second one is the program's.
fn scene(store: &Store) -> Result<(Mount, Mount)> {
    let (writer, holder) = two_machines(store, &["--write-back", "100ms"])?;
    std::fs::write(writer.path("note.md"), "one\ntwo\n")?;
    writer.drain()?;
    reads(&holder, "note.md", "one\ntwo\n")?;
    Ok((writer, holder))
}

/// The other machine does something to the note; when this returns, the holder has heard of it: what was stored later shows.
fn meanwhile(writer: &Mount, holder: &Mount, change: impl FnOnce() -> Result<()>) -> Result<()> {
    change()?;
    writer.drain()?;
    std::fs::write(writer.path("later.md"), "later\n")?;
    writer.drain()?;
    reads(holder, "later.md", "later\n")
}

fn prepend(writer: &Mount) -> Result<()> {
    Ok(std::fs::write(writer.path("note.md"), "zero\none\ntwo\n")?)
}

fn content(file: &File) -> Result<String> {
    let mut bytes = vec![0; 1 << 10];
    let length = file.read_at(&mut bytes, 0)?;
    bytes.truncate(length);
    Ok(String::from_utf8(bytes)?)
}

#[test]
fn a_program_that_pauses_writes_to_what_it_has_read() -> Result<()> {
    let store = Store::ministack()?;
    let (writer, holder) = scene(&store)?;
    let file = OpenOptions::new().read(true).write(true).open(holder.path("note.md"))?;
    let read = content(&file)?;
    meanwhile(&writer, &holder, || prepend(&writer))?;
    ensure!(
        content(&file)? == read,
        "changed under its writer: {:?}",
        content(&file)?
    );
    file.write_all_at(b"three\n", read.len() as u64)?;
    drop(file);
    reads(&holder, "note.md", "zero\none\ntwo\nthree\n")?;
    reads(&writer, "note.md", "zero\none\ntwo\nthree\n")
}

#[test]
fn a_program_that_has_written_nothing_lets_the_change_in_when_it_closes() -> Result<()> {
    let store = Store::ministack()?;
    let (writer, holder) = scene(&store)?;
    let file = OpenOptions::new().read(true).write(true).open(holder.path("note.md"))?;
    meanwhile(&writer, &holder, || prepend(&writer))?;
    ensure!(content(&file)? == "one\ntwo\n");
    drop(file);
    reads(&holder, "note.md", "zero\none\ntwo\n")
}

#[test]
fn a_program_that_appends_holds_nothing_up() -> Result<()> {
    let store = Store::ministack()?;
    let (writer, holder) = scene(&store)?;
    let mut file = OpenOptions::new().append(true).open(holder.path("note.md"))?;
    prepend(&writer)?;
    reads(&holder, "note.md", "zero\none\ntwo\n")?;
    file.write_all(b"three\n")?;
    drop(file);
    reads(&writer, "note.md", "zero\none\ntwo\nthree\n")
}

#[test]
fn a_note_that_is_removed_elsewhere_while_a_program_has_it_open_is_stored_anew_if_it_writes() -> Result<()> {
    let store = Store::ministack()?;
    let (writer, holder) = scene(&store)?;
    let file = OpenOptions::new().read(true).write(true).open(holder.path("note.md"))?;
    meanwhile(&writer, &holder, || Ok(std::fs::remove_file(writer.path("note.md"))?))?;
    file.write_all_at(b"three\n", 8)?;
    drop(file);
    reads(&writer, "note.md", "one\ntwo\nthree\n")?;
    let file = OpenOptions::new().read(true).write(true).open(holder.path("note.md"))?;
    meanwhile(&writer, &holder, || Ok(std::fs::remove_file(writer.path("note.md"))?))?;
    drop(file);
    wait_until(
        "removal after the program has closed the note",
        PATIENCE,
        || match std::fs::symlink_metadata(holder.path("note.md")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
}

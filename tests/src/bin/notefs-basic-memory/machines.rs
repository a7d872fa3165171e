//! Two machines, each with a server and a database of its own: what an agent does on one the other one's knows.

use anyhow::{Result, ensure};
use notefs_tests::basic_memory::{BasicMemory, Server};
use serde_json::json;

use crate::edits::eventually;
use crate::report::Report;
use crate::{PROJECT, Place};

pub(crate) fn run(here: &mut Server, place: &Place<'_>, report: &mut Report) -> Result<()> {
    let Some(elsewhere) = place.elsewhere else {
        return Ok(());
    };
    let mut there = BasicMemory::with_project(PROJECT, elsewhere)?.serve()?;
    report.step("two machines: the other one's server knows all notes", || {
        knows(&mut there, "quagga", 3)
    });
    report.step("two machines: a note written there is known here", || {
        let note = json!({"title": "Far", "directory": "machines", "content": "a springbok\n"});
        there.call(PROJECT, "write_note", &note)?;
        knows(here, "springbok", 1)
    });
    report.step("two machines: an edit of it here is known there", || {
        edit(here, "and a waterbuck")?;
        knows(&mut there, "waterbuck", 1)
    });
    report.step("two machines: an edit of that there is known here", || {
        edit(&mut there, "and a hartebeest")?;
        knows(here, "hartebeest", 1)
    });
    report.step("two machines: a move there is known here", || {
        let call = json!({"identifier": "machines/far", "destination_path": "machines/Moved.md"});
        there.call(PROJECT, "move_note", &call)?;
        eventually("new path", || {
            let found = here.found(PROJECT, "springbok")?;
            ensure!(found.iter().eq(["machines/Moved.md"]), "found {found:?}");
            Ok(())
        })
    });
    report.step("two machines: a deletion here is known there", || {
        here.call(PROJECT, "delete_note", &json!({"identifier": "machines/far"}))?;
        knows(&mut there, "springbok", 0)
    });
    there.end()
}

fn edit(server: &mut Server, words: &str) -> Result<()> {
    let edit = json!({"identifier": "machines/far", "operation": "append", "content": format!("\n{words}\n")});
    server.call(PROJECT, "edit_note", &edit).map(drop)
}

fn knows(server: &mut Server, word: &str, notes: usize) -> Result<()> {
    eventually("note with the word", || {
        let found = server.found(PROJECT, word)?;
        ensure!(found.len() == notes, "found {found:?} for {word}");
        Ok(())
    })
}

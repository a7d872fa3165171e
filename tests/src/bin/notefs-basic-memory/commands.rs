//! The command line: a project is created in the folder, and a note lives from its first line to its deletion.

use std::path::Path;

use anyhow::{Result, ensure};
use notefs_tests::basic_memory::BasicMemory;

use crate::PROJECT;
use crate::edits::eventually;
use crate::report::Report;

const NOTE: &str = "commands/First Note.md";

pub(crate) fn run(user: &BasicMemory, folder: &Path, report: &mut Report) {
    let dir = folder.display().to_string();
    report.step("command: project add", || {
        user.output(&["project", "add", PROJECT, &dir, "--default"]).map(drop)
    });
    report.step("command: write-note", || {
        let words = "# First\n\n- [fact] an aardvark #animal\n";
        user.output(&[
            "tool",
            "write-note",
            "--title",
            "First Note",
            "--folder",
            "commands",
            "--content",
            words,
        ])?;
        holds(folder, "aardvark")
    });
    report.step("command: edit-note", || {
        user.output(&[
            "tool",
            "edit-note",
            "commands/first-note",
            "--operation",
            "append",
            "--content",
            "\nand a wombat\n",
        ])?;
        holds(folder, "wombat")
    });
    for (name, args) in [
        ("command: read-note", ["tool", "read-note", "commands/first-note"]),
        ("command: search-notes", ["tool", "search-notes", "aardvark"]),
    ] {
        report.step(name, || {
            let told = user.output(&args)?;
            ensure!(told.contains("wombat") || told.contains("First Note"), "it says {told}");
            Ok(())
        });
    }
    report.step("command: status", || {
        user.output(&["status", "--project", PROJECT, "--json"]).map(drop)
    });
    report.step("command: delete-note", || {
        user.output(&["tool", "delete-note", "commands/first-note"])?;
        eventually("end of the note", || {
            ensure!(!folder.join(NOTE).exists(), "it is still there");
            Ok(())
        })
    });
}

fn holds(folder: &Path, word: &str) -> Result<()> {
    eventually("note with its word", || {
        let text = std::fs::read_to_string(folder.join(NOTE))?;
        ensure!(text.contains(word), "the note says {text:?}");
        Ok(())
    })
}

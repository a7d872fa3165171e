//! Many notes at once by import, a full reindex, and two servers of one user at work side by side.

use std::path::Path;

use anyhow::{Result, ensure};
use notefs_tests::basic_memory::{BasicMemory, Server, texts};
use notefs_tests::scratch;
use serde_json::json;

use crate::PROJECT;
use crate::edits::eventually;
use crate::report::Report;

/// Notes that each of two servers writes.
const EACH: usize = 5;

pub(crate) fn import(user: &BasicMemory, folder: &Path, notes: usize, report: &mut Report) {
    let bulk = folder.join("bulk");
    report.step(&format!("import of {notes} notes"), || {
        let file = scratch::folder("import")?.join("memory.json");
        let lines = (0..notes).map(|number| {
            let facts = [format!("ibex number {number}"), "words of a note. ".repeat(20)];
            let entity = json!({"type": "entity", "name": format!("Entity {number}"), "entityType": "thing", "observations": facts});
            format!("{entity}\n")
        });
        std::fs::write(&file, lines.collect::<String>())?;
        user.output(&["import", "memory-json", &file.display().to_string(), "--destination-folder", "bulk"])?;
        eventually("files of the import", || counted(&bulk, notes))
    });
    report.step("reindex", || {
        user.output(&["reindex", "-p", PROJECT, "--search"]).map(drop)
    });
    report.step("reindex --full", || {
        user.output(&["reindex", "-p", PROJECT, "--search", "--full"]).map(drop)
    });
    report.step("the index knows all of them", || {
        counted(&bulk, notes)?;
        let known = user.asked(
            "SELECT count(*) FROM search_index WHERE search_index MATCH 'ibex' AND type = 'entity' AND file_path LIKE 'bulk/%'",
        )?;
        ensure!(known == [notes.to_string()], "the index knows {known:?} of {notes}");
        Ok(())
    });
}

fn counted(folder: &Path, notes: usize) -> Result<()> {
    let found = texts(folder)?.keys().filter(|path| path.ends_with(".md")).count();
    ensure!(found == notes, "{found} of {notes} files");
    Ok(())
}

/// A second server of the same user writes beside the first, in turns, and both know all of it.
pub(crate) fn two_servers(user: &BasicMemory, first: &mut Server, folder: &Path, report: &mut Report) -> Result<()> {
    let mut second = user.serve()?;
    report.step("two servers: both write", || {
        for number in 0..EACH {
            for (server, name) in [(&mut *first, "first"), (&mut second, "second")] {
                let note = json!({"title": format!("{name} {number}"), "directory": "two", "content": format!("gnu of the {name}\n")});
                server.call(PROJECT, "write_note", &note)?;
            }
        }
        eventually("files of both", || counted(&folder.join("two"), 2 * EACH))
    });
    report.step("two servers: each appends to the other's notes", || {
        for (server, name) in [(&mut *first, "second"), (&mut second, "first")] {
            let edit =
                json!({"identifier": format!("two/{name}-0"), "operation": "append", "content": "\nand an eland\n"});
            server.call(PROJECT, "edit_note", &edit)?;
        }
        eventually("appended words", || {
            let held = texts(&folder.join("two"))?;
            let with = held.values().filter(|text| text.contains("eland")).count();
            ensure!(with == 2, "{with} of 2 notes have them");
            Ok(())
        })
    });
    report.step("two servers: both find all", || {
        for server in [&mut *first, &mut second] {
            eventually("all notes", || {
                let found = server.found(PROJECT, "gnu")?.len();
                ensure!(found == 2 * EACH, "found {found} of {}", 2 * EACH);
                Ok(())
            })?;
        }
        Ok(())
    });
    second.end()
}

//! What an agent does to notes through Basic Memory's server: the same calls for any folder.

use anyhow::Result;
use serde_json::{Value, json};

use super::Server;

/// A call: the tool and its arguments.
pub type Call = (&'static str, Value);

fn write(title: &str, folder: &str, text: &str) -> Call {
    (
        "write_note",
        json!({"title": title, "directory": folder, "content": text}),
    )
}

fn edit(note: &str, operation: &str, more: Value) -> Call {
    let mut arguments = more;
    arguments["identifier"] = note.into();
    arguments["operation"] = operation.into();
    ("edit_note", arguments)
}

/// Writes, every kind of edit, moves of notes and of a folder, and deletions.
#[must_use]
pub fn calls() -> Vec<Call> {
    let plan = "# Plan\n\n- [decision] Use FUSE #fuse (measured)\n- part_of [[Home]]\n\n## Next\n\nfirst thing\n\n## Later\n\nlast thing\n";
    let mut calls = vec![
        write("Home", "", "# Home\n\nSee [[Plan]] and [[Not Written Yet]].\n"),
        write("Plan", "projects", plan),
        write(
            "Straße & Co. 💥 עברית",
            "projects/deep/er",
            "# Names\n\n- [fact] okapi #name\n",
        ),
        edit(
            "projects/plan",
            "append",
            json!({"content": "\n- [question] When does the giraffe come?\n"}),
        ),
        edit(
            "projects/plan",
            "find_replace",
            json!({"find_text": "first thing", "content": "zebra thing"}),
        ),
        edit(
            "projects/plan",
            "replace_section",
            json!({"section": "## Later", "content": "much later"}),
        ),
        (
            "write_note",
            json!({"title": "Home", "directory": "", "content": "# Home\n\nonly [[Plan]]\n", "overwrite": true}),
        ),
    ];
    calls.extend((0..4).map(|n| {
        write(
            &format!("Note {n}"),
            "inbox",
            &format!("# Note {n}\n\nquagga number{n}\n"),
        )
    }));
    calls.extend([
        (
            "move_note",
            json!({"identifier": "inbox/note-0", "destination_path": "kept/Renamed.md"}),
        ),
        (
            "move_note",
            json!({"identifier": "projects/deep", "destination_path": "archive/deep", "is_directory": true}),
        ),
        ("delete_note", json!({"identifier": "inbox/note-1"})),
    ]);
    calls
}

/// The other kinds of edit, for who has the time.
#[must_use]
pub fn more_edits() -> Vec<Call> {
    let section = |operation, words: &str| {
        edit(
            "projects/plan",
            operation,
            json!({"section": "## Later", "content": words}),
        )
    };
    vec![
        edit("projects/plan", "prepend", json!({"content": "before all\n"})),
        section("insert_before_section", "between both"),
        section("insert_after_section", "right behind"),
    ]
}

/// Searches, and the files that they find once all calls were made.
pub const ANSWERS: [(&str, &[&str]); 6] = [
    ("quagga", &["inbox/Note 2.md", "inbox/Note 3.md", "kept/Renamed.md"]),
    ("number1", &[]),
    ("zebra", &["projects/Plan.md"]),
    ("\"much later\"", &["projects/Plan.md"]),
    ("last", &[]),
    ("okapi", &["archive/deep/er/Straße & Co. 💥 עברית.md"]),
];

/// Makes all calls in one project.
pub fn run(server: &mut Server, project: &str) -> Result<()> {
    for (tool, arguments) in calls() {
        server.call(project, tool, &arguments)?;
    }
    Ok(())
}

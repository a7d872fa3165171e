//! Edits past Basic Memory, by programs here and by another machine, which its watcher must have indexed within 2 s.
//!
//! Basic Memory answers an edit with one of its own: it writes a permalink into the note. Who edits the note elsewhere meanwhile edits another
//! version, and of an edit and a deletion the edit lives; so each edit here waits until that is done and has come to the other machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notefs_tests::basic_memory::{Server, texts};
use notefs_tests::process::shell;
use notefs_tests::wait_until;

use crate::report::Report;
use crate::{PROJECT, Place};

/// How long is waited for what should be there at once, so that a failure can tell late from never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How soon an edit must be in the index of Basic Memory, and how long is waited for it to tell late from never.
const INDEXED_WITHIN: Duration = Duration::from_secs(2);
const INDEXED_LATE: Duration = Duration::from_secs(15);

/// A name, a script that runs in the folder, the word to look for, and the file that has it then, if any.
type Edit = (&'static str, &'static str, &'static str, Option<&'static str>);

const EDITS: [Edit; 9] = [
    ("new file", "printf '# W\\n\\nword1\\n' > w.md", "word1", Some("w.md")),
    (
        "vim",
        "vim -es -u NONE -c 's/word1/word2/' -c 'wq' w.md || vim -es -u NONE -c '%s/word1/word2/' -c 'wq' w.md",
        "word2",
        Some("w.md"),
    ),
    ("append", "printf '\\nword3\\n' >> w.md", "word3", Some("w.md")),
    (
        "in place",
        "sed 's/word3/word4/' w.md > /tmp/notefs-word4; cat /tmp/notefs-word4 > w.md; rm /tmp/notefs-word4",
        "word4",
        Some("w.md"),
    ),
    (
        "temporary file and rename",
        "sed 's/word4/word5/' w.md > .w.md.tmp; mv .w.md.tmp w.md",
        "word5",
        Some("w.md"),
    ),
    ("sed -i", "sed -i 's/word5/word6/' w.md", "word6", Some("w.md")),
    ("rename", "mv w.md x.md", "word6", Some("x.md")),
    ("copy over", "cp x.md y.md", "word6 y", None),
    ("delete", "rm x.md y.md", "word6", None),
];

pub(crate) fn run(server: &mut Server, place: &Place<'_>, report: &mut Report) {
    for (folder, whose, prefix) in [
        (Some(place.folder), "watch", "here"),
        (place.elsewhere, "watch elsewhere", "far"),
    ] {
        let Some(folder) = folder else { continue };
        report.step(&format!("{whose}: a folder"), || {
            // Made first: a file that comes in one moment with its folder is overlooked by the watcher on any disk.
            std::fs::create_dir(folder.join(prefix))?;
            std::thread::sleep(INDEXED_WITHIN);
            wait_until("folder", PATIENCE, || match place.folder.join(prefix).is_dir() {
                true => Ok(()),
                false => Err("not there".into()),
            })
        });
        let mut comes_to_rest = true;
        for edit in EDITS {
            let name = format!("{whose}: {}", edit.0);
            // Where that fails once it is not waited for again: the steps still tell what is seen.
            comes_to_rest = comes_to_rest
                && report.holds(&format!("{name}, all at rest before"), || {
                    at_rest(place.folder, folder, prefix)
                });
            report.timed(&name, || one(server, &folder.join(prefix), prefix, edit));
        }
    }
}

/// Waits until the notes below are the same here and there, and each has a permalink of its own.
fn at_rest(here: &Path, there: &Path, prefix: &str) -> Result<()> {
    eventually("rest", || {
        let (held, elsewhere) = (texts(&here.join(prefix))?, texts(&there.join(prefix))?);
        ensure!(held == elsewhere, "the notes are {held:?} here and {elsewhere:?} there");
        let permalink = |text: &str| {
            text.lines()
                .find(|line| line.starts_with("permalink: "))
                .map(str::to_owned)
        };
        let own: BTreeSet<String> = held.values().filter_map(|text| permalink(text)).collect();
        ensure!(own.len() == held.len(), "their permalinks are {own:?} in {held:?}");
        Ok(())
    })
}

/// How long after the edit it is indexed.
fn one(server: &mut Server, folder: &Path, prefix: &str, (_, script, word, file): Edit) -> Result<Duration> {
    shell(folder, script)?;
    let start = Instant::now();
    let copied = word.ends_with(" y");
    let word = word.trim_end_matches(" y");
    wait_until("index that knows", INDEXED_LATE, || {
        let found = server.found(PROJECT, word).map_err(|error| format!("{error:#}"))?;
        let mut here = found
            .iter()
            .filter_map(|path| path.strip_prefix(prefix)?.strip_prefix('/'));
        let right = match file {
            Some(file) => here.clone().count() == 1 && here.next() == Some(file),
            None if copied => here.count() == 2,
            None => here.next().is_none(),
        };
        if right { Ok(()) } else { Err(format!("found {found:?}")) }
    })?;
    let late = start.elapsed();
    ensure!(late <= INDEXED_WITHIN, "indexed after {:.1} s", late.as_secs_f64());
    Ok(late)
}

/// Asks again until it is so.
pub(crate) fn eventually(what: &str, mut probe: impl FnMut() -> Result<()>) -> Result<()> {
    wait_until(what, PATIENCE, || probe().map_err(|error| format!("{error:#}"))).context("in vain")
}

//! Links after moves: each still leads where it led, in the manner in which it was written, and nothing else of a text changes.

use std::collections::BTreeMap;

use super::{Fixture, gone, moved, put};
use notefs_indexer::MovedPath;

/// A vault that moves; what is no note has an empty text and is known to the vault alone.
struct Vault {
    fixture: Fixture,
    files: BTreeMap<String, String>,
    moves: Vec<MovedPath>,
    /// Notes are taken for saved since the moves.
    saved_since: bool,
}

impl Vault {
    fn with(notes: &[(&str, &str)]) -> Vault {
        let files = notes
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Vault {
            fixture: Fixture::with(notes),
            files: files.collect(),
            moves: Vec::new(),
            saved_since: false,
        }
    }

    /// As the bridge tells it: files go and come, folders move.
    fn rename(&mut self, from: &str, to: &str) {
        if let Some(text) = self.files.remove(from) {
            self.fixture.apply(gone(from));
            self.fixture.apply(put(to, &text));
            self.files.insert(to.to_owned(), text);
        } else {
            self.fixture.apply(moved(from, to));
            let below = |path: &str| {
                path.strip_prefix(&format!("{from}/"))
                    .map(|rest| format!("{to}/{rest}"))
            };
            let files = std::mem::take(&mut self.files).into_iter();
            self.files = files.map(|(path, text)| (below(&path).unwrap_or(path), text)).collect();
        }
        self.moves.push(MovedPath {
            from: from.into(),
            to: to.into(),
        });
    }

    /// Works all moves off; answers how many notes were written.
    fn work_off(&mut self) -> usize {
        let mut written = 0;
        while !self.moves.is_empty() {
            let (files, saved_since) = (self.files.clone(), self.saved_since);
            let is_there = |path: &[u8]| files.contains_key(&String::from_utf8_lossy(path).into_owned());
            let rewritten = self.fixture.index.with_rewriter(&self.moves, |rewriter| {
                let mut rewritten = Vec::new();
                for path in rewriter.notes()? {
                    let name = String::from_utf8(path.clone()).unwrap();
                    let text = rewriter.rewritten(&path, (&files[&name], saved_since), &is_there)?;
                    rewritten.extend(text.map(|text| (name, text)));
                }
                Ok(rewritten)
            });
            let rewritten = rewritten.unwrap();
            written += rewritten.len();
            if rewritten.is_empty() {
                self.moves.remove(0);
            }
            for (path, text) in rewritten {
                self.fixture.apply(put(&path, &text));
                self.files.insert(path, text);
            }
        }
        written
    }

    fn text(&self, path: &str) -> &str {
        &self.files[path]
    }
}

/// `text` in the note at `path`, after one move in a vault with other notes.
fn after(path: &str, text: &str, others: &[&str], (from, to): (&str, &str)) -> String {
    let mut notes = vec![(path, text)];
    notes.extend(others.iter().map(|other| (*other, "# A title\n")));
    let mut vault = Vault::with(&notes);
    vault.rename(from, to);
    let written = vault.work_off();
    let now = vault.files.iter().find(|(_, other)| !other.starts_with("# A title"));
    let now = now.unwrap().1.clone();
    assert_eq!(written, usize::from(now != text), "{text}");
    now
}

#[test]
fn each_form_of_a_link_stays_what_it_was() {
    for (text, expected) in [
        ("[[old]]", "[[new]]"),
        (
            "[[old|shown]] [[old#part]] [[old#^block|x]]",
            "[[new|shown]] [[new#part]] [[new#^block|x]]",
        ),
        ("![[old]] and [[old.md]]", "![[new]] and [[new.md]]"),
        ("[[a/old]] [[/a/old]]", "[[b/new]] [[/b/new]]"),
        (
            "[t](../a/old.md) ![t](../a/old.md)",
            "[t](../b/new.md) ![t](../b/new.md)",
        ),
        ("[t](<../a/old.md#part> 'title')", "[t](<../b/new.md#part> 'title')"),
        ("[t](/a/old.md \"title\")", "[t](/b/new.md \"title\")"),
        ("[t](a/old.md)", "[t](b/new.md)"),
        (
            "[t][r] and [r]\n\n[r]: ../a/old.md 'title'\n",
            "[t][r] and [r]\n\n[r]: ../b/new.md 'title'\n",
        ),
        ("---\nup: \"[[old]]\"\n---\nx", "---\nup: \"[[new]]\"\n---\nx"),
        ("- part of [[old]] (context)\r\n", "- part of [[new]] (context)\r\n"),
        (
            "| x |\n|---|\n| [[old\\|shown]] |\n",
            "| x |\n|---|\n| [[new\\|shown]] |\n",
        ),
        (
            "`[[old]]`\n\n```\n[[old]]\n```\n[[old]]",
            "`[[old]]`\n\n```\n[[old]]\n```\n[[new]]",
        ),
        ("[[OLD]] [[Old]]", "[[new]] [[new]]"),
        (
            "[[other]] [x](https://example.org/a/old.md) old",
            "[[other]] [x](https://example.org/a/old.md) old",
        ),
    ] {
        let others = ["a/old.md", "other.md"];
        assert_eq!(
            after("d/x.md", text, &others, ("a/old.md", "b/new.md")),
            expected,
            "{text}"
        );
    }
}

#[test]
fn names_are_escaped_in_kind() {
    for (text, to, expected) in [
        ("[t](old.md)", "New Name.md", "[t](New%20Name.md)"),
        ("[t](<old.md>)", "New Name.md", "[t](<New Name.md>)"),
        ("[[old]]", "New Name.md", "[[New Name]]"),
        ("[[old]]", "Größe 日本.md", "[[Größe 日本]]"),
        ("[t](old.md)", "größe.md", "[t](größe.md)"),
        ("[[old]] [t](old.md)", "c#1.md", "[[old]] [t](c%231.md)"),
    ] {
        assert_eq!(after("x.md", text, &["old.md"], ("old.md", to)), expected, "{text}");
    }
    let text = "[t](d%C3%A9j%C3%A0%20vu.md)";
    let expected = "[t](%C3%A9t%C3%A9%20x.md)";
    assert_eq!(
        after("x.md", text, &["déjà vu.md"], ("déjà vu.md", "été x.md")),
        expected
    );
}

#[test]
fn a_link_that_still_leads_there_is_left_alone() {
    assert_eq!(
        after("x.md", "[[old]] [[a/old]]", &["a/old.md"], ("a/old.md", "b/old.md")),
        "[[old]] [[b/old]]"
    );
    // A name is enough for a wiki link; what a Markdown link says is a way.
    let moved = ("old.md", "b/old.md");
    assert_eq!(
        after("x.md", "[[old]] [t](old.md)", &["old.md"], moved),
        "[[old]] [t](b/old.md)"
    );
    assert_eq!(
        after("x.md", "[[A title]]", &["old.md"], ("old.md", "new.md")),
        "[[A title]]"
    );
    assert_eq!(after("x.md", "[[old]]", &["old.md"], ("old.md", "old.txt")), "[[old]]");
}

#[test]
fn a_name_that_two_notes_have_is_written_longer() {
    let others = ["old.md", "c/new.md"];
    assert_eq!(after("x.md", "[[old]]", &others, ("old.md", "b/new.md")), "[[b/new]]");
    let others = ["a/note.md", "b/note.md"];
    assert_eq!(
        after("b/x.md", "[[a/note]]", &others, ("a/note.md", "c/note.md")),
        "[[c/note]]"
    );
    // The name alone would lead to the other one from here.
    assert_eq!(
        after("b/x.md", "[[one]]", &["one.md", "b/two.md"], ("one.md", "c/two.md")),
        "[[c/two]]"
    );
}

#[test]
fn a_folder_takes_links_to_its_notes_and_files_along() {
    let mut vault = Vault::with(&[
        (
            "top.md",
            "[[a/one]] [[one]] [t](a/one.md) ![p](a/p.png) ![[a/p.png]] [t](other.md)",
        ),
        (
            "a/one.md",
            "[two](two.md) [top](../top.md) ![p](p.png) ![q](../q.png) [[two]] [x](d/three.md)",
        ),
        ("a/two.md", "x"),
        ("a/d/three.md", "[t](../../other.md) [one](../one.md)"),
        ("other.md", "[t](a/d/three.md)"),
        ("a/p.png", ""),
        ("q.png", ""),
    ]);
    vault.rename("a", "b/c");
    vault.work_off();
    assert_eq!(
        vault.text("top.md"),
        "[[c/one]] [[one]] [t](b/c/one.md) ![p](b/c/p.png) ![[b/c/p.png]] [t](other.md)"
    );
    assert_eq!(
        vault.text("b/c/one.md"),
        "[two](two.md) [top](../../top.md) ![p](p.png) ![q](../../q.png) [[two]] [x](d/three.md)"
    );
    assert_eq!(vault.text("b/c/d/three.md"), "[t](../../../other.md) [one](../one.md)");
    assert_eq!(vault.text("other.md"), "[t](b/c/d/three.md)");
    assert_eq!(vault.fixture.index.stats().unwrap().unresolved_links, 0);
}

#[test]
fn a_note_that_moves_alone_keeps_its_own_links() {
    let mut vault = Vault::with(&[
        (
            "a/note.md",
            "[x](x.md) [self](note.md) ![p](p.png) [[x]] [y](../y.md) [no](no.md) [d](d/)",
        ),
        ("a/x.md", "[n](note.md)"),
        ("a/p.png", ""),
        ("a/d", ""),
        ("y.md", "x"),
    ]);
    vault.rename("a/note.md", "b/c/note.md");
    vault.work_off();
    assert_eq!(
        vault.text("b/c/note.md"),
        "[x](../../a/x.md) [self](note.md) ![p](../../a/p.png) [[x]] [y](../../y.md) [no](no.md) [d](../../a/d/)"
    );
    assert_eq!(vault.text("a/x.md"), "[n](../b/c/note.md)");
}

#[test]
fn definitions_that_repeat_a_wiki_link_follow_it() {
    let text = "See [[old]] and [[wiki-links]].\n\n[old]: a/old.md \"Old\"\n[wiki-links]: a/wiki-links.md \"Links\"\n";
    let expected =
        "See [[new]] and [[wiki-links]].\n\n[new]: a/new.md \"Old\"\n[wiki-links]: a/wiki-links.md \"Links\"\n";
    assert_eq!(
        after("x.md", text, &["a/old.md", "a/wiki-links.md"], ("a/old.md", "a/new.md")),
        expected
    );
}

#[test]
fn moves_that_came_together_are_followed_one_after_the_other() {
    let notes = [
        ("x.md", "[[one]] [[two]] [[d/three]]"),
        ("one.md", "1"),
        ("two.md", "2"),
        ("d/three.md", "3"),
    ];
    // Whoever has saved the note since: what leads nowhere cannot be meant so.
    for saved_since in [false, true] {
        let mut vault = Vault::with(&notes);
        vault.saved_since = saved_since;
        for (from, to) in [
            ("one.md", "tmp.md"),
            ("two.md", "one.md"),
            ("tmp.md", "two.md"),
            ("d", "e"),
            ("e", "f/g"),
        ] {
            vault.rename(from, to);
        }
        vault.work_off();
        assert_eq!(vault.text("x.md"), "[[two]] [[one]] [[g/three]]");
        assert_eq!(vault.fixture.index.stats().unwrap().unresolved_links, 0);
    }
}

#[test]
fn what_has_taken_the_old_name_is_what_the_link_means() {
    let mut vault = Vault::with(&[("x.md", "[[note]]"), ("note.md", "1")]);
    vault.rename("note.md", "note.bak.md");
    vault.fixture.apply(put("note.md", "2"));
    vault.files.insert("note.md".to_owned(), "2".to_owned());
    assert_eq!(vault.work_off(), 0);
    assert_eq!(vault.text("x.md"), "[[note]]");
}

#[test]
fn what_was_saved_since_is_meant_so_if_it_leads_somewhere() {
    let mut vault = Vault::with(&[
        ("a/note.md", "[y](../y.md) [x](x.md)"),
        ("y.md", "x"),
        ("a/x.md", "x"),
        ("b/y.md", "x"),
    ]);
    vault.rename("a/note.md", "b/c/note.md");
    vault.saved_since = true;
    vault.work_off();
    assert_eq!(vault.text("b/c/note.md"), "[y](../y.md) [x](../../a/x.md)");
}

#[test]
fn any_text_is_rewritten_to_one_with_the_same_links() {
    let (seed, mut random) = super::Random::from_environment("NOTEFS_TEST_SEED");
    let pieces = [
        "[[old]]",
        "[[old|",
        "]]",
        "[t](old.md)",
        "[t](",
        "<old.md>",
        ")",
        "`",
        "```\n",
        "\n\n",
        "[r]: old.md\n",
        "[r]",
        "![[old#h]]",
        "\\",
        "|",
        "é",
        "[[",
        "- x ",
        "---\n",
        "<!--",
        "-->",
        "    ",
        "[![i](old.md)](old.md)",
        "> ",
        "\r\n",
    ];
    for round in 0..300 {
        let text: String = (0..random.next() % 14).map(|_| random.pick(&pieces)).collect();
        let mut vault = Vault::with(&[("x.md", &text), ("old.md", "o")]);
        let before = vault.fixture.targets("x.md");
        vault.rename("old.md", "d/new name.md");
        vault.work_off();
        let expected: Vec<Option<String>> = before
            .into_iter()
            .map(|to| to.map(|_| "d/new name.md".to_owned()))
            .collect();
        assert_eq!(
            vault.fixture.targets("x.md"),
            expected,
            "seed {seed}, round {round}: {text:?} {:?}",
            vault.text("x.md")
        );
    }
}

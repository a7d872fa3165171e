//! The merge against `git merge-file` on random texts, and each rule by itself. The seed is printed; `NOTEFS_TEST_SEED` repeats a
//! run and `NOTEFS_TEST_CASES` makes it longer.

#![allow(clippy::print_stderr, reason = "a test")]

use super::*;
use std::path::Path;
use std::process::Command;

fn clean(base: &str, ours: &str, theirs: &str) -> Option<String> {
    match merge(base.as_bytes(), ours.as_bytes(), theirs.as_bytes()) {
        Merge::Clean(bytes) => Some(String::from_utf8(bytes).unwrap()),
        Merge::Conflict => None,
    }
}

/// Both sides changed: the outcome must be the same whoever is "ours".
fn both_ways(base: &str, one: &str, other: &str) -> Option<String> {
    let (a, b) = (clean(base, one, other), clean(base, other, one));
    assert_eq!(a.is_some(), b.is_some(), "{base:?} {one:?} {other:?}");
    a
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn line(&mut self) -> String {
        match self.below(5) {
            0 => "\n".to_owned(),
            1 => "- again\n".to_owned(),
            _ => format!("line {}\n", self.below(400)),
        }
    }

    fn edited(&mut self, base: &[String]) -> Vec<String> {
        let mut lines = base.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(lines.len() + 1);
            match self.below(5) {
                0 | 1 => lines.insert(at, self.line()),
                2 if at < lines.len() => lines[at] = self.line(),
                3 if at < lines.len() => drop(lines.remove(at)),
                4 if lines.len() > 4 => {
                    let from = self.below(lines.len() - 3);
                    let moved: Vec<String> = lines.drain(from..from + 2).collect();
                    let to = self.below(lines.len() + 1);
                    lines.splice(to..to, moved);
                }
                _ => {}
            }
        }
        lines
    }
}

fn git(dir: &Path, texts: [&str; 3]) -> Option<String> {
    let [base, ours, theirs] = ["base", "ours", "theirs"].map(|name| dir.join(name));
    for (path, text) in [&base, &ours, &theirs].into_iter().zip(texts) {
        std::fs::write(path, text).unwrap();
    }
    let mut command = Command::new("git");
    command.args(["merge-file", "-p", "-q"]).args([&ours, &base, &theirs]);
    let output = command.output().expect("git must be installed to run this test");
    assert!(
        output.status.code().is_some_and(|code| code < 128),
        "git failed: {output:?}"
    );
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[test]
fn random_texts_merge_as_git_merges_them() {
    let seed = number("NOTEFS_TEST_SEED")
        .or_else(|| number("NOTEFS_TEST_FIRST_SEED"))
        .unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    let cases = number("NOTEFS_TEST_CASES").unwrap_or(1_500) as usize;
    eprintln!("NOTEFS_TEST_SEED={seed}");
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut same, mut aligned, mut stricter, mut laxer) = (0, 0, 0, 0);
    for case in 0..cases {
        let length = random.below(30);
        let base: Vec<String> = (0..length).map(|_| random.line()).collect();
        let (ours, theirs) = (random.edited(&base), random.edited(&base));
        let [base, ours, theirs] = [base.concat(), ours.concat(), theirs.concat()];
        let said = git(dir.path(), [&base, &ours, &theirs]);
        let here = both_ways(&base, &ours, &theirs);
        if let Some(here) = &here {
            nothing_is_lost(&base, [&ours, &theirs], here);
        }
        match (said, here) {
            (Some(said), Some(here)) if here == said => same += 1,
            // Which of several equal lines a side has changed can be read in two ways.
            (Some(_), Some(here)) => {
                eprintln!("case {case}: aligned differently: {base:?} {ours:?} {theirs:?} {here:?}");
                aligned += 1;
            }
            (Some(_), None) => stricter += 1,
            (None, Some(_)) => laxer += 1,
            (None, None) => {}
        }
    }
    eprintln!(
        "{cases} cases: {same} clean and the same, {aligned} clean but aligned differently, {stricter} clean in git only, {laxer} clean \
         here only"
    );
    assert!(same > cases / 4, "too few cases merge at all");
    assert!(
        (stricter + laxer) * 25 <= cases,
        "more than 4 % of the verdicts differ from git's"
    );
    assert!(aligned * 200 <= cases, "more than 0.5 % of the texts differ from git's");
}

/// A line that a side wrote and that the base does not have is in the merged text.
fn nothing_is_lost(base: &str, sides: [&str; 2], merged: &str) {
    for side in sides {
        for line in side.lines().filter(|line| !base.lines().any(|known| known == *line)) {
            assert!(
                merged.lines().any(|kept| kept == line),
                "{line:?} is lost: {base:?} {sides:?} {merged:?}"
            );
        }
    }
}

/// They are two edits, and nothing tells a line that somebody put back from one that two have written.
#[test]
fn a_line_that_both_put_in_at_other_places_is_there_twice_as_in_git() {
    let dir = tempfile::tempdir().unwrap();
    let (base, one, other) = ("one\ntwo\n", "new\none\ntwo\n", "one\ntwo\nnew\n");
    let twice = Some("new\none\ntwo\nnew\n".to_owned());
    assert_eq!(both_ways(base, one, other), twice);
    assert_eq!(git(dir.path(), [base, one, other]), twice);
}

#[test]
fn edits_of_different_lines_merge_and_of_the_same_line_do_not() {
    let base = "one\ntwo\nthree\nfour\n";
    assert_eq!(
        both_ways(base, "ONE\ntwo\nthree\nfour\n", "one\ntwo\nthree\nFOUR\n").as_deref(),
        Some("ONE\ntwo\nthree\nFOUR\n")
    );
    assert_eq!(
        both_ways(base, "ONE\ntwo\nthree\nfour\n", "Eins\ntwo\nthree\nfour\n"),
        None
    );
    assert_eq!(both_ways(base, "same\n", "same\n").as_deref(), Some("same\n"));
    assert_eq!(both_ways(base, base, "theirs\n").as_deref(), Some("theirs\n"));
}

#[test]
fn binary_and_huge_contents_never_merge() {
    assert_eq!(merge(b"a\nb\nc\n\0", b"A\nb\nc\n\0", b"a\nb\nC\n\0"), Merge::Conflict);
    assert_eq!(
        merge(b"a\nb\nc\n\xff", b"A\nb\nc\n\xff", b"a\nb\nC\n\xff"),
        Merge::Conflict
    );
    let long = |first: &str, last: &str| format!("{first}\n{}\n{last}\n", "x\n".repeat(MERGE_BYTES_MAX / 2));
    assert_eq!(both_ways(&long("a", "b"), &long("A", "b"), &long("a", "B")), None);
    assert_eq!(
        merge(b"\0", b"\0", b"\0new"),
        Merge::Clean(b"\0new".to_vec()),
        "one side did not change it"
    );
}

#[test]
fn line_endings_byte_order_marks_and_the_last_newline_are_kept() {
    let base = "one\ntwo\nthree\nfour\n";
    let (dos, edited) = (base.replace('\n', "\r\n"), "one\ntwo\nthree\nFOUR\n");
    assert_eq!(
        both_ways(base, &dos, edited).as_deref(),
        Some("one\r\ntwo\r\nthree\r\nFOUR\r\n")
    );
    assert_eq!(
        both_ways(&dos, "ONE\r\ntwo\r\nthree\r\nfour\r\n", &edited.replace('\n', "\r\n")).as_deref(),
        Some("ONE\r\ntwo\r\nthree\r\nFOUR\r\n")
    );
    assert_eq!(
        both_ways(base, "one\r\ntwo\nthree\nfour\n", edited).as_deref(),
        Some("one\r\ntwo\nthree\nFOUR\n"),
        "mixed"
    );
    assert_eq!(
        both_ways(base, &format!("\u{feff}{base}"), edited).as_deref(),
        Some("\u{feff}one\ntwo\nthree\nFOUR\n")
    );
    assert_eq!(
        both_ways("a\nb\nc", "A\nb\nc", "a\nb\nc\nd").as_deref(),
        Some("A\nb\nc\nd")
    );
    assert_eq!(
        both_ways("a\nb\nc", "A\nb\nc", "a\nb\nc\n").as_deref(),
        Some("A\nb\nc\n")
    );
    assert_eq!(
        both_ways("a\nb\nc\n", "A\nb\nc\n", "a\nb\nc").as_deref(),
        Some("A\nb\nc")
    );
    assert_eq!(both_ways("", "ours\n", "theirs\n"), None, "both appended to nothing");
}

#[test]
fn headers_merge_by_keys_and_are_not_reformatted() {
    let note = |header: &str, body: &str| format!("---\n{header}---\n{body}");
    let base = note("title: A  # said so\ntags:\n- x\n", "text\n");
    let ours = note("title: B  # said so\ntags:\n- x\n", "text\n");
    let theirs = note(
        "title: A  # said so\ntags:\n- x\n- y\nup: \"[[Home]]\"\n",
        "text\nmore\n",
    );
    let merged = note(
        "title: B  # said so\ntags:\n- x\n- y\nup: \"[[Home]]\"\n",
        "text\nmore\n",
    );
    assert_eq!(
        both_ways(&base, &ours, &theirs).as_deref(),
        Some(merged.as_str()),
        "adjacent keys"
    );
    let other = note("title: C  # said so\ntags:\n- x\n", "text\n");
    assert_eq!(both_ways(&base, &ours, &other), None, "the same key");
    let added = |key: &str| note(&format!("title: A  # said so\ntags:\n- x\n{key}: 1\n"), "text\n");
    assert_eq!(
        clean(&base, &added("p"), &added("q")),
        Some(note("title: A  # said so\ntags:\n- x\nq: 1\np: 1\n", "text\n"))
    );
    assert_eq!(
        both_ways(&base, &added("p"), &note("title: A  # said so\n", "text\n")),
        Some(note("title: A  # said so\np: 1\n", "text\n")),
        "added and removed"
    );
    assert_eq!(
        both_ways(&base, &note("", "text\n"), &ours),
        None,
        "changed and removed"
    );
    let bodies = both_ways(
        &base,
        &note("title: B  # said so\ntags:\n- x\n", "ours\n"),
        &note("title: A  # said so\ntags:\n- x\n", "theirs\n"),
    );
    assert_eq!(bodies, None, "a body that conflicts");
    assert_eq!(
        both_ways("text\n", &note("a: 1\n", "text\n"), &note("b: 2\n", "text\n")).map(|text| text.len()),
        Some(23),
        "two new headers"
    );
    let moved = note("tags:\n- x\ntitle: A  # said so\n", "text\n");
    assert_eq!(
        both_ways(&base, &moved, &ours),
        Some(note("tags:\n- x\ntitle: B  # said so\n", "text\n")),
        "moved and changed"
    );
}

#[test]
fn a_header_that_is_no_list_of_keys_merges_by_lines() {
    let note = |header: &str| format!("---\n{header}---\ntext\n");
    let (base, ours, theirs) = (
        note("{a: 1,\nb: 2,\nc: 3}\n"),
        note("{a: 9,\nb: 2,\nc: 3}\n"),
        note("{a: 1,\nb: 2,\nc: 4}\n"),
    );
    assert_eq!(both_ways(&base, &ours, &theirs), Some(note("{a: 9,\nb: 2,\nc: 4}\n")));
    let twice = |a: &str, b: &str| note(&format!("a: {a}\nb: 2\na: {b}\n"));
    assert_eq!(
        both_ways(&twice("1", "1"), &twice("0", "1"), &twice("1", "2")),
        Some(twice("0", "2"))
    );
    let (base, ours) = ("---\nno end\nb\nc\n", "---\nno END\nb\nc\n");
    assert_eq!(
        both_ways(base, ours, "---\nno end\nb\nC\n").as_deref(),
        Some("---\nno END\nb\nC\n")
    );
}

#[test]
fn a_merge_of_large_texts_that_have_nothing_in_common_ends() {
    let text = |word: &str| (0..60_000).map(|at| format!("{word} {at}\n")).collect::<String>();
    assert_eq!(both_ways(&text("base"), &text("ours"), &text("theirs")), None);
}

#[test]
fn differences_are_shown_as_git_shows_them() {
    let diff = unified_diff(("a", b"one\ntwo\n"), ("b", b"one\n2\n"));
    assert_eq!(diff, "--- a\n+++ b\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n");
    let marked = with_markers(("here", b"one\ntwo"), ("there", b"one\n2\n"));
    assert_eq!(
        marked.as_deref(),
        Some("one\n<<<<<<< here\ntwo\n=======\n2\n>>>>>>> there\n")
    );
    assert_eq!(with_markers(("here", b"\0"), ("there", b"")), None);
}

#[test]
fn a_text_shows_an_edit_if_every_change_of_it_is_there() {
    let shown = |base: &str, ours: &str, theirs: &str| shows(base.as_bytes(), ours.as_bytes(), theirs.as_bytes());
    assert!(shown("a\nb\nc\n", "a\nc\n", "a\nc\nd\n"), "a line went");
    assert!(!shown("a\nb\nc\n", "a\nc\n", "a\nb\nc\nd\n"), "it did not");
    assert!(shown("a\nb\n", "a\nx\nb\n", "a\nx\nnew\nb\n"), "a line came");
    assert!(
        shown("a\nb\n", "a\nx\nb\n", "a\nnew\nx\nb\n"),
        "another one came before it"
    );
    assert!(!shown("a\nb\n", "a\nx\nb\n", "a\nnew\nb\n"), "only the other one came");
    assert!(!shown("a\nb\n", "a\nx\nb\ny\n", "a\nx\nb\n"), "only one of two came");
    assert!(shown("a\nb\nc\n", "b\na\nc\n", "b\na\nc\nd\n"), "a line was moved");
    assert!(!shown("a\nb\nc\n", "b\na\nc\n", "a\nb\nc\nd\n"), "it was not");
    assert!(!shown("a\n", "a\n", "a\nb\n"), "what changes nothing shows nothing");
    assert!(shown("", "a\nb\n", "a\nx\nb\n"), "a new text");
    assert!(
        shown("a\nb\n", "a\nx\nb\n", "a\r\nx\r\nb\r\nc\r\n"),
        "line endings do not count"
    );
    assert!(!shows(b"a\n", b"b\n", b"\0b\n"), "binary");
    assert_eq!(distance(b"a\nb\nc\n", b"a\nx\nc\nd\n"), 3);
}

//! What a query finds, and in which order.

use notefs_indexer::{is_note, marked_snippet, plain_snippet};

use super::{Fixture, gone, moved, put};

#[test]
fn words_are_found_wherever_they_are() {
    let text = "---\nauthor: Rosalind\ntags: [biology]\naliases: [Second Name]\n---\n# The Helix\n\n## Photo Fifty\n\nStructure of café life #inline\n";
    let fixture = Fixture::with(&[("deep/folder/dna-notes.md", text), ("other.md", "nothing")]);
    for query in [
        "helix",
        "photo",
        "structure",
        "CAFE",
        "café",
        "cafe\u{301}",
        "rosalind",
        "biology",
        "inline",
        "second",
        "folder",
        "dna",
        "struc*",
        "struct",
        "\"of café\"",
        "structure helix rosalind",
        "title:helix",
        "tag:biology",
        "tag:#INLINE",
        "path:deep",
        "path:FOLDER/dna",
        "-nothing",
        "helix -nothing",
        "helix -tag:other",
        "helix -path:other",
    ] {
        assert_eq!(fixture.found(query), ["deep/folder/dna-notes.md"], "{query}");
    }
    for query in [
        "",
        " ",
        "helix nothing",
        "\"café of\"",
        "struct helix",
        "-helix -nothing",
        "title:structure",
        "tag:bio",
        "helix -biology",
        "helix -tag:biology",
        "path:nowhere",
        "the*x",
    ] {
        assert!(fixture.found(query).is_empty(), "{query}");
    }
}

#[test]
fn words_inside_running_text_are_found() {
    let fixture = Fixture::with(&[
        ("zh.md", "# 笔记\n\n人工智能正在改变世界，包括Rust语言"),
        ("ja.md", "今日は天気がいいから、\u{30ab}\u{3099}イドを読む"),
        ("ko.md", "학교에서 공부했다"),
        ("th.md", "ประเทศไทยมีอาหารอร่อย"),
    ]);
    for (query, path) in [
        ("智能", "zh.md"),
        ("人工智能", "zh.md"),
        ("改变", "zh.md"),
        ("界", "zh.md"),
        ("笔记", "zh.md"),
        ("rust语言", "zh.md"),
        ("rust", "zh.md"),
        ("智能 世界", "zh.md"),
        ("天気", "ja.md"),
        ("天", "ja.md"),
        ("ガイド", "ja.md"),
        ("읽", ""),
        ("학교", "ko.md"),
        ("공부", "ko.md"),
        ("ไทย", "th.md"),
        ("อาหาร", "th.md"),
        ("能智", ""),
        ("世界 -智能", ""),
    ] {
        let expected: &[&str] = if path.is_empty() { &[] } else { &[path] };
        assert_eq!(fixture.found(query), expected, "{query}");
    }
}

/// What breaks queries that are built from text.
const PIECES: [&str; 41] = [
    "\"",
    "\"\"",
    "'",
    "(",
    ")",
    "AND",
    "OR",
    "NOT",
    "NEAR(",
    "-",
    "--",
    "*",
    "**",
    "^",
    ":",
    "{",
    "}",
    "+",
    "alpha",
    "col:",
    ":x",
    "title:",
    "tag:",
    "path:",
    "tag:\"",
    "\0",
    "%",
    "_",
    ";",
    "\\",
    "alpha*",
    "*alpha",
    "a\"b",
    "日*",
    "-\"",
    "-tag:",
    "NEAR(a b, 2)",
    "é\u{301}",
    "💥",
    "\u{202e}",
    "alpha:beta*",
];

#[test]
fn syntax_of_sql_and_fts_is_text() {
    let fixture = Fixture::with(&[(
        "a.md",
        "alpha AND beta OR gamma NEAR delta a\"b col:umn x^2 {y} it's (paren)",
    )]);
    for a in PIECES {
        for b in PIECES {
            for c in ["", " ", "alpha"] {
                let query = format!("{a}{c}{b}");
                fixture
                    .index
                    .search(&query, 10, 0)
                    .unwrap_or_else(|error| panic!("{query:?}: {error}"));
            }
        }
    }
    for query in [
        "alpha AND beta",
        "(paren)",
        "x^2",
        "it's",
        "col:umn",
        "\"NEAR delta\"",
        "a\"b",
        "alpha) OR (gamma",
    ] {
        assert_eq!(fixture.found(query), ["a.md"], "{query}");
    }
    fixture.index.search(&"word ".repeat(10_000), 10, 0).unwrap();
    fixture.index.search(&"\"".repeat(10_000), 10, 0).unwrap();
}

#[test]
fn an_exact_title_comes_first_then_title_then_heading_then_body() {
    let fixture = Fixture::with(&[
        (
            "body.md",
            "Something with project plan, project plan, project plan in it",
        ),
        (
            "heading.md",
            "# Other\n\n## Project plan\n\nand much text so that it is long enough",
        ),
        ("long.md", "# Project Plan of the year\n\nx"),
        (
            "exact.md",
            "# Project plan!\n\nlots of other text here that makes it long\n",
        ),
        ("café.md", "nothing"),
        ("cafe-body.md", "cafe cafe cafe cafe"),
    ]);
    assert_eq!(
        fixture.found("project PLAN"),
        ["exact.md", "long.md", "heading.md", "body.md"]
    );
    assert_eq!(fixture.found("cafe")[0], "café.md");
}

#[test]
fn of_very_common_words_the_exact_title_still_comes_first() {
    let fixture = Fixture::new();
    let mut notes: Vec<_> = (0..2_000)
        .map(|n| put(&format!("n/{n}.md"), &format!("common words {n}")))
        .collect();
    notes.push(put("zz/heading.md", "# Other\n\n## Common words\n"));
    notes.push(put("zz/long.md", "# Common words and what they do\n"));
    notes.push(put("zz/exact.md", "# Common Words\n"));
    fixture.index.apply(notes, 1).unwrap();
    let first = fixture.index.search("common words", 5, 0).unwrap();
    let paths: Vec<_> = first.iter().map(|hit| hit.path.as_str()).collect();
    assert_eq!(paths[..3], ["zz/exact.md", "zz/long.md", "zz/heading.md"]);
    assert!(first.is_sorted_by(|a, b| a.score >= b.score), "{first:?}");
    let mut all = std::collections::HashSet::new();
    for page in 0..41 {
        for hit in fixture.index.search("common words", 50, page * 50).unwrap() {
            assert!(all.insert(hit.path), "twice");
        }
    }
    assert_eq!(all.len(), 2_003);
    assert_eq!(fixture.found("common words path:heading"), ["zz/heading.md"]);
    assert_eq!(fixture.found("common path:n/1999"), ["n/1999.md"]);
}

#[test]
fn a_snippet_shows_the_match_and_its_line() {
    let text = format!(
        "---\nk: v\n---\n# T\n\n{}\nhere is the needle word\n",
        "filler text\n".repeat(50)
    );
    let fixture = Fixture::with(&[("a.md", &text), ("b.md", "# Needle\n\nother text")]);
    let hits = fixture.index.search("needle", 10, 0).unwrap();
    let body = hits.iter().find(|hit| hit.path == "a.md").unwrap();
    assert_eq!(body.line, Some(57));
    assert!(
        marked_snippet(&body.snippet, "<b>", "</b>").contains("here is the <b>needle</b> word"),
        "{body:?}"
    );
    assert!(plain_snippet(&body.snippet).contains("the needle word"));
}

#[test]
fn only_the_newest_state_is_found() {
    let fixture = Fixture::with(&[("d/a.md", "first"), ("d/b.md", "second"), ("keep.md", "third")]);
    fixture.apply(put("d/a.md", "changed"));
    assert!(fixture.found("first").is_empty());
    assert_eq!(fixture.found("changed"), ["d/a.md"]);
    fixture.apply(moved("d", "e/f"));
    assert_eq!(fixture.found("changed"), ["e/f/a.md"]);
    assert_eq!(fixture.found("path:e/f second"), ["e/f/b.md"]);
    assert!(fixture.found("path:d/").is_empty());
    fixture.apply(moved("e", ".trash"));
    assert_eq!(fixture.index.stats().unwrap().notes, 1);
    assert!(fixture.found("changed").is_empty());
    fixture.apply(gone("keep.md"));
    fixture.apply(gone("keep.md"));
    assert!(!fixture.index.contains(b"keep.md").unwrap());
    assert!(fixture.found("third").is_empty());
    assert!(!is_note(b".trash/f/a.md"));
}

#[test]
fn tags_are_counted_without_case() {
    let fixture = Fixture::with(&[("a.md", "#Work #work/sub"), ("b.md", "#work #zeta"), ("c.md", "#alpha")]);
    let tags: Vec<(String, u64)> = [("work", 2), ("alpha", 1), ("work/sub", 1), ("zeta", 1)]
        .map(|(tag, count)| (tag.into(), count))
        .into();
    assert_eq!(fixture.index.tags().unwrap(), tags);
    assert_eq!(fixture.found("tag:work").len(), 2);
    assert_eq!(fixture.found("tag:work/sub"), ["a.md"]);
    assert_eq!(fixture.found("tag:work -tag:work/sub"), ["b.md"]);
}

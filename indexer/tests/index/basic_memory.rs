//! The tricky cases of Basic Memory: permalinks, frontmatter and where links lead, each as its own parser and resolver answer.
//! Where this index answers otherwise, on purpose, is a test of its own.

use notefs_indexer::WarningKind;
use serde_json::json;

use super::{Fixture, moved, put};

fn permalink(fixture: &Fixture, path: &str) -> String {
    fixture.index.entity(path.as_bytes()).unwrap().unwrap().entity.permalink
}

#[test]
fn a_path_makes_the_permalink_of_basic_memory() {
    for (path, expected) in [
        ("Straße/Ärger & Co..md", "strasse/arger-co."),
        ("HTMLParser2Go.md", "htmlparser2-go"),
        ("中文Mixed文档 v2.md", "中文-mixed-文档-v2"),
        ("🎈.md", ""),
        ("it's O'Neil.md", "its-oneil"),
        ("x.tar.md", "x.tar"),
        ("のノ.md", "nono"),
        ("A  --  b/ c -.md", "a-b/c"),
        ("snake_case/camelCase.md", "snake-case/camel-case"),
        ("Version 1.2.md", "version-1.2"),
        ("ﬁne cafe\u{301}.md", "fine-cafe"),
        ("(paren) [x] {y} #z!.md", "paren-x-y-z"),
        ("2026-01-02 Day.md", "2026-01-02-day"),
        ("ελληνικά/Привет.md", "ellenika/privet"),
    ] {
        let fixture = Fixture::with(&[(path, "x")]);
        assert_eq!(permalink(&fixture, path), expected, "{path}");
    }
}

#[test]
fn a_permalink_of_the_author_is_kept_as_it_is_and_outlives_a_move() {
    let fixture = Fixture::with(&[
        ("a.md", "---\npermalink: Custom/Link_1\n---\n"),
        ("b.md", "---\npermalink: notes/b\n---\n"),
        ("number.md", "---\npermalink: 2026\n---\n"),
        ("plain.md", "x"),
        ("from.md", "[[Custom/Link_1]] [[notes/b]] [[2026]] [[plain]]"),
    ]);
    assert_eq!(permalink(&fixture, "a.md"), "Custom/Link_1");
    assert_eq!(permalink(&fixture, "number.md"), "2026");
    for (from, to) in [
        ("a.md", "far/Other.md"),
        ("b.md", "far/b2.md"),
        ("plain.md", "far/Plain Text.md"),
    ] {
        fixture.apply(moved(from, to));
    }
    assert_eq!(permalink(&fixture, "far/Other.md"), "Custom/Link_1");
    assert_eq!(permalink(&fixture, "far/Plain Text.md"), "far/plain-text");
    let to = |path: &str| Some(path.to_owned());
    assert_eq!(
        fixture.targets("from.md"),
        [to("far/Other.md"), to("far/b2.md"), to("number.md"), None]
    );
}

#[test]
fn frontmatter_that_never_closes_or_is_no_mapping_is_text() {
    for (text, warning) in [
        (
            "---\ntitle: a: b: c\n bad\n---\n- [f] x",
            Some(WarningKind::Frontmatter),
        ),
        ("---\ntitle: never closed\n- [f] x", None),
        ("---\n\nletterhead\n\n---\n- [f] x", Some(WarningKind::Frontmatter)),
        ("---\n---\n- [f] x", None),
        ("---  \ntitle: T\n---\t\n- [f] x", None),
        ("\u{feff}---\r\ntitle: T\r\n---\r\n- [f] x\r\n", None),
    ] {
        let fixture = Fixture::with(&[("a.md", text)]);
        let note = fixture.index.entity(b"a.md").unwrap().unwrap();
        let facts: Vec<_> = note
            .observations
            .iter()
            .map(|fact| (fact.category.as_str(), fact.content.as_str()))
            .collect();
        assert_eq!(facts, [("f", "x")], "{text:?}");
        let warnings: Vec<_> = fixture
            .index
            .warnings(10)
            .unwrap()
            .iter()
            .map(|warning| warning.kind)
            .collect();
        assert_eq!(warnings, warning.into_iter().collect::<Vec<_>>(), "{text:?}");
    }
}

/// Whatever type a value has, the note is indexed; what is unusable is told, and its text is found.
#[test]
fn frontmatter_of_the_wrong_type_is_told_and_loses_nothing() {
    let cases: &[(&str, &[WarningKind])] = &[
        ("title: [a, b]", &[WarningKind::Property]),
        ("title: {a: b}", &[WarningKind::Property]),
        ("title:", &[]),
        ("permalink: [p]", &[WarningKind::Property]),
        ("permalink: {p: q}", &[WarningKind::Property]),
        ("created: true", &[WarningKind::Property]),
        ("modified: [2026-01-02]", &[WarningKind::Property]),
        ("tags: 5", &[]),
        ("tags: {a: b}", &[]),
        ("tags: [[a], {b: c}, null, 7]", &[]),
        ("aliases: {a: b}", &[]),
        ("aliases: [1, true, null, [x]]", &[]),
        ("type: {a: b}", &[]),
        ("type: null", &[]),
        ("status: .nan", &[]),
        ("bm_parse_semantics: maybe", &[]),
        ("? [complex, key]\n: value", &[]),
        ("n: 123456789012345678901234567890", &[]),
        ("x: !!binary aGVsbG8=", &[]),
    ];
    for (yaml, expected) in cases {
        let text = format!("---\nkept: quokka\n{yaml}\n---\n# Head\n\nnumbat\n");
        let fixture = Fixture::with(&[("a.md", &text)]);
        let kinds: Vec<_> = fixture
            .index
            .warnings(10)
            .unwrap()
            .iter()
            .map(|warning| warning.kind)
            .collect();
        assert_eq!(kinds, *expected, "{yaml}");
        assert_eq!(fixture.found("quokka numbat"), ["a.md"], "{yaml}");
        let note = fixture.index.entity(b"a.md").unwrap().unwrap();
        assert_eq!(note.properties["kept"], json!("quokka"), "{yaml}");
        assert_eq!(note.entity.title, "Head", "{yaml}");
    }
}

fn library(links: &str) -> Fixture {
    let fixture = Fixture::with(&[
        ("Target.md", "x"),
        ("sub/Target.md", "x"),
        ("Core Lib.md", "x"),
        ("snake_case/a_b.md", "x"),
        ("authored.md", "---\npermalink: Custom/Link_1\n---\n"),
        ("titled.md", "---\ntitle: The One Title\n---\n"),
        ("one.md", "---\ntitle: Twice\n---\n"),
        ("two.md", "---\ntitle: Twice\n---\n"),
        ("ex 1.md", "x"),
    ]);
    fixture.apply(put("dir/from.md", links));
    fixture
}

#[test]
fn links_lead_where_basic_memory_says() {
    for (link, expected) in [
        ("[[Target]]", Some("Target.md")),
        ("[[Target|Alias]]", Some("Target.md")),
        ("[[sub/target]]", Some("sub/Target.md")),
        ("[[sub/Target.md]]", Some("sub/Target.md")),
        ("[[Core Lib]]", Some("Core Lib.md")),
        ("[[CORE LIB]]", Some("Core Lib.md")),
        ("[[core_lib]]", Some("Core Lib.md")),
        ("[[core-lib]]", Some("Core Lib.md")),
        ("[[snake-case/a-b]]", Some("snake_case/a_b.md")),
        ("[[Snake_Case/A_B]]", Some("snake_case/a_b.md")),
        ("[[Custom/Link_1]]", Some("authored.md")),
        ("[[The One Title]]", Some("titled.md")),
        ("[[titled]]", Some("titled.md")),
        ("[[Twice]]", None),
        ("[[no such note]]", None),
        ("[x](../Target.md)", Some("Target.md")),
        ("[x](/Target.md)", Some("Target.md")),
        ("[x](/ex%201.md?q=1#part)", Some("ex 1.md")),
        ("[x](../sub/../Core%20Lib.md)", Some("Core Lib.md")),
        ("[r]\n\n[r]: ../Target.md", Some("Target.md")),
        ("[x](../../Target.md)", None),
    ] {
        let fixture = library(link);
        assert_eq!(fixture.targets("dir/from.md"), [expected.map(str::to_owned)], "{link}");
    }
    for no_link in [
        "[x](https://e.org/Target.md)",
        "[x](mailto:a@b)",
        "[x](#part)",
        "<https://e.org>",
        "\\[[Target]]",
        "`[[Target]]`",
        "[[ ]]",
    ] {
        assert!(library(no_link).targets("dir/from.md").is_empty(), "{no_link}");
    }
}

/// Obsidian and editors lead these links somewhere; Basic Memory leaves them unresolved.
#[test]
fn links_lead_further_than_basic_memory_where_others_do() {
    for (link, expected) in [
        ("[[../Target]]", "Target.md"),
        ("[[/ex 1]]", "ex 1.md"),
        ("[[Target#Heading]]", "Target.md"),
        ("[[the one title]]", "titled.md"),
        ("[x](Target.md)", "Target.md"),
        ("[x](/Target)", "Target.md"),
    ] {
        assert_eq!(
            library(link).targets("dir/from.md"),
            [Some(expected.to_owned())],
            "{link}"
        );
    }
}

#[test]
fn queries_of_basic_memory_are_answered() {
    let fixture = Fixture::with(&[
        (
            "a.md",
            "IT-644 is about cacheability, see path/to/file.md and 日本語 cache",
        ),
        ("path/to/file.md", "other words"),
        ("b.md", "it 644 without its hyphen; (a OR b) AND NOT c"),
    ]);
    for (query, expected) in [
        ("IT-644 cacheability", &["a.md"][..]),
        ("\"IT-644 is\"", &["a.md"]),
        ("日本語 cache", &["a.md"]),
        ("path:path/to/file", &["path/to/file.md"]),
        ("(a OR b) AND NOT c", &["b.md"]),
    ] {
        assert_eq!(fixture.found(query), expected, "{query}");
    }
}

//! Parsing, note by note.

use serde_json::json;

use super::*;

fn note(source: &str) -> Note {
    parse(
        b"folder/File Name.md",
        &read(source.as_bytes().to_vec(), source.len() as u64),
    )
}

fn kinds(note: &Note) -> Vec<WarningKind> {
    note.remarks.iter().map(|remark| remark.kind).collect()
}

#[test]
fn the_title_is_frontmatter_then_heading_then_file_name() {
    assert_eq!(note("---\ntitle: Front\n---\n# Head").title, "Front");
    assert_eq!(note("text\n\n## Two\n# One *em* `code`\n# Other").title, "One em code");
    assert_eq!(note("text only").title, "File Name");
    assert_eq!(note("---\ntitle: 2026\n---\n").title, "2026");
    assert_eq!(note("---\ntitle: [a]\n---\n# Head").title, "Head", "a list is no title");
    assert_eq!(
        parse(b"a/plain.txt", &read(b"# no heading".to_vec(), 12)).title,
        "plain"
    );
}

#[test]
fn headings_have_level_and_line() {
    let found = note("---\na: 1\n---\n# A\n\ntext\n\nB\n---\n```\n# not this\n```\n### C #tag\n").headings;
    let found: Vec<_> = found
        .iter()
        .map(|heading| (heading.level, heading.line, heading.text.as_str()))
        .collect();
    assert_eq!(found, [(1, 4, "A"), (2, 8, "B"), (3, 13, "C #tag")]);
}

#[test]
fn tags_in_text_but_not_in_code_links_or_numbers() {
    let source = "#one and (#two), #three/sub. #drei-ü #日本 #123 #4a a#no \\#no &#35; `#no` [#no](x.md) http://x/#no\n\
        \n```\n#no\n```\n\n    #no\n\n- #list_item_tag\n- **#bold**\n> #quote\n\n#no-heading-mark ## #";
    let expected = [
        "one",
        "two",
        "three/sub",
        "drei-ü",
        "日本",
        "4a",
        "list_item_tag",
        "bold",
        "quote",
        "no-heading-mark",
    ];
    assert_eq!(note(source).tags, expected);
}

#[test]
fn tags_in_frontmatter_in_every_form() {
    for yaml in [
        "tags: [a, b/c]",
        "tags: a, b/c",
        "tags: a b/c",
        "tags:\n  - a\n  - '#b/c'",
        "Tag: \"#a, #b/c\"",
    ] {
        assert_eq!(note(&format!("---\n{yaml}\n---\n")).tags, ["a", "b/c"], "{yaml}");
    }
}

#[test]
fn properties_are_typed() {
    let source =
        "---\nn: 3\nf: 1.5\nyes: true\nno: no\nday: 2026-01-02\nlist: [a, 1]\nmap: {k: v}\nempty:\n1: one\n---\nbody";
    let found = note(source);
    let expected = [
        ("n", json!(3)),
        ("f", json!(1.5)),
        ("yes", json!(true)),
        ("no", json!("no")),
        ("day", json!("2026-01-02")),
        ("list", json!(["a", 1])),
        ("map", json!({"k": "v"})),
        ("empty", json!(null)),
        ("1", json!("one")),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value));
    assert_eq!(found.props, expected);
    assert_eq!(&source[found.body_at..], "body");
    assert!(found.remarks.is_empty());
}

#[test]
fn frontmatter_that_is_none_stays_text() {
    for (yaml, why) in [
        ("title: Foo: bar", "colon"),
        ("- a\n- b", "a list"),
        ("just words", "a scalar"),
        ("a: 1\na: 2", "a key twice"),
        ("a: *nobody", "unknown alias"),
        (&format!("a: {}", "[".repeat(20_000)), "nested"),
        (&format!("a: {}", "x".repeat(70_000)), "too large"),
        (&bomb(), "an alias bomb"),
    ] {
        let found = note(&format!("---\n{yaml}\n---\n# Head\n"));
        assert_eq!(
            (kinds(&found), found.body_at),
            (vec![WarningKind::Frontmatter], 0),
            "{why}"
        );
        assert_eq!((found.title.as_str(), found.headings.len()), ("Head", 1), "{why}");
    }
    assert_eq!(note("---\nno end").remarks, []);
    assert_eq!(note("---\n---\nx").remarks, []);
}

fn bomb() -> String {
    let mut yaml = "a0: &a0 \"lo\\nl\"\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{},", level - 1).repeat(10);
        yaml.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    yaml
}

#[test]
fn a_cyclic_alias_ends() {
    let found = note("---\na: &a [*a, b]\n---\ntext");
    assert!(found.remarks.len() <= 1);
}

/// Target, fragment, alias, line, embed.
type Seen = (String, Option<String>, Option<String>, u32, bool);

fn links(source: &str) -> Vec<Seen> {
    let links = note(source).links.into_iter();
    links
        .map(|link| (link.target, link.fragment, link.alias, link.line, link.embed))
        .collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn wiki_links() {
    assert_eq!(
        links("[[A b]] [[C#H 1|al *x*]]\n![[img.png|100]] [[#own]] [[ ]]\n`[[code]]` [[D#^block]]"),
        [
            ("A b".into(), None, None, 1, false),
            ("C".into(), some("H 1"), some("al x"), 1, false),
            ("img.png".into(), None, some("100"), 2, true),
            ("D".into(), some("^block"), None, 3, false),
        ]
    );
    assert_eq!(
        links("| a |\n|---|\n| [[T\\|al]] |\n"),
        [("T".into(), None, some("al"), 3, false)]
    );
    assert_eq!(
        links("---\nup: \"[[Home]]\"\nb: [[Two|2]]\n---\n"),
        [
            ("Home".into(), None, None, 2, false),
            ("Two".into(), None, some("2"), 3, false)
        ]
    );
}

#[test]
fn markdown_links() {
    assert_eq!(
        links(
            "[a](b%20c.md#h) [x](https://e.org/a.md) [m](mailto:a@b) ![i](../i.png)\n[r]\n\n[r]: d/e.md \"t\"\n<https://x.y>"
        ),
        [
            ("b c.md".into(), some("h"), some("a"), 1, false),
            ("../i.png".into(), None, some("i"), 1, true),
            ("d/e.md".into(), None, some("r"), 2, false),
        ]
    );
    assert_eq!(links("[[Note: a/b]] [x](c:d.md) [y](//host/x) [z](%zz.md)").len(), 3);
}

#[test]
fn lists_are_bounded() {
    let found = note(&"[[x]] ".repeat(100_000));
    assert_eq!(
        (found.links.len(), kinds(&found)),
        (MAX_LINKS, vec![WarningKind::TooMany])
    );
    let tags: String = (0..5_000).map(|n| format!("#t{n} ")).collect();
    assert_eq!(note(&tags).tags.len(), MAX_TAGS);
    assert_eq!(note(&"# h\n".repeat(5_000)).headings.len(), MAX_HEADINGS);
}

#[test]
fn nothing_written_to_hurt_takes_long() {
    let sources = [
        "[".repeat(1 << 20),
        "[[".repeat(1 << 19),
        "![[a".repeat(1 << 18),
        "[a](".repeat(1 << 18),
        ">".repeat(1 << 16),
        "- ".repeat(1 << 14),
        "*a_ ".repeat(1 << 18),
        "`".repeat(1 << 20),
        "#".repeat(1 << 20),
        "<a ".repeat(1 << 18),
        "[x]: y\n".repeat(1 << 15),
        "| a ".repeat(1 << 15),
        "a".repeat(4 << 20),
        format!("---\n{}\n---\n", "[[".repeat(1 << 19)),
    ];
    for source in sources {
        let start = std::time::Instant::now();
        note(&source);
        let took = start.elapsed();
        println!("{:>8.1?} {:?}", took, &source[..8]);
        assert!(took.as_secs() < 20, "{:?} took {took:?}", &source[..8]);
    }
}

//! The knowledge graph: what notes say of themselves and how they hang together. The cases that Basic Memory decides are
//! its own answers, but for those under "differs".

use notefs_indexer::{Context, Index};
use serde_json::json;

use super::{Fixture, gone, moved, put};

/// Category, content, context and tags of each observation of the note.
type Fact = (String, String, Option<String>, Vec<String>);

fn facts(text: &str) -> Vec<Fact> {
    let fixture = Fixture::with(&[("a.md", text)]);
    let note = fixture.index.entity(b"a.md").unwrap().unwrap();
    let facts = note.observations.into_iter();
    facts
        .map(|fact| (fact.category, fact.content, fact.context, fact.tags))
        .collect()
}

fn fact(category: &str, content: &str, context: Option<&str>, tags: &[&str]) -> Fact {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    (category.into(), content.into(), context.map(str::to_owned), tags)
}

#[test]
fn observations_are_basic_memorys() {
    let cases: Vec<(&str, Vec<Fact>)> = vec![
        (
            "- [decision] Use Redis #cache #db (after load test)",
            vec![fact(
                "decision",
                "Use Redis #cache #db",
                Some("after load test"),
                &["cache", "db"],
            )],
        ),
        ("- [X] t #tag", vec![fact("note", "[X] t #tag", None, &["tag"])]),
        ("- [/] t #t", vec![fact("note", "[/] t #t", None, &["t"])]),
        ("- [1] d", vec![fact("1", "d", None, &[])]),
        ("- [] e", vec![]),
        ("- [ ] open #t\n- [x] done #t\n- [-] void #t", vec![]),
        (
            "[00:01:02] line #t",
            vec![fact("note", "[00:01:02] line #t", None, &["t"])],
        ),
        (
            "- [f] a (nested (deep))",
            vec![fact("f", "a (nested", Some("deep)"), &[])],
        ),
        ("- [f] (all context)", vec![]),
        (
            "- [f] url http://x.y/z(1)",
            vec![fact("f", "url http://x.y/z", Some("1"), &[])],
        ),
        (
            "- [?] q\nA paragraph [n] #p\n[idea] x",
            vec![fact("note", "[?] q\nA paragraph [n] #p\n[idea] x", None, &["p"])],
        ),
        (
            "- [f] same\n- [f] same\n- [F] Same",
            vec![
                fact("f", "same", None, &[]),
                fact("f", "same", None, &[]),
                fact("F", "Same", None, &[]),
            ],
        ),
        (
            "- plain\n\n> - [f] in a quote\n\n```\n- [f] in a fence\n```\n\n    [f] indented",
            vec![],
        ),
        ("# [f] a heading", vec![fact("f", "a heading", None, &[])]),
        (
            "- [text](url.md)\n- [[link]]\n- [f] [[link]]",
            vec![fact("f", "[[link]]", None, &[])],
        ),
        ("- words #a#b", vec![fact("note", "words #a#b", None, &["a", "b"])]),
        (
            "---\ntitle: a: b: c\n bad\n---\n- [f] x",
            vec![fact("f", "x", None, &[])],
        ),
        ("---\nbm_parse_semantics: false\n---\n- [f] x", vec![]),
        (
            "- [f] outer\n  - [g] inner",
            vec![fact("f", "outer", None, &[]), fact("g", "inner", None, &[])],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(facts(text), expected, "{text}");
    }
}

/// Type, target and context of each link of the note.
fn relations(text: &str) -> Vec<(String, String, Option<String>)> {
    let fixture = Fixture::with(&[("dir/File Name.md", text)]);
    let links = fixture.index.links(b"dir/File Name.md").unwrap().into_iter();
    links.map(|link| (link.relation, link.target, link.context)).collect()
}

/// Type, target and context of a link.
type Typed<'a> = (&'a str, &'a str, Option<&'a str>);

#[test]
fn relations_are_basic_memorys() {
    let cases: &[(&str, &[Typed<'_>])] = &[
        ("- depends on [[Core Lib]]", &[("links_to", "Core Lib", None)]),
        ("- \"depends on\" [[Core Lib]]", &[("depends on", "Core Lib", None)]),
        (
            "- 'part of' [[X]] (since (2020))",
            &[("part of", "X", Some("since (2020)"))],
        ),
        (
            "- uses [[A]] and [[B]]",
            &[("links_to", "A", None), ("links_to", "B", None)],
        ),
        ("- see also: [[Target|Alias]]", &[("links_to", "Target", None)]),
        ("- rel [[Target#Heading]]", &[("rel", "Target", None)]),
        ("- rel:[[NoSpace]]", &[("rel:", "NoSpace", None)]),
        ("`[[no]]` and [[real]]", &[("links_to", "real", None)]),
        ("```\n- rel [[InFence]]\n```", &[]),
        ("> - rel [[InQuote]]", &[("rel", "InQuote", None)]),
        ("\\[[esc]]", &[]),
        ("| a |\n|---|\n| rel [[InTable]] |", &[("links_to", "InTable", None)]),
        ("rel [[Prose]]", &[("links_to", "Prose", None)]),
        ("- rel [[T]] more", &[("links_to", "T", None)]),
        ("- [x] [[Task]]", &[("links_to", "Task", None)]),
        ("- rel `code` [[T]]", &[("links_to", "T", None)]),
        ("- `code` [[T]]", &[("links_to", "T", None)]),
        ("- rel [[T]] `[[no]]`", &[("links_to", "T", None)]),
        ("- outer\n  - rel [[Inner]] (why)", &[("rel", "Inner", Some("why"))]),
        (
            "[a](other.md) [b](../up/x.md) [g](sub%20dir/f.md?x=1) [d](http://h/)",
            &[
                ("links_to", "other.md", None),
                ("links_to", "../up/x.md", None),
                ("links_to", "sub dir/f.md", None),
            ],
        ),
        (
            "---\nbm_parse_semantics: false\n---\n- rel [[T]]",
            &[("links_to", "T", None)],
        ),
    ];
    for (text, expected) in cases {
        let expected: Vec<_> = expected
            .iter()
            .map(|(relation, target, context)| {
                ((*relation).to_owned(), (*target).to_owned(), context.map(str::to_owned))
            })
            .collect();
        assert_eq!(relations(text), expected, "{text}");
    }
}

#[test]
fn a_note_is_an_entity_with_typed_properties() {
    let text = "---\ntitle: 2026-01-02\ntype: [a, b]\ntags: \"x, y z, #q\"\nstatus: true\nn: 1.50\npermalink: Custom/Link_1\n\
        created: 2026-01-02\nmodified: 2026-01-03T04:05:06+02:00\n---\nbody";
    let fixture = Fixture::with(&[("dir/Straße & Co.md", text), ("HTMLParser2Go.md", "x"), ("🎈.md", "x")]);
    let note = fixture.index.entity("dir/Straße & Co.md".as_bytes()).unwrap().unwrap();
    assert_eq!(
        (note.entity.title.as_str(), note.entity.note_type.as_str()),
        ("2026-01-02", "a, b")
    );
    assert_eq!(note.entity.permalink, "Custom/Link_1");
    assert_eq!(note.entity.created.as_deref(), Some("2026-01-02T00:00:00Z"));
    assert_eq!(note.entity.modified, "2026-01-03T02:05:06Z");
    assert_eq!(note.tags, ["q", "x", "y", "z"]);
    assert_eq!(
        (&note.properties["status"], &note.properties["n"]),
        (&json!(true), &json!(1.5))
    );
    let permalink = |path: &str| fixture.index.entity(path.as_bytes()).unwrap().unwrap().entity.permalink;
    assert_eq!(permalink("HTMLParser2Go.md"), "htmlparser2-go");
    assert_eq!(permalink("🎈.md"), "");
    assert_eq!(fixture.index.entity(b"no.md").unwrap(), None);
}

#[test]
fn links_call_permalinks_and_titles() {
    let fixture = Fixture::with(&[
        ("Core Lib.md", "x"),
        ("sub/Target.md", "x"),
        ("authored.md", "---\npermalink: My/Own_Link\n---\n"),
        ("one.md", "---\ntitle: Shared\n---\n[[Shared]]"),
        ("two.md", "---\ntitle: Shared\n---\n"),
        (
            "deep/from.md",
            "[[core_lib]] [[CORE LIB]] [[core-lib]] [[sub/target]] [[My/Own_Link]] [[my/own-link]] [[Shared]] [[/ex 1]]",
        ),
    ]);
    let to = |path: &str| Some(path.to_owned());
    let core = || to("Core Lib.md");
    assert_eq!(
        fixture.targets("deep/from.md"),
        [
            core(),
            core(),
            core(),
            to("sub/Target.md"),
            to("authored.md"),
            None,
            None,
            None
        ],
        "a title of two notes names neither"
    );
    assert_eq!(
        fixture.targets("one.md"),
        [to("one.md")],
        "a note that calls its own title means itself"
    );
    assert_eq!(fixture.inbound("Core Lib.md").len(), 3);
    assert_eq!(fixture.index.stats().unwrap().unresolved_links, 3);
    fixture.apply(gone("two.md"));
    assert_eq!(fixture.targets("deep/from.md")[6], to("one.md"));
    fixture.apply(moved("Core Lib.md", "Other Place/Core Lib.md"));
    assert_eq!(fixture.targets("deep/from.md")[1], to("Other Place/Core Lib.md"));
    assert_eq!(
        fixture.targets("deep/from.md")[0],
        None,
        "the permalink has moved along with the path"
    );
    assert_eq!(
        fixture.index.resolve("My/Own_Link").unwrap().as_deref(),
        Some(&b"authored.md"[..])
    );
}

/// Where Obsidian's rules, or an index that never rewrites a note, ask for another answer than Basic Memory's.
#[test]
fn links_differ_from_basic_memory_on_purpose() {
    let fixture = Fixture::with(&[
        ("a/Note.md", "# Heading\n"),
        ("b/Note.md", "[[Note]]"),
        ("from.md", "[[Note#Heading]] [[outer [[a/Note]] tail]]"),
    ]);
    let to = |path: &str| Some(path.to_owned());
    assert_eq!(
        fixture.targets("b/Note.md"),
        [to("b/Note.md")],
        "of notes with one file name the nearest"
    );
    assert_eq!(
        fixture.targets("from.md"),
        [to("a/Note.md"), to("a/Note.md")],
        "a heading does not hide its note, and the innermost link counts"
    );
    let twins = Fixture::with(&[
        ("one.md", "---\npermalink: p\n---\n"),
        ("two.md", "---\npermalink: p\n---\n"),
    ]);
    let warnings = twins.index.warnings(10).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].path == "two.md" && warnings[0].message.contains("one.md"),
        "{warnings:?}"
    );
    twins.apply(gone("one.md"));
    assert_eq!(twins.index.warnings(10).unwrap(), []);
}

/// The id under which the index knows the note.
fn id(index: &Index, path: &str) -> i64 {
    let table = index
        .query(&format!("SELECT id FROM notes WHERE path = '{path}'"), 1)
        .unwrap();
    table.rows[0][0].as_i64().unwrap()
}

#[test]
fn a_renamed_note_is_the_same_note() {
    let fixture = Fixture::with(&[("a.md", "# One\n\nalpha [[b]]"), ("b.md", "x"), ("d/c.md", "y")]);
    let (of_file, in_folder) = (id(&fixture.index, "a.md"), id(&fixture.index, "d/c.md"));
    fixture.apply(moved("a.md", "sub/New Name.md"));
    fixture.apply(moved("d", "e"));
    assert_eq!(id(&fixture.index, "sub/New Name.md"), of_file);
    assert_eq!(id(&fixture.index, "e/c.md"), in_folder);
    assert_eq!(fixture.found("alpha"), ["sub/New Name.md"]);
    assert_eq!(fixture.inbound("b.md"), [("sub/New Name.md".to_owned(), 3)]);
    let permalink = |path: &str| fixture.index.entity(path.as_bytes()).unwrap().unwrap().entity.permalink;
    assert_eq!(
        (permalink("sub/New Name.md"), permalink("e/c.md")),
        ("sub/new-name".into(), "e/c".into())
    );
}

fn around(context: &Context) -> Vec<(String, u32, String, bool)> {
    let related = context.related.iter();
    related
        .map(|near| {
            (
                near.entity.path.clone(),
                near.distance,
                near.relation.clone(),
                near.outbound,
            )
        })
        .collect()
}

#[test]
fn context_orphans_unresolved_and_the_graph() {
    let fixture = Fixture::with(&[
        ("a.md", "- needs [[b]]\n\n[[missing]] [[missing]]"),
        ("b.md", "[[c]] [[a]]"),
        ("c.md", "[[nowhere]]"),
        ("d.md", "- made_of [[a]] (mostly)\n\n[[missing]]"),
        ("lonely.md", "[[lonely]]"),
    ]);
    let index = &fixture.index;
    let context = index.context(b"a.md", 2, 10).unwrap().unwrap();
    let near =
        |path: &str, distance, relation: &str, outbound| (path.to_owned(), distance, relation.to_owned(), outbound);
    assert_eq!(
        around(&context),
        [
            near("b.md", 1, "needs", true),
            near("d.md", 1, "made_of", false),
            near("c.md", 2, "links_to", true)
        ]
    );
    assert!(!context.has_more && context.links.len() == 3 && context.backlinks.len() == 2);
    let narrow = index.context(b"a.md", 2, 1).unwrap().unwrap();
    assert!(narrow.has_more && narrow.related.len() == 1);
    assert!(index.context(b"a.md", 0, 10).unwrap().unwrap().related.is_empty());
    assert_eq!(index.context(b"none.md", 1, 10).unwrap(), None);

    let orphans: Vec<String> = index.orphans(10).unwrap().into_iter().map(|note| note.path).collect();
    assert_eq!(orphans, ["d.md", "lonely.md"], "a link to itself is none");
    let missing = index.unresolved(10).unwrap();
    let shown: Vec<_> = missing
        .iter()
        .map(|name| (name.target.as_str(), name.count, name.sources.len()))
        .collect();
    assert_eq!(shown, [("missing", 3, 3), ("nowhere", 1, 1)]);
    assert_eq!(
        (missing[0].sources[2].path.as_str(), missing[0].sources[2].line),
        ("d.md", 3)
    );

    let graph = index.graph(10).unwrap();
    let edges: Vec<_> = graph
        .edges
        .iter()
        .map(|edge| (edge.from, edge.to, edge.relation.as_str()))
        .collect();
    assert_eq!(
        edges,
        [
            (0, 1, "needs"),
            (1, 0, "links_to"),
            (1, 2, "links_to"),
            (3, 0, "made_of")
        ]
    );
    assert_eq!(
        (graph.nodes[0].degree, graph.nodes[4].degree, graph.left_out),
        (2, 0, 0)
    );
    let small = index.graph(2).unwrap();
    let kept: Vec<&str> = small.nodes.iter().map(|node| node.entity.path.as_str()).collect();
    assert_eq!((kept, small.left_out), (vec!["a.md", "b.md"], 3));
    let part = index.graph_around(b"c.md", 1, 10).unwrap().unwrap();
    assert_eq!((part.nodes.len(), part.edges.len()), (2, 1));
    assert_eq!(index.graph_around(b"none.md", 1, 10).unwrap(), None);
}

#[test]
fn recent_notes_come_by_the_date_they_state() {
    let fixture = Fixture::with(&[
        ("old.md", "x"),
        ("d/new.md", "---\nmodified: 2026-01-02\n---\n"),
        ("d/newer.md", "---\nupdated: 2026-01-02T00:00:01Z\n---\n"),
        ("dd/x.md", "---\nmodified: nonsense\n---\n"),
    ]);
    let recent = |below: &str, limit| -> Vec<String> {
        let notes = fixture.index.recent(below.as_bytes(), limit).unwrap();
        notes.into_iter().map(|note| note.path).collect()
    };
    assert_eq!(recent("", 3), ["d/newer.md", "d/new.md", "dd/x.md"]);
    assert_eq!(recent("d", 10), ["d/newer.md", "d/new.md"]);
    assert_eq!(fixture.index.warnings(5).unwrap().len(), 1);
}

#[test]
fn an_index_of_before_understands_the_graph_without_reading_notes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.db");
    let index = Index::open(&path).unwrap();
    index
        .apply(vec![put("a.md", "- [f] fact\n- uses [[b]]"), put("b.md", "x")], 7)
        .unwrap();
    drop(index);
    let database = rusqlite::Connection::open(&path).unwrap();
    let undone = "DELETE FROM observation; UPDATE link SET relation = NULL; UPDATE note SET permalink = '';
        UPDATE state SET value = 0 WHERE key = 'parse_version'";
    database.execute_batch(undone).unwrap();
    drop(database);
    let index = Index::open(&path).unwrap();
    let note = index.entity(b"a.md").unwrap().unwrap();
    assert_eq!((note.observations.len(), note.entity.permalink.as_str()), (1, "a"));
    assert_eq!(index.links(b"a.md").unwrap()[0].relation, "uses");
    assert_eq!(index.indexed_seq().unwrap(), 7);
}

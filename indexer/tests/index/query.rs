//! Filters of a search, and queries in SQL that may only read.

use std::time::{Duration, Instant};

use notefs_indexer::IndexError;
use serde_json::json;

use super::Fixture;

fn library() -> Fixture {
    Fixture::with(&[
        (
            "work/plan.md",
            "---\ntype: Meeting\nmodified: 2026-01-15\npriority: 4\nstatus: Done\nwho: [Ann, Bob B]\ndue: 2026-02-01\nok: true\n---\n\
             # Plan\n\nshared words here\n\n- [decision] go #yes",
        ),
        (
            "work/idea.md",
            "---\nmodified: 2025-12-31\npriority: 10\n---\nshared words there\n\n- [Open Question] why",
        ),
        (
            "home.md",
            "---\ntype: note\nmodified: 2024-05-05\nstatus: open\n---\nshared words elsewhere #yes/no",
        ),
    ])
}

#[test]
fn filters_narrow_a_search() {
    let fixture = library();
    let plan = "work/plan.md";
    let idea = "work/idea.md";
    let home = "home.md";
    let cases: &[(&str, &[&str])] = &[
        ("type:meeting", &[plan]),
        ("-type:meeting shared", &[home, idea]),
        ("type:note", &[home, idea]),
        ("after:2026-01-01", &[plan]),
        ("before:2026 words", &[home, idea]),
        ("after:2025-12-31 before:2026-01-15", &[idea]),
        ("-before:2026-01-15", &[plan]),
        ("category:decision", &[plan]),
        ("category:\"open question\"", &[idea]),
        ("tag:yes type:note", &[home]),
        ("prop:status", &[home, plan]),
        ("prop:status=done", &[plan]),
        ("prop:priority=4.0", &[plan]),
        ("prop:priority>4", &[idea]),
        ("prop:priority>=4 path:work", &[idea, plan]),
        ("prop:who=\"bob b\"", &[plan]),
        ("prop:due<2026-03", &[plan]),
        ("prop:due>2026-03", &[]),
        ("prop:ok=true", &[plan]),
        ("-prop:status shared", &[idea]),
        ("\"words there\" type:note -tag:yes", &[idea]),
        ("type:\"' OR 1=1 --\"", &[]),
        ("prop:x'=\"y\" OR 1=1", &[]),
        ("category:decision after:2026-02", &[]),
    ];
    for (query, expected) in cases {
        let mut found = fixture.found(query);
        found.sort();
        assert_eq!(found, *expected, "{query}");
    }
}

#[test]
fn pages_follow_each_other() {
    let fixture = Fixture::new();
    let notes = (0..120).map(|n| super::put(&format!("n{n}.md"), &format!("word {} filler", "word ".repeat(n % 7))));
    fixture.index.apply(notes.collect(), 1).unwrap();
    let page = |offset| -> Vec<String> {
        let hits = fixture.index.search("word", 25, offset).unwrap();
        hits.into_iter().map(|hit| hit.path).collect()
    };
    let pages: Vec<String> = (0..5).flat_map(|number| page(number * 25)).collect();
    let all: Vec<String> = fixture.found("word");
    assert_eq!((pages.len(), &pages[..100]), (120, all.as_slice()));
    assert!(page(125).is_empty());
}

#[test]
fn a_query_reads_the_views() {
    let fixture = library();
    let ask = |sql: &str| fixture.index.query(sql, 100).unwrap();
    let table = ask("SELECT path, type, modified FROM notes ORDER BY modified DESC");
    assert_eq!(table.columns, ["path", "type", "modified"]);
    assert_eq!(
        table.rows[0],
        [json!("work/plan.md"), json!("Meeting"), json!("2026-01-15T00:00:00Z")]
    );
    assert!(!table.has_more);
    let one = |sql: &str| ask(sql).rows[0][0].clone();
    assert_eq!(
        one("SELECT path FROM properties WHERE key = 'priority' AND value > 5"),
        json!("work/idea.md")
    );
    assert_eq!(one("SELECT type FROM properties WHERE key = 'ok'"), json!("true"));
    assert_eq!(
        one("SELECT category FROM observations WHERE path = 'work/plan.md'"),
        json!("decision")
    );
    assert_eq!(one("SELECT count(*) FROM tags WHERE tag = 'yes'"), json!(1));
    assert_eq!(one("SELECT text FROM headings"), json!("Plan"));
    assert_eq!(one("SELECT count(*) FROM links"), json!(0));
    assert_eq!(
        one(
            "SELECT notes.path FROM full_text JOIN notes ON notes.id = full_text.rowid WHERE full_text MATCH 'elsewhere'"
        ),
        json!("home.md")
    );
    let large = fixture.index.query("SELECT zeroblob(9000000), 1", 10).unwrap();
    assert!(
        large.has_more && large.rows[0][0].is_null(),
        "more than an answer holds"
    );
    assert_eq!(one("SELECT x'00ff'"), json!("\u{0}\u{fffd}"));
    let more = fixture.index.query("SELECT path FROM notes", 2).unwrap();
    assert!(more.has_more && more.rows.len() == 2);
}

#[test]
fn a_query_can_do_nothing_but_read() {
    let fixture = library();
    let path = fixture.folder.path().join("other.db");
    let attach = format!("ATTACH '{}' AS other", path.display());
    for sql in [
        "DELETE FROM note",
        "UPDATE note SET title = 'x'",
        "INSERT INTO state VALUES ('x', 1)",
        "DROP TABLE note",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "PRAGMA user_version = 7",
        "PRAGMA query_only = 0",
        "PRAGMA journal_mode",
        "VACUUM INTO 'copy.db'",
        "BEGIN IMMEDIATE",
        "SELECT load_extension('x')",
        "INSERT INTO full_text (full_text) VALUES ('delete-all')",
        "SELECT 1; DELETE FROM note",
        attach.as_str(),
        "SELECT nonsense FROM nowhere",
        "",
        "no SQL at all",
        "SELECT randomblob(1000000000)",
    ] {
        let refused = fixture.index.query(sql, 10);
        assert!(matches!(refused, Err(IndexError::Query { .. })), "{sql}: {refused:?}");
    }
    assert!(!path.exists());
    assert_eq!(fixture.index.stats().unwrap().notes, 3);
}

#[test]
fn an_endless_query_ends() {
    let fixture = library();
    let start = Instant::now();
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let error = fixture.index.query(endless, 10).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

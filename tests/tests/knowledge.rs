//! The knowledge in the notes, as a user asks for it: the graph, what is new, filters, SQL, and what is strange.

use anyhow::{Context, Result, ensure};
use notefs_tests::{Mount, PATIENCE, Store, process, scratch};
use serde_json::Value;

/// A vault of the usual kind: folders, a daily note, an attachment, a hub, a note nobody links to.
const NOTES: [(&str, &str); 7] = [
    (
        "Home.md",
        "# Home\n\n[[Projects/Kernel Work]] [plan](Projects/plan.md) ![[diagram.png]] [[Not Written Yet]]\n",
    ),
    (
        "Projects/Kernel Work.md",
        "---\ntype: project\npermalink: kernel\ntags: [fuse, work/now]\npriority: 4\nmodified: 2026-02-03\n---\n# Kernel work\n\n\
         - [decision] Use FUSE #fuse (measured)\n- part_of [[Home]]\n- \"depends on\" [[Plan]] (for dates)\n",
    ),
    (
        "Projects/plan.md",
        "---\ntitle: Plan\ntype: project\nstatus: open\nmodified: 2026-01-15\n---\nwords of a plan\n\n- [question] When?\n",
    ),
    (
        "Daily/2026-02-01.md",
        "Met about [[kernel]] and [[Not Written Yet]]. words\n",
    ),
    ("Lonely.md", "words that nobody links to\n"),
    ("עברית 💥.md", "# שלום\n\nright to left\n"),
    (".obsidian/app.md", "hidden [[Home]]\n"),
];

fn vault() -> Result<(Mount, String)> {
    let mount = Mount::start(&Store::folder()?)?;
    for folder in ["Projects", "Daily", ".obsidian"] {
        std::fs::create_dir(mount.path(folder))?;
    }
    for (path, text) in NOTES {
        std::fs::write(mount.path(path), text)?;
    }
    std::fs::write(mount.path("diagram.png"), b"\x89PNG\r\n")?;
    let dir = mount.dir().display().to_string();
    Ok((mount, dir))
}

/// The paths of JSON rows.
fn paths(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().into_iter().flatten();
    rows.filter_map(|row| row["path"].as_str()).collect()
}

#[test]
fn a_note_shows_its_facts_and_what_is_around_it() -> Result<()> {
    let (mount, _) = vault()?;
    let path = mount.path("Projects/Kernel Work.md").display().to_string();
    let context = mount.notefs().json(&["context", &path, "--depth", "2", "--json"])?;
    let note = &context["note"];
    ensure!(
        note["type"] == "project" && note["permalink"] == "kernel" && note["properties"]["priority"] == 4,
        "note: {note}"
    );
    let fact = &note["observations"][0];
    ensure!(
        fact["category"] == "decision" && fact["context"] == "measured" && fact["tags"][0] == "fuse",
        "fact: {fact}"
    );
    let types: Vec<_> = context["links"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|link| &link["relation"])
        .collect();
    ensure!(types == ["part_of", "depends on"], "types of links: {types:?}");
    let near = paths(&context["related"]);
    ensure!(
        near == ["Home.md", "Projects/plan.md", "Daily/2026-02-01.md"],
        "around it: {near:?}"
    );
    let told = mount.notefs().output(&["context", &path])?;
    for words in [
        "[decision] Use FUSE #fuse (measured)",
        "depends on -> Projects/plan.md (for dates)",
        "kernel",
    ] {
        ensure!(told.contains(words), "no {words:?} in {told}");
    }
    let missing = mount.path("none.md").display().to_string();
    let told = mount.notefs().failure(&["context", &missing], 1)?;
    ensure!(told.contains("none.md"), "for a note that is none: {told}");
    Ok(())
}

#[test]
fn links_that_lead_nowhere_and_notes_without_links_are_listed() -> Result<()> {
    let (mount, dir) = vault()?;
    let notefs = mount.notefs();
    let unresolved = notefs.json(&["unresolved", &dir, "--json"])?;
    ensure!(
        unresolved.as_array().is_some_and(|rows| rows.len() == 1)
            && unresolved[0]["target"] == "Not Written Yet"
            && unresolved[0]["count"] == 2,
        "unresolved: {unresolved}"
    );
    let orphans = notefs.json(&["orphans", &dir, "--json"])?;
    ensure!(
        paths(&orphans) == ["Daily/2026-02-01.md", "Lonely.md", "עברית 💥.md"],
        "orphans: {orphans}"
    );
    std::fs::write(mount.path("not written yet.md"), "now it is, and links to [[Lonely]]\n")?;
    ensure!(
        notefs.json(&["unresolved", &dir, "--json"])? == Value::Array(Vec::new()),
        "a link does not find the note that appeared"
    );
    std::fs::rename(mount.path("not written yet.md"), mount.path("Daily/renamed.md"))?;
    let told = notefs.output(&["unresolved", &dir])?;
    ensure!(
        told.contains("Not Written Yet") && told.contains("Home.md:3"),
        "after a rename: {told}"
    );
    Ok(())
}

#[test]
fn searches_are_narrowed_and_paged() -> Result<()> {
    let (mount, dir) = vault()?;
    for (query, expected) in [
        ("type:project words", &["Projects/plan.md"][..]),
        ("category:decision", &["Projects/Kernel Work.md"]),
        (
            "after:2026-02 before:2026-03 type:project",
            &["Projects/Kernel Work.md"],
        ),
        ("prop:priority>3", &["Projects/Kernel Work.md"]),
        ("prop:status=open -tag:work", &["Projects/plan.md"]),
        ("words path:lonely -\"of a plan\"", &["Lonely.md"]),
        ("type:\"x' OR 1=1 --\"", &[]),
    ] {
        let found = mount.search(query)?;
        ensure!(found == expected, "{query}: {found:?}");
    }
    let page = |offset: &str| {
        let args = ["search", &dir, "words", "--json", "--limit", "2", "--offset", offset];
        mount.notefs().json(&args)
    };
    let (first, second) = (page("0")?, page("2")?);
    ensure!(
        first["next_offset"] == 2 && second["next_offset"].is_null(),
        "pages: {first} {second}"
    );
    let mut all = paths(&first["hits"]);
    all.extend(paths(&second["hits"]));
    all.sort_unstable();
    ensure!(
        all == ["Daily/2026-02-01.md", "Lonely.md", "Projects/plan.md"],
        "both pages: {all:?}"
    );
    let recent = mount
        .notefs()
        .json(&["recent", &mount.path("Projects").display().to_string(), "--json"])?;
    ensure!(
        paths(&recent) == ["Projects/Kernel Work.md", "Projects/plan.md"],
        "recent: {recent}"
    );
    Ok(())
}

#[test]
fn the_graph_is_drawn() -> Result<()> {
    let (mount, dir) = vault()?;
    let notefs = mount.notefs();
    let graph = notefs.json(&["graph", &dir, "--format", "json"])?;
    let count = |name: &str| graph[name].as_array().map_or(0, Vec::len);
    ensure!(count("nodes") == 6 && count("edges") == 5, "graph: {graph}");
    let svg = notefs.output(&["graph", &dir])?;
    ensure!(
        svg.starts_with("<svg") && svg.matches("<circle").count() == 6,
        "picture: {svg}"
    );
    ensure!(svg.contains("שלום") && svg.contains("Kernel work"), "no titles: {svg}");
    let script = "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])";
    let picture = scratch::folder("picture")?.join("notes.svg");
    std::fs::write(&picture, &svg)?;
    let mut parser = std::process::Command::new("python3");
    parser.args(["-c", script]).arg(&picture);
    process::run(parser, PATIENCE)?.ok().context("the picture is no XML")?;
    let page = scratch::folder("page")?.join("notes.html");
    let around = mount.path("Home.md").display().to_string();
    notefs.output(&[
        "graph",
        "--around",
        &around,
        "--depth",
        "1",
        "--format",
        "html",
        "--output",
        &page.display().to_string(),
    ])?;
    let html = std::fs::read_to_string(&page)?;
    ensure!(
        html.contains("<svg") && html.contains("3 notes") && !html.contains("src="),
        "page: {html}"
    );
    let dot = notefs.output(&["graph", &dir, "--format", "dot"])?;
    ensure!(
        dot.starts_with("digraph") && dot.contains("label=\"depends on\""),
        "dot: {dot}"
    );
    Ok(())
}

#[test]
fn sql_reads_and_nothing_else() -> Result<()> {
    let (mount, dir) = vault()?;
    let notefs = mount.notefs();
    let told = notefs.output(&["query", &dir, "SELECT path, category FROM observations ORDER BY path"])?;
    ensure!(
        told == "path\tcategory\nProjects/Kernel Work.md\tdecision\nProjects/plan.md\tquestion\n",
        "observations: {told}"
    );
    let table = notefs.json(&["query", &dir, "SELECT count(*) AS n FROM notes", "--json"])?;
    ensure!(table["columns"][0] == "n" && table["rows"][0][0] == 6, "count: {table}");
    for sql in [
        "DELETE FROM note",
        "ATTACH '/tmp/x' AS x",
        "PRAGMA journal_mode = delete",
        "SELECT nothing",
    ] {
        let words = notefs.failure(&["query", &dir, sql], 1)?;
        ensure!(words.contains("query failed"), "{sql}: {words}");
    }
    ensure!(mount.search("words")?.len() == 3, "a query has changed the index");
    Ok(())
}

#[test]
fn notes_made_to_hurt_are_listed_with_a_warning() -> Result<()> {
    let (mount, dir) = vault()?;
    let deep: String = (1..40)
        .map(|n| format!("a{n}: &a{n} [*a{0},*a{0},*a{0}]\n", n - 1))
        .collect();
    std::fs::write(mount.path("cycle.md"), "---\na: &a [*a]\n---\n")?;
    let hostile: [(&str, Vec<u8>, &str); 6] = [
        ("line.md", vec![b'x'; 50 << 20], "too-large"),
        ("links.md", "[[somewhere]] ".repeat(100_000).into_bytes(), "too-many"),
        (
            "bomb.md",
            format!("---\na0: &a0 lol\n{deep}---\n").into_bytes(),
            "frontmatter",
        ),
        ("bytes.md", b"caf\xe9 \xff\xfe".to_vec(), "not-utf8"),
        ("twin.md", b"---\npermalink: kernel\n---\n".to_vec(), "permalink"),
        (
            "typed.md",
            b"---\ntitle: [a, b]\npermalink: {x: y}\nmodified: never\n---\n".to_vec(),
            "property",
        ),
    ];
    for (path, bytes, _) in &hostile {
        std::fs::write(mount.path(path), bytes)?;
    }
    mount.notefs().output(&["status", &dir, "--wait", "indexed"])?;
    let warnings = mount.notefs().json(&["status", &dir, "--warnings", "--json"])?;
    for (path, _, kind) in &hostile {
        let found = warnings.as_array().into_iter().flatten();
        let kinds: Vec<_> = found
            .filter(|row| row["path"] == *path)
            .map(|row| &row["kind"])
            .collect();
        ensure!(
            kinds.iter().any(|found| *found == *kind),
            "{path}: {kinds:?}, not {kind}"
        );
    }
    ensure!(mount.search("words")?.len() == 3, "other notes are not found any more");
    let plain = mount.notefs().output(&["status", &dir, "--warnings"])?;
    ensure!(plain.contains("bytes.md: Not UTF-8"), "warnings: {plain}");
    Ok(())
}

//! Notes and queries that are made to hurt: they are data, in every database.

use anyhow::{Context, Result, ensure};
use notefs_indexer::{Change, Index};

use crate::{everything, open, upsert, version};

/// Texts that have each broken something somewhere; "marker" and a number are added to each.
const TEXTS: [&[u8]; 16] = [
    b"nul \0 byte",
    b"---\ntitle: \"a\\0b\"\ntags: [\"x\\0y\"]\nk\0ey: \"v\\0\"\n---\n- [c\0at] o #t\0ag [[li\0nk]]",
    b"no \xff\xfe broken \xc3\x28 utf-8 \xed\xa0\x80 \xf5",
    b"'; DROP TABLE note; -- \" $1 ?1 :a @b %s {} \\",
    b"NEAR(a b) AND OR NOT title:x ^a + - * ( ) : ' \" <-> & | ! :*A",
    "right \u{202e}to left\u{202c} عربي עברית \u{200f}".as_bytes(),
    "emoji 👩\u{200d}👩\u{200d}👧 🏳\u{fe0f}\u{200d}🌈 🇩🇪 e\u{301}\u{327}\u{323}".as_bytes(),
    b"---\nk: [1, 1e999, .inf, .nan, -0.0, 9223372036854775807, 9223372036854775808, 0x10, ~, {a: {b: [c]}}]\n---\nnumbers",
    b"---\na: &a [x]\nb: [*a, *a]\n? complex\n: key\n---\nyaml",
    b"---\n: : :\n---\nno yaml",
    b"\xef\xbb\xbfwith a mark",
    b"\xff\xfeu\0t\0f\x001\x006\0",
    b"# \\u0000 \\x00 \xe2\x80\xa8 \xe2\x80\xa9 \xef\xbf\xbf",
    b"tab\tvertical\x0bform\x0cfeed\r\nreturn\r\x1b[31mred\x07",
    "\u{feff}\u{200b}\u{ad}soft\u{ad}hyphen ﬁ ligature ǅ İstanbul ß".as_bytes(),
    "\u{10ffff}\u{e000}private 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠮷野家".as_bytes(),
];

/// Every such note goes in with the rest of its batch, and is found.
pub(crate) async fn notes(url: &str) -> Result<()> {
    let index = open(url, "'; DROP TABLE vault; -- \0 🎉").await?;
    let mut changes = Vec::new();
    for (number, text) in TEXTS.iter().enumerate() {
        let text = [text, format!("\nmarker n{number}x\n").as_bytes()].concat();
        let path = format!("'\";{number}\u{202e}🎉.md");
        changes.push(upsert(path.as_bytes(), version("'\"\\", 1, "\"'"), Some("\\"), &text));
    }
    changes.push(upsert(b"d/\xff\xfe.md", version("1", 1, "m"), None, b"marker rawpath"));
    let long = format!("{} marker longline {}", "x".repeat(1 << 20), "wörd ".repeat(20_000));
    changes.push(upsert(b"long.md", version("1", 1, "m"), None, long.as_bytes()));
    let links: String = (0..11_000).map(|n| format!("[[target {n}]] #tag{n} ")).collect();
    changes.push(upsert(
        b"links.md",
        version("1", 1, "m"),
        None,
        format!("marker manylinks\n{links}").as_bytes(),
    ));
    let cjk = "東京都".repeat(10_000);
    changes.push(upsert(
        b"cjk.md",
        version("1", 1, "m"),
        None,
        format!("marker spaceless\n{cjk}").as_bytes(),
    ));
    let key = format!("---\n{}: 1\n---\nmarker longkey", "k".repeat(8_000));
    changes.push(upsert(b"key.md", version("1", 1, "m"), None, key.as_bytes()));
    // Too long for an index of PostgreSQL, and no way to pack it.
    let folders: String = (0..1_200_u64)
        .map(|n| format!("{:03x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52))
        .collect();
    for name in ["one", "two"] {
        let path = format!("{folders}/{name}.md");
        changes.push(upsert(
            path.as_bytes(),
            version("1", 1, "m"),
            None,
            format!("marker longpath{name}").as_bytes(),
        ));
    }
    for _ in 0..2 {
        let rejected = index.apply(&changes).await?;
        ensure!(rejected.is_empty(), "{rejected:?}");
    }
    ensure!(everything(&index, 100).await?.len() == changes.len());
    // The note in UTF-16 has its marker in no place where it could be read.
    ensure!(index.search("marker", 100, 0).await?.len() == changes.len() - 1);
    for word in [
        "n0x",
        "n1x",
        "n2x",
        "n3x",
        "rawpath",
        "longline",
        "manylinks",
        "spaceless",
        "longkey",
        "longpathone",
        "longpathtwo",
    ] {
        ensure!(index.search(word, 10, 0).await?.len() == 1, "{word}");
    }
    ensure!(index.search("rawpath", 1, 0).await?[0].path_bytes == b"d/\xff\xfe.md");
    let path = format!("{folders}/two.md").into_bytes();
    ensure!(index.row(&path).await?.is_some_and(|row| row.path == path));
    let rows = index.rows(&[&path, b"key.md", b"nowhere.md"]).await?;
    ensure!(rows.len() == 2 && rows.iter().any(|row| row.path == path), "{rows:?}");
    Ok(())
}

/// Lets the server refuse each note that is called so.
pub(crate) const TRIGGER_OF_SQLITE: &str = "CREATE TRIGGER refuse BEFORE INSERT ON note WHEN NEW.title = 'poison'
    BEGIN SELECT RAISE(ABORT, 'it is too odd'); END";
pub(crate) const TRIGGER_OF_POSTGRES: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       IF NEW.title = 'poison' THEN RAISE EXCEPTION 'it is too odd'; END IF; RETURN NEW; END $$;
     CREATE TRIGGER refuse BEFORE INSERT ON notefs.note FOR EACH ROW EXECUTE FUNCTION refuse()";

/// What the server does not take is told, and all the rest goes in; a server that takes nothing has another trouble.
pub(crate) async fn what_is_refused(url: &str, run: &dyn Fn(&str) -> Result<()>, trigger: &str) -> Result<()> {
    let index = open(url, "refusing").await?;
    run(trigger)?;
    let note = |number: usize| {
        let title = if number % 97 == 13 { "poison" } else { "food" };
        let path = format!("{number:03}.md").into_bytes();
        upsert(
            &path,
            version("1", 1, "m"),
            None,
            format!("# {title}\n\nsupper\n").as_bytes(),
        )
    };
    let changes: Vec<_> = (0..300).map(note).collect();
    let rejected = index.apply(&changes).await?;
    let mut paths: Vec<_> = rejected.iter().map(|one| String::from_utf8_lossy(&one.path)).collect();
    paths.sort();
    ensure!(paths == ["013.md", "110.md", "207.md"], "{rejected:?}");
    ensure!(
        rejected.iter().all(|one| one.reason.contains("it is too odd")),
        "{rejected:?}"
    );
    ensure!(everything(&index, 100).await?.len() == 297 && index.search("supper", 500, 0).await?.len() == 297);
    let table = if url.starts_with("postgres") {
        "notefs.note_text"
    } else {
        "note_text"
    };
    run(&format!("ALTER TABLE {table} RENAME TO elsewhere"))?;
    let refused = index.apply(&changes[..3]).await.err();
    run(&format!(
        "ALTER TABLE {} RENAME TO note_text",
        table.replace("note_text", "elsewhere")
    ))?;
    let refused = refused.context("a server without tables takes nothing")?;
    ensure!(!refused.retryable() && !refused.away(), "{refused}");
    ensure!(index.apply(&changes[..3]).await?.is_empty());
    Ok(())
}

/// Whatever is asked, nothing fails, and both find the same notes.
pub(crate) async fn queries(url: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let local = Index::open(&folder.path().join("index.db"))?;
    let shared = open(url, "queries").await?;
    let note = |number: usize, text: &[u8]| {
        let path = format!("{number}.md").into_bytes();
        let change = Change::Upsert {
            path: path.clone(),
            bytes: text.into(),
            total_bytes: text.len() as u64,
            mtime_ns: 1,
        };
        (change, upsert(&path, version("1", 1, "m"), None, text))
    };
    let (own, others): (Vec<_>, Vec<_>) = TEXTS
        .iter()
        .enumerate()
        .map(|(number, text)| note(number, text))
        .unzip();
    local.apply(own, 1)?;
    shared.apply(&others).await?;
    let mut questions: Vec<String> = TEXTS
        .iter()
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect();
    let pieces: Vec<String> = questions
        .iter()
        .flat_map(|text| text.split_whitespace())
        .map(Into::into)
        .collect();
    questions.extend(pieces.iter().enumerate().map(|(at, piece)| match at % 3 {
        0 => format!("title:{piece}"),
        1 => format!("-{piece}"),
        _ => format!("prop:k={piece} tag:{piece} path:{piece} type:{piece}"),
    }));
    questions.extend(pieces);
    questions.push("x ".repeat(5_000));
    questions.push("'".repeat(3_000));
    let mut wrong = Vec::new();
    for question in questions {
        let paths = |hits: Vec<notefs_indexer::Hit>| {
            let mut paths: Vec<String> = hits.into_iter().map(|hit| hit.path).collect();
            paths.sort();
            paths
        };
        let (ours, theirs) = (
            paths(local.search(&question, 100, 0)?),
            paths(shared.search(&question, 100, 0).await?),
        );
        if ours != theirs {
            wrong.push(format!("{question:?}: {theirs:?} instead of {ours:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

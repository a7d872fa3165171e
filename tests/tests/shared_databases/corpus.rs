//! Notes, and questions with their answers: each is asked of SQLite and of the server.

use anyhow::{Result, ensure};
use notefs_indexer::{Change, Index, SharedChange, SharedIndex, plain_snippet};

use crate::{open, version};

/// Path, the day of 2026 when it changed, and text.
const NOTES: [(&str, i64, &str); 14] = [
    (
        "Projects/Kernel.md",
        10,
        "---\ntitle: Kernel work\ntype: project\ntags: [dev/linux, urgent]\nstatus: done\npriority: 3\nrating: 1.5\n\
         authors: [Ann, Bob]\nreviewed: true\ndue: 2026-03-01\n---\n# Plan\n\nThe scheduler and its locks.\n\
         - [decision] use fewer locks #perf (measured)\n- part_of [[Operating Systems]]\n",
    ),
    (
        "Projects/Notes on FUSE.md",
        20,
        "# Notes on FUSE\n\nA kernel module speaks to a daemon. #dev\n",
    ),
    (
        "daily/2026-01-05.md",
        5,
        "Talked about the kernel with Ann.\n\n- [idea] write a scheduler in Rust\n",
    ),
    (
        "Operating Systems.md",
        30,
        "---\ntags: dev\npriority: 10\nstatus: open\n---\nKernels, processes and locks.\n",
    ),
    (
        "Café Müller.md",
        40,
        "Ein Café in der Straße. Crème brûlée, naïve façade.\n",
    ),
    (
        "旅行/東京.md",
        50,
        "# 東京旅行\n\n今日は天気がいいので、東京タワーに行きました。\n",
    ),
    ("旅行/서울.md", 51, "한국어 문서입니다. 서울에서 만나요.\n"),
    ("Кухня.md", 60, "# Кухня\n\nРецепт борща: свёкла и капуста.\n"),
    ("عربي.md", 61, "# ملاحظة\n\nهذا نص قصير عن السفر.\n"),
    ("emoji 🎉.md", 62, "Party 🎉 with 👩\u{200d}👩\u{200d}👧 and cake\n"),
    (
        "plain.txt",
        70,
        "no markdown here: [[Kernel]] #notatag scheduler scheduler scheduler\n",
    ),
    (
        "long.md",
        71,
        "---\ntype: Project\nstatus: OPEN\npriority: 2.50\nmeta: {depth: 7, colour: red}\n---\nexact phrase here, and later \
         here phrase exact\n",
    ),
    (
        "a/b/c/deep.md",
        72,
        "Somewhere deep the word needle hides: don't panic, re-enter state_machine v1.2.\n",
    ),
    ("empty.md", 73, ""),
];

/// A question, and the notes that answer it; notes of one group may come in any order.
type Question = (&'static str, &'static [&'static [&'static str]]);

const KERNEL: &str = "Projects/Kernel.md";
const FUSE: &str = "Projects/Notes on FUSE.md";
const DAILY: &str = "daily/2026-01-05.md";
const SYSTEMS: &str = "Operating Systems.md";

const QUESTIONS: [Question; 50] = [
    ("kernel", &[&[KERNEL], &[FUSE, DAILY, SYSTEMS, "plain.txt"]]),
    ("kernel work", &[&[KERNEL]]),
    ("kern*", &[&[KERNEL], &[FUSE, DAILY, SYSTEMS, "plain.txt"]]),
    ("\"kernel\"", &[&[KERNEL], &[FUSE, DAILY, "plain.txt"]]),
    ("KERNEL daemon", &[&[FUSE]]),
    ("kernel -ann", &[&[FUSE, "plain.txt"]]),
    ("kernel -\"speaks to\"", &[&[KERNEL], &[DAILY, "plain.txt"]]),
    ("operating systems", &[&[SYSTEMS], &[KERNEL]]),
    ("title:kernel", &[&[KERNEL]]),
    ("title:notes module", &[&[FUSE]]),
    ("title:oper*", &[&[SYSTEMS]]),
    ("cafe", &[&["Café Müller.md"]]),
    ("CAFÉ", &[&["Café Müller.md"]]),
    ("creme brulee", &[&["Café Müller.md"]]),
    ("cre\u{300}me", &[&["Café Müller.md"]]),
    ("müller", &[&["Café Müller.md"]]),
    ("strasse", &[]),
    ("straße", &[&["Café Müller.md"]]),
    ("東京", &[&["旅行/東京.md"]]),
    ("天気", &[&["旅行/東京.md"]]),
    ("京", &[&["旅行/東京.md"]]),
    ("気天", &[]),
    ("한국", &[&["旅行/서울.md"]]),
    ("서울", &[&["旅行/서울.md"]]),
    ("рецепт", &[&["Кухня.md"]]),
    ("СВЁКЛА", &[&["Кухня.md"]]),
    ("السفر", &[&["عربي.md"]]),
    ("party cake", &[&["emoji 🎉.md"]]),
    ("🎉", &[]),
    ("\"exact phrase\"", &[&["long.md"]]),
    ("\"phrase later\"", &[]),
    ("exact phrase", &[&["long.md"]]),
    ("don't", &[&["a/b/c/deep.md"]]),
    ("re-enter", &[&["a/b/c/deep.md"]]),
    ("state_machine v1.2", &[&["a/b/c/deep.md"]]),
    ("tag:dev", &[&[SYSTEMS], &[KERNEL], &[FUSE]]),
    ("tag:dev/linux", &[&[KERNEL]]),
    ("tag:DEV -tag:urgent", &[&[SYSTEMS], &[FUSE]]),
    ("tag:de", &[]),
    ("path:projects/", &[&[KERNEL], &[FUSE]]),
    ("path:旅行", &[&["旅行/東京.md"], &["旅行/서울.md"]]),
    ("type:project", &[&[KERNEL], &["long.md"]]),
    ("category:decision", &[&[KERNEL]]),
    ("-category:decision scheduler", &[&["plain.txt", DAILY]]),
    ("before:2026-01-06", &[&[DAILY]]),
    ("after:2026-03-14", &[&["empty.md"]]),
    ("after:2026-01-21 before:2026-02-01", &[&[SYSTEMS]]),
    ("prop:status", &[&[SYSTEMS], &[KERNEL], &["long.md"]]),
    ("prop:Status=open", &[&[SYSTEMS], &["long.md"]]),
    ("kernel type:project prop:priority>2", &[&[KERNEL]]),
];

const PROPERTIES: [Question; 16] = [
    ("prop:priority=3", &[&[KERNEL]]),
    ("prop:priority=3.0", &[&[KERNEL]]),
    ("prop:priority>=3", &[&[SYSTEMS], &[KERNEL]]),
    ("prop:priority<10", &[&[KERNEL], &["long.md"]]),
    ("prop:priority<=2.5", &[&["long.md"]]),
    ("prop:priority>abc", &[]),
    ("prop:authors=bob", &[&[KERNEL]]),
    ("prop:authors=Carl", &[]),
    ("prop:reviewed=true", &[&[KERNEL]]),
    ("prop:due<2026-04-01", &[&[KERNEL]]),
    ("prop:due>=2026-04-01", &[]),
    ("prop:meta=red", &[&["long.md"]]),
    ("prop:meta=7", &[&["long.md"]]),
    ("prop:status=\"done\"", &[&[KERNEL]]),
    ("-prop:status -path:旅行 before:2026-01-21", &[&[FUSE], &[DAILY]]),
    ("prop:status=' OR 1=1", &[]),
];

const DAY_NS: i64 = 86_400 * 1_000_000_000;
/// The first of January 2026, in days since 1970.
const YEAR_DAY: i64 = 20_454;

fn mtime_ns(day: i64) -> i64 {
    (YEAR_DAY + day - 1) * DAY_NS + 1
}

fn local() -> Result<(tempfile::TempDir, Index)> {
    let folder = tempfile::tempdir()?;
    let index = Index::open(&folder.path().join("index.db"))?;
    let changes = NOTES.map(|(path, day, text)| Change::Upsert {
        path: path.into(),
        bytes: text.into(),
        total_bytes: text.len() as u64,
        mtime_ns: mtime_ns(day),
    });
    index.apply(changes.into(), 1)?;
    Ok((folder, index))
}

fn changes() -> Vec<SharedChange> {
    let changes = NOTES.map(|(path, day, text)| SharedChange::Upsert {
        path: path.into(),
        version: version(path, day, "m"),
        replaces: None,
        bytes: text.into(),
        total_bytes: text.len() as u64,
        mtime_ns: mtime_ns(day),
    });
    changes.into()
}

/// The answers of SQLite and of the server are those expected, with the same snippets and lines.
pub(crate) async fn questions(url: &str) -> Result<()> {
    let (_folder, local) = local()?;
    let shared = open(url, "corpus").await?;
    shared.apply(&changes()).await?;
    // Another vault in the same database has the same notes, and is never seen.
    open(url, "corpus of others").await?.apply(&changes()).await?;
    let mut wrong = Vec::new();
    for (question, expected) in QUESTIONS.iter().chain(&PROPERTIES) {
        let of_sqlite = local.search(question, 100, 0)?;
        let of_server = shared.search(question, 100, 0).await?;
        for (who, hits) in [("SQLite", &of_sqlite), ("the server", &of_server)] {
            let paths: Vec<&str> = hits.iter().map(|hit| hit.path.as_str()).collect();
            if !fits(&paths, expected) {
                wrong.push(format!("{question}: {who} finds {paths:?} instead of {expected:?}"));
            }
        }
        for hit in &of_server {
            let other = of_sqlite.iter().find(|other| other.path == hit.path);
            if other
                .is_some_and(|other| (&other.title, &other.snippet, other.line) != (&hit.title, &hit.snippet, hit.line))
            {
                wrong.push(format!("{question}: {hit:?} is not {other:?}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    pages(&shared).await
}

fn fits(paths: &[&str], expected: &[&[&str]]) -> bool {
    let mut rest = paths;
    for group in expected {
        let Some((head, tail)) = rest.split_at_checked(group.len()) else {
            return false;
        };
        let (mut head, mut group) = (head.to_vec(), group.to_vec());
        head.sort_unstable();
        group.sort_unstable();
        if head != group {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}

/// Pages put together are the whole, in the same order.
async fn pages(shared: &SharedIndex) -> Result<()> {
    for question in ["kernel", "-zzz"] {
        let whole = shared.search(question, 100, 0).await?;
        ensure!(whole.len() >= 5, "{question}");
        let mut paged = Vec::new();
        for offset in 0..whole.len() + 1 {
            paged.extend(shared.search(question, 1, offset).await?);
        }
        ensure!(paged == whole, "{question}: {paged:?} is not {whole:?}");
    }
    ensure!(shared.search("kernel", 0, 0).await?.is_empty());
    let snippet = shared.search("needle", 1, 0).await?.remove(0).snippet;
    ensure!(plain_snippet(&snippet).contains("needle hides"), "{snippet}");
    Ok(())
}

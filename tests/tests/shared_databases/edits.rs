//! Random edits: an index that is kept up to date, one that is built anew and the shared one find the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use notefs_indexer::{Change, Hit, Index, SharedChange, SharedIndex};

use crate::versions::Random;
use crate::{gone, open, upsert, version};

/// Batches of edits, and edits of one batch.
const BATCHES: usize = 20;
const EDITS: usize = 10;

const FOLDERS: [&str; 4] = ["", "a/", "a/b/", "c d/"];
const NAMES: [&str; 5] = ["one.md", "Two.md", "three.txt", "Ünï.md", "東京.md"];
const PIECES: [&str; 16] = [
    "alpha",
    "beta",
    "Café",
    "天気予報",
    "note",
    "\n# Title alpha\n",
    "#tag",
    "#Tag/sub",
    "[[two]]",
    "[that](../one.md)",
    "\n- [fact] of [[one]] #t (here)\n",
    "\n- needs [[three]] (why)\n",
    "\n```\ncode alpha\n```\n",
    "zeta",
    "\n\n",
    "don't",
];
const HEADS: [&str; 4] = [
    "",
    "---\ntitle: Title beta\ntags: [t1, T2/sub]\npriority: 3\n---\n",
    "---\ntype: thing\nstatus: open\nmodified: 2026-01-02\n---\n",
    "---\nbroken: [\n---\n",
];
const QUESTIONS: [&str; 20] = [
    "alpha",
    "al*",
    "\"alpha beta\"",
    "cafe",
    "天気",
    "予報",
    "title alpha",
    "title:beta",
    "tag:t2",
    "tag:tag",
    "path:a/b alpha",
    "note -alpha",
    "type:thing",
    "category:fact",
    "prop:priority>2",
    "prop:status=open",
    "after:2026 note",
    "code",
    "don't",
    "zeta -beta -note",
];

/// The notes that there are: the obviously right version.
type Model = BTreeMap<String, String>;

/// One edit, for both indexes.
fn edit(random: &mut Random, model: &mut Model, number: usize) -> (Change, Vec<SharedChange>) {
    let mut path = || format!("{}{}", FOLDERS[random.below(4)], NAMES[random.below(5)]);
    let (from, to) = (path(), path());
    let newer = |writer: &str| version(&format!("e{number}"), number as i64, writer);
    let told = |path: &str, text: &str| upsert(path.as_bytes(), newer("m"), None, text.as_bytes());
    let taken = |path: &str| gone(path.as_bytes(), newer("g"));
    match random.below(10) {
        0..6 => {
            let mut text = HEADS[random.below(4)].to_owned();
            (0..random.below(14)).for_each(|_| text.extend([PIECES[random.below(16)], " "]));
            model.insert(from.clone(), text.clone());
            let change = Change::Upsert {
                path: from.clone().into_bytes(),
                bytes: text.clone().into_bytes(),
                total_bytes: text.len() as u64,
                mtime_ns: 1_000_000_000,
            };
            (change, vec![told(&from, &text)])
        }
        6..8 => {
            model.remove(&from);
            let change = Change::Gone {
                path: from.clone().into_bytes(),
            };
            (change, vec![taken(&from)])
        }
        _ => {
            let mut changes = Vec::new();
            if from != to
                && let Some(text) = model.remove(&from)
            {
                changes = vec![taken(&from)];
                // What is at the target of a move is newer.
                let text = model.entry(to.clone()).or_insert(text);
                changes.push(told(&to, text));
            }
            let change = Change::Moved {
                from: from.into_bytes(),
                to: to.into_bytes(),
            };
            (change, changes)
        }
    }
}

/// What a search found, in an order that no rank decides.
fn found(hits: Vec<Hit>) -> Vec<String> {
    let mut found: Vec<String> = hits
        .into_iter()
        .map(|hit| format!("{} {} {} {:?}", hit.path, hit.title, hit.snippet, hit.line))
        .collect();
    found.sort();
    found
}

pub(crate) async fn all_indexes_find_the_same(url: &str, seed: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kept = Index::open(&folder.path().join("kept.db"))?;
    let shared = open(url, "edits").await?;
    let (mut random, mut model) = (Random(seed), Model::new());
    for batch in 0..BATCHES {
        let edits = (0..EDITS).map(|at| edit(&mut random, &mut model, batch * EDITS + at + 1));
        let (here, there): (Vec<_>, Vec<_>) = edits.unzip();
        kept.apply(here, batch as u64 + 1)?;
        ensure!(
            shared.apply(&there.concat()).await?.is_empty(),
            "seed {seed}: something was refused"
        );
    }
    let anew = Index::open(&folder.path().join("anew.db"))?;
    let all = model.iter().map(|(path, text)| Change::Upsert {
        path: path.clone().into_bytes(),
        bytes: text.clone().into_bytes(),
        total_bytes: text.len() as u64,
        mtime_ns: 1_000_000_000,
    });
    anew.apply(all.collect(), 1)?;
    for question in QUESTIONS {
        let built = found(anew.search(question, 100, 0)?);
        let ours = found(kept.search(question, 100, 0)?);
        ensure!(
            ours == built,
            "seed {seed}, {question}: kept up to date {ours:#?}, built anew {built:#?}"
        );
        let theirs = found(shared.search(question, 100, 0).await?);
        ensure!(
            theirs == built,
            "seed {seed}, {question}: shared {theirs:#?}, built anew {built:#?}"
        );
    }
    knowledge(&model, &anew, &shared)
        .await
        .with_context(|| format!("seed {seed}"))
}

/// Tags, recent notes, links and backlinks are the same, too.
async fn knowledge(model: &Model, anew: &Index, shared: &SharedIndex) -> Result<()> {
    ensure!(shared.tags().await? == anew.tags()?, "tags {:?}", shared.tags().await?);
    for below in ["", "a", "c d"] {
        let (theirs, ours) = (
            shared.recent(below.as_bytes(), 100).await?,
            anew.recent(below.as_bytes(), 100)?,
        );
        ensure!(theirs == ours, "below {below}: {theirs:#?} is not {ours:#?}");
    }
    for path in model.keys().map(String::as_bytes).chain([&b"nowhere.md"[..]]) {
        let around = Index::of(shared.around(path).await?)?;
        ensure!(
            around.links(path)? == anew.links(path)?,
            "links of {}",
            String::from_utf8_lossy(path)
        );
        ensure!(
            around.backlinks(path)? == anew.backlinks(path)?,
            "backlinks of {}",
            String::from_utf8_lossy(path)
        );
    }
    Ok(())
}

//! Writers that meet: whatever the order, the same version of a note stands, and each change is seen once.

use anyhow::{Context, Result, ensure};
use notefs_indexer::{SharedChange, SharedIndex};

use crate::{everything, gone, open, upsert, version};

/// The version that stands of a path, as its etag and whether it is gone.
async fn standing(index: &SharedIndex, path: &[u8]) -> Result<(String, bool)> {
    let row = index.row(path).await?.context("no row")?;
    Ok((row.version.etag, row.gone))
}

/// Etag, time, and what it was made from.
type Side = (&'static str, i64, Option<&'static str>);
/// What tells, which loses, and which wins.
const PAIRS: [(&str, Side, Side); 7] = [
    (
        "made from the other, at the same time",
        ("e1", 5_000, None),
        ("e0", 5_000, Some("e1")),
    ),
    (
        "made from the other, by a clock a little behind",
        ("e1", 5_000, None),
        ("e0", 4_000, Some("e1")),
    ),
    (
        "later by the store's clock",
        ("e9", 5_000, None),
        ("e1", 6_000, Some("e5")),
    ),
    ("a tie", ("e1", 5_000, None), ("e2", 5_000, None)),
    (
        "both made from the same",
        ("e2", 5_000, Some("e1")),
        ("e3", 6_000, Some("e1")),
    ),
    (
        "an etag that came back",
        ("e2", 100_000, Some("e1")),
        ("e1", 200_000, Some("e2")),
    ),
    (
        "an etag that came back over two",
        ("e2", 100_000, Some("e1")),
        ("e1", 200_000, Some("e3")),
    ),
];

/// Two writers with handles of their own, in both orders: the one that is expected stands, with its text.
pub(crate) async fn writers_in_both_orders(url: &str) -> Result<()> {
    let first = open(url, "orders").await?;
    let second = open(url, "orders").await?;
    for (at, (what, loses, wins)) in PAIRS.iter().enumerate() {
        for wins_first in [true, false] {
            let path = format!("{at}-{wins_first}.md").into_bytes();
            let change = |(etag, stored_ms, replaces): &Side, writer: &str| {
                let text = format!("# {etag}\n\npath{at}{wins_first} says {etag}");
                upsert(&path, version(etag, *stored_ms, writer), *replaces, text.as_bytes())
            };
            let mut changes = [change(wins, "one"), change(loses, "two")];
            if !wins_first {
                changes.reverse();
            }
            first.apply(&changes[..1]).await?;
            second.apply(&changes[1..]).await?;
            ensure!(
                standing(&first, &path).await? == (wins.0.into(), false),
                "{what}, {wins_first}"
            );
            let hits = second
                .search(&format!("path{at}{wins_first} -{}", loses.0), 10, 0)
                .await?;
            ensure!(
                hits.len() == 1 && hits[0].title == wins.0,
                "{what}, {wins_first}: {hits:?}"
            );
            ensure!(
                second
                    .search(&format!("path{at}{wins_first} {}", loses.0), 10, 0)
                    .await?
                    .is_empty()
            );
        }
    }
    Ok(())
}

/// A note that is gone leaves a tombstone, which a newer version takes away and time forgets.
pub(crate) async fn what_is_gone(url: &str) -> Result<()> {
    let index = open(url, "gone").await?;
    let (old, new) = (version("1", 1_000, "m"), version("2", 2_000, "m"));
    let text = b"---\ntags: [here]\n---\n# The title\n\nvanishing - [fact] x";
    index.apply(&[upsert(b"a.md", old.clone(), None, text)]).await?;
    ensure!(index.search("vanishing tag:here", 1, 0).await?.len() == 1);
    index.apply(&[gone(b"a.md", old.clone())]).await?;
    ensure!(standing(&index, b"a.md").await? == ("1".into(), true));
    for question in ["vanishing", "tag:here", "-zzz", "title:title"] {
        ensure!(index.search(question, 10, 0).await?.is_empty(), "{question}");
    }
    let row = index.row(b"a.md").await?.context("no tombstone")?;
    ensure!(row.title == "The title" && row.version == old, "{row:?}");
    // The same version does not come back, unless who tells of it has seen that it was gone; a newer one does.
    index.apply(&[upsert(b"a.md", old.clone(), None, text)]).await?;
    ensure!(standing(&index, b"a.md").await?.1);
    index.apply(&[upsert(b"a.md", old.clone(), Some("1"), text)]).await?;
    ensure!(standing(&index, b"a.md").await? == ("1".into(), false));
    ensure!(index.search("vanishing", 10, 0).await?.len() == 1);
    index.apply(&[gone(b"a.md", old.clone())]).await?;
    ensure!(standing(&index, b"a.md").await?.1);
    index
        .apply(&[upsert(b"a.md", new.clone(), None, b"back again")])
        .await?;
    ensure!(index.search("again", 1, 0).await?.len() == 1);
    // What is told late of an older version changes nothing.
    index.apply(&[gone(b"a.md", old)]).await?;
    ensure!(standing(&index, b"a.md").await? == ("2".into(), false));
    // A note that nobody here has seen can be gone as well.
    index.apply(&[gone(b"b.md", new.clone()), gone(b"a.md", new)]).await?;
    ensure!(index.forget_gone(1).await? == 0, "they are young");
    ensure!(everything(&index, 1).await?.iter().filter(|row| row.gone).count() == 2);
    ensure!(index.forget_gone(0).await? == 2);
    ensure!(everything(&index, 1).await?.is_empty() && index.row(b"a.md").await?.is_none());
    Ok(())
}

/// What is applied twice is applied once, and a reader sees no change.
pub(crate) async fn repetition(url: &str) -> Result<()> {
    let index = open(url, "repetition").await?;
    let mut changes: Vec<SharedChange> = (0..600)
        .map(|n| {
            let text = format!(
                "# Note {n}\n\nnumber{n} of many [[Note {}]] #t{}\n- [fact] f{n}\n",
                n + 1,
                n % 7
            );
            upsert(
                format!("d{}/{n}.md", n % 10).as_bytes(),
                version("1", n, "m"),
                None,
                text.as_bytes(),
            )
        })
        .collect();
    changes.extend((0..100).map(|n| gone(format!("d{}/{n}.md", n % 10).as_bytes(), version("1", n, "m"))));
    index.apply(&changes).await?;
    let before = everything(&index, 250).await?;
    ensure!(before.len() == 600 && before.iter().filter(|row| row.gone).count() == 100);
    let cursor = before.iter().map(|row| row.seq).max().unwrap_or(0);
    index.apply(&changes).await?;
    index.apply(&changes[300..301]).await?;
    let (seen, next) = index.changes_after(cursor, 10).await?;
    ensure!(seen.is_empty() && next == cursor, "{seen:?}");
    ensure!(everything(&index, 100).await? == before);
    ensure!(index.search("number599", 10, 0).await?.len() == 1 && index.search("many", 1_000, 0).await?.len() == 500);
    // One change is one row further; a cursor of another database begins anew.
    index.apply(&[gone(b"d9/599.md", version("1", 599, "m"))]).await?;
    let (seen, _) = index.changes_after(cursor, 10).await?;
    ensure!(
        seen.len() == 1 && seen[0].path == b"d9/599.md" && seen[0].gone,
        "{seen:?}"
    );
    ensure!(index.changes_after(cursor + 1_000_000, 10).await?.0.len() == 10);
    // What is no note's path is passed over.
    index
        .apply(&[upsert(b"x.png", version("1", 1, "m"), None, b"no note")])
        .await?;
    ensure!(index.row(b"x.png").await?.is_none());
    Ok(())
}

/// Two writers at the same moment lose nothing, and a reader that follows them misses nothing.
pub(crate) async fn two_writers_at_once(url: &str) -> Result<()> {
    let (one, two) = (open(url, "at once").await?, open(url, "at once").await?);
    let reader = open(url, "at once").await?;
    let write = |index: SharedIndex, writer: &'static str, newer: i64| async move {
        for round in 0..12_i64 {
            let changes: Vec<_> = (0..20)
                .map(|n| {
                    let stored_ms = round * 100_000 + if n % 2 == newer { 50_000 } else { 0 };
                    let etag = format!("{writer}{round}");
                    let text = format!("round{round} by {writer}");
                    upsert(
                        format!("{n}.md").as_bytes(),
                        version(&etag, stored_ms, writer),
                        None,
                        text.as_bytes(),
                    )
                })
                .collect();
            index.apply(&changes).await?;
        }
        anyhow::Ok(())
    };
    let first = tokio::spawn(write(one, "one", 0));
    let second = tokio::spawn(write(two, "two", 1));
    let mut seen = std::collections::BTreeMap::new();
    let mut cursor = 0;
    loop {
        let is_end = first.is_finished() && second.is_finished();
        let (rows, next) = reader.changes_after(cursor, 7).await?;
        for row in &rows {
            seen.insert(row.path.clone(), row.clone());
        }
        cursor = next;
        if is_end && rows.is_empty() {
            break;
        }
    }
    first.await??;
    second.await??;
    let all = everything(&reader, 100).await?;
    ensure!(all.len() == 20 && all.iter().eq(seen.values()), "{all:#?}\n{seen:#?}");
    for row in &all {
        let path = String::from_utf8_lossy(&row.path);
        let number: u32 = path.trim_end_matches(".md").parse()?;
        let last = if number.is_multiple_of(2) { "one11" } else { "two11" };
        ensure!(row.version.etag == last, "{row:?}");
    }
    ensure!(reader.search("round11", 100, 0).await?.len() == 20 && reader.search("round10", 100, 0).await?.is_empty());
    Ok(())
}

/// Random changes in two random orders, in batches of random sizes, end in the same rows.
pub(crate) async fn random_orders(url: &str, seed: u64) -> Result<()> {
    let mut random = Random(seed);
    let mut changes: Vec<SharedChange> = (0..120)
        .map(|_| {
            let path = format!("{}.md", random.below(12));
            let (etag, stored_ms) = (format!("e{}", random.below(6)), random.below(5) as i64);
            let version = version(&etag, stored_ms, "m");
            match random.below(3) {
                0 => gone(path.as_bytes(), version),
                _ => upsert(
                    path.as_bytes(),
                    version,
                    None,
                    format!("says {etag} {stored_ms}").as_bytes(),
                ),
            }
        })
        .collect();
    let mut ends = Vec::new();
    for order in 0..2 {
        let index = open(url, &format!("random {order}")).await?;
        random.shuffle(&mut changes);
        let mut rest = &changes[..];
        while !rest.is_empty() {
            let (batch, tail) = rest.split_at(random.below(20).clamp(1, rest.len()));
            index.apply(batch).await?;
            rest = tail;
        }
        let rows = everything(&index, 5).await?;
        let rows = rows.into_iter().map(|row| (row.path, row.version, row.gone));
        let mut texts: Vec<_> = index.search("says", 100, 0).await?;
        texts.sort_by(|a, b| a.path.cmp(&b.path));
        let texts: Vec<_> = texts.into_iter().map(|hit| (hit.path, hit.snippet)).collect();
        ends.push((rows.collect::<Vec<_>>(), texts));
    }
    ensure!(ends[0] == ends[1], "seed {seed}: {:#?}", ends);
    Ok(())
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

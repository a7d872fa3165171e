//! An index kept up to date equals one built anew from the final state.

use std::collections::BTreeMap;

use notefs_indexer::{Change, Hit, Index};

use super::{Fixture, Random, moved, put};

const ROUNDS: u64 = 12;
const BATCHES: u64 = 25;
const SEED_VARIABLE: &str = "NOTEFS_INDEX_SEED";

const FOLDERS: [&str; 6] = ["", "a/", "b/", "a/c/", "b/Deep/er/", "a b/"];
const NAMES: [&str; 8] = [
    "foo.md",
    "Foo.md",
    "bar.md",
    "bar.txt",
    "Ünï.md",
    "u\u{308}ni\u{308}.md",
    "index.md",
    "x.y.md",
];
const WORDS: [&str; 10] = [
    "alpha",
    "beta",
    "alphabet",
    "gamma",
    "Café",
    "天気予報",
    "delta",
    "project",
    "note",
    "zeta",
];
const TARGETS: [&str; 20] = [
    "[[foo]]",
    "[[Bar]]",
    "[[a/c/foo]]",
    "[[c/bar]]",
    "[[ünï]]",
    "[[Title alpha]]",
    "[[nick]]",
    "[t](foo.md)",
    "[t](../bar.md)",
    "[t](./c/foo.md)",
    "[[/foo]]",
    "![[bar.txt]]",
    "[[x.y]]",
    "![[pic.png]]",
    "\n- needs [[foo]] (why)\n",
    "\n- \"part of\" [[Title beta]]\n",
    "\n- [fact] of [[foo]] #t3 (here)\n",
    "[[u-ni]] [[a-b/foo]]",
    "[[Own/Link]]",
    "[[own_link]]",
];

fn text(random: &mut Random) -> String {
    let mut text = String::new();
    match random.next() % 8 {
        3 => text.push_str("---\npermalink: Own/Link\ntype: thing\nmodified: 2026-01-02\n---\n"),
        4 => text.push_str("---\npermalink: own-link\ncreated: never\nn: 5\n---\n"),
        0 => text.push_str("---\naliases: [nick]\ntags: [t1, T2/sub]\nkey: value\n---\n"),
        1 => text.push_str("---\nbroken: [\n---\n"),
        2 => text.push_str(&format!("---\ntitle: Title {}\n---\n", random.pick(&WORDS))),
        _ => {}
    }
    if random.next().is_multiple_of(3) {
        text.push_str(&format!("# Title {}\n\n", random.pick(&WORDS)));
    }
    for _ in 0..random.next() % 12 {
        match random.next() % 5 {
            0 => text.push_str(random.pick(&TARGETS)),
            1 => text.push_str(&format!("#{}", random.pick(&WORDS))),
            2 => text.push('\n'),
            _ => text.push_str(random.pick(&WORDS)),
        }
        text.push(' ');
    }
    text
}

/// What the index should hold: the obviously right version.
#[derive(Default)]
struct Model(BTreeMap<String, String>);

impl Model {
    fn random_change(&mut self, random: &mut Random) -> Change {
        let path = format!("{}{}", random.pick(&FOLDERS), random.pick(&NAMES));
        match random.next() % 10 {
            0..6 => {
                let text = text(random);
                self.0.insert(path.clone(), text.clone());
                put(&path, &text)
            }
            6..8 => {
                self.0.remove(&path);
                super::gone(&path)
            }
            8 => {
                let to = format!("{}{}", random.pick(&FOLDERS), random.pick(&NAMES));
                self.rename(&path, &to);
                moved(&path, &to)
            }
            _ => {
                let from = random.pick(&FOLDERS[1..]).trim_end_matches('/');
                // It may move over another folder, whose notes stay, even over one that holds it.
                let to = random.pick(&FOLDERS[1..]).trim_end_matches('/');
                let to = if to == from { "moved" } else { to };
                self.rename_below(from, to);
                moved(from, to)
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        if let Some(text) = self.0.remove(from) {
            self.0.entry(to.to_owned()).or_insert(text);
        }
    }

    fn rename_below(&mut self, from: &str, to: &str) {
        let below: Vec<String> = self
            .0
            .keys()
            .filter(|path| path.starts_with(&format!("{from}/")))
            .cloned()
            .collect();
        let moving: Vec<_> = below
            .into_iter()
            .filter_map(|path| self.0.remove_entry(&path))
            .collect();
        for (path, text) in moving {
            let to = format!("{to}{}", &path[from.len()..]);
            self.0.entry(to).or_insert(text);
        }
    }

    fn built_anew(&self) -> Fixture {
        let fixture = Fixture::new();
        fixture
            .index
            .apply(self.0.iter().map(|(path, text)| put(path, text)).collect(), 1)
            .unwrap();
        fixture
    }
}

/// Everything the index answers, in an order that does not depend on row ids.
fn answers(index: &Index, model: &Model) -> Vec<String> {
    let mut answers = Vec::new();
    for path in model.0.keys() {
        answers.push(format!("{path} links {:?}", index.links(path.as_bytes()).unwrap()));
        answers.push(format!(
            "{path} backlinks {:?}",
            index.backlinks(path.as_bytes()).unwrap()
        ));
        answers.push(format!(
            "{path} is {:?}",
            index.context(path.as_bytes(), 3, 100).unwrap()
        ));
    }
    answers.push(format!("graph {:?}", index.graph(1_000).unwrap()));
    answers.push(format!("orphans {:?}", index.orphans(1_000).unwrap()));
    answers.push(format!("unresolved {:?}", index.unresolved(1_000).unwrap()));
    answers.push(format!("recent {:?}", index.recent(b"", 1_000).unwrap()));
    let unresolved: u64 = index.unresolved(1_000).unwrap().iter().map(|name| name.count).sum();
    assert_eq!(
        unresolved,
        index.stats().unwrap().unresolved_links,
        "counted and listed"
    );
    answers.push(format!("tags {:?}", index.tags().unwrap()));
    answers.push(format!("warnings {:?}", index.warnings(1_000).unwrap()));
    let stats = index.stats().unwrap();
    answers.push(format!(
        "{:?}",
        (
            stats.notes,
            stats.links,
            stats.unresolved_links,
            stats.tags,
            stats.warnings
        )
    ));
    let queries = [
        "alpha",
        "al*",
        "\"alpha beta\"",
        "project note",
        "cafe",
        "天気",
        "予報",
        "title alpha",
        "tag:t2",
        "path:a/c alpha",
        "-alpha",
        "value",
        "nick",
        "foo",
        "alpha -beta",
        "type:thing",
        "category:fact",
        "prop:n>4",
        "after:2026 -prop:n",
    ];
    for query in queries {
        let mut hits = index.search(query, 1_000, 0).unwrap();
        assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
        hits.sort_by(|a, b| a.path_bytes.cmp(&b.path_bytes));
        answers.push(format!(
            "search {query} {:?}",
            hits.iter().map(shown).collect::<Vec<_>>()
        ));
    }
    answers
}

fn shown(hit: &Hit) -> String {
    format!(
        "{} {} {} {:.9} {:?}",
        hit.path, hit.title, hit.snippet, hit.score, hit.line
    )
}

#[test]
fn incremental_equals_rebuilt() {
    let (seed, mut random) = Random::from_environment(SEED_VARIABLE);
    for _ in 0..ROUNDS {
        let mut model = Model::default();
        let fixture = Fixture::new();
        for seq in 1..=BATCHES {
            let changes = (0..random.next() % 12)
                .map(|_| model.random_change(&mut random))
                .collect();
            fixture.index.apply(changes, seq).unwrap();
        }
        let (kept, anew) = (
            answers(&fixture.index, &model),
            answers(&model.built_anew().index, &model),
        );
        for (kept, anew) in kept.iter().zip(&anew) {
            assert_eq!(kept, anew, "kept up to date, and built anew; {SEED_VARIABLE}={seed}");
        }
        fixture.index.clear(99).unwrap();
        assert!(fixture.found("alpha").is_empty());
    }
}

#[test]
fn what_is_at_the_target_of_a_move_is_newer() {
    let notes = [
        ("a/x.md", "stale"),
        ("a/y.md", "still"),
        ("b/x.md", "fresh"),
        ("z.md", "old"),
        ("w.md", "new"),
    ];
    let fixture = Fixture::with(&notes);
    fixture.apply(moved("a", "b"));
    fixture.apply(moved("z.md", "w.md"));
    assert_eq!(fixture.found("fresh"), ["b/x.md"]);
    assert_eq!(fixture.found("still"), ["b/y.md"]);
    assert_eq!(fixture.found("new"), ["w.md"]);
    assert!(fixture.found("stale").is_empty() && fixture.found("old").is_empty());
}

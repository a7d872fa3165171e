//! Random changes by two machines and another tool, one writer at a time: both show what the bucket holds.

use crate::machine::{Machine, Node, Tree, note_keys, short};
use crate::{Pair, pair};
use notefs_cache::store::{MemoryStore, UserMetadata};
use std::collections::BTreeMap;

#[test]
fn random_changes_of_three_writers_show_on_both_machines() {
    let seeds = match std::env::var("NOTEFS_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=6).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        eprintln!("NOTEFS_TEST_SEED={seed}");
        random_changes(seed);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn pick(&mut self, tree: &Tree, want: impl Fn(&Node) -> bool) -> Option<String> {
        let all: Vec<&String> = tree
            .iter()
            .filter(|(_, node)| want(node))
            .map(|(path, _)| path)
            .collect();
        (!all.is_empty()).then(|| all[self.below(all.len())].clone())
    }
}

fn random_changes(seed: u64) {
    let Pair { a, b, store } = pair(&format!("random-{seed}"));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut log = Vec::new();
    for step in 0..60 {
        let first = random.below(2) == 0;
        let (writer, reader) = if first { (&a, &b) } else { (&b, &a) };
        let foreign = random.below(5) == 0;
        for _ in 0..=random.below(4) {
            let done = if foreign {
                foreign_change(&mut random, &store, step)
            } else {
                change(&mut random, writer)
            };
            log.push(format!(
                "{step} {}: {done}",
                if foreign { "foreign" } else { writer.name }
            ));
        }
        if foreign {
            (0..3).for_each(|_| writer.pull(true));
            (0..3).for_each(|_| reader.pull(true));
        } else {
            writer.settle();
            reader.pull(random.below(4) == 0);
        }
        let held = texts_of_bucket(&store);
        let (mut written, mut read) = (writer.tree(), reader.tree());
        // A large file that was just read changes when the reading has paused.
        for _ in 0..20 {
            if read != written || texts(&read) != held {
                std::thread::sleep(std::time::Duration::from_millis(500));
                (written, read) = (writer.tree(), reader.tree());
            }
        }
        assert_eq!(read, written, "seed {seed}, after\n{}", log.join("\n"));
        assert_eq!(texts(&read), held, "seed {seed}, after\n{}", log.join("\n"));
    }
}

fn texts(tree: &Tree) -> BTreeMap<String, String> {
    let files = tree.iter().filter_map(|(path, node)| match node {
        Node::File(text, _) => Some((path.clone(), text.clone())),
        Node::Directory => None,
    });
    files.collect()
}

fn texts_of_bucket(store: &MemoryStore) -> BTreeMap<String, String> {
    let keys = note_keys(store).into_iter().filter(|key| !key.ends_with('/'));
    let texts = keys.map(|key| {
        let bytes = store.raw_get(&key).unwrap().0.to_vec();
        (key, short(&String::from_utf8(bytes).unwrap()))
    });
    texts.collect()
}

fn change(random: &mut Random, machine: &Machine) -> String {
    let tree = machine.tree();
    let is_file = |node: &Node| *node != Node::Directory;
    let parent = match random.below(2) {
        0 => random.pick(&tree, |node| *node == Node::Directory),
        _ => None,
    };
    let name = format!("{}{}", ["a", "b", "c"][random.below(3)], random.below(3));
    let fresh = parent.map_or(name.clone(), |parent| format!("{parent}/{name}"));
    let fresh = Some(fresh).filter(|path| !tree.contains_key(path) && !tree.contains_key(&format!("{path}.md")));
    let length = [0, 5, 300, 300, 300, 3_000, 70_000][random.below(7)];
    let text: String = (0..length).map(|_| (b'a' + random.below(26) as u8) as char).collect();
    match (random.below(8), random.pick(&tree, is_file), fresh) {
        (0 | 1, _, Some(path)) => {
            machine.save(&format!("{path}.md"), &text);
            format!("create {path}.md")
        }
        (2, _, Some(path)) => {
            machine.mkdir(&path);
            format!("mkdir {path}")
        }
        (3 | 4, Some(file), _) => {
            machine.save(&file, &text);
            format!("save {file}")
        }
        (5, Some(file), Some(path)) => {
            machine.rename(&file, &format!("{path}.md"));
            format!("move {file} to {path}.md")
        }
        (6, Some(file), _) => {
            machine.unlink(&file);
            let directory = random.pick(&tree, |node| *node == Node::Directory);
            if let Some(directory) = directory
                && machine.try_rmdir(&directory)
            {
                return format!("unlink {file}, rmdir {directory}");
            }
            format!("unlink {file}")
        }
        (_, Some(file), _) => {
            let mode = [0o644, 0o600, 0o755][random.below(3)];
            machine.chmod(&file, mode);
            format!("chmod {file} {mode:o}")
        }
        _ => "nothing".into(),
    }
}

fn foreign_change(random: &mut Random, store: &MemoryStore, step: usize) -> String {
    let keys: Vec<String> = note_keys(store).into_iter().filter(|key| !key.ends_with('/')).collect();
    let key = (!keys.is_empty()).then(|| keys[random.below(keys.len())].clone());
    let text = format!("foreign {step} {}", random.below(1000));
    match (random.below(4), key) {
        (0 | 1, Some(key)) => {
            store.raw_put(&key, text, UserMetadata::new());
            format!("put {key}")
        }
        (2, Some(key)) => {
            store.raw_delete(&key);
            format!("delete {key}")
        }
        _ => {
            let key = format!("f{}/g{}.md", random.below(3), random.below(3));
            store.raw_put(&key, text, UserMetadata::new());
            format!("put {key}")
        }
    }
}

//! Looking at whole trees, and copying cache folders: what the model test compares and kills.

use super::{Node, Tree, run};
use notefs_cache::{FileKind, ROOT_INO, Replica};
use std::path::Path;

pub(super) fn describe(node: &Node) -> String {
    match node {
        Node::File(bytes, mode) => format!("file of {} bytes, {mode:o}", bytes.len()),
        other => format!("{other:?}"),
    }
}

pub(super) fn node_at(replica: &Replica, runtime: &tokio::runtime::Runtime, path: &str) -> Node {
    let attr =
        run(replica, runtime, || replica.resolve(path.as_bytes())).unwrap_or_else(|error| panic!("{path}: {error}"));
    match attr.kind {
        FileKind::Directory => Node::Directory,
        FileKind::Symlink => Node::Symlink(run(replica, runtime, || replica.read_link(attr.ino)).unwrap()),
        _ => {
            let bytes = run(replica, runtime, || replica.read(attr.ino, 0, attr.size as usize + 1)).unwrap();
            Node::File(bytes.to_vec(), attr.mode)
        }
    }
}

pub(super) fn tree_of(replica: &Replica, runtime: &tokio::runtime::Runtime) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![(ROOT_INO, String::new())];
    while let Some((dir, prefix)) = open.pop() {
        let entries = run(replica, runtime, || replica.read_dir(dir, 0, 10_000)).unwrap();
        for entry in entries {
            let path = format!("{prefix}{}", String::from_utf8(entry.name).unwrap());
            if entry.attr.kind == FileKind::Directory {
                open.push((entry.attr.ino, format!("{path}/")));
            }
            tree.insert(path.clone(), node_at(replica, runtime, &path));
        }
    }
    tree
}

pub(super) fn assert_same(what: &str, seen: &Tree, model: &Tree, log: &[String]) {
    let wrong: Vec<String> = seen
        .keys()
        .chain(model.keys())
        .filter(|path| seen.get(*path) != model.get(*path))
        .map(|path| {
            format!(
                "{path:?}: {:?}, not {:?}",
                seen.get(path).map(describe),
                model.get(path).map(describe)
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{what}:\n{}\nafter\n{}",
        wrong.join("\n"),
        log.join("\n")
    );
}

/// A copy of the cache folder as it is now: what a killed daemon leaves behind. Blobs go first, and then the journal, for eviction and
/// commits go on meanwhile: a blob that is evicted later is garbage; a commit that ends up in the copy as well makes the journal's records old, while the reverse would lose them.
pub(super) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(from)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    names.retain(|name| name != "state.db-shm");
    names.sort_by_key(|name| (name != "blobs", name != "journal", name != "state.db-wal"));
    for name in names {
        let (source, target) = (from.join(&name), to.join(&name));
        match source.is_dir() {
            true => copy_folder(&source, &target),
            false => match std::fs::copy(source, target) {
                // Gone since the folder was read: the state that is copied later says so.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            },
        }
    }
}

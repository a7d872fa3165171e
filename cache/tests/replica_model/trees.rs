//! Looking at whole trees, and copying cache folders: what the model test compares and kills.

use super::{Node, Tree, run};
use notefs_cache::{FileKind, ROOT_INO, Replica};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder that has not rested by then never does.
const COPIES_MAX: usize = 2_000;

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

/// A copy of the cache folder as it is at one moment: what a killed daemon leaves behind. Eviction and commits go on meanwhile, so it is made
/// again until nothing has changed between its beginning and its end.
pub(super) fn copy_folder(from: &Path, to: &Path) {
    for _ in 0..COPIES_MAX {
        let copied = files(from);
        if copied == files(from) {
            for (path, bytes) in copied {
                let path = to.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("the cache folder never rests");
}

/// All files below a folder, but for what SQLite makes anew.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if entry.file_name() != "state.db-shm"
                && let Ok(bytes) = std::fs::read(&path)
            {
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
            }
        }
    }
    files
}

//! What a course leaves behind, in a form that two places can be compared in: the folder's tree, and what Basic Memory's database says
//! of it. Numbers, times and random names that each run gives anew are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};
use notefs_tests::basic_memory::BasicMemory;
use notefs_tests::tree::Tree;

/// Notes, observations, relations, the rows that searches read (whose words are in another order in each run), and whether each note is in its file.
const KNOWN: [&str; 5] = [
    "SELECT 'note', file_path, title, permalink, note_type, content_type, checksum, entity_metadata FROM entity ORDER BY 2",
    "SELECT 'observation', file_path, category, content, context, tags, duplicate_index FROM observation
     JOIN entity ON entity.id = entity_id ORDER BY 2, 3, 4, 7",
    "SELECT 'relation', source.file_path, relation_type, to_name, target.file_path, context FROM relation
     JOIN entity source ON source.id = from_id LEFT JOIN entity target ON target.id = to_id ORDER BY 2, 3, 4",
    "SELECT 'search', file_path, type, title, permalink, category, relation_type, length(content_stems) FROM search_index ORDER BY 2, 3, 4, 5",
    "SELECT 'file', file_path, file_write_status, db_checksum = file_checksum FROM note_content ORDER BY 2",
];

/// A folder and a database after the course.
pub(crate) struct Left {
    tree: Tree,
    /// Rows, and how often each is there.
    known: BTreeMap<String, usize>,
}

impl Left {
    /// Reads both. No server may be at work.
    pub(crate) fn read(folder: &Path, user: &BasicMemory) -> Result<Left> {
        let mut known = BTreeMap::new();
        for question in KNOWN {
            for row in user.asked(question)? {
                *known.entry(row).or_default() += 1;
            }
        }
        ensure!(!known.is_empty(), "the database knows nothing");
        Ok(Left {
            tree: tree(folder)?,
            known,
        })
    }

    /// Whether this folder holds what a plain one does: names, kinds, contents, modes, owners, links.
    pub(crate) fn same_tree(&self, plain: &Left) -> Result<()> {
        plain.tree.assert_same(&self.tree, "the folders")
    }

    /// Whether the database says what that of a plain folder does.
    pub(crate) fn same_knowledge(&self, plain: &Left) -> Result<()> {
        let rows = self.known.keys().chain(plain.known.keys());
        let different: BTreeSet<&String> = rows
            .filter(|row| self.known.get(*row) != plain.known.get(*row))
            .collect();
        ensure!(
            different.is_empty(),
            "{} of {} rows differ, among them {:?}",
            different.len(),
            plain.known.len(),
            different.iter().take(4).collect::<Vec<_>>()
        );
        Ok(())
    }

    /// Whether another machine's folder holds the same.
    pub(crate) fn same_elsewhere(&self, folder: &Path) -> Result<()> {
        self.tree.assert_same(&tree(folder)?, "the machines")
    }

    /// Whether only notes lie among the notes: the database is elsewhere, and nothing half-written is left.
    pub(crate) fn only_notes(&self) -> Result<()> {
        let others = self.tree.entries.iter().filter(|(path, entry)| {
            let note = path.extension().is_some_and(|extension| extension == "md");
            !note && entry.facts.contains_key("size")
        });
        let others: Vec<_> = others.map(|(path, _)| path).collect();
        ensure!(others.is_empty(), "there are {others:?}");
        Ok(())
    }
}

fn tree(folder: &Path) -> Result<Tree> {
    Ok(Tree::read(folder)?.without(&["mtime", "folder mtime"]))
}

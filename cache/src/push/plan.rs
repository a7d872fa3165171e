//! What to do for one inode: a pure function from what the bucket holds to what is missing there.

use crate::state::Remote;
use crate::store::{Condition, ETag};
use std::collections::HashSet;

/// How a key gets its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    /// Upload the content.
    Put { key: String, condition: Condition },
    /// The content is in the bucket already, under another key: copy it there.
    Copy { from: String, etag: ETag, key: String },
}

/// A key that no name asks for any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delete {
    pub(super) key: String,
    pub(super) etag: ETag,
}

/// All writes come before all deletions: new before old.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Plan {
    pub(super) writes: Vec<Write>,
    pub(super) deletes: Vec<Delete>,
}

impl Plan {
    /// The key that the content leaves, where one key is written and another one goes.
    pub(super) fn moved_from(&self) -> Option<&str> {
        let left = self.deletes.first().filter(|_| self.writes.len() == 1);
        left.map(|delete| delete.key.as_str())
    }
}

/// What is known about one inode when its round begins.
pub(super) struct Situation<'a> {
    /// The keys of its names.
    pub(super) wanted: &'a [String],
    /// Its newest versions of content and metadata.
    pub(super) versions: (u64, u64),
    /// What the bucket holds under `wanted`, whoever it is of; an empty ETag says that a write was begun and its outcome is unknown.
    pub(super) at_wanted: &'a [Remote],
    /// What the bucket holds of this inode, under any key.
    pub(super) mine: &'a [Remote],
    /// Keys of `mine` that other inodes want now: they overwrite them, nobody deletes them.
    pub(super) wanted_by_others: &'a HashSet<String>,
    /// Keys under which other inodes may have been stored, or which may have been deleted, without an answer: what the ledger says of them may
    /// be the past.
    pub(super) in_doubt: &'a HashSet<String>,
    /// Whether the store can copy.
    pub(super) copy: bool,
}

pub(super) fn plan(ino: u64, situation: &Situation<'_>) -> Plan {
    let current = |remote: &Remote| {
        remote.ino == ino
            && (remote.content_version, remote.meta_version) == situation.versions
            && !remote.etag.is_empty()
            && !situation.in_doubt.contains(&remote.key)
    };
    let source = situation.mine.iter().find(|remote| situation.copy && current(remote));
    let mut plan = Plan::default();
    for key in situation.wanted {
        let there = situation.at_wanted.iter().find(|remote| remote.key == *key);
        match (there, source) {
            (Some(there), _) if current(there) => {}
            (Some(there), _) if !there.etag.is_empty() => {
                let condition = Condition::Matches(ETag(there.etag.clone()));
                plan.writes.push(Write::Put {
                    key: key.clone(),
                    condition,
                });
            }
            (_, Some(source)) => {
                let etag = ETag(source.etag.clone());
                plan.writes.push(Write::Copy {
                    from: source.key.clone(),
                    etag,
                    key: key.clone(),
                });
            }
            (_, None) => plan.writes.push(Write::Put {
                key: key.clone(),
                condition: Condition::Absent,
            }),
        }
    }
    let left = situation
        .mine
        .iter()
        .filter(|remote| !situation.wanted.contains(&remote.key));
    let left = left.filter(|remote| !situation.wanted_by_others.contains(&remote.key));
    plan.deletes = left
        .map(|remote| Delete {
            key: remote.key.clone(),
            etag: ETag(remote.etag.clone()),
        })
        .collect();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(key: &str, ino: u64, versions: (u64, u64)) -> Remote {
        let (content_version, meta_version) = versions;
        Remote {
            key: key.into(),
            ino,
            etag: format!("e-{key}"),
            content_version,
            meta_version,
            noted: 0,
        }
    }

    fn decide(wanted: &[&str], versions: (u64, u64), held: &[Remote], others: &[&str]) -> Plan {
        decide_in_doubt(&[], (wanted, versions), held, others)
    }

    fn decide_in_doubt(in_doubt: &[&str], ours: (&[&str], (u64, u64)), held: &[Remote], others: &[&str]) -> Plan {
        let (wanted, versions) = ours;
        let in_doubt = in_doubt.iter().map(|key| (*key).to_owned()).collect();
        let wanted: Vec<String> = wanted.iter().map(|key| (*key).to_owned()).collect();
        let at_wanted: Vec<Remote> = held
            .iter()
            .filter(|remote| wanted.contains(&remote.key))
            .cloned()
            .collect();
        let mine: Vec<Remote> = held.iter().filter(|remote| remote.ino == 7).cloned().collect();
        let others = others.iter().map(|key| (*key).to_owned()).collect();
        let situation = Situation {
            wanted: &wanted,
            versions,
            at_wanted: &at_wanted,
            mine: &mine,
            wanted_by_others: &others,
            in_doubt: &in_doubt,
            copy: true,
        };
        plan(7, &situation)
    }

    fn put(key: &str, condition: Condition) -> Write {
        Write::Put {
            key: key.into(),
            condition,
        }
    }

    #[test]
    fn each_situation_has_one_answer() {
        let matches = |key: &str| Condition::Matches(ETag(format!("e-{key}")));
        assert_eq!(
            decide(&["a"], (1, 1), &[], &[]).writes,
            [put("a", Condition::Absent)],
            "new"
        );
        assert_eq!(
            decide(&["a"], (1, 1), &[remote("a", 7, (1, 1))], &[]),
            Plan::default(),
            "stored"
        );
        assert_eq!(
            decide(&["a"], (2, 2), &[remote("a", 7, (1, 1))], &[]).writes,
            [put("a", matches("a"))],
            "edited"
        );
        assert_eq!(
            decide(&["a"], (1, 2), &[remote("a", 7, (1, 1))], &[]).writes,
            [put("a", matches("a"))],
            "chmod"
        );
        assert_eq!(
            decide(&["a"], (1, 1), &[remote("a", 8, (1, 1))], &[]).writes,
            [put("a", matches("a"))],
            "replaced"
        );
        let renamed = decide(&["b"], (1, 1), &[remote("a", 7, (1, 1))], &[]);
        assert_eq!(
            renamed.writes,
            [Write::Copy {
                from: "a".into(),
                etag: ETag("e-a".into()),
                key: "b".into()
            }]
        );
        assert_eq!(
            renamed.deletes,
            [Delete {
                key: "a".into(),
                etag: ETag("e-a".into())
            }]
        );
        let edited = decide(&["b"], (2, 2), &[remote("a", 7, (1, 1))], &[]);
        assert_eq!(edited.writes, [put("b", Condition::Absent)], "renamed and edited");
        assert_eq!(edited.deletes.len(), 1);
        let unlinked = decide(&[], (1, 1), &[remote("a", 7, (1, 1))], &[]);
        assert_eq!((unlinked.writes.len(), unlinked.deletes.len()), (0, 1));
        assert_eq!(
            decide(&[], (1, 1), &[remote("a", 7, (1, 1))], &["a"]),
            Plan::default(),
            "another file has the name now"
        );
        let unsure = Remote {
            etag: String::new(),
            ..remote("a", 7, (0, 0))
        };
        assert_eq!(
            decide(&["a"], (1, 1), std::slice::from_ref(&unsure), &[]).writes,
            [put("a", Condition::Absent)],
            "unknown outcome"
        );
        assert_eq!(
            decide(&[], (1, 1), &[unsure], &[]).deletes.len(),
            1,
            "what may be there is looked for and deleted"
        );
        let linked = decide(&["a", "b"], (1, 1), &[remote("a", 7, (1, 1))], &[]);
        assert_eq!((linked.writes.len(), linked.deletes.len()), (1, 0));
    }

    #[test]
    fn what_another_file_may_have_been_stored_over_or_is_deleted_is_written_again() {
        let held = [remote("a", 7, (1, 1))];
        let matches = Condition::Matches(ETag("e-a".into()));
        let plan = decide_in_doubt(&["a"], (&["a"], (1, 1)), &held, &[]);
        assert_eq!(plan.writes, [put("a", matches)]);
    }
}

//! Guard rails, as pure functions: what a plan would do that no program asked for file by file, and whether that is to be held.
//!
//! A debt bears marks of the operations that led to it: a program took a name away, a program made the file empty. They are kept with
//! the debt, so that a stop forgets none. What a plan does beyond them comes of a cache that lost something, never of a user.
//!
//! Owns the decision. Does not own what is done with it (`push/held.rs`) nor the marks (`state`).

use super::plan::{Plan, Write};
use crate::state::{Inode, Marks, Place, Remote};
use crate::types::{FileKind, Ino};

/// Of all objects known, so many in a hundred may go within a minute without a program's removal of each.
const UNASKED_SHARE_MAX_PERCENT: u64 = 10;

/// The time over which such removals are counted.
pub(super) const UNASKED_WINDOW_MS: u64 = 60_000;

/// What is known of an inode when its plan is judged.
pub(super) struct Case<'a> {
    pub(super) ino: Ino,
    /// `None`: the inode is gone.
    pub(super) inode: Option<&'a Inode>,
    pub(super) marks: Marks,
    /// The keys of its names.
    pub(super) wanted: &'a [String],
    /// What the bucket holds under these.
    pub(super) at_wanted: &'a [Remote],
    /// Its bytes should be in a local file, and there is none.
    pub(super) content_vanished: bool,
}

/// What of a plan no program asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The object of this version would be replaced by nothing. It counts only if that object is not empty.
    Emptying { key: String, etag: String },
    /// The object would be replaced by zeros in the place of content that is gone.
    Vanished { key: String },
    /// Its objects would be removed, so many. It counts only as a share of the bucket.
    Removal { objects: u64 },
    /// The only objects of a file that still has a name would be removed.
    Bereaving,
}

/// What is to be looked into before a plan is carried out; `None`: all of it was asked for.
pub(super) fn doubt(case: &Case<'_>, plan: &Plan) -> Option<Doubt> {
    if case.marks.has(Marks::RELEASED) {
        return None;
    }
    let overwritten = plan.writes.iter().find_map(|write| {
        let Write::Put { key, .. } = write else { return None };
        let remote = case.at_wanted.iter().find(|remote| remote.key == *key)?;
        (!remote.etag.is_empty()).then_some(remote)
    });
    if let (Some(remote), Some(inode)) = (overwritten, case.inode) {
        if case.content_vanished && inode.place == Place::Blob {
            return Some(Doubt::Vanished {
                key: remote.key.clone(),
            });
        }
        // Another file's object is replaced because a program moved this one over it.
        let empty = inode.kind == FileKind::File && inode.size == 0 && remote.ino == case.ino;
        if empty && !case.marks.has(Marks::EMPTIED) {
            return Some(Doubt::Emptying {
                key: remote.key.clone(),
                etag: remote.etag.clone(),
            });
        }
    }
    let objects = plan.deletes.iter().filter(|delete| !delete.etag.0.is_empty()).count() as u64;
    // A file that moves is stored under its new name first.
    if objects == 0 || case.marks.has(Marks::REMOVED) || !case.wanted.is_empty() {
        return None;
    }
    match case.inode {
        Some(inode) if inode.nlink > 0 => Some(Doubt::Bereaving),
        _ => Some(Doubt::Removal { objects }),
    }
}

/// Whether removals that no program asked for are too many: those that wait now and those of the last minute, of all objects known.
pub(crate) fn too_many(waiting: u64, lately: u64, known: u64) -> bool {
    (waiting + lately) * 100 > known * UNASKED_SHARE_MAX_PERCENT
}

#[cfg(test)]
mod tests {
    use super::super::plan::Delete;
    use super::*;
    use crate::store::{Condition, ETag};
    use crate::types::Timestamp;

    fn inode(size: u64, nlink: u32) -> Inode {
        let inode = Inode::new(7, FileKind::File, 0o644, (0, 0), Timestamp::default());
        Inode { size, nlink, ..inode }
    }

    fn stored(ino: Ino) -> Remote {
        Remote {
            key: "a".into(),
            ino,
            etag: "e".into(),
            content_version: 1,
            meta_version: 1,
            noted: 0,
        }
    }

    fn overwrite() -> Plan {
        let condition = Condition::Matches(ETag("e".into()));
        Plan {
            writes: vec![Write::Put {
                key: "a".into(),
                condition,
            }],
            deletes: Vec::new(),
        }
    }

    fn removal(etag: &str) -> Plan {
        Plan {
            writes: Vec::new(),
            deletes: vec![Delete {
                key: "a".into(),
                etag: ETag(etag.into()),
            }],
        }
    }

    fn judge(inode: Option<&Inode>, marks: Marks, owner: Ino, vanished: bool, plan: &Plan) -> Option<Doubt> {
        let wanted = ["a".to_owned()];
        let at_wanted = [stored(owner)];
        let named = !plan.writes.is_empty();
        let case = Case {
            ino: 7,
            inode,
            marks,
            wanted: if named { &wanted } else { &[] },
            at_wanted: if named { &at_wanted } else { &[] },
            content_vanished: vanished,
        };
        doubt(&case, plan)
    }

    #[test]
    fn emptiness_must_be_asked_for() {
        let emptying = Some(Doubt::Emptying {
            key: "a".into(),
            etag: "e".into(),
        });
        let (empty, full) = (inode(0, 1), inode(3, 1));
        assert_eq!(judge(Some(&empty), Marks::NONE, 7, false, &overwrite()), emptying);
        assert_eq!(judge(Some(&empty), Marks::REMOVED, 7, false, &overwrite()), emptying);
        assert_eq!(judge(Some(&empty), Marks::EMPTIED, 7, false, &overwrite()), None);
        assert_eq!(judge(Some(&empty), Marks::RELEASED, 7, false, &overwrite()), None);
        assert_eq!(judge(Some(&full), Marks::NONE, 7, false, &overwrite()), None);
        assert_eq!(
            judge(Some(&empty), Marks::NONE, 8, false, &overwrite()),
            None,
            "moved over another file"
        );
    }

    #[test]
    fn content_that_vanished_replaces_nothing() {
        let large = Inode {
            place: Place::Blob,
            ..inode(1 << 20, 1)
        };
        let vanished = Some(Doubt::Vanished { key: "a".into() });
        assert_eq!(judge(Some(&large), Marks::EMPTIED, 7, true, &overwrite()), vanished);
        assert_eq!(judge(Some(&large), Marks::RELEASED, 7, true, &overwrite()), None);
        assert_eq!(judge(Some(&large), Marks::NONE, 7, false, &overwrite()), None);
    }

    #[test]
    fn removals_must_be_asked_for() {
        let unlinked = inode(3, 0);
        let many = Some(Doubt::Removal { objects: 1 });
        assert_eq!(judge(None, Marks::NONE, 7, false, &removal("e")), many);
        assert_eq!(judge(Some(&unlinked), Marks::EMPTIED, 7, false, &removal("e")), many);
        assert_eq!(judge(None, Marks::REMOVED, 7, false, &removal("e")), None);
        assert_eq!(judge(None, Marks::RELEASED, 7, false, &removal("e")), None);
        assert_eq!(
            judge(None, Marks::NONE, 7, false, &removal("")),
            None,
            "a write whose outcome is unknown"
        );
        let named = inode(3, 1);
        assert_eq!(
            judge(Some(&named), Marks::NONE, 7, false, &removal("e")),
            Some(Doubt::Bereaving)
        );
    }

    #[test]
    fn a_large_share_is_too_many() {
        assert!(too_many(1, 0, 5), "one of five");
        assert!(!too_many(1, 0, 10));
        assert!(too_many(2, 0, 10));
        assert!(!too_many(5, 5, 100));
        assert!(too_many(5, 6, 100), "those of the last minute count");
        assert!(too_many(100, 0, 100));
    }
}

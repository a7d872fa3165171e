//! Compares the replica with the bucket, object by object, and mends what differs; says every step.
//!
//! What the bucket lacks and this machine holds is uploaded again; what this machine does not know is adopted; local content that is not
//! the object's is fetched anew; what was held back because no program asked for it is taken back. Nothing is ever deleted from the bucket,
//! and a key counts as missing only after the store was asked for it alone.
//!
//! Owns the comparison (`judge`) and its order. Does not own the uploads that it orders (`push`); what is owed already is theirs alone.

mod mend;

use crate::error::{Error, Result};
use crate::replica::Replica;
use crate::state::{Inode, Remote};
use crate::store::{Listed, ObjectInfo, ObjectKey};
use crate::types::Ino;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Keys compared at most; a larger bucket is refused, not half compared.
const KEYS_MAX: usize = 2_000_000;

/// Steps kept for the report; more are counted.
const STEPS_MAX: usize = 1_000;

/// Rows read under one lock.
const ROWS_PER_STEP: usize = 250;

/// One difference, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStep {
    /// The file's path, or the key of what is no file here.
    pub path: String,
    /// What is wrong.
    pub found: String,
    /// What was done, or would be done in a dry run.
    pub done: String,
    /// Whether that mends it.
    pub mends: bool,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Objects of files in the bucket.
    pub objects: u64,
    /// Local contents that were compared with their objects.
    pub contents: u64,
    /// The first differences.
    pub steps: Vec<CheckStep>,
    /// How many there were in all.
    pub step_count: u64,
    /// How many of them are not mended.
    pub left: u64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// A check under way.
pub(crate) struct Check<'p> {
    pub(crate) report: CheckReport,
    /// What the bucket shows, without notefs' own objects and markers.
    pub(crate) listing: BTreeMap<String, ObjectInfo>,
    /// The newest operation when the listing began: what is younger is not compared with it.
    pub(crate) began: u64,
    progress: &'p (dyn Fn(u64) + Sync),
}

impl Check<'_> {
    pub(crate) fn is_dry(&self) -> bool {
        self.report.dry_run
    }

    pub(crate) fn note(&mut self, path: String, found: &str, done: &str, mends: bool) {
        self.report.step_count += 1;
        self.report.left += u64::from(!mends || self.report.dry_run);
        if !self.report.dry_run {
            tracing::warn!(path, found, done, "Checked against the bucket");
        }
        if self.report.steps.len() < STEPS_MAX {
            self.report.steps.push(CheckStep {
                path,
                found: found.to_owned(),
                done: done.to_owned(),
                mends,
            });
        }
    }
}

/// How a row of the ledger compares with what the bucket shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// As it should be, as far as a listing can tell.
    Sound,
    /// Being written or younger than the listing: nothing can be said.
    NotNow,
    /// The bucket does not show it.
    Missing,
    /// The bucket has another version.
    Changed,
    /// The version is ours, the size is not.
    WrongSize,
    /// An object of no file, and nothing is owed for it.
    Orphaned,
}

pub(crate) fn judge(
    row: &Remote,
    inode: Option<&Inode>,
    owed: bool,
    listed: Option<&ObjectInfo>,
    began: u64,
) -> Finding {
    if owed || row.noted > began {
        return Finding::NotNow;
    }
    let Some(inode) = inode else {
        return Finding::Orphaned;
    };
    match listed {
        None => Finding::Missing,
        Some(info) if info.etag.0 != row.etag => Finding::Changed,
        Some(info) => {
            let is_file = inode.kind == crate::types::FileKind::File && inode.known;
            if is_file && inode.content_version == row.content_version && info.size != inode.size {
                Finding::WrongSize
            } else {
                Finding::Sound
            }
        }
    }
}

impl Replica {
    /// Compares everything and mends what differs, or only tells it in a dry run. `progress` is told how many keys are still to do.
    pub async fn check(self: &Arc<Self>, dry_run: bool, progress: &(dyn Fn(u64) + Sync)) -> Result<CheckReport> {
        self.state.commit()?;
        let began = self.view(|tables| Ok(tables.op()))?;
        let mut check = Check {
            report: CheckReport {
                dry_run,
                ..CheckReport::default()
            },
            listing: BTreeMap::new(),
            began,
            progress,
        };
        self.take_back_held(&mut check).await?;
        self.list_everything(&mut check).await?;
        self.check_rows(&mut check).await?;
        self.check_unknown(&mut check).await?;
        self.check_unstored(&mut check)?;
        Ok(check.report)
    }

    async fn list_everything(&self, check: &mut Check<'_>) -> Result<()> {
        let mut lister = self.store.list("", true).await?;
        while let Some(page) = lister.next_page().await? {
            for Listed { key, object } in page {
                if let Some(info) = object.filter(|_| !key.starts_with(".notefs/") && !key.ends_with('/')) {
                    check.listing.insert(key, info);
                }
            }
            (check.progress)(check.listing.len() as u64);
            if check.listing.len() > KEYS_MAX {
                return Err(Error::Unusable(format!(
                    "The bucket has more than {KEYS_MAX} objects, which is more than can be compared\n\nHint: Mount a prefix of it"
                )));
            }
        }
        check.report.objects = check.listing.len() as u64;
        Ok(())
    }

    async fn check_rows(self: &Arc<Self>, check: &mut Check<'_>) -> Result<()> {
        let mut after = String::new();
        let mut left = check.report.objects;
        loop {
            let rows = self.view(|tables| tables.remotes_under("", &after, ROWS_PER_STEP))?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.key.clone();
            for row in rows.iter().filter(|row| !row.key.ends_with('/')) {
                let (inode, owed) =
                    self.view(|tables| Ok((tables.inode(row.ino)?, tables.dirty.contains_key(&row.ino))))?;
                let owed = owed || self.pusher.is_in_flight(row.ino);
                let listed = check.listing.get(&row.key).cloned();
                let finding = judge(row, inode.as_ref(), owed, listed.as_ref(), check.began);
                self.mend_row(check, row, inode, (finding, listed)).await?;
            }
            left = left.saturating_sub(rows.len() as u64);
            (check.progress)(left);
        }
    }

    /// Objects that no row knows.
    async fn check_unknown(self: &Arc<Self>, check: &mut Check<'_>) -> Result<()> {
        let skipped: HashSet<String> = self
            .view(|tables| tables.skipped(KEYS_MAX))?
            .into_iter()
            .map(|(key, _, _)| key)
            .collect();
        let keys: Vec<String> = check
            .listing
            .keys()
            .filter(|key| !skipped.contains(*key))
            .cloned()
            .collect();
        for key in keys {
            let known = self.view(|tables| tables.remote(&key))?.is_some();
            let Ok(parsed) = ObjectKey::parse(&key) else { continue };
            if known {
                continue;
            }
            // Alone and anew: what was deleted here since the listing is not to come back.
            let Some(info) = self.store.head(&parsed).await? else {
                continue;
            };
            if self.view(|tables| tables.remote(&key))?.is_some() {
                continue;
            }
            if !check.is_dry() {
                self.adopt_line(&Listed {
                    key: key.clone(),
                    object: Some(info),
                })?;
            }
            check.note(key, "the bucket has it, the folder does not show it", "adopted", true);
        }
        Ok(())
    }

    /// Files that neither the bucket has nor anybody owes.
    fn check_unstored(&self, check: &mut Check<'_>) -> Result<()> {
        let mut after: Ino = 0;
        loop {
            let files = self.view(|tables| tables.files_after(after, ROWS_PER_STEP))?;
            let Some(last) = files.last() else { return Ok(()) };
            after = *last;
            for ino in files {
                let stored = self.view(|tables| {
                    Ok(tables.dirty.contains_key(&ino)
                        || tables.names_of(ino)?.is_empty()
                        || !tables.remotes_of(ino)?.is_empty()
                        || tables.is_kept_here(ino)?)
                })?;
                if !stored && !self.pusher.is_in_flight(ino) {
                    self.mend_unstored(check, ino)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;
    use crate::types::{FileKind, Timestamp};

    fn row() -> Remote {
        Remote {
            key: "a".into(),
            ino: 7,
            etag: "e".into(),
            content_version: 1,
            meta_version: 1,
            noted: 5,
        }
    }

    fn info(etag: &str, size: u64) -> ObjectInfo {
        ObjectInfo {
            size,
            etag: ETag(etag.into()),
            last_modified: Timestamp::default(),
            user: None,
        }
    }

    #[test]
    fn each_difference_has_its_name() {
        let inode = Inode {
            size: 3,
            ..Inode::new(7, FileKind::File, 0o644, (0, 0), Timestamp::default())
        };
        let judged = |inode, owed, listed: Option<ObjectInfo>| judge(&row(), inode, owed, listed.as_ref(), 9);
        let sound = Some(info("e", 3));
        assert_eq!(judged(Some(&inode), false, sound.clone()), Finding::Sound);
        assert_eq!(
            judged(Some(&inode), true, None),
            Finding::NotNow,
            "what is owed is left alone"
        );
        assert_eq!(judged(Some(&inode), false, None), Finding::Missing);
        assert_eq!(judged(Some(&inode), false, Some(info("f", 3))), Finding::Changed);
        assert_eq!(judged(Some(&inode), false, Some(info("e", 4))), Finding::WrongSize);
        assert_eq!(judged(None, false, sound), Finding::Orphaned);
        let younger = judge(&row(), Some(&inode), false, None, 4);
        assert_eq!(younger, Finding::NotNow, "younger than the listing");
    }
}

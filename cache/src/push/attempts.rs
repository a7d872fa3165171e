//! Texts of uploads whose answers are missing: what others have built upon one of them is merged with that one, not with what was there before.
//!
//! An upload takes the place of the version that it was bound to, so its text counts as long as the ledger knows that version under the key.
//! Owns which text a merge begins from; `push/merging.rs` owns the merge. What is remembered here ends with the run: beside it there are the
//! texts that were kept when they were changed (`state/tried.rs`), and those that stand unchanged in their files.

use super::run::Snapshot;
use crate::error::Result;
use crate::merge::{self, MERGE_BYTES_MAX, is_text};
use crate::replica::Replica;
use crate::state::{Base, BaseMetadata, Inode};
use crate::store::{Condition, ObjectKey};
use crate::types::FileKind;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Texts remembered, and how many of them for one key; the oldest goes first.
const TEXTS_MAX: usize = 256;
const TEXTS_PER_KEY_MAX: usize = 8;

/// What they may take together, in bytes.
const TEXTS_BYTES_MAX: usize = 8 << 20;

/// Texts of so many bytes together are compared on the spot.
const COMPARE_AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// An upload that may have landed.
#[derive(Clone)]
struct Attempt {
    key: String,
    /// The version that it was to replace; empty: none.
    replaces: String,
    metadata: BaseMetadata,
    text: Bytes,
}

/// The uploads that may have landed, oldest first.
#[derive(Default)]
pub(super) struct Attempts(Mutex<VecDeque<Attempt>>);

impl Attempts {
    /// An upload was given up without an answer.
    pub(super) fn note(&self, key: &ObjectKey, condition: &Condition, metadata: BaseMetadata, text: Bytes) {
        let replaces = match condition {
            Condition::Matches(etag) => etag.0.clone(),
            Condition::Absent | Condition::None => String::new(),
        };
        if text.len() > TEXTS_BYTES_MAX || !is_text(&text) {
            return;
        }
        let mut all = self.0.lock();
        all.retain(|known| known.key != key.as_str() || known.replaces == replaces && known.text != text);
        let of_key = all.iter().filter(|known| known.key == key.as_str()).count();
        if of_key >= TEXTS_PER_KEY_MAX
            && let Some(oldest) = all.iter().position(|known| known.key == key.as_str())
        {
            all.remove(oldest);
        }
        all.push_back(Attempt {
            key: key.as_str().to_owned(),
            replaces,
            metadata,
            text,
        });
        let mut bytes: usize = all.iter().map(|known| known.text.len()).sum();
        while bytes > TEXTS_BYTES_MAX || all.len() > TEXTS_MAX {
            bytes -= all.pop_front().map_or(bytes, |oldest| oldest.text.len());
        }
    }

    /// The key's version is known: nothing that was to replace an earlier one has landed since, nor will.
    pub(super) fn forget(&self, key: &str) {
        self.0.lock().retain(|known| known.key != key);
    }

    /// Those that may have replaced this version of a key, newest first.
    fn of(&self, key: &str, replaces: &str) -> Vec<Attempt> {
        let all = self.0.lock();
        let of_version = |known: &&Attempt| known.key == key && known.replaces == replaces;
        all.iter().rev().filter(of_version).cloned().collect()
    }
}

impl Replica {
    /// A copy inside the store was given up without an answer: what it may have brought is remembered, if it is here.
    pub(super) fn note_copy_tried(&self, snapshot: &Snapshot, key: &ObjectKey) -> Result<()> {
        let small = |inode: &&Inode| inode.kind == FileKind::File && inode.size <= MERGE_BYTES_MAX as u64;
        let Some(inode) = snapshot.inode.as_ref().filter(small) else {
            return Ok(());
        };
        if self.is_whole(inode.ino)?
            && let Some(text) = self.whole(inode)?
        {
            let metadata = BaseMetadata::of(inode, snapshot.xattrs.clone());
            self.pusher.attempts.note(key, &Condition::Absent, metadata, text);
        }
        Ok(())
    }

    /// The texts that may have replaced this version of a key, newest first.
    fn may_have_landed(&self, key: &str, etag: &str) -> Result<Vec<Attempt>> {
        let (standing, kept) = self.view(|tables| {
            let mut inodes = tables.tried_under(key);
            let row = tables.remote(key)?.map(|remote| remote.ino);
            if let Some(ino) = row.filter(|ino| !inodes.contains(ino)) {
                let version = tables.inode(ino)?.map(|inode| inode.content_version);
                inodes.extend(version.filter(|version| tables.was_sent(ino, *version)).map(|_| ino));
            }
            let mut standing = Vec::new();
            for ino in inodes {
                let small = |inode: &Inode| inode.kind == FileKind::File && inode.size <= MERGE_BYTES_MAX as u64;
                let Some(inode) = tables.inode(ino)?.filter(small) else {
                    continue;
                };
                // What has been changed since was kept then.
                if inode.base_version == inode.content_version || tables.was_sent(ino, inode.content_version) {
                    standing.push((inode, tables.xattrs(ino)?));
                }
            }
            Ok((standing, tables.tried_texts(key, etag)?))
        })?;
        let attempt = |metadata, text| Attempt {
            key: key.to_owned(),
            replaces: etag.to_owned(),
            metadata,
            text,
        };
        let mut tried = Vec::new();
        for (inode, xattrs) in standing {
            let text = match self.is_whole(inode.ino)? {
                true => self.whole(&inode)?,
                false => None,
            };
            tried.extend(text.map(|text| attempt(BaseMetadata::of(&inode, xattrs), text)));
        }
        tried.extend(self.pusher.attempts.of(key, etag));
        let kept = kept
            .into_iter()
            .filter_map(|kept| Some((kept.metadata, kept.bytes?.into_vec())));
        tried.extend(kept.map(|(metadata, text)| attempt(metadata, text.into())));
        Ok(tried)
    }

    /// Whether it is open who took out a line that `base` and ours have: an upload or a deletion of ours without an answer did, and theirs, which
    /// may or may not be built upon that one, lacks it too.
    pub(super) fn is_undecided(&self, base: &Base, ours: &[u8], theirs: &[u8]) -> Result<bool> {
        let Some(before) = &base.bytes else { return Ok(false) };
        let tried = self.may_have_landed(&base.key, &base.etag)?;
        let deleted = self.view(|tables| Ok(tables.was_deletion_tried(&base.key)))?;
        let mut texts = tried
            .iter()
            .map(|attempt| &attempt.text[..])
            .chain(deleted.then_some(&b""[..]));
        Ok(texts.any(|text| merge::took_out(before, text, ours, theirs)))
    }

    /// The upload without an answer upon which theirs is built, instead of `base`: of those of which every change is there the one from which
    /// theirs differs least, and of equals the newest.
    pub(super) async fn upload_beneath(
        &self,
        key: &ObjectKey,
        base: Option<&Base>,
        theirs: &Bytes,
    ) -> Result<Option<Base>> {
        let known = self.view(|tables| tables.remote(key.as_str()))?;
        let etag = known.map_or(String::new(), |remote| remote.etag);
        let tried = self.may_have_landed(key.as_str(), &etag)?;
        let before = match base {
            Some(base) => base.bytes.clone(),
            None => etag.is_empty().then(Default::default),
        };
        let Some(before) = before.filter(|_| !tried.is_empty()) else {
            return Ok(None);
        };
        let texts_bytes: usize = tried.iter().map(|attempt| attempt.text.len()).sum();
        let all_bytes = before.len() + theirs.len() + texts_bytes;
        let theirs = theirs.clone();
        let landed = move || {
            // A later text may lie between an earlier one and theirs, or that one between it and what was there before.
            let shown = tried
                .into_iter()
                .filter(|attempt| merge::shows(&before, &attempt.text, &theirs));
            shown.min_by_key(|attempt| merge::distance(&attempt.text, &theirs))
        };
        let landed = match all_bytes <= COMPARE_AT_ONCE_BYTES_MAX {
            true => landed(),
            false => tokio::task::spawn_blocking(landed).await.ok().flatten(),
        };
        Ok(landed.map(|attempt| Base {
            key: attempt.key,
            etag,
            metadata: attempt.metadata,
            bytes: Some(attempt.text.to_vec().into()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;

    fn note(attempts: &Attempts, key: &str, etag: &str, text: &str) {
        let key = ObjectKey::parse(key).unwrap();
        let metadata = BaseMetadata {
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: crate::types::Timestamp::from_nanos(0),
            xattrs: Vec::new(),
        };
        let text = Bytes::copy_from_slice(text.as_bytes());
        attempts.note(&key, &Condition::Matches(ETag(etag.to_owned())), metadata, text);
    }

    fn texts(attempts: &Attempts, key: &str, etag: &str) -> Vec<Bytes> {
        attempts.of(key, etag).into_iter().map(|attempt| attempt.text).collect()
    }

    #[test]
    fn texts_count_for_the_version_that_they_were_to_replace_and_are_bounded() {
        let attempts = Attempts::default();
        note(&attempts, "a", "1", "one");
        note(&attempts, "a", "1", "two");
        note(&attempts, "a", "1", "one");
        assert_eq!(texts(&attempts, "a", "1"), ["one", "two"], "newest first, each once");
        assert!(texts(&attempts, "a", "2").is_empty() && texts(&attempts, "b", "1").is_empty());
        note(&attempts, "a", "2", "three");
        assert!(
            texts(&attempts, "a", "1").is_empty(),
            "what replaces a later version ends the earlier ones"
        );
        for nth in 0..TEXTS_PER_KEY_MAX + 3 {
            note(&attempts, "a", "2", &format!("text {nth}"));
        }
        let kept = texts(&attempts, "a", "2");
        assert_eq!((kept.len(), &kept[0][..]), (TEXTS_PER_KEY_MAX, &b"text 10"[..]));
        for nth in 0..TEXTS_MAX {
            note(&attempts, &format!("n{nth}"), "1", "text");
        }
        assert!(texts(&attempts, "a", "2").is_empty() && texts(&attempts, "n0", "1").len() == 1);
        note(&attempts, "large", "1", &"x".repeat(1 << 20));
        let many = "y".repeat(1 << 20);
        (0..TEXTS_BYTES_MAX >> 20).for_each(|nth| note(&attempts, &format!("l{nth}"), "1", &many));
        assert!(texts(&attempts, "large", "1").is_empty() && texts(&attempts, "l0", "1").len() == 1);
        attempts.forget("l0");
        assert!(texts(&attempts, "l0", "1").is_empty());
    }
}

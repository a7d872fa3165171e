//! Texts that may be in the bucket without our having heard of it, and are not here any more: what others build upon one of them is merged with
//! that one (`push/attempts.rs`), also by the next run. A deletion that may have taken place stands beside them, as a row without a text.
//!
//! Like a base, such a text counts as long as the ledger knows the version under the key that it was to replace. Owns their number and size.

use super::Tables;
use super::query::unsigned;
use super::record::Base;
use crate::error::Result;
use crate::types::Ino;
use rusqlite::{Connection, params};
use std::collections::{HashMap, VecDeque};

/// Texts kept for one key; the oldest goes first.
const TEXTS_PER_KEY_MAX: usize = 8;

/// What they may take together, in bytes; what does not fit is remembered by this run alone.
const TEXTS_BYTES_MAX: u64 = 8 << 20;

/// The number of a deletion's row; texts are numbered from 1.
const DELETION_NTH: u64 = 0;

/// What there is, so that keys without such texts cost nothing.
#[derive(Default)]
pub(super) struct TriedTexts {
    keys: HashMap<String, OfKey>,
    bytes: u64,
}

/// The texts of one key.
#[derive(Default)]
struct OfKey {
    replaces: String,
    /// Number and length of each, oldest first.
    texts: VecDeque<(u64, u64)>,
    deletion: bool,
}

impl TriedTexts {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<TriedTexts> {
        let mut all = TriedTexts::default();
        let mut statement =
            connection.prepare("SELECT key, nth, replaces, coalesce(length(text), 0) FROM tried ORDER BY key, nth")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let of_key = all.keys.entry(row.get(0)?).or_default();
            of_key.replaces = row.get(2)?;
            match unsigned(row, 1)? {
                DELETION_NTH => of_key.deletion = true,
                nth => of_key.texts.push_back((nth, unsigned(row, 3)?)),
            }
            all.bytes += unsigned(row, 3)?;
        }
        Ok(all)
    }
}

impl Tables {
    pub(super) fn put_tried(&mut self, tried: &Base) -> Result<()> {
        self.drop_tried(&tried.key, Some(&tried.etag))?;
        let text = tried.bytes.as_ref().map_or(&[][..], |bytes| bytes.as_slice());
        if self.is_newest_tried(&tried.key, text)? {
            return Ok(());
        }
        let of_key = self.tried.keys.entry(tried.key.clone()).or_default();
        of_key.replaces.clone_from(&tried.etag);
        let nth = of_key.texts.back().map_or(1, |(nth, _)| nth + 1);
        of_key.texts.push_back((nth, text.len() as u64));
        self.tried.bytes += text.len() as u64;
        let oldest = match of_key.texts.len() > TEXTS_PER_KEY_MAX {
            true => of_key.texts.pop_front(),
            false => None,
        };
        if let Some((oldest, bytes)) = oldest {
            self.tried.bytes -= bytes;
            let row = params![tried.key, oldest as i64];
            self.execute("DELETE FROM tried WHERE key = ?1 AND nth = ?2", row)?;
        }
        let metadata = postcard::to_stdvec(&tried.metadata).unwrap_or_default();
        self.execute(
            "INSERT OR REPLACE INTO tried VALUES (?1, ?2, ?3, ?4, ?5)",
            params![tried.key, nth as i64, tried.etag, metadata, text],
        )
    }

    fn is_newest_tried(&mut self, key: &str, text: &[u8]) -> Result<bool> {
        let newest = self.tried.keys.get(key).and_then(|known| known.texts.back()).copied();
        let Some((nth, _)) = newest.filter(|(_, bytes)| *bytes == text.len() as u64) else {
            return Ok(false);
        };
        let sql = "SELECT text FROM tried WHERE key = ?1 AND nth = ?2";
        let kept: Option<Vec<u8>> = self.one(sql, params![key, nth as i64], |row| row.get(0))?;
        Ok(kept.is_some_and(|kept| kept == text))
    }

    pub(super) fn put_tried_deletion(&mut self, key: &str, etag: &str) -> Result<()> {
        self.drop_tried(key, Some(etag))?;
        let of_key = self.tried.keys.entry(key.to_owned()).or_default();
        etag.clone_into(&mut of_key.replaces);
        of_key.deletion = true;
        self.execute(
            "INSERT OR REPLACE INTO tried VALUES (?1, ?2, ?3, x'', NULL)",
            params![key, DELETION_NTH as i64, etag],
        )
    }

    pub(super) fn drop_tried_deletion(&mut self, key: &str) -> Result<()> {
        let Some(of_key) = self.tried.keys.get_mut(key) else {
            return Ok(());
        };
        of_key.deletion = false;
        if of_key.texts.is_empty() {
            self.tried.keys.remove(key);
        }
        let row = params![key, DELETION_NTH as i64];
        self.execute("DELETE FROM tried WHERE key = ?1 AND nth = ?2", row)
    }

    /// Whether we may have deleted what the ledger knows under a key, without an answer.
    pub(crate) fn was_deletion_tried(&self, key: &str) -> bool {
        self.tried.keys.get(key).is_some_and(|known| known.deletion)
    }

    /// Whether what the ledger says of an inode under a key may be the past: another one may have been stored there, or the object deleted, without
    /// an answer.
    pub(crate) fn is_in_doubt(&self, key: &str, ino: Ino) -> bool {
        self.was_deletion_tried(key) || self.was_tried_by_others(key, ino)
    }

    /// The key has this version now, or none: texts that were to replace another one are of no use.
    pub(super) fn drop_tried(&mut self, key: &str, etag: Option<&str>) -> Result<()> {
        if self
            .tried
            .keys
            .get(key)
            .is_none_or(|known| Some(known.replaces.as_str()) == etag)
        {
            return Ok(());
        }
        let gone = self.tried.keys.remove(key).unwrap_or_default();
        self.tried.bytes -= gone.texts.iter().map(|(_, bytes)| bytes).sum::<u64>();
        self.execute("DELETE FROM tried WHERE key = ?1", params![key])
    }

    /// The texts that may have replaced this version of a key, newest first.
    pub(crate) fn tried_texts(&mut self, key: &str, replaces: &str) -> Result<Vec<Base>> {
        if !self.has_tried_texts(key) {
            return Ok(Vec::new());
        }
        let sql = "SELECT metadata, text FROM tried WHERE key = ?1 AND replaces = ?2 AND nth > 0 ORDER BY nth DESC";
        let rows = self.many(sql, params![key, replaces], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let read = |(metadata, text): (Vec<u8>, Vec<u8>)| {
            Some(Base {
                key: key.to_owned(),
                etag: replaces.to_owned(),
                metadata: postcard::from_bytes(&metadata).ok()?,
                bytes: Some(text.into()),
            })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Whether such texts are kept for a key.
    pub(crate) fn has_tried_texts(&self, key: &str) -> bool {
        self.tried.keys.contains_key(key)
    }

    /// Whether a text of this length may still be kept.
    pub(crate) fn has_room_for_tried(&self, length: u64) -> bool {
        self.tried.bytes + length <= TEXTS_BYTES_MAX
    }

    /// This version of a file's content is being sent.
    pub(crate) fn note_sent(&mut self, ino: Ino, content_version: u64) {
        if let Some(debt) = self.dirty.get_mut(&ino) {
            debt.sent_version = content_version;
        }
    }

    /// Whether the content that an inode has may be in the bucket without our having heard of it.
    pub(crate) fn was_sent(&self, ino: Ino, content_version: u64) -> bool {
        self.dirty
            .get(&ino)
            .is_some_and(|debt| debt.sent_version == content_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{BaseMetadata, Mutation, Remote, State};

    fn put(state: &State, mutation: Mutation<'static>) {
        state.lock().write(&[mutation]).unwrap();
    }

    fn row(key: &str, etag: &str) -> Mutation<'static> {
        Mutation::PutRemote(Remote {
            key: key.to_owned(),
            ino: 2,
            etag: etag.to_owned(),
            content_version: 1,
            meta_version: 1,
            noted: 0,
        })
    }

    fn tried(key: &str, etag: &str, text: &str) -> Mutation<'static> {
        Mutation::PutTriedText(Base {
            key: key.to_owned(),
            etag: etag.to_owned(),
            metadata: BaseMetadata {
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: crate::types::Timestamp::from_nanos(0),
                xattrs: Vec::new(),
            },
            bytes: Some(text.as_bytes().to_vec().into()),
        })
    }

    fn texts(state: &State, key: &str, etag: &str) -> Vec<String> {
        let kept = state.lock().tried_texts(key, etag).unwrap();
        let text = |base: Base| String::from_utf8(base.bytes.unwrap().into_vec()).unwrap();
        kept.into_iter().map(text).collect()
    }

    #[test]
    fn texts_outlive_a_run_are_bounded_and_go_with_the_version_that_they_were_to_replace() {
        let dir = tempfile::tempdir().unwrap();
        let open = || State::open(dir.path(), "boot", 64 << 20).unwrap();
        let state = open();
        put(&state, row("note", "one"));
        put(&state, row("other", ""));
        for nth in 0..TEXTS_PER_KEY_MAX + 2 {
            put(&state, tried("note", "one", &format!("text {nth}")));
        }
        put(&state, tried("other", "", &"x".repeat(TEXTS_BYTES_MAX as usize - 100)));
        assert!(state.lock().has_room_for_tried(20) && !state.lock().has_room_for_tried(100));
        drop(state);
        let state = open();
        let kept = texts(&state, "note", "one");
        let ends = kept
            .first()
            .zip(kept.last())
            .map(|(newest, oldest)| (&newest[..], &oldest[..]));
        assert_eq!((kept.len(), ends), (TEXTS_PER_KEY_MAX, Some(("text 9", "text 2"))));
        assert!(!state.lock().has_room_for_tried(100), "it is counted anew");
        put(&state, row("note", "one"));
        assert_eq!(
            texts(&state, "note", "one").len(),
            TEXTS_PER_KEY_MAX,
            "it is that version still"
        );
        put(&state, row("note", "two"));
        put(&state, Mutation::DropRemote("other".to_owned()));
        assert!(!state.lock().has_tried_texts("note") && !state.lock().has_tried_texts("other"));
        assert!(state.lock().has_room_for_tried(TEXTS_BYTES_MAX), "nothing is left");
    }

    #[test]
    fn a_deletion_that_may_have_taken_place_outlives_a_run_and_is_no_text() {
        let dir = tempfile::tempdir().unwrap();
        let open = || State::open(dir.path(), "boot", 64 << 20).unwrap();
        let deletion = || Mutation::PutTriedDeletion {
            key: "note".to_owned(),
            etag: "one".to_owned(),
        };
        let state = open();
        put(&state, row("note", "one"));
        put(&state, deletion());
        put(&state, tried("note", "one", "text"));
        drop(state);
        let state = open();
        let known = || state.lock().was_deletion_tried("note") && state.lock().is_in_doubt("note", 2);
        assert!(known());
        assert_eq!(texts(&state, "note", "one"), ["text"]);
        put(&state, Mutation::DropTriedDeletion("note".to_owned()));
        assert!(!known() && texts(&state, "note", "one") == ["text"]);
        put(&state, deletion());
        put(&state, row("note", "one"));
        assert!(known(), "it is that version still");
        put(&state, row("note", "two"));
        assert!(!known(), "it went with the version");
    }
}

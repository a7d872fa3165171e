//! What is kept for the case that somebody else was faster: bases to merge with, keys under which writes were tried, conflicts.
//!
//! A base and the tries of a key live no longer than the version that the ledger knows there: when that row changes, they go with it.

use super::Tables;
use super::query::{read_remote, unsigned};
use super::record::{Base, BaseMetadata, Conflict, Mutation, Remote};
use crate::error::Result;
use crate::types::Ino;
use rusqlite::{Connection, params};
use std::collections::{HashMap, HashSet};

/// Texts kept as bases, in bytes; beyond it an edit that meets another one is kept as a copy instead of being merged.
const BASES_BYTES_MAX: u64 = 64 << 20;

/// Bases, with text or without.
const BASES_MAX: usize = 20_000;

/// Tries remembered for one key: later ones are more likely to be the one that is met.
const ATTEMPTS_PER_KEY_MAX: usize = 16;

/// What there is, so that rows that have none cost nothing.
#[derive(Default)]
pub(super) struct Bases {
    /// Key to the length of its text.
    sizes: HashMap<String, u64>,
    bytes: u64,
    attempts: HashMap<String, Vec<Ino>>,
    conflicts: HashSet<Ino>,
}

impl Bases {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Bases> {
        let mut bases = Bases::default();
        let mut statement = connection.prepare("SELECT key, coalesce(length(bytes), 0) FROM base")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            bases.bytes += unsigned(row, 1)?;
            bases.sizes.insert(row.get(0)?, unsigned(row, 1)?);
        }
        let mut statement = connection.prepare("SELECT key, ino FROM attempt ORDER BY ino")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            bases.attempts.entry(row.get(0)?).or_default().push(unsigned(row, 1)?);
        }
        let mut statement = connection.prepare("SELECT ino FROM conflict")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            bases.conflicts.insert(unsigned(row, 0)?);
        }
        Ok(bases)
    }
}

impl Tables {
    pub(super) fn apply_to_disputes(&mut self, mutation: &Mutation<'_>) -> Result<()> {
        match mutation {
            Mutation::PutBase(base) => self.put_base(base),
            Mutation::PutAttempt { key, ino } => {
                self.execute(
                    "INSERT OR REPLACE INTO attempt VALUES (?1, ?2)",
                    params![key, *ino as i64],
                )?;
                let known = self.bases.attempts.entry(key.clone()).or_default();
                known.retain(|other| other != ino);
                known.push(*ino);
                Ok(())
            }
            Mutation::PutTriedText(text) => self.put_tried(text),
            Mutation::DropTriedTexts(key) => self.drop_tried(key, None),
            Mutation::PutTriedDeletion { key, etag } => self.put_tried_deletion(key, etag),
            Mutation::DropTriedDeletion(key) => self.drop_tried_deletion(key),
            Mutation::PutConflict(conflict) => {
                self.bases.conflicts.insert(conflict.ino);
                let record = postcard::to_stdvec(conflict).unwrap_or_default();
                self.execute(
                    "INSERT OR REPLACE INTO conflict VALUES (?1, ?2)",
                    params![conflict.ino as i64, record],
                )
            }
            Mutation::DropConflict(ino) => self.drop_conflict(*ino),
            other => self.apply_to_pins(other),
        }
    }

    fn put_base(&mut self, base: &Base) -> Result<()> {
        let length = base.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let old = self.bases.sizes.insert(base.key.clone(), length).unwrap_or(0);
        self.bases.bytes = self.bases.bytes + length - old;
        let metadata = postcard::to_stdvec(&base.metadata).unwrap_or_default();
        let bytes = base.bytes.as_ref().map(|bytes| bytes.as_slice());
        self.execute(
            "INSERT OR REPLACE INTO base VALUES (?1, ?2, ?3, ?4)",
            params![base.key, base.etag, metadata, bytes],
        )
    }

    /// The key has another version now, or none: what was kept of the old one is of no use.
    pub(super) fn drop_bases(&mut self, key: &str, etag: Option<&str>) -> Result<()> {
        if etag != Some("") && self.bases.attempts.remove(key).is_some() {
            self.execute("DELETE FROM attempt WHERE key = ?1", params![key])?;
        }
        if let Some(size) = self.bases.sizes.get(key).copied()
            && self.base(key)?.is_none_or(|base| Some(base.etag.as_str()) != etag)
        {
            self.bases.sizes.remove(key);
            self.bases.bytes -= size;
            self.execute("DELETE FROM base WHERE key = ?1", params![key])?;
        }
        Ok(())
    }

    pub(super) fn drop_conflict(&mut self, ino: Ino) -> Result<()> {
        if self.bases.conflicts.remove(&ino) {
            self.execute("DELETE FROM conflict WHERE ino = ?1", params![ino as i64])?;
        }
        Ok(())
    }

    /// What was kept of the version that the ledger knows under this key.
    pub(crate) fn base(&mut self, key: &str) -> Result<Option<Base>> {
        if !self.bases.sizes.contains_key(key) {
            return Ok(None);
        }
        self.one(
            "SELECT etag, metadata, bytes FROM base WHERE key = ?1",
            params![key],
            |row| {
                let metadata: Vec<u8> = row.get(1)?;
                let metadata: BaseMetadata = postcard::from_bytes(&metadata).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, Box::new(error))
                })?;
                let bytes: Option<Vec<u8>> = row.get(2)?;
                Ok(Base {
                    key: key.to_owned(),
                    etag: row.get(0)?,
                    metadata,
                    bytes: bytes.map(Into::into),
                })
            },
        )
    }

    /// Whether a base of this length may still be kept.
    pub(crate) fn has_room_for_base(&self, length: u64) -> bool {
        self.bases.bytes + length <= BASES_BYTES_MAX && self.bases.sizes.len() < BASES_MAX
    }

    /// Texts kept as bases, in bytes.
    pub(crate) fn bases_bytes(&self) -> u64 {
        self.bases.bytes
    }

    /// Whether an inode may have been written under a key without our having heard of it.
    pub(crate) fn was_tried(&self, key: &str, ino: Ino) -> bool {
        self.bases.attempts.get(key).is_some_and(|inodes| inodes.contains(&ino))
    }

    /// Whether another inode than this one may have left something under the key.
    pub(crate) fn was_tried_by_others(&self, key: &str, ino: Ino) -> bool {
        let tried = self.bases.attempts.get(key);
        tried.is_some_and(|inodes| inodes.iter().any(|other| *other != ino))
    }

    /// The inodes that may have left something under a key, beside the one that its row names.
    pub(crate) fn tried_under(&self, key: &str) -> Vec<Ino> {
        self.bases.attempts.get(key).cloned().unwrap_or_default()
    }

    /// The keys with rows of other inodes under which an inode may have been written.
    pub(crate) fn keys_of_others_tried(&self, ino: Ino) -> Vec<String> {
        let tried = self.bases.attempts.iter().filter(|(_, inodes)| inodes.contains(&ino));
        tried.map(|(key, _)| key.clone()).collect()
    }

    /// All keys under which an inode may have been written.
    pub(crate) fn keys_tried(&mut self, ino: Ino) -> Result<Vec<String>> {
        let mut keys = self.keys_of_others_tried(ino);
        keys.extend(self.remotes_of(ino)?.into_iter().map(|remote| remote.key));
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// Whether there is room to remember one more try.
    pub(crate) fn has_room_for_attempt(&self, key: &str) -> bool {
        self.bases
            .attempts
            .get(key)
            .is_none_or(|inodes| inodes.len() < ATTEMPTS_PER_KEY_MAX)
    }

    /// The conflicts that are not resolved: those whose inode still has a name.
    pub(crate) fn conflicts(&mut self) -> Result<Vec<Conflict>> {
        if self.bases.conflicts.is_empty() {
            return Ok(Vec::new());
        }
        let records = self.many(
            "SELECT record FROM conflict WHERE EXISTS (SELECT 1 FROM dentry WHERE dentry.ino = conflict.ino) ORDER BY ino",
            [],
            |row| row.get::<_, Vec<u8>>(0),
        )?;
        Ok(records
            .iter()
            .filter_map(|record| postcard::from_bytes(record).ok())
            .collect())
    }

    /// The conflict whose copy this inode is.
    pub(crate) fn conflict_of(&mut self, ino: Ino) -> Result<Option<Conflict>> {
        if !self.bases.conflicts.contains(&ino) {
            return Ok(None);
        }
        let sql = "SELECT record FROM conflict WHERE ino = ?1";
        let record = self.one(sql, params![ino as i64], |row| row.get::<_, Vec<u8>>(0))?;
        Ok(record.and_then(|record| postcard::from_bytes(&record).ok()))
    }

    /// At most `limit` objects with this version.
    pub(crate) fn remotes_with(&mut self, etag: &str, limit: usize) -> Result<Vec<Remote>> {
        let sql = "SELECT key, ino, etag, content_version, meta_version, noted FROM remote WHERE etag = ?1 LIMIT ?2";
        self.many(sql, params![etag, limit as i64], read_remote)
    }
}

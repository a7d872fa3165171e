//! Beginning, ending, flushing and recovering the shared transaction.

use super::record::{Marks, Mutation};
use super::row::{REPLACE_INODE, write_inode};
use super::{Debt, State, Tables, database};
use crate::error::{Error, Result};
use rusqlite::params;

/// Disk space that an emptied journal keeps.
const JOURNAL_KEEP_BYTES: u64 = 4 << 20;

impl State {
    /// Ends the shared transaction, if there is one. Survives the daemon's death either way; this bounds the journal.
    pub(crate) fn commit(&self) -> Result<()> {
        self.lock().commit()
    }

    /// Makes every operation before the call survive a power cut: one commit, one flush. Returns the op it reached.
    pub(crate) fn sync(&self) -> Result<u64> {
        let op = {
            let mut tables = self.lock();
            tables.commit()?;
            tables.op
        };
        self.wal.lock().sync_data().map_err(|source| Error::Local {
            action: "flush the write-ahead log",
            path: self.wal_path.clone(),
            source,
            advice: "Check the disk's health: what is written may not be on it",
        })?;
        self.lock().settled.retain(|_, settled| *settled > op);
        Ok(op)
    }

    /// Moves all committed pages into `state.db` and gives the log's disk space back, if the log has grown to `from_bytes`. Others go
    /// on while most of it is moved. The rest, with its flush, is moved under the lock: an open transaction keeps the log from being
    /// emptied, and busy programs always have one open.
    pub(crate) fn shorten_log(&self, from_bytes: u64) -> Result<()> {
        if self.log_bytes() < from_bytes {
            return Ok(());
        }
        let connection = self.checkpointer.lock();
        checkpoint(&connection, "PASSIVE")?;
        let mut tables = self.lock();
        tables.commit()?;
        checkpoint(&connection, "TRUNCATE")
    }

    /// What the log may take of the disk's reserve.
    pub(crate) fn log_bytes_max(&self) -> u64 {
        self.wal_bytes_max
    }

    /// What the log takes now.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.wal.lock().metadata().map_or(0, |log| log.len())
    }
}

fn checkpoint(connection: &rusqlite::Connection, how: &str) -> Result<()> {
    let done = connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_row| Ok(()));
    done.map_err(|error| database("move the log into the database", &error))
}

impl Tables {
    pub(super) fn begin(&mut self) -> Result<()> {
        if !self.in_transaction {
            let begun = self
                .connection
                .prepare_cached("BEGIN IMMEDIATE")
                .and_then(|mut statement| statement.execute([]));
            begun.map_err(|error| database("begin a transaction", &error))?;
            self.in_transaction = true;
        }
        Ok(())
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        if !self.in_transaction {
            return Ok(());
        }
        let done = self.flush_rows().and_then(|()| self.connection.execute_batch("COMMIT"));
        if let Err(error) = done {
            let failure = database("commit", &error);
            if self.connection.is_autocommit() {
                self.recover(None)?;
            }
            return Err(failure);
        }
        self.in_transaction = false;
        self.committed_op = self.op;
        self.journal.reset();
        self.journal.shrink(JOURNAL_KEEP_BYTES);
        self.mark_clean();
        Ok(())
    }

    /// Brings the rows that waited in memory into their tables; they stay dirty until the commit has succeeded.
    fn flush_rows(&mut self) -> rusqlite::Result<()> {
        {
            let mut put = self.connection.prepare_cached(REPLACE_INODE)?;
            let mut drop = self.connection.prepare_cached("DELETE FROM inode WHERE ino = ?1")?;
            for ino in &self.cache.dirty_inodes {
                match self.cache.inodes.peek(ino).and_then(|slot| slot.value.as_ref()) {
                    Some(inode) => write_inode(&mut put, inode)?,
                    None => drop.execute(params![*ino as i64]).map(|_rows| ())?,
                }
            }
            let mut put = self
                .connection
                .prepare_cached("INSERT OR REPLACE INTO content VALUES (?1, ?2)")?;
            let mut drop = self.connection.prepare_cached("DELETE FROM content WHERE ino = ?1")?;
            for ino in &self.cache.dirty_contents {
                match self.cache.contents.peek(ino).and_then(|slot| slot.value.as_ref()) {
                    Some(bytes) => put.execute(params![*ino as i64, bytes])?,
                    None => drop.execute(params![*ino as i64])?,
                };
            }
        }
        self.flush_present()?;
        let mut meta = self
            .connection
            .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
        let numbers = [
            ("op", self.op),
            ("next_ino", self.next_ino),
            ("next_cookie", self.next_cookie),
            ("change_seq", self.change_seq),
        ];
        for (name, number) in numbers {
            meta.execute(params![name, number.to_string()])?;
        }
        Ok(())
    }

    fn flush_present(&self) -> rusqlite::Result<()> {
        let mut put = self
            .connection
            .prepare_cached("INSERT OR REPLACE INTO blob VALUES (?1, ?2)")?;
        let mut drop = self.connection.prepare_cached("DELETE FROM blob WHERE ino = ?1")?;
        for ino in &self.cache.dirty_present {
            match self.cache.present.peek(ino).filter(|ranges| !ranges.is_empty()) {
                Some(ranges) => put.execute(params![*ino as i64, super::query::encode_ranges(ranges)])?,
                None => drop.execute(params![*ino as i64])?,
            };
        }
        Ok(())
    }

    fn mark_clean(&mut self) {
        self.cache.dirty_present.clear();
        for ino in self.cache.dirty_inodes.drain() {
            if let Some(slot) = self.cache.inodes.peek_mut(&ino) {
                slot.dirty = false;
            }
        }
        for ino in self.cache.dirty_contents.drain() {
            if let Some(slot) = self.cache.contents.peek_mut(&ino) {
                slot.dirty = false;
            }
        }
        self.cache.trim();
    }

    /// Goes back to the last commit and from there forward to the end of the journal.
    pub(super) fn roll_back(&mut self) -> Result<()> {
        if !self.connection.is_autocommit() {
            let done = self.connection.execute_batch("ROLLBACK");
            done.map_err(|error| database("take back a transaction", &error))?;
        }
        self.recover(None)
    }

    /// Loads what the tables say and replays what the journal holds beyond them: after a commit that failed, and after a start, which
    /// says the machine's `boot`. The journal of another boot is left alone: only what was flushed is true then.
    pub(super) fn recover(&mut self, boot: Option<&str>) -> Result<()> {
        self.cache = super::cache::RowCache::default();
        self.in_transaction = false;
        self.load().map_err(|error| database("be read at the start", &error))?;
        self.committed_op = self.op;
        if let Some(boot) = boot
            && self.meta("boot")?.is_some_and(|last| last != boot)
        {
            return Ok(());
        }
        let again = super::journal::Journal::open(&self.journal_path())?;
        let mut journal = std::mem::replace(&mut self.journal, again);
        let replayed = journal.replay(self.op, |op, payload| {
            let mutations: Vec<Mutation<'_>> = postcard::from_bytes(payload).map_err(|error| {
                Error::Unusable(format!("The journal holds an operation that makes no sense: {error}"))
            })?;
            self.begin()?;
            self.op = op;
            mutations.iter().try_for_each(|mutation| self.apply(mutation))
        });
        self.journal = journal;
        replayed?;
        Ok(())
    }

    fn journal_path(&self) -> std::path::PathBuf {
        let database = self.connection.path().unwrap_or("state.db");
        std::path::Path::new(database).with_file_name("journal")
    }

    fn load(&mut self) -> rusqlite::Result<()> {
        let number = |name: &str, default: u64| -> rusqlite::Result<u64> {
            let mut statement = self
                .connection
                .prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
            let text: Option<String> =
                rusqlite::OptionalExtension::optional(statement.query_row([name], |row| row.get(0)))?;
            Ok(text.and_then(|text| text.parse().ok()).unwrap_or(default))
        };
        self.op = number("op", 0)?;
        self.next_ino = number("next_ino", 2)?;
        self.next_cookie = number("next_cookie", 16)?;
        self.change_seq = number("change_seq", 0)?;
        self.dirty.clear();
        self.unread_changes.clear();
        self.directory_keys.clear();
        self.forget_local();
        self.load_pins()?;
        // The column bears all marks; it is named for the first of them.
        self.dirty_bytes = 0;
        let owed = "SELECT dirty.ino, since_ms, subtree, size, content_version FROM dirty LEFT JOIN inode USING (ino)";
        let mut dirty = self.connection.prepare(owed)?;
        let mut rows = dirty.query([])?;
        while let Some(row) = rows.next()? {
            let debt = Debt {
                since_ms: row.get::<_, i64>(1)? as u64,
                marks: Marks(row.get(2)?),
                due_ms: 0,
                first_ms: 0,
                written_ms: 0,
                born: 0,
                bytes: row.get::<_, Option<i64>>(3)?.unwrap_or(0) as u64,
                // The earlier run may have sent it just before it ended.
                sent_version: row.get::<_, Option<i64>>(4)?.unwrap_or(0) as u64,
                op: self.op,
            };
            self.dirty_bytes += debt.bytes;
            self.dirty.insert(row.get::<_, i64>(0)? as u64, debt);
        }
        let sizes = "SELECT ino, length(bytes) FROM content";
        let mut local = self.connection.prepare(sizes)?;
        let mut rows = local.query([])?;
        while let Some(row) = rows.next()? {
            let bytes = row.get::<_, i64>(1)? as u64;
            self.local.add(row.get::<_, i64>(0)? as u64, bytes);
            self.local_bytes += bytes;
        }
        let mut blobs = self.connection.prepare("SELECT ino, present FROM blob")?;
        let mut rows = blobs.query([])?;
        while let Some(row) = rows.next()? {
            let ranges = super::query::decode_ranges(row.get_ref(1)?.as_blob()?);
            let bytes = ranges.iter().map(|(start, end)| end - start).sum();
            self.local.add(row.get::<_, i64>(0)? as u64, bytes);
            self.local_bytes += bytes;
        }
        drop(rows);
        drop(blobs);
        self.bases = super::base::Bases::load(&self.connection)?;
        self.tried = super::tried::TriedTexts::load(&self.connection)?;
        Ok(())
    }
}

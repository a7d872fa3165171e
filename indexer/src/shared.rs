//! The index of a whole vault in a database that all its machines share: libSQL (Turso, `sqld`) or PostgreSQL.
//!
//! Owns [`SharedIndex`], the handle; what it takes in ([`SharedChange`]) and hands out ([`SharedRow`], [`Hit`]). Its
//! parts: `address` (where the database is), `failure` (what can go wrong), `version` (which of two versions of a note
//! stands), `rows` (a note as rows), `hits` (what a search answers), `libsql` and `postgres` (one database each). Does not decide when changes are sent
//! or fetched, never reads a note, and keeps nothing on this machine.
//!
//! A database holds any number of vaults. Every call ends by [`CALL_DEADLINE_SECONDS`], and every answer is bounded.

mod address;
mod failure;
mod hits;
mod libsql;
mod postgres;
mod rows;
mod version;

pub use address::SharedAddress;
pub use failure::SharedError;
pub use version::ObjectVersion;

use std::future::Future;
use std::sync::{Arc, Once};
use std::time::Duration;

use crate::index::MAX_OFFSET;
use crate::model::{Change, Entity, Hit};
use crate::query;
use address::Kind;
use hits::Page;
use libsql::Libsql;
use postgres::Postgres;
use rows::Rows;

/// The longest that one call takes, in seconds; each batch of [`SharedIndex::apply`] has its own.
pub const CALL_DEADLINE_SECONDS: u64 = 30;
/// Rows handed out at most by one call, whatever limit is asked for.
pub const MAX_SHARED_ROWS: usize = 5_000;
/// Notes that an answer about one note's links is made of; of a note with more links some are missing.
pub const MAX_AROUND_NOTES: usize = 500;
/// Changes written by one transaction.
pub const MAX_BATCH_CHANGES: usize = 256;

/// One change of a note, with the version of its object in the store.
#[derive(Clone, Debug)]
pub enum SharedChange {
    /// The object at this path has this version, and its content is this.
    Upsert {
        /// Where the note is.
        path: Vec<u8>,
        /// Which version of the object this is.
        version: ObjectVersion,
        /// The etag of the version that this one was made from, if its writer knows.
        replaces: Option<String>,
        /// Its content, or the first [`crate::MAX_NOTE_BYTES`] of it.
        bytes: Vec<u8>,
        /// The size of the object in bytes; larger than `bytes` when those are a prefix.
        total_bytes: u64,
        /// Modification time, nanoseconds since 1970.
        mtime_ns: i64,
    },
    /// The object at this path is gone.
    Gone {
        /// Where the note was.
        path: Vec<u8>,
        /// The version that is gone.
        version: ObjectVersion,
    },
}

/// A change that the database does not take, whatever is sent with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where the note is.
    pub path: Vec<u8>,
    /// What the database said, in one line.
    pub reason: String,
}

/// What the shared index knows of one path, without the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRow {
    /// Where the note is, or was.
    pub path: Vec<u8>,
    /// The version of its object that the index stands for.
    pub version: ObjectVersion,
    /// Whether that version is gone.
    pub gone: bool,
    /// When this row changed last, in the order of the database.
    pub seq: u64,
    /// The title of the note.
    pub title: String,
}

/// A handle to the shared index of one vault. Clones share its connection.
#[derive(Clone)]
pub struct SharedIndex {
    inner: Arc<Inner>,
}

struct Inner {
    address: SharedAddress,
    database: Database,
}

/// The databases it can be in.
enum Database {
    Libsql(Libsql),
    Postgres(Box<Postgres>),
}

/// Asks whichever database it is.
macro_rules! ask {
    ($self:ident, $database:ident => $call:expr) => {
        match &$self.inner.database {
            Database::Libsql($database) => $self.within($call).await,
            Database::Postgres($database) => $self.within($call).await,
        }
    };
}

impl std::fmt::Debug for SharedIndex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SharedIndex({})", self.inner.address)
    }
}

impl SharedIndex {
    /// Connects to the database and brings its schema up to date. `vault` is the identity of the store: every machine that
    /// mounts the same notes gives the same.
    ///
    /// # Errors
    /// When the database is away, refuses the token or password, or was made by a newer program.
    pub async fn open(address: &SharedAddress, vault: &str) -> Result<Self, SharedError> {
        let opened = async {
            Ok(match address.kind {
                Kind::Libsql => Database::Libsql(Libsql::open(address, vault).await?),
                Kind::Postgres => Database::Postgres(Box::new(Postgres::open(address, vault).await?)),
            })
        };
        let database = within(address, opened).await?;
        let address = address.clone();
        let inner = Arc::new(Inner { address, database });
        Ok(Self { inner })
    }

    /// Applies the changes in batches of [`MAX_BATCH_CHANGES`], each one transaction in one round trip. Which of two versions of
    /// a note stands is told by the versions, not by who comes last; what is applied twice changes nothing. Paths that are no
    /// note's are passed over. A batch that the database refuses is halved until all that it takes is applied; what it does not
    /// take even alone is answered.
    ///
    /// # Errors
    /// When the database fails, or refuses whatever it is sent; then the batches before may be applied, and all may be sent again.
    pub async fn apply(&self, changes: &[SharedChange]) -> Result<Vec<Rejected>, SharedError> {
        let mut rejected = Vec::new();
        for batch in rows::batches(changes, MAX_BATCH_CHANGES) {
            let mut parts = vec![batch];
            while let Some(part) = parts.pop() {
                if let Err(error) = self.apply_batch(&part).await {
                    self.isolate(error, part, &mut parts, &mut rejected).await?;
                }
            }
        }
        Ok(rejected)
    }

    async fn apply_batch(&self, batch: &[&SharedChange]) -> Result<(), SharedError> {
        let mut rows = Rows::default();
        for change in batch {
            rows.add(change);
            // Parsing takes time, and others wait on this thread.
            tokio::task::yield_now().await;
        }
        ask!(self, database => database.apply(&rows))
    }

    /// Halves a batch that was refused, or gives up its only change.
    async fn isolate<'a>(
        &self,
        error: SharedError,
        mut part: Vec<&'a SharedChange>,
        parts: &mut Vec<Vec<&'a SharedChange>>,
        rejected: &mut Vec<Rejected>,
    ) -> Result<(), SharedError> {
        if !error.is_rejected() {
            return Err(error);
        }
        if part.len() > 1 {
            parts.push(part.split_off(part.len() / 2));
            parts.push(part);
            return Ok(());
        }
        // A database that refuses even nothing has another trouble than this note.
        self.apply_batch(&[]).await?;
        rejected.extend(part.into_iter().map(|change| Rejected {
            path: change.path().to_owned(),
            reason: error.reason().to_owned(),
        }));
        Ok(())
    }

    /// The rows that changed after `cursor`, in the order of the database, and the cursor to ask with next. The first cursor
    /// is 0. Only the last change of a row is seen. A cursor that the database has not reached (it was made anew) is taken
    /// for 0.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn changes_after(&self, cursor: u64, limit: usize) -> Result<(Vec<SharedRow>, u64), SharedError> {
        let limit = limit.clamp(1, MAX_SHARED_ROWS);
        let rows = ask!(self, database => database.changes_after(cursor, limit))?;
        let next = rows.last().map_or(cursor, |row| row.seq);
        Ok((rows, next))
    }

    /// As [`crate::Index::search`], ranked by the database's own full text.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn search(&self, query: &str, limit: usize, offset: usize) -> Result<Vec<Hit>, SharedError> {
        let query = query::parse(query);
        if query.is_empty() || limit == 0 || offset > MAX_OFFSET {
            return Ok(Vec::new());
        }
        let page = Page::new(limit, offset);
        let found = ask!(self, database => database.search(&query, page))?;
        Ok(hits::hits(found, &query))
    }

    /// As [`crate::Index::tags`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tags(&self) -> Result<Vec<(String, u64)>, SharedError> {
        ask!(self, database => database.tags(MAX_SHARED_ROWS))
    }

    /// As [`crate::Index::recent`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recent(&self, below: &[u8], limit: usize) -> Result<Vec<Entity>, SharedError> {
        let limit = limit.clamp(1, MAX_SHARED_ROWS);
        let range = (rows::hex(&[below, b"/"].concat()), rows::hex(&[below, b"0"].concat()));
        ask!(self, database => database.recent(below.is_empty(), range, limit))
    }

    /// The note at a path, all notes with links that may lead to it, and all that a link of these or of the note itself may mean: an
    /// index of them ([`crate::Index::of`]) knows its links and backlinks. At most [`MAX_AROUND_NOTES`]; empty for an unknown path.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn around(&self, path: &[u8]) -> Result<Vec<Change>, SharedError> {
        ask!(self, database => database.around(path, MAX_AROUND_NOTES))
    }

    /// What is known of one path.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn row(&self, path: &[u8]) -> Result<Option<SharedRow>, SharedError> {
        ask!(self, database => database.row(path))
    }

    /// What is known of these paths, in no order; those of which nothing is known are not in it. At most [`MAX_SHARED_ROWS`] are asked for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rows(&self, paths: &[&[u8]]) -> Result<Vec<SharedRow>, SharedError> {
        let paths: Vec<String> = paths.iter().take(MAX_SHARED_ROWS).map(|path| rows::hex(path)).collect();
        let paths = serde_json::Value::from(paths).to_string();
        ask!(self, database => database.rows_at(&paths))
    }

    /// The rows behind `path` in the order of paths, those that are gone among them; an empty path begins.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn paths_after(&self, path: &[u8], limit: usize) -> Result<Vec<SharedRow>, SharedError> {
        let limit = limit.clamp(1, MAX_SHARED_ROWS);
        ask!(self, database => database.paths_after(path, limit))
    }

    /// Drops the rows of notes that have been gone for this many days of the database's clock, and says how many. A machine
    /// that was away for longer must compare whole indexes ([`Self::paths_after`]).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_gone(&self, older_than_days: u32) -> Result<u64, SharedError> {
        ask!(self, database => database.forget_gone(older_than_days))
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, SharedError>>) -> Result<T, SharedError> {
        within(&self.inner.address, call).await
    }

    /// Whether opening it made its tables, or brought older ones up to date: then what it knows of notes may lack something until they are told again.
    pub fn was_older(&self) -> bool {
        match &self.inner.database {
            Database::Libsql(database) => database.was_older,
            Database::Postgres(database) => database.was_older,
        }
    }

    /// Where the database is, without any secret.
    pub fn address(&self) -> &SharedAddress {
        &self.inner.address
    }
}

/// The call, or a failure when it takes too long.
async fn within<T>(
    address: &SharedAddress,
    call: impl Future<Output = Result<T, SharedError>>,
) -> Result<T, SharedError> {
    let answer = tokio::time::timeout(Duration::from_secs(CALL_DEADLINE_SECONDS), call).await;
    let late = format!("no answer within {CALL_DEADLINE_SECONDS} s");
    answer.unwrap_or_else(|_| Err(SharedError::unreachable(address, "use the shared index", late)))
}

/// The cryptography of all TLS in this process; fails only if the program has installed one already, which then serves as
/// well.
fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

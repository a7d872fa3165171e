//! The index as the rest of notefs sees it.
//!
//! Owns [`Index`]: changes go in and are parsed here, questions come in and are answered here from the rows the
//! database gives, with links resolved (`index/resolver.rs`) and snippets cut; those about the graph are in
//! `index/walk.rs`. Does not know how rows are stored (`sqlite`), and never reads the notes themselves: their bytes
//! come with each change.

mod resolver;
mod rewrite;
mod walk;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::error::IndexError;
use crate::model::{Backlink, Change, Hit, IndexStats, Link, PLAIN_RELATION, Warning};
use crate::note_path::is_note;
use crate::parse::{self, Text};
use crate::query;
use crate::resolve::LookupKeys;
use crate::snippet::Needles;
use crate::sqlite::{Batch, Database, HitRow, InboundRow, OutboundRow, Snapshot};
use resolver::Resolver;
pub use rewrite::Rewriter;
pub use walk::{MAX_DEPTH, MAX_NOTES};

/// Results returned at most by one search, whatever limit is asked for.
pub const MAX_HITS: usize = 2_000;
/// How far into the results a page may begin.
pub const MAX_OFFSET: usize = 100_000;

/// An index in one file. One thread applies changes at a time, any number ask.
pub struct Index {
    database: Database,
    /// The last answer that took counting; it holds for its `indexed_seq`.
    stats: Mutex<Option<IndexStats>>,
}

impl Index {
    /// Opens the index at `path`, creating it (mode 0600) or bringing its schema up to date.
    ///
    /// # Errors
    /// A file that is damaged, newer or of another program is refused and left as it is.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let index = Self {
            database: Database::open(path)?,
            stats: Mutex::default(),
        };
        index.parse_again()?;
        Ok(index)
    }

    /// An index of these changes alone, in memory.
    ///
    /// # Errors
    /// When the database fails.
    pub fn of(changes: Vec<Change>) -> Result<Self, IndexError> {
        let index = Self {
            database: Database::in_memory()?,
            stats: Mutex::default(),
        };
        index.apply(changes, 1)?;
        Ok(index)
    }

    /// Brings what an older program understood of the notes up to date, from the texts that the index holds.
    fn parse_again(&self) -> Result<(), IndexError> {
        if self.database.snapshot()?.parse_version()? == parse::VERSION {
            return Ok(());
        }
        let mut batch = self.database.begin()?;
        for path in batch.paths()? {
            if let Some((text, mtime_ns)) = batch.text_of(&path)? {
                batch.put(&path, &text, &parse::parse(&path, &text), mtime_ns)?;
            }
        }
        batch.commit_parsed(parse::VERSION)
    }

    /// The sequence number of the last change this index knows; 0 for a new one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn indexed_seq(&self) -> Result<u64, IndexError> {
        self.database.snapshot()?.indexed_seq()
    }

    /// Applies the changes in order and stamps `seq`, all or nothing. A strange note is no failure: it is indexed as
    /// far as it can be, with a [`Warning`]. Changes at paths that are no note's are treated as [`Change::Gone`].
    ///
    /// # Errors
    /// When the database fails; then nothing was applied.
    pub fn apply(&self, changes: Vec<Change>, seq: u64) -> Result<(), IndexError> {
        let mut batch = self.database.begin()?;
        for change in changes {
            apply_one(&mut batch, change)?;
        }
        batch.commit(seq)
    }

    /// Forgets every note, for a rebuild, and stamps `seq`.
    ///
    /// # Errors
    /// When the database fails; then nothing was forgotten.
    pub fn clear(&self, seq: u64) -> Result<(), IndexError> {
        let mut batch = self.database.begin()?;
        batch.clear()?;
        batch.commit(seq)
    }

    /// The `limit` best notes for what a person typed, after skipping `offset`; at most [`MAX_HITS`].
    ///
    /// All words must occur, the last one also as the beginning of a word. `"…"` is an exact phrase, `word*` a prefix,
    /// `-word` must not occur. Filters: `tag:x` (and tags below it), `path:x` (anywhere in the path), `title:x`, `type:x`,
    /// `category:x` (of an observation), `before:DATE`, `after:DATE` (last changed, UTC), `prop:KEY` and `prop:KEY=VALUE`
    /// (also `<`, `<=`, `>`, `>=`; numbers as numbers).
    /// Notes whose title is the query come first. No text is an error; an empty one finds nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub fn search(&self, query: &str, limit: usize, offset: usize) -> Result<Vec<Hit>, IndexError> {
        let query = query::parse(query);
        if query.is_empty() || limit == 0 || offset > MAX_OFFSET {
            return Ok(Vec::new());
        }
        let rows = self.database.snapshot()?.search(&query, limit.min(MAX_HITS), offset)?;
        let needles = Needles::new(&query);
        Ok(rows.into_iter().map(|row| hit(row, &needles)).collect())
    }

    /// Links that lead to the note at `path`, by the path of their note, then by line. Empty for an unknown path.
    ///
    /// # Errors
    /// When the database fails.
    pub fn backlinks(&self, path: &[u8]) -> Result<Vec<Backlink>, IndexError> {
        let snapshot = self.database.snapshot()?;
        let Some(note_id) = snapshot.id_of(path)? else {
            return Ok(Vec::new());
        };
        let rows = Resolver::new(&snapshot).inbound(note_id)?;
        with_lines(&snapshot, &rows)
    }

    /// The links of the note at `path`, in the order of its text. Empty for an unknown path.
    ///
    /// # Errors
    /// When the database fails.
    pub fn links(&self, path: &[u8]) -> Result<Vec<Link>, IndexError> {
        let snapshot = self.database.snapshot()?;
        let Some(note_id) = snapshot.id_of(path)? else {
            return Ok(Vec::new());
        };
        let mut resolver = Resolver::new(&snapshot);
        let rows = snapshot.links_of(note_id)?;
        rows.into_iter()
            .map(|row| {
                let resolved_bytes = resolver.resolve(path, &row)?.map(|(_, found)| found);
                Ok(link(row, resolved_bytes))
            })
            .collect()
    }

    /// Tags and in how many notes each is, most used first, then by name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn tags(&self) -> Result<Vec<(String, u64)>, IndexError> {
        self.database.snapshot()?.tags()
    }

    /// How many notes are indexed. Cheap.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_count(&self) -> Result<u64, IndexError> {
        self.database.snapshot()?.note_count()
    }

    /// Counts over the whole index. Cheap while nothing changes.
    ///
    /// # Errors
    /// When the database fails.
    pub fn stats(&self) -> Result<IndexStats, IndexError> {
        let snapshot = self.database.snapshot()?;
        let mut stats = snapshot.counts()?;
        let known = self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stats.disk_bytes = self.database.disk_bytes();
        stats.unresolved_links = match known {
            Some(known) if known.indexed_seq == stats.indexed_seq && known.links == stats.links => {
                known.unresolved_links
            }
            _ => unresolved_links(&snapshot)?,
        };
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats.clone());
        Ok(stats)
    }

    /// The first `limit` warnings, by path.
    ///
    /// # Errors
    /// When the database fails.
    pub fn warnings(&self, limit: usize) -> Result<Vec<Warning>, IndexError> {
        self.database.snapshot()?.warnings(limit)
    }

    /// Whether there is a note at `path`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn contains(&self, path: &[u8]) -> Result<bool, IndexError> {
        Ok(self.database.snapshot()?.id_of(path)?.is_some())
    }

    /// Gives back memory that only writing much at once has needed.
    ///
    /// # Errors
    /// When the database fails.
    pub fn relax(&self) -> Result<(), IndexError> {
        self.database.relax()
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        self.database.path()
    }
}

fn apply_one(batch: &mut Batch<'_>, change: Change) -> Result<(), IndexError> {
    match change {
        Change::Upsert {
            path,
            bytes,
            total_bytes,
            mtime_ns,
        } if is_note(&path) => upsert(batch, &path, &parse::read(bytes, total_bytes), mtime_ns),
        Change::Upsert { path, .. } | Change::Gone { path } => batch.remove(&path),
        Change::Moved { from, to } => {
            if from == to {
                return Ok(());
            }
            // A file that moved is the same note, with perhaps a new title and another syntax: it is parsed again.
            if let Some((text, mtime_ns)) = batch.text_of(&from)? {
                // What is at the target came with a batch that knew of this move already.
                if is_note(&to) && !batch.contains(&to)? {
                    batch.move_note(&from, &to)?;
                    batch.put(&to, &text, &parse::parse(&to, &text), mtime_ns)?;
                } else {
                    batch.remove(&from)?;
                }
            }
            batch.move_folder(&from, &to)
        }
    }
}

fn upsert(batch: &mut Batch<'_>, path: &[u8], text: &Text, mtime_ns: i64) -> Result<(), IndexError> {
    if batch.touch(path, text, mtime_ns)? {
        return Ok(());
    }
    batch.put(path, text, &parse::parse(path, text), mtime_ns)
}

fn hit(row: HitRow, needles: &Needles) -> Hit {
    let body = row.text.get(row.body_at..).unwrap_or_default();
    let (snippet, at) = needles.snippet(body);
    let line = at.map(|at| {
        let above = row.text.as_bytes()[..row.body_at + at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        u32::try_from(above + 1).unwrap_or(u32::MAX)
    });
    let path = String::from_utf8_lossy(&row.path).into_owned();
    Hit {
        path,
        path_bytes: row.path,
        title: row.title,
        snippet,
        score: row.score,
        line,
    }
}

fn link(row: OutboundRow, resolved_bytes: Option<Vec<u8>>) -> Link {
    Link {
        target: row.target,
        fragment: row.fragment,
        alias: row.alias,
        relation: row.relation.unwrap_or_else(|| PLAIN_RELATION.to_owned()),
        context: row.context,
        kind: row.kind,
        embed: row.embed,
        line: row.line,
        is_file: row.is_file,
        resolved: resolved_bytes
            .as_ref()
            .map(|path| String::from_utf8_lossy(path).into_owned()),
        resolved_bytes,
    }
}

/// Adds to each link the line it is on; links of one note follow each other, so each note is read once.
fn with_lines(snapshot: &Snapshot<'_>, rows: &[InboundRow]) -> Result<Vec<Backlink>, IndexError> {
    let mut backlinks = Vec::with_capacity(rows.len());
    for of_note in rows.chunk_by(|a, b| a.note_id == b.note_id) {
        let offsets: Vec<usize> = of_note.iter().map(|row| row.at).collect();
        let (title, lines) = snapshot.lines_at(of_note[0].note_id, &offsets)?;
        for (row, text) in of_note.iter().zip(lines) {
            backlinks.push(Backlink {
                path: String::from_utf8_lossy(&row.path).into_owned(),
                path_bytes: row.path.clone(),
                title: title.clone(),
                line: row.link.line,
                text,
                fragment: row.link.fragment.clone(),
                relation: row.link.relation.clone().unwrap_or_else(|| PLAIN_RELATION.to_owned()),
                kind: row.link.kind,
                embed: row.link.embed,
            });
        }
    }
    Ok(backlinks)
}

fn unresolved_links(snapshot: &Snapshot<'_>) -> Result<u64, IndexError> {
    let mut unresolved = snapshot.unnamed_links()?;
    let mut resolver = Resolver::new(snapshot);
    for links in snapshot.placed_links()? {
        if resolver
            .find(
                &links.path,
                links.kind,
                &links.target,
                LookupKeys::of(links.kind, &links.target),
            )?
            .is_none()
        {
            unresolved += links.count;
        }
    }
    Ok(unresolved)
}

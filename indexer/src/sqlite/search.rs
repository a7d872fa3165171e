//! Full-text search: a query as an FTS5 expression, the best rows, and their text.
//!
//! Owns the ranking: notes whose title is the query, then bm25 with the weights of `schema`. Does not put a [`Query`] into
//! FTS5's words (`fts5`), cut snippets, nor filter by anything but words (`filter`).
//!
//! Matching is cheap and bm25 is not (some µs for each note and word), and for words that most notes have it says
//! little. So a query with more than [`MAX_RANKED`] matches is answered by where the words are ([`Tier`]) instead.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::filter::allowed;
use super::{Snapshot, offset, signed};
use crate::error::IndexError;
use crate::fts5::{all_of, cheap_term, term};
use crate::query::{Prefix, Query};
use crate::text::tokens;

/// Notes with one title that are put first; more than this are ranked like the rest.
const MAX_EXACT_TITLES: usize = 8;
/// What an exact title adds to a score: more than bm25 can give.
const EXACT_TITLE_SCORE: f64 = 1_000.0;
/// With more matches than this, bm25 is not asked.
const MAX_RANKED: usize = 1_500;
/// What each tier above the last adds to a score, so that scores fall from tier to tier.
const TIER_SCORE: f64 = 10.0;
/// With more words than this, a note with one of them in its title is no better than another.
const MAX_ONE_IN_TITLE_TERMS: usize = 3;

/// A row found, with the text a snippet is cut from.
pub(crate) struct HitRow {
    pub(crate) path: Vec<u8>,
    pub(crate) title: String,
    pub(crate) score: f64,
    pub(crate) text: String,
    pub(crate) body_at: usize,
}

impl Snapshot<'_> {
    /// The `limit` best notes after the first `skip`.
    pub(crate) fn search(&self, query: &Query, limit: usize, skip: usize) -> Result<Vec<HitRow>, IndexError> {
        self.run("search", |connection| {
            let search = Search {
                connection,
                query,
                allowed: allowed(connection, query)?,
            };
            let ranked = search.ranked(limit.saturating_add(skip))?;
            ranked
                .into_iter()
                .skip(skip)
                .take(limit)
                .map(|(id, score)| read_hit(connection, id, score))
                .collect()
        })
    }
}

fn read_hit(connection: &Connection, id: i64, score: f64) -> rusqlite::Result<HitRow> {
    let sql = "SELECT path, title, text, body_at FROM note JOIN note_text ON note_id = id WHERE id = ?1";
    connection.prepare_cached(sql)?.query_row([id], |row| {
        Ok(HitRow {
            path: row.get(0)?,
            title: row.get(1)?,
            score,
            text: row.get(2)?,
            body_at: offset(row.get(3)?),
        })
    })
}

/// An id and its score, higher is better.
type Ranked = (i64, f64);

struct Search<'a> {
    connection: &'a Connection,
    query: &'a Query,
    allowed: Option<Vec<i64>>,
}

impl Search<'_> {
    /// The first `count` notes.
    fn ranked(&self, count: usize) -> rusqlite::Result<Vec<Ranked>> {
        if self.query.wanted.is_empty() {
            let allowed = self.allowed.iter().flatten();
            return Ok(allowed.take(count).map(|id| (*id, 0.0)).collect());
        }
        let allowed: Option<HashSet<i64>> = self.allowed.as_ref().map(|ids| ids.iter().copied().collect());
        let exact = self.exact_titles(allowed.as_ref())?;
        let mut found = self.best(allowed.as_ref(), count.saturating_add(exact.len()))?;
        let mut first = Vec::with_capacity(exact.len() + found.len());
        for id in exact {
            let at = found.iter().position(|(other, _)| *other == id);
            let score = at.map_or(0.0, |at| found.remove(at).1);
            first.push((id, score + EXACT_TITLE_SCORE));
        }
        first.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        first.append(&mut found);
        first.truncate(count);
        Ok(first)
    }

    /// Notes that match and whose title is what was typed.
    fn exact_titles(&self, allowed: Option<&HashSet<i64>>) -> rusqlite::Result<Vec<i64>> {
        let Some(title) = self.query.plain_text() else {
            return Ok(Vec::new());
        };
        let expression = self.expression(&all_of(&self.query.wanted, term));
        let sql = "SELECT id FROM note WHERE title_flat = ?1 ORDER BY path LIMIT ?2";
        let mut titles = self.connection.prepare_cached(sql)?;
        let mut matching = self
            .connection
            .prepare_cached("SELECT 1 FROM full_text WHERE full_text MATCH ?1 AND rowid = ?2")?;
        let mut exact = Vec::new();
        for id in titles.query_map(params![title, signed(MAX_EXACT_TITLES)], |row| row.get::<_, i64>(0))? {
            let id = id?;
            let is_allowed = allowed.is_none_or(|allowed| allowed.contains(&id));
            if is_allowed
                && matching
                    .query_row(params![expression, id], |_| Ok(()))
                    .optional()?
                    .is_some()
            {
                exact.push(id);
            }
        }
        Ok(exact)
    }

    /// The notes with a word in the title that begins with the one letter asked for, shortest title first; `None` if
    /// there are fewer than `count`, or more is asked. Gathering all words with a letter takes longer than any search.
    fn by_letter(&self, allowed: Option<&HashSet<i64>>, count: usize) -> rusqlite::Result<Option<Vec<Ranked>>> {
        let letter = match self.query.wanted.as_slice() {
            [term] if term.prefix == Prefix::Yes && self.query.unwanted.is_empty() => tokens::flat(&term.text),
            _ => return Ok(None),
        };
        if letter.len() != 1 {
            return Ok(None);
        }
        let sql = "SELECT id FROM note WHERE instr(' ' || title_flat, ' ' || ?1) ORDER BY length(title_flat), id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let ids = statement.query_map([letter], |row| row.get::<_, i64>(0))?;
        let is_allowed = |id: &i64| allowed.is_none_or(|allowed| allowed.contains(id));
        let ids = ids.filter(|id| id.as_ref().map_or(true, is_allowed)).take(count);
        let best = ids.map(|id| id.map(|id| (id, 3.0 * TIER_SCORE)));
        let best: Vec<Ranked> = best.collect::<rusqlite::Result<_>>()?;
        Ok((best.len() == count).then_some(best))
    }

    fn best(&self, allowed: Option<&HashSet<i64>>, count: usize) -> rusqlite::Result<Vec<Ranked>> {
        if let Some(best) = self.by_letter(allowed, count)? {
            return Ok(best);
        }
        let all = Rows::matching(
            self.connection,
            &self.expression(&all_of(&self.query.wanted, cheap_term)),
            allowed,
            count,
        )?;
        if all.total <= MAX_RANKED {
            return self.by_rank(&self.expression(&all_of(&self.query.wanted, term)), allowed, count);
        }
        let mut best: Vec<Ranked> = Vec::new();
        let mut seen = HashSet::new();
        for (above, tier) in [(3.0, Tier::Title), (2.0, Tier::Marked), (1.0, Tier::OneInTitle)] {
            let Some(expression) = tier.expression(self.query) else {
                continue;
            };
            let mut rows = Rows::matching(
                self.connection,
                &self.expression(&expression),
                allowed,
                MAX_RANKED.max(count),
            )?;
            if matches!(tier, Tier::Title) {
                self.shortest_title_first(&mut rows.found)?;
            }
            let fresh = rows.found.into_iter().filter(|(id, _)| seen.insert(*id));
            best.extend(fresh.map(|(id, score)| (id, above * TIER_SCORE + score)));
            if best.len() >= count {
                break;
            }
        }
        best.extend(all.found.into_iter().filter(|(id, _)| seen.insert(*id)));
        best.truncate(count);
        Ok(best)
    }

    /// Of titles that hold all the words, those with little else are meant.
    fn shortest_title_first(&self, rows: &mut [Ranked]) -> rusqlite::Result<()> {
        let mut length = self
            .connection
            .prepare_cached("SELECT length(title_flat) FROM note WHERE id = ?1")?;
        for (id, score) in rows.iter_mut() {
            *score = 1.0 / (1.0 + length.query_row([*id], |row| row.get::<_, f64>(0))?);
        }
        rows.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        Ok(())
    }

    fn by_rank(&self, expression: &str, allowed: Option<&HashSet<i64>>, count: usize) -> rusqlite::Result<Vec<Ranked>> {
        let sql = "SELECT rowid, -rank FROM full_text WHERE full_text MATCH ?1 ORDER BY rank";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([expression], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let is_allowed = |row: &rusqlite::Result<Ranked>| {
            row.as_ref()
                .is_ok_and(|(id, _)| allowed.is_none_or(|allowed| allowed.contains(id)))
                || row.is_err()
        };
        rows.filter(is_allowed).take(count).collect()
    }

    /// What is wanted, without what is not.
    fn expression(&self, wanted: &str) -> String {
        crate::fts5::without_unwanted(wanted, self.query)
    }
}

/// Matches in no order: how many there are, counted at least to one more than [`MAX_RANKED`], and the first that pass
/// the filters.
struct Rows {
    total: usize,
    found: Vec<Ranked>,
}

impl Rows {
    fn matching(
        connection: &Connection,
        expression: &str,
        allowed: Option<&HashSet<i64>>,
        count: usize,
    ) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare_cached("SELECT rowid FROM full_text WHERE full_text MATCH ?1")?;
        let mut rows = Self {
            total: 0,
            found: Vec::new(),
        };
        for id in statement.query_map([expression], |row| row.get::<_, i64>(0))? {
            let id = id?;
            rows.total += 1;
            // More than asked for, since some of them may be taken by a better tier.
            if rows.found.len() < count.saturating_mul(2) && allowed.is_none_or(|allowed| allowed.contains(&id)) {
                rows.found.push((id, 0.0));
            }
            if rows.total > MAX_RANKED && rows.found.len() >= count.saturating_mul(2) {
                break;
            }
        }
        Ok(rows)
    }
}

/// Where the words of a common query are, best first; after these comes anywhere.
#[derive(Clone, Copy)]
enum Tier {
    /// All of them in the title.
    Title,
    /// All of them in title, path, headings or tags.
    Marked,
    /// One of them in the title, the others anywhere.
    OneInTitle,
}

impl Tier {
    /// The query narrowed to this tier; `None` if that is no narrowing.
    fn expression(self, query: &Query) -> Option<String> {
        let wanted = all_of(&query.wanted, cheap_term);
        let words = query.wanted.len();
        match self {
            Self::Title => Some(format!("{{title}} : ({wanted})")),
            Self::Marked => Some(format!("{{title path headings tags}} : ({wanted})")),
            Self::OneInTitle if words > 1 && words <= MAX_ONE_IN_TITLE_TERMS => {
                let any = query.wanted.iter().map(cheap_term).collect::<Vec<_>>().join(" OR ");
                Some(format!("{{title}} : ({any}) AND {wanted}"))
            }
            Self::OneInTitle => None,
        }
    }
}

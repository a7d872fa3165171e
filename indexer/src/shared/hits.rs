//! From what a database found to what is answered.
//!
//! Owns the page of a search and its bounds, cutting snippets, and rows as notes. Does not ask a database.

use crate::model::{Change, Entity, Hit};
use crate::query::Query;
use crate::snippet::{MAX_SCANNED_BYTES, Needles};
use crate::text::date;

/// Notes with one title that are put first, as in the index of one machine.
pub(super) const MAX_EXACT_TITLES: i64 = 8;
/// What an exact title adds to a score: more than a rank can give.
pub(super) const EXACT_TITLE_SCORE: f64 = 1_000.0;
/// Hits at most in one answer, whatever limit is asked for: their texts travel.
const MAX_SHARED_HITS: usize = 500;
/// Characters of text that one answer carries.
const MAX_ANSWER_CHARS: usize = 8 << 20;

/// Which hits are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) limit: usize,
    pub(super) offset: usize,
    /// How much of each text is fetched, for its snippet.
    pub(super) scanned_chars: usize,
}

impl Page {
    pub(super) fn new(limit: usize, offset: usize) -> Self {
        let limit = limit.clamp(1, MAX_SHARED_HITS);
        Self {
            limit,
            offset,
            scanned_chars: (MAX_ANSWER_CHARS / limit).min(MAX_SCANNED_BYTES),
        }
    }
}

/// A note that a database found.
pub(super) struct Found {
    pub(super) path: Vec<u8>,
    pub(super) title: String,
    pub(super) score: f64,
    /// The beginning of its text behind the frontmatter.
    pub(super) body: String,
    /// The line of the file where that begins, from 1.
    pub(super) body_line: usize,
}

/// The hits, with snippets.
pub(super) fn hits(found: Vec<Found>, query: &Query) -> Vec<Hit> {
    let needles = Needles::new(query);
    found.into_iter().map(|found| hit(found, &needles)).collect()
}

/// A note's row: path, title, type, permalink, and when it was made and last changed.
pub(super) type NoteCells = (Vec<u8>, [String; 3], [Option<i64>; 2]);

/// A row as an entity.
pub(super) fn entity((path_bytes, [title, note_type, permalink], [created_ns, modified_ns]): NoteCells) -> Entity {
    Entity {
        path: String::from_utf8_lossy(&path_bytes).into_owned(),
        path_bytes,
        title,
        note_type,
        permalink,
        created: created_ns.map(date::shown),
        modified: date::shown(modified_ns.unwrap_or_default()),
    }
}

/// A note with its text, both parts of it, as a change.
pub(super) fn change(path: Vec<u8>, [head, body]: [String; 2], mtime_ns: i64) -> Change {
    let bytes = (head + &body).into_bytes();
    Change::Upsert {
        path,
        total_bytes: bytes.len() as u64,
        bytes,
        mtime_ns,
    }
}

fn hit(found: Found, needles: &Needles) -> Hit {
    let (snippet, at) = needles.snippet(&found.body);
    let line = at.map(|at| {
        let above = found.body.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        u32::try_from(found.body_line + above).unwrap_or(u32::MAX)
    });
    Hit {
        path: String::from_utf8_lossy(&found.path).into_owned(),
        path_bytes: found.path,
        title: found.title,
        snippet,
        score: found.score,
        line,
    }
}

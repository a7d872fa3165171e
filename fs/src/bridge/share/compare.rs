//! Comparing all notes with a shared index: after the first mount, when the log was not kept, and once a day, since a hint may get lost.

use super::read::OWED_PATHS_MAX;
use super::{Inner, Trouble, now_ms};
use notefs_indexer::{SharedIndex, SharedRow, is_note};
use std::collections::HashMap;
use std::time::Instant;

/// Objects, and rows, compared at once.
const PAGE: usize = 500;

/// How often all are compared, though nothing seems to be missing.
const INTERVAL_MS: u64 = 24 * 3_600_000;

/// Where a comparison stands.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    under_way: bool,
    /// The last key that was compared.
    key: String,
    /// The last path of which rows were asked for.
    path: Vec<u8>,
}

impl Inner {
    /// Compares the next page, if that is due and the bucket is listed; answers how many paths it found to differ.
    pub(super) fn compare(&self, comparison: &mut Comparison, database: &SharedIndex) -> Result<u64, Trouble> {
        let (due, full) = {
            let state = self.state.lock();
            let due = now_ms() >= state.compared_ms.saturating_add(INTERVAL_MS);
            (due, state.owed.len() >= OWED_PATHS_MAX / 2)
        };
        if !due || full || self.replica.unlisted_directories() > 0 {
            return Ok(0);
        }
        if !comparison.under_way {
            *comparison = Comparison {
                under_way: true,
                ..Comparison::default()
            };
        }
        let (objects, next) = self.replica.known_objects(b"", &comparison.key, PAGE)?;
        // Paths that do not read like their keys are in no order here: each is asked about.
        let (plain, odd): (Vec<_>, Vec<_>) = objects
            .into_iter()
            .filter(|object| is_note(&object.path))
            .partition(|object| object.path == object.key.as_bytes());
        let upto = next.as_ref().map(|key| key.clone().into_bytes());
        let rows = self.rows_between(database, &comparison.path, upto.as_deref())?;
        let mut differing: Vec<Vec<u8>> = odd.into_iter().map(|object| object.path).collect();
        let plain = plain.into_iter().map(|object| (object.path, object.etag)).collect();
        differing.extend(differences(plain, rows));
        let count = differing.len() as u64;
        let mut state = self.state.lock();
        let now = Instant::now();
        for path in differing {
            state.owed.add(path, u64::MAX, now);
        }
        match next {
            Some(key) => {
                comparison.path = key.clone().into_bytes();
                comparison.key = key;
            }
            None => {
                comparison.under_way = false;
                state.compared_ms = now_ms();
                tracing::info!("All notes were compared with the shared index");
            }
        }
        Ok(count)
    }

    /// The rows behind one path up to another, or to the end.
    fn rows_between(
        &self,
        database: &SharedIndex,
        after: &[u8],
        upto: Option<&[u8]>,
    ) -> Result<Vec<SharedRow>, Trouble> {
        let (mut after, mut rows) = (after.to_vec(), Vec::new());
        loop {
            let page = self.wait_for(database.paths_after(&after, PAGE))?;
            let is_last = page.len() < PAGE;
            let Some(last) = page.last() else { return Ok(rows) };
            after = last.path.clone();
            let inside = |row: &SharedRow| upto.is_none_or(|upto| row.path.as_slice() <= upto);
            let ends = !inside(last);
            rows.extend(page.into_iter().filter(inside));
            if is_last || ends {
                return Ok(rows);
            }
        }
    }
}

/// Paths of which one side says something else than the other.
fn differences(mut objects: HashMap<Vec<u8>, String>, rows: Vec<SharedRow>) -> Vec<Vec<u8>> {
    let mut differing = Vec::new();
    for row in rows {
        let known = objects.remove(&row.path);
        if known != (!row.gone).then_some(row.version.etag) {
            differing.push(row.path);
        }
    }
    differing.extend(objects.into_keys());
    differing
}

#[cfg(test)]
mod tests {
    use super::*;
    use notefs_indexer::ObjectVersion;

    fn row(path: &str, etag: &str, gone: bool) -> SharedRow {
        SharedRow {
            path: path.into(),
            version: ObjectVersion {
                etag: etag.into(),
                stored_ms: 0,
                writer: String::new(),
                write_id: String::new(),
            },
            gone,
            seq: 0,
            title: String::new(),
        }
    }

    #[test]
    fn what_is_missing_on_one_side_or_of_another_version_differs() {
        let objects = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")];
        let objects = objects.map(|(path, etag)| (path.as_bytes().to_vec(), etag.to_owned()));
        let rows = vec![
            row("a", "1", false),
            row("b", "2", false),
            row("c", "1", true),
            row("x", "1", false),
            row("y", "1", true),
        ];
        let mut differing = differences(HashMap::from(objects), rows);
        differing.sort();
        assert_eq!(differing, [b"b", b"c", b"d", b"x"]);
    }
}

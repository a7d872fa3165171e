//! Halves of renames. In a bucket a rename is a copy and then a deletion, and a look may fall in between, or read one page before and
//! another after. So what one look cannot tell from half a rename is kept back for a moment: an object that came and has the ETag of one that
//! stands, one that came while another notefs is writing, which will tell of it, and one that went alone. When its other half shows or
//! its writer tells, both are one move; else it is what it seems to be.
//!
//! Owns: what is kept back, and for how long. Does not own the pairing (`pull/diff.rs`).

use super::Look;
use super::listing::Differences;
use crate::error::Result;
use crate::replica::{FOREIGN, Replica};
use crate::state::Remote;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How long a half waits where no other notefs writes: another tool deletes right after its copy.
const WAIT_MS: u64 = 500;

/// And where one does: until its round is over, its feed has been written (once a second), and read (twice).
const TOLD_WAIT_MS: u64 = 2_500;

/// Halves that wait at a time; more are taken for what they seem to be.
const HALVES_MAX: usize = 1_000;

/// What waits, by key.
#[derive(Default)]
pub(super) struct Halves(Mutex<HashMap<String, Half>>);

#[derive(Debug)]
struct Half {
    look: Look,
    /// Its version, which its other half has too.
    etag: String,
    since_ms: u64,
}

/// What a round is about.
#[derive(Debug, Default)]
struct Mates {
    keys: HashSet<String>,
    etags: HashSet<String>,
    moved_from: HashSet<String>,
}

impl Halves {
    fn is_due(&self, now_ms: u64, wait_ms: u64) -> bool {
        let kept = self.0.lock();
        kept.values().any(|half| now_ms >= half.since_ms + wait_ms)
    }

    /// Takes what has waited long enough and what this round speaks of. Answers since when each has waited, and adds the looks that
    /// the round does not have itself.
    fn take(&self, round: &Mates, due_before_ms: u64, looks: &mut Vec<Look>) -> HashMap<String, u64> {
        let mut waited = HashMap::new();
        self.0.lock().retain(|key, half| {
            let spoken = round.keys.contains(key);
            let mate = round.etags.contains(&half.etag) || round.moved_from.contains(key);
            if !(spoken || mate || half.since_ms <= due_before_ms) {
                return true;
            }
            waited.insert(key.clone(), half.since_ms);
            if !spoken {
                looks.push(half.look.clone());
            }
            false
        });
        waited
    }

    /// `false`: there is no room.
    fn keep(&self, half: Half) -> bool {
        let mut kept = self.0.lock();
        let room = kept.len() < HALVES_MAX;
        if room {
            kept.insert(half.look.key.clone(), half);
        }
        room
    }
}

impl Replica {
    fn half_wait_ms(&self) -> u64 {
        if self.all_peers().is_empty() {
            WAIT_MS
        } else {
            TOLD_WAIT_MS
        }
    }

    /// Takes halves that have waited long enough for what they seem to be.
    pub(super) async fn release_halves(self: &Arc<Self>) -> Result<()> {
        if !self.puller.halves.is_due(self.now_ms(), self.half_wait_ms()) {
            return Ok(());
        }
        let _reading = self.read_listing();
        let began = self.view(|tables| Ok(tables.op()))?;
        self.bring_about(Differences::default(), began).await
    }

    /// Adds what waited to a round that may be about it.
    pub(super) fn take_up_halves(&self, found: &mut Differences) -> Result<()> {
        let mut round = Mates::default();
        for look in &found.looks {
            round.keys.insert(look.key.clone());
            round.moved_from.extend(look.moved_from.clone());
            match &look.info {
                Some(info) => round.etags.insert(info.etag.0.clone()),
                None => self
                    .view(|tables| tables.remote(&look.key))?
                    .is_some_and(|known| round.etags.insert(known.etag)),
            };
        }
        for row in &found.vanished {
            round.keys.insert(row.key.clone());
            round.etags.insert(row.etag.clone());
        }
        let due_before_ms = self.now_ms().saturating_sub(self.half_wait_ms());
        found.waited = self.puller.halves.take(&round, due_before_ms, &mut found.looks);
        Ok(())
    }

    /// Keeps back what may be half a move; `moves` are those that are whole.
    pub(super) fn keep_halves_back(&self, found: &mut Differences, moves: &HashMap<String, Remote>) -> Result<()> {
        let now_ms = self.now_ms();
        let wait_ms = self.half_wait_ms();
        let (waited, may_wait) = (std::mem::take(&mut found.waited), found.may_wait);
        if !may_wait && waited.is_empty() {
            return Ok(());
        }
        let keep = |look: &Look, etag: &str| {
            let since_ms = waited.get(&look.key).copied();
            let waits = since_ms.map_or(may_wait, |since_ms| now_ms < since_ms + wait_ms);
            let half = Half {
                look: look.clone(),
                etag: etag.to_owned(),
                since_ms: since_ms.unwrap_or(now_ms),
            };
            waits && self.puller.halves.keep(half)
        };
        let mut looks = std::mem::take(&mut found.looks);
        for look in looks.drain(..) {
            // Its writer has told, and of no other name.
            let told = look.origin != FOREIGN && look.moved_from.is_none();
            let etag = match &look.info {
                Some(info) if !told && !moves.contains_key(&look.key) && self.may_have_moved(&look)? => &info.etag.0,
                _ => {
                    found.looks.push(look);
                    continue;
                }
            };
            if !keep(&look, etag) {
                found.looks.push(look);
            }
        }
        for row in std::mem::take(&mut found.vanished) {
            let origin = found.origins.get(&row.key).map_or(FOREIGN, String::as_str);
            // A writer tells of the new name before it tells that the old one is gone.
            let told = origin != FOREIGN;
            let empty = self.view(|tables| Ok(tables.inode(row.ino)?.is_none_or(|inode| inode.size == 0)))?;
            if told || empty || !keep(&Look::doubt(row.key.clone(), origin), &row.etag) {
                found.vanished.push(row);
            }
        }
        Ok(())
    }

    /// Whether an object that nobody knows here may be one that stands under another key: by its version (empty ones are all alike), or by
    /// the word that its writer will give.
    fn may_have_moved(&self, look: &Look) -> Result<bool> {
        let Some(info) = look.info.as_ref().filter(|_| !look.key.ends_with('/')) else {
            return Ok(false);
        };
        let busy = self.has_busy_peer();
        self.view(|tables| {
            let known = tables.remote(&look.key)?.is_some();
            let stands = info.size > 0 && !tables.remotes_with(&info.etag.0, 1)?.is_empty();
            Ok(!known && (busy || stands))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(key: &str, etag: &str, since_ms: u64) -> Half {
        Half {
            look: Look::doubt(key.to_owned(), "foreign"),
            etag: etag.to_owned(),
            since_ms,
        }
    }

    fn set(words: &[&str]) -> HashSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_half_comes_back_with_its_mate_or_when_it_has_waited() {
        let halves = Halves::default();
        for (key, etag, since_ms) in [
            ("old", "1", 10),
            ("mate", "2", 100),
            ("told", "3", 100),
            ("spoken", "4", 90),
        ] {
            assert!(halves.keep(half(key, etag, since_ms)));
        }
        assert!(halves.keep(half("stays", "5", 100)));
        assert!(halves.is_due(30, 20) && !halves.is_due(29, 20));
        let round = Mates {
            keys: set(&["spoken", "new"]),
            etags: set(&["2"]),
            moved_from: set(&["told"]),
        };
        let mut looks = Vec::new();
        let waited = halves.take(&round, 50, &mut looks);
        let mut keys: Vec<_> = looks.iter().map(|look| look.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["mate", "old", "told"],
            "the round has the look of the other itself"
        );
        assert_eq!(waited.get("spoken"), Some(&90));
        let left: Vec<String> = halves.0.lock().keys().cloned().collect();
        assert_eq!((waited.len(), left), (4, vec!["stays".to_owned()]));
    }

    #[test]
    fn more_than_there_is_room_for_does_not_wait() {
        let halves = Halves::default();
        for key in 0..HALVES_MAX {
            assert!(halves.keep(half(&key.to_string(), "e", 0)));
        }
        assert!(!halves.keep(half("one more", "e", 0)));
    }
}

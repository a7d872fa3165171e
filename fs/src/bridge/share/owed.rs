//! The paths of which a shared index may not know the newest version: a queue without order, each path once.
//!
//! Owns when a path is due, and up to which change of the replica nothing is owed. Pure: time comes from outside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A path that cannot be told yet is looked at again after this pause, …
const PAUSE_MS: u64 = 250;

/// … which doubles with each time up to this.
const PAUSE_MS_MAX: u64 = 5_000;

/// Why a path may be owed.
#[derive(Debug, Clone, Copy)]
struct Owing {
    /// The first change of the replica about it; `u64::MAX`: it was found by comparing.
    seq: u64,
    due: Instant,
    tries: u32,
}

/// The paths.
#[derive(Debug, Default)]
pub(super) struct OwedPaths {
    paths: BTreeMap<Vec<u8>, Owing>,
}

impl OwedPaths {
    /// Something has changed at this path. The first change counts until it is told.
    pub(super) fn add(&mut self, path: Vec<u8>, seq: u64, due: Instant) {
        let owing = self.paths.entry(path).or_insert(Owing { seq, due, tries: 0 });
        owing.seq = owing.seq.min(seq);
        owing.due = owing.due.min(due);
        owing.tries = 0;
    }

    /// A folder moved: what is owed below its old path is owed below the new one, too.
    pub(super) fn moved(&mut self, from: &[u8], to: &[u8], due: Instant) {
        let prefix = [from, b"/"].concat();
        let below = self.paths.range(prefix.clone()..);
        let below = below.take_while(|(path, _)| path.starts_with(&prefix));
        let below: Vec<(Vec<u8>, u64)> = below.map(|(path, owing)| (path.clone(), owing.seq)).collect();
        for (path, seq) in below {
            self.add([to, &path[from.len()..]].concat(), seq, due);
        }
    }

    /// At most `limit` paths that are due.
    pub(super) fn due(&self, now: Instant, limit: usize) -> Vec<Vec<u8>> {
        let due = self.paths.iter().filter(|(_, owing)| owing.due <= now);
        due.take(limit).map(|(path, _)| path.clone()).collect()
    }

    /// The shared index knows it.
    pub(super) fn settle(&mut self, path: &[u8]) {
        self.paths.remove(path);
    }

    /// It cannot be told yet.
    pub(super) fn put_off(&mut self, path: &[u8], now: Instant) {
        if let Some(owing) = self.paths.get_mut(path) {
            let pause = PAUSE_MS.saturating_mul(1 << owing.tries.min(16)).min(PAUSE_MS_MAX);
            owing.due = now + Duration::from_millis(pause);
            owing.tries += 1;
        }
    }

    /// Up to this change everything was told, if everything up to `read_seq` was read.
    pub(super) fn told_seq(&self, read_seq: u64) -> u64 {
        let first = self.paths.values().map(|owing| owing.seq).min();
        first.map_or(read_seq, |first| first.saturating_sub(1).min(read_seq))
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    /// Forgets which changes they came from: a comparison of everything will find what is lost.
    pub(super) fn unbind(&mut self) {
        self.paths.values_mut().for_each(|owing| owing.seq = u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(paths: Vec<Vec<u8>>) -> Vec<String> {
        let texts = paths.into_iter().map(|path| String::from_utf8(path).unwrap());
        texts.collect()
    }

    #[test]
    fn the_first_change_of_a_path_is_told_before_the_log_is_forgotten() {
        let (mut owed, now) = (OwedPaths::default(), Instant::now());
        owed.add(b"a".to_vec(), 5, now);
        owed.add(b"a".to_vec(), 9, now);
        owed.add(b"b".to_vec(), 7, now);
        assert_eq!(
            (owed.told_seq(9), strings(owed.due(now, 9))),
            (4, vec!["a".into(), "b".into()])
        );
        owed.settle(b"a");
        assert_eq!((owed.told_seq(9), owed.len()), (6, 1));
        owed.unbind();
        assert_eq!(owed.told_seq(9), 9);
    }

    #[test]
    fn what_cannot_be_told_waits_ever_longer_until_it_changes_again() {
        let (mut owed, now) = (OwedPaths::default(), Instant::now());
        owed.add(b"a".to_vec(), 1, now);
        let after = |ms: u64| now + Duration::from_millis(ms);
        owed.put_off(b"a", now);
        assert!(owed.due(after(249), 1).is_empty());
        assert_eq!(owed.due(after(250), 1).len(), 1);
        for _ in 0..40 {
            owed.put_off(b"a", now);
        }
        assert!(owed.due(after(PAUSE_MS_MAX - 1), 1).is_empty());
        assert_eq!(owed.due(after(PAUSE_MS_MAX), 1).len(), 1);
        owed.add(b"a".to_vec(), 2, now);
        assert_eq!(owed.due(now, 1).len(), 1);
    }

    #[test]
    fn a_moved_folder_owes_both_ways() {
        let (mut owed, now) = (OwedPaths::default(), Instant::now());
        for path in ["d/x.md", "d/y.md", "dd/z.md"] {
            owed.add(path.into(), 3, now);
        }
        owed.moved(b"d", b"e/f", now);
        let all = strings(owed.due(now, 9));
        assert_eq!(all, ["d/x.md", "d/y.md", "dd/z.md", "e/f/x.md", "e/f/y.md"]);
        assert_eq!(owed.told_seq(9), 2);
    }
}

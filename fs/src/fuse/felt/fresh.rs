//! Gives programs that watch a tree a moment to watch a new folder, too, before something happens in it.
//!
//! A watcher learns of a folder by its event and watches it then; of a file that comes before that it never hears. On a local disk a program is rarely
//! that quick, but a folder and its notes come out of the bucket together.
//!
//! Owns: which folders are new, and how long their changes wait. Does not own: the waiting (`feel`).

use notefs_cache::Ino;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How old a folder must be.
const FRESH_MS: u64 = 250;

/// What waiting may add to changes that follow each other, and after which pause they count as others.
const WAITED_MAX_MS: u64 = 1_000;
const WAITED_PAUSE_MS: u64 = 5_000;

/// New folders that are remembered.
const FOLDERS_MAX: usize = 256;

/// The folders that have just been felt as new.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    folders: VecDeque<(Ino, Instant)>,
    waited: Duration,
    waited_last: Option<Instant>,
}

impl Fresh {
    /// A folder was made.
    pub(super) fn made(&mut self, folder: Ino, now: Instant) {
        if self.folders.len() >= FOLDERS_MAX {
            self.folders.pop_front();
        }
        self.folders.push_back((folder, now));
    }

    /// How long a change in this folder has to wait; that it does is taken for granted.
    pub(super) fn wait(&mut self, folder: Ino, now: Instant) -> Duration {
        let limit = Duration::from_millis(FRESH_MS);
        self.folders
            .retain(|(_, made)| now.saturating_duration_since(*made) < limit);
        let pause = Duration::from_millis(WAITED_PAUSE_MS);
        if self
            .waited_last
            .is_none_or(|last| now.saturating_duration_since(last) > pause)
        {
            self.waited = Duration::ZERO;
        }
        let Some((_, made)) = self.folders.iter().find(|(fresh, _)| *fresh == folder) else {
            return Duration::ZERO;
        };
        let left = Duration::from_millis(WAITED_MAX_MS).saturating_sub(self.waited);
        let wait = (limit - now.saturating_duration_since(*made)).min(left);
        self.waited += wait;
        self.waited_last = Some(now);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_waits_for_the_watchers_of_its_new_folder_and_many_folders_wait_no_longer_than_a_second() {
        let (mut fresh, start) = (Fresh::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        fresh.made(7, at(0));
        assert_eq!(fresh.wait(8, at(1)), Duration::ZERO, "another folder");
        assert_eq!(fresh.wait(7, at(50)), Duration::from_millis(200));
        assert_eq!(fresh.wait(7, at(250)), Duration::ZERO, "old enough");
        let mut now = 250;
        for folder in 100..200 {
            fresh.made(folder, at(now));
            now += fresh.wait(folder, at(now)).as_millis() as u64;
        }
        assert_eq!(now, 1_050, "what all of them wait");
        fresh.made(9, at(now + 6_000));
        assert_eq!(fresh.wait(9, at(now + 6_000)), Duration::from_millis(250));
    }
}

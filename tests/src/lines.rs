//! Texts as sets of lines, for the users of both register tests: that of real mounts, and that in virtual time (`cache/tests/agreement/swap.rs`).
//!
//! Such a user overwrites what came between reading and saving, sees it come out, and puts it back. If another user does the same from a
//! text that is stored without the line, each puts it where they think fit, and the two are two edits: a merge has both, as git's has
//! (`cache/src/merge/tests.rs`). That is no line doubled by notefs, so [`Hands`] knows who put a line back.

use std::collections::{BTreeMap, BTreeSet};

/// `text` with the lines of `other` that it lacks, each after the line that it follows there; `None` if it lacks none.
pub(crate) fn with_lines_of(text: &str, other: &str) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let (before, mut next) = (lines.len(), 0);
    for line in other.lines() {
        match lines.iter().position(|known| *known == line) {
            Some(at) => next = at + 1,
            None => {
                lines.insert(next, line);
                next += 1;
            }
        }
    }
    (lines.len() > before).then(|| lines.iter().map(|line| format!("{line}\n")).collect())
}

/// Who put which line back into a text that lacked it, after it had been written once.
#[derive(Default)]
pub(crate) struct Hands(BTreeMap<String, BTreeSet<String>>);

impl Hands {
    /// `who` saved `new` where `old` was.
    pub(crate) fn saved(&mut self, who: &str, new: &str, old: &str) {
        let had: BTreeSet<&str> = old.lines().collect();
        for line in new.lines().filter(|line| !had.contains(line)) {
            match self.0.get_mut(line) {
                Some(back) => drop(back.insert(who.to_owned())),
                None => drop(self.0.insert(line.to_owned(), BTreeSet::new())),
            }
        }
    }

    /// How many lines are in a text once more, each because so many users put it back; the first line that is there more often is the error.
    pub(crate) fn put_back_twice(&self, text: &str) -> Result<usize, String> {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        text.lines().for_each(|line| *times.entry(line).or_default() += 1);
        let mut more = 0;
        for (line, times) in times {
            if times > self.0.get(line).map_or(1, |back| back.len().max(1)) {
                return Err(format!(
                    "{line:?} is there {times} times, put back by {:?}",
                    self.0.get(line)
                ));
            }
            more += times - 1;
        }
        Ok(more)
    }
}

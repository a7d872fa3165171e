//! Texts as sets of lines, for the users of both register tests: that of real mounts, and that in virtual time (`cache/tests/agreement/swap.rs`).

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

//! Merging two edits of one text with what both began from: pure functions over bytes.
//!
//! Lines that only one side changed are taken from it; a `---` header at the top merges key by key instead, so that two programs
//! may each set a property of their own. What marks a text as a whole (byte order mark, line endings, the newline at the end) is
//! merged as such, so that one side may convert it while the other edits. Anything else is a conflict: the caller keeps both.
//!
//! Owns no policy: who wins, where a copy goes and what is stored is `push`'s business. Knows of a header only that it is text.

mod header;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashSet;

/// Texts longer than this are not merged; the time that a merge takes is bounded by it.
pub const MERGE_BYTES_MAX: usize = 1 << 20;

/// Lines on each side of a change in a unified diff.
const DIFF_CONTEXT_LINES: usize = 3;

const BOM: &str = "\u{feff}";

/// What came of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// One text with both edits in it.
    Clean(Vec<u8>),
    /// They cannot be one.
    Conflict,
}

/// Merges `ours` and `theirs`, which both began as `base`. Where one side is what the other is, or what it was, no bytes are looked
/// into; else binary content (a NUL, or bytes that are no UTF-8) and texts over [`MERGE_BYTES_MAX`] are conflicts.
pub fn merge(base: &[u8], ours: &[u8], theirs: &[u8]) -> Merge {
    if let Some(same) = pick(&base, &ours, &theirs) {
        return Merge::Clean(same.to_vec());
    }
    let merged = (|| {
        let (base, ours, theirs) = (text(base)?, text(ours)?, text(theirs)?);
        let shapes = [Shape::of(base), Shape::of(ours), Shape::of(theirs)];
        let unify = Shape::differ(&shapes);
        let [base, ours, theirs] = [base, ours, theirs].map(|text| plain(text, unify));
        let merged = header::merge(&base, &ours, &theirs)?;
        Some(Shape::merged(&shapes).apply(merged, unify))
    })();
    merged.map_or(Merge::Conflict, |text| Merge::Clean(text.into_bytes()))
}

/// Whether bytes are a text that can be merged.
pub fn is_text(bytes: &[u8]) -> bool {
    text(bytes).is_some()
}

/// Whether `theirs` bears every change that leads from `base` to `ours`: merging it in once more changes nothing. Where others have changed lines
/// beside it, all lines that came must be there, in their order, and none that went may have come back. Where nothing was changed,
/// nothing is shown.
pub(crate) fn shows(base: &[u8], ours: &[u8], theirs: &[u8]) -> bool {
    let (Some(base), Some(ours), Some(theirs)) = (text(base), text(ours), text(theirs)) else {
        return false;
    };
    let shapes = [Shape::of(base), Shape::of(ours), Shape::of(theirs)];
    let unify = Shape::differ(&shapes);
    let [base, ours, theirs] = [base, ours, theirs].map(|text| plain(text, unify));
    if base == ours {
        return false;
    }
    if let Some(merged) = lines(&base, &ours, &theirs) {
        return merged == theirs;
    }
    let changed = similar::TextDiff::from_lines(base.as_ref(), ours.as_ref());
    let added = similar::TextDiff::from_lines(ours.as_ref(), theirs.as_ref());
    let (mut came, mut went) = (HashSet::new(), HashSet::new());
    for op in changed.ops().iter().filter(|op| op.tag() != similar::DiffTag::Equal) {
        came.extend(op.new_range());
        went.extend(op.old_range().filter_map(|at| changed.old_slice(at)));
    }
    added.ops().iter().all(|op| {
        let mut back = op.new_range().filter_map(|at| added.new_slice(at));
        op.tag() == similar::DiffTag::Equal
            || !op.old_range().any(|at| came.contains(&at)) && !back.any(|line| went.contains(line))
    })
}

/// Whether a line that `tried` takes out of `base` is in `ours` again and not in `theirs`: where it is not known whether theirs is built upon
/// `tried`, nobody can tell whether others took it out as well.
pub(crate) fn took_out(base: &[u8], tried: &[u8], ours: &[u8], theirs: &[u8]) -> bool {
    let texts = [base, tried, ours, theirs].map(String::from_utf8_lossy);
    let [base, tried, ours, theirs] = texts.each_ref().map(|text| text.lines().collect::<HashSet<_>>());
    let put_back = |line: &&&str| !line.trim().is_empty() && !tried.contains(**line) && ours.contains(**line);
    base.iter().filter(put_back).any(|line| !theirs.contains(line))
}

/// How many lines there are in one of two texts alone.
pub(crate) fn distance(one: &[u8], other: &[u8]) -> usize {
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    let diff = similar::TextDiff::from_lines(one.as_ref(), other.as_ref());
    let changes = diff.ops().iter().filter(|op| op.tag() != similar::DiffTag::Equal);
    changes.map(|op| op.old_range().len() + op.new_range().len()).sum()
}

/// What `diff -u` would say; bytes that are no UTF-8 are shown as replacement characters.
pub fn unified_diff(old: (&str, &[u8]), new: (&str, &[u8])) -> String {
    let (before, after) = (String::from_utf8_lossy(old.1), String::from_utf8_lossy(new.1));
    similar::TextDiff::from_lines(before.as_ref(), after.as_ref())
        .unified_diff()
        .context_radius(DIFF_CONTEXT_LINES)
        .header(old.0, new.0)
        .to_string()
}

/// Both texts in one, with git's markers around what differs; `None` for what is no text.
pub fn with_markers(ours: (&str, &[u8]), theirs: (&str, &[u8])) -> Option<String> {
    let (one, other) = (text(ours.1)?, text(theirs.1)?);
    let diff = similar::TextDiff::from_lines(one, other);
    let mut marked = String::new();
    for op in diff.ops() {
        let lines = |range: std::ops::Range<usize>, text: &similar::TextDiff<'_, '_, str>, old: bool| {
            let line = |at| if old { text.old_slice(at) } else { text.new_slice(at) };
            range.filter_map(line).fold(String::new(), |all, line| all + line)
        };
        let (before, after) = (lines(op.old_range(), &diff, true), lines(op.new_range(), &diff, false));
        if op.tag() == similar::DiffTag::Equal {
            marked.push_str(&before);
            continue;
        }
        let closed = |text: String| {
            if text.is_empty() || text.ends_with('\n') {
                text
            } else {
                text + "\n"
            }
        };
        let (before, after) = (closed(before), closed(after));
        marked.push_str(&format!(
            "<<<<<<< {}\n{before}=======\n{after}>>>>>>> {}\n",
            ours.0, theirs.0
        ));
    }
    Some(marked)
}

/// The three-way rule: what is the same on both sides, or what one side changed. `None`: both changed it, differently.
fn pick<'v, T: PartialEq>(base: &T, ours: &'v T, theirs: &'v T) -> Option<&'v T> {
    if ours == theirs || base == theirs {
        Some(ours)
    } else if base == ours {
        Some(theirs)
    } else {
        None
    }
}

/// Merges line by line.
fn lines(base: &str, ours: &str, theirs: &str) -> Option<String> {
    if let Some(same) = pick(&base, &ours, &theirs) {
        return Some((*same).to_owned());
    }
    let merged = similar::TextMerge::from_lines(base, ours, theirs);
    (!merged.is_conflicted()).then(|| merged.to_string())
}

fn text(bytes: &[u8]) -> Option<&str> {
    if bytes.len() > MERGE_BYTES_MAX || bytes.contains(&0) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// How the lines of a text end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// There is no line ending at all.
    None,
    Lf,
    CrLf,
    /// Both kinds: then they are part of the lines.
    Mixed,
}

/// What marks a text as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    bom: bool,
    ending: Ending,
    /// Its last line is ended, too.
    closed: bool,
}

impl Shape {
    fn of(text: &str) -> Shape {
        let (all, crlf) = (text.matches('\n').count(), text.matches("\r\n").count());
        let ending = match (all, crlf) {
            (0, _) => Ending::None,
            (_, 0) => Ending::Lf,
            (all, crlf) if all == crlf => Ending::CrLf,
            _ => Ending::Mixed,
        };
        let bare = text.strip_prefix(BOM).unwrap_or(text);
        Shape {
            bom: bare.len() < text.len(),
            ending,
            closed: bare.is_empty() || bare.ends_with('\n'),
        }
    }

    /// Whether line endings are to be left out of the merge: each text has one kind, but not all the same.
    fn differ(shapes: &[Shape; 3]) -> bool {
        let has = |ending| shapes.iter().any(|shape| shape.ending == ending);
        has(Ending::Lf) && has(Ending::CrLf) && !has(Ending::Mixed)
    }

    fn merged(shapes: &[Shape; 3]) -> Shape {
        let [base, ours, theirs] = shapes;
        let seen = |shape: &Shape| match shape.ending {
            Ending::None => base.ending,
            known => known,
        };
        let ending = *pick(&base.ending, &seen(ours), &seen(theirs)).unwrap_or(&ours.ending);
        Shape {
            bom: *pick(&base.bom, &ours.bom, &theirs.bom).unwrap_or(&ours.bom),
            ending,
            closed: *pick(&base.closed, &ours.closed, &theirs.closed).unwrap_or(&ours.closed),
        }
    }

    fn apply(self, mut text: String, unified: bool) -> String {
        let ends = |text: &str| text.ends_with('\n') && !text.ends_with("\n\n") && !text.ends_with("\n\r\n");
        if !self.closed && ends(&text) {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if unified && self.ending == Ending::CrLf {
            text = text.replace('\n', "\r\n");
        }
        if self.bom { format!("{BOM}{text}") } else { text }
    }
}

/// The text without its marks: no byte order mark, the last line ended, and only `\n` if line endings are to be `unified`.
fn plain(text: &str, unify: bool) -> Cow<'_, str> {
    let mut plain = Cow::Borrowed(text.strip_prefix(BOM).unwrap_or(text));
    let crlf = Shape::of(text).ending == Ending::CrLf;
    if unify && crlf {
        plain = Cow::Owned(plain.replace("\r\n", "\n"));
    }
    if !plain.is_empty() && !plain.ends_with('\n') {
        plain.to_mut().push_str(if crlf && !unify { "\r\n" } else { "\n" });
    }
    plain
}

//! What a link to a note that has moved may read now, in the manner of what it read before.
//!
//! Pure: paths and targets go in, targets come out, the best first. Which of them leads to the note is for the resolver to say, and how
//! it is spelled in a text for `parse/spots`. Paths are from the root, without a leading slash.

use crate::model::LinkKind;
use crate::note_path::split_extension;
use crate::resolve::{join, tail};
use crate::text::slug::slug;
use crate::text::{file_name, fold, folder};

/// A link as it stands, and what it led to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OldLink<'a> {
    pub(crate) kind: LinkKind,
    pub(crate) target: &'a str,
    /// The path of its note when it was written.
    pub(crate) source: &'a str,
    /// The path that it led to.
    pub(crate) led_to: &'a str,
}

/// Targets for the same link in the note at `source`, now that what it led to is at `path`.
pub(crate) fn targets(link: OldLink<'_>, source: &str, path: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let has_extension = has_extension_of(link.target, link.led_to);
    for (shown, is_first) in [(path, has_extension), (bare(path), !has_extension)] {
        let rank = usize::from(!is_first);
        targets.extend(manners(link, source, shown).into_iter().map(|target| (rank, target)));
    }
    targets.sort_by_key(|(rank, _)| *rank);
    let mut targets: Vec<String> = targets.into_iter().map(|(_, target)| target).collect();
    if calls_permalink(link) {
        targets.insert(0, slug(bare(path)));
    }
    targets
}

/// The manners of calling `path`, that of the old link first.
fn manners(link: OldLink<'_>, source: &str, path: &str) -> Vec<String> {
    let rooted = format!("/{path}");
    let relative = relative(folder(source), path);
    let from_here = match relative.starts_with("../") {
        true => relative.clone(),
        false => format!("./{relative}"),
    };
    if link.target.starts_with('/') {
        return vec![rooted];
    }
    if link.target.starts_with("./") {
        return vec![from_here];
    }
    if link.target.starts_with("../") {
        return vec![relative, from_here];
    }
    if is_relative(link) {
        return vec![relative, from_here, rooted];
    }
    let mut manners: Vec<String> = tails(path, link.target.matches('/').count() + 1)
        .map(str::to_owned)
        .collect();
    if link.kind == LinkKind::Markdown {
        manners.push(from_here);
    }
    manners.push(rooted);
    manners
}

/// Whether a Markdown link calls its note by the way from its own folder, which every program follows, and not by its name alone.
pub(crate) fn is_relative(link: OldLink<'_>) -> bool {
    let named = join(folder(link.source), link.target);
    link.kind == LinkKind::Markdown && named.is_some_and(|named| is_path_of(&named, link.led_to))
}

/// Whether a link calls its note by the permalink that its path makes, and not by the path.
fn calls_permalink(link: OldLink<'_>) -> bool {
    let old = bare(link.led_to);
    let by_path = is_path_of(link.target, tail(link.led_to, link.target));
    link.kind == LinkKind::Wiki && !by_path && link.target == slug(old)
}

/// Whether `named` is the path, with its extension or without.
fn is_path_of(named: &str, path: &str) -> bool {
    let (named, path) = (fold::key(named), fold::key(path));
    named == path || named == bare(&path)
}

/// Whether a link says the extension of the note that it leads to.
fn has_extension_of(target: &str, path: &str) -> bool {
    fold::key(file_name(target)) == fold::key(file_name(path))
}

fn bare(path: &str) -> &str {
    split_extension(path).0
}

/// The ends of a path, from `segments` on to the whole.
fn tails(path: &str, segments: usize) -> impl Iterator<Item = &str> {
    let mut starts: Vec<usize> = path.match_indices('/').map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    let skip = segments.clamp(1, starts.len()) - 1;
    starts.into_iter().rev().skip(skip).map(|start| &path[start..])
}

/// The way from a folder to a path.
pub(crate) fn relative(folder: &str, path: &str) -> String {
    let mut from: Vec<&str> = folder.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut to: Vec<&str> = path.split('/').collect();
    while to.len() > 1 && from.first() == to.first() {
        from.remove(0);
        to.remove(0);
    }
    format!("{}{}", "../".repeat(from.len()), to.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manner_stays() {
        use LinkKind::{Markdown, Wiki};
        for (kind, target, source, led_to, path, first) in [
            (Wiki, "a", "x.md", "d/a.md", "e/b.md", "b"),
            (Wiki, "a.md", "x.md", "d/a.md", "e/b.md", "b.md"),
            (Wiki, "d/a", "x.md", "d/a.md", "e/b.md", "e/b"),
            (Wiki, "d/a", "x.md", "c/d/a.md", "c/e/a.md", "e/a"),
            (Wiki, "d/a", "x.md", "d/a.md", "a.md", "a"),
            (Wiki, "/d/a", "x.md", "d/a.md", "e/b.md", "/e/b"),
            (Wiki, "./a", "d/x.md", "d/a.md", "d/b.md", "./b"),
            (Wiki, "../a", "d/x.md", "a.md", "e/b.md", "../e/b"),
            (
                Wiki,
                "my-folder/my-note",
                "x.md",
                "My Folder/My Note.md",
                "Other/My Note.md",
                "other/my-note",
            ),
            (Markdown, "a.md", "d/x.md", "d/a.md", "e/b.md", "../e/b.md"),
            (Markdown, "./a.md", "d/x.md", "d/a.md", "d/b.md", "./b.md"),
            (Markdown, "../a.md", "d/x.md", "a.md", "d/a.md", "a.md"),
            (Markdown, "a", "d/x.md", "d/a.md", "d/b.md", "b"),
            (Markdown, "d/a.md", "e/x.md", "d/a.md", "d/b.md", "d/b.md"),
            (Markdown, "/d/a.md", "e/x.md", "d/a.md", "f/b.md", "/f/b.md"),
        ] {
            let link = OldLink {
                kind,
                target,
                source,
                led_to,
            };
            assert_eq!(targets(link, source, path)[0], first, "{target} in {source}");
        }
    }

    #[test]
    fn a_longer_form_follows_a_shorter_one() {
        let link = OldLink {
            kind: LinkKind::Wiki,
            target: "a",
            source: "x.md",
            led_to: "a.md",
        };
        let expected = ["b", "e/b", "d/e/b", "/d/e/b", "b.md", "e/b.md", "d/e/b.md", "/d/e/b.md"];
        assert_eq!(targets(link, "x.md", "d/e/b.md"), expected);
    }

    #[test]
    fn ways_between_folders() {
        for (folder, path, expected) in [
            ("", "a.md", "a.md"),
            ("d", "a.md", "../a.md"),
            ("d", "d/a.md", "a.md"),
            ("d/e", "d/f/a.md", "../f/a.md"),
            ("a.md", "a.md", "../a.md"),
        ] {
            assert_eq!(relative(folder, path), expected);
        }
    }
}

//! Which note a link leads to.
//!
//! Owns the rules, pure: given a link, the folder of its note and the notes that bear a fitting name, the best one.
//! Links are resolved when asked for, never stored resolved: so a link finds its note the moment it appears, loses it
//! the moment it goes, and an index kept up to date equals one built anew. Does not fetch candidates (`sqlite`).
//!
//! Order, best first: the path itself; the path with a note extension; the same ignoring case; for links without a
//! leading `./`, `../` or `/` also a permalink that an author chose, a note anywhere whose path ends so (same folder first,
//! then the shortest path), the permalink that a path has by itself, a title, an alias. A title that several notes have
//! names none of them, except for one of them. Wiki links count paths from the root and call permalinks, Markdown links
//! count from their note's folder, then the root.

use crate::model::LinkKind;
use crate::note_path::{NOTE_EXTENSIONS, split_extension, stem};
use crate::text::slug::slug;
use crate::text::{file_name, fold, folder};

/// Why a note bears a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NameKind {
    /// Its file name without extension.
    Stem = 0,
    /// Its title.
    Title = 1,
    /// An alias in its frontmatter.
    Alias = 2,
    /// The permalink in its frontmatter.
    Permalink = 3,
    /// The permalink that its path makes.
    Slug = 4,
}

/// A note that bears a name the link might mean.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) note_id: i64,
    pub(crate) kind: NameKind,
    /// The name, folded.
    pub(crate) name_key: String,
    pub(crate) path: Vec<u8>,
    /// The path, folded.
    pub(crate) path_key: String,
}

/// The names under which candidates for a link are to be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LookupKeys {
    /// That of the file.
    pub(crate) name: String,
    /// The whole target, where it differs: a title, an alias, a permalink.
    pub(crate) whole: Option<String>,
    /// The target as a permalink, where it differs from both.
    pub(crate) slug: Option<String>,
}

impl LookupKeys {
    /// Those of a link written as `target`.
    pub(crate) fn of(kind: LinkKind, target: &str) -> Self {
        let name = fold::key(stem(target.trim_end_matches('/')));
        let whole = Some(fold::key(target)).filter(|whole| *whole != name);
        let slug = (kind == LinkKind::Wiki && is_anywhere(target)).then(|| slug(target));
        let slug = slug.filter(|slug| !slug.is_empty() && *slug != name && Some(slug) != whole.as_ref());
        Self { name, whole, slug }
    }
}

/// Whether a link may call a note by its name, wherever it is.
fn is_anywhere(target: &str) -> bool {
    !["/", "./", "../"].iter().any(|start| target.starts_with(start))
}

/// A link made ready to be compared with candidates.
pub(crate) struct Wanted {
    /// Paths from the root, best first, as written and folded.
    paths: Vec<(String, String)>,
    /// The end of a path anywhere, folded; `None` when the link names one place only.
    suffix: Option<String>,
    /// The target as a title, folded.
    whole: String,
    /// The target as a permalink; `None` where it calls none.
    slug: Option<String>,
    folder_key: String,
    source_path: String,
}

/// What made a candidate fit, best first; paths come before all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// One of the paths the link may mean, by its place among these.
    Path(usize),
    OwnPermalink,
    PathEnd,
    Slug,
    Title,
    Alias,
}

/// Smaller is better: the rule, whether in another folder, length of path, extension, whether in another case.
type Rank = (Rule, bool, usize, usize, bool);

impl Wanted {
    /// Prepares a link written as `target` in the note at `source_path`.
    pub(crate) fn new(kind: LinkKind, target: &str, source_path: &str) -> Self {
        let source_folder = folder(source_path);
        let is_relative = target.starts_with("./") || target.starts_with("../");
        let from_root = target.strip_prefix('/');
        let mut paths = Vec::new();
        if let Some(rooted) = from_root {
            paths.extend(join("", rooted));
        } else {
            if is_relative || kind == LinkKind::Markdown {
                paths.extend(join(source_folder, target));
            }
            if !is_relative {
                paths.extend(join("", target));
            }
        }
        let anywhere = !is_relative && from_root.is_none();
        let suffix = anywhere
            .then(|| join("", target))
            .flatten()
            .map(|suffix| fold::key(&suffix));
        let paths = paths
            .into_iter()
            .map(|path| (fold::key(&path), path))
            .map(|(key, path)| (path, key))
            .collect();
        Self {
            paths,
            suffix,
            whole: fold::key(target),
            slug: (anywhere && kind == LinkKind::Wiki).then(|| slug(target)),
            folder_key: fold::key(source_folder),
            source_path: source_path.to_owned(),
        }
    }

    /// Whether the link names a note by the end of its path and another note's path ends so, too.
    pub(crate) fn is_ambiguous(&self, candidates: &[Candidate], note_id: i64) -> bool {
        let by_end = |candidate: &Candidate| self.rank(candidate).is_some_and(|rank| rank.0 == Rule::PathEnd);
        let mut fitting = candidates.iter().filter(|candidate| by_end(candidate));
        fitting.clone().any(|candidate| candidate.note_id == note_id)
            && fitting.any(|candidate| candidate.note_id != note_id)
    }

    /// The best of the candidates.
    pub(crate) fn best<'a>(&self, candidates: &'a [Candidate]) -> Option<&'a Candidate> {
        let ranked = candidates
            .iter()
            .filter_map(|candidate| Some((self.rank(candidate)?, candidate)));
        let ((rule, ..), best) =
            ranked.min_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.path.cmp(&other.path)))?;
        if rule != Rule::Title {
            return Some(best);
        }
        let is_titled = |other: &&Candidate| other.kind == NameKind::Title && other.name_key == self.whole;
        let mut titled = candidates.iter().filter(is_titled);
        if titled.clone().all(|other| other.note_id == best.note_id) {
            return Some(best);
        }
        titled.find(|other| other.path == self.source_path.as_bytes())
    }

    fn rank(&self, candidate: &Candidate) -> Option<Rank> {
        let path_bytes = candidate.path.len();
        if candidate.kind != NameKind::Stem {
            return Some((self.named(candidate)?, false, path_bytes, 0, false));
        }
        let path = String::from_utf8_lossy(&candidate.path);
        for (order, (wanted, wanted_key)) in self.paths.iter().enumerate() {
            if let Some(extension) = extension_beyond(&candidate.path_key, wanted_key) {
                let other_case = extension_beyond(&path, wanted).is_none();
                return Some((Rule::Path(order), false, 0, extension, other_case));
            }
        }
        let suffix = self.suffix.as_deref()?;
        let folder_key = folder(&candidate.path_key);
        let extension = extension_beyond(tail(&candidate.path_key, suffix), suffix)?;
        let wanted = self.paths.last().map_or("", |(wanted, _)| wanted);
        let other_case = extension_beyond(tail(&path, wanted), wanted).is_none();
        Some((
            Rule::PathEnd,
            folder_key != self.folder_key,
            path_bytes,
            extension,
            other_case,
        ))
    }

    /// By which of its names, other than its file's, the link calls the candidate.
    fn named(&self, candidate: &Candidate) -> Option<Rule> {
        self.suffix.as_ref()?;
        let is_whole = candidate.name_key == self.whole;
        let is_slug = self.slug.as_deref() == Some(candidate.name_key.as_str());
        match candidate.kind {
            NameKind::Permalink if self.slug.is_some() && is_whole => Some(Rule::OwnPermalink),
            NameKind::Permalink | NameKind::Slug if is_slug => Some(Rule::Slug),
            NameKind::Title if is_whole => Some(Rule::Title),
            NameKind::Alias if is_whole => Some(Rule::Alias),
            _ => None,
        }
    }
}

/// The last segments of `path`, as many as `like` has.
pub(crate) fn tail<'a>(path: &'a str, like: &str) -> &'a str {
    let count = like.matches('/').count();
    path.rmatch_indices('/')
        .nth(count)
        .map_or(path, |(at, _)| &path[at + 1..])
}

/// 0 if the path is the wanted one, 1 + the rank of its extension if it is the wanted one and a note extension.
fn extension_beyond(path: &str, wanted: &str) -> Option<usize> {
    if path == wanted {
        return Some(0);
    }
    let rest = path.strip_prefix(wanted)?.strip_prefix('.')?;
    let rank = NOTE_EXTENSIONS
        .iter()
        .position(|extension| rest.eq_ignore_ascii_case(extension))?;
    // "a.md" does not mean "a.md.txt" before there is an "a.md": only names without an extension are completed.
    let completes = split_extension(file_name(wanted)).1.is_none() || rank == 0;
    completes.then_some(rank + 1)
}

/// `target` as seen from `base`, without `.` and `..`; `None` if it leaves the root or names no file.
pub(crate) fn join(base: &str, target: &str) -> Option<String> {
    let mut segments: Vec<&str> = base.split('/').filter(|segment| !segment.is_empty()).collect();
    for segment in target.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            name => segments.push(name),
        }
    }
    Some(segments.join("/")).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(paths: &[&str]) -> Vec<Candidate> {
        let candidate = |(note_id, path): (usize, &&str)| Candidate {
            note_id: note_id as i64,
            kind: NameKind::Stem,
            name_key: fold::key(stem(path)),
            path: path.as_bytes().to_vec(),
            path_key: fold::key(path),
        };
        paths.iter().enumerate().map(candidate).collect()
    }

    fn to(kind: LinkKind, target: &str, source: &str, paths: &[&str]) -> Option<String> {
        let notes = notes(paths);
        let best = Wanted::new(kind, target, source).best(&notes)?;
        Some(String::from_utf8(best.path.clone()).unwrap())
    }

    #[test]
    fn wiki_links() {
        let wiki = |target, source, paths: &[&str]| to(LinkKind::Wiki, target, source, paths);
        assert_eq!(
            wiki("foo", "d/x.md", &["d/foo.md", "foo.md"]).as_deref(),
            Some("foo.md")
        );
        assert_eq!(
            wiki("foo", "d/x.md", &["d/foo.md", "e/foo.md"]).as_deref(),
            Some("d/foo.md")
        );
        assert_eq!(
            wiki("foo", "x.md", &["long/foo.md", "e/foo.md"]).as_deref(),
            Some("e/foo.md")
        );
        assert_eq!(wiki("FOO", "x.md", &["e/foo.md"]).as_deref(), Some("e/foo.md"));
        assert_eq!(
            wiki("Foo", "x.md", &["e/foo.md", "e/Foo.md"]).as_deref(),
            Some("e/Foo.md")
        );
        assert_eq!(
            wiki("e/foo", "x.md", &["d/foo.md", "d/e/foo.md"]).as_deref(),
            Some("d/e/foo.md")
        );
        assert_eq!(wiki("e/foo", "x.md", &["d/foo.md", "ee/foo.md"]), None);
        assert_eq!(
            wiki("foo.txt", "x.md", &["foo.md", "d/foo.txt"]).as_deref(),
            Some("d/foo.txt")
        );
        assert_eq!(wiki("foo", "x.md", &["foo.txt", "foo.md"]).as_deref(), Some("foo.md"));
        assert_eq!(wiki("Node.js", "x.md", &["Node.js.md"]).as_deref(), Some("Node.js.md"));
        assert_eq!(
            wiki("../foo", "d/e/x.md", &["foo.md", "d/foo.md"]).as_deref(),
            Some("d/foo.md")
        );
        assert_eq!(wiki("/foo", "d/x.md", &["d/foo.md"]), None);
        assert_eq!(wiki("cafe\u{301}", "x.md", &["Café.md"]).as_deref(), Some("Café.md"));
    }

    #[test]
    fn markdown_links() {
        let markdown = |target, source, paths: &[&str]| to(LinkKind::Markdown, target, source, paths);
        assert_eq!(
            markdown("foo.md", "d/x.md", &["foo.md", "d/foo.md"]).as_deref(),
            Some("d/foo.md")
        );
        assert_eq!(
            markdown("../foo.md", "d/x.md", &["foo.md", "d/foo.md"]).as_deref(),
            Some("foo.md")
        );
        assert_eq!(
            markdown("../../foo.md", "d/x.md", &["foo.md"]),
            None,
            "outside the root"
        );
        assert_eq!(
            markdown("./foo.md", "d/x.md", &["e/foo.md"]),
            None,
            "names one place only"
        );
        assert_eq!(
            markdown("foo", "x.md", &["a/foo.md"]).as_deref(),
            Some("a/foo.md"),
            "as Obsidian does"
        );
    }

    #[test]
    fn paths_come_before_titles_and_titles_before_aliases() {
        let mut all = notes(&["a.md", "b.md", "c.md"]);
        all[1].kind = NameKind::Title;
        all[1].name_key = "the plan".into();
        all[2].kind = NameKind::Alias;
        all[2].name_key = "the plan".into();
        let wanted = Wanted::new(LinkKind::Wiki, "The Plan", "x.md");
        assert_eq!(wanted.best(&all).unwrap().note_id, 1);
        all.push(notes(&["deep/folder/The Plan.md"]).remove(0));
        assert_eq!(wanted.best(&all).unwrap().path, b"deep/folder/The Plan.md");
    }
}

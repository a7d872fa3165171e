//! Links to what has moved, and links of it: which notes have some, and what their texts read afterwards.
//!
//! The index knows the present. What a link led to before a move is found by resolving it among the notes as they were called then: all
//! moves that are not worked off yet are undone in a [`View`], newest first. So it does not matter when a move is worked off, nor whether
//! that was begun before and broken off: a link that leads where it should is left alone.
//!
//! Owns the views and the decision which links change. Does not own the forms of links (`crate::rewrite`), their places in a text
//! (`parse/spots`), nor reading and writing notes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::Index;
use crate::error::IndexError;
use crate::model::{LinkKind, MovedPath};
use crate::note_path::{split_extension, stem};
use crate::parse::{Spot, spots, written};
use crate::resolve::{Candidate, LookupKeys, NameKind, Wanted, join};
use crate::rewrite::{OldLink, is_relative, relative, targets};
use crate::sqlite::Snapshot;
use crate::text::slug::slug;
use crate::text::{fold, folder};

/// Notes of one move whose links are looked at; those of a larger folder beyond it are not.
const MOVED_NOTES_MAX: usize = 50_000;

/// The notes as they were called before some moves.
#[derive(Default)]
struct View {
    /// Notes that were called otherwise, by their path then.
    ids: BTreeMap<Vec<u8>, i64>,
    paths: HashMap<i64, Vec<u8>>,
    /// The names that these paths made, and who bore them.
    names: HashMap<String, Vec<Candidate>>,
    /// The names that their paths of now make, which they did not bear.
    not_yet: HashSet<(i64, String)>,
}

/// Rewrites links after the first of some moves.
pub struct Rewriter<'a> {
    snapshot: &'a Snapshot<'a>,
    moved: MovedPath,
    before: View,
    after: View,
    /// The notes that the first move took along.
    taken: BTreeSet<i64>,
}

impl Index {
    /// Lets `work` rewrite links after the first of `moves`; the others came later and are worked off later. All are the paths of notes and
    /// folders in their order, and the index has seen all of them.
    ///
    /// # Errors
    /// When the database fails, or `work` does.
    pub fn with_rewriter<T>(
        &self,
        moves: &[MovedPath],
        work: impl FnOnce(&Rewriter<'_>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let snapshot = self.database.snapshot()?;
        let Some((moved, later)) = moves.split_first() else {
            return work(&Rewriter::idle(&snapshot));
        };
        let after = View::before(&snapshot, later)?;
        let before = View::before(&snapshot, moves)?;
        let mut rewriter = Rewriter {
            snapshot: &snapshot,
            moved: moved.clone(),
            before,
            after,
            taken: BTreeSet::new(),
        };
        rewriter.taken = rewriter.find_taken()?;
        work(&rewriter)
    }
}

impl<'a> Rewriter<'a> {
    fn idle(snapshot: &'a Snapshot<'a>) -> Self {
        Self {
            snapshot,
            moved: MovedPath {
                from: Vec::new(),
                to: Vec::new(),
            },
            before: View::default(),
            after: View::default(),
            taken: BTreeSet::new(),
        }
    }

    /// The notes that the move took along, but for those whose old path is another note's now: that is what its links mean, since some
    /// programs save in that way.
    fn find_taken(&self) -> Result<BTreeSet<i64>, IndexError> {
        let mut taken = BTreeSet::new();
        for (id, path) in &self.before.paths {
            let was_there = *path == self.moved.from || is_below(path, &self.moved.from);
            if was_there && self.after.find(self.snapshot, path)?.is_none() && taken.len() < MOVED_NOTES_MAX {
                taken.insert(*id);
            }
        }
        Ok(taken)
    }

    /// The notes in which links may have to change, by their paths of now.
    ///
    /// # Errors
    /// When the database fails.
    pub fn notes(&self) -> Result<Vec<Vec<u8>>, IndexError> {
        let mut notes = BTreeSet::new();
        for id in &self.taken {
            notes.extend(self.snapshot.path_of(*id)?);
            let path = lossy(&self.before.paths[id]);
            let names = [fold::key(stem(&path)), slug(split_extension(&path).0)];
            notes.extend(self.snapshot.notes_calling(&names)?);
        }
        let is_folder = !self.before.ids.contains_key(&self.moved.from) && !self.moved.from.is_empty();
        if is_folder {
            for (path, kind, target) in self.snapshot.file_links()? {
                let source = self.before_path(&path)?;
                if self.file_meant(kind, &target, &lossy(&source)).is_some() {
                    notes.insert(path);
                }
            }
        }
        Ok(notes.into_iter().collect())
    }

    /// What the text of the note at `path` (of now) reads with its links to what has moved, and those of a note that has moved itself, led
    /// to where they led before; `None` if nothing changes. In a text that was saved since the move, what leads somewhere is meant so.
    /// `is_there` says whether there is a file at a path, note or not.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rewritten(
        &self,
        path: &[u8],
        (text, saved_since): (&str, bool),
        is_there: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<String>, IndexError> {
        let Some(id) = self.snapshot.id_of(path)? else {
            return Ok(None);
        };
        let is_taken = self.taken.contains(&id);
        let (Some(source), Some(source_now)) = (self.before.utf8(id, path), self.after.utf8(id, path)) else {
            return Ok(None);
        };
        let mut edits = Vec::new();
        let found = spots(path, text);
        for spot in &found {
            let led_to = self.led_to(spot, &source)?;
            if saved_since && self.is_meant(spot, led_to, &source_now, is_there)? {
                continue;
            }
            let target = match led_to {
                Some(note) if is_taken || self.taken.contains(&note) => {
                    self.for_note(spot, note, &source, &source_now, text)?
                }
                Some(_) => None,
                None => self.for_file(spot, (&source, &source_now), is_taken, text, is_there),
            };
            edits.extend(target.map(|target| (spot.span.clone(), target)));
        }
        if edits.is_empty() {
            return Ok(None);
        }
        edits.extend(labels(text, &found, &edits));
        edits.sort_by_key(|(span, _)| span.start);
        let rewritten = spliced(text, &edits);
        // What does not read as meant is left alone.
        let same = spots(path, &rewritten).len() == found.len();
        Ok(Some(rewritten).filter(|_| same))
    }

    /// Whether a link leads somewhere after the move, and not where it led before.
    fn is_meant(
        &self,
        spot: &Spot,
        led_to: Option<i64>,
        source: &str,
        is_there: &dyn Fn(&[u8]) -> bool,
    ) -> Result<bool, IndexError> {
        if spot.is_file {
            let place = match is_placed(spot.kind, &spot.target) {
                true => join(folder(source), &spot.target),
                false => join("", &spot.target),
            };
            return Ok(place.is_some_and(|place| is_there(place.as_bytes())));
        }
        let candidates = self.after.candidates(self.snapshot, spot.kind, &spot.target)?;
        let leads_to = Wanted::new(spot.kind, &spot.target, source).best(&candidates);
        Ok(leads_to.is_some_and(|note| Some(note.note_id) != led_to))
    }

    /// The note that a link led to before the move.
    fn led_to(&self, spot: &Spot, source: &str) -> Result<Option<i64>, IndexError> {
        if spot.is_file {
            return Ok(None);
        }
        let candidates = self.before.candidates(self.snapshot, spot.kind, &spot.target)?;
        let best = Wanted::new(spot.kind, &spot.target, source);
        Ok(best.best(&candidates).map(|best| best.note_id))
    }

    /// What a link to a note is to read, if it leads elsewhere now.
    fn for_note(
        &self,
        spot: &Spot,
        note: i64,
        source: &str,
        source_now: &str,
        text: &str,
    ) -> Result<Option<String>, IndexError> {
        let now = self.snapshot.path_of(note)?.unwrap_or_default();
        let (Some(led_to), Some(path)) = (self.before.utf8(note, &now), self.after.utf8(note, &now)) else {
            return Ok(None);
        };
        let link = OldLink {
            kind: spot.kind,
            target: &spot.target,
            source,
            led_to: &led_to,
        };
        let link_now = OldLink {
            source: source_now,
            led_to: &path,
            ..link
        };
        let by_name_only = is_relative(link) && !is_relative(link_now);
        if !by_name_only && self.leads_to(spot.kind, &spot.target, source_now, note, false)? {
            return Ok(None);
        }
        for target in targets(link, source_now, &path) {
            if self.leads_to(spot.kind, &target, source_now, note, true)?
                && let Some(raw) = written(spot, text, &target)
            {
                return Ok(Some(raw));
            }
        }
        Ok(None)
    }

    /// Whether a link leads to the note after the move; `surely`: no other note's path ends as it does.
    fn leads_to(
        &self,
        kind: LinkKind,
        target: &str,
        source: &str,
        note: i64,
        surely: bool,
    ) -> Result<bool, IndexError> {
        let candidates = self.after.candidates(self.snapshot, kind, target)?;
        let wanted = Wanted::new(kind, target, source);
        let leads = wanted.best(&candidates).is_some_and(|best| best.note_id == note);
        Ok(leads && !(surely && wanted.is_ambiguous(&candidates, note)))
    }

    /// What a link to a file that is no note is to read: one that the folder took along, or one beside a note that has moved.
    fn for_file(
        &self,
        spot: &Spot,
        (source, source_now): (&str, &str),
        is_taken: bool,
        text: &str,
        is_there: &dyn Fn(&[u8]) -> bool,
    ) -> Option<String> {
        let old = self.file_meant(spot.kind, &spot.target, source).or_else(|| {
            let beside = is_taken && is_placed(spot.kind, &spot.target);
            beside.then(|| join(folder(source), &spot.target)).flatten()
        })?;
        let new = self.path_after(&old)?;
        let names_now = join(folder(source_now), &spot.target);
        if names_now.as_deref() == Some(new.as_str())
            || is_there(old.as_bytes()) && new != old
            || !is_there(new.as_bytes())
        {
            return None;
        }
        let target = if spot.target.starts_with('/') {
            format!("/{new}")
        } else if is_placed(spot.kind, &spot.target) && join(folder(source), &spot.target).as_deref() == Some(&old) {
            relative(folder(source_now), &new)
        } else {
            new
        };
        // A folder may be called with a slash at its end.
        let slash = if spot.target.ends_with('/') { "/" } else { "" };
        let target = format!("{target}{slash}");
        written(spot, text, &target).filter(|_| target != spot.target)
    }

    /// The file that a link means, if the move took it along.
    fn file_meant(&self, kind: LinkKind, target: &str, source: &str) -> Option<String> {
        let from = std::str::from_utf8(&self.moved.from).ok()?;
        let places = match target.strip_prefix('/') {
            Some(rooted) => [join("", rooted), None],
            None if is_placed(kind, target) => [join(folder(source), target), join("", target)],
            None => [join("", target), None],
        };
        let mut places = places.into_iter().flatten();
        places.find(|place| is_below(place.as_bytes(), from.as_bytes()))
    }

    fn path_after(&self, path: &str) -> Option<String> {
        let from = std::str::from_utf8(&self.moved.from).ok()?;
        let to = std::str::from_utf8(&self.moved.to).ok()?;
        match is_below(path.as_bytes(), from.as_bytes()) {
            true => Some(format!("{to}{}", &path[from.len()..])),
            false => Some(path.to_owned()),
        }
    }

    /// How the note that is at `path` now was called before the move.
    fn before_path(&self, path: &[u8]) -> Result<Vec<u8>, IndexError> {
        let id = self.snapshot.id_of(path)?;
        let before = id.and_then(|id| self.before.paths.get(&id));
        Ok(before.cloned().unwrap_or_else(|| path.to_vec()))
    }
}

impl View {
    /// The notes as they were before these moves, the oldest first.
    fn before(snapshot: &Snapshot<'_>, moves: &[MovedPath]) -> Result<View, IndexError> {
        let mut view = View::default();
        for moved in moves.iter().rev() {
            if let Some(id) = view.find(snapshot, &moved.to)? {
                view.call(id, moved.from.clone());
            }
            let mut below = snapshot.notes_below(&moved.to, MOVED_NOTES_MAX)?;
            below.retain(|(id, _)| !view.paths.contains_key(id));
            let (low, high) = ([&moved.to[..], b"/"].concat(), [&moved.to[..], b"0"].concat());
            below.extend(view.ids.range(low..high).map(|(path, id)| (*id, path.clone())));
            for (id, path) in below {
                view.call(id, [&moved.from, &path[moved.to.len()..]].concat());
            }
        }
        view.name(snapshot)?;
        Ok(view)
    }

    fn call(&mut self, id: i64, path: Vec<u8>) {
        if let Some(other) = self.paths.insert(id, path.clone()) {
            self.ids.remove(&other);
        }
        self.ids.insert(path, id);
    }

    /// The note that had this path.
    fn find(&self, snapshot: &Snapshot<'_>, path: &[u8]) -> Result<Option<i64>, IndexError> {
        if let Some(id) = self.ids.get(path) {
            return Ok(Some(*id));
        }
        Ok(snapshot.id_of(path)?.filter(|id| !self.paths.contains_key(id)))
    }

    fn name(&mut self, snapshot: &Snapshot<'_>) -> Result<(), IndexError> {
        for (id, path) in &self.paths {
            let shown = lossy(path);
            let made = [
                (NameKind::Stem, fold::key(stem(&shown))),
                (NameKind::Slug, fold::key(&slug(split_extension(&shown).0))),
            ];
            for (kind, name_key) in made {
                let candidate = Candidate {
                    note_id: *id,
                    kind,
                    name_key: name_key.clone(),
                    path: path.clone(),
                    path_key: fold::key(&shown),
                };
                self.names.entry(name_key).or_default().push(candidate);
            }
            let now = snapshot.path_of(*id)?.unwrap_or_default();
            self.not_yet.insert((*id, fold::key(stem(&lossy(&now)))));
        }
        Ok(())
    }

    /// The notes that a link might have meant.
    fn candidates(&self, snapshot: &Snapshot<'_>, kind: LinkKind, target: &str) -> Result<Vec<Candidate>, IndexError> {
        let keys = LookupKeys::of(kind, target);
        let mut candidates = snapshot.candidates(&keys)?;
        candidates.retain_mut(|candidate| {
            let Some(path) = self.paths.get(&candidate.note_id) else {
                return true;
            };
            candidate.path_key = fold::key(&lossy(path));
            candidate.path.clone_from(path);
            let of_path = matches!(candidate.kind, NameKind::Stem | NameKind::Slug);
            // A note without a title of its own has that of its file's name.
            let of_name = candidate.kind == NameKind::Title
                && self.not_yet.contains(&(candidate.note_id, candidate.name_key.clone()));
            !of_path && !of_name
        });
        let LookupKeys { name, whole, slug } = keys;
        for key in [Some(name), whole, slug].into_iter().flatten() {
            candidates.extend(self.names.get(&key).into_iter().flatten().cloned());
        }
        Ok(candidates)
    }

    /// The path of the note that is at `now`, if it can be written in a link.
    fn utf8(&self, id: i64, now: &[u8]) -> Option<String> {
        let path = self.paths.get(&id).map_or(now, Vec::as_slice);
        String::from_utf8(path.to_vec()).ok()
    }
}

/// The labels of definitions that repeat what stands in a wiki link, as some editors write them for other Markdown programs.
fn labels(text: &str, found: &[Spot], edits: &[(Range<usize>, String)]) -> Vec<(Range<usize>, String)> {
    let mut renamed: HashMap<&str, String> = HashMap::new();
    for spot in found.iter().filter(|spot| spot.kind == LinkKind::Wiki) {
        let edit = edits.iter().find(|(span, _)| *span == spot.span);
        if let (Some((span, target)), Some(label)) = (edit, &spot.label) {
            let (head, rest) = (&text[label.start..span.start], &text[span.end..label.end]);
            renamed.insert(&text[label.clone()], format!("{head}{target}{rest}"));
        }
    }
    let definitions = found.iter().filter(|spot| spot.kind == LinkKind::Markdown);
    let labels = definitions.filter_map(|spot| spot.label.clone());
    labels
        .filter_map(|label| Some((label.clone(), renamed.get(&text[label])?.clone())))
        .collect()
}

fn spliced(text: &str, edits: &[(Range<usize>, String)]) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut at = 0;
    for (span, target) in edits.iter().filter(|(span, _)| span.start <= span.end) {
        if span.start < at {
            continue;
        }
        out.push_str(&text[at..span.start]);
        out.push_str(target);
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}

/// Whether a link counts its path from its own note's folder.
fn is_placed(kind: LinkKind, target: &str) -> bool {
    target.starts_with("./") || target.starts_with("../") || kind == LinkKind::Markdown && !target.starts_with('/')
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

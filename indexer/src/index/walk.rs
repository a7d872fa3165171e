//! Questions about how notes hang together.
//!
//! Owns walking over resolved links: what is around a note, what nobody links to, what is called and missing, the graph
//! as a whole. Every answer comes from one snapshot and has a bound. Does not own single links and backlinks (`index.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::resolver::Resolver;
use super::{Index, link, with_lines};
use crate::error::IndexError;
use crate::model::{
    Context, Edge, Entity, EntityDetail, Graph, LinkKind, LinkSource, Node, PLAIN_RELATION, Related, Table, Unresolved,
};
use crate::resolve::LookupKeys;
use crate::sqlite::{NoteRow, OutboundRow, Snapshot};

/// How far from a note its context reaches at most, in links.
pub const MAX_DEPTH: u32 = 10;
/// Notes in one answer at most, whatever limit is asked for.
pub const MAX_NOTES: usize = 10_000;
/// Links told of each name that no note has.
const MAX_SOURCES: usize = 10;

/// One step from a note to another.
struct Step {
    id: i64,
    relation: String,
    outbound: bool,
}

impl Index {
    /// The note at `path` and what it says of itself; `None` if there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub fn entity(&self, path: &[u8]) -> Result<Option<EntityDetail>, IndexError> {
        let snapshot = self.database.snapshot()?;
        let id = snapshot.id_of(path)?;
        id.map_or(Ok(None), |id| detail(&snapshot, id))
    }

    /// The note that a link written as `name` in a note at the root leads to: a path, a permalink, a title or an alias.
    ///
    /// # Errors
    /// When the database fails.
    pub fn resolve(&self, name: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let snapshot = self.database.snapshot()?;
        let keys = LookupKeys::of(LinkKind::Wiki, name);
        let found = Resolver::new(&snapshot).find(b"", LinkKind::Wiki, name, keys)?;
        Ok(found.map(|(_, path)| path))
    }

    /// The note at `path` with its links and up to `limit` notes that are at most `depth` links away, nearest first, along
    /// links and against them; `None` if there is no such note.
    ///
    /// # Errors
    /// When the database fails.
    pub fn context(&self, path: &[u8], depth: u32, limit: usize) -> Result<Option<Context>, IndexError> {
        let snapshot = self.database.snapshot()?;
        let Some(id) = snapshot.id_of(path)? else {
            return Ok(None);
        };
        let Some(note) = detail(&snapshot, id)? else {
            return Ok(None);
        };
        let mut resolver = Resolver::new(&snapshot);
        let mut links = Vec::new();
        for row in snapshot.links_of(id)? {
            let resolved = resolver.resolve(path, &row)?.map(|(_, found)| found);
            links.push(link(row, resolved));
        }
        let backlinks = with_lines(&snapshot, &resolver.inbound(id)?)?;
        let around = Around::walk(&snapshot, &mut resolver, id, depth, limit.min(MAX_NOTES))?;
        Ok(Some(Context {
            note,
            links,
            backlinks,
            related: around.related,
            has_more: around.has_more,
        }))
    }

    /// Up to `limit` notes that no other note links to, by path.
    ///
    /// # Errors
    /// When the database fails.
    pub fn orphans(&self, limit: usize) -> Result<Vec<Entity>, IndexError> {
        let snapshot = self.database.snapshot()?;
        let mut linked = HashSet::new();
        let mut resolver = Resolver::new(&snapshot);
        snapshot.each_link(|row| {
            let found = resolver.resolve(&row.path, &row.link)?;
            linked.extend(found.map(|(id, _)| id).filter(|id| *id != row.note_id));
            Ok(())
        })?;
        let notes = snapshot.notes()?.into_iter();
        let orphans = notes.filter(|note| !linked.contains(&note.id)).map(|note| note.entity);
        Ok(orphans.take(limit.min(MAX_NOTES)).collect())
    }

    /// Up to `limit` names that links call and no note has, most called first, then by name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn unresolved(&self, limit: usize) -> Result<Vec<Unresolved>, IndexError> {
        let snapshot = self.database.snapshot()?;
        let mut missing: BTreeMap<String, Unresolved> = BTreeMap::new();
        let mut resolver = Resolver::new(&snapshot);
        snapshot.each_link(|row| {
            if resolver.resolve(&row.path, &row.link)?.is_none() {
                let target = row.link.target;
                let entry = missing.entry(target.clone()).or_insert_with(|| Unresolved {
                    target,
                    count: 0,
                    sources: Vec::new(),
                });
                entry.count += 1;
                if entry.sources.len() < MAX_SOURCES {
                    entry.sources.push(LinkSource {
                        path: String::from_utf8_lossy(&row.path).into_owned(),
                        line: row.link.line,
                    });
                }
            }
            Ok(())
        })?;
        let mut missing: Vec<Unresolved> = missing.into_values().collect();
        missing.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.target.cmp(&b.target)));
        missing.truncate(limit.min(MAX_NOTES));
        Ok(missing)
    }

    /// The `limit` notes below the folder `below` (everywhere if empty) that were changed last, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn recent(&self, below: &[u8], limit: usize) -> Result<Vec<Entity>, IndexError> {
        self.database.snapshot()?.recent(below, limit.min(MAX_NOTES))
    }

    /// All notes and their links or, of more than `limit` notes, those with the most links.
    ///
    /// # Errors
    /// When the database fails.
    pub fn graph(&self, limit: usize) -> Result<Graph, IndexError> {
        let snapshot = self.database.snapshot()?;
        let links = Links::of(&snapshot, None)?;
        let mut notes = snapshot.notes()?;
        let count = notes.len();
        notes.sort_by(|a, b| {
            let degree = |note: &NoteRow| links.degree(note.id);
            degree(b)
                .cmp(&degree(a))
                .then_with(|| a.entity.path_bytes.cmp(&b.entity.path_bytes))
        });
        notes.truncate(limit.min(MAX_NOTES));
        Ok(links.graph(notes, count))
    }

    /// The note at `path` and up to `limit` notes that are at most `depth` links away; `None` if there is no such note.
    ///
    /// # Errors
    /// When the database fails.
    pub fn graph_around(&self, path: &[u8], depth: u32, limit: usize) -> Result<Option<Graph>, IndexError> {
        let snapshot = self.database.snapshot()?;
        let Some(id) = snapshot.id_of(path)? else {
            return Ok(None);
        };
        let around = Around::walk(
            &snapshot,
            &mut Resolver::new(&snapshot),
            id,
            depth,
            limit.min(MAX_NOTES),
        )?;
        let mut notes = Vec::new();
        for id in std::iter::once(&id).chain(&around.ids) {
            notes.extend(snapshot.note(*id)?);
        }
        let links = Links::of(&snapshot, Some(&notes))?;
        let count = notes.len() + usize::from(around.has_more);
        Ok(Some(links.graph(notes, count)))
    }

    /// Runs a query in SQL that may only read, for some seconds, and answers its first `max_rows` rows.
    ///
    /// # Errors
    /// [`IndexError::Query`] for a query that is wrong, does anything but read, or takes too long.
    pub fn query(&self, sql: &str, max_rows: usize) -> Result<Table, IndexError> {
        self.database.query(sql, max_rows)
    }
}

fn detail(snapshot: &Snapshot<'_>, id: i64) -> Result<Option<EntityDetail>, IndexError> {
    let Some(row) = snapshot.note(id)? else {
        return Ok(None);
    };
    Ok(Some(EntityDetail {
        entity: row.entity,
        tags: snapshot.tags_of(id)?,
        properties: snapshot.properties_of(id)?,
        observations: snapshot.observations_of(id)?,
    }))
}

/// The notes around one, nearest first.
#[derive(Default)]
struct Around {
    ids: Vec<i64>,
    related: Vec<Related>,
    has_more: bool,
}

impl Around {
    fn walk(
        snapshot: &Snapshot<'_>,
        resolver: &mut Resolver<'_>,
        start: i64,
        depth: u32,
        limit: usize,
    ) -> Result<Self, IndexError> {
        let mut around = Self::default();
        let mut seen = HashSet::from([start]);
        let mut nearer = vec![start];
        for distance in 1..=depth.min(MAX_DEPTH) {
            let mut found = Vec::new();
            for id in std::mem::take(&mut nearer) {
                let Some(from) = snapshot.note(id)? else { continue };
                for step in steps(snapshot, resolver, &from)? {
                    if !seen.insert(step.id) {
                        continue;
                    }
                    if around.ids.len() >= limit {
                        around.has_more = true;
                        return Ok(around);
                    }
                    let Some(note) = snapshot.note(step.id)? else { continue };
                    around.ids.push(step.id);
                    found.push(step.id);
                    around.related.push(Related {
                        entity: note.entity,
                        distance,
                        via: from.entity.path.clone(),
                        relation: step.relation,
                        outbound: step.outbound,
                    });
                }
            }
            nearer = found;
        }
        Ok(around)
    }
}

/// The notes that `from` links to, in the order of its text, then those that link to it, by path.
fn steps(snapshot: &Snapshot<'_>, resolver: &mut Resolver<'_>, from: &NoteRow) -> Result<Vec<Step>, IndexError> {
    let mut steps = Vec::new();
    for row in snapshot.links_of(from.id)? {
        let found = resolver.resolve(&from.entity.path_bytes, &row)?;
        steps.extend(found.map(|(id, _)| Step {
            id,
            relation: relation(&row),
            outbound: true,
        }));
    }
    for row in resolver.inbound(from.id)? {
        steps.push(Step {
            id: row.note_id,
            relation: relation(&row.link),
            outbound: false,
        });
    }
    Ok(steps)
}

fn relation(row: &OutboundRow) -> String {
    row.relation.clone().unwrap_or_else(|| PLAIN_RELATION.to_owned())
}

/// Who links to whom, with the type of the link.
#[derive(Default)]
struct Links(BTreeMap<(i64, i64), Option<String>>, HashMap<i64, u64>);

impl Links {
    /// Of the whole index, or those between some notes.
    fn of(snapshot: &Snapshot<'_>, between: Option<&[NoteRow]>) -> Result<Self, IndexError> {
        let mut links = Self::default();
        let mut resolver = Resolver::new(snapshot);
        match between {
            None => snapshot.each_link(|row| {
                let found = resolver.resolve(&row.path, &row.link)?;
                links.add(row.note_id, found.map(|(id, _)| id), row.link.relation);
                Ok(())
            })?,
            Some(notes) => {
                let ids: HashSet<i64> = notes.iter().map(|note| note.id).collect();
                for note in notes {
                    for row in snapshot.links_of(note.id)? {
                        let found = resolver.resolve(&note.entity.path_bytes, &row)?;
                        let found = found.map(|(id, _)| id).filter(|id| ids.contains(id));
                        links.add(note.id, found, row.relation);
                    }
                }
            }
        }
        for (from, to) in links.0.keys() {
            // A pair that links both ways is one neighbour to each.
            if from < to || !links.0.contains_key(&(*to, *from)) {
                *links.1.entry(*from).or_default() += 1;
                *links.1.entry(*to).or_default() += 1;
            }
        }
        Ok(links)
    }

    fn add(&mut self, from: i64, to: Option<i64>, relation: Option<String>) {
        if let Some(to) = to.filter(|to| *to != from) {
            let known = self.0.entry((from, to)).or_default();
            if known.is_none() {
                *known = relation;
            }
        }
    }

    fn degree(&self, id: i64) -> u64 {
        self.1.get(&id).copied().unwrap_or_default()
    }

    /// The graph of these notes, of `count` that there are.
    fn graph(&self, mut notes: Vec<NoteRow>, count: usize) -> Graph {
        notes.sort_by(|a, b| a.entity.path_bytes.cmp(&b.entity.path_bytes));
        let places: HashMap<i64, usize> = notes.iter().enumerate().map(|(place, note)| (note.id, place)).collect();
        let edge = |((from, to), relation): (&(i64, i64), &Option<String>)| {
            Some(Edge {
                from: *places.get(from)?,
                to: *places.get(to)?,
                relation: relation.clone().unwrap_or_else(|| PLAIN_RELATION.to_owned()),
            })
        };
        let mut edges: Vec<Edge> = self.0.iter().filter_map(edge).collect();
        edges.sort_by_key(|edge| (edge.from, edge.to));
        let left_out = count.saturating_sub(notes.len()) as u64;
        let node = |note: NoteRow| Node {
            degree: self.degree(note.id),
            entity: note.entity,
        };
        Graph {
            nodes: notes.into_iter().map(node).collect(),
            edges,
            left_out,
        }
    }
}

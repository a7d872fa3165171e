//! One round: from what differs to changes that are offered to the folder, in an order in which each can take effect.
//!
//! Removals come first, then what came, moved or changed with the directories that it needs, then directories that are empty now.

use super::confirm::{Answer, chunks};
use super::diff::{Trace, pair_moves};
use super::listing::Differences;
use super::places::{Placed, Planned, place};
use super::{Look, readers};
use crate::error::Result;
use crate::litter::lies_in_litter;
use crate::push::resolve_key;
use crate::replica::{
    ANNOUNCED_MAX, DirectoryNews, FOREIGN, Offer, RemoteChange, RemoteChangeKind, Replica, Spot, Theirs, ToldDirectory,
};
use crate::state::{Inode, Remote};
use crate::store::{Listed, ObjectMetadata, PartialMetadata};
use crate::types::*;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A round under way.
pub(super) struct Round {
    pub(super) began: u64,
    /// More than can be announced one by one; then what nobody has cached is not asked about either.
    pub(super) storm: bool,
    /// New key -> the object that had it under another key.
    moves: HashMap<String, Remote>,
    planned: Planned,
}

impl Replica {
    /// Brings about what differs; what fails is found again by a later look.
    pub(super) async fn bring_about(self: &Arc<Self>, found: Differences, began: u64) -> Result<()> {
        let whole = found.pages > 0;
        let (made, done) = self.round(found, began).await;
        if whole || made.is_empty() {
            return done;
        }
        let looked = self.look_into(made).await;
        if looked.is_err() {
            self.puller.list_soon.store(true, Ordering::Release);
        }
        done.and(looked)
    }

    /// Answers the directories that are new, whatever became of the rest.
    pub(super) async fn round(self: &Arc<Self>, mut found: Differences, began: u64) -> (HashSet<Ino>, Result<()>) {
        let _round = self.puller.round.lock().await;
        let mut round = Round {
            began,
            storm: false,
            moves: HashMap::new(),
            planned: Planned::default(),
        };
        let done = self.work_through(&mut found, &mut round).await;
        (round.planned.made, done)
    }

    async fn work_through(self: &Arc<Self>, found: &mut Differences, round: &mut Round) -> Result<()> {
        let began = round.began;
        self.take_up_halves(found)?;
        self.leave_to_push(found)?;
        let mut failed = self.confirm_doubts(found, began).await;
        round.moves = self.find_moves(found)?;
        self.keep_halves_back(found, &round.moves)?;
        let count = found.looks.len() + found.vanished.len() + found.vanished_directories.len();
        round.storm = count > ANNOUNCED_MAX;
        if count > 0 {
            tracing::debug!(count, storm = round.storm, "Changes of the bucket are brought about");
        }
        let removals = self.removals(std::mem::take(&mut found.vanished), &found.origins, began)?;
        self.offer(removals, round.storm).await;
        let (directories, mut files): (Vec<Look>, Vec<Look>) = std::mem::take(&mut found.looks)
            .into_iter()
            .partition(|look| look.key.ends_with('/'));
        let offers = self.directory_offers(directories, round)?;
        self.offer(offers, round.storm).await;
        files.sort_by(|a, b| a.key.cmp(&b.key));
        for chunk in chunks(files) {
            let (answers, result) = self.confirm(chunk, began, round.storm).await;
            failed = failed.and(result);
            let offers = self.file_offers(answers, round)?;
            self.offer(offers, round.storm).await;
        }
        let offers = self.directory_removals(std::mem::take(&mut found.vanished_directories), began)?;
        self.offer(offers, round.storm).await;
        failed
    }

    /// What is changed here as well is the business of its push; what waits for a reader is on its way.
    fn leave_to_push(&self, found: &mut Differences) -> Result<()> {
        let mut looks = std::mem::take(&mut found.looks);
        for look in looks.drain(..) {
            let busy = self.view(|tables| {
                let Some(known) = tables.remote(&look.key)? else {
                    return Ok(false);
                };
                // A directory's attributes are the newer ones, whatever it owes; which those are, its version tells.
                if look.key.ends_with('/') && resolve_key(tables, &look.key)? == Some(known.ino) {
                    return Ok(false);
                }
                let awaited = look.info.is_some() && self.puller.readers.is_awaited(known.ino);
                Ok(awaited || tables.dirty.contains_key(&known.ino))
            })?;
            if !busy {
                found.looks.push(look);
            }
        }
        Ok(())
    }

    /// Turns what a feed says to be gone into what is surely gone or surely there.
    async fn confirm_doubts(self: &Arc<Self>, found: &mut Differences, began: u64) -> Result<()> {
        let (doubts, looks): (Vec<Look>, Vec<Look>) = std::mem::take(&mut found.looks)
            .into_iter()
            .partition(|look| look.info.is_none());
        found.looks = looks;
        let (directories, mut files): (Vec<Look>, Vec<Look>) =
            doubts.into_iter().partition(|look| look.key.ends_with('/'));
        let told: HashSet<String> = files.iter().map(|look| look.key.clone()).collect();
        let left = found.looks.iter().filter_map(|look| {
            let key = look.moved_from.clone().filter(|key| !told.contains(key))?;
            Some(Look::doubt(key, &look.origin))
        });
        files.extend(left);
        let (answers, mut failed) = self.confirm(files, began, false).await;
        for Answer { look, theirs } in answers {
            let known = self.view(|tables| tables.remote(&look.key))?;
            match (theirs, known) {
                (Some(theirs), _) => found.looks.push(Look {
                    info: Some(theirs.info),
                    ..look
                }),
                (None, Some(known)) => {
                    found.origins.insert(known.key.clone(), look.origin);
                    found.vanished.push(known);
                }
                (None, None) => {}
            }
        }
        for look in directories {
            match self.directory_stands(&look.key).await {
                Ok(true) => found.looks.push(look),
                Ok(false) => {
                    let known = self.view(|tables| tables.remote(&look.key))?;
                    found.vanished_directories.extend(known.map(|known| known.ino));
                }
                Err(error) => failed = Err(error),
            }
        }
        failed
    }

    fn find_moves(&self, found: &mut Differences) -> Result<HashMap<String, Remote>> {
        let (mut came, mut went) = (Vec::new(), Vec::new());
        for look in found.looks.iter().filter(|look| !look.key.ends_with('/')) {
            let Some(info) = &look.info else { continue };
            came.push(Trace {
                key: look.key.clone(),
                etag: info.etag.0.clone(),
                size: info.size,
                moved_from: look.moved_from.clone(),
            });
        }
        for row in &found.vanished {
            let size = self.view(|tables| Ok(tables.inode(row.ino)?.map_or(0, |inode| inode.size)))?;
            went.push(Trace {
                key: row.key.clone(),
                etag: row.etag.clone(),
                size,
                moved_from: None,
            });
        }
        let pairs = pair_moves(&came, &went);
        let gone: HashSet<&String> = pairs.values().collect();
        let (moved, vanished): (Vec<Remote>, Vec<Remote>) = std::mem::take(&mut found.vanished)
            .into_iter()
            .partition(|row| gone.contains(&row.key));
        found.vanished = vanished;
        let by_key: HashMap<String, Remote> = moved.into_iter().map(|row| (row.key.clone(), row)).collect();
        let moves = pairs
            .into_iter()
            .filter_map(|(to, from)| Some((to, by_key.get(&from)?.clone())));
        Ok(moves.collect())
    }

    fn removals(
        self: &Arc<Self>,
        vanished: Vec<Remote>,
        origins: &HashMap<String, String>,
        began: u64,
    ) -> Result<Vec<Offer>> {
        let mut offers = Vec::new();
        for row in vanished {
            let name = self.view(|tables| {
                if tables.dirty.contains_key(&row.ino) {
                    return Ok(None);
                }
                for name in tables.names_of(row.ino)? {
                    if tables.key_of(&name)?.is_ok_and(|key| key.as_str() == row.key) {
                        return Ok(Some(name));
                    }
                }
                Ok(None)
            })?;
            let Some(name) = name else { continue };
            if readers::waits_for_writers(self, row.ino, name.parent) {
                continue;
            }
            let origin = origins.get(&row.key).map_or(FOREIGN, String::as_str);
            let spot = Spot {
                parent: name.parent,
                name: name.name,
                segment: String::new(),
                ino: row.ino,
            };
            let effect = move |replica: &Replica| replica.effect_removed(&row, began);
            offers.push(offer(RemoteChangeKind::Removed, &spot, (false, origin), effect));
        }
        Ok(offers)
    }

    fn directory_removals(&self, mut inodes: Vec<Ino>, began: u64) -> Result<Vec<Offer>> {
        let mut offers = Vec::new();
        let key = |ino: Ino| {
            self.view(|tables| Ok(tables.directory_key(ino)?.key.len()))
                .unwrap_or(0)
        };
        inodes.sort_by_cached_key(|ino| std::cmp::Reverse(key(*ino)));
        for ino in inodes {
            let inode = self.view(|tables| tables.inode(ino))?;
            let Some(inode) = inode.filter(|inode| inode.is_dir() && inode.nlink > 0) else {
                continue;
            };
            let spot = Spot {
                parent: inode.parent,
                name: inode.text,
                segment: String::new(),
                ino,
            };
            let effect = move |replica: &Replica| replica.effect_directory_removed(ino, began);
            offers.push(offer(RemoteChangeKind::Removed, &spot, (true, FOREIGN), effect));
        }
        Ok(offers)
    }

    fn directory_offers(&self, looks: Vec<Look>, round: &mut Round) -> Result<Vec<Offer>> {
        let mut offers = Vec::new();
        for look in looks {
            let placed = self.view(|tables| place(tables, &mut round.planned, &look.key))?;
            let Placed::At { directories, spot } = placed else {
                continue;
            };
            offers.extend(directories.iter().map(|spot| made(spot, None, &look.origin)));
            let there = self.view(|tables| tables.inode(spot.ino))?;
            let meta = look.meta.as_ref().map(ObjectMetadata::decode);
            let told = meta.map(|meta| ToldDirectory::new(meta, look.version));
            match (there, told) {
                (None, told) => offers.push(made(&spot, told, &look.origin)),
                (Some(_), None) => {}
                (Some(inode), Some(told)) => offers.extend(self.attributes_offer(&look, spot, &inode, told)?),
            }
        }
        Ok(offers)
    }

    fn attributes_offer(&self, look: &Look, spot: Spot, inode: &Inode, told: ToldDirectory) -> Result<Option<Offer>> {
        match self.view(|tables| told.news(tables, inode))? {
            DirectoryNews::Nothing => Ok(None),
            // Nobody can see it.
            DirectoryNews::Version => self.effect_directory(&spot, Some(&told)).map(|_| None),
            DirectoryNews::Attributes => {
                let at = spot.clone();
                let effect = move |replica: &Replica| replica.effect_directory(&at, Some(&told));
                let is_from = (true, look.origin.as_str());
                Ok(Some(offer(RemoteChangeKind::Modified, &spot, is_from, effect)))
            }
        }
    }

    /// Whether metadata says something else than the inode has.
    pub(super) fn differs(&self, inode: &Inode, meta: &PartialMetadata) -> Result<bool> {
        let mut xattrs = self.view(|tables| tables.xattrs(inode.ino))?;
        let mut told = meta.xattrs.clone().unwrap_or_default();
        xattrs.sort();
        told.sort();
        let file = !inode.is_dir();
        Ok(meta.mode.is_some_and(|mode| mode != inode.mode)
            || meta.uid.is_some_and(|uid| uid != inode.uid)
            || meta.gid.is_some_and(|gid| gid != inode.gid)
            || (file && meta.mtime.is_some_and(|mtime| mtime != inode.mtime))
            || told != xattrs)
    }

    fn file_offers(self: &Arc<Self>, answers: Vec<Answer>, round: &mut Round) -> Result<Vec<Offer>> {
        let mut offers = Vec::new();
        for Answer { look, theirs } in answers {
            let known = self.view(|tables| tables.remote(&look.key))?;
            match (theirs, known) {
                (Some(theirs), _) if round.moves.contains_key(&look.key) => {
                    self.offer_move(&look, theirs, round, &mut offers)?;
                }
                (Some(theirs), None) => self.offer_new(&look, theirs, round, &mut offers)?,
                (Some(theirs), Some(known)) => self.offer_modified(&look, theirs, known, &mut offers)?,
                (None, Some(known)) => {
                    let origins = HashMap::from([(known.key.clone(), look.origin)]);
                    offers.extend(self.removals(vec![known], &origins, round.began)?);
                }
                (None, None) => {}
            }
        }
        Ok(offers)
    }

    fn offer_new(&self, look: &Look, theirs: Theirs, round: &mut Round, offers: &mut Vec<Offer>) -> Result<()> {
        match self.view(|tables| place(tables, &mut round.planned, &look.key))? {
            Placed::Unlisted => {}
            Placed::Strange => {
                let listed = Listed {
                    key: look.key.clone(),
                    object: Some(theirs.info),
                };
                self.adopt((ROOT_INO, ""), &listed, theirs.began, &mut HashSet::new())?;
                // What is kept here hides an object of its name only for as long as it is here.
                if !lies_in_litter(&look.key) {
                    self.puller.note_fruitless(&listed);
                }
            }
            Placed::At { directories, spot } => {
                offers.extend(directories.iter().map(|spot| made(spot, None, &look.origin)));
                let spot = Spot {
                    ino: self.linked(&theirs)?.unwrap_or(spot.ino),
                    ..spot
                };
                let at = spot.clone();
                let effect = move |replica: &Replica| replica.effect_created(&at, &theirs);
                offers.push(offer(RemoteChangeKind::Created, &spot, (false, &look.origin), effect));
            }
        }
        Ok(())
    }

    /// The file of which this object is one more name.
    fn linked(&self, theirs: &Theirs) -> Result<Option<Ino>> {
        let id = theirs.meta.as_ref().and_then(|meta| meta.link_id.as_deref());
        let Some(id) = id.and_then(|id| u64::from_str_radix(id, 16).ok()) else {
            return Ok(None);
        };
        self.view(|tables| match tables.linked_inode(id)? {
            Some(ino) => Ok(tables
                .inode(ino)?
                .filter(|inode| inode.nlink > 0)
                .map(|inode| inode.ino)),
            None => Ok(None),
        })
    }

    fn offer_move(
        self: &Arc<Self>,
        look: &Look,
        theirs: Theirs,
        round: &mut Round,
        offers: &mut Vec<Offer>,
    ) -> Result<()> {
        let Some(from) = round.moves.remove(&look.key) else {
            return Ok(());
        };
        let target = self.view(|tables| tables.remote(&look.key))?;
        let spot = match target {
            Some(target) => self.spot_of(&target)?,
            None => match self.view(|tables| place(tables, &mut round.planned, &look.key))? {
                Placed::At { directories, spot } => {
                    offers.extend(directories.iter().map(|spot| made(spot, None, &look.origin)));
                    Some(spot)
                }
                Placed::Unlisted | Placed::Strange => None,
            },
        };
        let (Some(spot), Some(old)) = (spot, self.spot_of(&from)?) else {
            let origins = HashMap::from([(from.key.clone(), look.origin.clone())]);
            offers.extend(self.removals(vec![from], &origins, round.began)?);
            return self.offer_new(look, theirs, round, offers);
        };
        let spot = Spot { ino: from.ino, ..spot };
        let kind = RemoteChangeKind::Moved {
            from_parent: old.parent,
            from_name: old.name,
        };
        let at = spot.clone();
        let effect = move |replica: &Replica| replica.effect_moved(&from, &at, &theirs);
        offers.push(offer(kind, &spot, (false, &look.origin), effect));
        Ok(())
    }

    /// The name that shows an object.
    pub(super) fn spot_of(&self, row: &Remote) -> Result<Option<Spot>> {
        self.view(|tables| {
            for name in tables.names_of(row.ino)? {
                if tables.key_of(&name)?.is_ok_and(|key| key.as_str() == row.key) {
                    let segment = row.key.rsplit('/').next().unwrap_or_default().to_owned();
                    return Ok(Some(Spot {
                        parent: name.parent,
                        name: name.name,
                        segment,
                        ino: row.ino,
                    }));
                }
            }
            Ok(None)
        })
    }

    fn offer_modified(
        self: &Arc<Self>,
        look: &Look,
        theirs: Theirs,
        known: Remote,
        offers: &mut Vec<Offer>,
    ) -> Result<()> {
        let (inode, owed) =
            self.view(|tables| Ok((tables.inode(known.ino)?, tables.dirty.contains_key(&known.ino))))?;
        let (Some(inode), false, Some(spot)) = (inode, owed, self.spot_of(&known)?) else {
            return Ok(());
        };
        let same_content = known.etag == theirs.info.etag.0;
        if same_content
            && !theirs
                .meta
                .as_ref()
                .map_or(Ok(false), |meta| self.differs(&inode, meta))?
        {
            return Ok(());
        }
        let kind = theirs.meta.as_ref().map(|meta| meta.kind.unwrap_or(FileKind::File));
        if kind.is_some_and(|kind| kind != inode.kind) && inode.known {
            // Another kind of file is another inode: it comes with the next look.
            let origins = HashMap::from([(known.key.clone(), look.origin.clone())]);
            offers.extend(self.removals(vec![known], &origins, theirs.began)?);
            self.puller.list_soon.store(true, Ordering::Release);
            return Ok(());
        }
        let ino = known.ino;
        if !same_content && readers::waits_for_writers(self, ino, spot.parent) {
            return Ok(());
        }
        let busy = !same_content && self.is_being_read(&inode, &theirs)?;
        let effect = move |replica: &Replica| replica.effect_modified(ino, &theirs);
        let offered = offer(RemoteChangeKind::Modified, &spot, (false, &look.origin), effect);
        if busy {
            readers::wait_and_offer(self, ino, offered);
        } else {
            offers.push(offered);
        }
        Ok(())
    }
}

pub(super) fn offer(
    kind: RemoteChangeKind,
    spot: &Spot,
    (is_dir, origin): (bool, &str),
    effect: impl FnOnce(&Replica) -> Result<Option<Attr>> + Send + 'static,
) -> Offer {
    let change = RemoteChange {
        id: 0,
        kind,
        parent: spot.parent,
        name: spot.name.clone(),
        ino: spot.ino,
        is_dir,
        origin: origin.to_owned(),
    };
    Offer {
        change,
        effect: Box::new(effect),
    }
}

fn made(spot: &Spot, told: Option<ToldDirectory>, origin: &str) -> Offer {
    let at = spot.clone();
    let effect = move |replica: &Replica| replica.effect_directory(&at, told.as_ref());
    offer(RemoteChangeKind::Created, spot, (true, origin), effect)
}

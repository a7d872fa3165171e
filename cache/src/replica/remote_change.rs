//! Changes of the bucket on their way into the folder: offered once what they need is local, made true once, by whoever comes first.
//!
//! With an [`Announcer`] each change is announced, and the front end makes it true within the request that raises a file event.
//! Without one, for storms, and for what the front end has not taken up in time, the replica makes it true itself and tells its
//! [`super::Observer`].
//!
//! Owns the offers, their deadline and their order. Does not own what a change does (its effect; see `replica/effect.rs`), nor how it was
//! learnt (`pull`).

use super::Replica;
use crate::error::Result;
use crate::types::*;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long the front end has to take up a change.
const TAKE_UP_DEADLINE_MS: u64 = 3_000;

/// How often overdue changes are looked for.
const OVERDUE_POLL_MS: u64 = 10;

/// What became of a name or an inode in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteChangeKind {
    /// A name that was not there.
    Created,
    /// Other content or metadata of the inode.
    Modified,
    /// The name is gone.
    Removed,
    /// The inode has another name now; it keeps its number.
    Moved {
        /// The directory that it leaves.
        from_parent: Ino,
        /// The name that it loses.
        from_name: Vec<u8>,
    },
}

/// What happened in the bucket, ready to take effect here: what it needs of content is local already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteChange {
    /// One-shot; what [`Replica::take_effect`] is asked with.
    pub id: u64,
    /// What happened.
    pub kind: RemoteChangeKind,
    /// The directory of the name; for a move, where it goes.
    pub parent: Ino,
    /// The name; for a move, the new one.
    pub name: Vec<u8>,
    /// The inode it concerns; for `Created`, the number that it will have.
    pub ino: Ino,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The writer's id, or [`FOREIGN`].
    pub origin: String,
}

/// The origin of changes that no notefs told of.
pub const FOREIGN: &str = "foreign";

/// The front end that makes pulled changes felt. Called without any lock held; must not block.
pub trait Announcer: Send + Sync + 'static {
    /// Is to call [`Replica::take_effect`] with the change's id soon, in the order of announcement; after a few seconds the replica does
    /// without.
    fn announce(&self, change: RemoteChange);
}

/// Makes the change true; local, short, and `None` where it does not apply any more. Answers the inode's attributes (of a removed one,
/// the last).
pub(crate) type Effect = Box<dyn FnOnce(&Replica) -> Result<Option<Attr>> + Send>;

/// A change and what it does; `change.id` is given by [`Replica::offer`].
pub(crate) struct Offer {
    pub(crate) change: RemoteChange,
    pub(crate) effect: Effect,
}

/// Changes that have been announced and wait to be taken up.
#[derive(Default)]
pub(super) struct RemoteChanges {
    announcer: RwLock<Option<Arc<dyn Announcer>>>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    newest_id: u64,
    offers: BTreeMap<u64, (Offer, u64)>,
}

impl Replica {
    /// Registers the front end that makes pulled changes felt; `None`: the replica makes them true by itself again.
    pub fn set_announcer(&self, announcer: Option<Arc<dyn Announcer>>) {
        *self.remote_changes.announcer.write() = announcer;
    }

    /// Makes a pulled change true in the folder, once, without telling the observer. `None`: it does not apply any more (somebody local was
    /// faster, or it took effect already).
    pub fn take_effect(&self, id: u64) -> Result<Option<Attr>> {
        let Some(offer) = self.take_offer(id) else {
            return Ok(None);
        };
        self.effect_parent_first(&offer.change)?;
        (offer.effect)(self)
    }

    /// Brings changes about, in their order: the front end's business, or (in a `storm`) our own. Returns when all have taken effect or were found
    /// not to apply any more.
    pub(crate) async fn offer(&self, offers: Vec<Offer>, storm: bool) {
        let announcer = self.remote_changes.announcer.read().clone();
        let announcer = announcer.filter(|_| !storm);
        let Some(announcer) = announcer else {
            for offer in offers {
                self.effect_alone(offer);
            }
            return;
        };
        let due_ms = self.now_ms() + TAKE_UP_DEADLINE_MS;
        let mut announced = Vec::with_capacity(offers.len());
        {
            let mut waiting = self.remote_changes.waiting.lock();
            for mut offer in offers {
                waiting.newest_id += 1;
                offer.change.id = waiting.newest_id;
                announced.push(offer.change.clone());
                waiting.offers.insert(offer.change.id, (offer, due_ms));
            }
        }
        let (first, last) = match (announced.first(), announced.last()) {
            (Some(first), Some(last)) => (first.id, last.id),
            _ => return,
        };
        announced.into_iter().for_each(|change| announcer.announce(change));
        while self.is_waiting(first, last) {
            self.effect_overdue();
            tokio::time::sleep(Duration::from_millis(OVERDUE_POLL_MS)).await;
        }
    }

    fn is_waiting(&self, first: u64, last: u64) -> bool {
        let waiting = self.remote_changes.waiting.lock();
        waiting.offers.range(first..=last).next().is_some()
    }

    fn effect_overdue(&self) {
        let now_ms = self.now_ms();
        let gone = self.remote_changes.announcer.read().is_none();
        loop {
            let overdue = {
                let waiting = self.remote_changes.waiting.lock();
                let mut all = waiting.offers.values();
                all.find(|(_, due_ms)| gone || *due_ms <= now_ms)
                    .map(|(offer, _)| offer.change.id)
            };
            let Some(offer) = overdue.and_then(|id| self.take_offer(id)) else {
                return;
            };
            self.effect_alone(offer);
        }
    }

    fn take_offer(&self, id: u64) -> Option<Offer> {
        self.remote_changes
            .waiting
            .lock()
            .offers
            .remove(&id)
            .map(|(offer, _)| offer)
    }

    /// What is to be made in a directory that is to be made: the directory comes first, whoever makes it.
    fn effect_parent_first(&self, change: &RemoteChange) -> Result<()> {
        let parent = {
            let waiting = self.remote_changes.waiting.lock();
            let mut all = waiting.offers.values();
            all.find(|(offer, _)| offer.change.ino == change.parent && offer.change.kind == RemoteChangeKind::Created)
                .map(|(offer, _)| offer.change.id)
        };
        if let Some(offer) = parent.and_then(|id| self.take_offer(id)) {
            self.effect_parent_first(&offer.change)?;
            self.effect_alone(offer);
        }
        Ok(())
    }

    fn effect_alone(&self, offer: Offer) {
        let change = offer.change;
        match (offer.effect)(self) {
            Ok(None) => {}
            Ok(Some(_)) => self.tell_of(&change),
            Err(error) => {
                let name = String::from_utf8_lossy(&change.name).into_owned();
                tracing::warn!(name, %error, "A change of the bucket could not be made true here; the next look finds it again");
            }
        }
    }

    fn tell_of(&self, change: &RemoteChange) {
        let Some(observer) = self.observer() else { return };
        match &change.kind {
            RemoteChangeKind::Created | RemoteChangeKind::Removed => {
                observer.entry_changed(change.parent, &change.name)
            }
            RemoteChangeKind::Modified => {}
            RemoteChangeKind::Moved { from_parent, from_name } => {
                observer.entry_changed(*from_parent, from_name);
                observer.entry_changed(change.parent, &change.name);
            }
        }
        if change.kind != RemoteChangeKind::Created {
            observer.inode_changed(change.ino);
        }
    }
}

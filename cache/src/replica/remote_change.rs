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

/// Changes that are announced at once; of more, none is. Each raises three events at most, and the kernel keeps 16,384 of them for a watcher
/// that does not read meanwhile (`fs.inotify.max_queued_events`).
pub const ANNOUNCED_MAX: usize = 5_000;

/// How long the front end may show no sign of life while no effect keeps it waiting. It gives up its own process in less, so this is for one
/// that is dead or stuck itself.
const TAKE_UP_PAUSE_MAX_MS: u64 = 10_000;

/// The same for one that was given up and has shown no sign of life since.
const GIVEN_UP_PAUSE_MAX_MS: u64 = 500;

/// How long it may take for all that was announced at once, however steadily it works.
const TAKE_UP_DEADLINE_MS: u64 = 600_000;

/// How long one that was taken up may take to be true, after anything was taken up last. It goes on by itself then, but nobody waits for it.
const EFFECT_DEADLINE_MS: u64 = 10_000;

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
    /// Is to call [`Replica::take_effect`] with the change's id soon, in the order of announcement; if it shows no sign of life for 10 s
    /// the replica does without.
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
    /// With when each was announced.
    offers: BTreeMap<u64, (Offer, u64)>,
    /// Those that were taken up and are not true yet, with when each was announced.
    under_way: BTreeMap<u64, u64>,
    /// When the front end has last shown a sign of life: it asked for a change, or one that it had taken up was done.
    alive_ms: u64,
    /// Others have made true what it did not take up, and it has asked for nothing since.
    given_up: bool,
}

/// A change that was taken up: when this is dropped it has taken effect, or was given up.
struct TakenUp<'r> {
    replica: &'r Replica,
    id: u64,
}

impl Drop for TakenUp<'_> {
    fn drop(&mut self) {
        let waiting = &self.replica.remote_changes.waiting;
        waiting.lock().under_way.remove(&self.id);
    }
}

impl Waiting {
    fn take_up(&mut self, id: u64) -> Option<Offer> {
        let (offer, announced_ms) = self.offers.remove(&id)?;
        self.under_way.insert(id, announced_ms);
        Some(offer)
    }

    /// Whether an effect takes longer than anybody waits for it.
    fn is_late(&self, announced_ms: u64, now_ms: u64) -> bool {
        now_ms >= self.alive_ms.max(announced_ms) + EFFECT_DEADLINE_MS
    }

    /// Whether some of these are neither true nor given up.
    fn is_awaited(&self, (first, last): (u64, u64), now_ms: u64) -> bool {
        let mut under_way = self.under_way.range(first..=last);
        self.offers.range(first..=last).next().is_some()
            || under_way.any(|(_, announced_ms)| !self.is_late(*announced_ms, now_ms))
    }

    /// One that the front end is not going to take up in time. While an effect is under way, it is that effect that takes its time.
    fn overdue(&self, now_ms: u64) -> Option<u64> {
        let mut under_way = self.under_way.values();
        let is_busy = under_way.any(|announced_ms| !self.is_late(*announced_ms, now_ms));
        let pause_max_ms = match self.given_up {
            true => GIVEN_UP_PAUSE_MAX_MS,
            false => TAKE_UP_PAUSE_MAX_MS,
        };
        let is_overdue = |announced_ms: u64| {
            let idle_since_ms = self.alive_ms.max(announced_ms);
            (!is_busy && now_ms >= idle_since_ms + pause_max_ms) || now_ms >= announced_ms + TAKE_UP_DEADLINE_MS
        };
        let mut all = self.offers.iter();
        all.find(|(_, (_, announced_ms))| is_overdue(*announced_ms))
            .map(|(id, _)| *id)
    }
}

impl Replica {
    /// Registers the front end that makes pulled changes felt; `None`: the replica makes them true by itself again.
    pub fn set_announcer(&self, announcer: Option<Arc<dyn Announcer>>) {
        *self.remote_changes.announcer.write() = announcer;
    }

    pub(crate) fn has_announcer(&self) -> bool {
        self.remote_changes.announcer.read().is_some()
    }

    /// Makes a pulled change true in the folder, once, without telling the observer. `None`: it does not apply any more (somebody local was
    /// faster, or it took effect already).
    pub fn take_effect(&self, id: u64) -> Result<Option<Attr>> {
        let taken = self.take_offer(id);
        self.note_sign_of_life();
        let Some((offer, taken_up)) = taken else {
            return Ok(None);
        };
        let effect = self
            .effect_parent_first(&offer.change)
            .and_then(|()| (offer.effect)(self));
        // Before it counts as done, so that at no moment the front end seems to be idle.
        self.note_sign_of_life();
        drop(taken_up);
        effect
    }

    fn note_sign_of_life(&self) {
        let now_ms = self.now_ms();
        let mut waiting = self.remote_changes.waiting.lock();
        waiting.alive_ms = waiting.alive_ms.max(now_ms);
        waiting.given_up = false;
    }

    /// Brings changes about, in their order: the front end's business, or (in a `storm`) our own. Returns when all have taken effect, were found
    /// not to apply any more, or take longer than is waited for.
    pub(crate) async fn offer(&self, offers: Vec<Offer>, storm: bool) {
        let announcer = self.remote_changes.announcer.read().clone();
        let announcer = announcer.filter(|_| !storm);
        let Some(announcer) = announcer else {
            for offer in offers {
                self.effect_alone(offer);
            }
            return;
        };
        let announced_ms = self.now_ms();
        let mut announced = Vec::with_capacity(offers.len());
        {
            let mut waiting = self.remote_changes.waiting.lock();
            for mut offer in offers {
                waiting.newest_id += 1;
                offer.change.id = waiting.newest_id;
                announced.push(offer.change.clone());
                waiting.offers.insert(offer.change.id, (offer, announced_ms));
            }
        }
        let (first, last) = match (announced.first(), announced.last()) {
            (Some(first), Some(last)) => (first.id, last.id),
            _ => return,
        };
        announced.into_iter().for_each(|change| announcer.announce(change));
        while self.is_awaited((first, last)) {
            self.effect_overdue();
            tokio::time::sleep(Duration::from_millis(OVERDUE_POLL_MS)).await;
        }
    }

    fn is_awaited(&self, ids: (u64, u64)) -> bool {
        let now_ms = self.now_ms();
        self.remote_changes.waiting.lock().is_awaited(ids, now_ms)
    }

    fn effect_overdue(&self) {
        let now_ms = self.now_ms();
        let gone = self.remote_changes.announcer.read().is_none();
        loop {
            let overdue = {
                let mut waiting = self.remote_changes.waiting.lock();
                let overdue = waiting.overdue(now_ms);
                waiting.given_up |= overdue.is_some();
                let first = || waiting.offers.keys().next().copied();
                if gone { first() } else { overdue }
            };
            let Some((offer, _taken_up)) = overdue.and_then(|id| self.take_offer(id)) else {
                return;
            };
            self.effect_alone(offer);
        }
    }

    fn take_offer(&self, id: u64) -> Option<(Offer, TakenUp<'_>)> {
        let offer = self.remote_changes.waiting.lock().take_up(id)?;
        Some((offer, TakenUp { replica: self, id }))
    }

    /// What is to be made in a directory that is to be made: the directory comes first, whoever makes it.
    fn effect_parent_first(&self, change: &RemoteChange) -> Result<()> {
        let parent = {
            let waiting = self.remote_changes.waiting.lock();
            let mut all = waiting.offers.values();
            all.find(|(offer, _)| offer.change.ino == change.parent && offer.change.kind == RemoteChangeKind::Created)
                .map(|(offer, _)| offer.change.id)
        };
        if let Some((offer, _taken_up)) = parent.and_then(|id| self.take_offer(id)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(at_ms: &[u64]) -> Waiting {
        let mut waiting = Waiting::default();
        for (id, at_ms) in (1..).zip(at_ms) {
            let change = RemoteChange {
                id,
                kind: RemoteChangeKind::Removed,
                parent: ROOT_INO,
                name: b"a".to_vec(),
                ino: 7,
                is_dir: false,
                origin: FOREIGN.to_owned(),
            };
            let effect: Effect = Box::new(|_| Ok(None));
            waiting.offers.insert(id, (Offer { change, effect }, *at_ms));
        }
        waiting
    }

    #[test]
    fn who_takes_up_one_after_the_other_has_time_for_all_but_not_for_ever() {
        let mut waiting = announced(&[1_000, 2_000]);
        assert_eq!(waiting.overdue(10_999), None);
        assert_eq!(waiting.overdue(11_000), Some(1), "nothing is taken up");
        waiting.alive_ms = 10_900;
        assert_eq!(waiting.overdue(20_899), None, "one was taken up");
        assert_eq!(waiting.overdue(20_900), Some(1));
        waiting.alive_ms = 600_999;
        assert_eq!(waiting.overdue(600_999), None, "it works steadily");
        assert_eq!(waiting.overdue(601_000), Some(1), "it takes too long altogether");
        waiting.offers.remove(&1);
        assert_eq!(waiting.overdue(601_000), None);
        assert_eq!(announced(&[]).overdue(u64::MAX), None);
    }

    #[test]
    fn an_effect_that_takes_its_time_is_not_held_against_the_front_end() {
        let mut waiting = announced(&[1_000, 1_000]);
        assert!(waiting.take_up(1).is_some());
        waiting.alive_ms = 1_000;
        assert_eq!(waiting.overdue(10_999), None);
        assert_eq!(waiting.overdue(11_000), Some(2), "nobody waits longer for an effect");
        waiting.alive_ms = 10_000;
        assert_eq!(waiting.overdue(19_999), None);
    }

    #[test]
    fn a_front_end_that_was_given_up_is_waited_for_only_a_moment() {
        let mut waiting = announced(&[1_000]);
        waiting.given_up = true;
        assert_eq!(waiting.overdue(1_499), None);
        assert_eq!(waiting.overdue(1_500), Some(1));
    }

    #[test]
    fn what_was_taken_up_is_waited_for_until_it_is_true_but_not_for_ever() {
        let mut waiting = announced(&[1_000, 1_000]);
        let both = (1, 2);
        assert!(waiting.take_up(1).is_some() && waiting.take_up(1).is_none());
        assert!(waiting.is_awaited(both, u64::MAX), "one was not taken up");
        waiting.alive_ms = 2_000;
        assert!(waiting.take_up(2).is_some());
        assert!(waiting.is_awaited(both, 11_999) && !waiting.is_awaited(both, 12_000));
        waiting.under_way.remove(&1);
        assert!(waiting.is_awaited(both, 2_000) && !waiting.is_awaited((1, 1), 2_000));
        waiting.under_way.remove(&2);
        assert!(!waiting.is_awaited(both, 2_000));
    }
}

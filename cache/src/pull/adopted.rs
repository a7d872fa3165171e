//! What a program's own request finds to be changed or gone in the bucket. It is true at once, since the program waits for it; so it has no event of its
//! own, and its folder is touched. Afterwards it is offered like any other change, for its event: what it would do is done.
//!
//! Owns that offer. Does not own the adoption (`replica/fetch.rs`), nor how a name that is gone already is removed for the watchers' sake (the
//! front end's).

use super::propose::offer;
use crate::error::{Need, Result};
use crate::replica::{FOREIGN, INLINE_BYTES_MAX, Offer, RemoteChangeKind, Replica, Spot};
use crate::state::{Inode, Place, Remote};
use crate::store::ObjectInfo;
use crate::types::Attr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Adopted changes that wait to be felt; of more, only the folders are touched.
const WAITING_MAX: usize = 64;

/// Room for those that wait.
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(WAITING_MAX)))
    }
}

impl Replica {
    /// Has an object that was adopted felt, soon.
    pub(crate) fn feel_adopted(self: Arc<Self>, known: &Remote, info: &ObjectInfo) {
        let Some(room) = self.room_to_feel() else {
            return;
        };
        let write_id = info.user.as_ref().and_then(|user| user.write_id());
        if let Some(write_id) = write_id {
            self.note_writer(write_id);
        }
        let writer = write_id.and_then(|id| id.split('.').next()).unwrap_or(FOREIGN);
        let (key, etag, origin) = (known.key.clone(), info.etag.0.clone(), writer.to_owned());
        self.runtime.clone().spawn(async move {
            let _room = room;
            if let Err(error) = self.offer_adopted(&key, &etag, &origin).await {
                tracing::debug!(key, %error, "A change that a request has found has no event of its own");
            }
        });
    }

    /// Room for one more, if there is somebody who makes it felt.
    fn room_to_feel(&self) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.puller.adopted.0).try_acquire_owned();
        room.ok().filter(|_| self.has_announcer())
    }

    /// The name that shows an object, and what is there.
    pub(crate) fn shown(&self, known: &Remote) -> Result<Option<(Spot, Attr)>> {
        let Some(spot) = self.spot_of(known)? else {
            return Ok(None);
        };
        let inode = self.view(|tables| tables.inode(spot.ino))?;
        Ok(inode.map(|inode| (spot, inode.attr())))
    }

    /// Has the loss of a name felt, soon, if it was lost.
    pub(crate) fn feel_vanished(self: Arc<Self>, (spot, attr): (Spot, Attr)) {
        let Some(room) = self.room_to_feel() else {
            return;
        };
        let (parent, name) = (spot.parent, spot.name.clone());
        let effect = move |replica: &Replica| {
            let there = replica.view(|tables| tables.dentry(parent, &name))?;
            Ok(there.is_none().then_some(attr))
        };
        let change: Offer = offer(RemoteChangeKind::Removed, &spot, (false, FOREIGN), effect);
        self.runtime.clone().spawn(async move {
            let _room = room;
            match self.view(|tables| tables.dentry(spot.parent, &spot.name)) {
                Ok(None) => self.offer(vec![change], false).await,
                Ok(Some(_)) => {}
                Err(error) => tracing::debug!(%error, "A loss that a request has found has no event of its own"),
            }
        });
    }

    async fn offer_adopted(&self, key: &str, etag: &str, origin: &str) -> Result<()> {
        let Some((row, inode)) = self.adopted(key, etag)? else {
            return Ok(());
        };
        if !inode.known {
            self.satisfy(Need::Metadata(row.ino)).await?;
        }
        if inode.place == Place::Nowhere && (1..=INLINE_BYTES_MAX).contains(&inode.size) {
            let content = Need::Content {
                ino: row.ino,
                offset: 0,
                length_bytes: inode.size,
            };
            self.satisfy(content).await?;
        }
        let (Some((row, inode)), Some(spot)) = (self.adopted(key, etag)?, self.spot_of(&row)?) else {
            return Ok(());
        };
        let (ino, version) = (row.ino, inode.content_version);
        let effect = move |replica: &Replica| {
            let now = replica.view(|tables| tables.inode(ino))?;
            Ok(now.filter(|now| now.content_version == version).map(|now| now.attr()))
        };
        let change = offer(RemoteChangeKind::Modified, &spot, (false, origin), effect);
        self.offer(vec![change], false).await;
        Ok(())
    }

    /// The file that has this version of an object, if it is still so.
    fn adopted(&self, key: &str, etag: &str) -> Result<Option<(Remote, Inode)>> {
        self.view(|tables| {
            let Some(row) = tables.remote(key)?.filter(|row| row.etag == etag) else {
                return Ok(None);
            };
            Ok(tables.inode(row.ino)?.map(|inode| (row, inode)))
        })
    }
}

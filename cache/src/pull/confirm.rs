//! Asking the bucket about each key that a look has named: its answer, and only that, takes effect.
//!
//! Content comes along where somebody is likely to read it: what was cached before, and notes.

use super::Look;
use crate::error::{Error, Result};
use crate::pin::NOTE_BYTES_MAX;
use crate::replica::{FOREIGN, Replica, Theirs};
use crate::state::Place;
use crate::store::{ObjectInfo, ObjectKey, ObjectMetadata, StoreResult};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What was cached is fetched anew up to this size; beyond, it is fetched when it is read.
const FETCHED_BYTES_MAX: u64 = 8 << 20;

/// Keys asked about, and changes offered, at a time; and their content.
const CHUNK_KEYS_MAX: usize = 256;
const CHUNK_BYTES_MAX: u64 = 32 << 20;

/// Requests at a time.
const CONCURRENT_MAX: usize = 16;

/// What the bucket says about a look.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) look: Look,
    /// `None`: surely not there.
    pub(super) theirs: Option<Theirs>,
}

/// How much to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The listing has said enough.
    Nothing,
    Metadata,
    Content,
}

/// Decides by the size if it is known, whether the file is a note that is pinned, whether its old content is here, and whether there are
/// very many of them.
pub(super) fn ask(size: Option<u64>, note: bool, cached: bool, storm: bool) -> Ask {
    match size {
        Some(0) | None => Ask::Metadata,
        Some(size) if note && size <= NOTE_BYTES_MAX => Ask::Content,
        Some(size) if cached && size <= FETCHED_BYTES_MAX => Ask::Content,
        Some(_) if storm => Ask::Nothing,
        Some(_) => Ask::Metadata,
    }
}

impl Replica {
    /// Asks about all of `looks`. A failure is one of all, after the rest has been answered.
    pub(super) async fn confirm(
        self: &Arc<Self>,
        looks: Vec<Look>,
        began: u64,
        storm: bool,
    ) -> (Vec<Answer>, Result<()>) {
        let limit = Arc::new(tokio::sync::Semaphore::new(CONCURRENT_MAX));
        let mut tasks = tokio::task::JoinSet::new();
        for look in looks {
            let (replica, limit) = (Arc::clone(self), Arc::clone(&limit));
            tasks.spawn_on(
                async move {
                    let _permit = limit.acquire().await;
                    let theirs = replica.confirm_one(&look, began, storm).await?;
                    Ok(Answer { look, theirs })
                },
                &self.runtime,
            );
        }
        let (mut answers, mut failed) = (Vec::new(), Ok(()));
        while let Some(done) = tasks.join_next().await {
            match done.unwrap_or(Err(Error::Posix(libc::EIO))) {
                Ok(answer) => answers.push(answer),
                Err(error) => failed = Err(error),
            }
        }
        answers.sort_by(|a, b| a.look.key.cmp(&b.look.key));
        (answers, failed)
    }

    async fn confirm_one(&self, look: &Look, began: u64, storm: bool) -> Result<Option<Theirs>> {
        let Ok(key) = ObjectKey::parse(&look.key) else {
            return Ok(None);
        };
        let cached = self.view(|tables| {
            let Some(known) = tables.remote(&look.key)? else {
                return Ok(false);
            };
            Ok(tables
                .inode(known.ino)?
                .is_some_and(|inode| inode.place != Place::Nowhere))
        })?;
        let size = look.info.as_ref().map(|info| info.size);
        let note = self.pins.policy().covers(look.key.as_bytes(), size.unwrap_or(0));
        let wanted = ask(size, note, cached, storm);
        let (mut info, bytes) = match (wanted, &look.info) {
            (Ask::Nothing, Some(info)) => (info.clone(), None),
            (Ask::Content, _) => match self.asked(self.store.get(&key, None, None).await)? {
                Some(object) => (object.info, Some(object.bytes)),
                None => return Ok(None),
            },
            _ => match self.asked(self.store.head(&key).await)? {
                Some(info) => (info, None),
                None => return Ok(None),
            },
        };
        let user = info.user.take();
        let bears = user.as_ref().is_some_and(|user| !user.is_empty());
        if bears && !self.bears_metadata() {
            self.note_bearing()?;
        }
        let meta = match user {
            Some(user) => Some(self.complete(&key, &info.etag, ObjectMetadata::decode(&user)).await?),
            None => None,
        };
        if look.origin == FOREIGN {
            // What notefs writes bears a write id.
            match meta.as_ref().and_then(|meta| meta.write_id.as_deref()) {
                Some(write_id) => self.note_writer(write_id),
                None => self.puller.others_ms.store(self.now_ms(), Ordering::Release),
            }
        }
        Ok(Some(theirs(look, info, meta, bytes, began)))
    }

    pub(super) fn asked<T>(&self, answer: StoreResult<T>) -> Result<T> {
        self.note_health(&answer);
        Ok(answer?)
    }

    /// Whether anything is in a directory of the bucket, or its marker stands.
    pub(super) async fn directory_stands(&self, key: &str) -> Result<bool> {
        // Opening it asks nothing yet.
        let mut lister = self.store.list(key, false).await?;
        let page = self.asked(lister.next_page().await)?;
        Ok(page.is_some_and(|page| !page.is_empty()))
    }
}

/// Parts of bounded size.
pub(super) fn chunks(looks: Vec<Look>) -> Vec<Vec<Look>> {
    let (mut chunks, mut bytes) = (vec![Vec::new()], 0);
    for look in looks {
        let size = look.info.as_ref().map_or(0, |info| info.size.min(CHUNK_BYTES_MAX));
        let full =
            |chunk: &Vec<Look>| !chunk.is_empty() && (chunk.len() >= CHUNK_KEYS_MAX || bytes + size > CHUNK_BYTES_MAX);
        if chunks.last().is_some_and(full) {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(look);
        }
    }
    chunks
}

fn theirs(
    look: &Look,
    info: ObjectInfo,
    meta: Option<crate::store::PartialMetadata>,
    bytes: Option<Bytes>,
    began: u64,
) -> Theirs {
    Theirs {
        key: look.key.clone(),
        info,
        meta,
        bytes,
        began,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_what_was_cached_are_fetched_and_the_rest_is_described() {
        assert_eq!(ask(Some(10), true, false, true), Ask::Content);
        assert_eq!(ask(Some(NOTE_BYTES_MAX + 1), true, false, false), Ask::Metadata);
        assert_eq!(ask(Some(10), false, true, false), Ask::Content);
        assert_eq!(ask(Some(10), false, false, false), Ask::Metadata);
        assert_eq!(ask(Some(10), false, false, true), Ask::Nothing);
        assert_eq!(ask(Some(FETCHED_BYTES_MAX + 1), false, true, false), Ask::Metadata);
        assert_eq!(ask(Some(0), true, true, false), Ask::Metadata);
        assert_eq!(ask(None, true, true, false), Ask::Metadata);
    }
}

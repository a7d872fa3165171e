//! An object of this writer's own that is to be written anew whenever something has changed: the hint object, the feed.
//!
//! It is owed until the store has answered, not until somebody has begun to write it: who asks in the meantime waits for that write, so
//! nobody takes one that is still under way for stored. Owns the count and whose turn it is. Does not own what is written, or when.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, MutexGuard};

/// What is owed, and what of it is stored.
#[derive(Default)]
pub(crate) struct OwedObject {
    /// Grows with each change.
    owed: AtomicU64,
    /// How far the object that the store has acknowledged goes.
    stored: AtomicU64,
    writing: Mutex<()>,
}

/// One write under way: everything owed before it began is in it.
pub(crate) struct OwedWrite<'o> {
    object: &'o OwedObject,
    upto: u64,
    _writing: MutexGuard<'o, ()>,
}

impl OwedObject {
    /// Something has changed.
    pub(crate) fn owe(&self) {
        self.owed.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the store has not acknowledged everything.
    pub(crate) fn is_owed(&self) -> bool {
        self.owed.load(Ordering::Acquire) > self.stored.load(Ordering::Acquire)
    }

    /// Begins a write, after one that is under way; `None` if nothing is owed then.
    pub(crate) async fn begin(&self) -> Option<OwedWrite<'_>> {
        if !self.is_owed() {
            return None;
        }
        let writing = self.writing.lock().await;
        let upto = self.owed.load(Ordering::Acquire);
        (upto > self.stored.load(Ordering::Acquire)).then_some(OwedWrite {
            object: self,
            upto,
            _writing: writing,
        })
    }
}

impl OwedWrite<'_> {
    /// The store has acknowledged it. Without this, everything is still owed.
    pub(crate) fn stored(self) {
        self.object.stored.fetch_max(self.upto, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_owed_until_it_is_stored() {
        let object = OwedObject::default();
        assert!(!object.is_owed() && object.begin().await.is_none());
        object.owe();
        let failed = object.begin().await;
        assert!(failed.is_some() && object.is_owed(), "it is under way");
        drop(failed);
        let write = object.begin().await.expect("a write that failed is owed still");
        object.owe();
        write.stored();
        assert!(object.is_owed(), "this change came after the write had begun");
        object.begin().await.expect("owed").stored();
        assert!(!object.is_owed());
    }

    #[tokio::test]
    async fn who_comes_second_waits_for_the_first() {
        let object = OwedObject::default();
        object.owe();
        let first = object.begin().await.expect("owed");
        let second = object.begin();
        tokio::pin!(second);
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), &mut second).await;
        assert!(early.is_err(), "it must not answer while the first write is under way");
        first.stored();
        assert!(second.await.is_none(), "the first write had everything");
    }
}

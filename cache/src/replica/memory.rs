//! The memory that a replica sizes itself for: what it keeps, and how many bytes of content are on their way at once.
//!
//! Owns the split. What it cannot bound: the ledger of what is owed, and a listing of the bucket while it is compared.

use super::Replica;
use crate::error::Result;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Content on its way at once, where nobody bounds it.
const TRANSFER_KIB_MAX: u32 = 192 << 10;

/// Content on its way that a mount of little memory may hold all the same.
const TRANSFER_KIB_MIN: u32 = 8 << 10;

/// How the memory is split: this part of it for content on its way, and as much for what is kept. The rest is for the index and the program.
const SHARE: u64 = 3;

/// Turns for content to be on its way, in KiB.
pub(crate) struct Transfers {
    free: Semaphore,
    total_kib: std::sync::atomic::AtomicU32,
}

impl Default for Transfers {
    fn default() -> Transfers {
        Transfers {
            free: Semaphore::new(TRANSFER_KIB_MAX as usize),
            total_kib: TRANSFER_KIB_MAX.into(),
        }
    }
}

impl Transfers {
    /// Waits until so much content may be on its way, until the answer is dropped. What is larger than all there is takes all of it.
    /// Nobody may wait here while holding another turn.
    pub(crate) async fn turn(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let total = self.total_kib.load(std::sync::atomic::Ordering::Acquire);
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(total);
        // It is never closed.
        self.free.acquire_many(kib).await.ok()
    }

    fn limit(&self, kib: u32) {
        let before = self.total_kib.swap(kib, std::sync::atomic::Ordering::AcqRel);
        self.free.forget_permits(before.saturating_sub(kib) as usize);
    }
}

impl Replica {
    /// Sizes the replica for so much memory; to be called once, before [`Replica::start`].
    pub fn set_memory(&self, bytes: u64) -> Result<()> {
        let share = bytes / SHARE;
        let kib = u32::try_from(share / 1024).unwrap_or(u32::MAX);
        self.transfers.limit(kib.clamp(TRANSFER_KIB_MIN, TRANSFER_KIB_MAX));
        self.state.lock().limit_memory(share)
    }

    /// Bounds the requests to the store, on average; what programs wait for goes first.
    pub fn set_requests_per_second(&self, requests_per_second: u32) {
        self.store.set_pace(requests_per_second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_on_its_way_than_may() {
        let transfers = Transfers::default();
        transfers.limit(TRANSFER_KIB_MIN);
        let large = transfers.turn(u64::MAX).await.unwrap();
        assert_eq!(large.num_permits(), TRANSFER_KIB_MIN as usize);
        assert_eq!(transfers.free.available_permits(), 0);
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), transfers.turn(1)).await;
        assert!(waiting.is_err(), "a second transfer did not wait");
        drop(large);
        assert_eq!(transfers.turn(1 << 20).await.unwrap().num_permits(), 1025);
    }
}

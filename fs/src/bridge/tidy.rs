//! Gives memory back after much has been indexed or stored at once.
//!
//! Owns when: as soon as there is nothing to index, and once more when all of it is stored. Does not own what is kept
//! on purpose (the caches of `notefs_cache` and `notefs_indexer`).

use notefs_cache::Replica;
use notefs_indexer::Index;

/// After fewer notes than this there is nothing worth to be given back.
const NOTES_MIN: u64 = 1_000;

/// Heaps of the allocator.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS_MAX: libc::c_int = 2;

/// Niceness of the index thread.
const INDEX_NICENESS: libc::c_int = 10;

/// Buffers from this size on get pages of their own, which go back to the system with them. (Left alone, the allocator
/// takes even the 16 MiB buffers of the FUSE threads from a heap, and then they cost memory before they are used.)
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_PAGES_MIN_BYTES: libc::c_int = 4 << 20;

/// What was done since memory was last given back.
#[derive(Debug, Default)]
pub(super) struct Tidy {
    notes: u64,
    is_storing: bool,
}

impl Tidy {
    /// Counts notes that were indexed.
    pub(super) fn add(&mut self, notes: usize) {
        self.notes += notes as u64;
    }

    /// To be called while there is nothing to index.
    pub(super) fn idle(&mut self, replica: &Replica, index: &Index) {
        if self.notes >= NOTES_MIN {
            *self = Tidy {
                notes: 0,
                is_storing: true,
            };
            if let Err(error) = index.relax() {
                tracing::debug!("The index keeps its memory: {error}");
            }
            give_back();
        } else if self.is_storing && replica.owed_paths(1).is_ok_and(|owed| owed.is_empty()) {
            self.is_storing = false;
            give_back();
        }
    }
}

/// Lets threads share few heaps, since what one heap has free no other can use, and keeps large buffers out of them.
/// To be called before threads start.
pub(crate) fn limit_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets numbers of the allocator; no memory is touched.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS_MAX);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_MIN_BYTES);
    }
}

/// Lets the threads that programs wait for go first; for the calling thread only.
pub(super) fn stand_back() {
    #[cfg(target_os = "linux")]
    // SAFETY: it sets a number of the calling thread; no memory is touched.
    let changed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, INDEX_NICENESS) };
    #[cfg(target_os = "linux")]
    if changed != 0 {
        tracing::debug!("The index thread keeps its priority");
    }
}

/// Gives free memory back to the system.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it releases only what is free, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

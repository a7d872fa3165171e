//! One request for many who want the same: whoever comes second waits for the first and looks again.

use crate::types::Ino;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};

/// What is under way: at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Flight {
    Listing(Ino),
    Metadata(Ino),
    Content(Ino),
}

/// Files whose reading pace is remembered.
const PACES_MAX: usize = 1024;

/// The first fetch of a large file, and the longest one after it was read on and on.
const WINDOW_BYTES_MIN: u64 = 1 << 20;
const WINDOW_BYTES_MAX: u64 = 8 << 20;

pub(super) struct Flights {
    under_way: Mutex<HashMap<Flight, Weak<tokio::sync::Mutex<()>>>>,
    /// Where the next sequential read of a file would miss, and how much was fetched before it.
    paces: Mutex<LruCache<Ino, (u64, u64)>>,
}

impl Default for Flights {
    fn default() -> Flights {
        let paces = LruCache::new(NonZeroUsize::new(PACES_MAX).unwrap_or(NonZeroUsize::MIN));
        Flights {
            under_way: Mutex::default(),
            paces: Mutex::new(paces),
        }
    }
}

impl Flights {
    /// Waits for the same flight to land, then holds it.
    pub(super) async fn board(&self, flight: Flight) -> tokio::sync::OwnedMutexGuard<()> {
        let seat = {
            let mut under_way = self.under_way.lock();
            under_way.retain(|_, seat| seat.strong_count() > 0);
            match under_way.get(&flight).and_then(Weak::upgrade) {
                Some(seat) => seat,
                None => {
                    let seat = Arc::new(tokio::sync::Mutex::new(()));
                    under_way.insert(flight, Arc::downgrade(&seat));
                    seat
                }
            }
        };
        seat.lock_owned().await
    }

    /// How much to fetch at a miss: more each time while a file is read from front to back.
    pub(super) fn window(&self, ino: Ino, offset: u64) -> u64 {
        let mut paces = self.paces.lock();
        let window = match paces.get(&ino) {
            Some((next, last)) if *next == offset => (last * 2).min(WINDOW_BYTES_MAX),
            _ => WINDOW_BYTES_MIN,
        };
        paces.put(ino, (offset + window, window));
        window
    }
}

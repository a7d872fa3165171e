//! Exclusive use of keys while the store works on them: nobody else plans for a key whose outcome is open.

use crate::error::Result;
use crate::replica::Replica;
use crate::state::Tables;
use crate::store::unescape_segment;
use crate::types::{Ino, ROOT_INO};
use std::sync::Arc;

/// Keys held; given back when dropped.
pub(super) struct KeyGuard {
    replica: Arc<Replica>,
    keys: Vec<String>,
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let mut in_flight = self.replica.pusher.in_flight.lock();
        for key in &self.keys {
            in_flight.keys.remove(key);
        }
    }
}

impl Replica {
    /// Takes all of `keys`, or none.
    pub(super) fn hold_keys(self: &Arc<Self>, keys: Vec<String>) -> Option<KeyGuard> {
        let mut in_flight = self.pusher.in_flight.lock();
        if keys.iter().any(|key| in_flight.keys.contains(key)) {
            return None;
        }
        in_flight.keys.extend(keys.iter().cloned());
        drop(in_flight);
        Some(KeyGuard {
            replica: Arc::clone(self),
            keys,
        })
    }
}

/// The inode whose name has this key by the ordinary mapping, if there is one.
pub(crate) fn resolve_key(tables: &mut Tables, key: &str) -> Result<Option<Ino>> {
    let mut at = ROOT_INO;
    for segment in key.trim_end_matches('/').split('/') {
        let name = unescape_segment(segment);
        match tables.dentry(at, &name)? {
            Some(dentry) if dentry.segment.is_none() || dentry.segment.as_deref() == Some(segment) => at = dentry.ino,
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Whether another file has the name of this key now: what others change there is for that one to bring together.
pub(crate) fn is_replaced(tables: &mut Tables, ino: Ino, key: &str) -> Result<bool> {
    Ok(resolve_key(tables, key)?.is_some_and(|other| other != ino))
}

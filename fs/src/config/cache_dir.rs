//! Where a store's cache is unless `--cache` says otherwise.
//!
//! Owns the name of its folder, which must stay the same across releases. Does not own the folder.

use super::Places;
use crate::failure::Failure;
use std::path::PathBuf;

/// The readable part of a default cache folder's name is cut to this.
const READABLE_NAME_MAX_BYTES: usize = 48;

/// Below the state folder, not the cache folder: edits that are not stored live there, and cleaners must not take them.
pub(super) fn default_cache_dir(places: &Places, store: &str) -> Result<PathBuf, Failure> {
    let state = places.below_home(&places.state_home, ".local/state", "--cache")?;
    Ok(state
        .join("notefs")
        .join(format!("{}-{:08x}", readable_name(store), short_hash(store))))
}

/// The part of a store's URL that people recognise, made of harmless characters.
fn readable_name(store: &str) -> String {
    let name = store.split_once("://").map_or(store, |(_, rest)| rest);
    let name = name.split('?').next().unwrap_or(name);
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
            c
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(safe).collect();
    let name = &name[name.len().saturating_sub(READABLE_NAME_MAX_BYTES)..];
    match name.trim_matches(['-', '.']) {
        "" => "store".to_owned(),
        name => name.to_owned(),
    }
}

/// FNV-1a folded to 32 bits: stable across releases, as the names of cache folders must be.
pub(super) fn short_hash(text: &str) -> u32 {
    let hash = long_hash(text.as_bytes());
    (hash >> 32) as u32 ^ hash as u32
}

/// FNV-1a.
pub(crate) fn long_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

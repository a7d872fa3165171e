//! Pins as they travel over the control socket and stand in the JSON of `notefs status`.

use serde::{Deserialize, Serialize};

/// The pins of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PinList {
    /// All that is pinned.
    pub(crate) pinned: Pinned,
    /// What users named, by path.
    pub(crate) pins: Vec<PinRow>,
}

/// All that is pinned, as of the last look for what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Pinned {
    /// What is pinned without being named: `all`, `notes` or `off`.
    pub(crate) policy: String,
    /// Files and folders that users named.
    pub(crate) named: u64,
    #[serde(flatten)]
    pub(crate) amount: PinAmount,
    /// Missing files for which the cache has no room.
    pub(crate) unfit_files: u64,
    pub(crate) unfit_bytes: u64,
    /// Pinned folders whose names are not known yet.
    pub(crate) unlisted: u64,
    /// All that fits is here.
    pub(crate) complete: bool,
}

/// How much is pinned, and what of it is not here yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PinAmount {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) missing_files: u64,
    pub(crate) missing_bytes: u64,
}

/// One file or folder that a user named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinRow {
    /// Below the mount; empty for all of it.
    pub(crate) path: String,
    pub(crate) folder: bool,
    #[serde(flatten)]
    pub(crate) amount: PinAmount,
}

//! What a supervisor of a fleet tells `notefs status`: one record in the runtime folder, written anew at each change.
//!
//! Owns its shape and place. Does not own what is in it (`cli/fleet.rs`). Nothing here is ever a secret.

use super::registry::{Registry, start_ticks};
use crate::config::long_hash;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A longer record is none.
const RECORD_BYTES_MAX: u64 = 4 << 20;

/// The ending of its file's name.
const EXTENSION: &str = "fleet";

/// A fleet and its supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FleetRecord {
    /// The file of the fleet.
    pub(crate) file: PathBuf,
    /// The supervisor.
    pub(crate) pid: u32,
    /// When it began; tells it from a later process with the same number.
    pub(crate) pid_start_ticks: u64,
    /// Why the file as it is now was not taken, if it was not.
    pub(crate) file_error: Option<String>,
    /// Its mounts.
    pub(crate) mounts: Vec<FleetRow>,
}

/// One mount of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FleetRow {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) store: String,
    /// `starting`, `running`, `waiting` (to be tried again) or `ending`.
    pub(crate) state: String,
    pub(crate) pid: Option<u32>,
    /// How often it was started after the first time.
    pub(crate) restarts: u64,
    /// Why it is not running, or last was not.
    pub(crate) last_error: Option<String>,
}

impl FleetRecord {
    fn path(registry: &Registry, file: &Path) -> PathBuf {
        let hash = long_hash(file.as_os_str().as_encoded_bytes());
        registry.folder().join(format!("{hash:016x}.{EXTENSION}"))
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, registry: &Registry) -> Result<(), Failure> {
        let path = FleetRecord::path(registry, &self.file);
        let temporary = path.with_extension("fleet-new");
        let text = serde_json::to_vec_pretty(self).map_err(|e| Failure::io("describe", &self.file)(e))?;
        let write = || {
            use std::io::Write;
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&temporary)?.write_all(&text)?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(Failure::io("write", &path))
    }

    /// Removes it.
    pub(crate) fn remove(&self, registry: &Registry) {
        std::fs::remove_file(FleetRecord::path(registry, &self.file)).ok();
    }

    /// The fleets whose supervisors live.
    pub(crate) fn live(registry: &Registry) -> Vec<FleetRecord> {
        let entries = std::fs::read_dir(registry.folder()).into_iter().flatten().flatten();
        let records = entries.filter_map(|entry| {
            let path = entry.path();
            let is_record = path.extension().is_some_and(|extension| extension == EXTENSION);
            let fits = is_record
                && entry
                    .metadata()
                    .is_ok_and(|metadata| metadata.len() <= RECORD_BYTES_MAX);
            let text = fits.then(|| std::fs::read(&path).ok()).flatten()?;
            let record: FleetRecord = serde_json::from_slice(&text).ok()?;
            (start_ticks(record.pid) == Some(record.pid_start_ticks)).then_some(record)
        });
        let mut records: Vec<FleetRecord> = records.collect();
        records.sort_by(|a, b| a.file.cmp(&b.file));
        records
    }
}

//! How far this machine and a shared index know of each other, in a file beside the local index.
//!
//! What it says may be too little, never too much: then something is told twice, which does no harm.

use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A longer file is none of ours.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The database, without its secret, and the vault in it: of another one nothing is known.
    pub(super) address: String,
    pub(super) vault: String,
    /// Up to this change of the replica all that is stored was told.
    pub(super) told_seq: u64,
    /// Up to this row of the shared index everything was looked at.
    pub(super) seen_row: u64,
    /// When all notes were last compared (ms since 1970); 0: never to the end.
    pub(super) compared_ms: u64,
    /// When rows of notes that are gone were last forgotten (ms since 1970).
    pub(super) forgot_ms: u64,
}

/// The file.
#[derive(Debug)]
pub(super) struct PositionFile {
    path: PathBuf,
    written: Option<Position>,
}

impl PositionFile {
    /// Reads what an earlier run left, if it was about this database and this vault.
    pub(super) fn open(path: PathBuf, address: &str, vault: &str) -> (PositionFile, Option<Position>) {
        let fits = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
        let text = fits.then(|| std::fs::read(&path).ok()).flatten();
        let position = text.and_then(|text| serde_json::from_slice::<Position>(&text).ok());
        let position = position.filter(|position| position.address == address && position.vault == vault);
        let file = PositionFile {
            path,
            written: position.clone(),
        };
        (file, position)
    }

    /// Writes it, if it has changed. A power cut may bring an older one back, which is as good.
    pub(super) fn write(&mut self, position: &Position) -> std::io::Result<()> {
        if self.written.as_ref() == Some(position) {
            return Ok(());
        }
        let draft = self.path.with_extension("shared.draft");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft)?;
        file.write_all(&serde_json::to_vec(position)?)?;
        std::fs::rename(&draft, &self.path)?;
        self.written = Some(position.clone());
        Ok(())
    }
}

/// Forgets a position: changes are about to be forgotten that nobody tells a shared index.
pub(crate) fn forget(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!("Could not remove {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_for_its_own_database_and_vault_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.shared");
        let (mut file, nothing) = PositionFile::open(path.clone(), "libsql://a", "v");
        assert_eq!(nothing, None);
        let position = Position {
            address: "libsql://a".into(),
            vault: "v".into(),
            told_seq: 7,
            seen_row: 8,
            compared_ms: 9,
            forgot_ms: 0,
        };
        file.write(&position).unwrap();
        let read = |address: &str, vault: &str| PositionFile::open(path.clone(), address, vault).1;
        assert_eq!(read("libsql://a", "v"), Some(position));
        assert_eq!((read("libsql://b", "v"), read("libsql://a", "w")), (None, None));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(read("libsql://a", "v"), None);
        forget(&path);
        forget(&path);
        assert!(!path.exists());
    }
}

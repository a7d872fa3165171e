//! What the virtual folder `.notefs` is answered.
//!
//! Owns which question the index is asked for each of its folders. Does not own the folder (`filesystem/virtual_folder.rs`).

use super::serve::Desk;
use crate::control::protocol::Answer;
use crate::filesystem::{Errno, LINKS_MAX, Oracle, Question};

impl Oracle for Desk {
    fn written(&self) -> u64 {
        self.replica.written_seq()
    }

    fn notes(&self, question: &Question) -> Result<Vec<Vec<u8>>, Errno> {
        match question {
            Question::Search(query) => self.linked(query),
            // A tag cannot hold the quotes that would end it.
            Question::Tag(tag) => self.linked(&format!("tag:\"{}\"", tag.replace('"', ""))),
            Question::Backlinks(path) => {
                let links = self.backlinks(path).map_err(unknown)?.rows;
                Ok(unique(links.into_iter().map(|link| link.path_bytes)))
            }
            Question::Recent => {
                let notes = self.recent(&[], LINKS_MAX).map_err(unknown)?.rows;
                Ok(notes.into_iter().map(|note| note.path_bytes).collect())
            }
            Question::Conflicts => {
                let conflicts = self.replica.conflicts().map_err(unknown)?;
                let paths = conflicts
                    .into_iter()
                    .flat_map(|conflict| [Some(conflict.path), conflict.copy]);
                Ok(unique(paths.flatten()))
            }
        }
    }

    fn tags(&self) -> Result<Vec<String>, Errno> {
        let tags = Desk::tags(self).map_err(unknown)?.rows;
        Ok(tags.into_iter().map(|(tag, _)| tag).collect())
    }

    fn status(&self) -> Result<Vec<u8>, Errno> {
        match Desk::status(self).map_err(unknown)? {
            Answer::Status(status) => {
                let text = serde_json::to_vec_pretty(&status).map_err(unknown)?;
                Ok([&text[..], b"\n"].concat())
            }
            _ => Err(Errno(libc::EIO)),
        }
    }
}

impl Desk {
    fn linked(&self, query: &str) -> Result<Vec<Vec<u8>>, Errno> {
        let (hits, _) = self.found(query, &(0..LINKS_MAX), &[]).map_err(unknown)?;
        Ok(hits.rows.into_iter().map(|hit| hit.path_bytes).collect())
    }
}

/// Each path once, where it comes first.
fn unique(paths: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut seen = std::collections::HashSet::new();
    paths.filter(|path| seen.insert(path.clone())).take(LINKS_MAX).collect()
}

/// The one log line of an answer that there is not.
fn unknown(error: impl std::fmt::Display) -> Errno {
    tracing::warn!("A question in the virtual folder has no answer: {error}");
    Errno(libc::EIO)
}

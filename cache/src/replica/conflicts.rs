//! Conflicts that are waiting for somebody to decide: what `notefs conflicts` lists.

use super::Replica;
use crate::error::{Error, Result};
use crate::state::{ConflictKind, Mutation, Tables};
use crate::types::*;
use serde::Serialize;

/// One conflict that is not resolved. It ends when its copy is deleted, or renamed over the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConflictReport {
    /// Names it for [`Replica::dismiss_conflict`].
    pub id: Ino,
    /// The file that has the name, below the mount.
    pub path: Vec<u8>,
    /// The file with this machine's version; `None` where nothing was kept twice.
    pub copy: Option<Vec<u8>>,
    /// The path that was disputed: a file that was renamed on both sides is at `path`, and was to be here.
    pub disputed: Vec<u8>,
    /// The machine that met the other version.
    pub host: String,
    /// When.
    pub when: Timestamp,
    /// Why.
    pub kind: ConflictKind,
}

impl Replica {
    /// The conflicts that nobody has resolved yet, oldest first.
    pub fn conflicts(&self) -> Result<Vec<ConflictReport>> {
        self.view(|tables| {
            let mut reports = Vec::new();
            for conflict in tables.conflicts()? {
                let own = first_path(tables, conflict.ino)?;
                let note = match conflict.note == conflict.ino {
                    true => own.clone(),
                    false => first_path(tables, conflict.note)?,
                };
                reports.push(ConflictReport {
                    id: conflict.ino,
                    path: note.unwrap_or_else(|| conflict.path.clone()),
                    copy: own.filter(|_| conflict.note != conflict.ino),
                    disputed: conflict.path,
                    host: conflict.host,
                    when: conflict.when,
                    kind: conflict.kind,
                });
            }
            reports.sort_by_key(|report| (report.when, report.id));
            Ok(reports)
        })
    }

    /// Strikes a conflict from the list: somebody has decided. The files stay as they are. ENOENT if there is none.
    pub fn dismiss_conflict(&self, id: Ino) -> Result<()> {
        self.change(|op| {
            if !op.tables.conflicts()?.iter().any(|conflict| conflict.ino == id) {
                return Err(Error::Posix(libc::ENOENT));
            }
            op.push(Mutation::DropConflict(id));
            Ok(())
        })
    }
}

fn first_path(tables: &mut Tables, ino: Ino) -> Result<Option<Vec<u8>>> {
    match tables.names_of(ino)?.first() {
        Some(name) => Ok(Some(tables.path_of(name.parent, &name.name)?)),
        None => Ok(None),
    }
}

//! Telling the shared index what the bucket holds: for each path the row that stands is read first, then the store is asked, then the text
//! goes there. So what is told surely came after what stood, whatever clocks say, and of two machines that tell the same only one need do it.

use super::super::gather::{self, Planned};
use super::{Inner, Trouble};
use notefs_cache::replica::{StoredPath, WrittenObject};
use notefs_cache::{Error, Ino, Replica};
use notefs_indexer::{Change, ObjectVersion, SharedChange, SharedError, SharedIndex};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

/// Paths told at once; parts of them stay within a bound on memory (`bridge/gather.rs`).
const BATCH_PATHS_MAX: usize = 500;

/// Questions to the store at a time.
const QUESTIONS_MAX: usize = 8;

/// What is known here of a path that may have to be told.
#[derive(Debug, Clone)]
struct Candidate {
    path: Vec<u8>,
    key: String,
    /// Version and file; `None`: nothing is there.
    stored: Option<(String, Ino)>,
}

/// What is to be done about a path.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The shared index knows.
    Settled,
    /// Bucket and replica are not of one mind at the moment.
    Later,
    /// This version is there, after the one with this tag.
    Text(ObjectVersion, Option<String>),
    /// This version is gone.
    Gone(ObjectVersion),
}

impl Inner {
    /// Tells some of what is owed; answers how many paths were settled.
    pub(super) fn tell(&self, database: &SharedIndex) -> Result<u64, Trouble> {
        let due = self.state.lock().owed.due(Instant::now(), BATCH_PATHS_MAX);
        let before = self.state.lock().owed.len();
        let mut candidates = Vec::new();
        for path in due {
            match self.replica.stored_path(&path)? {
                StoredPath::Unknown => self.state.lock().settle(&path),
                StoredPath::Pending => self.put_off(&path),
                StoredPath::Gone { key } => candidates.push(Candidate {
                    path,
                    key,
                    stored: None,
                }),
                StoredPath::Stored { key, etag, ino } => candidates.push(Candidate {
                    path,
                    key,
                    stored: Some((etag, ino)),
                }),
            }
        }
        if candidates.is_empty() {
            return Ok(0);
        }
        let judged = self.wait_for(ask_about_all(database.clone(), self.replica.clone(), candidates))?;
        let (mut texts, mut gone) = (HashMap::new(), Vec::new());
        for (candidate, verdict) in judged {
            match verdict {
                Verdict::Settled => self.state.lock().settle(&candidate.path),
                Verdict::Later => self.put_off(&candidate.path),
                Verdict::Gone(version) => gone.push((candidate.path, version)),
                Verdict::Text(version, replaces) => {
                    texts.insert(candidate.path.clone(), (candidate, version, replaces));
                }
            }
        }
        self.tell_gone(database, gone)?;
        self.tell_texts(database, texts)?;
        Ok(before.saturating_sub(self.state.lock().owed.len()) as u64)
    }

    fn tell_gone(&self, database: &SharedIndex, gone: Vec<(Vec<u8>, ObjectVersion)>) -> Result<(), Trouble> {
        let changes = gone
            .into_iter()
            .map(|(path, version)| SharedChange::Gone { path, version });
        self.apply(database, changes.collect())
    }

    /// Reads and tells texts, in parts that fit in memory.
    fn tell_texts(
        &self,
        database: &SharedIndex,
        texts: HashMap<Vec<u8>, (Candidate, ObjectVersion, Option<String>)>,
    ) -> Result<(), Trouble> {
        let planned = texts.values().filter_map(|(candidate, ..)| {
            let (_, ino) = candidate.stored.as_ref()?;
            Some(Planned::Read {
                path: candidate.path.clone(),
                ino: *ino,
                tries: 0,
            })
        });
        for part in gather::split(planned.collect(), &self.replica) {
            let gathered = self.gatherer.gather(part, &|| false);
            for failed in &gathered.failed {
                self.put_off(&failed.path);
            }
            let mut changes = Vec::new();
            for change in gathered.changes {
                let Change::Upsert {
                    path,
                    bytes,
                    total_bytes,
                    mtime_ns,
                } = change
                else {
                    continue;
                };
                let Some((candidate, version, replaces)) = texts.get(&path) else {
                    continue;
                };
                if !self.still_stored(candidate)? {
                    self.put_off(&path);
                    continue;
                }
                changes.push(SharedChange::Upsert {
                    path,
                    version: version.clone(),
                    replaces: replaces.clone(),
                    bytes,
                    total_bytes,
                    mtime_ns,
                });
            }
            self.apply(database, changes)?;
        }
        Ok(())
    }

    /// Whether what was read is what the bucket holds, and not something newer.
    fn still_stored(&self, candidate: &Candidate) -> Result<bool, Trouble> {
        let now = self.replica.stored_path(&candidate.path)?;
        Ok(match now {
            StoredPath::Stored { etag, ino, .. } => candidate.stored == Some((etag, ino)),
            _ => false,
        })
    }

    fn apply(&self, database: &SharedIndex, changes: Vec<SharedChange>) -> Result<(), Trouble> {
        if changes.is_empty() {
            return Ok(());
        }
        let rejected = self.wait_for(database.apply(&changes))?;
        let mut state = self.state.lock();
        for change in &changes {
            let (SharedChange::Upsert { path, .. } | SharedChange::Gone { path, .. }) = change;
            state.settle(path);
        }
        rejected.into_iter().for_each(|rejected| state.aside.add(rejected));
        Ok(())
    }

    fn put_off(&self, path: &[u8]) {
        self.state.lock().owed.put_off(path, Instant::now());
    }
}

/// Asks about all: for the rows at once, then for the objects, a few at a time.
async fn ask_about_all(
    database: SharedIndex,
    replica: Arc<Replica>,
    candidates: Vec<Candidate>,
) -> Result<Vec<(Candidate, Verdict)>, SharedError> {
    let paths: Vec<&[u8]> = candidates.iter().map(|candidate| candidate.path.as_slice()).collect();
    let rows = database.rows(&paths).await?.into_iter();
    let mut standing: HashMap<Vec<u8>, _> = rows.map(|row| (row.path, (row.version, row.gone))).collect();
    let (mut tasks, mut judged) = (JoinSet::new(), Vec::with_capacity(candidates.len()));
    let mut candidates = candidates.into_iter();
    loop {
        while tasks.len() < QUESTIONS_MAX
            && let Some(candidate) = candidates.next()
        {
            let (replica, stands) = (replica.clone(), standing.remove(&candidate.path));
            tasks.spawn(async move {
                let verdict = ask_about(&replica, &candidate, stands).await;
                (candidate, verdict)
            });
        }
        match tasks.join_next().await {
            None => return Ok(judged),
            Some(Ok(answer)) => judged.push(answer),
            Some(Err(error)) => tracing::error!("A question for the shared index panicked: {error}"),
        }
    }
}

async fn ask_about(replica: &Replica, candidate: &Candidate, stands: Option<(ObjectVersion, bool)>) -> Verdict {
    let etag = candidate.stored.as_ref().map(|(etag, _)| etag.as_str());
    if is_known(etag, stands.as_ref()) {
        return Verdict::Settled;
    }
    judge(etag, stands, &replica.written_object(&candidate.key).await)
}

/// Whether the row that stands says what is known here.
fn is_known(etag: Option<&str>, stands: Option<&(ObjectVersion, bool)>) -> bool {
    match (etag, stands) {
        (Some(etag), Some((version, gone))) => !gone && version.etag == etag,
        (None, Some((_, gone))) => *gone,
        (None, None) => true,
        (Some(_), None) => false,
    }
}

/// Decides by what is known here, the row that stands and the store's answer, which was asked for after the row.
fn judge(
    etag: Option<&str>,
    stands: Option<(ObjectVersion, bool)>,
    answer: &Result<Option<WrittenObject>, Error>,
) -> Verdict {
    match (etag, answer, stands) {
        (Some(etag), Ok(Some(object)), stands) if object.etag == etag => {
            Verdict::Text(version_of(object), stands.map(|(version, _)| version.etag))
        }
        (None, Ok(None), Some((version, _))) => Verdict::Gone(version),
        // The replica will learn of what the store has said.
        _ => Verdict::Later,
    }
}

fn version_of(object: &WrittenObject) -> ObjectVersion {
    ObjectVersion {
        etag: object.etag.clone(),
        stored_ms: object.stored_ms,
        writer: object.write_id.split('.').next().unwrap_or_default().to_owned(),
        write_id: object.write_id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(etag: &str) -> WrittenObject {
        WrittenObject {
            etag: etag.into(),
            stored_ms: 5_000,
            write_id: "w.1.2.3".into(),
        }
    }

    fn version(etag: &str) -> ObjectVersion {
        version_of(&object(etag))
    }

    #[test]
    fn what_stands_already_is_not_told_again() {
        let row = |etag: &str, gone| Some((version(etag), gone));
        assert!(is_known(Some("e"), row("e", false).as_ref()));
        assert!(!is_known(Some("e"), row("f", false).as_ref()));
        assert!(!is_known(Some("e"), row("e", true).as_ref()));
        assert!(!is_known(Some("e"), None));
        assert!(is_known(None, None) && is_known(None, row("e", true).as_ref()));
        assert!(!is_known(None, row("e", false).as_ref()));
    }

    #[test]
    fn only_what_the_store_bears_out_is_told_after_the_row_that_stood() {
        let row = Some((version("e"), false));
        let there = Ok(Some(object("f")));
        assert_eq!(
            judge(Some("f"), row.clone(), &there),
            Verdict::Text(version("f"), Some("e".into()))
        );
        assert_eq!(judge(Some("f"), None, &there), Verdict::Text(version("f"), None));
        assert_eq!(judge(Some("g"), row.clone(), &there), Verdict::Later);
        assert_eq!(judge(Some("f"), row.clone(), &Ok(None)), Verdict::Later);
        assert_eq!(judge(None, row.clone(), &Ok(None)), Verdict::Gone(version("e")));
        assert_eq!(judge(None, row.clone(), &there), Verdict::Later);
        assert_eq!(judge(None, row, &Err(Error::Posix(libc::EIO))), Verdict::Later);
    }

    #[test]
    fn a_version_bears_its_writers_name() {
        assert_eq!((version("e").writer, version("e").stored_ms), ("w".to_owned(), 5_000));
    }
}

//! A folder on disk as a store: the embedded default, and readable by every other program.
//!
//! Owns durability (a write that returned survives a power cut), conditions (checked and kept under a lock that all
//! notefs processes share; other programs are not bound by it), and real directories as markers. It does without OpenDAL,
//! whose folders have no versions, no metadata bound to content, no flush of directories, and trim and lose names.
//!
//! A directory made by [`Store::put_marker`] is marked and stays; one that came to be for the sake of a file below it, or
//! by another program, goes when its last entry is deleted through the store, as a prefix does in a bucket.

mod describe;
mod files;
#[cfg(test)]
mod tests;
mod walk;

use super::{
    Capabilities, Condition, Deleted, ETag, Fresh, Lister, Object, ObjectInfo, ObjectKey, RequestCounts, Store,
    StoreError, StoreErrorKind, StoreResult, UploadSource, UserMetadata, Written, memory::CallKind,
};
use async_trait::async_trait;
use bytes::Bytes;
use describe::Failure;
use files::Folder;
use parking_lot::Mutex;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use walk::Walk;

/// How long a call may take.
const CALL_DEADLINE_SECONDS: u64 = 30;
/// Bytes that a large upload takes from its source at once.
const PART_SIZE_BYTES: u64 = 8 << 20;
/// The longest key: what S3 takes, so that a folder can be moved into a bucket.
const KEY_LENGTH_MAX_BYTES: usize = 1024;
/// The longest file name of Linux.
const SEGMENT_LENGTH_MAX_BYTES: usize = 255;

/// A folder as a store.
#[derive(Debug)]
pub(super) struct FolderStore {
    folder: Arc<Folder>,
    counts: Arc<Mutex<RequestCounts>>,
    capabilities: Capabilities,
}

impl FolderStore {
    /// Opens a folder that exists.
    pub(super) async fn open(path: &Path) -> StoreResult<FolderStore> {
        let (path, name) = (path.to_owned(), format!("fs://{}", path.display()));
        let opened = tokio::task::spawn_blocking(move || Folder::open(&path)).await;
        let folder = opened
            .unwrap_or_else(|_| Err(Failure::Stopped))
            .map_err(|failure| failure.explain("open", &name))?;
        let capabilities = Capabilities {
            put_if_absent: true,
            put_if_match: true,
            delete_if_match: true,
            copy: true,
            copy_if_absent: true,
            user_metadata: folder.keeps_metadata(),
            key_length_max_bytes: KEY_LENGTH_MAX_BYTES,
            segment_length_max_bytes: SEGMENT_LENGTH_MAX_BYTES,
        };
        Ok(FolderStore {
            folder: Arc::new(folder),
            counts: Arc::default(),
            capabilities,
        })
    }

    /// Runs blocking work under a deadline.
    async fn run<T: Send + 'static>(
        &self,
        kind: CallKind,
        target: &str,
        work: impl FnOnce(&Folder) -> Result<T, Failure> + Send + 'static,
    ) -> StoreResult<T> {
        kind.count(target, &mut self.counts.lock());
        let folder = Arc::clone(&self.folder);
        let outcome = bounded(move || work(&folder)).await;
        outcome.map_err(|failure| {
            self.counts.lock().failed += 1;
            failure.explain(kind.verb(), if target.is_empty() { self.folder.name() } else { target })
        })
    }
}

async fn bounded<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let task = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(Duration::from_secs(CALL_DEADLINE_SECONDS), task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Failure::Stopped),
        Err(_) => Err(Failure::Slow),
    }
}

#[async_trait]
impl Store for FolderStore {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn name(&self) -> String {
        self.folder.name().to_owned()
    }

    fn requests(&self) -> RequestCounts {
        *self.counts.lock()
    }

    async fn head(&self, key: &ObjectKey) -> StoreResult<Option<ObjectInfo>> {
        let target = key.clone();
        self.run(CallKind::Head, key.as_str(), move |folder| folder.describe(&target))
            .await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
        if_match: Option<&ETag>,
    ) -> StoreResult<Option<Object>> {
        let (target, if_match) = (key.clone(), if_match.cloned());
        self.run(CallKind::Get, key.as_str(), move |folder| {
            folder.read(&target, range, if_match.as_ref())
        })
        .await
    }

    async fn get_if_changed(&self, key: &ObjectKey, known: Option<&ETag>) -> StoreResult<Fresh> {
        let (target, known) = (key.clone(), known.cloned());
        let work = move |folder: &Folder| {
            let info = folder.describe(&target)?;
            if info.is_some_and(|info| known.is_some_and(|etag| etag == info.etag)) {
                return Ok(Fresh::Same);
            }
            Ok(folder.read(&target, None, None)?.map_or(Fresh::Gone, Fresh::New))
        };
        self.run(CallKind::Get, key.as_str(), work).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Written> {
        user.check(key.as_str())?;
        let (target, user, condition) = (key.clone(), user.clone(), condition.clone());
        let work = move |folder: &Folder| {
            let mut draft = folder.draft()?;
            draft.append(&body)?;
            folder.commit(draft, &target, &user, &condition)
        };
        self.run(CallKind::Put, key.as_str(), work).await
    }

    async fn put_large(
        &self,
        key: &ObjectKey,
        source: &dyn UploadSource,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Option<Written>> {
        user.check(key.as_str())?;
        let mut draft = self.run(CallKind::Put, key.as_str(), Folder::draft).await?;
        let mut offset = 0;
        while offset < source.size() {
            let end = source.size().min(offset + PART_SIZE_BYTES);
            let Some(part) = source.part(offset..end).await? else {
                return Ok(None);
            };
            if part.len() as u64 != end - offset {
                return Ok(None);
            }
            let work = move |_: &Folder| draft.append(&part).map(|()| draft);
            draft = self.run(CallKind::Put, key.as_str(), work).await?;
            offset = end;
        }
        let (target, user, condition) = (key.clone(), user.clone(), condition.clone());
        let work = move |folder: &Folder| folder.commit(draft, &target, &user, &condition);
        self.run(CallKind::Put, key.as_str(), work).await.map(Some)
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        source: &ETag,
        to: &ObjectKey,
        condition: &Condition,
    ) -> StoreResult<Written> {
        let (start, source, to, condition) = (from.clone(), source.clone(), to.clone(), condition.clone());
        let work = move |folder: &Folder| folder.copy(&start, &source, &to, &condition);
        self.run(CallKind::Copy, from.as_str(), work).await
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> StoreResult<Deleted> {
        let (target, if_match) = (key.clone(), if_match.cloned());
        self.run(CallKind::Delete, key.as_str(), move |folder| {
            folder.delete(&target, if_match.as_ref())
        })
        .await
    }

    async fn put_marker(&self, key: &ObjectKey) -> StoreResult<()> {
        let target = key.clone();
        self.run(CallKind::Put, key.as_str(), move |folder| {
            folder.make_directory(&target)
        })
        .await
    }

    async fn delete_marker(&self, key: &ObjectKey) -> StoreResult<()> {
        let target = key.clone();
        self.run(CallKind::Delete, key.as_str(), move |folder| {
            folder.remove_directory(&target)
        })
        .await
    }

    async fn list(&self, prefix: &str, recursive: bool) -> StoreResult<Box<dyn Lister>> {
        let walk = Walk::new(Arc::clone(&self.folder), prefix, recursive)
            .map_err(|failure| failure.explain("list", prefix))?;
        let target = if prefix.is_empty() { self.folder.name() } else { prefix }.to_owned();
        Ok(Box::new(FolderLister {
            walk: Some(walk),
            target,
            counts: Arc::clone(&self.counts),
        }))
    }
}

struct FolderLister {
    /// Gone once a page has failed.
    walk: Option<Walk>,
    target: String,
    counts: Arc<Mutex<RequestCounts>>,
}

#[async_trait]
impl Lister for FolderLister {
    async fn next_page(&mut self) -> StoreResult<Option<Vec<super::Listed>>> {
        CallKind::List.count(&self.target, &mut self.counts.lock());
        let Some(mut walk) = self.walk.take() else {
            return Err(Failure::Stopped.explain("list", &self.target));
        };
        match bounded(move || walk.page().map(|page| (page, walk))).await {
            Ok((page, walk)) => {
                self.walk = Some(walk);
                Ok((!page.is_empty()).then_some(page))
            }
            Err(failure) => {
                self.counts.lock().failed += 1;
                Err(failure.explain("list", &self.target))
            }
        }
    }
}

impl Failure {
    fn explain(self, operation: &'static str, target: &str) -> StoreError {
        let (kind, message, advice, retryable) = match self {
            Failure::Slow => (
                StoreErrorKind::Unavailable,
                "the disk did not answer in time".to_owned(),
                "",
                true,
            ),
            Failure::Stopped => (StoreErrorKind::Unavailable, "the work was stopped".to_owned(), "", true),
            Failure::Torn => (
                StoreErrorKind::Garbled,
                "the file keeps changing while it is read".to_owned(),
                "",
                true,
            ),
            Failure::NoFolder => (
                StoreErrorKind::NoBucket,
                "the folder does not exist".to_owned(),
                "Create it, or correct the path",
                false,
            ),
            Failure::Moved => {
                let advice = "Bring the folder or its disk back";
                (
                    StoreErrorKind::Unavailable,
                    "the store's folder is no longer there".to_owned(),
                    advice,
                    true,
                )
            }
            // Retryable: the file or folder in the way may itself be about to go.
            Failure::InTheWay => {
                let message = "a file stands where a folder is needed, or a folder where a file is".to_owned();
                (StoreErrorKind::Refused, message, "", true)
            }
            Failure::Refused(message) => (StoreErrorKind::Refused, message.to_owned(), "", false),
            Failure::Disk(error) => return disk_error(&error, operation, target),
        };
        StoreError {
            kind,
            operation,
            target: target.to_owned(),
            message,
            advice: advice.to_owned(),
            retryable,
        }
    }
}

fn disk_error(error: &std::io::Error, operation: &'static str, target: &str) -> StoreError {
    use std::io::ErrorKind as Io;
    let (kind, advice, retryable) = match error.kind() {
        Io::PermissionDenied | Io::ReadOnlyFilesystem => (
            StoreErrorKind::Unauthorised,
            "Give this user the right to read and write the store's folder",
            false,
        ),
        Io::InvalidFilename | Io::InvalidInput => (StoreErrorKind::Refused, "", false),
        Io::StorageFull | Io::QuotaExceeded => (StoreErrorKind::Unavailable, "Make room on the store's disk", true),
        _ => (StoreErrorKind::Unavailable, "Check the store's disk", true),
    };
    StoreError {
        kind,
        operation,
        target: target.to_owned(),
        message: error.to_string(),
        advice: advice.to_owned(),
        retryable,
    }
}

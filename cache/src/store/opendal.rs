//! Real object stores, through OpenDAL: the only file (with its parts) that names it.
//!
//! Owns how each call of [`Store`] becomes requests, with deadlines, bounds and checks of every answer. Does not own what
//! an address means (`url`), nor folders on disk (`folder`), nor any decision about conflicts.
//!
//! Retries are OpenDAL's, below our deadline: also a conditional write is repeated, so that `ConditionFailed` may be the
//! echo of a first try whose answer was lost; the caller compares write ids.

mod build;
mod errors;
mod fence;
mod limits;
mod lister;
mod looking;
mod operators;
#[cfg(test)]
mod tests;
mod translate;
mod transport;

pub(super) use build::{S3Place, open_s3};

use super::{
    Capabilities, Condition, Deleted, ETag, Fresh, Lister, Object, ObjectInfo, ObjectKey, RequestCounts, Store,
    StoreError, StoreErrorKind, StoreResult, UploadSource, UserMetadata, Written,
};
use async_trait::async_trait;
use bytes::Bytes;
use errors::{Answer, Place};
use futures::TryStreamExt;
use limits::*;
use opendal::options::{CopyOptions, DeleteOptions, ReaderOptions, WriteOptions};
use opendal::{Buffer, Metadata, Writer};
use operators::Operators;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use translate::{modified, quoted, unquoted, write_options};
use transport::Counters;

/// A store reached through OpenDAL.
pub(super) struct OpendalStore {
    place: Place,
    capabilities: Capabilities,
    operators: Operators,
    counters: Arc<Counters>,
    calls: Arc<Semaphore>,
    uploads: Semaphore,
}

impl std::fmt::Debug for OpendalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpendalStore")
            .field("name", &self.place.name)
            .finish_non_exhaustive()
    }
}

impl OpendalStore {
    /// Runs one call under its deadline and sorts its outcome.
    async fn call<T>(
        &self,
        operation: &'static str,
        target: &str,
        deadline: Duration,
        work: impl Future<Output = opendal::Result<T>>,
    ) -> StoreResult<Answer<T>> {
        let _turn = self.counters.pace.turn().await;
        let _slot = slot(&self.calls, operation, target).await?;
        let outcome = tokio::time::timeout(deadline, work).await;
        errors::sort(outcome, operation, target, &self.place).inspect_err(|error| {
            self.counters.failed();
            if error.kind == StoreErrorKind::Unauthorised {
                self.operators.renew();
            }
        })
    }

    /// A HEAD brings no reason, so that "no such key" and "no such bucket" look alike: a GET tells them apart.
    async fn confirm_absence(&self, key: &ObjectKey) -> StoreResult<Option<ObjectInfo>> {
        match self.read(key, Some(0..1), ReaderOptions::default()).await? {
            Answer::Yes((info, _)) => Ok(Some(info)),
            Answer::PastEnd => match self.stat(key).await? {
                Answer::Yes(info) => Ok(Some(info)),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    async fn stat(&self, key: &ObjectKey) -> StoreResult<Answer<ObjectInfo>> {
        let operator = self.operators.impatient();
        let work = operator.stat(key.as_str());
        let answer = self
            .call("look up", key.as_str(), seconds(CALL_DEADLINE_SECONDS), work)
            .await?;
        answer.try_map(|metadata| self.info("look up", key, &metadata))
    }

    /// One GET, with the metadata that came along.
    async fn read(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
        condition: ReaderOptions,
    ) -> StoreResult<Answer<(ObjectInfo, Bytes)>> {
        let wanted = range.clone().unwrap_or(0..u64::MAX);
        let work = async {
            let reader = self
                .operators
                .impatient()
                .reader_options(key.as_str(), condition)
                .await?;
            let mut stream = match range.is_some() {
                true => reader.clone().into_stream(wanted.clone()).await?,
                false => reader.clone().into_stream(..).await?,
            };
            let mut received = Vec::new();
            let mut missing = u64::MAX;
            // OpenDAL takes a range that reaches past the end for a short answer: so stop before it would notice.
            while missing > 0 {
                let Some(buffer) = stream.try_next().await? else { break };
                received.push(buffer);
                let size = reader.metadata().map_or(u64::MAX, Metadata::content_length);
                missing = due(&wanted, size).saturating_sub(received.iter().map(|buffer| buffer.len() as u64).sum());
                if range.is_none() && size > WHOLE_BYTES_MAX {
                    break;
                }
            }
            Ok((
                reader.metadata().cloned(),
                received.into_iter().flatten().collect::<Buffer>(),
            ))
        };
        let size_hint = range.as_ref().map_or(1 << 30, |range| range.end - range.start);
        let answer = self
            .call("read", key.as_str(), transfer_deadline(size_hint), work)
            .await?;
        answer.try_map(|(metadata, buffer)| {
            let metadata = metadata.ok_or_else(|| self.garbled("read", key, "the answer has no headers"))?;
            let info = self.info("read", key, &metadata)?;
            if range.is_none() && info.size > WHOLE_BYTES_MAX {
                return Err(errors::too_large(key.as_str(), info.size, &self.place));
            }
            let expected = due(&wanted, info.size);
            if buffer.len() as u64 != expected {
                let message = format!("{expected} bytes were due, {} came", buffer.len());
                return Err(self.garbled("read", key, &message));
            }
            Ok((info, buffer.to_bytes()))
        })
    }

    fn info(&self, operation: &'static str, key: &ObjectKey, metadata: &Metadata) -> StoreResult<ObjectInfo> {
        let etag = self.etag(operation, key, metadata)?;
        let user = metadata.user_metadata().into_iter().flatten().collect();
        Ok(ObjectInfo {
            size: metadata.content_length(),
            etag,
            last_modified: modified(metadata),
            user: Some(user),
        })
    }

    fn etag(&self, operation: &'static str, key: &ObjectKey, metadata: &Metadata) -> StoreResult<ETag> {
        metadata
            .etag()
            .map(unquoted)
            .ok_or_else(|| self.garbled(operation, key, "the answer bears no ETag"))
    }

    fn garbled(&self, operation: &'static str, key: &ObjectKey, message: &str) -> StoreError {
        self.counters.failed();
        errors::garbled(operation, key.as_str(), message, &self.place)
    }

    fn written(&self, key: &ObjectKey, answer: Answer<Metadata>) -> StoreResult<Written> {
        match answer {
            Answer::Yes(metadata) => Ok(Written::Done(self.etag("write", key, &metadata)?)),
            // "No such upload" after a lost answer to its completion: the caller will see whose object is there.
            Answer::ConditionFailed | Answer::NotFound | Answer::PastEnd => Ok(Written::ConditionFailed),
        }
    }

    /// Sends the parts; `None` if the source changed.
    async fn send_parts(
        &self,
        key: &ObjectKey,
        source: &dyn UploadSource,
        writer: &mut Writer,
        part_size: u64,
    ) -> StoreResult<Option<()>> {
        let size = source.size();
        let mut offset = 0;
        while offset < size {
            let end = size.min(offset + part_size);
            let Some(bytes) = source.part(offset..end).await? else {
                return Ok(None);
            };
            if bytes.len() as u64 != end - offset {
                return Ok(None);
            }
            let _turn = self.counters.pace.turn().await;
            let deadline = transfer_deadline(part_size * CONCURRENT_PARTS_MAX as u64);
            let outcome = tokio::time::timeout(deadline, writer.write(Buffer::from(bytes))).await;
            errors::sort(outcome, "write", key.as_str(), &self.place).inspect_err(|_| self.counters.failed())?;
            offset = end;
        }
        Ok(Some(()))
    }

    async fn abort(&self, key: &ObjectKey, writer: &mut Writer) {
        let outcome = tokio::time::timeout(seconds(TRY_DEADLINE_SECONDS), writer.abort()).await;
        if !matches!(outcome, Ok(Ok(()))) {
            tracing::warn!(%key, store = %self.place.name, "An unfinished upload could not be cleared away");
        }
    }
}

#[async_trait]
impl Store for OpendalStore {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn name(&self) -> String {
        self.place.name.clone()
    }

    fn requests(&self) -> RequestCounts {
        self.counters.snapshot()
    }

    async fn head(&self, key: &ObjectKey) -> StoreResult<Option<ObjectInfo>> {
        match self.stat(key).await? {
            Answer::Yes(info) => Ok(Some(info)),
            _ => self.confirm_absence(key).await,
        }
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
        if_match: Option<&ETag>,
    ) -> StoreResult<Option<Object>> {
        let empty = range.as_ref().is_some_and(|range| range.start >= range.end);
        if !empty {
            let condition = ReaderOptions {
                if_match: if_match.map(quoted),
                ..ReaderOptions::default()
            };
            match self.read(key, range, condition).await? {
                Answer::Yes((info, _)) if if_match.is_some_and(|etag| info.etag != *etag) => return Ok(None),
                Answer::Yes((info, bytes)) => return Ok(Some(Object { info, bytes })),
                Answer::NotFound | Answer::ConditionFailed => return Ok(None),
                Answer::PastEnd => {}
            }
        }
        let info = self
            .head(key)
            .await?
            .filter(|info| if_match.is_none_or(|etag| info.etag == *etag));
        Ok(info.map(|info| Object {
            info,
            bytes: Bytes::new(),
        }))
    }

    async fn get_if_changed(&self, key: &ObjectKey, known: Option<&ETag>) -> StoreResult<Fresh> {
        let condition = ReaderOptions {
            if_none_match: known.map(quoted),
            ..ReaderOptions::default()
        };
        match self.read(key, None, condition).await? {
            // Where a server does not know the condition.
            Answer::Yes((info, _)) if known.is_some_and(|etag| info.etag == *etag) => Ok(Fresh::Same),
            Answer::Yes((info, bytes)) => Ok(Fresh::New(Object { info, bytes })),
            Answer::ConditionFailed => Ok(Fresh::Same),
            Answer::NotFound | Answer::PastEnd => Ok(Fresh::Gone),
        }
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Written> {
        user.check(key.as_str())?;
        let deadline = transfer_deadline(body.len() as u64);
        let options = write_options(user, condition);
        let operator = self.operators.patient();
        let work = operator.write_options(key.as_str(), Buffer::from(body), options);
        let answer = self.call("write", key.as_str(), deadline, work).await?;
        self.written(key, answer)
    }

    async fn put_large(
        &self,
        key: &ObjectKey,
        source: &dyn UploadSource,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Option<Written>> {
        user.check(key.as_str())?;
        let _slot = slot(&self.uploads, "write", key.as_str()).await?;
        let part_size = PART_SIZE_BYTES.max(source.size().div_ceil(PARTS_MAX).next_multiple_of(1 << 20));
        let concurrent = if part_size > PART_SIZE_BYTES {
            1
        } else {
            CONCURRENT_PARTS_MAX
        };
        let chunk = usize::try_from(part_size).ok();
        let options = WriteOptions {
            chunk,
            concurrent,
            ..write_options(user, condition)
        };
        let operator = self.operators.patient();
        let opening = operator.writer_options(key.as_str(), options);
        let answer = self
            .call("write", key.as_str(), seconds(CALL_DEADLINE_SECONDS), opening)
            .await?;
        let Answer::Yes(mut writer) = answer else {
            return Ok(Some(Written::ConditionFailed));
        };
        let sent = self.send_parts(key, source, &mut writer, part_size).await;
        if !matches!(sent, Ok(Some(()))) {
            self.abort(key, &mut writer).await;
            return sent.map(|_| None);
        }
        // Beside Amazon not every server binds the last request, and the parts took their time.
        let free = match self.capabilities.copy_if_absent {
            true => Ok(true),
            false => self.destination_holds(key, condition).await,
        };
        if !matches!(free, Ok(true)) {
            self.abort(key, &mut writer).await;
            return free.map(|_| Some(Written::ConditionFailed));
        }
        let deadline = transfer_deadline(part_size * CONCURRENT_PARTS_MAX as u64);
        let outcome = tokio::time::timeout(deadline, writer.close()).await;
        let answer = errors::sort(outcome, "write", key.as_str(), &self.place).inspect_err(|_| self.counters.failed());
        if !matches!(answer, Ok(Answer::Yes(_))) {
            self.abort(key, &mut writer).await;
        }
        self.written(key, answer?).map(Some)
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        source: &ETag,
        to: &ObjectKey,
        condition: &Condition,
    ) -> StoreResult<Written> {
        let Answer::Yes(info) = self.stat(from).await? else {
            return Ok(Written::ConditionFailed);
        };
        if info.etag != *source || !self.destination_holds(to, condition).await? {
            return Ok(Written::ConditionFailed);
        }
        if info.size > COPY_SIZE_MAX_BYTES {
            return Err(errors::unsupported(
                "copy",
                from.as_str(),
                "the object is larger than 5 GiB",
                &self.place,
            ));
        }
        // Knowing the length spares OpenDAL a HEAD of its own, and with it a condition that is not ours.
        let mut options = CopyOptions {
            source_content_length_hint: Some(info.size),
            ..CopyOptions::default()
        };
        match condition {
            Condition::None => {}
            Condition::Absent => options.if_not_exists = true,
            Condition::Matches(etag) => options.if_match = Some(quoted(etag)),
        }
        let operator = self.operators.patient();
        let work = operator.copy_options(from.as_str(), to.as_str(), options);
        let answer = self
            .call("copy", from.as_str(), seconds(UPLOAD_TRY_DEADLINE_SECONDS), work)
            .await?;
        let Answer::Yes(metadata) = answer else {
            return Ok(Written::ConditionFailed);
        };
        let copy = self.etag("copy", to, &metadata)?;
        if !self.copied_right(from, source, &copy).await? {
            return Err(self.garbled("copy", from, "the object changed while it was copied"));
        }
        Ok(Written::Done(copy))
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> StoreResult<Deleted> {
        let options = DeleteOptions {
            if_match: if_match.map(quoted),
            ..DeleteOptions::default()
        };
        let operator = self.operators.impatient();
        let work = operator.delete_options(key.as_str(), options);
        match self
            .call("delete", key.as_str(), seconds(CALL_DEADLINE_SECONDS), work)
            .await?
        {
            // What is gone cannot match either, but needs no deleting.
            Answer::ConditionFailed => Ok(if self.head(key).await?.is_some() {
                Deleted::ConditionFailed
            } else {
                Deleted::Done
            }),
            _ => Ok(Deleted::Done),
        }
    }

    async fn keeps_versions(&self, key: &ObjectKey) -> StoreResult<Option<bool>> {
        let operator = self.operators.impatient();
        let work = operator.stat(key.as_str());
        let answer = self
            .call("look up", key.as_str(), seconds(CALL_DEADLINE_SECONDS), work)
            .await?;
        // A bucket that has ceased to keep them says "null".
        Ok(match answer {
            Answer::Yes(metadata) => Some(metadata.version().is_some_and(|version| version != "null")),
            _ => None,
        })
    }

    fn needs_trial(&self) -> bool {
        true
    }

    fn set_pace(&self, requests_per_second: u32) {
        self.counters.pace.limit(requests_per_second);
    }

    async fn put_marker(&self, key: &ObjectKey) -> StoreResult<()> {
        let marker = format!("{key}/");
        let operator = self.operators.impatient();
        let work = operator.create_dir(&marker);
        self.call("write", &marker, seconds(CALL_DEADLINE_SECONDS), work)
            .await
            .map(drop)
    }

    async fn delete_marker(&self, key: &ObjectKey) -> StoreResult<()> {
        let marker = format!("{key}/");
        let operator = self.operators.impatient();
        let work = operator.delete(&marker);
        self.call("delete", &marker, seconds(CALL_DEADLINE_SECONDS), work)
            .await
            .map(drop)
    }

    async fn list(&self, prefix: &str, recursive: bool) -> StoreResult<Box<dyn Lister>> {
        lister::open(self, prefix, recursive).await
    }
}

/// Waits for a turn, but not for ever.
async fn slot<'a>(slots: &'a Semaphore, operation: &'static str, target: &str) -> StoreResult<SemaphorePermit<'a>> {
    match tokio::time::timeout(seconds(CALL_DEADLINE_SECONDS), slots.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(errors::busy(operation, target)),
    }
}

/// How many bytes of `range` an object of `size` bytes has.
fn due(range: &Range<u64>, size: u64) -> u64 {
    range.end.min(size).saturating_sub(range.start)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn transfer_deadline(size_bytes: u64) -> Duration {
    seconds(CALL_DEADLINE_SECONDS + size_bytes / SLOWEST_BYTES_PER_SECOND)
}

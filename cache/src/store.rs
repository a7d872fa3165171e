//! The object store as the replica sees it: a flat map from keys to objects, with conditions.
//!
//! Owns the contract ([`Store`]), the types of keys and versions, and the errors. The one adapter to real stores is
//! `store/opendal.rs`; `store/memory.rs` is a complete store in memory for tests. Does not own retries of policy: what to
//! write and when is `push`'s decision; adapters only repeat a call that surely did nothing or is safe to repeat.

mod doctor;
mod folder;
mod key;
mod memory;
mod metadata;
mod opendal;
mod pace;
mod probe;
mod url;

pub use doctor::{Examination, Finding, Verdict, examine};
pub use key::{KEY_LENGTH_MAX_BYTES, KeyProblem, ObjectKey, escape_name, is_canonical, unescape_segment};
pub use memory::{CallKind, Hook, MemoryStore};
pub use metadata::{ObjectMetadata, PartialMetadata, USER_METADATA_MAX_BYTES, UserMetadata};
pub(crate) use pace::in_front;
pub use probe::{Trial, probe_conditions, try_store};
pub use url::{StoreUrl, open_store, preflight};

use crate::types::Timestamp;
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;

/// The keys of the change feed: one object for each writer.
pub const FEED_PREFIX: &str = ".notefs/feed/";

/// The version of an object as the store names it: opaque, compared for equality only, kept without quotes.
///
/// It names the content, not the write: equal bytes may bear equal tags.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ETag(pub String);

/// What a store can promise; found out once, when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Capabilities {
    /// `PUT` can be bound to the absence of an object.
    pub put_if_absent: bool,
    /// `PUT` can be bound to an ETag.
    pub put_if_match: bool,
    /// `DELETE` can be bound to an ETag.
    pub delete_if_match: bool,
    /// Objects can be copied inside the store.
    pub copy: bool,
    /// A copy can be bound to the absence of the destination.
    pub copy_if_absent: bool,
    /// Objects carry user metadata.
    pub user_metadata: bool,
    /// How long after its sender has died or given up a write may still take place, in milliseconds; 0 if never.
    pub late_write_ms: u64,
    /// The longest key, in bytes.
    pub key_length_max_bytes: usize,
    /// The longest segment of a key, in bytes.
    pub segment_length_max_bytes: usize,
}

/// What must hold for a write to take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: the last writer wins.
    None,
    /// No object has this key.
    Absent,
    /// The object still has this version.
    Matches(ETag),
}

/// One object without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Length of the content in bytes.
    pub size: u64,
    /// Version.
    pub etag: ETag,
    /// When the store says it was written.
    pub last_modified: Timestamp,
    /// User metadata, if this call brought it (`head` and `get` do, `list` does not).
    pub user: Option<UserMetadata>,
}

/// One object, or a part of it.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its description; `info.size` is the whole object's length also where a range was read.
    pub info: ObjectInfo,
    /// The bytes that were asked for.
    pub bytes: Bytes,
}

/// The answer to "has it changed?".
#[derive(Debug, Clone)]
pub enum Fresh {
    /// Still the version that is known.
    Same,
    /// Not there.
    Gone,
    /// Another version, whole.
    New(Object),
}

/// One line of a listing. The key is raw: it need not be a valid [`ObjectKey`] nor a valid path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key below the store's prefix, exactly as the store tells it; ends with `/` for a common prefix or marker.
    pub key: String,
    /// `None` for a common prefix (`recursive` was off and there are keys below).
    pub object: Option<ObjectInfo>,
}

/// How a conditional write ended, when the store did answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Done; the object now has this version.
    Done(ETag),
    /// The condition did not hold, and nothing was written by this call.
    /// (An earlier try whose answer was lost may have been: compare [`UserMetadata::write_id`].)
    ConditionFailed,
}

/// How a deletion ended, when the store did answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// Gone now, or gone already.
    Done,
    /// Somebody else changed it: it is still there.
    ConditionFailed,
}

/// The kinds of failure, each with one thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum StoreErrorKind {
    /// Could not be reached or did not answer in time: try again later.
    Unavailable,
    /// Asked to slow down: try again later, less often.
    SlowDown,
    /// The credentials are missing, wrong or expired: change them.
    Unauthorised,
    /// The bucket is not there: create it or correct its name.
    NoBucket,
    /// The store cannot do this at all.
    Unsupported,
    /// The key or the metadata cannot be carried by this store.
    Refused,
    /// The answer made no sense (an HTML page, a short body, a wrong checksum): nothing of it was used.
    Garbled,
}

/// A call to the store failed: nothing is known about the object, least of all that it is not there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("Could not {operation} {target}: {message}{}{advice}", if advice.is_empty() { "" } else { ". " })]
pub struct StoreError {
    /// What sort of failure.
    pub kind: StoreErrorKind,
    /// The call, as a verb: "read", "write", "list", "delete", "copy", "look up".
    pub operation: &'static str,
    /// The key or the store it was about.
    pub target: String,
    /// The cause in one line, free of secrets.
    pub message: String,
    /// What the user can do about it; may be empty.
    pub advice: String,
    /// Whether the same call may succeed later without anybody changing anything.
    pub retryable: bool,
}

/// The result of asking the store.
pub type StoreResult<T> = Result<T, StoreError>;

/// Pages of a listing, in the store's own order.
#[async_trait]
pub trait Lister: Send {
    /// The next lines, at most about 1,000; `None` after the last. A failure is an error, never an early end.
    async fn next_page(&mut self) -> StoreResult<Option<Vec<Listed>>>;
}

/// The source of an upload that does not fit into memory.
#[async_trait]
pub trait UploadSource: Send + Sync {
    /// Total length in bytes.
    fn size(&self) -> u64;
    /// The bytes of `range`, or `None` if the content has changed since the upload began: the upload is then given up
    /// and nothing of it becomes visible.
    async fn part(&self, range: Range<u64>) -> StoreResult<Option<Bytes>>;
}

/// A flat store of objects. Every call has a deadline of its own and returns an error when it has passed.
///
/// "Not there" is `Ok(None)` and only ever a positive answer of the store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What this store can promise.
    fn capabilities(&self) -> Capabilities;
    /// The store's name for people, without secrets: `s3://bucket/prefix`.
    fn name(&self) -> String;
    /// Calls made so far, by kind.
    fn requests(&self) -> RequestCounts;
    /// Describes one object, with user metadata.
    async fn head(&self, key: &ObjectKey) -> StoreResult<Option<ObjectInfo>>;
    /// Reads an object or a range of it (cut at the object's end), with user metadata; with `if_match`, only that version:
    /// another version there is `Ok(None)`, as if that version were gone.
    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
        if_match: Option<&ETag>,
    ) -> StoreResult<Option<Object>>;
    /// Reads an object whole unless it still has the version `known`: then the answer is small and cheap (`If-None-Match`).
    async fn get_if_changed(&self, key: &ObjectKey, known: Option<&ETag>) -> StoreResult<Fresh>;
    /// Writes an object whole, in one request.
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Written>;
    /// Writes an object in parts that become visible together at the end; `None` if the source changed on the way.
    async fn put_large(
        &self,
        key: &ObjectKey,
        source: &dyn UploadSource,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Option<Written>>;
    /// Copies content and user metadata inside the store; the copy is made only if `from` still has version `source`.
    async fn copy(
        &self,
        from: &ObjectKey,
        source: &ETag,
        to: &ObjectKey,
        condition: &Condition,
    ) -> StoreResult<Written>;
    /// Deletes an object; with `if_match` only that version, where the store can.
    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> StoreResult<Deleted>;
    /// Makes the marker of an empty directory; `key` has no trailing slash.
    async fn put_marker(&self, key: &ObjectKey) -> StoreResult<()>;
    /// Removes the marker of a directory, if it is there; `key` has no trailing slash.
    async fn delete_marker(&self, key: &ObjectKey) -> StoreResult<()>;
    /// Whether the bucket keeps old versions by itself, as the newest write of `key` shows; `None` if that cannot be told.
    async fn keeps_versions(&self, _key: &ObjectKey) -> StoreResult<Option<bool>> {
        Ok(None)
    }
    /// Whether what this store says of itself must be tried, since a server may ignore a condition without a word.
    fn needs_trial(&self) -> bool {
        false
    }
    /// Bounds the requests, on average. Stores that are on this machine need no bound.
    fn set_pace(&self, _requests_per_second: u32) {}
    /// Lists the keys below `prefix` (empty, or ending with `/`). Not recursive: stops at the next `/`, giving common prefixes.
    /// The marker of `prefix` itself is told too, where there is one.
    async fn list(&self, prefix: &str, recursive: bool) -> StoreResult<Box<dyn Lister>>;
}

/// Calls made to a store since it was opened; those about the change feed have a count of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct RequestCounts {
    /// `head` calls.
    pub head: u64,
    /// `get` calls.
    pub get: u64,
    /// `put` calls and parts of large uploads, markers included.
    pub put: u64,
    /// `copy` calls.
    pub copy: u64,
    /// `delete` calls.
    pub delete: u64,
    /// Pages of listings.
    pub list: u64,
    /// Calls of any kind about the change feed (keys below [`FEED_PREFIX`]), which the counts above leave out.
    pub feed: u64,
    /// Calls of any kind that failed.
    pub failed: u64,
}

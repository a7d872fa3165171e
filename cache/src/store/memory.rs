//! A complete store in memory: the reference for what a store does, and what the tests of the replica run against.
//!
//! Owns conditions, versions, listing, and faults on demand ([`MemoryStore::fail_next`] and its neighbours). It is
//! deterministic: no clock, no randomness; its time is the number of writes. Does not own persistence.

mod faults;
#[cfg(test)]
mod tests;

pub use faults::{CallKind, Hook};

use super::{
    Capabilities, Condition, Deleted, ETag, Fresh, Listed, Lister, Object, ObjectInfo, ObjectKey, RequestCounts, Store,
    StoreErrorKind, StoreResult, UploadSource, UserMetadata, Written, key::KEY_LENGTH_MAX_BYTES,
};
use crate::types::Timestamp;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use faults::{Faults, Outcome};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Bound, Range};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Lines of one page of a listing.
const PAGE_LENGTH_MAX: usize = 1000;
/// Bytes of one part of a large upload.
const PART_SIZE_BYTES: u64 = 8 << 20;
/// The store's time before the first write.
const EPOCH_SECONDS: i64 = 1_700_000_000;
static NAMED: LazyLock<Mutex<BTreeMap<String, Arc<MemoryStore>>>> = LazyLock::new(Mutex::default);

/// The store in memory. Clones see the same objects.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    name: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, Entry>,
    capabilities: Capabilities,
    unique_etags: bool,
    writes: u64,
    changes: u64,
    counts: RequestCounts,
    faults: Faults,
}

#[derive(Debug, Clone)]
struct Entry {
    bytes: Bytes,
    user: UserMetadata,
    etag: ETag,
    last_modified: Timestamp,
}

/// What a call does to the state once faults have let it pass.
type Act<T> = Box<dyn FnOnce(&mut State) -> StoreResult<T> + Send>;

impl MemoryStore {
    /// An empty store of its own; the name is only shown.
    pub fn new(name: &str) -> Arc<MemoryStore> {
        let capabilities = Capabilities {
            put_if_absent: true,
            put_if_match: true,
            delete_if_match: true,
            copy: true,
            copy_if_absent: true,
            user_metadata: true,
            late_write_ms: 0,
            key_length_max_bytes: KEY_LENGTH_MAX_BYTES,
            segment_length_max_bytes: KEY_LENGTH_MAX_BYTES,
        };
        let state = State {
            objects: BTreeMap::new(),
            capabilities,
            unique_etags: false,
            writes: 0,
            changes: 0,
            counts: RequestCounts::default(),
            faults: Faults::default(),
        };
        Arc::new(MemoryStore {
            name: format!("memory://{name}"),
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// The store of this name in this process; it lives as long as the process.
    pub fn named(name: &str) -> Arc<MemoryStore> {
        Arc::clone(
            NAMED
                .lock()
                .entry(name.to_owned())
                .or_insert_with(|| MemoryStore::new(name)),
        )
    }

    /// Every key there is, in byte order, whether valid or not.
    pub fn keys(&self) -> Vec<String> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// The content and user metadata of any key, past faults and counts.
    pub fn raw_get(&self, key: &str) -> Option<(Bytes, UserMetadata)> {
        self.state
            .lock()
            .objects
            .get(key)
            .map(|entry| (entry.bytes.clone(), entry.user.clone()))
    }

    /// Writes any key, as a foreign tool would: past conditions, faults and counts.
    pub fn raw_put(&self, key: &str, bytes: impl Into<Bytes>, user: UserMetadata) -> ETag {
        self.state.lock().insert(key, bytes.into(), user)
    }

    /// Deletes any key, as a foreign tool would; says whether it was there.
    pub fn raw_delete(&self, key: &str) -> bool {
        self.state.lock().objects.remove(key).is_some()
    }

    /// Makes each write bear an ETag of its own, as a store with versions does; else equal bytes bear equal tags.
    pub fn set_unique_etags(&self, unique: bool) {
        self.state.lock().unique_etags = unique;
    }

    /// Changes what the store says it can do. A condition it cannot do is then ignored, as lesser servers do.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        self.state.lock().capabilities = capabilities;
    }

    /// Fails the next `count` calls of a kind (of any kind if `None`) before they do anything.
    pub fn fail_next(&self, call: Option<CallKind>, error: StoreErrorKind, count: u32) {
        self.state.lock().faults.fail_next(call, error, count);
    }

    /// Lets the next `count` calls of a kind succeed, but answers them with `Unavailable`, as if the reply were lost.
    pub fn lose_replies(&self, call: Option<CallKind>, count: u32) {
        self.state.lock().faults.lose_replies(call, count);
    }

    /// Makes every call wait this long (of tokio's time) before it does anything.
    pub fn set_latency(&self, latency: Duration) {
        self.state.lock().faults.latency = latency;
    }

    /// Calls `hook` before each call takes effect, outside all locks: the place to slip in a foreign write.
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.state.lock().faults.hook = hook;
    }

    /// A store of its own that holds now what this one holds, without its faults.
    pub fn snapshot(&self) -> Arc<MemoryStore> {
        let copy = MemoryStore::new("");
        let now = self.state.lock();
        let mut state = copy.state.lock();
        state.objects.clone_from(&now.objects);
        state.capabilities = now.capabilities;
        (state.unique_etags, state.writes) = (now.unique_etags, now.writes);
        drop((state, now));
        Arc::new(MemoryStore {
            name: self.name.clone(),
            state: Arc::clone(&copy.state),
        })
    }

    /// Changes made to objects so far, by anybody.
    pub fn change_count(&self) -> u64 {
        self.state.lock().changes
    }

    /// Sets all request counts back to zero.
    pub fn reset_requests(&self) {
        self.state.lock().counts = RequestCounts::default();
    }

    /// One call: latency, hook, count, faults, effect.
    async fn call<T: Send>(&self, kind: CallKind, target: &str, act: Act<T>) -> StoreResult<T> {
        let (latency, hook) = {
            let state = self.state.lock();
            (state.faults.latency, state.faults.hook.clone())
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if let Some(hook) = hook {
            hook(kind, target);
        }
        let mut state = self.state.lock();
        kind.count(target, &mut state.counts);
        let result = match state.faults.next(kind) {
            Outcome::Fail(error) => Err(faults::injected(kind, target, error)),
            Outcome::LoseReply => {
                drop(act(&mut state));
                Err(faults::injected(kind, target, StoreErrorKind::Unavailable))
            }
            Outcome::Pass => act(&mut state),
        };
        state.counts.failed += u64::from(result.is_err());
        result
    }
}

impl State {
    fn insert(&mut self, key: &str, bytes: Bytes, user: UserMetadata) -> ETag {
        self.writes += 1;
        self.changes += 1;
        let etag = ETag(content_tag(&bytes, self.unique_etags.then_some(self.writes)));
        let last_modified = Timestamp {
            seconds: EPOCH_SECONDS + self.writes as i64,
            nanoseconds: 0,
        };
        self.objects.insert(
            key.to_owned(),
            Entry {
                bytes,
                user,
                etag: etag.clone(),
                last_modified,
            },
        );
        etag
    }

    fn write(&mut self, key: &str, bytes: Bytes, user: UserMetadata, condition: &Condition) -> Written {
        let can = &self.capabilities;
        let entry = self.objects.get(key);
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => entry.is_none() || !can.put_if_absent,
            Condition::Matches(etag) => entry.is_some_and(|entry| entry.etag == *etag) || !can.put_if_match,
        };
        if !holds {
            return Written::ConditionFailed;
        }
        Written::Done(self.insert(key, bytes, user))
    }

    /// One page from `from` on, and where the next one begins.
    fn page(&self, prefix: &str, recursive: bool, mut from: Bound<String>) -> (Vec<Listed>, Bound<String>) {
        let mut page = Vec::new();
        while page.len() < PAGE_LENGTH_MAX {
            let Some((key, entry)) = self.objects.range((from.clone(), Bound::Unbounded)).next() else {
                break;
            };
            let Some(rest) = key.strip_prefix(prefix) else { break };
            match rest.find('/').filter(|_| !recursive) {
                Some(slash) => {
                    let end = prefix.len() + slash;
                    page.push(Listed {
                        key: key[..=end].to_owned(),
                        object: None,
                    });
                    // "0" is the character after "/": the first key that can sort behind the common prefix.
                    from = Bound::Included(format!("{}0", &key[..end]));
                }
                None => {
                    page.push(Listed {
                        key: key.clone(),
                        object: Some(entry.info(false)),
                    });
                    from = Bound::Excluded(key.clone());
                }
            }
        }
        (page, from)
    }
}

impl Entry {
    fn info(&self, with_user: bool) -> ObjectInfo {
        ObjectInfo {
            size: self.bytes.len() as u64,
            etag: self.etag.clone(),
            last_modified: self.last_modified,
            user: with_user.then(|| self.user.clone()),
        }
    }
}

fn content_tag(bytes: &[u8], salt: Option<u64>) -> String {
    let mut first = DefaultHasher::new();
    bytes.hash(&mut first);
    let mut second = DefaultHasher::new();
    (first.finish(), bytes).hash(&mut second);
    let tag = format!("{:016x}{:016x}", first.finish(), second.finish());
    salt.map_or(tag.clone(), |salt| format!("{tag}-{salt}"))
}

#[async_trait]
impl Store for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        self.state.lock().capabilities
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn requests(&self) -> RequestCounts {
        self.state.lock().counts
    }

    async fn head(&self, key: &ObjectKey) -> StoreResult<Option<ObjectInfo>> {
        let key = key.as_str().to_owned();
        let target = key.clone();
        self.call(
            CallKind::Head,
            &target,
            Box::new(move |state| Ok(state.objects.get(&key).map(|e| e.info(true)))),
        )
        .await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
        if_match: Option<&ETag>,
    ) -> StoreResult<Option<Object>> {
        let (key, if_match) = (key.as_str().to_owned(), if_match.cloned());
        let target = key.clone();
        let act = move |state: &mut State| {
            let entry = state
                .objects
                .get(&key)
                .filter(|entry| if_match.as_ref().is_none_or(|etag| *etag == entry.etag));
            Ok(entry.map(|entry| {
                let size = entry.bytes.len() as u64;
                let range = range.unwrap_or(0..size);
                let (start, end) = (range.start.min(size), range.end.min(size));
                let bytes = entry.bytes.slice(start as usize..end.max(start) as usize);
                Object {
                    info: entry.info(true),
                    bytes,
                }
            }))
        };
        self.call(CallKind::Get, &target, Box::new(act)).await
    }

    async fn get_if_changed(&self, key: &ObjectKey, known: Option<&ETag>) -> StoreResult<Fresh> {
        let (key, known) = (key.as_str().to_owned(), known.cloned());
        let target = key.clone();
        let act = move |state: &mut State| {
            Ok(match state.objects.get(&key) {
                None => Fresh::Gone,
                Some(entry) if known.is_some_and(|etag| etag == entry.etag) => Fresh::Same,
                Some(entry) => Fresh::New(Object {
                    info: entry.info(true),
                    bytes: entry.bytes.clone(),
                }),
            })
        };
        self.call(CallKind::Get, &target, Box::new(act)).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Written> {
        user.check(key.as_str())?;
        let (key, user, condition) = (key.as_str().to_owned(), user.clone(), condition.clone());
        let target = key.clone();
        self.call(
            CallKind::Put,
            &target,
            Box::new(move |state| Ok(state.write(&key, body, user, &condition))),
        )
        .await
    }

    async fn put_large(
        &self,
        key: &ObjectKey,
        source: &dyn UploadSource,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Option<Written>> {
        user.check(key.as_str())?;
        let size = source.size();
        let mut body = BytesMut::new();
        let mut offset = 0;
        while offset < size {
            let end = size.min(offset + PART_SIZE_BYTES);
            self.call(CallKind::Put, key.as_str(), Box::new(|_| Ok(()))).await?;
            let Some(part) = source.part(offset..end).await? else {
                return Ok(None);
            };
            body.extend_from_slice(&part);
            offset = end;
        }
        self.put(key, body.freeze(), user, condition).await.map(Some)
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        source: &ETag,
        to: &ObjectKey,
        condition: &Condition,
    ) -> StoreResult<Written> {
        let (from, to) = (from.as_str().to_owned(), to.as_str().to_owned());
        let (source, condition, target) = (source.clone(), condition.clone(), from.clone());
        let act = move |state: &mut State| {
            if !state.capabilities.copy {
                return Err(faults::injected(CallKind::Copy, &from, StoreErrorKind::Unsupported));
            }
            let Some(entry) = state.objects.get(&from).filter(|entry| entry.etag == source).cloned() else {
                return Ok(Written::ConditionFailed);
            };
            Ok(state.write(&to, entry.bytes, entry.user, &condition))
        };
        self.call(CallKind::Copy, &target, Box::new(act)).await
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> StoreResult<Deleted> {
        let (key, if_match) = (key.as_str().to_owned(), if_match.cloned());
        let target = key.clone();
        let act = move |state: &mut State| {
            let Some(entry) = state.objects.get(&key) else {
                return Ok(Deleted::Done);
            };
            if state.capabilities.delete_if_match && if_match.is_some_and(|etag| etag != entry.etag) {
                return Ok(Deleted::ConditionFailed);
            }
            state.changes += u64::from(state.objects.remove(&key).is_some());
            Ok(Deleted::Done)
        };
        self.call(CallKind::Delete, &target, Box::new(act)).await
    }

    async fn put_marker(&self, key: &ObjectKey) -> StoreResult<()> {
        let key = format!("{key}/");
        let target = key.clone();
        let act = move |state: &mut State| {
            state.insert(&key, Bytes::new(), UserMetadata::new());
            Ok(())
        };
        self.call(CallKind::Put, &target, Box::new(act)).await
    }

    async fn delete_marker(&self, key: &ObjectKey) -> StoreResult<()> {
        let key = format!("{key}/");
        let target = key.clone();
        let act = move |state: &mut State| {
            state.changes += u64::from(state.objects.remove(&key).is_some());
            Ok(())
        };
        self.call(CallKind::Delete, &target, Box::new(act)).await
    }

    async fn list(&self, prefix: &str, recursive: bool) -> StoreResult<Box<dyn Lister>> {
        let (store, prefix) = (self.clone(), prefix.to_owned());
        let from = Bound::Included(prefix.clone());
        Ok(Box::new(MemoryLister {
            store,
            prefix,
            recursive,
            from,
            done: false,
        }))
    }
}

struct MemoryLister {
    store: MemoryStore,
    prefix: String,
    recursive: bool,
    from: Bound<String>,
    done: bool,
}

#[async_trait]
impl Lister for MemoryLister {
    async fn next_page(&mut self) -> StoreResult<Option<Vec<Listed>>> {
        if self.done {
            return Ok(None);
        }
        let (prefix, recursive, from) = (self.prefix.clone(), self.recursive, self.from.clone());
        let act = move |state: &mut State| Ok(state.page(&prefix, recursive, from));
        let (page, next) = self.store.call(CallKind::List, &self.prefix, Box::new(act)).await?;
        self.from = next;
        self.done = page.len() < PAGE_LENGTH_MAX;
        Ok((!page.is_empty()).then_some(page))
    }
}

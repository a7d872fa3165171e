//! A store that answers late, fails, and loses replies, as one seed says; and machines that are killed at any of its answers.

use async_trait::async_trait;
use bytes::Bytes;
use notefs_cache::store::*;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Random numbers of one seed.
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Arc<Random> {
        Arc::new(Random(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    pub(crate) fn below(&self, limit: usize) -> usize {
        let mut state = self.0.load(Ordering::Relaxed);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.store(state, Ordering::Relaxed);
        (state >> 11) as usize % limit
    }
}

pub(crate) struct Chaos {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) random: Arc<Random>,
    pub(crate) calm: AtomicBool,
}

impl Chaos {
    /// Time for others to do something.
    async fn wait(&self) {
        for _ in 0..self.random.below(6) {
            tokio::task::yield_now().await;
        }
    }

    fn lose(&self, what: &'static str, target: &str) -> StoreResult<()> {
        if self.calm.load(Ordering::Relaxed) || self.random.below(12) > 0 {
            return Ok(());
        }
        Err(StoreError {
            kind: StoreErrorKind::Unavailable,
            operation: "ask for",
            target: target.to_owned(),
            message: what.to_owned(),
            advice: String::new(),
            retryable: true,
        })
    }

    async fn call<T>(&self, target: &str, call: impl Future<Output = StoreResult<T>> + Send) -> StoreResult<T> {
        self.wait().await;
        self.lose("the request was lost", target)?;
        let answer = call.await;
        self.wait().await;
        self.lose("the reply was lost", target)?;
        answer
    }
}

struct Late {
    inner: Box<dyn Lister>,
    random: Arc<Random>,
}

#[async_trait]
impl Lister for Late {
    async fn next_page(&mut self) -> StoreResult<Option<Vec<Listed>>> {
        let page = self.inner.next_page().await;
        for _ in 0..self.random.below(6) {
            tokio::task::yield_now().await;
        }
        page
    }
}

#[async_trait]
impl Store for Chaos {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn name(&self) -> String {
        self.inner.name()
    }

    fn requests(&self) -> RequestCounts {
        self.inner.requests()
    }

    async fn head(&self, key: &ObjectKey) -> StoreResult<Option<ObjectInfo>> {
        self.call(key.as_str(), self.inner.head(key)).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
        if_match: Option<&ETag>,
    ) -> StoreResult<Option<Object>> {
        self.call(key.as_str(), self.inner.get(key, range, if_match)).await
    }

    async fn get_if_changed(&self, key: &ObjectKey, known: Option<&ETag>) -> StoreResult<Fresh> {
        self.call(key.as_str(), self.inner.get_if_changed(key, known)).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Written> {
        self.call(key.as_str(), self.inner.put(key, body, user, condition))
            .await
    }

    async fn put_large(
        &self,
        key: &ObjectKey,
        source: &dyn UploadSource,
        user: &UserMetadata,
        condition: &Condition,
    ) -> StoreResult<Option<Written>> {
        self.call(key.as_str(), self.inner.put_large(key, source, user, condition))
            .await
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        source: &ETag,
        to: &ObjectKey,
        condition: &Condition,
    ) -> StoreResult<Written> {
        self.call(from.as_str(), self.inner.copy(from, source, to, condition))
            .await
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> StoreResult<Deleted> {
        self.call(key.as_str(), self.inner.delete(key, if_match)).await
    }

    async fn put_marker(&self, key: &ObjectKey) -> StoreResult<()> {
        self.call(key.as_str(), self.inner.put_marker(key)).await
    }

    async fn delete_marker(&self, key: &ObjectKey) -> StoreResult<()> {
        self.call(key.as_str(), self.inner.delete_marker(key)).await
    }

    async fn list(&self, prefix: &str, recursive: bool) -> StoreResult<Box<dyn Lister>> {
        let random = Arc::clone(&self.random);
        let inner = self.call(prefix, self.inner.list(prefix, recursive)).await?;
        Ok(Box::new(Late { inner, random }))
    }
}

//! Listings in pages.
//!
//! Owns the translation of entries. Keys are passed on exactly as the server tells them.

use super::errors::{Answer, sort};
use super::transport::Counters;
use super::{CALL_DEADLINE_SECONDS, OpendalStore, Place, modified, seconds, slot, unquoted};
use crate::store::{Listed, Lister, ObjectInfo, StoreError, StoreErrorKind, StoreResult};
use async_trait::async_trait;
use futures::TryStreamExt;
use opendal::options::ListOptions;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Lines of one page, and of one request.
const PAGE_LENGTH_MAX: usize = 1000;

struct OpendalLister {
    inner: opendal::Lister,
    prefix: String,
    place: Place,
    calls: Arc<Semaphore>,
    counters: Arc<Counters>,
    /// A listing that failed stays failed: going on would skip lines.
    broken: Option<StoreError>,
    done: bool,
}

pub(super) async fn open(store: &OpendalStore, prefix: &str, recursive: bool) -> StoreResult<Box<dyn Lister>> {
    if !prefix.is_empty() && (!prefix.ends_with('/') || prefix.contains("//") || prefix.trim() != prefix) {
        return Err(StoreError {
            kind: StoreErrorKind::Refused,
            operation: "list",
            target: prefix.to_owned(),
            message: "this prefix cannot be asked for".to_owned(),
            advice: String::new(),
            retryable: false,
        });
    }
    let options = ListOptions {
        recursive,
        limit: Some(PAGE_LENGTH_MAX),
        ..ListOptions::default()
    };
    let operator = store.operators.impatient();
    let work = operator.lister_options(prefix, options);
    let Answer::Yes(inner) = store.call("list", prefix, seconds(CALL_DEADLINE_SECONDS), work).await? else {
        return Err(super::errors::garbled(
            "list",
            prefix,
            "the listing was answered with \"not found\"",
            &store.place,
        ));
    };
    Ok(Box::new(OpendalLister {
        inner,
        prefix: prefix.to_owned(),
        place: store.place.clone(),
        calls: Arc::clone(&store.calls),
        counters: Arc::clone(&store.counters),
        broken: None,
        done: false,
    }))
}

impl OpendalLister {
    async fn fill(&mut self) -> StoreResult<Vec<Listed>> {
        let target = if self.prefix.is_empty() {
            self.place.name.clone()
        } else {
            self.prefix.clone()
        };
        let _turn = self.counters.pace.turn().await;
        let _slot = slot(&self.calls, "list", &target).await?;
        let inner = &mut self.inner;
        let work = async {
            let mut page = Vec::new();
            while page.len() < PAGE_LENGTH_MAX {
                let Some(entry) = inner.try_next().await? else { break };
                page.push(entry);
            }
            Ok(page)
        };
        let outcome = tokio::time::timeout(seconds(CALL_DEADLINE_SECONDS), work).await;
        match sort(outcome, "list", &target, &self.place)? {
            Answer::Yes(entries) => {
                self.done = entries.len() < PAGE_LENGTH_MAX;
                Ok(entries.into_iter().filter_map(listed).collect())
            }
            _ => Err(super::errors::garbled(
                "list",
                &target,
                "the listing was answered with \"not found\"",
                &self.place,
            )),
        }
    }
}

/// `None` for the marker of the store's own prefix.
fn listed(entry: opendal::Entry) -> Option<Listed> {
    let (key, metadata) = entry.into_parts();
    if key.is_empty() || key == "/" {
        return None;
    }
    let object = metadata.etag().map(|etag| ObjectInfo {
        size: if key.ends_with('/') {
            0
        } else {
            metadata.content_length()
        },
        etag: unquoted(etag),
        last_modified: modified(&metadata),
        user: None,
    });
    Some(Listed { key, object })
}

#[async_trait]
impl Lister for OpendalLister {
    async fn next_page(&mut self) -> StoreResult<Option<Vec<Listed>>> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        while !self.done {
            match self.fill().await {
                Ok(page) if page.is_empty() => {}
                Ok(page) => return Ok(Some(page)),
                Err(error) => {
                    self.counters.failed();
                    self.broken = Some(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(None)
    }
}

//! The race of uploads in parts: what they have sent becomes an object by their last request, which some servers do not bind.

use super::{Bench, Verdict, fails, holds};
use crate::store::{Condition, StoreResult, UploadSource, UserMetadata, Written};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use std::ops::Range;
use std::time::Duration;
use tokio::sync::Barrier;

/// Uploads that race, once: each sends all its parts.
const UPLOADS: usize = 3;

/// The smallest upload that goes in parts, as adapters make them.
const UPLOAD_BYTES: u64 = (8 << 20) + 1;

/// How long one upload waits for the others before its last part.
const MEETING_DEADLINE_SECONDS: u64 = 20;

impl Bench<'_> {
    pub(super) async fn large_creations(&self) -> StoreResult<(Verdict, String)> {
        let (key, user) = (self.key("large")?, UserMetadata::new());
        let source = Source {
            last_parts: Barrier::new(UPLOADS),
        };
        let uploads = (0..UPLOADS).map(|_| self.store.put_large(&key, &source, &user, &Condition::Absent));
        let mut winners = 0;
        for written in join_all(uploads).await {
            winners += usize::from(matches!(written?, Some(Written::Done(_))));
        }
        match winners {
            0 | 1 => holds(format!("{UPLOADS} uploads in parts raced, and {winners} won")),
            _ => fails(format!(
                "{winners} of {UPLOADS} uploads in parts were told that they had created one object"
            )),
        }
    }
}

/// What all uploads send; their last parts go at once.
struct Source {
    last_parts: Barrier,
}

#[async_trait]
impl UploadSource for Source {
    fn size(&self) -> u64 {
        UPLOAD_BYTES
    }

    async fn part(&self, range: Range<u64>) -> StoreResult<Option<Bytes>> {
        if range.end == UPLOAD_BYTES {
            let deadline = Duration::from_secs(MEETING_DEADLINE_SECONDS);
            let _met_or_too_late = tokio::time::timeout(deadline, self.last_parts.wait()).await;
        }
        Ok(Some(vec![b'n'; (range.end - range.start) as usize].into()))
    }
}

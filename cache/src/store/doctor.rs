//! A thorough trial of a store: writers race for small objects, for a sequential trial is fooled by servers that check and write in two
//! steps, or that answer "done" to a condition and ignore it.
//!
//! Owns the trials and the clearing away of their objects, `.notefs/probe/ID/…`; some hundred requests, and 24 MiB in parts. Does not
//! own the words in which people are told what follows (`notefs doctor`), nor the short trial of a mount (`probe`).

mod large;

use super::{
    Condition, Deleted, ETag, ObjectKey, ObjectMetadata, Store, StoreError, StoreErrorKind, StoreResult, UserMetadata,
    Written,
};
use crate::clock::Clock;
use crate::types::{FileKind, Timestamp};
use bytes::Bytes;
use futures::future::join_all;
use serde::Serialize;

/// Writers that race.
const WRITERS: usize = 8;

/// Races of each kind.
const ROUNDS: usize = 3;

/// A store's clock may differ from ours by this much before it is told.
const SKEW_MAX_MS: i64 = 5_000;

/// What was found of one promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It held in every trial.
    Holds,
    /// It did not.
    Fails,
    /// It could not be tried, or there is nothing to promise.
    Unknown,
}

/// One promise, tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name, for programs.
    pub name: &'static str,
    /// Whether it holds.
    pub verdict: Verdict,
    /// What was seen, in one line.
    pub seen: String,
}

/// Everything that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// The store's name, without secrets.
    pub store: String,
    /// One for each promise.
    pub findings: Vec<Finding>,
    /// Whether the bucket keeps old versions by itself.
    pub versions: Option<bool>,
    /// By how much the store's clock is ahead of ours, in milliseconds, as far as it tells (often whole seconds).
    pub clock_ahead_ms: Option<i64>,
}

struct Bench<'s> {
    store: &'s dyn Store,
    base: String,
}

/// Tries everything. `id` must be unique to this trial and fit for a key. Fails only if the store cannot be used at all.
pub async fn examine(store: &dyn Store, clock: &dyn Clock, id: &str) -> StoreResult<Examination> {
    let bench = Bench {
        store,
        base: format!(".notefs/probe/{id}"),
    };
    let first = bench.key("first")?;
    bench.write(&first, "first", &Condition::None).await?;
    let now = clock.now();
    let ahead = store.head(&first).await?.map(|info| ahead_ms(info.last_modified, now));
    let versions = store.keeps_versions(&first).await.unwrap_or(None);
    let findings = vec![
        told("create-if-absent", bench.creations().await),
        told("update-if-unchanged", bench.updates().await),
        told("copy-if-absent", bench.copies().await),
        told("large-create-if-absent", bench.large_creations().await),
        told("delete-if-unchanged", bench.deletions().await),
        told("list-after-write", bench.listings().await),
        told("metadata", bench.metadata().await),
        told("long-keys", bench.long_keys().await),
        told("file-beside-folder", bench.siblings().await),
        clock_finding(ahead),
    ];
    bench.clear().await?;
    Ok(Examination {
        store: store.name(),
        findings,
        versions,
        clock_ahead_ms: ahead,
    })
}

fn ahead_ms(theirs: Timestamp, ours: Timestamp) -> i64 {
    (theirs.as_nanos() - ours.as_nanos()) / 1_000_000
}

fn clock_finding(ahead_ms: Option<i64>) -> Finding {
    let (verdict, seen) = match ahead_ms {
        // Times are often told in whole seconds, cut off.
        Some(ms) if ms.abs() <= SKEW_MAX_MS => (Verdict::Holds, "the store's clock and this one agree".to_owned()),
        Some(ms) => {
            let way = if ms > 0 { "ahead of" } else { "behind" };
            (
                Verdict::Fails,
                format!("the store's clock is {} s {way} this one", ms.abs() / 1_000),
            )
        }
        None => (Verdict::Unknown, "the store tells no time".to_owned()),
    };
    Finding {
        name: "clocks",
        verdict,
        seen,
    }
}

fn told(name: &'static str, tried: StoreResult<(Verdict, String)>) -> Finding {
    let (verdict, seen) = tried.unwrap_or_else(|error| match error.kind {
        StoreErrorKind::Unsupported | StoreErrorKind::Refused => {
            (Verdict::Fails, format!("refused: {}", error.message))
        }
        _ => (Verdict::Unknown, error.to_string()),
    });
    Finding { name, verdict, seen }
}

fn holds(seen: String) -> StoreResult<(Verdict, String)> {
    Ok((Verdict::Holds, seen))
}

fn fails(seen: impl Into<String>) -> StoreResult<(Verdict, String)> {
    Ok((Verdict::Fails, seen.into()))
}

impl Bench<'_> {
    fn key(&self, name: &str) -> StoreResult<ObjectKey> {
        let text = format!("{}/{name}", self.base);
        ObjectKey::parse(&text).map_err(|problem| StoreError {
            kind: StoreErrorKind::Refused,
            operation: "write",
            target: text.clone(),
            message: problem.to_string(),
            advice: String::new(),
            retryable: false,
        })
    }

    async fn write(&self, key: &ObjectKey, body: &str, condition: &Condition) -> StoreResult<Option<ETag>> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let written = self.store.put(key, body, &UserMetadata::new(), condition).await?;
        Ok(match written {
            Written::Done(etag) => Some(etag),
            Written::ConditionFailed => None,
        })
    }

    /// All write at once; tells how many were told that they had done it.
    async fn race(&self, key: &ObjectKey, condition: &Condition) -> StoreResult<usize> {
        let bodies: Vec<String> = (0..WRITERS).map(|writer| format!("writer {writer}")).collect();
        let writes = bodies.iter().map(|body| self.write(key, body, condition));
        let mut winners = 0;
        for written in join_all(writes).await {
            winners += usize::from(written?.is_some());
        }
        Ok(winners)
    }

    async fn creations(&self) -> StoreResult<(Verdict, String)> {
        for round in 0..ROUNDS {
            let key = self.key(&format!("create-{round}"))?;
            let winners = self.race(&key, &Condition::Absent).await?;
            if winners > 1 {
                return fails(format!(
                    "{winners} of {WRITERS} writers were told that they had created one object"
                ));
            }
            if self.write(&key, "late", &Condition::Absent).await?.is_some() {
                return fails("an object that was there was replaced");
            }
        }
        holds(format!("{WRITERS} writers raced {ROUNDS} times, and one won each time"))
    }

    async fn updates(&self) -> StoreResult<(Verdict, String)> {
        for round in 0..ROUNDS {
            let key = self.key(&format!("update-{round}"))?;
            let Some(etag) = self.write(&key, "before", &Condition::None).await? else {
                continue;
            };
            let stale = Condition::Matches(etag);
            let winners = self.race(&key, &stale).await?;
            if winners > 1 {
                return fails(format!("{winners} of {WRITERS} writers replaced the same version"));
            }
            if winners == 1 && self.write(&key, "late", &stale).await?.is_some() {
                return fails("a version that was not the one meant was replaced");
            }
        }
        holds(format!("{WRITERS} writers raced {ROUNDS} times, and one won each time"))
    }

    async fn copies(&self) -> StoreResult<(Verdict, String)> {
        if !self.store.capabilities().copy {
            return Ok((Verdict::Unknown, "the store copies nothing by itself".to_owned()));
        }
        let from = self.key("copy-from")?;
        let Some(etag) = self.write(&from, "source", &Condition::None).await? else {
            return Ok((Verdict::Unknown, "there was nothing to copy".to_owned()));
        };
        let mut lost = 0;
        for round in 0..ROUNDS {
            let to = self.key(&format!("copy-{round}"))?;
            let copies = (0..WRITERS).map(|_| self.store.copy(&from, &etag, &to, &Condition::Absent));
            let done = join_all(copies).await.into_iter().collect::<StoreResult<Vec<_>>>()?;
            let winners = done
                .iter()
                .filter(|written| matches!(written, Written::Done(_)))
                .count();
            lost = lost.max(winners.saturating_sub(1));
            if self.store.copy(&from, &etag, &to, &Condition::Absent).await? != Written::ConditionFailed {
                return fails("a copy replaced an object that was there");
            }
        }
        match lost {
            0 => holds(format!("{WRITERS} copies raced {ROUNDS} times, and one won each time")),
            lost => fails(format!(
                "{} of {WRITERS} racing copies were all told that they had made the object",
                lost + 1
            )),
        }
    }

    async fn deletions(&self) -> StoreResult<(Verdict, String)> {
        for round in 0..ROUNDS {
            let key = self.key(&format!("delete-{round}"))?;
            let old = self.write(&key, "old", &Condition::None).await?;
            let new = self.write(&key, "new", &Condition::None).await?;
            let (Some(old), Some(new)) = (old, new) else { continue };
            let deleted = self.store.delete(&key, Some(&old)).await?;
            if deleted == Deleted::Done || self.store.head(&key).await?.is_none() {
                return fails("a version that was not the one meant was deleted");
            }
            let update = Condition::Matches(new.clone());
            let racing = tokio::join!(
                self.write(&key, "newer", &update),
                self.store.delete(&key, Some(&new)),
                self.store.delete(&key, Some(&new)),
            );
            let updated = racing.0?.is_some();
            racing.1?;
            racing.2?;
            if updated && self.store.head(&key).await?.is_none() {
                return fails("an update that was acknowledged was deleted");
            }
        }
        holds(format!(
            "a deletion and an update raced {ROUNDS} times, and none was lost"
        ))
    }

    async fn keys_seen(&self) -> StoreResult<Vec<String>> {
        let mut lister = self.store.list(&format!("{}/", self.base), true).await?;
        let mut keys = Vec::new();
        while let Some(page) = lister.next_page().await? {
            keys.extend(page.into_iter().map(|listed| listed.key));
        }
        Ok(keys)
    }

    async fn listings(&self) -> StoreResult<(Verdict, String)> {
        for round in 0..ROUNDS {
            let key = self.key(&format!("list-{round}"))?;
            self.write(&key, "listed", &Condition::None).await?;
            if !self.keys_seen().await?.iter().any(|seen| seen == key.as_str()) {
                return fails("an object just written was not listed");
            }
            self.store.delete(&key, None).await?;
            if self.keys_seen().await?.iter().any(|seen| seen == key.as_str()) {
                return fails("an object just deleted was listed");
            }
        }
        holds("what was written or deleted showed in the next listing".to_owned())
    }

    async fn metadata(&self) -> StoreResult<(Verdict, String)> {
        let user = sample_metadata().encode();
        let (from, to) = (self.key("metadata")?, self.key("metadata-copy")?);
        let written = self
            .store
            .put(&from, Bytes::from_static(b"m"), &user, &Condition::None)
            .await?;
        let back = self
            .store
            .head(&from)
            .await?
            .and_then(|info| info.user)
            .unwrap_or_default();
        if back != user {
            return fails("user metadata did not come back as it was written");
        }
        if let (Written::Done(etag), true) = (written, self.store.capabilities().copy) {
            self.store.copy(&from, &etag, &to, &Condition::None).await?;
            let copied = self
                .store
                .head(&to)
                .await?
                .and_then(|info| info.user)
                .unwrap_or_default();
            if copied != user {
                return fails("a copy lost its user metadata");
            }
        }
        holds(format!(
            "{} bytes of user metadata came back, from a copy too",
            user.encoded_size()
        ))
    }

    async fn long_keys(&self) -> StoreResult<(Verdict, String)> {
        let limits = self.store.capabilities();
        let segment = limits.segment_length_max_bytes.min(200);
        let mut name = String::new();
        while self.base.len() + name.len() + segment + 3 < limits.key_length_max_bytes {
            name.push_str(&"k".repeat(segment));
            name.push('/');
        }
        let rest = limits.key_length_max_bytes - self.base.len() - name.len() - 1;
        name.push_str(&"k".repeat(rest.min(segment)));
        let key = self.key(&name)?;
        self.write(&key, "long", &Condition::None).await?;
        let there = self.store.head(&key).await?.is_some();
        let removed = self.store.delete(&key, None).await?;
        match there && removed == Deleted::Done {
            true => holds(format!("a key of {} bytes can be used", key.as_str().len())),
            false => fails(format!("a key of {} bytes was not found again", key.as_str().len())),
        }
    }

    async fn siblings(&self) -> StoreResult<(Verdict, String)> {
        let (file, below) = (self.key("beside")?, self.key("beside/below")?);
        self.write(&file, "file", &Condition::None).await?;
        let second = self.write(&below, "below", &Condition::None).await;
        let both =
            second.is_ok() && self.store.head(&file).await?.is_some() && self.store.head(&below).await?.is_some();
        match both {
            true => holds("`a` and `a/b` can both be objects".to_owned()),
            false => Ok((
                Verdict::Unknown,
                "`a` and `a/b` cannot both be objects, as on a disk".to_owned(),
            )),
        }
    }

    /// Removes every object of the trial.
    async fn clear(&self) -> StoreResult<()> {
        for text in self.keys_seen().await? {
            match text.strip_suffix('/') {
                Some(directory) => {
                    if let Ok(key) = ObjectKey::parse(directory) {
                        self.store.delete_marker(&key).await?;
                    }
                }
                None => {
                    if let Ok(key) = ObjectKey::parse(&text) {
                        self.store.delete(&key, None).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Metadata as rich as a note's can be.
fn sample_metadata() -> ObjectMetadata {
    ObjectMetadata {
        kind: FileKind::File,
        mode: 0o4751,
        uid: 1_000,
        gid: 100,
        mtime: Timestamp::from_nanos(1_795_645_619_123_456_789),
        rdev: 0,
        target: Vec::new(),
        xattrs: vec![("user.note".into(), "größe ".repeat(60).into_bytes())],
        link_id: Some("0123456789abcdef".into()),
        write_id: "probe.1.2.3".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{Capabilities, MemoryStore};

    fn failed(examination: &Examination) -> Vec<&'static str> {
        let failed = examination
            .findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Fails);
        // Its time is a counter.
        failed
            .map(|finding| finding.name)
            .filter(|name| *name != "clocks")
            .collect()
    }

    #[tokio::test]
    async fn each_weakness_is_found_and_nothing_is_left() {
        let store = MemoryStore::new("doctor");
        store.raw_put("note.md", "x", UserMetadata::new());
        let clock = SystemClock::default();
        let sound = examine(&*store, &clock, "1").await.unwrap();
        assert_eq!(failed(&sound), Vec::<&str>::new(), "{:?}", sound.findings);
        let honest = store.capabilities();
        store.set_capabilities(Capabilities {
            put_if_absent: false,
            put_if_match: false,
            delete_if_match: false,
            ..honest
        });
        let weak = examine(&*store, &clock, "2").await.unwrap();
        for name in [
            "create-if-absent",
            "update-if-unchanged",
            "delete-if-unchanged",
            "large-create-if-absent",
        ] {
            assert!(failed(&weak).contains(&name), "{name}: {:?}", weak.findings);
        }
        assert_eq!(store.keys(), ["note.md"]);
    }

    #[test]
    fn clocks_are_compared() {
        assert_eq!(clock_finding(Some(-900)).verdict, Verdict::Holds);
        assert_eq!(clock_finding(Some(3_600_000)).verdict, Verdict::Fails);
        assert!(clock_finding(Some(-60_000)).seen.contains("60 s behind"));
        assert_eq!(clock_finding(None).verdict, Verdict::Unknown);
    }
}

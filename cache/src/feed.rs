//! The change feed: each writer keeps one small object, `.notefs/feed/WRITER`, that says what it has changed lately.
//!
//! JSON lines: a head, then entries, oldest first. An entry is only a hint where to look, with what a look cannot show (metadata, where a key
//! came from): what it says is confirmed by asking for the object. So a feed may be cut, lost or written late, and nothing is lost with it;
//! who finds a gap in the numbers lists the bucket instead. It is short, but for what is so new that a reader may not have read it: a burst
//! of changes is told whole.
//!
//! A writer is met by its feed before it has changed anything: it writes it at its start, and again when it is used after half a day of silence,
//! since others ask for the feed of one that is silent less often.
//!
//! Owns the format, what goes in, and when the object is written: at most once a second, after rounds of `push`. Does not own reading
//! the feeds of others (`pull/peers.rs`).

use crate::error::Result;
use crate::replica::Replica;
use crate::state::Inode;
use crate::store::{Condition, FEED_PREFIX, Fresh, Listed, ObjectKey, UserMetadata};
use crate::types::Ino;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Entries that a feed keeps, and their bytes.
const ENTRIES_MAX: usize = 256;
const FEED_BYTES_MAX: usize = 64 << 10;

/// Those that are so new do not count, up to so many.
const FRESH_MS: u64 = 30_000;
const FRESH_ENTRIES_MAX: usize = 4_096;
const FRESH_BYTES_MAX: usize = 1 << 20;

/// The feed is written at most this often.
const INTERVAL_MS: u64 = 1_000;

/// Rounds that are under way when there is something to tell are told with it if they end within this time: the rounds of one change (a note's,
/// its folder's) end one after the other, and what is late waits for the next interval.
const GATHER_MAX_MS: u64 = 300;

/// How often the writer looks whether they have ended.
const GATHER_POLL_MS: u64 = 10;

/// Who has not written its feed for so long does so when it is used: others slow down after a day (`pull/pace.rs`).
const SILENT_MS: u64 = 12 * 3_600_000;

/// The longest pause after a feed that could not be written, unless there is more to tell.
const RETRY_LONGEST_MS: u64 = 60_000;

/// How often the writer looks whether it is to end.
const STOP_POLL_MS: u64 = 250;

/// A feed of at most this size has no entries, only a head.
const HEAD_BYTES_MAX: u64 = 72;

/// The format that this program writes and reads.
const VERSION: u32 = 1;

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Grows by one with each entry of its writer.
    #[serde(rename = "n")]
    pub(crate) number: u64,
    /// The key; a directory's ends with `/`.
    #[serde(rename = "k")]
    pub(crate) key: String,
    /// The version now; `None`: gone. A directory that is there has an empty one.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    /// Size in bytes.
    #[serde(rename = "s", default)]
    pub(crate) size: u64,
    /// The key under which the object was before.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(crate) moved_from: Option<String>,
    /// The object's user metadata, write id included: a change of metadata alone has the same ETag.
    #[serde(rename = "m", default)]
    pub(crate) meta: UserMetadata,
    /// Of a directory's attributes: which of two changes is the newer (`Inode::meta_version`). 0: nothing is told of them.
    #[serde(rename = "c", default, skip_serializing_if = "is_none")]
    pub(crate) version: u64,
}

fn is_none(version: &u64) -> bool {
    *version == 0
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    #[serde(rename = "v")]
    version: u32,
    /// Another with each start of the writer: what it did not tell before it died is found by listing.
    run: String,
    /// The number that the next entry will have.
    next: u64,
    /// When it was written (Unix, ms): two that tell the same are two versions.
    #[serde(rename = "t", default)]
    at_ms: u64,
}

/// A feed as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeedText {
    pub(crate) run: String,
    pub(crate) next: u64,
    pub(crate) at_ms: u64,
    pub(crate) entries: Vec<Entry>,
}

impl FeedText {
    /// Reads a feed; `None` if it is none, or one of a newer format.
    pub(crate) fn parse(bytes: &[u8]) -> Option<FeedText> {
        let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let head: Head = serde_json::from_slice(lines.next()?).ok()?;
        let entries = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        (head.version == VERSION).then_some(FeedText {
            run: head.run,
            next: head.next,
            at_ms: head.at_ms,
            entries,
        })
    }

    /// The `fresh` newest entries have more room.
    fn encode(&self, fresh: usize) -> Vec<u8> {
        let head = Head {
            version: VERSION,
            run: self.run.clone(),
            next: self.next,
            at_ms: self.at_ms,
        };
        let mut lines: Vec<Vec<u8>> = self
            .entries
            .iter()
            .map(|entry| serde_json::to_vec(entry).unwrap_or_default())
            .collect();
        let mut body = serde_json::to_vec(&head).unwrap_or_default();
        let mut bytes = body.len();
        let newest = lines.iter().rev().enumerate().take_while(|(nth, line)| {
            bytes += line.len() + 1;
            bytes <= if *nth < fresh { FRESH_BYTES_MAX } else { FEED_BYTES_MAX }
        });
        let kept = newest.count();
        for line in lines.drain(lines.len() - kept..) {
            body.push(b'\n');
            body.extend(line);
        }
        body
    }
}

/// Whether a line of a listing is the feed of a writer that has shown itself and stored nothing yet.
pub(crate) fn tells_nothing(listed: &Listed) -> bool {
    let is_short = |size: u64| size <= HEAD_BYTES_MAX;
    listed.key.starts_with(FEED_PREFIX) && listed.object.as_ref().is_some_and(|info| is_short(info.size))
}

/// This replica's own feed.
#[derive(Default)]
pub(crate) struct Feed {
    /// Entries of rounds under way: told together, so that a rename is not seen half.
    rounds: Mutex<HashMap<Ino, Vec<Entry>>>,
    log: Mutex<Log>,
    /// Somebody writes the object.
    writing: tokio::sync::Mutex<()>,
    owed: AtomicBool,
    changed: tokio::sync::Notify,
    /// When it was last written (monotonic, ms); 0: not in this run.
    written_ms: AtomicU64,
}

#[derive(Default)]
struct Log {
    /// What an earlier run told is in.
    is_loaded: bool,
    next: u64,
    /// With when they were told (monotonic, ms).
    entries: VecDeque<(u64, Entry)>,
}

impl Log {
    fn append(&mut self, entries: Vec<Entry>, now_ms: u64) {
        for mut entry in entries {
            entry.number = self.next;
            self.next += 1;
            self.entries.push_back((now_ms, entry));
        }
        let kept = ENTRIES_MAX.max(self.fresh(now_ms));
        self.entries.drain(..self.entries.len().saturating_sub(kept));
    }

    /// How many are so new that somebody may not have read them.
    fn fresh(&self, now_ms: u64) -> usize {
        let newest = self.entries.iter().rev();
        let fresh = newest.take_while(|(told_ms, _)| now_ms < told_ms + FRESH_MS);
        fresh.count().min(FRESH_ENTRIES_MAX)
    }

    /// Puts what an earlier run told before what this one has to tell.
    fn load(&mut self, earlier: Option<FeedText>, now_ms: u64) {
        self.is_loaded = true;
        let Some(earlier) = earlier else { return };
        let own: Vec<Entry> = self.entries.drain(..).map(|(_, entry)| entry).collect();
        self.entries = earlier.entries.into_iter().map(|entry| (now_ms, entry)).collect();
        self.next = earlier.next;
        self.append(own, now_ms);
    }
}

impl Replica {
    /// A round of an inode has written a key.
    pub(crate) fn tell_written(&self, inode: &Inode, key: &str, etag: &str, moved_from: Option<String>) -> Result<()> {
        let xattrs = self.view(|tables| tables.xattrs(inode.ino))?;
        let entry = Entry {
            number: 0,
            key: key.to_owned(),
            etag: Some(etag.to_owned()),
            size: inode.size,
            moved_from,
            meta: self.object_metadata(inode, xattrs).encode(),
            version: if inode.is_dir() { inode.meta_version } else { 0 },
        };
        self.feed.rounds.lock().entry(inode.ino).or_default().push(entry);
        Ok(())
    }

    /// A round of an inode has deleted a key.
    pub(crate) fn tell_gone(&self, ino: Ino, key: &str) {
        let entry = Entry {
            number: 0,
            key: key.to_owned(),
            etag: None,
            size: 0,
            moved_from: None,
            meta: UserMetadata::new(),
            version: 0,
        };
        self.feed.rounds.lock().entry(ino).or_default().push(entry);
    }

    /// The round of an inode is over: what it did can be told.
    pub(crate) fn tell_round(&self, ino: Ino) {
        let Some(entries) = self.feed.rounds.lock().remove(&ino) else {
            return;
        };
        self.feed.log.lock().append(entries, self.now_ms());
        self.feed.owed.store(true, Ordering::Release);
        self.feed.changed.notify_one();
    }

    /// Writes the feed whenever there is something to tell, or this writer is to be seen.
    pub(crate) async fn run_feed_writer(self: Arc<Self>) {
        let (mut failures, mut not_before_ms) = (0, 0);
        while !self.stopping.load(Ordering::Acquire) {
            let wake = tokio::time::timeout(Duration::from_millis(STOP_POLL_MS), self.feed.changed.notified());
            let nothing_new = wake.await.is_err();
            let due =
                self.now_ms() >= not_before_ms && (self.feed.owed.load(Ordering::Acquire) || self.is_to_be_seen());
            if nothing_new && !due {
                continue;
            }
            let next = tokio::time::Instant::now() + Duration::from_millis(INTERVAL_MS);
            failures = match self.tell_once().await {
                Ok(()) => 0,
                Err(error) => {
                    tracing::debug!(%error, "Could not tell other machines of changes; it is tried again");
                    failures + 1
                }
            };
            not_before_ms = self.now_ms() + retry_pause_ms(failures);
            tokio::time::sleep_until(next).await;
        }
    }

    /// Writes the feed if there is something to tell, or if this writer is to be seen: what the loop does by itself, for those who own the time.
    pub async fn tell_once(&self) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        if self.feed.owed.load(Ordering::Acquire) {
            self.gather_rounds().await;
        }
        self.write_feed_if(self.is_to_be_seen()).await
    }

    /// Waits for the rounds that are under way, within bounds.
    async fn gather_rounds(&self) {
        let until_ms = self.now_ms() + GATHER_MAX_MS;
        while self.pusher.in_flight_count() > 0 && self.now_ms() < until_ms && !self.stopping.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(GATHER_POLL_MS)).await;
        }
    }

    /// Whether others may not know of this writer, or take it for one that is away.
    fn is_to_be_seen(&self) -> bool {
        let written_ms = self.feed.written_ms.load(Ordering::Acquire);
        let used_ms = self.now_ms().saturating_sub(self.unused_ms());
        written_ms == 0 || used_ms >= written_ms + SILENT_MS
    }

    /// Writes the feed, if there is something to tell; what is being written is waited for.
    pub(crate) async fn write_feed(&self) -> Result<()> {
        self.write_feed_if(false).await
    }

    /// Writes it if something is owed, or `anyway`. What was to be seen only is not owed when it fails: nobody is to wait for it.
    async fn write_feed_if(&self, anyway: bool) -> Result<()> {
        let _writing = self.feed.writing.lock().await;
        let owed = self.feed.owed.swap(false, Ordering::AcqRel);
        if self.options.read_only || !(owed || anyway) {
            return Ok(());
        }
        let written = self.put_feed().await;
        match written {
            Ok(()) => self.feed.written_ms.store(self.now_ms(), Ordering::Release),
            Err(_) if owed => self.feed.owed.store(true, Ordering::Release),
            Err(_) => {}
        }
        written
    }

    /// The time of day (Unix, ms).
    pub(crate) fn wall_ms(&self) -> u64 {
        (self.options.clock.now().as_nanos() / 1_000_000).max(0) as u64
    }

    async fn put_feed(&self) -> Result<()> {
        let Ok(key) = ObjectKey::parse(&format!("{FEED_PREFIX}{}", self.writer_id)) else {
            return Ok(());
        };
        if !self.feed.log.lock().is_loaded {
            let earlier = self.store.get_if_changed(&key, None).await;
            self.note_health(&earlier);
            let earlier = match earlier? {
                Fresh::New(object) => FeedText::parse(&object.bytes),
                Fresh::Same | Fresh::Gone => None,
            };
            self.feed.log.lock().load(earlier, self.now_ms());
        }
        let body = {
            let log = self.feed.log.lock();
            let text = FeedText {
                run: self.run_id.clone(),
                next: log.next,
                at_ms: self.wall_ms(),
                entries: log.entries.iter().map(|(_, entry)| entry.clone()).collect(),
            };
            text.encode(log.fresh(self.now_ms()))
        };
        let put = self
            .store
            .put(&key, body.into(), &UserMetadata::new(), &Condition::None)
            .await;
        self.note_health(&put);
        put?;
        Ok(())
    }
}

/// How long to leave a store alone that has refused the feed so often in a row.
fn retry_pause_ms(failures: u32) -> u64 {
    match failures {
        0 => 0,
        _ => INTERVAL_MS
            .saturating_mul(1 << (failures - 1).min(10))
            .min(RETRY_LONGEST_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str) -> Entry {
        Entry {
            number: 0,
            key: key.into(),
            etag: Some("e".into()),
            size: 3,
            moved_from: None,
            meta: [("mode", "100644")].into_iter().collect(),
            version: 0,
        }
    }

    fn text(log: Log) -> FeedText {
        FeedText {
            run: "r".into(),
            next: log.next,
            at_ms: 1_795_269_802_000,
            entries: log.entries.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    #[test]
    fn a_feed_comes_back_and_nonsense_is_none() {
        let mut log = Log::default();
        let moved = Entry {
            moved_from: Some("x".into()),
            ..entry("b\n\"c")
        };
        let gone = Entry {
            etag: None,
            version: 7,
            ..entry("d/")
        };
        log.append(vec![entry("a"), moved, gone], 0);
        let text = text(log);
        assert_eq!(FeedText::parse(&text.encode(0)), Some(text));
        for nonsense in [&b""[..], b"<html>", b"{}", b"{\"v\":2,\"run\":\"r\",\"next\":0}"] {
            assert_eq!(FeedText::parse(nonsense), None);
        }
    }

    #[test]
    fn a_head_alone_is_known_by_its_size() {
        let listed = |text: FeedText| {
            let info = crate::store::ObjectInfo {
                size: text.encode(0).len() as u64,
                etag: crate::store::ETag("e".into()),
                last_modified: crate::types::Timestamp::default(),
                user: None,
            };
            Listed {
                key: format!("{FEED_PREFIX}w"),
                object: Some(info),
            }
        };
        let run = "0123456789abcdef".to_owned();
        let head = FeedText {
            run: run.clone(),
            ..text(Log::default())
        };
        assert!(tells_nothing(&listed(head)));
        let mut log = Log::default();
        log.append(
            vec![Entry {
                etag: None,
                meta: UserMetadata::new(),
                ..entry("a")
            }],
            0,
        );
        assert!(!tells_nothing(&listed(FeedText { run, ..text(log) })));
    }

    #[test]
    fn a_store_that_refuses_the_feed_is_left_alone_ever_longer() {
        assert_eq!([0, 1, 2, 3, 40].map(retry_pause_ms), [0, 1_000, 2_000, 4_000, 60_000]);
    }

    #[test]
    fn a_feed_is_bounded_and_keeps_the_newest() {
        let mut log = Log::default();
        log.append((0..ENTRIES_MAX + 10).map(|at| entry(&at.to_string())).collect(), 0);
        log.append(vec![entry("later")], FRESH_MS);
        assert_eq!((log.entries.len(), log.entries[0].1.number), (ENTRIES_MAX, 11));
        let long = "k".repeat(1000);
        let mut log = Log::default();
        log.append((0..200).map(|_| entry(&long)).collect(), 0);
        let text = text(log);
        let body = text.encode(0);
        assert!(body.len() <= FEED_BYTES_MAX);
        let read = FeedText::parse(&body).unwrap();
        assert_eq!((read.next, read.entries.last().unwrap().number), (200, 199));
        assert!((40..70).contains(&read.entries.len()), "{}", read.entries.len());
        assert_eq!(
            FeedText::parse(&text.encode(150)).unwrap().entries.len(),
            150,
            "a burst"
        );
    }

    #[test]
    fn a_burst_is_told_whole_and_forgotten_when_it_is_old() {
        let mut log = Log::default();
        for round in 0..10 {
            log.append((0..ENTRIES_MAX).map(|at| entry(&at.to_string())).collect(), round);
        }
        assert_eq!((log.entries.len(), log.fresh(9)), (10 * ENTRIES_MAX, 10 * ENTRIES_MAX));
        assert_eq!(log.fresh(FRESH_MS + 8), ENTRIES_MAX, "the last round");
        log.append(
            (0..2 * FRESH_ENTRIES_MAX).map(|at| entry(&at.to_string())).collect(),
            10,
        );
        assert_eq!(log.entries.len(), FRESH_ENTRIES_MAX);
    }

    #[test]
    fn a_new_run_goes_on_where_the_last_one_ended() {
        let mut log = Log::default();
        log.append(vec![entry("new")], 0);
        let earlier = Entry {
            number: 41,
            ..entry("old")
        };
        log.load(
            Some(FeedText {
                run: "r".into(),
                next: 42,
                at_ms: 0,
                entries: vec![earlier],
            }),
            0,
        );
        let numbers: Vec<_> = log
            .entries
            .iter()
            .map(|(_, entry)| (entry.number, entry.key.as_str()))
            .collect();
        assert_eq!((numbers, log.next), (vec![(41, "old"), (42, "new")], 43));
    }
}

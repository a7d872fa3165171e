//! Reading the feeds of other writers: who there is, what each has told since the last time, and what that makes worth a look.

use super::Look;
use super::listing::Differences;
use super::pace::{BUSY_WRITER_MS, feed_interval_ms};
use crate::error::Result;
use crate::feed::{Entry, FeedText};
use crate::replica::{DirectoryNews, FOREIGN, PeerStatus, Replica, ToldDirectory};
use crate::state::Tables;
use crate::store::{ETag, FEED_PREFIX, Fresh, ObjectInfo, ObjectKey, ObjectMetadata};
use crate::types::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Writers that are followed; the changes of more are found by listing.
const PEERS_MAX: usize = 256;

/// Feeds that are looked at in one listing of them.
const FEEDS_SEEN_MAX: usize = 16 * PEERS_MAX;

/// Another writer, as far as its feed has been read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    etag: Option<ETag>,
    /// Where reading goes on: the writer's run and the number of the next entry.
    position: Option<(String, u64)>,
    /// When it was last asked for, and when it last had something new (monotonic, ms).
    asked_ms: u64,
    changed_ms: Option<u64>,
    /// When its feed was last read (monotonic, ms), and how old it was then (ms).
    seen: Option<(u64, u64)>,
}

impl Peer {
    /// How long it has been quiet; who only shows itself is there, but not busy.
    fn quiet_ms(&self, now_ms: u64) -> Option<u64> {
        let told = self.changed_ms.map(|at_ms| now_ms.saturating_sub(at_ms));
        let since = |at_ms: u64| now_ms.saturating_sub(at_ms);
        let seen = self.seen.map(|(at_ms, age_ms)| age_ms.saturating_add(since(at_ms)));
        let seen = seen.map(|quiet_ms| quiet_ms.max(BUSY_WRITER_MS));
        told.into_iter().chain(seen).min()
    }
}

/// What a feed says beyond what was read of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// The last entry of each key, in the order of the first.
    pub(super) entries: Vec<Entry>,
    /// Something is missing: only a listing can tell.
    pub(super) gap: bool,
}

/// Compares a feed with where reading had stopped.
pub(super) fn news(feed: FeedText, position: Option<&(String, u64)>) -> News {
    let first = feed.entries.first().map_or(feed.next, |entry| entry.number);
    // All of a feed that was never read, or that began anew: a listing alone does not show changes of metadata.
    let read = position.filter(|(_, next)| *next <= feed.next);
    let gap = read.is_none_or(|(run, next)| *run != feed.run || first > *next);
    let next = read.map_or(0, |(_, next)| *next);
    let fresh = feed.entries.into_iter().filter(|entry| entry.number >= next);
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for entry in fresh {
        match places.get(&entry.key) {
            None => {
                places.insert(entry.key.clone(), entries.len());
                entries.push(entry);
            }
            Some(at) => {
                // Written again after it had been moved: it still came from there.
                let earlier = entries[*at].moved_from.take();
                let moved_from = entry.moved_from.clone().or(earlier.filter(|_| entry.etag.is_some()));
                entries[*at] = Entry { moved_from, ..entry };
            }
        }
    }
    News { entries, gap }
}

impl Replica {
    /// Finds the writers that there are; one whose feed has changed is due at once.
    pub(super) async fn discover_peers(&self) -> Result<()> {
        // Opening it asks nothing yet.
        let mut lister = self.store.list(FEED_PREFIX, false).await?;
        let mut seen = HashMap::new();
        while let Some(page) = self.asked(lister.next_page().await)? {
            for listed in page {
                let name = listed.key.strip_prefix(FEED_PREFIX).unwrap_or_default();
                let own = name.is_empty() || name == self.writer_id;
                if let (false, true, Some(info)) = (own, seen.len() < FEEDS_SEEN_MAX, listed.object) {
                    seen.insert(name.to_owned(), info.etag);
                }
            }
        }
        self.meet_peers(&seen)
    }

    fn meet_peers(&self, seen: &HashMap<String, ETag>) -> Result<()> {
        // Looked up before `peers` is locked: `State` comes first.
        let unread: Vec<&String> = {
            let peers = self.puller.peers.lock();
            let is_unread = |writer: &&String| peers.get(*writer).is_none_or(|peer| peer.position.is_none());
            seen.keys().filter(is_unread).collect()
        };
        let mut positions = HashMap::new();
        for writer in unread {
            positions.insert(writer, self.view(|tables| remembered(tables, writer))?);
        }
        let mut peers = self.puller.peers.lock();
        peers.retain(|writer, _| seen.contains_key(writer));
        for (writer, etag) in seen {
            if !peers.contains_key(writer) && peers.len() >= PEERS_MAX {
                continue;
            }
            let peer = peers.entry(writer.clone()).or_default();
            if peer.etag.as_ref() != Some(etag) {
                peer.asked_ms = 0;
            }
            if peer.position.is_none() {
                peer.position = positions.remove(writer).flatten();
            }
        }
        Ok(())
    }

    /// The writers whose feeds are due, and marks them as asked for.
    pub(super) fn due_peers(&self, now_ms: u64) -> Vec<String> {
        let unused_ms = self.unused_ms();
        let mut peers = self.puller.peers.lock();
        let due = |peer: &Peer| {
            let interval_ms = feed_interval_ms(unused_ms, peer.quiet_ms(now_ms));
            peer.asked_ms == 0 || now_ms >= peer.asked_ms + interval_ms
        };
        let due = peers.iter_mut().filter(|(_, peer)| due(peer));
        due.map(|(writer, peer)| {
            peer.asked_ms = now_ms.max(1);
            writer.clone()
        })
        .collect()
    }

    pub(super) fn all_peers(&self) -> Vec<String> {
        self.puller.peers.lock().keys().cloned().collect()
    }

    /// An object that a listing shows bears this id: the feed of a writer that is not known yet is looked for soon.
    pub(super) fn note_writer(&self, write_id: &str) {
        let writer = write_id.split('.').next().unwrap_or_default();
        let peers = self.puller.peers.lock();
        if writer != self.writer_id && !peers.contains_key(writer) && peers.len() < PEERS_MAX {
            self.puller.discover_soon.store(true, Ordering::Release);
        }
    }

    /// Whether another notefs has just written: what it does it will tell.
    pub(super) fn has_busy_peer(&self) -> bool {
        let now_ms = self.now_ms();
        let peers = self.puller.peers.lock();
        let mut changed = peers.values().filter_map(|peer| peer.changed_ms);
        changed.any(|at_ms| now_ms < at_ms + BUSY_WRITER_MS)
    }

    /// Asks for one feed, and brings about what it says.
    pub(super) async fn read_peer(self: Arc<Self>, writer: String) -> Result<()> {
        let Ok(key) = ObjectKey::parse(&format!("{FEED_PREFIX}{writer}")) else {
            return Ok(());
        };
        let Some(peer) = self.puller.peers.lock().get(&writer).cloned() else {
            return Ok(());
        };
        let object = match self.asked(self.store.get_if_changed(&key, peer.etag.as_ref()).await)? {
            Fresh::Same => return Ok(()),
            Fresh::Gone => {
                self.puller.peers.lock().remove(&writer);
                return Ok(());
            }
            Fresh::New(object) => object,
        };
        let Some(feed) = FeedText::parse(&object.bytes) else {
            tracing::debug!(
                writer,
                "The feed of another machine cannot be read; its changes are found by listing"
            );
            self.note_read(&writer, object.info.etag, None, (true, None));
            return Ok(());
        };
        let position = (feed.run.clone(), feed.next);
        // What is older says nothing of when it was written.
        let written_ms = Some(feed.at_ms).filter(|at_ms| *at_ms > 0);
        let news = news(feed, peer.position.as_ref());
        let told = !news.entries.is_empty();
        if news.gap {
            self.puller.list_soon.store(true, Ordering::Release);
        }
        self.follow(&writer, news).await?;
        if peer.position.as_ref() != Some(&position) {
            self.remember(&meta_name(&writer), &format!("{} {}", position.1, position.0))?;
        }
        self.note_read(&writer, object.info.etag, Some(position), (told, written_ms));
        Ok(())
    }

    /// `told`: there was something new; with when the feed was written, by its writer's clock, where it says so.
    fn note_read(
        &self,
        writer: &str,
        etag: ETag,
        position: Option<(String, u64)>,
        (told, written_ms): (bool, Option<u64>),
    ) {
        let (now_ms, wall_ms) = (self.now_ms(), self.wall_ms());
        if let Some(peer) = self.puller.peers.lock().get_mut(writer) {
            let first = peer.etag.is_none();
            peer.etag = Some(etag);
            peer.position = position;
            // Of one that is met, only its feed says how long it has been quiet.
            let age_ms = written_ms.filter(|_| first).map(|at_ms| wall_ms.saturating_sub(at_ms));
            peer.seen = age_ms.or((!first).then_some(0)).map(|age_ms| (now_ms, age_ms));
            if !first && told {
                peer.changed_ms = Some(now_ms);
            }
        }
    }

    /// Where something is missing, so may be the other half of a rename.
    async fn follow(self: &Arc<Self>, writer: &str, news: News) -> Result<()> {
        let _reading = self.read_listing();
        let began = self.view(|tables| Ok(tables.op()))?;
        let mut found = Differences {
            may_wait: news.gap,
            ..Differences::default()
        };
        for entry in news.entries {
            if self.says_more(&entry)? {
                found.looks.push(look(writer, entry));
            }
        }
        if found.looks.is_empty() {
            return Ok(());
        }
        self.bring_about(found, began).await
    }

    /// Whether an entry says something that is not known here.
    fn says_more(&self, entry: &Entry) -> Result<bool> {
        let known = self.view(|tables| match tables.remote(&entry.key)? {
            Some(known) => Ok(Some((tables.inode(known.ino)?, known))),
            None => Ok(None),
        })?;
        let Some((inode, known)) = known else {
            return Ok(entry.etag.is_some());
        };
        match &entry.etag {
            None => Ok(true),
            Some(etag) if !entry.key.ends_with('/') && *etag != known.etag => Ok(true),
            Some(_) => {
                let meta = ObjectMetadata::decode(&entry.meta);
                match inode {
                    Some(inode) if inode.is_dir() => {
                        let told = ToldDirectory::new(meta, entry.version);
                        Ok(self.view(|tables| told.news(tables, &inode))? != DirectoryNews::Nothing)
                    }
                    Some(inode) if inode.known => self.differs(&inode, &meta),
                    _ => Ok(false),
                }
            }
        }
    }

    /// The writers that are followed.
    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        let now_ms = self.now_ms();
        let peers = self.puller.peers.lock();
        let mut peers: Vec<_> = peers
            .iter()
            .map(|(writer, peer)| PeerStatus {
                writer: writer.clone(),
                quiet_ms: peer.changed_ms.map(|at| now_ms.saturating_sub(at)),
            })
            .collect();
        peers.sort_by(|a, b| a.writer.cmp(&b.writer));
        peers
    }
}

fn look(writer: &str, entry: Entry) -> Look {
    let directory = entry.key.ends_with('/');
    let info = entry.etag.filter(|_| !directory).map(|etag| ObjectInfo {
        size: entry.size,
        etag: ETag(etag),
        last_modified: Timestamp::default(),
        user: None,
    });
    let origin = if writer.is_empty() { FOREIGN } else { writer };
    let stands = info.is_some() || (directory && !entry.meta.is_empty());
    Look {
        key: entry.key,
        origin: origin.to_owned(),
        moved_from: entry.moved_from,
        info,
        meta: stands.then_some(entry.meta),
        version: entry.version,
    }
}

fn meta_name(writer: &str) -> String {
    format!("feed {writer}")
}

/// Where reading a feed had stopped when the last run ended.
fn remembered(tables: &mut Tables, writer: &str) -> Result<Option<(String, u64)>> {
    let value = tables.meta(&meta_name(writer))?;
    Ok(value.and_then(|value| {
        let (next, run) = value.split_once(' ')?;
        Some((run.to_owned(), next.parse().ok()?))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::UserMetadata;

    fn entry(number: u64, key: &str, etag: Option<&str>, from: Option<&str>) -> Entry {
        Entry {
            number,
            key: key.into(),
            etag: etag.map(str::to_owned),
            size: 1,
            moved_from: from.map(str::to_owned),
            meta: UserMetadata::new(),
            version: 0,
        }
    }

    fn feed(run: &str, entries: Vec<Entry>) -> FeedText {
        let next = entries.last().map_or(0, |entry| entry.number + 1);
        FeedText {
            run: run.into(),
            next,
            at_ms: 0,
            entries,
        }
    }

    fn at(run: &str, next: u64) -> Option<(String, u64)> {
        Some((run.to_owned(), next))
    }

    #[test]
    fn only_what_was_not_read_is_news() {
        let text = || feed("r", vec![entry(3, "a", Some("e"), None), entry(4, "b", None, None)]);
        let read = |position: Option<(String, u64)>| {
            let news = news(text(), position.as_ref());
            (
                news.entries.iter().map(|entry| entry.number).collect::<Vec<_>>(),
                news.gap,
            )
        };
        assert_eq!(read(at("r", 3)), (vec![3, 4], false));
        assert_eq!(read(at("r", 4)), (vec![4], false));
        assert_eq!(read(at("r", 5)), (vec![], false));
        assert_eq!(read(at("r", 2)), (vec![3, 4], true), "cut");
        assert_eq!(read(at("q", 4)), (vec![4], true), "another run");
        assert_eq!(read(at("r", 9)), (vec![3, 4], true), "an older feed came back");
        assert_eq!(read(None), (vec![3, 4], true), "never read");
    }

    #[test]
    fn who_only_shows_itself_is_there_but_not_busy() {
        let quiet = |changed_ms, seen| {
            let peer = Peer {
                changed_ms,
                seen,
                ..Peer::default()
            };
            peer.quiet_ms(100_000)
        };
        assert_eq!(quiet(None, None), None);
        assert_eq!(quiet(Some(99_000), Some((99_000, 0))), Some(1_000));
        assert_eq!(quiet(Some(1_000), Some((99_000, 0))), Some(BUSY_WRITER_MS));
        assert_eq!(quiet(None, Some((10_000, 0))), Some(90_000));
        let day_ms = 24 * 3_600_000;
        assert_eq!(
            quiet(None, Some((99_000, day_ms))),
            Some(day_ms + 1_000),
            "one that was away before it was met"
        );
    }

    #[test]
    fn the_last_word_of_a_key_counts_and_its_origin_stays() {
        let entries = vec![
            entry(0, "b", Some("e"), Some("a")),
            entry(1, "a", None, None),
            entry(2, "b", Some("f"), None),
            entry(3, "c", Some("e"), Some("b")),
            entry(4, "b", None, None),
        ];
        let news = news(feed("r", entries), at("r", 0).as_ref());
        let told: Vec<_> = news
            .entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.etag.as_deref(), entry.moved_from.as_deref()))
            .collect();
        assert_eq!(
            told,
            [("b", None, None), ("a", None, None), ("c", Some("e"), Some("b"))]
        );
    }
}

//! Brings what is pinned and not here: in the background, the newest first, a few at a time and not faster than a fixed rate.
//!
//! A fetch is the same as a program's or the index's, so whoever comes second finds the content of the first. An outage ends the round; what
//! one file lacks does not keep the others from coming.

use super::scan::{Scan, Wanted};
use crate::error::{Error, Need, Result};
use crate::replica::Replica;
use crate::types::Ino;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the loop looks whether there is something to do.
const TICK_MS: u64 = 100;

/// Two looks are at least this far apart, and so many times as long as the last one took.
const LOOK_PAUSE_MS: u64 = 500;
const LOOK_PAUSE_FACTOR: u64 = 50;

/// What could not be fetched is tried again after this.
const RETRY_MS: u64 = 60_000;

/// Pauses after an outage: the first and the longest.
const AWAY_PAUSES_MS: (u64, u64) = (1_000, 30_000);

/// Fetches at a time, and their pace.
const FETCHES_MAX: usize = 4;
const FETCHES_PER_SECOND_MAX: u64 = 1_000;
const BYTES_PER_SECOND_MAX: u64 = 32 << 20;

/// Files fetched between two looks at the clock.
const CHUNK_FILES: usize = 32;

impl Replica {
    /// Runs until the replica is closed; begins when the first listing is over.
    pub(crate) async fn run_pinner(self: Arc<Self>) {
        self.pins.look_soon();
        let (mut not_before_ms, mut retry_ms) = (0, u64::MAX);
        while !self.stopping.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
            let now_ms = self.now_ms();
            let asked = self.pins.look.load(Ordering::Acquire) || now_ms >= retry_ms;
            if !asked || now_ms < not_before_ms || now_ms < self.pause_until_ms(AWAY_PAUSES_MS) {
                continue;
            }
            self.pins.status.lock().complete = false;
            self.pins.look.store(false, Ordering::Release);
            let outcome = self.fetch_pinned().await;
            let took_ms = match &outcome {
                Ok(round) => round.looked_ms,
                Err(_) => 0,
            };
            not_before_ms = self.now_ms() + LOOK_PAUSE_MS.max(took_ms * LOOK_PAUSE_FACTOR);
            retry_ms = match outcome {
                Ok(Round { progress: true, .. }) => 0,
                Ok(Round { left: false, .. }) => u64::MAX,
                Ok(_) => self.now_ms() + RETRY_MS,
                Err(error) => {
                    tracing::debug!(%error, "Pinned content could not be looked for");
                    self.now_ms() + RETRY_MS
                }
            };
        }
    }

    /// One look, and what it takes to fetch what is missing.
    async fn fetch_pinned(self: &Arc<Self>) -> Result<Round> {
        let began_ms = self.now_ms();
        let replica = Arc::clone(self);
        let scan = self.runtime.spawn_blocking(move || replica.scan_pins()).await;
        let scan = scan.unwrap_or(Err(Error::Posix(libc::EIO)))?;
        let left = !scan.wanted.is_empty() || !scan.unlisted.is_empty();
        *self.pins.status.lock() = super::PinStatus {
            complete: !left,
            ..scan.status
        };
        let looked_ms = self.now_ms().saturating_sub(began_ms);
        let progress = left && self.fetch_wanted(scan).await;
        Ok(Round {
            looked_ms,
            progress,
            left,
        })
    }

    /// Answers whether anything came.
    async fn fetch_wanted(self: &Arc<Self>, scan: Scan) -> bool {
        let mut came = false;
        for dir in scan.unlisted {
            if !self.may_go_on() {
                return came;
            }
            came |= self.list_directory(dir).await.is_ok();
        }
        for chunk in scan.wanted.chunks(CHUNK_FILES) {
            if !self.may_go_on() {
                return came;
            }
            let began = tokio::time::Instant::now();
            let (files, bytes) = self.fetch_chunk(chunk).await;
            came |= files > 0;
            let pace_ms = (files * 1_000 / FETCHES_PER_SECOND_MAX).max(bytes * 1_000 / BYTES_PER_SECOND_MAX);
            tokio::time::sleep_until(began + Duration::from_millis(pace_ms)).await;
        }
        came
    }

    /// How many files came, and their bytes.
    async fn fetch_chunk(self: &Arc<Self>, chunk: &[Wanted]) -> (u64, u64) {
        let limit = Arc::new(tokio::sync::Semaphore::new(FETCHES_MAX));
        let mut tasks = tokio::task::JoinSet::new();
        for wanted in chunk.iter().copied() {
            let (replica, limit) = (Arc::clone(self), Arc::clone(&limit));
            tasks.spawn_on(
                async move {
                    let _permit = limit.acquire().await;
                    if !replica.may_go_on() {
                        return None;
                    }
                    match replica.fetch_pinned_file(wanted.ino).await {
                        Ok(()) => Some(wanted.missing_bytes),
                        Err(error) => {
                            tracing::debug!(ino = wanted.ino, %error, "A pinned file could not be fetched; it is tried again");
                            None
                        }
                    }
                },
                &self.runtime,
            );
        }
        let (mut files, mut bytes) = (0, 0);
        while let Some(done) = tasks.join_next().await {
            if let Ok(Some(more)) = done {
                files += 1;
                bytes += more;
            }
        }
        (files, bytes)
    }

    /// All that is needed to read a file without the store.
    async fn fetch_pinned_file(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let described = self.view(|tables| Ok(tables.inode(ino)?.is_none_or(|inode| inode.known)))?;
        if !described {
            self.satisfy(Need::Metadata(ino)).await?;
        }
        self.fetch_whole(ino).await
    }

    fn may_go_on(&self) -> bool {
        !self.stopping.load(Ordering::Acquire) && !self.store_unreachable()
    }
}

/// What came of one look.
struct Round {
    looked_ms: u64,
    progress: bool,
    /// Something was missing.
    left: bool,
}

//! How many requests a store is asked: a bucket of tokens that fills at an even pace.
//!
//! Who begins a call waits for a token; each request that really goes out, repeats and pages included, takes one, if need be on credit. What
//! a program waits for goes first: others wait while it does.
//!
//! Owns the pace. Does not own what is a request (`opendal/transport.rs`).

use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Between two looks of those who wait, at most.
const LOOK_MS_MAX: u64 = 50;

/// Debt that is remembered, in seconds: a storm of repeats does not silence a mount for longer.
const DEBT_SECONDS_MAX: f64 = 5.0;

tokio::task_local! {
    /// Somebody waits for what this task does.
    static IN_FRONT: ();
}

/// Does work that a program waits for: its requests go first.
pub(crate) async fn in_front<T>(work: impl Future<Output = T>) -> T {
    IN_FRONT.scope((), work).await
}

/// The bucket. Without a rate nobody waits.
#[derive(Debug, Default)]
pub(super) struct Pace {
    tokens: Mutex<Option<Tokens>>,
    in_front: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct Tokens {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Tokens {
    /// Fills the bucket: at most the tokens of one second lie in it.
    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + seconds * self.per_second).min(self.per_second.max(1.0));
        self.at = now;
    }

    fn spend(&mut self, now: Instant, count: f64) {
        self.fill(now);
        self.left = (self.left - count).max(-DEBT_SECONDS_MAX * self.per_second);
    }
}

/// A call that has begun.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Pace);

impl Pace {
    /// Bounds the requests from now on.
    pub(super) fn limit(&self, requests_per_second: u32) {
        let per_second = f64::from(requests_per_second.max(1));
        *self.tokens.lock() = Some(Tokens {
            per_second,
            left: per_second,
            at: Instant::now(),
        });
    }

    /// A request goes out.
    pub(super) fn spend(&self) {
        if let Some(tokens) = self.tokens.lock().as_mut() {
            tokens.spend(Instant::now(), 1.0);
        }
    }

    /// Waits for a token, and lays it aside until the answer is dropped, so that calls which begin together do not all take the same.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let is_in_front = IN_FRONT.try_with(|()| ()).is_ok();
        let _waiting = is_in_front.then(|| Waiting::new(&self.in_front));
        while let Some(pause) = self.pause(is_in_front, Instant::now()) {
            tokio::time::sleep(pause).await;
        }
        Turn(self)
    }

    /// Takes a token, or tells how long to wait before the next try.
    fn pause(&self, is_in_front: bool, now: Instant) -> Option<Duration> {
        let mut slot = self.tokens.lock();
        let tokens = slot.as_mut()?;
        tokens.fill(now);
        let must_wait = !is_in_front && self.in_front.load(Ordering::Acquire) > 0;
        if tokens.left >= 1.0 && !must_wait {
            tokens.left -= 1.0;
            return None;
        }
        let seconds = ((1.0 - tokens.left) / tokens.per_second).max(0.001);
        Some(Duration::from_secs_f64(seconds).min(Duration::from_millis(LOOK_MS_MAX)))
    }
}

impl Drop for Turn<'_> {
    /// What was laid aside goes back: the requests that were made have paid for themselves.
    fn drop(&mut self) {
        if let Some(tokens) = self.0.tokens.lock().as_mut() {
            tokens.left += 1.0;
        }
    }
}

/// Counts somebody who goes first.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn new(count: &AtomicUsize) -> Waiting<'_> {
        count.fetch_add(1, Ordering::AcqRel);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(per_second: u32) -> Pace {
        let pace = Pace::default();
        pace.limit(per_second);
        pace
    }

    #[test]
    fn requests_never_pass_the_rate_by_more_than_a_second_of_it() {
        let pace = limited(10);
        let start = Instant::now();
        let mut made = 0;
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            if pace.pause(false, now).is_none() {
                made += 1;
                pace.tokens.lock().as_mut().unwrap().spend(now, 1.0);
                drop(Turn(&pace));
            }
        }
        assert!((100..=111).contains(&made), "{made} requests in 10 s at 10 a second");
    }

    #[test]
    fn repeats_are_paid_for_later_and_not_for_ever() {
        let pace = limited(10);
        let start = Instant::now();
        for _ in 0..1_000 {
            pace.tokens.lock().as_mut().unwrap().spend(start, 1.0);
        }
        assert!(pace.pause(true, start + Duration::from_secs(5)).is_some());
        assert!(pace.pause(true, start + Duration::from_secs(6)).is_none());
    }

    #[test]
    fn who_is_waited_for_goes_first() {
        let pace = limited(10);
        let waiting = Waiting::new(&pace.in_front);
        let now = Instant::now();
        assert!(pace.pause(false, now).is_some(), "a token was there, but not for it");
        assert!(pace.pause(true, now).is_none());
        drop(waiting);
        assert!(pace.pause(false, now).is_none());
    }

    #[tokio::test]
    async fn what_is_done_in_front_knows_it() {
        assert!(IN_FRONT.try_with(|()| ()).is_err());
        in_front(async { assert!(IN_FRONT.try_with(|()| ()).is_ok()) }).await;
        let pace = Pace::default();
        drop(pace.turn().await);
        assert!(pace.tokens.lock().is_none());
    }
}

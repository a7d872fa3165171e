//! What is counted while operations run: how long each took, how often it waited for the bucket, how often it failed.
//!
//! Counting is three additions to atomic numbers, without a lock: it is part of every operation. Owns these numbers. Does not own
//! their text (`metrics/text.rs`), the numbers of replica and index, which are asked for when somebody scrapes (`mount/observe.rs`),
//! nor who may read them (`metrics/server.rs`).

pub(crate) mod server;
pub(crate) mod text;

use crate::filesystem::Operation;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The smallest bound of a histogram is 2 to the power of this, in nanoseconds: 4.096 µs.
const FIRST_BOUND_LOG2_NS: u32 = 12;

/// From one bound to the next: a factor of 4.
const BOUND_STEP_LOG2: u32 = 2;

/// Bounds of a histogram; the last is 68.7 s. What takes longer is counted beyond them.
pub(crate) const BOUNDS: usize = 13;

/// How long one operation took, how often.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS + 1],
    sum_ns: AtomicU64,
}

/// A look at a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Times at most the bound of the same number, and above the one before; the last is beyond all bounds.
    pub(crate) buckets: [u64; BOUNDS + 1],
    /// All times together, in nanoseconds.
    pub(crate) sum_ns: u64,
}

impl Histogram {
    fn record(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    fn counts(&self) -> Counts {
        Counts {
            buckets: std::array::from_fn(|number| self.buckets[number].load(Relaxed)),
            sum_ns: self.sum_ns.load(Relaxed),
        }
    }
}

/// A bound in nanoseconds.
pub(crate) fn bound_ns(number: usize) -> u64 {
    1 << (FIRST_BOUND_LOG2_NS + BOUND_STEP_LOG2 * number as u32)
}

fn bucket_of(ns: u64) -> usize {
    let bits = u64::BITS - ns.saturating_sub(1).leading_zeros();
    let above = bits.saturating_sub(FIRST_BOUND_LOG2_NS);
    (above.div_ceil(BOUND_STEP_LOG2) as usize).min(BOUNDS)
}

/// The numbers of one operation.
#[derive(Debug, Default)]
struct OfOperation {
    took: Histogram,
    waited: AtomicU64,
    failed: AtomicU64,
}

/// A look at the numbers of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// How long it took.
    pub(crate) took: Counts,
    /// How often something had to come from the bucket first, or writers had to wait for room.
    pub(crate) waited: u64,
    /// How often it failed with what no program can have expected, such as EIO.
    pub(crate) failed: u64,
}

/// The numbers of one mount.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    operations: [OfOperation; Operation::ALL.len()],
}

impl Metrics {
    /// An operation was answered.
    pub(crate) fn took(&self, operation: Operation, time: Duration) {
        self.operations[operation as usize].took.record(time);
    }

    /// An operation has to wait for the bucket.
    pub(crate) fn waited(&self, operation: Operation) {
        self.operations[operation as usize].waited.fetch_add(1, Relaxed);
    }

    /// An operation failed for a reason that is not its caller's.
    pub(crate) fn failed(&self, operation: Operation) {
        self.operations[operation as usize].failed.fetch_add(1, Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn tell(&self, operation: Operation) -> Told {
        let of = &self.operations[operation as usize];
        Told {
            took: of.took.counts(),
            waited: of.waited.load(Relaxed),
            failed: of.failed.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_bucket_whose_bound_it_does_not_pass() {
        for number in 0..BOUNDS {
            let bound = bound_ns(number);
            assert_eq!(bucket_of(bound), number);
            assert_eq!(bucket_of(bound + 1), number + 1);
        }
        assert_eq!((bucket_of(0), bucket_of(1), bucket_of(u64::MAX)), (0, 0, BOUNDS));
    }

    #[test]
    fn operations_are_counted_apart() {
        let metrics = Metrics::default();
        metrics.took(Operation::Read, Duration::from_micros(5));
        metrics.took(Operation::Read, Duration::from_secs(100));
        metrics.waited(Operation::Read);
        metrics.failed(Operation::Space);
        let read = metrics.tell(Operation::Read);
        assert_eq!((read.took.buckets[1], read.took.buckets[BOUNDS]), (1, 1));
        assert_eq!(read.took.sum_ns, 100_000_005_000);
        assert_eq!((read.waited, read.failed), (1, 0));
        assert_eq!(metrics.tell(Operation::Space).failed, 1);
        assert_eq!(metrics.tell(Operation::Write).took, Counts::default());
    }
}

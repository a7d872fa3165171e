//! Time comes from outside, so that tests can hold it still.

use crate::types::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the replica gets the time from.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time, for file times and names of conflict copies.
    fn now(&self) -> Timestamp;
    /// Milliseconds on a clock that never runs backwards, for delays and deadlines.
    fn monotonic_ms(&self) -> u64;
    /// Another value after each start of the machine: what was not flushed before may be gone.
    fn boot_id(&self) -> String {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        id.unwrap_or_default().trim().to_owned()
    }
}

/// The machine's own clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn default() -> SystemClock {
        SystemClock {
            start: std::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp {
            seconds: since.as_secs() as i64,
            nanoseconds: since.subsec_nanos(),
        }
    }

    fn monotonic_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

//! How often to look: pure functions of who uses the mount and of what was found lately. All times in milliseconds.

use std::time::Duration;

/// Somebody who has asked for something within this time is likely to look again.
const IN_USE_MS: u64 = 10 * 60_000;

/// A writer that has written within this time is likely to write again.
pub(super) const BUSY_WRITER_MS: u64 = 30_000;

/// A writer that has been quiet for this long is away.
const AWAY_WRITER_MS: u64 = 24 * 3_600_000;

const BUSY_INTERVAL_MS: u64 = 500;
const INTERVAL_MS: u64 = 1_000;
const UNUSED_INTERVAL_MS: u64 = 10_000;

const DISCOVERY_INTERVAL_MS: u64 = 10_000;
const UNUSED_DISCOVERY_INTERVAL_MS: u64 = 60_000;
const SOON_DISCOVERY_INTERVAL_MS: u64 = 1_000;

/// Other tools that have written within this time are likely to go on.
const BUSY_OTHERS_MS: u64 = 5 * 60_000;

/// Who has read a directory within this time is likely to read it again.
const HOT_MS: u64 = 60_000;

const READ_LISTING_MS: u64 = 1_500;
const WATCHED_LISTING_MS: u64 = 5_000;
const BUSY_LISTING_MS: u64 = 5_000;
const LISTING_MS: u64 = 30_000;
const UNUSED_LISTING_MS: u64 = 5 * 60_000;
const LISTING_MAX_MS: u64 = 30 * 60_000;

/// Pauses after a failed look: the first, and the longest.
const FAILED_FIRST_MS: u64 = 500;
const FAILED_LONGEST_MS: u64 = 15_000;

/// How often a writer's feed is asked for that last had something new so long ago (`None`: not since the start).
pub(super) fn feed_interval_ms(unused_ms: u64, writer_quiet_ms: Option<u64>) -> u64 {
    match (unused_ms, writer_quiet_ms.unwrap_or(BUSY_WRITER_MS)) {
        (unused, _) if unused > IN_USE_MS => UNUSED_INTERVAL_MS,
        (_, quiet) if quiet < BUSY_WRITER_MS => BUSY_INTERVAL_MS,
        (_, quiet) if quiet < AWAY_WRITER_MS => INTERVAL_MS,
        _ => UNUSED_INTERVAL_MS,
    }
}

/// How often new writers are looked for; `soon`: one has just written.
pub(super) fn discovery_interval_ms(unused_ms: u64, soon: bool) -> u64 {
    match unused_ms {
        _ if soon => SOON_DISCOVERY_INTERVAL_MS,
        unused if unused > IN_USE_MS => UNUSED_DISCOVERY_INTERVAL_MS,
        _ => DISCOVERY_INTERVAL_MS,
    }
}

/// How often the bucket is listed, which takes `pages` requests, where other tools have last written `others_quiet_ms` ago.
pub(super) fn listing_interval_ms(asked: Option<Duration>, unused_ms: u64, others_quiet_ms: u64, pages: u64) -> u64 {
    if let Some(asked) = asked {
        return u64::try_from(asked.as_millis()).unwrap_or(u64::MAX);
    }
    let once = match (unused_ms, others_quiet_ms) {
        (unused, _) if unused > IN_USE_MS => UNUSED_LISTING_MS,
        (_, quiet) if quiet < BUSY_OTHERS_MS => BUSY_LISTING_MS,
        _ => LISTING_MS,
    };
    once.saturating_mul(pages.max(1)).min(LISTING_MAX_MS)
}

/// How often a directory is listed that programs have read, or were seen to watch, so long ago, where the whole bucket, were it one page, would be
/// listed every `once_ms`.
pub(super) fn hot_interval_ms(asked: Option<Duration>, read_ago_ms: u64, watched_ago_ms: u64, once_ms: u64) -> u64 {
    match asked {
        Some(_) => once_ms,
        None if read_ago_ms < HOT_MS => READ_LISTING_MS.min(once_ms),
        None if watched_ago_ms < HOT_MS => WATCHED_LISTING_MS.min(once_ms),
        None => once_ms,
    }
}

/// How long to leave a store alone that has failed so often in a row.
pub(super) fn pause_ms(failures: u32) -> u64 {
    match failures {
        0 => 0,
        _ => FAILED_FIRST_MS
            .saturating_mul(1 << (failures - 1).min(10))
            .min(FAILED_LONGEST_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    #[test]
    fn an_idle_writer_costs_one_request_a_second_and_an_unused_mount_a_tenth() {
        assert_eq!(feed_interval_ms(0, Some(MINUTE_MS)), 1_000);
        assert_eq!(feed_interval_ms(9 * MINUTE_MS, None), 1_000);
        assert_eq!(feed_interval_ms(0, Some(1_000)), 500);
        assert_eq!(feed_interval_ms(11 * MINUTE_MS, Some(1_000)), 10_000);
        assert_eq!(
            feed_interval_ms(0, Some(2 * 24 * 60 * MINUTE_MS)),
            10_000,
            "a machine that is away"
        );
    }

    #[test]
    fn a_writer_that_nobody_knows_is_looked_for_soon() {
        assert_eq!(discovery_interval_ms(0, false), 10_000);
        assert_eq!(discovery_interval_ms(11 * MINUTE_MS, false), 60_000);
        assert_eq!(discovery_interval_ms(11 * MINUTE_MS, true), 1_000);
    }

    #[test]
    fn listings_follow_what_others_do_and_what_they_cost() {
        let (used, unused) = (0, 60 * MINUTE_MS);
        assert_eq!(listing_interval_ms(None, used, MINUTE_MS, 1), 5_000);
        assert_eq!(listing_interval_ms(None, used, 60 * MINUTE_MS, 1), 30_000);
        assert_eq!(listing_interval_ms(None, used, 60 * MINUTE_MS, 10), 300_000);
        assert_eq!(listing_interval_ms(None, unused, MINUTE_MS, 1), 300_000);
        assert_eq!(listing_interval_ms(None, used, MINUTE_MS, 1_000_000), LISTING_MAX_MS);
        let asked = Some(Duration::from_secs(2));
        assert_eq!(listing_interval_ms(asked, unused, 0, 50), 2_000);
    }

    #[test]
    fn a_directory_that_is_read_or_watched_is_listed_soon_again() {
        let long_ago = u64::MAX;
        assert_eq!(hot_interval_ms(None, 1_000, long_ago, 30_000), 1_500);
        assert_eq!(hot_interval_ms(None, HOT_MS, 1_000, 30_000), 5_000);
        assert_eq!(hot_interval_ms(None, HOT_MS, HOT_MS, 30_000), 30_000);
        assert_eq!(hot_interval_ms(None, long_ago, 0, 4_000), 4_000);
        assert_eq!(hot_interval_ms(Some(Duration::from_secs(9)), 0, 0, 9_000), 9_000);
    }

    #[test]
    fn a_store_that_fails_is_left_alone_ever_longer() {
        assert_eq!([0, 1, 2, 3, 30].map(pause_ms), [0, 500, 1_000, 2_000, 15_000]);
    }
}

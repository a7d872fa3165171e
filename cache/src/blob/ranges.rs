//! Sets of byte ranges: sorted, apart from each other, never empty.

/// Adds `[start, end)`.
pub(crate) fn add(ranges: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    if start >= end {
        return;
    }
    let first = ranges.partition_point(|range| range.1 < start);
    let last = ranges.partition_point(|range| range.0 <= end);
    let merged = ranges[first..last]
        .iter()
        .fold((start, end), |all, range| (all.0.min(range.0), all.1.max(range.1)));
    ranges.splice(first..last, [merged]);
}

/// Takes away everything from `size` on.
pub(crate) fn truncate(ranges: &mut Vec<(u64, u64)>, size: u64) {
    ranges.retain(|range| range.0 < size);
    if let Some(last) = ranges.last_mut() {
        last.1 = last.1.min(size);
    }
}

/// The first gap inside `[start, end)`, cut to it.
pub(crate) fn first_gap(ranges: &[(u64, u64)], start: u64, end: u64) -> Option<(u64, u64)> {
    let at = ranges.partition_point(|range| range.1 <= start);
    let gap_start = match ranges.get(at) {
        Some(range) if range.0 <= start => range.1,
        _ => start,
    };
    let next = ranges
        .get(ranges.partition_point(|range| range.0 <= gap_start))
        .map_or(end, |range| range.0);
    (gap_start < end).then(|| (gap_start, next.min(end)))
}

/// All gaps inside `[start, end)`.
pub(crate) fn gaps(ranges: &[(u64, u64)], start: u64, end: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut at = start;
    while let Some(gap) = first_gap(ranges, at, end) {
        gaps.push(gap);
        at = gap.1;
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every short sequence of operations agrees with a bitmap.
    #[test]
    fn agrees_with_a_bitmap() {
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..2000 {
            let (mut ranges, mut bits) = (Vec::new(), [false; 64]);
            for _ in 0..8 {
                let (a, b) = (random(64), random(65));
                if random(5) == 0 {
                    truncate(&mut ranges, a);
                    bits[a as usize..].fill(false);
                } else {
                    add(&mut ranges, a, b);
                    (a..b).for_each(|at| bits[at as usize] = true);
                }
                assert!(
                    ranges.windows(2).all(|pair| pair[0].1 < pair[1].0) && ranges.iter().all(|r| r.0 < r.1),
                    "{ranges:?}"
                );
                let mut covered = [true; 64];
                for gap in gaps(&ranges, 0, 64) {
                    (gap.0..gap.1).for_each(|at| covered[at as usize] = false);
                }
                assert_eq!(covered, bits, "{ranges:?}");
            }
        }
    }
}

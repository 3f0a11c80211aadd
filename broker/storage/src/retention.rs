//! What may go, and when: pure decisions over the segments of a log (P7).
//!
//! Two questions. Which records does the log as a whole no longer keep: that moves log start. Which
//! local copies are no longer wanted although the log keeps their records in the tier: those go below
//! the local floor, oldest first. Both answer with an offset at the border of segments; nothing here
//! deletes.

use esker_protocol::{Offset, Timestamp};

use crate::log::SegmentInfo;

/// `retention.bytes` and `retention.ms`, or their local counterparts; `None` is without a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that are kept.
    pub bytes: Option<u64>,
    /// How long records are kept, by their timestamps.
    pub ms: Option<i64>,
}

/// The largest timestamp of a segment, or when it was begun if its records have none.
fn age_ms(segment: &SegmentInfo, now: Timestamp) -> i64 {
    let newest = if segment.max_timestamp >= Timestamp(0) {
        segment.max_timestamp
    } else {
        segment.created
    };
    now.0.saturating_sub(newest.0)
}

/// Whether the last segment should be sealed first, because all of it is older than `limits` allow.
#[must_use]
pub fn wants_roll(segments: &[SegmentInfo], limits: Limits, now: Timestamp) -> bool {
    let Some(ms) = limits.ms else {
        return false;
    };
    segments.last().is_some_and(|active| {
        !active.sealed && active.end > active.base && age_ms(active, now) > ms
    })
}

/// Where the log of an untiered topic begins once `limits` are applied; `None` when nothing goes.
/// Only sealed segments below the high watermark go.
#[must_use]
pub fn log_start(
    segments: &[SegmentInfo],
    limits: Limits,
    now: Timestamp,
    high_watermark: Offset,
) -> Option<Offset> {
    passed(segments, limits, now, 0, high_watermark)
}

/// Where the local copies of a tiered log begin once local `limits` are applied; `None` when none
/// goes. `floor` is the tier's: only what ends at or below it may go at all.
#[must_use]
pub fn local_start(
    segments: &[SegmentInfo],
    limits: Limits,
    now: Timestamp,
    floor: Offset,
) -> Option<Offset> {
    passed(segments, limits, now, 0, floor)
}

/// Where the local copies begin once at least `wanted_bytes` of them have gone, or all that may.
#[must_use]
pub fn local_start_at_reserve(
    segments: &[SegmentInfo],
    wanted_bytes: u64,
    floor: Offset,
) -> Option<Offset> {
    let mut freed = 0;
    let mut start = None;
    for segment in segments
        .iter()
        .filter(|segment| segment.sealed && segment.end <= floor)
    {
        if freed >= wanted_bytes {
            break;
        }
        freed += segment.bytes;
        start = Some(segment.end);
    }
    start
}

/// The end of the last segment, from the oldest on, that a limit lets go and `bound` allows.
/// `beside_bytes` count as kept besides the segments.
fn passed(
    segments: &[SegmentInfo],
    limits: Limits,
    now: Timestamp,
    beside_bytes: u64,
    bound: Offset,
) -> Option<Offset> {
    let total = beside_bytes + segments.iter().map(|segment| segment.bytes).sum::<u64>();
    let mut excess = limits.bytes.map_or(0, |bytes| total.saturating_sub(bytes));
    let mut start = None;
    for segment in segments {
        let too_old = limits.ms.is_some_and(|ms| age_ms(segment, now) > ms);
        let too_much = segment.bytes > 0 && excess >= segment.bytes;
        if !segment.sealed || segment.end > bound || !(too_old || too_much) {
            break;
        }
        excess = excess.saturating_sub(segment.bytes);
        start = Some(segment.end);
    }
    start
}

#[cfg(test)]
mod tests;

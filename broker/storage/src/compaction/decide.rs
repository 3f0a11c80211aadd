//! Which part of a log is to be compacted, whether it is worth it, and in which groups.

use esker_protocol::{Offset, Timestamp};

use super::CompactionRules;
use crate::log::SegmentInfo;

/// What a pass over a log would take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleanable {
    /// The first offset whose key was never mapped.
    pub first_dirty: Offset,
    /// Where the pass ends, exclusive: the base of a segment.
    pub end: Offset,
    /// The bytes of the segments that begin below the first dirty offset.
    pub clean_bytes: u64,
    /// The bytes of the segments to be mapped.
    pub dirty_bytes: u64,
    /// Whether a record has waited for longer than `max.compaction.lag.ms`.
    pub is_overdue: bool,
}

impl Cleanable {
    /// The share of dirty bytes.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio is compared with a setting of few digits"
    )]
    pub fn ratio(&self) -> f64 {
        let total = self.clean_bytes + self.dirty_bytes;
        if total == 0 {
            return 0.0;
        }
        self.dirty_bytes as f64 / total as f64
    }

    /// Whether the pass is worth it.
    #[must_use]
    pub fn is_due(&self, rules: &CompactionRules) -> bool {
        self.dirty_bytes > 0 && (self.is_overdue || self.ratio() > rules.dirty_ratio_min)
    }
}

/// What a pass would take of a log with these segments, the last of them active. `clean_end` is where
/// the last pass ended, `bound` the end of what may be compacted at all; `first_timestamp` gives that of
/// a segment's first batch, and is asked only where `max.compaction.lag.ms` needs it.
pub fn cleanable<E>(
    segments: &[SegmentInfo],
    clean_end: Offset,
    bound: Offset,
    rules: &CompactionRules,
    now: Timestamp,
    mut first_timestamp: impl FnMut(Offset) -> Result<Timestamp, E>,
) -> Result<Option<Cleanable>, E> {
    let Some((active, sealed)) = segments.split_last() else {
        return Ok(None);
    };
    let first_dirty = clean_end.min(active.base);
    // The segment that holds the first dirty offset counts as dirty, and as clean too.
    let dirty: Vec<&SegmentInfo> = sealed
        .iter()
        .filter(|segment| segment.end > first_dirty)
        .collect();
    let young = |segment: &&&SegmentInfo| {
        let newest = match segment.max_timestamp {
            Timestamp::NONE => segment.created,
            newest => newest,
        };
        newest.0 > now.0.saturating_sub(rules.lag_ms_min)
    };
    let young = dirty.iter().find(young).filter(|_| rules.lag_ms_min > 0);
    let until = young
        .map_or(active.base, |segment| segment.base)
        .min(bound)
        .max(first_dirty);
    // Segments are taken whole.
    let end = sealed
        .iter()
        .find(|segment| segment.end > until)
        .map_or(active.base, |segment| segment.base);
    let taken: Vec<&SegmentInfo> = dirty
        .into_iter()
        .take_while(|segment| segment.end <= end)
        .collect();
    if taken.is_empty() {
        return Ok(None);
    }
    let clean = sealed.iter().filter(|segment| segment.base < first_dirty);
    let mut is_overdue = false;
    if rules.lag_ms_max < i64::MAX {
        for segment in &taken {
            let first = first_timestamp(segment.base)?;
            is_overdue |= first.0 > 0 && first.0 < now.0.saturating_sub(rules.lag_ms_max.max(0));
        }
    }
    Ok(Some(Cleanable {
        first_dirty,
        end,
        clean_bytes: clean.map(|segment| segment.bytes).sum(),
        dirty_bytes: taken.iter().map(|segment| segment.bytes).sum(),
        is_overdue,
    }))
}

/// A segment to be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) bytes: u64,
    pub(crate) created: Timestamp,
    pub(crate) offset_index_bytes: u64,
    pub(crate) time_index_bytes: u64,
}

/// Segments that become one are open together.
const GROUP_SEGMENTS_MAX: usize = 64;

/// Neighbours that become one segment each: as many as together stay within the size of a segment, of
/// its indexes, and the reach of their offsets.
pub(crate) fn groups(
    sources: &[Source],
    segment_bytes: u64,
    index_bytes_max: u64,
) -> Vec<Vec<Source>> {
    let mut groups: Vec<Vec<Source>> = Vec::new();
    for &source in sources {
        let fits = |group: &Vec<Source>| {
            let sum = |of: fn(&Source) -> u64| group.iter().map(of).sum::<u64>() + of(&source);
            let reach = group.first().map_or(0, |first| source.end - first.base);
            group.len() < GROUP_SEGMENTS_MAX
                && sum(|one| one.bytes) <= segment_bytes
                && sum(|one| one.offset_index_bytes) <= index_bytes_max
                && sum(|one| one.time_index_bytes) <= index_bytes_max
                && reach <= i64::from(i32::MAX)
        };
        match groups.last_mut() {
            Some(group) if fits(group) => group.push(source),
            _ => groups.push(vec![source]),
        }
    }
    groups
}

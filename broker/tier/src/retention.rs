//! Retention over both tiers: how far the log start moves, pure.
//!
//! Kafka's rules, counting every byte once: local copies of what is tiered count for nothing, so the
//! log is the tiered entries, then the local segments from the tier end on. The oldest piece goes while
//! its newest record is older than `retention.ms`, or while what would be left still has
//! `retention.bytes`. Only whole pieces go, and never the active segment.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::{Offset, Timestamp};

use crate::manifest::{Head, Page};
use crate::pointer::Pointer;

/// How much of a log to keep; none is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionConfig {
    /// `retention.ms`.
    pub ms: Option<i64>,
    /// `retention.bytes`.
    pub bytes: Option<u64>,
}

/// A local segment that ends above the tier end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalSegment {
    /// End, exclusive.
    pub end: Offset,
    /// Bytes of it at or above the tier end.
    pub bytes: u64,
    /// Its newest record's timestamp, or when it was last written where records bear none.
    pub timestamp: Timestamp,
    /// Whether it may go: sealed, and wholly below the high watermark.
    pub deletable: bool,
}

/// What retention says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The log start, moved or not.
    LogStart(Offset),
    /// The decision lies inside this page of the head: ask again with it.
    NeedsPage(usize),
}

/// What is left to walk over, oldest first.
struct Walk<'a> {
    config: &'a RetentionConfig,
    now: Timestamp,
    total: u64,
    start: Offset,
}

impl Walk<'_> {
    fn goes(&self, bytes: u64, timestamp: Timestamp) -> bool {
        let expired = |ms: i64| self.now.0.saturating_sub(timestamp.0) > ms;
        let exceeds = |max: u64| self.total.saturating_sub(max) >= bytes && self.total > max;
        self.config.ms.is_some_and(expired) || self.config.bytes.is_some_and(exceeds)
    }

    /// Lets a piece go if it does; says whether it went.
    fn take(&mut self, end: Offset, bytes: u64, timestamp: Timestamp) -> bool {
        // What the log start has passed is gone already.
        if end <= self.start {
            return true;
        }
        if !self.goes(bytes, timestamp) {
            return false;
        }
        self.total = self.total.saturating_sub(bytes);
        self.start = end;
        true
    }
}

/// Where the log start moves to.
///
/// `pages` are the head's pages read so far, by their place in the head.
#[must_use]
pub fn retention(
    head: Option<&Head>,
    pages: &BTreeMap<usize, Arc<Page>>,
    pointer: &Pointer,
    local: &[LocalSegment],
    config: &RetentionConfig,
    now: Timestamp,
) -> Decision {
    let start = pointer.log_start;
    // Behind a tier end that has moved past the manifest, nothing of the manifest is left.
    let head = head.filter(|head| head.tier_end == pointer.tier_end);
    if let Some(number) = partly_passed_page(head, start).filter(|n| !pages.contains_key(n)) {
        // The sum of a page that the log start has passed in part says too much.
        return Decision::NeedsPage(number);
    }
    let total = total_bytes(head, pages, start, local);
    let mut walk = Walk {
        config,
        now,
        total,
        start,
    };
    if let Some(head) = head {
        match walk_tier(&mut walk, head, pages) {
            Step::GoesOn => {}
            Step::Ends => return Decision::LogStart(walk.start),
            Step::NeedsPage(number) => return Decision::NeedsPage(number),
        }
    }
    for segment in local {
        if !segment.deletable || !walk.take(segment.end, segment.bytes, segment.timestamp) {
            break;
        }
    }
    Decision::LogStart(walk.start)
}

enum Step {
    GoesOn,
    Ends,
    NeedsPage(usize),
}

fn walk_tier(walk: &mut Walk<'_>, head: &Head, pages: &BTreeMap<usize, Arc<Page>>) -> Step {
    for (number, page_ref) in head.pages.iter().enumerate() {
        if page_ref.end <= walk.start {
            continue;
        }
        if let Some(page) = pages.get(&number) {
            for entry in &page.entries {
                if !walk.take(entry.end, entry.segment_bytes, entry.retention_timestamp()) {
                    return Step::Ends;
                }
            }
            continue;
        }
        // If the page goes as one piece then all of it goes: by time its newest entry has expired, by
        // size what is behind it is enough.
        let bytes = page_ref.segment_bytes;
        if walk.take(page_ref.end, bytes, page_ref.retention_timestamp_max) {
            continue;
        }
        if walk.goes(
            page_ref.segment_bytes_first,
            page_ref.retention_timestamp_first,
        ) {
            return Step::NeedsPage(number);
        }
        return Step::Ends;
    }
    for entry in &head.entries {
        if !walk.take(entry.end, entry.segment_bytes, entry.retention_timestamp()) {
            return Step::Ends;
        }
    }
    Step::GoesOn
}

fn partly_passed_page(head: Option<&Head>, start: Offset) -> Option<usize> {
    let pages = &head?.pages;
    let number = pages.partition_point(|page| page.end <= start);
    (pages.get(number)?.base < start).then_some(number)
}

fn total_bytes(
    head: Option<&Head>,
    pages: &BTreeMap<usize, Arc<Page>>,
    start: Offset,
    local: &[LocalSegment],
) -> u64 {
    let local = local
        .iter()
        .filter(|segment| segment.end > start)
        .map(|segment| segment.bytes);
    let mut total: u64 = local.fold(0, u64::saturating_add);
    let Some(head) = head else {
        return total;
    };
    for (number, page_ref) in head.pages.iter().enumerate() {
        let bytes = match pages.get(&number) {
            Some(page) => {
                let kept = page.entries.iter().filter(|entry| entry.end > start);
                kept.map(|entry| entry.segment_bytes)
                    .fold(0, u64::saturating_add)
            }
            None if page_ref.end > start => page_ref.segment_bytes,
            None => 0,
        };
        total = total.saturating_add(bytes);
    }
    let kept = head.entries.iter().filter(|entry| entry.end > start);
    kept.map(|entry| entry.segment_bytes)
        .fold(total, u64::saturating_add)
}

#[cfg(test)]
mod tests;

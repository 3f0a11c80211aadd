//! Which sealed segments go to the bucket now, and in how many objects: P7's bundling rule, pure.
//!
//! Only what is sealed and ends at or below min(high watermark, last stable offset) goes. Less than
//! `offload.min.bytes` waits for its successors, at most `offload.max.age.ms`; the wait ends at once
//! when the directory nears its reserve. What goes is bundled: consecutive segments share an object
//! up to `object_bytes_max`, because every object costs a write request.

use esker_protocol::{Offset, Timestamp};

use crate::pointer::Pointer;

/// Segments in one commit at most: what is left goes with the next.
pub const COMMIT_SEGMENTS_MAX: usize = 256;
/// Objects in one commit at most, so that a commit is never far away.
pub const COMMIT_OBJECTS_MAX: usize = 8;

/// When to offload and how to bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffloadConfig {
    /// `offload.min.bytes`: less than this waits.
    pub offload_bytes_min: u64,
    /// `offload.max.age.ms`: but not longer than this after it was sealed.
    pub age_max_ms: i64,
    /// Segments share an object up to this many bytes before compression.
    pub object_bytes_max: u64,
}

impl Default for OffloadConfig {
    fn default() -> OffloadConfig {
        OffloadConfig {
            offload_bytes_min: 1 << 20,
            age_max_ms: 600_000,
            object_bytes_max: 64 << 20,
        }
    }
}

/// A sealed segment of the local log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedSegment {
    /// Base offset.
    pub base: Offset,
    /// End, exclusive.
    pub end: Offset,
    /// Length of its file.
    pub bytes: u64,
    /// When it was sealed.
    pub sealed_at: Timestamp,
}

/// What to offload now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffloadPlan {
    /// The tier end: the first segment is cut here.
    pub from: Offset,
    /// End of the last segment.
    pub to: Offset,
    /// The segments of each object, oldest first.
    pub objects: Vec<Vec<SealedSegment>>,
}

impl OffloadPlan {
    /// All segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &SealedSegment> {
        self.objects.iter().flatten()
    }
}

/// Says what goes now; none when nothing may, or what may still waits.
#[must_use]
pub fn plan_offload(
    segments: &[SealedSegment],
    pointer: &Pointer,
    committable_end: Offset,
    config: &OffloadConfig,
    now: Timestamp,
    near_reserve: bool,
) -> Option<OffloadPlan> {
    let candidates = candidates(segments, pointer, committable_end);
    let mut objects = bundle(candidates, config.object_bytes_max, |segment| segment.bytes);
    let waits = |object: &Vec<SealedSegment>| {
        let bytes: u64 = object.iter().map(|segment| segment.bytes).sum();
        let aged = |segment: &SealedSegment| now.0 >= due(segment, config).0;
        bytes < config.offload_bytes_min && !near_reserve && !object.iter().any(aged)
    };
    // Only the last bundle can still grow; an earlier one is closed because its successor did not
    // fit, so waiting longer would not make it any larger.
    if objects.last().is_some_and(waits) {
        objects.pop();
    }
    objects.truncate(COMMIT_OBJECTS_MAX);
    let to = objects.last()?.last()?.end;
    Some(OffloadPlan {
        from: pointer.tier_end,
        to,
        objects,
    })
}

/// When a wait that [`plan_offload`] imposes ends by age; none when nothing waits.
#[must_use]
pub fn next_offload_at(
    segments: &[SealedSegment],
    pointer: &Pointer,
    committable_end: Offset,
    config: &OffloadConfig,
) -> Option<Timestamp> {
    let candidates = candidates(segments, pointer, committable_end);
    candidates.iter().map(|segment| due(segment, config)).min()
}

fn due(segment: &SealedSegment, config: &OffloadConfig) -> Timestamp {
    Timestamp(segment.sealed_at.0.saturating_add(config.age_max_ms))
}

/// The sealed segments that may go: an unbroken run from the tier end to the committable end.
fn candidates<'a>(
    segments: &'a [SealedSegment],
    pointer: &Pointer,
    committable_end: Offset,
) -> &'a [SealedSegment] {
    let first = segments.partition_point(|segment| segment.end <= pointer.tier_end);
    let rest = segments.get(first..).unwrap_or_default();
    // A log that begins above the tier end has nothing that could follow it (P8's case).
    if rest
        .first()
        .is_none_or(|segment| segment.base > pointer.tier_end)
    {
        return &[];
    }
    let mut count = 0;
    let mut expected = None;
    for segment in rest.iter().take(COMMIT_SEGMENTS_MAX) {
        let touches = expected.is_none_or(|end| end == segment.base);
        if !touches || segment.end > committable_end {
            break;
        }
        expected = Some(segment.end);
        count += 1;
    }
    rest.get(..count).unwrap_or_default()
}

/// Groups consecutive pieces so that each group's sum stays within `bytes_max`; a larger piece is
/// alone.
pub(crate) fn bundle<T: Clone>(
    pieces: &[T],
    bytes_max: u64,
    bytes: impl Fn(&T) -> u64,
) -> Vec<Vec<T>> {
    let mut bundles: Vec<Vec<T>> = Vec::new();
    let mut filled = 0_u64;
    for piece in pieces {
        let grown = filled.saturating_add(bytes(piece));
        match bundles.last_mut() {
            Some(bundle) if grown <= bytes_max => {
                bundle.push(piece.clone());
                filled = grown;
            }
            _ => {
                bundles.push(vec![piece.clone()]);
                filled = bytes(piece);
            }
        }
    }
    bundles
}

#[cfg(test)]
mod tests;

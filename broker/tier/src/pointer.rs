//! The value of a partition's tier key, and the pure rules that change it (P7, P8).
//!
//! The pointer is all that the metadata store holds of a partition's tier. This module says what the
//! next value is; whoever leads the partition commits it by compare-and-swap, and only then is it true.
//!
//! Invariants
//! - Every field but `manifest`, `checksum` and the epochs only grows, and the claimed epoch too.
//! - `local_floor <= tier_end`, and `log_start <= tier_end` unless it points into the batch there.
//! - A writer whose epoch is not the claimed one gets no next value.

use esker_protocol::{LeaderEpoch, Offset};

/// What the tier key of a partition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The leader epoch that holds the key.
    pub claimed_epoch: LeaderEpoch,
    /// File name of the committed manifest head, or none before the first commit.
    pub manifest: Option<String>,
    /// The head's trailing CRC-32C.
    pub checksum: u32,
    /// Version of the committed manifest; 0 before the first.
    pub version: u64,
    /// End of what is tiered.
    pub tier_end: Offset,
    /// Leader epoch of the last tiered batch, or [`LeaderEpoch::NONE`].
    pub tier_end_epoch: LeaderEpoch,
    /// First offset that a reader may have.
    pub log_start: Offset,
    /// Below it every replica may drop local copies.
    pub local_floor: Offset,
}

impl Pointer {
    /// Where a log that has nothing local begins: P8's S.
    #[must_use]
    pub fn restart_offset(&self) -> Offset {
        self.tier_end.max(self.log_start)
    }
}

/// What a claim on an absent key needs to know of the local log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFacts {
    /// The log start.
    pub log_start: Offset,
    /// The batch that holds the log start, or none if none does (the log ends there).
    pub log_start_batch: Option<BatchBefore>,
    /// Leader epoch of the batch before the log start (or before its batch), or none.
    pub epoch_before: LeaderEpoch,
}

/// The batch that holds an offset, and the epoch of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchBefore {
    /// Base offset of the batch.
    pub base: Offset,
    /// Leader epoch of the batch before it, or none.
    pub epoch_before: LeaderEpoch,
}

/// The key is held by a later leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tier is claimed by leader epoch {claimed}, which is after {given}")]
pub struct Fenced {
    /// The epoch that asked.
    pub given: LeaderEpoch,
    /// The epoch that holds the key.
    pub claimed: LeaderEpoch,
}

/// The value with which the leader of `epoch` claims the key.
///
/// # Errors
/// [`Fenced`] when a later epoch holds it.
pub fn claim(
    current: Option<&Pointer>,
    log: &LogFacts,
    epoch: LeaderEpoch,
) -> Result<Pointer, Fenced> {
    let Some(current) = current else {
        let (tier_end, tier_end_epoch) = match log.log_start_batch {
            Some(batch) => (batch.base, batch.epoch_before),
            None => (log.log_start, log.epoch_before),
        };
        return Ok(Pointer {
            claimed_epoch: epoch,
            manifest: None,
            checksum: 0,
            version: 0,
            tier_end,
            tier_end_epoch,
            log_start: log.log_start,
            // The floor never passes the tier end, and nothing below the log start is left to keep.
            local_floor: tier_end,
        });
    };
    check_fence(current, epoch)?;
    Ok(Pointer {
        claimed_epoch: epoch,
        ..current.clone()
    })
}

/// The value that moves the log start to `to`.
///
/// `batch` is the batch of the local log that holds `to`; it is needed only when `to` passes the
/// tier end, and is none where no batch holds it. A log start that is not behind `to` stays.
#[must_use]
pub fn advance_log_start(
    pointer: &Pointer,
    to: Offset,
    batch: Option<BatchBefore>,
    epoch_before: LeaderEpoch,
) -> Pointer {
    let mut next = pointer.clone();
    if to <= pointer.log_start {
        return next;
    }
    next.log_start = to;
    if to > pointer.tier_end {
        let (tier_end, epoch) = match batch {
            Some(batch) => (batch.base, batch.epoch_before),
            None => (to, epoch_before),
        };
        // The tier end is a batch border, so the batch that holds a later offset begins at or after
        // it; taking the larger keeps it from ever going back on wrong facts.
        if tier_end > pointer.tier_end {
            next.tier_end = tier_end;
            next.tier_end_epoch = epoch;
            next.local_floor = next.local_floor.max(tier_end);
        }
    }
    next
}

/// The value with which a leader starts its log anew at S above the tier end (P8): the tier end
/// moves to S, with the leader's own epoch, so that the next manifest starts there.
///
/// # Errors
/// [`Fenced`] when a later epoch holds the key.
pub fn restart_at(pointer: &Pointer, at: Offset, epoch: LeaderEpoch) -> Result<Pointer, Fenced> {
    check_fence(pointer, epoch)?;
    let mut next = Pointer {
        claimed_epoch: epoch,
        ..pointer.clone()
    };
    if at > pointer.tier_end {
        next.tier_end = at;
        next.tier_end_epoch = epoch;
        next.log_start = next.log_start.max(at);
        next.local_floor = next.local_floor.max(at);
    }
    Ok(next)
}

/// Refuses a writer whose epoch lies behind the claimed one.
pub(crate) fn check_fence(pointer: &Pointer, epoch: LeaderEpoch) -> Result<(), Fenced> {
    if pointer.claimed_epoch > epoch {
        return Err(Fenced {
            given: epoch,
            claimed: pointer.claimed_epoch,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

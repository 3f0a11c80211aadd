//! Compaction: of records with one key, the last stays. The decisions, without any I/O.
//!
//! ```text
//! local start      first dirty          end        active
//!     |     clean       |      dirty     |  later    |
//!     every key once    |   its keys are mapped to their last offsets, then
//!     |<--------- segments are rewritten ----------->|
//! ```
//! Invariants
//! - Offsets never move: a batch keeps its base offset and its last offset, a record its own.
//! - A record goes only when a later one of its key is mapped and stays, or when it is a tombstone
//!   whose delete horizon has passed; that horizon is set by the first pass that meets it, after all
//!   that it deletes has gone.
//! - A rewritten segment ends in a batch that reaches to the next segment, an empty one if need be:
//!   what is missing from the end of a segment is always noticed.
//! - Batches with an epoch of a producer's that may be asked for stay, emptied.

mod decide;
mod filter;
mod keys;

use esker_protocol::Offset;
use esker_protocol::records::{BuildError, RecordsError};

use crate::error::{ChangeError, Damage, ReadError};

pub use decide::{Cleanable, cleanable};
pub(crate) use decide::{Source, groups};
pub(crate) use filter::{Filter, Verdict};
pub(crate) use keys::OffsetMap;

/// The settings of a topic that compaction obeys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionRules {
    /// `min.cleanable.dirty.ratio`.
    pub dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`: younger records stay as they are.
    pub lag_ms_min: i64,
    /// `max.compaction.lag.ms`: older ones are compacted whatever the ratio.
    pub lag_ms_max: i64,
    /// `delete.retention.ms`: how long a tombstone stays once it was met.
    pub delete_retention_ms: i64,
}

impl Default for CompactionRules {
    fn default() -> CompactionRules {
        CompactionRules {
            dirty_ratio_min: 0.5,
            lag_ms_min: 0,
            lag_ms_max: i64::MAX,
            delete_retention_ms: 24 * 3_600_000,
        }
    }
}

/// What a pass may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionLimits {
    /// `log.cleaner.dedupe.buffer.size`: memory for the offsets of keys.
    pub map_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`: the share of it that is filled.
    pub load_factor: f64,
    /// What keys are hashed with: nobody who writes keys may know it.
    pub hash_key: [u8; 16],
}

/// What one step of a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionStep {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Whether the pass has ended.
    pub done: bool,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Everything below it is clean.
    pub clean_end: Offset,
    /// Segments that were rewritten.
    pub segments: usize,
    /// Segments that took their place.
    pub segments_left: usize,
    /// The bytes of the segments that were looked at.
    pub bytes: u64,
    /// What is left of them.
    pub bytes_left: u64,
    /// Records that were looked at.
    pub records: u64,
    /// Records that stayed.
    pub records_left: u64,
    /// The most memory that the offsets of keys took.
    pub map_bytes: usize,
    /// Whether the map was full, so that a part waits for the next pass.
    pub map_was_full: bool,
}

/// Why a pass ended before its end. What it had replaced by then stays.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// The log was cut, let go of, or closed meanwhile; another pass may work.
    #[error("the log has changed meanwhile")]
    Interrupted,
    /// The disk refused, or the directory failed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The bytes are not those that were written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A batch's records cannot be read, so that nobody knows their keys.
    #[error("the batch at offset {offset} cannot be read")]
    Records {
        /// Its base offset.
        offset: Offset,
        /// What is wrong with it.
        source: RecordsError,
    },
    /// A batch cannot be written anew.
    #[error("the batch at offset {offset} cannot be rewritten")]
    Build {
        /// Its base offset.
        offset: Offset,
        /// Why.
        source: BuildError,
    },
    /// The first dirty batch has more keys than the map takes.
    #[error("the keys of the batch at offset {0} need more memory than the map may have")]
    MapTooSmall(Offset),
    /// What is left of the segments does not fit one segment.
    #[error("what is left of the segment at offset {0} is larger than a segment can be")]
    TooLarge(Offset),
}

impl CompactionError {
    /// Whether trying again later may work.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            CompactionError::Interrupted | CompactionError::Change(_)
        )
    }
}

impl From<ReadError> for CompactionError {
    fn from(error: ReadError) -> CompactionError {
        match error {
            ReadError::Damaged(damage) => CompactionError::Damaged(damage),
            other => CompactionError::Change(other.into()),
        }
    }
}

#[cfg(test)]
mod tests;

//! What an upload is made of: sealed segments, described without knowing how they are stored.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use esker_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Reads up to `len` bytes of a segment at a position. It may return fewer bytes, but none only at
/// the end. It blocks, and is called on the [`crate::pool::CpuPool`].
pub type ReadAt = Arc<dyn Fn(u64, usize) -> io::Result<Bytes> + Send + Sync>;

/// One sealed segment, or the part of it from the tier end on.
///
/// Positions count from the first byte of *this source*: where a segment is cut at the tier end
/// (P7), the caller shifts `read` and the positions of the offset index, and drops index entries of
/// what is cut away.
#[derive(Clone)]
pub struct SegmentSource {
    /// Base offset of the first batch.
    pub base: Offset,
    /// End of the last batch, exclusive.
    pub end: Offset,
    /// Length of the batches in bytes.
    pub bytes: u64,
    /// Largest timestamp in it.
    pub max_timestamp: Timestamp,
    /// The bytes.
    pub read: ReadAt,
    /// Kafka's offset index: offset relative to `base`, position.
    pub offset_index: Vec<(i32, i32)>,
    /// Kafka's time index: timestamp, offset relative to `base`.
    pub time_index: Vec<(i64, i32)>,
    /// Every aborted transaction that overlaps the source, wherever its marker is.
    pub aborted: Vec<AbortedTransaction>,
    /// Leader epochs and where they start, from the one in force at `base` on.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// The state of every producer as of `end`.
    pub producer_snapshot: Vec<ProducerEntry>,
    /// The transactions open at `end`, with the outcome they had.
    pub open_transactions: Vec<OpenTransaction>,
}

impl fmt::Debug for SegmentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentSource")
            .field("base", &self.base)
            .field("end", &self.end)
            .field("bytes", &self.bytes)
            .field("max_timestamp", &self.max_timestamp)
            .finish_non_exhaustive()
    }
}

/// An aborted transaction, as Kafka's transaction index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    /// Where the transaction's data begins.
    pub first_offset: Offset,
    /// The producer.
    pub producer_id: ProducerId,
    /// Offset of the abort marker.
    pub last_offset: Offset,
    /// The last stable offset when the marker was written.
    pub last_stable_offset: Offset,
}

/// What a log remembers of a producer: one entry of Kafka's producer snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerEntry {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Last sequence of its last batch, -1 when it has none.
    pub last_sequence: i32,
    /// Last offset of its last batch, -1 when it has none.
    pub last_offset: Offset,
    /// Last offset minus first offset of its last batch.
    pub offset_delta: i32,
    /// Timestamp of its last batch.
    pub timestamp: Timestamp,
    /// Epoch of the coordinator that wrote its last marker, -1 for none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction, -1 for none.
    pub current_txn_first_offset: Offset,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its marker is an abort.
    Abort,
    /// Its marker is a commit.
    Commit,
}

/// A transaction that is open where an object ends, and how it ended later: known, because objects
/// end below the last stable offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The producer.
    pub producer_id: ProducerId,
    /// The producer epoch that the marker carries.
    pub producer_epoch: ProducerEpoch,
    /// Where the transaction's data begins.
    pub first_offset: Offset,
    /// How it ended.
    pub outcome: Outcome,
    /// The coordinator epoch that the marker carries.
    pub coordinator_epoch: i32,
}

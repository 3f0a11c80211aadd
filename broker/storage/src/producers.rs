//! What the log knows of its producers: sequences, open transactions, the last stable offset.
//!
//! Pure: a function of the batches applied so far. Every batch is applied once, in order, whether
//! it was appended, fetched from a leader or read back in recovery, so that the state of every
//! prefix of the log is the same wherever it is computed (T1).
//!
//! Invariants
//! - A producer's epoch never falls; a new epoch begins without batches.
//! - At most [`BATCHES_KEPT`] batches per producer are remembered, the newest last, sequences
//!   continuous.
//! - `ongoing` holds exactly the first offsets of the transactions that no marker has ended.

mod snapshot;

use std::collections::{BTreeMap, VecDeque};

use esker_protocol::records::{
    Batch, BatchHeader, Caps, EndTransactionMarker, NO_SEQUENCE, increment_sequence,
};
use esker_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::error::AppendError;
use crate::index::AbortedTransaction;

pub use snapshot::{ProducerEntry, ProducerSnapshot, SnapshotError};

/// As many batches as a producer may have in flight.
const BATCHES_KEPT: usize = 5;

/// A batch that a producer wrote, remembered to recognise it when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducedRange {
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Last offset less base offset.
    pub offset_delta: i32,
    /// The largest timestamp of the batch.
    pub timestamp: Timestamp,
}

impl ProducedRange {
    fn first_sequence(&self) -> i32 {
        // Sequences wrap from i32::MAX to 0.
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        let wrapped = if first < 0 { first + (1 << 31) } else { first };
        i32::try_from(wrapped).unwrap_or(0)
    }

    /// The offset of its first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(self.last_offset.0 - i64::from(self.offset_delta))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    transaction_start: Option<Offset>,
    timestamp: Timestamp,
    batches: VecDeque<ProducedRange>,
    /// When it was first seen idle, by the clock and not by the timestamps of its records: a
    /// producer that replays last year's records is no less alive for it.
    idle_since: Option<Timestamp>,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Producer {
        Producer {
            epoch,
            coordinator_epoch: -1,
            transaction_start: None,
            timestamp: Timestamp::NONE,
            batches: VecDeque::new(),
            idle_since: None,
        }
    }

    /// A newer epoch forgets the batches of the older.
    fn raise(&mut self, epoch: ProducerEpoch) {
        if epoch != self.epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }
}

/// What a batch is to its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is new and may be appended.
    New,
    /// It was appended before.
    Duplicate(ProducedRange),
}

/// The producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    producers: BTreeMap<ProducerId, Producer>,
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Ended transactions whose marker the high watermark may not have passed: first and last offset.
    ended: BTreeMap<Offset, Offset>,
}

impl Producers {
    /// Whether the leader may append the batch: checks 19 to 22 of a produce.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Verdict, AppendError> {
        if !header.has_producer() {
            return Ok(Verdict::New);
        }
        let producer_id = header.producer_id;
        let Some(producer) = self.producers.get(&producer_id) else {
            // Without state any first sequence is accepted: it may have expired.
            return Ok(Verdict::New);
        };
        let given = header.base_sequence;
        if header.producer_epoch == producer.epoch {
            let last = header.last_sequence();
            let same = |batch: &&ProducedRange| {
                batch.first_sequence() == given && batch.last_sequence == last
            };
            if let Some(batch) = producer.batches.iter().find(same) {
                return Ok(Verdict::Duplicate(*batch));
            }
        }
        if header.producer_epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer: producer_id,
                given: header.producer_epoch,
                current: producer.epoch,
            });
        }
        let expected = match producer.batches.back() {
            Some(batch) if header.producer_epoch == producer.epoch => {
                increment_sequence(batch.last_sequence, 1)
            }
            _ => 0,
        };
        if given != expected {
            return Err(AppendError::OutOfOrder {
                producer: producer_id,
                given,
                expected,
            });
        }
        if producer.transaction_start.is_some() && !header.attributes.is_transactional() {
            return Err(AppendError::InvalidTransactionState {
                producer: producer_id,
            });
        }
        Ok(Verdict::New)
    }

    /// Whether the leader may append the marker.
    pub(crate) fn check_marker(
        &self,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        marker: &EndTransactionMarker,
    ) -> Result<(), AppendError> {
        let Some(producer) = self.producers.get(&producer_id) else {
            return Ok(());
        };
        if epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer: producer_id,
                given: epoch,
                current: producer.epoch,
            });
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return Err(AppendError::CoordinatorFenced {
                given: marker.coordinator_epoch,
                current: producer.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Applies a batch of records that now stands in the log.
    pub(crate) fn apply(&mut self, header: &BatchHeader) {
        if !header.has_producer() || header.attributes.is_control() {
            return;
        }
        let last_offset = header.last_offset();
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        producer.raise(header.producer_epoch);
        producer.timestamp = header.max_timestamp;
        producer.idle_since = None;
        if header.base_sequence != NO_SEQUENCE {
            if producer.batches.len() == BATCHES_KEPT {
                producer.batches.pop_front();
            }
            producer.batches.push_back(ProducedRange {
                last_sequence: header.last_sequence(),
                last_offset,
                offset_delta: header.last_offset_delta,
                timestamp: header.max_timestamp,
            });
        }
        if header.attributes.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(header.base_offset);
            self.ongoing.insert(header.base_offset, header.producer_id);
        }
    }

    /// Whether a marker of the producer would end a transaction.
    pub(crate) fn has_open_transaction(&self, producer_id: ProducerId) -> bool {
        let producer = self.producers.get(&producer_id);
        producer.is_some_and(|producer| producer.transaction_start.is_some())
    }

    /// Applies a marker that now stands in the log; what it aborts goes into the transaction index.
    pub(crate) fn apply_marker(
        &mut self,
        header: &BatchHeader,
        marker: &EndTransactionMarker,
    ) -> Option<AbortedTransaction> {
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        producer.raise(header.producer_epoch);
        producer.timestamp = header.max_timestamp;
        producer.coordinator_epoch = marker.coordinator_epoch;
        let first_offset = producer.transaction_start.take()?;
        let last_offset = header.last_offset();
        self.ongoing.remove(&first_offset);
        self.ended.insert(first_offset, last_offset);
        let open = self.ongoing.first_key_value().map(|(&first, _)| first);
        (!marker.commit).then(|| AbortedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            last_stable_offset: open.unwrap_or(last_offset + 1),
        })
    }

    /// Applies a batch read back from a log, marker or not.
    pub(crate) fn replay(&mut self, batch: &Batch<'_>) -> Option<AbortedTransaction> {
        let header = batch.header();
        if !header.attributes.is_control() {
            self.apply(header);
            return None;
        }
        let marker = marker_of(batch)?;
        self.apply_marker(header, &marker)
    }

    /// Below this offset every transaction has ended, and its end is committed.
    pub(crate) fn last_stable_offset(&mut self, high_watermark: Offset) -> Offset {
        self.ended.retain(|_, last| *last >= high_watermark);
        let open = self.ongoing.first_key_value().map(|(&first, _)| first);
        let ended = self.ended.first_key_value().map(|(&first, _)| first);
        [open, ended]
            .into_iter()
            .flatten()
            .fold(high_watermark, Offset::min)
    }

    /// Forgets producers without a transaction that wrote nothing for `expiration_ms`, counted from
    /// the first call that found them idle; a restart counts anew.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) -> bool {
        let before = self.producers.len();
        self.producers.retain(|_, producer| {
            let idle_since = *producer.idle_since.get_or_insert(now);
            producer.transaction_start.is_some()
                || now.0.saturating_sub(idle_since.0) < expiration_ms
        });
        self.producers.len() != before
    }

    /// The state as a snapshot holds it.
    pub(crate) fn snapshot(&self) -> ProducerSnapshot {
        let entry = |(&producer_id, producer): (&ProducerId, &Producer)| ProducerEntry {
            producer_id,
            epoch: producer.epoch,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.transaction_start,
            timestamp: producer.timestamp,
            batches: producer.batches.iter().copied().collect(),
        };
        ProducerSnapshot {
            entries: self.producers.iter().map(entry).collect(),
        }
    }

    /// The state that a snapshot holds.
    pub(crate) fn from_snapshot(snapshot: &ProducerSnapshot) -> Producers {
        let mut producers = Producers::default();
        for entry in &snapshot.entries {
            if let Some(start) = entry.transaction_start {
                producers.ongoing.insert(start, entry.producer_id);
            }
            let skipped = entry.batches.len().saturating_sub(BATCHES_KEPT);
            let producer = Producer {
                epoch: entry.epoch,
                coordinator_epoch: entry.coordinator_epoch,
                transaction_start: entry.transaction_start,
                timestamp: entry.timestamp,
                batches: entry.batches.iter().skip(skipped).copied().collect(),
                idle_since: None,
            };
            producers.producers.insert(entry.producer_id, producer);
        }
        producers
    }
}

/// The marker in a control batch, when it holds one.
pub(crate) fn marker_of(batch: &Batch<'_>) -> Option<EndTransactionMarker> {
    let records = batch.records(&Caps::DEFAULT).ok()?;
    let record = records.iter().next()?.ok()?;
    EndTransactionMarker::decode(&record).ok().flatten()
}

#[cfg(test)]
mod tests;

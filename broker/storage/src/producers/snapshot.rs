//! `<offset>.snapshot`: the producers as of an offset, in Kafka's format with a trailer of ours.
//!
//! ```text
//! i16 version 1 | u32 CRC-32C of all that follows | i32 count, then per producer
//!   i64 producer id | i16 epoch | i32 last sequence | i64 last offset | i32 offset delta
//!   | i64 timestamp | i32 coordinator epoch | i64 first offset of the open transaction or -1
//! "EskB" | i32 count, then per batch that the entries do not say, oldest first
//!   i64 producer id | i32 last sequence | i64 last offset | i32 offset delta | i64 timestamp
//! ```
//! Kafka keeps only the last batch of a producer, and so refuses what an idempotent producer sends
//! again after a restart when more than one batch was in flight. The trailer keeps the others; Kafka
//! reads as many entries as it counts and no further. The newest batch is there too when the entry's
//! timestamp is that of a later marker.

use esker_protocol::records::crc32c;
use esker_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::ProducedRange;
use crate::index::take;

const VERSION: i16 = 1;
const CRC_COVERS_FROM: usize = 6;
const TRAILER: &[u8; 4] = b"EskB";

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// The epoch of the coordinator that wrote its last marker, or -1.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins.
    pub transaction_start: Option<Offset>,
    /// When it last wrote, by the timestamps of its batches.
    pub timestamp: Timestamp,
    /// Its latest batches in this epoch, the newest last.
    pub batches: Vec<ProducedRange>,
}

/// All producers of a log as of an offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerSnapshot {
    /// By rising producer id.
    pub entries: Vec<ProducerEntry>,
}

/// The bytes are no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Another version.
    #[error("producer snapshot version {0} is not 1")]
    Version(i16),
    /// The checksum does not match.
    #[error("producer snapshot has a wrong checksum")]
    Checksum,
    /// The bytes end too early.
    #[error("producer snapshot ends inside an entry")]
    Short,
}

impl ProducerSnapshot {
    /// The bytes of a snapshot file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_count(&mut body, self.entries.len());
        for entry in &self.entries {
            let last = entry.batches.last();
            body.extend_from_slice(&entry.producer_id.0.to_be_bytes());
            body.extend_from_slice(&entry.epoch.0.to_be_bytes());
            body.extend_from_slice(&last.map_or(-1, |last| last.last_sequence).to_be_bytes());
            body.extend_from_slice(&last.map_or(-1, |last| last.last_offset.0).to_be_bytes());
            body.extend_from_slice(&last.map_or(0, |last| last.offset_delta).to_be_bytes());
            body.extend_from_slice(&entry.timestamp.0.to_be_bytes());
            body.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            let start = entry.transaction_start.map_or(-1, |start| start.0);
            body.extend_from_slice(&start.to_be_bytes());
        }
        self.encode_older(&mut body);
        let mut bytes = Vec::with_capacity(CRC_COVERS_FROM + body.len());
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&crc32c(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    fn encode_older(&self, body: &mut Vec<u8>) {
        let older = |entry: &ProducerEntry| match entry.batches.last() {
            Some(newest) if newest.timestamp == entry.timestamp => entry.batches.len() - 1,
            _ => entry.batches.len(),
        };
        let count: usize = self.entries.iter().map(older).sum();
        if count == 0 {
            return;
        }
        body.extend_from_slice(TRAILER);
        put_count(body, count);
        for entry in &self.entries {
            for batch in entry.batches.iter().take(older(entry)) {
                body.extend_from_slice(&entry.producer_id.0.to_be_bytes());
                body.extend_from_slice(&batch.last_sequence.to_be_bytes());
                body.extend_from_slice(&batch.last_offset.0.to_be_bytes());
                body.extend_from_slice(&batch.offset_delta.to_be_bytes());
                body.extend_from_slice(&batch.timestamp.0.to_be_bytes());
            }
        }
    }

    /// Reads a snapshot file, Kafka's or ours.
    pub fn decode(bytes: &[u8]) -> Result<ProducerSnapshot, SnapshotError> {
        let mut rest = bytes;
        let version = take(&mut rest)
            .map(i16::from_be_bytes)
            .ok_or(SnapshotError::Short)?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let crc = take(&mut rest)
            .map(u32::from_be_bytes)
            .ok_or(SnapshotError::Short)?;
        if crc32c(rest) != crc {
            return Err(SnapshotError::Checksum);
        }
        let count = take(&mut rest)
            .map(i32::from_be_bytes)
            .ok_or(SnapshotError::Short)?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(decode_entry(&mut rest).ok_or(SnapshotError::Short)?);
        }
        if let Some(older) = rest.strip_prefix(TRAILER) {
            decode_older(older, &mut entries).ok_or(SnapshotError::Short)?;
        }
        Ok(ProducerSnapshot { entries })
    }
}

fn put_count(body: &mut Vec<u8>, count: usize) {
    let count = i32::try_from(count).expect("two thousand million producers do not fit in memory");
    body.extend_from_slice(&count.to_be_bytes());
}

fn decode_entry(bytes: &mut &[u8]) -> Option<ProducerEntry> {
    let producer_id = ProducerId(i64::from_be_bytes(take(bytes)?));
    let epoch = ProducerEpoch(i16::from_be_bytes(take(bytes)?));
    let last_sequence = i32::from_be_bytes(take(bytes)?);
    let last_offset = Offset(i64::from_be_bytes(take(bytes)?));
    let offset_delta = i32::from_be_bytes(take(bytes)?);
    let timestamp = Timestamp(i64::from_be_bytes(take(bytes)?));
    let coordinator_epoch = i32::from_be_bytes(take(bytes)?);
    let start = i64::from_be_bytes(take(bytes)?);
    let last = ProducedRange {
        last_sequence,
        last_offset,
        offset_delta,
        timestamp,
    };
    Some(ProducerEntry {
        producer_id,
        epoch,
        coordinator_epoch,
        transaction_start: (start >= 0).then_some(Offset(start)),
        timestamp,
        batches: if last_sequence >= 0 {
            vec![last]
        } else {
            Vec::new()
        },
    })
}

fn decode_older(mut bytes: &[u8], entries: &mut [ProducerEntry]) -> Option<()> {
    let bytes = &mut bytes;
    let count = i32::from_be_bytes(take(bytes)?);
    for _ in 0..count {
        let producer_id = ProducerId(i64::from_be_bytes(take(bytes)?));
        let batch = ProducedRange {
            last_sequence: i32::from_be_bytes(take(bytes)?),
            last_offset: Offset(i64::from_be_bytes(take(bytes)?)),
            offset_delta: i32::from_be_bytes(take(bytes)?),
            timestamp: Timestamp(i64::from_be_bytes(take(bytes)?)),
        };
        let index = entries
            .binary_search_by_key(&producer_id, |entry| entry.producer_id)
            .ok()?;
        let entry = entries.get_mut(index)?;
        let newest = entry.batches.len().saturating_sub(1);
        match entry.batches.last_mut() {
            Some(last) if last.last_offset == batch.last_offset => *last = batch,
            _ => entry.batches.insert(newest, batch),
        }
    }
    Some(())
}

//! The entries of Kafka's three index files.
//!
//! ```text
//! .index      i32 offset - base | i32 position             8 bytes
//! .timeindex  i64 timestamp | i32 offset - base            12 bytes
//! .txnindex   i16 version 0 | i64 producer id | i64 first offset | i64 last offset
//!             | i64 last stable offset                     34 bytes
//! ```
//! An offset entry names the last offset of a batch and the position where that batch begins. A time
//! entry promises that every record with a larger timestamp has a larger offset. A transaction entry
//! stands in the segment that holds the marker, and only for aborted transactions.

use esker_protocol::{Offset, ProducerId, Timestamp};

use crate::entry_file::Entry;

/// An entry of the offset index, relative to the segment's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) relative: u32,
    pub(crate) position: u32,
}

/// An entry of the time index, relative to the segment's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: Timestamp,
    pub(crate) relative: u32,
}

/// An aborted transaction, as the transaction index and the tier keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of its abort marker.
    pub last_offset: Offset,
    /// The last stable offset when it ended.
    pub last_stable_offset: Offset,
}

/// Takes a fixed-size field off the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*field)
}

impl Entry for OffsetEntry {
    const BYTES: usize = 8;

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.relative.to_be_bytes());
        bytes.extend_from_slice(&self.position.to_be_bytes());
    }

    fn get(mut bytes: &[u8]) -> Option<OffsetEntry> {
        Some(OffsetEntry {
            relative: u32::from_be_bytes(take(&mut bytes)?),
            position: u32::from_be_bytes(take(&mut bytes)?),
        })
    }
}

impl Entry for TimeEntry {
    const BYTES: usize = 12;

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.timestamp.0.to_be_bytes());
        bytes.extend_from_slice(&self.relative.to_be_bytes());
    }

    fn get(mut bytes: &[u8]) -> Option<TimeEntry> {
        Some(TimeEntry {
            timestamp: Timestamp(i64::from_be_bytes(take(&mut bytes)?)),
            relative: u32::from_be_bytes(take(&mut bytes)?),
        })
    }
}

impl Entry for AbortedTransaction {
    const BYTES: usize = 34;

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&0i16.to_be_bytes());
        bytes.extend_from_slice(&self.producer_id.0.to_be_bytes());
        bytes.extend_from_slice(&self.first_offset.0.to_be_bytes());
        bytes.extend_from_slice(&self.last_offset.0.to_be_bytes());
        bytes.extend_from_slice(&self.last_stable_offset.0.to_be_bytes());
    }

    fn get(mut bytes: &[u8]) -> Option<AbortedTransaction> {
        let version = i16::from_be_bytes(take(&mut bytes)?);
        (version == 0).then_some(())?;
        Some(AbortedTransaction {
            producer_id: ProducerId(i64::from_be_bytes(take(&mut bytes)?)),
            first_offset: Offset(i64::from_be_bytes(take(&mut bytes)?)),
            last_offset: Offset(i64::from_be_bytes(take(&mut bytes)?)),
            last_stable_offset: Offset(i64::from_be_bytes(take(&mut bytes)?)),
        })
    }
}

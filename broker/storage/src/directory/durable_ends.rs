//! `durable-ends.log`: how far each log of a directory was durable, recorded one round later (P6).
//!
//! ```text
//! record  "EskD" | i16 version 0 | i32 body length | body | u32 CRC-32C of version, length and body
//! body    compact array of entries, no tagged fields
//! entry   uuid topic id | i32 partition | i32 leader epoch | i64 durable end
//!         | tagged fields: 0 i64 log start, 1 i64 local start
//! ```
//! The body is a Kafka-flexible message. The last entry of a partition wins. Each record is synced
//! before the next is appended, so only the last one can be torn; a damaged record with a whole one
//! behind it is damage of the file, which then proves nothing.

use std::collections::BTreeMap;

use esker_protocol::records::crc32c;
use esker_protocol::{LeaderEpoch, Offset, TopicId};

use crate::index::take;

pub(crate) const FILE_NAME: &str = "durable-ends.log";
const MAGIC: &[u8; 4] = b"EskD";
const VERSION: i16 = 0;
/// Magic, version, length.
const HEAD_BYTES: usize = 10;
const CRC_BYTES: usize = 4;
const TAG_LOG_START: u32 = 0;
const TAG_LOCAL_START: u32 = 1;

/// A partition of a topic.
pub(crate) type PartitionKey = (TopicId, i32);

/// What is recorded of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The latest leader epoch that the log has seen.
    pub(crate) epoch: LeaderEpoch,
    /// Everything below it has been synced.
    pub(crate) end: Offset,
    /// Log start.
    pub(crate) log_start: Offset,
    /// Whole segments below it are gone or going.
    pub(crate) local_start: Offset,
}

impl Recorded {
    /// What two records say together of a log that was not cut between them: all of it only rises.
    pub(crate) fn and(self, other: Recorded) -> Recorded {
        Recorded {
            epoch: self.epoch.max(other.epoch),
            end: self.end.max(other.end),
            log_start: self.log_start.max(other.log_start),
            local_start: self.local_start.max(other.local_start),
        }
    }
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// It is whole, but for a torn last record at most.
    Sound(BTreeMap<PartitionKey, Recorded>),
    /// It is damaged and proves nothing.
    Damaged,
    /// A newer version wrote a record.
    Newer(i16),
}

/// The bytes of one record.
pub(crate) fn encode(entries: &BTreeMap<PartitionKey, Recorded>) -> Vec<u8> {
    let mut body = Vec::with_capacity(entries.len() * 34 + 6);
    put_uvarint(&mut body, entries.len() as u64 + 1);
    for ((topic_id, partition), recorded) in entries {
        body.extend_from_slice(&topic_id.0);
        body.extend_from_slice(&partition.to_be_bytes());
        body.extend_from_slice(&recorded.epoch.0.to_be_bytes());
        body.extend_from_slice(&recorded.end.0.to_be_bytes());
        let tags = [
            (TAG_LOG_START, recorded.log_start),
            (TAG_LOCAL_START, recorded.local_start),
        ];
        let set = tags.iter().filter(|(_, offset)| *offset != Offset::ZERO);
        put_uvarint(&mut body, set.clone().count() as u64);
        for (tag, offset) in set {
            put_uvarint(&mut body, u64::from(*tag));
            put_uvarint(&mut body, 8);
            body.extend_from_slice(&offset.0.to_be_bytes());
        }
    }
    put_uvarint(&mut body, 0);
    let length = i32::try_from(body.len()).expect("a record of all partitions is far below 2 GiB");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len() + CRC_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&body);
    let crc = crc32c(bytes.get(MAGIC.len()..).unwrap_or_default());
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads a whole file.
pub(crate) fn decode(bytes: &[u8]) -> Content {
    let mut ends = BTreeMap::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((body, after)) = record(rest) else {
            let torn =
                (1..rest.len()).all(|at| record(rest.get(at..).unwrap_or_default()).is_none());
            return if torn {
                Content::Sound(ends)
            } else {
                Content::Damaged
            };
        };
        match body {
            Body::Entries(entries) => ends.extend(entries),
            Body::Newer(version) => return Content::Newer(version),
        }
        rest = after;
    }
    Content::Sound(ends)
}

enum Body {
    Entries(Vec<(PartitionKey, Recorded)>),
    Newer(i16),
}

/// The record that `bytes` begin with, when it is whole.
fn record(bytes: &[u8]) -> Option<(Body, &[u8])> {
    let covered_from = bytes.strip_prefix(MAGIC)?;
    let mut rest = covered_from;
    let version = i16::from_be_bytes(take(&mut rest)?);
    let length = usize::try_from(i32::from_be_bytes(take(&mut rest)?)).ok()?;
    let (body, mut rest) = rest.split_at_checked(length)?;
    let crc = u32::from_be_bytes(take(&mut rest)?);
    let covered = covered_from.get(..HEAD_BYTES - MAGIC.len() + length)?;
    (crc32c(covered) == crc).then_some(())?;
    if version != VERSION {
        return Some((Body::Newer(version), rest));
    }
    Some((Body::Entries(entries(body)?), rest))
}

fn entries(mut body: &[u8]) -> Option<Vec<(PartitionKey, Recorded)>> {
    let body = &mut body;
    let count = take_uvarint(body)?.checked_sub(1)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let key = (TopicId(take(body)?), i32::from_be_bytes(take(body)?));
        let mut recorded = Recorded {
            epoch: LeaderEpoch(i32::from_be_bytes(take(body)?)),
            end: Offset(i64::from_be_bytes(take(body)?)),
            log_start: Offset::ZERO,
            local_start: Offset::ZERO,
        };
        for _ in 0..take_uvarint(body)? {
            let tag = take_uvarint(body)?;
            let length = usize::try_from(take_uvarint(body)?).ok()?;
            let (mut value, rest) = body.split_at_checked(length)?;
            *body = rest;
            if tag == u64::from(TAG_LOG_START) {
                recorded.log_start = Offset(i64::from_be_bytes(take(&mut value)?));
            } else if tag == u64::from(TAG_LOCAL_START) {
                recorded.local_start = Offset(i64::from_be_bytes(take(&mut value)?));
            }
        }
        entries.push((key, recorded));
    }
    Some(entries)
}

fn put_uvarint(bytes: &mut Vec<u8>, value: u64) {
    let mut value = value;
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_uvarint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;

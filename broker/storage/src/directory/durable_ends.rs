//! `durable-ends.log`: how far each log of a directory was durable, recorded one round later (P6).
//!
//! ```text
//! record  "EskD" | i16 version 0 | i32 body length | body | u32 CRC-32C of version, length and body
//! body    compact array of entries, no tagged fields
//! entry   uuid topic id | i32 partition | i32 leader epoch | i64 durable end
//!         | tagged fields: 0 i64 log start, 1 i64 local start, 2 i64 journal sequence,
//!           3 i64 journaled end, 4 i64 1 where the log was set aside as a stray,
//!           5 i64 compacted end
//! ```
//! The body is a Kafka-flexible message. The last entry of a partition wins. Each record is synced
//! before the next is appended, so only the last one can be torn; a damaged record with a whole one
//! behind it is damage of the file, which then proves nothing. The entry [`JOURNAL`] is of no log: its
//! journal sequence says up to where the journal is settled.

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
const TAG_JOURNAL_SEQUENCE: u32 = 2;
const TAG_JOURNALED_END: u32 = 3;
const TAG_STRAY: u32 = 4;
const TAG_COMPACTED_END: u32 = 5;

/// A partition of a topic.
pub(crate) type PartitionKey = (TopicId, i32);

/// The entry of the journal itself.
pub(crate) const JOURNAL: PartitionKey = (TopicId::ZERO, -1);

/// What is recorded of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The latest leader epoch that the log has seen.
    pub(crate) epoch: LeaderEpoch,
    /// Everything below it has been synced, indexes and snapshots included.
    pub(crate) end: Offset,
    /// Log start.
    pub(crate) log_start: Offset,
    /// Whole segments below it are gone or going.
    pub(crate) local_start: Offset,
    /// What the journal has of the log up to this record is in the log's files, or void.
    pub(crate) journal_sequence: i64,
    /// Everything below it was durable when the process before ended, by the journal.
    pub(crate) journaled_end: Offset,
    /// The log was set aside because nobody claimed it (P3): while its stray directory is there, no
    /// empty one takes its place.
    pub(crate) is_stray: bool,
    /// Only below it may offsets be missing, because compaction has taken their records.
    pub(crate) compacted_end: Offset,
}

impl Recorded {
    /// What is known of a log of which nothing is recorded.
    pub(crate) const NOTHING: Recorded = Recorded {
        epoch: LeaderEpoch::NONE,
        end: Offset::ZERO,
        log_start: Offset::ZERO,
        local_start: Offset::ZERO,
        journal_sequence: 0,
        journaled_end: Offset::ZERO,
        is_stray: false,
        compacted_end: Offset::ZERO,
    };

    /// Whether it says anything of a log.
    fn is_of_use(&self, settled: i64) -> bool {
        let offsets = [
            self.end,
            self.log_start,
            self.local_start,
            self.journaled_end,
            self.compacted_end,
        ];
        offsets.iter().any(|at| at.0 != 0) || self.journal_sequence > settled || self.is_stray
    }

    /// What two records say together of a log that was not cut between them: all of it only rises.
    pub(crate) fn and(self, other: Recorded) -> Recorded {
        Recorded {
            epoch: self.epoch.max(other.epoch),
            end: self.end.max(other.end),
            log_start: self.log_start.max(other.log_start),
            local_start: self.local_start.max(other.local_start),
            journal_sequence: self.journal_sequence.max(other.journal_sequence),
            journaled_end: self.journaled_end.max(other.journaled_end),
            // Whatever is recorded of a log in service says that it is back.
            is_stray: self.is_stray && other.is_stray,
            compacted_end: self.compacted_end.max(other.compacted_end),
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

/// Forgets what says nothing: a log that holds nothing is the same as one that nothing is known of.
pub(super) fn forget_empty(known: &mut BTreeMap<PartitionKey, Recorded>) {
    let settled = known
        .get(&JOURNAL)
        .map_or(0, |entry| entry.journal_sequence);
    known.retain(|key, recorded| *key == JOURNAL || recorded.is_of_use(settled));
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
            (TAG_LOG_START, recorded.log_start.0),
            (TAG_LOCAL_START, recorded.local_start.0),
            (TAG_JOURNAL_SEQUENCE, recorded.journal_sequence),
            (TAG_JOURNALED_END, recorded.journaled_end.0),
            (TAG_STRAY, i64::from(recorded.is_stray)),
            (TAG_COMPACTED_END, recorded.compacted_end.0),
        ];
        let set = tags.iter().filter(|(_, value)| *value != 0);
        put_uvarint(&mut body, set.clone().count() as u64);
        for (tag, value) in set {
            put_uvarint(&mut body, u64::from(*tag));
            put_uvarint(&mut body, 8);
            body.extend_from_slice(&value.to_be_bytes());
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
            ..Recorded::NOTHING
        };
        for _ in 0..take_uvarint(body)? {
            let tag = take_uvarint(body)?;
            let length = usize::try_from(take_uvarint(body)?).ok()?;
            let (mut value, rest) = body.split_at_checked(length)?;
            *body = rest;
            let mut number = || take(&mut value).map(i64::from_be_bytes);
            match u32::try_from(tag) {
                Ok(TAG_LOG_START) => recorded.log_start = Offset(number()?),
                Ok(TAG_LOCAL_START) => recorded.local_start = Offset(number()?),
                Ok(TAG_JOURNAL_SEQUENCE) => recorded.journal_sequence = number()?,
                Ok(TAG_JOURNALED_END) => recorded.journaled_end = Offset(number()?),
                Ok(TAG_STRAY) => recorded.is_stray = number()? != 0,
                Ok(TAG_COMPACTED_END) => recorded.compacted_end = Offset(number()?),
                _ => {}
            }
        }
        entries.push((key, recorded));
    }
    Some(entries)
}

pub(super) fn put_uvarint(bytes: &mut Vec<u8>, value: u64) {
    let mut value = value;
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

pub(super) fn take_uvarint(bytes: &mut &[u8]) -> Option<u64> {
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

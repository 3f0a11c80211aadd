//! Building a batch record by record.

use bytes::{Bytes, BytesMut};

use super::attributes::{Attributes, TimestampType};
use super::compression::{self, CompressError, Compression};
use super::header::{BatchHeader, MAGIC, NO_SEQUENCE};
use super::record::Header;
use super::varint::{put_varint, put_varlong, varint_bytes, varlong_bytes};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// What a batch says of itself beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// The codec.
    pub compression: Compression,
    /// Its level; `None` is Kafka's default.
    pub compression_level: Option<i32>,
    /// Who set the timestamps.
    pub timestamp_type: TimestampType,
    /// Producers send 0.
    pub base_offset: Offset,
    /// Producers send none.
    pub leader_epoch: LeaderEpoch,
    /// The idempotent producer, or none.
    pub producer_id: ProducerId,
    /// Its epoch, or none.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// Whether the records belong to a transaction.
    pub transactional: bool,
    /// Whether the record is a control record.
    pub control: bool,
}

impl Default for BatchOptions {
    fn default() -> BatchOptions {
        BatchOptions {
            compression: Compression::None,
            compression_level: None,
            timestamp_type: TimestampType::CreateTime,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::NONE,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: NO_SEQUENCE,
            transactional: false,
            control: false,
        }
    }
}

/// A record does not fit, or the batch cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Without records there is no batch.
    #[error("a batch needs at least one record")]
    Empty,
    /// The batch would be larger than its length field can say.
    #[error("the batch would exceed {} bytes", i32::MAX)]
    TooLarge,
    /// Offsets of records rise.
    #[error("offset delta {given} does not follow {last}")]
    OffsetDelta {
        /// What was given.
        given: i32,
        /// The last record's.
        last: i32,
    },
    /// The distance to the first record's timestamp has no 64-bit value.
    #[error("timestamp {0} is too far from that of the first record")]
    Timestamp(Timestamp),
    /// The codec failed.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// A batch in the making.
#[derive(Debug, Clone, Default)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records; nothing before the first.
    bytes: Vec<u8>,
    /// Whether some record has no key, or another timestamp than the first.
    is_mixed: bool,
    count: i32,
    last_offset_delta: Option<i32>,
    /// Base and maximum.
    timestamps: Option<(Timestamp, Timestamp)>,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(options: BatchOptions) -> BatchBuilder {
        BatchBuilder {
            options,
            ..BatchBuilder::default()
        }
    }

    /// The same with room for records of so many bytes together.
    #[must_use]
    pub fn with_room_for(mut self, records_bytes: usize) -> BatchBuilder {
        self.bytes.reserve(BatchHeader::BYTES + records_bytes);
        self
    }

    /// Adds a record behind the last; on an error the batch is as before.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BuildError> {
        let delta = match self.last_offset_delta {
            None => 0,
            Some(last) => last.checked_add(1).ok_or(BuildError::TooLarge)?,
        };
        self.append_at(delta, timestamp, key, value, headers)
    }

    /// Adds a record at an offset of its own, as compaction does; offsets must rise.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BuildError> {
        let last = self.last_offset_delta.unwrap_or(-1);
        if offset_delta <= last {
            return Err(BuildError::OffsetDelta {
                given: offset_delta,
                last,
            });
        }
        let (base, max) = self.timestamps.unwrap_or((timestamp, timestamp));
        let timestamp_delta = timestamp
            .0
            .checked_sub(base.0)
            .ok_or(BuildError::Timestamp(timestamp))?;
        let body = body_bytes(timestamp_delta, offset_delta, key, value, headers);
        let body = length(body)?;
        // Before compression the batch must fit as well: a reader decompresses it as a whole.
        let record_bytes = varint_bytes(body) + body.unsigned_abs() as usize;
        length(self.size_estimate() + record_bytes)?;

        let out = &mut self.bytes;
        if out.is_empty() {
            out.reserve(BatchHeader::BYTES + record_bytes);
            out.resize(BatchHeader::BYTES, 0);
        }
        out.reserve(record_bytes);
        put_varint(out, body);
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_varint(out, length_of(headers.len()));
        for header in headers {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
        self.is_mixed |= key.is_none() || timestamp != base;
        self.count += 1;
        self.last_offset_delta = Some(offset_delta);
        self.timestamps = Some((base, max.max(timestamp)));
        Ok(())
    }

    /// How many records it has.
    #[must_use]
    pub fn records_count(&self) -> i32 {
        self.count
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The size of the batch as it is, without compression.
    #[must_use]
    pub fn size_estimate(&self) -> usize {
        self.bytes.len().max(BatchHeader::BYTES)
    }

    fn records(&self) -> &[u8] {
        self.bytes.get(BatchHeader::BYTES..).unwrap_or_default()
    }

    /// The upper bound of what one more record adds.
    #[must_use]
    pub fn record_bytes_max(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        let body = body_bytes(i64::MIN, i32::MAX, key, value, headers);
        varint_bytes(i32::MAX).saturating_add(body)
    }

    /// The finished batch.
    pub fn build(&self) -> Result<Bytes, BuildError> {
        let options = &self.options;
        let compressed;
        let payload = match options.compression {
            Compression::None => self.records(),
            codec => {
                let level = options.compression_level;
                compressed = compression::compress(codec, level, self.records())?;
                &compressed
            }
        };
        let header = self.header(payload)?;
        let mut batch = BytesMut::with_capacity(header.size_in_bytes());
        batch.extend_from_slice(&header.to_bytes());
        batch.extend_from_slice(payload);
        Ok(batch.freeze())
    }

    /// The finished batch, with what is known of it: see [`validate_built`](super::validate_built).
    pub fn into_built(mut self) -> Result<BuiltBatch, BuildError> {
        let is_mixed = self.is_mixed;
        if self.options.compression != Compression::None {
            let bytes = self.build()?;
            return Ok(BuiltBatch { bytes, is_mixed });
        }
        let header = self.header(self.records())?;
        if let Some(room) = self.bytes.first_chunk_mut() {
            header.write_to(room);
        }
        Ok(BuiltBatch {
            bytes: self.bytes.into(),
            is_mixed,
        })
    }

    /// The header of a batch with this payload.
    fn header(&self, payload: &[u8]) -> Result<BatchHeader, BuildError> {
        let (base_timestamp, max_timestamp) = self.timestamps.ok_or(BuildError::Empty)?;
        let options = &self.options;
        let size = BatchHeader::BYTES + payload.len();
        let mut header = BatchHeader {
            base_offset: options.base_offset,
            batch_length: length(size - 12)?,
            partition_leader_epoch: options.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default()
                .with_compression(options.compression)
                .with_timestamp_type(options.timestamp_type)
                .with_transactional(options.transactional)
                .with_control(options.control),
            last_offset_delta: self.last_offset_delta.unwrap_or(0),
            base_timestamp,
            max_timestamp,
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            records_count: self.count,
        };
        header.crc = header.crc_with_payload(payload);
        Ok(header)
    }
}

/// A batch that this process has just built.
#[derive(Debug, Clone)]
pub struct BuiltBatch {
    pub(super) bytes: Bytes,
    /// Whether some record has no key, or another timestamp than the first.
    pub(super) is_mixed: bool,
}

pub(super) fn length(bytes: usize) -> Result<i32, BuildError> {
    i32::try_from(bytes).map_err(|_| BuildError::TooLarge)
}

/// For lengths of parts of a record whose whole was checked to fit.
pub(super) fn length_of(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

pub(super) fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, length_of(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| {
        varint_bytes(length_of(bytes.len())).saturating_add(bytes.len())
    })
}

pub(super) fn body_bytes(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let attributes = 1;
    let mut bytes = attributes
        + varlong_bytes(timestamp_delta)
        + varint_bytes(offset_delta)
        + varint_bytes(length_of(headers.len()));
    for part in [key, value] {
        bytes = bytes.saturating_add(nullable_bytes(part));
    }
    for header in headers {
        bytes = bytes
            .saturating_add(nullable_bytes(Some(header.key)))
            .saturating_add(nullable_bytes(header.value));
    }
    bytes
}

#[cfg(test)]
mod tests;

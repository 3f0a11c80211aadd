//! The header of a record batch, format version 2.
//!
//! ```text
//!  0 base offset             i64   not under the CRC: the leader sets it
//!  8 batch length            i32   bytes after this field
//! 12 partition leader epoch  i32   not under the CRC: the leader sets it
//! 16 magic                   i8    2
//! 17 crc                     u32   CRC-32C of everything from 21 on
//! 21 attributes              i16
//! 23 last offset delta       i32
//! 27 base timestamp          i64
//! 35 max timestamp           i64
//! 43 producer id             i64
//! 51 producer epoch          i16
//! 53 base sequence           i32
//! 57 records count           i32
//! 61 records
//! ```

use super::attributes::{Attributes, TimestampType};
use super::crc::{crc32c, crc32c_replace_front};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// The only record format version that is served.
pub const MAGIC: i8 = 2;
/// No sequence number.
pub const NO_SEQUENCE: i32 = -1;

/// Base offset and batch length: what stands before the bytes that the length counts.
const LENGTH_ENDS_AT: usize = 12;
/// Where the checksum's cover begins.
pub(super) const CRC_COVERS_FROM: usize = 21;
/// The least batch length that Kafka's scan of a buffer takes for a batch of any format.
pub(super) const LENGTH_MIN_OF_ANY_FORMAT: i32 = 14;
/// The first bytes that a reader needs to know format and size.
const MAGIC_ENDS_AT: usize = 17;

/// The bytes do not begin with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("{available} bytes are not a whole batch, which needs {needed}")]
    Incomplete {
        /// How many bytes the batch has, as far as that is known.
        needed: usize,
        /// How many there are.
        available: usize,
    },
    /// The length field cannot be right.
    #[error("batch length {0} is impossible")]
    Length(i32),
    /// The batch has another format.
    #[error("record format version {0} is not 2")]
    Magic(i8),
    /// The count, the last offset delta or the base offset is negative or overflows.
    #[error(
        "batch header claims {records_count} records up to offset {base_offset} + {last_offset_delta}"
    )]
    Offsets {
        /// As the header has it.
        base_offset: i64,
        /// As the header has it.
        last_offset_delta: i32,
        /// As the header has it.
        records_count: i32,
    },
}

/// The 61 bytes that begin a batch, as values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes after the length field.
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch.
    pub partition_leader_epoch: LeaderEpoch,
    /// Format version.
    pub magic: i8,
    /// CRC-32C of the attributes and all that follows.
    pub crc: u32,
    /// Codec, timestamp type and kind.
    pub attributes: Attributes,
    /// Offset of the last record, less the base offset; compaction keeps it.
    pub last_offset_delta: i32,
    /// What timestamp deltas count from, or the delete horizon.
    pub base_timestamp: Timestamp,
    /// The largest timestamp, or the leader's clock.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or -1.
    pub producer_id: ProducerId,
    /// Its epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// How many records follow; 0 only when compaction emptied the batch.
    pub records_count: i32,
}

/// Length field and format of the batch that `bytes` begin with.
///
/// The length is at least that of Kafka's oldest format, the format one that Kafka has had.
pub(super) fn peek(bytes: &[u8]) -> Result<(i32, i8), BatchError> {
    let incomplete = |needed| BatchError::Incomplete {
        needed,
        available: bytes.len(),
    };
    let length = bytes
        .get(8..LENGTH_ENDS_AT)
        .and_then(|field| field.try_into().ok())
        .map(i32::from_be_bytes)
        .ok_or(incomplete(MAGIC_ENDS_AT))?;
    if length < LENGTH_MIN_OF_ANY_FORMAT {
        return Err(BatchError::Length(length));
    }
    let magic = *bytes.get(16).ok_or(incomplete(MAGIC_ENDS_AT))?;
    let magic = i8::from_be_bytes([magic]);
    if !(0..=MAGIC).contains(&magic) {
        return Err(BatchError::Magic(magic));
    }
    Ok((length, magic))
}

/// The size of a batch with the given length field.
pub(super) fn total_bytes(length: i32) -> usize {
    usize::try_from(length).unwrap_or(0) + LENGTH_ENDS_AT
}

impl BatchHeader {
    /// The size of a header.
    pub const BYTES: usize = 61;

    /// Reads a header; the records need not be there and the checksum is not looked at.
    ///
    /// What it returns has magic 2, a size of at least a header, and offsets that do not overflow.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let (length, magic) = peek(bytes)?;
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let size = total_bytes(length);
        if size < BatchHeader::BYTES {
            return Err(BatchError::Length(length));
        }
        let header = bytes
            .first_chunk::<{ BatchHeader::BYTES }>()
            .map(BatchHeader::from_bytes)
            .ok_or(BatchError::Incomplete {
                needed: size,
                available: bytes.len(),
            })?;
        // Offset arithmetic on a parsed header cannot overflow.
        let sane = header.base_offset.0 >= 0
            && header.last_offset_delta >= 0
            && header.records_count >= 0
            && header.base_offset.0 < i64::MAX - i64::from(i32::MAX);
        if !sane {
            return Err(BatchError::Offsets {
                base_offset: header.base_offset.0,
                last_offset_delta: header.last_offset_delta,
                records_count: header.records_count,
            });
        }
        Ok(header)
    }

    /// The fields as they stand, whatever they say.
    pub(super) fn from_bytes(bytes: &[u8; BatchHeader::BYTES]) -> BatchHeader {
        let mut fields = Fields(bytes);
        BatchHeader {
            base_offset: Offset(i64::from_be_bytes(fields.take())),
            batch_length: i32::from_be_bytes(fields.take()),
            partition_leader_epoch: LeaderEpoch(i32::from_be_bytes(fields.take())),
            magic: i8::from_be_bytes(fields.take()),
            crc: u32::from_be_bytes(fields.take()),
            attributes: Attributes(i16::from_be_bytes(fields.take())),
            last_offset_delta: i32::from_be_bytes(fields.take()),
            base_timestamp: Timestamp(i64::from_be_bytes(fields.take())),
            max_timestamp: Timestamp(i64::from_be_bytes(fields.take())),
            producer_id: ProducerId(i64::from_be_bytes(fields.take())),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(fields.take())),
            base_sequence: i32::from_be_bytes(fields.take()),
            records_count: i32::from_be_bytes(fields.take()),
        }
    }

    /// Writes the header.
    pub fn write_to(&self, bytes: &mut [u8; BatchHeader::BYTES]) {
        let mut position = 0;
        let mut put = |field: &[u8]| {
            bytes[position..position + field.len()].copy_from_slice(field);
            position += field.len();
        };
        put(&self.base_offset.0.to_be_bytes());
        put(&self.batch_length.to_be_bytes());
        put(&self.partition_leader_epoch.0.to_be_bytes());
        put(&self.magic.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.0.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.0.to_be_bytes());
        put(&self.max_timestamp.0.to_be_bytes());
        put(&self.producer_id.0.to_be_bytes());
        put(&self.producer_epoch.0.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.records_count.to_be_bytes());
    }

    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BatchHeader::BYTES] {
        let mut bytes = [0; BatchHeader::BYTES];
        self.write_to(&mut bytes);
        bytes
    }

    /// Header and records together.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        total_bytes(self.batch_length)
    }

    /// The bytes of the records alone.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.size_in_bytes().saturating_sub(BatchHeader::BYTES)
    }

    /// The offset of the last record, or of the last that was there before compaction.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(i64::from(self.last_offset_delta)),
        )
    }

    /// The offset that follows the batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The sequence of the last record, or -1.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// Whether an idempotent or transactional producer wrote the batch.
    #[must_use]
    pub fn has_producer(&self) -> bool {
        self.producer_id.0 > ProducerId::NONE.0
    }

    /// The checksum that this header and a payload of the given checksum must carry.
    pub(super) fn crc_with_payload(&self, payload: &[u8]) -> u32 {
        let mut crc = super::crc::Crc32c::new();
        crc.update(&self.to_bytes()[CRC_COVERS_FROM..]);
        crc.update(payload);
        crc.finish()
    }

    /// The same batch with what the CRC covers changed, and the CRC moved along.
    ///
    /// The payload is not read: see [`crc32c_replace_front`].
    #[must_use]
    pub(super) fn patched(&self, patch: impl FnOnce(&mut BatchHeader)) -> BatchHeader {
        let mut patched = *self;
        patch(&mut patched);
        let front = |header: &BatchHeader| crc32c(&header.to_bytes()[CRC_COVERS_FROM..]);
        let (before, after) = (front(self), front(&patched));
        if before != after {
            patched.crc = crc32c_replace_front(self.crc, before, after, self.payload_bytes());
        }
        patched
    }
}

/// The sequence number `count` after `sequence`: 2147483647 is followed by 0.
#[must_use]
pub fn increment_sequence(sequence: i32, count: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(count);
    let wrapped = sum.rem_euclid(i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).unwrap_or(i32::MAX)
}

/// What the leader writes in front of the payload: base offset and leader epoch, and on a
/// LogAppendTime topic the type bit, the time and the CRC that follows from them.
///
/// The client's buffer stays as it is: storage writes these bytes, then the payload.
///
/// ```
/// use esker_protocol::records::{BatchBuilder, BatchHeader, Batch, stamp};
/// use esker_protocol::{LeaderEpoch, Offset, Timestamp};
///
/// let mut builder = BatchBuilder::default();
/// builder.append(Timestamp(7), None, Some(b"value"), &[])?;
/// let sent = builder.build()?;
/// let (header, payload) = (BatchHeader::parse(&sent)?, &sent[BatchHeader::BYTES..]);
///
/// let stamped = stamp(&header, payload, Offset(42), LeaderEpoch(3), Some(Timestamp(9)));
/// let log = [&stamped, payload].concat();
/// let (batch, _) = Batch::parse(&log)?;
/// assert!(batch.crc_is_valid());
/// assert_eq!(batch.header().last_offset(), Offset(42));
/// assert_eq!(batch.header().max_timestamp, Timestamp(9));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn stamp(
    header: &BatchHeader,
    payload: &[u8],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    log_append_time: Option<Timestamp>,
) -> [u8; BatchHeader::BYTES] {
    debug_assert_eq!(
        header.payload_bytes(),
        payload.len(),
        "header and payload are of one batch"
    );
    let mut stamped = match log_append_time {
        None => *header,
        Some(time) => header.patched(|header| {
            header.attributes = header
                .attributes
                .known()
                .with_timestamp_type(TimestampType::LogAppendTime);
            header.max_timestamp = time;
        }),
    };
    stamped.base_offset = base_offset;
    stamped.partition_leader_epoch = leader_epoch;
    stamped.to_bytes()
}

/// Takes fixed-size fields off the front of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk::<N>()
            .expect("the fields sum up to 61 bytes");
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests;

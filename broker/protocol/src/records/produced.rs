//! The checks on what a producer sends, in Kafka's order and with Kafka's meaning.
//!
//! ```text
//! one batch of format 2 -> codec allowed -> base offset 0 -> size -> CRC -> header fields -> records
//! ```
//! Records are walked only where the topic's rules need it: `validation=full`, a compacted topic,
//! or a header whose timestamps or type bit are suspect. The walk then decides, so that a refusal
//! names the records that Kafka would name.

mod recompress;
mod walk;

use bytes::Bytes;

use super::attributes::{Attributes, TimestampType, UnknownCompression};
use super::builder::BuiltBatch;
use super::compression::{Caps, Compression};
use super::crc::crc32c;
use super::header::{
    BatchError, BatchHeader, CRC_COVERS_FROM, LENGTH_MIN_OF_ANY_FORMAT, MAGIC, peek, total_bytes,
};
use super::record::RecordsError;
use crate::{Offset, Timestamp};

/// How much of a produced batch is looked at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// The header and the checksum; records only where a rule needs them.
    #[default]
    Default,
    /// Every record, as Kafka does.
    Full,
}

/// The rules of a topic and a request, as values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceRules {
    /// `max.message.bytes`.
    pub message_bytes_max: u32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub before_ms_max: i64,
    /// `message.timestamp.after.max.ms`.
    pub after_ms_max: i64,
    /// The leader's clock.
    pub now: Timestamp,
    /// Whether `cleanup.policy` has `compact`: every record then needs a key.
    pub compacted: bool,
    /// `validation`.
    pub validation: Validation,
    /// Whether the request's version may carry zstd: Produce 7 and later.
    pub zstd_allowed: bool,
    /// `compression.type`, where it is not `producer`: what has another codec is compressed anew.
    pub target: Option<Target>,
    /// What a batch may become where it is decompressed.
    pub caps: Caps,
}

/// How a topic's batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The codec.
    pub codec: Compression,
    /// Its level; `None` for the codec's default.
    pub level: Option<i32>,
}

impl ProduceRules {
    /// Kafka's defaults.
    #[must_use]
    pub fn new(now: Timestamp) -> ProduceRules {
        ProduceRules {
            message_bytes_max: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            before_ms_max: i64::MAX,
            after_ms_max: 3_600_000,
            now,
            compacted: false,
            validation: Validation::Default,
            zstd_allowed: true,
            target: None,
            caps: Caps::DEFAULT,
        }
    }

    /// Whether a batch with this header is compressed anew: work for a core, and not for a thread
    /// that others wait for.
    #[must_use]
    pub fn recompresses(&self, header: &BatchHeader) -> bool {
        let codec = header.attributes.compression().ok();
        self.target
            .is_some_and(|target| codec.is_some_and(|codec| codec != target.codec))
    }
}

/// A batch that passed every check, and can be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducedBatch {
    /// What holds: [`stamp`](super::stamp) starts from it. Where validation had to correct type bit
    /// or maximum timestamp it differs from the header in `bytes`.
    pub header: BatchHeader,
    /// Exactly one batch, as the client sent it, or compressed anew.
    pub bytes: Bytes,
}

impl ProducedBatch {
    /// The records, compressed or not.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(BatchHeader::BYTES..)
    }
}

/// A record that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Its place in the batch, from 0.
    pub batch_index: i32,
    /// Why, for a person, in Kafka's words.
    pub message: String,
    /// Whether the partition's name belongs behind the message.
    pub names_partition: bool,
}

/// What a refusal is in Kafka's terms; the handlers turn it into a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProduceErrorKind {
    /// INVALID_RECORD
    InvalidRecord,
    /// CORRUPT_MESSAGE
    CorruptMessage,
    /// MESSAGE_TOO_LARGE
    MessageTooLarge,
    /// INVALID_TIMESTAMP
    InvalidTimestamp,
    /// UNSUPPORTED_COMPRESSION_TYPE
    UnsupportedCompressionType,
    /// Codec 5 to 7, or bytes that do not decompress: Kafka says UNKNOWN_SERVER_ERROR. Trying again
    /// cannot help, so whatever code is chosen must not be a retriable one.
    Undecodable,
}

/// Why a produced batch is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// No whole batch is there.
    #[error("the request holds no record batch")]
    NoBatch,
    /// Producers send one batch a partition.
    #[error("the request holds more than one record batch for the partition")]
    ManyBatches,
    /// Formats 0 and 1 are not served.
    #[error("record format version {0} is not 2")]
    OldFormat(i8),
    /// The first fields cannot be those of a batch.
    #[error(transparent)]
    Damaged(#[from] BatchError),
    /// zstd in a request older than Produce 7.
    #[error("produce requests before version 7 must not hold zstd batches")]
    ZstdNotAllowed,
    /// Bits 0 to 2 of the attributes.
    #[error(transparent)]
    Codec(#[from] UnknownCompression),
    /// The leader gives offsets.
    #[error("base offset is {0} and must be 0")]
    BaseOffset(i64),
    /// Larger than `max.message.bytes`.
    #[error("batch of {bytes} bytes is larger than the topic's limit of {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// The bytes are not those that were sent.
    #[error("checksum of the batch is {computed:08x}, its header says {stored:08x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// The header contradicts itself.
    #[error("batch claims {records_count} records and a last offset delta of {last_offset_delta}")]
    Count {
        /// As the header has it.
        records_count: i32,
        /// As the header has it.
        last_offset_delta: i32,
    },
    /// Control records are the broker's.
    #[error("producers must not write control records")]
    Control,
    /// An idempotent batch needs a sequence.
    #[error("batch of producer {producer_id} has sequence {base_sequence}")]
    Sequence {
        /// As the header has it.
        producer_id: i64,
        /// As the header has it.
        base_sequence: i32,
    },
    /// The records cannot be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The records cannot be compressed with the topic's codec.
    #[error("the batch cannot be compressed: {0}")]
    Compress(String),
    /// Some records break the topic's rules.
    #[error("{count} records are refused, the first because {}", .first.message)]
    Rejected {
        /// Whether one of them was refused for its timestamp.
        by_timestamp: bool,
        /// How many.
        count: usize,
        /// The first.
        first: RejectedRecord,
        /// The next ones, up to a bound.
        more: Vec<RejectedRecord>,
    },
}

impl ProduceError {
    /// What the refusal is in Kafka's terms.
    #[must_use]
    pub fn kind(&self) -> ProduceErrorKind {
        match self {
            ProduceError::NoBatch
            | ProduceError::ManyBatches
            | ProduceError::OldFormat(_)
            | ProduceError::BaseOffset(_)
            | ProduceError::Count { .. }
            | ProduceError::Control
            | ProduceError::Sequence { .. }
            | ProduceError::Records(RecordsError::Record { .. } | RecordsError::Trailing { .. })
            | ProduceError::Rejected {
                by_timestamp: false,
                ..
            } => ProduceErrorKind::InvalidRecord,
            ProduceError::Damaged(_) | ProduceError::Crc { .. } => ProduceErrorKind::CorruptMessage,
            ProduceError::TooLarge { .. } => ProduceErrorKind::MessageTooLarge,
            ProduceError::Rejected {
                by_timestamp: true, ..
            } => ProduceErrorKind::InvalidTimestamp,
            ProduceError::ZstdNotAllowed => ProduceErrorKind::UnsupportedCompressionType,
            ProduceError::Codec(_)
            | ProduceError::Compress(_)
            | ProduceError::Records(RecordsError::Codec(_) | RecordsError::Decompress(_)) => {
                ProduceErrorKind::Undecodable
            }
        }
    }

    /// Whether the request's bytes alone are at fault, so that no log was asked. Kafka then says
    /// nothing of the log either, not even where it starts.
    #[must_use]
    pub fn is_before_the_log(&self) -> bool {
        match self {
            ProduceError::NoBatch
            | ProduceError::ManyBatches
            | ProduceError::OldFormat(_)
            | ProduceError::ZstdNotAllowed => true,
            // A whole batch that is shorter than its header is found out by the log.
            ProduceError::Damaged(BatchError::Length(length)) => *length < LENGTH_MIN_OF_ANY_FORMAT,
            ProduceError::Damaged(_) => true,
            _ => false,
        }
    }

    /// The refused records, for replies of Produce 8 and later.
    pub fn record_errors(&self) -> impl Iterator<Item = &RejectedRecord> {
        let rejected = match self {
            ProduceError::Rejected { first, more, .. } => Some((first, more)),
            _ => None,
        };
        rejected
            .into_iter()
            .flat_map(|(first, more)| std::iter::once(first).chain(more))
    }
}

/// The checks on the request's bytes alone, before the partition is looked at: exactly one batch,
/// of format 2, with a codec that may be sent.
///
/// The header is as the client wrote it: nothing else about it has been checked. Bytes that follow
/// the batch without being a whole one are tolerated and dropped later, as Kafka does.
pub fn inspect(bytes: &[u8], zstd_allowed: bool) -> Result<BatchHeader, ProduceError> {
    let (header, size) = first(bytes)?;
    if header.attributes.compression()? == Compression::Zstd && !zstd_allowed {
        return Err(ProduceError::ZstdNotAllowed);
    }
    match peek_whole(bytes.get(size..).unwrap_or_default())? {
        None => Ok(header),
        Some(_) => Err(ProduceError::ManyBatches),
    }
}

/// Whether the first batch of the bytes is part of a transaction.
///
/// # Errors
/// The first fields cannot be those of a batch.
pub fn is_transactional(bytes: &[u8]) -> Result<bool, BatchError> {
    let is_whole = peek_whole(bytes)?.is_some();
    Ok(is_whole && first(bytes).is_ok_and(|(header, _)| header.attributes.is_transactional()))
}

/// The header and the size of the first batch, which is whole and of format 2.
fn first(bytes: &[u8]) -> Result<(BatchHeader, usize), ProduceError> {
    let (size, magic) = peek_whole(bytes)?.ok_or(ProduceError::NoBatch)?;
    if magic != MAGIC {
        return Err(ProduceError::OldFormat(magic));
    }
    let header = bytes
        .get(..size)
        .and_then(|batch| batch.first_chunk())
        .map(BatchHeader::from_bytes)
        .ok_or(BatchError::Length(length_field(bytes)))?;
    Ok((header, size))
}

/// Size and format of the batch that the bytes begin with; `None` when they hold no whole one.
fn peek_whole(bytes: &[u8]) -> Result<Option<(usize, i8)>, BatchError> {
    match peek(bytes) {
        Ok((length, magic)) => {
            let size = total_bytes(length);
            Ok((size <= bytes.len()).then_some((size, magic)))
        }
        Err(BatchError::Incomplete { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn length_field(bytes: &[u8]) -> i32 {
    peek(bytes).map_or(0, |(length, _)| length)
}

/// All checks that need no log: afterwards only sequences and epochs can refuse the batch.
///
/// ```
/// use bytes::Bytes;
/// use esker_protocol::Timestamp;
/// use esker_protocol::records::{BatchBuilder, ProduceErrorKind, ProduceRules, validate};
///
/// let mut builder = BatchBuilder::default();
/// builder.append(Timestamp(1_000), None, Some(b"value"), &[])?;
/// let rules = ProduceRules::new(Timestamp(2_000));
/// assert_eq!(validate(builder.build()?, &rules)?.header.records_count, 1);
///
/// let compacted = ProduceRules { compacted: true, ..rules };
/// let refused = validate(builder.build()?, &compacted).unwrap_err();
/// assert_eq!(refused.kind(), ProduceErrorKind::InvalidRecord);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn validate(bytes: Bytes, rules: &ProduceRules) -> Result<ProducedBatch, ProduceError> {
    let header = inspect(&bytes, rules.zstd_allowed)?;
    let bytes = bytes.slice(..header.size_in_bytes());
    check_header(&header, &bytes, rules)?;
    let header = if needs_walk(&header, rules) {
        walk::walk(
            &header,
            bytes.get(BatchHeader::BYTES..).unwrap_or_default(),
            rules,
        )?
    } else {
        header
    };
    let batch = ProducedBatch { header, bytes };
    match rules.target.filter(|_| rules.recompresses(&header)) {
        Some(target) => recompress::recompress(&batch, target, rules),
        None => Ok(batch),
    }
}

/// As [`validate`], for a batch that this process has just built: its bytes are what they should be, and
/// only where it breaks the partition's rules, or is to be changed by them, its records are looked at.
pub fn validate_built(
    built: BuiltBatch,
    rules: &ProduceRules,
) -> Result<ProducedBatch, ProduceError> {
    let BuiltBatch { bytes, is_mixed } = built;
    let Some(header) = bytes.first_chunk().map(BatchHeader::from_bytes) else {
        return validate(bytes, rules);
    };
    let is_plain = !is_mixed
        && header.attributes == Attributes::default()
        && header.base_offset == Offset::ZERO
        && !header.has_producer()
        && i64::from(header.last_offset_delta) + 1 == i64::from(header.records_count)
        && !rules.recompresses(&header)
        && timestamps_are_allowed(&header, rules)
        && bytes.len() <= rules.message_bytes_max as usize;
    if is_plain {
        Ok(ProducedBatch { header, bytes })
    } else {
        validate(bytes, rules)
    }
}

fn check_header(
    header: &BatchHeader,
    bytes: &[u8],
    rules: &ProduceRules,
) -> Result<(), ProduceError> {
    if header.base_offset.0 != 0 {
        return Err(ProduceError::BaseOffset(header.base_offset.0));
    }
    if bytes.len() > rules.message_bytes_max as usize {
        return Err(ProduceError::TooLarge {
            bytes: bytes.len(),
            max: rules.message_bytes_max,
        });
    }
    let computed = crc32c(bytes.get(CRC_COVERS_FROM..).unwrap_or_default());
    if computed != header.crc {
        return Err(ProduceError::Crc {
            stored: header.crc,
            computed,
        });
    }
    let BatchHeader {
        records_count,
        last_offset_delta,
        ..
    } = *header;
    if last_offset_delta < 0
        || records_count <= 0
        || i64::from(last_offset_delta) + 1 != i64::from(records_count)
    {
        return Err(ProduceError::Count {
            records_count,
            last_offset_delta,
        });
    }
    if header.attributes.is_control() {
        return Err(ProduceError::Control);
    }
    if header.has_producer() && header.base_sequence < 0 {
        return Err(ProduceError::Sequence {
            producer_id: header.producer_id.0,
            base_sequence: header.base_sequence,
        });
    }
    Ok(())
}

/// Whether the header alone does not settle the matter.
fn needs_walk(header: &BatchHeader, rules: &ProduceRules) -> bool {
    rules.validation == Validation::Full
        || rules.compacted
        || rules.recompresses(header)
        || header.attributes.timestamp_type() == TimestampType::LogAppendTime
        || !timestamps_are_allowed(header, rules)
}

/// Whether first and last timestamp are within the topic's bounds, where those are asked for.
fn timestamps_are_allowed(header: &BatchHeader, rules: &ProduceRules) -> bool {
    rules.timestamp_type != TimestampType::CreateTime
        || [header.base_timestamp, header.max_timestamp]
            .into_iter()
            .all(|timestamp| walk::timestamp_is_allowed(timestamp, rules))
}

#[cfg(test)]
mod tests;

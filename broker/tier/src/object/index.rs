//! The index frame: all that a reader or a new leader needs to know of an object but its bytes.
//!
//! ```text
//! 0x184D2A50 u32le | size u32le | "ESKI" | version int16 | fields | CRC-32C uint32
//! ```
//!
//! `docs/formats/object.md` draws the fields. Offset and time indexes are kept as runs of varint
//! deltas: a segment of 1 GiB has a quarter of a million entries, and readers rarely need any.

use bytes::Bytes;
use esker_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId};

use super::INDEX_FRAME_MAGIC;
use crate::manifest::{EpochStart, read_epochs, write_epoch};
use crate::source::{AbortedTransaction, OpenTransaction, Outcome, ProducerEntry};
use crate::wire::{self, Reader, WireError, Writer};

const MAGIC: [u8; 4] = *b"ESKI";
const VERSION: i16 = 1;

const SEGMENT_BYTES_MIN: usize = 35;
const FRAME_BYTES_MIN: usize = 33;
const ABORTED_BYTES: usize = 33;
const PRODUCER_BYTES: usize = 47;
const OPEN_BYTES: usize = 24;

/// An object's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: i32,
    /// Epoch of the leader that uploaded it.
    pub leader_epoch: LeaderEpoch,
    /// First offset.
    pub base: Offset,
    /// End, exclusive.
    pub end: Offset,
    /// The segments, oldest first.
    pub segments: Vec<SegmentAt>,
    /// The data frames, in order.
    pub frames: Vec<FrameAt>,
    /// Every aborted transaction that overlaps the object.
    pub aborted: Vec<AbortedTransaction>,
    /// The epochs in it.
    pub epochs: Vec<EpochStart>,
    /// Producer state as of the end.
    pub producers: Vec<ProducerEntry>,
    /// Transactions open at the end.
    pub open_transactions: Vec<OpenTransaction>,
}

/// A segment in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentAt {
    /// Base offset.
    pub base: Offset,
    /// End, exclusive.
    pub end: Offset,
    /// Its length; segments lie back to back in what the frames decompress to.
    pub bytes: u64,
    /// Largest timestamp in it.
    pub max_timestamp: Timestamp,
    offset_index: Bytes,
    time_index: Bytes,
}

/// A data frame in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameAt {
    /// Where it begins in the object.
    pub position: u64,
    /// Its length in the object.
    pub compressed_bytes: u32,
    /// Its length decompressed.
    pub bytes: u32,
    /// Base offset of its first batch.
    pub base: Offset,
    /// End of its last batch, exclusive.
    pub end: Offset,
    /// Largest timestamp in it.
    pub max_timestamp: Timestamp,
}

/// The end of an object is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Not the message.
    #[error("index frame: {0}")]
    Wire(#[from] WireError),
    /// There is no index frame where it should be.
    #[error("no index frame at its position")]
    NoFrame,
    /// The seek table differs from the index.
    #[error("the seek table disagrees with the index frame")]
    SeekTable,
    /// The index contradicts itself.
    #[error("the index frame disagrees with itself: {0}")]
    Invalid(&'static str),
}

impl SegmentAt {
    pub(super) fn new(
        (base, end, bytes, max_timestamp): (Offset, Offset, u64, Timestamp),
        offset_index: &[(i32, i32)],
        time_index: &[(i64, i32)],
    ) -> SegmentAt {
        let offsets = offset_index
            .iter()
            .map(|(a, b)| (i64::from(*a), i64::from(*b)));
        let times = time_index.iter().map(|(a, b)| (*a, i64::from(*b)));
        SegmentAt {
            base,
            end,
            bytes,
            max_timestamp,
            offset_index: pack(offsets),
            time_index: pack(times),
        }
    }

    /// Kafka's offset index of the segment.
    ///
    /// # Errors
    /// [`IndexError`] when the bytes are no such index.
    pub fn offset_index(&self) -> Result<Vec<(i32, i32)>, IndexError> {
        let narrow = |value| {
            i32::try_from(value).map_err(|_| IndexError::Invalid("offset index out of range"))
        };
        unpack(&self.offset_index)?
            .into_iter()
            .map(|(offset, position)| Ok((narrow(offset)?, narrow(position)?)))
            .collect()
    }

    /// Kafka's time index of the segment.
    ///
    /// # Errors
    /// [`IndexError`] when the bytes are no such index.
    pub fn time_index(&self) -> Result<Vec<(i64, i32)>, IndexError> {
        let narrow = |value| {
            i32::try_from(value).map_err(|_| IndexError::Invalid("time index out of range"))
        };
        unpack(&self.time_index)?
            .into_iter()
            .map(|(timestamp, offset)| Ok((timestamp, narrow(offset)?)))
            .collect()
    }
}

/// Pairs as varint deltas, each from the pair before.
fn pack(pairs: impl Iterator<Item = (i64, i64)>) -> Bytes {
    let mut writer = Writer::default();
    let mut last = (0_i64, 0_i64);
    for (a, b) in pairs {
        writer.varint(a.wrapping_sub(last.0));
        writer.varint(b.wrapping_sub(last.1));
        last = (a, b);
    }
    Bytes::from(writer.into_bytes())
}

fn unpack(bytes: &[u8]) -> Result<Vec<(i64, i64)>, WireError> {
    let mut reader = Reader::new(bytes);
    let mut pairs = Vec::new();
    let mut last = (0_i64, 0_i64);
    while !reader.is_empty() {
        last.0 = last.0.wrapping_add(reader.varint()?);
        last.1 = last.1.wrapping_add(reader.varint()?);
        pairs.push(last);
    }
    Ok(pairs)
}

impl Index {
    /// The index without what only restoring local files needs: what a cache keeps.
    #[must_use]
    pub fn without_local_indexes(mut self) -> Index {
        for segment in &mut self.segments {
            segment.offset_index = Bytes::new();
            segment.time_index = Bytes::new();
        }
        self.producers = Vec::new();
        self.open_transactions = Vec::new();
        self
    }

    /// Roughly what it takes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let local = |segment: &SegmentAt| segment.offset_index.len() + segment.time_index.len();
        size_of::<Index>()
            + self.segments.len() * size_of::<SegmentAt>()
            + self.segments.iter().map(local).sum::<usize>()
            + self.frames.len() * size_of::<FrameAt>()
            + self.aborted.len() * size_of::<AbortedTransaction>()
            + self.epochs.len() * size_of::<EpochStart>()
            + self.producers.len() * size_of::<ProducerEntry>()
            + self.open_transactions.len() * size_of::<OpenTransaction>()
    }

    /// The number of the frame that holds `offset`.
    #[must_use]
    pub fn frame_of(&self, offset: Offset) -> Option<usize> {
        let number = self.frames.partition_point(|frame| frame.end <= offset);
        (offset >= self.base && number < self.frames.len()).then_some(number)
    }

    /// Where the data frames end: the index frame's position.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        let last = self.frames.last();
        last.map_or(0, |frame| {
            frame.position + u64::from(frame.compressed_bytes)
        })
    }

    /// The skippable frame that holds the index.
    pub(super) fn encode(&self) -> Vec<u8> {
        let content = wire::seal(MAGIC, VERSION, |writer| {
            writer.uuid(self.topic_id.0);
            writer.i32(self.partition);
            writer.epoch(self.leader_epoch);
            writer.offset(self.base);
            writer.offset(self.end);
            writer.array(&self.segments, |writer, segment| {
                writer.offset(segment.base);
                writer.offset(segment.end);
                writer.size(segment.bytes);
                writer.timestamp(segment.max_timestamp);
                writer.bytes(&segment.offset_index);
                writer.bytes(&segment.time_index);
                writer.no_tags();
            });
            writer.array(&self.frames, |writer, frame| {
                writer.u32(frame.compressed_bytes);
                writer.u32(frame.bytes);
                writer.offset(frame.base);
                writer.offset(frame.end);
                writer.timestamp(frame.max_timestamp);
                writer.no_tags();
            });
            writer.array(&self.aborted, |writer, aborted| {
                writer.i64(aborted.producer_id.0);
                writer.offset(aborted.first_offset);
                writer.offset(aborted.last_offset);
                writer.offset(aborted.last_stable_offset);
                writer.no_tags();
            });
            writer.array(&self.epochs, write_epoch);
            writer.array(&self.producers, write_producer);
            writer.array(&self.open_transactions, write_open);
            writer.no_tags();
        });
        let mut frame = Vec::with_capacity(content.len() + 8);
        frame.extend_from_slice(&INDEX_FRAME_MAGIC.to_le_bytes());
        frame.extend_from_slice(
            &u32::try_from(content.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        frame.extend_from_slice(&content);
        frame
    }

    /// Reads the index frame at the beginning of `tail`; gives what follows it.
    pub(super) fn decode(tail: &[u8]) -> Result<(Index, &[u8]), IndexError> {
        let (magic, rest) = tail.split_first_chunk::<4>().ok_or(IndexError::NoFrame)?;
        let (size, rest) = rest.split_first_chunk::<4>().ok_or(IndexError::NoFrame)?;
        if u32::from_le_bytes(*magic) != INDEX_FRAME_MAGIC {
            return Err(IndexError::NoFrame);
        }
        let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
        let (content, rest) = rest.split_at_checked(size).ok_or(IndexError::NoFrame)?;
        let index = Index::decode_content(content)?;
        index.check()?;
        Ok((index, rest))
    }

    fn decode_content(content: &[u8]) -> Result<Index, IndexError> {
        let (mut reader, _) = wire::open(MAGIC, VERSION, content)?;
        let mut position = 0_u64;
        let index = Index {
            topic_id: TopicId(reader.uuid()?),
            partition: reader.i32()?,
            leader_epoch: reader.epoch()?,
            base: reader.offset()?,
            end: reader.offset()?,
            segments: reader.array(SEGMENT_BYTES_MIN, read_segment)?,
            frames: reader.array(FRAME_BYTES_MIN, |reader| {
                let frame = FrameAt {
                    position,
                    compressed_bytes: reader.u32()?,
                    bytes: reader.u32()?,
                    base: reader.offset()?,
                    end: reader.offset()?,
                    max_timestamp: reader.timestamp()?,
                };
                reader.tags()?;
                position += u64::from(frame.compressed_bytes);
                Ok(frame)
            })?,
            aborted: reader.array(ABORTED_BYTES, |reader| {
                let producer_id = ProducerId(reader.i64()?);
                let aborted = AbortedTransaction {
                    producer_id,
                    first_offset: reader.offset()?,
                    last_offset: reader.offset()?,
                    last_stable_offset: reader.offset()?,
                };
                reader.tags()?;
                Ok(aborted)
            })?,
            epochs: read_epochs(&mut reader)?,
            producers: reader.array(PRODUCER_BYTES, read_producer)?,
            open_transactions: reader.array(OPEN_BYTES, read_open)?,
        };
        reader.tags()?;
        if !reader.is_empty() {
            return Err(WireError::Invalid("bytes follow the message").into());
        }
        Ok(index)
    }

    /// Checks that segments and frames each cover the object without a gap.
    fn check(&self) -> Result<(), IndexError> {
        let segments = self
            .segments
            .iter()
            .map(|segment| (segment.base, segment.end));
        let frames = self.frames.iter().map(|frame| (frame.base, frame.end));
        if !covers(segments, self.base, self.end) {
            return Err(IndexError::Invalid("segments"));
        }
        if !covers(frames, self.base, self.end) {
            return Err(IndexError::Invalid("frames"));
        }
        let segment_bytes = self
            .segments
            .iter()
            .fold(0_u64, |sum, segment| sum.saturating_add(segment.bytes));
        let frame_bytes: u64 = self.frames.iter().map(|frame| u64::from(frame.bytes)).sum();
        if segment_bytes != frame_bytes {
            return Err(IndexError::Invalid("sizes of segments and frames"));
        }
        Ok(())
    }
}

/// Whether ranges touch and run from `base` to `end`.
fn covers(ranges: impl Iterator<Item = (Offset, Offset)>, base: Offset, end: Offset) -> bool {
    let mut expected = base;
    for (base, end) in ranges {
        if base != expected || end <= base {
            return false;
        }
        expected = end;
    }
    expected == end && base < end
}

fn read_segment(reader: &mut Reader<'_>) -> Result<SegmentAt, WireError> {
    let segment = SegmentAt {
        base: reader.offset()?,
        end: reader.offset()?,
        bytes: reader.size()?,
        max_timestamp: reader.timestamp()?,
        offset_index: Bytes::copy_from_slice(reader.bytes()?),
        time_index: Bytes::copy_from_slice(reader.bytes()?),
    };
    reader.tags()?;
    Ok(segment)
}

fn write_producer(writer: &mut Writer, producer: &ProducerEntry) {
    writer.i64(producer.producer_id.0);
    writer.i16(producer.producer_epoch.0);
    writer.i32(producer.last_sequence);
    writer.i64(producer.last_offset.0);
    writer.i32(producer.offset_delta);
    writer.timestamp(producer.timestamp);
    writer.i32(producer.coordinator_epoch);
    writer.i64(producer.current_txn_first_offset.0);
    writer.no_tags();
}

fn read_producer(reader: &mut Reader<'_>) -> Result<ProducerEntry, WireError> {
    let producer = ProducerEntry {
        producer_id: ProducerId(reader.i64()?),
        producer_epoch: ProducerEpoch(reader.i16()?),
        last_sequence: reader.i32()?,
        last_offset: Offset(reader.i64()?),
        offset_delta: reader.i32()?,
        timestamp: reader.timestamp()?,
        coordinator_epoch: reader.i32()?,
        current_txn_first_offset: Offset(reader.i64()?),
    };
    reader.tags()?;
    Ok(producer)
}

fn write_open(writer: &mut Writer, open: &OpenTransaction) {
    writer.i64(open.producer_id.0);
    writer.i16(open.producer_epoch.0);
    writer.offset(open.first_offset);
    writer.i8(match open.outcome {
        Outcome::Abort => 0,
        Outcome::Commit => 1,
    });
    writer.i32(open.coordinator_epoch);
    writer.no_tags();
}

fn read_open(reader: &mut Reader<'_>) -> Result<OpenTransaction, WireError> {
    let open = OpenTransaction {
        producer_id: ProducerId(reader.i64()?),
        producer_epoch: ProducerEpoch(reader.i16()?),
        first_offset: reader.offset()?,
        outcome: match reader.i8()? {
            0 => Outcome::Abort,
            1 => Outcome::Commit,
            _ => return Err(WireError::Invalid("a transaction's outcome is not known")),
        },
        coordinator_epoch: reader.i32()?,
    };
    reader.tags()?;
    Ok(open)
}

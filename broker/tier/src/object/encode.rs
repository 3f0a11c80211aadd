//! Making an object from segments, in memory that does not grow with them.

use std::io;

use bytes::Bytes;
use esker_protocol::records::BatchHeader;
use esker_protocol::records::{Batch, BatchError};
use esker_protocol::{LeaderEpoch, Offset, Timestamp};

use super::frame::Compressor;
use super::{BATCH_BYTES_MAX, FRAME_BYTES, FrameAt, Index, SegmentAt, seek_table};
use crate::layout::Partition;
use crate::manifest::{EpochStart, clip_epochs};
use crate::source::SegmentSource;
use esker_protocol::records::Crc32c;

/// How much of a segment is read at once.
const READ_BYTES: usize = 1 << 20;

/// Why an object cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Reading the segment failed.
    #[error("segment {base} cannot be read at position {position}")]
    Read {
        /// Base offset of the source.
        base: Offset,
        /// Where.
        position: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The segment holds no valid batch where one should be: the local log is damaged (P6).
    #[error("segment {base} is damaged at position {position}: {error}")]
    Damaged {
        /// Base offset of the source.
        base: Offset,
        /// Where.
        position: u64,
        /// What is wrong.
        error: BatchError,
    },
    /// A batch does not match its checksum: the local log is damaged (P6).
    #[error(
        "segment {base} is damaged at position {position}: the batch does not match its checksum"
    )]
    Checksum {
        /// Base offset of the source.
        base: Offset,
        /// Where.
        position: u64,
    },
    /// Offsets or ends are not what the source claims.
    #[error("segment {base} does not hold what it should: {what} at position {position}")]
    Mismatch {
        /// Base offset of the source.
        base: Offset,
        /// Where.
        position: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// There is nothing to encode, or the sources do not touch.
    #[error("the sources of an object {0}")]
    Sources(&'static str),
    /// zstd failed.
    #[error("compression failed")]
    Zstd(#[source] io::Error),
}

impl EncodeError {
    /// Whether the local log is damaged: then offloading stops and P6 decides.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        use EncodeError::{Checksum, Damaged, Mismatch};
        matches!(self, Damaged { .. } | Checksum { .. } | Mismatch { .. })
    }
}

/// What an encoded object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// First offset.
    pub base: Offset,
    /// End, exclusive.
    pub end: Offset,
    /// Length of the object.
    pub object_bytes: u64,
    /// Where its index frame begins.
    pub index_position: u64,
    /// CRC-32C of the whole object.
    pub checksum: u32,
    /// Length of the segments in it.
    pub segment_bytes: u64,
    /// Largest timestamp in it.
    pub max_timestamp: Timestamp,
    /// The epochs in it.
    pub epochs: Vec<EpochStart>,
    /// Leader epoch of its last batch.
    pub last_epoch: LeaderEpoch,
}

/// Makes the bytes of an object, piece by piece. It blocks.
#[derive(Debug)]
pub struct Encoder {
    sources: Vec<SegmentSource>,
    reader: Option<SourceReader>,
    source_number: usize,
    frame: Vec<u8>,
    compressor: Compressor,
    index: Index,
    expected: Offset,
    last_epoch: LeaderEpoch,
    crc: Crc32c,
    position: u64,
    encoded: Option<Encoded>,
}

impl Encoder {
    /// An encoder of `sources`, which touch and begin at the tier end.
    ///
    /// # Errors
    /// [`EncodeError::Sources`] when they are none or do not touch.
    pub fn new(
        partition: &Partition,
        leader_epoch: LeaderEpoch,
        sources: Vec<SegmentSource>,
    ) -> Result<Encoder, EncodeError> {
        let (Some(first), Some(last)) = (sources.first(), sources.last()) else {
            return Err(EncodeError::Sources("are none"));
        };
        let mut expected = first.base;
        for source in &sources {
            if source.base != expected || source.end <= source.base {
                return Err(EncodeError::Sources("do not touch"));
            }
            expected = source.end;
        }
        let index = index_of(partition, leader_epoch, &sources, first.base, last);
        let expected = first.base;
        Ok(Encoder {
            reader: None,
            source_number: 0,
            frame: Vec::new(),
            compressor: Compressor::new().map_err(EncodeError::Zstd)?,
            index,
            expected,
            last_epoch: LeaderEpoch::NONE,
            crc: Crc32c::new(),
            position: 0,
            encoded: None,
            sources,
        })
    }

    /// The next piece of the object: a data frame, or its end. None once it is complete.
    ///
    /// # Errors
    /// [`EncodeError`]; then the object is to be given up.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, EncodeError> {
        if self.encoded.is_some() {
            return Ok(None);
        }
        let piece = match self.next_frame()? {
            Some(frame) => frame,
            None => self.end()?,
        };
        self.crc.update(&piece);
        self.position += piece.len() as u64;
        if let Some(encoded) = &mut self.encoded {
            encoded.checksum = self.crc.finish();
            encoded.object_bytes = self.position;
        }
        Ok(Some(Bytes::from(piece)))
    }

    /// What the object is, once [`Encoder::next_piece`] has said none.
    #[must_use]
    pub fn encoded(&self) -> Option<&Encoded> {
        self.encoded.as_ref()
    }

    fn next_frame(&mut self) -> Result<Option<Vec<u8>>, EncodeError> {
        self.frame.clear();
        let base = self.expected;
        let mut max_timestamp = Timestamp::NONE;
        while self.frame.len() < FRAME_BYTES {
            let Some(header) = self.next_batch()? else {
                break;
            };
            max_timestamp = max_timestamp.max(header.max_timestamp);
        }
        if self.frame.is_empty() {
            return Ok(None);
        }
        let compressed = self
            .compressor
            .compress(&self.frame)
            .map_err(EncodeError::Zstd)?;
        let too_large = |_| EncodeError::Sources("hold a batch that is too large");
        self.index.frames.push(FrameAt {
            position: self.position,
            compressed_bytes: u32::try_from(compressed.len()).map_err(too_large)?,
            bytes: u32::try_from(self.frame.len()).map_err(too_large)?,
            base,
            end: self.expected,
            max_timestamp,
        });
        Ok(Some(compressed))
    }

    /// Appends the next batch to the frame; none when all sources are at their end.
    fn next_batch(&mut self) -> Result<Option<BatchHeader>, EncodeError> {
        loop {
            let Some(source) = self.sources.get(self.source_number) else {
                return Ok(None);
            };
            let reader = self
                .reader
                .get_or_insert_with(|| SourceReader::new(source.clone()));
            let Some(bytes) = reader.next_batch()? else {
                if self.expected != source.end {
                    return Err(reader.mismatch("the last batch ends elsewhere"));
                }
                self.source_number += 1;
                self.reader = None;
                continue;
            };
            let (batch, _) = Batch::parse(&bytes).map_err(|error| reader.damaged(error))?;
            if !batch.crc_is_valid() {
                let (base, position) = (source.base, reader.position);
                return Err(EncodeError::Checksum { base, position });
            }
            let header = *batch.header();
            // Offsets of a log that was never compacted are dense, batch by batch.
            if header.base_offset != self.expected || header.next_offset() > source.end {
                return Err(reader.mismatch("a batch has another offset"));
            }
            if header.partition_leader_epoch < self.last_epoch {
                return Err(reader.mismatch("a batch has an older leader epoch"));
            }
            reader.position += bytes.len() as u64;
            self.expected = header.next_offset();
            self.last_epoch = header.partition_leader_epoch;
            self.frame.extend_from_slice(&bytes);
            return Ok(Some(header));
        }
    }

    /// The index frame and the seek table.
    fn end(&mut self) -> Result<Vec<u8>, EncodeError> {
        let index_position = self.position;
        let epochs_end = self.index.epochs.last().map(|(epoch, _)| *epoch);
        if epochs_end != Some(self.last_epoch) {
            return Err(EncodeError::Sources(
                "have epochs that are not their batches'",
            ));
        }
        let mut end = self.index.encode();
        let mut frames: Vec<_> = self
            .index
            .frames
            .iter()
            .map(|frame| (frame.compressed_bytes, frame.bytes))
            .collect();
        frames.push((u32::try_from(end.len()).unwrap_or(u32::MAX), 0));
        end.extend_from_slice(&seek_table::encode(&frames));
        let max_timestamp = self
            .index
            .segments
            .iter()
            .map(|segment| segment.max_timestamp)
            .max();
        self.encoded = Some(Encoded {
            base: self.index.base,
            end: self.index.end,
            object_bytes: 0,
            index_position,
            checksum: 0,
            segment_bytes: self
                .index
                .segments
                .iter()
                .map(|segment| segment.bytes)
                .sum(),
            max_timestamp: max_timestamp.unwrap_or(Timestamp::NONE),
            epochs: self.index.epochs.clone(),
            last_epoch: self.last_epoch,
        });
        Ok(end)
    }
}

/// The whole object in memory: for tests and tools; uploads stream.
///
/// # Errors
/// [`EncodeError`].
pub fn encode_object(
    partition: &Partition,
    leader_epoch: LeaderEpoch,
    sources: Vec<SegmentSource>,
) -> Result<(Bytes, Encoded), EncodeError> {
    let mut encoder = Encoder::new(partition, leader_epoch, sources)?;
    let mut bytes = Vec::new();
    while let Some(piece) = encoder.next_piece()? {
        bytes.extend_from_slice(&piece);
    }
    let encoded = encoder
        .encoded()
        .cloned()
        .ok_or(EncodeError::Sources("are none"))?;
    Ok((Bytes::from(bytes), encoded))
}

/// The index of an object before its frames are known.
fn index_of(
    partition: &Partition,
    leader_epoch: LeaderEpoch,
    sources: &[SegmentSource],
    base: Offset,
    last: &SegmentSource,
) -> Index {
    let mut epochs: Vec<EpochStart> = Vec::new();
    let mut aborted = Vec::new();
    let mut segments = Vec::new();
    for source in sources {
        crate::manifest::extend_epochs(&mut epochs, &source.epochs);
        aborted.extend_from_slice(&source.aborted);
        segments.push(SegmentAt::new(
            (source.base, source.end, source.bytes, source.max_timestamp),
            &source.offset_index,
            &source.time_index,
        ));
    }
    // Segments repeat the transactions that overlap several of them.
    aborted.sort_unstable();
    aborted.dedup();
    epochs.retain(|(_, start)| *start < last.end);
    Index {
        topic_id: partition.topic_id,
        partition: partition.partition,
        leader_epoch,
        base,
        end: last.end,
        segments,
        frames: Vec::new(),
        aborted,
        epochs: clip_epochs(epochs, base),
        producers: last.producer_snapshot.clone(),
        open_transactions: last.open_transactions.clone(),
    }
}

/// Reads one source batch by batch.
#[derive(Debug)]
struct SourceReader {
    source: SegmentSource,
    /// Where the next batch begins.
    position: u64,
    buffer: Bytes,
    buffer_position: u64,
}

impl SourceReader {
    fn new(source: SegmentSource) -> SourceReader {
        SourceReader {
            source,
            position: 0,
            buffer: Bytes::new(),
            buffer_position: 0,
        }
    }

    /// The bytes of the batch at `position`; none at the end.
    fn next_batch(&mut self) -> Result<Option<Bytes>, EncodeError> {
        let left = self.source.bytes.saturating_sub(self.position);
        if left == 0 {
            return Ok(None);
        }
        if left < BatchHeader::BYTES as u64 {
            return Err(self.mismatch("the segment ends inside a batch"));
        }
        let header = self.bytes(BatchHeader::BYTES)?;
        let header = BatchHeader::parse(&header).map_err(|error| self.damaged(error))?;
        let size = header.size_in_bytes();
        if size > BATCH_BYTES_MAX || size as u64 > left {
            return Err(self.mismatch("the segment ends inside a batch"));
        }
        self.bytes(size).map(Some)
    }

    /// The next `count` bytes, which the segment has.
    fn bytes(&mut self, count: usize) -> Result<Bytes, EncodeError> {
        let start = usize::try_from(self.position - self.buffer_position).unwrap_or(usize::MAX);
        let end = start.saturating_add(count);
        if end > self.buffer.len() {
            self.fill(count)?;
            return Ok(self.buffer.slice(..count));
        }
        Ok(self.buffer.slice(start..end))
    }

    fn fill(&mut self, count: usize) -> Result<(), EncodeError> {
        let left = usize::try_from(self.source.bytes - self.position).unwrap_or(usize::MAX);
        let wanted = count.max(READ_BYTES).min(left);
        let first = self.read(self.position, wanted)?;
        self.buffer_position = self.position;
        if first.len() >= count {
            self.buffer = first;
            return Ok(());
        }
        // Short reads are rare: only then are pieces copied together.
        let mut whole = first.to_vec();
        while whole.len() < count {
            let more = self.read(self.position + whole.len() as u64, wanted - whole.len())?;
            whole.extend_from_slice(&more);
        }
        self.buffer = Bytes::from(whole);
        Ok(())
    }

    fn read(&self, position: u64, wanted: usize) -> Result<Bytes, EncodeError> {
        let failed = |source| EncodeError::Read {
            base: self.source.base,
            position,
            source,
        };
        let bytes = (self.source.read)(position, wanted).map_err(failed)?;
        if bytes.is_empty() {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    fn damaged(&self, error: BatchError) -> EncodeError {
        EncodeError::Damaged {
            base: self.source.base,
            position: self.position,
            error,
        }
    }

    fn mismatch(&self, what: &'static str) -> EncodeError {
        EncodeError::Mismatch {
            base: self.source.base,
            position: self.position,
            what,
        }
    }
}

//! Data frames: whole batches, compressed, each readable by itself.
//!
//! A frame that zstd would hardly shrink (clients compress too) is written as a zstd frame of raw
//! blocks: the same format for every reader, without the work.

use std::io::Read;

use bytes::Bytes;
use esker_protocol::Offset;
use esker_protocol::records::{Batch, BatchError};
use twox_hash::XxHash64;

use super::{COMPRESSION_LEVEL, FrameAt, GAIN_MIN_PARTS, WINDOW_LOG_MAX};

const ZSTD_MAGIC: u32 = 0xFD2F_B528;
/// Bit of the frame header descriptor that announces a content checksum.
const CHECKSUM_FLAG: u8 = 1 << 2;
/// Bit of the frame header descriptor that says: one segment, no window descriptor.
const SINGLE_SEGMENT_FLAG: u8 = 1 << 5;
/// The frame content size takes 4 bytes.
const CONTENT_SIZE_4_BYTES: u8 = 2 << 6;
/// zstd's largest block.
const BLOCK_BYTES_MAX: usize = 128 << 10;
/// After a frame that did not shrink, this much of the next one is tried before all of it is.
const SAMPLE_BYTES: usize = 64 << 10;
/// Up to this much is allocated for a frame on the word of its index; more only as it appears.
const TRUSTED_BYTES_MAX: usize = 8 << 20;

/// Compresses frames.
pub(super) struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    last_was_raw: bool,
}

impl Compressor {
    pub(super) fn new() -> std::io::Result<Compressor> {
        let mut zstd = zstd::bulk::Compressor::new(COMPRESSION_LEVEL)?;
        zstd.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
        Ok(Compressor {
            zstd,
            last_was_raw: false,
        })
    }

    /// One zstd frame that decompresses to `bytes`.
    pub(super) fn compress(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        if self.last_was_raw {
            // Incompressible data comes in runs, so a sample is worth its cost only then.
            let sample = bytes.get(..SAMPLE_BYTES).unwrap_or(bytes);
            if !gains(sample.len(), self.zstd.compress(sample)?.len()) {
                return Ok(raw_frame(bytes));
            }
        }
        let compressed = self.zstd.compress(bytes)?;
        self.last_was_raw = !gains(bytes.len(), compressed.len());
        Ok(if self.last_was_raw {
            raw_frame(bytes)
        } else {
            compressed
        })
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor")
            .field("last_was_raw", &self.last_was_raw)
            .finish()
    }
}

fn gains(before: usize, after: usize) -> bool {
    after <= before - before / GAIN_MIN_PARTS
}

/// A zstd frame of raw blocks, with a content checksum.
///
/// ```text
/// magic u32 | descriptor u8 | content size u32 | blocks: (last 1 bit, type 2 bits, size 21 bits), bytes
///   | low 4 bytes of XXH64(content, seed 0)                                     (little-endian)
/// ```
pub(super) fn raw_frame(bytes: &[u8]) -> Vec<u8> {
    let block_count = bytes.len().div_ceil(BLOCK_BYTES_MAX).max(1);
    let mut frame = Vec::with_capacity(bytes.len() + 3 * block_count + 13);
    frame.extend_from_slice(&ZSTD_MAGIC.to_le_bytes());
    frame.push(CONTENT_SIZE_4_BYTES | SINGLE_SEGMENT_FLAG | CHECKSUM_FLAG);
    frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    let mut blocks = bytes.chunks(BLOCK_BYTES_MAX).peekable();
    if blocks.peek().is_none() {
        frame.extend_from_slice(&[1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        // Type 0, raw, is the two bits above the last-block bit; a block's size fits in 21 bits.
        let header = last | (block.len() as u32) << 3;
        frame.extend(header.to_le_bytes().into_iter().take(3));
        frame.extend_from_slice(block);
    }
    let checksum = XxHash64::oneshot(0, bytes) as u32;
    frame.extend_from_slice(&checksum.to_le_bytes());
    frame
}

/// Why a frame gives no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// zstd refuses it: damaged, or its checksum disagrees.
    #[error("a frame does not decompress: {0}")]
    Zstd(String),
    /// It carries no checksum.
    #[error("a frame carries no content checksum")]
    NoChecksum,
    /// Its length is not what the index says.
    #[error("a frame has {found} bytes, its index says {expected}")]
    Length {
        /// What the index says.
        expected: usize,
        /// What it has.
        found: usize,
    },
    /// A batch in it cannot be read.
    #[error("a frame's batch at position {position}: {error}")]
    Batch {
        /// Where in the decompressed frame.
        position: usize,
        /// Why.
        error: BatchError,
    },
    /// A batch's CRC disagrees.
    #[error("a frame's batch at offset {0} does not match its checksum")]
    BatchChecksum(Offset),
    /// Batches are not where the index says.
    #[error("a frame's batch at offset {found} is not where the index says")]
    Order {
        /// Its base offset.
        found: Offset,
    },
    /// It is asked for an offset that it does not hold.
    #[error("a frame of offsets {base} to {end} is asked for offset {offset}")]
    Outside {
        /// What was asked for.
        offset: Offset,
        /// Its first offset.
        base: Offset,
        /// Its end, exclusive.
        end: Offset,
    },
}

/// Where a batch is in a decompressed frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchAt {
    /// Where it begins.
    pub position: u32,
    /// Its end offset, exclusive.
    pub end: Offset,
}

/// A decompressed frame whose checksums were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    base: Offset,
    end: Offset,
    bytes: Bytes,
    batches: Vec<BatchAt>,
}

impl Frame {
    /// Its first offset.
    #[must_use]
    pub fn base(&self) -> Offset {
        self.base
    }

    /// The end of its last batch, exclusive.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Its batches, back to back.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where they are.
    #[must_use]
    pub fn batches(&self) -> &[BatchAt] {
        &self.batches
    }

    /// Roughly what it takes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.batches.len() * size_of::<BatchAt>()
    }

    /// Whole batches from the one that holds `offset` on, of at most `bytes_max` bytes; the first
    /// whatever its size if `at_least_one`. Gives them and the offset behind them; none if none fits.
    ///
    /// # Errors
    /// [`FrameError::Outside`] for an offset that the frame does not hold: its first batch would
    /// otherwise pass for the one that was asked for, and those in between would be left out.
    pub fn slice(
        &self,
        offset: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Option<(Bytes, Offset)>, FrameError> {
        if offset < self.base || offset >= self.end {
            let (base, end) = (self.base, self.end);
            return Err(FrameError::Outside { offset, base, end });
        }
        Ok(self.batches_from(offset, bytes_max, at_least_one))
    }

    fn batches_from(
        &self,
        offset: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Option<(Bytes, Offset)> {
        let first = self.batches.partition_point(|batch| batch.end <= offset);
        let start = self.batches.get(first)?.position as usize;
        let end_of = |number: usize| {
            let next = self.batches.get(number + 1);
            next.map_or(self.bytes.len(), |batch| batch.position as usize)
        };
        let rest = self.batches.get(first..)?;
        // Batch k fits when the one after it begins within the limit.
        let within = |batch: &BatchAt| batch.position as usize - start <= bytes_max;
        let mut fits = rest.partition_point(within) - 1;
        if self.bytes.len() - start <= bytes_max {
            fits = rest.len();
        }
        let taken = if fits == 0 && at_least_one { 1 } else { fits };
        let last = first + taken.checked_sub(1)?;
        let next = self.batches.get(last)?.end;
        let bytes = self.bytes.slice(start..end_of(last));
        if bytes.len() < self.bytes.len() / 2 {
            // A piece that is sent slowly does not keep a whole frame that the cache has let go.
            return Some((Bytes::copy_from_slice(&bytes), next));
        }
        Some((bytes, next))
    }
}

/// Decompresses a frame and checks it: zstd's checksum, its length, and order and CRC of every batch.
///
/// # Errors
/// [`FrameError`]; then no byte of it may be used.
pub fn decode_frame(compressed: &[u8], at: &FrameAt) -> Result<Frame, FrameError> {
    let descriptor = compressed.get(4).copied().unwrap_or(0);
    if descriptor & CHECKSUM_FLAG == 0 {
        return Err(FrameError::NoChecksum);
    }
    let expected = at.bytes as usize;
    let bytes = decompress(compressed, expected).map_err(|e| FrameError::Zstd(e.to_string()))?;
    if bytes.len() != expected {
        return Err(FrameError::Length {
            expected,
            found: bytes.len(),
        });
    }
    let batches = check_batches(&bytes, at)?;
    Ok(Frame {
        base: at.base,
        end: at.end,
        bytes: Bytes::from(bytes),
        batches,
    })
}

/// Decompresses all of `compressed`, which should give `expected` bytes; at most one more is made.
fn decompress(compressed: &[u8], expected: usize) -> std::io::Result<Vec<u8>> {
    if expected <= TRUSTED_BYTES_MAX {
        let mut zstd = zstd::bulk::Decompressor::new()?;
        zstd.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        return zstd.decompress(compressed, expected);
    }
    let mut zstd = zstd::stream::read::Decoder::with_buffer(compressed)?;
    // A frame of one segment has a window as large as itself, which only a single large batch makes.
    zstd.window_log_max(
        WINDOW_LOG_MAX
            .max(usize::BITS - expected.leading_zeros())
            .min(31),
    )?;
    let mut bytes = Vec::with_capacity(TRUSTED_BYTES_MAX);
    zstd.take(expected as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check_batches(bytes: &[u8], at: &FrameAt) -> Result<Vec<BatchAt>, FrameError> {
    let mut batches = Vec::new();
    let mut rest = bytes;
    let mut expected = at.base;
    while !rest.is_empty() {
        let position = bytes.len() - rest.len();
        let (batch, after) =
            Batch::parse(rest).map_err(|error| FrameError::Batch { position, error })?;
        let (base, end) = (batch.header().base_offset, batch.header().next_offset());
        if !batch.crc_is_valid() {
            return Err(FrameError::BatchChecksum(base));
        }
        let first = batches.is_empty();
        if base < expected || end > at.end || end <= base || (first && base != at.base) {
            return Err(FrameError::Order { found: base });
        }
        batches.push(BatchAt {
            position: u32::try_from(position).unwrap_or(u32::MAX),
            end,
        });
        expected = end;
        rest = after;
    }
    if expected != at.end {
        return Err(FrameError::Order { found: expected });
    }
    Ok(batches)
}

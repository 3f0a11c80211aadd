//! LZ4 frames within the limits that Kafka's Java client sets.
//!
//! ```text
//! 04 22 4d 18 | flags u8 | block size u8 | content size u64? | header checksum u8
//! | (length u32le, top bit: stored as is | block | block checksum u32le?)* | 0 u32
//! ```
//! Version 1 and independent blocks only. The header checksum and block checksums are verified; a
//! content checksum after the end mark is not looked at, as Kafka does not either.

use lz4_flex::block::{CompressError, compress_into, decompress_into, get_maximum_output_size};
use twox_hash::XxHash32;

use super::{Compression, DecompressError};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const VERSION_MASK: u8 = 0b1100_0000;
const VERSION_1: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 0b0010_0000;
const BLOCK_CHECKSUM: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
/// Bit 1 is reserved, bit 0 announces a dictionary, which Kafka does not have.
const FLAGS_REFUSED: u8 = 0b0000_0011;
const CONTENT_SIZE_BYTES: usize = 8;
const STORED: u32 = 1 << 31;
/// Ids 4 to 7: 64 KiB, 256 KiB, 1 MiB, 4 MiB.
const BLOCK_ID_MIN: u8 = 4;
const BLOCK_ID_MAX: u8 = 7;
/// What Kafka's client writes.
const BLOCK_ID: u8 = BLOCK_ID_MIN;
/// The most that a byte of a block can become: a length byte counts 255 at most.
const EXPANSION_MAX: usize = 255;

fn block_bytes_max(id: u8) -> usize {
    1 << (8 + 2 * u32::from(id))
}

/// The second byte of the hash of what stands between magic and checksum.
fn header_checksum(descriptor: &[u8]) -> u8 {
    XxHash32::oneshot(0, descriptor).to_le_bytes()[1]
}

pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let (frame, mut rest) = Frame::parse(bytes).map_err(malformed)?;
    let mut out = Vec::new();
    loop {
        let length;
        (length, rest) = take_u32(rest).ok_or_else(|| malformed("end mark is missing"))?;
        if length == 0 {
            return Ok(out);
        }
        let size = (length & !STORED) as usize;
        if size > frame.block_bytes_max {
            return Err(malformed("block is larger than the frame allows"));
        }
        let block;
        (block, rest) = rest
            .split_at_checked(size)
            .ok_or_else(|| malformed("block is cut off"))?;
        if frame.has_block_checksums {
            let checksum;
            (checksum, rest) =
                take_u32(rest).ok_or_else(|| malformed("block checksum is cut off"))?;
            if checksum != XxHash32::oneshot(0, block) {
                return Err(malformed("block checksum does not match"));
            }
        }
        if length & STORED == 0 {
            append_block(&mut out, block, frame.block_bytes_max)?;
        } else {
            out.extend_from_slice(block);
        }
        if out.len() > limit {
            let codec = Compression::Lz4;
            return Err(DecompressError::TooLarge {
                codec,
                input_bytes: bytes.len(),
                limit,
            });
        }
    }
}

fn append_block(
    out: &mut Vec<u8>,
    block: &[u8],
    block_bytes_max: usize,
) -> Result<(), DecompressError> {
    let start = out.len();
    out.resize(
        start + block_bytes_max.min(block.len().saturating_mul(EXPANSION_MAX)),
        0,
    );
    let written =
        decompress_into(block, out.get_mut(start..).unwrap_or_default()).map_err(malformed)?;
    out.truncate(start + written);
    Ok(())
}

fn malformed(detail: impl std::fmt::Display) -> DecompressError {
    DecompressError::malformed(Compression::Lz4, detail)
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (field, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*field), rest))
}

struct Frame {
    block_bytes_max: usize,
    has_block_checksums: bool,
}

impl Frame {
    fn parse(bytes: &[u8]) -> Result<(Frame, &[u8]), &'static str> {
        let descriptor = bytes.strip_prefix(&MAGIC).ok_or("magic is missing")?;
        let &[flags, size, ..] = descriptor else {
            return Err("header is cut off");
        };
        if flags & VERSION_MASK != VERSION_1 {
            return Err("frame version is not 1");
        }
        if flags & INDEPENDENT == 0 {
            return Err("blocks depend on each other");
        }
        if flags & FLAGS_REFUSED != 0 {
            return Err("reserved bits or a dictionary are set");
        }
        let id = size >> 4;
        if size & 0b1000_1111 != 0 || !(BLOCK_ID_MIN..=BLOCK_ID_MAX).contains(&id) {
            return Err("block size is none of the four");
        }
        let descriptor_bytes = 2 + if flags & CONTENT_SIZE == 0 {
            0
        } else {
            CONTENT_SIZE_BYTES
        };
        let (descriptor, rest) = descriptor
            .split_at_checked(descriptor_bytes)
            .ok_or("header is cut off")?;
        let (&checksum, rest) = rest.split_first().ok_or("header is cut off")?;
        if checksum != header_checksum(descriptor) {
            return Err("header checksum does not match");
        }
        let frame = Frame {
            block_bytes_max: block_bytes_max(id),
            has_block_checksums: flags & BLOCK_CHECKSUM != 0,
        };
        Ok((frame, rest))
    }
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, CompressError> {
    let descriptor = [VERSION_1 | INDEPENDENT, BLOCK_ID << 4];
    let mut out = Vec::with_capacity(16 + bytes.len() / 2);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&descriptor);
    out.push(header_checksum(&descriptor));
    let mut block = vec![0; get_maximum_output_size(block_bytes_max(BLOCK_ID))];
    for chunk in bytes.chunks(block_bytes_max(BLOCK_ID)) {
        let written = compress_into(chunk, &mut block)?;
        let compressed = block.get(..written).unwrap_or_default();
        // A block that does not shrink is stored: it must not be larger than the frame allows.
        let (content, flag) = if written < chunk.len() {
            (compressed, 0)
        } else {
            (chunk, STORED)
        };
        let length = u32::try_from(content.len()).expect("a block has at most 64 KiB");
        out.extend_from_slice(&(length | flag).to_le_bytes());
        out.extend_from_slice(content);
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    Ok(out)
}

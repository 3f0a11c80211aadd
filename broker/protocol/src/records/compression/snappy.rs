//! Snappy streams: the framing of xerial's Java library, or one raw block.
//!
//! ```text
//! 82 "SNAPPY" 00 | version i32 = 1 | compatible version i32 = 1 | (length i32 | block)*
//! ```
//! A header may appear again between chunks where streams were laid end to end. As in the Java
//! library, the stream ends where there is no whole length any more, and who may read it is not asked.

use snap::raw::{Decoder, Encoder, decompress_len};

use super::{Compression, DecompressError};

const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const HEADER_BYTES: usize = 16;
const VERSION: i32 = 1;
/// What xerial puts into one block.
const CHUNK_BYTES: usize = 32 * 1024;
/// The most that a byte of a block can become: an element of three bytes copies 64 at most.
const EXPANSION_MAX: usize = 64;

pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Output {
        bytes: Vec::new(),
        input_bytes: bytes.len(),
        limit,
    };
    if !bytes.starts_with(MAGIC) {
        out.block(bytes)?;
        return Ok(out.bytes);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        if rest.starts_with(MAGIC) {
            let header;
            (header, rest) = rest
                .split_at_checked(HEADER_BYTES)
                .ok_or_else(|| malformed("header cut off"))?;
            let version = header.get(MAGIC.len()..).and_then(<[u8]>::first_chunk);
            if version.is_none_or(|version| i32::from_be_bytes(*version) < VERSION) {
                return Err(malformed("framing version is unknown"));
            }
            continue;
        }
        let Some((length, after)) = rest.split_first_chunk() else {
            break;
        };
        let block;
        (block, rest) = usize::try_from(i32::from_be_bytes(*length))
            .ok()
            .and_then(|length| after.split_at_checked(length))
            .ok_or_else(|| malformed("chunk ends after the stream"))?;
        out.block(block)?;
    }
    Ok(out.bytes)
}

fn malformed(detail: impl std::fmt::Display) -> DecompressError {
    DecompressError::malformed(Compression::Snappy, detail)
}

struct Output {
    bytes: Vec<u8>,
    input_bytes: usize,
    limit: usize,
}

impl Output {
    fn block(&mut self, block: &[u8]) -> Result<(), DecompressError> {
        let claimed = decompress_len(block).map_err(malformed)?;
        if claimed > self.limit.saturating_sub(self.bytes.len()) {
            return Err(DecompressError::TooLarge {
                codec: Compression::Snappy,
                input_bytes: self.input_bytes,
                limit: self.limit,
            });
        }
        // Checked before it is believed: the buffer is made before a byte is decoded.
        if claimed > block.len().saturating_mul(EXPANSION_MAX) {
            return Err(malformed("block claims more than its bytes can become"));
        }
        let start = self.bytes.len();
        self.bytes.resize(start + claimed, 0);
        let written = Decoder::new()
            .decompress(block, self.bytes.get_mut(start..).unwrap_or_default())
            .map_err(malformed)?;
        self.bytes.truncate(start + written);
        Ok(())
    }
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, snap::Error> {
    let mut out = Vec::with_capacity(HEADER_BYTES + bytes.len() / 2);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = Encoder::new();
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let block = encoder.compress_vec(chunk)?;
        let length = i32::try_from(block.len()).expect("a block of a chunk is below 64 KiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

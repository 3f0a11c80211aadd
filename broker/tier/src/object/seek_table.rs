//! The standard zstd seek table: the last bytes of an object, for zstd's own tools.
//!
//! ```text
//! 0x184D2A5E u32 | size u32 | per frame: compressed u32, decompressed u32
//!   | frame count u32 | descriptor u8 (0: no checksums) | 0x8F92EAB1 u32      (little-endian)
//! ```

use super::{IndexError, SEEK_TABLE_FRAME_MAGIC};

const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const ENTRY_BYTES: usize = 8;
const FOOTER_BYTES: usize = 9;
const FRAME_HEADER_BYTES: usize = 8;

/// The sizes of one frame.
pub(super) type FrameSizes = (u32, u32);

/// How long the table of `frame_count` frames is.
pub(super) fn table_bytes(frame_count: usize) -> usize {
    FRAME_HEADER_BYTES + frame_count * ENTRY_BYTES + FOOTER_BYTES
}

/// The skippable frame that holds the table.
pub(super) fn encode(frames: &[FrameSizes]) -> Vec<u8> {
    let content_bytes = table_bytes(frames.len()) - FRAME_HEADER_BYTES;
    let mut bytes = Vec::with_capacity(table_bytes(frames.len()));
    bytes.extend_from_slice(&SEEK_TABLE_FRAME_MAGIC.to_le_bytes());
    bytes.extend_from_slice(&size_of_frame(content_bytes).to_le_bytes());
    for (compressed, decompressed) in frames {
        bytes.extend_from_slice(&compressed.to_le_bytes());
        bytes.extend_from_slice(&decompressed.to_le_bytes());
    }
    bytes.extend_from_slice(&size_of_frame(frames.len()).to_le_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    bytes
}

/// Objects stay far below the four billion bytes or frames at which a size would not fit.
fn size_of_frame(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Checks that `bytes` is exactly the table of `frames`.
pub(super) fn check(bytes: &[u8], frames: &[FrameSizes]) -> Result<(), IndexError> {
    // The index frame is the authority; a table that says anything else is damage.
    if bytes == encode(frames) { Ok(()) } else { Err(IndexError::SeekTable) }
}

//! The standard zstd seek table: the last bytes of an object, for zstd's own tools.
//!
//! ```text
//! 0x184D2A5E u32 | size u32 | per frame: compressed u32, decompressed u32
//!   | frame count u32 | descriptor u8 (0: no checksums) | 0x8F92EAB1 u32      (little-endian)
//! ```

use super::{IndexError, SEEK_TABLE_FRAME_MAGIC};

const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const ENTRY_BYTES: usize = 8;
/// Length of the table's own end, which says how long the table is.
pub const FOOTER_BYTES: usize = 9;
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
    if bytes == encode(frames) {
        Ok(())
    } else {
        Err(IndexError::SeekTable)
    }
}

/// How long the table and the entry of the index frame say that an object's end is: first the length
/// of the table, from the last [`FOOTER_BYTES`], then with the table the length of both.
///
/// For tools that meet an object without its manifest.
///
/// # Errors
/// [`IndexError::SeekTable`] when the bytes end in no seek table.
pub fn tail_bytes(tail: &[u8]) -> Result<u64, IndexError> {
    let footer = tail
        .last_chunk::<FOOTER_BYTES>()
        .ok_or(IndexError::SeekTable)?;
    let [c0, c1, c2, c3, descriptor, m0, m1, m2, m3] = *footer;
    if descriptor != 0 || u32::from_le_bytes([m0, m1, m2, m3]) != SEEKABLE_MAGIC {
        return Err(IndexError::SeekTable);
    }
    let frame_count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    let table = table_bytes(frame_count);
    let last = tail
        .len()
        .checked_sub(FOOTER_BYTES + ENTRY_BYTES)
        .and_then(|at| tail.get(at..));
    match last.and_then(|bytes| bytes.first_chunk::<4>()) {
        Some(index_frame) if tail.len() >= table && frame_count > 0 => {
            Ok(table as u64 + u64::from(u32::from_le_bytes(*index_frame)))
        }
        _ => Ok(table as u64),
    }
}

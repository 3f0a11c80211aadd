//! Opening an object: one GET from the index position to the end gives its index.

use super::{Index, IndexError, seek_table};

pub use super::seek_table::{FOOTER_BYTES, tail_bytes};

/// Why the end of an object cannot be read.
pub type OpenError = IndexError;

/// Reads the end of an object: `tail` begins at the index position and ends with the object.
///
/// # Errors
/// [`IndexError`] when anything of it is not what the encoder wrote.
pub fn open_tail(tail: &[u8], index_position: u64) -> Result<Index, OpenError> {
    let (index, table) = Index::decode(tail)?;
    if index.data_bytes() != index_position {
        return Err(IndexError::Invalid("index position"));
    }
    let index_frame_bytes = tail.len() - table.len();
    let mut frames: Vec<_> = index
        .frames
        .iter()
        .map(|frame| (frame.compressed_bytes, frame.bytes))
        .collect();
    // The index frame holds no data: tools that seek pass over it.
    frames.push((u32::try_from(index_frame_bytes).unwrap_or(u32::MAX), 0));
    seek_table::check(table, &frames)?;
    Ok(index)
}

//! The object: segments of one partition as zstd frames that can be read one by one (P9).
//!
//! ```text
//! data frame ... | index frame (skippable, 0x184D2A50) | seek table (skippable, 0x184D2A5E)
//! ```
//!
//! Every byte is inside a zstd frame or a skippable one, so `zstd -d` gives the segments back byte for
//! byte. Everything here blocks or computes: callers run it on the [`crate::pool::CpuPool`].
//!
//! Invariants
//! - A data frame holds whole batches, and carries a content checksum (a batch's CRC does not cover
//!   its base offset).
//! - No byte leaves [`decode_frame`] whose frame checksum and batch CRC were not checked.

mod encode;
mod frame;
mod index;
mod open;
mod seek_table;

pub use encode::{EncodeError, Encoded, Encoder, encode_object};
pub use frame::{BatchAt, Frame, FrameError, decode_frame};
pub use index::{FrameAt, Index, IndexError, SegmentAt};
pub use open::{FOOTER_BYTES, OpenError, open_tail, tail_bytes};

/// zstd's compression level: measured, higher ones cost several times the CPU for a few percent.
pub const COMPRESSION_LEVEL: i32 = 1;
/// Bytes of batches in a frame, before compression; the batch that reaches it is the last.
pub const FRAME_BYTES: usize = 1 << 20;
/// A frame that gains less than one part in this many is stored as raw blocks: 5 %.
pub const GAIN_MIN_PARTS: usize = 20;
/// A batch larger than this is damage, not a batch: Kafka's own limit is an int32 of bytes.
pub const BATCH_BYTES_MAX: usize = i32::MAX as usize;
/// Largest zstd window that readers accept, as a power of two: 8 MiB.
pub const WINDOW_LOG_MAX: u32 = 23;

/// Magic number of the skippable frame that holds the index.
pub const INDEX_FRAME_MAGIC: u32 = 0x184D_2A50;
/// Magic number of the skippable frame that holds the seek table.
pub const SEEK_TABLE_FRAME_MAGIC: u32 = 0x184D_2A5E;

#[cfg(test)]
mod tests;

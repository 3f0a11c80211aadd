//! Record batches, format version 2: views, checksums, validation, records, compression, building.
//!
//! ```text
//! header 61 bytes | records, compressed together as one stream or not at all
//! ```
//!
//! Bytes from outside go through one of two doors: [`validate`] for what a producer sends, which
//! gives a [`ProducedBatch`], and [`Batch::parse`] for what lies in a log or a fetch response.
//! Neither decompresses nor walks records unless it is asked to. Everything that decompresses takes
//! [`Caps`]; nothing allocates what a length field claims.
//!
//! Batches keep their bytes from producer to consumer. What the leader changes stands in the header
//! alone, and [`stamp`] makes that header beside the buffer instead of in it.

mod attributes;
mod batch;
mod builder;
pub mod compression;
mod control;
mod crc;
#[cfg(test)]
mod golden;
mod header;
mod produced;
mod record;
mod rewrite;
pub mod search;
mod varint;

pub use attributes::{Attributes, TimestampType, UnknownCompression};
pub use batch::{Batch, Batches, whole_batches};
pub use builder::{BatchBuilder, BatchOptions, BuildError, BuiltBatch};
pub use compression::{Caps, Compression};
pub use control::{ControlError, ControlType, EndTransactionMarker, control_type};
pub use crc::{Crc32c, crc32c, crc32c_combine, crc32c_replace_front};
pub use header::{BatchError, BatchHeader, MAGIC, NO_SEQUENCE, increment_sequence, stamp};
pub use produced::{
    ProduceError, ProduceErrorKind, ProduceRules, ProducedBatch, RejectedRecord, Target,
    Validation, inspect, is_transactional, validate, validate_built,
};
pub use record::{Header, Headers, Record, RecordIter, Records, RecordsError};
pub use rewrite::{emptied, rewrite};

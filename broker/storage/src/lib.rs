//! The local log: the hot end of every partition, on this broker's disks.
//!
//! A [`LogDirectory`] holds the [`Log`]s of many partitions and makes what they append durable in
//! commit rounds; a log appends, reads, rolls, cuts and recovers. Kafka's own file formats, so that
//! Kafka's tools read them. Blocking, and deterministic given the [`Disk`], the `now` arguments and
//! the random bytes passed in: no clock, thread or socket is known here.
//!
//! The rules are P5 and P6: an end is durable only when a sync that began after the write has
//! succeeded; a failed sync is never retried; recovery tells a torn tail, which ends the log, from
//! corruption below a recorded durable end, which is reported and changes nothing.

mod compaction;
mod config;
mod directory;
mod disk;
mod entry_file;
mod error;
mod files;
mod index;
mod leader_epochs;
mod lock;
mod log;
mod producers;
pub mod retention;
mod segment;
#[cfg(test)]
mod testing;

pub use compaction::{
    Cleanable, Compacted, CompactionError, CompactionLimits, CompactionRules, CompactionStep,
    cleanable,
};
pub use config::{CommitMode, DirectoryConfig, Durability, Identity, LogConfig};
pub use directory::{CommitRound, FoundPartition, Incarnation, LogDirectory, Seen};
pub use disk::{DirEntry, Disk, DiskFile, DiskLock, FileSystem, MemoryDisk, OpenMode, RealDisk};
pub use error::{
    AppendError, ChangeError, Damage, DirectoryError, DirectoryFailed, OpenError, OpenLogError,
    ReadError,
};
pub use index::AbortedTransaction;
pub use log::{Appended, Compaction, Log, LogRead, RecoveryReport, SegmentExport, SegmentInfo};
pub use producers::{ProducedRange, ProducerEntry, ProducerSnapshot, SnapshotError};

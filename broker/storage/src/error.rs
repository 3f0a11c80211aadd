//! What can go wrong: one small enum per operation, with the facts that a caller can act on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use esker_protocol::records::BatchError;
use esker_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId};

/// A log directory failed and stays failed: a sync is never retried (P6).
#[derive(Debug, Clone, thiserror::Error)]
#[error("log directory {} has failed and needs a restart", path.display())]
pub struct DirectoryFailed {
    /// The directory.
    pub path: PathBuf,
    /// What happened first.
    #[source]
    pub source: Arc<io::Error>,
}

/// Why a log directory was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works in it.
    #[error("log directory {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It belongs to another cluster.
    #[error(
        "log directory {} belongs to cluster {found}, not {expected}; give this broker another directory",
        path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this broker is.
        expected: String,
    },
    /// It belongs to another broker of the cluster.
    #[error(
        "log directory {} belongs to node.id {found}, not {expected}; give this broker another directory",
        path.display()
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this broker is.
        expected: String,
    },
    /// A newer version wrote it.
    #[error(
        "log directory {} was written by a newer version (meta.properties version {found}); use that version",
        path.display()
    )]
    NewerVersion {
        /// The directory.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// It holds files but no `meta.properties`.
    #[error(
        "directory {} is not empty and has no meta.properties (found {found}); give an empty directory",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// `meta.properties` does not say what it must.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot use log directory {}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An operation on the directory as a whole was refused.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A value that only rises would fall (P2): the cluster's metadata went back in time.
    #[error("{what} {given} is behind {seen}, which this directory has seen")]
    WentBack {
        /// Which value.
        what: &'static str,
        /// The value given.
        given: i64,
        /// The value seen before.
        seen: i64,
    },
    /// The disk is full; nothing was changed.
    #[error("no space left in log directory {}", .0.display())]
    NoSpace(PathBuf),
    /// Something could not be opened for want of descriptors or memory; nothing was changed.
    #[error("cannot open a file of log directory {}: {source}", path.display())]
    Exhausted {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory failed.
    #[error(transparent)]
    Failed(#[from] DirectoryFailed),
}

/// What a read of the log met that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment:020} is damaged at position {position}, offset {offset}: {reason}")]
pub struct Damage {
    /// The base offset of the segment.
    pub segment: i64,
    /// The position in its file.
    pub position: u64,
    /// The offset that was expected there.
    pub offset: Offset,
    /// What is wrong.
    pub reason: String,
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// Damage below the recorded durable end: corruption, which only a repair or a new copy mends
    /// (P6). Nothing was changed.
    #[error(
        "{topic}-{partition} is damaged below its recorded durable end {}: {damage}",
        recorded_end.map_or("(unknown)".to_owned(), |end| end.to_string())
    )]
    Damaged {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The end that the directory recorded; `None` when its records prove nothing.
        recorded_end: Option<Offset>,
        /// What was found.
        damage: Damage,
    },
    /// The directory of that name holds a log of another topic id.
    #[error("{topic}-{partition} holds topic id {found}, not {expected}")]
    OtherTopic {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What `partition.metadata` says.
        found: TopicId,
        /// What was asked for.
        expected: TopicId,
    },
    /// The log was set aside when nobody claimed it (P3), and its directory is still there: an empty
    /// log in its place would hide its records.
    #[error(
        "{topic}-{partition} was set aside as {aside}: rename that directory to {topic}-{partition} to serve it again, or move it away to begin an empty log"
    )]
    SetAside {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The stray directories of that topic id and partition.
        aside: String,
    },
    /// The disk is full.
    #[error("no space left to open {topic}-{partition}")]
    NoSpace {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A file could not be opened for want of descriptors or memory; trying again may work.
    #[error("cannot open a file of {topic}-{partition}: {source}")]
    Exhausted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Why.
        source: io::Error,
    },
    /// The log is open already.
    #[error("{topic}-{partition} is already open")]
    AlreadyOpen {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The directory failed.
    #[error(transparent)]
    Failed(#[from] DirectoryFailed),
}

/// Why a batch was not appended. Nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Another epoch leads here, or none that this process began.
    #[error("leader epoch {given} is not {current}, in which this log is led")]
    Fenced {
        /// The epoch of the append.
        given: LeaderEpoch,
        /// The epoch that was begun, or -1.
        current: LeaderEpoch,
    },
    /// The sequence does not continue the producer's.
    #[error("producer {producer} sent sequence {given}, expected {expected}")]
    OutOfOrder {
        /// The producer.
        producer: ProducerId,
        /// The sequence of the batch.
        given: i32,
        /// The one that would continue.
        expected: i32,
    },
    /// A newer instance of the producer has written.
    #[error("producer {producer} has epoch {current}, the batch {given}")]
    InvalidProducerEpoch {
        /// The producer.
        producer: ProducerId,
        /// The epoch of the batch.
        given: ProducerEpoch,
        /// The newest epoch.
        current: ProducerEpoch,
    },
    /// A batch outside a transaction while the producer's transaction is open.
    #[error("producer {producer} has an open transaction")]
    InvalidTransactionState {
        /// The producer.
        producer: ProducerId,
    },
    /// A newer coordinator has written markers for the producer.
    #[error("coordinator epoch {given} is behind {current}")]
    CoordinatorFenced {
        /// The epoch of the marker.
        given: i32,
        /// The newest epoch.
        current: i32,
    },
    /// No segment can hold the batch.
    #[error("a batch of {bytes} bytes does not fit a segment of {segment_bytes}")]
    BatchLargerThanSegment {
        /// The size of the batch.
        bytes: u64,
        /// The size of a segment.
        segment_bytes: u64,
    },
    /// A follower's batch does not begin where the log ends.
    #[error("batch at offset {given} does not continue the log, which ends at {expected}")]
    NotContiguous {
        /// The base offset of the batch.
        given: Offset,
        /// The end of the log.
        expected: Offset,
    },
    /// A follower's batch is of an older epoch than the batch before it.
    #[error("batch of leader epoch {given} follows one of {latest}")]
    EpochWentBack {
        /// The epoch of the batch.
        given: LeaderEpoch,
        /// The latest epoch of the log.
        latest: LeaderEpoch,
    },
    /// The bytes are no batch.
    #[error("the bytes are no batch: {0}")]
    Invalid(#[from] BatchError),
    /// The checksum does not match.
    #[error("batch at offset {0} has a wrong checksum")]
    Corrupt(Offset),
    /// The disk is full or at its reserve; trying again may work.
    #[error("no space left for the log")]
    NoSpace,
    /// A file could not be opened for want of descriptors or memory; trying again may work.
    #[error("cannot open a file of the log: {0}")]
    Exhausted(#[source] Arc<io::Error>),
    /// The log is being cut, was deleted, or its directory failed.
    #[error("the log is offline")]
    Offline,
    /// A write failed and could not be taken back.
    #[error("the log is closed after a failed write")]
    Poisoned(#[source] Arc<io::Error>),
}

/// Why a read gave nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The log does not have the offset.
    #[error("offset {offset} is outside {start}..{end}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The log start.
        start: Offset,
        /// The written end.
        end: Offset,
    },
    /// The log has the offset, but not on this disk.
    #[error("the local log begins at {local_start}")]
    BelowLocalStart {
        /// Where the local log begins.
        local_start: Offset,
    },
    /// The bytes are not those that were written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The log was deleted or its directory failed.
    #[error("the log is offline")]
    Offline,
    /// The file system refused.
    #[error("reading the log failed")]
    Io(#[source] Arc<io::Error>),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(Arc::new(error))
    }
}

/// Why a log was not cut, started anew or moved forward.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// The offset is outside the log.
    #[error("offset {offset} is outside {start}..{end}")]
    OutOfRange {
        /// The offset given.
        offset: Offset,
        /// Where it may begin.
        start: Offset,
        /// Where it may end.
        end: Offset,
    },
    /// The epoch does not rise.
    #[error("leader epoch {given} does not follow {current}")]
    EpochWentBack {
        /// The epoch given.
        given: LeaderEpoch,
        /// The latest.
        current: LeaderEpoch,
    },
    /// The disk is full; nothing was changed.
    #[error("no space left in the log directory")]
    NoSpace,
    /// A file could not be opened for want of descriptors or memory; nothing was changed.
    #[error("cannot open a file of the log: {0}")]
    Exhausted(#[source] Arc<io::Error>),
    /// The log is offline already.
    #[error("the log is offline")]
    Offline,
    /// The bytes to keep cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The directory failed meanwhile.
    #[error(transparent)]
    Failed(#[from] DirectoryFailed),
}

//! Plain values: what a directory and a log are told, parsed and checked elsewhere.

use std::path::PathBuf;

use esker_protocol::BrokerId;

/// How a commit round makes bytes durable (P6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitMode {
    /// fdatasync of every file and fsync of every directory that changed.
    FileByFile,
    /// One syncfs. Only for file systems on which the power-cut test has passed.
    SyncFs,
    /// Small writes go into the directory's journal, which one sync makes durable, and into their
    /// files later; everything else as file by file. A relaxed directory has no use for it.
    Journal,
}

/// What an acknowledgement is worth: `log.durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The durable end is what the last successful sync covered.
    Durable,
    /// The durable end is the written end.
    Relaxed,
}

impl Durability {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Durability::Durable => "durable",
            Durability::Relaxed => "relaxed",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Durability> {
        match name {
            "durable" => Some(Durability::Durable),
            "relaxed" => Some(Durability::Relaxed),
            _ => None,
        }
    }
}

/// One log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// Where it is.
    pub path: PathBuf,
    /// How its commit rounds sync.
    pub commit: CommitMode,
    /// What its acknowledgements are worth.
    pub durability: Durability,
    /// Appends are refused when they would leave less than this on the file system.
    pub reserve_bytes: u64,
    /// Files without unsynced bytes that stay open.
    pub open_files_max: usize,
    /// The size at which `durable-ends.log` is rewritten.
    pub durable_ends_bytes_max: u64,
    /// The size of the ring that the journal is. Before it comes round all files are synced once.
    pub journal_bytes_max: u64,
    /// Logs whose own files and names one round syncs, one by one; others wait for the next rounds. What
    /// the journal takes is not counted. At least 1.
    pub round_logs_max: usize,
}

impl DirectoryConfig {
    /// A durable directory at `path`, synced file by file, without a reserve.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> DirectoryConfig {
        DirectoryConfig {
            path: path.into(),
            commit: CommitMode::FileByFile,
            durability: Durability::Durable,
            reserve_bytes: 0,
            open_files_max: 512,
            durable_ends_bytes_max: 16 << 20,
            journal_bytes_max: 64 << 20,
            round_logs_max: 16,
        }
    }
}

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `cluster.id`.
    pub cluster_id: String,
    /// `node.id`.
    pub node_id: BrokerId,
}

/// The settings of a topic that its logs obey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: no segment grows beyond.
    pub segment_bytes: u64,
    /// `segment.ms`: the span of record time in a segment.
    pub segment_ms: i64,
    /// What this log subtracts from it, so that logs do not roll in step.
    pub segment_jitter_ms: i64,
    /// `index.interval.bytes`: the distance of index entries.
    pub index_interval_bytes: u64,
    /// `segment.index.bytes`: the size of an index that ends its segment.
    pub index_bytes_max: u64,
    /// The largest step in which space is taken ahead of the written end; 0 takes none.
    pub preallocate_bytes_max: u64,
    /// Bytes appended between two checkpoints of producer state and indexes inside a segment; a
    /// recovery reads about so much, and what no round had recorded.
    pub checkpoint_bytes: u64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            index_bytes_max: 10 << 20,
            preallocate_bytes_max: 16 << 20,
            checkpoint_bytes: 8 << 20,
            producer_expiration_ms: 24 * 3_600_000,
        }
    }
}

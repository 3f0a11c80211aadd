//! What the tests of this crate set up.

mod hooked;

use std::path::Path;
use std::sync::Arc;

use esker_protocol::records::{BatchBuilder, BatchOptions, ProduceRules, ProducedBatch, validate};
use esker_protocol::{
    BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId,
};

use crate::{
    Appended, CommitMode, DirectoryConfig, Disk as _, Identity, Log, LogConfig, LogDirectory,
    MemoryDisk, OpenError, OpenLogError, RecoveryReport,
};

pub(crate) use hooked::Hooked;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);
pub(crate) const TOPIC_ID: TopicId = TopicId([1; 16]);
pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch(1);

pub(crate) fn identity() -> Identity {
    Identity {
        cluster_id: "cluster".to_owned(),
        node_id: BrokerId(1),
    }
}

pub(crate) fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 200,
        ..LogConfig::default()
    }
}

pub(crate) fn open(disk: &MemoryDisk) -> Result<Arc<LogDirectory>, OpenError> {
    open_with(disk, DirectoryConfig::new("d"))
}

pub(crate) fn open_with(
    disk: &MemoryDisk,
    config: DirectoryConfig,
) -> Result<Arc<LogDirectory>, OpenError> {
    LogDirectory::open(Arc::new(disk.clone()), config, &identity(), &mut || [3; 16])
}

pub(crate) fn open_log(
    directory: &LogDirectory,
) -> Result<(Arc<Log>, RecoveryReport), OpenLogError> {
    open_partition(directory, 0)
}

/// Opens one of many logs of the topic.
pub(crate) fn open_partition(
    directory: &LogDirectory,
    partition: i32,
) -> Result<(Arc<Log>, RecoveryReport), OpenLogError> {
    directory.open_log("topic", partition, TOPIC_ID, log_config(), NOW)
}

/// A log of the topic that is new and led.
pub(crate) fn new_partition(directory: &LogDirectory, partition: i32) -> Arc<Log> {
    new_partition_with(directory, partition, log_config())
}

pub(crate) fn new_partition_with(
    directory: &LogDirectory,
    partition: i32,
    config: LogConfig,
) -> Arc<Log> {
    let opened = directory.open_log("topic", partition, TOPIC_ID, config, NOW);
    let (log, _) = opened.unwrap();
    log.begin_epoch(EPOCH).unwrap();
    log
}

pub(crate) fn append_to(log: &Log, value_bytes: usize) -> Appended {
    log.append_as_leader(&batch(value_bytes), EPOCH, NOW, false)
        .unwrap()
}

/// What the files of the directory take.
pub(crate) fn used_bytes(disk: &MemoryDisk) -> u64 {
    u64::MAX - disk.available_bytes(Path::new("d")).unwrap()
}

/// Leaves no space, until the capacity is set anew.
pub(crate) fn fill(disk: &MemoryDisk) {
    disk.set_capacity(used_bytes(disk));
}

pub(crate) fn batch(value_bytes: usize) -> ProducedBatch {
    batch_of(BatchOptions::default(), value_bytes, NOW)
}

pub(crate) fn batch_by(producer: i64, sequence: i32, transactional: bool) -> ProducedBatch {
    let options = BatchOptions {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        base_sequence: sequence,
        transactional,
        ..BatchOptions::default()
    };
    batch_of(options, 10, NOW)
}

pub(crate) fn batch_of(
    options: BatchOptions,
    value_bytes: usize,
    timestamp: Timestamp,
) -> ProducedBatch {
    let mut builder = BatchBuilder::new(options);
    builder
        .append(timestamp, None, Some(&vec![7; value_bytes]), &[])
        .unwrap();
    validate(builder.build().unwrap(), &ProduceRules::new(NOW)).unwrap()
}

/// An open directory with one log that is led.
pub(crate) struct Rig {
    pub(crate) disk: MemoryDisk,
    pub(crate) directory: Arc<LogDirectory>,
    pub(crate) log: Arc<Log>,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::with_open_files(512)
    }

    /// One whose directory has a journal.
    pub(crate) fn journaling() -> Rig {
        Rig::journaling_with_open_files(512)
    }

    /// The same, settling when so many logs are in the journal.
    pub(crate) fn journaling_with_open_files(open_files_max: usize) -> Rig {
        Rig::with(DirectoryConfig {
            commit: CommitMode::Journal,
            open_files_max,
            ..DirectoryConfig::new("d")
        })
    }

    /// One whose directory keeps so many files open beside those that wait for a sync.
    pub(crate) fn with_open_files(open_files_max: usize) -> Rig {
        Rig::with(DirectoryConfig {
            open_files_max,
            ..DirectoryConfig::new("d")
        })
    }

    fn with(config: DirectoryConfig) -> Rig {
        let disk = MemoryDisk::new();
        let directory = open_with(&disk, config).unwrap();
        let log = new_partition(&directory, 0);
        Rig {
            disk,
            directory,
            log,
        }
    }

    pub(crate) fn append(&self, value_bytes: usize) -> Appended {
        append_to(&self.log, value_bytes)
    }

    /// Commits until nothing is left to record.
    pub(crate) fn settle(&self) {
        while self.directory.commit_round().unwrap().more {}
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = self.log.local_start_offset();
        while at < self.log.written_end() {
            let read = self.log.read(at, 500, Offset::MAX, true).unwrap();
            bytes.extend_from_slice(&read.bytes);
            at = read.next;
        }
        bytes
    }

    /// The disk after a power cut; this rig is of no more use.
    pub(crate) fn power_cut(&self, seed: u64) -> MemoryDisk {
        self.disk.after_power_cut(seed)
    }
}

pub(crate) fn log_path(base: i64) -> std::path::PathBuf {
    Path::new("d/topic-0").join(format!("{base:020}.log"))
}

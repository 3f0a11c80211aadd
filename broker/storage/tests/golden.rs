//! Data directories that every version must read: `testdata/golden/v1`, stopped cleanly, and
//! `v1-journal`, where a power cut has left some batches in the journal alone.
//!
//! `UPDATE_GOLDEN=1` writes it anew; that is right only for a new version of the format, in a folder
//! of its own.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_protocol::records::{
    BatchBuilder, BatchOptions, Compression, EndTransactionMarker, ProduceRules, ProducedBatch,
    validate,
};
use esker_protocol::{
    BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId,
};
use esker_storage::{
    CommitMode, DirectoryConfig, Disk, Durability, Identity, Log, LogConfig, LogDirectory,
    MemoryDisk, OpenMode, RealDisk,
};

const NOW: i64 = 1_700_000_000_000;
const TOPIC_ID: TopicId = TopicId([0x42; 16]);
const INCARNATION: TopicId = TopicId([0x17; 16]);

fn golden() -> PathBuf {
    // Cargo runs tests in the folder of their package; what was compiled elsewhere is not asked.
    PathBuf::from("testdata/golden/v1")
}

fn golden_journal() -> PathBuf {
    PathBuf::from("testdata/golden/v1-journal")
}

fn identity() -> Identity {
    Identity {
        cluster_id: "Z29sZGVuLWNsdXN0ZXItMQ".to_owned(),
        node_id: BrokerId(7),
    }
}

fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 3000,
        index_interval_bytes: 400,
        ..LogConfig::default()
    }
}

fn batch(number: i64, producer: i64, sequence: i32, transactional: bool) -> ProducedBatch {
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: codecs[(number % 5) as usize],
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(if producer < 0 { -1 } else { 0 }),
        base_sequence: sequence,
        transactional,
        ..BatchOptions::default()
    });
    for record in 0..3 {
        let value = format!("record {record} of batch {number}, which is not very long");
        builder
            .append(
                Timestamp(NOW + number),
                Some(b"key"),
                Some(value.as_bytes()),
                &[],
            )
            .unwrap();
    }
    validate(
        builder.build().unwrap(),
        &ProduceRules::new(Timestamp(NOW + number)),
    )
    .unwrap()
}

fn open(disk: Arc<dyn Disk>, path: &Path) -> Arc<LogDirectory> {
    let mut random = || [0x33; 16];
    LogDirectory::open(disk, DirectoryConfig::new(path), &identity(), &mut random).unwrap()
}

/// What the golden directory was made by.
fn fill(log: &Log) {
    let append = |batch: &ProducedBatch, epoch| {
        log.append_as_leader(batch, epoch, Timestamp(NOW), false)
            .unwrap()
    };
    log.begin_epoch(LeaderEpoch(1)).unwrap();
    for number in 0..20 {
        append(&batch(number, 5, number as i32 * 3, false), LeaderEpoch(1));
    }
    log.begin_epoch(LeaderEpoch(4)).unwrap();
    append(&batch(20, 9, 0, true), LeaderEpoch(4));
    append(&batch(21, -1, -1, false), LeaderEpoch(4));
    let abort = EndTransactionMarker {
        commit: false,
        coordinator_epoch: 2,
    };
    log.append_marker(
        ProducerId(9),
        ProducerEpoch(0),
        abort,
        LeaderEpoch(4),
        Timestamp(NOW + 22),
    )
    .unwrap();
    for number in 23..30 {
        append(&batch(number, -1, -1, false), LeaderEpoch(4));
    }
    append(&batch(30, 11, 0, true), LeaderEpoch(4));
}

fn copy(from: &dyn Disk, to: &dyn Disk, source: &Path, target: &Path) {
    to.create_dir_all(target).unwrap();
    for entry in from.read_dir(source).unwrap() {
        let (source, target) = (source.join(&entry.name), target.join(&entry.name));
        if entry.is_dir {
            copy(from, to, &source, &target);
            continue;
        }
        let mut bytes = Vec::new();
        let length = from.len(&source).unwrap().unwrap() as usize;
        from.open(&source, OpenMode::Read)
            .unwrap()
            .read_at(0, length, &mut bytes)
            .unwrap();
        to.open(&target, OpenMode::Create)
            .unwrap()
            .write_all_at(0, &bytes)
            .unwrap();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "golden files are rewritten by request"
)]
fn updates() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok_and(|update| update == "1")
}

fn all_bytes(log: &Log) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = log.local_start_offset();
    while at < log.written_end() {
        let read = log.read(at, 1000, Offset::MAX, true).unwrap();
        bytes.extend_from_slice(&read.bytes);
        at = read.next;
    }
    bytes
}

#[test]
fn the_golden_directory_reads_as_it_was_written() {
    if updates() {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        if disk.exists(&golden()).unwrap() {
            disk.remove_dir_all(&golden()).unwrap();
        }
        let directory = open(disk, &golden());
        directory.register_incarnation(INCARNATION, None).unwrap();
        let now = Timestamp(NOW);
        let (log, _) = directory
            .open_log("golden", 0, TOPIC_ID, log_config(), now)
            .unwrap();
        fill(&log);
        directory.clean_shutdown().unwrap();
    }
    let fresh: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let directory = open(fresh, Path::new("fresh"));
    let now = Timestamp(NOW);
    let (expected, _) = directory
        .open_log("golden", 0, TOPIC_ID, log_config(), now)
        .unwrap();
    fill(&expected);

    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    copy(&RealDisk, disk.as_ref(), &golden(), Path::new("golden"));
    let directory = open(disk, Path::new("golden"));
    assert_eq!(directory.last_clean_shutdown(), Some(INCARNATION));
    assert_eq!(directory.incarnations().len(), 1);
    assert_eq!(directory.incarnations()[0].durability, Durability::Durable);
    let found = directory.partitions().unwrap();
    assert_eq!((found[0].topic.as_str(), found[0].partition), ("golden", 0));
    assert_eq!(found[0].topic_id, Some(TOPIC_ID));
    let (log, report) = directory
        .open_log("golden", 0, TOPIC_ID, log_config(), now)
        .unwrap();
    assert_eq!(report.recorded_end, Some(report.end));
    assert_eq!(report.rewritten_bytes + report.truncated_bytes, 0);
    assert_eq!(log.durable_end(), log.written_end());
    assert_eq!(all_bytes(&log), all_bytes(&expected));
    assert_eq!(log.producers(), expected.producers());
    assert_eq!(log.epochs(), expected.epochs());
    assert_eq!(log.segments(), expected.segments());
    let aborted = |log: &Log| log.aborted_transactions(Offset::ZERO, Offset::MAX).unwrap();
    assert_eq!(aborted(&log).len(), 1);
    assert_eq!(aborted(&log), aborted(&expected));
    let end = log.written_end();
    assert_eq!(
        log.last_stable_offset(end),
        expected.last_stable_offset(end)
    );
    assert!(log.last_stable_offset(end) < end);
}

/// Fills a log whose last batches are journaled.
fn journal(directory: &LogDirectory) -> Arc<Log> {
    let now = Timestamp(NOW);
    let opened = directory.open_log("golden", 0, TOPIC_ID, log_config(), now);
    let (log, _) = opened.unwrap();
    fill(&log);
    while directory.commit_round().unwrap().more {}
    for number in 40..43 {
        log.append_as_leader(&batch(number, -1, -1, false), LeaderEpoch(4), now, false)
            .unwrap();
        directory.commit_round().unwrap();
    }
    log
}

fn open_journaling(disk: Arc<dyn Disk>, path: &Path) -> Arc<LogDirectory> {
    let config = DirectoryConfig {
        commit: CommitMode::Journal,
        ..DirectoryConfig::new(path)
    };
    LogDirectory::open(disk, config, &identity(), &mut || [0x33; 16]).unwrap()
}

#[test]
fn what_the_golden_journal_holds_is_replayed() {
    let (memory, fresh) = (MemoryDisk::new(), Path::new("fresh"));
    let directory = open_journaling(Arc::new(memory.clone()), fresh);
    let expected = journal(&directory);
    let (end, bytes) = (expected.written_end(), all_bytes(&expected));
    assert!(!directory.is_settled());
    if updates() {
        if RealDisk.exists(&golden_journal()).unwrap() {
            RealDisk.remove_dir_all(&golden_journal()).unwrap();
        }
        // The file lost what only the journal's sync covered.
        let crashed = memory.after_kill();
        let base = expected.segments().last().unwrap().base;
        let segment = fresh.join(format!("golden-0/{:020}.log", base.0));
        let file = crashed.open(&segment, OpenMode::Write).unwrap();
        let lost: usize = (40..43)
            .map(|number| batch(number, -1, -1, false).bytes.len())
            .sum();
        file.truncate(file.len().unwrap() - lost as u64).unwrap();
        copy(&crashed, &RealDisk, fresh, &golden_journal());
        RealDisk
            .remove_file(&golden_journal().join(".lock"))
            .unwrap();
    }
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    copy(
        &RealDisk,
        disk.as_ref(),
        &golden_journal(),
        Path::new("golden"),
    );
    // Whether or not this process would journal.
    let directory = open(disk, Path::new("golden"));
    let now = Timestamp(NOW);
    let opened = directory.open_log("golden", 0, TOPIC_ID, log_config(), now);
    let (log, report) = opened.unwrap();
    assert_eq!((log.written_end(), report.damage), (end, None));
    assert!(report.recorded_end < Some(end), "the files did not have it");
    assert_eq!(all_bytes(&log), bytes);
}

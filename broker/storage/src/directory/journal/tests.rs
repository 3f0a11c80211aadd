use std::path::Path;

use super::super::names::PARTITION_METADATA;
use super::*;
use crate::disk::MemoryDisk;

const ID: TopicId = TopicId([5; 16]);
const TOPIC: TopicId = TopicId([8; 16]);
const BYTES_MAX: u64 = 2 << 20;

fn name() -> LogName {
    LogName {
        topic: "topic".to_owned(),
        partition: 3,
        topic_id: TOPIC,
    }
}

/// A disk with a journal and the directory of one log, whose segment holds `content`.
struct Bench {
    disk: MemoryDisk,
    segment: Arc<dyn DiskFile>,
    journal: Journal,
}

impl Bench {
    fn new(content: &[u8]) -> Bench {
        let disk = MemoryDisk::new();
        disk.create_dir_all(Path::new("d/topic-3")).unwrap();
        let metadata = disk
            .open(
                &Path::new("d/topic-3").join(PARTITION_METADATA),
                OpenMode::Create,
            )
            .unwrap();
        let text = names::encode_partition_metadata(TOPIC);
        metadata.write_all_at(0, text.as_bytes()).unwrap();
        let segment = disk.open(Path::new(SEGMENT), OpenMode::Create).unwrap();
        segment.write_all_at(0, content).unwrap();
        let file = disk
            .open(Path::new(JOURNAL_PATH), OpenMode::Create)
            .unwrap();
        let journal = Journal::new(Some(file), ID, BYTES_MAX, 0);
        Bench {
            disk,
            segment,
            journal,
        }
    }

    fn write(&mut self, from: u64, to: u64) {
        self.try_write(from, to).unwrap();
    }

    fn try_write(&mut self, from: u64, to: u64) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let range = Range {
            file: self.segment.clone(),
            segment: Offset(0),
            from,
            to,
        };
        self.journal.write(&[(&name(), &range, Offset(to as i64))])
    }

    /// Replays on a segment that has lost everything.
    fn replay(&self, known: &mut BTreeMap<PartitionKey, Recorded>) -> (Replayed, Vec<u8>) {
        self.segment.truncate(0).unwrap();
        let replayed = replay(&self.disk, (Path::new("d"), ID), known).unwrap();
        let mut bytes = Vec::new();
        let length = self.segment.len().unwrap() as usize;
        self.segment.read_at(0, length, &mut bytes).unwrap();
        (replayed, bytes)
    }

    fn journal_file(&self) -> Arc<dyn DiskFile> {
        self.disk
            .open(Path::new(JOURNAL_PATH), OpenMode::Write)
            .unwrap()
    }
}

const SEGMENT: &str = "d/topic-3/00000000000000000000.log";
const JOURNAL_PATH: &str = "d/journal.log";

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn what_was_journaled_is_in_the_files_after_a_replay() {
    let content = content(9000);
    let mut bench = Bench::new(&content);
    bench.write(0, 5000);
    bench.write(5000, 9000);
    let mut known = BTreeMap::new();
    let (replayed, bytes) = bench.replay(&mut known);
    assert_eq!((replayed.records, replayed.last_sequence), (2, 2));
    assert!(!replayed.damaged);
    assert_eq!(bytes, content);
    assert_eq!(known[&(TOPIC, 3)].journaled_end, Offset(9000));
}

#[test]
fn a_torn_last_record_is_ignored_wherever_it_tears() {
    let content = content(9000);
    // The length of the second record up to its checksum, whose last byte is not 0.
    let record_bytes = {
        let mut bench = Bench::new(&content);
        bench.write(100, 8000);
        let mut bytes = Vec::new();
        bench.journal_file().read_at(0, 8192, &mut bytes).unwrap();
        bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1
    };
    for kept in (0..8192)
        .step_by(97)
        .chain([record_bytes - 1, record_bytes])
    {
        let mut bench = Bench::new(&content);
        bench.write(0, 100);
        bench.write(100, 8000);
        bench
            .journal_file()
            .truncate(BLOCK_BYTES as u64 + kept)
            .unwrap();
        let (replayed, bytes) = bench.replay(&mut BTreeMap::new());
        let whole = kept >= record_bytes;
        assert_eq!(
            (replayed.records, replayed.damaged),
            (1 + u64::from(whole), false),
            "{kept}"
        );
        assert_eq!(bytes, &content[..if whole { 8000 } else { 100 }]);
    }
}

#[test]
fn a_damaged_record_with_a_whole_one_behind_it_is_damage() {
    let content = content(9000);
    let mut bench = Bench::new(&content);
    bench.write(0, 100);
    bench.write(100, 200);
    bench.write(200, 300);
    bench
        .journal_file()
        .write_all_at(BLOCK_BYTES as u64 + 60, b"rot")
        .unwrap();
    let mut known = BTreeMap::new();
    let (replayed, _) = bench.replay(&mut known);
    assert!(replayed.damaged);
    assert_eq!((replayed.records, replayed.last_sequence), (2, 3));
    assert_eq!(known[&(TOPIC, 3)].journaled_end, Offset(300));
}

#[test]
fn an_older_lap_is_over() {
    let content = content(9000);
    let mut bench = Bench::new(&content);
    for at in 0..5 {
        bench.write(at * 100, at * 100 + 100);
    }
    bench.journal.settle(5);
    assert!(bench.journal.is_settled());
    bench.write(500, 600);
    let (replayed, bytes) = bench.replay(&mut settled(5));
    assert_eq!(
        (replayed.records, replayed.last_sequence, replayed.damaged),
        (1, 6, false)
    );
    assert_eq!(&bytes[500..], &content[500..600]);
    assert!(
        bytes[..500].iter().all(|&byte| byte == 0),
        "the rest is the files' own"
    );
}

#[test]
fn what_is_void_or_below_the_local_start_stays_away() {
    let content = content(9000);
    let mut bench = Bench::new(&content);
    bench.write(0, 100);
    bench.write(100, 200);
    let key = (TOPIC, 3);
    let void = |journal_sequence, local_start| Recorded {
        journal_sequence,
        local_start: Offset(local_start),
        ..Recorded::NOTHING
    };
    for (recorded, expected) in [
        (void(1, 0), 100..200),
        (void(2, 0), 0..0),
        (void(0, 200), 0..0),
    ] {
        let (_, bytes) = bench.replay(&mut BTreeMap::from([(key, recorded)]));
        let written = bytes.get(expected.clone()).unwrap_or_default();
        assert_eq!(bytes.len(), expected.end, "{recorded:?}");
        assert_eq!(written, &content[expected]);
        // Replaying again finds the same.
        bench.segment.write_all_at(0, &content).unwrap();
    }
}

#[test]
fn records_of_another_directory_or_log_are_not_applied() {
    let content = content(9000);
    let mut bench = Bench::new(&content);
    bench.write(0, 100);
    let other = replay(
        &bench.disk,
        (Path::new("d"), TopicId([6; 16])),
        &mut BTreeMap::new(),
    );
    assert_eq!(other.unwrap().records, 0);
    let metadata = Path::new("d/topic-3").join(PARTITION_METADATA);
    bench.disk.remove_file(&metadata).unwrap();
    let (_, bytes) = bench.replay(&mut BTreeMap::new());
    assert_eq!(bytes, b"");
}

#[test]
fn a_newer_version_is_refused_and_an_older_read() {
    for (version, newer, read) in [(2, Some(2), 0), (1, None, 100), (0, None, 100)] {
        let mut bench = Bench::new(&content(100));
        bench.write(0, 100);
        let file = bench.journal_file();
        let mut bytes = Vec::new();
        file.read_at(0, BLOCK_BYTES, &mut bytes).unwrap();
        let body = usize::try_from(i32::from_be_bytes(bytes[30..34].try_into().unwrap())).unwrap();
        bytes[5] = version;
        let crc = crc32c(&bytes[4..HEAD_BYTES + body]).to_be_bytes();
        bytes[HEAD_BYTES + body..][..4].copy_from_slice(&crc);
        file.write_all_at(0, &bytes).unwrap();
        let (replayed, bytes) = bench.replay(&mut BTreeMap::new());
        assert_eq!((replayed.newer, bytes.len()), (newer, read));
    }
}

#[test]
fn a_full_journal_waits_for_its_files_and_want_of_space_pauses_it() {
    let content = content(200_000);
    let mut bench = Bench::new(&content);
    let mut records = 0;
    while !bench.journal.is_full() {
        assert!(bench.journal.room().take(150_000));
        bench.write(0, 150_000);
        records += 1;
    }
    assert!(records > 3, "{records}");
    assert!(bench.journal_file().len().unwrap() <= BYTES_MAX);
    bench.journal.settle(records);
    bench.disk.set_capacity(0);
    bench.disk.fail_next_write_after(0);
    assert!(bench.try_write(0, 1).is_err());
    for _ in 0..PAUSE_ROUNDS {
        assert!(!bench.journal.room().take(1));
    }
    assert!(bench.journal.room().take(1));
    assert_eq!(bench.journal.last_sequence(), records);
}

/// What a replay is told of a journal that is settled up to there.
fn settled(sequence: i64) -> BTreeMap<PartitionKey, Recorded> {
    let marker = Recorded {
        journal_sequence: sequence,
        ..Recorded::NOTHING
    };
    BTreeMap::from([(JOURNAL, marker)])
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn a_ring_keeps_what_is_not_settled(
        lengths in proptest::collection::vec((1..200_000u64, 0..12usize), 1..60)
    ) {
        let content = content(1 << 20);
        let mut bench = Bench::new(&content);
        // Where each record's bytes belong.
        let mut ranges = Vec::new();
        let mut done = 0;
        for (length, kept) in lengths {
            if bench.journal.is_full() {
                done = ranges.len();
                bench.journal.settle(done as i64);
            }
            let from = length * 7919 % ((1 << 20) - length);
            bench.write(from, from + length);
            ranges.push(from..from + length);
            let settles = ranges.len().saturating_sub(kept).max(done);
            // The disk hears of it before the ring does, and may have heard already at a crash.
            for known in [done, settles] {
                let (replayed, bytes) = bench.replay(&mut settled(known as i64));
                let left = &ranges[known..];
                proptest::prop_assert!(!replayed.damaged);
                proptest::prop_assert_eq!(replayed.records, left.len() as u64);
                proptest::prop_assert_eq!(replayed.last_sequence, ranges.len() as i64);
                for range in left {
                    let range = range.start as usize..range.end as usize;
                    proptest::prop_assert!(bytes[range.clone()] == content[range]);
                }
                // What a replay did to the file of the log is not for the next one.
                bench.segment.write_all_at(0, &content).unwrap();
            }
            bench.journal.settle(settles as i64);
            done = settles;
        }
        proptest::prop_assert!(bench.journal_file().len().unwrap() <= BYTES_MAX);
    }
}

/// A ring that was written so far, durably, that it begins again or not, and a record that was refused although
/// all of it was written. With the last record before it, and the settled one.
fn after_a_refused_record(content: &[u8], wraps: bool) -> (Bench, i64, i64) {
    let mut bench = Bench::new(content);
    let mut last = 0;
    let count = if wraps { 12 } else { 4 };
    for at in 0..count {
        last += 1;
        // The ring holds ten of them.
        if at >= 10 {
            bench.journal.settle(last - 9);
        }
        bench.write(at * 10, at * 10 + 200_000);
    }
    let known = bench.journal.settled_sequence;
    bench.journal.settle(known + 1);
    bench.journal_file().sync_data().unwrap();
    for path in ["", "d"] {
        bench.disk.sync_dir(Path::new(path)).unwrap();
    }
    bench.disk.fail_next_write_after(8192);
    bench.try_write(300_000, 305_000).unwrap_err();
    (bench, last, known)
}

#[test]
fn a_refused_record_does_not_come_back_with_the_power() {
    let content = content(400_000);
    for seed in 0..16 {
        let (bench, last, known) = after_a_refused_record(&content, seed % 2 == 0);
        let disk = bench.disk.after_power_cut(seed);
        let replayed = replay(&disk, (Path::new("d"), ID), &mut settled(known + 1)).unwrap();
        assert_eq!(
            (replayed.last_sequence, replayed.damaged),
            (last, false),
            "{seed}"
        );
    }
}

#[test]
fn a_record_that_is_not_written_whole_takes_no_other_along() {
    let content = content(400_000);
    for wraps in [false, true] {
        let (mut bench, last, known) = after_a_refused_record(&content, wraps);
        let (replayed, _) = bench.replay(&mut settled(known + 1));
        assert_eq!((replayed.last_sequence, replayed.damaged), (last, false));
        assert_eq!(replayed.records, (last - known - 1) as u64);
        bench.segment.write_all_at(0, &content).unwrap();
        bench.write(300_000, 305_000);
        let (replayed, _) = bench.replay(&mut settled(known + 1));
        assert_eq!(
            (replayed.last_sequence, replayed.damaged),
            (last + 1, false)
        );
    }
}

#[test]
fn more_than_the_journal_is_for_goes_to_the_files() {
    let mut bench = Bench::new(&[]);
    assert!(!bench.journal.room().take(LOG_BYTES_MAX + 1));
    assert!(!Journal::new(None, ID, BYTES_MAX, 0).room().take(1));
    let mut room = bench.journal.room();
    assert!(room.take(LOG_BYTES_MAX - ENTRY_BYTES_MAX) && !room.take(1));
}

#[test]
fn the_bytes_are_pinned() {
    let mut bench = Bench::new(b"batch");
    bench.write(0, 5);
    let mut bytes = Vec::new();
    let read = bench
        .journal_file()
        .read_at(0, 2 * BLOCK_BYTES, &mut bytes)
        .unwrap();
    assert_eq!(read, BLOCK_BYTES);
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    assert_eq!(
        hex(&bytes[..used]),
        "45736b4a0001050505050505050505050505050505050000000000000001\
         0000003b02\
         0808080808080808080808080808080806746f70696300000003\
         000000000000000000000000000000000000000000000005\
         06626174636800004d7fd407"
    );
}

//! Passes over a log, and crashes inside them.

use std::collections::BTreeMap;

use esker_protocol::records::{BatchBuilder, Batches, Caps, ProduceRules, ProducedBatch, validate};

use super::*;
use crate::disk::{OpenMode, read_all};
use crate::{CompactionError, CompactionLimits, CompactionRules};

const DAY_MS: i64 = 24 * 3_600_000;

fn rules() -> CompactionRules {
    CompactionRules {
        dirty_ratio_min: 0.0,
        ..CompactionRules::default()
    }
}

fn limits(map_bytes: usize) -> CompactionLimits {
    CompactionLimits {
        map_bytes,
        load_factor: 0.9,
        hash_key: [7; 16],
    }
}

fn keyed(options: BatchOptions, key: u8, value: Option<u8>) -> ProducedBatch {
    let value = value.map(|value| vec![value]);
    let mut builder = BatchBuilder::new(options);
    builder
        .append(NOW, Some(&[key]), value.as_deref(), &[])
        .unwrap();
    validate(builder.build().unwrap(), &ProduceRules::new(NOW)).unwrap()
}

impl Rig {
    fn put(&self, key: u8, value: Option<u8>) {
        let batch = keyed(BatchOptions::default(), key, value);
        self.log
            .append_as_leader(&batch, EPOCH, NOW, false)
            .unwrap();
    }

    fn seal(&self) {
        self.log.roll_now(NOW).unwrap();
        self.settle();
        self.directory.settle_round().unwrap();
    }

    fn try_begin_pass(
        &self,
        map_bytes: usize,
        now: Timestamp,
    ) -> Result<Compaction, CompactionError> {
        let bound = self.log.durable_end();
        let part = self.log.cleanable(bound, &rules(), now)?.unwrap();
        self.log.compact(&part, &rules(), &limits(map_bytes), now)
    }

    fn begin_pass(&self, map_bytes: usize, now: Timestamp) -> Compaction {
        self.try_begin_pass(map_bytes, now).unwrap()
    }

    fn pass(&self, now: Timestamp) -> Result<crate::Compacted, CompactionError> {
        let mut pass = self.try_begin_pass(1 << 16, now)?;
        while !pass.step(500)?.done {}
        Ok(pass.compacted())
    }

    /// Three segments and an active one: key 0 is always in the last of them, key 9 once, at first.
    fn with_keys(self) -> Rig {
        self.put(9, Some(1));
        for round in 0..3u8 {
            for key in 0..4u8 {
                self.put(key, Some(round * 10 + key));
            }
            self.seal();
        }
        self.put(0, Some(99));
        self.settle();
        self
    }
}

/// The records that a log gives: key and value by offset.
fn records(log: &Log) -> BTreeMap<i64, (u8, Option<u8>)> {
    let mut found = BTreeMap::new();
    let mut at = log.local_start_offset();
    while at < log.written_end() {
        let read = log.read(at, 300, Offset::MAX, true).unwrap();
        for batch in Batches::new(&read.bytes) {
            let batch = batch.unwrap();
            assert!(batch.crc_is_valid());
            for record in &batch.records(&Caps::DEFAULT).unwrap() {
                let record = record.unwrap();
                let value = record.value.map(|value| value[0]);
                found.insert(record.offset.0, (record.key.unwrap()[0], value));
            }
        }
        assert!(read.next > at, "no progress at {at}");
        at = read.next;
    }
    found
}

/// What a pass leaves of [`Rig::with_keys`].
fn expected() -> BTreeMap<i64, (u8, Option<u8>)> {
    BTreeMap::from([
        (0, (9, Some(1))),
        (9, (0, Some(20))),
        (10, (1, Some(21))),
        (11, (2, Some(22))),
        (12, (3, Some(23))),
        (13, (0, Some(99))),
    ])
}

/// The values of a log's keys.
fn latest(log: &Log) -> BTreeMap<u8, u8> {
    let all = records(log).into_values();
    all.filter_map(|(key, value)| Some((key, value?))).collect()
}

fn leftovers(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.read_dir(Path::new("d/topic-0")).unwrap().into_iter();
    names
        .map(|entry| entry.name)
        .filter(|name| {
            [".cleaned", ".swap", ".deleted"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .collect()
}

#[test]
fn the_last_value_of_each_key_stays_where_it_was() {
    let rig = Rig::new().with_keys();
    let before = rig.log.segments();
    let done = rig.pass(NOW).unwrap();
    assert_eq!(records(&rig.log), expected());
    assert_eq!((done.segments, done.segments_left), (3, 1));
    assert_eq!((done.records, done.records_left), (13, 5));
    assert_eq!(done.clean_end, before[3].base);
    assert_eq!(rig.log.clean_end(), before[3].base);
    let after = rig.log.segments();
    assert_eq!(after.len(), 2);
    assert_eq!((after[0].base, after[0].end), (Offset(0), before[3].base));
    assert!(leftovers(&rig.disk).is_empty());
    let text = read_all(&rig.disk, Path::new("d/cleaner-offset-checkpoint")).unwrap();
    assert_eq!(text, b"0\n1\ntopic 0 13\n");
    // Inside the gap the next batch is what there is.
    let read = rig.log.read(Offset(4), 1, Offset::MAX, true).unwrap();
    assert_eq!((read.start, read.next), (Offset(9), Offset(10)));
    // Nothing is dirty any more.
    let part = rig.log.cleanable(Offset::MAX, &rules(), NOW).unwrap();
    assert_eq!(part, None);
}

#[test]
fn a_crash_at_any_step_of_a_pass_loses_nothing() {
    for journals in [false, true] {
        let rig = || match journals {
            true => Rig::journaling().with_keys(),
            false => Rig::new().with_keys(),
        };
        let whole = rig();
        let values = latest(&whole.log);
        let begun = whole.disk.operations();
        whole.pass(NOW).unwrap();
        let operations = whole.disk.operations() - begun;
        assert!(operations > 20, "{operations}");
        for operation in 1..=operations + 1 {
            let rig = rig();
            rig.disk.crash_at(rig.disk.operations() + operation);
            let _ = rig.pass(NOW);
            for disk in [0, 1].map(|seed| rig.disk.after_power_cut(seed)) {
                check_after_crash(&disk, &values, operation);
            }
            check_after_crash(&rig.disk.after_kill(), &values, operation);
        }
    }
}

fn check_after_crash(disk: &MemoryDisk, values: &BTreeMap<u8, u8>, operation: u64) {
    let directory = open(disk).unwrap();
    let (log, report) = open_log(&directory).unwrap();
    assert_eq!(report.damage, None, "crash at {operation}");
    assert_eq!(log.written_end(), Offset(14), "crash at {operation}");
    assert_eq!(&latest(&log), values, "crash at {operation}");
    assert!(leftovers(disk).is_empty(), "crash at {operation}");
    log.begin_epoch(LeaderEpoch(2)).unwrap();
    let rig = Rig {
        disk: disk.clone(),
        directory,
        log,
    };
    rig.settle();
    rig.directory.settle_round().unwrap();
    if rig.log.clean_end() < Offset(13) {
        rig.pass(NOW).unwrap();
    }
    assert_eq!(records(&rig.log), expected(), "crash at {operation}");
}

#[test]
fn appends_go_on_while_segments_are_rewritten() {
    let rig = Rig::new().with_keys();
    let mut pass = rig.begin_pass(1 << 16, NOW);
    let mut appended = 0u8;
    while !pass.step(100).unwrap().done {
        rig.put(50 + appended, Some(appended));
        appended += 1;
    }
    assert!(appended > 10, "{appended}");
    let mut wanted = expected();
    for index in 0..appended {
        wanted.insert(14 + i64::from(index), (50 + index, Some(index)));
    }
    assert_eq!(records(&rig.log), wanted);
    // A round that was under way publishes all the same.
    rig.settle();
    assert_eq!(rig.log.durable_end(), rig.log.written_end());
}

#[test]
fn a_read_of_a_place_that_was_replaced_is_done_again() {
    let rig = Rig::new().with_keys();
    let place = rig.log.state().place(Offset(5));
    rig.pass(NOW).unwrap();
    assert_ne!(rig.log.state().layout, place.layout);
    let read = rig.log.read(Offset(5), 1, Offset::MAX, true).unwrap();
    assert_eq!((read.start, read.next), (Offset(9), Offset(10)));
}

#[test]
fn a_cut_meanwhile_ends_the_pass() {
    let rig = Rig::new().with_keys();
    let mut pass = rig.begin_pass(1 << 16, NOW);
    pass.step(700).unwrap();
    rig.log.truncate_to(Offset(7)).unwrap();
    let ended = loop {
        match pass.step(700) {
            Ok(step) if step.done => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    assert!(
        matches!(ended, Err(CompactionError::Interrupted)),
        "{ended:?}"
    );
    assert!(leftovers(&rig.disk).is_empty());
    assert_eq!(records(&rig.log).len(), 7);
}

#[test]
fn segments_let_go_meanwhile_end_the_pass() {
    let rig = Rig::new().with_keys();
    let first = rig.log.segments()[0];
    let mut pass = rig.begin_pass(1 << 16, NOW);
    pass.step(first.bytes * 4).unwrap();
    rig.log.advance_start(first.end).unwrap();
    rig.settle();
    rig.log.delete_local_below(first.end).unwrap();
    let ended = loop {
        match pass.step(700) {
            Ok(step) if step.done => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    assert!(
        matches!(ended, Err(CompactionError::Interrupted)),
        "{ended:?}"
    );
    rig.pass(NOW).unwrap();
    let mut wanted = expected();
    wanted.retain(|offset, _| *offset >= first.end.0);
    assert_eq!(records(&rig.log), wanted);
}

#[test]
fn the_log_start_that_a_pass_rests_on_is_durable_first() {
    let rig = Rig::new().with_keys();
    rig.log.advance_start(Offset(6)).unwrap();
    let pass = rig.begin_pass(1 << 16, NOW);
    assert_eq!(rig.log.clean_end(), Offset(6));
    drop(pass);
    // No round has gone by since.
    let directory = open(&rig.disk.after_power_cut(1)).unwrap();
    let (log, _) = open_log(&directory).unwrap();
    assert_eq!(log.start_offset(), Offset(6));
}

#[test]
fn a_full_map_ends_the_pass_and_the_next_goes_on() {
    let rig = Rig::new();
    for round in 0..2u8 {
        for key in 0..40u8 {
            rig.put(key, Some(round * 100 + key));
        }
        rig.seal();
    }
    // The least map has 16 slots.
    let mut passes = 0;
    while rig
        .log
        .cleanable(Offset::MAX, &rules(), NOW)
        .unwrap()
        .is_some()
    {
        let before = rig.log.clean_end();
        let mut pass = rig.begin_pass(1, NOW);
        while !pass.step(300).unwrap().done {}
        assert!(pass.compacted().clean_end > before);
        assert!(pass.compacted().map_bytes <= 16 * 24);
        passes += 1;
    }
    assert!(passes > 4, "{passes}");
    let found = records(&rig.log);
    assert_eq!(found.len(), 40);
    assert!(found.keys().all(|offset| *offset >= 40));
}

#[test]
fn a_tombstone_outlives_what_it_deletes_by_its_retention() {
    let rig = Rig::new();
    rig.put(1, Some(5));
    rig.put(2, Some(6));
    rig.seal();
    rig.put(1, None);
    rig.seal();
    rig.put(3, Some(7));
    rig.pass(NOW).unwrap();
    let tombstone = |rig: &Rig| records(&rig.log).get(&2).copied();
    assert_eq!(records(&rig.log).len(), 3);
    assert_eq!(tombstone(&rig), Some((1, None)));
    let pass = |rig: &Rig, key: u8, after_ms: i64| {
        rig.seal();
        rig.put(key, Some(8));
        rig.pass(Timestamp(NOW.0 + after_ms)).unwrap();
    };
    pass(&rig, 4, DAY_MS - 1);
    assert_eq!(tombstone(&rig), Some((1, None)));
    pass(&rig, 5, DAY_MS);
    assert_eq!(tombstone(&rig), None);
    assert!(!latest(&rig.log).contains_key(&1));
}

#[test]
fn what_the_journal_has_of_a_replaced_segment_is_not_replayed() {
    let rig = Rig::journaling();
    for key in [1, 2, 1, 2, 1, 3] {
        rig.put(key, Some(key));
        rig.directory.commit_round().unwrap();
    }
    assert!(!rig.directory.is_settled());
    rig.log.roll_now(NOW).unwrap();
    rig.settle();
    rig.put(1, Some(9));
    rig.directory.commit_round().unwrap();
    rig.pass(NOW).unwrap();
    let wanted = records(&rig.log);
    assert_eq!(wanted.len(), 4);
    for seed in 0..8 {
        let disk = rig.disk.after_power_cut(seed);
        let directory = open(&disk).unwrap();
        let (log, report) = open_log(&directory).unwrap();
        assert_eq!((records(&log), report.damage), (wanted.clone(), None));
    }
}

#[test]
fn segments_that_wait_for_their_sync_are_left_alone() {
    let rig = Rig::journaling();
    rig.put(1, Some(1));
    rig.settle();
    rig.put(1, Some(2));
    rig.log.roll_now(NOW).unwrap();
    rig.put(1, Some(3));
    let part = |rig: &Rig| rig.log.cleanable(Offset::MAX, &rules(), NOW).unwrap();
    assert_eq!(part(&rig), None);
    rig.settle();
    assert!(part(&rig).is_some());
}

#[test]
fn a_hole_that_compaction_did_not_make_is_damage() {
    let rig = Rig::new().with_keys();
    let segments = rig.log.segments();
    rig.pass(NOW).unwrap();
    for key in 0..6 {
        rig.put(key, Some(1));
    }
    rig.settle();
    let base = rig.log.segments()[1].base;
    assert_eq!(base, segments[3].base);
    drop(rig.log);
    // The second batch of the segment goes; every other byte is as it was.
    let disk = rig.disk.after_kill();
    let path = log_path(base.0);
    let mut bytes = read_all(&disk, &path).unwrap();
    let size = BatchHeader::parse(&bytes).unwrap().size_in_bytes();
    bytes.drain(size..2 * size);
    let file = disk.open(&path, OpenMode::Replace).unwrap();
    file.write_all_at(0, &bytes).unwrap();
    let directory = open(&disk).unwrap();
    let opened = open_log(&directory);
    assert!(
        matches!(opened, Err(OpenLogError::Damaged { .. })),
        "{opened:?}"
    );
}

#[test]
fn a_compacted_log_opens_where_the_records_of_the_directory_are_lost() {
    let rig = Rig::new().with_keys();
    rig.pass(NOW).unwrap();
    let disk = rig.disk.after_kill();
    disk.remove_file(Path::new("d/durable-ends.log")).unwrap();
    let directory = open(&disk).unwrap();
    let (log, report) = open_log(&directory).unwrap();
    assert!(report.records_lost);
    assert_eq!(records(&log), expected());
    assert!(log.compacted_end() > Offset(4));
    // What nobody knows to be of this log is not believed.
    assert_eq!(log.clean_end(), Offset(0));
}

#[test]
fn another_log_of_the_name_is_dirty_from_its_start() {
    let rig = Rig::new().with_keys();
    rig.pass(NOW).unwrap();
    rig.directory.delete_log(&rig.log).unwrap();
    let opened = rig
        .directory
        .open_log("topic", 0, TopicId([2; 16]), log_config(), NOW);
    let (log, _) = opened.unwrap();
    log.begin_epoch(EPOCH).unwrap();
    let rig = Rig { log, ..rig };
    let rig = rig.with_keys();
    assert_eq!(rig.log.clean_end(), Offset(0));
    rig.pass(NOW).unwrap();
    assert_eq!(records(&rig.log), expected());
}

#[test]
fn a_full_disk_ends_the_pass_and_changes_nothing() {
    let rig = Rig::new().with_keys();
    let before = records(&rig.log);
    let used = |rig: &Rig| {
        let total = rig.disk.total_bytes(Path::new("d")).unwrap();
        total - rig.disk.available_bytes(Path::new("d")).unwrap()
    };
    rig.disk.set_capacity(used(&rig) + 100);
    let ended = rig.pass(NOW).unwrap_err();
    assert!(ended.is_retriable(), "{ended}");
    rig.disk.set_capacity(u64::MAX);
    assert_eq!(records(&rig.log), before);
    assert!(leftovers(&rig.disk).is_empty());
    rig.pass(NOW).unwrap();
    assert_eq!(records(&rig.log), expected());
}

#[test]
fn a_damaged_batch_ends_the_pass_and_stays_for_all_to_see() {
    let rig = Rig::new().with_keys();
    rig.disk.rot(&log_path(0), 70, 1).unwrap();
    let ended = rig.pass(NOW).unwrap_err();
    assert!(matches!(ended, CompactionError::Damaged(_)), "{ended}");
    assert!(!ended.is_retriable());
    assert_eq!(rig.log.compacted_end(), Offset(0));
}

#[test]
fn an_aborted_record_takes_no_other_with_it() {
    let rig = Rig::new();
    rig.put(1, Some(5));
    let transactional = |base_sequence| BatchOptions {
        producer_id: ProducerId(4),
        producer_epoch: ProducerEpoch(0),
        base_sequence,
        transactional: true,
        ..BatchOptions::default()
    };
    let append =
        |batch: &ProducedBatch| rig.log.append_as_leader(batch, EPOCH, NOW, false).unwrap();
    append(&keyed(transactional(0), 1, Some(6)));
    let end = |commit| {
        let marker = EndTransactionMarker {
            commit,
            coordinator_epoch: 0,
        };
        rig.log
            .append_marker(ProducerId(4), ProducerEpoch(0), marker, EPOCH, NOW)
            .unwrap();
    };
    end(false);
    rig.put(2, Some(1));
    append(&keyed(transactional(1), 2, Some(7)));
    end(true);
    rig.seal();
    rig.put(3, Some(1));
    rig.pass(NOW).unwrap();
    let found = records_of_data(&rig.log);
    assert_eq!(found.get(&0), Some(&(1, Some(5))));
    assert_eq!(found.get(&4), Some(&(2, Some(7))));
    assert!(!found.contains_key(&3));
    let aborted = rig.log.aborted_transactions(Offset(0), Offset(10)).unwrap();
    assert_eq!(aborted.len(), 1);
    assert_eq!(
        (aborted[0].first_offset, aborted[0].last_offset),
        (Offset(1), Offset(2))
    );
}

/// The same without control batches.
fn records_of_data(log: &Log) -> BTreeMap<i64, (u8, Option<u8>)> {
    let mut found = BTreeMap::new();
    let mut at = Offset(0);
    while at < log.written_end() {
        let read = log.read(at, 1, Offset::MAX, true).unwrap();
        for batch in Batches::new(&read.bytes) {
            let batch = batch.unwrap();
            if batch.header().attributes.is_control() {
                continue;
            }
            for record in &batch.records(&Caps::DEFAULT).unwrap() {
                let record = record.unwrap();
                let value = record.value.map(|value| value[0]);
                found.insert(record.offset.0, (record.key.unwrap()[0], value));
            }
        }
        at = read.next;
    }
    found
}

#[test]
fn what_a_cut_leaves_is_no_damage_to_a_pass_under_way() {
    let rig = Rig::new().with_keys();
    let mut pass = rig.begin_pass(1 << 16, NOW);
    pass.step(1).unwrap();
    rig.log.truncate_to(Offset(1)).unwrap();
    let ended = pass.step(1 << 16);
    assert!(
        matches!(ended, Err(CompactionError::Interrupted)),
        "{ended:?}"
    );
}

#[test]
fn a_producer_is_known_though_what_it_wrote_last_is_lost() {
    let rig = Rig::new();
    let append = |sequence, key| {
        let options = BatchOptions {
            producer_id: ProducerId(4),
            producer_epoch: ProducerEpoch(0),
            base_sequence: sequence,
            ..BatchOptions::default()
        };
        let batch = keyed(options, key, Some(1));
        rig.log.append_as_leader(&batch, EPOCH, NOW, false).unwrap();
    };
    append(0, 1);
    append(1, 5);
    rig.put(5, Some(2));
    rig.seal();
    append(2, 1);
    rig.pass(NOW).unwrap();
    for seed in 0..8 {
        let disk = rig.disk.after_power_cut(seed);
        let directory = open(&disk).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        let last = log.producers().entries[0].batches.last().copied().unwrap();
        let expected = if log.written_end() == Offset(3) { 1 } else { 2 };
        assert_eq!(last.last_sequence, expected, "seed {seed}");
    }
}

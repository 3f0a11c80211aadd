//! Random appends, tombstones, passes of compaction, crashes and faults against a map of what was
//! written.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use esker_protocol::records::{
    BatchBuilder, BatchOptions, Batches, Caps, Compression, ProduceRules, ProducedBatch, validate,
};
use esker_protocol::{
    BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId,
};
use esker_storage::{
    AppendError, CommitMode, Compaction, CompactionError, CompactionLimits, CompactionRules,
    DirectoryConfig, Disk, Identity, Log, LogConfig, LogDirectory, MemoryDisk,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Cases of a quick run; `FULL=1` runs many more.
const CASES: u32 = 128;
const CASES_FULL: u32 = 5000;
const NOW: i64 = 1_700_000_000_000;
const DELETE_RETENTION_MS: i64 = 20_000;

#[derive(Debug, Clone)]
enum Op {
    Append {
        keys: Vec<(u8, Option<u8>)>,
        codec: usize,
        producer: Option<i64>,
        back_ms: i64,
    },
    Commit,
    SettleJournal,
    Roll,
    Pass {
        steps: u32,
        step_bytes: u64,
        map_bytes: usize,
    },
    WholePass,
    Later {
        ms: i64,
    },
    Truncate {
        fraction: u8,
    },
    LetGo {
        fraction: u8,
    },
    Compare,
    PowerCut {
        seed: u64,
    },
    Kill,
    CleanStop,
    CrashSoon {
        changes: u64,
    },
    CrashRecovery {
        changes: u64,
    },
    FailSync,
    FullDisk {
        room: u64,
    },
    MoreSpace,
}

fn op() -> impl Strategy<Value = Op> {
    let record = (0..12u8, prop::option::weighted(0.7, any::<u8>()));
    let keys = prop::collection::vec(record, 1..5);
    let append = (keys, 0..5usize, prop::option::of(0..3i64), 0..3000i64);
    prop_oneof![
        40 => append.prop_map(|(keys, codec, producer, back_ms)| Op::Append {
            keys, codec, producer, back_ms
        }),
        10 => Just(Op::Commit),
        4 => Just(Op::SettleJournal),
        6 => Just(Op::Roll),
        10 => (1..8u32, 1..4000u64, prop_oneof![Just(1usize), Just(400), Just(1 << 16)]).prop_map(
            |(steps, step_bytes, map_bytes)| Op::Pass { steps, step_bytes, map_bytes }
        ),
        6 => Just(Op::WholePass),
        4 => (1..DELETE_RETENTION_MS).prop_map(|ms| Op::Later { ms }),
        1 => any::<u8>().prop_map(|fraction| Op::Truncate { fraction }),
        1 => any::<u8>().prop_map(|fraction| Op::LetGo { fraction }),
        2 => Just(Op::Compare),
        3 => any::<u64>().prop_map(|seed| Op::PowerCut { seed }),
        2 => Just(Op::Kill),
        1 => Just(Op::CleanStop),
        6 => (1..60u64).prop_map(|changes| Op::CrashSoon { changes }),
        3 => (1..40u64).prop_map(|changes| Op::CrashRecovery { changes }),
        1 => Just(Op::FailSync),
        1 => (0..3000u64).prop_map(|room| Op::FullDisk { room }),
        2 => Just(Op::MoreSpace),
    ]
}

/// A record as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    key: u8,
    value: Option<u8>,
    timestamp: i64,
}

struct Driver {
    commit: CommitMode,
    disk: MemoryDisk,
    directory: Option<Arc<LogDirectory>>,
    log: Option<Arc<Log>>,
    pass: Option<Compaction>,
    clock: i64,
    seed: u64,
    crash_recovery: Option<u64>,
    epoch: i32,
    /// Everything that was written, by offset.
    written: BTreeMap<i64, Written>,
    /// The end of what may have been written.
    end: i64,
    acknowledged: i64,
    /// The next sequence of each producer, by the end of each of its batches.
    sequences: BTreeMap<i64, BTreeMap<i64, i32>>,
    /// When a pass may first have met each tombstone.
    met: BTreeMap<i64, i64>,
}

fn value_of(value: u8) -> Vec<u8> {
    vec![value; 40 + usize::from(value)]
}

fn rules() -> CompactionRules {
    CompactionRules {
        dirty_ratio_min: 0.0,
        delete_retention_ms: DELETE_RETENTION_MS,
        ..CompactionRules::default()
    }
}

impl Driver {
    fn new(commit: CommitMode) -> Result<Driver, String> {
        let mut driver = Driver {
            commit,
            disk: MemoryDisk::new(),
            directory: None,
            log: None,
            pass: None,
            clock: NOW,
            seed: 1,
            crash_recovery: None,
            epoch: 0,
            written: BTreeMap::new(),
            end: 0,
            acknowledged: 0,
            sequences: BTreeMap::new(),
            met: BTreeMap::new(),
        };
        driver.start()?;
        Ok(driver)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock)
    }

    fn log(&self) -> Arc<Log> {
        self.log.clone().unwrap()
    }

    fn directory(&self) -> Arc<LogDirectory> {
        self.directory.clone().unwrap()
    }

    fn run(&mut self, ops: &[Op]) -> Result<(), String> {
        for op in ops {
            self.clock += 250;
            self.step(op).map_err(|error| format!("{op:?}: {error}"))?;
            if self.disk.is_dead() || self.directory().is_failed() {
                self.seed += 1;
                let seed = self.seed;
                self.restart(Some(seed))
                    .map_err(|error| format!("crash in {op:?}: {error}"))?;
            }
        }
        self.disk.set_capacity(u64::MAX);
        self.compare()
    }

    fn at_fault(&self) -> bool {
        self.disk.is_dead()
            || self.directory().is_failed()
            || self.disk.total_bytes(Path::new("d")).unwrap_or(0) < u64::MAX
    }

    fn unless_at_fault<E: std::fmt::Display>(&self, result: Result<(), E>) -> Result<(), String> {
        match result {
            Err(error) if !self.at_fault() => Err(format!("failed for no reason: {error}")),
            _ => Ok(()),
        }
    }

    fn step(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Append {
                keys,
                codec,
                producer,
                back_ms,
            } => self.append(keys, Compression::ALL[*codec], *producer, *back_ms),
            Op::Commit => self.round(false),
            Op::SettleJournal => self.round(true),
            Op::Roll => self.unless_at_fault(self.log().roll_now(self.now()).map(|_| ())),
            Op::Pass {
                steps,
                step_bytes,
                map_bytes,
            } => self.go_on(*steps, *step_bytes, *map_bytes),
            Op::WholePass => {
                self.round(true)?;
                self.go_on(u32::MAX, 1 << 20, 1 << 16)
            }
            Op::Later { ms } => {
                self.clock += ms;
                Ok(())
            }
            Op::Truncate { fraction } => self.truncate(*fraction),
            Op::LetGo { fraction } => self.let_go(*fraction),
            Op::Compare => self.compare(),
            Op::PowerCut { seed } => self.restart(Some(*seed)),
            Op::Kill => self.restart(None),
            Op::CleanStop => {
                let stopped = self.directory().clean_shutdown();
                let failed = stopped.is_err();
                self.unless_at_fault(stopped)?;
                if !failed && !self.at_fault() {
                    self.acknowledged = self.end;
                }
                self.restart(failed.then_some(7))
            }
            Op::CrashSoon { changes } => {
                self.disk.crash_at(self.disk.operations() + changes);
                Ok(())
            }
            Op::CrashRecovery { changes } => {
                self.crash_recovery = Some(*changes);
                Ok(())
            }
            Op::FailSync => {
                self.disk.fail_syncs(1);
                Ok(())
            }
            Op::FullDisk { room } => {
                let free = self.disk.available_bytes(Path::new("d")).unwrap_or(0);
                let total = self.disk.total_bytes(Path::new("d")).unwrap_or(u64::MAX);
                self.disk.set_capacity(total - free + room);
                Ok(())
            }
            Op::MoreSpace => {
                self.disk.set_capacity(u64::MAX);
                Ok(())
            }
        }
    }

    fn batch(
        &self,
        keys: &[(u8, Option<u8>)],
        codec: Compression,
        producer: Option<(i64, i32)>,
        timestamp: i64,
    ) -> ProducedBatch {
        let mut options = BatchOptions {
            compression: codec,
            ..BatchOptions::default()
        };
        if let Some((id, sequence)) = producer {
            options.producer_id = ProducerId(id);
            options.producer_epoch = ProducerEpoch(0);
            options.base_sequence = sequence;
        }
        let mut builder = BatchBuilder::new(options);
        for (index, (key, value)) in keys.iter().enumerate() {
            let value = value.map(value_of);
            let at = Timestamp(timestamp + index as i64 % 3);
            builder
                .append(at, Some(&[*key]), value.as_deref(), &[])
                .unwrap();
        }
        let rules = ProduceRules::new(Timestamp(timestamp));
        validate(builder.build().unwrap(), &rules).unwrap()
    }

    fn append(
        &mut self,
        keys: &[(u8, Option<u8>)],
        codec: Compression,
        producer: Option<i64>,
        back_ms: i64,
    ) -> Result<(), String> {
        let timestamp = self.clock - back_ms;
        let sequence = producer.map(|id| {
            let own = self.sequences.get(&id);
            let last = own.and_then(|own| own.last_key_value());
            (id, last.map_or(0, |(_, next)| *next))
        });
        let batch = self.batch(keys, codec, sequence, timestamp);
        let epoch = LeaderEpoch(self.epoch);
        let appended = self
            .log()
            .append_as_leader(&batch, epoch, self.now(), false);
        match appended {
            Ok(appended) if appended.base_offset.0 != self.end || appended.duplicate => {
                return Err(format!("{appended:?}, not at {}", self.end));
            }
            Ok(_) => {}
            Err(AppendError::NoSpace) if self.at_fault() => return Ok(()),
            // It may have been written all the same.
            Err(_) if self.at_fault() => {}
            Err(error) => return Err(format!("append failed for no reason: {error}")),
        }
        for (index, (key, value)) in keys.iter().enumerate() {
            let record = Written {
                key: *key,
                value: *value,
                timestamp: timestamp + index as i64 % 3,
            };
            self.written.insert(self.end, record);
            self.end += 1;
        }
        if let Some((id, sequence)) = sequence {
            let next = sequence + keys.len() as i32;
            self.sequences.entry(id).or_default().insert(self.end, next);
        }
        Ok(())
    }

    fn round(&mut self, settles: bool) -> Result<(), String> {
        let directory = self.directory();
        let round = match settles {
            true => directory.settle_round(),
            false => directory.commit_round(),
        };
        match round {
            Err(error) => self.unless_at_fault(Err(error)),
            Ok(_) => {
                self.acknowledged = self.acknowledged.max(self.log().durable_end().0);
                Ok(())
            }
        }
    }

    /// Begins a pass where none is under way, and goes on with it.
    fn go_on(&mut self, steps: u32, step_bytes: u64, map_bytes: usize) -> Result<(), String> {
        let log = self.log();
        if self.pass.is_none() {
            let part = log.cleanable(log.durable_end(), &rules(), self.now());
            let part = match part {
                Ok(part) => part,
                Err(error) => return self.unless_at_fault(Err(error)),
            };
            let Some(part) = part.filter(|part| part.is_due(&rules())) else {
                return Ok(());
            };
            let limits = CompactionLimits {
                map_bytes,
                load_factor: 0.9,
                hash_key: [5; 16],
            };
            for (offset, record) in self.written.range(..part.end.0) {
                if record.value.is_none() {
                    self.met.entry(*offset).or_insert(self.clock);
                }
            }
            match log.compact(&part, &rules(), &limits, self.now()) {
                Ok(pass) => self.pass = Some(pass),
                Err(error) => return self.unless_at_fault(Err(error)),
            }
        }
        for _ in 0..steps {
            let Some(pass) = &mut self.pass else {
                return Ok(());
            };
            match pass.step(step_bytes) {
                Ok(step) if step.done => {
                    let clean_end = pass.compacted().clean_end;
                    self.pass = None;
                    if log.clean_end() < clean_end {
                        return Err(format!("clean to {}, not {clean_end}", log.clean_end()));
                    }
                }
                Ok(_) => {}
                Err(CompactionError::Interrupted) => self.pass = None,
                Err(error) => {
                    self.pass = None;
                    return self.unless_at_fault(Err(error));
                }
            }
        }
        Ok(())
    }

    fn cut(&mut self, end: i64) {
        self.written.split_off(&end);
        self.met.split_off(&end);
        for own in self.sequences.values_mut() {
            own.split_off(&(end + 1));
        }
        self.end = end;
        self.acknowledged = self.acknowledged.min(end);
    }

    fn truncate(&mut self, fraction: u8) -> Result<(), String> {
        let log = self.log();
        let start = log.local_start_offset().0.max(log.start_offset().0);
        // What is compacted was below the high watermark, and stays: a cut there would bring back what
        // later records had replaced.
        let start = start.max(log.compacted_end().0);
        let target = start + (self.end - start) * i64::from(fraction) / 256;
        // From here on anything at or above the last batch below it may go.
        self.acknowledged = self.acknowledged.min(start);
        match log.truncate_to(Offset(target)) {
            Ok(end) if end.0 <= target => {
                self.cut(end.0);
                Ok(())
            }
            Ok(end) => Err(format!("truncated to {end}, not {target}")),
            error => self.unless_at_fault(error.map(|_| ())),
        }
    }

    fn let_go(&mut self, fraction: u8) -> Result<(), String> {
        let log = self.log();
        let span = (self.acknowledged - log.start_offset().0).max(0);
        let target = log.start_offset() + span * i64::from(fraction) / 256;
        self.unless_at_fault(log.advance_start(target).map(|_| ()))?;
        for _ in 0..4 {
            self.round(true)?;
        }
        self.unless_at_fault(log.delete_local_below(target).map(|_| ()))
    }

    fn restart(&mut self, power_cut: Option<u64>) -> Result<(), String> {
        self.pass = None;
        self.log = None;
        self.directory = None;
        self.disk = match power_cut {
            Some(seed) => self.disk.after_power_cut(seed),
            None => self.disk.after_kill(),
        };
        self.disk.set_capacity(u64::MAX);
        if let Some(changes) = self.crash_recovery.take() {
            self.disk.crash_at(self.disk.operations() + changes);
        }
        for attempt in 0.. {
            match self.start() {
                Ok(()) if !self.disk.is_dead() => break,
                Err(error) if !self.disk.is_dead() => return Err(error),
                _ => {
                    // The crash came; the next attempt has none.
                    self.log = None;
                    self.directory = None;
                    self.disk = self.disk.after_power_cut(attempt + 100);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        let identity = Identity {
            cluster_id: "cluster".to_owned(),
            node_id: BrokerId(1),
        };
        let config = DirectoryConfig {
            commit: self.commit,
            open_files_max: 3,
            durable_ends_bytes_max: 600,
            journal_bytes_max: 64 << 10,
            round_logs_max: 1,
            ..DirectoryConfig::new("d")
        };
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let directory = LogDirectory::open(disk, config, &identity, &mut || [7; 16])
            .map_err(|error| error.to_string())?;
        let config = LogConfig {
            segment_bytes: 1500,
            index_interval_bytes: 300,
            checkpoint_bytes: 700,
            preallocate_bytes_max: 1024,
            ..LogConfig::default()
        };
        let opened = directory.open_log("topic", 0, TopicId([1; 16]), config, self.now());
        let (log, report) = opened.map_err(|error| error.to_string())?;
        let end = log.written_end().0;
        if end < self.acknowledged || end > self.end {
            let (least, most) = (self.acknowledged, self.end);
            return Err(format!("{end} is outside {least}..={most}: {report:?}"));
        }
        let acknowledged = self.acknowledged;
        self.cut(end);
        self.acknowledged = acknowledged;
        self.epoch += 1;
        log.begin_epoch(LeaderEpoch(self.epoch))
            .map_err(|error| error.to_string())?;
        self.log = Some(log);
        self.directory = Some(directory);
        self.compare()
    }

    /// The records that the log gives, by offset, and the ends of its batches.
    fn read_all(&self, log: &Log) -> Result<(BTreeMap<i64, Written>, BTreeSet<i64>), String> {
        let (mut found, mut ends) = (BTreeMap::new(), BTreeSet::new());
        let mut at = log.local_start_offset().max(log.start_offset());
        let mut bytes_max = 1;
        while at < log.written_end() {
            let read = log
                .read(at, bytes_max, Offset::MAX, true)
                .map_err(|error| format!("read at {at}: {error}"))?;
            for batch in Batches::new(&read.bytes) {
                let batch = batch.map_err(|error| error.to_string())?;
                if !batch.crc_is_valid() {
                    return Err(format!("a wrong checksum at {at}"));
                }
                let before = ends.last().copied().unwrap_or(i64::MIN);
                if batch.header().base_offset.0 < before {
                    return Err(format!("{:?} overlaps {before}", batch.header()));
                }
                ends.insert(batch.header().next_offset().0);
                let records = batch
                    .records(&Caps::DEFAULT)
                    .map_err(|error| error.to_string())?;
                for record in &records {
                    let record = record.map_err(|error| error.to_string())?;
                    let value = record.value.map(|value| value[0]);
                    if record.value.map(<[u8]>::to_vec) != value.map(value_of) {
                        return Err(format!("another value at {}", record.offset));
                    }
                    let seen = Written {
                        key: record.key.unwrap()[0],
                        value,
                        timestamp: record.timestamp.0,
                    };
                    found.insert(record.offset.0, seen);
                }
            }
            if read.next <= at {
                return Err(format!("no progress at {at}"));
            }
            at = read.next;
            bytes_max = (bytes_max * 3) % 3000 + 1;
        }
        Ok((found, ends))
    }

    fn compare(&self) -> Result<(), String> {
        let log = self.log();
        if self.at_fault() {
            return Ok(());
        }
        if log.written_end().0 != self.end {
            return Err(format!("end is {}, not {}", log.written_end(), self.end));
        }
        let (found, ends) = self.read_all(&log)?;
        let start = log.local_start_offset().max(log.start_offset()).0;
        for (offset, record) in &found {
            if self.written.get(offset) != Some(record) {
                let written = self.written.get(offset);
                return Err(format!("{record:?} at {offset}, not {written:?}"));
            }
        }
        self.compare_keys(&log, &found, start)?;
        self.compare_places(&log, &found, &ends, start)?;
        for entry in log.producers().entries {
            let own = self.sequences.get(&entry.producer_id.0);
            let wanted = own.and_then(|own| own.last_key_value());
            let last = entry.batches.last();
            let next = last.map(|last| (last.last_offset.0 + 1, last.last_sequence + 1));
            if next != wanted.map(|(end, next)| (*end, *next)) {
                return Err(format!("{entry:?}, not {wanted:?}"));
            }
        }
        Ok(())
    }

    /// The last record of each key is there; of the others, none is that is below the clean end.
    fn compare_keys(
        &self,
        log: &Log,
        found: &BTreeMap<i64, Written>,
        start: i64,
    ) -> Result<(), String> {
        let mut last: BTreeMap<u8, i64> = BTreeMap::new();
        for (offset, record) in self.written.range(start..) {
            last.insert(record.key, *offset);
        }
        for (key, offset) in last {
            let record = &self.written[&offset];
            let met = self.met.get(&offset);
            let may_go = record.value.is_none()
                && met.is_some_and(|met| met + DELETE_RETENTION_MS <= self.clock);
            let of_key: Vec<&i64> = found
                .iter()
                .filter(|(_, record)| record.key == key)
                .map(|(offset, _)| offset)
                .collect();
            if !found.contains_key(&offset) && (!may_go || !of_key.is_empty()) {
                return Err(format!(
                    "{record:?} at {offset} is gone, {of_key:?} are there"
                ));
            }
        }
        let dirty = log.compacted_end().0.max(start);
        for (offset, _) in self.written.range(dirty..) {
            if !found.contains_key(offset) {
                return Err(format!("{offset} is gone, above {dirty}"));
            }
        }
        let mut clean = BTreeSet::new();
        for (offset, record) in found.range(..log.clean_end().0) {
            if *offset >= start && !clean.insert(record.key) {
                let clean_end = log.clean_end();
                return Err(format!("key {} twice below {clean_end}", record.key));
            }
        }
        Ok(())
    }

    /// Reads from any offset, and lookups by timestamp, agree with what is there.
    fn compare_places(
        &self,
        log: &Log,
        found: &BTreeMap<i64, Written>,
        ends: &BTreeSet<i64>,
        start: i64,
    ) -> Result<(), String> {
        let step = usize::try_from((self.end - start) / 17 + 1).unwrap();
        for at in (start..self.end).step_by(step) {
            let read = log
                .read(Offset(at), 1, Offset::MAX, true)
                .map_err(|error| format!("read at {at}: {error}"))?;
            let next = ends.range(at + 1..).next().copied();
            if Some(read.next.0) != next || read.bytes.is_empty() {
                return Err(format!(
                    "a read at {at} goes to {}, not {next:?}",
                    read.next
                ));
            }
            let (Some(written), true) = (self.written.get(&at), at % 2 == 0) else {
                continue;
            };
            let wanted = written.timestamp;
            let lookup = log
                .offset_for_timestamp(Timestamp(wanted), Offset::MAX)
                .map_err(|error| error.to_string())?
                .map(|(_, offset, _)| offset.0);
            let expected = self.first_at_or_after(found, ends, start, wanted);
            if lookup != expected {
                return Err(format!("timestamp {wanted}: {lookup:?}, not {expected:?}"));
            }
        }
        let newest = log
            .offset_of_max_timestamp()
            .map_err(|error| error.to_string())?
            .map(|(timestamp, _, _)| timestamp.0);
        let expected = found.values().map(|record| record.timestamp).max();
        if newest < expected {
            return Err(format!("newest {newest:?}, not {expected:?}"));
        }
        Ok(())
    }

    /// Of the batches that reach beyond the start, all records count.
    fn first_at_or_after(
        &self,
        found: &BTreeMap<i64, Written>,
        ends: &BTreeSet<i64>,
        start: i64,
        wanted: i64,
    ) -> Option<i64> {
        let _ = (ends, start);
        found
            .iter()
            .find(|(_, record)| record.timestamp >= wanted)
            .map(|(offset, _)| *offset)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "length and seed of a test are chosen by its caller"
)]
fn chosen(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn a_compacted_log_equals_the_map_of_its_keys_through_crashes_and_faults() {
    let config = Config {
        cases: match chosen("FULL") {
            Some(1) => CASES_FULL,
            _ => CASES,
        },
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(chosen("SEED").unwrap_or(20_260_401)),
        max_shrink_iters: 4000,
        ..Config::default()
    };
    let commit = prop_oneof![
        1 => Just(CommitMode::SyncFs),
        1 => Just(CommitMode::FileByFile),
        2 => Just(CommitMode::Journal),
    ];
    let strategy = (commit, prop::collection::vec(op(), 1..150));
    TestRunner::new(config)
        .run(&strategy, |(commit, ops)| {
            let mut driver = Driver::new(commit).map_err(TestCaseError::fail)?;
            driver.run(&ops).map_err(TestCaseError::fail)
        })
        .unwrap();
}

//! Runs operations on a directory of two logs and on their models.

use std::path::Path;
use std::sync::Arc;

use esker_protocol::{BrokerId, LeaderEpoch, Offset, Timestamp, TopicId};
use esker_storage::{
    AppendError, CommitMode, CommitRound, DirectoryConfig, DirectoryFailed, Disk, Identity, Log,
    LogConfig, LogDirectory, MemoryDisk,
};
use proptest::prelude::*;

use super::disk::ForgetsDirectories;
use super::model::{Model, Wanted, produce};

#[derive(Debug, Clone)]
pub enum Op {
    Append {
        log: usize,
        records: i32,
        value_bytes: usize,
        producer: Option<i64>,
        back_ms: i64,
    },
    Duplicate {
        log: usize,
        back: usize,
    },
    Gap {
        log: usize,
        producer: i64,
    },
    Commit,
    Settle,
    /// Sync the files of what the journal has.
    SettleJournal,
    /// Sync the files of some of what the journal has.
    Idle,
    Roll {
        log: usize,
    },
    Truncate {
        log: usize,
        fraction: u8,
    },
    AdvanceStart {
        log: usize,
        fraction: u8,
    },
    BeginEpoch {
        log: usize,
    },
    Compare,
    PowerCut {
        seed: u64,
    },
    Kill,
    CleanStop,
    /// Crash after so many changes of the disk from here on.
    CrashSoon {
        changes: u64,
    },
    /// Crash once so many changes into the next recovery.
    CrashRecovery {
        changes: u64,
    },
    FailSync,
    ShortWrite {
        bytes: usize,
    },
    FullDisk {
        room: u64,
    },
    MoreSpace,
}

pub fn op() -> impl Strategy<Value = Op> {
    let log = 0..2usize;
    prop_oneof![
        40 => (log.clone(), 1..5i32, 0..700usize, prop::option::of(0..3i64), 0..2000i64).prop_map(
            |(log, records, value_bytes, producer, back_ms)| Op::Append {
                log, records, value_bytes, producer, back_ms
            }
        ),
        4 => (log.clone(), 0..5usize).prop_map(|(log, back)| Op::Duplicate { log, back }),
        1 => (log.clone(), 0..3i64).prop_map(|(log, producer)| Op::Gap { log, producer }),
        10 => Just(Op::Commit),
        4 => Just(Op::Settle),
        2 => Just(Op::SettleJournal),
        2 => Just(Op::Idle),
        2 => log.clone().prop_map(|log| Op::Roll { log }),
        3 => (log.clone(), any::<u8>()).prop_map(|(log, fraction)| Op::Truncate { log, fraction }),
        2 => (log.clone(), any::<u8>())
            .prop_map(|(log, fraction)| Op::AdvanceStart { log, fraction }),
        2 => log.prop_map(|log| Op::BeginEpoch { log }),
        2 => Just(Op::Compare),
        4 => any::<u64>().prop_map(|seed| Op::PowerCut { seed }),
        2 => Just(Op::Kill),
        1 => Just(Op::CleanStop),
        3 => (1..40u64).prop_map(|changes| Op::CrashSoon { changes }),
        3 => (1..40u64).prop_map(|changes| Op::CrashRecovery { changes }),
        1 => Just(Op::FailSync),
        1 => (0..200usize).prop_map(|bytes| Op::ShortWrite { bytes }),
        1 => (0..3000u64).prop_map(|room| Op::FullDisk { room }),
        2 => Just(Op::MoreSpace),
    ]
}

/// Bugs that the comparison must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    Nothing,
    AcknowledgesBeforeTheSync,
    ForgetsDirectories,
    SyncsLie,
}

const NOW: i64 = 1_700_000_000_000;

pub struct Driver {
    planted: Planted,
    commit: CommitMode,
    config: LogConfig,
    disk: MemoryDisk,
    directory: Option<Arc<LogDirectory>>,
    logs: Vec<Arc<Log>>,
    models: Vec<Model>,
    clock: i64,
    seed: u64,
    crash_recovery: Option<u64>,
}

pub fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 6000,
        index_interval_bytes: 500,
        checkpoint_bytes: 2500,
        preallocate_bytes_max: 4096,
        ..LogConfig::default()
    }
}

impl Driver {
    pub fn new(planted: Planted, commit: CommitMode) -> Result<Driver, String> {
        let disk = MemoryDisk::new();
        disk.lie_about_syncs(planted == Planted::SyncsLie);
        let mut driver = Driver {
            planted,
            commit,
            config: log_config(),
            disk,
            directory: None,
            logs: Vec::new(),
            models: vec![Model::default(), Model::default()],
            clock: NOW,
            seed: 1,
            crash_recovery: None,
        };
        driver.start()?;
        Ok(driver)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock)
    }

    fn dyn_disk(&self) -> Arc<dyn Disk> {
        match self.planted {
            Planted::ForgetsDirectories => Arc::new(ForgetsDirectories(self.disk.clone())),
            _ => Arc::new(self.disk.clone()),
        }
    }

    pub fn run(&mut self, ops: &[Op]) -> Result<(), String> {
        for op in ops {
            self.clock += 250;
            self.step(op).map_err(|error| format!("{op:?}: {error}"))?;
            if self.disk.is_dead() || self.directory.as_ref().is_some_and(|one| one.is_failed()) {
                self.seed += 1;
                let seed = self.seed;
                self.restart(Some(seed))
                    .map_err(|error| format!("crash in {op:?}: {error}"))?;
            }
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<(), String> {
        for (log, model) in self.logs.iter().zip(&self.models) {
            model.compare(log, &self.config)?;
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Result<(), String> {
        match *op {
            Op::Append {
                log,
                records,
                value_bytes,
                producer,
                back_ms,
            } => {
                let timestamp = self.clock - back_ms;
                self.append(
                    log,
                    Wanted {
                        records,
                        value_bytes,
                        producer,
                        timestamp,
                    },
                )
            }
            Op::Duplicate { log, back } => self.duplicate(log, back),
            Op::Gap { log, producer } => self.gap(log, producer),
            Op::Commit => self.commit(),
            Op::Settle => self.settle(),
            Op::SettleJournal => self.settle_journal(),
            Op::Idle => self.idle(),
            Op::Roll { log } => self.unless_dead(self.logs[log].roll_now(self.now()).map(|_| ())),
            Op::Truncate { log, fraction } => self.truncate(log, fraction),
            Op::AdvanceStart { log, fraction } => self.advance_start(log, fraction),
            Op::BeginEpoch { log } => {
                self.models[log].epoch += 1;
                let epoch = LeaderEpoch(self.models[log].epoch);
                self.unless_dead(self.logs[log].begin_epoch(epoch))
            }
            Op::Compare => self.compare(),
            Op::PowerCut { seed } => self.restart(Some(seed)),
            Op::Kill => self.restart(None),
            Op::CleanStop => self.clean_stop(),
            Op::CrashSoon { changes } => {
                self.disk.crash_at(self.disk.operations() + changes);
                Ok(())
            }
            Op::CrashRecovery { changes } => {
                self.crash_recovery = Some(changes);
                Ok(())
            }
            Op::FailSync => {
                self.disk.fail_syncs(1);
                Ok(())
            }
            Op::ShortWrite { bytes } => {
                self.disk.fail_next_write_after(bytes);
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

    /// An error is fine only when the disk is at fault: dead, failed, or full.
    fn unless_dead<E: std::fmt::Display>(&self, result: Result<(), E>) -> Result<(), String> {
        match result {
            Err(error) if !self.at_fault() => Err(format!("failed for no reason: {error}")),
            _ => Ok(()),
        }
    }

    fn at_fault(&self) -> bool {
        self.disk.is_dead()
            || self
                .directory
                .as_ref()
                .is_none_or(|directory| directory.is_failed())
            || self.disk.total_bytes(Path::new("d")).unwrap_or(0) < u64::MAX
    }

    fn append(&mut self, log: usize, wanted: Wanted) -> Result<(), String> {
        let sequence = wanted
            .producer
            .map_or(-1, |id| self.models[log].next_sequence(id));
        let batch = produce(wanted, sequence);
        let epoch = LeaderEpoch(self.models[log].epoch);
        match self.logs[log].append_as_leader(&batch, epoch, self.now(), false) {
            Ok(appended) => {
                let base = self.models[log].end();
                if appended.base_offset.0 != base || appended.duplicate {
                    return Err(format!("{appended:?}, not at {base}"));
                }
                self.models[log].push(batch);
                if appended.end.0 != self.models[log].end() {
                    return Err(format!("{appended:?} ends elsewhere"));
                }
                if self.planted == Planted::AcknowledgesBeforeTheSync {
                    self.models[log].acknowledged = self.models[log].end();
                }
                Ok(())
            }
            Err(AppendError::NoSpace) if self.at_fault() => Ok(()),
            Err(error) if self.at_fault() => {
                // It may have been written all the same.
                self.models[log].push(batch);
                let _ = error;
                Ok(())
            }
            Err(error) => Err(format!("append failed for no reason: {error}")),
        }
    }

    fn duplicate(&mut self, log: usize, back: usize) -> Result<(), String> {
        let model = &self.models[log];
        let Some(batch) = model
            .batches
            .iter()
            .rev()
            .filter(|batch| batch.header.producer_id.0 == 0)
            .nth(back)
            .cloned()
        else {
            return Ok(());
        };
        let epoch = LeaderEpoch(model.epoch);
        match self.logs[log].append_as_leader(&batch.sent, epoch, self.now(), false) {
            Ok(appended)
                if appended.duplicate
                    && appended.base_offset == batch.header.base_offset
                    && appended.end == batch.header.next_offset() =>
            {
                Ok(())
            }
            Ok(appended) => Err(format!("a duplicate gave {appended:?}")),
            Err(_) if self.at_fault() => Ok(()),
            Err(error) => Err(format!("a duplicate was refused: {error}")),
        }
    }

    fn gap(&mut self, log: usize, producer: i64) -> Result<(), String> {
        let sequence = self.models[log].next_sequence(producer);
        if sequence == 0 {
            return Ok(());
        }
        let wanted = Wanted {
            records: 1,
            value_bytes: 1,
            producer: Some(producer),
            timestamp: self.clock,
        };
        let batch = produce(wanted, sequence + 1);
        let epoch = LeaderEpoch(self.models[log].epoch);
        match self.logs[log].append_as_leader(&batch, epoch, self.now(), false) {
            Err(AppendError::OutOfOrder { expected, .. }) if expected == sequence => Ok(()),
            Err(_) if self.at_fault() => Ok(()),
            other => Err(format!("a gap gave {other:?}")),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        let round = self.directory.as_ref().expect("started").commit_round();
        self.after_round(round)
    }

    fn idle(&mut self) -> Result<(), String> {
        let round = self.directory.as_ref().expect("started").idle_round();
        self.after_round(round)
    }

    fn after_round(&mut self, round: Result<CommitRound, DirectoryFailed>) -> Result<(), String> {
        if let Err(error) = round {
            return self.unless_dead(Err(error));
        }
        self.note_published()
    }

    fn settle_journal(&mut self) -> Result<(), String> {
        let directory = self.directory.as_ref().expect("started");
        // A round does one log at most, so those that wait for one of their own come first.
        for _ in 0..10 {
            match directory.settle_round() {
                Err(error) => return self.unless_dead(Err(error)),
                Ok(round) if !round.more && !directory.is_settled() && !self.at_fault() => {
                    return Err("the journal is not settled".to_owned());
                }
                Ok(round) if !round.more || self.at_fault() => return self.note_published(),
                Ok(_) => {}
            }
        }
        Err("rounds that settle do not end".to_owned())
    }

    fn note_published(&mut self) -> Result<(), String> {
        let full = self.disk.total_bytes(Path::new("d")).unwrap_or(0) < u64::MAX;
        for (log, model) in self.logs.iter().zip(&mut self.models) {
            let durable = log.durable_end().0;
            if durable < model.shown && !full {
                return Err(format!("durable end fell to {durable}"));
            }
            model.shown = durable;
            model.acknowledged = model.acknowledged.max(durable);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..10 {
            let starts: Vec<i64> = self.logs.iter().map(|log| log.start_offset().0).collect();
            match self.directory.as_ref().expect("started").commit_round() {
                Err(error) => return self.unless_dead(Err(error)),
                Ok(round) if !round.more => {
                    self.note_published()?;
                    let waits = self.directory.as_ref().expect("started").needs_commit();
                    if waits && round.starved.is_empty() && !round.unrecorded {
                        return Err("something waits, and no round would come".to_owned());
                    }
                    if !self.at_fault() {
                        for (model, start) in self.models.iter_mut().zip(starts) {
                            model.log_start_durable = start;
                            if model.acknowledged != model.end() {
                                return Err("idle, but not everything is durable".to_owned());
                            }
                        }
                    }
                    return Ok(());
                }
                Ok(_) => {}
            }
        }
        Err("commit rounds do not end".to_owned())
    }

    fn truncate(&mut self, log: usize, fraction: u8) -> Result<(), String> {
        let (handle, model) = (self.logs[log].clone(), &mut self.models[log]);
        let start = handle.local_start_offset().0.max(handle.start_offset().0);
        let target = start + (model.end() - start) * i64::from(fraction) / 256;
        let mut after = model.clone();
        after.cut(target);
        // From here on anything at or above the new end may go.
        model.acknowledged = model.acknowledged.min(after.end());
        model.shown = model.shown.min(after.end());
        model.log_start_durable = after.log_start_durable;
        match handle.truncate_to(Offset(target)) {
            Ok(end) if end.0 == after.end() => {
                *model = after;
                Ok(())
            }
            Ok(end) => Err(format!("truncated to {end}, not {}", after.end())),
            error => self.unless_dead(error.map(|_| ())),
        }
    }

    fn advance_start(&mut self, log: usize, fraction: u8) -> Result<(), String> {
        let handle = self.logs[log].clone();
        let model = &mut self.models[log];
        let span = model.acknowledged - model.log_start;
        let target = model.log_start + span.max(0) * i64::from(fraction) / 256;
        let advanced = handle.advance_start(Offset(target));
        if advanced.is_ok() {
            model.log_start = target;
        }
        self.unless_dead(advanced.map(|_| ()))?;
        self.settle()?;
        let deleted = handle.delete_local_below(Offset(target));
        self.unless_dead(deleted.map(|_| ()))
    }

    fn clean_stop(&mut self) -> Result<(), String> {
        let stopped = self.directory.as_ref().expect("started").clean_shutdown();
        let failed = stopped.is_err();
        self.unless_dead(stopped)?;
        if !failed && !self.at_fault() {
            for model in &mut self.models {
                model.acknowledged = model.end();
                model.log_start_durable = model.log_start;
            }
        }
        self.restart(failed.then_some(7))
    }

    /// Ends the process, or the machine, and starts again, possibly with crashes during recovery.
    fn restart(&mut self, power_cut: Option<u64>) -> Result<(), String> {
        self.logs.clear();
        self.directory = None;
        self.disk = match power_cut {
            Some(seed) => self.disk.after_power_cut(seed),
            None => self.disk.after_kill(),
        };
        self.disk.set_capacity(u64::MAX);
        self.disk.lie_about_syncs(self.planted == Planted::SyncsLie);
        let written: Vec<i64> = self.models.iter().map(Model::end).collect();
        if let Some(changes) = self.crash_recovery.take() {
            self.disk.crash_at(self.disk.operations() + changes);
        }
        for attempt in 0.. {
            match self.start() {
                Ok(()) if !self.disk.is_dead() => break,
                Err(error) if !self.disk.is_dead() => return Err(error),
                _ => {
                    // The crash came; the next attempt has none.
                    self.logs.clear();
                    self.directory = None;
                    self.disk = self.disk.after_power_cut(attempt + 100);
                    self.disk.lie_about_syncs(self.planted == Planted::SyncsLie);
                }
            }
        }
        let _ = written;
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        let identity = Identity {
            cluster_id: "cluster".to_owned(),
            node_id: BrokerId(1),
        };
        let config = DirectoryConfig {
            commit: self.commit,
            open_files_max: 4,
            durable_ends_bytes_max: 600,
            journal_bytes_max: 64 << 10,
            round_logs_max: 1,
            ..DirectoryConfig::new("d")
        };
        let mut random = || [7; 16];
        let directory = LogDirectory::open(self.dyn_disk(), config, &identity, &mut random)
            .map_err(|error| error.to_string())?;
        let mut logs = Vec::new();
        for (index, model) in self.models.iter_mut().enumerate() {
            let id = TopicId([index as u8 + 1; 16]);
            let (log, report) = directory
                .open_log(
                    "topic",
                    index as i32,
                    id,
                    self.config.clone(),
                    Timestamp(self.clock),
                )
                .map_err(|error| error.to_string())?;
            let end = log.written_end().0;
            if end < model.acknowledged {
                return Err(format!(
                    "{end} survived of {}: {report:?}",
                    model.acknowledged
                ));
            }
            if end > model.end() {
                return Err(format!("{end} is more than {} was written", model.end()));
            }
            let start = log.start_offset().0;
            if start < model.log_start_durable || start > model.log_start {
                let (low, high) = (model.log_start_durable, model.log_start);
                return Err(format!("log start {start} is outside {low}..={high}"));
            }
            let before = model.clone();
            model.cut(end);
            model.log_start = start;
            model.log_start_durable = model.log_start_durable.max(0).min(start);
            model.acknowledged = before.acknowledged;
            model.shown = log.durable_end().0;
            model.epoch += 1;
            log.begin_epoch(LeaderEpoch(model.epoch))
                .map_err(|error| error.to_string())?;
            model.compare(&log, &self.config)?;
            logs.push(log);
        }
        self.logs = logs;
        self.directory = Some(directory);
        Ok(())
    }
}

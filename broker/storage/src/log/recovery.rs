//! Opening a log that is there: what is trusted, and why (P6).
//!
//! Below the recorded durable end everything was synced, indexes and snapshots included, so damage
//! there is corruption and changes nothing. At or above it, the first damage ends the log. The scan
//! begins at the newest snapshot that is not above the recorded end: producers are as it says, and
//! the indexes below it are good. Everything above is computed anew, and the bytes are written again
//! in place, because after a failed sync the page cache shows what the disk has lost.
//!
//! First a [`Plan`] is made, which only reads; then it is carried out. A cut is the same with a limit.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use esker_protocol::{Offset, Timestamp};

use super::plan::{Plan, Source, Surroundings};
use super::state::State;
use super::{Log, LogName};
use crate::config::LogConfig;
use crate::directory::durable_ends::Recorded;
use crate::directory::names::{FileKind, segment_file};
use crate::directory::{IoFailure, RecordedEnd, Shared, read_epochs};
use crate::disk::DiskFile;
use crate::entry_file::Entry as _;
use crate::error::{Damage, OpenLogError};
use crate::index::{AbortedTransaction, OffsetEntry, TimeEntry};
use crate::leader_epochs::LeaderEpochs;

/// What opening a log found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the log was made.
    pub created: bool,
    /// The end that the directory had recorded; `None` when it had recorded nothing, or its records
    /// were lost.
    pub recorded_end: Option<Offset>,
    /// Whether the directory's records were lost, so that the log was checked whole.
    pub records_lost: bool,
    /// The end now.
    pub end: Offset,
    /// Bytes that were read and checked.
    pub scanned_bytes: u64,
    /// Bytes above the recorded end that were written again.
    pub rewritten_bytes: u64,
    /// Bytes that were cut off.
    pub truncated_bytes: u64,
    /// Segments that were removed whole.
    pub removed_segments: usize,
    /// What ended the log, when it was not the end of its last file.
    pub damage: Option<Damage>,
    /// Whether the leader epochs had to be computed from the batches.
    pub epochs_rebuilt: bool,
}

/// Why a plan was not made or carried out.
#[derive(Debug)]
pub(super) enum PlanError {
    Damage(Damage),
    Io(io::Error),
}

impl From<io::Error> for PlanError {
    fn from(error: io::Error) -> PlanError {
        PlanError::Io(error)
    }
}

impl Log {
    pub(crate) fn open(
        directory: Arc<Shared>,
        name: LogName,
        path: std::path::PathBuf,
        recorded: RecordedEnd,
        config: LogConfig,
        now: Timestamp,
    ) -> Result<(Arc<Log>, RecoveryReport), OpenLogError> {
        let id = directory.next_log_id();
        let state = State::empty(Offset::ZERO, config, now);
        let log = Arc::new_cyclic(|this: &Weak<Log>| Log {
            id,
            name,
            path,
            directory,
            this: this.clone(),
            state: std::sync::Mutex::new(state),
            maintenance: std::sync::Mutex::new(()),
        });
        let recovered = log.recover(recorded, now);
        match recovered {
            Ok(report) => Ok((log, report)),
            Err(error) => {
                log.directory.files.forget_log(id);
                Err(log.open_error(recorded, error))
            }
        }
    }

    fn open_error(&self, recorded: RecordedEnd, error: PlanError) -> OpenLogError {
        let (topic, partition) = (self.name.topic.clone(), self.name.partition);
        match error {
            PlanError::Damage(damage) => {
                let recorded_end = match recorded {
                    RecordedEnd::Nothing => Some(Offset::ZERO),
                    RecordedEnd::Known(recorded) => Some(recorded.end.max(recorded.journaled_end)),
                    RecordedEnd::Unknown => None,
                };
                OpenLogError::Damaged {
                    topic,
                    partition,
                    recorded_end,
                    damage,
                }
            }
            PlanError::Io(error) => match self.directory.judge::<()>(Err(error)) {
                Err(IoFailure::Failed(failed)) => OpenLogError::Failed(failed),
                Err(IoFailure::Exhausted(source)) => OpenLogError::Exhausted {
                    topic,
                    partition,
                    source,
                },
                _ => OpenLogError::NoSpace { topic, partition },
            },
        }
    }

    fn recover(&self, recorded: RecordedEnd, now: Timestamp) -> Result<RecoveryReport, PlanError> {
        let source = Source::new(recorded, self.directory.started_clean);
        self.complete_swaps()?;
        let plan = Plan::make(&self.surroundings(now), &source)?;
        let loaded = self.load_epochs(&plan)?;
        let (epochs, epochs_rebuilt, epochs_changed) = loaded;
        let mut state = self.state();
        let mut report = RecoveryReport {
            created: plan.created,
            recorded_end: match recorded {
                RecordedEnd::Known(recorded) => Some(recorded.end),
                RecordedEnd::Nothing | RecordedEnd::Unknown => None,
            },
            records_lost: recorded == RecordedEnd::Unknown,
            end: plan.end,
            damage: plan.damage.clone(),
            epochs_rebuilt,
            ..RecoveryReport::default()
        };
        let log_start = source.log_start.max(plan.local_start).min(plan.end);
        // The start of a tiered log may lie below what is here.
        let tiered =
            matches!(recorded, RecordedEnd::Known(known) if known.log_start < plan.local_start);
        let names = self.open_names()?;
        self.carry_out(plan, &mut state, &mut report)?;
        state.log_start = if tiered { source.log_start } else { log_start };
        // A batch may straddle the log start, and its epoch is asked for by its base.
        let known_start = state.log_start.min(state.local_start);
        state.synced_end = source.trusted_end.clamp(state.local_start, state.end);
        state.files_end = state.synced_end;
        state.required_end = source.required_end;
        state.epochs = epochs;
        state.epochs_unsaved = epochs_changed | state.epochs.forget_before(known_start);
        state.seen_epoch = source.seen_epoch;
        let anything = report.created
            || report.rewritten_bytes > 0
            || report.truncated_bytes > 0
            || report.removed_segments > 0
            || state.synced_end < state.end
            || state.names_unsynced
            || !state.unsynced.is_empty()
            || state.epochs_unsaved;
        if anything {
            self.queue_locked(&mut state);
        }
        drop(state);
        if report.truncated_bytes > 0 || report.removed_segments > 0 {
            // Before the next append: or another crash brings back what was cut off, behind what
            // was written in its place.
            self.sync_cut(names.as_ref())
                .map_err(|error| PlanError::Io(io::Error::other(error)))?;
        }
        Ok(report)
    }

    pub(super) fn surroundings(&self, now: Timestamp) -> Surroundings<'_> {
        let state = self.state();
        Surroundings {
            disk: self.directory.disk.as_ref(),
            files: &self.directory.files,
            path: &self.path,
            id: self.id,
            index_interval_bytes: state.config.index_interval_bytes,
            now,
        }
    }

    /// The leader epochs up to the end of the plan, whether the checkpoint was of no use, and whether
    /// it says anything else.
    fn load_epochs(&self, plan: &Plan) -> Result<(LeaderEpochs, bool, bool), PlanError> {
        let loaded = read_epochs(self.directory.disk.as_ref(), &self.path)?;
        let empty = plan.end == plan.local_start;
        let rebuilt = loaded.is_none() && !empty;
        let saved = loaded.clone();
        let mut epochs = match loaded {
            Some(epochs) => epochs,
            None if empty => LeaderEpochs::default(),
            None => LeaderEpochs::new(plan.epochs_of_all(&self.surroundings(plan.now))?),
        };
        epochs.truncate_from(plan.end);
        for &(epoch, start) in &plan.epochs {
            epochs.begin(epoch, start);
        }
        let changed = saved.as_ref() != Some(&epochs);
        Ok((epochs, rebuilt, changed))
    }

    /// Does what a plan says, and takes over what it found. Nothing is synced: what was touched is
    /// among the unsynced.
    pub(super) fn carry_out(
        &self,
        plan: Plan,
        state: &mut State,
        report: &mut RecoveryReport,
    ) -> io::Result<()> {
        let mut unsynced: BTreeMap<(Offset, FileKind), Arc<dyn DiskFile>> = BTreeMap::new();
        for base in &plan.remove_segments {
            let length = self
                .directory
                .disk
                .len(&self.file_path(*base, FileKind::Log))?;
            report.truncated_bytes += length.unwrap_or(0);
            report.removed_segments += 1;
        }
        for (base, kind) in &plan.remove_files {
            self.remove_segment_file(*base, *kind)?;
        }
        for base in &plan.remove_segments {
            self.remove_segment(*base)?;
        }
        for name in &plan.remove_others {
            self.directory.remove_if_there(&self.path.join(name))?;
        }
        let mut snapshots = plan.snapshots;
        snapshots.retain(|at| *at <= plan.end);
        for (offset, bytes) in &plan.write_snapshots {
            let file = self.create(*offset, FileKind::Snapshot)?;
            file.truncate(0)?;
            file.write_all_at(0, bytes)?;
            unsynced.insert((*offset, FileKind::Snapshot), file);
            snapshots.push(*offset);
        }
        snapshots.sort();
        snapshots.dedup();
        let mut active = plan.active;
        for segment in plan.scanned {
            report.scanned_bytes += segment.scanned_bytes;
            let base = segment.base;
            let file = self.create(base, FileKind::Log)?;
            let length = file.len()?;
            if length > segment.bytes {
                report.truncated_bytes += length - segment.bytes;
                file.truncate(segment.bytes)?;
            }
            if let Some(from) = segment.rewrite_from {
                rewrite(file.as_ref(), from, segment.bytes)?;
                report.rewritten_bytes += segment.bytes - from;
            }
            if plan.unproven {
                unsynced.insert((base, FileKind::Log), file);
            }
            self.write_aborted(base, segment.aborted_kept, &segment.aborted, &mut unsynced)?;
            let is_active = segment.indexes.is_none();
            let (offsets, times) = segment
                .indexes
                .unwrap_or_else(|| (active.offset_index.clone(), active.time_index.clone()));
            let kinds = [
                (FileKind::OffsetIndex, OffsetEntry::BYTES, offsets.on_disk()),
                (FileKind::TimeIndex, TimeEntry::BYTES, times.on_disk()),
            ];
            for (kind, entry_bytes, entries) in kinds {
                let good_bytes = u64::from(entries) * entry_bytes as u64;
                let mut tail = Vec::new();
                if !is_active {
                    match kind {
                        FileKind::OffsetIndex => offsets.put_tail(&mut tail),
                        _ => times.put_tail(&mut tail),
                    }
                }
                let changed = self.mend_index(base, kind, good_bytes, &tail)?;
                if changed
                    || (plan.unproven && self.directory.disk.exists(&self.file_path(base, kind))?)
                {
                    unsynced.insert((base, kind), self.create(base, kind)?);
                }
            }
        }
        if plan.created {
            let file = self.create(active.base, FileKind::Log)?;
            file.truncate(0)?;
            unsynced.insert((active.base, FileKind::Log), file);
            self.directory
                .names_unsynced
                .store(true, std::sync::atomic::Ordering::SeqCst);
        }
        if plan.unproven {
            active.file = Some(self.create(active.base, FileKind::Log)?);
        }
        active.allocated = active.bytes;
        active.covered_bytes = active.bytes;
        active.unsynced = unsynced.contains_key(&(active.base, FileKind::Log));
        state.names_unsynced |= plan.unproven
            || !unsynced.is_empty()
            || !plan.remove_segments.is_empty()
            || !plan.remove_files.is_empty()
            || !plan.remove_others.is_empty();
        state.raise_generation();
        state.sealed = plan.sealed;
        state.active = active;
        state.producers = plan.producers;
        state.snapshots = snapshots;
        state.bytes_since_checkpoint = plan.bytes_since_checkpoint;
        state.local_start = plan.local_start;
        state.end = plan.end;
        state.compacted_end = plan.compacted_end.min(plan.end);
        state.unsynced.extend(unsynced);
        Ok(())
    }

    pub(super) fn create(&self, base: Offset, kind: FileKind) -> io::Result<Arc<dyn DiskFile>> {
        self.directory
            .files
            .create(&self.path, (self.id, base, kind))
    }

    fn file_path(&self, base: Offset, kind: FileKind) -> std::path::PathBuf {
        self.path.join(segment_file(base, kind))
    }

    /// Makes an index hold what is good of it and then `tail`. Whether it had to be changed.
    fn mend_index(
        &self,
        base: Offset,
        kind: FileKind,
        good_bytes: u64,
        tail: &[u8],
    ) -> io::Result<bool> {
        let there = self.directory.disk.len(&self.file_path(base, kind))?;
        if there.is_none() && tail.is_empty() {
            return Ok(false);
        }
        let file = self.create(base, kind)?;
        if there == Some(good_bytes + tail.len() as u64) {
            let mut found = Vec::new();
            file.read_at(good_bytes, tail.len(), &mut found)?;
            if found == tail {
                return Ok(false);
            }
        }
        file.truncate(good_bytes)?;
        file.write_all_at(good_bytes, tail)?;
        Ok(true)
    }

    /// Writes the transaction index of a scanned segment: what was good, then what was found.
    fn write_aborted(
        &self,
        base: Offset,
        kept: u64,
        aborted: &[AbortedTransaction],
        unsynced: &mut BTreeMap<(Offset, FileKind), Arc<dyn DiskFile>>,
    ) -> io::Result<()> {
        let there = self
            .directory
            .disk
            .exists(&self.file_path(base, FileKind::TransactionIndex))?;
        if !there && aborted.is_empty() {
            return Ok(());
        }
        let file = self.create(base, FileKind::TransactionIndex)?;
        let mut bytes = Vec::new();
        for one in aborted {
            one.put(&mut bytes);
        }
        let kept_bytes = kept * AbortedTransaction::BYTES as u64;
        if file.len()? > kept_bytes || !bytes.is_empty() {
            file.truncate(kept_bytes)?;
            file.write_all_at(kept_bytes, &bytes)?;
            unsynced.insert((base, FileKind::TransactionIndex), file);
        }
        Ok(())
    }
}

/// Writes bytes again where they stand.
fn rewrite(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    const CHUNK_BYTES: usize = 1 << 20;
    let mut position = from;
    while position < to {
        let left = usize::try_from(to - position).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        file.read_at(position, left.min(CHUNK_BYTES), &mut bytes)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all_at(position, &bytes)?;
        position += bytes.len() as u64;
    }
    Ok(())
}

/// What the records say, as a plan needs it.
impl Source {
    pub(super) fn new(recorded: RecordedEnd, all_synced: bool) -> Source {
        let known = match recorded {
            RecordedEnd::Known(recorded) => recorded,
            RecordedEnd::Nothing | RecordedEnd::Unknown => Recorded::NOTHING,
        };
        Source {
            trusted_end: known.end,
            required_end: known.end.max(known.journaled_end),
            records_lost: recorded == RecordedEnd::Unknown,
            all_synced,
            local_start: known.local_start,
            log_start: known.log_start,
            seen_epoch: known.epoch,
            limit: Offset::MAX,
            compacted_end: known.compacted_end,
        }
    }
}

/// The name of a path's last part, for files that have no other.
pub(super) fn is_temporary(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| {
        ["tmp", "cleaned", "swap", "deleted"]
            .iter()
            .any(|known| extension == *known)
    })
}

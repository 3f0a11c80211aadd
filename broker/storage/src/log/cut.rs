//! Setting the end back, starting anew, and letting go of the front (P6, P8).
//!
//! Whatever sets an end back records the new end first, durably; then it cuts, and syncs the cut
//! before the next append. Whatever removes the front records the new start first. Appends are
//! refused meanwhile.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};

use esker_protocol::{LeaderEpoch, Offset, Timestamp};

use super::Log;
use super::plan::{Plan, Source};
use super::recovery::{PlanError, RecoveryReport};
use super::state::{SegmentInfo, State};
use crate::directory::STRAY;
use crate::directory::durable_ends::Recorded;
use crate::directory::names::FileKind;
use crate::disk::FileSystem;
use crate::error::{ChangeError, ReadError};
use crate::leader_epochs::LeaderEpochs;
use crate::lock::lock;
use crate::producers::{ProducerSnapshot, Producers};
use crate::segment::Active;

/// What becomes of the segments when a log begins anew.
#[derive(Debug, Clone, Copy)]
enum Old {
    Goes,
    SetAside,
}

impl Log {
    /// Cuts the log at `end`, or at the border of the batch that holds it. Returns the end now.
    pub fn truncate_to(&self, end: Offset) -> Result<Offset, ChangeError> {
        self.directory.remove_clean_marker()?;
        let _one_at_a_time = lock(&self.maintenance);
        let source = {
            let mut state = self.state();
            if self.refuses(&state) {
                return Err(ChangeError::Offline);
            }
            if end >= state.end {
                return Ok(state.end);
            }
            if end < state.local_start {
                let (start, end_now) = (state.local_start, state.end);
                return Err(ChangeError::OutOfRange {
                    offset: end,
                    start,
                    end: end_now,
                });
            }
            // The plan reads the indexes from their files.
            let flushed = self.flush_indexes(&mut state, false);
            self.directory.judge(flushed)?;
            self.begin_cut(&mut state);
            Source {
                // This process wrote every snapshot below it.
                trusted_end: end,
                required_end: end,
                records_lost: false,
                all_synced: true,
                local_start: state.local_start,
                log_start: state.log_start,
                seen_epoch: state.latest_epoch(),
                limit: end,
                compacted_end: state.compacted_end,
            }
        };
        let cut = self.cut(&source);
        self.end_cut(cut)
    }

    fn begin_cut(&self, state: &mut MutexGuard<'_, State>) {
        state.cutting = true;
        state.raise_generation();
    }

    /// Takes the log back into service, unless the directory failed, which keeps it out.
    fn end_cut<T>(&self, result: Result<T, ChangeError>) -> Result<T, ChangeError> {
        let mut state = self.state();
        state.cutting = false;
        state.raise_generation();
        self.queue_locked(&mut state);
        result
    }

    fn cut(&self, source: &Source) -> Result<Offset, ChangeError> {
        let now = self.state().active.created;
        let plan = Plan::make(&self.surroundings(now), source);
        let plan = plan.map_err(|error| match error {
            PlanError::Damage(damage) => ReadError::Damaged(damage),
            PlanError::Io(error) => ReadError::from(error),
        })?;
        let end = plan.end;
        let names = self.directory.judge(self.open_names())?;
        // From the record on, the journal's bytes of this log are void.
        self.settle_segments()?;
        let recorded = {
            let state = self.state();
            Recorded {
                end: state.files_end.min(end),
                journaled_end: state.synced_end.max(state.required_end).min(end),
                log_start: state.log_start.min(end),
                compacted_end: state.compacted_end.min(end),
                ..Log::recorded(&state)
            }
        };
        self.directory.record_now(self.key(), recorded)?;
        let carried = {
            let mut state = self.state();
            state.unsynced.retain(|(base, _), _| *base <= end);
            let carried = self.carry_out(plan, &mut state, &mut RecoveryReport::default());
            state.synced_end = state.synced_end.min(end);
            state.files_end = state.files_end.min(end);
            state.required_end = state.required_end.max(state.synced_end).min(end);
            state.log_start = state.log_start.min(end);
            if state.epochs.truncate_from(end) {
                state.epochs_unsaved = true;
            }
            carried
        };
        carried.map_err(|error| self.directory.fail(error))?;
        self.sync_cut(names.as_ref())?;
        Ok(end)
    }

    /// Opens what syncs the names in the log's directory: before a cut, when the want of a descriptor
    /// can still be answered.
    pub(super) fn open_names(&self) -> io::Result<Arc<dyn FileSystem>> {
        self.directory.disk.open_file_system(&self.path)
    }

    /// Syncs a cut: epochs, files, names.
    pub(super) fn sync_cut(&self, names: &dyn FileSystem) -> Result<(), ChangeError> {
        if self.state().epochs_unsaved {
            self.save_epochs_locked()
                .map_err(|failure| self.directory.fail_with(failure))?;
        }
        let files: Vec<_> = {
            let mut state = self.state();
            state.active.unsynced = false;
            state.names_unsynced = false;
            std::mem::take(&mut state.unsynced).into_values().collect()
        };
        let synced = files
            .iter()
            .try_for_each(|file| file.sync_data())
            .and_then(|()| names.sync_names());
        synced.map_err(|error| self.directory.fail(error))?;
        Ok(())
    }

    /// Drops everything and begins anew at `start`, with the given lineage and producers (P8): for a
    /// log that is shorter than the tier. The log start stays if it is below: what lies between is in
    /// the tier.
    pub fn restart_at(
        &self,
        start: Offset,
        epochs: Vec<(LeaderEpoch, Offset)>,
        producers: &ProducerSnapshot,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        self.start_over(start, epochs, producers, now, Old::Goes)?;
        Ok(())
    }

    /// The same for a log that disagrees with the tier: nothing of it is lost, but its directory is
    /// renamed away as a stray one, and a new one takes its place (P8). Returns where the old one is.
    pub fn set_aside_and_restart_at(
        &self,
        start: Offset,
        epochs: Vec<(LeaderEpoch, Offset)>,
        producers: &ProducerSnapshot,
        now: Timestamp,
    ) -> Result<PathBuf, ChangeError> {
        let aside = self.start_over(start, epochs, producers, now, Old::SetAside)?;
        Ok(aside.unwrap_or_else(|| self.path.clone()))
    }

    fn start_over(
        &self,
        start: Offset,
        epochs: Vec<(LeaderEpoch, Offset)>,
        producers: &ProducerSnapshot,
        now: Timestamp,
        old: Old,
    ) -> Result<Option<PathBuf>, ChangeError> {
        self.directory.remove_clean_marker()?;
        let _one_at_a_time = lock(&self.maintenance);
        let mut epochs = LeaderEpochs::new(epochs);
        epochs.truncate_from(start);
        let recorded = {
            let mut state = self.state();
            if self.refuses(&state) {
                return Err(ChangeError::Offline);
            }
            self.begin_cut(&mut state);
            Recorded {
                epoch: state
                    .seen_epoch
                    .max(epochs.latest())
                    .max(state.epochs.latest()),
                end: start,
                log_start: state.log_start.min(start),
                local_start: start,
                ..Recorded::NOTHING
            }
        };
        let restarted = self.restart(recorded, epochs, producers, now, old);
        self.end_cut(restarted)
    }

    fn restart(
        &self,
        recorded: Recorded,
        epochs: LeaderEpochs,
        producers: &ProducerSnapshot,
        now: Timestamp,
        old: Old,
    ) -> Result<Option<PathBuf>, ChangeError> {
        let start = recorded.end;
        let mut names = self.directory.judge(self.open_names())?;
        let first = match old {
            Old::Goes => recorded,
            // Until another directory is there, nothing is known of the log: whatever a crash leaves,
            // the old one whole or none, is begun anew once more.
            Old::SetAside => {
                // From the record on, the journal's bytes of this log are void.
                self.settle_segments()?;
                let local_start = self.state().local_start;
                Recorded {
                    end: local_start,
                    local_start,
                    ..recorded
                }
            }
        };
        self.directory.record_now(self.key(), first)?;
        let begun = {
            let mut state = self.state();
            state.seen_epoch = recorded.epoch;
            state.unsynced.clear();
            let bases: Vec<Offset> = state
                .segments()
                .iter()
                .map(|segment| segment.base)
                .collect();
            let snapshots = std::mem::take(&mut state.snapshots);
            state.sealed.clear();
            state.active = Active::new(start, now, 0);
            state.producers = Producers::from_snapshot(producers);
            state.epochs = epochs;
            state.epochs_unsaved = true;
            state.log_start = recorded.log_start;
            state.local_start = start;
            state.compacted_end = Offset::ZERO;
            state.synced_end = start;
            state.files_end = start;
            state.required_end = start;
            state.end = start;
            let cleared = match old {
                Old::Goes => bases
                    .into_iter()
                    .try_for_each(|base| self.remove_segment(base))
                    .and_then(|()| {
                        snapshots
                            .into_iter()
                            .try_for_each(|at| self.remove_segment_file(at, FileKind::Snapshot))
                    })
                    .map(|()| None),
                Old::SetAside => self.replace_directory().map(|(aside, of_new)| {
                    names = of_new;
                    Some(aside)
                }),
            };
            cleared.and_then(|aside| {
                self.begin_anew(&mut state, start)?;
                Ok(aside)
            })
        };
        let aside = begun.map_err(|error| self.directory.fail(error))?;
        self.sync_cut(names.as_ref())?;
        if aside.is_some() {
            let synced = self.directory.file_system.sync_names();
            synced.map_err(|error| self.directory.fail(error))?;
            let kept = self.directory.record_now(self.key(), recorded);
            kept.map_err(|failure| self.directory.fail_with(failure))?;
        }
        Ok(aside)
    }

    /// Renames the directory away, durably, and makes another of its name.
    fn replace_directory(&self) -> io::Result<(PathBuf, Arc<dyn FileSystem>)> {
        let aside = self.directory.set_aside(&self.name, &self.path, STRAY)?;
        // Only now: until then a reader could open, and keep, what had the name.
        self.directory.files.forget_log(self.id);
        self.directory.make_log_directory(&self.name, &self.path)?;
        Ok((aside, self.open_names()?))
    }

    fn begin_anew(&self, state: &mut State, start: Offset) -> io::Result<()> {
        let file = self.create(start, FileKind::Log)?;
        state.unsynced.insert((start, FileKind::Log), file.clone());
        state.active.file = Some(file);
        self.write_snapshot(state, start)
    }

    /// Moves the log start forward; it never moves back. It is durable after the next commit round,
    /// and only then may anything below it be deleted.
    pub fn advance_start(&self, to: Offset) -> Result<Offset, ChangeError> {
        let mut state = self.state();
        if state.closed {
            return Err(ChangeError::Offline);
        }
        if to > state.end {
            let (start, end) = (state.log_start, state.end);
            return Err(ChangeError::OutOfRange {
                offset: to,
                start,
                end,
            });
        }
        if to > state.log_start {
            // Its epochs stay until the new start is on the disk: a crash may undo the move.
            state.log_start = to;
            state.front_unrecorded = true;
            self.queue_locked(&mut state);
        }
        Ok(state.log_start)
    }

    /// Moves the log start forward as [`Log::advance_start`] does, and returns when that is on the
    /// disk: no crash undoes it.
    pub fn advance_start_durably(&self, to: Offset) -> Result<Offset, ChangeError> {
        let _one_at_a_time = lock(&self.maintenance);
        let start = self.advance_start(to)?;
        let recorded = Log::recorded(&self.state());
        self.directory.record_front(self.key(), recorded)?;
        Ok(start)
    }

    /// Removes the sealed segments that end at or below `floor`. Leader epochs are saved and the new
    /// local start is recorded before they go.
    pub fn delete_local_below(&self, floor: Offset) -> Result<Vec<SegmentInfo>, ChangeError> {
        let _one_at_a_time = lock(&self.maintenance);
        let (going, local_start) = {
            let state = self.state();
            if self.refuses(&state) {
                return Err(ChangeError::Offline);
            }
            // What is not durable yet is not let go: its end is not recorded.
            let floor = floor.min(state.files_end);
            let count = state.sealed.partition_point(|segment| segment.end <= floor);
            let going: Vec<SegmentInfo> = state.segments().into_iter().take(count).collect();
            let Some(last) = going.last() else {
                return Ok(Vec::new());
            };
            let local_start = last.end;
            (going, local_start)
        };
        self.save_epochs_now()?;
        let recorded = {
            let mut state = self.state();
            // A round that publishes from here on says the new start too: the last record counts.
            state.releasing = Some(local_start);
            Log::recorded(&state)
        };
        let kept = self.directory.record_front(self.key(), recorded);
        let removed = {
            let mut state = self.state();
            state.releasing = None;
            kept?;
            state.sealed.retain(|segment| segment.base >= local_start);
            state.local_start = local_start;
            if state
                .epochs
                .forget_before(recorded.log_start.min(local_start))
            {
                state.epochs_unsaved = true;
            }
            let snapshots: Vec<Offset> = state
                .snapshots
                .iter()
                .copied()
                .filter(|at| *at < local_start)
                .collect();
            state.snapshots.retain(|at| *at >= local_start);
            state.unsynced.retain(|(base, _), _| *base >= local_start);
            self.names_changed(&mut state);
            snapshots
        };
        let removed = going
            .iter()
            .try_for_each(|segment| self.remove_segment(segment.base))
            .and_then(|()| {
                removed
                    .iter()
                    .try_for_each(|at| self.remove_segment_file(*at, FileKind::Snapshot))
            });
        self.directory.judge(removed)?;
        Ok(going)
    }

    /// Saves the leader epochs with their directory, if they changed.
    fn save_epochs_now(&self) -> Result<(), ChangeError> {
        if self.state().epochs_unsaved {
            self.save_epochs_locked()?;
        }
        let synced = self.directory.disk.sync_dir(&self.path);
        self.directory.judge(synced)?;
        Ok(())
    }
}

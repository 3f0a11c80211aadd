//! The log's part of a commit round: what it hands over to be synced, and what it takes back.

use std::io;
use std::sync::Arc;

use esker_protocol::Offset;

use super::Log;
use super::state::State;
use crate::config::Durability;
use crate::directory::IoFailure;
use crate::directory::journal::{Range, Room};
use crate::directory::names::{EPOCH_CHECKPOINT, FileKind};
use crate::disk::{DiskFile, replace_file};
use crate::lock::{lock, try_lock};

/// Index entries that are kept in memory over a round; more are written.
const TAIL_ENTRIES_MAX: usize = 64;

/// What a round syncs and then publishes for a log.
#[derive(Debug)]
pub(crate) struct Capture {
    generation: u64,
    pub(crate) end: Offset,
    /// Held open until the sync is done.
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    pub(crate) names: bool,
    /// What the journal takes, in place of a sync of the files.
    pub(crate) journal: Option<Range>,
    /// Whether the log is closed, and so handed over nothing.
    pub(crate) is_closed: bool,
    /// The active segment and its bytes.
    active: (Offset, u64),
    /// The last record of the journal before the capture.
    sequence: i64,
}

/// What a log took over of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// Whether its durable end moved.
    pub(crate) end: bool,
    /// Whether its files have everything that they had at the capture.
    pub(crate) files: bool,
}

/// What a log needs of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Room in the journal at most.
    Journal,
    /// A sync of its own files, for records that somebody may wait for.
    Records,
    /// A sync of its own files or names, and no record rests on it.
    Rest,
}

impl Log {
    /// What a round will have to do for the log, as things stand. `room` is what the logs before it
    /// leave of the journal's, `None` where the round does not journal.
    pub(crate) fn need(&self, room: Option<&mut Room>) -> Need {
        let state = self.state();
        let is_journaled = room.is_some_and(|room| {
            journal_range(&state).is_some_and(|range| room.take(range.to - range.from))
        });
        if state.closed || state.cutting || is_journaled {
            Need::Journal
        } else if state.end > state.synced_end {
            Need::Records
        } else {
            Need::Rest
        }
    }

    /// Hands over what has changed since the last round, the written end included: to the journal
    /// where it has room and nothing but the end of the active segment changed, else file by file.
    /// `sequence` is that of the journal's last record.
    pub(crate) fn capture(
        &self,
        room: Option<&mut Room>,
        sequence: i64,
    ) -> Result<Capture, IoFailure> {
        let epochs_saved = self.save_epochs();
        let mut state = self.state();
        if let Err(failure) = epochs_saved {
            state.queued = false;
            return Err(failure);
        }
        let mut capture = Capture {
            generation: state.generation,
            end: state.end,
            files: Vec::new(),
            names: false,
            journal: None,
            is_closed: state.closed,
            active: (state.active.base, state.active.bytes),
            sequence,
        };
        if state.closed || state.cutting {
            // The cut syncs its files itself, before anything is appended, and queues the log again.
            state.queued = false;
            return Ok(capture);
        }
        if let Some(room) = room
            && let Some(range) = journal_range(&state)
            && room.take(range.to - range.from)
        {
            state.queued = false;
            capture.journal = Some(range);
            return Ok(capture);
        }
        match self.checkpoint(&mut state) {
            // Neither is needed to recover: the scan is longer without.
            Err(error) if crate::directory::is_refusal(&error) => {}
            other => self.directory.judge(other)?,
        }
        // Only now: what the checkpoint wrote belongs to this round.
        state.queued = false;
        state.active.unsynced = false;
        capture.files = std::mem::take(&mut state.unsynced).into_values().collect();
        capture.names = std::mem::take(&mut state.names_unsynced);
        Ok(capture)
    }

    /// Writes indexes, and at intervals a snapshot that lets recovery start here.
    fn checkpoint(&self, state: &mut State) -> io::Result<()> {
        let due = is_checkpoint_due(state);
        let tail = state.active.offset_index.tail().len();
        if !state.cutting && (due || tail > TAIL_ENTRIES_MAX) {
            self.flush_indexes(state, false)?;
        }
        if !state.cutting && due {
            let end = state.end;
            self.write_snapshot(state, end)?;
            self.drop_superseded(state, end)?;
        }
        Ok(())
    }

    /// Writes the leader epochs when they changed: they must be durable no later than the batches
    /// that recovery does not read again.
    pub(super) fn save_epochs(&self) -> Result<(), IoFailure> {
        if !self.state().epochs_unsaved {
            return Ok(());
        }
        let _one_at_a_time = lock(&self.maintenance);
        self.save_epochs_locked()
    }

    /// The same, where maintenance is under way already.
    pub(super) fn save_epochs_locked(&self) -> Result<(), IoFailure> {
        let text = {
            let mut state = self.state();
            if state.closed {
                return Ok(());
            }
            state.epochs_unsaved = false;
            state.epochs.encode()
        };
        let path = self.path.join(EPOCH_CHECKPOINT);
        let written = replace_file(self.directory.disk.as_ref(), &path, text.as_bytes());
        let mut state = self.state();
        match written {
            Ok(_) => {
                self.names_changed(&mut state);
                Ok(())
            }
            // Deleted meanwhile: its directory has another name.
            Err(error) if state.closed && error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                state.epochs_unsaved = true;
                drop(state);
                self.directory.judge(Err(error))
            }
        }
    }

    /// Takes back a capture whose names could not be synced; a later round tries again. Its files
    /// have been synced.
    pub(crate) fn give_back(&self, capture: &Capture) {
        let mut state = self.state();
        state.names_unsynced |= capture.names;
    }

    /// Whether the log is still what a capture saw: neither closed, cut nor begun anew since.
    pub(crate) fn is_captured(&self, capture: &Capture) -> bool {
        let state = self.state();
        !state.closed && !state.cutting && state.generation == capture.generation
    }

    /// Keeps cuts, deletions and checkpoints of this log waiting while it is held.
    pub(crate) fn hold_maintenance(&self) -> std::sync::MutexGuard<'_, ()> {
        lock(&self.maintenance)
    }

    /// Settles a log that is closed and that nobody takes away at this moment, where it is among the
    /// unsettled still. Whether nothing more is to be done for it.
    pub(crate) fn settle_closed(
        &self,
        is_unsettled: impl FnOnce() -> bool,
    ) -> Result<bool, IoFailure> {
        let Some(_here) = try_lock(&self.maintenance) else {
            return Ok(false);
        };
        if is_unsettled() {
            self.settle_for_good()?;
        }
        Ok(true)
    }

    /// The same as [`Log::settle_segments`], and says so in the next record of ends: for a log that is going.
    pub(crate) fn settle_for_good(&self) -> Result<(), IoFailure> {
        let end = self.settle_segments()?;
        let mut state = self.state();
        state.files_end = state.files_end.max(end);
        let recorded = Log::recorded(&state);
        lock(&self.directory.unrecorded).insert(self.key(), recorded);
        Ok(())
    }

    /// Syncs the segments of which only the journal is known to have everything, outside a round: the
    /// journal is about to say no more of this log. Returns up to where its files have everything now.
    pub(crate) fn settle_segments(&self) -> Result<Offset, IoFailure> {
        let (bases, end): (Vec<Offset>, Offset) = {
            let state = self.state();
            let (from, to) = (state.files_end, state.synced_end);
            let segments = state.segments();
            let unsettled = segments
                .iter()
                .filter(|one| one.end > from && one.base < to);
            (unsettled.map(|one| one.base).collect(), to)
        };
        for base in bases {
            let key = (self.id, base, FileKind::Log);
            let file = self
                .directory
                .judge(self.directory.files.open(&self.path, key))?;
            // A round may be about to sync it; that one's failure fails the directory as well.
            file.sync_data()
                .map_err(|error| IoFailure::Failed(self.directory.fail(error)))?;
        }
        Ok(end)
    }

    /// Takes over what a sync covered, unless the log was cut or closed meanwhile.
    pub(crate) fn publish(&self, capture: &Capture) -> Published {
        let mut state = self.state();
        if state.closed || state.cutting || state.generation != capture.generation {
            return Published::default();
        }
        let mut published = Published {
            end: capture.end > state.synced_end,
            files: false,
        };
        state.synced_end = state.synced_end.max(capture.end);
        let (base, bytes) = capture.active;
        if state.active.base == base {
            state.active.covered_bytes = state.active.covered_bytes.max(bytes);
        }
        if capture.journal.is_some() {
            return published;
        }
        published.files = true;
        published.end |= self.directory.config.durability == Durability::Relaxed;
        state.files_end = state.files_end.max(capture.end);
        state.files_sequence = state.files_sequence.max(capture.sequence);
        state.front_unrecorded = false;
        if !state.active.unsynced && state.end == capture.end {
            // Idle: the file may close.
            state.active.file = None;
        }
        let recorded = Log::recorded(&state);
        lock(&self.directory.unrecorded).insert(self.key(), recorded);
        published
    }
}

fn is_checkpoint_due(state: &State) -> bool {
    state.bytes_since_checkpoint >= state.config.checkpoint_bytes
}

/// What a journal would have to take for all of the log to be durable; `None` where that is more than
/// the end of the active segment.
fn journal_range(state: &State) -> Option<Range> {
    let active = &state.active;
    let only_the_end = !state.cutting
        && !state.names_unsynced
        && !state.epochs_unsaved
        && !state.front_unrecorded
        && !is_checkpoint_due(state)
        && state.unsynced.len() == 1
        && state.unsynced.contains_key(&(active.base, FileKind::Log))
        && state.synced_end >= active.base
        && state.synced_end < state.end
        && active.covered_bytes < active.bytes;
    let file = active.file.as_ref().filter(|_| only_the_end)?;
    Some(Range {
        file: file.clone(),
        segment: active.base,
        from: active.covered_bytes,
        to: active.bytes,
    })
}

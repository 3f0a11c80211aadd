//! The log's part of a commit round: what it hands over to be synced, and what it takes back.

use std::io;
use std::sync::Arc;

use esker_protocol::Offset;

use super::Log;
use super::state::State;
use crate::config::Durability;
use crate::directory::IoFailure;
use crate::directory::names::EPOCH_CHECKPOINT;
use crate::disk::{DiskFile, replace_file};
use crate::lock::lock;

/// Index entries that are kept in memory over a round; more are written.
const TAIL_ENTRIES_MAX: usize = 64;

/// What a round syncs and then publishes for a log.
#[derive(Debug)]
pub(crate) struct Capture {
    generation: u64,
    end: Offset,
    /// Held open until the sync is done.
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    pub(crate) names: bool,
}

impl Log {
    /// Hands over what has changed since the last round, the written end included.
    pub(crate) fn capture(&self) -> Result<Capture, IoFailure> {
        let epochs_saved = self.save_epochs();
        let mut state = self.state();
        if let Err(failure) = epochs_saved {
            state.queued = false;
            return Err(failure);
        }
        if state.closed {
            state.queued = false;
            let (generation, end) = (state.generation, state.end);
            return Ok(Capture {
                generation,
                end,
                files: Vec::new(),
                names: false,
            });
        }
        match self.checkpoint(&mut state) {
            // Neither is needed to recover: the scan is longer without.
            Err(error) if crate::directory::is_refusal(&error) => {}
            other => self.directory.judge(other)?,
        }
        // Only now: what the checkpoint wrote belongs to this round.
        state.queued = false;
        state.active.unsynced = false;
        let files = std::mem::take(&mut state.unsynced).into_values().collect();
        let names = std::mem::take(&mut state.names_unsynced);
        Ok(Capture {
            generation: state.generation,
            end: state.end,
            files,
            names,
        })
    }

    /// Writes indexes, and at intervals a snapshot that lets recovery start here.
    fn checkpoint(&self, state: &mut State) -> io::Result<()> {
        let due = state.bytes_since_checkpoint >= state.config.checkpoint_bytes;
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

    /// Takes over what a sync covered, unless the log was cut or closed meanwhile. Whether the
    /// durable end moved.
    pub(crate) fn publish(&self, capture: &Capture) -> bool {
        let mut state = self.state();
        if state.closed || state.cutting || state.generation != capture.generation {
            return false;
        }
        let moved = capture.end > state.synced_end;
        state.synced_end = state.synced_end.max(capture.end);
        if !state.active.unsynced && state.end == capture.end {
            // Idle: the file may close.
            state.active.file = None;
        }
        let recorded = Log::recorded(&state);
        lock(&self.directory.unrecorded).insert(self.key(), recorded);
        moved || self.directory.config.durability == Durability::Relaxed
    }
}

//! Sealing a segment and beginning the next; snapshots of the producers.

use std::io;
use std::sync::Arc;

use esker_protocol::{Offset, Timestamp};

use super::Log;
use super::state::State;
use crate::directory::IoFailure;
use crate::directory::names::FileKind;
use crate::disk::DiskFile;
use crate::entry_file::Entry as _;
use crate::index::AbortedTransaction;
use crate::segment::Active;

impl Log {
    /// Seals the active segment and begins the next at `base`. After an error nothing has changed
    /// but files that the next attempt overwrites.
    pub(super) fn roll(&self, state: &mut State, base: Offset, now: Timestamp) -> io::Result<()> {
        let indexes = (
            state.active.offset_index.clone(),
            state.active.time_index.clone(),
        );
        let rolled = self.try_roll(state, base, now);
        if rolled.is_err() {
            (state.active.offset_index, state.active.time_index) = indexes;
        }
        rolled
    }

    fn try_roll(&self, state: &mut State, base: Offset, now: Timestamp) -> io::Result<()> {
        let sealed_base = state.active.base;
        state.active.note_time();
        self.flush_indexes(state, true)?;
        let file = self
            .directory
            .files
            .create(&self.path, (self.id, sealed_base, FileKind::Log))?;
        if state.active.allocated > state.active.bytes {
            file.truncate(state.active.bytes)?;
            state.active.allocated = state.active.bytes;
        }
        // The cut is a change of the file, though it moves no byte.
        state.unsynced.insert((sealed_base, FileKind::Log), file);
        self.write_snapshot(state, base)?;
        let next = (self.id, base, FileKind::Log);
        let next_file = self.directory.files.create(&self.path, next)?;
        if !next_file.is_empty()? {
            // Left by an attempt of which the log knows nothing.
            next_file.truncate(0)?;
        }
        let sealed = state.active.sealed(base);
        let step = state.active.step;
        state.sealed.push(sealed);
        state.active = Active::new(base, now, step);
        state.active.file = Some(next_file);
        self.names_changed(state);
        Ok(())
    }

    /// Writes what the indexes hold in memory behind what is on disk.
    pub(super) fn flush_indexes(&self, state: &mut State, even_if_empty: bool) -> io::Result<()> {
        let base = state.active.base;
        if even_if_empty || !state.active.offset_index.tail().is_empty() {
            let file = self.index_file(state, base, FileKind::OffsetIndex)?;
            state.active.offset_index.flush(file.as_ref())?;
        }
        if even_if_empty || !state.active.time_index.tail().is_empty() {
            let file = self.index_file(state, base, FileKind::TimeIndex)?;
            state.active.time_index.flush(file.as_ref())?;
        }
        Ok(())
    }

    /// A file beside the log that is about to be written, and so waits for a sync.
    pub(super) fn index_file(
        &self,
        state: &mut State,
        base: Offset,
        kind: FileKind,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let file = self
            .directory
            .files
            .create(&self.path, (self.id, base, kind))?;
        state.unsynced.insert((base, kind), file.clone());
        self.names_changed(state);
        Ok(file)
    }

    /// Writes the producers as of `offset`, which is the written end.
    pub(super) fn write_snapshot(&self, state: &mut State, offset: Offset) -> io::Result<()> {
        let bytes = state.producers.snapshot().encode();
        let file = self.index_file(state, offset, FileKind::Snapshot)?;
        file.truncate(0)?;
        file.write_all_at(0, &bytes)?;
        state.note_snapshot(offset);
        Ok(())
    }

    /// Removes snapshots inside segments that newer ones have replaced.
    pub(super) fn drop_superseded(&self, state: &mut State, offset: Offset) -> io::Result<()> {
        for old in state.superseded_snapshots(offset) {
            self.remove_segment_file(old, FileKind::Snapshot)?;
            state.unsynced.remove(&(old, FileKind::Snapshot));
            state.snapshots.retain(|at| *at != old);
            self.names_changed(state);
        }
        Ok(())
    }

    /// Appends to the transaction index of the active segment.
    pub(super) fn append_aborted(
        &self,
        state: &mut State,
        index: Option<Arc<dyn DiskFile>>,
        aborted: &AbortedTransaction,
    ) -> io::Result<()> {
        let base = state.active.base;
        let file = match index {
            Some(file) => file,
            None => self.index_file(state, base, FileKind::TransactionIndex)?,
        };
        let mut bytes = Vec::with_capacity(AbortedTransaction::BYTES);
        aborted.put(&mut bytes);
        file.write_all_at(file.len()?, &bytes)?;
        state.active.has_aborted = true;
        Ok(())
    }

    /// Removes a file of a segment, if it is there.
    pub(super) fn remove_segment_file(&self, base: Offset, kind: FileKind) -> io::Result<()> {
        self.directory.files.forget((self.id, base, kind));
        let name = crate::directory::names::segment_file(base, kind);
        let removed = self.directory.remove_if_there(&self.path.join(name));
        // A reader may have opened it again meanwhile.
        self.directory.files.forget((self.id, base, kind));
        removed
    }

    /// Removes all files of a segment.
    pub(super) fn remove_segment(&self, base: Offset) -> io::Result<()> {
        FileKind::ALL
            .into_iter()
            .try_for_each(|kind| self.remove_segment_file(base, kind))
    }

    /// The last step before a clean stop: gives back space taken ahead, and writes what recovery
    /// would otherwise compute.
    pub(crate) fn finish(&self) -> Result<(), IoFailure> {
        let mut state = self.state();
        if state.closed || state.poisoned.is_some() || !self.is_stopping() {
            return Ok(());
        }
        let finished = self.finish_locked(&mut state);
        self.directory.judge(finished)
    }

    fn finish_locked(&self, state: &mut State) -> io::Result<()> {
        if state.active.allocated > state.active.bytes {
            let key = (self.id, state.active.base, FileKind::Log);
            let file = self.directory.files.create(&self.path, key)?;
            file.truncate(state.active.bytes)?;
            state.active.allocated = state.active.bytes;
        }
        self.flush_indexes(state, false)?;
        let end = state.end;
        if state.bytes_since_checkpoint > 0 {
            self.write_snapshot(state, end)?;
            self.drop_superseded(state, end)?;
        }
        Ok(())
    }
}

//! Appending, as leader and as follower.

use std::io::{self, IoSlice};
use std::sync::Arc;

use esker_protocol::records::{Batch, BatchHeader, EndTransactionMarker, ProducedBatch, stamp};
use esker_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::Log;
use super::state::State;
use crate::config::LogConfig;
use crate::directory::names::FileKind;
use crate::disk::DiskFile;
use crate::error::AppendError;
use crate::index::AbortedTransaction;
use crate::producers::{Verdict, marker_of};
use crate::segment::Placed;

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record, of the first append when this one is a duplicate.
    pub base_offset: Offset,
    /// The end of the batch: what must be durable and committed before it is acknowledged (P5).
    pub end: Offset,
    /// What a produce answers as log append time: the leader's clock where the topic has it so, and
    /// the timestamp of the original for a duplicate.
    pub log_append_time: Option<Timestamp>,
    /// Whether the batch was in the log before.
    pub duplicate: bool,
    /// Log start at the time.
    pub log_start_offset: Offset,
    /// Whether a segment was sealed by the way.
    pub rolled: bool,
}

impl Log {
    /// Appends a batch of a producer: gives it offset and epoch, and writes header and records in
    /// one go. A batch that was appended before is answered as it was then.
    pub fn append_as_leader(
        &self,
        batch: &ProducedBatch,
        epoch: LeaderEpoch,
        now: Timestamp,
        log_append_time: bool,
    ) -> Result<Appended, AppendError> {
        let mut state = self.state();
        self.check_leading(&state, epoch)?;
        if let Verdict::Duplicate(original) = state.producers.check(&batch.header)? {
            return Ok(Appended {
                base_offset: original.base_offset(),
                end: original.last_offset + 1,
                log_append_time: Some(original.timestamp),
                duplicate: true,
                log_start_offset: state.log_start,
                rolled: false,
            });
        }
        let append_time = log_append_time.then_some(now);
        let base_offset = state.end;
        let payload = batch.bytes.get(BatchHeader::BYTES..).unwrap_or_default();
        let stamped = stamp(&batch.header, payload, base_offset, epoch, append_time);
        let header = BatchHeader::parse(&stamped)?;
        let rolled = self.make_room(&mut state, &header, now)?;
        let mut slices = [IoSlice::new(&stamped), IoSlice::new(payload)];
        self.write(&mut state, &header, &mut slices)?;
        state.producers.apply(&header);
        let log_start_offset = state.log_start;
        Ok(Appended {
            base_offset,
            end: state.end,
            log_append_time: append_time,
            duplicate: false,
            log_start_offset,
            rolled,
        })
    }

    /// Appends the marker that ends a producer's transaction here.
    pub fn append_marker(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        marker: EndTransactionMarker,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let mut state = self.state();
        self.check_leading(&state, epoch)?;
        state
            .producers
            .check_marker(producer_id, producer_epoch, &marker)?;
        let base_offset = state.end;
        let bytes = marker.to_batch(producer_id, producer_epoch, now, base_offset, epoch);
        let header = BatchHeader::parse(&bytes)?;
        let rolled = self.make_room(&mut state, &header, now)?;
        let index = self.index_of_aborted(&mut state, producer_id, &marker)?;
        self.write(&mut state, &header, &mut [IoSlice::new(&bytes)])?;
        if let Some(aborted) = state.producers.apply_marker(&header, &marker) {
            self.note_aborted(&mut state, index, &aborted)?;
        }
        let log_start_offset = state.log_start;
        Ok(Appended {
            base_offset,
            end: state.end,
            log_append_time: None,
            duplicate: false,
            log_start_offset,
            rolled,
        })
    }

    /// Appends batches of a leader as they are. They must be whole, intact, contiguous with the log
    /// and among themselves, and of epochs that do not fall. What stands before a batch that is
    /// refused has been appended.
    pub fn append_as_follower(
        &self,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        self.directory.remove_clean_marker()?;
        let mut state = self.state();
        self.check_writable(&state)?;
        let base_offset = state.end;
        let mut rolled = false;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (batch, after) = Batch::parse(rest)?;
            rest = after;
            rolled |= self.append_verbatim(&mut state, &batch, now)?;
        }
        let log_start_offset = state.log_start;
        Ok(Appended {
            base_offset,
            end: state.end,
            log_append_time: None,
            duplicate: false,
            log_start_offset,
            rolled,
        })
    }

    fn append_verbatim(
        &self,
        state: &mut State,
        batch: &Batch<'_>,
        now: Timestamp,
    ) -> Result<bool, AppendError> {
        let header = batch.header();
        if header.base_offset != state.end {
            return Err(AppendError::NotContiguous {
                given: header.base_offset,
                expected: state.end,
            });
        }
        if !batch.crc_is_valid() {
            return Err(AppendError::Corrupt(header.base_offset));
        }
        let (given, latest) = (header.partition_leader_epoch, state.epochs.latest());
        if given < latest {
            return Err(AppendError::EpochWentBack { given, latest });
        }
        let rolled = self.make_room(state, header, now)?;
        let is_control = header.attributes.is_control();
        let marker = is_control.then(|| marker_of(batch)).flatten();
        let index = match &marker {
            Some(marker) => self.index_of_aborted(state, header.producer_id, marker)?,
            None => None,
        };
        self.write(state, header, &mut [IoSlice::new(batch.bytes())])?;
        match marker {
            None => state.producers.apply(header),
            Some(marker) => {
                if let Some(aborted) = state.producers.apply_marker(header, &marker) {
                    self.note_aborted(state, index, &aborted)?;
                }
            }
        }
        Ok(rolled)
    }

    fn check_leading(&self, state: &State, epoch: LeaderEpoch) -> Result<(), AppendError> {
        self.check_writable(state)?;
        match state.leading {
            Some(current) if current == epoch => Ok(()),
            current => Err(AppendError::Fenced {
                given: epoch,
                current: current.unwrap_or(LeaderEpoch::NONE),
            }),
        }
    }

    fn check_writable(&self, state: &State) -> Result<(), AppendError> {
        if let Some(poison) = &state.poisoned {
            return Err(AppendError::Poisoned(poison.clone()));
        }
        if self.refuses(state) {
            Err(AppendError::Offline)
        } else {
            Ok(())
        }
    }

    /// Rolls when the batch belongs into the next segment. Whether it did.
    fn make_room(
        &self,
        state: &mut State,
        header: &BatchHeader,
        now: Timestamp,
    ) -> Result<bool, AppendError> {
        let placed = placed(header);
        check_size(placed.bytes, &state.config)?;
        if !state
            .active
            .must_roll(placed, state.active.bytes, &state.config, now)
        {
            return Ok(false);
        }
        let rolled = self.roll(state, header.base_offset, now);
        self.directory.judge(rolled)?;
        Ok(true)
    }

    /// Takes space and writes a batch at the end of the active segment, then counts it. A write that
    /// fails is taken back under the same lock.
    fn write(
        &self,
        state: &mut State,
        header: &BatchHeader,
        slices: &mut [IoSlice<'_>],
    ) -> Result<(), AppendError> {
        let placed = placed(header);
        let position = state.active.bytes;
        let file = self.directory.judge(self.active_file(state))?;
        let space = self.reserve(state, position + placed.bytes);
        self.directory.judge(space)?;
        if let Err(error) = file.write_all_vectored_at(position, slices) {
            return Err(self.take_back(state, position, error));
        }
        if !state.active.unsynced {
            state.active.unsynced = true;
            let base = state.active.base;
            state.unsynced.insert((base, FileKind::Log), file);
        }
        let index_interval_bytes = state.config.index_interval_bytes;
        state.active.note(placed, index_interval_bytes);
        state.end = header.next_offset();
        state.bytes_since_checkpoint += placed.bytes;
        if state
            .epochs
            .begin(header.partition_leader_epoch, header.base_offset)
        {
            state.epochs_unsaved = true;
        }
        self.queue_locked(state);
        Ok(())
    }

    fn active_file(
        &self,
        state: &mut State,
    ) -> io::Result<std::sync::Arc<dyn crate::disk::DiskFile>> {
        if let Some(file) = &state.active.file {
            return Ok(file.clone());
        }
        let key = (self.id, state.active.base, FileKind::Log);
        let file = self.directory.files.create(&self.path, key)?;
        state.active.file = Some(file.clone());
        Ok(file)
    }

    /// Takes space up to `end` and a step beyond, so that running out is a clean refusal.
    fn reserve(&self, state: &mut State, end: u64) -> io::Result<()> {
        let from = state.active.allocated.max(state.active.bytes);
        if end <= from {
            return Ok(());
        }
        let Some(file) = state.active.file.clone() else {
            return Ok(());
        };
        let step = state.active.step.min(state.config.preallocate_bytes_max);
        let to = (from + step).min(state.config.segment_bytes).max(end);
        state.active.allocated = self.directory.take_space(file.as_ref(), from, end, to)?;
        state.active.step = (step * 2).max(state.active.step);
        Ok(())
    }

    fn take_back(&self, state: &mut State, position: u64, error: io::Error) -> AppendError {
        if let Some(file) = state.active.file.clone()
            && let Err(cut) = file.truncate(position)
        {
            return AppendError::Poisoned(self.poison(state, cut));
        }
        state.active.allocated = position;
        match self.directory.judge::<()>(Err(error)) {
            Err(failure) => failure.into(),
            Ok(()) => AppendError::Offline,
        }
    }

    /// The transaction index that a marker will need, opened before the marker is written: the want
    /// of a descriptor is then a clean refusal.
    fn index_of_aborted(
        &self,
        state: &mut State,
        producer_id: ProducerId,
        marker: &EndTransactionMarker,
    ) -> Result<Option<Arc<dyn DiskFile>>, AppendError> {
        if marker.commit || !state.producers.has_open_transaction(producer_id) {
            return Ok(None);
        }
        let base = state.active.base;
        let file = self.index_file(state, base, FileKind::TransactionIndex);
        Ok(Some(self.directory.judge(file)?))
    }

    fn note_aborted(
        &self,
        state: &mut State,
        index: Option<Arc<dyn DiskFile>>,
        aborted: &AbortedTransaction,
    ) -> Result<(), AppendError> {
        let noted = self.append_aborted(state, index, aborted);
        // The marker is in the log: an index that lacks it would show aborted records.
        noted.map_err(|error| AppendError::Poisoned(self.poison(state, error)))
    }
}

pub(super) fn placed(header: &BatchHeader) -> Placed {
    Placed {
        last_offset: header.last_offset(),
        // A batch that compaction has emptied has no record to be found by its time.
        max_timestamp: match header.records_count {
            0 => Timestamp::NONE,
            _ => header.max_timestamp,
        },
        bytes: header.size_in_bytes() as u64,
    }
}

fn check_size(bytes: u64, config: &LogConfig) -> Result<(), AppendError> {
    let segment_bytes = config.segment_bytes;
    if bytes > segment_bytes {
        return Err(AppendError::BatchLargerThanSegment {
            bytes,
            segment_bytes,
        });
    }
    Ok(())
}

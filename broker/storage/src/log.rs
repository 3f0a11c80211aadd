//! The log of one partition: the only door to its segments.
//!
//! ```text
//! log start <= local start <= durable end <= written end
//!     |            |               |             |
//!     |  the tier  |  sealed segments and the active one
//! ```
//! (A tiered log start may also lie above the local start.)
//!
//! Invariants
//! - Batches are contiguous: each begins where the one before ends. Only below the compacted end may
//!   offsets be missing between them. Segments touch: the last batch of each reaches to the next.
//! - A file's length is its written end; space taken ahead never shows.
//! - The state's lock is held across writes of the log, never across a sync, and never across the
//!   bytes of a read.
//! - A cut raises the generation, so that a commit round under way publishes nothing of what was
//!   cut. It raises the layout as well, as the swap of compacted segments does: a read under way is
//!   then done again.
//! - The process leads nothing until an epoch is begun (P4).

mod append;
mod commit;
mod compact;
mod cut;
mod export;
mod locate;
mod plan;
mod read;
mod recovery;
mod roll;
mod scan;
mod state;
mod swap;
mod timestamps;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use esker_protocol::{LeaderEpoch, Offset, Timestamp, TopicId};

use crate::config::{Durability, LogConfig};
use crate::directory::Shared;
use crate::directory::durable_ends::{PartitionKey, Recorded};
use crate::error::ChangeError;
use crate::lock::lock;
use crate::producers::ProducerSnapshot;

pub use append::Appended;
pub(crate) use commit::{Capture, Need};
pub use compact::Compaction;
pub use export::SegmentExport;
pub use read::LogRead;
pub use recovery::RecoveryReport;
pub use state::SegmentInfo;
use state::State;

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogName {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) topic_id: TopicId,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    id: u64,
    name: LogName,
    path: PathBuf,
    directory: Arc<Shared>,
    this: Weak<Log>,
    state: Mutex<State>,
    /// One cut, restart or checkpoint at a time; may be held across a sync.
    maintenance: Mutex<()>,
}

impl Log {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn name(&self) -> &LogName {
        &self.name
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn key(&self) -> PartitionKey {
        (self.name.topic_id, self.name.partition)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.name.topic
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.name.partition
    }

    /// The topic's id.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.name.topic_id
    }

    /// The first offset of the log, wherever it is stored.
    #[must_use]
    pub fn start_offset(&self) -> Offset {
        self.state().log_start
    }

    /// The first offset on this disk.
    #[must_use]
    pub fn local_start_offset(&self) -> Offset {
        self.state().local_start
    }

    /// The end of what was written.
    #[must_use]
    pub fn written_end(&self) -> Offset {
        self.state().end
    }

    /// The end of what counts as durable: what the last successful sync covered, or all that was
    /// written where durability is relaxed (P5).
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        let state = self.state();
        match self.directory.config.durability {
            Durability::Durable => state.synced_end,
            Durability::Relaxed => state.end,
        }
    }

    /// The end of what syncs covered, of the files or of the journal, relaxed or not.
    #[must_use]
    pub fn synced_end(&self) -> Offset {
        self.state().synced_end
    }

    /// The latest leader epoch that the log has seen, or -1.
    #[must_use]
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.state().latest_epoch()
    }

    /// Whether the log refuses all work: it was deleted, poisoned, or its directory failed.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        let state = self.state();
        state.closed || state.poisoned.is_some() || self.directory.failed.get().is_some()
    }

    /// The bytes of the log on this disk, indexes aside.
    #[must_use]
    pub fn local_bytes(&self) -> u64 {
        let state = self.state();
        state
            .sealed
            .iter()
            .map(|segment| segment.bytes)
            .sum::<u64>()
            + state.active.bytes
    }

    /// The segments on this disk, oldest first; the last one is being written.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.state().segments()
    }

    /// What the log is told from now on.
    pub fn update_config(&self, config: LogConfig) {
        self.state().config = config;
    }

    /// The settings in effect.
    #[must_use]
    pub fn config(&self) -> LogConfig {
        self.state().config.clone()
    }

    /// Begins to lead in an epoch: it starts at the written end, and only batches of this epoch are
    /// appended from here on. Beginning the same epoch again is nothing new.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) -> Result<(), ChangeError> {
        self.directory.remove_clean_marker()?;
        let mut state = self.state();
        if self.refuses(&state) {
            return Err(ChangeError::Offline);
        }
        let current = state.latest_epoch();
        if epoch < current {
            return Err(ChangeError::EpochWentBack {
                given: epoch,
                current,
            });
        }
        let end = state.end;
        if state.epochs.begin(epoch, end) {
            state.epochs_unsaved = true;
        }
        state.seen_epoch = state.seen_epoch.max(epoch);
        state.leading = Some(epoch);
        state.front_unrecorded = true;
        self.queue_locked(&mut state);
        Ok(())
    }

    /// Ends leading: appends as leader are refused until another epoch is begun.
    pub fn stop_leading(&self) {
        self.state().leading = None;
    }

    /// Where `epoch` ends in what is written here, with the largest known epoch that is not above it
    /// (KIP-101, KIP-279); `None` for an epoch above all known ones.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.state();
        state.epochs.end_offset(epoch, state.end)
    }

    /// The epoch of the batch that holds an offset.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let state = self.state();
        if offset >= state.end {
            None
        } else {
            state.epochs.at(offset)
        }
    }

    /// All leader epochs from log start on, with the offsets at which they begin.
    #[must_use]
    pub fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        self.state().epochs.entries().to_vec()
    }

    /// The producers as of the written end.
    #[must_use]
    pub fn producers(&self) -> ProducerSnapshot {
        self.state().producers.snapshot()
    }

    /// Forgets producers that wrote nothing for `producer.id.expiration.ms`.
    pub fn expire_producers(&self, now: Timestamp) {
        let mut state = self.state();
        let expiration_ms = state.config.producer_expiration_ms;
        state.producers.expire(now, expiration_ms);
    }

    /// The end of what a reader of committed records may see.
    #[must_use]
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        self.state().producers.last_stable_offset(high_watermark)
    }

    /// Seals the active segment when its records are older than a segment may be. Whether it did.
    pub fn roll_if_expired(&self, now: Timestamp) -> Result<bool, ChangeError> {
        let mut state = self.state();
        if self.refuses(&state) {
            return Err(ChangeError::Offline);
        }
        let limit = state
            .config
            .segment_ms
            .saturating_sub(state.config.segment_jitter_ms);
        if state.active.bytes == 0 || state.active.age_ms(now, now) <= limit {
            return Ok(false);
        }
        let end = state.end;
        let rolled = self.roll(&mut state, end, now);
        self.directory.judge(rolled)?;
        Ok(true)
    }

    /// Seals the active segment, whatever its age. Whether there was anything to seal.
    pub fn roll_now(&self, now: Timestamp) -> Result<bool, ChangeError> {
        let mut state = self.state();
        if self.refuses(&state) {
            return Err(ChangeError::Offline);
        }
        if state.active.bytes == 0 {
            return Ok(false);
        }
        let end = state.end;
        let rolled = self.roll(&mut state, end, now);
        self.directory.judge(rolled)?;
        Ok(true)
    }

    fn refuses(&self, state: &State) -> bool {
        state.closed || state.cutting || state.poisoned.is_some() || self.directory.is_closed()
    }

    /// Puts the log among those that the next commit round covers.
    pub(crate) fn queue(&self) {
        let mut state = self.state();
        self.queue_locked(&mut state);
    }

    fn queue_locked(&self, state: &mut State) {
        if !state.queued
            && !state.closed
            && let Some(this) = self.this.upgrade()
        {
            state.queued = true;
            lock(&self.directory.dirty).insert(self.id, this);
        }
    }

    /// Takes the log offline for good.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.leading = None;
        state.generation += 1;
        state.unsynced.clear();
        state.active.file = None;
    }

    fn recorded(state: &State) -> Recorded {
        Recorded {
            epoch: state.latest_epoch(),
            end: state.files_end,
            log_start: state.log_start,
            // What is going may be gone before the next record.
            local_start: state.releasing.unwrap_or(state.local_start),
            journal_sequence: state.files_sequence,
            journaled_end: Some(state.required_end)
                .filter(|required| *required > state.files_end)
                .unwrap_or(Offset::ZERO),
            is_stray: false,
            compacted_end: state.compacted_end,
        }
    }

    /// Below it offsets may be missing, because compaction has taken their records.
    #[must_use]
    pub fn compacted_end(&self) -> Offset {
        self.state().compacted_end
    }

    fn names_changed(&self, state: &mut State) {
        state.names_unsynced = true;
        self.queue_locked(state);
    }

    fn poison(&self, state: &mut State, error: io::Error) -> Arc<io::Error> {
        let failed = self.directory.fail(error);
        state.poisoned = Some(failed.source.clone());
        failed.source
    }

    /// Whether the directory is being stopped.
    fn is_stopping(&self) -> bool {
        self.directory.stopped.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;

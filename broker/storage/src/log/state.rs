//! What the log's lock protects.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use esker_protocol::{LeaderEpoch, Offset, Timestamp};

use crate::config::LogConfig;
use crate::directory::names::FileKind;
use crate::disk::DiskFile;
use crate::leader_epochs::LeaderEpochs;
use crate::producers::Producers;
use crate::segment::{Active, Sealed};

/// How many positions at which reads ended are remembered: readers go on there.
const HINTS: usize = 4;

/// Where a batch begins, as a reader last saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hint {
    pub(super) offset: Offset,
    pub(super) segment: Offset,
    pub(super) position: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) config: LogConfig,
    /// Rises whenever the log is cut or started anew.
    pub(super) generation: u64,
    /// Rises with the generation, and whenever segments are replaced: what is known of places in
    /// files is then stale.
    pub(super) layout: u64,
    pub(super) cutting: bool,
    pub(super) closed: bool,
    pub(super) poisoned: Option<Arc<io::Error>>,

    pub(super) leading: Option<LeaderEpoch>,
    /// The highest epoch seen, which an epoch without batches may be.
    pub(super) seen_epoch: LeaderEpoch,
    pub(super) epochs: LeaderEpochs,
    pub(super) epochs_unsaved: bool,

    pub(super) log_start: Offset,
    pub(super) local_start: Offset,
    /// Where the local log begins once what is being removed has gone.
    pub(super) releasing: Option<Offset>,
    /// The end of what syncs covered: of the log's files, or of the journal.
    pub(super) synced_end: Offset,
    /// The end of what syncs of the log's files covered.
    pub(super) files_end: Offset,
    /// What the journal of the process before had proved: everything below it must be there.
    pub(super) required_end: Offset,
    /// The last record of the journal of which the files have everything.
    pub(super) files_sequence: i64,
    pub(super) end: Offset,
    /// Only below it may offsets be missing.
    pub(super) compacted_end: Offset,

    /// By rising base; each ends where the next begins.
    pub(super) sealed: Vec<Sealed>,
    pub(super) active: Active,

    pub(super) producers: Producers,
    /// The offsets of the snapshot files, rising.
    pub(super) snapshots: Vec<Offset>,
    pub(super) bytes_since_checkpoint: u64,

    /// Files with unsynced bytes, held open until a sync covered them.
    pub(super) unsynced: BTreeMap<(Offset, FileKind), Arc<dyn DiskFile>>,
    pub(super) names_unsynced: bool,
    /// Whether log start or epoch have moved and `durable-ends.log` is to say so.
    pub(super) front_unrecorded: bool,
    /// Whether the log is among the dirty ones of its directory.
    pub(super) queued: bool,

    pub(super) hints: [Option<Hint>; HINTS],
    pub(super) hint_next: usize,
}

/// A segment, as retention and offloading see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The first offset.
    pub base: Offset,
    /// The end, exclusive.
    pub end: Offset,
    /// The bytes of its batches.
    pub bytes: u64,
    /// The largest timestamp, -1 when no record has one.
    pub max_timestamp: Timestamp,
    /// Whether it is complete.
    pub sealed: bool,
    /// When it was begun; after a restart, when it was opened.
    pub created: Timestamp,
}

impl State {
    /// A log that begins at `start` and holds nothing.
    pub(super) fn empty(start: Offset, config: LogConfig, now: Timestamp) -> State {
        State {
            config,
            generation: 0,
            layout: 0,
            cutting: false,
            closed: false,
            poisoned: None,
            leading: None,
            seen_epoch: LeaderEpoch::NONE,
            epochs: LeaderEpochs::default(),
            epochs_unsaved: false,
            log_start: start,
            local_start: start,
            releasing: None,
            synced_end: start,
            files_end: start,
            required_end: start,
            files_sequence: 0,
            end: start,
            compacted_end: Offset::ZERO,
            sealed: Vec::new(),
            active: Active::new(start, now, 0),
            producers: Producers::default(),
            snapshots: Vec::new(),
            bytes_since_checkpoint: 0,
            unsynced: BTreeMap::new(),
            names_unsynced: false,
            front_unrecorded: false,
            queued: false,
            hints: [None; HINTS],
            hint_next: 0,
        }
    }

    pub(super) fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.latest().max(self.seen_epoch)
    }

    pub(super) fn segments(&self) -> Vec<SegmentInfo> {
        let sealed = self.sealed.iter().map(|segment| SegmentInfo {
            base: segment.base,
            end: segment.end,
            bytes: segment.bytes,
            max_timestamp: segment.max_timestamp,
            sealed: true,
            created: segment.created,
        });
        let active = SegmentInfo {
            base: self.active.base,
            end: self.end,
            bytes: self.active.bytes,
            max_timestamp: self
                .active
                .max_timestamp
                .map_or(Timestamp::NONE, |(max, _)| max),
            sealed: false,
            created: self.active.created,
        };
        sealed.chain([active]).collect()
    }

    /// The segments that end above `start` and hold the markers of aborted transactions.
    pub(super) fn with_aborted(&self, start: Offset) -> Vec<Offset> {
        let passed = self.sealed.partition_point(|segment| segment.end <= start);
        let later = self.sealed.iter().skip(passed);
        let sealed = later
            .filter(|segment| segment.has_aborted)
            .map(|segment| segment.base);
        sealed
            .chain(self.active.has_aborted.then_some(self.active.base))
            .collect()
    }

    /// Remembers where a batch begins, or will: in place of what was known of the same offset, else
    /// of the oldest.
    pub(super) fn remember(&mut self, hint: Hint) {
        let same = |known: &Option<Hint>| known.is_some_and(|known| known.offset == hint.offset);
        if let Some(known) = self.hints.iter_mut().find(|known| same(known)) {
            *known = Some(hint);
            return;
        }
        if let Some(slot) = self.hints.get_mut(self.hint_next) {
            *slot = Some(hint);
        }
        self.hint_next = (self.hint_next + 1) % HINTS;
    }

    pub(super) fn recall(&self, offset: Offset) -> Option<Hint> {
        self.hints
            .iter()
            .flatten()
            .find(|hint| hint.offset == offset)
            .copied()
    }

    /// Everything that a cut makes stale.
    pub(super) fn raise_generation(&mut self) {
        self.generation += 1;
        self.raise_layout();
    }

    /// Everything that is known of places in files becomes stale.
    pub(super) fn raise_layout(&mut self) {
        self.layout += 1;
        self.hints = [None; HINTS];
    }

    pub(super) fn note_snapshot(&mut self, offset: Offset) {
        if let Err(index) = self.snapshots.binary_search(&offset) {
            self.snapshots.insert(index, offset);
        }
        self.bytes_since_checkpoint = 0;
    }

    /// The offset of a snapshot inside a segment that the newer one at `offset` replaces.
    pub(super) fn superseded_snapshots(&self, offset: Offset) -> Vec<Offset> {
        let is_base = |at: &Offset| {
            *at == self.active.base
                || self
                    .sealed
                    .binary_search_by_key(at, |segment| segment.base)
                    .is_ok()
        };
        // One older checkpoint stays until this one is recorded as durable: recovery starts from
        // the latest that is not above the recorded end.
        let inside: Vec<Offset> = self
            .snapshots
            .iter()
            .copied()
            .filter(|at| *at < offset && !is_base(at))
            .collect();
        let kept = inside
            .iter()
            .rposition(|at| *at <= self.files_end)
            .unwrap_or(0);
        inside.get(..kept).unwrap_or_default().to_vec()
    }
}

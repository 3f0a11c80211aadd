//! Compacting a log: the work that [`crate::compaction`] decides about, in steps.
//!
//! Nothing is locked while segments are read and written: sealed segments do not change, and whether
//! they are still there is asked before what was written takes their place. That, and making files, is
//! done under the maintenance lock, so that cuts, deletions and swaps follow each other. Appends wait
//! for none of it: the state's lock is held for a moment of memory work.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use esker_protocol::records::{Batch, BatchHeader};
use esker_protocol::{Offset, ProducerId, Timestamp};

use super::Log;
use super::append::placed;
use super::scan::BatchReader;
use super::state::State;
use super::swap::{KINDS, Stage};
use crate::compaction::{
    Cleanable, Compacted, CompactionError, CompactionLimits, CompactionRules, CompactionStep,
    Filter, OffsetMap, Source, Verdict, cleanable, groups,
};
use crate::directory::IoFailure;
use crate::directory::names::{FileKind, segment_file};
use crate::disk::{DiskFile, read_all};
use crate::entry_file::Entry as _;
use crate::error::{ChangeError, Damage, ReadError};
use crate::index::{AbortedTransaction, OffsetEntry, TimeEntry};
use crate::lock::lock;
use crate::producers::{ProducedRange, ProducerSnapshot};
use crate::segment::{Active, POSITION_MAX, Sealed};

/// What is written at once.
const WRITE_BYTES: usize = 1 << 20;

/// A pass over a log, under way.
#[derive(Debug)]
pub struct Compaction {
    log: Arc<Log>,
    /// The log's generation at the start: a cut ends the pass.
    generation: u64,
    first_dirty: Offset,
    end: Offset,
    filter: Filter,
    /// Aborted transactions that overlap what is mapped.
    aborted: Vec<AbortedTransaction>,
    work: Work,
    compacted: Compacted,
}

#[derive(Debug)]
enum Work {
    /// The segments still to be mapped.
    Mapping(VecDeque<Source>, Option<Reading>),
    /// The groups still to be rewritten.
    Rewriting(VecDeque<Vec<Source>>, Option<Box<Rewriting>>),
    Done,
}

/// A segment that is being read.
#[derive(Debug)]
struct Reading {
    source: Source,
    file: Arc<dyn DiskFile>,
    position: u64,
    /// Where the next batch begins, or behind a gap.
    expected: Offset,
}

/// A group that is becoming one segment.
#[derive(Debug)]
struct Rewriting {
    sources: Vec<Source>,
    reading: VecDeque<Reading>,
    file: Arc<dyn DiskFile>,
    offset_index: Arc<dyn DiskFile>,
    time_index: Arc<dyn DiskFile>,
    transaction_index: Option<Arc<dyn DiskFile>>,
    /// Bytes that wait to be written behind those that were.
    buffer: Vec<u8>,
    written: u64,
    /// The new segment as of now, with its indexes.
    active: Active,
    index_interval_bytes: u64,
    changed: bool,
}

impl Log {
    /// Up to where passes have come.
    #[must_use]
    pub fn clean_end(&self) -> Offset {
        let passed = self.passed_end();
        let state = self.state();
        passed.max(state.log_start.min(state.active.base))
    }

    /// The same by what was recorded of passes alone, wherever the log starts.
    fn passed_end(&self) -> Offset {
        let known = lock(&self.directory.clean_points).get(&self.name.topic, self.name.partition);
        let state = self.state();
        // What was recorded of another log of the name, or before a cut, is not believed.
        known
            .filter(|known| *known <= state.compacted_end)
            .unwrap_or(state.local_start)
            .max(state.local_start)
    }

    /// Makes the log start durable where a pass that begins at `first_dirty` rests on it. Were it undone
    /// by a crash, values below it that the pass did not map would be back, and tombstones that it took
    /// away would not.
    fn keep_start_below(&self, first_dirty: Offset) -> Result<(), ChangeError> {
        if first_dirty > self.passed_end() {
            let _one_at_a_time = lock(&self.maintenance);
            let recorded = Log::recorded(&self.state());
            self.directory.record_front(self.key(), recorded)?;
        }
        Ok(())
    }

    /// What a pass would take, below `bound`: the high watermark and the last stable offset.
    pub fn cleanable(
        &self,
        bound: Offset,
        rules: &CompactionRules,
        now: Timestamp,
    ) -> Result<Option<Cleanable>, ReadError> {
        let clean_end = self.clean_end();
        let (segments, settled) = {
            let state = self.state();
            (state.segments(), settled_end(&state))
        };
        let first_timestamp = |base| self.first_timestamp(base);
        let bound = bound.min(settled);
        cleanable(&segments, clean_end, bound, rules, now, first_timestamp)
    }

    /// The timestamp of a sealed segment's first batch.
    fn first_timestamp(&self, base: Offset) -> Result<Timestamp, ReadError> {
        self.while_it_stands(|| {
            let place = self.state().place(base);
            let file = self.place_file(&place)?;
            let header = BatchReader::of_headers(file.as_ref(), 0, place.bytes).header()?;
            Ok(header
                .ok()
                .flatten()
                .map_or(Timestamp::NONE, |header| header.max_timestamp))
        })
    }

    /// Begins a pass over what [`Log::cleanable`] gave. It does nothing before its first step.
    pub fn compact(
        self: &Arc<Self>,
        part: &Cleanable,
        rules: &CompactionRules,
        limits: &CompactionLimits,
        now: Timestamp,
    ) -> Result<Compaction, CompactionError> {
        let (sources, generation) = {
            let state = self.state();
            if self.refuses(&state) {
                return Err(ChangeError::Offline.into());
            }
            let sources = sources(&state, part.end.min(settled_end(&state)));
            (sources, state.generation)
        };
        let first_dirty = part.first_dirty;
        let dirty: VecDeque<Source> = sources
            .into_iter()
            .filter(|source| source.end > first_dirty)
            .collect();
        let end = dirty.back().map_or(first_dirty, |last| last.end);
        let last_of_producers = self.last_of_producers(end);
        let aborted = self.aborted_transactions(first_dirty, end)?;
        self.directory
            .remove_clean_marker()
            .map_err(ChangeError::from)?;
        self.keep_start_below(first_dirty)?;
        self.settle_clean_end()?;
        let records_max = u64::try_from(end - first_dirty).unwrap_or(0);
        let map = OffsetMap::new(
            limits.map_bytes,
            limits.load_factor,
            records_max,
            &limits.hash_key,
            first_dirty,
        );
        let compacted = Compacted {
            map_bytes: map.bytes(),
            clean_end: first_dirty,
            ..Compacted::default()
        };
        Ok(Compaction {
            log: Arc::clone(self),
            generation,
            first_dirty,
            end,
            filter: Filter {
                map,
                now,
                delete_retention_ms: rules.delete_retention_ms,
                last_of_producers,
            },
            aborted,
            work: Work::Mapping(dirty, None),
            compacted,
        })
    }

    /// Where the checkpoint says more of the log than can be, it is another's, or from before a cut; it
    /// must not be taken for this one's once the compacted end has passed it. The same where it was not
    /// believed when the log was opened.
    fn settle_clean_end(&self) -> Result<(), ChangeError> {
        let (topic, partition) = (&self.name.topic, self.name.partition);
        let known = lock(&self.directory.clean_points).get(topic, partition);
        let compacted_end = self.state().compacted_end;
        if known.is_none_or(|known| known > compacted_end) {
            self.save_clean_end(self.clean_end())?;
        }
        Ok(())
    }

    fn save_clean_end(&self, clean_end: Offset) -> Result<(), IoFailure> {
        let (topic, partition) = (&self.name.topic, self.name.partition);
        let mut points = lock(&self.directory.clean_points);
        let saved = points
            .set(self.directory.disk.as_ref(), topic, partition, clean_end)
            .and_then(|()| self.directory.file_system.sync_names());
        self.directory.judge(saved)
    }

    /// The last batch below `end` of every producer that may go on: whatever is lost above, what is left
    /// says what its next sequence is. The snapshot at `end` knows it where memory remembers later ones.
    fn last_of_producers(&self, end: Offset) -> BTreeSet<(ProducerId, Offset)> {
        let now = self.state().producers.snapshot();
        let path = self.path.join(segment_file(end, FileKind::Snapshot));
        let at_end = read_all(self.directory.disk.as_ref(), &path).ok();
        let at_end = at_end.and_then(|bytes| ProducerSnapshot::decode(&bytes).ok());
        let alive: BTreeSet<ProducerId> = now.entries.iter().map(|one| one.producer_id).collect();
        let entries = now.entries.iter().chain(
            at_end
                .iter()
                .flat_map(|snapshot| &snapshot.entries)
                .filter(|one| alive.contains(&one.producer_id)),
        );
        let last = entries.filter_map(|one| {
            let below = |batch: &&ProducedRange| batch.last_offset < end;
            let last = one.batches.iter().rev().find(below)?;
            Some((one.producer_id, last.last_offset))
        });
        last.collect()
    }

    fn open_source(&self, source: Source) -> Result<Reading, CompactionError> {
        let key = (self.id, source.base, FileKind::Log);
        let opened = self.directory.files.open(&self.path, key);
        let file = opened.map_err(ReadError::from)?;
        Ok(Reading {
            source,
            file,
            position: 0,
            expected: source.base,
        })
    }

    /// Whether the segments are still as they were, of the same log.
    fn has(&self, state: &State, sources: &[Source], generation: u64) -> bool {
        let Some(first) = sources.first() else {
            return false;
        };
        let index = state
            .sealed
            .binary_search_by_key(&first.base, |segment| segment.base);
        let found = index.ok().and_then(|index| state.sealed.get(index..));
        let same = |(source, segment): (&Source, &Sealed)| {
            source.base == segment.base
                && source.end == segment.end
                && source.bytes == segment.bytes
        };
        !self.refuses(state)
            && state.generation == generation
            && found.is_some_and(|found| {
                found.len() >= sources.len() && sources.iter().zip(found).all(same)
            })
    }
}

/// Below it every segment's files have all that they are to have: nothing waits for a sync, nor is in the
/// journal alone, which a start would write over what is put there now.
fn settled_end(state: &State) -> Offset {
    let waits = state
        .unsynced
        .keys()
        .filter(|(_, kind)| *kind != FileKind::Snapshot);
    let unsynced = waits.map(|(base, _)| *base).min();
    unsynced.unwrap_or(Offset::MAX).min(state.files_end)
}

/// The sealed segments that end at or below `end`.
fn sources(state: &State, end: Offset) -> Vec<Source> {
    let source = |segment: &Sealed| Source {
        base: segment.base,
        end: segment.end,
        bytes: segment.bytes,
        created: segment.created,
        offset_index_bytes: u64::from(segment.offset_entries) * OffsetEntry::BYTES as u64,
        time_index_bytes: u64::from(segment.time_entries) * TimeEntry::BYTES as u64,
    };
    let whole = state.sealed.iter().take_while(|segment| segment.end <= end);
    whole.map(source).collect()
}

impl Compaction {
    /// What the pass has done so far; of a pass that has ended, all of it.
    #[must_use]
    pub fn compacted(&self) -> Compacted {
        self.compacted
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Goes on for about so many bytes. After an error the pass is over.
    pub fn step(&mut self, bytes: u64) -> Result<CompactionStep, CompactionError> {
        let mut step = CompactionStep::default();
        let worked = self.work_on(bytes.max(1), &mut step);
        step.done = matches!(self.work, Work::Done);
        worked.map(|()| step).map_err(|error| {
            self.abandon();
            match self.stands() {
                true => error,
                // Whatever was found wrong is what a cut leaves.
                false => CompactionError::Interrupted,
            }
        })
    }

    /// Whether the log is still the one that the pass began with.
    fn stands(&self) -> bool {
        let state = self.log.state();
        !state.closed && !state.cutting && state.generation == self.generation
    }

    /// Ends the pass early; what it has replaced stays, what it was writing goes.
    pub fn abandon(&mut self) {
        if let Work::Rewriting(_, Some(rewriting)) = std::mem::replace(&mut self.work, Work::Done)
            && let Some(first) = rewriting.sources.first()
        {
            let _one_at_a_time = lock(&self.log.maintenance);
            // The path is another's once the log is closed.
            if !self.log.state().closed
                && let Err(error) = self.log.discard_staged(first.base)
            {
                // The next start removes it.
                tracing::debug!(%error, base = %first.base, "a rewritten segment stays behind");
            }
        }
    }

    fn work_on(&mut self, bytes: u64, step: &mut CompactionStep) -> Result<(), CompactionError> {
        loop {
            let spent = step.read_bytes + step.written_bytes;
            if spent >= bytes {
                return Ok(());
            }
            match &mut self.work {
                Work::Done => return Ok(()),
                Work::Mapping(..) => self.map(bytes - spent, step)?,
                Work::Rewriting(..) => self.rewrite(bytes - spent, step)?,
            }
        }
    }

    fn map(&mut self, bytes: u64, step: &mut CompactionStep) -> Result<(), CompactionError> {
        let Work::Mapping(segments, current) = &mut self.work else {
            return Ok(());
        };
        if current.is_none() {
            match segments.pop_front() {
                Some(source) => *current = Some(self.log.open_source(source)?),
                None => {
                    let end = self.end;
                    return self.begin_rewriting(end);
                }
            }
        }
        let Some(reading) = current else {
            return Ok(());
        };
        let (map, first_dirty, aborted) = (&mut self.filter.map, self.first_dirty, &self.aborted);
        let compacted_end = self.log.compacted_end();
        let mut full = false;
        let position = reading.position;
        let ended = reading.read(compacted_end, bytes, |batch, _| {
            if !map_batch(map, batch, first_dirty, aborted)? {
                full = true;
            }
            Ok(!full)
        })?;
        step.read_bytes += reading.position - position;
        if ended {
            let end = reading.source.end;
            self.filter.map.advance(end);
            *current = None;
        }
        if full {
            self.compacted.map_was_full = true;
            let end = self.filter.map.end();
            if end <= self.first_dirty {
                return Err(CompactionError::MapTooSmall(self.first_dirty));
            }
            self.begin_rewriting(end)?;
        }
        Ok(())
    }

    /// Everything below `end` is mapped: from here on segments are rewritten, from the oldest on.
    fn begin_rewriting(&mut self, end: Offset) -> Result<(), CompactionError> {
        let (all, config) = {
            let state = self.log.state();
            if self.log.refuses(&state) || state.generation != self.generation {
                return Err(CompactionError::Interrupted);
            }
            (sources(&state, self.end), state.config.clone())
        };
        // A segment that is mapped in part is rewritten as well.
        let mapped: Vec<Source> = all.into_iter().filter(|one| one.base < end).collect();
        let bytes_max = config.segment_bytes.min(POSITION_MAX);
        let grouped = groups(&mapped, bytes_max, config.index_bytes_max);
        self.work = Work::Rewriting(grouped.into(), None);
        Ok(())
    }

    fn rewrite(&mut self, bytes: u64, step: &mut CompactionStep) -> Result<(), CompactionError> {
        let Work::Rewriting(groups, current) = &mut self.work else {
            return Ok(());
        };
        if current.is_none() {
            match groups.pop_front() {
                Some(group) => {
                    let begun = Rewriting::begin(&self.log, group, self.generation)?;
                    *current = Some(Box::new(begun));
                }
                None => return self.finish(),
            }
        }
        let Some(rewriting) = current else {
            return Ok(());
        };
        let ended = rewriting.go_on(&self.log, &self.filter, bytes, step, &mut self.compacted)?;
        if ended {
            self.swap(step)?;
        }
        Ok(())
    }

    /// Puts the segment that was written into the place of its sources.
    fn swap(&mut self, step: &mut CompactionStep) -> Result<(), CompactionError> {
        let Work::Rewriting(_, Some(rewriting)) = &mut self.work else {
            return Ok(());
        };
        let log = &self.log;
        rewriting.flush(log, step)?;
        let sources = rewriting.sources.clone();
        let (Some(first), Some(last)) = (sources.first().copied(), sources.last().copied()) else {
            return Ok(());
        };
        self.compacted.segments += sources.len();
        self.compacted.segments_left += 1;
        self.compacted.bytes += sources.iter().map(|source| source.bytes).sum::<u64>();
        self.compacted.bytes_left += rewriting.written;
        if !rewriting.changed && sources.len() == 1 {
            // Nothing to put in its place.
            self.abandon_current()?;
            return Ok(());
        }
        rewriting.finish_indexes(log)?;
        let _one_at_a_time = lock(&log.maintenance);
        let recorded = {
            let mut state = log.state();
            if !log.has(&state, &sources, self.generation) {
                return Err(CompactionError::Interrupted);
            }
            // A round that publishes from here on says it too: the last record counts.
            state.compacted_end = state.compacted_end.max(self.filter.map.end());
            Log::recorded(&state)
        };
        log.directory
            .record_front(log.key(), recorded)
            .map_err(ChangeError::from)?;
        let names = log.directory.judge(log.open_names());
        let names = names.map_err(ChangeError::from)?;
        let prepared = log.directory.judge(log.prepare_swap(first.base));
        prepared.map_err(ChangeError::from)?;
        // Once that is under way, what a crash would find is not known any more.
        log.decide_swap(first.base, names.as_ref())
            .map_err(|error| ChangeError::from(log.directory.fail(error)))?;
        let sealed = rewriting.sealed(first.base, last.end);
        let keys: Vec<_> = KINDS
            .iter()
            .map(|kind| (log.id, first.base, *kind))
            .collect();
        let files = rewriting.files();
        let pins = files
            .into_iter()
            .map(|(kind, file)| ((log.id, first.base, kind), file));
        {
            let mut state = log.state();
            log.directory.files.pin(pins);
            let index = state
                .sealed
                .partition_point(|segment| segment.base < first.base);
            state.sealed.splice(index..index + sources.len(), [sealed]);
            state.raise_layout();
        }
        let replaced: Vec<Offset> = sources.iter().skip(1).map(|source| source.base).collect();
        let finished = log.finish_swap(first.base, &replaced, names.as_ref());
        let of_replaced = replaced
            .iter()
            .flat_map(|base| KINDS.map(|kind| (log.id, *base, kind)));
        log.directory
            .files
            .unpin(keys.into_iter().chain(of_replaced));
        finished.map_err(|error| ChangeError::from(log.directory.fail(error)))?;
        if let Work::Rewriting(_, current) = &mut self.work {
            *current = None;
        }
        Ok(())
    }

    fn abandon_current(&mut self) -> Result<(), CompactionError> {
        if let Work::Rewriting(_, current) = &mut self.work
            && let Some(rewriting) = current.take()
            && let Some(first) = rewriting.sources.first()
        {
            let _one_at_a_time = lock(&self.log.maintenance);
            if !self.log.state().closed {
                let discarded = self.log.discard_staged(first.base);
                self.log
                    .directory
                    .judge(discarded)
                    .map_err(ChangeError::from)?;
            }
        }
        Ok(())
    }

    /// Everything below the end of the map is clean.
    fn finish(&mut self) -> Result<(), CompactionError> {
        let clean_end = self.filter.map.end();
        let log = &self.log;
        let _one_at_a_time = lock(&log.maintenance);
        let recorded = {
            let mut state = log.state();
            if log.refuses(&state) || state.generation != self.generation {
                return Err(CompactionError::Interrupted);
            }
            let before = state.compacted_end;
            state.compacted_end = before.max(clean_end);
            (state.compacted_end > before).then(|| Log::recorded(&state))
        };
        if let Some(recorded) = recorded {
            // Where nothing had to be replaced, what the checkpoint says must be believed all the same.
            log.directory
                .record_front(log.key(), recorded)
                .map_err(ChangeError::from)?;
        }
        log.save_clean_end(clean_end).map_err(ChangeError::from)?;
        self.compacted.clean_end = clean_end;
        self.work = Work::Done;
        Ok(())
    }
}

/// Maps the keys of a batch. Whether there was room for all of them.
fn map_batch(
    map: &mut OffsetMap,
    batch: &Batch<'_>,
    first_dirty: Offset,
    aborted: &[AbortedTransaction],
) -> Result<bool, CompactionError> {
    let header = batch.header();
    let base = header.base_offset;
    // What was aborted says nothing of its keys; nobody is shown it.
    let is_aborted = header.attributes.is_transactional()
        && aborted.iter().any(|one| {
            one.producer_id == header.producer_id
                && (one.first_offset..=one.last_offset).contains(&base)
        });
    if !header.attributes.is_control() && !is_aborted && header.last_offset() >= first_dirty {
        let unreadable = |source| CompactionError::Records {
            offset: base,
            source,
        };
        let caps = esker_protocol::records::Caps::DEFAULT;
        let records = batch.records(&caps).map_err(unreadable)?;
        for record in &records {
            let record = record.map_err(unreadable)?;
            if let Some(key) = record.key
                && record.offset >= first_dirty
                && !map.put(key, record.offset)
            {
                return Ok(false);
            }
        }
    }
    map.advance(header.next_offset());
    Ok(true)
}

impl Reading {
    /// Reads batches until about so many bytes, or `visit` says no. `visit` is told whether a batch is
    /// the segment's last. Whether the segment has ended.
    fn read(
        &mut self,
        compacted_end: Offset,
        bytes: u64,
        mut visit: impl FnMut(&Batch<'_>, bool) -> Result<bool, CompactionError>,
    ) -> Result<bool, CompactionError> {
        let file = Arc::clone(&self.file);
        let mut reader = BatchReader::new(file.as_ref(), self.position, self.source.bytes);
        let until = self.position.saturating_add(bytes);
        while reader.position < until {
            let position = reader.position;
            let expected = self.expected;
            let damaged = |reason: String| {
                CompactionError::Damaged(Damage {
                    segment: self.source.base.0,
                    position,
                    offset: expected,
                    reason,
                })
            };
            let header = match reader.header().map_err(ReadError::from)? {
                Ok(Some(header)) => header,
                Ok(None) if expected == self.source.end => return Ok(true),
                Ok(None) => {
                    let end = self.source.end;
                    return Err(damaged(format!("the segment ends, but not at {end}")));
                }
                Err(reason) => return Err(damaged(reason)),
            };
            let base = header.base_offset;
            if base < expected || (base > expected && base > compacted_end) {
                return Err(damaged(format!("a batch of offset {base}")));
            }
            let batch = match reader.batch(&header).map_err(ReadError::from)? {
                Ok(batch) => batch,
                Err(reason) => return Err(damaged(reason)),
            };
            if !batch.crc_is_valid() {
                return Err(damaged("a batch with a wrong checksum".to_owned()));
            }
            let is_last = position + header.size_in_bytes() as u64 == self.source.bytes;
            if !visit(&batch, is_last)? {
                return Ok(false);
            }
            self.expected = header.next_offset();
            reader.skip(&header);
            self.position = reader.position;
        }
        Ok(false)
    }
}

impl Rewriting {
    /// Opens the sources and makes the files: under the maintenance lock, because it goes by the path.
    fn begin(
        log: &Log,
        sources: Vec<Source>,
        generation: u64,
    ) -> Result<Rewriting, CompactionError> {
        let _one_at_a_time = lock(&log.maintenance);
        let index_interval_bytes = {
            let state = log.state();
            if !log.has(&state, &sources, generation) {
                return Err(CompactionError::Interrupted);
            }
            state.config.index_interval_bytes
        };
        let Some(first) = sources.first().copied() else {
            return Err(CompactionError::Interrupted);
        };
        let mut reading = VecDeque::new();
        for source in &sources {
            reading.push_back(log.open_source(*source)?);
        }
        let aborted = log.aborted_entries(&sources)?;
        let newest = sources.iter().map(|source| source.created).max();
        let make = |kind| {
            let made = log.create_staged(first.base, kind, Stage::Cleaned);
            log.directory.judge(made).map_err(ChangeError::from)
        };
        log.directory
            .judge(log.discard_staged(first.base))
            .map_err(ChangeError::from)?;
        let transaction_index = match aborted.is_empty() {
            true => None,
            false => {
                let file = make(FileKind::TransactionIndex)?;
                log.directory
                    .judge(file.write_all_at(0, &aborted))
                    .map_err(ChangeError::from)?;
                Some(file)
            }
        };
        let mut active = Active::new(first.base, newest.unwrap_or(first.created), 0);
        active.has_aborted = transaction_index.is_some();
        Ok(Rewriting {
            file: make(FileKind::Log)?,
            offset_index: make(FileKind::OffsetIndex)?,
            time_index: make(FileKind::TimeIndex)?,
            transaction_index,
            sources,
            reading,
            buffer: Vec::new(),
            written: 0,
            active,
            index_interval_bytes,
            changed: false,
        })
    }

    /// Goes on for about so many bytes. Whether all sources were read.
    fn go_on(
        &mut self,
        log: &Log,
        filter: &Filter,
        bytes: u64,
        step: &mut CompactionStep,
        compacted: &mut Compacted,
    ) -> Result<bool, CompactionError> {
        let compacted_end = log.compacted_end();
        let is_last_source = self.reading.len() == 1;
        let Some(mut reading) = self.reading.pop_front() else {
            return Ok(true);
        };
        let position = reading.position;
        let base = self.active.base;
        let slice = bytes.min(WRITE_BYTES as u64);
        let ended = reading.read(compacted_end, slice, |batch, is_last| {
            let judged = filter.judge(batch, is_last && is_last_source)?;
            compacted.records += judged.records;
            compacted.records_left += judged.records_left;
            match judged.verdict {
                Verdict::Stays => self.push(base, batch.bytes())?,
                Verdict::Becomes(bytes) => {
                    self.changed = true;
                    self.push(base, &bytes)?;
                }
                Verdict::Goes => self.changed = true,
            }
            Ok(true)
        })?;
        step.read_bytes += reading.position - position;
        if !ended {
            self.reading.push_front(reading);
        }
        if self.buffer.len() >= WRITE_BYTES {
            self.flush(log, step)?;
        }
        Ok(self.reading.is_empty())
    }

    fn push(&mut self, base: Offset, batch: &[u8]) -> Result<(), CompactionError> {
        let header = BatchHeader::parse(batch).map_err(|error| {
            CompactionError::Damaged(Damage {
                segment: base.0,
                position: self.active.bytes,
                offset: base,
                reason: error.to_string(),
            })
        })?;
        if self.active.bytes + batch.len() as u64 > POSITION_MAX {
            return Err(CompactionError::TooLarge(base));
        }
        self.active.note(placed(&header), self.index_interval_bytes);
        self.buffer.extend_from_slice(batch);
        Ok(())
    }

    /// Writes what waits.
    fn flush(&mut self, log: &Log, step: &mut CompactionStep) -> Result<(), CompactionError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let (from, bytes) = (self.written, self.buffer.len() as u64);
        let to = from + bytes;
        let space = log.directory.take_space(self.file.as_ref(), from, to, to);
        log.directory.judge(space).map_err(ChangeError::from)?;
        let written = self.file.write_all_at(from, &self.buffer);
        log.directory.judge(written).map_err(ChangeError::from)?;
        self.buffer.clear();
        self.written = to;
        step.written_bytes += bytes;
        Ok(())
    }

    /// Writes the indexes, and syncs everything.
    fn finish_indexes(&mut self, log: &Log) -> Result<(), CompactionError> {
        self.active.note_time();
        let (offset_index, time_index) = (&self.offset_index, &self.time_index);
        let active = &mut self.active;
        let flushed = active
            .offset_index
            .flush(offset_index.as_ref())
            .and_then(|()| active.time_index.flush(time_index.as_ref()));
        log.directory.judge(flushed).map_err(ChangeError::from)?;
        for (_, file) in self.files() {
            // A sync that failed says nothing of what the disk holds.
            file.sync_data()
                .map_err(|error| ChangeError::from(log.directory.fail(error)))?;
        }
        Ok(())
    }

    fn files(&self) -> Vec<(FileKind, Arc<dyn DiskFile>)> {
        let mut files = vec![
            (FileKind::Log, Arc::clone(&self.file)),
            (FileKind::OffsetIndex, Arc::clone(&self.offset_index)),
            (FileKind::TimeIndex, Arc::clone(&self.time_index)),
        ];
        if let Some(file) = &self.transaction_index {
            files.push((FileKind::TransactionIndex, Arc::clone(file)));
        }
        files
    }

    fn sealed(&self, base: Offset, end: Offset) -> Sealed {
        Sealed {
            base,
            ..self.active.sealed(end)
        }
    }
}

impl Log {
    /// The entries of the segments' transaction indexes, as bytes: markers stay, and so do these.
    fn aborted_entries(&self, sources: &[Source]) -> Result<Vec<u8>, CompactionError> {
        let mut bytes = Vec::new();
        for source in sources {
            let key = (self.id, source.base, FileKind::TransactionIndex);
            let file = match self.directory.files.open(&self.path, key) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(ReadError::from)?,
            };
            let length = file.len().map_err(ReadError::from)?;
            let entry = AbortedTransaction::BYTES as u64;
            let whole = usize::try_from(length / entry * entry).unwrap_or(usize::MAX);
            file.read_at(0, whole, &mut bytes)
                .map_err(ReadError::from)?;
        }
        Ok(bytes)
    }
}

//! What opening or cutting a log will do: made by reading only.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use esker_protocol::{LeaderEpoch, Offset, Timestamp};

use super::recovery::{PlanError, is_temporary};
use super::scan::{BatchReader, Bounds, Resume, entries_in, from_start, resume_below, scan};
use crate::directory::names::{FileKind, parse_segment_file, segment_file};
use crate::disk::{Disk, DiskFile, read_all};
use crate::entry_file::{EntryFile, read_entries};
use crate::error::Damage;
use crate::files::Files;
use crate::index::{AbortedTransaction, OffsetEntry, TimeEntry};
use crate::producers::{ProducerSnapshot, Producers};
use crate::segment::{Active, Sealed};

/// Where a plan reads.
pub(super) struct Surroundings<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) files: &'a Files,
    pub(super) path: &'a Path,
    pub(super) id: u64,
    pub(super) index_interval_bytes: u64,
    pub(super) now: Timestamp,
}

/// What is known of the log beforehand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// Everything below it was synced.
    pub(super) trusted_end: Offset,
    /// Everything below it was durable: a log that ends below it is damaged.
    pub(super) required_end: Offset,
    /// Nothing is known, so that everything counts as having been synced.
    pub(super) records_lost: bool,
    /// Everything that is there is on the disk.
    pub(super) all_synced: bool,
    pub(super) local_start: Offset,
    pub(super) log_start: Offset,
    pub(super) seen_epoch: LeaderEpoch,
    /// Where the log is to be cut: at the last border of a batch that is not above.
    pub(super) limit: Offset,
    /// Only below it may offsets be missing.
    pub(super) compacted_end: Offset,
}

/// A segment that was read.
pub(super) struct PlannedSegment {
    pub(super) base: Offset,
    pub(super) bytes: u64,
    pub(super) scanned_bytes: u64,
    pub(super) rewrite_from: Option<u64>,
    /// How many entries of the transaction index stay, and which follow.
    pub(super) aborted_kept: u64,
    pub(super) aborted: Vec<AbortedTransaction>,
    /// The indexes of a segment that is complete.
    pub(super) indexes: Option<(EntryFile<OffsetEntry>, EntryFile<TimeEntry>)>,
}

pub(super) struct Plan {
    pub(super) now: Timestamp,
    /// There was no segment.
    pub(super) created: bool,
    pub(super) end: Offset,
    pub(super) damage: Option<Damage>,
    pub(super) local_start: Offset,
    /// Whether what was read is not known to be on the disk.
    pub(super) unproven: bool,
    pub(super) sealed: Vec<Sealed>,
    pub(super) active: Active,
    pub(super) producers: Producers,
    /// The snapshots that stay.
    pub(super) snapshots: Vec<Offset>,
    pub(super) bytes_since_checkpoint: u64,
    pub(super) scanned: Vec<PlannedSegment>,
    pub(super) remove_segments: Vec<Offset>,
    pub(super) remove_files: Vec<(Offset, FileKind)>,
    pub(super) remove_others: Vec<String>,
    pub(super) write_snapshots: Vec<(Offset, Vec<u8>)>,
    /// The epochs that begin in what was read.
    pub(super) epochs: Vec<(LeaderEpoch, Offset)>,
    /// Only below it may offsets be missing.
    pub(super) compacted_end: Offset,
}

/// The names in a log's directory.
struct Listing {
    /// Data files and their lengths.
    segments: BTreeMap<Offset, u64>,
    files: Vec<(Offset, FileKind)>,
    temporaries: Vec<String>,
}

impl Surroundings<'_> {
    fn open(&self, base: Offset, kind: FileKind) -> io::Result<Arc<dyn DiskFile>> {
        self.files.open(self.path, (self.id, base, kind))
    }

    fn open_if_there(&self, base: Offset, kind: FileKind) -> io::Result<Option<Arc<dyn DiskFile>>> {
        match self.open(base, kind) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing {
            segments: BTreeMap::new(),
            files: Vec::new(),
            temporaries: Vec::new(),
        };
        for entry in self.disk.read_dir(self.path)? {
            match parse_segment_file(&entry.name) {
                Some((base, kind)) => {
                    listing.files.push((base, kind));
                    if kind == FileKind::Log {
                        let bytes = self.disk.len(&self.path.join(&entry.name))?;
                        listing.segments.insert(base, bytes.unwrap_or(0));
                    }
                }
                None if is_temporary(&entry.name) => listing.temporaries.push(entry.name),
                None => {}
            }
        }
        Ok(listing)
    }

    /// The producers as of an offset, when a sound snapshot says so.
    fn producers_at(&self, offset: Offset) -> io::Result<Option<Producers>> {
        let path = self.path.join(segment_file(offset, FileKind::Snapshot));
        match read_all(self.disk, &path) {
            Ok(bytes) => {
                let snapshot = ProducerSnapshot::decode(&bytes).ok();
                Ok(snapshot.as_ref().map(Producers::from_snapshot))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A segment that nothing was written to since it was known to be durable.
    fn sealed(&self, base: Offset, end: Offset, bytes: u64) -> io::Result<Sealed> {
        let offset_entries = match self.open_if_there(base, FileKind::OffsetIndex)? {
            Some(file) => entries_in::<OffsetEntry>(file.as_ref())?,
            None => 0,
        };
        let (time_entries, last) = match self.open_if_there(base, FileKind::TimeIndex)? {
            Some(file) => {
                let count = entries_in::<TimeEntry>(file.as_ref())?;
                let last = read_entries(file.as_ref(), count.saturating_sub(1), 1)?;
                (count, last.first().map(|entry: &TimeEntry| entry.timestamp))
            }
            None => (0, None),
        };
        Ok(Sealed {
            base,
            end,
            bytes,
            max_timestamp: last.unwrap_or(Timestamp::NONE),
            created: self.now,
            offset_entries,
            time_entries,
            has_aborted: self.has_aborted(base)?,
        })
    }

    fn has_aborted(&self, base: Offset) -> io::Result<bool> {
        let name = segment_file(base, FileKind::TransactionIndex);
        let bytes = self.disk.len(&self.path.join(name))?;
        Ok(bytes.is_some_and(|bytes| bytes > 0))
    }

    fn aborted_below(&self, base: Offset, offset: Offset) -> io::Result<u64> {
        let Some(file) = self.open_if_there(base, FileKind::TransactionIndex)? else {
            return Ok(0);
        };
        let count = entries_in::<AbortedTransaction>(file.as_ref())?;
        let entries = read_entries::<AbortedTransaction>(file.as_ref(), 0, count)?;
        Ok(entries
            .iter()
            .take_while(|entry| entry.last_offset < offset)
            .count() as u64)
    }
}

impl Plan {
    /// Reads what must be read and says what is to be done. Changes nothing.
    pub(super) fn make(around: &Surroundings<'_>, source: &Source) -> Result<Plan, PlanError> {
        let mut listing = around.list()?;
        let passed = drop_passed(&mut listing.segments, source.local_start);
        let required_end = source.required_end.min(source.limit);
        let first = listing.segments.first_key_value().map(|(&base, _)| base);
        let missing = !source.records_lost && first.is_none_or(|first| first > source.local_start);
        if first.is_none() || missing {
            if required_end > source.local_start {
                return Err(PlanError::Damage(Damage {
                    segment: source.local_start.0,
                    position: 0,
                    offset: source.local_start,
                    reason: "the segment is missing".to_owned(),
                }));
            }
            return Ok(Plan::anew(around, source, &listing, passed));
        }
        let local_start = first.unwrap_or(source.local_start);
        let mut plan = Plan::empty(around, local_start);
        plan.remove_segments = passed;
        plan.compacted_end = source.compacted_end;
        let origin = plan.choose_origin(around, source, &listing)?;
        plan.read(around, source, &listing, origin)?;
        // After a kill even what agrees with the records may be in the page cache alone: files that
        // were made after the last round.
        plan.unproven = !source.all_synced
            || source.records_lost
            || source.limit < Offset::MAX
            || plan.end > source.trusted_end
            || plan.damage.is_some();
        let is_cut = source.limit < Offset::MAX;
        let all_counts = source.records_lost || is_cut;
        if (plan.end < required_end && !is_cut) || (all_counts && plan.damage.is_some()) {
            if !is_cut && plan.end < source.local_start && required_end == source.local_start {
                // Starting anew at the local start was interrupted.
                let passed = std::mem::take(&mut plan.remove_segments);
                return Ok(Plan::anew(around, source, &listing, passed));
            }
            return Err(PlanError::Damage(plan.damage.take().unwrap_or(Damage {
                segment: plan.active.base.0,
                position: plan.active.bytes,
                offset: plan.end,
                reason: format!("the log ends, but {required_end} was durable"),
            })));
        }
        plan.tidy(&listing, origin);
        Ok(plan)
    }

    fn empty(around: &Surroundings<'_>, start: Offset) -> Plan {
        Plan {
            now: around.now,
            created: false,
            end: start,
            damage: None,
            local_start: start,
            unproven: false,
            sealed: Vec::new(),
            active: Active::new(start, around.now, 0),
            producers: Producers::default(),
            snapshots: Vec::new(),
            bytes_since_checkpoint: 0,
            scanned: Vec::new(),
            remove_segments: Vec::new(),
            remove_files: Vec::new(),
            remove_others: Vec::new(),
            write_snapshots: Vec::new(),
            epochs: Vec::new(),
            compacted_end: Offset::ZERO,
        }
    }

    /// A log without a batch that begins at the local start; whatever is there goes.
    fn anew(
        around: &Surroundings<'_>,
        source: &Source,
        listing: &Listing,
        passed: Vec<Offset>,
    ) -> Plan {
        let start = source.local_start;
        let mut plan = Plan::empty(around, start);
        plan.created = true;
        plan.unproven = true;
        plan.remove_segments = passed;
        plan.remove_segments
            .extend(listing.segments.keys().copied());
        let own_snapshot = (start, FileKind::Snapshot);
        plan.remove_files = listing
            .files
            .iter()
            .copied()
            .filter(|one| *one != own_snapshot)
            .collect();
        if listing.files.contains(&own_snapshot)
            && let Ok(Some(producers)) = around.producers_at(start)
        {
            plan.producers = producers;
            plan.snapshots = vec![start];
        }
        plan.remove_segments.retain(|base| *base != start);
        plan.remove_others = listing.temporaries.clone();
        plan
    }

    /// The offset at which reading begins, with the producers as of there: the newest sound snapshot
    /// that was durable.
    fn choose_origin(
        &mut self,
        around: &Surroundings<'_>,
        source: &Source,
        listing: &Listing,
    ) -> io::Result<Offset> {
        let first = self.local_start;
        let bound = match source.records_lost {
            true => first,
            false => source.trusted_end.min(source.limit).max(first),
        };
        let of_snapshot =
            |(offset, kind): &(Offset, FileKind)| (*kind == FileKind::Snapshot).then_some(*offset);
        let mut candidates: Vec<Offset> = listing.files.iter().filter_map(of_snapshot).collect();
        // A snapshot at the very end may have been written after the round that reached it, and then
        // the indexes below it are not known to be on the disk.
        let proven = |offset: Offset| source.all_synced || offset < bound || offset == first;
        candidates.retain(|offset| (first..=bound).contains(offset) && proven(*offset));
        candidates.sort();
        for offset in candidates.into_iter().rev() {
            if let Some(producers) = around.producers_at(offset)? {
                self.producers = producers;
                return Ok(offset);
            }
        }
        Ok(first)
    }

    fn read(
        &mut self,
        around: &Surroundings<'_>,
        source: &Source,
        listing: &Listing,
        origin: Offset,
    ) -> io::Result<()> {
        let segments: Vec<(Offset, u64)> = listing
            .segments
            .iter()
            .map(|(&base, &bytes)| (base, bytes))
            .collect();
        let rewrite_at = match (source.records_lost, source.limit < Offset::MAX) {
            (true, _) => Offset(i64::MIN),
            (false, true) => Offset::MAX,
            (false, false) => source.trusted_end,
        };
        // Where the records are lost, what is missing inside a sealed segment is taken for compaction's
        // work: that it ends where the next begins is checked all the same.
        let gaps_end = match (source.records_lost, segments.last()) {
            (true, Some(&(active, _))) => active,
            _ => source.compacted_end,
        };
        let bounds = Bounds {
            limit: source.limit,
            rewrite_at,
            compacted_end: gaps_end,
        };
        let mut ended = false;
        for (index, &(base, length)) in segments.iter().enumerate() {
            let next = segments.get(index + 1).map(|&(base, _)| base);
            if let Some(next) = next.filter(|next| *next <= origin) {
                self.sealed.push(around.sealed(base, next, length)?);
                continue;
            }
            if ended {
                self.remove_segments.push(base);
                continue;
            }
            if base > origin {
                if base != self.end {
                    self.damage = Some(Damage {
                        segment: base.0,
                        position: 0,
                        offset: self.end,
                        reason: "the segment does not continue the one before".to_owned(),
                    });
                    self.remove_segments.push(base);
                    ended = true;
                    continue;
                }
                self.seal();
                self.write_snapshots
                    .push((base, self.producers.snapshot().encode()));
            }
            let resume = self.resume(around, base, length, origin)?;
            self.read_segment(around, bounds, (base, length), resume, origin)?;
            // A cut at the border of two segments leaves the second, empty.
            let cut = source.limit < Offset::MAX && next.is_some_and(|next| self.end < next);
            ended = self.damage.is_some() || cut;
        }
        Ok(())
    }

    fn resume(
        &self,
        around: &Surroundings<'_>,
        base: Offset,
        length: u64,
        origin: Offset,
    ) -> io::Result<Resume> {
        let empty = Active::new(base, around.now, 0);
        if base >= origin {
            return Ok(from_start(empty));
        }
        let log = around.open(base, FileKind::Log)?;
        let offsets = around.open_if_there(base, FileKind::OffsetIndex)?;
        let times = around.open_if_there(base, FileKind::TimeIndex)?;
        resume_below(empty, origin, log.as_ref(), length, offsets, times)
    }

    fn read_segment(
        &mut self,
        around: &Surroundings<'_>,
        bounds: Bounds,
        (base, length): (Offset, u64),
        resume: Resume,
        origin: Offset,
    ) -> io::Result<()> {
        let file = around.open(base, FileKind::Log)?;
        let (producers, epochs) = (&mut self.producers, &mut self.epochs);
        let mut visit = |batch: &esker_protocol::records::Batch<'_>| {
            let header = batch.header();
            let epoch = header.partition_leader_epoch;
            if epochs.last().is_none_or(|&(last, _)| last < epoch) {
                epochs.push((epoch, header.base_offset));
            }
            if header.base_offset < origin {
                None
            } else {
                producers.replay(batch)
            }
        };
        let interval = around.index_interval_bytes;
        let scanned = scan(file.as_ref(), length, resume, bounds, interval, &mut visit)?;
        self.end = scanned.end;
        self.damage = scanned.damage;
        if let Some(gap_end) = scanned.gap_end {
            self.compacted_end = self.compacted_end.max(gap_end);
        }
        self.bytes_since_checkpoint += scanned.bytes;
        let aborted_kept = if base < origin {
            around.aborted_below(base, origin)?
        } else {
            0
        };
        let has_aborted = aborted_kept > 0 || !scanned.aborted.is_empty();
        self.scanned.push(PlannedSegment {
            base,
            bytes: scanned.active.bytes,
            scanned_bytes: scanned.bytes,
            rewrite_from: scanned.rewrite_from,
            aborted_kept,
            aborted: scanned.aborted,
            indexes: None,
        });
        self.active = scanned.active;
        self.active.has_aborted = has_aborted;
        Ok(())
    }

    /// The segment read last is complete: another follows.
    fn seal(&mut self) {
        self.active.note_time();
        let mut sealed = self.active.sealed(self.end);
        let count = |entries: u64| u32::try_from(entries).unwrap_or(u32::MAX);
        sealed.offset_entries = count(self.active.offset_index.count());
        sealed.time_entries = count(self.active.time_index.count());
        self.sealed.push(sealed);
        if let Some(planned) = self.scanned.last_mut() {
            let indexes = (
                self.active.offset_index.clone(),
                self.active.time_index.clone(),
            );
            planned.indexes = Some(indexes);
        }
    }

    /// Lists the files that no segment of the plan has.
    fn tidy(&mut self, listing: &Listing, origin: Offset) {
        let bases: Vec<Offset> = self
            .sealed
            .iter()
            .map(|segment| segment.base)
            .chain([self.active.base])
            .collect();
        for &(offset, kind) in &listing.files {
            let stays = match kind {
                FileKind::Snapshot => (self.local_start..=origin).contains(&offset),
                FileKind::Log => true,
                _ => bases.binary_search(&offset).is_ok(),
            };
            let written = |(at, _): &(Offset, Vec<u8>)| *at == offset;
            let written = kind == FileKind::Snapshot && self.write_snapshots.iter().any(written);
            if !stays && !written {
                self.remove_files.push((offset, kind));
            } else if stays && kind == FileKind::Snapshot {
                self.snapshots.push(offset);
            }
        }
        self.remove_others = listing.temporaries.clone();
    }

    /// The leader epochs by the headers of all batches that stay.
    pub(super) fn epochs_of_all(
        &self,
        around: &Surroundings<'_>,
    ) -> io::Result<Vec<(LeaderEpoch, Offset)>> {
        let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        let sealed = self
            .sealed
            .iter()
            .map(|segment| (segment.base, segment.bytes));
        for (base, bytes) in sealed.chain([(self.active.base, self.active.bytes)]) {
            let Some(file) = around.open_if_there(base, FileKind::Log)? else {
                continue;
            };
            let mut reader = BatchReader::of_headers(file.as_ref(), 0, bytes);
            while let Ok(Some(header)) = reader.header()? {
                let epoch = header.partition_leader_epoch;
                if epochs.last().is_none_or(|&(last, _)| last < epoch) {
                    epochs.push((epoch, header.base_offset));
                }
                reader.skip(&header);
            }
        }
        Ok(epochs)
    }
}

/// Takes out the segments that end at or below the local start: their removal was interrupted.
fn drop_passed(segments: &mut BTreeMap<Offset, u64>, local_start: Offset) -> Vec<Offset> {
    let bases: Vec<Offset> = segments.keys().copied().collect();
    let ends = bases.iter().skip(1);
    let passed: Vec<Offset> = bases
        .iter()
        .zip(ends)
        .filter(|(_, end)| **end <= local_start)
        .map(|(base, _)| *base)
        .collect();
    segments.retain(|base, _| !passed.contains(base));
    passed
}

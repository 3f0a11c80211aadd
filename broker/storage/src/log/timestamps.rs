//! Finding records by their timestamps, in what is on this disk.

use std::io;

use esker_protocol::records::{Batch, Caps, RecordsError, search};
use esker_protocol::{LeaderEpoch, Offset, Timestamp};

use super::Log;
use super::locate::Place;
use super::read::ATTEMPTS_MAX;
use super::scan::BatchReader;
use crate::directory::names::FileKind;
use crate::entry_file::{file_floor, read_entries};
use crate::error::{Damage, ReadError};
use crate::index::TimeEntry;

/// A record that was found by its timestamp.
type Found = (Timestamp, Offset, LeaderEpoch);

/// A segment to search, and where the time index says to begin.
struct Candidate {
    place: Place,
    time_entries: u32,
    tail_entry: Option<TimeEntry>,
}

impl Log {
    /// The first record on this disk with a timestamp of at least `timestamp`, if it is below
    /// `below`.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        below: Offset,
    ) -> Result<Option<Found>, ReadError> {
        let found = self.while_it_stands(|| self.first_at_or_after(timestamp))?;
        Ok(found.filter(|(_, offset, _)| *offset < below))
    }

    /// The first record that has the largest timestamp on this disk.
    pub fn offset_of_max_timestamp(&self) -> Result<Option<Found>, ReadError> {
        self.while_it_stands(|| self.first_of_max_timestamp())
    }

    /// Looks again where segments were cut or replaced meanwhile; at last while none can be.
    pub(super) fn while_it_stands<T>(
        &self,
        look: impl Fn() -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        for _ in 1..ATTEMPTS_MAX {
            let layout = self.state().layout;
            let found = look();
            if self.state().layout == layout {
                return found;
            }
        }
        let _one_at_a_time = self.hold_maintenance();
        look()
    }

    fn first_at_or_after(&self, timestamp: Timestamp) -> Result<Option<Found>, ReadError> {
        for candidate in self.candidates(timestamp)? {
            let from = self.begin_at(&candidate, timestamp)?;
            let starts = self.start_offset();
            let holds = |max: Timestamp, last: Offset| max >= timestamp && last >= starts;
            if let Some(found) =
                self.search(&candidate.place, from, holds, |batch: &Batch<'_>| {
                    search::first_at_or_after(batch, timestamp, &Caps::DEFAULT)
                })?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn first_of_max_timestamp(&self) -> Result<Option<Found>, ReadError> {
        let segments = self.segments();
        let max = segments.iter().map(|segment| segment.max_timestamp).max();
        let Some(max) = max.filter(|max| *max >= Timestamp(0)) else {
            return Ok(None);
        };
        for candidate in self.candidates(max)? {
            let from = self.begin_at(&candidate, max)?;
            let holds = |timestamp: Timestamp, _| timestamp >= max;
            if let Some(found) =
                self.search(&candidate.place, from, holds, |batch: &Batch<'_>| {
                    search::first_of_max_timestamp(batch, &Caps::DEFAULT)
                })?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The segments that may hold a record so late, oldest first.
    fn candidates(&self, timestamp: Timestamp) -> Result<Vec<Candidate>, ReadError> {
        let state = self.state();
        if state.closed || state.poisoned.is_some() {
            return Err(ReadError::Offline);
        }
        let late = |max: Timestamp| max >= timestamp;
        let sealed = state
            .sealed
            .iter()
            .filter(|segment| late(segment.max_timestamp));
        let mut candidates: Vec<Candidate> = sealed
            .map(|segment| Candidate {
                place: state.place(segment.base),
                time_entries: segment.time_entries,
                tail_entry: None,
            })
            .collect();
        let active = &state.active;
        if active.max_timestamp.is_some_and(|(max, _)| late(max)) {
            candidates.push(Candidate {
                place: state.place(active.base),
                time_entries: active.time_index.on_disk(),
                tail_entry: active
                    .time_index
                    .tail_floor(|entry| entry.timestamp < timestamp),
            });
        }
        Ok(candidates)
    }

    /// An offset before which no record of the segment is late enough.
    fn begin_at(&self, candidate: &Candidate, timestamp: Timestamp) -> Result<Offset, ReadError> {
        let base = candidate.place.base;
        if let Some(entry) = candidate.tail_entry {
            return Ok(base + i64::from(entry.relative));
        }
        if candidate.time_entries == 0 {
            return Ok(base);
        }
        let key = (self.id, base, FileKind::TimeIndex);
        let file = match self.directory.files.open(&self.path, key) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(base),
            other => other?,
        };
        let earlier = |entry: &TimeEntry| entry.timestamp < timestamp;
        let (_, entry) = file_floor(file.as_ref(), candidate.time_entries, earlier)?;
        Ok(entry.map_or(base, |entry: TimeEntry| base + i64::from(entry.relative)))
    }

    /// Looks into the batches for which `holds` from the one that holds `from` on.
    fn search(
        &self,
        place: &Place,
        from: Offset,
        holds: impl Fn(Timestamp, Offset) -> bool,
        look: impl Fn(&Batch<'_>) -> Result<Option<(Offset, Timestamp)>, RecordsError>,
    ) -> Result<Option<Found>, ReadError> {
        let place = {
            let state = self.state();
            // The position of `from`, not of the segment's base.
            let exact = state.place(from);
            if exact.base == place.base {
                exact
            } else {
                place.clone()
            }
        };
        let file = self.place_file(&place)?;
        let position = self.position_before(&place, from)?;
        let mut reader = BatchReader::of_headers(file.as_ref(), position, place.bytes);
        loop {
            let at = reader.position;
            let damaged = |offset, reason| Damage {
                segment: place.base.0,
                position: at,
                offset,
                reason,
            };
            let header = match reader.header()? {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(None),
                Err(reason) => return Err(damaged(from, reason).into()),
            };
            if holds(header.max_timestamp, header.last_offset()) {
                let batch = match reader.batch(&header)? {
                    Ok(batch) => batch,
                    Err(reason) => return Err(damaged(header.base_offset, reason).into()),
                };
                let found =
                    look(&batch).map_err(|error| damaged(header.base_offset, error.to_string()))?;
                if let Some((offset, timestamp)) = found {
                    return Ok(Some((timestamp, offset, header.partition_leader_epoch)));
                }
            }
            reader.skip(&header);
        }
    }

    /// All entries of a segment's time index.
    pub(super) fn time_entries_of(&self, base: Offset, count: u32) -> io::Result<Vec<TimeEntry>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let file = self
            .directory
            .files
            .open(&self.path, (self.id, base, FileKind::TimeIndex))?;
        read_entries(file.as_ref(), 0, count)
    }
}

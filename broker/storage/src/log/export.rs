//! A sealed segment as the tier takes it: bytes, indexes, lineage, producers, aborted transactions.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use esker_protocol::{LeaderEpoch, Offset, Timestamp};

use super::Log;
use super::scan::BatchReader;
use crate::directory::names::{FileKind, segment_file};
use crate::disk::{DiskFile, read_all};
use crate::entry_file::{Entry as _, read_entries};
use crate::error::{Damage, ReadError};
use crate::index::{AbortedTransaction, OffsetEntry};
use crate::producers::ProducerSnapshot;

/// A sealed segment, open for reading: it can be read to its end though it is deleted meanwhile.
#[derive(Debug)]
pub struct SegmentExport {
    /// The first offset.
    pub base: Offset,
    /// The end, exclusive.
    pub end: Offset,
    /// The bytes of its batches.
    pub bytes: u64,
    /// The largest timestamp, -1 when no record has one.
    pub max_timestamp: Timestamp,
    /// The offset index: last offset of a batch, and the position where it begins.
    pub offset_index: Vec<(Offset, u64)>,
    /// The time index: no record up to the offset has a larger timestamp.
    pub time_index: Vec<(Timestamp, Offset)>,
    /// The leader epochs of its batches; the first may have begun before.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// Every aborted transaction that overlaps it, wherever its marker is.
    pub aborted: Vec<AbortedTransaction>,
    /// The producers as of its end.
    pub producers: ProducerSnapshot,
    /// The same as the bytes of a snapshot file.
    pub producers_bytes: Bytes,
    file: Arc<dyn DiskFile>,
}

impl SegmentExport {
    /// Reads at most `bytes_max` at `position`; fewer at the segment's end.
    pub fn read_at(&self, position: u64, bytes_max: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.bytes.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut buffer = Vec::new();
        self.file
            .read_at(position, bytes_max.min(left), &mut buffer)?;
        Ok(Bytes::from(buffer))
    }

    /// The position of the batch that begins at `offset`; `None` when none does.
    pub fn position_of(&self, offset: Offset) -> io::Result<Option<u64>> {
        if offset == self.end {
            return Ok(Some(self.bytes));
        }
        let count = self
            .offset_index
            .partition_point(|(last, _)| *last < offset);
        let entry = count
            .checked_sub(1)
            .and_then(|index| self.offset_index.get(index));
        let from = entry.map_or(0, |(_, position)| *position);
        let mut reader = BatchReader::of_headers(self.file.as_ref(), from, self.bytes);
        while let Ok(Some(header)) = reader.header()? {
            if header.base_offset >= offset {
                return Ok((header.base_offset == offset).then_some(reader.position));
            }
            reader.skip(&header);
        }
        Ok(None)
    }
}

impl Log {
    /// Opens the sealed segment that begins at `base` for the tier; `None` when there is none.
    pub fn export(&self, base: Offset) -> Result<Option<SegmentExport>, ReadError> {
        let (segment, epochs, bases) = {
            let state = self.state();
            if state.closed || state.poisoned.is_some() {
                return Err(ReadError::Offline);
            }
            let index = state
                .sealed
                .binary_search_by_key(&base, |segment| segment.base);
            let Some(segment) = index
                .ok()
                .and_then(|index| state.sealed.get(index))
                .cloned()
            else {
                return Ok(None);
            };
            let epochs = state.epochs.range(segment.base, segment.end);
            (segment, epochs, state.with_aborted(base))
        };
        let file = self
            .directory
            .files
            .open(&self.path, (self.id, base, FileKind::Log))?;
        let offsets = self.offset_entries_of(base, segment.offset_entries)?;
        let times = self.time_entries_of(base, segment.time_entries)?;
        let snapshot = self
            .path
            .join(segment_file(segment.end, FileKind::Snapshot));
        let producers_bytes = read_all(self.directory.disk.as_ref(), &snapshot)?;
        let producers = ProducerSnapshot::decode(&producers_bytes).map_err(|error| Damage {
            segment: segment.end.0,
            position: 0,
            offset: segment.end,
            reason: error.to_string(),
        })?;
        let aborted = self.aborted_in(&bases, base, segment.end)?;
        let absolute = |relative: u32| base + i64::from(relative);
        Ok(Some(SegmentExport {
            base,
            end: segment.end,
            bytes: segment.bytes,
            max_timestamp: segment.max_timestamp,
            offset_index: offsets
                .iter()
                .map(|entry| (absolute(entry.relative), u64::from(entry.position)))
                .collect(),
            time_index: times
                .iter()
                .map(|entry| (entry.timestamp, absolute(entry.relative)))
                .collect(),
            epochs,
            aborted,
            producers,
            producers_bytes: Bytes::from(producers_bytes),
            file,
        }))
    }

    /// The aborted transactions that overlap `start..end`, for readers of committed records.
    pub fn aborted_transactions(
        &self,
        start: Offset,
        end: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        self.while_it_stands(|| {
            let bases = self.state().with_aborted(start);
            Ok(self.aborted_in(&bases, start, end)?)
        })
    }

    fn aborted_in(
        &self,
        bases: &[Offset],
        start: Offset,
        end: Offset,
    ) -> io::Result<Vec<AbortedTransaction>> {
        let mut found = Vec::new();
        for &base in bases {
            let key = (self.id, base, FileKind::TransactionIndex);
            let file = match self.directory.files.open(&self.path, key) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let count = file.len()? / AbortedTransaction::BYTES as u64;
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let entries = read_entries::<AbortedTransaction>(file.as_ref(), 0, count)?;
            let overlaps =
                |one: &AbortedTransaction| one.first_offset < end && one.last_offset >= start;
            let enough = entries.iter().any(|one| one.last_stable_offset >= end);
            found.extend(entries.into_iter().filter(overlaps));
            // Whatever ends after this one began at or after its last stable offset.
            if enough {
                break;
            }
        }
        Ok(found)
    }

    fn offset_entries_of(&self, base: Offset, count: u32) -> io::Result<Vec<OffsetEntry>> {
        if count == 0 {
            // The file of an empty index may never have been made.
            return Ok(Vec::new());
        }
        let file = self
            .directory
            .files
            .open(&self.path, (self.id, base, FileKind::OffsetIndex))?;
        read_entries(file.as_ref(), 0, count)
    }
}

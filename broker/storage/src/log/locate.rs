//! From an offset to a place in a file.

use std::io;
use std::sync::Arc;

use esker_protocol::Offset;

use super::Log;
use super::state::State;
use crate::directory::names::FileKind;
use crate::disk::{CachedOnly, DiskFile};
use crate::entry_file::file_floor;
use crate::index::OffsetEntry;

/// A segment as of a moment, for a reader that then works without the lock.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) base: Offset,
    /// Nothing behind it may be read.
    pub(super) bytes: u64,
    pub(super) offset_entries: u32,
    /// The last entry in memory that is not above the offset.
    pub(super) tail_entry: Option<OffsetEntry>,
    /// Where exactly the offset's batch begins.
    pub(super) hint: Option<u64>,
    /// The file, when it is open for writing.
    pub(super) file: Option<Arc<dyn DiskFile>>,
    /// The state's layout at the time.
    pub(super) layout: u64,
    /// Only below it may offsets be missing.
    pub(super) compacted_end: Offset,
    /// Whether nothing but what is in memory may be read.
    pub(super) cached_only: bool,
}

impl State {
    /// The segment that holds an offset of the log.
    pub(super) fn place(&self, offset: Offset) -> Place {
        let hint = self.recall(offset);
        if offset >= self.active.base {
            let active = &self.active;
            let relative = active.relative(offset);
            return Place {
                base: active.base,
                bytes: active.bytes,
                offset_entries: active.offset_index.on_disk(),
                tail_entry: active
                    .offset_index
                    .tail_floor(|entry| entry.relative <= relative),
                hint: hint
                    .filter(|hint| hint.segment == active.base)
                    .map(|hint| hint.position),
                file: active.file.clone(),
                layout: self.layout,
                compacted_end: self.compacted_end,
                cached_only: false,
            };
        }
        let index = self
            .sealed
            .partition_point(|segment| segment.base <= offset)
            .saturating_sub(1);
        let segment = self.sealed.get(index);
        let base = segment.map_or(offset, |segment| segment.base);
        Place {
            base,
            bytes: segment.map_or(0, |segment| segment.bytes),
            offset_entries: segment.map_or(0, |segment| segment.offset_entries),
            tail_entry: None,
            hint: hint
                .filter(|hint| hint.segment == base)
                .map(|hint| hint.position),
            file: None,
            layout: self.layout,
            compacted_end: self.compacted_end,
            cached_only: false,
        }
    }
}

impl Place {
    /// Whether a batch at `base` may follow where `expected` was due.
    pub(super) fn follows(&self, base: Offset, expected: Offset) -> bool {
        base == expected || (base > expected && base <= self.compacted_end)
    }

    fn limit(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        match self.cached_only {
            true => Arc::new(CachedOnly(file)),
            false => file,
        }
    }
}

impl Log {
    pub(super) fn place_file(&self, place: &Place) -> io::Result<Arc<dyn DiskFile>> {
        let file = match &place.file {
            Some(file) => file.clone(),
            None => {
                let key = (self.id, place.base, FileKind::Log);
                self.directory.files.open(&self.path, key)?
            }
        };
        Ok(place.limit(file))
    }

    /// A position at or before the batch that holds `offset`, by the index.
    pub(super) fn position_before(&self, place: &Place, offset: Offset) -> io::Result<u64> {
        if let Some(position) = place.hint {
            return Ok(position);
        }
        if let Some(entry) = place.tail_entry {
            return Ok(u64::from(entry.position));
        }
        if place.offset_entries == 0 {
            return Ok(0);
        }
        let key = (self.id, place.base, FileKind::OffsetIndex);
        let file = match self.directory.files.open(&self.path, key) {
            // Indexes only save work.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        let not_above = |entry: &OffsetEntry| place.base + i64::from(entry.relative) <= offset;
        let (_, entry) = file_floor(place.limit(file).as_ref(), place.offset_entries, not_above)?;
        Ok(entry.map_or(0, |entry| u64::from(entry.position)))
    }
}

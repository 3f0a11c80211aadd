//! One data file: what memory keeps of a sealed one, and of the one that is being written.

use std::sync::Arc;

use esker_protocol::{Offset, Timestamp};

use crate::config::LogConfig;
use crate::disk::DiskFile;
use crate::entry_file::{Entry as _, EntryFile};
use crate::index::{OffsetEntry, TimeEntry};

/// A segment that is complete; its end is the base of the next.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) bytes: u64,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) created: Timestamp,
    pub(crate) offset_entries: u32,
    pub(crate) time_entries: u32,
    /// Whether its transaction index holds anything.
    pub(crate) has_aborted: bool,
}

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) base: Offset,
    pub(crate) bytes: u64,
    /// Space taken; at least `bytes` once something was written.
    pub(crate) allocated: u64,
    /// The next step in which space is taken.
    pub(crate) step: u64,
    pub(crate) created: Timestamp,
    /// The largest timestamp of the first batch: what the age of the segment counts from.
    pub(crate) first_timestamp: Option<Timestamp>,
    /// The largest timestamp so far, and the last offset of the first batch that had it.
    pub(crate) max_timestamp: Option<(Timestamp, Offset)>,
    pub(crate) offset_index: EntryFile<OffsetEntry>,
    pub(crate) time_index: EntryFile<TimeEntry>,
    pub(crate) bytes_since_entry: u64,
    /// Whether the transaction index holds anything.
    pub(crate) has_aborted: bool,
    /// Open while it is written to.
    pub(crate) file: Option<Arc<dyn DiskFile>>,
    /// Whether `file` is among the unsynced.
    pub(crate) unsynced: bool,
    /// The bytes that syncs covered: of the file, or of the journal.
    pub(crate) covered_bytes: u64,
}

/// A batch as segments count it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) last_offset: Offset,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) bytes: u64,
}

/// The first step in which space is taken; it doubles with every step.
const FIRST_STEP_BYTES: u64 = 64 << 10;
/// Positions in an index are Kafka's signed 32-bit integers.
pub(crate) const POSITION_MAX: u64 = i32::MAX as u64;

impl Active {
    pub(crate) fn new(base: Offset, created: Timestamp, step: u64) -> Active {
        Active {
            base,
            bytes: 0,
            allocated: 0,
            step: step.max(FIRST_STEP_BYTES),
            created,
            first_timestamp: None,
            max_timestamp: None,
            offset_index: EntryFile::new(),
            time_index: EntryFile::new(),
            bytes_since_entry: 0,
            has_aborted: false,
            file: None,
            unsynced: false,
            covered_bytes: 0,
        }
    }

    pub(crate) fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset - self.base).unwrap_or(u32::MAX)
    }

    /// Counts a batch that was written at the end, and adds the index entries that it is due.
    pub(crate) fn note(&mut self, batch: Placed, index_interval_bytes: u64) {
        if self.bytes == 0 {
            self.first_timestamp = Some(batch.max_timestamp);
        }
        if self
            .max_timestamp
            .is_none_or(|(max, _)| batch.max_timestamp > max)
            && batch.max_timestamp >= Timestamp(0)
        {
            self.max_timestamp = Some((batch.max_timestamp, batch.last_offset));
        }
        if self.bytes_since_entry > index_interval_bytes {
            let relative = self.relative(batch.last_offset);
            let position = u32::try_from(self.bytes).unwrap_or(u32::MAX);
            self.offset_index.push(OffsetEntry { relative, position });
            self.note_time();
            self.bytes_since_entry = 0;
        }
        self.bytes += batch.bytes;
        self.bytes_since_entry += batch.bytes;
    }

    /// Adds the time entry that is due, when the largest timestamp has risen.
    pub(crate) fn note_time(&mut self) {
        if let Some((timestamp, offset)) = self.max_timestamp
            && self
                .time_index
                .last()
                .is_none_or(|last| timestamp > last.timestamp)
        {
            let relative = self.relative(offset);
            self.time_index.push(TimeEntry {
                timestamp,
                relative,
            });
        }
    }

    /// Whether a batch belongs into the next segment (the rules are Kafka's).
    pub(crate) fn must_roll(
        &self,
        batch: Placed,
        ending_with: u64,
        config: &LogConfig,
        now: Timestamp,
    ) -> bool {
        if ending_with == 0 {
            return false;
        }
        let bytes_max = config.segment_bytes.min(POSITION_MAX);
        let index_full =
            |bytes: u64, entry: usize| bytes.saturating_add(entry as u64) > config.index_bytes_max;
        ending_with.saturating_add(batch.bytes) > bytes_max
            || self.age_ms(batch.max_timestamp, now)
                > config.segment_ms.saturating_sub(config.segment_jitter_ms)
            || index_full(self.offset_index.bytes(), OffsetEntry::BYTES)
            // One entry is kept free: sealing adds the last one.
            || index_full(self.time_index.bytes(), 2 * TimeEntry::BYTES)
            || batch.last_offset - self.base > i64::from(i32::MAX)
    }

    /// The span of record time up to a batch; of wall time where the records have none.
    pub(crate) fn age_ms(&self, timestamp: Timestamp, now: Timestamp) -> i64 {
        match self.first_timestamp {
            Some(first) if first >= Timestamp(0) => timestamp.0.saturating_sub(first.0),
            _ => now.0.saturating_sub(self.created.0),
        }
    }

    /// What memory keeps of it once `end` begins the next. The indexes must be flushed.
    pub(crate) fn sealed(&self, end: Offset) -> Sealed {
        Sealed {
            base: self.base,
            end,
            bytes: self.bytes,
            max_timestamp: self.max_timestamp.map_or(Timestamp::NONE, |(max, _)| max),
            created: self.created,
            offset_entries: self.offset_index.on_disk(),
            time_entries: self.time_index.on_disk(),
            has_aborted: self.has_aborted,
        }
    }
}

//! Reading a segment batch by batch, and telling where its intact bytes end.

use std::io;
use std::sync::Arc;

use esker_protocol::Offset;
use esker_protocol::records::{Batch, BatchHeader};

use super::append::placed;
use crate::disk::DiskFile;
use crate::entry_file::{EntryFile, read_entries};
use crate::error::Damage;
use crate::index::{AbortedTransaction, OffsetEntry, TimeEntry};
use crate::segment::Active;

/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Batches of a file, one after another.
pub(super) struct BatchReader<'a> {
    file: &'a dyn DiskFile,
    /// The end of what may be read.
    length: u64,
    /// The position of the current batch.
    pub(super) position: u64,
    buffer: Vec<u8>,
    /// Where the current batch begins in the buffer.
    cursor: usize,
    chunk_bytes: usize,
}

impl<'a> BatchReader<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, position: u64, length: u64) -> BatchReader<'a> {
        let chunk_bytes = CHUNK_BYTES;
        BatchReader {
            file,
            length,
            position,
            buffer: Vec::new(),
            cursor: 0,
            chunk_bytes,
        }
    }

    /// A reader that wants headers only, and reads little at once.
    pub(super) fn of_headers(
        file: &'a dyn DiskFile,
        position: u64,
        length: u64,
    ) -> BatchReader<'a> {
        BatchReader {
            chunk_bytes: 8 << 10,
            ..BatchReader::new(file, position, length)
        }
    }

    /// Makes `bytes` of what follows the position available; fewer only at the end.
    fn fill(&mut self, bytes: usize) -> io::Result<&[u8]> {
        let have = self.buffer.len().saturating_sub(self.cursor);
        if have < bytes {
            self.buffer.drain(..self.cursor.min(self.buffer.len()));
            self.cursor = 0;
            let end = self.position + have as u64;
            let left = usize::try_from(self.length.saturating_sub(end)).unwrap_or(usize::MAX);
            let wanted = (bytes - have).max(self.chunk_bytes).min(left);
            self.file.read_at(end, wanted, &mut self.buffer)?;
        }
        Ok(self.buffer.get(self.cursor..).unwrap_or_default())
    }

    /// The header at the position; `None` at the end, or an account of what is wrong.
    pub(super) fn header(&mut self) -> io::Result<Result<Option<BatchHeader>, String>> {
        let left = self.length.saturating_sub(self.position);
        let bytes = self.fill(BatchHeader::BYTES)?;
        let bytes = bytes
            .get(..BatchHeader::BYTES.min(bytes.len()))
            .unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Ok(None));
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Err("zeros in place of a batch".to_owned()));
        }
        Ok(match BatchHeader::parse(bytes) {
            Err(error) => Err(error.to_string()),
            Ok(header) if header.size_in_bytes() as u64 > left => Err(format!(
                "a batch of {} bytes, of which {left} are there",
                header.size_in_bytes()
            )),
            Ok(header) => Ok(Some(header)),
        })
    }

    /// The whole batch at the position, whose header was read.
    pub(super) fn batch(&mut self, header: &BatchHeader) -> io::Result<Result<Batch<'_>, String>> {
        let size = header.size_in_bytes();
        let bytes = self.fill(size)?;
        Ok(Batch::parse(bytes)
            .map(|(batch, _)| batch)
            .map_err(|error| error.to_string()))
    }

    /// Goes on to the next batch.
    pub(super) fn skip(&mut self, header: &BatchHeader) {
        let size = header.size_in_bytes();
        self.position += size as u64;
        self.cursor += size;
        if self.cursor > self.buffer.len() {
            self.buffer.clear();
            self.cursor = 0;
        }
    }
}

/// Where a scan of a segment begins, with the indexes as of there.
pub(super) struct Resume {
    pub(super) active: Active,
    pub(super) expected: Offset,
}

/// The start of a segment.
pub(super) fn from_start(active: Active) -> Resume {
    let expected = active.base;
    Resume { active, expected }
}

/// Begins at the last index entry below `offset`, if the indexes and the batch that it names agree;
/// at the start of the segment otherwise, which rebuilds the indexes.
pub(super) fn resume_below(
    empty: Active,
    offset: Offset,
    log: &dyn DiskFile,
    length: u64,
    offset_index: Option<Arc<dyn DiskFile>>,
    time_index: Option<Arc<dyn DiskFile>>,
) -> io::Result<Resume> {
    let Some(offset_index) = offset_index.filter(|_| offset > empty.base) else {
        return Ok(from_start(empty));
    };
    let base = empty.base;
    // Behind the entries that are proven may be holes that a crash left, so that order says nothing:
    // the proven ones are those that rise from the first on. No entry is at position 0.
    let (count, entry) = rising_prefix(offset_index.as_ref(), |last, entry: &OffsetEntry| {
        let rises = last.is_none_or(|last: OffsetEntry| {
            entry.relative > last.relative && entry.position > last.position
        });
        rises && entry.position > 0 && base + i64::from(entry.relative) < offset
    })?;
    let Some(entry) = entry else {
        return Ok(from_start(empty));
    };
    let header = BatchReader::of_headers(log, u64::from(entry.position), length).header()?;
    let first = BatchReader::of_headers(log, 0, length).header()?;
    let (Ok(Some(header)), Ok(Some(first))) = (header, first) else {
        return Ok(from_start(empty));
    };
    if header.last_offset() != base + i64::from(entry.relative) {
        return Ok(from_start(empty));
    }
    let Some(time_index) = time_index else {
        return Ok(from_start(empty));
    };
    let first_time = read_entries::<TimeEntry>(time_index.as_ref(), 0, 1)?;
    if first_time
        .first()
        .is_some_and(|time| time.timestamp.0 == 0 && time.relative == 0)
    {
        // A hole, or the only entry that looks like one.
        return Ok(from_start(empty));
    }
    let (time_count, time_entry) = rising_prefix(time_index.as_ref(), |last, time: &TimeEntry| {
        let rises = last.is_none_or(|last: TimeEntry| {
            time.timestamp > last.timestamp && time.relative > last.relative
        });
        rises && time.relative <= entry.relative
    })?;
    let mut active = empty;
    active.bytes = u64::from(entry.position) + header.size_in_bytes() as u64;
    active.first_timestamp = Some(first.max_timestamp);
    active.max_timestamp =
        time_entry.map(|time: TimeEntry| (time.timestamp, base + i64::from(time.relative)));
    active.offset_index = EntryFile::with_prefix(count, Some(entry));
    active.time_index = EntryFile::with_prefix(time_count, time_entry);
    active.bytes_since_entry = header.size_in_bytes() as u64;
    Ok(Resume {
        active,
        expected: header.next_offset(),
    })
}

/// The entries from the first on for which `good` holds, given the one before: how many, and the last.
fn rising_prefix<E: crate::entry_file::Entry>(
    file: &dyn DiskFile,
    good: impl Fn(Option<E>, &E) -> bool,
) -> io::Result<(u32, Option<E>)> {
    const ENTRIES_AT_ONCE: u32 = 8192;
    let (mut count, mut last) = (0, None);
    loop {
        let entries = read_entries::<E>(file, count, ENTRIES_AT_ONCE)?;
        let full = entries.len() == ENTRIES_AT_ONCE as usize;
        for entry in entries {
            if !good(last, &entry) {
                return Ok((count, last));
            }
            last = Some(entry);
            count += 1;
        }
        if !full {
            return Ok((count, last));
        }
    }
}

/// Whole entries in an index file.
pub(super) fn entries_in<E: crate::entry_file::Entry>(file: &dyn DiskFile) -> io::Result<u32> {
    Ok(u32::try_from(file.len()? / E::BYTES as u64).unwrap_or(u32::MAX))
}

/// What a scan of a segment found.
pub(super) struct Scanned {
    pub(super) active: Active,
    /// Where the intact batches end.
    pub(super) end: Offset,
    /// Why they end there, when it is not the end of the file or the limit.
    pub(super) damage: Option<Damage>,
    /// The position of the first batch at or above the recorded end.
    pub(super) rewrite_from: Option<u64>,
    pub(super) aborted: Vec<AbortedTransaction>,
    pub(super) bytes: u64,
    /// Where the last gap between batches ends.
    pub(super) gap_end: Option<Offset>,
}

/// What a scan is held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Where the log is to end.
    pub(super) limit: Offset,
    /// What begins at or above it is written again.
    pub(super) rewrite_at: Offset,
    /// Only below it may offsets be missing.
    pub(super) compacted_end: Offset,
}

/// Reads a segment from where `resume` says up to its limit, checking every batch. `visit` is told of
/// each, in order, and returns what it aborts.
pub(super) fn scan(
    file: &dyn DiskFile,
    length: u64,
    resume: Resume,
    bounds: Bounds,
    index_interval_bytes: u64,
    visit: &mut dyn FnMut(&Batch<'_>) -> Option<AbortedTransaction>,
) -> io::Result<Scanned> {
    let Resume {
        mut active,
        mut expected,
    } = resume;
    let mut reader = BatchReader::new(file, active.bytes, length);
    let start = active.bytes;
    let mut rewrite_from = None;
    let mut aborted = Vec::new();
    let mut gap_end = None;
    let damage = loop {
        let position = reader.position;
        let damaged = |reason: String| {
            Some(Damage {
                segment: active.base.0,
                position,
                offset: expected,
                reason,
            })
        };
        let header = match reader.header()? {
            Ok(Some(header)) => header,
            Ok(None) => break None,
            Err(reason) => break damaged(reason),
        };
        let base = header.base_offset;
        if base < expected || (base > expected && base > bounds.compacted_end) {
            break damaged(format!("a batch of offset {base}"));
        }
        if header.next_offset() > bounds.limit {
            break None;
        }
        let batch = match reader.batch(&header)? {
            Ok(batch) => batch,
            Err(reason) => break damaged(reason),
        };
        if !batch.crc_is_valid() {
            break damaged("a batch with a wrong checksum".to_owned());
        }
        if base > expected {
            gap_end = Some(base);
        }
        if base >= bounds.rewrite_at && rewrite_from.is_none() {
            rewrite_from = Some(position);
        }
        aborted.extend(visit(&batch));
        active.note(placed(&header), index_interval_bytes);
        expected = header.next_offset();
        reader.skip(&header);
    };
    let bytes = active.bytes - start;
    Ok(Scanned {
        active,
        end: expected,
        damage,
        rewrite_from,
        aborted,
        bytes,
        gap_end,
    })
}

//! Reading whole batches, without the lock.

use std::io;

use bytes::Bytes;
use esker_protocol::Offset;
use esker_protocol::records::{BatchError, BatchHeader};

use super::Log;
use super::locate::Place;
use super::state::Hint;
use crate::error::{Damage, ReadError};

/// Whole batches as they stand in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRead {
    /// The batches; the first one holds the offset asked for, or is the next where compaction has
    /// taken that. Empty when none fits.
    pub bytes: Bytes,
    /// The base offset of the first batch; what was asked for when there is none.
    pub start: Offset,
    /// The offset to read from next.
    pub next: Offset,
}

impl LogRead {
    fn empty(offset: Offset) -> LogRead {
        LogRead {
            bytes: Bytes::new(),
            start: offset,
            next: offset,
        }
    }
}

/// What an index entry may be away from the batch, beyond the interval: read along at once.
const SLACK_BYTES: usize = 8 << 10;
/// How often a read starts over when the log is cut, or its segments go or are replaced meanwhile.
pub(super) const ATTEMPTS_MAX: usize = 8;

/// The outcome of one attempt.
enum Attempt {
    /// With the position where the batches end.
    Done(LogRead, u64),
    /// A batch that is not what it must be, which a cut under way explains.
    Suspect(Damage),
    /// The file is gone.
    Gone,
}

impl Log {
    /// Reads whole batches from the one that holds `offset` on, at most `max_bytes` of them and none
    /// that ends above `below`. With `at_least_one` the first batch comes even when it is larger.
    pub fn read(
        &self,
        offset: Offset,
        max_bytes: usize,
        below: Offset,
        at_least_one: bool,
    ) -> Result<LogRead, ReadError> {
        self.read_from(false, offset, max_bytes, below, at_least_one)
    }

    /// The same of what is in memory; an I/O error of kind `WouldBlock` where the disk would have to
    /// be asked.
    pub fn read_cached(
        &self,
        offset: Offset,
        max_bytes: usize,
        below: Offset,
        at_least_one: bool,
    ) -> Result<LogRead, ReadError> {
        self.read_from(true, offset, max_bytes, below, at_least_one)
    }

    fn read_from(
        &self,
        cached_only: bool,
        offset: Offset,
        max_bytes: usize,
        below: Offset,
        at_least_one: bool,
    ) -> Result<LogRead, ReadError> {
        let mut suspect = None;
        for _ in 0..ATTEMPTS_MAX {
            let Some(mut place) = self.place_for_read(offset, below)? else {
                return Ok(LogRead::empty(offset));
            };
            place.cached_only = cached_only;
            let layout = place.layout;
            match self.read_place(&place, offset, max_bytes, below, at_least_one)? {
                Attempt::Done(read, end) if self.confirm(&place, &read, end) => return Ok(read),
                Attempt::Done(..) | Attempt::Gone => {}
                Attempt::Suspect(damage) => {
                    if self.state().layout == layout {
                        return Err(damage.into());
                    }
                    suspect = Some(damage);
                }
            }
        }
        match suspect {
            Some(damage) => Err(damage.into()),
            None => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        }
    }

    fn place_for_read(&self, offset: Offset, below: Offset) -> Result<Option<Place>, ReadError> {
        let state = self.state();
        if state.closed || state.poisoned.is_some() || self.directory.failed.get().is_some() {
            return Err(ReadError::Offline);
        }
        if offset < state.log_start || offset > state.end {
            return Err(ReadError::OutOfRange {
                offset,
                start: state.log_start,
                end: state.end,
            });
        }
        if offset < state.local_start {
            return Err(ReadError::BelowLocalStart {
                local_start: state.local_start,
            });
        }
        if offset >= below || offset == state.end {
            return Ok(None);
        }
        Ok(Some(state.place(offset)))
    }

    /// Whether what was read still stands, in which case the place to go on is remembered.
    fn confirm(&self, place: &Place, read: &LogRead, position: u64) -> bool {
        let mut state = self.state();
        if state.layout != place.layout {
            return false;
        }
        if !read.bytes.is_empty() {
            state.remember(Hint {
                offset: read.next,
                segment: place.base,
                position,
            });
        }
        true
    }

    fn read_place(
        &self,
        place: &Place,
        offset: Offset,
        max_bytes: usize,
        below: Offset,
        at_least_one: bool,
    ) -> Result<Attempt, ReadError> {
        let file = match self.place_file(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Attempt::Gone),
            other => other?,
        };
        let exact = place.hint.is_some();
        let mut position = self.position_before(place, offset)?;
        let mut due = match position {
            _ if exact => Due::Near,
            0 => Due::At(place.base),
            _ => Due::AtOrBelow,
        };
        let mut wanted = max_bytes.max(BatchHeader::BYTES);
        if !exact {
            wanted = wanted.saturating_add(SLACK_BYTES);
        }
        loop {
            let left = usize::try_from(place.bytes.saturating_sub(position)).unwrap_or(usize::MAX);
            let mut buffer = Vec::new();
            file.read_at(position, wanted.min(left), &mut buffer)?;
            match find(place, &buffer, offset, &mut due) {
                Found::At(start, size) => {
                    let reach = buffer.len() - start;
                    if size > max_bytes && !at_least_one {
                        return Ok(Attempt::Done(LogRead::empty(offset), position));
                    }
                    let rest = place.bytes.saturating_sub(position + start as u64);
                    if size as u64 > rest {
                        let reason = format!("a batch of {size} bytes, of which {rest} are there");
                        return Ok(suspect(place, position + start as u64, offset, reason));
                    }
                    let full = max_bytes.min(usize::try_from(rest).unwrap_or(usize::MAX));
                    if buffer.len() < wanted.min(left) {
                        // The file is shorter than the log knows it: asking again gives no more.
                        let reason = "the file ends inside a batch".to_owned();
                        return Ok(suspect(place, position + start as u64, offset, reason));
                    }
                    if reach < size || (start > 0 && reach < full) {
                        // The batch, or what may follow it, reaches beyond the buffer.
                        position += start as u64;
                        wanted = max_bytes.max(size);
                        due = Due::Near;
                        if left > buffer.len() {
                            continue;
                        }
                    }
                    return Ok(take(
                        place,
                        buffer,
                        (start, position),
                        offset,
                        max_bytes,
                        below,
                    ));
                }
                Found::Behind(skip) if skip > 0 && position + (skip as u64) < place.bytes => {
                    position += skip as u64;
                    wanted = max_bytes
                        .max(BatchHeader::BYTES)
                        .saturating_add(SLACK_BYTES);
                }
                Found::Behind(_) if position > 0 && place.hint.is_none() => {
                    return self.rescan(place, offset, max_bytes, below, at_least_one);
                }
                Found::Behind(_) => {
                    let reason = "the segment ends before the offset".to_owned();
                    return Ok(suspect(place, position, offset, reason));
                }
                Found::Nonsense(at, reason) if position == 0 || exact => {
                    return Ok(suspect(place, position + at as u64, offset, reason));
                }
                // The index may have led astray: it is not worth more than the log itself.
                Found::Nonsense(..) => {
                    return self.rescan(place, offset, max_bytes, below, at_least_one);
                }
            }
        }
    }

    /// Reads from the segment's start, without the index.
    fn rescan(
        &self,
        place: &Place,
        offset: Offset,
        max_bytes: usize,
        below: Offset,
        at_least_one: bool,
    ) -> Result<Attempt, ReadError> {
        let file = self.place_file(place)?;
        let mut reader = super::scan::BatchReader::of_headers(file.as_ref(), 0, place.bytes);
        let mut expected = place.base;
        loop {
            let position = reader.position;
            match reader.header()? {
                Ok(Some(header)) if place.follows(header.base_offset, expected) => {
                    if header.last_offset() >= offset {
                        let exact = Place {
                            hint: Some(position),
                            ..place.clone()
                        };
                        return self.read_place(&exact, offset, max_bytes, below, at_least_one);
                    }
                    expected = header.next_offset();
                    reader.skip(&header);
                }
                Ok(Some(header)) => {
                    let reason = format!("a batch of offset {}", header.base_offset);
                    return Ok(suspect(place, position, expected, reason));
                }
                Ok(None) => {
                    let reason = "the segment ends before the offset".to_owned();
                    return Ok(suspect(place, position, expected, reason));
                }
                Err(reason) => return Ok(suspect(place, position, expected, reason)),
            }
        }
    }
}

fn suspect(place: &Place, position: u64, offset: Offset, reason: String) -> Attempt {
    Attempt::Suspect(Damage {
        segment: place.base.0,
        position,
        offset,
        reason,
    })
}

/// Where in a buffer of batches an offset is.
enum Found {
    /// Its batch begins here and has so many bytes.
    At(usize, usize),
    /// It is behind so many bytes of whole batches, or of one that reaches beyond the buffer.
    Behind(usize),
    /// There is no batch here that could be.
    Nonsense(usize, String),
}

/// Where a batch must begin that may hold an offset, or be the next where compaction has taken that.
#[derive(Debug, Clone, Copy)]
enum Due {
    /// Here, or behind a gap.
    At(Offset),
    /// At the offset or below, or behind a gap from there.
    Near,
    /// At the offset or below: an index that leads beyond it leads astray.
    AtOrBelow,
}

impl Due {
    fn allows(self, place: &Place, base: Offset, offset: Offset) -> bool {
        match self {
            Due::At(expected) => place.follows(base, expected),
            Due::Near => place.follows(base, base.min(offset)),
            Due::AtOrBelow => base <= offset,
        }
    }
}

fn find(place: &Place, buffer: &[u8], offset: Offset, due: &mut Due) -> Found {
    let mut start = 0;
    loop {
        let rest = buffer.get(start..).unwrap_or_default();
        let header = match BatchHeader::parse(rest) {
            Ok(header) => header,
            Err(BatchError::Incomplete { .. }) => return Found::Behind(start),
            Err(error) => return Found::Nonsense(start, error.to_string()),
        };
        let base = header.base_offset;
        if !due.allows(place, base, offset) {
            return Found::Nonsense(start, format!("a batch of offset {base}"));
        }
        let size = header.size_in_bytes();
        if header.last_offset() >= offset {
            return Found::At(start, size);
        }
        *due = Due::At(header.next_offset());
        start += size;
        if start >= buffer.len() {
            return Found::Behind(start);
        }
    }
}

/// Cuts the batches that may be returned out of a buffer.
fn take(
    place: &Place,
    buffer: Vec<u8>,
    (start, position): (usize, u64),
    offset: Offset,
    max_bytes: usize,
    below: Offset,
) -> Attempt {
    let mut end = start;
    let mut first = None;
    let mut next = offset;
    while let Some(rest) = buffer.get(end..).filter(|rest| !rest.is_empty()) {
        // A partial batch, or damage, which the next read meets at its own offset.
        let Ok(header) = BatchHeader::parse(rest) else {
            break;
        };
        if first.is_some() && !place.follows(header.base_offset, next) {
            break;
        }
        let size = header.size_in_bytes();
        let fits =
            end + size <= buffer.len() && (first.is_none() || end + size - start <= max_bytes);
        if !fits || header.next_offset() > below {
            break;
        }
        first.get_or_insert(header.base_offset);
        next = header.next_offset();
        end += size;
    }
    let bytes = match buffer.get(start..end) {
        // Little that is returned does not keep a large buffer.
        Some(little) if little.len() < buffer.len() / 2 => Bytes::copy_from_slice(little),
        _ => Bytes::from(buffer).slice(start..end),
    };
    let read = LogRead {
        bytes,
        start: first.unwrap_or(offset),
        next,
    };
    Attempt::Done(read, position + end as u64)
}

//! `journal.log`: one file that makes small writes to many logs durable by one sync (P6).
//!
//! A commit round copies what was appended since the last one out of the logs' files into one record
//! and syncs that. The files themselves are synced a few at a time, those first whose records are the
//! oldest: at the pace at which records are written, and when the directory is idle; all of them when the
//! journal is full all the same. Once the files have everything up to a record, and `durable-ends.log` says
//! so, the journal is *settled* up to there: what later records need of its place they overwrite. So
//! the file is a ring whose blocks are written over and over, and a sync moves no metadata of the file
//! system.
//!
//! ```text
//! record  "EskJ" | i16 version 1 | uuid directory | i64 sequence | i32 body length | body
//!         | u32 CRC-32C of all between magic and checksum | zeros up to a multiple of 4096
//! body    compact array of entries, no tagged fields
//! entry   uuid topic id | compact string topic | i32 partition | i64 segment | i64 position
//!         | i64 end offset | compact bytes | no tagged fields
//! ```
//! The body is a Kafka-flexible message. The directory's id, which no client is told, keeps what a
//! producer wrote from being taken for a record. Sequences rise by one, over all laps, so they say the order
//! of the records, wherever in the file they stand; those up to the settled one are over. Each record
//! is synced before the next is written, so only the last can be torn, and records never share a block.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_protocol::records::crc32c;
use esker_protocol::{Offset, TopicId};

use super::durable_ends::{JOURNAL, PartitionKey, Recorded, put_uvarint, take_uvarint};
use super::logs::read_topic_id;
use super::names::{self, FileKind, segment_file};
use crate::disk::{BLOCK_BYTES, Disk, DiskFile, OpenMode};
use crate::index::take;
use crate::log::LogName;

pub(crate) const FILE_NAME: &str = "journal.log";
const MAGIC: &[u8; 4] = b"EskJ";
/// In version 0 the first record behind the settled one stood at the start of the file, and was followed by
/// the others: who knows no more must not take a ring for damage.
const VERSION: i16 = 1;
/// Magic, version, directory, sequence, length.
const HEAD_BYTES: usize = 34;
const CRC_BYTES: usize = 4;

/// More than this of one log is cheaper to sync in its file.
pub(crate) const LOG_BYTES_MAX: u64 = 256 << 10;
/// What one round journals at most.
const ROUND_BYTES_MAX: u64 = 4 << 20;
/// Rounds that do without the journal after it found no space.
const PAUSE_ROUNDS: u32 = 64;
/// What an entry takes beside its bytes, at most: a topic's name has 249 characters.
const ENTRY_BYTES_MAX: u64 = 512;

/// What a round wants to journal of a log.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    /// The file of the segment.
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) segment: Offset,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What a round may still journal.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    bytes: u64,
}

impl Room {
    /// Takes room for so many bytes of one log, if there is any.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let wanted = bytes + ENTRY_BYTES_MAX;
        let fits = bytes <= LOG_BYTES_MAX && wanted <= self.bytes;
        if fits {
            self.bytes -= wanted;
        }
        fits
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    sequence: i64,
    from: u64,
    to: u64,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    /// `None` in a directory that does not journal.
    file: Option<Arc<dyn DiskFile>>,
    directory: TopicId,
    bytes_max: u64,
    /// The records that may not be overwritten, from the oldest on.
    live: VecDeque<Place>,
    last_sequence: i64,
    settled_sequence: i64,
    written: u64,
    /// Rounds that do without, since a record could not be written for want of space.
    paused_rounds: u32,
    buffer: Vec<u8>,
}

impl Journal {
    /// A journal without a record behind the settled one.
    pub(super) fn new(
        file: Option<Arc<dyn DiskFile>>,
        directory: TopicId,
        bytes_max: u64,
        settled_sequence: i64,
    ) -> Journal {
        Journal {
            file,
            directory,
            bytes_max,
            live: VecDeque::new(),
            last_sequence: settled_sequence,
            settled_sequence,
            written: 0,
            paused_rounds: 0,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn last_sequence(&self) -> i64 {
        self.last_sequence
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled_sequence == self.last_sequence
    }

    fn round_bytes_max(&self) -> u64 {
        ROUND_BYTES_MAX.min(self.bytes_max / 8)
    }

    /// What the record of a round takes at most.
    fn record_bytes_max(&self) -> u64 {
        self.round_bytes_max() + 2 * BLOCK_BYTES as u64
    }

    /// Whether another round may not fit: all files must be synced first.
    pub(crate) fn is_full(&self) -> bool {
        !self.is_settled() && self.place(self.record_bytes_max()).is_none()
    }

    /// Whether the disk must be told what is settled, for the ring not to become full: up to `settled`
    /// everything is in the files.
    pub(crate) fn wants_record(&self, settled: i64) -> bool {
        let most = self.lap_bytes() + self.record_bytes_max();
        settled > self.settled_sequence && self.used() > most
    }

    /// What may not be overwritten, and what was left between.
    fn used(&self) -> u64 {
        match (self.live.front(), self.live.back()) {
            (Some(first), Some(last)) if last.from < first.from => {
                self.bytes_max - first.from + last.to
            }
            (Some(first), Some(last)) => last.to - first.from,
            _ => 0,
        }
    }

    /// Once a log is in the journal its files are synced before so much more is written. Of the records
    /// that are left over one comes before that is recorded, and one while it is; one may not fit before
    /// the end of the file, and one is next.
    pub(crate) fn lap_bytes(&self) -> u64 {
        let rest = self.bytes_max.saturating_sub(4 * self.record_bytes_max());
        rest.max(self.bytes_max / 4)
    }

    /// Bytes that were written since the directory was opened.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Where the next record can begin that takes so many bytes.
    fn place(&self, bytes: u64) -> Option<u64> {
        let (Some(first), Some(last)) = (self.live.front(), self.live.back()) else {
            return (bytes <= self.bytes_max).then_some(0);
        };
        let fits = |from: u64, to: u64| (from + bytes <= to).then_some(from);
        if last.from < first.from {
            return fits(last.to, first.from);
        }
        fits(last.to, self.bytes_max).or_else(|| fits(0, first.from))
    }

    /// The room that the next round has.
    pub(crate) fn room(&mut self) -> Room {
        let pauses = self.paused_rounds > 0;
        self.paused_rounds = self.paused_rounds.saturating_sub(1);
        let bytes = match self.file {
            Some(_) if !pauses => self.round_bytes_max(),
            _ => 0,
        };
        Room { bytes }
    }

    /// Writes one record of what `ranges` say, read from the logs' files. Returns the file to sync.
    /// After an error the journal is as before.
    pub(crate) fn write(
        &mut self,
        ranges: &[(&LogName, &Range, Offset)],
    ) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let mut bytes = std::mem::take(&mut self.buffer);
        let start = align(&mut bytes);
        let encoded = encode(&mut bytes, self.directory, self.last_sequence + 1, ranges);
        let record = bytes.get(start..).unwrap_or_default();
        let written = encoded.and_then(|()| self.write_record(file.as_ref(), record));
        let file = file.clone();
        self.buffer = bytes;
        let place = written.inspect_err(|_| self.paused_rounds = PAUSE_ROUNDS)?;
        self.last_sequence = place.sequence;
        self.written += place.to - place.from;
        self.live.push_back(place);
        Ok(Some(file))
    }

    /// Writes the next record where there is a place for it.
    fn write_record(&self, file: &dyn DiskFile, record: &[u8]) -> io::Result<Place> {
        let bytes = record.len() as u64;
        let from = self.place(bytes).ok_or(io::ErrorKind::StorageFull)?;
        match file.write_all_at(from, record) {
            Ok(()) => Ok(Place {
                sequence: self.last_sequence + 1,
                from,
                to: from + bytes,
            }),
            Err(error) => self.take_back(file, from).and(Err(error)),
        }
    }

    /// All of a record may be there that was not written whole: a replay must not find it, its sequence is
    /// the next one's. An error concerns the directory.
    fn take_back(&self, file: &dyn DiskFile, from: u64) -> io::Result<()> {
        let taken = match self.live.iter().any(|place| place.from >= from) {
            false => file.truncate(from),
            // What stands behind it is needed. This was written before, and takes no space but where files
            // are never written over in place: there a full disk may fail the directory.
            true => file.write_all_at(from, &[0; BLOCK_BYTES]),
        };
        // A cut that follows makes void what is known to be here, which this is not.
        let gone = taken.and_then(|()| file.sync_data());
        gone.map_err(io::Error::other)
    }

    /// Lets records up to `sequence` be overwritten: the files have them, and that is recorded durably.
    pub(crate) fn settle(&mut self, sequence: i64) {
        self.settled_sequence = self.settled_sequence.max(sequence);
        let over = |place: &Place| place.sequence <= sequence;
        let count = self.live.iter().take_while(|place| over(place)).count();
        self.live.drain(..count);
        if self.live.is_empty() {
            self.buffer = Vec::new();
        }
    }
}

/// Empties the buffer up to where a record can begin that goes to the disk without a copy: at a block's
/// address. Where the buffer must grow for the record, it is copied this once.
fn align(bytes: &mut Vec<u8>) -> usize {
    bytes.clear();
    bytes.reserve(BLOCK_BYTES);
    let start = bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
    bytes.resize(start, 0);
    start
}

/// Appends one record, padded to whole blocks.
fn encode(
    bytes: &mut Vec<u8>,
    directory: TopicId,
    sequence: i64,
    ranges: &[(&LogName, &Range, Offset)],
) -> io::Result<()> {
    let start = bytes.len();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&directory.0);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    put_uvarint(bytes, ranges.len() as u64 + 1);
    for (name, range, end) in ranges {
        bytes.extend_from_slice(&name.topic_id.0);
        put_uvarint(bytes, name.topic.len() as u64 + 1);
        bytes.extend_from_slice(name.topic.as_bytes());
        bytes.extend_from_slice(&name.partition.to_be_bytes());
        bytes.extend_from_slice(&range.segment.0.to_be_bytes());
        bytes.extend_from_slice(&range.from.to_be_bytes());
        bytes.extend_from_slice(&end.0.to_be_bytes());
        let wanted = usize::try_from(range.to - range.from).map_err(io::Error::other)?;
        put_uvarint(bytes, wanted as u64 + 1);
        if range.file.read_at(range.from, wanted, bytes)? < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        put_uvarint(bytes, 0);
    }
    put_uvarint(bytes, 0);
    let body = start + HEAD_BYTES;
    let length = i32::try_from(bytes.len() - body).map_err(io::Error::other)?;
    if let Some(field) = bytes.get_mut(body - 4..body) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    let crc = crc32c(bytes.get(start + MAGIC.len()..).unwrap_or_default());
    bytes.extend_from_slice(&crc.to_be_bytes());
    let record_bytes = bytes.len() - start;
    bytes.resize(start + record_bytes.next_multiple_of(BLOCK_BYTES), 0);
    Ok(())
}

/// A record that was read.
#[derive(Debug)]
struct Record {
    sequence: i64,
    /// Head to checksum, padding included.
    bytes: u64,
    entries: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: LogName,
    segment: Offset,
    position: u64,
    end: Offset,
    /// Where its bytes stand in the record.
    bytes: std::ops::Range<usize>,
}

/// What stands in a file at a position.
enum Found {
    Nothing,
    Record(Record),
    /// Of a version that this program does not know.
    Newer(i16),
}

/// The record at `position`, if a whole one behind the `settled` one begins there. Of others, which are
/// over, no more than the head is read.
fn record_at(
    file: &dyn DiskFile,
    directory: TopicId,
    (position, length): (u64, u64),
    settled: i64,
) -> io::Result<Found> {
    let left = length.saturating_sub(position);
    let mut bytes = Vec::new();
    file.read_at(position, HEAD_BYTES, &mut bytes)?;
    let head = match head(&bytes) {
        Some(head) if head.directory == directory && head.sequence > settled => head,
        _ => return Ok(Found::Nothing),
    };
    let whole = head.body_bytes + HEAD_BYTES + CRC_BYTES;
    if whole as u64 > left {
        return Ok(Found::Nothing);
    }
    bytes.clear();
    file.read_at(position, whole, &mut bytes)?;
    let covered = bytes.get(MAGIC.len()..whole - CRC_BYTES);
    let crc = bytes.last_chunk().map(|crc| u32::from_be_bytes(*crc));
    if covered.map(crc32c) != crc {
        return Ok(Found::Nothing);
    }
    if !(0..=VERSION).contains(&head.version) {
        return Ok(Found::Newer(head.version));
    }
    let body = bytes.get(HEAD_BYTES..whole - CRC_BYTES).unwrap_or_default();
    Ok(match entries(body) {
        Some(entries) => Found::Record(Record {
            sequence: head.sequence,
            bytes: whole.next_multiple_of(BLOCK_BYTES) as u64,
            entries,
        }),
        None => Found::Nothing,
    })
}

struct Head {
    version: i16,
    directory: TopicId,
    sequence: i64,
    body_bytes: usize,
}

fn head(bytes: &[u8]) -> Option<Head> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    Some(Head {
        version: i16::from_be_bytes(take(&mut rest)?),
        directory: TopicId(take(&mut rest)?),
        sequence: i64::from_be_bytes(take(&mut rest)?),
        body_bytes: usize::try_from(i32::from_be_bytes(take(&mut rest)?)).ok()?,
    })
}

fn entries(whole: &[u8]) -> Option<Vec<Entry>> {
    let body = &mut &whole[..];
    let count = take_uvarint(body)?.checked_sub(1)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let topic_id = TopicId(take(body)?);
        let topic = std::str::from_utf8(take_compact(body)?).ok()?.to_owned();
        let partition = i32::from_be_bytes(take(body)?);
        (names::is_topic(&topic) && partition >= 0).then_some(())?;
        let (segment, position) = (i64::from_be_bytes(take(body)?), take(body)?);
        let end = Offset(i64::from_be_bytes(take(body)?));
        let length = take_compact(body)?.len();
        let after = HEAD_BYTES + whole.len() - body.len();
        entries.push(Entry {
            name: LogName {
                topic,
                partition,
                topic_id,
            },
            segment: Offset(segment),
            position: u64::from_be_bytes(position),
            end,
            bytes: after - length..after,
        });
        (take_uvarint(body)? == 0).then_some(())?;
    }
    Some(entries)
}

fn take_compact<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_uvarint(body)?.checked_sub(1)?).ok()?;
    let (field, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(field)
}

/// What replaying a journal found and did.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The last record that was read.
    pub(super) last_sequence: i64,
    /// Records that were replayed.
    pub(super) records: u64,
    /// Whether records stand behind a damaged one: what that one held is not known.
    pub(super) damaged: bool,
    /// A version that this program does not know.
    pub(super) newer: Option<i16>,
}

/// Brings the files of the logs to where the journal says they were, durably, and notes in `known` how
/// far each was durable. Doing it again does no harm.
pub(super) fn replay(
    disk: &dyn Disk,
    (directory, id): (&Path, TopicId),
    known: &mut BTreeMap<PartitionKey, Recorded>,
) -> io::Result<Replayed> {
    let settled = known
        .get(&JOURNAL)
        .map_or(0, |entry| entry.journal_sequence);
    let mut replayed = Replayed {
        last_sequence: settled,
        ..Replayed::default()
    };
    let file = match disk.open(&directory.join(FILE_NAME), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(replayed),
        Err(error) => return Err(error),
    };
    let length = file.len()?;
    let mut position = 0;
    let mut records = Vec::new();
    while position < length {
        match record_at(file.as_ref(), id, (position, length), settled)? {
            Found::Newer(version) => {
                replayed.newer = Some(version);
                return Ok(replayed);
            }
            Found::Record(record) => {
                let at = position;
                position += record.bytes;
                records.push((at, record));
            }
            // Settled, torn, or the middle of one that was partly overwritten.
            Found::Nothing => position += BLOCK_BYTES as u64,
        }
    }
    records.sort_by_key(|(_, record)| record.sequence);
    let mut found = Replay {
        disk,
        directory,
        owners: BTreeMap::new(),
        pieces: BTreeMap::new(),
    };
    for (at, record) in &records {
        // A gap: the record between was synced before this one was written.
        replayed.damaged |= record.sequence != replayed.last_sequence + 1;
        replayed.last_sequence = record.sequence;
        replayed.records += 1;
        for entry in &record.entries {
            found.note(entry, record.sequence, *at, known)?;
        }
    }
    found.write(file.as_ref())?;
    Ok(replayed)
}

/// Bytes of the journal that belong into a file.
#[derive(Debug)]
struct Piece {
    /// Where they stand in the journal.
    from: u64,
    length: usize,
    /// Where they belong in the file.
    to: u64,
}

/// What a replay is going to write: nothing is changed before all of the journal was read.
struct Replay<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    /// Whose log a directory is.
    owners: BTreeMap<PathBuf, Option<TopicId>>,
    /// By the log's directory and the segment, in the order of the journal.
    pieces: BTreeMap<PathBuf, BTreeMap<Offset, Vec<Piece>>>,
}

impl Replay<'_> {
    fn note(
        &mut self,
        entry: &Entry,
        sequence: i64,
        record: u64,
        known: &mut BTreeMap<PartitionKey, Recorded>,
    ) -> io::Result<()> {
        let key = (entry.name.topic_id, entry.name.partition);
        let recorded = known.get(&key).copied().unwrap_or(Recorded::NOTHING);
        if sequence <= recorded.journal_sequence || entry.end <= recorded.local_start {
            return Ok(());
        }
        let path = self
            .directory
            .join(names::partition(&entry.name.topic, entry.name.partition));
        if self.owner(&path)? != Some(entry.name.topic_id) {
            // Renamed away, and the want of space kept the record that says so from being written.
            return Ok(());
        }
        let segments = self.pieces.entry(path).or_default();
        segments.entry(entry.segment).or_default().push(Piece {
            from: record + entry.bytes.start as u64,
            length: entry.bytes.len(),
            to: entry.position,
        });
        let end = recorded.journaled_end.max(entry.end);
        let recorded = Recorded {
            journaled_end: end,
            ..recorded
        };
        known.insert(key, recorded);
        Ok(())
    }

    fn owner(&mut self, path: &Path) -> io::Result<Option<TopicId>> {
        if let Some(owner) = self.owners.get(path) {
            return Ok(*owner);
        }
        let owner = read_topic_id(self.disk, path)?;
        self.owners.insert(path.to_owned(), owner);
        Ok(owner)
    }

    /// Writes and syncs each file once. Also bytes that are there already: after a failed sync the
    /// page cache shows what the disk has lost.
    fn write(&self, journal: &dyn DiskFile) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (directory, segments) in &self.pieces {
            for (segment, pieces) in segments {
                let path = directory.join(segment_file(*segment, FileKind::Log));
                let file = self.disk.open(&path, OpenMode::Create)?;
                for piece in pieces {
                    bytes.clear();
                    journal.read_at(piece.from, piece.length, &mut bytes)?;
                    file.write_all_at(piece.to, &bytes)?;
                }
                file.sync_data()?;
            }
            self.disk.sync_dir(directory)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

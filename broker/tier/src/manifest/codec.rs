//! The bytes of heads and pages, version 1: `docs/formats/manifest.md` draws them.

use esker_protocol::TopicId;

use super::{Entry, EpochStart, Head, ManifestError, Page, PageRef};
use crate::layout::Uuid;
use crate::wire::{self, Reader, WireError, Writer};

const HEAD_MAGIC: [u8; 4] = *b"ESKH";
const PAGE_MAGIC: [u8; 4] = *b"ESKP";
const VERSION: i16 = 1;

const EPOCH_BYTES: usize = 13;
const ENTRY_BYTES_MIN: usize = 90;
const PAGE_REF_BYTES_MIN: usize = 70;

/// A manifest's bytes are wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The message, but not a manifest that could be.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// The bytes of a head, and its checksum.
#[must_use]
pub fn encode_head(head: &Head) -> (Vec<u8>, u32) {
    with_checksum(wire::seal(HEAD_MAGIC, VERSION, |writer| {
        writer.uuid(head.topic_id.0);
        writer.i32(head.partition);
        writer.size(head.incarnation);
        writer.epoch(head.leader_epoch);
        writer.size(head.version);
        writer.nullable_string(head.previous.as_deref());
        writer.timestamp(head.written_at);
        writer.offset(head.log_start);
        writer.offset(head.tier_end);
        writer.epoch(head.tier_end_epoch);
        writer.array(&head.pages, write_page_ref);
        writer.array(&head.entries, write_entry);
        writer.no_tags();
    }))
}

/// Reads a head and checks its invariants; gives its checksum too.
///
/// # Errors
/// [`DecodeError`] when the bytes are no head, or one that could not be.
pub fn decode_head(bytes: &[u8]) -> Result<(Head, u32), DecodeError> {
    let (mut reader, checksum) = wire::open(HEAD_MAGIC, VERSION, bytes)?;
    let head = Head {
        topic_id: TopicId(reader.uuid()?),
        partition: reader.i32()?,
        incarnation: reader.size()?,
        leader_epoch: reader.epoch()?,
        version: reader.size()?,
        previous: reader.nullable_string()?,
        written_at: reader.timestamp()?,
        log_start: reader.offset()?,
        tier_end: reader.offset()?,
        tier_end_epoch: reader.epoch()?,
        pages: reader.array(PAGE_REF_BYTES_MIN, read_page_ref)?,
        entries: reader.array(ENTRY_BYTES_MIN, read_entry)?,
    };
    finish(&mut reader)?;
    head.check()?;
    Ok((head, checksum))
}

/// The bytes of a page, and its checksum.
#[must_use]
pub fn encode_page(page: &Page) -> (Vec<u8>, u32) {
    with_checksum(wire::seal(PAGE_MAGIC, VERSION, |writer| {
        writer.uuid(page.topic_id.0);
        writer.i32(page.partition);
        writer.array(&page.entries, write_entry);
        writer.no_tags();
    }))
}

/// Reads a page and checks its invariants; gives its checksum too.
///
/// # Errors
/// [`DecodeError`] when the bytes are no page, or one that could not be.
pub fn decode_page(bytes: &[u8]) -> Result<(Page, u32), DecodeError> {
    let (mut reader, checksum) = wire::open(PAGE_MAGIC, VERSION, bytes)?;
    let page = Page {
        topic_id: TopicId(reader.uuid()?),
        partition: reader.i32()?,
        entries: reader.array(ENTRY_BYTES_MIN, read_entry)?,
    };
    finish(&mut reader)?;
    page.check()?;
    Ok((page, checksum))
}

/// The trailing checksum: it stands for the message. A CRC over the message *with* its checksum
/// would say less.
fn with_checksum(bytes: Vec<u8>) -> (Vec<u8>, u32) {
    let checksum = bytes
        .last_chunk::<4>()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes));
    (bytes, checksum)
}

fn finish(reader: &mut Reader<'_>) -> Result<(), WireError> {
    reader.tags()?;
    if reader.is_empty() {
        Ok(())
    } else {
        Err(WireError::Invalid("bytes follow the message"))
    }
}

pub(crate) fn write_epoch(writer: &mut Writer, (epoch, start): &EpochStart) {
    writer.epoch(*epoch);
    writer.offset(*start);
    writer.no_tags();
}

pub(crate) fn read_epochs(reader: &mut Reader<'_>) -> Result<Vec<EpochStart>, WireError> {
    let epochs: Vec<EpochStart> = reader.array(EPOCH_BYTES, |reader| {
        let start = (reader.epoch()?, reader.offset()?);
        reader.tags()?;
        Ok(start)
    })?;
    if epochs.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1) {
        Ok(epochs)
    } else {
        Err(WireError::Invalid("epochs do not rise"))
    }
}

fn write_entry(writer: &mut Writer, entry: &Entry) {
    writer.offset(entry.base);
    writer.offset(entry.end);
    writer.epoch(entry.leader_epoch);
    writer.uuid(entry.uuid.0);
    writer.size(entry.object_bytes);
    writer.size(entry.index_position);
    writer.u32(entry.checksum);
    writer.size(entry.segment_bytes);
    writer.timestamp(entry.max_timestamp);
    writer.timestamp(entry.uploaded_at);
    writer.epoch(entry.last_epoch);
    writer.array(&entry.epochs, write_epoch);
    writer.no_tags();
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Entry, WireError> {
    let entry = Entry {
        base: reader.offset()?,
        end: reader.offset()?,
        leader_epoch: reader.epoch()?,
        uuid: Uuid(reader.uuid()?),
        object_bytes: reader.size()?,
        index_position: reader.size()?,
        checksum: reader.u32()?,
        segment_bytes: reader.size()?,
        max_timestamp: reader.timestamp()?,
        uploaded_at: reader.timestamp()?,
        last_epoch: reader.epoch()?,
        epochs: read_epochs(reader)?,
    };
    reader.tags()?;
    Ok(entry)
}

fn write_page_ref(writer: &mut Writer, page: &PageRef) {
    writer.nullable_string(Some(&page.name));
    writer.u32(page.checksum);
    writer.offset(page.base);
    writer.offset(page.end);
    writer.u32(page.entry_count);
    writer.size(page.object_bytes);
    writer.size(page.segment_bytes);
    writer.timestamp(page.max_timestamp);
    writer.timestamp(page.retention_timestamp_max);
    writer.timestamp(page.retention_timestamp_first);
    writer.size(page.segment_bytes_first);
    writer.array(&page.epochs, write_epoch);
    writer.no_tags();
}

fn read_page_ref(reader: &mut Reader<'_>) -> Result<PageRef, WireError> {
    let page = PageRef {
        name: reader.string()?,
        checksum: reader.u32()?,
        base: reader.offset()?,
        end: reader.offset()?,
        entry_count: reader.u32()?,
        object_bytes: reader.size()?,
        segment_bytes: reader.size()?,
        max_timestamp: reader.timestamp()?,
        retention_timestamp_max: reader.timestamp()?,
        retention_timestamp_first: reader.timestamp()?,
        segment_bytes_first: reader.size()?,
        epochs: read_epochs(reader)?,
    };
    reader.tags()?;
    Ok(page)
}

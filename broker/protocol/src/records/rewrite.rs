//! Batches as compaction leaves them: with fewer records, or with none.
//!
//! A batch keeps its base offset, last offset delta, producer and sequence, so that offsets never move
//! and a producer is known by its last batch. The codec stays too.

use bytes::{Bytes, BytesMut};

use super::attributes::TimestampType;
use super::builder::{BuildError, body_bytes, length, length_of, put_nullable};
use super::compression::{self, Compression};
use super::header::BatchHeader;
use super::record::Record;
use super::varint::{put_varint, put_varlong};
use crate::Timestamp;

/// The batch of `header` with `records` alone, which are some of its own, in order. A delete horizon
/// stands in place of the base timestamp, and a bit says so.
pub fn rewrite(
    header: &BatchHeader,
    records: &[Record<'_>],
    delete_horizon: Option<Timestamp>,
) -> Result<Bytes, BuildError> {
    let first = records.first().ok_or(BuildError::Empty)?;
    let base_timestamp = delete_horizon.unwrap_or(first.timestamp);
    let mut raw = Vec::new();
    for record in records {
        put_record(&mut raw, header, record, base_timestamp)?;
    }
    let codec = header.attributes.compression().unwrap_or_default();
    let payload = match codec {
        Compression::None => raw,
        codec => compression::compress(codec, None, &raw)?,
    };
    let newest = records.iter().map(|record| record.timestamp).max();
    let mut rewritten = BatchHeader {
        batch_length: length(BatchHeader::BYTES - 12 + payload.len())?,
        attributes: header
            .attributes
            .known()
            .with_compression(codec)
            .with_delete_horizon(delete_horizon.is_some()),
        base_timestamp,
        max_timestamp: match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::CreateTime => newest.unwrap_or(header.max_timestamp),
        },
        records_count: length(records.len())?,
        ..*header
    };
    rewritten.crc = rewritten.crc_with_payload(&payload);
    let mut batch = BytesMut::with_capacity(BatchHeader::BYTES + payload.len());
    batch.extend_from_slice(&rewritten.to_bytes());
    batch.extend_from_slice(&payload);
    Ok(batch.freeze())
}

/// The header of a batch all of whose records are gone.
#[must_use]
pub fn emptied(header: &BatchHeader) -> [u8; BatchHeader::BYTES] {
    let mut emptied = BatchHeader {
        batch_length: (BatchHeader::BYTES - 12) as i32,
        attributes: header
            .attributes
            .known()
            .with_compression(Compression::None)
            .with_delete_horizon(false),
        base_timestamp: Timestamp::NONE,
        records_count: 0,
        ..*header
    };
    emptied.crc = emptied.crc_with_payload(&[]);
    emptied.to_bytes()
}

fn put_record(
    out: &mut Vec<u8>,
    header: &BatchHeader,
    record: &Record<'_>,
    base_timestamp: Timestamp,
) -> Result<(), BuildError> {
    // Wraps as the reader does.
    let timestamp_delta = record.timestamp.0.wrapping_sub(base_timestamp.0);
    let offset_delta =
        i32::try_from(record.offset - header.base_offset).map_err(|_| BuildError::OffsetDelta {
            given: i32::MAX,
            last: header.last_offset_delta,
        })?;
    let headers: Vec<_> = record.headers.iter().collect();
    let body = body_bytes(
        timestamp_delta,
        offset_delta,
        record.key,
        record.value,
        &headers,
    );
    put_varint(out, length(body)?);
    out.push(record.attributes.cast_unsigned());
    put_varlong(out, timestamp_delta);
    put_varint(out, offset_delta);
    put_nullable(out, record.key);
    put_nullable(out, record.value);
    put_varint(out, length_of(headers.len()));
    for header in headers {
        put_nullable(out, Some(header.key));
        put_nullable(out, header.value);
    }
    // A reader decompresses the batch as a whole.
    length(out.len() + BatchHeader::BYTES)?;
    Ok(())
}

#[cfg(test)]
mod tests;

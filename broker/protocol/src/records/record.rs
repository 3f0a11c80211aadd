//! The records of a batch.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//! | key length varint, key | value length varint, value | header count varint | headers
//! header: key length varint, key | value length varint, value
//! ```
//! A negative length is null; a header's key is never null.

use std::borrow::Cow;

use super::attributes::{TimestampType, UnknownCompression};
use super::compression::{self, Caps, Compression, DecompressError};
use super::header::BatchHeader;
use super::varint::Cursor;
use crate::{Offset, Timestamp};

/// The records of a batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// The codec bits name no codec.
    #[error(transparent)]
    Codec(#[from] UnknownCompression),
    /// The stream does not decompress within its caps.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// A record is not what the format says.
    #[error("record {index} of the batch: {reason}")]
    Record {
        /// Counts from 0.
        index: i32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Bytes follow the last record.
    #[error("{bytes} bytes follow the {records_count} records of the batch")]
    Trailing {
        /// As the header has it.
        records_count: i32,
        /// How many bytes follow.
        bytes: usize,
    },
}

/// One record, borrowed from its decoded batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Unused by Kafka, 0.
    pub attributes: i8,
    /// Its own, or the batch's maximum with LogAppendTime.
    pub timestamp: Timestamp,
    /// Its place in the log.
    pub offset: Offset,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

/// A header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 by convention; Kafka's brokers do not look.
    pub key: &'a [u8],
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, well formed, read as they are asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut cursor = Cursor(self.bytes);
        // Decoding the record has read them all once, so none is missing here.
        std::iter::from_fn(move || header(&mut cursor)).take(self.count)
    }
}

fn header<'a>(cursor: &mut Cursor<'a>) -> Option<Header<'a>> {
    Some(Header {
        key: cursor.nullable_bytes()??,
        value: cursor.nullable_bytes()?,
    })
}

/// The decoded records of a batch.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    header: BatchHeader,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Records<'a> {
    pub(super) fn decode(
        header: BatchHeader,
        payload: &'a [u8],
        caps: &Caps,
    ) -> Result<Records<'a>, RecordsError> {
        let bytes = match header.attributes.compression()? {
            Compression::None => Cow::Borrowed(payload),
            codec => Cow::Owned(compression::decompress(codec, payload, caps)?),
        };
        Ok(Records { header, bytes })
    }

    /// The size of the records without compression.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records in order; ends after the first error.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            header: self.header,
            rest: Cursor(&self.bytes),
            index: 0,
            done: false,
        }
    }
}

impl<'r> IntoIterator for &'r Records<'_> {
    type Item = Result<Record<'r>, RecordsError>;
    type IntoIter = RecordIter<'r>;

    fn into_iter(self) -> RecordIter<'r> {
        self.iter()
    }
}

/// See [`Records::iter`].
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    header: BatchHeader,
    rest: Cursor<'a>,
    index: i32,
    done: bool,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.index >= self.header.records_count {
            self.done = true;
            return (!self.rest.is_empty()).then(|| {
                Err(RecordsError::Trailing {
                    records_count: self.header.records_count,
                    bytes: self.rest.remaining(),
                })
            });
        }
        let index = self.index;
        self.index += 1;
        let record = record(&self.header, &mut self.rest);
        self.done = record.is_err();
        Some(record.map_err(|reason| RecordsError::Record { index, reason }))
    }
}

impl std::iter::FusedIterator for RecordIter<'_> {}

fn record<'a>(header: &BatchHeader, rest: &mut Cursor<'a>) -> Result<Record<'a>, &'static str> {
    let length = rest.varint().ok_or("its length is missing")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    let mut body = Cursor(rest.take(length).ok_or("it ends after its batch")?);
    let attributes = body.byte().ok_or("it is empty")?;
    let timestamp_delta = body.varlong().ok_or("its timestamp is cut off")?;
    let offset_delta = body.varint().ok_or("its offset is cut off")?;
    let key = body.nullable_bytes().ok_or("its key ends after it")?;
    let value = body.nullable_bytes().ok_or("its value ends after it")?;
    let headers = headers(&mut body)?;
    if !body.is_empty() {
        return Err("bytes follow its headers");
    }
    if offset_delta < 0 {
        return Err("its offset lies before its batch");
    }
    let timestamp = match header.attributes.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        // Wraps as in Kafka, so that both show one record alike.
        TimestampType::CreateTime => {
            Timestamp(header.base_timestamp.0.wrapping_add(timestamp_delta))
        }
    };
    Ok(Record {
        attributes: i8::from_be_bytes([attributes]),
        timestamp,
        offset: Offset(header.base_offset.0.saturating_add(i64::from(offset_delta))),
        key,
        value,
        headers,
    })
}

fn headers<'a>(body: &mut Cursor<'a>) -> Result<Headers<'a>, &'static str> {
    let count = body.varint().ok_or("its header count is missing")?;
    let count = usize::try_from(count).map_err(|_| "its header count is negative")?;
    if count > body.remaining() {
        return Err("it claims more headers than it has bytes");
    }
    let start = body.0;
    for _ in 0..count {
        header(body).ok_or("one of its headers is malformed")?;
    }
    let bytes = start
        .get(..start.len() - body.remaining())
        .unwrap_or_default();
    Ok(Headers { count, bytes })
}

#[cfg(test)]
mod tests;

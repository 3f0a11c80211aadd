//! How large records are at most, before they are encoded.

use crate::record::{Key, Record, RecordError, Value};

/// The head of a record batch.
pub(crate) const BATCH_BYTES: usize = 61;
/// What a record takes besides its strings: lengths, type, version and numbers.
pub(crate) const RECORD_BYTES: usize = 96;
/// What a member of a classic group's record takes besides its strings and bytes.
pub(crate) const MEMBER_BYTES: usize = 32;

/// What a record takes besides its key and value, as they are encoded.
const ENCODED_RECORD_BYTES: usize = 24;

/// Whether the records fit into one batch of so many bytes.
pub(crate) fn fits(records: &[Record<'_>], batch_bytes_max: usize) -> bool {
    let fit = |bytes: Result<usize, RecordError>| bytes.is_ok_and(|bytes| bytes <= batch_bytes_max);
    // The estimate is on the safe side, and cheap.
    fit(of_batch(records)) || fit(of_encoded(records, batch_bytes_max))
}

/// What a record takes in a batch.
pub(crate) fn encoded(record: &Record<'_>) -> Result<usize, RecordError> {
    Ok(ENCODED_RECORD_BYTES + record.encoded_bytes()?)
}

/// The same as [`of_batch`], closely; no more than it takes to know that it is above `enough`.
fn of_encoded(records: &[Record<'_>], enough: usize) -> Result<usize, RecordError> {
    let mut bytes = BATCH_BYTES;
    for record in records {
        bytes += encoded(record)?;
        if bytes > enough {
            break;
        }
    }
    Ok(bytes)
}

/// The most that these records take as one batch.
///
/// # Errors
/// A string is longer than the format can say.
fn of_batch(records: &[Record<'_>]) -> Result<usize, RecordError> {
    let mut bytes = BATCH_BYTES;
    for record in records {
        bytes += of_record(record)?;
    }
    Ok(bytes)
}

fn of_record(record: &Record<'_>) -> Result<usize, RecordError> {
    // Commits are by far the most frequent, so they are not encoded just to be measured.
    if let Key::OffsetCommit(key) = &record.key {
        let metadata = match &record.value {
            Some(Value::OffsetCommit(value)) => value.metadata.len(),
            _ => 0,
        };
        return Ok(RECORD_BYTES + key.group.len() + key.topic.len() + metadata);
    }
    Ok(RECORD_BYTES + record.encoded_bytes()?)
}

//! How large records are at most, before they are encoded.

use crate::record::{Key, Record, RecordError, Value};

/// The head of a record batch.
pub(crate) const BATCH_BYTES: usize = 61;
/// What a record takes besides its strings: lengths, type, version and numbers.
pub(crate) const RECORD_BYTES: usize = 96;
/// What a member of a classic group's record takes besides its strings and bytes.
pub(crate) const MEMBER_BYTES: usize = 32;

/// The most that these records take as one batch.
///
/// # Errors
/// A string is longer than the format can say.
pub(crate) fn of_batch(records: &[Record<'_>]) -> Result<usize, RecordError> {
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
    let (key, value) = record.encode()?;
    Ok(RECORD_BYTES + key.len() + value.map_or(0, |value| value.len()))
}

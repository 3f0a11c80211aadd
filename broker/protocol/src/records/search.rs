//! Looking for a record by its timestamp.

use super::batch::Batch;
use super::compression::Caps;
use super::record::RecordsError;
use crate::{Offset, Timestamp};

/// The first record of the batch with a timestamp of at least `target`.
pub fn first_at_or_after(
    batch: &Batch<'_>,
    target: Timestamp,
    caps: &Caps,
) -> Result<Option<(Offset, Timestamp)>, RecordsError> {
    if batch.header().max_timestamp < target {
        return Ok(None);
    }
    for record in &batch.records(caps)? {
        let record = record?;
        if record.timestamp >= target {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

/// The first record of the batch that has its largest timestamp; `None` in an emptied batch.
pub fn first_of_max_timestamp(
    batch: &Batch<'_>,
    caps: &Caps,
) -> Result<Option<(Offset, Timestamp)>, RecordsError> {
    let mut found: Option<(Offset, Timestamp)> = None;
    for record in &batch.records(caps)? {
        let record = record?;
        if found.is_none_or(|(_, max)| record.timestamp > max) {
            found = Some((record.offset, record.timestamp));
        }
        if record.timestamp == batch.header().max_timestamp {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

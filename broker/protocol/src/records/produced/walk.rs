//! The checks that read every record.

use super::{ProduceError, ProduceRules, RejectedRecord};
use crate::Timestamp;
use crate::records::attributes::TimestampType;
use crate::records::header::BatchHeader;
use crate::records::record::{Record, Records, RecordsError};

/// A reply names at most this many records: a batch of nothing but refused ones must not become a
/// reply that is larger than the request.
const REJECTED_RECORDS_MAX: usize = 100;

/// Reads every record and gives the header that the batch should have had: type bit and maximum
/// timestamp as the records are, the CRC moved along.
pub(super) fn walk(
    header: &BatchHeader,
    payload: &[u8],
    rules: &ProduceRules,
) -> Result<BatchHeader, ProduceError> {
    let records = Records::decode(*header, payload, &rules.caps)?;
    let mut rejected = Rejected::default();
    let mut max_timestamp = Timestamp::NONE;
    for (index, record) in (0..).zip(&records) {
        let record = record?;
        // Kafka stores such batches as they are, or numbers compressed ones anew. Both break the
        // order of offsets that consumers rely on, or cost a rewrite: here they are refused.
        if record.offset.0 != i64::from(index) {
            let reason = "its offset does not follow the one before";
            return Err(RecordsError::Record { index, reason }.into());
        }
        max_timestamp = max_timestamp.max(record.timestamp);
        if rules.compacted && record.key.is_none() {
            rejected.add(index, false, || {
                "Compacted topic cannot accept message without key in topic partition ".to_owned()
            });
        } else if let Some(message) = timestamp_refusal(header, &record, rules) {
            rejected.add(index, true, || message);
        }
    }
    rejected.into_result()?;
    if rules.timestamp_type == TimestampType::LogAppendTime {
        // The leader's clock replaces both when it stamps the batch.
        return Ok(*header);
    }
    Ok(header.patched(|header| {
        header.attributes = header
            .attributes
            .with_timestamp_type(TimestampType::CreateTime);
        header.max_timestamp = max_timestamp;
    }))
}

fn timestamp_refusal(
    header: &BatchHeader,
    record: &Record<'_>,
    rules: &ProduceRules,
) -> Option<String> {
    if rules.timestamp_type == TimestampType::CreateTime && record.timestamp != Timestamp::NONE {
        return (!timestamp_is_allowed(record.timestamp, rules)).then(|| {
            format!(
                "Timestamp {} of message with offset {} is out of range. The timestamp should be within [{}, {}]",
                record.timestamp,
                record.offset,
                rules.now.0.wrapping_sub(rules.before_ms_max),
                rules.now.0.wrapping_add(rules.after_ms_max)
            )
        });
    }
    (header.attributes.timestamp_type() == TimestampType::LogAppendTime)
        .then(|| "Producer should not set timestamp type to LogAppendTime.".to_owned())
}

/// Whether a timestamp lies within the topic's bounds; none at all always does.
pub(super) fn timestamp_is_allowed(timestamp: Timestamp, rules: &ProduceRules) -> bool {
    // Wraps as in Kafka: a time so far away that the distance overflows is refused on either side.
    let age = rules.now.0.wrapping_sub(timestamp.0);
    timestamp == Timestamp::NONE
        || (age <= rules.before_ms_max && age.wrapping_neg() <= rules.after_ms_max)
}

#[derive(Default)]
struct Rejected {
    by_timestamp: bool,
    count: usize,
    records: Vec<RejectedRecord>,
}

impl Rejected {
    fn add(&mut self, batch_index: i32, by_timestamp: bool, message: impl FnOnce() -> String) {
        self.count += 1;
        self.by_timestamp |= by_timestamp;
        if self.records.len() < REJECTED_RECORDS_MAX {
            self.records.push(RejectedRecord {
                batch_index,
                message: message(),
                names_partition: !by_timestamp,
            });
        }
    }

    fn into_result(self) -> Result<(), ProduceError> {
        let mut records = self.records.into_iter();
        match records.next() {
            None => Ok(()),
            Some(first) => Err(ProduceError::Rejected {
                by_timestamp: self.by_timestamp,
                count: self.count,
                first,
                more: records.collect(),
            }),
        }
    }
}

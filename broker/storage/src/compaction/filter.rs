//! What becomes of one batch.

use std::collections::BTreeSet;

use bytes::Bytes;
use esker_protocol::records::{Batch, BatchHeader, Caps, Record, emptied, rewrite};
use esker_protocol::{Offset, ProducerId, Timestamp};

use super::{CompactionError, OffsetMap};

/// What decides over the batches of a pass.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) map: OffsetMap,
    pub(crate) now: Timestamp,
    pub(crate) delete_retention_ms: i64,
    /// The last offset of the last batch of every producer that may go on, as of the pass's end.
    pub(crate) last_of_producers: BTreeSet<(ProducerId, Offset)>,
}

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays as it is.
    Stays,
    /// It is replaced: by fewer records, or by a bare header.
    Becomes(Bytes),
    /// It goes.
    Goes,
}

/// A batch and how many records it had and keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) records: u64,
    pub(crate) records_left: u64,
}

impl Filter {
    /// Judges a batch. `is_last` is whether it ends a segment, so that something must stay of it.
    ///
    /// Control batches stay: a marker may go only when all of its transaction has gone, and then only
    /// after a delete horizon of its own. That rule comes with transactions, and its place is here.
    pub(crate) fn judge(
        &self,
        batch: &Batch<'_>,
        is_last: bool,
    ) -> Result<Judged, CompactionError> {
        let header = batch.header();
        let stays = |records: u64| Judged {
            verdict: Verdict::Stays,
            records,
            records_left: records,
        };
        let count = u64::try_from(header.records_count).unwrap_or(0);
        if header.attributes.is_control() || header.base_offset >= self.map.end() {
            return Ok(stays(count));
        }
        let offset = header.base_offset;
        let unreadable = |source| CompactionError::Records { offset, source };
        let records = batch.records(&Caps::DEFAULT).map_err(unreadable)?;
        let mut kept: Vec<Record<'_>> = Vec::new();
        let mut seen = 0u64;
        for record in &records {
            let record = record.map_err(unreadable)?;
            seen += 1;
            if self.keeps(header, &record) {
                kept.push(record);
            }
        }
        let records_left = kept.len() as u64;
        let verdict = match kept.is_empty() {
            true => self.of_nothing_left(header, is_last),
            false => self.of_what_is_left(header, &kept, seen)?,
        };
        Ok(Judged {
            verdict,
            records: seen,
            records_left,
        })
    }

    fn keeps(&self, header: &BatchHeader, record: &Record<'_>) -> bool {
        // A record without a key has no place in a compacted log.
        let Some(key) = record.key else {
            return false;
        };
        if self.map.get(key).is_some_and(|last| record.offset < last) {
            return false;
        }
        record.value.is_some() || horizon(header).is_none_or(|horizon| self.now < horizon)
    }

    fn of_nothing_left(&self, header: &BatchHeader, is_last: bool) -> Verdict {
        let of_producer = header.has_producer()
            && self
                .last_of_producers
                .contains(&(header.producer_id, header.last_offset()));
        if !of_producer && !is_last {
            return Verdict::Goes;
        }
        if header.records_count == 0 {
            return Verdict::Stays;
        }
        Verdict::Becomes(Bytes::copy_from_slice(&emptied(header)))
    }

    fn of_what_is_left(
        &self,
        header: &BatchHeader,
        kept: &[Record<'_>],
        seen: u64,
    ) -> Result<Verdict, CompactionError> {
        let before = horizon(header);
        let has_tombstone = kept.iter().any(|record| record.value.is_none());
        if kept.len() as u64 == seen && (before.is_some() || !has_tombstone) {
            return Ok(Verdict::Stays);
        }
        let met =
            has_tombstone.then(|| Timestamp(self.now.0.saturating_add(self.delete_retention_ms)));
        let rewritten = rewrite(header, kept, before.or(met));
        let offset = header.base_offset;
        rewritten
            .map(Verdict::Becomes)
            .map_err(|source| CompactionError::Build { offset, source })
    }
}

/// When the tombstones of a batch may go, if a pass has met them.
fn horizon(header: &BatchHeader) -> Option<Timestamp> {
    header
        .attributes
        .has_delete_horizon()
        .then_some(header.base_timestamp)
}

//! Control records: the markers that end a transaction.
//!
//! ```text
//! key    version i16 = 0 | type i16
//! value  version i16 = 0 | coordinator epoch i32        (abort and commit)
//! ```
//! Higher versions are read as the newest known; unknown types are skipped by readers.

use bytes::Bytes;

use super::builder::{BatchBuilder, BatchOptions};
use super::record::Record;
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

const VERSION: i16 = 0;

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ControlType {
    /// The producer's open transaction is aborted.
    Abort,
    /// The producer's open transaction is committed.
    Commit,
    /// A type that only Kafka's own metadata log has, or one that is not known yet.
    Other(i16),
}

impl ControlType {
    fn code(self) -> i16 {
        match self {
            ControlType::Abort => 0,
            ControlType::Commit => 1,
            ControlType::Other(code) => code,
        }
    }

    fn from_code(code: i16) -> ControlType {
        match code {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            code => ControlType::Other(code),
        }
    }
}

/// A control record is not what the format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The key is missing, too short, or of a negative version.
    #[error("control record at offset {0} has no valid key")]
    Key(Offset),
    /// The value is missing, too short, or of a negative version.
    #[error("transaction marker at offset {0} has no valid value")]
    Value(Offset),
}

/// The type of a control record.
pub fn control_type(record: &Record<'_>) -> Result<ControlType, ControlError> {
    let mut key = record.key.unwrap_or_default();
    let version = take(&mut key).map(i16::from_be_bytes);
    let code = take(&mut key).map(i16::from_be_bytes);
    match (version, code) {
        (Some(VERSION..), Some(code)) => Ok(ControlType::from_code(code)),
        _ => Err(ControlError::Key(record.offset)),
    }
}

/// The marker that ends a transaction in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Whether it commits or aborts.
    pub commit: bool,
    /// The epoch of the coordinator that wrote it.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// The size of a batch that holds a marker.
    pub const BATCH_BYTES: usize = 78;

    /// Reads a control record; `None` when it is no marker.
    pub fn decode(record: &Record<'_>) -> Result<Option<EndTransactionMarker>, ControlError> {
        let commit = match control_type(record)? {
            ControlType::Abort => false,
            ControlType::Commit => true,
            ControlType::Other(_) => return Ok(None),
        };
        let mut value = record.value.unwrap_or_default();
        let version = take(&mut value).map(i16::from_be_bytes);
        let coordinator_epoch = take(&mut value).map(i32::from_be_bytes);
        match (version, coordinator_epoch) {
            (Some(VERSION..), Some(coordinator_epoch)) => Ok(Some(EndTransactionMarker {
                commit,
                coordinator_epoch,
            })),
            _ => Err(ControlError::Value(record.offset)),
        }
    }

    /// A whole batch of this one marker.
    #[must_use]
    pub fn to_batch(
        self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timestamp: Timestamp,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Bytes {
        let kind = if self.commit {
            ControlType::Commit
        } else {
            ControlType::Abort
        };
        let mut key = [0; 4];
        key[..2].copy_from_slice(&VERSION.to_be_bytes());
        key[2..].copy_from_slice(&kind.code().to_be_bytes());
        let mut value = [0; 6];
        value[..2].copy_from_slice(&VERSION.to_be_bytes());
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new(BatchOptions {
            producer_id,
            producer_epoch,
            transactional: true,
            control: true,
            base_offset,
            leader_epoch,
            ..BatchOptions::default()
        });
        builder
            .append(timestamp, Some(&key), Some(&value), &[])
            .and_then(|()| builder.build())
            .expect("one record of 17 bytes fits and is not compressed")
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*field)
}

#[cfg(test)]
mod tests;

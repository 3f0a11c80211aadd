//! Reading a partition of `__consumer_offsets` into a shard.

use std::sync::Arc;

use esker_coordinator::{Record, Shard};
use esker_protocol::Offset;
use esker_protocol::records::{BatchError, Batches, Caps, EndTransactionMarker, RecordsError};
use esker_storage::ReadError;
use tracing::error;

use crate::broker::Shared;
use crate::environment::Work;
use crate::partition::Partition;

/// A shard that has seen all records.
pub(super) struct Loaded {
    pub(super) shard: Shard,
    /// The end of what was read: replies wait until this is committed.
    pub(super) end: Offset,
    pub(super) records: u64,
}

/// Why a log cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("at offset {offset}: {error}")]
    Records {
        offset: Offset,
        #[source]
        error: RecordsError,
    },
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the batch at offset {0} has another checksum than its bytes")]
    Checksum(Offset),
    #[error("the log moved on while it was read")]
    Moved,
}

/// Reads the log from its start to its end, in pieces of `offsets.load.buffer.size`, off the
/// reactor.
pub(super) async fn load(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
) -> Result<Loaded, LoadError> {
    let mut seed = [0; 32];
    let (left, right) = seed.split_at_mut(16);
    left.copy_from_slice(&shared.environment.randomness.bytes16());
    right.copy_from_slice(&shared.environment.randomness.bytes16());
    let end = partition.log.written_end();
    let mut loaded = Loaded {
        shard: Shard::new(seed),
        end,
        records: 0,
    };
    let bytes_max = shared.config.offsets_load_bytes;
    // The log may start inside its first segment.
    let mut next = partition
        .log
        .local_start_offset()
        .max(partition.log.start_offset());
    while next < end {
        let log = Arc::clone(&partition.log);
        let work = move || {
            let read = log.read(next, bytes_max, end, true)?;
            replay(&mut loaded, &read.bytes)?;
            Ok::<_, LoadError>((loaded, read.next))
        };
        let (after, read_to) = shared.environment.run(Work::Blocking, work).await?;
        if read_to <= next {
            return Err(LoadError::Moved);
        }
        loaded = after;
        next = read_to;
    }
    Ok(loaded)
}

fn replay(loaded: &mut Loaded, bytes: &[u8]) -> Result<(), LoadError> {
    for batch in Batches::with_partial_tail(bytes) {
        let batch = batch?;
        let header = batch.header();
        if !batch.crc_is_valid() {
            return Err(LoadError::Checksum(header.base_offset));
        }
        let offset = header.base_offset;
        let producer = header.producer_id;
        let is_control = header.attributes.is_control();
        let is_transactional = header.attributes.is_transactional();
        let records = batch
            .records(&Caps::DEFAULT)
            .map_err(|error| LoadError::Records { offset, error })?;
        for record in records.iter() {
            let record = record.map_err(|error| LoadError::Records { offset, error })?;
            let offset = record.offset;
            if is_control {
                if let Ok(Some(marker)) = EndTransactionMarker::decode(&record) {
                    loaded.shard.replay_marker(producer, marker.commit);
                }
                continue;
            }
            let Some(key) = record.key else {
                continue;
            };
            match Record::decode(key, record.value) {
                Ok(Some(decoded)) if is_transactional => {
                    loaded
                        .shard
                        .replay_transactional(producer, &decoded, offset);
                    loaded.records += 1;
                }
                Ok(Some(decoded)) => {
                    loaded.shard.replay(&decoded, offset, record.timestamp);
                    loaded.records += 1;
                }
                // A later version's record: nothing of this version rests on it.
                Ok(None) => {}
                // Its checksum was right, so that it was written so: all else must not wait for it.
                Err(problem) => {
                    error!(%offset, %problem, "a coordinator's record cannot be read and is left out");
                }
            }
        }
    }
    Ok(())
}

//! Reads of one partition: which tier an offset lives in, and how it is read there.
//!
//!   below log start -> out of range; below local start -> the tier; else -> the local log
//!
//! The seam moves while readers read: a local segment may go between the decision and the read. A
//! read that falls below the local start is therefore sent to the tier, and one that the tier has
//! not (yet, or any more) looks at the pointer again.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use esker_protocol::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use esker_storage::{Log, LogRead, ReadError};
use esker_tier::read::{Found, ReadError as TierReadError};

use super::Partition;
use crate::broker::Shared;
use crate::environment::Work;

/// Whole batches from one tier.
pub(crate) struct Data {
    /// The batches, in order.
    pub(crate) chunks: Vec<Bytes>,
    /// Aborted transactions that overlap them: producer id and first offset.
    pub(crate) aborted: Vec<(i64, i64)>,
}

impl Data {
    /// No batches.
    pub(crate) const NONE: Data = Data {
        chunks: Vec::new(),
        aborted: Vec::new(),
    };

    /// How many bytes the batches have.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}

/// Why a read gave no data.
pub(crate) enum ReadFailure {
    /// The offset is outside the log.
    OutOfRange,
    /// The data is there and cannot be had now; asking again helps.
    Later,
    /// The local log cannot be read.
    Storage(ReadError),
}

/// Whether `offset` lives in the object store only.
pub(crate) fn is_remote(partition: &Partition, offset: Offset) -> bool {
    offset >= partition.start_offset() && offset < partition.log.local_start_offset()
}

/// Reads from the local log, up to `below`.
pub(crate) async fn local(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    offset: Offset,
    max_bytes: usize,
    below: Offset,
    at_least_one: bool,
) -> Result<Data, ReadFailure> {
    if offset < partition.start_offset() || offset > partition.log.written_end() {
        return Err(ReadFailure::OutOfRange);
    }
    if offset >= below || (max_bytes == 0 && !at_least_one) {
        return Ok(Data::NONE);
    }
    let read = |from: fn(&Log, Offset, usize, Offset, bool) -> Result<LogRead, ReadError>| {
        let log = Arc::clone(&partition.log);
        move || {
            let read = from(&log, offset, max_bytes, below, at_least_one)?;
            // Without transactions there are none; the call looks at what is in memory.
            let aborted = log.aborted_transactions(offset, read.next)?;
            Ok::<_, ReadError>((read, aborted))
        }
    };
    let cached = read(Log::read_cached);
    let outcome = match shared.environment.run(Work::PageCache, cached).await {
        // A disk is slow, and others wait for the thread that asks it.
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            shared
                .environment
                .run(Work::Blocking, read(Log::read))
                .await
        }
        outcome => outcome,
    };
    match outcome {
        Ok((read, aborted)) => Ok(Data {
            chunks: if read.bytes.is_empty() {
                Vec::new()
            } else {
                vec![read.bytes]
            },
            aborted: aborted
                .iter()
                .map(|a| (a.producer_id.0, a.first_offset.0))
                .collect(),
        }),
        // Local retention was faster than this read.
        Err(ReadError::BelowLocalStart { .. }) => {
            remote(shared, partition, offset, max_bytes, at_least_one).await
        }
        Err(ReadError::OutOfRange { .. }) => Err(ReadFailure::OutOfRange),
        // What the tier has too is served from there; its copy was checked when it was committed.
        Err(ReadError::Damaged(damage))
            if partition.tier.end().is_some_and(|(end, _)| offset < end) =>
        {
            tracing::warn!(topic = %partition.topic, partition = partition.index, %offset, %damage, "a damaged local copy is read from the tier");
            remote(shared, partition, offset, max_bytes, at_least_one).await
        }
        Err(error) => Err(ReadFailure::Storage(error)),
    }
}

/// Reads from the object store, for at most `remote.fetch.max.wait.ms`.
pub(crate) async fn remote(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    offset: Offset,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Data, ReadFailure> {
    if max_bytes == 0 && !at_least_one {
        return Ok(Data::NONE);
    }
    let read = read_tier(shared, partition, offset, max_bytes, at_least_one);
    let given = shared.config.remote_fetch_wait_max;
    let wait_max = shared.settings().remote_fetch_wait_max(given);
    match tokio::time::timeout(wait_max, read).await {
        Ok(outcome) => outcome,
        // The download goes on into the cache; the client's next fetch finds it there.
        Err(_) => Err(ReadFailure::Later),
    }
}

/// Reads of the pointer for one read of data: the first is the cached one.
const POINTER_READS_MAX: usize = 2;

async fn read_tier(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    offset: Offset,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Data, ReadFailure> {
    let Some(reader) = shared.tiering.reader() else {
        return Err(ReadFailure::OutOfRange);
    };
    let identity = shared.tiering.identity(partition);
    for attempt in 0..POINTER_READS_MAX {
        if attempt > 0 {
            // P7: below log start is out of range, anything else is tried again.
            super::tiering::refresh(shared, partition)
                .await
                .map_err(|_| ReadFailure::Later)?;
        }
        if offset < partition.start_offset() {
            return Err(ReadFailure::OutOfRange);
        }
        let Some(pointer) = partition.tier.pointer() else {
            continue;
        };
        match reader
            .read(&identity, &pointer, offset, max_bytes, at_least_one)
            .await
        {
            Ok(read) => {
                shared
                    .metrics
                    .read_from_tier(read.bytes.iter().map(Bytes::len).sum());
                return Ok(Data {
                    chunks: read.bytes,
                    aborted: read
                        .aborted
                        .iter()
                        .map(|aborted| (aborted.producer_id.0, aborted.first_offset.0))
                        .collect(),
                });
            }
            Err(
                TierReadError::OutOfRange { .. }
                | TierReadError::NotInTier { .. }
                | TierReadError::Moved(_),
            ) => {}
            Err(error) => {
                tracing::warn!(topic = %partition.topic, partition = partition.index, %offset, %error, "tier read failed");
                return Err(ReadFailure::Later);
            }
        }
    }
    Err(ReadFailure::Later)
}

/// Where a record is, as ListOffsets answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Its offset.
    pub(crate) offset: Offset,
    /// Its timestamp.
    pub(crate) timestamp: Timestamp,
    /// The epoch of its batch.
    pub(crate) leader_epoch: LeaderEpoch,
}

impl Position {
    /// No record.
    pub(crate) const NONE: Position = Position {
        offset: Offset(-1),
        timestamp: Timestamp::NONE,
        leader_epoch: LeaderEpoch::NONE,
    };
}

fn position(found: Found) -> Position {
    Position {
        offset: found.offset,
        timestamp: found.timestamp,
        leader_epoch: found.leader_epoch,
    }
}

/// Finds the first record at or after `time`, below `below`, in the tier first and then locally.
pub(crate) async fn find_time(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    time: Timestamp,
    below: Offset,
) -> Result<Position, ErrorCode> {
    for _ in 0..LOOKUPS_MAX {
        // Everything below this offset has been looked at in the tier.
        let mut searched = partition.start_offset();
        if partition.log.local_start_offset() > searched
            && let Some(reader) = shared.tiering.reader()
            && let Some(pointer) = partition.tier.pointer()
        {
            let identity = shared.tiering.identity(partition);
            match reader.offset_for_timestamp(&identity, &pointer, time).await {
                Ok(Some(found)) => {
                    return Ok(position(found));
                }
                Ok(None) => searched = searched.max(pointer.tier_end),
                // P7: whoever meets a missing object reads the pointer again.
                Err(TierReadError::Moved(_) | TierReadError::OutOfRange { .. }) => {
                    super::tiering::refresh(shared, partition)
                        .await
                        .map_err(|_| ErrorCode::LeaderNotAvailable)?;
                    continue;
                }
                Err(error) => return Err(unavailable(partition, &error)),
            }
        }
        let log = Arc::clone(&partition.log);
        let found = shared
            .environment
            .run(Work::Blocking, move || {
                log.offset_for_timestamp(time, below)
            })
            .await
            .map_err(|error| storage_failed(partition, &error))?;
        // Segments that went to the tier meanwhile were looked at in neither place.
        if partition.log.local_start_offset() <= searched {
            return Ok(
                found.map_or(Position::NONE, |(timestamp, offset, leader_epoch)| {
                    Position {
                        offset,
                        timestamp,
                        leader_epoch,
                    }
                }),
            );
        }
    }
    Err(ErrorCode::LeaderNotAvailable)
}

/// Tries of a lookup while the seam moves.
const LOOKUPS_MAX: usize = 8;

/// Finds the first record that carries the largest timestamp below `below`, over both tiers.
pub(crate) async fn find_max_timestamp(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    below: Offset,
) -> Result<Position, ErrorCode> {
    let log = Arc::clone(&partition.log);
    let local = shared
        .environment
        .run(Work::Blocking, move || log.offset_of_max_timestamp())
        .await
        .map_err(|error| storage_failed(partition, &error))?;
    let local = local
        .map(|(timestamp, offset, leader_epoch)| Position {
            offset,
            timestamp,
            leader_epoch,
        })
        .filter(|found| found.offset < below);
    let mut remote = None;
    if partition.log.local_start_offset() > partition.start_offset()
        && let Some(reader) = shared.tiering.reader()
        && let Some(pointer) = partition.tier.pointer()
    {
        let identity = shared.tiering.identity(partition);
        remote = reader
            .offset_of_max_timestamp(&identity, &pointer)
            .await
            .map_err(|error| unavailable(partition, &error))?
            .map(position);
    }
    // The tier's offsets come first: on equal timestamps its record is the first.
    Ok(match (remote, local) {
        (Some(remote), Some(local)) if local.timestamp > remote.timestamp => local,
        (Some(remote), _) => remote,
        (None, local) => local.unwrap_or(Position::NONE),
    })
}

fn unavailable(partition: &Partition, error: &TierReadError) -> ErrorCode {
    tracing::warn!(topic = %partition.topic, partition = partition.index, %error, "tier lookup failed");
    // Retriable: the store may be back, or the pointer newer, when the client asks again.
    ErrorCode::LeaderNotAvailable
}

fn storage_failed(partition: &Partition, error: &ReadError) -> ErrorCode {
    tracing::warn!(topic = %partition.topic, partition = partition.index, %error, "lookup failed");
    ErrorCode::KafkaStorageError
}

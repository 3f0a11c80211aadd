//! DeleteRecords: the log start moves up, inside a segment if it must.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use esker_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use esker_protocol::{ErrorCode, LeaderEpoch, Offset};
use esker_storage::ChangeError;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::partition::tiering::{self, TierError};
use crate::topics;

/// The offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// The low watermark of a partition that was refused.
const INVALID_LOW_WATERMARK: i64 = -1;

/// How long a deletion may take, however little the client grants: Kafka's timeout is for the other
/// replicas, and what one broker must do it does.
const WAIT_TIME_MIN: Duration = Duration::from_secs(1);

/// Deletes the records below an offset of each partition, and answers when no crash undoes it.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &DeleteRecordsRequest<'_>,
) -> Reply {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
    let deadline = Instant::now() + timeout.max(WAIT_TIME_MIN);
    let all = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(move |wanted| (topic.name.as_ref(), wanted))
    });
    let asked = super::once_each(all, |(name, wanted)| (*name, wanted.partition_index));
    let mut topics = Vec::with_capacity(request.topics.len());
    for (name, asked) in super::grouped(asked) {
        let mut partitions = Vec::with_capacity(asked.len());
        for wanted in asked {
            let (index, offset) = (wanted.partition_index, wanted.offset);
            let deleted = delete(shared, name, index, offset);
            let deleted = match tokio::time::timeout_at(deadline, deleted).await {
                Ok(deleted) => deleted,
                Err(_) => Err(ErrorCode::RequestTimedOut),
            };
            let (low_watermark, code) = match deleted {
                Ok(start) => (start.0, ErrorCode::None),
                Err(code) => (INVALID_LOW_WATERMARK, code),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: index,
                low_watermark,
                error_code: code.code(),
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: Cow::Borrowed(name),
            partitions,
        });
    }
    super::reply(
        &answer,
        &DeleteRecordsResponse {
            topics,
            ..Default::default()
        },
    )
}

/// Returns where the log starts afterwards.
async fn delete(
    shared: &Arc<Shared>,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<Offset, ErrorCode> {
    let id = shared
        .topic_id(topic)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if shared.image().partition(id, index).is_none() {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    if topics::is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = shared.led_by_id(id, index, LeaderEpoch::NONE)?;
    let config = partition.config();
    if config.compact && !config.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let high_watermark = partition.high_watermark();
    let to = match offset {
        HIGH_WATERMARK => high_watermark,
        offset => Offset(offset),
    };
    if to < Offset::ZERO || to > high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if to <= partition.start_offset() {
        return Ok(partition.start_offset());
    }
    let start = tiering::delete_records(shared, &partition, to)
        .await
        .map_err(|error| {
            warn!(topic, partition = index, %error, "records were not deleted");
            code(&error)
        })?;
    info!(topic, partition = index, log_start_offset = %start, "records deleted");
    crate::retention::delete_passed(shared, &partition).await;
    Ok(start)
}

fn code(error: &TierError) -> ErrorCode {
    match error {
        TierError::Log(ChangeError::OutOfRange { .. }) => ErrorCode::OffsetOutOfRange,
        TierError::Log(_) | TierError::LogRead(_) => ErrorCode::KafkaStorageError,
        TierError::Fenced(_) | TierError::Moved => ErrorCode::NotLeaderOrFollower,
        _ => ErrorCode::RequestTimedOut,
    }
}

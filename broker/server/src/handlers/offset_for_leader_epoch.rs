//! OffsetForLeaderEpoch: where a leader epoch ends, so that a consumer notices that what it read was
//! cut away (KIP-320).
//!
//! A log keeps its epochs from log start on, what the tier alone holds included: the answer is the
//! same on both sides of the seam.

use esker_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use esker_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use esker_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use esker_protocol::{ErrorCode, LeaderEpoch, Offset};

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;

/// What is answered where nothing is known, as Kafka has it.
const UNDEFINED: (LeaderEpoch, Offset) = (LeaderEpoch::NONE, Offset(-1));

/// Answers each partition.
pub(crate) fn apply(
    shared: &Shared,
    answer: Answer,
    request: &OffsetForLeaderEpochRequest<'_>,
) -> Reply {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|asked| partition_response(asked.partition, find(shared, &topic.topic, asked)))
                .collect(),
        })
        .collect();
    super::reply(
        &answer,
        &OffsetForLeaderEpochResponse {
            topics,
            ..OffsetForLeaderEpochResponse::default()
        },
    )
}

fn find(
    shared: &Shared,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let current = LeaderEpoch(asked.current_leader_epoch);
    let partition = shared.led_partition(topic, asked.partition, current)?;
    let found = partition
        .log
        .end_offset_for_epoch(LeaderEpoch(asked.leader_epoch));
    Ok(found.unwrap_or(UNDEFINED))
}

fn partition_response(
    partition: i32,
    found: Result<(LeaderEpoch, Offset), ErrorCode>,
) -> EpochEndOffset {
    let (code, (epoch, end)) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(code) => (code, UNDEFINED),
    };
    EpochEndOffset {
        error_code: code.code(),
        partition,
        leader_epoch: epoch.0,
        end_offset: end.0,
    }
}

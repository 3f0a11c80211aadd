//! OffsetCommit and OffsetDelete.

use esker_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use esker_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use esker_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitValue, OffsetDeleteRequest,
    OffsetDeleteResponse,
};
use esker_protocol::{ErrorCode, TopicId};

use super::{Offsets, key, tombstone};
use crate::group::classic::State;
use crate::group::{Group, Turn};
use crate::record::{Record, Value};

/// What a client sends that leaves the retention to the broker.
const RETENTION_OF_BROKER: i64 = -1;

/// The version from which a commit to a group that does not exist says so.
const GROUP_NOT_FOUND_VERSION_MIN: i16 = 9;

/// The records of a commit and its answer. `group` is none if the group does not exist; a commit
/// without a generation then makes it.
///
/// # Errors
/// Nothing is committed, for this reason.
pub(crate) fn commit<'r>(
    request: &'r OffsetCommitRequest<'_>,
    version: i16,
    group: Option<&Group>,
    turn: &mut Turn<'_, 'r>,
) -> Result<OffsetCommitResponse<'static>, ErrorCode> {
    let generation = request.generation_id_or_member_epoch;
    let member_id = &*request.member_id;
    let instance_id = request.group_instance_id.as_deref();
    match group {
        None if generation < 0 => {}
        None if version >= GROUP_NOT_FOUND_VERSION_MIN => return Err(ErrorCode::GroupIdNotFound),
        None => return Err(ErrorCode::IllegalGeneration),
        Some(Group::Classic(group)) => {
            group.validate_commit(member_id, instance_id, generation)?;
            group.committed(member_id, turn);
        }
        Some(Group::Consumer(_)) => {}
    }
    let validate = |topic: TopicId, partition: i32| match group {
        Some(Group::Consumer(group)) => group.validate_commit(
            member_id,
            instance_id,
            generation,
            version,
            topic,
            partition,
        ),
        _ => Ok(()),
    };

    let now = turn.view.now.wall.0;
    let metadata_bytes_max = turn.view.configuration.settings().offset_metadata_bytes_max;
    let expire_timestamp = match request.retention_time_ms {
        RETENTION_OF_BROKER => -1,
        retention_ms => now.saturating_add(retention_ms),
    };
    // A record that says when it expires is of a version without epoch and topic id.
    let is_full = expire_timestamp == -1;
    let count = request.topics.iter().map(|topic| topic.partitions.len());
    let mut records = Vec::with_capacity(count.sum());
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let metadata = partition.committed_metadata.as_deref().unwrap_or("");
            let error = if units(metadata) > metadata_bytes_max {
                ErrorCode::OffsetMetadataTooLarge
            } else {
                validate(topic.topic_id, partition.partition_index)?;
                let value = OffsetCommitValue {
                    offset: partition.committed_offset,
                    leader_epoch: if is_full {
                        partition.committed_leader_epoch
                    } else {
                        -1
                    },
                    metadata: metadata.into(),
                    commit_timestamp: now,
                    expire_timestamp,
                    topic_id: if is_full {
                        topic.topic_id
                    } else {
                        TopicId::ZERO
                    },
                };
                records.push(Record {
                    key: key(
                        (&*request.group_id).into(),
                        (&*topic.name).into(),
                        partition.partition_index,
                    ),
                    value: Some(Value::OffsetCommit(value)),
                });
                ErrorCode::None
            };
            partitions.push(OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error as i16,
            });
        }
        topics.push(OffsetCommitResponseTopic {
            name: topic.name.clone().into_owned().into(),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    turn.records.append(&mut records);
    Ok(OffsetCommitResponse {
        topics,
        ..OffsetCommitResponse::default()
    })
}

/// Kafka counts the UTF-16 units of metadata, not its bytes.
fn units(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.encode_utf16().count()
    }
}

/// Deletes offsets of topics that no member reads.
///
/// # Errors
/// The group is none of consumers and has members.
pub(crate) fn delete(
    request: &OffsetDeleteRequest<'_>,
    group: &Group,
    offsets: &Offsets,
    turn: &mut Turn<'_, '_>,
) -> Result<OffsetDeleteResponse<'static>, ErrorCode> {
    if let Group::Classic(group) = group
        && group.state() != State::Empty
        && !group.has_consumers()
    {
        return Err(ErrorCode::NonEmptyGroup);
    }
    let group_id = &*request.group_id;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let is_read = group.subscribes_to(&topic.name);
        let error = if is_read {
            ErrorCode::GroupSubscribedToTopic
        } else {
            ErrorCode::None
        };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let is_known = offsets.get(group_id, &topic.name, index).is_some()
                || offsets.is_open(group_id, &topic.name, index);
            if !is_read && is_known {
                turn.records.push(tombstone(group_id, &topic.name, index));
            }
            partitions.push(OffsetDeleteResponsePartition {
                partition_index: index,
                error_code: error as i16,
            });
        }
        topics.push(OffsetDeleteResponseTopic {
            name: topic.name.clone().into_owned().into(),
            partitions,
        });
    }
    Ok(OffsetDeleteResponse {
        topics,
        ..OffsetDeleteResponse::default()
    })
}

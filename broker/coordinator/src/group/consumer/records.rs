//! The records that consumer groups write.

use std::borrow::Cow;

use esker_protocol::messages::consumer_group_target_assignment_member_value::TopicPartition;
use esker_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupMemberMetadataKey,
    ConsumerGroupMetadataKey, ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey,
    ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue,
};

use super::member::{Current, Metadata};
use super::state::Resolved;
use crate::assignor::Assignment;
use crate::record::{Key, Record, Value};

fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}

fn member_key(group: &str, member: &str) -> Key<'static> {
    Key::ConsumerGroupMember(ConsumerGroupMemberMetadataKey {
        group_id: owned(group),
        member_id: owned(member),
    })
}

fn target_member_key(group: &str, member: &str) -> Key<'static> {
    Key::ConsumerGroupTargetMember(ConsumerGroupTargetAssignmentMemberKey {
        group_id: owned(group),
        member_id: owned(member),
    })
}

fn current_key(group: &str, member: &str) -> Key<'static> {
    Key::ConsumerGroupCurrentMember(ConsumerGroupCurrentMemberAssignmentKey {
        group_id: owned(group),
        member_id: owned(member),
    })
}

fn regex_key(group: &str, regex: &str) -> Key<'static> {
    Key::ConsumerGroupRegex(ConsumerGroupRegularExpressionKey {
        group_id: owned(group),
        regular_expression: owned(regex),
    })
}

fn epoch_key(group: &str) -> Key<'static> {
    Key::ConsumerGroupMetadata(ConsumerGroupMetadataKey {
        group_id: owned(group),
    })
}

fn target_key(group: &str) -> Key<'static> {
    Key::ConsumerGroupTarget(ConsumerGroupTargetAssignmentMetadataKey {
        group_id: owned(group),
    })
}

fn tombstone(key: Key<'static>) -> Record<'static> {
    Record { key, value: None }
}

/// Type 5.
pub(super) fn member(group: &str, member: &str, metadata: &Metadata) -> Record<'static> {
    Record {
        key: member_key(group, member),
        value: Some(Value::ConsumerGroupMember(metadata.to_record())),
    }
}

/// Type 3.
pub(super) fn epoch(group: &str, epoch: i32, metadata_hash: i64) -> Record<'static> {
    Record {
        key: epoch_key(group),
        value: Some(Value::ConsumerGroupMetadata(ConsumerGroupMetadataValue {
            epoch,
            metadata_hash,
        })),
    }
}

/// Type 7.
pub(super) fn target_member(group: &str, member: &str, target: &Assignment) -> Record<'static> {
    let topic_partitions = (target.iter())
        .map(|(topic_id, partitions)| TopicPartition {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
        })
        .collect();
    Record {
        key: target_member_key(group, member),
        value: Some(Value::ConsumerGroupTargetMember(
            ConsumerGroupTargetAssignmentMemberValue { topic_partitions },
        )),
    }
}

/// Type 6.
pub(super) fn target(group: &str, epoch: i32, timestamp: i64) -> Record<'static> {
    Record {
        key: target_key(group),
        value: Some(Value::ConsumerGroupTarget(
            ConsumerGroupTargetAssignmentMetadataValue {
                assignment_epoch: epoch,
                assignment_timestamp: timestamp,
            },
        )),
    }
}

/// Type 8.
pub(super) fn current(group: &str, member: &str, current: &Current) -> Record<'static> {
    Record {
        key: current_key(group, member),
        value: Some(Value::ConsumerGroupCurrentMember(current.to_record())),
    }
}

/// Type 16.
pub(super) fn regex(group: &str, regex: &str, resolved: &Resolved) -> Record<'static> {
    let value = ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.iter().map(|topic| owned(topic)).collect(),
        version: resolved.version,
        timestamp: resolved.timestamp,
    };
    Record {
        key: regex_key(group, regex),
        value: Some(Value::ConsumerGroupRegex(value)),
    }
}

pub(super) fn member_tombstone(group: &str, member: &str) -> Record<'static> {
    tombstone(member_key(group, member))
}

pub(super) fn target_member_tombstone(group: &str, member: &str) -> Record<'static> {
    tombstone(target_member_key(group, member))
}

pub(super) fn current_tombstone(group: &str, member: &str) -> Record<'static> {
    tombstone(current_key(group, member))
}

pub(super) fn regex_tombstone(group: &str, regex: &str) -> Record<'static> {
    tombstone(regex_key(group, regex))
}

pub(super) fn epoch_tombstone(group: &str) -> Record<'static> {
    tombstone(epoch_key(group))
}

pub(super) fn target_tombstone(group: &str) -> Record<'static> {
    tombstone(target_key(group))
}

/// Type 4, which was written before 4.1.
pub(super) fn partition_metadata_tombstone(group: &str) -> Record<'static> {
    tombstone(Key::ConsumerGroupPartitionMetadata(
        ConsumerGroupPartitionMetadataKey {
            group_id: owned(group),
        },
    ))
}

/// The tombstones of a member, in Kafka's order: what it owns, what it shall own, who it is.
pub(super) fn remove_member(group: &str, member: &str) -> [Record<'static>; 3] {
    [
        current_tombstone(group, member),
        target_member_tombstone(group, member),
        member_tombstone(group, member),
    ]
}

//! What a record is about, whatever its version.

use std::borrow::Cow;

use esker_protocol::messages::{OffsetCommitKey, OffsetCommitValue};

use crate::record::{Key, Record, Value};

/// The commit in a record of today's or of the oldest format; without a value it is a deletion.
pub(super) fn offset_commit<'r>(
    record: &'r Record<'_>,
) -> Option<(OffsetCommitKey<'r>, Option<OffsetCommitValue<'r>>)> {
    let (group, topic, partition) = match &record.key {
        Key::OffsetCommit(key) => (&key.group, &key.topic, key.partition),
        Key::LegacyOffsetCommit(key) => (&key.group, &key.topic, key.partition),
        _ => return None,
    };
    let key = OffsetCommitKey {
        group: Cow::Borrowed(group),
        topic: Cow::Borrowed(topic),
        partition,
    };
    let value = match &record.value {
        Some(Value::OffsetCommit(value)) => Some(OffsetCommitValue {
            metadata: Cow::Borrowed(&value.metadata),
            ..*value
        }),
        Some(Value::LegacyOffsetCommit(value)) => Some(OffsetCommitValue {
            offset: value.offset,
            metadata: Cow::Borrowed(&value.metadata),
            commit_timestamp: value.commit_timestamp,
            ..OffsetCommitValue::default()
        }),
        _ => None,
    };
    Some((key, value))
}

/// Whether both are commits of the same group for the same topic, and none a deletion.
pub(super) fn commit_for_the_same(one: &Record<'_>, other: &Record<'_>) -> bool {
    match (&one.key, &other.key) {
        (Key::OffsetCommit(key), Key::OffsetCommit(other_key)) => {
            one.value.is_some()
                && other.value.is_some()
                && key.topic == other_key.topic
                && key.group == other_key.group
        }
        _ => false,
    }
}

/// The group of a consumer group's record.
pub(super) fn consumer_group_id<'r>(key: &'r Key<'_>) -> Option<&'r str> {
    match key {
        Key::ConsumerGroupMetadata(key) => Some(&key.group_id),
        Key::ConsumerGroupPartitionMetadata(key) => Some(&key.group_id),
        Key::ConsumerGroupMember(key) => Some(&key.group_id),
        Key::ConsumerGroupTarget(key) => Some(&key.group_id),
        Key::ConsumerGroupTargetMember(key) => Some(&key.group_id),
        Key::ConsumerGroupCurrentMember(key) => Some(&key.group_id),
        Key::ConsumerGroupRegex(key) => Some(&key.group_id),
        Key::OffsetCommit(_) | Key::LegacyOffsetCommit(_) | Key::GroupMetadata(_) => None,
    }
}

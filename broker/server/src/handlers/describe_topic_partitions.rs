//! DescribeTopicPartitions: topics page by page (KIP-966).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use esker_metadata::Image;
use esker_metadata::values::{PartitionValue, TopicState};
use esker_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use esker_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use esker_protocol::{BrokerId, ErrorCode, TopicId};

use super::Answer;
use super::metadata::TOPIC_OPERATIONS;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::topics;

/// Answers with as many partitions as the client wants and the broker allows, and says where the
/// next page begins.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &DescribeTopicPartitionsRequest<'_>,
) -> Reply {
    let response = match wanted(shared, request) {
        Some(names) => describe(shared, request, &names),
        None => DescribeTopicPartitionsResponse {
            topics: request
                .topics
                .iter()
                .map(|topic| failed(&topic.name, TopicId::ZERO, ErrorCode::InvalidRequest))
                .collect(),
            ..Default::default()
        },
    };
    super::reply(&answer, &response)
}

/// The names to describe, sorted; `None` where the cursor does not fit the request.
fn wanted(
    shared: &Shared,
    request: &DescribeTopicPartitionsRequest<'_>,
) -> Option<BTreeSet<String>> {
    let cursor = request.cursor.as_ref();
    let first = cursor.map_or("", |cursor| cursor.topic_name.as_ref());
    if cursor.is_some_and(|cursor| cursor.partition_index < 0) {
        return None;
    }
    if request.topics.is_empty() {
        let image = shared.image();
        let names = image.visible_topics().map(|(name, _)| name);
        return Some(
            names
                .filter(|name| *name >= first)
                .map(str::to_owned)
                .collect(),
        );
    }
    let names: BTreeSet<String> = request
        .topics
        .iter()
        .map(|topic| topic.name.to_string())
        .filter(|name| name.as_str() >= first)
        .collect();
    let fits = cursor.is_none() || names.contains(first);
    fits.then_some(names)
}

fn describe<'a>(
    shared: &Shared,
    request: &DescribeTopicPartitionsRequest<'_>,
    names: &BTreeSet<String>,
) -> DescribeTopicPartitionsResponse<'a> {
    let image = shared.image();
    let limit = request.response_partition_limit;
    let limit = limit.min(shared.config.page_partitions_max).max(1);
    let mut left = usize::try_from(limit).unwrap_or(1);
    let mut response = DescribeTopicPartitionsResponse::default();
    let next = |name: &str, partition_index: i32| {
        Some(Cursor {
            topic_name: Cow::Owned(name.to_owned()),
            partition_index,
        })
    };
    for name in names {
        if left == 0 {
            response.next_cursor = next(name, 0);
            break;
        }
        let topic = image.topic(name);
        let topic = topic.filter(|topic| topic.value.state != TopicState::Creating);
        let Some(topic) = topic else {
            let code = match topics::check_name(name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            // Of all topics, one that has gone meanwhile is no error.
            if !request.topics.is_empty() {
                response.topics.push(failed(name, TopicId::ZERO, code));
            }
            continue;
        };
        let (id, count) = (topic.value.topic_id, topic.value.partitions);
        let cursor = request.cursor.as_ref();
        let first = cursor
            .filter(|cursor| cursor.topic_name == name.as_str())
            .map_or(0, |cursor| cursor.partition_index);
        let partitions: Vec<_> = image
            .partitions(id)
            .filter(|(index, _)| (first..count).contains(index))
            .take(left)
            .map(|(index, partition)| row(&image, index, &partition.value))
            .collect();
        left -= partitions.len();
        let last = partitions.last().map(|partition| partition.partition_index);
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            partitions,
            is_internal: topics::is_internal(name),
            ..failed(name, id, ErrorCode::None)
        });
        if let Some(last) = last.filter(|last| last + 1 < count) {
            response.next_cursor = next(name, last + 1);
            break;
        }
    }
    response
}

fn failed<'a>(
    name: &str,
    id: TopicId,
    code: ErrorCode,
) -> DescribeTopicPartitionsResponseTopic<'a> {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(Cow::Owned(name.to_owned())),
        topic_id: id,
        is_internal: topics::is_internal(name),
        partitions: Vec::new(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

fn row(
    image: &Image,
    index: i32,
    partition: &PartitionValue,
) -> DescribeTopicPartitionsResponsePartition {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<_>>();
    let leader = partition.leader.filter(|id| image.broker(*id).is_some());
    let code = match leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    DescribeTopicPartitionsResponsePartition {
        error_code: code.code(),
        partition_index: index,
        leader_id: leader.map_or(-1, |leader| leader.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: partition.brokers().map(|id| id.0).collect(),
        isr_nodes: ids(&partition.isr),
        eligible_leader_replicas: Some(ids(&partition.elr)),
        last_known_elr: Some(Vec::new()),
        offline_replicas: partition
            .brokers()
            .filter(|id| image.broker(*id).is_none())
            .map(|id| id.0)
            .collect(),
    }
}

//! DescribeTopicPartitions: topics page by page (KIP-966).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use esker_metadata::Image;
use esker_metadata::values::PartitionValue;
use esker_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use esker_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use esker_protocol::{BrokerId, ErrorCode, TopicId};

use super::Answer;
use super::describe_cluster::OPERATIONS_NOT_ASKED;
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
        Ok(names) => describe(shared, request, &names),
        Err(code) => DescribeTopicPartitionsResponse {
            topics: request
                .topics
                .iter()
                .map(|topic| DescribeTopicPartitionsResponseTopic {
                    error_code: code.code(),
                    name: Some(Cow::Owned(topic.name.to_string())),
                    topic_authorized_operations: OPERATIONS_NOT_ASKED,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        },
    };
    super::reply(&answer, &response)
}

/// The names to describe, sorted, or an error where the cursor does not fit the request.
fn wanted(
    shared: &Shared,
    request: &DescribeTopicPartitionsRequest<'_>,
) -> Result<BTreeSet<String>, ErrorCode> {
    let cursor = request.cursor.as_ref();
    let first = cursor.map_or("", |cursor| cursor.topic_name.as_ref());
    if cursor.is_some_and(|cursor| cursor.partition_index < 0) {
        return Err(ErrorCode::InvalidRequest);
    }
    if request.topics.is_empty() {
        let image = shared.image();
        let names = image.visible_topics().map(|(name, _)| name);
        return Ok(names
            .filter(|name| *name >= first)
            .map(str::to_owned)
            .collect());
    }
    named(request).map(|names| names.into_iter().map(str::to_owned).collect())
}

/// The names that are asked for, from the cursor on.
fn named<'a>(
    request: &'a DescribeTopicPartitionsRequest<'_>,
) -> Result<BTreeSet<&'a str>, ErrorCode> {
    let cursor = request.cursor.as_ref();
    let first = cursor.map_or("", |cursor| cursor.topic_name.as_ref());
    let names: BTreeSet<&str> = request
        .topics
        .iter()
        .map(|topic| topic.name.as_ref())
        .filter(|name| *name >= first)
        .collect();
    match cursor {
        Some(_) if !names.contains(first) => Err(ErrorCode::InvalidRequest),
        // Kafka takes the empty name for the cursor's, misses the cursor, and says so.
        None if names.contains("") => Err(ErrorCode::UnknownServerError),
        _ => Ok(names),
    }
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
        let Some(topic) = image.visible_topic(name) else {
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

#[cfg(test)]
mod tests {
    use esker_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};

    use super::*;

    fn check(
        names: &[&'static str],
        cursor: Option<&'static str>,
        expected: Result<&[&str], ErrorCode>,
    ) {
        let request = DescribeTopicPartitionsRequest {
            topics: names
                .iter()
                .map(|name| TopicRequest {
                    name: (*name).into(),
                })
                .collect(),
            cursor: cursor.map(|name| Cursor {
                topic_name: name.into(),
                partition_index: 0,
            }),
            ..Default::default()
        };
        let names = named(&request).map(|names| names.into_iter().collect::<Vec<_>>());
        assert_eq!(names.as_deref().map_err(|code| *code), expected);
    }

    #[test]
    fn names_are_sorted_and_begin_at_the_cursor() {
        check(&["b", "a", "b"], None, Ok(&["a", "b"]));
        check(&["b", "a"], Some("b"), Ok(&["b"]));
    }

    #[test]
    fn a_cursor_names_one_of_the_topics() {
        check(&["a"], Some("b"), Err(ErrorCode::InvalidRequest));
        check(&["a", ""], None, Err(ErrorCode::UnknownServerError));
        check(&["a", ""], Some(""), Ok(&["", "a"]));
    }
}

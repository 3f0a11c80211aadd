//! OffsetDelete: committed offsets of topics that nobody in the group reads are deleted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::ErrorCode;
use esker_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use esker_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// Answers for topics that do not exist, and for the others with what the coordinator says.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: OffsetDeleteRequest<'_>,
) -> Reply {
    if request.group_id.is_empty() {
        let response = OffsetDeleteResponse {
            error_code: ErrorCode::InvalidGroupId.code(),
            ..OffsetDeleteResponse::default()
        };
        return super::reply(&answer, &response);
    }
    let group_id = request.group_id.to_string();
    let mut unknown: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let mut known = Vec::with_capacity(request.topics.len());
    let image = shared.image();
    for mut topic in request.topics {
        let id = shared.topic_id(&topic.name);
        let mut missing = Vec::new();
        topic.partitions.retain(|partition| {
            let index = partition.partition_index;
            let exists = id.is_some_and(|id| image.partition(id, index).is_some());
            if !exists {
                missing.push(index);
            }
            exists
        });
        if !missing.is_empty() {
            let name = topic.name.to_string();
            unknown.entry(name).or_default().extend(missing);
        }
        if !topic.partitions.is_empty() {
            known.push(topic);
        }
    }
    let request = Request::OffsetDelete(OffsetDeleteRequest {
        group_id: request.group_id,
        topics: known,
    });
    let context = caller.context();
    groups::submit(shared, answer, &group_id, &request, &context, move |r| {
        let Response::OffsetDelete(mut response) = r else {
            return None;
        };
        if response.error_code == 0 {
            merge(&mut response.topics, unknown);
        }
        Some(response)
    })
}

/// Puts the coordinator's answers beside the partitions that do not exist, one entry a topic. Where all
/// exist, a topic that was named twice is answered twice.
fn merge(
    topics: &mut Vec<OffsetDeleteResponseTopic<'static>>,
    unknown: BTreeMap<String, Vec<i32>>,
) {
    if unknown.is_empty() {
        return;
    }
    let refused = |partition_index| OffsetDeleteResponsePartition {
        partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
    };
    let mut merged: BTreeMap<String, Vec<OffsetDeleteResponsePartition>> = unknown
        .into_iter()
        .map(|(name, indexes)| (name, indexes.into_iter().map(refused).collect()))
        .collect();
    for topic in topics.drain(..) {
        let partitions = merged.entry(topic.name.into_owned()).or_default();
        partitions.extend(topic.partitions);
    }
    let topic = |(name, partitions)| OffsetDeleteResponseTopic {
        name: Cow::Owned(name),
        partitions,
    };
    topics.extend(merged.into_iter().map(topic));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_one_entry_whatever_of_it_exists() {
        let deleted = |partition_index| OffsetDeleteResponsePartition {
            partition_index,
            error_code: 0,
        };
        let topic = |index| OffsetDeleteResponseTopic {
            name: "a".into(),
            partitions: vec![deleted(index)],
        };
        let twice = vec![topic(0), topic(1)];
        let mut topics = twice.clone();
        merge(&mut topics, BTreeMap::new());
        assert_eq!(topics, twice);
        let unknown = [("a", vec![7]), ("b", vec![1, 2])];
        let unknown = unknown.map(|(name, indexes)| (name.to_owned(), indexes));
        merge(&mut topics, unknown.into());
        let codes = topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            let codes = partitions.map(|one| (one.partition_index, one.error_code));
            (topic.name.as_ref(), codes.collect::<Vec<_>>())
        });
        let expected = [
            ("a", vec![(7, 3), (0, 0), (1, 0)]),
            ("b", vec![(1, 3), (2, 3)]),
        ];
        assert_eq!(codes.collect::<Vec<_>>(), expected);
    }
}

//! OffsetDelete: committed offsets of topics that nobody in the group reads are deleted.

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
    let unknown: Vec<OffsetDeleteResponseTopic<'static>> = unknown
        .into_iter()
        .map(|(name, indexes)| OffsetDeleteResponseTopic {
            name: name.into(),
            partitions: indexes
                .into_iter()
                .map(|partition_index| OffsetDeleteResponsePartition {
                    partition_index,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                })
                .collect(),
        })
        .collect();
    if known.is_empty() {
        let response = OffsetDeleteResponse {
            topics: unknown,
            ..OffsetDeleteResponse::default()
        };
        return super::reply(&answer, &response);
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
            response.topics.extend(unknown.iter().cloned());
        }
        Some(response)
    })
}

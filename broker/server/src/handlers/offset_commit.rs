//! OffsetCommit: a group notes how far it has read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_metadata::Image;
use esker_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use esker_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use esker_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use esker_protocol::{ErrorCode, TopicId};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// The first version that names topics by id.
const TOPIC_ID_VERSION_MIN: i16 = 10;

/// Answers for topics and partitions that do not exist, and for the others once their offsets are
/// committed.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: OffsetCommitRequest<'_>,
) -> Reply {
    let group_id = request.group_id.clone();
    let image = shared.image();
    let mut refused = Vec::new();
    let mut known = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        resolve(&image, answer.version, topic, &mut known, &mut refused);
    }
    if known.is_empty() {
        let mut response = OffsetCommitResponse::default();
        merge(&mut response.topics, refused);
        return super::reply(&answer, &response);
    }
    let request = Request::OffsetCommit(OffsetCommitRequest {
        topics: known,
        ..request
    });
    let context = caller.context();
    groups::submit(shared, answer, &group_id, &request, &context, move |r| {
        let Response::OffsetCommit(mut response) = r else {
            return None;
        };
        merge(&mut response.topics, refused);
        if answer.version < TOPIC_ID_VERSION_MIN {
            for topic in &mut response.topics {
                topic.topic_id = TopicId::ZERO;
            }
        } else {
            for topic in &mut response.topics {
                topic.name = Cow::Borrowed("");
            }
        }
        Some(response)
    })
}

/// Sorts a topic's partitions into those that exist, under the topic's name and id, and refusals.
fn resolve<'a>(
    image: &Image,
    version: i16,
    mut topic: OffsetCommitRequestTopic<'a>,
    known: &mut Vec<OffsetCommitRequestTopic<'a>>,
    refused: &mut Vec<OffsetCommitResponseTopic<'static>>,
) {
    let by_id = version >= TOPIC_ID_VERSION_MIN;
    let found = if by_id {
        image.visible_name(topic.topic_id).map(|name| {
            topic.name = Cow::Owned(name.to_owned());
            topic.topic_id
        })
    } else {
        image.visible_id(&topic.name)
    };
    let mut unknown = Vec::new();
    let code = match found {
        Some(id) => {
            topic.topic_id = id;
            topic.partitions.retain(|partition| {
                let exists = image.partition(id, partition.partition_index).is_some();
                if !exists {
                    unknown.push(partition.partition_index);
                }
                exists
            });
            ErrorCode::UnknownTopicOrPartition
        }
        None => {
            unknown.extend(topic.partitions.drain(..).map(|p| p.partition_index));
            if by_id {
                ErrorCode::UnknownTopicId
            } else {
                ErrorCode::UnknownTopicOrPartition
            }
        }
    };
    if !unknown.is_empty() {
        refused.push(OffsetCommitResponseTopic {
            name: Cow::Owned(topic.name.to_string()),
            topic_id: topic.topic_id,
            partitions: unknown
                .into_iter()
                .map(|partition_index| OffsetCommitResponsePartition {
                    partition_index,
                    error_code: code.code(),
                })
                .collect(),
        });
    }
    if !topic.partitions.is_empty() {
        known.push(topic);
    }
}

/// Puts the coordinator's answers beside the refusals, one entry a topic. Without a refusal a topic
/// that was named twice is answered twice.
fn merge(
    topics: &mut Vec<OffsetCommitResponseTopic<'static>>,
    refused: Vec<OffsetCommitResponseTopic<'static>>,
) {
    if refused.is_empty() {
        return;
    }
    let committed = std::mem::take(topics);
    let mut places: BTreeMap<(String, TopicId), usize> = BTreeMap::new();
    for topic in refused.into_iter().chain(committed) {
        let place = *places
            .entry((topic.name.to_string(), topic.topic_id))
            .or_insert(topics.len());
        match topics.get_mut(place) {
            Some(first) => first.partitions.extend(topic.partitions),
            None => topics.push(topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(
        name: &'static str,
        indexes: &[i32],
        code: ErrorCode,
    ) -> OffsetCommitResponseTopic<'static> {
        OffsetCommitResponseTopic {
            name: name.into(),
            topic_id: TopicId::ZERO,
            partitions: indexes
                .iter()
                .map(|&partition_index| OffsetCommitResponsePartition {
                    partition_index,
                    error_code: code.code(),
                })
                .collect(),
        }
    }

    fn shown(topics: &[OffsetCommitResponseTopic<'_>]) -> Vec<(String, Vec<(i32, i16)>)> {
        let topics = topics.iter();
        let shown = topics.map(|topic| {
            let partitions = topic.partitions.iter();
            let codes = partitions.map(|one| (one.partition_index, one.error_code));
            (topic.name.to_string(), codes.collect())
        });
        shown.collect()
    }

    #[test]
    fn a_topic_has_one_entry_where_some_of_the_request_is_refused() {
        let done = ErrorCode::None;
        let committed = [
            topic("a", &[0], done),
            topic("b", &[0], done),
            topic("a", &[1], done),
        ];
        let mut topics = committed.to_vec();
        merge(&mut topics, Vec::new());
        assert_eq!(topics, committed);
        let unknown = ErrorCode::UnknownTopicOrPartition;
        let refused = vec![
            topic("a", &[7], unknown),
            topic("c", &[0], unknown),
            topic("a", &[8], unknown),
        ];
        merge(&mut topics, refused);
        let expected = [
            ("a", vec![(7, 3), (8, 3), (0, 0), (1, 0)]),
            ("c", vec![(0, 3)]),
            ("b", vec![(0, 0)]),
        ];
        assert_eq!(
            shown(&topics),
            expected.map(|(name, codes)| (name.to_owned(), codes))
        );
    }
}

//! OffsetFetch: how far groups have read.
//!
//! Until version 7 a request asks for one group, from 8 on for several. Coordinators know topics by
//! name; version 10 names them by id.

use std::borrow::Cow;
use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use esker_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use esker_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use esker_protocol::{ErrorCode, TopicId};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// The first version that asks for several groups.
const GROUPS_VERSION_MIN: i16 = 8;

/// The first version that names topics by id.
const TOPIC_ID_VERSION_MIN: i16 = 10;

/// The first version with an error of the whole response.
const TOP_LEVEL_ERROR_VERSION_MIN: i16 = 2;

/// What is answered for a partition without a committed offset.
const NO_OFFSET: i64 = -1;

/// Topics that were asked for by ids nobody knows.
type Unknown = Vec<OffsetFetchResponseTopics<'static>>;

/// Answers once everything that the answer shows is committed.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: OffsetFetchRequest<'_>,
) -> Reply {
    let require_stable = request.require_stable;
    let groups = if answer.version >= GROUPS_VERSION_MIN {
        request.groups
    } else {
        vec![one_group(request)]
    };
    let asked: Vec<Vec<(String, Vec<i32>)>> = if answer.version < TOP_LEVEL_ERROR_VERSION_MIN {
        groups.iter().map(named).collect()
    } else {
        Vec::new()
    };
    let mut unknown: Vec<Unknown> = Vec::with_capacity(groups.len());
    let asked_of = groups.into_iter().map(|group| {
        let (group, unknown_topics) = resolve(shared, answer.version, group);
        unknown.push(unknown_topics);
        let group_id = group.group_id.to_string();
        let request = Request::OffsetFetch {
            group,
            require_stable,
        };
        (group_id, request)
    });
    let submitted = groups::submit_each(shared, &caller.context(), asked_of);
    let shared = Arc::clone(shared);
    Reply::Later(Box::pin(async move {
        let responses = groups::all(submitted).await?;
        let mut answered = Vec::with_capacity(responses.len());
        for (response, unknown) in responses.into_iter().zip(unknown) {
            let Response::OffsetFetch(mut group) = response else {
                return None;
            };
            if group.error_code == 0 {
                name(&shared, answer.version, &mut group);
                group.topics.extend(unknown);
            }
            answered.push(group);
        }
        let response = if answer.version >= GROUPS_VERSION_MIN {
            OffsetFetchResponse {
                groups: answered,
                ..OffsetFetchResponse::default()
            }
        } else {
            old_form(answer.version, answered, &asked)
        };
        super::respond(&answer, &response).map(Into::into)
    }))
}

/// The one group of an older request.
fn one_group(request: OffsetFetchRequest<'_>) -> OffsetFetchRequestGroup<'_> {
    OffsetFetchRequestGroup {
        group_id: request.group_id,
        member_id: None,
        member_epoch: -1,
        topics: request.topics.map(|topics| {
            topics
                .into_iter()
                .map(|topic| OffsetFetchRequestTopics {
                    name: topic.name,
                    topic_id: TopicId::ZERO,
                    partition_indexes: topic.partition_indexes,
                })
                .collect()
        }),
    }
}

fn named(group: &OffsetFetchRequestGroup<'_>) -> Vec<(String, Vec<i32>)> {
    let topics = group.topics.iter().flatten();
    topics
        .map(|topic| (topic.name.to_string(), topic.partition_indexes.clone()))
        .collect()
}

/// Gives topics that were asked for by id their names, and takes out those that have none. Those that
/// were asked for by name get the ids of today: what was committed for an earlier topic of the name is
/// not theirs.
fn resolve<'a>(
    shared: &Shared,
    version: i16,
    mut group: OffsetFetchRequestGroup<'a>,
) -> (OffsetFetchRequestGroup<'a>, Unknown) {
    let mut unknown = Vec::new();
    if version < TOPIC_ID_VERSION_MIN {
        for topic in group.topics.iter_mut().flatten() {
            topic.topic_id = shared.topic_id(&topic.name).unwrap_or(TopicId::ZERO);
        }
    } else if let Some(topics) = &mut group.topics {
        topics.retain_mut(|topic| match shared.topic_name(topic.topic_id) {
            Some(name) => {
                topic.name = Cow::Owned(name);
                true
            }
            None => {
                let indexes = topic.partition_indexes.iter();
                unknown.push(OffsetFetchResponseTopics {
                    name: Cow::Borrowed(""),
                    topic_id: topic.topic_id,
                    partitions: indexes
                        .map(|index| no_offset(*index, ErrorCode::UnknownTopicId))
                        .collect(),
                });
                false
            }
        });
    }
    (group, unknown)
}

fn no_offset(partition_index: i32, code: ErrorCode) -> OffsetFetchResponsePartitions<'static> {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: NO_OFFSET,
        committed_leader_epoch: -1,
        metadata: Some(Cow::Borrowed("")),
        error_code: code.code(),
    }
}

/// Names the topics of an answer as its version does. A topic that is gone has no id, and is left
/// out of an answer by ids.
fn name(shared: &Shared, version: i16, group: &mut OffsetFetchResponseGroup<'_>) {
    if version < TOPIC_ID_VERSION_MIN {
        for topic in &mut group.topics {
            topic.topic_id = TopicId::ZERO;
        }
        return;
    }
    group.topics.retain_mut(|topic| {
        let Some(id) = shared.topic_id(&topic.name) else {
            return false;
        };
        topic.topic_id = id;
        topic.name = Cow::Borrowed("");
        true
    });
}

/// The answer of a version that asks for one group.
fn old_form(
    version: i16,
    answered: Vec<OffsetFetchResponseGroup<'static>>,
    asked: &[Vec<(String, Vec<i32>)>],
) -> OffsetFetchResponse<'static> {
    let Some(group) = answered.into_iter().next() else {
        return OffsetFetchResponse::default();
    };
    if group.error_code != 0 && version < TOP_LEVEL_ERROR_VERSION_MIN {
        let asked = asked.first().map(Vec::as_slice).unwrap_or_default();
        return OffsetFetchResponse {
            topics: asked
                .iter()
                .map(|(name, indexes)| OffsetFetchResponseTopic {
                    name: Cow::Owned(name.clone()),
                    partitions: indexes
                        .iter()
                        .map(|index| OffsetFetchResponsePartition {
                            partition_index: *index,
                            committed_offset: NO_OFFSET,
                            committed_leader_epoch: -1,
                            metadata: Some(Cow::Borrowed("")),
                            error_code: group.error_code,
                        })
                        .collect(),
                })
                .collect(),
            ..OffsetFetchResponse::default()
        };
    }
    OffsetFetchResponse {
        error_code: group.error_code,
        topics: group
            .topics
            .into_iter()
            .map(|topic| OffsetFetchResponseTopic {
                name: topic.name,
                partitions: topic
                    .partitions
                    .into_iter()
                    .map(|partition| OffsetFetchResponsePartition {
                        partition_index: partition.partition_index,
                        committed_offset: partition.committed_offset,
                        committed_leader_epoch: partition.committed_leader_epoch,
                        metadata: partition.metadata,
                        error_code: partition.error_code,
                    })
                    .collect(),
            })
            .collect(),
        ..OffsetFetchResponse::default()
    }
}

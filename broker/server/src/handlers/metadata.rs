//! Metadata: brokers, topics, partitions and their leaders; creates topics on first use.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::messages::metadata_request::MetadataRequestTopic;
use esker_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use esker_protocol::messages::{MetadataRequest, MetadataResponse};
use esker_protocol::{ErrorCode, TopicId};

use super::Answer;
use super::describe_cluster::OPERATIONS_NOT_ASKED;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::topics::{self, NewTopic};

/// How long an answer waits for a topic that it creates; the client asks again anyway.
const CREATION_TIME_MAX: Duration = Duration::from_secs(5);

/// Below this version a client cannot say whether it wants topics created; it does.
const AUTO_CREATION_VERSION_MIN: i16 = 4;

/// The first version in which "no topics" is an empty list; before, that means all.
const EMPTY_IS_NONE_VERSION_MIN: i16 = 1;

/// The first version with topic ids.
const IDS_VERSION_MIN: i16 = 10;

/// The first version that may ask by id, with a null name.
const BY_ID_VERSION_MIN: i16 = 12;

/// The bits of the operations that exist on a topic: read, write, create, delete, alter, describe,
/// describe configs, alter configs. Without an authoriser all are allowed.
pub(super) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;

/// Answers from the image.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    listener: &str,
    request: &MetadataRequest<'_>,
) -> Reply {
    let may_create = shared.config.auto_create_topics
        && (answer.version < AUTO_CREATION_VERSION_MIN || request.allow_auto_topic_creation);
    let everything = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && answer.version < EMPTY_IS_NONE_VERSION_MIN,
    };
    let mut topics = Vec::new();
    if everything {
        let image = shared.image();
        for (name, topic) in image.visible_topics() {
            topics.push(describe(shared, name.to_owned(), topic.value.topic_id));
        }
    } else {
        let asked = request.topics.as_deref().unwrap_or_default();
        let by_id = answer.version >= BY_ID_VERSION_MIN
            && asked.iter().any(|topic| topic.topic_id != TopicId::ZERO);
        // Versions 10 and 11 have ids and null names, and serve neither.
        let refuses = (IDS_VERSION_MIN..BY_ID_VERSION_MIN).contains(&answer.version)
            && asked
                .iter()
                .any(|topic| topic.topic_id != TopicId::ZERO || topic.name.is_none());
        if refuses {
            return super::reply(&answer, &refusal(asked));
        }
        for topic in asked {
            let described = if by_id {
                describe_by_id(shared, topic.topic_id)
            } else {
                match topic.name.as_deref() {
                    Some(name) => describe_by_name(shared, name, may_create).await,
                    None => failed(None, topic.topic_id, ErrorCode::InvalidRequest),
                }
            };
            topics.push(described);
        }
    }
    if !request.include_topic_authorized_operations {
        for topic in &mut topics {
            topic.topic_authorized_operations = OPERATIONS_NOT_ASKED;
        }
    }
    let response = MetadataResponse {
        brokers: shared
            .live_brokers(listener)
            .into_iter()
            .map(|broker| MetadataResponseBroker {
                node_id: broker.id.0,
                host: Cow::Owned(broker.address.host),
                port: i32::from(broker.address.port),
                rack: None,
            })
            .collect(),
        cluster_id: Some(Cow::Borrowed(&shared.cluster_id)),
        controller_id: shared.controller_id(),
        topics,
        cluster_authorized_operations: OPERATIONS_NOT_ASKED,
        ..MetadataResponse::default()
    };
    super::reply(&answer, &response)
}

/// What Kafka answers to a question by id in a version that does not serve it.
fn refusal<'a>(asked: &[MetadataRequestTopic<'_>]) -> MetadataResponse<'a> {
    let code = ErrorCode::InvalidRequest;
    MetadataResponse {
        controller_id: -1,
        topics: asked
            .iter()
            .map(|topic| {
                let name = topic.name.as_deref().unwrap_or_default();
                failed(Some(name.to_owned()), topic.topic_id, code)
            })
            .collect(),
        cluster_authorized_operations: OPERATIONS_NOT_ASKED,
        ..MetadataResponse::default()
    }
}

fn failed<'a>(name: Option<String>, id: TopicId, code: ErrorCode) -> MetadataResponseTopic<'a> {
    MetadataResponseTopic {
        error_code: code.code(),
        name: name.map(Cow::Owned),
        topic_id: id,
        is_internal: false,
        partitions: Vec::new(),
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
    }
}

async fn describe_by_name<'a>(
    shared: &Arc<Shared>,
    name: &str,
    may_create: bool,
) -> MetadataResponseTopic<'a> {
    if let Some(id) = shared.topic_id(name) {
        return describe(shared, name.to_owned(), id);
    }
    let code = if topics::check_name(name).is_err() {
        ErrorCode::InvalidTopicException
    } else if may_create && !topics::is_internal(name) {
        // As in Kafka, this answer still says that the topic is unknown, and the client asks again.
        // Waiting for the creation here means that the next answer has it.
        let created = topics::create(shared, NewTopic::automatic(name), false);
        let Ok(created) = tokio::time::timeout(CREATION_TIME_MAX, created).await else {
            return failed(
                Some(name.to_owned()),
                TopicId::ZERO,
                ErrorCode::UnknownTopicOrPartition,
            );
        };
        match created {
            Ok(_) => ErrorCode::UnknownTopicOrPartition,
            Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {
                ErrorCode::UnknownTopicOrPartition
            }
            Err(refusal) if refusal.code == ErrorCode::InvalidTopicException => refusal.code,
            Err(refusal) => {
                tracing::warn!(topic = name, reason = %refusal.message, "topic cannot be created on first use");
                ErrorCode::UnknownTopicOrPartition
            }
        }
    } else {
        ErrorCode::UnknownTopicOrPartition
    };
    failed(Some(name.to_owned()), TopicId::ZERO, code)
}

fn describe_by_id<'a>(shared: &Arc<Shared>, id: TopicId) -> MetadataResponseTopic<'a> {
    match shared.topic_name(id) {
        Some(name) => describe(shared, name, id),
        None => failed(None, id, ErrorCode::UnknownTopicId),
    }
}

fn describe<'a>(shared: &Arc<Shared>, name: String, id: TopicId) -> MetadataResponseTopic<'a> {
    let image = shared.image();
    // Partitions of a growth are shown when all of them are there (P3).
    let count = image.topic(&name).map_or(0, |topic| topic.value.partitions);
    let partitions = image
        .partitions(id)
        .filter(|(index, _)| *index < count)
        .map(|(index, partition)| {
            let partition = &partition.value;
            // A leader that has not yet begun its epoch in this process would refuse; saying so
            // here spares the client the attempt.
            let leads = partition.leader.is_some_and(|leader| {
                leader != shared.config.node_id
                    || shared
                        .partitions
                        .get(id, index)
                        .is_some_and(|p| p.leading().is_some())
            });
            MetadataResponsePartition {
                error_code: if leads {
                    ErrorCode::None.code()
                } else {
                    ErrorCode::LeaderNotAvailable.code()
                },
                partition_index: index,
                leader_id: if leads {
                    partition.leader.map_or(-1, |leader| leader.0)
                } else {
                    -1
                },
                leader_epoch: partition.leader_epoch.0,
                replica_nodes: partition.brokers().map(|id| id.0).collect(),
                isr_nodes: partition.isr.iter().map(|id| id.0).collect(),
                offline_replicas: Vec::new(),
            }
        })
        .collect();
    MetadataResponseTopic {
        error_code: ErrorCode::None.code(),
        is_internal: topics::is_internal(&name),
        name: Some(Cow::Owned(name)),
        topic_id: id,
        partitions,
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

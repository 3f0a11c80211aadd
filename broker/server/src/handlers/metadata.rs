//! Metadata: brokers, topics, partitions and their leaders; creates topics on first use.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::messages::metadata_request::MetadataRequestTopic;
use esker_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use esker_protocol::messages::{MetadataRequest, MetadataResponse};
use esker_protocol::{ErrorCode, FixedHashSet, TopicId};

use super::Answer;
use super::describe_cluster::{CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED};
use crate::broker::Shared;
use crate::connection::Reply;
use crate::topics::{self, NewTopic};

/// How long an answer waits for a topic that it creates; the client asks again anyway.
const CREATION_TIME_MAX: Duration = Duration::from_secs(5);

/// Below this version a client cannot say whether it wants topics created; it does.
const AUTO_CREATION_VERSION_MIN: i16 = 4;

/// The first version in which "no topics" is an empty list; before, that means all.
const EMPTY_IS_NONE_VERSION_MIN: i16 = 1;

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
    let asked = match Asked::of(answer.version, request.topics.as_deref()) {
        Ok(asked) => asked,
        Err(code) => {
            let asked = request.topics.as_deref().unwrap_or_default();
            return super::reply(&answer, &refusal(asked, code));
        }
    };
    let mut topics = match asked {
        Asked::Everything => {
            let image = shared.image();
            let visible = image.visible_topics();
            visible
                .map(|(name, topic)| describe(shared, name.to_owned(), topic.value.topic_id))
                .collect()
        }
        Asked::Ids(ids) => {
            let ids = ids.into_iter();
            ids.map(|id| describe_by_id(shared, id)).collect()
        }
        Asked::Names(names) => {
            let may_create = shared.config.auto_create_topics
                && (answer.version < AUTO_CREATION_VERSION_MIN
                    || request.allow_auto_topic_creation);
            let mut topics = Vec::with_capacity(names.len());
            for name in names {
                topics.push(describe_by_name(shared, name, may_create).await);
            }
            topics
        }
    };
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
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED
        },
        ..MetadataResponse::default()
    };
    super::reply(&answer, &response)
}

/// What a request asks about, each topic once.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Everything,
    /// One id is enough for names beside it to go unanswered.
    Ids(Vec<TopicId>),
    Names(Vec<&'a str>),
}

impl<'a> Asked<'a> {
    fn of(
        version: i16,
        topics: Option<&'a [MetadataRequestTopic<'_>]>,
    ) -> Result<Asked<'a>, ErrorCode> {
        let Some(topics) = topics else {
            return Ok(Asked::Everything);
        };
        if topics.is_empty() && version < EMPTY_IS_NONE_VERSION_MIN {
            return Ok(Asked::Everything);
        }
        // Versions 10 and 11 have ids and null names, and serve neither.
        let is_by_id = |topic: &MetadataRequestTopic<'_>| {
            topic.topic_id != TopicId::ZERO || topic.name.is_none()
        };
        if version < BY_ID_VERSION_MIN && topics.iter().any(is_by_id) {
            return Err(ErrorCode::InvalidRequest);
        }
        let mut seen = FixedHashSet::default();
        let ids = topics.iter().map(|topic| topic.topic_id);
        let ids: Vec<_> = ids
            .filter(|id| *id != TopicId::ZERO && seen.insert(*id))
            .collect();
        if !ids.is_empty() {
            return Ok(Asked::Ids(ids));
        }
        let mut seen = FixedHashSet::default();
        let mut names = Vec::with_capacity(topics.len());
        for topic in topics {
            // Kafka stumbles over what has neither name nor id, and says so.
            let name = topic.name.as_deref().ok_or(ErrorCode::UnknownServerError)?;
            if seen.insert(name) {
                names.push(name);
            }
        }
        Ok(Asked::Names(names))
    }
}

/// What Kafka answers to a question that it does not serve: the topics and nothing else.
fn refusal<'a>(asked: &[MetadataRequestTopic<'_>], code: ErrorCode) -> MetadataResponse<'a> {
    MetadataResponse {
        controller_id: -1,
        topics: asked
            .iter()
            .map(|topic| MetadataResponseTopic {
                error_code: code.code(),
                name: Some(Cow::Owned(
                    topic.name.as_deref().unwrap_or_default().to_owned(),
                )),
                topic_id: topic.topic_id,
                is_internal: false,
                partitions: Vec::new(),
                topic_authorized_operations: OPERATIONS_NOT_ASKED,
            })
            .collect(),
        cluster_authorized_operations: OPERATIONS_NOT_ASKED,
        error_code: code.code(),
        ..MetadataResponse::default()
    }
}

/// An answer about a name that is no topic's.
fn unknown<'a>(name: &str, code: ErrorCode) -> MetadataResponseTopic<'a> {
    MetadataResponseTopic {
        error_code: code.code(),
        name: Some(Cow::Owned(name.to_owned())),
        topic_id: TopicId::ZERO,
        is_internal: topics::is_internal(name),
        partitions: Vec::new(),
        topic_authorized_operations: TOPIC_OPERATIONS,
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
            return unknown(name, ErrorCode::UnknownTopicOrPartition);
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
    unknown(name, code)
}

fn describe_by_id<'a>(shared: &Arc<Shared>, id: TopicId) -> MetadataResponseTopic<'a> {
    match shared.topic_name(id) {
        Some(name) => describe(shared, name, id),
        None => MetadataResponseTopic {
            error_code: ErrorCode::UnknownTopicId.code(),
            name: None,
            topic_id: id,
            is_internal: false,
            partitions: Vec::new(),
            topic_authorized_operations: OPERATIONS_NOT_ASKED,
        },
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

#[cfg(test)]
mod tests {
    use esker_protocol::messages::metadata_request::MetadataRequestTopic;
    use esker_protocol::{ErrorCode, TopicId};

    use super::{Asked, refusal};

    const ONE: TopicId = TopicId(*b"0123456789abcdef");

    fn topic(id: TopicId, name: Option<&'static str>) -> MetadataRequestTopic<'static> {
        MetadataRequestTopic {
            topic_id: id,
            name: name.map(Into::into),
        }
    }

    #[test]
    fn nothing_asked_means_everything_in_version_0_alone() {
        assert_eq!(Asked::of(0, Some(&[])), Ok(Asked::Everything));
        assert_eq!(Asked::of(1, Some(&[])), Ok(Asked::Names(Vec::new())));
        assert_eq!(Asked::of(13, None), Ok(Asked::Everything));
    }

    #[test]
    fn what_is_asked_twice_is_answered_once() {
        let names = [Some("a"), Some("b"), Some("a")].map(|name| topic(TopicId::ZERO, name));
        assert_eq!(Asked::of(1, Some(&names)), Ok(Asked::Names(vec!["a", "b"])));
        let ids = [topic(ONE, None), topic(ONE, None)];
        assert_eq!(Asked::of(12, Some(&ids)), Ok(Asked::Ids(vec![ONE])));
    }

    #[test]
    fn names_beside_an_id_go_unanswered() {
        let mixed = [topic(TopicId::ZERO, Some("a")), topic(ONE, None)];
        assert_eq!(Asked::of(13, Some(&mixed)), Ok(Asked::Ids(vec![ONE])));
    }

    #[test]
    fn ids_are_refused_before_the_version_that_serves_them() {
        for asked in [topic(ONE, Some("a")), topic(TopicId::ZERO, None)] {
            let asked = [asked];
            assert_eq!(Asked::of(11, Some(&asked)), Err(ErrorCode::InvalidRequest));
        }
        let neither = [topic(TopicId::ZERO, None)];
        let code = ErrorCode::UnknownServerError;
        assert_eq!(Asked::of(12, Some(&neither)), Err(code));
        let answer = refusal(&neither, code);
        assert_eq!((answer.error_code, answer.brokers.len()), (-1, 0));
        assert_eq!(
            answer.topics.first().map(|topic| topic.error_code),
            Some(-1)
        );
    }
}

//! CreateTopics.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::messages::create_topics_request::CreatableTopic;
use esker_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use esker_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use esker_protocol::{BrokerId, ErrorCode, TopicId};
use tokio::time::Instant;

use super::Answer;
use crate::broker::Shared;
use crate::config::topic::{self, Source, TOPIC_KEYS};
use crate::connection::Reply;
use crate::topics::{self, NewTopic, Refusal};

/// Creates each topic and answers when this broker serves it.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &CreateTopicsRequest<'_>,
) -> Reply {
    let deadline = Instant::now()
        + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
    let mut results = Vec::with_capacity(request.topics.len());
    for wanted in &request.topics {
        let twice = request
            .topics
            .iter()
            .filter(|other| other.name == wanted.name)
            .count()
            > 1;
        let created = if twice {
            let message = "Duplicate topic name.";
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        } else {
            create(shared, wanted, request.validate_only, deadline).await
        };
        results.push(result(shared, wanted, created));
    }
    super::reply(
        &answer,
        &CreateTopicsResponse {
            topics: results,
            ..Default::default()
        },
    )
}

async fn create(
    shared: &Arc<Shared>,
    wanted: &CreatableTopic<'_>,
    validate_only: bool,
    deadline: Instant,
) -> Result<topics::Created, Refusal> {
    let refuse = |message: &str| Refusal::new(ErrorCode::InvalidRequest, message);
    let mut configs = BTreeMap::new();
    for config in &wanted.configs {
        let value = config.value.as_deref().ok_or_else(|| {
            let message = format!(
                "Null value not supported for topic configs: {}",
                config.name
            );
            Refusal::new(ErrorCode::InvalidConfig, message)
        })?;
        if configs
            .insert(config.name.to_string(), value.to_owned())
            .is_some()
        {
            return Err(refuse("A config key is given twice."));
        }
    }
    let mut assignment = BTreeMap::new();
    for partition in &wanted.assignments {
        let brokers = partition
            .broker_ids
            .iter()
            .map(|&id| BrokerId(id))
            .collect();
        if assignment
            .insert(partition.partition_index, brokers)
            .is_some()
        {
            let message = "A partition is assigned twice.";
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    let new = NewTopic {
        name: wanted.name.to_string(),
        partitions: wanted.num_partitions,
        replication_factor: wanted.replication_factor,
        configs,
        assignment,
    };
    match tokio::time::timeout_at(deadline, topics::create(shared, new, validate_only)).await {
        Ok(created) => created,
        // The topic may yet come: what was committed stays committed.
        Err(_) => Err(Refusal::new(
            ErrorCode::RequestTimedOut,
            "The creation is still under way.",
        )),
    }
}

fn result<'a>(
    shared: &Shared,
    wanted: &CreatableTopic<'_>,
    created: Result<topics::Created, Refusal>,
) -> CreatableTopicResult<'a> {
    let name = Cow::Owned(wanted.name.to_string());
    match created {
        Ok(created) => CreatableTopicResult {
            name,
            topic_id: created.id.unwrap_or(TopicId::ZERO),
            error_code: ErrorCode::None.code(),
            error_message: None,
            num_partitions: created.partitions,
            replication_factor: created.replication_factor,
            configs: Some(configs(shared, &created.configs)),
            ..CreatableTopicResult::default()
        },
        Err(refusal) => CreatableTopicResult {
            name,
            error_code: refusal.code.code(),
            error_message: Some(Cow::Owned(refusal.message)),
            num_partitions: -1,
            replication_factor: -1,
            configs: None,
            ..CreatableTopicResult::default()
        },
    }
}

/// All settings of the new topic, as Kafka returns them since version 5.
fn configs<'a>(
    shared: &Shared,
    overrides: &BTreeMap<String, String>,
) -> Vec<CreatableTopicConfigs<'a>> {
    let settings = shared.settings();
    TOPIC_KEYS
        .iter()
        .map(|key| {
            let value = topic::effective(key.name, overrides, settings.merged());
            let synonyms = topic::synonyms(key, overrides, &settings);
            let source = synonyms
                .first()
                .map_or(Source::Default, |first| first.source);
            CreatableTopicConfigs {
                name: Cow::Borrowed(key.name),
                value: value.map(Cow::Owned),
                read_only: false,
                config_source: source as i8,
                is_sensitive: false,
            }
        })
        .collect()
}

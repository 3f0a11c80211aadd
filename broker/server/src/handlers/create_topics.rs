//! CreateTopics.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use esker_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use esker_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use esker_protocol::{BrokerId, ErrorCode, FixedHashMap};
use tokio::time::Instant;

use super::Answer;
use crate::broker::Shared;
use crate::config::topic::{self, Source, TOPIC_KEYS};
use crate::connection::Reply;
use crate::topics::{self, METADATA_TOPIC, NewTopic, Refusal};

/// The partitions that one request may create.
const PARTITIONS_MAX: i64 = 10_000;

/// Creates each topic and answers when this broker serves it.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &CreateTopicsRequest<'_>,
) -> Reply {
    let deadline = topics::deadline(request.timeout_ms);
    let mut counts: FixedHashMap<&str, usize> = FixedHashMap::default();
    for topic in &request.topics {
        *counts.entry(topic.name.as_ref()).or_insert(0) += 1;
    }
    let mut results = Vec::with_capacity(counts.len());
    let total = partitions_wanted(&request.topics, shared.config.partitions_default);
    for wanted in &request.topics {
        // A name that is given twice is answered once.
        let count = counts.remove(wanted.name.as_ref());
        let created = match (count, deadline) {
            (None, _) => continue,
            (_, None) => Err(timed_out()),
            (_, Some(_)) if total > PARTITIONS_MAX => {
                let message = "Excessively large number of partitions per request.";
                Err(Refusal::new(ErrorCode::PolicyViolation, message))
            }
            (Some(1), Some(deadline)) => {
                create(shared, wanted, request.validate_only, deadline).await
            }
            (Some(_), Some(_)) => {
                let message = "Duplicate topic name.";
                Err(Refusal::new(ErrorCode::InvalidRequest, message))
            }
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
    if wanted.name == METADATA_TOPIC {
        let message = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    topics::check_new_name(&shared.image(), &wanted.name)?;
    let new = NewTopic {
        name: wanted.name.to_string(),
        partitions: wanted.num_partitions,
        replication_factor: wanted.replication_factor,
        configs: overrides(&wanted.configs)?,
        assignment: wanted
            .assignments
            .iter()
            .map(|partition| {
                let brokers = partition.broker_ids.iter();
                let brokers = brokers.map(|&id| BrokerId(id)).collect();
                (partition.partition_index, brokers)
            })
            .collect(),
    };
    match tokio::time::timeout_at(deadline, topics::create(shared, new, validate_only)).await {
        Ok(created) => created,
        // The topic may yet come: what was committed stays committed.
        Err(_) => Err(timed_out()),
    }
}

fn timed_out() -> Refusal {
    let message = "The creation is not done in the time that the request leaves.";
    Refusal::new(ErrorCode::RequestTimedOut, message)
}

/// The settings of a new topic; of one that is given twice the later counts.
fn overrides(configs: &[CreatableTopicConfig<'_>]) -> Result<BTreeMap<String, String>, Refusal> {
    let without = configs.iter().filter(|config| config.value.is_none());
    let without: Vec<&str> = without.map(|config| config.name.as_ref()).collect();
    if !without.is_empty() {
        let message = format!(
            "Null value not supported for topic configs: {}",
            without.join(",")
        );
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    }
    let given = configs.iter().filter_map(|config| {
        let value = config.value.as_deref()?;
        Some((config.name.to_string(), value.to_owned()))
    });
    Ok(given.collect())
}

/// How many partitions a request would create.
fn partitions_wanted(topics: &[CreatableTopic<'_>], default: i32) -> i64 {
    let wanted = topics.iter().map(|topic| {
        if !topic.assignments.is_empty() {
            return i64::try_from(topic.assignments.len()).unwrap_or(i64::MAX);
        }
        match topic.num_partitions {
            -1 => i64::from(default),
            count => i64::from(count.max(0)),
        }
    });
    wanted.fold(0, i64::saturating_add)
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
            // As in Kafka, what was only checked has an id too, which no topic will have.
            topic_id: created
                .id
                .unwrap_or_else(|| shared.environment.randomness.id()),
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
            configs: Some(Vec::new()),
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
        .filter(|key| key.name != topic::INTERNAL_SEGMENT_BYTES || overrides.contains_key(key.name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_values_of_a_setting_counts_and_null_is_none() {
        let config = |name: &'static str, value: Option<&'static str>| CreatableTopicConfig {
            name: name.into(),
            value: value.map(Into::into),
        };
        let twice = [
            config("retention.ms", Some("1")),
            config("retention.ms", Some("2")),
        ];
        let overrides_of = |configs| overrides(configs).map_err(|refusal| refusal.code);
        let later = BTreeMap::from([("retention.ms".to_owned(), "2".to_owned())]);
        assert_eq!(overrides_of(&twice), Ok(later));
        let null = [config("retention.ms", None)];
        assert_eq!(overrides_of(&null), Err(ErrorCode::InvalidConfig));
    }

    #[test]
    fn the_partitions_of_a_request_are_counted_without_overflow() {
        let topic = |num_partitions| CreatableTopic {
            num_partitions,
            ..CreatableTopic::default()
        };
        let of = |counts: &[i32]| {
            let topics: Vec<_> = counts.iter().copied().map(topic).collect();
            partitions_wanted(&topics, 3)
        };
        assert_eq!(of(&[-1, 5, -7]), 8);
        assert_eq!(of(&[i32::MAX, i32::MAX]), 2 * i64::from(i32::MAX));
    }
}

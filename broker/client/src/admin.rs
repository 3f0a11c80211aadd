//! Administration: topics and producer ids here, groups, settings and the cluster in modules.

mod cluster;
mod configs;
mod coordinators;
mod groups;

use std::collections::BTreeMap;
use std::time::Duration;

use esker_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, create_topics_request,
    delete_topics_request,
};
use esker_protocol::{ProducerEpoch, ProducerId, TopicId};
use tokio::time::Instant;

pub use self::cluster::{ClusterBroker, ClusterDescription, Features, Levels, LogDir};
pub use self::configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource};
pub use self::coordinators::{ByGroup, Coordinator};
pub use self::groups::{
    ByPartition, CommittedOffset, DescribedGroup, GroupKind, GroupMember, ListedGroup,
    TopicPartition,
};
use crate::client::{Client, Retry, Target};
use crate::error::{ClientError, check};

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions, or the brokers' default.
    pub partitions: Option<i32>,
    /// How many replicas each, or the brokers' default.
    pub replication_factor: Option<i16>,
    /// Settings that differ from the brokers'.
    pub settings: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the brokers' defaults.
    #[must_use]
    pub fn new(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partitions: None,
            replication_factor: None,
            settings: BTreeMap::new(),
        }
    }
}

/// A setting of a topic as it takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSetting {
    /// Its key.
    pub name: String,
    /// Its value; secrets have none.
    pub value: Option<String>,
    /// Whether the topic itself sets it.
    pub is_set: bool,
}

/// The brokers' default.
const DEFAULT_COUNT: i16 = -1;
/// The longest that a broker works on an administrative request.
const WORK_MAX: Duration = Duration::from_secs(20);
/// The last version of DeleteTopics that has names alone.
const DELETE_BY_NAME_UNTIL: i16 = 5;

impl Client {
    /// Makes topics, or with `validate_only` says whether they could be made; the outcome of each.
    ///
    /// Where an answer was lost the request is repeated, and a topic that the lost one made is
    /// reported as existing already.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
        deadline: Instant,
    ) -> Result<Vec<(String, Result<(), ClientError>)>, ClientError> {
        let request = CreateTopicsRequest {
            topics: topics
                .iter()
                .map(|topic| create_topics_request::CreatableTopic {
                    name: topic.name.as_str().into(),
                    num_partitions: topic.partitions.unwrap_or(DEFAULT_COUNT.into()),
                    replication_factor: topic.replication_factor.unwrap_or(DEFAULT_COUNT),
                    assignments: Vec::new(),
                    configs: topic
                        .settings
                        .iter()
                        .map(
                            |(name, value)| create_topics_request::CreatableTopicConfig {
                                name: name.as_str().into(),
                                value: Some(value.as_str().into()),
                            },
                        )
                        .collect(),
                })
                .collect(),
            timeout_ms: work_ms(deadline),
            validate_only,
        };
        let answer = self
            .call(Target::Controller, None, &request, true, deadline)
            .await?;
        let response = answer
            .body()
            .map_err(|error| nonsense("creating topics", &error))?;
        for topic in topics {
            self.forget_topic(&topic.name);
        }
        let outcomes = response.topics.iter().map(|topic| {
            let name = topic.name.to_string();
            let outcome = check(topic.error_code, topic.error_message.as_deref(), || {
                format!("creating topic {name}")
            });
            (name, outcome)
        });
        Ok(outcomes.collect())
    }

    /// Deletes topics; the outcome of each.
    pub async fn delete_topics(
        &self,
        topics: &[&str],
        deadline: Instant,
    ) -> Result<Vec<(String, Result<(), ClientError>)>, ClientError> {
        let mut retry = Retry::new(deadline);
        let outcomes = loop {
            match self
                .delete_topics_once(topics, retry.attempts(), deadline)
                .await
            {
                Ok(outcomes) => break outcomes,
                Err(error) => retry.pause(|| "deleting topics".to_owned(), error).await?,
            }
        };
        for topic in topics {
            self.forget_topic(topic);
        }
        Ok(outcomes)
    }

    async fn delete_topics_once(
        &self,
        topics: &[&str],
        attempt: usize,
        deadline: Instant,
    ) -> Result<Vec<(String, Result<(), ClientError>)>, ClientError> {
        let link = self.link(Target::Controller, attempt, deadline).await?;
        let version = link.version_of::<DeleteTopicsRequest<'_>>(None)?;
        let by_name_alone = version <= DELETE_BY_NAME_UNTIL;
        let mut request = DeleteTopicsRequest {
            timeout_ms: work_ms(deadline),
            ..Default::default()
        };
        if by_name_alone {
            request.topic_names = topics.iter().map(|name| (*name).into()).collect();
        } else {
            let state = |name: &&'_ str| delete_topics_request::DeleteTopicState {
                name: Some((*name).to_owned().into()),
                topic_id: TopicId::ZERO,
            };
            request.topics = topics.iter().map(state).collect();
        }
        let answer = link.call(version, &request, WORK_MAX, deadline).await?;
        let response = answer.body().map_err(|source| link.error(source))?;
        let outcomes = response.responses.iter().map(|topic| {
            let name = topic.name.as_deref().unwrap_or_default().to_owned();
            let outcome = check(topic.error_code, topic.error_message.as_deref(), || {
                format!("deleting topic {name}")
            });
            (name, outcome)
        });
        Ok(outcomes.collect())
    }

    /// The settings of a topic, in the order of their keys.
    pub async fn describe_topic_settings(
        &self,
        topic: &str,
        deadline: Instant,
    ) -> Result<Vec<TopicSetting>, ClientError> {
        let resource = ConfigResource::Topic(topic.to_owned());
        let entries = self.describe_config(&resource, deadline).await?;
        let settings = entries.into_iter().map(|entry| TopicSetting {
            name: entry.name,
            value: entry.value,
            is_set: entry.source == ConfigSource::Topic,
        });
        Ok(settings.collect())
    }

    /// A new id for an idempotent producer.
    pub async fn init_producer_id(
        &self,
        deadline: Instant,
    ) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        let what = || "asking for a producer id".to_owned();
        let mut retry = Retry::new(deadline);
        loop {
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                ..InitProducerIdRequest::default()
            };
            // An id that nobody uses costs nothing, so a lost answer is no harm.
            let answer = self
                .call(Target::Any, None, &request, true, deadline)
                .await?;
            let response = answer.body().map_err(|error| nonsense(&what(), &error))?;
            match check(response.error_code, None, what) {
                Ok(()) => {
                    let epoch = ProducerEpoch(response.producer_epoch);
                    return Ok((ProducerId(response.producer_id), epoch));
                }
                Err(error) => retry.pause(what, error).await?,
            }
        }
    }
}

fn work_ms(deadline: Instant) -> i32 {
    // Half of what is left at most: the answer has to come back before the deadline.
    let left = WORK_MAX.min(deadline.saturating_duration_since(Instant::now()) / 2);
    i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
}

fn nonsense(what: &str, error: &crate::error::ConnectionError) -> ClientError {
    ClientError::Nonsense {
        what: what.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests;

//! What the client knows of the cluster.

use std::collections::BTreeMap;

use esker_protocol::messages::{MetadataResponse, metadata_response};
use esker_protocol::{BrokerId, ErrorCode, LeaderEpoch, TopicId};

use crate::endpoint::Endpoint;

/// Brokers and topics, as one broker saw them when it was asked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The broker that is named as controller.
    pub controller: Option<BrokerId>,
    /// The live brokers.
    pub brokers: BTreeMap<BrokerId, Broker>,
    /// The topics that were asked for.
    pub topics: BTreeMap<String, Topic>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its rack.
    pub rack: Option<String>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its identity; zero from brokers that know none.
    pub id: TopicId,
    /// Whether it is the brokers' own.
    pub is_internal: bool,
    /// Why nothing more is known of it.
    pub error: Option<ErrorCode>,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, Partition>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Why it is not available.
    pub error: Option<ErrorCode>,
    /// Its leader.
    pub leader: Option<BrokerId>,
    /// The epoch of its leadership.
    pub leader_epoch: LeaderEpoch,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
    /// Those that are away.
    pub offline: Vec<BrokerId>,
}

impl Metadata {
    pub(crate) fn from_response(response: &MetadataResponse<'_>) -> Metadata {
        Metadata {
            cluster_id: response.cluster_id.as_deref().map(str::to_owned),
            controller: broker_id(response.controller_id),
            brokers: response
                .brokers
                .iter()
                // A port that is none cannot be connected to; its broker is as good as away.
                .filter_map(|broker| {
                    let port = u16::try_from(broker.port).ok()?;
                    let endpoint = Endpoint {
                        host: broker.host.to_string(),
                        port,
                    };
                    let rack = broker.rack.as_deref().map(str::to_owned);
                    Some((BrokerId(broker.node_id), Broker { endpoint, rack }))
                })
                .collect(),
            topics: response
                .topics
                .iter()
                .filter_map(|topic| Some((topic.name.as_deref()?.to_owned(), Topic::of(topic))))
                .collect(),
        }
    }

    /// Takes over what is newer: everything but topics that were not asked for.
    pub(crate) fn merge(&mut self, newer: Metadata) {
        self.cluster_id = newer.cluster_id.or(self.cluster_id.take());
        self.controller = newer.controller;
        self.brokers = newer.brokers;
        self.topics.extend(newer.topics);
    }

    /// The leader of a partition and where it listens, or why that is not known.
    pub fn leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(BrokerId, &Endpoint, &Topic), ErrorCode> {
        let topic = self
            .topics
            .get(topic)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if let Some(error) = topic.error {
            return Err(error);
        }
        let found = topic
            .partitions
            .get(&partition)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let leader = found
            .leader
            .ok_or(found.error.unwrap_or(ErrorCode::LeaderNotAvailable))?;
        let broker = self
            .brokers
            .get(&leader)
            .ok_or(ErrorCode::LeaderNotAvailable)?;
        Ok((leader, &broker.endpoint, topic))
    }
}

impl Topic {
    fn of(topic: &metadata_response::MetadataResponseTopic<'_>) -> Topic {
        Topic {
            id: topic.topic_id,
            is_internal: topic.is_internal,
            error: error(topic.error_code),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| (partition.partition_index, Partition::of(partition)))
                .collect(),
        }
    }
}

impl Partition {
    fn of(partition: &metadata_response::MetadataResponsePartition) -> Partition {
        let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
        Partition {
            error: error(partition.error_code),
            leader: broker_id(partition.leader_id),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            replicas: brokers(&partition.replica_nodes),
            isr: brokers(&partition.isr_nodes),
            offline: brokers(&partition.offline_replicas),
        }
    }
}

fn broker_id(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

fn error(code: i16) -> Option<ErrorCode> {
    let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    (code != ErrorCode::None).then_some(code)
}

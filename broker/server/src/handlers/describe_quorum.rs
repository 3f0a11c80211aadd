//! DescribeQuorum. Metadata lives in a store that knows no voters; what Kafka's tools ask of a quorum
//! is answered as if the controller were its only voter and the other brokers followed it.

use std::borrow::Cow;
use std::sync::Arc;

use esker_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use esker_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use esker_protocol::{BrokerId, ErrorCode, TopicId};

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::topics::METADATA_TOPIC;

/// The first version that says when a replica has fetched.
const TIMES_VERSION_MIN: i16 = 1;

/// The first version that names nodes and directories.
const NODES_VERSION_MIN: i16 = 2;

/// Answers for the one partition of the metadata.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &DescribeQuorumRequest<'_>,
) -> Reply {
    let is_metadata = match request.topics.as_slice() {
        [topic] => {
            let partitions = topic.partitions.as_slice();
            topic.topic_name == METADATA_TOPIC
                && matches!(partitions, [partition] if partition.partition_index == 0)
        }
        _ => false,
    };
    let response = if is_metadata {
        quorum(shared, answer.version)
    } else {
        unknown(request)
    };
    super::reply(&answer, &response)
}

fn unknown<'a>(request: &DescribeQuorumRequest<'_>) -> DescribeQuorumResponse<'a> {
    let failed = |index| PartitionData {
        partition_index: index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        error_message: Some(Cow::Borrowed(
            "This server does not host this topic-partition.",
        )),
        ..Default::default()
    };
    DescribeQuorumResponse {
        topics: request
            .topics
            .iter()
            .map(|topic| TopicData {
                topic_name: Cow::Owned(topic.topic_name.to_string()),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|partition| failed(partition.partition_index))
                    .collect(),
            })
            .collect(),
        ..Default::default()
    }
}

/// The first of the listeners that properties written for Kafka give to controllers.
fn controller_listener(names: Option<&String>) -> &str {
    let first = names.and_then(|names| {
        names
            .split(',')
            .map(str::trim)
            .find(|name| !name.is_empty())
    });
    first.unwrap_or("CONTROLLER")
}

fn quorum<'a>(shared: &Shared, version: i16) -> DescribeQuorumResponse<'a> {
    let image = shared.image();
    let now = match version {
        TIMES_VERSION_MIN.. => shared.environment.now().0,
        _ => -1,
    };
    let end = i64::try_from(image.revision().0).unwrap_or(i64::MAX);
    let controller = image.controller();
    let leader = controller.map_or(shared.config.node_id, |controller| controller.value.broker);
    // The controller epoch is the revision that made the key.
    let epoch = controller.map_or(0, |controller| controller.create_revision.0);
    let state = |id: BrokerId, directory| ReplicaState {
        replica_id: id.0,
        replica_directory_id: directory,
        log_end_offset: end,
        last_fetch_timestamp: now,
        last_caught_up_timestamp: now,
    };
    let directory = |id| {
        let broker = image.broker(id).filter(|_| version >= NODES_VERSION_MIN);
        let directory = broker.and_then(|broker| broker.value.directories.first());
        directory.map_or(TopicId::ZERO, |id| TopicId(id.0))
    };
    let partition = PartitionData {
        partition_index: 0,
        leader_id: leader.0,
        leader_epoch: i32::try_from(epoch).unwrap_or(i32::MAX),
        high_watermark: end,
        // Voters that are listed in the properties, and not elected, have no directory.
        current_voters: vec![state(leader, TopicId::ZERO)],
        observers: image
            .brokers()
            .filter(|(id, _)| *id != leader)
            .map(|(id, _)| state(id, directory(id)))
            .collect(),
        ..Default::default()
    };
    let endpoints = image.broker_info(leader).into_iter();
    let endpoints = endpoints.flat_map(|info| &info.value.endpoints).take(1);
    let properties = &shared.config.properties;
    let name = controller_listener(properties.get("controller.listener.names"));
    let node = Node {
        node_id: leader.0,
        listeners: endpoints
            .map(|endpoint| Listener {
                name: Cow::Owned(name.to_owned()),
                host: Cow::Owned(endpoint.host.clone()),
                port: endpoint.port,
            })
            .collect(),
    };
    DescribeQuorumResponse {
        topics: vec![TopicData {
            topic_name: Cow::Borrowed(METADATA_TOPIC),
            partitions: vec![partition],
        }],
        nodes: if version >= NODES_VERSION_MIN {
            vec![node]
        } else {
            Vec::new()
        },
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::controller_listener;

    #[test]
    fn the_listener_is_called_what_the_properties_call_it() {
        for (names, expected) in [
            (None, "CONTROLLER"),
            (Some(""), "CONTROLLER"),
            (Some(" INNER , OUTER"), "INNER"),
        ] {
            let names = names.map(str::to_owned);
            assert_eq!(controller_listener(names.as_ref()), expected);
        }
    }
}

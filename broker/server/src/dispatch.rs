//! The one table of served APIs, and the way from a frame to its handler.
//!
//! What is not in [`SERVED`] is refused: a new API cannot become reachable by accident. Once there
//! is security, the table says who may call what.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use esker_protocol::api::ApiKey;
use esker_protocol::frame::{self, RequestError, RequestFrame};
use esker_protocol::messages::{
    AlterConfigsRequest, ApiVersionsRequest, ConsumerGroupDescribeRequest,
    ConsumerGroupHeartbeatRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest, DescribeQuorumRequest,
    DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListConfigResourcesRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    ProduceRequest, SyncGroupRequest, UpdateFeaturesRequest,
};
use esker_protocol::primitive::DecodeError;
use tracing::debug;

use crate::broker::Shared;
use crate::connection::{Apply, Peer, Reply};
use crate::handlers::groups::Caller;
use crate::handlers::{
    Answer, alter_configs, api_versions, consumer_group_describe, consumer_group_heartbeat,
    create_partitions, create_topics, delete_groups, delete_records, delete_topics,
    describe_cluster, describe_configs, describe_groups, describe_log_dirs, describe_quorum,
    describe_topic_partitions, fetch, find_coordinator, heartbeat, init_producer_id, join_group,
    leave_group, list_config_resources, list_groups, list_offsets, metadata, offset_commit,
    offset_delete, offset_fetch, offset_for_leader_epoch, produce, sync_group, update_features,
};

/// A served API.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// The API.
    pub api: ApiKey,
    /// The least version that ApiVersions shows.
    pub advertised_min: i16,
    /// The least version that is decoded; a request below it closes the connection.
    pub min: i16,
    /// The greatest version.
    pub max: i16,
}

const fn served(api: ApiKey, min: i16, max: i16) -> Served {
    Served {
        api,
        advertised_min: min,
        min,
        max,
    }
}

/// Every served API, sorted by key.
pub const SERVED: &[Served] = &[
    // Kafka shows Produce from 0 on, since librdkafka would else take it for one without zstd and
    // idempotence; versions 0 to 2 themselves close the connection, there and here.
    Served {
        api: ApiKey::Produce,
        advertised_min: 0,
        min: 3,
        max: 13,
    },
    served(ApiKey::Fetch, 4, 18),
    served(ApiKey::ListOffsets, 1, 11),
    served(ApiKey::Metadata, 0, 13),
    served(ApiKey::OffsetCommit, 2, 10),
    served(ApiKey::OffsetFetch, 1, 10),
    served(ApiKey::FindCoordinator, 0, 6),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 6),
    served(ApiKey::ListGroups, 0, 5),
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::DeleteRecords, 0, 2),
    served(ApiKey::InitProducerId, 0, 5),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::AlterConfigs, 0, 2),
    served(ApiKey::DescribeLogDirs, 1, 5),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 2),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeQuorum, 0, 2),
    served(ApiKey::UpdateFeatures, 0, 2),
    served(ApiKey::DescribeCluster, 0, 2),
    served(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    served(ApiKey::ConsumerGroupDescribe, 0, 1),
    served(ApiKey::ListConfigResources, 0, 1),
    served(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// Applies the requests of one listener's connections.
pub struct Dispatcher {
    shared: Arc<Shared>,
    /// The listener's name: clients are shown the addresses advertised for it.
    listener: String,
}

impl Dispatcher {
    /// A dispatcher for the connections of the listener of this name.
    #[must_use]
    pub fn new(shared: Arc<Shared>, listener: String) -> Dispatcher {
        Dispatcher { shared, listener }
    }

    async fn handle(
        &self,
        frame: &Bytes,
        request: &RequestFrame<'_>,
        peer: &Peer,
    ) -> Result<Reply, DecodeError> {
        let shared = &self.shared;
        let caller = Caller::of(request, peer);
        let caller = &caller;
        let listener = self.listener.as_str();
        let answer = Answer::to(request);
        Ok(match request.api {
            ApiKey::Produce => {
                let request: ProduceRequest = request.decode()?;
                produce::apply(shared, answer, caller, frame, request).await
            }
            ApiKey::Fetch => {
                let request: FetchRequest = request.decode()?;
                fetch::apply(shared, answer, listener, &request)
            }
            ApiKey::ListOffsets => {
                let request: ListOffsetsRequest = request.decode()?;
                list_offsets::apply(shared, answer, &request)
            }
            ApiKey::Metadata => {
                let request: MetadataRequest = request.decode()?;
                metadata::apply(shared, answer, listener, &request).await
            }
            ApiKey::FindCoordinator => {
                let request: FindCoordinatorRequest = request.decode()?;
                find_coordinator::apply(shared, answer, listener, &request).await
            }
            ApiKey::ApiVersions => {
                let request: ApiVersionsRequest = request.decode()?;
                api_versions::apply(shared, answer, &request)
            }
            ApiKey::CreateTopics => {
                let request: CreateTopicsRequest = request.decode()?;
                create_topics::apply(shared, answer, &request).await
            }
            ApiKey::DeleteTopics => {
                let request: DeleteTopicsRequest = request.decode()?;
                delete_topics::apply(shared, answer, &request).await
            }
            ApiKey::InitProducerId => {
                let request: InitProducerIdRequest = request.decode()?;
                init_producer_id::apply(shared, answer, &request).await
            }
            ApiKey::OffsetForLeaderEpoch => {
                let request: OffsetForLeaderEpochRequest = request.decode()?;
                offset_for_leader_epoch::apply(shared, answer, &request)
            }
            ApiKey::DescribeConfigs => {
                let request: DescribeConfigsRequest = request.decode()?;
                describe_configs::apply(shared, answer, &request)
            }
            ApiKey::DescribeLogDirs => {
                let request: DescribeLogDirsRequest = request.decode()?;
                describe_log_dirs::apply(shared, answer, &request).await
            }
            ApiKey::DescribeQuorum => {
                let request: DescribeQuorumRequest = request.decode()?;
                describe_quorum::apply(shared, answer, &request)
            }
            ApiKey::DescribeTopicPartitions => {
                let request: DescribeTopicPartitionsRequest = request.decode()?;
                describe_topic_partitions::apply(shared, answer, &request)
            }
            ApiKey::UpdateFeatures => {
                let request: UpdateFeaturesRequest = request.decode()?;
                update_features::apply(shared, answer, &request).await
            }
            ApiKey::CreatePartitions => {
                let request: CreatePartitionsRequest = request.decode()?;
                create_partitions::apply(shared, answer, &request).await
            }
            ApiKey::DeleteRecords => {
                let request: DeleteRecordsRequest = request.decode()?;
                delete_records::apply(shared, answer, &request).await
            }
            ApiKey::AlterConfigs => {
                let request: AlterConfigsRequest = request.decode()?;
                alter_configs::apply(shared, answer, &request).await
            }
            ApiKey::IncrementalAlterConfigs => {
                let request: IncrementalAlterConfigsRequest = request.decode()?;
                alter_configs::apply_incremental(shared, answer, &request).await
            }
            ApiKey::ListConfigResources => {
                let request: ListConfigResourcesRequest = request.decode()?;
                list_config_resources::apply(shared, answer, listener, &request)
            }
            ApiKey::DescribeCluster => {
                let request: DescribeClusterRequest = request.decode()?;
                describe_cluster::apply(shared, answer, listener, &request)
            }
            ApiKey::OffsetCommit => {
                let request: OffsetCommitRequest = request.decode()?;
                offset_commit::apply(shared, answer, caller, request)
            }
            ApiKey::OffsetFetch => {
                let request: OffsetFetchRequest = request.decode()?;
                offset_fetch::apply(shared, answer, caller, request)
            }
            ApiKey::JoinGroup => {
                let request: JoinGroupRequest = request.decode()?;
                join_group::apply(shared, answer, caller, request)
            }
            ApiKey::Heartbeat => {
                let request: HeartbeatRequest = request.decode()?;
                heartbeat::apply(shared, answer, caller, request)
            }
            ApiKey::LeaveGroup => {
                let request: LeaveGroupRequest = request.decode()?;
                leave_group::apply(shared, answer, caller, request)
            }
            ApiKey::SyncGroup => {
                let request: SyncGroupRequest = request.decode()?;
                sync_group::apply(shared, answer, caller, request)
            }
            ApiKey::DescribeGroups => {
                let request: DescribeGroupsRequest = request.decode()?;
                describe_groups::apply(shared, answer, caller, &request)
            }
            ApiKey::ListGroups => {
                let request: ListGroupsRequest = request.decode()?;
                list_groups::apply(shared, answer, caller, &request)
            }
            ApiKey::DeleteGroups => {
                let request: DeleteGroupsRequest = request.decode()?;
                delete_groups::apply(shared, answer, caller, &request)
            }
            ApiKey::OffsetDelete => {
                let request: OffsetDeleteRequest = request.decode()?;
                offset_delete::apply(shared, answer, caller, request)
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let request: ConsumerGroupHeartbeatRequest = request.decode()?;
                consumer_group_heartbeat::apply(shared, answer, caller, request)
            }
            ApiKey::ConsumerGroupDescribe => {
                let request: ConsumerGroupDescribeRequest = request.decode()?;
                consumer_group_describe::apply(shared, answer, caller, &request)
            }
            // The caller has looked the API up in the table, which has no other.
            _ => Reply::Close,
        })
    }
}

#[async_trait]
impl Apply for Dispatcher {
    async fn apply(&self, frame: Bytes, peer: &Peer) -> Reply {
        let request = match frame::decode_request(&frame) {
            Ok(request) => request,
            Err(RequestError::UnsupportedVersion {
                api: ApiKey::ApiVersions,
                correlation_id,
                ..
            }) => return api_versions::refuse_version(correlation_id),
            Err(error) => {
                debug!(%peer, %error, "a frame is not a request");
                self.shared.metrics.bad_request();
                return Reply::Close;
            }
        };
        let known = SERVED.iter().find(|served| served.api == request.api);
        let is_served =
            known.is_some_and(|served| (served.min..=served.max).contains(&request.version));
        if !is_served {
            debug!(%peer, api = ?request.api, version = request.version, "not served");
            self.shared.metrics.bad_request();
            return Reply::Close;
        }
        self.shared.metrics.request(request.api);
        match self.handle(&frame, &request, peer).await {
            Ok(reply) => reply,
            Err(error) => {
                debug!(%peer, api = ?request.api, version = request.version, %error, "a request cannot be read");
                self.shared.metrics.bad_request();
                Reply::Close
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_within_what_the_codec_knows() {
        assert!(
            SERVED
                .windows(2)
                .all(|pair| pair[0].api.number() < pair[1].api.number())
        );
        for served in SERVED {
            let range = served.api.versions();
            assert!(
                range.contains(served.min) && range.contains(served.max),
                "{served:?}"
            );
            assert!(served.advertised_min <= served.min && served.min <= served.max);
        }
    }
}

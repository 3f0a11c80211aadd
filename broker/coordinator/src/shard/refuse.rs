//! Answers that carry nothing but an error.

use esker_protocol::ErrorCode;
use esker_protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use esker_protocol::messages::describe_groups_response::DescribedGroup;
use esker_protocol::messages::leave_group_response::MemberResponse;
use esker_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use esker_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use esker_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use esker_protocol::messages::{
    ConsumerGroupHeartbeatResponse, HeartbeatResponse, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteResponse,
    SyncGroupResponse,
};

use crate::step::{Request, Response};

/// The version from which an OffsetFetch has an error for the whole group.
const FETCH_ERROR_VERSION_MIN: i16 = 2;
/// The version from which a LeaveGroup names several members.
const LEAVE_MEMBERS_VERSION_MIN: i16 = 3;

pub(super) fn refuse(request: &Request<'_>, version: i16, error: ErrorCode) -> Response {
    let error_code = error as i16;
    match request {
        Request::JoinGroup(_) => Response::JoinGroup(JoinGroupResponse {
            error_code,
            ..JoinGroupResponse::default()
        }),
        Request::SyncGroup(_) => Response::SyncGroup(SyncGroupResponse {
            error_code,
            ..SyncGroupResponse::default()
        }),
        // While the group loads, members are not to worry.
        Request::Heartbeat(_) => Response::Heartbeat(HeartbeatResponse {
            error_code: match error {
                ErrorCode::CoordinatorLoadInProgress => ErrorCode::None as i16,
                _ => error_code,
            },
            ..HeartbeatResponse::default()
        }),
        Request::LeaveGroup(request) => Response::LeaveGroup(leave(request, version, error)),
        Request::OffsetCommit(request) => Response::OffsetCommit(commit(request, error_code)),
        Request::OffsetFetch { group, .. } => {
            Response::OffsetFetch(fetch(group, version, error_code))
        }
        Request::OffsetDelete(_) => Response::OffsetDelete(OffsetDeleteResponse {
            error_code,
            ..OffsetDeleteResponse::default()
        }),
        Request::ConsumerGroupHeartbeat(_) => {
            Response::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse {
                error_code,
                ..ConsumerGroupHeartbeatResponse::default()
            })
        }
        Request::DescribeGroup(group_id) => Response::DescribeGroup(DescribedGroup {
            group_id: (*group_id).to_owned().into(),
            error_code,
            ..DescribedGroup::default()
        }),
        Request::ConsumerGroupDescribe(group_id) => {
            Response::ConsumerGroupDescribe(DescribedConsumerGroup {
                group_id: (*group_id).to_owned().into(),
                error_code,
                ..DescribedConsumerGroup::default()
            })
        }
        // The error belongs to the whole response, which the host writes.
        Request::ListGroups(_) => Response::ListGroups(Err(error)),
        Request::DeleteGroup(_) => Response::DeleteGroup(error),
    }
}

/// A group that is not there knows none of the members.
fn leave(
    request: &LeaveGroupRequest<'_>,
    version: i16,
    error: ErrorCode,
) -> LeaveGroupResponse<'static> {
    let is_of_members = error == ErrorCode::UnknownMemberId && version >= LEAVE_MEMBERS_VERSION_MIN;
    if !is_of_members {
        return LeaveGroupResponse {
            error_code: error as i16,
            ..LeaveGroupResponse::default()
        };
    }
    let members = request.members.iter().map(|member| MemberResponse {
        member_id: member.member_id.clone().into_owned().into(),
        group_instance_id: member
            .group_instance_id
            .clone()
            .map(|id| id.into_owned().into()),
        error_code: error as i16,
    });
    LeaveGroupResponse {
        members: members.collect(),
        ..LeaveGroupResponse::default()
    }
}

fn commit(request: &OffsetCommitRequest<'_>, error_code: i16) -> OffsetCommitResponse<'static> {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone().into_owned().into(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code,
                })
                .collect(),
        });
    OffsetCommitResponse {
        topics: topics.collect(),
        ..OffsetCommitResponse::default()
    }
}

fn fetch(
    request: &OffsetFetchRequestGroup<'_>,
    version: i16,
    error_code: i16,
) -> OffsetFetchResponseGroup<'static> {
    let group_id = request.group_id.clone().into_owned().into();
    if version >= FETCH_ERROR_VERSION_MIN {
        return OffsetFetchResponseGroup {
            group_id,
            error_code,
            ..OffsetFetchResponseGroup::default()
        };
    }
    let topics = request.topics.iter().flatten();
    let topics = topics.map(|topic| OffsetFetchResponseTopics {
        name: topic.name.clone().into_owned().into(),
        topic_id: topic.topic_id,
        partitions: topic
            .partition_indexes
            .iter()
            .map(|index| OffsetFetchResponsePartitions {
                partition_index: *index,
                committed_offset: -1,
                committed_leader_epoch: -1,
                metadata: Some("".into()),
                error_code,
            })
            .collect(),
    });
    OffsetFetchResponseGroup {
        group_id,
        topics: topics.collect(),
        ..OffsetFetchResponseGroup::default()
    }
}

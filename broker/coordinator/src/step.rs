//! What goes into a shard and what comes out.

use esker_protocol::ErrorCode;
use esker_protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use esker_protocol::messages::describe_groups_response::DescribedGroup;
use esker_protocol::messages::list_groups_response::ListedGroup;
use esker_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use esker_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use esker_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, SyncGroupRequest, SyncGroupResponse,
};

use crate::record::Record;

/// Names a request whose reply may come with a later step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The request's version.
    pub version: i16,
    /// The client's id; empty where it gave none.
    pub client_id: &'a str,
    /// Where it is, as Kafka shows it: `/127.0.0.1`.
    pub client_host: &'a str,
}

/// A request for one group, or for all of a shard.
#[derive(Debug, Clone)]
pub enum Request<'a> {
    /// Answered when the rebalance completes.
    JoinGroup(JoinGroupRequest<'a>),
    /// Answered when the leader has sent the assignment.
    SyncGroup(SyncGroupRequest<'a>),
    /// A member lives.
    Heartbeat(HeartbeatRequest<'a>),
    /// Members leave.
    LeaveGroup(LeaveGroupRequest<'a>),
    /// Offsets are committed. Topics carry both name and id (or a zero id where the host knows none);
    /// the host has answered for topics that do not exist.
    OffsetCommit(OffsetCommitRequest<'a>),
    /// One group of an OffsetFetch. Topics carry names, and ids from version 10 on; the host has
    /// answered for ids that it does not know.
    OffsetFetch {
        /// What is asked for; no topics means all.
        group: OffsetFetchRequestGroup<'a>,
        /// Whether offsets that a transaction may still change are refused.
        require_stable: bool,
    },
    /// Committed offsets are deleted.
    OffsetDelete(OffsetDeleteRequest<'a>),
    /// A member of a consumer group (KIP-848) lives, joins, leaves or reports.
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest<'a>),
    /// One group of a DescribeGroups.
    DescribeGroup(&'a str),
    /// One group of a ConsumerGroupDescribe.
    ConsumerGroupDescribe(&'a str),
    /// The shard's groups that pass the filters.
    ListGroups(ListGroupsRequest<'a>),
    /// One group of a DeleteGroups.
    DeleteGroup(&'a str),
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// To [`Request::JoinGroup`].
    JoinGroup(JoinGroupResponse<'static>),
    /// To [`Request::SyncGroup`].
    SyncGroup(SyncGroupResponse<'static>),
    /// To [`Request::Heartbeat`].
    Heartbeat(HeartbeatResponse),
    /// To [`Request::LeaveGroup`].
    LeaveGroup(LeaveGroupResponse<'static>),
    /// To [`Request::OffsetCommit`].
    OffsetCommit(OffsetCommitResponse<'static>),
    /// To [`Request::OffsetFetch`].
    OffsetFetch(OffsetFetchResponseGroup<'static>),
    /// To [`Request::OffsetDelete`].
    OffsetDelete(OffsetDeleteResponse<'static>),
    /// To [`Request::ConsumerGroupHeartbeat`].
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse<'static>),
    /// To [`Request::DescribeGroup`].
    DescribeGroup(DescribedGroup<'static>),
    /// To [`Request::ConsumerGroupDescribe`].
    ConsumerGroupDescribe(DescribedConsumerGroup<'static>),
    /// To [`Request::ListGroups`].
    ListGroups(Result<Vec<ListedGroup<'static>>, ErrorCode>),
    /// To [`Request::DeleteGroup`].
    DeleteGroup(ErrorCode),
}

impl Response {
    /// What the response takes in memory, in bytes, about: of those that can be large.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 64;
        match self {
            Response::DescribeGroup(group) => {
                let members = group.members.iter().map(|member| {
                    ENTRY_BYTES + member.member_metadata.len() + member.member_assignment.len()
                });
                ENTRY_BYTES + members.sum::<usize>()
            }
            Response::ConsumerGroupDescribe(group) => {
                let members = group.members.iter().map(|member| {
                    let names = member.subscribed_topic_names.iter();
                    let assignments = [&member.assignment, &member.target_assignment];
                    let assigned = assignments.iter().flat_map(|one| &one.topic_partitions);
                    ENTRY_BYTES
                        + names.map(|name| ENTRY_BYTES + name.len()).sum::<usize>()
                        + assigned
                            .map(|topic| ENTRY_BYTES + 4 * topic.partitions.len())
                            .sum::<usize>()
                });
                ENTRY_BYTES + members.sum::<usize>()
            }
            Response::OffsetFetch(group) => {
                let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
                let metadata =
                    partitions.map(|one| one.metadata.as_ref().map_or(0, |text| text.len()));
                ENTRY_BYTES + metadata.map(|bytes| ENTRY_BYTES + bytes).sum::<usize>()
            }
            _ => ENTRY_BYTES,
        }
    }
}

/// What one event gives. The records may borrow from the request.
#[derive(Debug, Default)]
pub struct Step<'r> {
    /// What the host appends, in order. If `is_atomic`, they fit into one batch and are appended as
    /// one; otherwise any prefix of them may survive a crash.
    pub records: Vec<Record<'r>>,
    /// Whether the records stand or fall together.
    pub is_atomic: bool,
    /// Replies that the host sends once the records, and all before them, are committed.
    pub replies: Vec<(Ticket, Response)>,
}

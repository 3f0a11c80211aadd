//! Groups: listing, describing, deleting, and their committed offsets.

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use esker_protocol::messages::{
    ListGroupsRequest, consumer_group_describe_response, describe_groups_response,
};
use esker_protocol::{BrokerId, ErrorCode, LeaderEpoch, Offset, consumer_protocol};
use tokio::time::Instant;

use super::coordinators::{ByGroup, Coordinator};
use crate::client::{Client, Retry, Target};
use crate::error::{ClientError, ConnectionError, check};

/// A partition of a topic.
pub type TopicPartition = (String, i32);

/// What became of each partition.
pub type ByPartition<V> = BTreeMap<TopicPartition, V>;

/// A group, as its coordinator lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: String,
    /// `consumer`, `connect` or another; empty where the group only holds offsets.
    pub protocol_type: String,
    /// Its state; empty from brokers that do not tell.
    pub state: String,
    /// `classic`, `consumer` or another; empty from brokers that do not tell.
    pub kind: String,
    /// The broker that looks after it.
    pub coordinator: BrokerId,
}

/// Which protocol a group's members speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// JoinGroup and SyncGroup: a member assigns.
    Classic,
    /// ConsumerGroupHeartbeat: the coordinator assigns.
    Consumer,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its id.
    pub group: String,
    /// Which protocol its members speak.
    pub kind: GroupKind,
    /// Its state.
    pub state: String,
    /// `consumer`, `connect` or another; empty where the group only holds offsets.
    pub protocol_type: String,
    /// How partitions are assigned; empty where nothing is.
    pub assignor: String,
    /// The epochs of the group and of its assignment.
    pub epochs: Option<(i32, i32)>,
    /// The broker that looks after it.
    pub coordinator: Coordinator,
    /// Its members.
    pub members: Vec<GroupMember>,
}

impl DescribedGroup {
    /// Whether nobody is in it: only then may its offsets be set and may it be deleted.
    #[must_use]
    pub fn is_inactive(&self) -> bool {
        self.members.is_empty() && matches!(self.state.as_str(), "Empty" | "Dead")
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// Its rack.
    pub rack: Option<String>,
    /// Its epoch, where members have one.
    pub epoch: Option<i32>,
    /// Whether it still speaks the classic protocol within a consumer group.
    pub is_classic: bool,
    /// What it owns; `None` where the assignment is nothing that consumers write.
    pub assignment: Option<BTreeSet<TopicPartition>>,
    /// What it is to own, where the coordinator assigns.
    pub target: Option<BTreeSet<TopicPartition>>,
}

/// An offset that a group has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record to be read.
    pub offset: Offset,
    /// The epoch of the leader that wrote the record before, if it is known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What the group noted with it.
    pub metadata: String,
}

/// The first version of ListGroups that tells states, and of its filter.
const STATES_FROM: i16 = 4;
/// The first version of ListGroups that tells types, and of its filter.
const TYPES_FROM: i16 = 5;
/// `ConsumerGroupDescribeResponse.Member.MemberType` of members with the classic protocol.
const CLASSIC_MEMBER: i8 = 0;
/// The protocol type of consumers, whose assignments can be read.
const CONSUMERS: &str = "consumer";

impl Client {
    /// Lists the groups of all brokers, or those of these states and types, sorted by their ids.
    pub async fn list_groups(
        &self,
        states: &[String],
        types: &[String],
        deadline: Instant,
    ) -> Result<Vec<ListedGroup>, ClientError> {
        let brokers = self.metadata(Some(&[]), deadline).await?.brokers;
        let mut groups = Vec::new();
        for broker in brokers.into_keys() {
            let mut retry = Retry::new(deadline);
            let listed = loop {
                let listed = self.list_groups_of(broker, states, types, deadline).await;
                match listed {
                    Ok(listed) => break listed,
                    Err(error) => {
                        retry
                            .pause(|| format!("listing the groups of broker {broker}"), error)
                            .await?;
                    }
                }
            };
            groups.extend(listed);
        }
        groups.sort_by(|one, other| one.group.cmp(&other.group));
        // A group that moves while the brokers are asked may be listed twice.
        groups.dedup_by(|one, other| one.group == other.group);
        Ok(groups)
    }

    async fn list_groups_of(
        &self,
        broker: BrokerId,
        states: &[String],
        types: &[String],
        deadline: Instant,
    ) -> Result<Vec<ListedGroup>, ClientError> {
        let link = self.link(Target::Broker(broker), 0, deadline).await?;
        let version = link.version_of::<ListGroupsRequest<'_>>(None)?;
        if !states.is_empty() {
            link.require::<ListGroupsRequest<'_>>(version, STATES_FROM)?;
        }
        if !types.is_empty() {
            link.require::<ListGroupsRequest<'_>>(version, TYPES_FROM)?;
        }
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|state| state.as_str().into()).collect(),
            types_filter: types.iter().map(|kind| kind.as_str().into()).collect(),
        };
        let answer = link
            .call(version, &request, Duration::ZERO, deadline)
            .await?;
        let response = answer.body().map_err(|source| link.error(source))?;
        check(response.error_code, None, || {
            format!("listing the groups of broker {broker}")
        })?;
        let listed = response.groups.iter().map(|group| ListedGroup {
            group: group.group_id.to_string(),
            protocol_type: group.protocol_type.to_string(),
            state: group.group_state.to_string(),
            kind: group.group_type.to_string(),
            coordinator: broker,
        });
        Ok(listed.collect())
    }

    /// Describes groups, whichever protocol they speak; the outcome of each. A group that does not
    /// exist is refused with `GROUP_ID_NOT_FOUND`.
    pub async fn describe_groups(
        &self,
        groups: &[String],
        deadline: Instant,
    ) -> ByGroup<DescribedGroup> {
        let mut outcomes = self
            .ask_coordinators(&calls::DescribeConsumer, groups, deadline)
            .await;
        // Only the answer of a broker that knows consumer groups says that a group is none of them.
        let others: Vec<String> = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.as_ref().is_err_and(is_no_consumer_group))
            .map(|(group, _)| group.clone())
            .collect();
        if !others.is_empty() {
            let classic = self
                .ask_coordinators(&calls::DescribeClassic, &others, deadline)
                .await;
            outcomes.extend(classic);
        }
        outcomes
    }

    /// Deletes groups with all their offsets; the outcome of each.
    ///
    /// Where an answer was lost the request is repeated, and a group that the lost one deleted is
    /// reported as not found.
    pub async fn delete_groups(&self, groups: &[String], deadline: Instant) -> ByGroup<()> {
        self.ask_coordinators(&calls::Delete, groups, deadline)
            .await
    }

    /// Every offset that these groups have committed; the outcome of each. A group that does not
    /// exist has none.
    pub async fn committed_offsets(
        &self,
        groups: &[String],
        deadline: Instant,
    ) -> ByGroup<ByPartition<CommittedOffset>> {
        self.ask_coordinators(&calls::FetchOffsets, groups, deadline)
            .await
    }

    /// Sets offsets of a group that has no members; the outcome of each partition.
    pub async fn set_offsets(
        &self,
        group: &str,
        offsets: ByPartition<Offset>,
        deadline: Instant,
    ) -> Result<ByPartition<Result<(), ClientError>>, ClientError> {
        let call = calls::Commit { offsets };
        self.ask_about_one(&call, group, deadline).await
    }

    /// Deletes offsets of a group whose members do not read these topics; the outcome of each
    /// partition.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: BTreeSet<TopicPartition>,
        deadline: Instant,
    ) -> Result<ByPartition<Result<(), ClientError>>, ClientError> {
        let call = calls::DeleteOffsets { partitions };
        self.ask_about_one(&call, group, deadline).await
    }

    async fn ask_about_one<C: super::coordinators::GroupCall>(
        &self,
        call: &C,
        group: &str,
        deadline: Instant,
    ) -> Result<C::Value, ClientError> {
        let groups = [group.to_owned()];
        let mut outcomes = self.ask_coordinators(call, &groups, deadline).await;
        let outcome = outcomes.remove(group);
        outcome.unwrap_or_else(|| Err(super::coordinators::missing(&call.what(group))))
    }
}

/// Whether the classic description is the one to ask for.
fn is_no_consumer_group(error: &ClientError) -> bool {
    match error {
        ClientError::Kafka { code, .. } => matches!(
            code,
            ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion
        ),
        ClientError::Connection { source, .. } => {
            matches!(source, ConnectionError::UnsupportedApi { .. })
        }
        _ => false,
    }
}

impl DescribedGroup {
    fn of_consumers(
        group: &consumer_group_describe_response::DescribedGroup<'_>,
        coordinator: &Coordinator,
    ) -> DescribedGroup {
        let partitions = |assignment: &consumer_group_describe_response::Assignment<'_>| {
            let topics = assignment.topic_partitions.iter();
            topics
                .flat_map(|topic| topic_partitions(&topic.topic_name, &topic.partitions))
                .collect()
        };
        let members = group.members.iter().map(|member| GroupMember {
            id: member.member_id.to_string(),
            instance_id: member.instance_id.as_deref().map(str::to_owned),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            rack: member.rack_id.as_deref().map(str::to_owned),
            epoch: Some(member.member_epoch),
            is_classic: member.member_type == CLASSIC_MEMBER,
            assignment: Some(partitions(&member.assignment)),
            target: Some(partitions(&member.target_assignment)),
        });
        DescribedGroup {
            group: group.group_id.to_string(),
            kind: GroupKind::Consumer,
            state: group.group_state.to_string(),
            protocol_type: CONSUMERS.to_owned(),
            assignor: group.assignor_name.to_string(),
            epochs: Some((group.group_epoch, group.assignment_epoch)),
            coordinator: coordinator.clone(),
            members: members.collect(),
        }
    }

    fn classic(
        group: &describe_groups_response::DescribedGroup<'_>,
        coordinator: &Coordinator,
    ) -> DescribedGroup {
        let is_of_consumers = group.protocol_type == CONSUMERS;
        let members = group.members.iter().map(|member| GroupMember {
            id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_deref().map(str::to_owned),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            rack: None,
            epoch: None,
            is_classic: true,
            assignment: is_of_consumers
                .then(|| consumers_assignment(&member.member_assignment))
                .flatten(),
            target: None,
        });
        DescribedGroup {
            group: group.group_id.to_string(),
            kind: GroupKind::Classic,
            state: group.group_state.to_string(),
            protocol_type: group.protocol_type.to_string(),
            assignor: group.protocol_data.to_string(),
            epochs: None,
            coordinator: coordinator.clone(),
            members: members.collect(),
        }
    }
}

fn topic_partitions(topic: &str, partitions: &[i32]) -> impl Iterator<Item = TopicPartition> {
    partitions
        .iter()
        .map(move |partition| (topic.to_owned(), *partition))
}

/// What the leader of a classic group assigned; `None` where the bytes are no assignment.
fn consumers_assignment(bytes: &[u8]) -> Option<BTreeSet<TopicPartition>> {
    // Nothing has been assigned yet.
    if bytes.is_empty() {
        return Some(BTreeSet::new());
    }
    let assignment = consumer_protocol::assignment(bytes).ok()?;
    let topics = assignment.assigned_partitions.iter();
    let partitions = topics.flat_map(|topic| topic_partitions(&topic.topic, &topic.partitions));
    Some(partitions.collect())
}

#[cfg(test)]
mod tests;

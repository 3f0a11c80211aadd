//! The calls about groups that their coordinators answer, version by version.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest,
    DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, offset_commit_request, offset_delete_request, offset_fetch_request,
};
use esker_protocol::{ErrorCode, LeaderEpoch, Offset};

use super::{ByPartition, CommittedOffset, DescribedGroup, TopicPartition};
use crate::admin::coordinators::{Answered, GROUPS_PER_REQUEST_MAX, GroupCall};
use crate::client::Link;
use crate::error::{ClientError, check};

type Values<V> = Vec<(String, Result<V, ClientError>)>;

/// The first version of OffsetFetch that asks for several groups.
const FETCH_MANY_FROM: i16 = 8;
/// The first version of OffsetFetch that can ask for all partitions.
const FETCH_ALL_FROM: i16 = 2;
/// The last versions of OffsetFetch and OffsetCommit that name topics rather than their ids: offsets
/// of topics that are gone have no id any more.
const BY_NAME_UNTIL: i16 = 9;
/// What a classic group that does not exist is described as, below version 6.
const GONE: &str = "Dead";

/// Describes groups of the consumer protocol.
pub(super) struct DescribeConsumer;

impl GroupCall for DescribeConsumer {
    type Request = ConsumerGroupDescribeRequest<'static>;
    type Value = DescribedGroup;

    fn request(&self, groups: &[String], _version: i16) -> Self::Request {
        ConsumerGroupDescribeRequest {
            group_ids: groups.iter().map(|group| group.clone().into()).collect(),
            ..ConsumerGroupDescribeRequest::default()
        }
    }

    fn values(
        &self,
        answered: Answered<'_>,
        response: &ConsumerGroupDescribeResponse<'_>,
    ) -> Values<DescribedGroup> {
        let values = response.groups.iter().map(|group| {
            let message = group.error_message.as_deref();
            let outcome = check(group.error_code, message, || self.what(&group.group_id))
                .map(|()| DescribedGroup::of_consumers(group, answered.coordinator));
            (group.group_id.to_string(), outcome)
        });
        values.collect()
    }

    fn what(&self, group: &str) -> String {
        describing(group)
    }
}

/// Describes groups of the classic protocol.
pub(super) struct DescribeClassic;

impl GroupCall for DescribeClassic {
    type Request = DescribeGroupsRequest<'static>;
    type Value = DescribedGroup;

    fn request(&self, groups: &[String], _version: i16) -> Self::Request {
        DescribeGroupsRequest {
            groups: groups.iter().map(|group| group.clone().into()).collect(),
            ..DescribeGroupsRequest::default()
        }
    }

    fn values(
        &self,
        answered: Answered<'_>,
        response: &DescribeGroupsResponse<'_>,
    ) -> Values<DescribedGroup> {
        let values = response.groups.iter().map(|group| {
            let message = group.error_message.as_deref();
            let outcome = check(group.error_code, message, || self.what(&group.group_id));
            let outcome = outcome.and_then(|()| {
                if group.group_state == GONE {
                    return Err(ClientError::Kafka {
                        what: self.what(&group.group_id),
                        code: ErrorCode::GroupIdNotFound,
                        message: None,
                    });
                }
                Ok(DescribedGroup::classic(group, answered.coordinator))
            });
            (group.group_id.to_string(), outcome)
        });
        values.collect()
    }

    fn what(&self, group: &str) -> String {
        describing(group)
    }
}

fn describing(group: &str) -> String {
    format!("describing group {group}")
}

/// Deletes groups.
pub(super) struct Delete;

impl GroupCall for Delete {
    type Request = DeleteGroupsRequest<'static>;
    type Value = ();

    fn request(&self, groups: &[String], _version: i16) -> Self::Request {
        DeleteGroupsRequest {
            groups_names: groups.iter().map(|group| group.clone().into()).collect(),
        }
    }

    fn values(&self, _answered: Answered<'_>, response: &DeleteGroupsResponse<'_>) -> Values<()> {
        let values = response.results.iter().map(|group| {
            let outcome = check(group.error_code, None, || self.what(&group.group_id));
            (group.group_id.to_string(), outcome)
        });
        values.collect()
    }

    fn what(&self, group: &str) -> String {
        format!("deleting group {group}")
    }
}

/// Asks for all committed offsets.
pub(super) struct FetchOffsets;

impl FetchOffsets {
    fn committed(
        &self,
        group: &str,
        partitions: impl Iterator<Item = (TopicPartition, i16, CommittedOffset)>,
    ) -> Result<ByPartition<CommittedOffset>, ClientError> {
        let mut committed = BTreeMap::new();
        for ((topic, partition), code, offset) in partitions {
            check(code, None, || {
                format!("{} on {topic}-{partition}", self.what(group))
            })?;
            // Below zero there is none.
            if offset.offset >= Offset::ZERO {
                committed.insert((topic, partition), offset);
            }
        }
        Ok(committed)
    }
}

/// An offset as both shapes of the answer have it.
macro_rules! partitions {
    ($topics:expr) => {
        $topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| {
                let offset = CommittedOffset {
                    offset: Offset(partition.committed_offset),
                    leader_epoch: (partition.committed_leader_epoch >= 0)
                        .then_some(LeaderEpoch(partition.committed_leader_epoch)),
                    metadata: partition.metadata.as_deref().unwrap_or_default().to_owned(),
                };
                let place = (topic.name.to_string(), partition.partition_index);
                (place, partition.error_code, offset)
            })
        })
    };
}

impl GroupCall for FetchOffsets {
    type Request = OffsetFetchRequest<'static>;
    type Value = ByPartition<CommittedOffset>;

    fn version(&self, link: &Link) -> Result<i16, ClientError> {
        let version = link.version_of::<Self::Request>(Some(BY_NAME_UNTIL))?;
        link.require::<Self::Request>(version, FETCH_ALL_FROM)?;
        Ok(version)
    }

    fn groups_max(&self, version: i16) -> usize {
        if version < FETCH_MANY_FROM {
            1
        } else {
            GROUPS_PER_REQUEST_MAX
        }
    }

    fn request(&self, groups: &[String], version: i16) -> Self::Request {
        if version < FETCH_MANY_FROM {
            return OffsetFetchRequest {
                group_id: groups.first().cloned().unwrap_or_default().into(),
                topics: None,
                ..OffsetFetchRequest::default()
            };
        }
        let groups = groups
            .iter()
            .map(|group| offset_fetch_request::OffsetFetchRequestGroup {
                group_id: group.clone().into(),
                topics: None,
                ..Default::default()
            });
        OffsetFetchRequest {
            groups: groups.collect(),
            ..OffsetFetchRequest::default()
        }
    }

    fn values(
        &self,
        answered: Answered<'_>,
        response: &OffsetFetchResponse<'_>,
    ) -> Values<ByPartition<CommittedOffset>> {
        if answered.version < FETCH_MANY_FROM {
            let groups = answered.groups.iter().map(|group| {
                let outcome = check(response.error_code, None, || self.what(group))
                    .and_then(|()| self.committed(group, partitions!(response.topics)));
                (group.clone(), outcome)
            });
            return groups.collect();
        }
        let values = response.groups.iter().map(|group| {
            let outcome = check(group.error_code, None, || self.what(&group.group_id))
                .and_then(|()| self.committed(&group.group_id, partitions!(group.topics)));
            (group.group_id.to_string(), absent_is_empty(outcome))
        });
        values.collect()
    }

    fn what(&self, group: &str) -> String {
        format!("asking for the offsets of group {group}")
    }
}

fn absent_is_empty<V: Default>(outcome: Result<V, ClientError>) -> Result<V, ClientError> {
    match outcome {
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => Ok(V::default()),
        outcome => outcome,
    }
}

/// Sets offsets, as somebody outside of the group.
pub(super) struct Commit {
    pub(super) offsets: ByPartition<Offset>,
}

impl GroupCall for Commit {
    type Request = OffsetCommitRequest<'static>;
    type Value = ByPartition<Result<(), ClientError>>;

    fn version(&self, link: &Link) -> Result<i16, ClientError> {
        link.version_of::<Self::Request>(Some(BY_NAME_UNTIL))
    }

    fn groups_max(&self, _version: i16) -> usize {
        1
    }

    fn request(&self, groups: &[String], _version: i16) -> Self::Request {
        let mut topics: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for ((topic, partition), offset) in &self.offsets {
            let partition = offset_commit_request::OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: offset.0,
                ..Default::default()
            };
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            offset_commit_request::OffsetCommitRequestTopic {
                name: topic.to_owned().into(),
                partitions,
                ..Default::default()
            }
        });
        OffsetCommitRequest {
            group_id: groups.first().cloned().unwrap_or_default().into(),
            topics: topics.collect(),
            ..OffsetCommitRequest::default()
        }
    }

    fn values(
        &self,
        answered: Answered<'_>,
        response: &OffsetCommitResponse<'_>,
    ) -> Values<ByPartition<Result<(), ClientError>>> {
        let codes = response.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|one| {
                let place = (topic.name.to_string(), one.partition_index);
                (place, one.error_code)
            })
        });
        let wanted = self.offsets.keys().cloned().collect();
        of_the_one(answered, codes, wanted, |group| self.what(group))
    }

    fn what(&self, group: &str) -> String {
        format!("setting offsets of group {group}")
    }
}

/// Deletes offsets.
pub(super) struct DeleteOffsets {
    pub(super) partitions: BTreeSet<TopicPartition>,
}

impl GroupCall for DeleteOffsets {
    type Request = OffsetDeleteRequest<'static>;
    type Value = ByPartition<Result<(), ClientError>>;

    fn groups_max(&self, _version: i16) -> usize {
        1
    }

    fn request(&self, groups: &[String], _version: i16) -> Self::Request {
        let mut topics: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (topic, partition) in &self.partitions {
            let partition = offset_delete_request::OffsetDeleteRequestPartition {
                partition_index: *partition,
            };
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            offset_delete_request::OffsetDeleteRequestTopic {
                name: topic.to_owned().into(),
                partitions,
            }
        });
        OffsetDeleteRequest {
            group_id: groups.first().cloned().unwrap_or_default().into(),
            topics: topics.collect(),
        }
    }

    fn values(
        &self,
        answered: Answered<'_>,
        response: &OffsetDeleteResponse<'_>,
    ) -> Values<ByPartition<Result<(), ClientError>>> {
        let group = answered.groups.first().cloned().unwrap_or_default();
        if let Err(error) = check(response.error_code, None, || self.what(&group)) {
            return vec![(group, Err(error))];
        }
        let codes = response.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|one| {
                let place = (topic.name.to_string(), one.partition_index);
                (place, one.error_code)
            })
        });
        of_the_one(answered, codes, self.partitions.clone(), |group| {
            self.what(group)
        })
    }

    fn what(&self, group: &str) -> String {
        format!("deleting offsets of group {group}")
    }
}

/// The outcome of each wanted partition of the one group that was asked about. A coordinator that
/// is not ready says so with every partition: then it is the group's outcome.
fn of_the_one(
    answered: Answered<'_>,
    codes: impl Iterator<Item = (TopicPartition, i16)>,
    mut wanted: BTreeSet<TopicPartition>,
    what: impl Fn(&str) -> String,
) -> Values<ByPartition<Result<(), ClientError>>> {
    let group = answered.groups.first().cloned().unwrap_or_default();
    let mut outcomes = BTreeMap::new();
    for ((topic, partition), code) in codes {
        let outcome = check(code, None, || {
            format!("{}, {topic}-{partition}", what(&group))
        });
        if let Err(
            error @ ClientError::Kafka {
                code:
                    ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator,
                ..
            },
        ) = outcome
        {
            return vec![(group, Err(error))];
        }
        let place = (topic, partition);
        if wanted.remove(&place) {
            outcomes.insert(place, outcome);
        }
    }
    for (topic, partition) in wanted {
        let error = ClientError::Nonsense {
            what: what(&group),
            reason: format!("{topic}-{partition} is missing"),
        };
        outcomes.insert((topic, partition), Err(error));
    }
    vec![(group, Ok(outcomes))]
}

//! A member as its two records say: who it is and wants (type 5), and what it owns (type 8).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_protocol::TopicId;
use esker_protocol::messages::consumer_group_current_member_assignment_value::TopicPartitions;
use esker_protocol::messages::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol,
};
use esker_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue,
};

/// The epoch by which a member asks to join.
pub(super) const JOIN_EPOCH: i32 = 0;
/// The epoch by which a member leaves; also that of a member whose removal is being replayed.
pub(super) const LEAVE_EPOCH: i32 = -1;
/// The epoch by which a static member leaves for a while; it keeps what it was assigned.
pub(super) const LEAVE_STATIC_EPOCH: i32 = -2;

/// Partitions with the epoch in which each was given to the member that holds it.
pub(super) type Partitions = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// Where a member stands on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberState {
    /// It has what it shall have.
    Stable,
    /// It has yet to confirm that it gave something up.
    Unrevoked,
    /// It waits for partitions that others have not given up yet.
    Unreleased,
    /// Written by a version that knows more states.
    Unknown,
}

impl MemberState {
    fn from_stored(state: i8) -> MemberState {
        match state {
            0 => MemberState::Stable,
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            _ => MemberState::Unknown,
        }
    }

    fn stored(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::Unrevoked => 1,
            MemberState::Unreleased => 2,
            MemberState::Unknown => 127,
        }
    }
}

/// What a member of the classic protocol brought along when its group became a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Classic {
    pub(super) session_timeout_ms: i32,
    /// Names and embedded subscriptions, the one it prefers first.
    pub(super) protocols: Vec<(String, Vec<u8>)>,
}

/// Who a member is and what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) instance_id: Option<String>,
    pub(super) rack_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) topics: BTreeSet<String>,
    /// Empty where it subscribes to none, as Kafka stores it.
    pub(super) regex: String,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) assignor: Option<String>,
    pub(super) classic: Option<Classic>,
}

impl Default for Metadata {
    fn default() -> Metadata {
        Metadata {
            instance_id: None,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            topics: BTreeSet::new(),
            regex: String::new(),
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        }
    }
}

/// What an entry of a map or list takes besides its text.
const ENTRY_BYTES: usize = 64;

impl Metadata {
    /// What it takes in memory, about; every topic is also in the group's index.
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let topics = self.topics.iter().map(|name| ENTRY_BYTES + 2 * name.len());
        let classic = self.classic.iter().flat_map(|classic| &classic.protocols);
        let protocols = classic.map(|(name, metadata)| ENTRY_BYTES + name.len() + metadata.len());
        ENTRY_BYTES
            + text(&self.instance_id)
            + text(&self.rack_id)
            + text(&self.assignor)
            + self.client_id.len()
            + self.client_host.len()
            + self.regex.len()
            + topics.chain(protocols).sum::<usize>()
    }

    /// The regular expression, if there is one.
    pub(super) fn regex(&self) -> Option<&str> {
        (!self.regex.is_empty()).then_some(self.regex.as_str())
    }

    pub(super) fn from_record(value: &ConsumerGroupMemberMetadataValue<'_>) -> Metadata {
        Metadata {
            instance_id: value.instance_id.as_deref().map(str::to_owned),
            rack_id: value.rack_id.as_deref().map(str::to_owned),
            client_id: value.client_id.clone().into_owned(),
            client_host: value.client_host.clone().into_owned(),
            topics: (value.subscribed_topic_names.iter())
                .map(|name| name.clone().into_owned())
                .collect(),
            regex: value
                .subscribed_topic_regex
                .clone()
                .unwrap_or_default()
                .into_owned(),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            assignor: value.server_assignor.as_deref().map(str::to_owned),
            classic: value
                .classic_member_metadata
                .as_ref()
                .map(|classic| Classic {
                    session_timeout_ms: classic.session_timeout_ms,
                    protocols: (classic.supported_protocols.iter())
                        .map(|protocol| {
                            (
                                protocol.name.clone().into_owned(),
                                protocol.metadata.clone().into_owned(),
                            )
                        })
                        .collect(),
                }),
        }
    }

    pub(super) fn to_record(&self) -> ConsumerGroupMemberMetadataValue<'static> {
        let owned = |text: &String| Cow::Owned(text.clone());
        ConsumerGroupMemberMetadataValue {
            instance_id: self.instance_id.as_ref().map(owned),
            rack_id: self.rack_id.as_ref().map(owned),
            client_id: owned(&self.client_id),
            client_host: owned(&self.client_host),
            subscribed_topic_names: self.topics.iter().map(owned).collect(),
            subscribed_topic_regex: Some(owned(&self.regex)),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.as_ref().map(owned),
            classic_member_metadata: self.classic.as_ref().map(|classic| ClassicMemberMetadata {
                session_timeout_ms: classic.session_timeout_ms,
                supported_protocols: (classic.protocols.iter())
                    .map(|(name, metadata)| ClassicProtocol {
                        name: owned(name),
                        metadata: Cow::Owned(metadata.clone()),
                    })
                    .collect(),
            }),
        }
    }
}

/// What a member owns, and in which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) epoch: i32,
    /// The epoch before, with which a member may come whose last reply was lost.
    pub(super) previous_epoch: i32,
    pub(super) state: MemberState,
    pub(super) assigned: Partitions,
    /// No longer assigned, but the member has not confirmed that it gave them up.
    pub(super) revoking: Partitions,
}

impl Default for Current {
    fn default() -> Current {
        Current {
            epoch: JOIN_EPOCH,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Partitions::new(),
            revoking: Partitions::new(),
        }
    }
}

impl Current {
    /// Whether nothing is left to do for the target of that epoch.
    pub(super) fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    pub(super) fn from_record(value: &ConsumerGroupCurrentMemberAssignmentValue) -> Current {
        Current {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: MemberState::from_stored(value.state),
            assigned: partitions(&value.assigned_partitions, value.member_epoch),
            revoking: partitions(&value.partitions_pending_revocation, value.member_epoch),
        }
    }

    pub(super) fn to_record(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.stored(),
            assigned_partitions: stored_partitions(&self.assigned),
            partitions_pending_revocation: stored_partitions(&self.revoking),
        }
    }
}

// Before 4.3 the epochs of the single partitions were not written; then all have the member's.
fn partitions(topics: &[TopicPartitions], member_epoch: i32) -> Partitions {
    let mut partitions = Partitions::new();
    for topic in topics {
        let epochs = topic
            .assignment_epochs
            .as_deref()
            .filter(|epochs| epochs.len() == topic.partitions.len());
        let of_topic = partitions.entry(topic.topic_id).or_default();
        for (index, partition) in topic.partitions.iter().enumerate() {
            let epoch = epochs.and_then(|epochs| epochs.get(index).copied());
            of_topic.insert(*partition, epoch.unwrap_or(member_epoch.max(0)));
        }
    }
    partitions
}

fn stored_partitions(partitions: &Partitions) -> Vec<TopicPartitions> {
    (partitions.iter())
        .map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.keys().copied().collect(),
            assignment_epochs: Some(partitions.values().copied().collect()),
        })
        .collect()
}

/// A member. Copying one copies two pointers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) metadata: Arc<Metadata>,
    pub(super) current: Arc<Current>,
}

impl Member {
    /// A member that has not joined yet.
    pub(super) fn new(id: &str) -> Member {
        Member {
            id: id.to_owned(),
            metadata: Arc::default(),
            current: Arc::default(),
        }
    }

    pub(super) fn uses_classic_protocol(&self) -> bool {
        self.metadata.classic.is_some()
    }

    /// The epoch in which the member was given a partition that it still has.
    pub(super) fn assignment_epoch(&self, topic: TopicId, partition: i32) -> Option<i32> {
        let of = |partitions: &Partitions| partitions.get(&topic)?.get(&partition).copied();
        of(&self.current.assigned).or_else(|| of(&self.current.revoking))
    }
}

//! The records by which a classic group of consumers becomes a consumer group.

use std::collections::BTreeSet;

use esker_protocol::{ErrorCode, consumer_protocol};

use super::check::Refusal;
use super::member::{Classic, Current, MemberState, Metadata, Partitions};
use super::records;
use super::subscription::{TopicHashes, metadata_hash};
use crate::assignor::Assignment;
use crate::record::Record;
use crate::view::View;

/// A member of the classic group.
#[derive(Debug, Clone)]
pub(crate) struct ClassicMember<'a> {
    pub(crate) id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    pub(crate) client_id: &'a str,
    pub(crate) client_host: &'a str,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// In the member's order of preference.
    pub(crate) protocols: Vec<(&'a str, &'a [u8])>,
    pub(crate) assignment: &'a [u8],
}

/// The records of the consumer group. All members are stable in the generation's epoch and own what
/// the generation's leader assigned to them.
pub(crate) fn upgrade(
    group_id: &str,
    generation: i32,
    protocol: Option<&str>,
    members: &[ClassicMember<'_>],
    view: &View<'_>,
) -> Result<Vec<Record<'static>>, Refusal> {
    let refuse = |because: &str| {
        Refusal::new(
            ErrorCode::GroupIdNotFound,
            format!("Cannot upgrade classic group {group_id} to consumer group because {because}."),
        )
    };
    let malformed = |_| refuse("the embedded consumer protocol is malformed");
    let mut topics = BTreeSet::new();
    let mut upgraded = Vec::new();
    for member in members {
        // In the first rebalance no protocol is chosen yet.
        let subscription = (member.protocols.iter())
            .find(|(name, _)| protocol.is_none_or(|protocol| protocol == *name))
            .map_or(&[][..], |(_, metadata)| metadata);
        let (_, subscription) = consumer_protocol::subscription(subscription).map_err(malformed)?;
        let mut assigned = Partitions::new();
        // One that has never synced was assigned nothing.
        if !member.assignment.is_empty() {
            let assignment = consumer_protocol::assignment(member.assignment).map_err(malformed)?;
            if (assignment.user_data).is_some_and(|data| !data.is_empty()) {
                return Err(refuse(
                    "an unsupported custom assignor is in use. Please refer to the documentation or \
                     switch to a default assignor before re-attempting the upgrade",
                ));
            }
            for topic in &assignment.assigned_partitions {
                if let Some((id, _)) = view.topics.by_name(&topic.topic) {
                    let partitions = topic.partitions.iter();
                    (assigned.entry(id).or_default())
                        .extend(partitions.map(|partition| (*partition, generation)));
                }
            }
            assigned.retain(|_, partitions| !partitions.is_empty());
        }
        let owned = |text: &str| text.to_owned();
        let metadata = Metadata {
            instance_id: member.instance_id.map(owned),
            rack_id: (subscription.rack_id.as_deref())
                .filter(|rack| !rack.is_empty())
                .map(owned),
            client_id: owned(member.client_id),
            client_host: owned(member.client_host),
            topics: (subscription.topics.iter())
                .map(|topic| topic.clone().into_owned())
                .collect(),
            regex: String::new(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            assignor: None,
            classic: Some(Classic {
                session_timeout_ms: member.session_timeout_ms,
                protocols: (member.protocols.iter())
                    .map(|(name, metadata)| (owned(name), metadata.to_vec()))
                    .collect(),
            }),
        };
        topics.extend(metadata.topics.iter().cloned());
        let current = Current {
            epoch: generation,
            previous_epoch: generation,
            state: MemberState::Stable,
            assigned,
            revoking: Partitions::new(),
        };
        upgraded.push((member.id, metadata, current));
    }
    let names = topics.iter().map(String::as_str);
    let hash = metadata_hash(names, view.topics, &mut TopicHashes::default());

    let mut records = Vec::new();
    for (id, metadata, _) in &upgraded {
        records.push(records::member(group_id, id, metadata));
    }
    records.push(records::epoch(group_id, generation, hash));
    for (id, _, current) in &upgraded {
        let target: Assignment = (current.assigned.iter())
            .map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()))
            .collect();
        records.push(records::target_member(group_id, id, &target));
    }
    // When it was computed is not known, so the next one may come at once.
    records.push(records::target(group_id, generation, 0));
    for (id, _, current) in &upgraded {
        records.push(records::current(group_id, id, current));
    }
    Ok(records)
}

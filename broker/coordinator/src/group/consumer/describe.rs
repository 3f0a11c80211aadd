//! A consumer group as ConsumerGroupDescribe shows it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use esker_protocol::TopicId;
use esker_protocol::messages::consumer_group_describe_response::{
    Assignment as DescribedAssignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};

use super::ConsumerGroup;
use super::member::Member;
use super::target::elected;
use crate::assignor::Assignment;
use crate::view::View;

/// What Kafka calls a member of the classic protocol, and one of the consumer protocol.
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

impl ConsumerGroup {
    /// The group and its members.
    pub(crate) fn describe(&self, view: &View<'_>) -> DescribedGroup<'static> {
        let votes: BTreeMap<&str, usize> = (self.state.assignors().iter())
            .map(|(name, count)| (name.as_str(), *count))
            .collect();
        let nothing = Assignment::new();
        DescribedGroup {
            group_id: Cow::Owned(self.group_id.as_ref().to_owned()),
            group_state: Cow::Borrowed(self.state_name()),
            group_epoch: self.state.epoch(),
            assignment_epoch: self.state.target_epoch(),
            assignor_name: elected(&votes, view.configuration.settings()).name().into(),
            members: (self.state.members().values())
                .map(|member| {
                    let target = self.state.target_of(&member.id).unwrap_or(&nothing);
                    described(member, target, view)
                })
                .collect(),
            ..DescribedGroup::default()
        }
    }
}

fn described(member: &Member, target: &Assignment, view: &View<'_>) -> DescribedMember<'static> {
    let metadata = &member.metadata;
    let owned = |text: &String| Cow::Owned(text.clone());
    // What the member has yet to give up is still its own.
    let mut held = Assignment::new();
    for (topic, partitions) in (member.current.assigned.iter()).chain(&member.current.revoking) {
        held.entry(*topic).or_default().extend(partitions.keys());
    }
    DescribedMember {
        member_id: owned(&member.id),
        instance_id: metadata.instance_id.as_ref().map(owned),
        rack_id: metadata.rack_id.as_ref().map(owned),
        member_epoch: member.current.epoch,
        client_id: owned(&metadata.client_id),
        client_host: owned(&metadata.client_host),
        subscribed_topic_names: metadata.topics.iter().map(owned).collect(),
        subscribed_topic_regex: Some(owned(&metadata.regex)),
        assignment: named(&held, view),
        target_assignment: named(target, view),
        member_type: match member.uses_classic_protocol() {
            true => CLASSIC_MEMBER,
            false => CONSUMER_MEMBER,
        },
    }
}

// Topics that were deleted have no name any more and are left out.
fn named(assignment: &Assignment, view: &View<'_>) -> DescribedAssignment<'static> {
    let topic = |topic_id: TopicId, partitions: &std::collections::BTreeSet<i32>| {
        let (name, _) = view.topics.by_id(topic_id)?;
        Some(TopicPartitions {
            topic_id,
            topic_name: Cow::Owned(name.to_owned()),
            partitions: partitions.iter().copied().collect(),
        })
    };
    DescribedAssignment {
        topic_partitions: (assignment.iter())
            .filter_map(|(topic_id, partitions)| topic(*topic_id, partitions))
            .collect(),
    }
}

//! The way back: once no member speaks the consumer protocol any more, the group becomes a classic
//! one. Its tombstones come first, then the record of the classic group, which the shard takes up.

use std::borrow::Cow;
use std::collections::BTreeMap;

use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::messages::group_metadata_value::MemberMetadata;
use esker_protocol::messages::{GroupMetadataKey, GroupMetadataValue};
use esker_protocol::{ErrorCode, consumer_protocol};

use super::ConsumerGroup;
use super::classic::named;
use super::find::Found;
use super::member::{Classic, Member};
use crate::assignor::Assignment;
use crate::group::CONSUMER_PROTOCOL_TYPE;
use crate::record::{Key, Record, Value};
use crate::view::{MigrationPolicy, View};

impl ConsumerGroup {
    /// Whether the group becomes a classic one when these members leave.
    pub(super) fn may_downgrade_without(&self, leaving: &[&Member], view: &View<'_>) -> bool {
        let classic_leaving = (leaving.iter())
            .filter(|member| member.uses_classic_protocol())
            .count();
        let rest = self.state.members().len().saturating_sub(leaving.len());
        let classic_rest = self.state.classic_members().saturating_sub(classic_leaving);
        rest > 0 && classic_rest == rest && allows_downgrade(rest, view)
    }

    /// Whether the group becomes a classic one when a static member comes back as a classic member.
    pub(super) fn may_downgrade_for(&self, replaced: &Member, view: &View<'_>) -> bool {
        let members = self.state.members().len();
        !replaced.uses_classic_protocol()
            && self.state.classic_members() + 1 == members
            && allows_downgrade(members, view)
    }

    /// The member's records without a new target; whether the group has to rebalance for one.
    pub(super) fn advance_unassigned(
        &self,
        found: &Found,
        member: &mut Member,
        owned: &[TopicPartitions],
        records: &mut Vec<Record<'static>>,
        view: &View<'_>,
    ) -> Result<bool, ErrorCode> {
        let update = self
            .update(found, member, records, view)
            .map_err(|refusal| refusal.code)?;
        let is_behind = self.state.target_epoch() < update.epoch;
        if !is_behind {
            let id = (found.replaced.as_ref()).map_or(&member.id, |replaced| &replaced.id);
            let target = self.state.target_of(id).cloned().unwrap_or_default();
            self.reconcile(
                member,
                self.state.target_epoch(),
                &target,
                update.is_subscription_changed,
                Some(owned),
                records,
                view,
            )
            .map_err(|refusal| refusal.code)?;
        }
        Ok(is_behind)
    }

    /// The records of the change, with the member that joins instead of a static one.
    pub(super) fn downgrade(
        &self,
        leaving: &[&Member],
        joining: Option<(&Found, &Member)>,
        view: &View<'_>,
    ) -> Result<Vec<Record<'static>>, ErrorCode> {
        let replaced = joining.and_then(|(found, _)| found.replaced.as_ref());
        let joiner = joining.map(|(_, member)| member);
        let mut members: BTreeMap<&str, (&Member, &Classic, &Assignment)> = BTreeMap::new();
        let nothing = Assignment::new();
        for member in self.state.members().values().chain(joiner) {
            let is_gone = leaving.iter().any(|leaving| leaving.id == member.id)
                || replaced.is_some_and(|replaced| replaced.id == member.id);
            if is_gone {
                continue;
            }
            let Some(classic) = &member.metadata.classic else {
                continue;
            };
            let takes_over = replaced.filter(|_| joiner.is_some_and(|it| it.id == member.id));
            let heir_of = takes_over.map_or(&member.id, |replaced| &replaced.id);
            let target = self.state.target_of(heir_of).unwrap_or(&nothing);
            members.insert(&member.id, (member, classic, target));
        }
        let protocol = chosen(members.values().map(|(_, classic, _)| *classic))
            .ok_or(ErrorCode::InconsistentGroupProtocol)?;

        let ids = (self.state.members().keys())
            .filter(|id| replaced.is_none_or(|replaced| replaced.id != **id))
            .map(String::as_str)
            .chain(joiner.map(|member| member.id.as_str()));
        let mut records = self.tombstones_of(ids.collect());
        let mut written = Vec::new();
        for (id, (member, classic, target)) in &members {
            let subscription = classic.protocols.iter().find(|(name, _)| name == protocol);
            let subscription = subscription.map_or(&[][..], |(_, metadata)| metadata);
            let (version, _) = consumer_protocol::subscription(subscription)
                .map_err(|_| ErrorCode::UnknownServerError)?;
            let by_name = named(
                target
                    .iter()
                    .map(|(topic, partitions)| (*topic, partitions.clone())),
                view.topics,
            );
            let assignment = consumer_protocol::encode_assignment(&by_name, version)
                .map_err(|_| ErrorCode::UnknownServerError)?;
            let metadata = &member.metadata;
            written.push(MemberMetadata {
                member_id: Cow::Owned((*id).to_owned()),
                group_instance_id: metadata.instance_id.clone().map(Cow::Owned),
                client_id: Cow::Owned(metadata.client_id.clone()),
                client_host: Cow::Owned(metadata.client_host.clone()),
                rebalance_timeout: metadata.rebalance_timeout_ms,
                session_timeout: classic.session_timeout_ms,
                subscription: Cow::Owned(subscription.to_vec()),
                assignment: Cow::Owned(assignment.to_vec()),
            });
        }
        let value = GroupMetadataValue {
            protocol_type: Cow::Borrowed(CONSUMER_PROTOCOL_TYPE),
            generation: self.state.epoch(),
            protocol: Some(Cow::Owned(protocol.to_owned())),
            leader: members.keys().next().map(|id| Cow::Owned((*id).to_owned())),
            current_state_timestamp: view.now.wall.0,
            members: written,
        };
        records.push(Record {
            key: Key::GroupMetadata(GroupMetadataKey {
                group: Cow::Owned(self.group_id.as_ref().to_owned()),
            }),
            value: Some(Value::GroupMetadata(value)),
        });
        Ok(records)
    }
}

fn allows_downgrade(members: usize, view: &View<'_>) -> bool {
    let settings = view.configuration.settings();
    matches!(
        settings.consumer_migration,
        MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade
    ) && i64::try_from(members)
        .is_ok_and(|members| members <= i64::from(settings.classic_members_max))
}

// As classic groups choose: of the protocols that all know each member votes for the one it prefers.
fn chosen<'a>(members: impl Iterator<Item = &'a Classic> + Clone) -> Option<&'a str> {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = 0;
    for classic in members.clone() {
        count += 1;
        for (name, _) in &classic.protocols {
            *known.entry(name).or_default() += 1;
        }
    }
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for classic in members {
        let mut names = classic.protocols.iter().map(|(name, _)| name.as_str());
        let vote = names.find(|name| known.get(name).is_some_and(|known| *known >= count))?;
        *votes.entry(vote).or_default() += 1;
    }
    let most = votes.values().copied().max()?;
    (votes.into_iter()).find_map(|(name, votes)| (votes == most).then_some(name))
}

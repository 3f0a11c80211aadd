//! Members that go: by themselves, for a while, or because nothing was heard of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use esker_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::check::Refusal;
use super::member::{Current, LEAVE_STATIC_EPOCH, Member, Partitions};
use super::state::Subscribers;
use super::{ConsumerGroup, records};
use crate::group::Timer;
use crate::record::Record;
use crate::timers::Timers;
use crate::view::View;

impl ConsumerGroup {
    /// Answers a heartbeat that leaves, for good or for a while.
    pub(super) fn leave(
        &self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        view: &View<'_>,
        timers: &mut Timers<Timer>,
    ) -> Result<
        (
            Vec<Record<'static>>,
            ConsumerGroupHeartbeatResponse<'static>,
        ),
        Refusal,
    > {
        let member = match request.instance_id.as_deref() {
            None => (self.state.member(&request.member_id))
                .ok_or_else(|| self.unknown_member(&request.member_id))?,
            Some(instance_id) => self.static_member(instance_id, &request.member_id)?,
        };
        let records = match request.member_epoch {
            LEAVE_STATIC_EPOCH => vec![self.leave_for_a_while(member)],
            _ => self.without(&[member], view, timers),
        };
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(Cow::Owned(request.member_id.clone().into_owned())),
            member_epoch: request.member_epoch,
            ..ConsumerGroupHeartbeatResponse::default()
        };
        Ok((records, response))
    }

    // The member keeps what it was assigned until its session ends. Whoever takes its place is
    // assigned it from epoch 0 on, and commits under the old member id are refused.
    fn leave_for_a_while(&self, member: &Member) -> Record<'static> {
        let assigned: Partitions = (member.current.assigned.iter())
            .map(|(topic, partitions)| {
                let partitions = partitions.keys().map(|partition| (*partition, 0));
                (*topic, partitions.collect())
            })
            .collect();
        let current = Current {
            epoch: LEAVE_STATIC_EPOCH,
            assigned,
            revoking: Partitions::new(),
            ..(*member.current).clone()
        };
        records::current(&self.group_id, &member.id, &current)
    }

    /// The records of a group that some of its members leave. Where only classic members stay, they
    /// make a classic group of it.
    pub(super) fn without(
        &self,
        members: &[&Member],
        view: &View<'_>,
        timers: &mut Timers<Timer>,
    ) -> Vec<Record<'static>> {
        if members.is_empty() {
            return Vec::new();
        }
        // One that cannot become classic, or does not fit into a batch then, stays what it is.
        if self.may_downgrade_without(members, view)
            && let Ok(records) = self.downgrade(members, None, view)
            && self.check_bytes(&records, view).is_ok()
        {
            self.cancel_timers(timers);
            return records;
        }
        let mut records = Vec::new();
        let mut topics: BTreeMap<&str, Subscribers> = (self.state.subscribed_topics().iter())
            .map(|(topic, subscribers)| (topic.as_str(), *subscribers))
            .collect();
        let mut regexes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in members {
            records.extend(records::remove_member(&self.group_id, &member.id));
            for topic in &member.metadata.topics {
                let subscribers = topics.entry(topic).or_default();
                subscribers.by_name = subscribers.by_name.saturating_sub(1);
            }
            if let Some(regex) = member.metadata.regex() {
                *regexes.entry(regex).or_default() += 1;
            }
        }
        for (regex, leaving) in regexes {
            if self.state.subscribed_regexes().get(regex) != Some(&leaving) {
                continue;
            }
            records.push(records::regex_tombstone(&self.group_id, regex));
            let resolved = self.state.regexes().get(regex);
            for topic in resolved.iter().flat_map(|resolved| &resolved.topics) {
                let subscribers = topics.entry(topic).or_default();
                subscribers.by_regex = subscribers.by_regex.saturating_sub(1);
            }
        }
        topics.retain(|_, subscribers| !subscribers.is_none());
        let hash = self.hash_of(topics.keys().copied(), view);
        let epoch = self.state.epoch().saturating_add(1);
        records.push(records::epoch(&self.group_id, epoch, hash));
        records
    }
}

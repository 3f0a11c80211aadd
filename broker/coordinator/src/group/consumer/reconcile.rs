//! A member's way from what it owns to what it shall own.
//!
//! ```text
//!             target changed, nothing to give up      target changed, gives up partitions
//!   +--------------------------------------+  Stable  ----------------------+
//!   |                                      v    ^                           v
//!   +-- Unreleased <--- others still hold a part of the target --------- Unrevoked
//!            |                                  ^                           |
//!            +--- the last one was given up ----+---- it confirmed ---------+
//! ```
//!
//! Invariants
//! - A member is given a partition only while nobody else owns it or has yet to give it up.
//! - A partition leaves what a member owns only after the member, asked to give it up, came with a
//!   list of owned partitions that lacks it.
//! - The epoch of a member is that of the target only once it has given up what is not in it.

use std::collections::BTreeSet;

use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::{ErrorCode, TopicId};

use super::check::Refusal;
use super::member::{Current, Member, MemberState, Metadata, Partitions};
use super::state::State;
use crate::assignor::Assignment;
use crate::view::Topics;

/// One look at a member: its state, what it shall own and what it says that it owns.
pub(super) struct Reconciliation<'a> {
    pub(super) state: &'a State,
    pub(super) topics: &'a dyn Topics,
    pub(super) member: &'a Member,
    pub(super) target_epoch: i32,
    pub(super) target: &'a Assignment,
    /// Whether this request changed the member's subscription: topics that it left are then taken
    /// from it at once, without waiting for the next target.
    pub(super) is_subscription_changed: bool,
    /// What the member says that it owns; none when it did not say.
    pub(super) owned: Option<&'a [TopicPartitions]>,
}

impl Reconciliation<'_> {
    /// What the member owns from now on, or none if nothing changes.
    pub(super) fn next(&self) -> Result<Option<Current>, Refusal> {
        let current = &self.member.current;
        if !self.is_subscription_changed && current.is_reconciled_to(self.target_epoch) {
            return Ok(None);
        }
        let next = match current.state {
            MemberState::Stable if current.epoch != self.target_epoch => self.advance(current.epoch),
            MemberState::Unrevoked if !self.still_owns(&current.revoking) => {
                self.advance(current.epoch)
            }
            MemberState::Stable | MemberState::Unrevoked if self.is_subscription_changed => {
                self.leave_topics()
            }
            MemberState::Stable | MemberState::Unrevoked => return Ok(None),
            MemberState::Unreleased => self.advance(current.epoch),
            MemberState::Unknown if matches!(self.owned, Some([])) => {
                self.advance(self.target_epoch)
            }
            MemberState::Unknown => {
                return Err(Refusal::new(
                    ErrorCode::FencedMemberEpoch,
                    "The consumer group member is in a unknown state. \
                     The member must abandon all its partitions and rejoin.",
                ));
            }
        };
        Ok((next != **current).then_some(next))
    }

    // Towards the target as far as it goes.
    fn advance(&self, epoch: i32) -> Current {
        let current = &self.member.current;
        let subscribed = subscribed_ids(&self.member.metadata, self.state, self.topics);
        let mut keep = Partitions::new();
        let mut revoke = Partitions::new();
        for (topic, partitions) in &current.assigned {
            let target = self
                .target
                .get(topic)
                .filter(|_| subscribed.contains(topic));
            for (partition, epoch) in partitions {
                let is_kept = target.is_some_and(|target| target.contains(partition));
                let place = if is_kept { &mut keep } else { &mut revoke };
                place.entry(*topic).or_default().insert(*partition, *epoch);
            }
        }
        if !revoke.is_empty() && self.still_owns(&revoke) {
            return Current {
                epoch,
                previous_epoch: current.epoch,
                state: MemberState::Unrevoked,
                assigned: keep,
                revoking: revoke,
            };
        }
        let mut waits = false;
        for (topic, partitions) in self.target {
            if !subscribed.contains(topic) {
                continue;
            }
            for partition in partitions {
                if contains(&current.assigned, *topic, *partition) {
                    continue;
                }
                // What this member itself was asked to give up, and gave up, is free for it.
                let is_mine = contains(&current.revoking, *topic, *partition);
                if self.state.is_owned(*topic, *partition) && !is_mine {
                    waits = true;
                } else {
                    keep.entry(*topic)
                        .or_default()
                        .insert(*partition, self.target_epoch);
                }
            }
        }
        Current {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state: match waits {
                true => MemberState::Unreleased,
                false => MemberState::Stable,
            },
            assigned: keep,
            revoking: Partitions::new(),
        }
    }

    // Only topics that the member no longer subscribes to are taken from it.
    fn leave_topics(&self) -> Current {
        let current = &self.member.current;
        let subscribed = subscribed_ids(&self.member.metadata, self.state, self.topics);
        if (current.assigned.keys()).all(|topic| subscribed.contains(topic)) {
            return (**current).clone();
        }
        let mut assigned = Partitions::new();
        let mut revoking = current.revoking.clone();
        for (topic, partitions) in &current.assigned {
            if subscribed.contains(topic) {
                assigned.insert(*topic, partitions.clone());
            } else {
                revoking.entry(*topic).or_default().extend(partitions);
            }
        }
        let next = Current {
            previous_epoch: current.epoch,
            assigned,
            ..(**current).clone()
        };
        match self.still_owns(&revoking) {
            true => Current {
                state: MemberState::Unrevoked,
                revoking,
                ..next
            },
            false => next,
        }
    }

    fn still_owns(&self, revoking: &Partitions) -> bool {
        let Some(owned) = self.owned else {
            return true;
        };
        (owned.iter()).any(|topic| {
            (topic.partitions.iter())
                .any(|partition| contains(revoking, topic.topic_id, *partition))
        })
    }
}

fn contains(partitions: &Partitions, topic: TopicId, partition: i32) -> bool {
    partitions
        .get(&topic)
        .is_some_and(|partitions| partitions.contains_key(&partition))
}

/// The ids of the topics that a member subscribes to, as far as they exist. An expression that was
/// not resolved yet matches nothing.
pub(super) fn subscribed_ids(
    metadata: &Metadata,
    state: &State,
    topics: &dyn Topics,
) -> BTreeSet<TopicId> {
    let matched = metadata
        .regex()
        .and_then(|regex| state.regexes().get(regex))
        .into_iter()
        .flat_map(|resolved| &resolved.topics);
    (metadata.topics.iter().chain(matched))
        .filter_map(|name| Some(topics.by_name(name)?.0))
        .collect()
}

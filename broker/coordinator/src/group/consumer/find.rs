//! Which member a request is about, and whether it may speak for it.

use std::sync::Arc;

use esker_protocol::messages::ConsumerGroupHeartbeatRequest;
use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::{ErrorCode, TopicId};

use super::check::Refusal;
use super::member::{Current, JOIN_EPOCH, LEAVE_STATIC_EPOCH, Member, Partitions};
use super::state::State;
use super::{ConsumerGroup, records};
use crate::assignor::Assignment;
use crate::random::Random;
use crate::record::Record;

/// The member that a request is about, before it says anything new.
pub(super) struct Found {
    pub(super) member: Member,
    /// The static member whose place it takes.
    pub(super) replaced: Option<Member>,
}

impl Found {
    /// The records by which a static member takes another's place.
    pub(super) fn replacement(&self, group_id: &str, state: &State) -> Vec<Record<'static>> {
        let Some(replaced) = &self.replaced else {
            return Vec::new();
        };
        let nothing = Assignment::new();
        let target = state.target_of(&replaced.id).unwrap_or(&nothing);
        let mut records = Vec::from(records::remove_member(group_id, &replaced.id));
        records.push(records::member(
            group_id,
            &self.member.id,
            &self.member.metadata,
        ));
        records.push(records::target_member(group_id, &self.member.id, target));
        records.push(records::current(
            group_id,
            &self.member.id,
            &self.member.current,
        ));
        records
    }
}

impl ConsumerGroup {
    /// The member of a heartbeat without an instance id.
    pub(super) fn find_dynamic(
        &self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        random: &mut Random,
    ) -> Result<Found, Refusal> {
        let member = match self.state.member(&request.member_id) {
            Some(member) => member.clone(),
            None if request.member_epoch == JOIN_EPOCH => self.newcomer(&request.member_id, random),
            None => return Err(self.unknown_member(&request.member_id)),
        };
        check_epoch(
            &member,
            request.member_epoch,
            request.topic_partitions.as_deref(),
        )?;
        Ok(Found {
            member,
            replaced: None,
        })
    }

    /// The member of a heartbeat with one.
    pub(super) fn find_static(
        &self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        instance_id: &str,
        random: &mut Random,
    ) -> Result<Found, Refusal> {
        let existing = self.state.static_member(instance_id);
        if request.member_epoch != JOIN_EPOCH {
            let member = self.static_member(instance_id, &request.member_id)?;
            check_epoch(
                member,
                request.member_epoch,
                request.topic_partitions.as_deref(),
            )?;
            return Ok(Found {
                member: member.clone(),
                replaced: None,
            });
        }
        let Some(existing) = existing else {
            let member = match self.state.member(&request.member_id) {
                Some(member) => member.clone(),
                None => self.newcomer(&request.member_id, random),
            };
            return Ok(Found {
                member,
                replaced: None,
            });
        };
        if existing.id == request.member_id {
            // It comes back under its own id, with nothing.
            return Ok(Found {
                member: existing.clone(),
                replaced: None,
            });
        }
        if !existing.uses_classic_protocol() && existing.current.epoch != LEAVE_STATIC_EPOCH {
            return Err(Refusal::new(
                ErrorCode::UnreleasedInstanceId,
                format!(
                    "Static member {} with instance id {instance_id} cannot join the group because \
                     the instance id is owned by {} member.",
                    request.member_id, existing.id
                ),
            ));
        }
        let id = self.newcomer(&request.member_id, random).id;
        Ok(replacing(existing, id))
    }

    /// The static member of that instance, if it is this one.
    pub(super) fn static_member(
        &self,
        instance_id: &str,
        member_id: &str,
    ) -> Result<&Member, Refusal> {
        let Some(member) = self.state.static_member(instance_id) else {
            return Err(Refusal::new(
                ErrorCode::UnknownMemberId,
                format!("Instance id {instance_id} is unknown."),
            ));
        };
        if member.id != member_id {
            return Err(Refusal::new(
                ErrorCode::FencedInstanceId,
                format!(
                    "Static member {member_id} with instance id {instance_id} was fenced by member {}.",
                    member.id
                ),
            ));
        }
        Ok(member)
    }

    pub(super) fn unknown_member(&self, member_id: &str) -> Refusal {
        Refusal::new(
            ErrorCode::UnknownMemberId,
            format!(
                "Member {member_id} is not a member of group {}.",
                self.group_id
            ),
        )
    }

    fn newcomer(&self, member_id: &str, random: &mut Random) -> Member {
        match member_id {
            "" => Member::new(&made_up_id(random)),
            id => Member::new(id),
        }
    }
}

/// A member that takes the place of a static one, under its own id.
pub(super) fn replacing(existing: &Member, id: String) -> Found {
    let current = Current {
        epoch: JOIN_EPOCH,
        previous_epoch: JOIN_EPOCH,
        ..(*existing.current).clone()
    };
    Found {
        member: Member {
            id,
            metadata: Arc::clone(&existing.metadata),
            current: Arc::new(current),
        },
        replaced: Some(existing.clone()),
    }
}

/// An id as Kafka makes them up.
pub(super) fn made_up_id(random: &mut Random) -> String {
    loop {
        if let Some(id) = TopicId::from_random(random.uuid_bytes()) {
            return id.to_string();
        }
    }
}

fn check_epoch(
    member: &Member,
    epoch: i32,
    owned: Option<&[TopicPartitions]>,
) -> Result<(), Refusal> {
    let current = &member.current;
    let order = match epoch.cmp(&current.epoch) {
        _ if epoch == JOIN_EPOCH => return Ok(()),
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Greater => "greater",
        // The reply that told the new epoch may have been lost.
        std::cmp::Ordering::Less
            if epoch == current.previous_epoch && owns_only(owned, &current.assigned) =>
        {
            return Ok(());
        }
        std::cmp::Ordering::Less => "smaller",
    };
    Err(Refusal::new(
        ErrorCode::FencedMemberEpoch,
        format!(
            "The consumer group member has a {order} member epoch ({epoch}) than the one known by \
             the group coordinator ({}). The member must abandon all its partitions and rejoin.",
            current.epoch
        ),
    ))
}

fn owns_only(owned: Option<&[TopicPartitions]>, assigned: &Partitions) -> bool {
    owned.is_some_and(|owned| {
        owned.iter().all(|topic| {
            let of_topic = assigned.get(&topic.topic_id);
            of_topic.is_some_and(|of_topic| {
                (topic.partitions.iter()).all(|partition| of_topic.contains_key(partition))
            })
        })
    })
}

//! Members of a consumer group that still speak the classic protocol.
//!
//! They rejoin for each step that a member of the consumer protocol takes with a heartbeat:
//!
//! ```text
//! Heartbeat -> REBALANCE_IN_PROGRESS   there is a step to take
//! JoinGroup -> generation              the step is taken; the generation is the member's epoch
//! SyncGroup -> assignment              what the member owns
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::messages::consumer_protocol_assignment::TopicPartition;
use esker_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use esker_protocol::{ErrorCode, TopicId, consumer_protocol};

use super::find::{Found, made_up_id, replacing};
use super::heartbeat::due;
use super::member::{Classic, Member, MemberState, Metadata};
use super::{ConsumerGroup, TimerKind};
use crate::group::classic::rebalance_timeout_ms;
use crate::group::{CONSUMER_PROTOCOL_TYPE, Timer, Turn};
use crate::step::RequestContext;
use crate::timers::Timers;
use crate::view::{Topics, View};

/// From this version on a dynamic member is given its id before it joins.
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;

impl ConsumerGroup {
    /// Answers a JoinGroup, and pushes its records into the turn.
    pub(crate) fn classic_join(
        &mut self,
        request: &JoinGroupRequest<'_>,
        context: &RequestContext<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<JoinGroupResponse<'static>, ErrorCode> {
        let view = turn.view;
        let instance_id = request.group_instance_id.as_deref();
        let is_unknown = request.member_id.is_empty();
        let member_id = match is_unknown {
            true => made_up_id(turn.random),
            false => request.member_id.clone().into_owned(),
        };
        (self.check_size(&member_id, &view)).map_err(|refusal| refusal.code)?;
        let Some(protocol) = request.protocols.first().filter(|_| self.supports(request)) else {
            return Err(ErrorCode::InconsistentGroupProtocol);
        };
        if instance_id.is_none() && is_unknown && context.version >= MEMBER_ID_REQUIRED_VERSION {
            return Ok(JoinGroupResponse {
                error_code: ErrorCode::MemberIdRequired.code(),
                member_id: Cow::Owned(member_id),
                ..JoinGroupResponse::default()
            });
        }
        let found = match instance_id {
            None => self.as_known(member_id),
            Some(instance_id) if is_unknown => match self.state.static_member(instance_id) {
                Some(existing) => replacing(existing, member_id),
                None => self.as_known(member_id),
            },
            Some(instance_id) => Found {
                member: (self.static_member(instance_id, &member_id))
                    .map_err(|refusal| refusal.code)?
                    .clone(),
                replaced: None,
            },
        };
        let (_, subscription) = consumer_protocol::subscription(&protocol.metadata)
            .map_err(|_| ErrorCode::UnknownServerError)?;
        let mut member = found.member.clone();
        member.metadata = Arc::new(joined(&member.metadata, request, &subscription, context));
        let owned = owned_partitions(&subscription, view.topics);

        let mut records = found.replacement(&self.group_id, &self.state);
        let is_downgrade = (instance_id.and_then(|id| self.state.static_member(id)))
            .is_some_and(|existing| self.may_downgrade_for(existing, &view));
        if is_downgrade {
            let rebalances =
                self.advance_unassigned(&found, &mut member, &owned, &mut records, &view)?;
            records.extend(self.downgrade(&[], Some((&found, &member)), &view)?);
            (self.check_bytes(&records, &view)).map_err(|refusal| refusal.code)?;
            turn.rebalances_when_downgraded = rebalances;
            self.cancel_timers(turn.timers);
        } else {
            self.advance(
                &found,
                &mut member,
                Some(&owned),
                &mut records,
                &view,
                turn.timers,
            )
            .map_err(|refusal| refusal.code)?;
            let mut set = |kind, delay_ms| {
                turn.timers.set(self.timer_key(kind), due(&view, delay_ms));
            };
            set(
                TimerKind::Session(member.id.clone()),
                request.session_timeout_ms,
            );
            set(
                TimerKind::Sync(member.id.clone()),
                member.metadata.rebalance_timeout_ms,
            );
            turn.timers
                .cancel(&self.timer_key(TimerKind::Join(member.id.clone())));
        }
        turn.records.extend(records);
        Ok(JoinGroupResponse {
            member_id: Cow::Owned(member.id.clone()),
            generation_id: member.current.epoch,
            protocol_type: Some(Cow::Borrowed(CONSUMER_PROTOCOL_TYPE)),
            protocol_name: Some(Cow::Owned(protocol.name.clone().into_owned())),
            ..JoinGroupResponse::default()
        })
    }

    /// Answers a SyncGroup: what the member owns.
    pub(crate) fn classic_sync(
        &mut self,
        request: &SyncGroupRequest<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<SyncGroupResponse<'static>, ErrorCode> {
        let view = turn.view;
        let instance_id = request.group_instance_id.as_deref();
        let (member, classic) = self.classic_member(&request.member_id, instance_id)?;
        if member.current.epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let (name, metadata) = classic
            .protocols
            .first()
            .ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let differs = |given: Option<&str>, ours: &str| given.is_some_and(|given| given != ours);
        if differs(request.protocol_type.as_deref(), CONSUMER_PROTOCOL_TYPE)
            || differs(request.protocol_name.as_deref(), name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that has yet to give something up has rejoined already.
        let is_behind = self.state.target_epoch() > member.current.epoch
            && member.current.state != MemberState::Unrevoked;
        if is_behind {
            self.await_join(member, &view, turn.timers);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let (version, _) =
            consumer_protocol::subscription(metadata).map_err(|_| ErrorCode::UnknownServerError)?;
        let topics = named(
            (member.current.assigned.iter())
                .map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())),
            view.topics,
        );
        let assignment = consumer_protocol::encode_assignment(&topics, version)
            .map_err(|_| ErrorCode::UnknownServerError)?;
        turn.timers
            .cancel(&self.timer_key(TimerKind::Sync(member.id.clone())));
        turn.timers.set(
            self.timer_key(TimerKind::Session(member.id.clone())),
            due(&view, classic.session_timeout_ms),
        );
        Ok(SyncGroupResponse {
            protocol_type: (request.protocol_type.clone())
                .map(|text| Cow::Owned(text.into_owned())),
            protocol_name: (request.protocol_name.clone())
                .map(|text| Cow::Owned(text.into_owned())),
            assignment: Cow::Owned(assignment.to_vec()),
            ..SyncGroupResponse::default()
        })
    }

    /// Answers a Heartbeat: whether the member shall rejoin.
    pub(crate) fn classic_heartbeat(
        &mut self,
        request: &HeartbeatRequest<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), ErrorCode> {
        let view = turn.view;
        let instance_id = request.group_instance_id.as_deref();
        let (member, classic) = self.classic_member(&request.member_id, instance_id)?;
        if member.current.epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        turn.timers.set(
            self.timer_key(TimerKind::Session(member.id.clone())),
            due(&view, classic.session_timeout_ms),
        );
        let rejoins = member.current.epoch < self.state.target_epoch()
            || match member.current.state {
                MemberState::Unrevoked => true,
                MemberState::Unreleased => !self.waits_for_others(member),
                MemberState::Stable | MemberState::Unknown => false,
            };
        if rejoins {
            self.await_join(member, &view, turn.timers);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// The members that a LeaveGroup names go; what becomes of each.
    pub(crate) fn classic_leave<'r>(
        &mut self,
        names: impl Iterator<Item = (&'r str, Option<&'r str>)>,
        turn: &mut Turn<'_, '_>,
    ) -> Vec<Result<(), ErrorCode>> {
        let view = turn.view;
        let mut leaving: BTreeMap<&str, &Member> = BTreeMap::new();
        let answers = names
            .map(|(member_id, instance_id)| {
                // Administrators name a static member by its instance id alone.
                let member = match instance_id {
                    Some(instance_id) if member_id.is_empty() => (self.state)
                        .static_member(instance_id)
                        .ok_or(ErrorCode::UnknownMemberId)?,
                    _ => self.validated(member_id, instance_id)?,
                };
                leaving.insert(&member.id, member);
                Ok(())
            })
            .collect();
        let leaving: Vec<&Member> = leaving.into_values().collect();
        let records = self.without(&leaving, &view, turn.timers);
        turn.records.extend(records);
        answers
    }

    // Whether a part of the member's target is still with others.
    fn waits_for_others(&self, member: &Member) -> bool {
        let Some(target) = self.state.target_of(&member.id) else {
            return false;
        };
        target.iter().any(|(topic, partitions)| {
            let assigned = member.current.assigned.get(topic);
            partitions.iter().any(|partition| {
                !assigned.is_some_and(|assigned| assigned.contains_key(partition))
                    && self.state.is_owned(*topic, *partition)
            })
        })
    }

    // The member is removed if it does not rejoin within its rebalance timeout.
    fn await_join(&self, member: &Member, view: &View<'_>, timers: &mut Timers<Timer>) {
        let key = self.timer_key(TimerKind::Join(member.id.clone()));
        if timers.get(&key).is_none() {
            timers.set(key, due(view, member.metadata.rebalance_timeout_ms));
        }
    }

    // A name that every classic member knows; all embed the same subscription.
    fn supports(&self, request: &JoinGroupRequest<'_>) -> bool {
        request.protocol_type == CONSUMER_PROTOCOL_TYPE
            && (request.protocols.iter()).any(|protocol| {
                self.state.classic_members_with(&protocol.name) == self.state.classic_members()
            })
    }

    fn as_known(&self, member_id: String) -> Found {
        Found {
            member: match self.state.member(&member_id) {
                Some(member) => member.clone(),
                None => Member::new(&member_id),
            },
            replaced: None,
        }
    }

    fn validated(&self, member_id: &str, instance_id: Option<&str>) -> Result<&Member, ErrorCode> {
        match instance_id {
            None => self
                .state
                .member(member_id)
                .ok_or(ErrorCode::UnknownMemberId),
            Some(instance_id) => self
                .static_member(instance_id, member_id)
                .map_err(|refusal| refusal.code),
        }
    }

    fn classic_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(&Member, &Classic), ErrorCode> {
        let member = self.validated(member_id, instance_id)?;
        let classic = member.metadata.classic.as_ref();
        Ok((member, classic.ok_or(ErrorCode::UnknownMemberId)?))
    }
}

fn joined(
    before: &Metadata,
    request: &JoinGroupRequest<'_>,
    subscription: &ConsumerProtocolSubscription<'_>,
    context: &RequestContext<'_>,
) -> Metadata {
    let text = |now: Option<&str>, before: &Option<String>| match now {
        Some(text) => Some(text.to_owned()),
        None => before.clone(),
    };
    let rack_id = subscription
        .rack_id
        .as_deref()
        .filter(|rack| !rack.is_empty());
    Metadata {
        instance_id: text(request.group_instance_id.as_deref(), &before.instance_id),
        rack_id: text(rack_id, &before.rack_id),
        client_id: context.client_id.to_owned(),
        client_host: context.client_host.to_owned(),
        topics: (subscription.topics.iter())
            .map(|topic| topic.clone().into_owned())
            .collect(),
        regex: String::new(),
        rebalance_timeout_ms: match rebalance_timeout_ms(request, context.version) {
            -1 => before.rebalance_timeout_ms,
            timeout_ms => timeout_ms,
        },
        assignor: before.assignor.clone(),
        classic: Some(Classic {
            session_timeout_ms: request.session_timeout_ms,
            protocols: (request.protocols.iter())
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

fn owned_partitions(
    subscription: &ConsumerProtocolSubscription<'_>,
    topics: &dyn Topics,
) -> Vec<TopicPartitions> {
    (subscription.owned_partitions.iter())
        .filter_map(|owned| {
            Some(TopicPartitions {
                topic_id: topics.by_name(&owned.topic)?.0,
                partitions: owned.partitions.clone(),
            })
        })
        .collect()
}

/// An assignment by names. Topics that were deleted have none any more and are left out.
pub(super) fn named(
    assigned: impl Iterator<Item = (TopicId, BTreeSet<i32>)>,
    topics: &dyn Topics,
) -> ConsumerProtocolAssignment<'static> {
    ConsumerProtocolAssignment {
        assigned_partitions: assigned
            .filter_map(|(topic, partitions)| {
                Some(TopicPartition {
                    topic: Cow::Owned(topics.by_id(topic)?.0.to_owned()),
                    partitions: partitions.into_iter().collect(),
                })
            })
            .collect(),
        user_data: None,
    }
}

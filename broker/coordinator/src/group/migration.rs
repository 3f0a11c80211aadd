//! Live groups that change their type, and classic members of consumer groups.
//!
//! ```text
//!            ConsumerGroupHeartbeat with epoch 0
//! Classic ---------------------------------------> Consumer, with members of both protocols
//!         <---------------------------------------
//!            the last member of the consumer protocol leaves, or comes back as a classic one
//! ```
//! Either way is one batch: the tombstones of the old group and the records of the new one. The
//! policy is `group.consumer.migration.policy`.

use std::borrow::Cow;

use esker_protocol::ErrorCode;
use esker_protocol::messages::leave_group_response::MemberResponse;
use esker_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};

use super::classic::ClassicGroup;
use super::consumer::{
    ClassicMember, ConsumerGroup, Refusal, check_heartbeat, session_timer, upgrade,
};
use super::{CONSUMER_PROTOCOL_TYPE, Turn};
use crate::size;
use crate::step::{RequestContext, Response, Ticket};
use crate::view::{MigrationPolicy, View};

/// The version from which a LeaveGroup names several members.
const LEAVE_MEMBERS_VERSION_MIN: i16 = 3;

/// A ConsumerGroupHeartbeat to a classic group, empty or not.
pub(crate) fn consumer_heartbeat(
    classic: &mut ClassicGroup,
    request: &ConsumerGroupHeartbeatRequest<'_>,
    ticket: Ticket,
    context: &RequestContext<'_>,
    turn: &mut Turn<'_, '_>,
) {
    let response = upgrade_by(classic, request, context, turn);
    let response = response.unwrap_or_else(Refusal::into_response);
    turn.reply(ticket, Response::ConsumerGroupHeartbeat(response));
}

// The member joins a group that exists in these records only: the shard replays them afterwards.
fn upgrade_by(
    classic: &mut ClassicGroup,
    request: &ConsumerGroupHeartbeatRequest<'_>,
    context: &RequestContext<'_>,
    turn: &mut Turn<'_, '_>,
) -> Result<ConsumerGroupHeartbeatResponse<'static>, Refusal> {
    let view = turn.view;
    check_heartbeat(request, context.version, view.configuration.settings())?;
    let group_id = &*request.group_id;
    if request.member_epoch != 0 {
        return Err(Refusal::new(
            ErrorCode::GroupIdNotFound,
            format!("Group {group_id} is not a consumer group."),
        ));
    }
    let mut records = Vec::new();
    let mut sessions = Vec::new();
    if !classic.is_empty() {
        allow_upgrade(classic, group_id, &view)?;
        let members: Vec<ClassicMember<'_>> = classic
            .members()
            .map(|(id, member)| ClassicMember {
                id,
                instance_id: member.instance_id.as_deref(),
                client_id: &member.client_id,
                client_host: &member.client_host,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: (member.protocols.iter())
                    .map(|protocol| (&*protocol.name, &*protocol.metadata))
                    .collect(),
                assignment: &member.assignment,
            })
            .collect();
        let generation = classic.generation();
        records = upgrade(group_id, generation, classic.protocol(), &members, &view)?;
        sessions.extend(
            (members.iter()).map(|member| (member.id.to_owned(), member.session_timeout_ms)),
        );
    }
    let mut group = ConsumerGroup::new(group_id);
    for record in &records {
        group.replay(record);
    }
    records.insert(0, classic.tombstone());
    let (joined, response) = group.heartbeat(request, context, &view, turn.timers, turn.random);
    if response.error_code != ErrorCode::None.code() {
        return Ok(response);
    }
    records.extend(joined);
    let batch_bytes_max = view.configuration.settings().batch_bytes_max;
    if !size::fits(&records, batch_bytes_max) {
        return Err(Refusal::new(
            ErrorCode::UnknownServerError,
            format!(
                "Cannot upgrade classic group {group_id} to consumer group because it is too large."
            ),
        ));
    }
    // Whoever waits for the classic rebalance rejoins for the one that begins now.
    classic.release(ErrorCode::RebalanceInProgress, turn);
    classic.cancel_timers(turn.timers);
    for (member_id, timeout_ms) in sessions {
        let due_ms = turn.due_in(i64::from(timeout_ms));
        turn.timers.set(session_timer(group_id, member_id), due_ms);
    }
    turn.records.append(&mut records);
    Ok(response)
}

fn allow_upgrade(classic: &ClassicGroup, group_id: &str, view: &View<'_>) -> Result<(), Refusal> {
    let settings = view.configuration.settings();
    let is_enabled = matches!(
        settings.consumer_migration,
        MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade
    );
    let because = if !is_enabled {
        "online upgrade is disabled"
    } else if classic.protocol_type() != Some(CONSUMER_PROTOCOL_TYPE) {
        "the group does not use the consumer embedded protocol"
    } else if i64::try_from(classic.member_count())
        .is_ok_and(|members| members > i64::from(settings.consumer_members_max))
    {
        "the group size exceeds the consumer group maximum size"
    } else {
        return Ok(());
    };
    Err(Refusal::new(
        ErrorCode::GroupIdNotFound,
        format!("Cannot upgrade classic group {group_id} to consumer group because {because}."),
    ))
}

/// A JoinGroup to a consumer group with members.
pub(crate) fn join(
    group: &mut ConsumerGroup,
    request: &JoinGroupRequest<'_>,
    ticket: Ticket,
    context: &RequestContext<'_>,
    turn: &mut Turn<'_, '_>,
) {
    let response = group.classic_join(request, context, turn);
    // Unlike one to a classic group, such a refusal names no member.
    let response = response.unwrap_or_else(|error| JoinGroupResponse {
        error_code: error.code(),
        ..JoinGroupResponse::default()
    });
    turn.reply(ticket, Response::JoinGroup(response));
}

/// A SyncGroup to a consumer group with members.
pub(crate) fn sync(
    group: &mut ConsumerGroup,
    request: &SyncGroupRequest<'_>,
    ticket: Ticket,
    _context: &RequestContext<'_>,
    turn: &mut Turn<'_, '_>,
) {
    let response = group.classic_sync(request, turn);
    let response = response.unwrap_or_else(|error| SyncGroupResponse {
        error_code: error.code(),
        ..SyncGroupResponse::default()
    });
    turn.reply(ticket, Response::SyncGroup(response));
}

/// A Heartbeat to a consumer group.
pub(crate) fn heartbeat(
    group: &mut ConsumerGroup,
    request: &HeartbeatRequest<'_>,
    ticket: Ticket,
    _context: &RequestContext<'_>,
    turn: &mut Turn<'_, '_>,
) {
    let error = match group.classic_heartbeat(request, turn) {
        Ok(()) => ErrorCode::None,
        Err(error) => error,
    };
    let response = HeartbeatResponse {
        error_code: error.code(),
        ..HeartbeatResponse::default()
    };
    turn.reply(ticket, Response::Heartbeat(response));
}

/// A LeaveGroup to a consumer group. Versions below 3 name one member outside of `members`.
pub(crate) fn leave(
    group: &mut ConsumerGroup,
    request: &LeaveGroupRequest<'_>,
    ticket: Ticket,
    context: &RequestContext<'_>,
    turn: &mut Turn<'_, '_>,
) {
    let code = |answer: &Result<(), ErrorCode>| match answer {
        Ok(()) => ErrorCode::None.code(),
        Err(error) => error.code(),
    };
    let response = if context.version < LEAVE_MEMBERS_VERSION_MIN {
        let names = std::iter::once((&*request.member_id, None));
        let answers = group.classic_leave(names, turn);
        LeaveGroupResponse {
            error_code: answers.first().map_or(0, code),
            ..LeaveGroupResponse::default()
        }
    } else {
        let names = (request.members.iter())
            .map(|member| (&*member.member_id, member.group_instance_id.as_deref()));
        let answers = group.classic_leave(names, turn);
        let members = (request.members.iter().zip(&answers))
            .map(|(member, answer)| MemberResponse {
                member_id: Cow::Owned(member.member_id.clone().into_owned()),
                group_instance_id: (member.group_instance_id.clone())
                    .map(|id| Cow::Owned(id.into_owned())),
                error_code: code(answer),
            })
            .collect();
        LeaveGroupResponse {
            members,
            ..LeaveGroupResponse::default()
        }
    };
    turn.reply(ticket, Response::LeaveGroup(response));
}

#[cfg(test)]
mod tests;

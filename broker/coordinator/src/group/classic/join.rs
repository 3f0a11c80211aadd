//! JoinGroup.

use std::sync::Arc;

use esker_protocol::ErrorCode;
use esker_protocol::messages::join_group_response::JoinGroupResponseMember;
use esker_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use esker_protocol::primitive::STRING_BYTES_MAX;

use super::member::{protocol_bytes, rebalance_timeout_ms};
use super::{
    BATCHES_HELD_MAX, ClassicGroup, Member, NEW_MEMBER_JOIN_MS, PENDING_MEMBERS_MAX, Protocol,
    State, WaitingJoin, join_error, sync_error,
};
use crate::group::Turn;
use crate::record::Record;
use crate::step::{RequestContext, Ticket};

/// From this version on a dynamic member first gets an id, and joins with it (KIP-394).
const MEMBER_ID_VERSION_MIN: i16 = 4;
/// From this version on a leader can be told not to assign (KIP-814).
const SKIP_ASSIGNMENT_VERSION_MIN: i16 = 9;

/// A join on its way.
#[derive(Clone, Copy)]
struct Join<'a> {
    request: &'a JoinGroupRequest<'a>,
    context: &'a RequestContext<'a>,
    waiting: WaitingJoin,
}

impl Join<'_> {
    fn refuse(&self, member_id: &str, error: ErrorCode, turn: &mut Turn<'_, '_>) {
        self.waiting.reply(join_error(member_id, error), turn);
    }
}

impl ClassicGroup {
    pub(crate) fn join(
        &mut self,
        request: &JoinGroupRequest<'_>,
        ticket: Ticket,
        context: &RequestContext<'_>,
        turn: &mut Turn<'_, '_>,
    ) {
        let version = context.version;
        let join = Join {
            request,
            context,
            waiting: WaitingJoin { ticket, version },
        };
        if !self.has_room_for(&request.member_id, turn) {
            self.remove(&Arc::from(&*request.member_id), turn);
            return join.refuse("", ErrorCode::GroupMaxSizeReached, turn);
        }
        let protocols = Protocol::of_request(request);
        if !self.supports(&request.protocol_type, &protocols) {
            let error = ErrorCode::InconsistentGroupProtocol;
            return join.refuse(&request.member_id, error, turn);
        }
        let held = self.members.get(&*request.member_id);
        let freed = held.map_or(0, |member| protocol_bytes(&member.protocols));
        let bytes_max = BATCHES_HELD_MAX * turn.view.configuration.settings().batch_bytes_max;
        if self.bytes - freed + protocol_bytes(&protocols) > bytes_max {
            return join.refuse(&request.member_id, ErrorCode::GroupMaxSizeReached, turn);
        }
        if request.member_id.is_empty() {
            self.join_unknown(join, protocols, turn);
        } else {
            self.join_known(join, protocols, turn);
        }
    }

    /// Of a group above its limit the members that rejoin last are sent away.
    fn has_room_for(&self, member_id: &str, turn: &Turn<'_, '_>) -> bool {
        let members_max = turn.view.configuration.settings().classic_members_max;
        let members_max = usize::try_from(members_max).unwrap_or(0);
        let member = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.waiting_join.is_some())
                    || self.joining < members_max
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < members_max
            }
        }
    }

    fn join_unknown(&mut self, join: Join<'_>, protocols: Vec<Protocol>, turn: &mut Turn<'_, '_>) {
        let instance_id = join.request.group_instance_id.as_deref();
        let prefix = instance_id.unwrap_or(join.context.client_id);
        let member_id = format!("{prefix}-{}", turn.random.uuid());
        if member_id.len() > STRING_BYTES_MAX {
            return join.refuse("", ErrorCode::UnknownServerError, turn);
        }
        let member_id: Arc<str> = member_id.into();
        let known = instance_id.and_then(|id| self.static_members.get(id).cloned());
        if let Some(known) = known {
            self.replace_static_member(join, &known, member_id, protocols, turn);
        } else if instance_id.is_none() && join.context.version >= MEMBER_ID_VERSION_MIN {
            if self.pending_joins.len() >= PENDING_MEMBERS_MAX {
                return join.refuse("", ErrorCode::GroupMaxSizeReached, turn);
            }
            let delay_ms = i64::from(join.request.session_timeout_ms);
            self.set_session_timer(&member_id, delay_ms, turn);
            join.refuse(&member_id, ErrorCode::MemberIdRequired, turn);
            self.add_pending(member_id);
        } else {
            self.add_member(join, member_id, protocols, turn);
        }
    }

    fn join_known(&mut self, join: Join<'_>, protocols: Vec<Protocol>, turn: &mut Turn<'_, '_>) {
        let member_id = &*join.request.member_id;
        let instance_id = join.request.group_instance_id.as_deref();
        if let Some(member_id) = self.pending_joins.get(member_id).cloned() {
            if instance_id.is_some() {
                // Ids are handed out to dynamic members only.
                return join.refuse("", ErrorCode::UnknownServerError, turn);
            }
            return self.add_member(join, member_id, protocols, turn);
        }
        if let Err(error) = self.validate_member(member_id, instance_id) {
            let refusal = JoinGroupResponse {
                protocol_name: None,
                ..join_error(member_id, error)
            };
            return join.waiting.reply(refusal, turn);
        }
        let is_unchanged = self
            .members
            .get(member_id)
            .is_some_and(|member| member.protocols == protocols);
        match self.state {
            State::Empty => join.refuse(member_id, ErrorCode::UnknownMemberId, turn),
            // The answer to the join may have been lost: it is given again.
            State::CompletingRebalance if is_unchanged => {
                let response = self.join_response(member_id, self.is_leader(member_id));
                join.waiting.reply(response, turn);
            }
            // A leader joins again for what its metadata does not show, such as new partitions.
            State::Stable if is_unchanged && !self.is_leader(member_id) => {
                let response = self.join_response(member_id, false);
                join.waiting.reply(response, turn);
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update_member(join, member_id, protocols, turn);
                self.rebalance_or_complete(turn);
            }
        }
    }

    fn add_member(
        &mut self,
        join: Join<'_>,
        member_id: Arc<str>,
        protocols: Vec<Protocol>,
        turn: &mut Turn<'_, '_>,
    ) {
        if let Some(initial) = &mut self.initial {
            initial.has_new_member = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::from(&*join.request.protocol_type));
        }
        let ticket = join.waiting.ticket;
        let member = Member::joining(join.request, protocols, ticket, join.context);
        self.insert(member_id.clone(), member);
        self.set_session_timer(&member_id, NEW_MEMBER_JOIN_MS, turn);
        self.rebalance_or_complete(turn);
    }

    /// Takes over what the request says; its answer waits from now on. A join that already waits
    /// comes from a connection that is gone.
    fn update_member(
        &mut self,
        join: Join<'_>,
        member_id: &str,
        protocols: Vec<Protocol>,
        turn: &mut Turn<'_, '_>,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        self.bytes += protocol_bytes(&protocols);
        self.bytes -= protocol_bytes(&member.protocols);
        let before = std::mem::replace(&mut member.protocols, protocols.clone());
        member.rebalance_timeout_ms = rebalance_timeout_ms(join.request, join.context.version);
        member.session_timeout_ms = join.request.session_timeout_ms;
        match member.waiting_join.replace(join.waiting) {
            Some(earlier) => {
                earlier.reply(join_error(member_id, ErrorCode::RebalanceInProgress), turn);
            }
            None => self.joining += 1,
        }
        self.discount_protocols(&before);
        self.count_protocols(&protocols);
    }

    /// A static member that has lost its id comes back under a new one; whoever still uses the old
    /// one is fenced. A stable group whose protocol stays goes on without a rebalance.
    fn replace_static_member(
        &mut self,
        join: Join<'_>,
        old_id: &Arc<str>,
        new_id: Arc<str>,
        protocols: Vec<Protocol>,
        turn: &mut Turn<'_, '_>,
    ) {
        let Some(mut member) = self.take(old_id) else {
            return;
        };
        if let Some(waiting) = member.waiting_join.take() {
            let fenced = JoinGroupResponse {
                protocol_name: None,
                ..join_error(old_id, ErrorCode::FencedInstanceId)
            };
            waiting.reply(fenced, turn);
        }
        if let Some(ticket) = member.waiting_sync.take() {
            turn.reply(ticket, sync_error(ErrorCode::FencedInstanceId));
        }
        let before = member.clone();
        let old_leader = self.leader.clone();
        turn.timers
            .cancel(&self.timer(super::TimerKind::Session(old_id.clone())));
        if self.pending_syncs.remove(old_id) {
            self.pending_syncs.insert(new_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        member.is_new = false;
        self.insert(new_id.clone(), member);
        self.renew_session(&new_id, turn);
        self.update_member(join, &new_id, protocols, turn);

        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                match self.record(turn.view.configuration.settings().batch_bytes_max) {
                    Some(record) => {
                        self.answer_static_member(join, &new_id, old_leader, record, turn);
                    }
                    None => self.restore_static_member(join, old_id, &new_id, before, turn),
                }
            }
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            State::Empty | State::PreparingRebalance => self.complete_if_all_joined(turn),
        }
    }

    fn answer_static_member(
        &mut self,
        join: Join<'_>,
        member_id: &Arc<str>,
        old_leader: Option<Arc<str>>,
        record: Record<'static>,
        turn: &mut Turn<'_, '_>,
    ) {
        turn.records.push(record);
        let response = if join.context.version >= SKIP_ASSIGNMENT_VERSION_MIN {
            let is_leader = self.is_leader(member_id);
            JoinGroupResponse {
                skip_assignment: is_leader,
                ..self.join_response(member_id, is_leader)
            }
        } else {
            // Naming the leader by its old id keeps the client from assigning.
            JoinGroupResponse {
                leader: old_leader.as_deref().unwrap_or("").to_owned().into(),
                ..self.join_response(member_id, false)
            }
        };
        self.answer_join(member_id, response, turn);
    }

    /// The group with the new member does not fit into a batch: all stays as it was.
    fn restore_static_member(
        &mut self,
        join: Join<'_>,
        old_id: &Arc<str>,
        new_id: &Arc<str>,
        before: Member,
        turn: &mut Turn<'_, '_>,
    ) {
        let was_leader = self.is_leader(new_id);
        self.take(new_id);
        turn.timers
            .cancel(&self.timer(super::TimerKind::Session(new_id.clone())));
        self.insert(old_id.clone(), before);
        if was_leader {
            self.leader = Some(old_id.clone());
        }
        if self.pending_syncs.remove(new_id) {
            self.pending_syncs.insert(old_id.clone());
        }
        self.renew_session(old_id, turn);
        join.refuse("", ErrorCode::UnknownServerError, turn);
    }

    /// What a member is told of the current generation; leaders also get all members' metadata.
    pub(super) fn join_response(
        &self,
        member_id: &str,
        with_members: bool,
    ) -> JoinGroupResponse<'static> {
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type().map(|text| text.to_owned().into()),
            protocol_name: self.protocol().map(|text| text.to_owned().into()),
            leader: self.leader().unwrap_or("").to_owned().into(),
            member_id: member_id.to_owned().into(),
            members: if with_members {
                self.joined_members()
            } else {
                Vec::new()
            },
            ..JoinGroupResponse::default()
        }
    }

    fn joined_members(&self) -> Vec<JoinGroupResponseMember<'static>> {
        let protocol = self.protocol().unwrap_or("");
        let members = self.members.iter().map(|(member_id, member)| {
            let metadata = member.metadata(protocol);
            JoinGroupResponseMember {
                member_id: (**member_id).to_owned().into(),
                group_instance_id: member.instance_id.as_deref().map(|id| id.to_owned().into()),
                metadata: metadata.map_or(Vec::new(), |bytes| bytes.to_vec()).into(),
            }
        });
        members.collect()
    }

    /// Answers the member's join, if one waits.
    pub(super) fn answer_join(
        &mut self,
        member_id: &str,
        response: JoinGroupResponse<'static>,
        turn: &mut Turn<'_, '_>,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if let Some(waiting) = member.waiting_join.take() {
            self.joining -= 1;
            waiting.reply(response, turn);
        }
    }
}

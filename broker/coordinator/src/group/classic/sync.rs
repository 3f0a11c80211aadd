//! SyncGroup: the leader's assignment comes in, everybody's goes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use esker_protocol::ErrorCode;
use esker_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{ClassicGroup, State, TimerKind, sync_error};
use crate::group::Turn;
use crate::step::{Response, Ticket};

impl ClassicGroup {
    pub(crate) fn sync(
        &mut self,
        request: &SyncGroupRequest<'_>,
        ticket: Ticket,
        turn: &mut Turn<'_, '_>,
    ) {
        if let Err(error) = self.validate_sync(request) {
            return turn.reply(ticket, sync_error(error));
        }
        let member_id = &*request.member_id;
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            turn.timers.cancel(&self.timer(TimerKind::Sync));
        }
        if self.state == State::Stable {
            let response = self.sync_response(member_id);
            // Who is told what it owns has a whole session for it. Kafka leaves the session as it is.
            self.renew_session(member_id, turn);
            return turn.reply(ticket, response);
        }
        if let Some(member) = self.members.get_mut(member_id)
            && let Some(earlier) = member.waiting_sync.replace(ticket)
        {
            turn.reply(earlier, sync_error(ErrorCode::RebalanceInProgress));
        }
        if self.is_leader(member_id) {
            self.assign(request, turn);
        }
    }

    fn validate_sync(&self, request: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
        if self.is_empty() {
            return Err(ErrorCode::UnknownMemberId);
        }
        let instance_id = request.group_instance_id.as_deref();
        self.validate_member(&request.member_id, instance_id)?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |given: Option<&str>, known: Option<&str>| {
            given.is_some() && known.is_some() && given != known
        };
        if differs(request.protocol_type.as_deref(), self.protocol_type())
            || differs(request.protocol_name.as_deref(), self.protocol())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.state == State::PreparingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Members that the leader left out get nothing. A group that does not fit into a batch
    /// rebalances, as Kafka's does when its append fails.
    fn assign(&mut self, request: &SyncGroupRequest<'_>, turn: &mut Turn<'_, '_>) {
        let assignments: BTreeMap<&str, &[u8]> = request
            .assignments
            .iter()
            .map(|assignment| (&*assignment.member_id, &*assignment.assignment))
            .collect();
        let batch_bytes_max = turn.view.configuration.settings().batch_bytes_max;
        let assigned = assignments
            .iter()
            .filter(|(id, _)| self.members.contains_key(**id));
        let assigned_bytes: usize = assigned.map(|(_, bytes)| bytes.len()).sum();
        let record = if assigned_bytes > batch_bytes_max {
            None
        } else {
            for (member_id, member) in &mut self.members {
                let assignment = assignments.get(&**member_id).copied().unwrap_or(&[]);
                member.assignment = Bytes::copy_from_slice(assignment);
            }
            self.record(batch_bytes_max)
        };
        let Some(record) = record else {
            self.cancel_syncs(ErrorCode::UnknownServerError, turn);
            return self.prepare_rebalance(turn);
        };
        turn.records.push(record);
        for (member_id, ticket) in self.take_waiting_syncs() {
            let response = self.sync_response(&member_id);
            turn.reply(ticket, response);
            self.renew_session(&member_id, turn);
        }
        self.transition(State::Stable, turn.view.now.wall);
    }

    /// Assignments of a generation that ends before it was stable are void.
    pub(super) fn cancel_syncs(&mut self, error: ErrorCode, turn: &mut Turn<'_, '_>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (member_id, ticket) in self.take_waiting_syncs() {
            turn.reply(ticket, sync_error(error));
            self.renew_session(&member_id, turn);
        }
    }

    fn take_waiting_syncs(&mut self) -> Vec<(Arc<str>, Ticket)> {
        let waiting = self.members.iter_mut().filter_map(|(member_id, member)| {
            let ticket = member.waiting_sync.take()?;
            Some((member_id.clone(), ticket))
        });
        waiting.collect()
    }

    fn sync_response(&self, member_id: &str) -> Response {
        let assignment = self.members.get(member_id).map(|member| &member.assignment);
        Response::SyncGroup(SyncGroupResponse {
            protocol_type: self.protocol_type().map(|text| text.to_owned().into()),
            protocol_name: self.protocol().map(|text| text.to_owned().into()),
            assignment: assignment.map_or(Vec::new(), |bytes| bytes.to_vec()).into(),
            ..SyncGroupResponse::default()
        })
    }
}

//! Heartbeat, LeaveGroup, and what an offset commit asks of a classic group.

use std::sync::Arc;

use esker_protocol::ErrorCode;
use esker_protocol::messages::leave_group_request::MemberIdentity;

use super::{ClassicGroup, State};
use crate::group::Turn;

impl ClassicGroup {
    /// # Errors
    /// The member is unknown or fenced, has another generation, or is to join again.
    pub(crate) fn heartbeat(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), ErrorCode> {
        self.validate_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.renew_session(member_id, turn);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Removes members; one answer for each.
    pub(crate) fn leave(
        &mut self,
        members: &[MemberIdentity<'_>],
        turn: &mut Turn<'_, '_>,
    ) -> Vec<Result<(), ErrorCode>> {
        let mut answers = Vec::with_capacity(members.len());
        for member in members {
            let found = self.find_leaving(member);
            if let Ok(member_id) = &found {
                self.remove(member_id, turn);
            }
            answers.push(found.map(|_| ()));
        }
        if answers.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
                State::PreparingRebalance => self.complete_if_all_joined(turn),
                State::Empty => {}
            }
        }
        answers
    }

    /// An administrator names static members by their instance id alone.
    fn find_leaving(&self, member: &MemberIdentity<'_>) -> Result<Arc<str>, ErrorCode> {
        let instance_id = member.group_instance_id.as_deref();
        if member.member_id.is_empty() {
            let known = instance_id.and_then(|id| self.static_members.get(id));
            return known.cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        if let Some(member_id) = self.pending_joins.get(&*member.member_id) {
            return Ok(member_id.clone());
        }
        self.validate_member(&member.member_id, instance_id)?;
        Ok(Arc::from(&*member.member_id))
    }

    /// Whether offsets may be committed. Without a generation only while nobody is in the group.
    ///
    /// # Errors
    /// The member is unknown or fenced, has another generation, or has yet to sync.
    pub(crate) fn validate_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.validate_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !self.is_empty() {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// A commit keeps the member's session alive, except while the leader assigns.
    pub(crate) fn committed(&self, member_id: &str, turn: &mut Turn<'_, '_>) {
        if matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.renew_session(member_id, turn);
        }
    }
}

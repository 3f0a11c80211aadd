//! Generations: how they end, and how the next one starts.

use std::sync::Arc;

use esker_protocol::ErrorCode;

use super::{ClassicGroup, InitialDelay, State, TimerKind};
use crate::group::Turn;

/// A rebalance that no member has joined looks again after so long at least.
const WITHOUT_LEADER_MS: i64 = 1_000;

impl ClassicGroup {
    /// After a member came or changed: a rebalance starts, or the one that runs may be complete.
    pub(super) fn rebalance_or_complete(&mut self, turn: &mut Turn<'_, '_>) {
        if self.state == State::PreparingRebalance {
            self.complete_if_all_joined(turn);
        } else {
            self.prepare_rebalance(turn);
        }
    }

    /// The first rebalance of a group is not cut short: it waits for members that start together.
    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_, '_>) {
        if self.state == State::PreparingRebalance && self.initial.is_none() && self.all_joined() {
            self.complete_join(turn);
        }
    }

    pub(crate) fn prepare_rebalance(&mut self, turn: &mut Turn<'_, '_>) {
        if self.state == State::CompletingRebalance {
            self.cancel_syncs(ErrorCode::RebalanceInProgress, turn);
        }
        self.pending_syncs.clear();
        turn.timers.cancel(&self.timer(TimerKind::Sync));
        let is_initial = self.state == State::Empty;
        self.transition(State::PreparingRebalance, turn.view.now.wall);
        if is_initial {
            let delay_ms = initial_delay_ms(turn);
            self.initial = Some(InitialDelay {
                delay_ms,
                remaining_ms: (self.rebalance_timeout_ms() - delay_ms).max(0),
                has_new_member: false,
            });
            self.set_join_timer(delay_ms, turn);
        } else if self.all_joined() {
            self.complete_join(turn);
        } else {
            self.set_join_timer(self.rebalance_timeout_ms(), turn);
        }
    }

    fn set_join_timer(&self, delay_ms: i64, turn: &mut Turn<'_, '_>) {
        let due_ms = turn.due_in(delay_ms);
        turn.timers.set(self.timer(TimerKind::Join), due_ms);
    }

    /// What is due.
    pub(crate) fn timer_due(&mut self, kind: &TimerKind, turn: &mut Turn<'_, '_>) {
        match kind {
            TimerKind::Session(member_id) => self.session_ended(member_id, turn),
            TimerKind::Join => self.join_time_up(turn),
            TimerKind::Sync => self.sync_time_up(turn),
        }
    }

    fn join_time_up(&mut self, turn: &mut Turn<'_, '_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        let Some(initial) = self.initial.as_mut() else {
            return self.complete_join(turn);
        };
        if !initial.has_new_member || initial.remaining_ms == 0 {
            return self.complete_join(turn);
        }
        let next_ms = initial_delay_ms(turn).min(initial.remaining_ms);
        *initial = InitialDelay {
            delay_ms: next_ms,
            remaining_ms: (initial.remaining_ms - initial.delay_ms).max(0),
            has_new_member: false,
        };
        self.set_join_timer(next_ms, turn);
    }

    fn sync_time_up(&mut self, turn: &mut Turn<'_, '_>) {
        let is_waiting = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !is_waiting || self.pending_syncs.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_syncs) {
            self.remove(&member_id, turn);
        }
        self.prepare_rebalance(turn);
    }

    fn session_ended(&mut self, member_id: &Arc<str>, turn: &mut Turn<'_, '_>) {
        if self.take_pending(member_id) {
            if self.state == State::PreparingRebalance && self.all_joined() {
                self.complete_join(turn);
            }
            return;
        }
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        if member.may_be_silent() {
            return;
        }
        self.remove(member_id, turn);
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            State::PreparingRebalance if self.all_joined() => self.complete_join(turn),
            State::PreparingRebalance | State::Empty => {}
        }
    }

    /// The next generation starts with those who joined. Static members that did not are kept: their
    /// session decides.
    pub(super) fn complete_join(&mut self, turn: &mut Turn<'_, '_>) {
        turn.timers.cancel(&self.timer(TimerKind::Join));
        let is_missing = |(_, member): &(&Arc<str>, &super::Member)| {
            member.waiting_join.is_none() && member.instance_id.is_none()
        };
        if self.joining < self.members.len() {
            let missing: Vec<Arc<str>> = self
                .members
                .iter()
                .filter(is_missing)
                .map(|(member_id, _)| member_id.clone())
                .collect();
            for member_id in missing {
                self.remove(&member_id, turn);
            }
        }
        if !self.members.is_empty() && !self.has_joined_leader() {
            // Nobody is there to lead. A timeout of nothing must not make this a loop.
            let delay_ms = self.rebalance_timeout_ms().max(WITHOUT_LEADER_MS);
            return self.set_join_timer(delay_ms, turn);
        }
        self.initial = None;
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.pending_syncs.clear();
        let now = turn.view.now.wall;
        if self.members.is_empty() {
            self.protocol = None;
            self.subscribed = self.read_subscriptions();
            self.transition(State::Empty, now);
            // A record without members fits into any batch.
            let record = self.record(usize::MAX);
            turn.records.extend(record);
        } else {
            self.protocol = self.select_protocol();
            self.subscribed = self.read_subscriptions();
            self.transition(State::CompletingRebalance, now);
            self.answer_joins(turn);
        }
    }

    /// Makes sure that the leader is one who joined, if anybody did.
    fn has_joined_leader(&mut self) -> bool {
        let has_joined = |member: &super::Member| member.waiting_join.is_some();
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| has_joined(member));
        match joined {
            Some((member_id, _)) => {
                self.leader = Some(member_id.clone());
                true
            }
            None => false,
        }
    }

    fn answer_joins(&mut self, turn: &mut Turn<'_, '_>) {
        let member_ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let response = self.join_response(&member_id, self.is_leader(&member_id));
            self.answer_join(&member_id, response, turn);
            self.renew_session(&member_id, turn);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.is_new = false;
            }
            self.pending_syncs.insert(member_id);
        }
        let due_ms = turn.due_in(self.rebalance_timeout_ms());
        turn.timers.set(self.timer(TimerKind::Sync), due_ms);
    }

    pub(crate) fn rebalance_if_stable(&mut self, turn: &mut Turn<'_, '_>) {
        if self.state == State::Stable {
            self.prepare_rebalance(turn);
        }
    }

    /// Timers after a load: sessions start anew, and a group above its limit rebalances, so that the
    /// members that come last are sent away.
    pub(crate) fn start(&mut self, turn: &mut Turn<'_, '_>) {
        let member_ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for member_id in &member_ids {
            self.renew_session(member_id, turn);
        }
        let members_max = turn.view.configuration.settings().classic_members_max;
        if i32::try_from(self.members.len()).unwrap_or(i32::MAX) > members_max {
            self.prepare_rebalance(turn);
        }
    }
}

fn initial_delay_ms(turn: &Turn<'_, '_>) -> i64 {
    i64::from(
        turn.view
            .configuration
            .settings()
            .initial_rebalance_delay_ms,
    )
}

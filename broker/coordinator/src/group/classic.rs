//! Classic groups: members agree on a protocol, and one of them, the leader, assigns.
//!
//! ```text
//!          join               all joined, or time up          leader syncs
//! Empty ---------> Preparing ------------------------> Completing --------> Stable
//!   ^                |   ^                                |                    |
//!   +----------------+   +--------------------------------+--------------------+
//!      nobody joined         a member joins, changes, leaves, or is not heard of
//! ```
//! Each way out of Preparing starts a generation. Joins are answered on the way to Completing, syncs
//! on the way to Stable.
//!
//! What survives a restart is the last record of type 2 ([`Durable`]), written on the way to Stable
//! and to Empty, and when a static member comes back under a new id. All else is live: a coordinator
//! that takes over starts from the last assignment, and its members go on as if nothing happened.
//!
//! Invariants
//! - `joining` counts the members that wait for the answer to a join; `supported` counts, of each
//!   protocol, the members that know it; `bytes` adds up what members hold, and the ids that were
//!   handed out.
//! - In Empty there are no members; in Completing and Stable there are, and `protocol` is one that
//!   all of them know.
//! - A ticket is answered once: whatever removes a member or its wait answers.

mod describe;
mod durable;
mod join;
mod member;
mod rebalance;
mod requests;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use esker_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use esker_protocol::primitive::{Decode, Reader};
use esker_protocol::{ErrorCode, Timestamp};

use super::{CONSUMER_PROTOCOL_TYPE, Timer, Turn};
use crate::step::{Response, Ticket};
use crate::timers::Timers;

pub(crate) use durable::Durable;
pub(crate) use member::{Member, Protocol, rebalance_timeout_ms};

/// A new member whose join is not answered for so long is dropped: it cannot send heartbeats yet.
const NEW_MEMBER_JOIN_MS: i64 = 300_000;

/// Member ids that were handed out and not yet used, per group.
const PENDING_MEMBERS_MAX: usize = 10_000;

/// What the members of a group may hold, as a multiple of the largest batch: a group's record holds
/// the metadata of one protocol, the group holds that of all.
const BATCHES_HELD_MAX: usize = 4;

/// Where a group is between two generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Nobody is there.
    Empty,
    /// Members (re)join.
    PreparingRebalance,
    /// The leader assigns.
    CompletingRebalance,
    /// Everybody has work.
    Stable,
}

impl State {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// What a classic group waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKind {
    /// A sign of life of a member, or the use of an id that was handed out.
    Session(Arc<str>),
    /// Joins.
    Join,
    /// Syncs.
    Sync,
}

/// The first rebalance of an empty group: it waits for more members to come.
#[derive(Debug, Clone, Copy)]
struct InitialDelay {
    delay_ms: i64,
    remaining_ms: i64,
    has_new_member: bool,
}

/// A classic group.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    id: Arc<str>,
    /// The last record; none if offsets were committed for a group that never had members.
    durable: Option<Durable>,
    state: State,
    /// When the group came into its state; none in records of old brokers.
    since: Option<Timestamp>,
    generation: i32,
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Member ids by group instance id.
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids that were handed out and not yet used.
    pending_joins: BTreeSet<Arc<str>>,
    /// Members of this generation that have not synced.
    pending_syncs: BTreeSet<Arc<str>>,
    joining: usize,
    supported: BTreeMap<Arc<str>, usize>,
    /// The topics that members read; none if their metadata cannot be read.
    subscribed: Option<BTreeSet<String>>,
    /// Set while Preparing was entered from Empty.
    initial: Option<InitialDelay>,
    bytes: usize,
}

impl ClassicGroup {
    pub(crate) fn new(id: Arc<str>) -> ClassicGroup {
        ClassicGroup {
            id,
            durable: None,
            state: State::Empty,
            since: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            joining: 0,
            supported: BTreeMap::new(),
            subscribed: None,
            initial: None,
            bytes: 0,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// When the group came into its state.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The member id of the leader.
    pub(crate) fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    /// The members by id, in order.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Arc<str>, &Member)> {
        self.members.iter()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is there: the state is Empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether members speak the embedded consumer protocol.
    pub(crate) fn has_consumers(&self) -> bool {
        self.protocol_type() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// The topics that members read; none if that is unknown.
    pub(crate) fn subscribed(&self) -> Option<&BTreeSet<String>> {
        self.subscribed.as_ref()
    }

    /// Whether a member reads the topic. Where consumers' metadata cannot be read, all may be read.
    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.has_consumers(),
        }
    }

    /// What members hold, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the member and, where given, its instance id belong together.
    pub(crate) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if **known != *member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    /// Answers every waiting join and sync with an error.
    pub(crate) fn release(&mut self, error: ErrorCode, turn: &mut Turn<'_, '_>) {
        for (member_id, member) in &mut self.members {
            if let Some(waiting) = member.waiting_join.take() {
                self.joining -= 1;
                waiting.reply(join_error(member_id, error), turn);
            }
            if let Some(ticket) = member.waiting_sync.take() {
                turn.reply(ticket, sync_error(error));
            }
        }
    }

    /// Takes the group's timers away.
    pub(crate) fn cancel_timers(&self, timers: &mut Timers<Timer>) {
        timers.cancel(&self.timer(TimerKind::Join));
        timers.cancel(&self.timer(TimerKind::Sync));
        for member_id in self.members.keys().chain(&self.pending_joins) {
            timers.cancel(&self.timer(TimerKind::Session(member_id.clone())));
        }
    }

    fn timer(&self, kind: TimerKind) -> Timer {
        Timer::Classic {
            group: self.id.clone(),
            kind,
        }
    }

    fn set_session_timer(&self, member_id: &Arc<str>, delay_ms: i64, turn: &mut Turn<'_, '_>) {
        let due_ms = turn.due_in(delay_ms);
        let timer = self.timer(TimerKind::Session(member_id.clone()));
        turn.timers.set(timer, due_ms);
    }

    /// The member's session starts anew.
    pub(crate) fn renew_session(&self, member_id: &str, turn: &mut Turn<'_, '_>) {
        if let Some((member_id, member)) = self.members.get_key_value(member_id) {
            self.set_session_timer(member_id, i64::from(member.session_timeout_ms), turn);
        }
    }

    fn transition(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.since = Some(now);
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn all_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending_joins.is_empty()
    }

    /// The longest of the members' rebalance timeouts.
    fn rebalance_timeout_ms(&self) -> i64 {
        let longest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms);
        i64::from(longest.fold(0, i32::max))
    }

    /// Whether a member with these protocols finds one that all others know too.
    fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let is_common = |protocol: &Protocol| {
            self.supported.get(&protocol.name).copied().unwrap_or(0) == self.members.len()
        };
        self.protocol_type() == Some(protocol_type) && protocols.iter().any(is_common)
    }

    fn count_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.supported.entry(protocol.name.clone()).or_insert(0) += 1;
        }
    }

    fn discount_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.supported.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(&protocol.name);
                }
            }
        }
    }

    fn insert(&mut self, member_id: Arc<str>, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member_id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.count_protocols(&member.protocols);
        self.bytes += member.bytes(&member_id);
        self.joining += usize::from(member.waiting_join.is_some());
        self.take_pending(&member_id);
        self.members.insert(member_id, member);
    }

    fn add_pending(&mut self, member_id: Arc<str>) {
        self.bytes += member_id.len();
        self.pending_joins.insert(member_id);
    }

    /// Whether the id was handed out and not used; it no longer is.
    fn take_pending(&mut self, member_id: &str) -> bool {
        let is_pending = self.pending_joins.remove(member_id);
        if is_pending {
            self.bytes -= member_id.len();
        }
        is_pending
    }

    /// Takes a member out without answering it; the leader stays named.
    fn take(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.discount_protocols(&member.protocols);
        self.bytes -= member.bytes(member_id);
        self.joining -= usize::from(member.waiting_join.is_some());
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        Some(member)
    }

    /// Removes a member, or an id that was handed out; if it waits, it is told that it is unknown.
    fn remove(&mut self, member_id: &Arc<str>, turn: &mut Turn<'_, '_>) {
        self.take_pending(member_id);
        self.pending_syncs.remove(member_id);
        let timer = self.timer(TimerKind::Session(member_id.clone()));
        turn.timers.cancel(&timer);
        let Some(member) = self.take(member_id) else {
            return;
        };
        if let Some(waiting) = member.waiting_join {
            waiting.reply(join_error("", ErrorCode::UnknownMemberId), turn);
        }
        if let Some(ticket) = member.waiting_sync {
            turn.reply(ticket, sync_error(ErrorCode::UnknownMemberId));
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// The protocol that most members prefer among those that all of them know; of equals the first
    /// by name.
    fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        let is_common = |protocol: &&Protocol| {
            self.supported.get(&protocol.name).copied() == Some(self.members.len())
        };
        for member in self.members.values() {
            let choice = member.protocols.iter().find(is_common)?;
            *votes.entry(&choice.name).or_insert(0) += 1;
        }
        let most = votes.values().copied().max()?;
        let winner = votes.into_iter().find(|(_, count)| *count == most);
        winner.map(|(name, _)| name.clone())
    }

    /// Reads the topics out of the members' metadata, which for consumers begins in every version
    /// like the first.
    fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.has_consumers() {
            return None;
        }
        let mut topics = BTreeSet::new();
        if self.members.is_empty() {
            return Some(topics);
        }
        let protocol = self.protocol.as_deref()?;
        for member in self.members.values() {
            let metadata = member.metadata(protocol)?;
            let mut reader = Reader::new(metadata);
            reader.int16().ok()?;
            let subscription = ConsumerProtocolSubscription::decode(&mut reader, 0).ok()?;
            for topic in subscription.topics {
                if !topics.contains(&*topic) {
                    topics.insert(topic.into_owned());
                }
            }
        }
        Some(topics)
    }
}

/// What a join is refused with.
fn join_error(member_id: &str, error: ErrorCode) -> JoinGroupResponse<'static> {
    JoinGroupResponse {
        member_id: member_id.to_owned().into(),
        error_code: error as i16,
        ..JoinGroupResponse::default()
    }
}

/// What a sync is refused with.
fn sync_error(error: ErrorCode) -> Response {
    Response::SyncGroup(SyncGroupResponse {
        error_code: error as i16,
        ..SyncGroupResponse::default()
    })
}

/// A join that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitingJoin {
    pub(crate) ticket: Ticket,
    pub(crate) version: i16,
}

impl WaitingJoin {
    fn reply(self, mut response: JoinGroupResponse<'static>, turn: &mut Turn<'_, '_>) {
        // Before version 7 a missing protocol name is written as an empty one.
        if self.version < 7 && response.protocol_name.is_none() {
            response.protocol_name = Some("".into());
        }
        turn.reply(self.ticket, Response::JoinGroup(response));
    }
}

//! Consumer groups (KIP-848): the coordinator assigns, members follow in their own time.
//!
//! ```text
//! member --heartbeat--> metadata (type 5) --differs--> group epoch (3) --is ahead--> target (7, 6)
//!                                                                                      |
//!        <--assignment-- current assignment (8) <--one step, if others gave it up------+
//! ```
//! A group is Empty without members, Assigning while its epoch is ahead of the target's,
//! Reconciling while a member has not reached the target, and Stable otherwise.
//!
//! Invariants
//! - Durable state ([`state`]) changes by replay alone; a request reads it, works on a copy of one
//!   member and gives records.
//! - A partition belongs to at most one member, from its being told until it has confirmed that it
//!   gave the partition up, or left, or was fenced ([`reconcile`]).
//! - The target is computed once for each epoch of the group, at most once in an interval.
//! - A heartbeat that says nothing new costs lookups, not a walk over the group.
//!
//! The group must not know of offsets, nor of how records reach the log.

mod check;
mod classic;
mod describe;
mod downgrade;
mod find;
mod heartbeat;
mod leave;
mod member;
mod reconcile;
mod records;
mod regexes;
mod state;
mod subscription;
mod target;
#[cfg(test)]
mod tests;
mod upgrade;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use esker_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use esker_protocol::{ErrorCode, TopicId};

use self::member::{JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, Member, MemberState};
use self::regexes::Looked;
use self::state::State;
use self::subscription::{TopicHashes, metadata_hash};
use super::Timer;
use crate::random::Random;
use crate::record::{Key, Record};
use crate::step::RequestContext;
use crate::timers::Timers;
use crate::view::View;

pub(crate) use self::check::{Refusal, check_heartbeat, clipped};
pub(crate) use self::upgrade::{ClassicMember, upgrade};

/// From this version on an OffsetCommit speaks of member epochs.
const MEMBER_EPOCH_COMMIT_VERSION: i16 = 9;

/// What the timers of a consumer group are set for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKind {
    /// Nothing was heard of the member.
    Session(String),
    /// The member did not give up what it was asked to.
    Rebalance(String),
    /// A classic member that was told to rejoin did not.
    Join(String),
    /// A classic member that joined did not ask for its assignment.
    Sync(String),
    /// The group's regular expressions are resolved.
    Regexes,
}

/// A consumer group.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    group_id: Arc<str>,
    state: State,
    /// Members whose timers have yet to follow the records that were replayed.
    touched: BTreeSet<String>,
    /// The metadata at which the group last looked at its topics.
    metadata_revision: Option<i64>,
    looked: Option<Looked>,
    /// Not part of what the group is: what has been computed of the metadata.
    topic_hashes: RefCell<TopicHashes>,
}

impl ConsumerGroup {
    /// A group of which nothing is known.
    pub(crate) fn new(group_id: &str) -> ConsumerGroup {
        ConsumerGroup {
            group_id: Arc::from(group_id),
            state: State::default(),
            touched: BTreeSet::new(),
            metadata_revision: None,
            looked: None,
            topic_hashes: RefCell::default(),
        }
    }

    /// Follows one record of types 3 to 8 or 16: the only way in which durable state changes.
    pub(crate) fn replay(&mut self, record: &Record<'_>) {
        if let Key::ConsumerGroupCurrentMember(key) = &record.key {
            self.touched.insert(key.member_id.clone().into_owned());
        }
        self.state.replay(record);
    }

    /// What members take in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.state.bytes()
    }

    /// The hash over topics, as the group's epoch record carries it.
    fn hash_of<'n>(&self, names: impl IntoIterator<Item = &'n str>, view: &View<'_>) -> i64 {
        metadata_hash(names, view.topics, &mut self.topic_hashes.borrow_mut())
    }

    /// Whether no record of the group is left, so that it does not exist.
    pub(crate) fn is_empty_state(&self) -> bool {
        self.state.is_empty()
    }

    /// What replay built, to compare.
    pub(crate) fn durable_state(&self) -> impl PartialEq + Debug + use<> {
        self.state.clone()
    }

    /// Starts the timers of a group that was read from the log.
    pub(crate) fn loaded(&mut self, timers: &mut Timers<Timer>, view: &View<'_>) {
        self.touched.clear();
        let settings = view.configuration.group(&self.group_id);
        for member in self.state.members().values() {
            let session_timeout_ms = match &member.metadata.classic {
                Some(classic) => classic.session_timeout_ms,
                None => settings.consumer_session_timeout_ms,
            };
            timers.set(
                self.timer_key(TimerKind::Session(member.id.clone())),
                heartbeat::due(view, session_timeout_ms),
            );
            self.follow(member, timers, view);
        }
    }

    /// Answers a heartbeat. Its records must be replayed, and [`ConsumerGroup::after_replay`]
    /// called, before the next event.
    pub(crate) fn heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        context: &RequestContext<'_>,
        view: &View<'_>,
        timers: &mut Timers<Timer>,
        random: &mut Random,
    ) -> (
        Vec<Record<'static>>,
        ConsumerGroupHeartbeatResponse<'static>,
    ) {
        let settings = view.configuration.settings();
        let answer =
            check_heartbeat(request, context.version, settings).and_then(|()| {
                match request.member_epoch {
                    epoch if epoch != JOIN_EPOCH && self.is_empty_state() => Err(Refusal::new(
                        ErrorCode::GroupIdNotFound,
                        format!("Group {} not found.", self.group_id),
                    )),
                    LEAVE_EPOCH | LEAVE_STATIC_EPOCH => self.leave(request, view, timers),
                    _ => self.join_or_go_on(request, context, view, timers, random),
                }
            });
        answer.unwrap_or_else(|refusal| (Vec::new(), refusal.into_response()))
    }

    /// A deadline has passed.
    pub(crate) fn timer(
        &mut self,
        timer: &TimerKind,
        view: &View<'_>,
        timers: &mut Timers<Timer>,
    ) -> Vec<Record<'static>> {
        match timer {
            TimerKind::Session(id)
            | TimerKind::Rebalance(id)
            | TimerKind::Join(id)
            | TimerKind::Sync(id) => match self.state.member(id) {
                Some(member) => self.without(&[member], view, timers),
                None => Vec::new(),
            },
            TimerKind::Regexes => self.refresh_regexes(view),
        }
    }

    /// Lets the timers follow the records of a step, once they were replayed.
    pub(crate) fn after_replay(&mut self, view: &View<'_>, timers: &mut Timers<Timer>) {
        for id in std::mem::take(&mut self.touched) {
            match self.state.member(&id) {
                Some(member) => self.follow(member, timers, view),
                None => self.forget(&id, timers),
            }
        }
        if self.state.subscribed_regexes().is_empty() {
            timers.cancel(&self.timer_key(TimerKind::Regexes));
        }
    }

    fn forget(&self, id: &str, timers: &mut Timers<Timer>) {
        for kind in [
            TimerKind::Session,
            TimerKind::Rebalance,
            TimerKind::Join,
            TimerKind::Sync,
        ] {
            timers.cancel(&self.timer_key(kind(id.to_owned())));
        }
    }

    /// Takes all timers of the group away.
    fn cancel_timers(&self, timers: &mut Timers<Timer>) {
        for id in self.state.members().keys() {
            self.forget(id, timers);
        }
        timers.cancel(&self.timer_key(TimerKind::Regexes));
    }

    // A member that was asked to give something up has its rebalance timeout to do so.
    fn follow(&self, member: &Member, timers: &mut Timers<Timer>, view: &View<'_>) {
        let key = self.timer_key(TimerKind::Rebalance(member.id.clone()));
        let is_asked = member.current.state == MemberState::Unrevoked
            && member.current.epoch != LEAVE_STATIC_EPOCH
            && !member.uses_classic_protocol();
        if !member.uses_classic_protocol() {
            timers.cancel(&self.timer_key(TimerKind::Join(member.id.clone())));
            timers.cancel(&self.timer_key(TimerKind::Sync(member.id.clone())));
        }
        match is_asked {
            true => timers.set(
                key,
                heartbeat::due(view, member.metadata.rebalance_timeout_ms),
            ),
            false => {
                timers.cancel(&key);
            }
        }
    }

    fn timer_key(&self, kind: TimerKind) -> Timer {
        Timer::Consumer {
            group: Arc::clone(&self.group_id),
            kind,
        }
    }

    /// Whether an OffsetCommit of one partition may pass: the epoch is the member's, or one since
    /// the partition was given to it (KIP-1251). A zero topic id names no partition of the member.
    pub(crate) fn validate_commit(
        &self,
        member_id: &str,
        _group_instance_id: Option<&str>,
        epoch: i32,
        version: i16,
        topic: TopicId,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        // From an administrator, or a consumer that assigns itself.
        if epoch < 0 && !self.has_members() {
            return Ok(());
        }
        let member = (self.state.member(member_id)).ok_or(ErrorCode::UnknownMemberId)?;
        if !member.uses_classic_protocol() && version < MEMBER_EPOCH_COMMIT_VERSION {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let since = match epoch.cmp(&member.current.epoch) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Greater => None,
            std::cmp::Ordering::Less => member.assignment_epoch(topic, partition),
        };
        match since.is_some_and(|since| epoch >= since) {
            true => Ok(()),
            false => Err(stale(member)),
        }
    }

    /// Whether an OffsetFetch may pass: without a member id and epoch, or with the current one.
    pub(crate) fn validate_fetch(
        &self,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        // Kafka stumbles over an epoch that is nobody's, and says so.
        let member_id = member_id.ok_or(ErrorCode::UnknownServerError)?;
        let member = self.state.member(member_id);
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        match epoch == member.current.epoch {
            true => Ok(()),
            false => Err(stale(member)),
        }
    }

    /// Whether a member names the topic, or an expression of one matched it.
    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        self.state.subscribed_topics().contains_key(topic)
    }

    /// Kafka's name of the state.
    pub(crate) fn state_name(&self) -> &'static str {
        if !self.has_members() {
            "Empty"
        } else if self.state.epoch() > self.state.target_epoch() {
            "Assigning"
        } else if self.state.is_reconciled() {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether anybody is in the group.
    pub(crate) fn has_members(&self) -> bool {
        !self.state.members().is_empty()
    }

    /// The records that delete the group.
    pub(crate) fn tombstones(&self) -> Vec<Record<'static>> {
        self.tombstones_of(self.state.members().keys().map(String::as_str).collect())
    }

    // The same for a group with these members.
    fn tombstones_of(&self, members: BTreeSet<&str>) -> Vec<Record<'static>> {
        let group = &*self.group_id;
        let known = self.state.targets().keys().map(String::as_str);
        let targets: BTreeSet<&str> = (members.iter().copied())
            .chain(known.filter(|id| self.state.member(id).is_none()))
            .collect();
        let regexes = self.state.regexes().keys();
        let mut records = Vec::new();
        records.extend((members.iter()).map(|id| records::current_tombstone(group, id)));
        records.extend((targets.iter()).map(|id| records::target_member_tombstone(group, id)));
        records.push(records::target_tombstone(group));
        records.extend((members.iter()).map(|id| records::member_tombstone(group, id)));
        records.extend(regexes.map(|regex| records::regex_tombstone(group, regex)));
        records.push(records::partition_metadata_tombstone(group));
        records.push(records::epoch_tombstone(group));
        records
    }
}

/// The timer of a member's session.
pub(crate) fn session_timer(group_id: &str, member_id: String) -> Timer {
    Timer::Consumer {
        group: Arc::from(group_id),
        kind: TimerKind::Session(member_id),
    }
}

fn stale(member: &Member) -> ErrorCode {
    match member.uses_classic_protocol() {
        true => ErrorCode::IllegalGeneration,
        false => ErrorCode::StaleMemberEpoch,
    }
}

//! A heartbeat that joins or goes on: the member is created or updated, the group's epoch and
//! target follow, and the member takes one step towards its target.

use std::borrow::Cow;
use std::sync::Arc;

use esker_protocol::ErrorCode;
use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::messages::consumer_group_heartbeat_response::{
    Assignment as ResponseAssignment, TopicPartitions as ResponseTopicPartitions,
};
use esker_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::check::Refusal;
use super::find::Found;
use super::member::{JOIN_EPOCH, Member, MemberState, Metadata, Partitions};
use super::reconcile::Reconciliation;
use super::subscription::TopicRegex;
use super::target::{Change, may_compute};
use super::{ConsumerGroup, TimerKind, records};
use crate::assignor::Assignment;
use crate::group::Timer;
use crate::random::Random;
use crate::record::Record;
use crate::size;
use crate::step::RequestContext;
use crate::timers::Timers;
use crate::view::{GroupSettings, View};

/// What became of a member's regular expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RegexChange {
    None,
    /// It is new, and what it matches is not known yet.
    Unresolved,
    /// It is new, and what it matches is known; or there is none any more.
    Resolved,
}

/// What a request changed, before the target is looked at.
pub(super) struct Update {
    /// The group's epoch.
    pub(super) epoch: i32,
    pub(super) regex: RegexChange,
    pub(super) is_subscription_changed: bool,
}

/// Where a group stands after a heartbeat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    epoch: i32,
    /// That of the target which the member follows.
    target_epoch: i32,
}

/// A target is young for this part of the heartbeat's interval.
const YOUNG: i32 = 5;
/// No member is asked to come back sooner than after this part of the interval.
const SOONEST: i32 = 20;
/// Nor so soon that more members than these come in a millisecond.
const MEMBERS_PER_MS: usize = 10;

impl ConsumerGroup {
    /// Answers a heartbeat that does not leave.
    pub(super) fn join_or_go_on(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        context: &RequestContext<'_>,
        view: &View<'_>,
        timers: &mut Timers<Timer>,
        random: &mut Random,
    ) -> Result<
        (
            Vec<Record<'static>>,
            ConsumerGroupHeartbeatResponse<'static>,
        ),
        Refusal,
    > {
        self.check_size(&request.member_id, view)?;
        let found = match request.instance_id.as_deref() {
            None => self.find_dynamic(request, random)?,
            Some(instance_id) => self.find_static(request, instance_id, random)?,
        };
        let before = &found.member;
        let mut records = found.replacement(&self.group_id, &self.state);

        let mut member = before.clone();
        if let Some(metadata) = updated(&before.metadata, request, context) {
            member.metadata = Arc::new(metadata);
        }
        let owned = request.topic_partitions.as_deref();
        let standing = self.advance(&found, &mut member, owned, &mut records, view, timers)?;

        let settings = view.configuration.group(&self.group_id);
        timers.set(
            self.timer_key(TimerKind::Session(member.id.clone())),
            due(view, settings.consumer_session_timeout_ms),
        );

        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some()
                || request.subscribed_topic_regex.is_some())
            && owned.is_some();
        let shows_assignment = request.member_epoch == JOIN_EPOCH
            || is_full
            || before.current.assigned != member.current.assigned;
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(Cow::Owned(member.id.clone())),
            member_epoch: member.current.epoch,
            heartbeat_interval_ms: self.pace(standing, &member, &settings, view),
            assignment: shows_assignment.then(|| response_assignment(&member.current.assigned)),
            ..ConsumerGroupHeartbeatResponse::default()
        };
        Ok((records, response))
    }

    /// Writes what changed of a member, and takes group, target and member one step further.
    pub(super) fn advance(
        &mut self,
        found: &Found,
        member: &mut Member,
        owned: Option<&[TopicPartitions]>,
        records: &mut Vec<Record<'static>>,
        view: &View<'_>,
        timers: &mut Timers<Timer>,
    ) -> Result<Standing, Refusal> {
        let update = self.update(found, member, records, view)?;
        let change = self.change(found, member);
        let (target_epoch, target) = self.target(&change, update.epoch, records, view)?;
        let is_changed = update.is_subscription_changed;
        self.reconcile(
            member,
            target_epoch,
            &target,
            is_changed,
            owned,
            records,
            view,
        )?;
        self.check_bytes(records, view)?;
        self.metadata_revision = Some(view.topics.revision());
        if self.wants_regex_refresh(member, update.regex, view) {
            self.schedule_regex_refresh(view, timers);
        }
        Ok(Standing {
            epoch: update.epoch,
            target_epoch,
        })
    }

    /// In how many milliseconds the member should be heard again.
    ///
    /// At rest that is the group's interval, of 5 s. While a group changes, a member learns what it gives
    /// up with one heartbeat and what others gave up with another: with a whole interval for each, a group
    /// that starts would take two of them. So a member is asked to come back when the next target is due,
    /// soon where it waits for others, and once more shortly after a target that it saw first. The wait
    /// for others grows with its age, since some clients take minutes to give up a partition.
    fn pace(
        &self,
        standing: Standing,
        member: &Member,
        settings: &GroupSettings,
        view: &View<'_>,
    ) -> i32 {
        let full = settings.consumer_heartbeat_interval_ms;
        let age = match standing.target_epoch == self.state.target_epoch() {
            true => view
                .now
                .wall
                .0
                .saturating_sub(self.state.target_timestamp()),
            false => 0,
        };
        // A target from the future says that the clock was set back, and not that it is young.
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        let age = i32::try_from(age).unwrap_or(i32::MAX);
        let wanted = if standing.target_epoch < standing.epoch {
            settings.consumer_assignment_interval_ms.saturating_sub(age)
        } else if member.current.state == MemberState::Unreleased {
            age / 2
        } else if age < full / YOUNG {
            full / YOUNG
        } else {
            full
        };
        let crowd = i32::try_from(self.state.members().len() / MEMBERS_PER_MS).unwrap_or(i32::MAX);
        wanted.max(full / SOONEST).max(crowd).max(1).min(full)
    }

    fn change<'a>(&'a self, found: &'a Found, member: &'a Member) -> Change<'a> {
        Change {
            group_id: &self.group_id,
            state: &self.state,
            before: &found.member,
            member,
            replaced: (found.replaced.as_ref()).map(|replaced| replaced.id.as_str()),
        }
    }

    /// Writes what changed of a member, and the group's epoch if that follows.
    pub(super) fn update(
        &self,
        found: &Found,
        member: &Member,
        records: &mut Vec<Record<'static>>,
        view: &View<'_>,
    ) -> Result<Update, Refusal> {
        let before = &found.member;
        let is_new = found.replaced.is_none() && self.state.member(&member.id).is_none();
        if is_new || before.metadata != member.metadata {
            records.push(records::member(
                &self.group_id,
                &member.id,
                &member.metadata,
            ));
        }
        let change = self.change(found, member);
        let are_topics_changed = before.metadata.topics != member.metadata.topics;
        let regex = regex_change(&change)?;
        if let Some(deserted) = change.deserted_regex() {
            records.push(records::regex_tombstone(&self.group_id, deserted));
        }
        // A new expression that is not resolved yet bumps the epoch once it is.
        let is_bumped = are_topics_changed || regex == RegexChange::Resolved;
        let mut epoch = self.state.epoch();
        if is_bumped || self.is_metadata_stale(view) {
            let hash = self.hash_of(change.subscribed_topics().keys().copied(), view);
            if is_bumped || hash != self.state.metadata_hash() {
                epoch = epoch.saturating_add(1);
                records.push(records::epoch(&self.group_id, epoch, hash));
            }
            if self.state.has_partition_metadata() {
                records.push(records::partition_metadata_tombstone(&self.group_id));
            }
        }
        Ok(Update {
            epoch,
            regex,
            is_subscription_changed: are_topics_changed || regex != RegexChange::None,
        })
    }

    /// Takes the member one step towards a target.
    #[expect(
        clippy::too_many_arguments,
        reason = "what the step rests on comes from three places"
    )]
    pub(super) fn reconcile(
        &self,
        member: &mut Member,
        target_epoch: i32,
        target: &Assignment,
        is_subscription_changed: bool,
        owned: Option<&[TopicPartitions]>,
        records: &mut Vec<Record<'static>>,
        view: &View<'_>,
    ) -> Result<(), Refusal> {
        let next = Reconciliation {
            state: &self.state,
            topics: view.topics,
            member,
            target_epoch,
            target,
            is_subscription_changed,
            owned,
        }
        .next()?;
        if let Some(next) = next {
            records.push(records::current(&self.group_id, &member.id, &next));
            member.current = Arc::new(next);
        }
        Ok(())
    }

    // The target that holds: the last one, or a new one if it is behind and its time has come.
    fn target<'t>(
        &'t self,
        change: &Change<'_>,
        epoch: i32,
        records: &mut Vec<Record<'static>>,
        view: &View<'_>,
    ) -> Result<(i32, Cow<'t, Assignment>), Refusal> {
        let interval_ms =
            (view.configuration.group(&self.group_id)).consumer_assignment_interval_ms;
        let is_behind = self.state.target_epoch() < epoch;
        if is_behind && may_compute(self.state.target_timestamp(), interval_ms, view.now.wall.0) {
            let (of_all, own) = change.compute(epoch, view)?;
            records.extend(of_all);
            return Ok((epoch, Cow::Owned(own)));
        }
        let id = change.replaced.unwrap_or(&change.member.id);
        let target = match self.state.target_of(id) {
            Some(target) => Cow::Borrowed(target),
            None => Cow::Owned(Assignment::new()),
        };
        Ok((self.state.target_epoch(), target))
    }

    // Whether the metadata may have changed since the group looked at it last.
    fn is_metadata_stale(&self, view: &View<'_>) -> bool {
        self.metadata_revision != Some(view.topics.revision())
    }

    pub(super) fn check_size(&self, member_id: &str, view: &View<'_>) -> Result<(), Refusal> {
        let max = view.configuration.settings().consumer_members_max;
        let is_full = i64::try_from(self.state.members().len())
            .is_ok_and(|members| members >= i64::from(max));
        if is_full && (member_id.is_empty() || self.state.member(member_id).is_none()) {
            return Err(Refusal::new(
                ErrorCode::GroupMaxSizeReached,
                format!("The consumer group has reached its maximum capacity of {max} members."),
            ));
        }
        Ok(())
    }

    // What is larger than a batch cannot be stored. Kafka answers as for any failed write.
    pub(super) fn check_bytes(
        &self,
        records: &[Record<'_>],
        view: &View<'_>,
    ) -> Result<(), Refusal> {
        let max = view.configuration.settings().batch_bytes_max;
        match records.is_empty() || size::fits(records, max) {
            true => Ok(()),
            false => Err(Refusal::new(
                ErrorCode::UnknownServerError,
                "The server experienced an unexpected error when processing the request.",
            )),
        }
    }
}

pub(super) fn due(view: &View<'_>, delay_ms: i32) -> i64 {
    view.now
        .monotonic_ms
        .saturating_add(i64::from(delay_ms.max(0)))
}

// Fields that the request leaves out stay as they are. A heartbeat makes a member one of the
// consumer protocol.
fn updated(
    before: &Metadata,
    request: &ConsumerGroupHeartbeatRequest<'_>,
    context: &RequestContext<'_>,
) -> Option<Metadata> {
    let is_text_kept = |before: Option<&str>, now: Option<&str>| now.is_none() || before == now;
    let are_topics_kept = request.subscribed_topic_names.as_ref().is_none_or(|names| {
        names.iter().all(|name| before.topics.contains(&**name))
            && names.len() >= before.topics.len()
            && {
                let mut names: Vec<&str> = names.iter().map(|name| &**name).collect();
                names.sort_unstable();
                names.dedup();
                names.len() == before.topics.len()
            }
    });
    let is_kept = is_text_kept(
        before.instance_id.as_deref(),
        request.instance_id.as_deref(),
    ) && is_text_kept(before.rack_id.as_deref(), request.rack_id.as_deref())
        && is_text_kept(
            before.assignor.as_deref(),
            request.server_assignor.as_deref(),
        )
        && is_text_kept(
            Some(&before.regex),
            request.subscribed_topic_regex.as_deref(),
        )
        && matches!(request.rebalance_timeout_ms, timeout if timeout == -1 || timeout == before.rebalance_timeout_ms)
        && are_topics_kept
        && before.client_id == context.client_id
        && before.client_host == context.client_host
        && before.classic.is_none();
    if is_kept {
        return None;
    }
    let text = |now: &Option<Cow<'_, str>>, before: &Option<String>| match now {
        Some(text) => Some(text.clone().into_owned()),
        None => before.clone(),
    };
    Some(Metadata {
        instance_id: text(&request.instance_id, &before.instance_id),
        rack_id: text(&request.rack_id, &before.rack_id),
        client_id: context.client_id.to_owned(),
        client_host: context.client_host.to_owned(),
        topics: match &request.subscribed_topic_names {
            Some(names) => names.iter().map(|name| name.clone().into_owned()).collect(),
            None => before.topics.clone(),
        },
        regex: match &request.subscribed_topic_regex {
            Some(regex) => regex.clone().into_owned(),
            None => before.regex.clone(),
        },
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            timeout_ms => timeout_ms,
        },
        assignor: text(&request.server_assignor, &before.assignor),
        classic: None,
    })
}

// An expression that nobody in the group has used yet must be one.
fn regex_change(change: &Change<'_>) -> Result<RegexChange, Refusal> {
    let before = change.before.metadata.regex.as_str();
    let now = change.member.metadata.regex.as_str();
    if before == now {
        return Ok(RegexChange::None);
    }
    if now.is_empty() {
        return Ok(RegexChange::Resolved);
    }
    if change.state.subscribed_regexes().contains_key(now) {
        return Ok(match change.state.regexes().contains_key(now) {
            true => RegexChange::Resolved,
            false => RegexChange::Unresolved,
        });
    }
    match TopicRegex::parse(now) {
        Ok(_) => Ok(RegexChange::Unresolved),
        Err(error) => Err(Refusal::new(
            ErrorCode::InvalidRegularExpression,
            format!("SubscribedTopicRegex `{now}` is not a valid regular expression: {error}."),
        )),
    }
}

fn response_assignment(assigned: &Partitions) -> ResponseAssignment {
    ResponseAssignment {
        topic_partitions: (assigned.iter())
            .map(|(topic_id, partitions)| ResponseTopicPartitions {
                topic_id: *topic_id,
                partitions: partitions.keys().copied().collect(),
            })
            .collect(),
    }
}

//! A heartbeat that joins or goes on: the member is created or updated, the group's epoch and
//! target follow, and the member takes one step towards its target.

use std::borrow::Cow;
use std::sync::Arc;

use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::messages::consumer_group_heartbeat_response::{
    Assignment as ResponseAssignment, TopicPartitions as ResponseTopicPartitions,
};
use esker_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use esker_protocol::{ErrorCode, TopicId};

use super::check::Refusal;
use super::member::{Current, JOIN_EPOCH, LEAVE_STATIC_EPOCH, Member, Metadata, Partitions};
use super::reconcile::Reconciliation;
use super::state::State;
use super::target::{Change, may_compute};
use super::{ConsumerGroup, TimerKind, records};
use crate::assignor::Assignment;
use crate::group::Timer;
use crate::group::subscription::{TopicRegex, metadata_hash};
use crate::random::Random;
use crate::record::Record;
use crate::size;
use crate::step::RequestContext;
use crate::timers::Timers;
use crate::view::View;

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
        self.advance(&found, &mut member, owned, &mut records, view, timers)?;

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
            heartbeat_interval_ms: settings.consumer_heartbeat_interval_ms,
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
    ) -> Result<(), Refusal> {
        let update = self.update(found, member, records, view)?;
        let change = self.change(found, member);
        let (target_epoch, target) = self.target(&change, update.epoch, records, view)?;
        let is_changed = update.is_subscription_changed;
        self.reconcile(member, target_epoch, &target, is_changed, owned, records, view)?;
        self.check_bytes(records, view)?;
        self.metadata_revision = Some(view.topics.revision());
        if self.wants_regex_refresh(member, update.regex, view) {
            self.schedule_regex_refresh(view, timers);
        }
        Ok(())
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
            let hash = metadata_hash(change.subscribed_topics().keys().copied(), view.topics);
            if is_bumped || hash != self.state.metadata_hash() {
                epoch += 1;
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
        let fits = records.is_empty()
            || size::of_batch(records).is_ok_and(|bytes| bytes <= max);
        match fits {
            true => Ok(()),
            false => Err(Refusal::new(
                ErrorCode::UnknownServerError,
                "The server experienced an unexpected error when processing the request.",
            )),
        }
    }

    fn find_dynamic(
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

    fn find_static(
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

//! A shard: the groups whose coordinator is one partition of `__consumer_offsets`.
//!
//! ```text
//! load:   replay* -> loaded
//! serve:  handle | tick | topics_deleted -> Step, whose records were replayed already
//! ```
//! A host calls [`Shard::tick`] whenever [`Shard::next_due`] has come, again while it has.

mod dispatch;
mod refuse;
mod replayed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use esker_protocol::{ErrorCode, Offset, ProducerId, Timestamp, TopicId};

use crate::group::classic::ClassicGroup;
use crate::group::consumer::ConsumerGroup;
use crate::group::offsets::Offsets;
use crate::group::{CONSUMER_PROTOCOL_TYPE, Group, Timer, Turn};
use crate::random::Random;
use crate::record::{Key, Record, Value};
use crate::shard::replayed::{commit_for_the_same, consumer_group_id, offset_commit};
use crate::size;
use crate::step::{Request, RequestContext, Response, Step, Ticket};
use crate::timers::Timers;
use crate::view::View;

/// Timers that one call of [`Shard::tick`] serves.
const TIMERS_PER_TICK_MAX: usize = 256;
/// Groups and offsets that one call of [`Shard::tick`] looks at for expiry; the last group is looked
/// at as a whole.
const EXPIRY_STEPS_PER_TICK_MAX: usize = 1_000;
/// Timers that a shard holds: every member and every member id that was handed out has one.
const TIMERS_MAX: usize = 1 << 20;
/// What a member brings along at most, in bytes, where there is hardly any room for members.
const SMALL_MEMBER_BYTES: usize = 64 << 10;
/// What a consumer group's timer gave was too large to append: it rings again.
const RETRY_MS: i64 = 5_000;

/// The groups of one partition of `__consumer_offsets`, with their offsets.
#[derive(Debug)]
pub struct Shard {
    state: State,
    timers: Timers<Timer>,
    random: Random,
    /// Requests that were not answered yet.
    waiting: BTreeSet<Ticket>,
    /// Where the next record goes, as far as this shard knows.
    next_position: Offset,
    is_loaded: bool,
    /// The group with which the expiry that is under way goes on.
    expires_next: Option<Arc<str>>,
}

/// What requests read and change.
#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<Arc<str>, Group>,
    offsets: Offsets,
    /// What members take in memory, about.
    members_bytes: usize,
}

/// What replaying records built, for comparison: equal for a shard that wrote them and one that read
/// them.
#[derive(Clone, PartialEq)]
pub struct DurableState {
    groups: BTreeMap<String, String>,
    offsets: Offsets,
}

impl fmt::Debug for DurableState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableState")
            .field("groups", &self.groups)
            .field("offsets", &self.offsets)
            .finish()
    }
}

/// One committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedOffset<'a> {
    /// The group that committed it.
    pub group: &'a str,
    /// The topic's name.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: Offset,
}

impl Shard {
    /// An empty shard. Member ids follow from `seed`, which must be another one at each load: members
    /// keep ids that no record names, and nobody else may get them.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Shard {
        Shard {
            state: State::default(),
            timers: Timers::default(),
            random: Random::new(seed),
            waiting: BTreeSet::new(),
            next_position: Offset::ZERO,
            is_loaded: false,
            expires_next: None,
        }
    }

    /// Applies a record of the log that is no part of a transaction.
    pub fn replay(&mut self, record: &Record<'_>, offset: Offset, _timestamp: Timestamp) {
        self.next_position = Offset(offset.0.saturating_add(1));
        if let Some((key, value)) = offset_commit(record) {
            self.state.ensure_group(&key.group, value.is_some());
            self.state.offsets.replay(&key, value.as_ref(), offset);
        } else {
            self.replay_group(record);
        }
    }

    /// Applies an offset commit of a transaction that has not ended yet.
    pub fn replay_transactional(
        &mut self,
        producer: ProducerId,
        record: &Record<'_>,
        offset: Offset,
    ) {
        self.next_position = Offset(offset.0.saturating_add(1));
        if let Some((key, value)) = offset_commit(record) {
            self.state.ensure_group(&key.group, value.is_some());
            let offsets = &mut self.state.offsets;
            offsets.replay_transactional(producer, &key, value.as_ref(), offset);
        }
    }

    /// Applies the end of a producer's transaction.
    pub fn replay_marker(&mut self, producer: ProducerId, is_commit: bool) {
        self.state.offsets.replay_marker(producer, is_commit);
    }

    fn replay_group(&mut self, record: &Record<'_>) {
        let groups = &mut self.state.groups;
        if let Key::GroupMetadata(key) = &record.key {
            match &record.value {
                Some(Value::GroupMetadata(value)) => {
                    if !matches!(groups.get(&*key.group), Some(Group::Classic(_))) {
                        let id: Arc<str> = Arc::from(&*key.group);
                        groups.insert(id.clone(), Group::Classic(ClassicGroup::new(id)));
                    }
                    if let Some(Group::Classic(group)) = groups.get_mut(&*key.group) {
                        group.replay(value);
                    }
                }
                _ => self.remove_group(&key.group),
            }
            return;
        }
        let Some(group_id) = consumer_group_id(&record.key) else {
            return;
        };
        match groups.get_mut(group_id) {
            Some(Group::Consumer(group)) => {
                let before = group.bytes();
                group.replay(record);
                let after = group.bytes();
                if record.value.is_none() && group.is_empty_state() {
                    groups.remove(group_id);
                }
                self.state.count_members(before, after);
            }
            _ if record.value.is_none() => {}
            // Offsets of the group came before: they made a classic group of it.
            _ => {
                self.remove_group(group_id);
                let mut group = ConsumerGroup::new(group_id);
                group.replay(record);
                self.state.count_members(0, group.bytes());
                let groups = &mut self.state.groups;
                groups.insert(Arc::from(group_id), Group::Consumer(group));
            }
        }
    }

    fn remove_group(&mut self, group_id: &str) {
        match self.state.groups.remove(group_id) {
            Some(Group::Classic(group)) => {
                group.cancel_timers(&mut self.timers);
                // Until the load has ended they are not counted.
                if self.is_loaded {
                    self.state.count_members(group.bytes(), 0);
                }
            }
            Some(Group::Consumer(group)) => self.state.count_members(group.bytes(), 0),
            None => {}
        }
    }

    /// Ends the load: timers start.
    pub fn loaded(&mut self, view: &View<'_>) -> Step<'static> {
        self.is_loaded = true;
        let mut turn = Turn::new(view, &mut self.timers, &mut self.random);
        let mut members_bytes = 0;
        for group in self.state.groups.values_mut() {
            match group {
                Group::Classic(group) => {
                    group.resume();
                    members_bytes += group.bytes();
                    group.start(&mut turn);
                }
                Group::Consumer(group) => group.loaded(turn.timers, view),
            }
        }
        self.state.count_members(0, members_bytes);
        let interval_ms = view
            .configuration
            .settings()
            .offsets_retention_check_interval_ms;
        let due_ms = turn.due_in(interval_ms);
        turn.timers.set(Timer::ExpireOffsets, due_ms);
        let given = turn.give();
        self.finish(None, given, view)
    }

    /// Handles a request. Its answer is in this step or in a later one.
    pub fn handle<'r>(
        &mut self,
        request: &'r Request<'_>,
        ticket: Ticket,
        context: &RequestContext<'_>,
        view: &View<'_>,
    ) -> Step<'r> {
        self.waiting.insert(ticket);
        if let Some(error) = self.overload(request, view) {
            let response = Shard::refuse(request, context.version, error);
            let given = Given::reply(ticket, response);
            return self.finish(None, given, view);
        }
        let mut turn = Turn::new(view, &mut self.timers, &mut self.random);
        self.state.dispatch(request, ticket, context, &mut turn);
        let mut given = turn.give();
        let batch_bytes_max = view.configuration.settings().batch_bytes_max;
        if size::fits(&given.records, batch_bytes_max) {
            given.is_atomic = true;
        } else if !matches!(request, Request::DeleteGroup(_) | Request::OffsetDelete(_)) {
            // Nothing was changed yet: groups that change at once measure before they do.
            given.records.clear();
            given.replies.retain(|(answered, _)| *answered != ticket);
            let error = ErrorCode::UnknownServerError;
            let response = Shard::refuse(request, context.version, error);
            given.replies.push((ticket, response));
        }
        let group_id = dispatch::group_id(request);
        self.finish(group_id, given, view)
    }

    /// Why a request that would take memory is refused. Members that are there go on: refused, they
    /// would give up, and so would their groups.
    fn overload(&self, request: &Request<'_>, view: &View<'_>) -> Option<ErrorCode> {
        let (is_new, bytes) = match request {
            Request::JoinGroup(join) => {
                let protocols = join.protocols.iter();
                let bytes = protocols
                    .map(|one| one.name.len() + one.metadata.len())
                    .sum();
                (join.member_id.is_empty(), bytes)
            }
            Request::ConsumerGroupHeartbeat(heartbeat) => {
                let topics = heartbeat.subscribed_topic_names.iter().flatten();
                let regex = heartbeat.subscribed_topic_regex.as_ref();
                let bytes = topics.map(|name| name.len()).sum::<usize>()
                    + regex.map_or(0, |regex| regex.len());
                (heartbeat.member_epoch == 0, bytes)
            }
            _ => return None,
        };
        let grows = is_new || bytes > SMALL_MEMBER_BYTES;
        let members_bytes_max = view.configuration.members_bytes_max();
        let is_full = is_new && self.timers.len() >= TIMERS_MAX
            || grows && self.state.members_bytes >= members_bytes_max;
        is_full.then_some(ErrorCode::GroupMaxSizeReached)
    }

    /// Serves what is due, not more than a constant amount of it.
    pub fn tick(&mut self, view: &View<'_>) -> Step<'static> {
        let mut step = Step {
            is_atomic: true,
            ..Step::default()
        };
        for _ in 0..TIMERS_PER_TICK_MAX {
            let Some(timer) = self.timers.pop_due(view.now.monotonic_ms) else {
                break;
            };
            let is_expiry = timer == Timer::ExpireOffsets;
            let mut part = self.ring(timer, view);
            step.replies.append(&mut part.replies);
            // What one timer gives is one batch, and an expiry is enough work for a call.
            if is_expiry || !part.records.is_empty() {
                step.is_atomic = part.is_atomic;
                step.records = part.records;
                break;
            }
        }
        step
    }

    fn ring(&mut self, timer: Timer, view: &View<'_>) -> Step<'static> {
        let (group_id, given) = match &timer {
            Timer::ExpireOffsets => return self.expire_offsets(view),
            Timer::Classic { group, kind } => {
                let mut turn = Turn::new(view, &mut self.timers, &mut self.random);
                let state = &mut self.state;
                if let Some(Group::Classic(group)) = state.groups.get_mut(group) {
                    let before = group.bytes();
                    group.timer_due(kind, &mut turn);
                    let after = group.bytes();
                    state.count_members(before, after);
                }
                (group, turn.give())
            }
            Timer::Consumer { group, kind } => {
                let mut turn = Turn::new(view, &mut self.timers, &mut self.random);
                let state = &mut self.state;
                if let Some(Group::Consumer(group)) = state.groups.get_mut(group) {
                    turn.records = group.timer(kind, view, turn.timers);
                }
                let given = turn.give();
                let batch_bytes_max = view.configuration.settings().batch_bytes_max;
                if size::fits(&given.records, batch_bytes_max) {
                    (group, given)
                } else {
                    let due_ms = view.now.monotonic_ms.saturating_add(RETRY_MS);
                    self.timers.set(timer, due_ms);
                    return Step::default();
                }
            }
        };
        let given = Given {
            is_atomic: true,
            ..given
        };
        self.finish(Some(&**group_id), given, view)
    }

    fn expire_offsets(&mut self, view: &View<'_>) -> Step<'static> {
        let settings = view.configuration.settings();
        let from = self.expires_next.take().unwrap_or_else(|| Arc::from(""));
        let mut records = Vec::new();
        let mut steps = 0;
        for (group_id, group) in self.state.groups.range(from..) {
            if steps >= EXPIRY_STEPS_PER_TICK_MAX {
                self.expires_next = Some(group_id.clone());
                break;
            }
            let offsets = &self.state.offsets;
            steps += 1 + offsets.count(group_id);
            let now = view.now.wall;
            let retention_ms = settings.offsets_retention_ms;
            if offsets.expire(group_id, group, now, retention_ms, &mut records) && group.is_empty()
            {
                records.extend(group.tombstones());
            }
        }
        let delay_ms = match self.expires_next {
            Some(_) => 0,
            None => settings.offsets_retention_check_interval_ms.max(1),
        };
        let due_ms = view.now.monotonic_ms.saturating_add(delay_ms);
        self.timers.set(Timer::ExpireOffsets, due_ms);
        let given = Given {
            records,
            ..Given::default()
        };
        self.finish(None, given, view)
    }

    /// Topics are gone: so are the offsets that were committed for them.
    pub fn topics_deleted(
        &mut self,
        topics: &[(String, TopicId)],
        view: &View<'_>,
    ) -> Step<'static> {
        let given = Given {
            records: self.state.offsets.delete_topics(topics),
            ..Given::default()
        };
        self.finish(None, given, view)
    }

    /// Replays what an event gave. `group_id` is the group that it was for.
    fn finish<'r>(
        &mut self,
        group_id: Option<&str>,
        given: Given<'r>,
        view: &View<'_>,
    ) -> Step<'r> {
        self.apply(&given.records);
        let mut step = Step {
            records: given.records,
            is_atomic: given.is_atomic,
            replies: given.replies,
        };
        let mut resumed = 0;
        let group = group_id.and_then(|id| self.state.groups.get_mut(id));
        match group {
            Some(Group::Consumer(group)) => group.after_replay(view, &mut self.timers),
            Some(Group::Classic(group)) if group.is_behind() => {
                group.resume();
                resumed = group.bytes();
                let mut turn = Turn::new(view, &mut self.timers, &mut self.random);
                group.start(&mut turn);
                if given.rebalances_when_downgraded {
                    group.rebalance_if_stable(&mut turn);
                }
                let mut more = turn.give();
                self.apply(&more.records);
                step.records.append(&mut more.records);
                step.replies.append(&mut more.replies);
            }
            _ => {}
        }
        self.state.count_members(0, resumed);
        for (ticket, _) in &step.replies {
            self.waiting.remove(ticket);
        }
        step
    }

    fn apply(&mut self, records: &[Record<'_>]) {
        for run in records.chunk_by(commit_for_the_same) {
            match run {
                [one] => self.replay(one, self.next_position, Timestamp::NONE),
                run => self.replay_commits(run),
            }
        }
    }

    /// Replays commits of one group for one topic: what they are for is looked up once.
    fn replay_commits(&mut self, run: &[Record<'_>]) {
        let Some((of, _)) = run.first().and_then(offset_commit) else {
            return;
        };
        self.state.ensure_group(&of.group, true);
        let positions = (self.next_position.0..).map(Offset);
        let commits = run.iter().zip(positions);
        let commits = commits.filter_map(|(record, position)| {
            let (key, value) = offset_commit(record)?;
            Some((key.partition, value?, position))
        });
        let offsets = &mut self.state.offsets;
        offsets.replay_commits(&of.group, &of.topic, commits);
        let next = self
            .next_position
            .0
            .saturating_add_unsigned(run.len() as u64);
        self.next_position = Offset(next);
    }

    /// When [`Shard::tick`] is due, in monotonic milliseconds.
    #[must_use]
    pub fn next_due(&self) -> Option<i64> {
        self.timers.next_due()
    }

    /// How many requests wait for their answer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.waiting.len()
    }

    /// Takes out the requests that wait for their answer: the shard ends, its host answers them.
    pub fn take_pending(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.waiting).into_iter().collect()
    }

    /// What members take in memory, in bytes, about.
    #[must_use]
    pub fn members_bytes(&self) -> usize {
        self.state.members_bytes
    }

    /// How many groups there are of each type and state, under Kafka's names.
    #[must_use]
    pub fn groups(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let mut counts = BTreeMap::new();
        for group in self.state.groups.values() {
            let entry = counts.entry((group.type_name(), group.state_name()));
            *entry.or_insert(0) += 1;
        }
        counts
    }

    /// The committed offsets of groups of consumers, ordered by group, topic and partition.
    pub fn committed(&self) -> impl Iterator<Item = CommittedOffset<'_>> {
        let of_consumers = |group_id: &&str| match self.state.groups.get(*group_id) {
            None => false,
            Some(group) => matches!(group.protocol_type(), "" | CONSUMER_PROTOCOL_TYPE),
        };
        let offsets = &self.state.offsets;
        offsets.groups().filter(of_consumers).flat_map(|group| {
            let of_group = offsets.of_group(group);
            of_group.map(move |(topic, partition, committed)| CommittedOffset {
                group,
                topic,
                partition,
                offset: committed.offset,
            })
        })
    }

    /// What replay built.
    #[must_use]
    pub fn durable_state(&self) -> DurableState {
        let groups = self.state.groups.iter().map(|(group_id, group)| {
            let text = match group {
                Group::Classic(group) => format!("{:?}", group.durable_state()),
                Group::Consumer(group) => format!("{:?}", group.durable_state()),
            };
            ((**group_id).to_owned(), text)
        });
        DurableState {
            groups: groups.collect(),
            offsets: self.state.offsets.without_positions(),
        }
    }

    /// How a request is answered where there is no shard: it is loading, or elsewhere.
    #[must_use]
    pub fn refuse(request: &Request<'_>, version: i16, error: ErrorCode) -> Response {
        refuse::refuse(request, version, error)
    }
}

/// What an event gave.
#[derive(Debug, Default)]
pub(crate) struct Given<'r> {
    records: Vec<Record<'r>>,
    replies: Vec<(Ticket, Response)>,
    is_atomic: bool,
    rebalances_when_downgraded: bool,
}

impl Given<'_> {
    fn reply(ticket: Ticket, response: Response) -> Self {
        Given {
            replies: vec![(ticket, response)],
            ..Given::default()
        }
    }
}

impl<'t, 'r> Turn<'t, 'r> {
    fn new(view: &View<'t>, timers: &'t mut Timers<Timer>, random: &'t mut Random) -> Turn<'t, 'r> {
        Turn {
            view: *view,
            timers,
            random,
            records: Vec::new(),
            replies: Vec::new(),
            rebalances_when_downgraded: true,
        }
    }

    fn give(self) -> Given<'r> {
        Given {
            records: self.records,
            replies: self.replies,
            rebalances_when_downgraded: self.rebalances_when_downgraded,
            ..Given::default()
        }
    }
}

//! Group coordinators: hosts a shard for every partition of `__consumer_offsets` that this broker
//! leads.
//!
//! ```text
//! image, passes -> follow -> load (log -> shard) -> active -> ended
//!                                                     |
//!            handler -> submit -> Shard::handle -> append -> wait until committed -> reply
//! ```
//!
//! Invariants
//! - A shard lives within one leadership: it is loaded under an epoch and ends with it. What it has
//!   not told anybody by then is told by nobody.
//! - A reply leaves once the high watermark has passed everything that the shard had appended when it
//!   was made: a client never sees what a crash could take back.
//! - Records that cannot be appended end the shard; the log is loaded again after a pause. Meanwhile
//!   requests get a retriable error.
//! - "Not loaded yet" is an error, never an empty answer.

mod active;
pub mod lag;
mod load;
mod view;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_coordinator::{Request, RequestContext, Response, Shard};
use esker_metadata::values::TopicState;
use esker_protocol::{ErrorCode, LeaderEpoch, TopicId};
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::broker::Shared;
use crate::partition::Partition;
use crate::topics::{self, NewTopic, OFFSETS_TOPIC, Refusal};
use active::Active;

/// How long a shard that failed waits before its log is loaded again: twice as long each time that it
/// fails again soon.
const RELOAD_PAUSE_MIN: Duration = Duration::from_secs(1);
const RELOAD_PAUSE_MAX: Duration = Duration::from_secs(8);

/// After so long without a failure the next is the first.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// How long FindCoordinator waits for the topic that it creates; clients ask again anyway.
const CREATION_TIME_MAX: Duration = Duration::from_secs(5);

/// Rings of one shard's timers that are served before others have their turn.
const TICKS_MAX: usize = 16;

/// The shards of this broker.
pub struct Coordinators {
    shards: Mutex<BTreeMap<i32, Arc<Host>>>,
    /// The origin of the clock that timers count.
    started: Instant,
    /// Rings when a timer may be due earlier than the loop expects.
    rearm: Notify,
    /// What members of all shards take in memory.
    members_bytes: Arc<AtomicUsize>,
}

/// One partition's shard, from the beginning of its loading to its end.
struct Host {
    index: i32,
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    state: Mutex<State>,
    failures: Mutex<Failures>,
}

/// How often a shard has failed of late.
#[derive(Debug, Default)]
struct Failures {
    last: Option<Instant>,
    pause: Duration,
}

impl Failures {
    /// Notes one; returns when to try again.
    fn note(&mut self, now: Instant) -> Instant {
        let is_first = self
            .last
            .is_none_or(|last| now.duration_since(last) > FAILURES_FORGOTTEN_AFTER);
        self.pause = match is_first {
            true => RELOAD_PAUSE_MIN,
            false => (self.pause * 2).min(RELOAD_PAUSE_MAX),
        };
        self.last = Some(now);
        now + self.pause
    }
}

enum State {
    /// The log is being read.
    Loading,
    /// Requests are served.
    Active(Box<Active>),
    /// The log is loaded again at this time.
    Failed(Instant),
    /// The leadership is over.
    Ended,
}

/// A request that was handed to a shard.
pub(crate) enum Submitted {
    /// The answer is there, and all it rests on is committed.
    Ready(Response),
    /// The answer comes; `None` closes the connection. With what it takes in memory already, in bytes.
    Waiting(BoxFuture<'static, Option<Response>>, usize),
}

impl Submitted {
    /// What the answer takes in memory, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Submitted::Ready(response) => response.bytes(),
            Submitted::Waiting(_, bytes) => *bytes,
        }
    }
}

impl Default for Coordinators {
    fn default() -> Coordinators {
        Coordinators {
            shards: Mutex::default(),
            started: Instant::now(),
            rearm: Notify::new(),
            members_bytes: Arc::default(),
        }
    }
}

/// The partition of `__consumer_offsets` that holds a group: Java's string hash over UTF-16 units,
/// as Kafka has it.
#[must_use]
pub fn partition_of(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka's own `abs` makes 0 of the number that has no positive counterpart.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

impl Coordinators {
    /// Milliseconds of the clock that timers count.
    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn hosts(&self) -> Vec<Arc<Host>> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.values().map(Arc::clone).collect()
    }

    fn host(&self, index: i32) -> Option<Arc<Host>> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.get(&index).map(Arc::clone)
    }

    /// Hands a request to the shard of its group. State has changed when this returns; what is
    /// waited for then is the commit, or other members.
    pub(crate) fn submit(
        &self,
        shared: &Arc<Shared>,
        group_id: &str,
        request: &Request<'_>,
        context: &RequestContext<'_>,
    ) -> Submitted {
        let host = offsets_topic(shared)
            .and_then(|(_, partitions)| self.host(partition_of(group_id, partitions)));
        let submitted = match host {
            Some(host) => host.submit(shared, request, context),
            None => Err(ErrorCode::NotCoordinator),
        };
        submitted
            .unwrap_or_else(|code| Submitted::Ready(Shard::refuse(request, context.version, code)))
    }

    /// Hands a request for all groups to every shard.
    ///
    /// # Errors
    /// One of the shards is not loaded: it refuses for all.
    pub(crate) fn submit_to_all(
        &self,
        shared: &Arc<Shared>,
        request: &Request<'_>,
        context: &RequestContext<'_>,
    ) -> Result<Vec<Submitted>, ErrorCode> {
        let mut submitted = Vec::new();
        for host in self.hosts() {
            match host.submit(shared, request, context) {
                Ok(one) => submitted.push(one),
                // Its groups are another broker's.
                Err(ErrorCode::NotCoordinator) => {}
                Err(code) => return Err(code),
            }
        }
        Ok(submitted)
    }

    /// How many shards are in which state, under Kafka's names.
    pub(crate) fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states: BTreeMap<&'static str, usize> =
            [("active", 0), ("failed", 0), ("loading", 0)].into();
        for host in self.hosts() {
            let name = match &*host.state() {
                State::Loading => "loading",
                State::Active(_) => "active",
                State::Failed(_) => "failed",
                State::Ended => continue,
            };
            *states.entry(name).or_default() += 1;
        }
        states
    }

    /// Calls `each` with every active shard.
    pub(crate) fn for_each_active(&self, mut each: impl FnMut(&Shard)) {
        for host in self.hosts() {
            if let State::Active(active) = &*host.state() {
                each(active.shard());
            }
        }
    }
}

/// Id and partition count of `__consumer_offsets`.
fn offsets_topic(shared: &Shared) -> Option<(TopicId, i32)> {
    let image = shared.image();
    let topic = &image.topic(OFFSETS_TOPIC)?.value;
    let is_made = topic.state != TopicState::Creating && topic.partitions > 0;
    is_made.then_some((topic.topic_id, topic.partitions))
}

/// Creates `__consumer_offsets` if it is not there. Returns its id and partition count.
///
/// # Errors
/// It cannot be created, or not yet.
pub(crate) async fn ensure_topic(shared: &Arc<Shared>) -> Result<(TopicId, i32), Refusal> {
    if shared.topic_id(OFFSETS_TOPIC).is_some()
        && let Some(found) = offsets_topic(shared)
    {
        return Ok(found);
    }
    let offsets = &shared.config.offsets_topic;
    let new = NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: offsets.partitions,
        replication_factor: offsets.replication_factor,
        configs: [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", offsets.segment_bytes.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        assignment: Vec::new(),
    };
    let not_yet = || {
        Refusal::new(
            ErrorCode::CoordinatorNotAvailable,
            "The topic is being created.",
        )
    };
    match tokio::time::timeout(CREATION_TIME_MAX, topics::create(shared, new, false)).await {
        Ok(Ok(_)) => {}
        Ok(Err(refusal)) if refusal.code == ErrorCode::TopicAlreadyExists => {}
        Ok(Err(refusal)) => return Err(refusal),
        Err(_) => return Err(not_yet()),
    }
    offsets_topic(shared).ok_or_else(not_yet)
}

impl Host {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the leadership under which the shard was loaded is still there.
    fn is_led(&self) -> bool {
        self.partition.leading() == Some(self.epoch) && !self.partition.is_offline()
    }

    /// Hands a request to the shard, or says why there is none.
    fn submit(
        &self,
        shared: &Arc<Shared>,
        request: &Request<'_>,
        context: &RequestContext<'_>,
    ) -> Result<Submitted, ErrorCode> {
        let mut state = self.state();
        let code = match &mut *state {
            State::Active(_) if !self.is_led() => ErrorCode::NotCoordinator,
            State::Active(active) => {
                let submitted = active.submit(shared, &self.partition, request, context);
                self.settle(shared, &mut state);
                return Ok(submitted);
            }
            State::Loading => ErrorCode::CoordinatorLoadInProgress,
            State::Failed(_) => ErrorCode::CoordinatorNotAvailable,
            State::Ended => ErrorCode::NotCoordinator,
        };
        Err(code)
    }

    /// After a step: a shard that has failed is dropped, and the loop is told of earlier timers.
    fn settle(&self, shared: &Shared, state: &mut State) {
        let State::Active(active) = state else {
            return;
        };
        if let Some(problem) = active.failed() {
            warn!(partition = self.index, %problem, "a coordinator's records cannot be appended; its log is loaded again");
            *state = self.failed();
            shared.coordinators.rearm.notify_one();
        } else if active.is_earlier_due() {
            shared.coordinators.rearm.notify_one();
        }
    }

    /// The state after a failure.
    fn failed(&self) -> State {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        State::Failed(failures.note(Instant::now()))
    }

    /// Ends the shard: everybody who waits is told to look elsewhere.
    fn end(&self) {
        *self.state() = State::Ended;
    }
}

/// Follows leaderships, loads and ends shards, and rings timers, until `stop`.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut images = shared.images();
    let mut passes = shared.replicas.passes();
    let mut deleted = BTreeSet::new();
    let loads = TaskTracker::new();
    loop {
        images.mark_unchanged();
        passes.mark_unchanged();
        follow(&shared, &loads, &stop);
        forget_deleted(&shared, &mut deleted);
        let due = ring(&shared);
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = images.changed() => if changed.is_err() { break },
            changed = passes.changed() => if changed.is_err() { break },
            () = shared.coordinators.rearm.notified() => {}
            () = timer => {}
        }
    }
    for host in shared.coordinators.hosts() {
        host.end();
    }
    loads.close();
    loads.wait().await;
}

/// Brings the shards in line with what this broker leads.
fn follow(shared: &Arc<Shared>, loads: &TaskTracker, stop: &CancellationToken) {
    let led: BTreeMap<i32, (Arc<Partition>, LeaderEpoch)> = match offsets_topic(shared) {
        Some((id, count)) => (0..count)
            .filter_map(|index| {
                let partition = shared.partitions.get(id, index)?;
                let epoch = partition.leading()?;
                Some((index, (partition, epoch)))
            })
            .collect(),
        None => BTreeMap::new(),
    };
    let mut begun = Vec::new();
    {
        let mut shards = shared
            .coordinators
            .shards
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shards.retain(|index, host| {
            let stays = led.get(index).is_some_and(|(partition, epoch)| {
                Arc::ptr_eq(partition, &host.partition) && *epoch == host.epoch
            });
            if !stays {
                host.end();
            }
            stays
        });
        for (index, (partition, epoch)) in led {
            if let Entry::Vacant(place) = shards.entry(index) {
                let host = Arc::new(Host {
                    index,
                    partition,
                    epoch,
                    state: Mutex::new(State::Loading),
                    failures: Mutex::default(),
                });
                place.insert(Arc::clone(&host));
                begun.push(host);
            }
        }
        for host in shards.values() {
            let mut state = host.state();
            if matches!(*state, State::Failed(due) if due <= Instant::now()) {
                *state = State::Loading;
                begun.push(Arc::clone(host));
            }
        }
    }
    for host in begun {
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        let environment = shared.environment.clone();
        environment.spawn(loads, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = load(&shared, &host) => {}
            }
        });
    }
}

/// Loads one shard and lets requests in.
async fn load(shared: &Arc<Shared>, host: &Arc<Host>) {
    let began = Instant::now();
    let loaded = load::load(shared, &host.partition).await;
    let mut state = host.state();
    if !matches!(*state, State::Loading) {
        return;
    }
    match loaded {
        Ok(_) if !host.is_led() => *state = State::Ended,
        Ok(loaded) => {
            let records = loaded.records;
            let active = Active::begin(shared, &host.partition, loaded);
            let groups: usize = active.shard().groups().values().sum();
            *state = State::Active(Box::new(active));
            host.settle(shared, &mut state);
            let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            if records > 0 {
                info!(
                    partition = host.index,
                    records, groups, elapsed_ms, "coordinator loaded"
                );
            }
            shared.metrics.coordinator_loaded(elapsed_ms);
            shared.coordinators.rearm.notify_one();
        }
        Err(problem) => {
            warn!(partition = host.index, %problem, "a coordinator's log cannot be loaded");
            *state = host.failed();
            shared.coordinators.rearm.notify_one();
        }
    }
}

/// Tells the shards of topics that were deleted since the last look. A shard that is loaded later is
/// told of all of them then.
fn forget_deleted(shared: &Arc<Shared>, seen: &mut BTreeSet<TopicId>) {
    let image = shared.image();
    let mut names = Vec::new();
    for (id, deleted) in image.deleted() {
        if seen.insert(id) {
            names.push((deleted.value.topic.clone(), id));
        }
    }
    seen.retain(|id| image.deleted_topic(*id).is_some());
    if names.is_empty() {
        return;
    }
    for host in shared.coordinators.hosts() {
        let mut state = host.state();
        if let State::Active(active) = &mut *state {
            active.topics_deleted(shared, &host.partition, &names);
            host.settle(shared, &mut state);
        }
    }
}

/// Rings what is due and returns when to look again.
fn ring(shared: &Arc<Shared>) -> Option<Instant> {
    let coordinators = &shared.coordinators;
    let mut next: Option<Instant> = None;
    for host in coordinators.hosts() {
        let mut state = host.state();
        let due = match &mut *state {
            State::Active(active) => {
                for _ in 0..TICKS_MAX {
                    let now = coordinators.monotonic_ms();
                    if active.failed().is_some() || active.next_due().is_none_or(|due| due > now) {
                        break;
                    }
                    active.tick(shared, &host.partition);
                }
                let due = active.plan_due();
                host.settle(shared, &mut state);
                due.map(|due_ms| {
                    let millis = u64::try_from(due_ms).unwrap_or(0);
                    coordinators.started + Duration::from_millis(millis)
                })
            }
            State::Failed(due) => Some(*due),
            State::Loading | State::Ended => None,
        };
        next = match (next, due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    next
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{FAILURES_FORGOTTEN_AFTER, Failures, RELOAD_PAUSE_MAX, partition_of};

    #[test]
    fn a_shard_that_fails_again_and_again_waits_longer_each_time() {
        let mut failures = Failures::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let due = failures.note(now);
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 8, 8, RELOAD_PAUSE_MAX.as_secs()]);
        now += FAILURES_FORGOTTEN_AFTER + Duration::from_secs(40);
        assert_eq!((failures.note(now) - now).as_secs(), 1);
    }

    #[test]
    fn a_groups_partition_is_kafkas() {
        // Seen on a running Apache Kafka 4.3.0.
        assert_eq!(partition_of("g1", 50), 42);
        assert_eq!(partition_of("g2", 50), 43);
        assert_eq!(partition_of("", 50), 0);
        // This text's hash is -2147483648, whose absolute value Kafka takes for 0.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
    }
}

//! A loaded shard: its steps are appended, and its replies wait for the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use esker_coordinator::{Request, RequestContext, Response, Settings, Shard, Step, Ticket};
use esker_protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use esker_protocol::messages::describe_groups_response::DescribedGroup;
use esker_protocol::messages::{
    ConsumerGroupHeartbeatResponse, JoinGroupResponse, SyncGroupResponse,
};
use esker_protocol::primitive::Writer;
use esker_protocol::records::{BatchBuilder, BatchOptions};
use esker_protocol::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Submitted;
use super::load::Loaded;
use super::view::World;
use crate::broker::Shared;
use crate::commit::Urgency;
use crate::partition::{Partition, ProduceFailure};

/// A reply, and what must be committed before it leaves.
type Answered = (Response, Offset);

pub(super) struct Active {
    shard: Shard,
    /// Who waits for which ticket.
    waiting: BTreeMap<Ticket, oneshot::Sender<Answered>>,
    tickets: u64,
    /// The end of what the shard rests on: replies wait until it is committed.
    end: Offset,
    failed: Option<AppendProblem>,
    held: Held,
    /// The broker's settings, with the largest batch that this shard's log takes.
    settings: Arc<Settings>,
    /// When the loop will look at the timers.
    planned_due: Option<i64>,
    /// How long a commit may wait for others.
    urgency: Urgency,
}

/// Most records take no more, in bytes.
const RECORD_BYTES_EXPECTED: usize = 160;

/// What the members of all shards of this process may take in memory; above it nobody joins.
const MEMBERS_BYTES_MAX: usize = 512 << 20;

/// What a shard's members take of it, until the shard ends.
struct Held {
    /// What all shards' members take.
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    fn nothing(all: &Arc<AtomicUsize>) -> Held {
        Held {
            all: Arc::clone(all),
            bytes: 0,
        }
    }

    fn set(&mut self, bytes: usize) {
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// What this shard's members may take beside those of the others.
    fn max(&self) -> usize {
        let all = self.all.load(Ordering::Relaxed);
        MEMBERS_BYTES_MAX.saturating_sub(all.saturating_sub(self.bytes))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Why a step's records cannot be appended.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendProblem {
    #[error("{0}")]
    Refused(#[from] ProduceFailure),
    #[error("{0}")]
    Build(#[from] esker_protocol::records::BuildError),
    #[error("{0}")]
    Record(#[from] esker_coordinator::RecordError),
}

impl AppendProblem {
    /// What a client is told, as Kafka tells it.
    fn code(&self) -> ErrorCode {
        match self {
            AppendProblem::Refused(ProduceFailure::NotLeader) => ErrorCode::NotCoordinator,
            AppendProblem::Refused(ProduceFailure::Invalid(_))
            | AppendProblem::Build(_)
            | AppendProblem::Record(_) => ErrorCode::UnknownServerError,
            // Retriable: the log may have room, or be another broker's, when the client asks again.
            AppendProblem::Refused(ProduceFailure::Append(_)) => ErrorCode::CoordinatorNotAvailable,
        }
    }
}

impl Active {
    /// Lets a loaded shard begin: its timers start, and it hears of the topics that are gone.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        partition: &Arc<Partition>,
        loaded: Loaded,
    ) -> Active {
        let mut active = Active {
            shard: loaded.shard,
            waiting: BTreeMap::new(),
            tickets: 0,
            end: loaded.end,
            failed: None,
            held: Held::nothing(&shared.coordinators.members_bytes),
            settings: Arc::clone(&shared.config.groups),
            planned_due: None,
            urgency: match shared.config.coordinator_append_linger {
                Some(linger) => Urgency::Lingers(linger),
                None => Urgency::Urgent,
            },
        };
        let world = active.world(shared, partition);
        let step = active.shard.loaded(&world.view());
        active.carry_out(partition, world.wall(), step, None);
        let image = shared.image();
        let deleted: Vec<(String, TopicId)> = image
            .deleted()
            .map(|(id, deleted)| (deleted.value.topic.clone(), id))
            .collect();
        if !deleted.is_empty() && active.failed.is_none() {
            active.topics_deleted(shared, partition, &deleted);
        }
        active
    }

    fn world(&mut self, shared: &Shared, partition: &Partition) -> World {
        let batch_bytes_max = partition.config().message_bytes_max as usize;
        if self.settings.batch_bytes_max != batch_bytes_max {
            self.settings = Arc::new(Settings {
                batch_bytes_max,
                ..(*shared.config.groups).clone()
            });
        }
        World::now(shared, Arc::clone(&self.settings), self.held.max())
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    pub(super) fn failed(&self) -> Option<&AppendProblem> {
        self.failed.as_ref()
    }

    pub(super) fn next_due(&self) -> Option<i64> {
        self.shard.next_due()
    }

    /// Notes when the loop looks again.
    pub(super) fn plan_due(&mut self) -> Option<i64> {
        self.planned_due = self.shard.next_due();
        self.planned_due
    }

    /// Whether a timer is due before the loop looks again.
    pub(super) fn is_earlier_due(&self) -> bool {
        match (self.shard.next_due(), self.planned_due) {
            (Some(due), Some(planned)) => due < planned,
            (due, None) => due.is_some(),
            (None, Some(_)) => false,
        }
    }

    pub(super) fn submit(
        &mut self,
        shared: &Arc<Shared>,
        partition: &Arc<Partition>,
        request: &Request<'_>,
        context: &RequestContext<'_>,
    ) -> Submitted {
        let world = self.world(shared, partition);
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let step = self.shard.handle(request, ticket, context, &world.view());
        let answered = self.carry_out(partition, world.wall(), step, Some(ticket));
        let time_max = shared.config.offsets_commit_timeout;
        // These two wait for other members, and may wait until the shard ends.
        let unanswered = match request {
            Request::JoinGroup(_) | Request::SyncGroup(_) => Some(Shard::refuse(
                request,
                context.version,
                ErrorCode::NotCoordinator,
            )),
            _ => None,
        };
        let wait = Wait {
            partition: Arc::clone(partition),
            epoch: partition.leading(),
            unanswered,
        };
        match answered {
            Some((response, end)) if partition.high_watermark() >= end => {
                Submitted::Ready(response)
            }
            Some(answered) => {
                // From now on, not from when others were waited for.
                let deadline = Instant::now() + time_max;
                let bytes = answered.0.bytes();
                let wait = async move { Some(wait.committed(answered, deadline).await) };
                Submitted::Waiting(Box::pin(wait), bytes)
            }
            None if self.failed.is_some() => {
                Submitted::Waiting(Box::pin(async move { wait.lost() }), 0)
            }
            None => {
                let (sender, receiver) = oneshot::channel();
                self.waiting.insert(ticket, sender);
                let wait = async move {
                    match receiver.await {
                        Ok(answered) => {
                            let deadline = Instant::now() + time_max;
                            Some(wait.committed(answered, deadline).await)
                        }
                        Err(_) => wait.lost(),
                    }
                };
                Submitted::Waiting(Box::pin(wait), 0)
            }
        }
    }

    pub(super) fn tick(&mut self, shared: &Arc<Shared>, partition: &Arc<Partition>) {
        let world = self.world(shared, partition);
        let step = self.shard.tick(&world.view());
        self.carry_out(partition, world.wall(), step, None);
    }

    pub(super) fn topics_deleted(
        &mut self,
        shared: &Arc<Shared>,
        partition: &Arc<Partition>,
        deleted: &[(String, TopicId)],
    ) {
        let world = self.world(shared, partition);
        let step = self.shard.topics_deleted(deleted, &world.view());
        self.carry_out(partition, world.wall(), step, None);
    }

    /// Appends a step's records and hands out its replies; that to `asker`, who is here and does not
    /// wait yet, is returned. After a failure all who wait learn that the shard has ended.
    fn carry_out(
        &mut self,
        partition: &Partition,
        now: Timestamp,
        step: Step<'_>,
        asker: Option<Ticket>,
    ) -> Option<Answered> {
        self.held.set(self.shard.members_bytes());
        let appended = self.append(partition, now, &step);
        if !step.records.is_empty() {
            partition.ask_for_commit(self.urgency);
        }
        let mut answered = None;
        for (ticket, mut response) in step.replies {
            if let Err(problem) = &appended {
                set_code(&mut response, problem.code());
            }
            let reply = (response, self.end);
            if asker == Some(ticket) {
                answered = Some(reply);
            } else if let Some(waiting) = self.waiting.remove(&ticket) {
                // Whoever asked may be gone.
                let _ = waiting.send(reply);
            }
        }
        if let Err(problem) = appended {
            self.failed = Some(problem);
            self.waiting.clear();
        }
        answered
    }

    fn append(
        &mut self,
        partition: &Partition,
        now: Timestamp,
        step: &Step<'_>,
    ) -> Result<(), AppendProblem> {
        if step.records.is_empty() {
            return Ok(());
        }
        let bytes_max = partition.config().message_bytes_max as usize;
        let batch_of = |records: usize| {
            let expected = records.saturating_mul(RECORD_BYTES_EXPECTED);
            BatchBuilder::new(BatchOptions::default()).with_room_for(expected.min(bytes_max))
        };
        let mut writer = Writer::with_capacity(RECORD_BYTES_EXPECTED);
        let mut batch = batch_of(step.records.len());
        for (number, record) in step.records.iter().enumerate() {
            let (key, value) = record.encode_with(&mut writer)?;
            let record_bytes = BatchBuilder::record_bytes_max(Some(key), value, &[]);
            let is_full = batch.size_estimate().saturating_add(record_bytes) > bytes_max;
            // What stands or falls together is one batch, or is refused by the log.
            if is_full && !step.is_atomic && !batch.is_empty() {
                let full = std::mem::replace(&mut batch, batch_of(step.records.len() - number));
                self.append_batch(partition, now, full)?;
            }
            batch.append(now, Some(key), value, &[])?;
        }
        self.append_batch(partition, now, batch)
    }

    fn append_batch(
        &mut self,
        partition: &Partition,
        now: Timestamp,
        batch: BatchBuilder,
    ) -> Result<(), AppendProblem> {
        let rules = partition.produce_rules(now, true);
        let appended = partition.append_built(batch.into_built()?, &rules)?;
        self.end = self.end.max(appended.end);
        Ok(())
    }
}

/// Waits for the commit that a reply rests on.
struct Wait {
    partition: Arc<Partition>,
    /// The leadership that the request met.
    epoch: Option<LeaderEpoch>,
    /// The refusal of a request that may wait for others.
    unanswered: Option<Response>,
}

impl Wait {
    /// The response, once `end` is committed by the leadership that appended it: under another, what
    /// lies below `end` may be something else.
    async fn committed(self, (mut response, end): Answered, deadline: Instant) -> Response {
        let wake = Arc::new(Notify::new());
        let partition = &self.partition;
        loop {
            partition.wake_above(end + -1, Arc::downgrade(&wake));
            let is_led = partition.leading() == self.epoch && !partition.is_offline();
            if is_led && partition.high_watermark() >= end {
                return response;
            }
            let code = if !is_led {
                ErrorCode::NotCoordinator
            } else if timeout_at(deadline, wake.notified()).await.is_ok() {
                continue;
            } else {
                // It may yet be committed; a client that asks again finds out.
                ErrorCode::CoordinatorNotAvailable
            };
            set_code(&mut response, code);
            return response;
        }
    }

    /// The shard has ended without an answer; `None` closes the connection.
    fn lost(mut self) -> Option<Response> {
        if self.partition.leading().is_some() {
            let code = ErrorCode::CoordinatorNotAvailable;
            self.unanswered
                .iter_mut()
                .for_each(|response| set_code(response, code));
        }
        self.unanswered
    }
}

/// Makes an error of a response that must not be told.
fn set_code(response: &mut Response, code: ErrorCode) {
    let number = code.code();
    match response {
        Response::JoinGroup(join) => {
            *join = JoinGroupResponse {
                error_code: number,
                member_id: std::mem::take(&mut join.member_id),
                generation_id: -1,
                ..JoinGroupResponse::default()
            };
        }
        Response::SyncGroup(sync) => {
            *sync = SyncGroupResponse {
                error_code: number,
                ..SyncGroupResponse::default()
            };
        }
        Response::Heartbeat(heartbeat) => heartbeat.error_code = number,
        Response::LeaveGroup(leave) => {
            leave.error_code = number;
            leave.members.clear();
        }
        Response::OffsetCommit(commit) => {
            let topics = commit.topics.iter_mut();
            for partition in topics.flat_map(|topic| topic.partitions.iter_mut()) {
                partition.error_code = number;
            }
        }
        Response::OffsetFetch(group) => {
            group.error_code = number;
            group.topics.clear();
        }
        Response::OffsetDelete(delete) => {
            delete.error_code = number;
            delete.topics.clear();
        }
        Response::ConsumerGroupHeartbeat(heartbeat) => {
            *heartbeat = ConsumerGroupHeartbeatResponse {
                error_code: number,
                ..ConsumerGroupHeartbeatResponse::default()
            };
        }
        Response::DescribeGroup(group) => {
            *group = DescribedGroup {
                error_code: number,
                group_id: std::mem::take(&mut group.group_id),
                ..DescribedGroup::default()
            };
        }
        Response::ConsumerGroupDescribe(group) => {
            *group = DescribedConsumerGroup {
                error_code: number,
                group_id: std::mem::take(&mut group.group_id),
                ..DescribedConsumerGroup::default()
            };
        }
        Response::ListGroups(groups) => *groups = Err(code),
        Response::DeleteGroup(deleted) => *deleted = code,
    }
}

//! Fetch: batches from both tiers, and the long poll.
//!
//! A request that continues a session asks for what the session remembers (`fetch_sessions.rs`).
//!
//! What is read lies in room that was reserved for it, and keeps that until it is written. A long
//! poll waits without room: it remembers how much it has read of each partition, not what, and looks
//! again only at those that have changed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use esker_protocol::messages::{FetchRequest, FetchResponse};
use esker_protocol::primitive::Blob;
use esker_protocol::{ErrorCode, LeaderEpoch, Offset, TopicId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Answer;
use crate::broker::Shared;
use crate::connection::{Reply, Response, Room};
use crate::fetch_sessions::{self, Interest, Key, Topic};
use crate::partition::Partition;
use crate::partition::read::{self, ReadFailure};

/// The first version that names topics by id.
const TOPIC_ID_VERSION_MIN: i16 = 13;

/// The first version that tells of a replica apart.
const REPLICA_STATE_VERSION_MIN: i16 = 15;

/// The first version in which Kafka names the current leader, and where that is.
const CURRENT_LEADER_VERSION_MIN: i16 = 16;

/// The last version that does not know KAFKA_STORAGE_ERROR.
const STORAGE_ERROR_UNKNOWN_VERSION_MAX: i16 = 5;

/// Partitions read from the object store at a time for one request.
const REMOTE_READS_MAX: usize = 16;

/// The longest long poll, whatever the client asks: a connection whose peer is gone is noticed by
/// then.
const WAIT_TIME_MAX: Duration = Duration::from_secs(300);

/// How long a fetch waits for room while others that have not been written take all of it. Then it
/// is answered without data: clients give up on a request after 30 seconds.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(10);

struct Request {
    answer: Answer,
    listener: String,
    min_bytes: usize,
    /// Kafka fails a read with a limit below zero.
    max_bytes: i32,
    read_committed: bool,
    /// It speaks for a replica. No broker has a copy of another's partitions here.
    is_replicas: bool,
    asked: Vec<Asked>,
}

struct Asked {
    topic: Topic,
    id: TopicId,
    index: i32,
    current_leader_epoch: LeaderEpoch,
    last_fetched_epoch: LeaderEpoch,
    offset: Offset,
    /// As [`Request::max_bytes`].
    max_bytes: i32,
    refused: Option<Refused>,
}

/// Why there is nothing to read, known before anything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// There is no such partition. Such are answered last, and wait with the others.
    Missing(ErrorCode),
    /// Another topic has taken the name of the one that is meant.
    Replaced,
}

impl Asked {
    fn is_missing(&self) -> bool {
        matches!(self.refused, Some(Refused::Missing(_)))
    }
}

fn positive(value: i32) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// What one partition is answered.
struct Answered {
    index: i32,
    code: ErrorCode,
    high_watermark: Offset,
    last_stable_offset: Offset,
    log_start_offset: Offset,
    aborted: Option<Vec<(i64, i64)>>,
    diverging: Option<(LeaderEpoch, Offset)>,
    leader: Option<(i32, i32)>,
    records: Vec<Bytes>,
    /// There is data that could not be had in time: asking again helps.
    is_late: bool,
    /// The partition is missing.
    is_missing: bool,
}

impl Answered {
    fn failed(index: i32, code: ErrorCode) -> Answered {
        Answered {
            index,
            code,
            high_watermark: Offset(-1),
            last_stable_offset: Offset(-1),
            log_start_offset: Offset(-1),
            aborted: None,
            diverging: None,
            leader: None,
            records: Vec::new(),
            is_late: false,
            is_missing: false,
        }
    }

    /// A refusal. To missing partitions Kafka answers with no aborted transactions, to others that
    /// fail with none told.
    fn refused(index: i32, refused: Refused) -> Answered {
        match refused {
            Refused::Missing(code) => Answered {
                aborted: Some(Vec::new()),
                is_missing: true,
                ..Answered::failed(index, code)
            },
            Refused::Replaced => Answered::failed(index, ErrorCode::InconsistentTopicId),
        }
    }

    fn is_final(&self) -> bool {
        (self.code != ErrorCode::None && !self.is_missing) || self.diverging.is_some()
    }

    fn bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }

    fn for_session(&self) -> fetch_sessions::Answered {
        fetch_sessions::Answered {
            has_records: !self.records.is_empty(),
            high_watermark: self.high_watermark.0,
            log_start: self.log_start_offset.0,
            is_error: self.code != ErrorCode::None,
            is_urgent: self.diverging.is_some(),
        }
    }
}

fn bytes_of(answered: &[Answered]) -> usize {
    answered.iter().map(Answered::bytes).sum()
}

/// Answers with what is there, or waits for more.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    listener: &str,
    request: &FetchRequest<'_>,
) -> Reply {
    let by_id = answer.version >= TOPIC_ID_VERSION_MIN;
    let opened = shared.fetch_sessions.open(
        (request.session_id, request.session_epoch),
        by_id,
        interests(shared, request, by_id),
        &forgotten(request, by_id),
        |id| shared.topic_name(id).map(Arc::from),
        Instant::now(),
    );
    let (opened, interests) = match opened {
        Ok(opened) => opened,
        Err(code) => return super::reply(&answer, &session_error(code, 0)),
    };
    let (interests, asked) = look_up(shared, interests);
    let is_isolation = matches!(request.isolation_level, 0 | 1);
    if !is_isolation && asked.iter().any(|asked| !asked.is_missing()) {
        let failure = failure(request, answer.version, ErrorCode::UnknownServerError);
        return super::reply(&answer, &failure);
    }
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    // From now on, also behind other replies: what waits in a row must not add up.
    let deadline = Instant::now() + max_wait.min(WAIT_TIME_MAX);
    let request = own(shared, answer, listener, request, asked);
    let shared = Arc::clone(shared);
    Reply::Later(Box::pin(async move {
        let (answered, room) = read_or_wait(&shared, &request, deadline).await;
        let states: Vec<_> = answered.iter().map(Answered::for_session).collect();
        let random = || shared.environment.randomness.next_u64();
        let told =
            shared
                .fetch_sessions
                .answer(&opened, &interests, &states, Instant::now(), random);
        let chunks = match told {
            Ok((session, told)) => {
                shared.metrics.fetched(bytes_of(&answered));
                respond(&shared, &request, session, answered, &told)
            }
            Err(code) => super::respond(&answer, &session_error(code, opened.session_id())),
        };
        chunks.map(|chunks| Response::within(room, chunks))
    }))
}

/// The answer where a whole request fails. Versions that name topics by id say so once.
fn failure<'a>(request: &'a FetchRequest<'_>, version: i16, code: ErrorCode) -> FetchResponse<'a> {
    let topics = request.topics.iter();
    let responses = topics
        .filter(|_| version < TOPIC_ID_VERSION_MIN)
        .map(|asked| FetchableTopicResponse {
            topic: Cow::Borrowed(asked.topic.as_ref()),
            topic_id: asked.topic_id,
            partitions: asked
                .partitions
                .iter()
                .map(|asked| Answered::refused(asked.partition, Refused::Missing(code)))
                .map(|answered| partition_data(answered, version))
                .collect(),
        })
        .collect();
    FetchResponse {
        responses,
        ..session_error(code, request.session_id)
    }
}

fn session_error<'a>(code: ErrorCode, session_id: i32) -> FetchResponse<'a> {
    FetchResponse {
        error_code: code.code(),
        session_id,
        ..FetchResponse::default()
    }
}

/// What the request names, as a session remembers it: each partition once.
fn interests(shared: &Shared, request: &FetchRequest<'_>, by_id: bool) -> Vec<Interest> {
    let mut interests = Vec::new();
    for asked in &request.topics {
        let topic = named(&asked.topic, asked.topic_id, by_id);
        let name = match &topic {
            Topic::Name(_) => None,
            Topic::Id(id) => shared.topic_name(*id).map(Arc::from),
        };
        interests.extend(asked.partitions.iter().map(|partition| Interest {
            topic: topic.clone(),
            name: name.clone(),
            index: partition.partition,
            offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    super::once_each(interests, Interest::key)
}

/// What the request wants its session to forget.
fn forgotten(request: &FetchRequest<'_>, by_id: bool) -> Vec<Key> {
    let mut keys = Vec::new();
    for forgotten in &request.forgotten_topics_data {
        let topic = named(&forgotten.topic, forgotten.topic_id, by_id);
        let partitions = forgotten.partitions.iter();
        keys.extend(partitions.map(|index| (topic.clone(), *index)));
    }
    keys
}

fn named(name: &str, id: TopicId, by_id: bool) -> Topic {
    if by_id {
        Topic::Id(id)
    } else {
        Topic::Name(Arc::from(name))
    }
}

/// Looks up what is to be read, and puts what is missing last.
fn look_up(shared: &Shared, interests: Vec<Interest>) -> (Vec<Interest>, Vec<Asked>) {
    let image = shared.image();
    let mut pairs = Vec::with_capacity(interests.len());
    // Neighbours are of one topic more often than not: it is looked up once.
    let mut latest: Option<(Topic, Option<TopicId>)> = None;
    for interest in interests {
        let current = match &latest {
            Some((topic, current)) if *topic == interest.topic => *current,
            _ => match (&interest.topic, &interest.name) {
                (Topic::Name(name), _) | (Topic::Id(_), Some(name)) => shared.topic_id(name),
                (Topic::Id(_), None) => None,
            },
        };
        latest = Some((interest.topic.clone(), current));
        let exists = current.is_some_and(|id| image.partition(id, interest.index).is_some());
        let asked = asked(&interest, current, exists);
        pairs.push((interest, asked));
    }
    pairs.sort_by_key(|(_, asked)| asked.is_missing());
    pairs.into_iter().unzip()
}

/// What is read for an interest, given the id that the topic's name has now and whether the partition
/// exists there.
fn asked(interest: &Interest, current: Option<TopicId>, exists: bool) -> Asked {
    let id = match &interest.topic {
        Topic::Id(id) => *id,
        Topic::Name(_) => current.unwrap_or(TopicId::ZERO),
    };
    let refused = if matches!(interest.topic, Topic::Id(_)) && interest.name.is_none() {
        Some(Refused::Missing(ErrorCode::UnknownTopicId))
    } else if !exists {
        Some(Refused::Missing(ErrorCode::UnknownTopicOrPartition))
    } else {
        (current != Some(id)).then_some(Refused::Replaced)
    };
    Asked {
        topic: interest.topic.clone(),
        id,
        index: interest.index,
        current_leader_epoch: epoch(interest.current_leader_epoch),
        last_fetched_epoch: epoch(interest.last_fetched_epoch),
        offset: Offset(interest.offset),
        max_bytes: interest.max_bytes,
        refused,
    }
}

/// An epoch of a request: every negative one stands for none.
fn epoch(given: i32) -> LeaderEpoch {
    LeaderEpoch(given).max(LeaderEpoch::NONE)
}

fn own(
    shared: &Shared,
    answer: Answer,
    listener: &str,
    request: &FetchRequest<'_>,
    asked: Vec<Asked>,
) -> Request {
    let most = i32::try_from(shared.config.fetch_bytes_max).unwrap_or(i32::MAX);
    let max_bytes = request.max_bytes.min(most);
    let replica = if answer.version >= REPLICA_STATE_VERSION_MIN {
        request.replica_state.replica_id
    } else {
        request.replica_id
    };
    Request {
        answer,
        listener: listener.to_owned(),
        min_bytes: positive(request.min_bytes.min(max_bytes)),
        max_bytes,
        read_committed: request.isolation_level == 1,
        is_replicas: replica >= 0,
        asked,
    }
}

/// What a long poll remembers of a partition.
#[derive(Clone, Default)]
struct Seen {
    /// High watermark and leadership when it was last looked at. When they change, whoever has
    /// registered is woken, and forgotten.
    state: Option<(Offset, Option<LeaderEpoch>)>,
    /// Whether it is to be read.
    is_changed: bool,
    /// How many bytes the last read gave.
    bytes: usize,
    /// The last read came too late for what there is.
    is_late: bool,
}

/// Reads until there are enough bytes, an error, or no time left.
async fn read_or_wait(
    shared: &Arc<Shared>,
    request: &Request,
    deadline: Instant,
) -> (Vec<Answered>, Option<Room>) {
    let wake = Arc::new(Notify::new());
    let mut seen = vec![Seen::default(); request.asked.len()];
    let mut is_over = false;
    loop {
        // Registered before reading, so that what arrives meanwhile is not slept through.
        let waits_for_tail = look(shared, request, &wake, &mut seen);
        if is_over {
            seen.iter_mut().for_each(|seen| seen.is_changed = true);
        }
        let mut limit = Limit::reserve(shared, request, &seen).await;
        let answered = read_all(shared, request, limit.bytes, &seen).await;
        let bytes = bytes_of(&answered);
        limit.shrink_to(bytes);
        let unread = seen.iter().filter(|seen| !seen.is_changed);
        let bytes_unread: usize = unread.map(|seen| seen.bytes).sum();
        is_over |= bytes + bytes_unread >= request.min_bytes
            || limit.is_full(bytes)
            || answered.iter().any(Answered::is_final)
            || limit.is_refused
            || !waits_for_tail
            || Instant::now() >= deadline
            || shared.stopping.is_cancelled();
        if is_over && (bytes_unread == 0 || limit.is_refused) {
            return (answered, limit.room);
        }
        // Data that is too little to answer with is read again for the answer: a long poll that kept
        // it would hold room for as long as its client pleases.
        drop(limit);
        if is_over {
            continue;
        }
        for (seen, one) in seen.iter_mut().zip(&answered) {
            if seen.is_changed {
                (seen.bytes, seen.is_late) = (one.bytes(), one.is_late);
            }
        }
        let nothing = (bytes + bytes_unread == 0).then_some(answered);
        tokio::select! {
            biased;
            () = shared.stopping.cancelled() => {}
            () = wake.notified() => continue,
            () = tokio::time::sleep_until(deadline) => {}
        }
        if let Some(answered) = nothing {
            return (answered, None);
        }
        is_over = true;
    }
}

/// Finds the partitions that have changed since the last look, and registers `wake` for when they
/// change again. Says whether there is anything to wait for.
fn look(shared: &Shared, request: &Request, wake: &Arc<Notify>, seen: &mut [Seen]) -> bool {
    let mut waits_for_tail = false;
    for (seen, asked) in seen.iter_mut().zip(&request.asked) {
        let hosted = shared.partitions.get(asked.id, asked.index);
        let Some(partition) = hosted.filter(|_| asked.refused.is_none()) else {
            seen.is_changed = true;
            continue;
        };
        waits_for_tail = true;
        let high_watermark = partition.high_watermark();
        let state = Some((high_watermark, partition.leading()));
        seen.is_changed = seen.state != state || seen.is_late;
        if seen.state != state {
            partition.wake_above(high_watermark, Arc::downgrade(wake));
            seen.state = state;
        }
    }
    waits_for_tail
}

/// How much a fetch may read, and the room for it.
struct Limit {
    /// `None`: nothing, not even a first batch.
    bytes: Option<usize>,
    room: Option<Room>,
    /// There was less room than the request could have filled.
    is_short: bool,
    /// The largest batch that may come.
    least: usize,
    /// There was none for too long.
    is_refused: bool,
}

impl Limit {
    /// Reserves room for what the request can read now, at least for the largest batch.
    async fn reserve(shared: &Shared, request: &Request, seen: &[Seen]) -> Limit {
        let (mut least, mut most) = (0, 0_usize);
        for (asked, seen) in request.asked.iter().zip(seen) {
            if seen.is_changed
                && asked.refused.is_none()
                && let Some(partition) = shared.partitions.get(asked.id, asked.index)
                && asked.offset < partition.high_watermark()
            {
                let batch = usize::try_from(partition.config().message_bytes_max);
                // One topic whose batches may be enormous must not wait for room that others then
                // wait for behind it: a larger first batch comes all the same.
                let batch = batch.unwrap_or(usize::MAX).min(shared.responses.share());
                least = least.max(batch).max(1);
                most = most.saturating_add(positive(asked.max_bytes));
            }
        }
        let mut limit = Limit {
            bytes: None,
            room: None,
            is_short: false,
            least,
            is_refused: false,
        };
        if least == 0 {
            return limit;
        }
        let most = most.min(positive(request.max_bytes));
        let room = tokio::select! {
            biased;
            room = shared.responses.reserve(least, most) => Some(room),
            () = shared.stopping.cancelled() => None,
            () = tokio::time::sleep(ROOM_WAIT_MAX) => None,
        };
        match &room {
            Some(room) => {
                limit.bytes = Some(most.min(room.bytes()));
                limit.is_short = room.bytes() < most;
            }
            None => limit.is_refused = true,
        }
        limit.room = room;
        limit
    }

    /// Whether `bytes` may be all that the room is large enough for.
    fn is_full(&self, bytes: usize) -> bool {
        self.is_short && bytes > 0 && bytes.saturating_add(self.least) > self.bytes.unwrap_or(0)
    }

    fn shrink_to(&mut self, bytes: usize) {
        match &mut self.room {
            Some(room) if bytes > 0 => room.shrink_to(bytes),
            _ => self.room = None,
        }
    }
}

/// Reads every changed partition in the order of the request, within its byte limits, and tells the
/// state of the others. The first one that has anything returns at least one whole batch, if there
/// is room.
async fn read_all(
    shared: &Arc<Shared>,
    request: &Request,
    limit: Option<usize>,
    seen: &[Seen],
) -> Vec<Answered> {
    let prefetched = prefetch(shared, request, limit, seen).await;
    let mut left = limit.unwrap_or(0);
    let mut is_first = limit.is_some();
    // A limit of the request below zero fails its first partition, and is 0 to the others.
    let mut is_negative = request.max_bytes < 0;
    let mut answered = Vec::with_capacity(seen.len());
    for ((asked, seen), remote) in request.asked.iter().zip(seen).zip(prefetched) {
        let limit = if !seen.is_changed {
            Some(0)
        } else if is_negative {
            None
        } else {
            usize::try_from(asked.max_bytes)
                .ok()
                .map(|max| max.min(left))
        };
        let at_least_one = seen.is_changed && is_first;
        let one = read_one(shared, request, asked, limit, at_least_one, remote).await;
        is_negative = false;
        let bytes = one.bytes();
        left = left.saturating_sub(bytes);
        is_first &= bytes == 0;
        answered.push(one);
    }
    answered
}

type Remote = Result<read::Data, ReadFailure>;

/// Starts the reads that must go to the object store, all of one request side by side.
async fn prefetch(
    shared: &Arc<Shared>,
    request: &Request,
    limit: Option<usize>,
    seen: &[Seen],
) -> Vec<Option<Remote>> {
    use futures::StreamExt;
    let mut budget = limit.unwrap_or(0);
    let mut is_first = limit.is_some();
    let mut reads = Vec::with_capacity(seen.len());
    for (asked, seen) in request.asked.iter().zip(seen) {
        let hosted = shared.partitions.get(asked.id, asked.index);
        let partition = hosted.filter(|partition| {
            seen.is_changed
                && asked.refused.is_none()
                && !request.is_replicas
                && partition.leading().is_some()
                && read::is_remote(partition, asked.offset)
        });
        let limit = positive(asked.max_bytes).min(budget);
        let at_least_one = std::mem::replace(&mut is_first, false);
        let wanted = partition.filter(|_| limit > 0 || at_least_one);
        if wanted.is_some() {
            budget = budget.saturating_sub(limit);
        }
        let shared = Arc::clone(shared);
        let offset = asked.offset;
        reads.push(async move {
            let partition = wanted?;
            Some(read::remote(&shared, &partition, offset, limit, at_least_one).await)
        });
    }
    futures::stream::iter(reads)
        .buffered(REMOTE_READS_MAX)
        .collect()
        .await
}

/// Reads one partition; without a limit, the client gave one below zero.
async fn read_one(
    shared: &Arc<Shared>,
    request: &Request,
    asked: &Asked,
    limit: Option<usize>,
    at_least_one: bool,
    remote: Option<Remote>,
) -> Answered {
    if let Some(refused) = asked.refused {
        return Answered::refused(asked.index, refused);
    }
    let led = shared.led_by_id(asked.id, asked.index, asked.current_leader_epoch);
    let led = match led {
        Ok(_) if request.is_replicas => Err(not_a_replica(asked)),
        led => led,
    };
    let partition = match led {
        Ok(partition) => partition,
        Err(code) => {
            let mut failed = Answered::failed(asked.index, code);
            if matches!(
                code,
                ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
            ) {
                failed.leader = shared.leader_of(asked.id, asked.index);
            }
            return failed;
        }
    };
    if let Some(diverging) = divergence(&partition, asked) {
        return match diverging {
            Ok(end) => Answered {
                diverging: Some(end),
                ..state_of(&partition, request, asked)
            },
            Err(code) => Answered::failed(asked.index, code),
        };
    }
    let below = if request.read_committed {
        partition.last_stable_offset()
    } else {
        partition.high_watermark()
    };
    let is_read = (partition.start_offset()..below).contains(&asked.offset);
    if limit.is_none() && is_read {
        return Answered::failed(asked.index, ErrorCode::UnknownServerError);
    }
    let limit = limit.unwrap_or(0);
    let remote = match remote {
        // Read ahead as one that may return nothing; now it turns out to be the first with anything.
        Some(Ok(data)) if at_least_one && data.chunks.is_empty() => {
            Some(read::remote(shared, &partition, asked.offset, limit, true).await)
        }
        // What came before took the room that this was read for.
        Some(Ok(data)) if !at_least_one && data.bytes() > limit => Some(Ok(read::Data::NONE)),
        remote => remote,
    };
    let data = match remote {
        Some(remote) => remote,
        None => read::local(shared, &partition, asked.offset, limit, below, at_least_one).await,
    };
    match data {
        Ok(data) => {
            let mut answered = state_of(&partition, request, asked);
            if request.read_committed {
                answered.aborted = Some(data.aborted);
            }
            answered.records = data.chunks;
            answered
        }
        Err(ReadFailure::OutOfRange) => Answered::failed(asked.index, ErrorCode::OffsetOutOfRange),
        // A range that the store does not give in time, or cannot give now, is no data yet: the
        // download goes on into the cache and the client asks again.
        Err(ReadFailure::Later) => Answered {
            is_late: true,
            ..state_of(&partition, request, asked)
        },
        Err(ReadFailure::Storage(error)) => {
            tracing::warn!(topic = %partition.topic, partition = partition.index, %error, "a fetch failed");
            let code = if request.answer.version <= STORAGE_ERROR_UNKNOWN_VERSION_MAX {
                ErrorCode::NotLeaderOrFollower
            } else {
                ErrorCode::KafkaStorageError
            };
            Answered::failed(asked.index, code)
        }
    }
}

/// How Kafka refuses a broker that has no replica of the partition.
fn not_a_replica(asked: &Asked) -> ErrorCode {
    match asked.current_leader_epoch {
        LeaderEpoch::NONE => ErrorCode::NotLeaderOrFollower,
        _ => ErrorCode::UnknownLeaderEpoch,
    }
}

/// Whether the log that the client has read so far is another than this one (KIP-595, KIP-320).
fn divergence(
    partition: &Partition,
    asked: &Asked,
) -> Option<Result<(LeaderEpoch, Offset), ErrorCode>> {
    if asked.last_fetched_epoch == LeaderEpoch::NONE {
        return None;
    }
    let known = partition.log.end_offset_for_epoch(asked.last_fetched_epoch);
    let Some((epoch, end)) = known.filter(|_| asked.offset >= partition.start_offset()) else {
        return Some(Err(ErrorCode::OffsetOutOfRange));
    };
    (epoch < asked.last_fetched_epoch || end < asked.offset).then_some(Ok((epoch, end)))
}

fn state_of(partition: &Partition, request: &Request, asked: &Asked) -> Answered {
    Answered {
        index: asked.index,
        code: ErrorCode::None,
        high_watermark: partition.high_watermark(),
        last_stable_offset: partition.last_stable_offset(),
        log_start_offset: partition.start_offset(),
        aborted: request.read_committed.then(Vec::new),
        diverging: None,
        leader: None,
        records: Vec::new(),
        is_late: false,
        is_missing: false,
    }
}

/// The answer, with those partitions that the client is `told` of.
fn respond(
    shared: &Shared,
    request: &Request,
    session_id: i32,
    answered: Vec<Answered>,
    told: &[bool],
) -> Option<Vec<Bytes>> {
    let told = request.asked.iter().zip(answered).zip(told);
    let told: Vec<_> = told.filter_map(|(one, told)| told.then_some(one)).collect();
    let leaders: Vec<i32> = told
        .iter()
        .filter_map(|(_, one)| one.leader.map(|(leader, _)| leader))
        .collect();
    let version = request.answer.version;
    let mut responses: Vec<FetchableTopicResponse<'_>> = Vec::new();
    let mut latest = None;
    for (asked, one) in told {
        // Neighbours of one topic are answered together.
        if latest != Some(&asked.topic) {
            responses.push(topic_response(&asked.topic));
            latest = Some(&asked.topic);
        }
        if let Some(topic) = responses.last_mut() {
            topic.partitions.push(partition_data(one, version));
        }
    }
    let node_endpoints = shared
        .live_brokers(&request.listener)
        .into_iter()
        .filter(|broker| leaders.contains(&broker.id.0))
        .map(|broker| NodeEndpoint {
            node_id: broker.id.0,
            host: Cow::Owned(broker.address.host),
            port: i32::from(broker.address.port),
            rack: None,
        })
        .collect();
    let response = FetchResponse {
        responses,
        session_id,
        node_endpoints: if version >= CURRENT_LEADER_VERSION_MIN && !request.is_replicas {
            node_endpoints
        } else {
            Vec::new()
        },
        ..FetchResponse::default()
    };
    super::respond(&request.answer, &response)
}

fn topic_response(topic: &Topic) -> FetchableTopicResponse<'_> {
    let (name, topic_id) = match topic {
        Topic::Name(name) => (name.as_ref(), TopicId::ZERO),
        Topic::Id(id) => ("", *id),
    };
    FetchableTopicResponse {
        topic: Cow::Borrowed(name),
        topic_id,
        partitions: Vec::new(),
    }
}

fn partition_data<'a>(one: Answered, version: i16) -> PartitionData<'a> {
    use esker_protocol::messages::fetch_response::AbortedTransaction;
    PartitionData {
        partition_index: one.index,
        error_code: one.code.code(),
        high_watermark: one.high_watermark.0,
        last_stable_offset: one.last_stable_offset.0,
        log_start_offset: one.log_start_offset.0,
        diverging_epoch: one
            .diverging
            .map_or_else(EpochEndOffset::default, |(epoch, end)| EpochEndOffset {
                epoch: epoch.0,
                end_offset: end.0,
            }),
        current_leader: one
            .leader
            .filter(|_| version >= CURRENT_LEADER_VERSION_MIN)
            .map_or_else(LeaderIdAndEpoch::default, |(id, epoch)| LeaderIdAndEpoch {
                leader_id: id,
                leader_epoch: epoch,
            }),
        aborted_transactions: one.aborted.map(|aborted| {
            aborted
                .into_iter()
                .map(|(producer_id, first_offset)| AbortedTransaction {
                    producer_id,
                    first_offset,
                })
                .collect()
        }),
        preferred_read_replica: -1,
        records: Some(Blob::Chunks(one.records)),
        ..PartitionData::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TopicId = TopicId([1; 16]);
    const OTHER: TopicId = TopicId([2; 16]);

    fn interest(topic: Topic, name: Option<&str>) -> Interest {
        Interest {
            topic,
            name: name.map(Arc::from),
            index: 0,
            offset: 0,
            max_bytes: 1,
            current_leader_epoch: -7,
            last_fetched_epoch: 3,
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let by_id = |name| interest(Topic::Id(ID), name);
        let by_name = interest(Topic::Name("t".into()), None);
        let missing = |code| Some(Refused::Missing(code));
        for (interest, current, exists, refused) in [
            (by_id(None), None, false, missing(ErrorCode::UnknownTopicId)),
            (by_id(Some("t")), Some(ID), true, None),
            (
                by_id(Some("t")),
                Some(ID),
                false,
                missing(ErrorCode::UnknownTopicOrPartition),
            ),
            (
                by_id(Some("t")),
                None,
                false,
                missing(ErrorCode::UnknownTopicOrPartition),
            ),
            (by_id(Some("t")), Some(OTHER), true, Some(Refused::Replaced)),
            (by_name.clone(), Some(OTHER), true, None),
            (
                by_name,
                None,
                false,
                missing(ErrorCode::UnknownTopicOrPartition),
            ),
        ] {
            let asked = asked(&interest, current, exists);
            assert_eq!(asked.refused, refused, "{interest:?} {current:?}");
        }
    }

    #[test]
    fn negative_epochs_are_none() {
        let asked = asked(&interest(Topic::Id(ID), Some("t")), Some(ID), true);
        assert_eq!(asked.current_leader_epoch, LeaderEpoch::NONE);
        assert_eq!(asked.last_fetched_epoch, LeaderEpoch(3));
    }

    #[test]
    fn what_is_missing_does_not_end_a_long_poll_and_other_errors_do() {
        let refused = |refused| Answered::refused(0, refused);
        let missing = refused(Refused::Missing(ErrorCode::UnknownTopicId));
        assert!(!missing.is_final());
        assert_eq!(missing.aborted, Some(Vec::new()));
        assert!(refused(Refused::Replaced).is_final());
        assert!(Answered::failed(0, ErrorCode::OffsetOutOfRange).is_final());
    }
}

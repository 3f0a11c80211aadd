//! Clients: producers, readers, and whoever makes and deletes topics. All go on through crashes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use esker_client::{
    Client, ClientError, FetchOptions, NewRecord, NewTopic, OffsetSpec, Producer, ProducerOptions,
};
use esker_protocol::records::{Batches, Compression};
use esker_protocol::{ErrorCode, Offset, Timestamp};
use esker_server::environment::Clock;
use tokio::time::{Instant, sleep};

use crate::history::{Bounds, Content, NUMBER_DIGITS, Place};
use crate::random::Random;
use crate::world::World;

/// The longest value of a record.
const VALUE_BYTES_MAX: u64 = 900;

/// How long a client tries to read what must be readable.
pub(crate) const READ_TIME_MAX: Duration = Duration::from_secs(100);

/// Tells clients to end.
#[derive(Clone, Default)]
pub(crate) struct Finish(Arc<AtomicBool>);

impl Finish {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

pub(crate) const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Produces to random partitions until told to finish.
pub(crate) async fn produce(world: Arc<World>, random: Random, places: Vec<Place>, finish: Finish) {
    while !finish.is_set() {
        let codec = usize::try_from(random.below(5)).unwrap_or(0);
        let options = ProducerOptions {
            compression: CODECS.get(codec).copied().unwrap_or_default(),
            ..ProducerOptions::default()
        };
        let producer = match Producer::new(world.client(), options, within(60)).await {
            Ok(producer) => producer,
            Err(error) => {
                world.trace.note(format_args!("no producer id: {error}"));
                continue;
            }
        };
        while !finish.is_set() {
            let place = usize::try_from(random.below(places.len() as u64)).unwrap_or(0);
            let Some(place) = places.get(place) else {
                return;
            };
            let is_sure = send(&world, &random, &producer, place).await;
            // After a batch in doubt its producer would first learn its fate; another one leaves
            // it in doubt for ever, as a client that restarts does.
            if !is_sure || random.chance(10) {
                break;
            }
            sleep(Duration::from_millis(random.between(0, 250))).await;
        }
    }
}

/// Sends one batch; false where nobody knows what became of it.
async fn send(world: &World, random: &Random, producer: &Producer, place: &Place) -> bool {
    let count = random.between(1, 5);
    let batch: Vec<(u64, Content)> = (0..count)
        .map(|_| {
            let now = world.clock.now().0;
            world
                .history
                .sends(place, |number| content(random, number, now))
        })
        .collect();
    let numbers: Vec<u64> = batch.iter().map(|(number, _)| *number).collect();
    let records: Vec<NewRecord<'_>> = batch
        .iter()
        .map(|(_, content)| NewRecord {
            timestamp: Timestamp(content.timestamp),
            key: content.key.as_deref(),
            value: Some(&content.value),
            headers: &[],
        })
        .collect();
    let deadline = within(random.between(2, 30));
    match producer
        .send(&place.topic, place.partition, &records, deadline)
        .await
    {
        Ok(produced) => {
            let base = produced.base_offset.map_or(-1, |offset| offset.0);
            world.history.acknowledged(place, &numbers, base);
            true
        }
        Err(error @ ClientError::OutcomeUnknown { .. }) => {
            world.history.in_doubt(place, &numbers, error);
            false
        }
        Err(error) => {
            world.history.refused(place, &numbers, error);
            true
        }
    }
}

fn content(random: &Random, number: u64, now: i64) -> Content {
    let mut value = format!("{number:0NUMBER_DIGITS$}").into_bytes();
    let padding = random.below(VALUE_BYTES_MAX);
    // Half of it compresses well, as real data does.
    let noise = random.next().to_be_bytes();
    value.extend((0..padding).map(|at| {
        match at % 16 {
            0..8 => b'.',
            place => noise
                .get(usize::try_from(place - 8).unwrap_or(0))
                .copied()
                .unwrap_or(0),
        }
    }));
    let key = random
        .chance(700)
        .then(|| Bytes::from(format!("key-{}", number % 7)));
    Content {
        timestamp: now - random.between(0, 3000) as i64,
        key,
        value: value.into(),
    }
}

/// Follows partitions from where they end, and now and then from where they start, until told to
/// finish. Whatever cannot be read is tried again: the checks of what must be readable are
/// [`verify`]'s.
pub(crate) async fn follow(world: Arc<World>, random: Random, places: Vec<Place>, finish: Finish) {
    let client = world.client();
    let mut positions = vec![0; places.len()];
    while !finish.is_set() {
        let index = usize::try_from(random.below(places.len() as u64)).unwrap_or(0);
        let (Some(place), Some(position)) = (places.get(index), positions.get_mut(index)) else {
            return;
        };
        if random.chance(20) {
            *position = world.history.bounds(place).log_start;
        }
        match read_once(&world, &client, place, *position, &random, within(5)).await {
            Ok(next) => *position = next,
            Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
                *position = (*position).max(world.history.bounds(place).log_start);
                sleep(Duration::from_millis(100)).await;
            }
            Err(error) => world
                .trace
                .note(format_args!("cannot read {place}: {error}")),
        }
        sleep(Duration::from_millis(random.between(0, 150))).await;
    }
}

/// Fetches once from `position` on; gives the position that comes next.
async fn read_once(
    world: &World,
    client: &Client,
    place: &Place,
    position: i64,
    random: &Random,
    deadline: Instant,
) -> Result<i64, ClientError> {
    let options = FetchOptions {
        partition_bytes_max: i32::try_from(random.between(100, 60_000)).unwrap_or(100),
        wait: Duration::from_millis(random.between(0, 600)),
        ..FetchOptions::default()
    };
    let before = world.history.bounds(place);
    let at = Offset(position);
    let fetched = client
        .fetch(&place.topic, place.partition, at, &options, deadline)
        .await?;
    let told = Bounds {
        log_start: fetched.log_start_offset.0,
        end: fetched.high_watermark.0,
    };
    world.history.told(place, before, told);
    let mut next = position;
    for batch in Batches::new(&fetched.records) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                world.trace.violation(format_args!(
                    "{place}: bytes at {next} are no batch: {error}"
                ));
                break;
            }
        };
        let base = batch.header().base_offset.0;
        let is_first = next == position;
        if base != next && !(is_first && base < next) {
            world.trace.violation(format_args!(
                "{place}: a batch at {base} where {next} is next"
            ));
        }
        if batch.header().next_offset().0 > told.end {
            world.trace.violation(format_args!(
                "{place}: the batch at {base} lies above the high watermark {}",
                told.end
            ));
        }
        next = world.history.read(place, &batch, "the broker");
    }
    if next > position {
        world
            .trace
            .note(format_args!("read {place} {position}..{next}"));
    }
    Ok(next)
}

/// Reads a whole partition and checks that all that was acknowledged is there. Returns how many
/// offsets lay below the local log, in the tier alone.
pub(crate) async fn verify(world: &World, place: &Place, random: &Random) -> i64 {
    let client = world.client();
    let deadline = Instant::now() + READ_TIME_MAX;
    let before = world.history.bounds(place);
    let list = async |spec| {
        let listed = client
            .list_offset(&place.topic, place.partition, spec, deadline)
            .await?;
        Ok::<i64, ClientError>(listed.map_or(0, |listed| listed.offset.0))
    };
    let bounds = async {
        Ok(Bounds {
            log_start: list(OffsetSpec::Earliest).await?,
            end: list(OffsetSpec::Latest).await?,
        })
    };
    let bounds = match bounds.await {
        Ok(bounds) => bounds,
        Err(error) => {
            let error: ClientError = error;
            world.trace.violation(format_args!(
                "{place} cannot be asked for its bounds: {error}"
            ));
            return 0;
        }
    };
    world.history.told(place, before, bounds);
    let local_start = local_start(world, place).unwrap_or(0);
    let mut position = bounds.log_start;
    while position < bounds.end {
        match read_once(world, &client, place, position, random, deadline).await {
            Ok(next) if next > position => position = next,
            // A cold read that takes its time is answered without data.
            Ok(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            Ok(_) => {
                world.trace.violation(format_args!(
                    "{place} cannot be read at {position}: nothing comes"
                ));
                return 0;
            }
            Err(error) => {
                let start = list(OffsetSpec::Earliest).await.unwrap_or(0);
                let is_gone = error.code() == Some(ErrorCode::OffsetOutOfRange) && start > position;
                if !is_gone {
                    world.trace.violation(format_args!(
                        "{place} cannot be read at {position}: {error}"
                    ));
                    return 0;
                }
                position = start;
            }
        }
    }
    let start = world.history.bounds(place).log_start.max(bounds.log_start);
    world.history.covered(place, start, bounds.end);
    world.trace.note(format_args!(
        "verified {place} {start}..{}, local from {local_start}",
        bounds.end
    ));
    (local_start.min(bounds.end) - bounds.log_start).max(0)
}

fn local_start(world: &World, place: &Place) -> Option<i64> {
    let shared = world.shared()?;
    let id = shared.topic_id(&place.topic)?;
    Some(
        shared
            .partitions
            .get(id, place.partition)?
            .log
            .local_start_offset()
            .0,
    )
}

/// Makes a topic, however often it takes.
pub(crate) async fn create(
    world: &World,
    client: &Client,
    topic: &NewTopic,
    finish: &Finish,
) -> bool {
    while !finish.is_set() {
        let made = client
            .create_topics(std::slice::from_ref(topic), false, within(20))
            .await;
        let outcome = made.and_then(|outcomes| {
            outcomes
                .into_iter()
                .next()
                .map_or(Ok(()), |(_, outcome)| outcome)
        });
        match outcome {
            Ok(()) => return true,
            // A lost answer was repeated.
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => return true,
            Err(error) => {
                world
                    .trace
                    .note(format_args!("creating {}: {error}", topic.name));
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
    false
}

/// Makes one topic after the other under one name, writes to it, reads it, deletes it.
pub(crate) async fn come_and_go(
    world: Arc<World>,
    random: Random,
    topic: NewTopic,
    finish: Finish,
) {
    let client = world.client();
    let mut life = 0;
    while !finish.is_set() {
        if !create(&world, &client, &topic, &finish).await {
            return;
        }
        world
            .trace
            .note(format_args!("{} lives for the time {life}", topic.name));
        let place = Place {
            topic: topic.name.clone(),
            partition: 0,
            life,
        };
        let until = within(random.between(1, 12));
        if let Ok(producer) =
            Producer::new(client.clone(), ProducerOptions::default(), within(30)).await
        {
            while Instant::now() < until && !finish.is_set() {
                if !send(&world, &random, &producer, &place).await {
                    break;
                }
                sleep(Duration::from_millis(random.between(0, 100))).await;
            }
        }
        let start = world.history.bounds(&place).log_start;
        if let Err(error) = read_once(&world, &client, &place, start, &random, within(5)).await {
            world
                .trace
                .note(format_args!("cannot read {place}: {error}"));
        }
        loop {
            let deleted = client
                .delete_topics(&[topic.name.as_str()], within(20))
                .await;
            let outcome = deleted.and_then(|outcomes| {
                outcomes
                    .into_iter()
                    .next()
                    .map_or(Ok(()), |(_, outcome)| outcome)
            });
            match outcome {
                Ok(()) => break,
                Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => break,
                Err(error) => world.trace.note(format_args!("deleting {place}: {error}")),
            }
            sleep(Duration::from_millis(500)).await;
        }
        world.trace.note(format_args!("{place} is deleted"));
        life += 1;
        sleep(Duration::from_millis(random.between(0, 5_000))).await;
    }
}

//! A compacted topic: what is written to it, and the map that it must be.
//!
//! Checked at every read:
//! - what stands at an offset was sent, stands nowhere else, and never changes;
//! - of each key the last value that was acknowledged is there, or a later one;
//! - a tombstone is there until its horizon has passed, and once it is gone nothing before it is left;
//! - a reader that keeps up holds the same map as one that begins at the start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_client::{
    Client, ClientError, FetchOptions, NewRecord, NewTopic, OffsetSpec, Producer, ProducerOptions,
};
use esker_protocol::records::{Batch, Batches, Caps, Header};
use esker_protocol::{Offset, Timestamp};
use esker_server::environment::Clock;
use tokio::time::{Instant, sleep};

use crate::random::Random;
use crate::trace::Trace;
use crate::workload::{CODECS, Finish, READ_TIME_MAX, within};
use crate::world::World;

/// The topic's name; it has one partition.
pub(crate) const TOPIC: &str = "compacted";

/// Keys that are written over and over.
const KEYS: u64 = 9;

/// The longest value.
const VALUE_BYTES_MAX: u64 = 120;

/// How long a tombstone stays after it was compacted first.
const TOMBSTONE: Duration = Duration::from_secs(4);

/// Who has read within this time must have met every tombstone. Half of [`TOMBSTONE`]: a pass counts
/// from its beginning, and what it removes is seen until its end.
const FRESH: Duration = Duration::from_secs(2);

/// The header that says which record it is; a tombstone has no value to say it.
const NUMBER: &[u8] = b"number";

/// The topic, with small segments that are compacted soon.
pub(crate) fn topic() -> NewTopic {
    let tombstone = TOMBSTONE.as_millis().to_string();
    let settings = [
        ("cleanup.policy", "compact"),
        ("remote.storage.enable", "false"),
        ("internal.segment.bytes", "1500"),
        ("index.interval.bytes", "300"),
        ("min.cleanable.dirty.ratio", "0.2"),
        ("max.compaction.lag.ms", "5000"),
        ("delete.retention.ms", &tombstone),
    ];
    NewTopic {
        partitions: Some(1),
        settings: settings
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..NewTopic::new(TOPIC)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    InDoubt,
    Acknowledged,
    Refused,
}

#[derive(Debug, Clone)]
struct Sent {
    key: u64,
    /// `None` is a tombstone.
    value: Option<Vec<u8>>,
    timestamp: i64,
    at: Instant,
    fate: Fate,
    offset: Option<i64>,
}

impl Sent {
    /// Whether, as a tombstone, it may be gone by now.
    fn is_past(&self, now: Instant) -> bool {
        self.value.is_none() && now >= self.at + TOMBSTONE
    }
}

#[derive(Default)]
struct State {
    sent: Vec<Sent>,
    /// The number of the record at an offset.
    known: BTreeMap<i64, usize>,
    end: i64,
    removed: u64,
}

/// What was written and read in one run; clones are the same.
#[derive(Clone)]
pub(crate) struct Compacted {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

impl Compacted {
    pub(crate) fn new(trace: Trace) -> Compacted {
        Compacted {
            state: Arc::default(),
            trace,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of what is known to be there.
    fn end(&self) -> i64 {
        self.state().end
    }

    /// The most records that were once there and that a whole read did not meet.
    pub(crate) fn removed(&self) -> u64 {
        self.state().removed
    }

    fn report(&self, problems: Vec<String>) {
        for problem in problems {
            self.trace.violation(format_args!("{TOPIC}: {problem}"));
        }
    }

    /// A reader that knew the end `before` was told the end.
    fn told(&self, before: i64, end: i64) {
        if end < before {
            self.report(vec![format!(
                "the log ends at {end}, and {} was acknowledged or shown",
                before - 1
            )]);
        }
        let mut state = self.state();
        state.end = state.end.max(end);
    }

    fn acknowledged(&self, numbers: std::ops::Range<usize>, base: i64) {
        self.trace
            .note(format_args!("acknowledged {TOPIC} {base} {numbers:?}"));
        let mut problems = Vec::new();
        {
            let mut state = self.state();
            for (offset, number) in (base..).zip(numbers) {
                if let Some(sent) = state.sent.get_mut(number) {
                    sent.fate = Fate::Acknowledged;
                }
                state.place(offset, number, &mut problems);
                state.end = state.end.max(offset + 1);
            }
        }
        self.report(problems);
    }

    fn refused(&self, numbers: std::ops::Range<usize>) {
        let mut state = self.state();
        for sent in state.sent.get_mut(numbers).unwrap_or_default() {
            sent.fate = Fate::Refused;
        }
    }

    /// A batch was read from `position` on: the offsets of its records, their keys and whether each has
    /// a value.
    fn read(&self, batch: &Batch<'_>, position: i64) -> Vec<(i64, u64, bool)> {
        let base = batch.header().base_offset;
        let mut problems = Vec::new();
        let mut met = Vec::new();
        if !batch.crc_is_valid() {
            problems.push(format!("the batch at {base} fails its CRC"));
        }
        match batch.records(&Caps::DEFAULT) {
            Err(error) => problems.push(format!("the batch at {base}: {error}")),
            Ok(records) => {
                let mut state = self.state();
                let mut next = position;
                for record in &records {
                    let Ok(record) = record else {
                        problems.push(format!("the batch at {base} has a broken record"));
                        break;
                    };
                    let offset = record.offset.0;
                    if offset < position {
                        continue;
                    }
                    if offset < next {
                        problems.push(format!("{offset} comes where {next} is next"));
                    }
                    next = offset + 1;
                    let number = record.headers.iter().find(|header| header.key == NUMBER);
                    let number = number
                        .and_then(|header| std::str::from_utf8(header.value?).ok())
                        .and_then(|text| text.parse::<usize>().ok());
                    let sent = number.and_then(|number| Some((number, state.sent.get(number)?)));
                    let Some((number, sent)) = sent else {
                        problems.push(format!("{offset} has a record that nobody sent"));
                        continue;
                    };
                    let is_same = record.key == Some(sent.key.to_string().as_bytes())
                        && record.value == sent.value.as_deref()
                        && record.timestamp.0 == sent.timestamp;
                    if !is_same {
                        problems.push(format!("{offset} has record {number}, changed"));
                    }
                    met.push((offset, sent.key, sent.value.is_some()));
                    state.place(offset, number, &mut problems);
                }
            }
        }
        self.report(problems);
        met
    }

    /// Everything from the start to `end` was read between `began` and now, and these offsets were met.
    fn covered(&self, met: &BTreeSet<i64>, end: i64, began: Instant) {
        let now = Instant::now();
        let mut problems = Vec::new();
        {
            let mut state = self.state();
            for key in 0..KEYS {
                let of_key = state.known.range(..end).filter_map(|(offset, number)| {
                    let sent = state.sent.get(*number)?;
                    (sent.key == key).then_some((*offset, sent))
                });
                let of_key: Vec<(i64, &Sent)> = of_key.collect();
                let Some((last, sent)) = of_key.last() else {
                    continue;
                };
                if met.contains(last) {
                    continue;
                }
                let left: Vec<i64> = of_key
                    .iter()
                    .map(|(offset, _)| *offset)
                    .filter(|offset| met.contains(offset))
                    .collect();
                // One whose place was never seen may have removed it, and be gone itself.
                let may_be_hidden = state.sent.iter().any(|other| {
                    other.key == key
                        && other.fate == Fate::InDoubt
                        && other.offset.is_none()
                        && other.is_past(now)
                });
                if !sent.is_past(now) && !may_be_hidden {
                    problems.push(format!(
                        "the last record of key {key}, at {last}, is not in the log up to {end}; of the key there are {left:?}"
                    ));
                } else if !left.is_empty() && now - began < FRESH {
                    problems.push(format!(
                        "key {key} was deleted at {last}, and {left:?} came back"
                    ));
                }
            }
            let gone = state.known.range(..end).filter(|(at, _)| !met.contains(at));
            let gone = gone.count() as u64;
            state.removed = state.removed.max(gone);
        }
        self.report(problems);
    }

    /// A reader that has kept up to `end` holds `map`: the offset of the value of each key.
    fn followed(&self, map: &BTreeMap<u64, i64>, end: i64) {
        let mut problems = Vec::new();
        {
            let state = self.state();
            let mut last: BTreeMap<u64, (i64, bool)> = BTreeMap::new();
            for (offset, number) in state.known.range(..end) {
                if let Some(sent) = state.sent.get(*number) {
                    last.insert(sent.key, (*offset, sent.value.is_some()));
                }
            }
            for (key, (offset, has_value)) in last {
                let expected = has_value.then_some(offset);
                let held = map.get(&key).copied();
                if held != expected {
                    problems.push(format!(
                        "a reader at {end} holds key {key} of {held:?}, and it is {expected:?}"
                    ));
                }
            }
        }
        self.report(problems);
    }
}

impl State {
    /// A record stands at an offset, says an acknowledgement or a read.
    fn place(&mut self, offset: i64, number: usize, problems: &mut Vec<String>) {
        let Some(sent) = self.sent.get_mut(number) else {
            return;
        };
        if sent.fate == Fate::Refused {
            problems.push(format!("{offset} has record {number}, which was refused"));
        }
        let at = *sent.offset.get_or_insert(offset);
        if at != offset {
            problems.push(format!("record {number} is at {at} and at {offset}"));
        }
        let known = *self.known.entry(offset).or_insert(number);
        if known != number {
            problems.push(format!("{offset} had record {known}, now it has {number}"));
        }
    }
}

/// Writes keys and tombstones until told to finish.
pub(crate) async fn produce(world: Arc<World>, random: Random, finish: Finish) {
    while !finish.is_set() {
        let codec = usize::try_from(random.below(5)).unwrap_or(0);
        let options = ProducerOptions {
            compression: CODECS.get(codec).copied().unwrap_or_default(),
            ..ProducerOptions::default()
        };
        let Ok(producer) = Producer::new(world.client(), options, within(60)).await else {
            continue;
        };
        while !finish.is_set() {
            if !send(&world, &random, &producer).await || random.chance(20) {
                break;
            }
            sleep(Duration::from_millis(random.between(20, 500))).await;
        }
    }
}

/// Sends one batch; false where nobody knows what became of it.
async fn send(world: &World, random: &Random, producer: &Producer) -> bool {
    let count = usize::try_from(random.between(1, 4)).unwrap_or(1);
    let (numbers, batch) = {
        let mut state = world.compacted.state();
        let first = state.sent.len();
        for number in first..first + count {
            let value = (!random.chance(200)).then(|| {
                let padding = usize::try_from(random.below(VALUE_BYTES_MAX)).unwrap_or(0);
                let mut value = number.to_string().into_bytes();
                value.resize(value.len() + padding, b'.');
                value
            });
            state.sent.push(Sent {
                key: random.below(KEYS),
                value,
                timestamp: world.clock.now().0,
                at: Instant::now(),
                fate: Fate::InDoubt,
                offset: None,
            });
        }
        let batch: Vec<Sent> = state.sent.get(first..).unwrap_or_default().to_vec();
        (first..first + count, batch)
    };
    let texts: Vec<(String, String)> = batch
        .iter()
        .zip(numbers.clone())
        .map(|(sent, number)| (sent.key.to_string(), number.to_string()))
        .collect();
    let headers: Vec<[Header<'_>; 1]> = texts
        .iter()
        .map(|(_, number)| {
            [Header {
                key: NUMBER,
                value: Some(number.as_bytes()),
            }]
        })
        .collect();
    let records = batch.iter().zip(&texts).zip(&headers);
    let records: Vec<NewRecord<'_>> = records
        .map(|((sent, (key, _)), headers)| NewRecord {
            timestamp: Timestamp(sent.timestamp),
            key: Some(key.as_bytes()),
            value: sent.value.as_deref(),
            headers,
        })
        .collect();
    let deadline = within(random.between(2, 30));
    match producer.send(TOPIC, 0, &records, deadline).await {
        Ok(produced) => {
            let base = produced.base_offset.map_or(-1, |offset| offset.0);
            world.compacted.acknowledged(numbers, base);
            true
        }
        Err(error @ ClientError::OutcomeUnknown { .. }) => {
            world
                .trace
                .note(format_args!("in doubt {TOPIC} {numbers:?} {error}"));
            false
        }
        Err(error) => {
            world
                .trace
                .note(format_args!("refused {TOPIC} {numbers:?} {error}"));
            world.compacted.refused(numbers);
            true
        }
    }
}

/// What one fetch gave.
struct Read {
    next: i64,
    end: i64,
    met: Vec<(i64, u64, bool)>,
}

async fn read_once(
    world: &World,
    client: &Client,
    position: i64,
    random: &Random,
    deadline: Instant,
) -> Result<Read, ClientError> {
    let options = FetchOptions {
        partition_bytes_max: i32::try_from(random.between(200, 20_000)).unwrap_or(200),
        wait: Duration::from_millis(random.between(0, 400)),
        ..FetchOptions::default()
    };
    let before = world.compacted.end();
    let fetched = client
        .fetch(TOPIC, 0, Offset(position), &options, deadline)
        .await?;
    let end = fetched.high_watermark.0;
    world.compacted.told(before, end);
    let mut read = Read {
        next: position,
        end,
        met: Vec::new(),
    };
    for batch in Batches::new(&fetched.records) {
        match batch {
            Ok(batch) => {
                read.met.extend(world.compacted.read(&batch, read.next));
                read.next = read.next.max(batch.header().next_offset().0);
            }
            Err(error) => {
                let problem = format!("bytes at {} are no batch: {error}", read.next);
                world.compacted.report(vec![problem]);
                break;
            }
        }
    }
    if read.next > end {
        let problem = format!("{} lies above the high watermark {end}", read.next - 1);
        world.compacted.report(vec![problem]);
    }
    Ok(read)
}

/// Follows the topic until told to finish, and begins again where it has fallen behind.
pub(crate) async fn follow(world: Arc<World>, random: Random, finish: Finish) {
    let client = world.client();
    let mut position = 0;
    let mut map: BTreeMap<u64, i64> = BTreeMap::new();
    // When it began, or was at the end last.
    let mut fresh_at = Instant::now();
    while !finish.is_set() {
        let asked = Instant::now();
        match read_once(&world, &client, position, &random, within(5)).await {
            Ok(read) => {
                position = read.next;
                for (offset, key, has_value) in read.met {
                    match has_value {
                        true => map.insert(key, offset),
                        false => map.remove(&key),
                    };
                }
                if Instant::now() - fresh_at < FRESH && position == read.end {
                    world.compacted.followed(&map, position);
                    fresh_at = asked;
                }
            }
            Err(error) => world
                .trace
                .note(format_args!("cannot read {TOPIC}: {error}")),
        }
        if Instant::now() - fresh_at >= FRESH || random.chance(10) {
            (position, fresh_at) = (0, Instant::now());
            map.clear();
        }
        sleep(Duration::from_millis(random.between(0, 300))).await;
    }
}

/// Reads all of it, and checks that it is the map that it must be.
pub(crate) async fn verify(world: &World, random: &Random) {
    let client = world.client();
    let deadline = Instant::now() + READ_TIME_MAX;
    let before = world.compacted.end();
    let unreadable = |error: &dyn std::fmt::Display| {
        let problem = format!("cannot be read: {error}");
        world.compacted.report(vec![problem]);
    };
    let list = async |spec| {
        let listed = client.list_offset(TOPIC, 0, spec, deadline).await?;
        Ok::<i64, ClientError>(listed.map_or(0, |listed| listed.offset.0))
    };
    let (start, end) = match (
        list(OffsetSpec::Earliest).await,
        list(OffsetSpec::Latest).await,
    ) {
        (Ok(start), Ok(end)) => (start, end),
        (Err(error), _) | (_, Err(error)) => return unreadable(&error),
    };
    world.compacted.told(before, end);
    let began = Instant::now();
    let mut met = BTreeSet::new();
    let (mut position, mut end) = (start, end);
    // To what is the end when it is reached: what is removed meanwhile has its successor below it.
    while position < end {
        match read_once(world, &client, position, random, deadline).await {
            Ok(read) if read.next > position => {
                (position, end) = (read.next, read.end);
                met.extend(read.met.iter().map(|(offset, ..)| *offset));
            }
            Ok(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            Ok(_) => return unreadable(&format_args!("nothing comes at {position}")),
            Err(error) => return unreadable(&error),
        }
    }
    world.compacted.covered(&met, end, began);
    world.trace.note(format_args!(
        "verified {TOPIC} {start}..{end}: {} records",
        met.len()
    ));
}

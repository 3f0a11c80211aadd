//! A compacted topic: a bounded set of keys is written over and over while the cleaner works, then
//! the cleaner is waited for, then all is read and every key must have its last value.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, BytesMut};
use esker_client::{
    Client, Consumer, ConsumerOptions, NewRecord, OffsetSpec, Producer, ProducerOptions,
};
use esker_protocol::{Offset, Timestamp};
use futures::future::try_join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::arguments::Compact;
use crate::call::Failure;
use crate::phase;
use crate::target::{Target, Topic};

const KEY_BYTES: usize = 16;
/// The sequence number at the start of a value.
const SEQUENCE_BYTES: usize = 8;
/// About the bytes of a batch.
const BATCH_BYTES: usize = 64 << 10;
/// The longest that one batch or one read may take.
const STEP_MAX: Duration = Duration::from_secs(60);
/// Between looks at the size of the topic.
const LOOK: Duration = Duration::from_millis(250);
/// The cleaner must have come to rest within this.
const CLEAN_MAX: Duration = Duration::from_secs(600);

pub(crate) async fn run(target: &Target, options: &Compact) -> Result<(), Failure> {
    let topic = target
        .make_topic(&[
            ("cleanup.policy", "compact".to_owned()),
            ("segment.bytes", options.segment_bytes.to_string()),
            ("min.cleanable.dirty.ratio", options.dirty_ratio.to_string()),
        ])
        .await?;
    phase::ended("prepare", json!({})).await;

    let began = Instant::now();
    let writing = (0..topic.partitions).map(|partition| write(target, options, partition));
    let models: Vec<Model> = try_join_all(writing).await?;
    let record_bytes = (KEY_BYTES + usize::from(options.size)) as u64;
    let written: u64 = models.iter().map(Model::written).sum();
    let figures = json!({
        "seconds": began.elapsed().as_secs_f64(),
        "records": written,
        "bytes": written * record_bytes,
    });
    phase::ended("produce", figures).await;

    let client = target.client();
    let left = clean(&client, &topic, Duration::from_secs(options.settle)).await?;
    if left >= written * record_bytes {
        let line = format!("nothing was cleaned: {left} bytes are left");
        return Err(Failure::Unexpected(line));
    }

    let began = Instant::now();
    let records = read(&client, &topic, &models).await?;
    let figures = json!({ "seconds": began.elapsed().as_secs_f64(), "records": records });
    phase::ended("read", figures).await;
    Ok(())
}

/// What a partition should hold: the last sequence number of each of its keys, 0 for none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Model {
    last: Vec<u64>,
    sequence: u64,
}

impl Model {
    fn new(keys: usize) -> Model {
        Model {
            last: vec![0; keys],
            sequence: 0,
        }
    }

    /// The sequence number of the next record of a key.
    fn write(&mut self, key: usize) -> u64 {
        self.sequence += 1;
        if let Some(last) = self.last.get_mut(key) {
            *last = self.sequence;
        }
        self.sequence
    }

    fn written(&self) -> u64 {
        self.sequence
    }

    /// What a reader sees when it reads on: the newest of each key counts.
    fn see(&mut self, key: usize, sequence: u64) {
        if let Some(last) = self.last.get_mut(key) {
            *last = sequence;
        }
    }
}

/// How much of `total` falls to one of `count`.
fn share(total: u64, index: i32, count: i32) -> u64 {
    let (index, count) = (
        u64::from(index.unsigned_abs()),
        u64::from(count.unsigned_abs()).max(1),
    );
    total / count + u64::from(index < total % count)
}

async fn write(target: &Target, options: &Compact, partition: i32) -> Result<Model, Failure> {
    let partitions = i32::from(options.partitions);
    let keys = share(options.keys.into(), partition, partitions) as usize;
    let mut left = if keys == 0 {
        0
    } else {
        share(options.records, partition, partitions)
    };
    let seed = options
        .seed
        .wrapping_add(u64::from(partition.unsigned_abs()));
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::new(keys);
    let size = usize::from(options.size);
    let batch_records = (BATCH_BYTES / (KEY_BYTES + size)).max(1);
    let opening = Producer::new(
        target.client(),
        ProducerOptions::default(),
        Instant::now() + STEP_MAX,
    );
    let producer = opening.await?;
    while left > 0 {
        let count = batch_records.min(usize::try_from(left).unwrap_or(batch_records));
        let timestamp = now();
        let mut texts = Vec::with_capacity(count);
        for _ in 0..count {
            let key = random.random_range(0..keys);
            texts.push((encode_key(key), encode_value(model.write(key), size)));
        }
        let records: Vec<NewRecord<'_>> = texts
            .iter()
            .map(|(key, value)| NewRecord {
                timestamp,
                key: Some(key),
                value: Some(value),
                headers: &[],
            })
            .collect();
        producer
            .send(&target.name, partition, &records, Instant::now() + STEP_MAX)
            .await?;
        left -= count as u64;
    }
    Ok(model)
}

fn encode_key(key: usize) -> [u8; KEY_BYTES] {
    let mut bytes = [b'k'; KEY_BYTES];
    for (slot, byte) in bytes.iter_mut().zip((key as u64).to_be_bytes()) {
        *slot = byte;
    }
    bytes
}

fn encode_value(sequence: u64, size: usize) -> BytesMut {
    let mut value = BytesMut::with_capacity(size);
    value.put_u64(sequence);
    value.put_bytes(b'v', size.saturating_sub(SEQUENCE_BYTES));
    value
}

/// The number at the start of a key or a value.
fn number(bytes: Option<&[u8]>) -> Option<u64> {
    let first = bytes?.first_chunk()?;
    Some(u64::from_be_bytes(*first))
}

/// Waits until the topic's size no longer changes, and returns it.
async fn clean(client: &Client, topic: &Topic, settle: Duration) -> Result<u64, Failure> {
    let deadline = Instant::now() + CLEAN_MAX;
    client.metadata(Some(&[&topic.name]), deadline).await?;
    let began = Instant::now();
    let (mut size, mut since) = (0, began);
    loop {
        let dirs = client.log_dirs(topic.leader, deadline).await?;
        let mut now = 0;
        for partition in 0..topic.partitions {
            let at = (topic.name.clone(), partition);
            now += dirs
                .iter()
                .filter_map(|dir| dir.partitions.get(&at))
                .sum::<u64>();
        }
        if now != size {
            (size, since) = (now, Instant::now());
            let seconds = began.elapsed().as_secs_f64();
            phase::goes_on("clean", json!({ "seconds": seconds, "bytes_left": size }));
        }
        if since.elapsed() >= settle {
            return Ok(size);
        }
        if Instant::now() >= deadline {
            let line = format!("the cleaner had not come to rest after {CLEAN_MAX:?}");
            return Err(Failure::Unexpected(line));
        }
        sleep(LOOK).await;
    }
}

/// Reads everything and compares; returns how many records there are.
async fn read(client: &Client, topic: &Topic, models: &[Model]) -> Result<u64, Failure> {
    let mut consumer = Consumer::new(client.clone(), ConsumerOptions::default());
    let mut ends = Vec::new();
    for partition in 0..topic.partitions {
        let deadline = Instant::now() + STEP_MAX;
        let latest = client.list_offset(&topic.name, partition, OffsetSpec::Latest, deadline);
        ends.push(latest.await?.map_or(Offset::ZERO, |listed| listed.offset));
        consumer.assign(&topic.name, partition, Offset::ZERO);
    }
    let empty = |model: &Model| Model {
        last: vec![0; model.last.len()],
        ..model.clone()
    };
    let mut seen: Vec<Model> = models.iter().map(empty).collect();
    let mut records = 0;
    let mut progress = Instant::now();
    let is_behind = |consumer: &Consumer| {
        (0..).zip(&ends).any(|(partition, end)| {
            consumer
                .position(&topic.name, partition)
                .is_none_or(|position| position < *end)
        })
    };
    while is_behind(&consumer) {
        if progress.elapsed() > STEP_MAX {
            return Err(Failure::Unexpected(
                "the topic cannot be read to its end".to_owned(),
            ));
        }
        for polled in consumer.poll(Instant::now() + STEP_MAX).await? {
            progress = Instant::now();
            let model = usize::try_from(polled.partition)
                .ok()
                .and_then(|at| seen.get_mut(at));
            let Some(model) = model else { continue };
            polled.for_each(|record| {
                records += 1;
                if let (Some(key), Some(sequence)) = (number(record.key), number(record.value)) {
                    model.see(usize::try_from(key).unwrap_or(usize::MAX), sequence);
                }
            })?;
        }
    }
    match seen
        .iter()
        .zip(models)
        .position(|(seen, model)| seen != model)
    {
        None => Ok(records),
        Some(partition) => {
            let line = format!("partition {partition} has not the last value of each key");
            Err(Failure::Unexpected(line))
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "records carry this machine's time"
)]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (total, count) in [(10, 3), (2, 5), (0, 2)] {
            let sum: u64 = (0..count).map(|index| share(total, index, count)).sum();
            assert_eq!(sum, total);
        }
        assert_eq!(share(10, 0, 3), 4);
    }

    #[test]
    fn a_record_says_its_key_and_its_sequence_number() {
        assert_eq!(number(Some(&encode_key(77))), Some(77));
        let value = encode_value(9, 32);
        assert_eq!((value.len(), number(Some(&value))), (32, Some(9)));
        assert_eq!(number(Some(&[1, 2])), None);
        assert_eq!(number(None), None);
    }

    #[test]
    fn a_cleaned_log_and_a_whole_one_look_alike_and_a_stale_one_does_not() {
        let mut model = Model::new(2);
        let writes = [0, 1, 0].map(|key| (key, model.write(key)));
        let read = |records: &[(usize, u64)]| {
            let mut seen = Model::new(2);
            seen.sequence = model.sequence;
            for (key, sequence) in records {
                seen.see(*key, *sequence);
            }
            seen
        };
        assert_eq!(read(&writes), model);
        assert_eq!(read(&writes[1..]), model);
        assert_ne!(read(&writes[..2]), model);
    }
}

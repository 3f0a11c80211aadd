//! Writes the events, reads them back, compares.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use esker_client::{
    Client, ClientError, Consumer, ConsumerOptions, NewRecord, Producer, ProducerOptions,
};
use esker_protocol::{Offset, Timestamp};
use futures::future::try_join_all;
use indicatif::ProgressBar;
use tokio::time::Instant;

use super::events::{Event, Events};
use super::summary::Hot;
use super::{PARTITIONS, Plan, TOPIC};
use crate::cli::{Failure, client};

/// What a partition holds: how many records, and a hash of all of them in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    records: u64,
    bytes: u64,
    hash: DefaultHasher,
}

impl Content {
    fn add(&mut self, timestamp: Timestamp, key: &[u8], value: &[u8]) {
        self.records += 1;
        self.bytes += (key.len() + value.len()) as u64;
        // Slices hash their length first, so that no byte can move from one to the next unseen.
        timestamp.0.hash(&mut self.hash);
        key.hash(&mut self.hash);
        value.hash(&mut self.hash);
    }

    fn agrees(&self, other: &Content) -> bool {
        self.records == other.records && self.hash.finish() == other.hash.finish()
    }
}

/// Everything that was written.
#[derive(Debug)]
pub(super) struct Written {
    partitions: Vec<Content>,
    pub(super) took: Duration,
}

impl Written {
    pub(super) fn records(&self) -> u64 {
        self.partitions.iter().map(|content| content.records).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.partitions.iter().map(|content| content.bytes).sum()
    }
}

/// The events lie in the hour before now.
const HOUR_MS: i64 = 3_600_000;

/// Streams the events, all partitions at once, each batch acknowledged before the next is sent.
pub(super) async fn write(
    client: &Client,
    plan: &Plan,
    now: Timestamp,
    bar: &ProgressBar,
    deadline: Instant,
) -> Result<Written, Failure> {
    let began = Instant::now();
    let producer = Producer::new(client.clone(), ProducerOptions::default(), deadline)
        .await
        .map_err(|error| client::failed(&error))?;
    let partitions = (0..PARTITIONS)
        .map(|partition| write_partition(&producer, plan, partition, now, bar, deadline));
    let partitions = try_join_all(partitions)
        .await
        .map_err(|error| client::failed(&error))?;
    Ok(Written {
        partitions,
        took: began.elapsed(),
    })
}

async fn write_partition(
    producer: &Producer,
    plan: &Plan,
    partition: i32,
    now: Timestamp,
    bar: &ProgressBar,
    deadline: Instant,
) -> Result<Content, ClientError> {
    let number = u64::from(partition.unsigned_abs());
    let count = plan.share(number);
    let step_ms = (HOUR_MS / i64::try_from(count).unwrap_or(HOUR_MS).max(1)).max(1);
    let start = Timestamp(now.0 - HOUR_MS);
    let mut events = Events::new(number, u64::from(PARTITIONS.unsigned_abs()), start, step_ms);
    let mut content = Content::default();
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    while left > 0 {
        let batch: Vec<Event> = events.by_ref().take(left.min(plan.batch_records)).collect();
        left -= batch.len();
        for event in &batch {
            content.add(
                event.timestamp,
                event.key.as_bytes(),
                event.value.as_bytes(),
            );
        }
        let records: Vec<NewRecord<'_>> = batch
            .iter()
            .map(|event| NewRecord {
                timestamp: event.timestamp,
                key: Some(event.key.as_bytes()),
                value: Some(event.value.as_bytes()),
                headers: &[],
            })
            .collect();
        producer.send(TOPIC, partition, &records, deadline).await?;
        bar.inc(batch.len() as u64);
    }
    Ok(content)
}

/// One pass over cold or hot records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

/// Everything that was read back.
#[derive(Debug, Default)]
pub(super) struct Read {
    partitions: Vec<Reading>,
    pub(super) cold: Pass,
    pub(super) hot: Pass,
}

#[derive(Debug, Default)]
struct Reading {
    content: Content,
    next: Offset,
    problem: Option<String>,
}

/// Reads every partition from offset 0, first what only the object store has, then the rest.
pub(super) async fn read(
    client: &Client,
    hot: &Hot,
    bar: &ProgressBar,
    deadline: Instant,
) -> Result<Read, Failure> {
    let mut read = Read::default();
    read.partitions
        .resize_with(hot.partitions.len(), Reading::default);
    let ends = |end: fn(&super::summary::Range) -> Offset| {
        hot.partitions.iter().map(end).collect::<Vec<_>>()
    };
    let partitions = &mut read.partitions;
    read.cold = pass(
        client,
        partitions,
        &ends(|range| range.local_start),
        bar,
        deadline,
    )
    .await?;
    read.hot = pass(client, partitions, &ends(|range| range.end), bar, deadline).await?;
    Ok(read)
}

/// Reads each partition on to its end.
async fn pass(
    client: &Client,
    partitions: &mut [Reading],
    ends: &[Offset],
    bar: &ProgressBar,
    deadline: Instant,
) -> Result<Pass, Failure> {
    let began = Instant::now();
    let mut consumer = Consumer::new(client.clone(), ConsumerOptions::default());
    let mut left = 0;
    for ((number, reading), end) in (0..).zip(partitions.iter()).zip(ends) {
        if reading.next < *end {
            consumer.assign(TOPIC, number, reading.next);
            left += 1;
        }
    }
    let before: u64 = partitions.iter().map(|reading| reading.content.bytes).sum();
    let mut pass = Pass::default();
    while left > 0 {
        if Instant::now() >= deadline {
            return Err(Failure::Failed("reading back takes too long".to_owned()));
        }
        for polled in consumer
            .poll(deadline)
            .await
            .map_err(|error| client::failed(&error))?
        {
            let number = usize::try_from(polled.partition).unwrap_or(usize::MAX);
            let (Some(reading), Some(end)) = (partitions.get_mut(number), ends.get(number)) else {
                continue;
            };
            let records = reading.content.records;
            // What lies behind the end of this pass is the next pass's to read and to count.
            let looked = polled.for_each(|record| {
                if record.offset >= *end {
                    return;
                }
                if record.offset != reading.next && reading.problem.is_none() {
                    reading.problem = Some(format!(
                        "partition {number}: offset {} comes where {} is next",
                        record.offset, reading.next
                    ));
                }
                reading.next = record.offset + 1;
                let (key, value) = (
                    record.key.unwrap_or_default(),
                    record.value.unwrap_or_default(),
                );
                reading.content.add(record.timestamp, key, value);
            });
            looked.map_err(|error| client::failed(&error))?;
            let seen = reading.content.records - records;
            pass.records += seen;
            bar.inc(seen);
            if polled.next >= *end {
                consumer.unassign(TOPIC, polled.partition);
                left -= 1;
            }
        }
    }
    let after: u64 = partitions.iter().map(|reading| reading.content.bytes).sum();
    pass.bytes = after - before;
    pass.took = began.elapsed();
    Ok(pass)
}

/// Compares what came back with what was written.
pub(super) fn compare(written: &Written, read: &Read, tier_bytes: u64) -> Result<(), String> {
    if let Some(problem) = read
        .partitions
        .iter()
        .find_map(|reading| reading.problem.clone())
    {
        return Err(problem);
    }
    if read.partitions.len() != written.partitions.len() {
        return Err("not every partition was read".to_owned());
    }
    for (number, (reading, content)) in read.partitions.iter().zip(&written.partitions).enumerate()
    {
        if !reading.content.agrees(content) {
            return Err(format!(
                "partition {number}: {} records were written, and {} others came back",
                content.records, reading.content.records
            ));
        }
    }
    if read.cold.records == 0 {
        return Err("nothing was read from the object store".to_owned());
    }
    if tier_bytes == 0 {
        return Err("the broker served no byte from the object store".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(values: &[&str]) -> Content {
        let mut content = Content::default();
        for value in values {
            content.add(Timestamp(1), b"key", value.as_bytes());
        }
        content
    }

    fn written() -> Written {
        let partitions = vec![content(&["a", "b"]), content(&["c"])];
        Written {
            partitions,
            took: Duration::ZERO,
        }
    }

    fn read(partitions: Vec<Content>) -> Read {
        let reading = |content| Reading {
            content,
            next: Offset(0),
            problem: None,
        };
        Read {
            partitions: partitions.into_iter().map(reading).collect(),
            cold: Pass {
                records: 1,
                ..Pass::default()
            },
            ..Read::default()
        }
    }

    #[test]
    fn the_same_content_agrees() {
        let same = read(vec![content(&["a", "b"]), content(&["c"])]);
        assert_eq!(compare(&written(), &same, 1), Ok(()));
    }

    #[test]
    fn whatever_differs_is_found() {
        let others = [
            vec![content(&["b", "a"]), content(&["c"])],
            vec![content(&["ab", ""]), content(&["c"])],
            vec![content(&["a"]), content(&["c"])],
            vec![content(&["a", "b", "b"]), content(&["c"])],
            vec![content(&["c"]), content(&["a", "b"])],
            vec![content(&["a", "b"])],
        ];
        for partitions in others {
            assert!(
                compare(&written(), &read(partitions.clone()), 1).is_err(),
                "{partitions:?}"
            );
        }
    }

    #[test]
    fn a_demo_that_read_nothing_cold_fails() {
        let mut same = read(vec![content(&["a", "b"]), content(&["c"])]);
        assert!(compare(&written(), &same, 0).is_err());
        same.cold.records = 0;
        assert!(compare(&written(), &same, 1).is_err());
    }
}

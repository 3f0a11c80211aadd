//! `esker demo`: the clickstream example end to end, through TCP, in one process.
//!
//!   stream events -> segments are sealed and offloaded, local copies go -> read all back, compare
//!
//! What is read back is compared with what was written by a hash over every timestamp, key and
//! value of a partition, and offsets must be dense. Cold reads must show in the broker's own count
//! of bytes that the tier served, so that a demo that never left the local disk fails.

mod events;
mod stream;
mod summary;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use esker_client::{Client, Endpoint, NewTopic};
use esker_protocol::ErrorCode;
use esker_storage::retention::{self, Limits};
use esker_storage::{Disk, RealDisk};
use esker_tier::inspect::Bucket;
use esker_tier::pool::Inline;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use self::summary::{Cold, Hot, Style, Summary};
use super::{Failure, broker, client, dev, run as process};
use crate::Broker;
use crate::config::HostPort;
use crate::environment::real;

/// Options of `esker demo`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many events to stream.
    #[arg(long, value_name = "N", default_value_t = 200_000,
        value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    events: u64,
    /// Where data lives, and stays; by default in a temporary directory that goes.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep the temporary directory.
    #[arg(long)]
    keep: bool,
}

/// The topic.
const TOPIC: &str = "clickstream";
const PARTITIONS: i32 = 4;

/// The usual bytes of an event with its framing, to choose the size of segments by.
const EVENT_BYTES: u64 = 270;

/// A partition's log is cut into about so many segments, so that most of it can be offloaded.
const SEGMENTS: u64 = 12;

/// The smallest `segment.bytes` that Kafka allows.
const SEGMENT_BYTES_MAX: u64 = 1 << 20;
const SEGMENT_BYTES_MIN: u64 = 4 << 10;

/// The newest segments that stay on local disk beside the active one.
const LOCAL_SEGMENTS: u64 = 2;

/// The longest that offloading may take after the last event.
const OFFLOAD_MAX: Duration = Duration::from_secs(60);

/// The longest that streaming or reading back may take.
const STREAM_MAX: Duration = Duration::from_secs(600);

/// How often the demo looks whether everything has been offloaded.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What is going to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    events: u64,
    segment_bytes: u64,
    batch_records: usize,
}

impl Plan {
    fn new(events: u64) -> Plan {
        let partition_bytes = events / u64::from(PARTITIONS.unsigned_abs()) * EVENT_BYTES;
        let segment_bytes =
            (partition_bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        // Several batches a segment, so that segments end near the size that was asked for.
        let batch_records = (segment_bytes / 4 / EVENT_BYTES).clamp(1, 500);
        let batch_records = usize::try_from(batch_records).unwrap_or(1);
        Plan {
            events,
            segment_bytes,
            batch_records,
        }
    }

    /// Bytes that each partition keeps on local disk once they are offloaded.
    fn local_bytes(&self) -> u64 {
        self.segment_bytes * LOCAL_SEGMENTS
    }

    /// The events of one partition.
    fn share(&self, partition: u64) -> u64 {
        let partitions = u64::from(PARTITIONS.unsigned_abs());
        self.events / partitions + u64::from(partition < self.events % partitions)
    }

    fn topic(&self) -> NewTopic {
        // Below Kafka's least, segments can only be asked for by Kafka's own back door.
        let segment_key = if self.segment_bytes < SEGMENT_BYTES_MAX {
            "internal.segment.bytes"
        } else {
            "segment.bytes"
        };
        let settings = [
            (segment_key, self.segment_bytes),
            ("local.retention.bytes", self.local_bytes()),
        ];
        NewTopic {
            partitions: Some(PARTITIONS),
            replication_factor: Some(1),
            settings: settings
                .map(|(key, value)| (key.to_owned(), value.to_string()))
                .into_iter()
                .collect(),
            ..NewTopic::new(TOPIC)
        }
    }
}

/// Where the files are, and whether they stay.
struct Place {
    directory: PathBuf,
    stays: bool,
}

impl Place {
    fn choose(arguments: &Arguments) -> Result<Place, Failure> {
        if let Some(directory) = &arguments.data_dir {
            let directory = std::path::absolute(directory)
                .map_err(|error| Failure::Usage(format!("--data-dir: {error}")))?;
            return Ok(Place {
                directory,
                stays: true,
            });
        }
        let random = real::randomness().map_err(Failure::failed)?.next_u64();
        let directory = std::env::temp_dir().join(format!("esker-demo-{random:016x}"));
        Ok(Place {
            directory,
            stays: arguments.keep,
        })
    }

    /// Removes the files unless they stay.
    fn leave(&self) -> Result<(), Failure> {
        if self.stays {
            return Ok(());
        }
        RealDisk.remove_dir_all(&self.directory).map_err(|error| {
            Failure::Failed(format!(
                "{} cannot be removed: {error}",
                self.directory.display()
            ))
        })
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    process::start_logs("error")?;
    let place = Place::choose(arguments)?;
    RealDisk
        .create_dir_all(&place.directory)
        .map_err(|error| Failure::Failed(format!("{}: {error}", place.directory.display())))?;
    let plan = Plan::new(arguments.events);
    let style = Style::of_stdout();
    let runtime = process::runtime(1)?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted".to_owned())),
            outcome = demo(&plan, &place, &style) => outcome,
        }
    });
    // Whatever still runs ends before its files go.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.and(place.leave())
}

async fn demo(plan: &Plan, place: &Place, style: &Style) -> Result<(), Failure> {
    let began = Instant::now();
    let config = broker::from_pairs(properties(&place.directory)?)?;
    let (environment, metadata) = process::environment(&config).await?;
    let store = environment.object_store.clone();
    let registry = environment.registry.clone();
    let broker = Broker::start(config, environment)
        .await
        .map_err(Failure::failed)?;
    let address = broker.kafka_address();
    summary::begin(plan, place, address, style);

    let client = client::client(Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
    });
    create_topic(&client, plan).await?;

    let bar = bar("streaming events", plan.events);
    let now = broker.shared().environment.now();
    let written = stream::write(&client, plan, now, &bar, Instant::now() + STREAM_MAX).await?;
    bar.finish_and_clear();
    summary::streamed(&written, style);

    let started = Instant::now();
    offloaded(&broker, plan).await?;
    let offload_wait = started.elapsed();
    let hot = Hot::of(&broker.shared().partitions.all());
    let cold = match store {
        Some(store) => Cold::of(&Bucket::new(store, Arc::new(Inline))).await?,
        None => return Err(Failure::Failed("the demo has no object store".to_owned())),
    };
    summary::offloaded(&hot, &cold, offload_wait, style);

    let bar = bar_of_reads(plan);
    let read = stream::read(&client, &hot, &bar, Instant::now() + STREAM_MAX).await?;
    bar.finish_and_clear();
    let tier_bytes = counter(&registry, "esker_tier_read_bytes_total");
    summary::read_back(&read, tier_bytes, style);
    let verified = stream::compare(&written, &read, tier_bytes);

    broker.stop().await;
    metadata.close().await;
    verified.map_err(|problem| Failure::Failed(format!("verification failed: {problem}")))?;
    Summary {
        plan,
        place,
        read: &read,
        hot: &hot,
        cold: &cold,
        took: began.elapsed(),
    }
    .show(style);
    Ok(())
}

/// What `esker dev` would run with in this directory, on a port that is free.
fn properties(directory: &Path) -> Result<Vec<(String, String)>, Failure> {
    let listen: HostPort = "127.0.0.1:0".parse().map_err(Failure::Usage)?;
    let mut pairs = dev::properties(directory, &listen, None, &dev::objects_url(directory));
    // A demo does not wait ten minutes for the last small object, nor five for retention.
    let faster = [
        ("offload.max.age.ms", "500"),
        ("log.retention.check.interval.ms", "250"),
    ];
    pairs.extend(faster.map(|(key, value)| (key.to_owned(), value.to_owned())));
    Ok(pairs)
}

async fn create_topic(client: &Client, plan: &Plan) -> Result<(), Failure> {
    let created = client
        .create_topics(&[plan.topic()], false, client::deadline())
        .await;
    for (name, outcome) in created.map_err(|error| client::failed(&error))? {
        match outcome {
            Ok(()) => {}
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                return Err(Failure::Failed(format!(
                    "topic {name} exists already: a demo ran in this --data-dir before, choose another"
                )));
            }
            Err(error) => return Err(client::failed(&error)),
        }
    }
    Ok(())
}

/// Waits until every sealed segment is in the object store and what local retention has passed is
/// gone from the local disk.
async fn offloaded(broker: &Broker, plan: &Plan) -> Result<(), Failure> {
    let bar = ProgressBar::new_spinner()
        .with_message("sealed segments go to the object store, local copies go");
    let deadline = Instant::now() + OFFLOAD_MAX;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        bar.tick();
        let partitions = broker.shared().partitions.all();
        let now = broker.shared().environment.now();
        let is_done = partitions.iter().all(|partition| {
            let segments = partition.log.segments();
            let sealed_end = segments
                .iter()
                .rfind(|segment| segment.sealed)
                .map(|last| last.end);
            let tier_end = partition.tier.pointer().map(|pointer| pointer.tier_end);
            let limits = Limits {
                bytes: Some(plan.local_bytes()),
                ms: None,
            };
            let floor = partition.tier.pointer().map(|pointer| pointer.local_floor);
            // Where no sealed segment is left locally, all of them went because they were offloaded.
            sealed_end.is_none_or(|end| tier_end >= Some(end))
                && floor.is_some_and(|floor| {
                    retention::local_start(&segments, limits, now, floor).is_none()
                })
        });
        if is_done {
            bar.finish_and_clear();
            return Ok(());
        }
        if Instant::now() >= deadline {
            bar.finish_and_clear();
            return Err(Failure::Failed(format!(
                "segments were not offloaded within {} s; ESKER_LOG=info shows why",
                OFFLOAD_MAX.as_secs()
            )));
        }
    }
}

/// A bar on stderr, which shows nothing where nobody watches.
fn bar(what: &'static str, total: u64) -> ProgressBar {
    let template = "  {msg} {bar:30} {percent:>3} %  {human_pos} of {human_len}  {per_sec}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what)
}

fn bar_of_reads(plan: &Plan) -> ProgressBar {
    bar("reading everything back", plan.events)
}

/// The value of a counter of the broker.
fn counter(registry: &prometheus::Registry, name: &str) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
    metrics
        .iter()
        .map(|metric| metric.get_counter().get_value() as u64)
        .sum()
}

/// Whether stdout shows colours.
fn is_colourful() -> bool {
    std::io::stdout().is_terminal() && process::variable("NO_COLOR").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_demo_has_segments_to_offload() {
        for events in [1_000, 20_000, 200_000, 5_000_000] {
            let plan = Plan::new(events);
            let partition_bytes = plan.share(0) * EVENT_BYTES;
            assert!(
                partition_bytes / plan.segment_bytes > LOCAL_SEGMENTS + 1,
                "{plan:?}"
            );
            let total: u64 = (0..4).map(|partition| plan.share(partition)).sum();
            assert_eq!(total, events);
        }
    }

    #[test]
    fn the_topic_is_one_that_the_broker_accepts() {
        use crate::config::topic;

        for events in [1_000, 200_000] {
            let settings = Plan::new(events).topic().settings;
            let none = std::collections::BTreeMap::new();
            assert_eq!(topic::check_all(&settings, &none), Ok(()));
            assert_eq!(topic::check_local_retention(&settings, &none), Ok(()));
        }
    }
}

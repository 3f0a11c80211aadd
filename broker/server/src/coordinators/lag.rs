//! What `/metrics` says of groups: how many there are, and how far each is behind.
//!
//! Computed when it is asked for: nothing is kept per group or partition.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use crate::broker::Shared;

/// Partitions of groups that one answer shows; the others are counted.
const SERIES_MAX: usize = 20_000;

/// Computes the metrics of groups from the shards of a broker.
struct GroupMetrics {
    shared: Weak<Shared>,
    descriptions: Vec<Desc>,
}

/// One answer's gauges.
struct Gauges {
    lag: IntGaugeVec,
    offset: IntGaugeVec,
    omitted: IntGauge,
    groups: IntGaugeVec,
    shards: IntGaugeVec,
}

impl Gauges {
    fn new() -> Result<Gauges, prometheus::Error> {
        let of_partition = ["group", "topic", "partition"];
        let opts = |name: &str, help: &str| Opts::new(name.to_owned(), help.to_owned());
        Ok(Gauges {
            lag: IntGaugeVec::new(
                opts(
                    "esker_group_lag",
                    "Records between a group's committed offset and the high watermark.",
                ),
                &of_partition,
            )?,
            offset: IntGaugeVec::new(
                opts("esker_group_offset", "A group's committed offset."),
                &of_partition,
            )?,
            omitted: IntGauge::with_opts(opts(
                "esker_group_partitions_omitted",
                "Partitions of groups that are not shown because there are too many.",
            ))?,
            groups: IntGaugeVec::new(
                opts(
                    "kafka_server_group_coordinator_metrics_group_count",
                    "Groups by protocol and state.",
                ),
                &["protocol", "state"],
            )?,
            shards: IntGaugeVec::new(
                opts(
                    "kafka_server_group_coordinator_metrics_num_partitions",
                    "Partitions of __consumer_offsets whose groups are here, by state.",
                ),
                &["state"],
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 5] {
        [
            &self.lag,
            &self.offset,
            &self.omitted,
            &self.groups,
            &self.shards,
        ]
    }
}

/// Registers the metrics of groups.
///
/// # Errors
/// The registry has one of these names already.
pub fn register(shared: &Arc<Shared>) -> Result<(), prometheus::Error> {
    let gauges = Gauges::new()?;
    let descriptions = gauges
        .all()
        .iter()
        .flat_map(|gauge| gauge.desc())
        .cloned()
        .collect();
    let metrics = GroupMetrics {
        descriptions,
        // The registry is part of what the broker shares.
        shared: Arc::downgrade(shared),
    };
    let registry: &Registry = &shared.environment.registry;
    registry.register(Box::new(metrics))
}

impl Collector for GroupMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (Some(shared), Ok(gauges)) = (self.shared.upgrade(), Gauges::new()) else {
            return Vec::new();
        };
        fill(&shared, &gauges);
        gauges
            .all()
            .iter()
            .flat_map(|gauge| gauge.collect())
            .collect()
    }
}

fn fill(shared: &Shared, gauges: &Gauges) {
    let image = shared.image();
    let mut shown = 0;
    let mut groups: BTreeMap<(&'static str, &'static str), usize> = BTreeMap::new();
    for (state, count) in shared.coordinators.states() {
        gauges
            .shards
            .with_label_values(&[state])
            .set(as_gauge(count));
    }
    shared.coordinators.for_each_active(|shard| {
        for (kind, count) in shard.groups() {
            *groups.entry(kind).or_default() += count;
        }
        for committed in shard.committed() {
            let id = image
                .topic(committed.topic)
                .map(|topic| topic.value.topic_id);
            let partition = id.and_then(|id| shared.partitions.get(id, committed.partition));
            let Some(partition) = partition else {
                continue;
            };
            if shown >= SERIES_MAX {
                gauges.omitted.inc();
                continue;
            }
            shown += 1;
            let index = committed.partition.to_string();
            let labels = [committed.group, committed.topic, index.as_str()];
            gauges
                .offset
                .with_label_values(&labels)
                .set(committed.offset.0);
            let lag = partition.high_watermark() - committed.offset;
            gauges.lag.with_label_values(&labels).set(lag.max(0));
        }
    });
    for ((protocol, state), count) in groups {
        gauges
            .groups
            .with_label_values(&[protocol, state])
            .set(as_gauge(count));
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

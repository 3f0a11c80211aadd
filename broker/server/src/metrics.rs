//! The broker's metrics. Each has its line in `docs/metrics.md`; a test keeps the two in step.

use std::sync::OnceLock;

use esker_protocol::api::ApiKey;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// More than the greatest number of an API.
const APIS_MAX: usize = 128;

/// Counters and gauges of one broker.
pub struct Metrics {
    requests: IntCounterVec,
    /// Those of `requests`, by the API's number, once it was asked for: to find one by its name costs a
    /// small request more than it should.
    requests_by_api: Vec<OnceLock<IntCounter>>,
    bad_requests: IntCounter,
    connections: IntGauge,
    connections_refused: IntCounter,
    produce_bytes: IntCounter,
    produce_records: IntCounter,
    produce_refused: IntCounter,
    fetch_bytes: IntCounter,
    commit_rounds: IntCounter,
    partitions: IntGauge,
    partitions_offline: IntGauge,
    directories_failed: IntGauge,
    durability_relaxed: IntGauge,
    unclean_elections: IntCounter,
    tier_upload_bytes: IntCounter,
    tier_uploads: IntCounter,
    tier_upload_failures: IntCounter,
    tier_bucket_unverified: IntGauge,
    tier_bucket_foreign: IntGauge,
    tier_read_bytes: IntCounter,
    tier_deleted_objects: IntCounter,
    local_deleted_bytes: IntCounter,
    coordinator_loads: IntCounter,
    coordinator_load_ms: IntCounter,
    compaction_passes: IntCounter,
    compaction_failures: IntCounter,
    compaction_read_bytes: IntCounter,
    compaction_written_bytes: IntCounter,
    compaction_removed_records: IntCounter,
    compaction_map_bytes: IntGauge,
    compaction_dirty_percent: IntGauge,
    compaction_uncleanable: IntGauge,
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// The registry has one of these names already: two brokers share it.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(format!("esker_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(format!("esker_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let requests = IntCounterVec::new(
            Opts::new("esker_requests_total", "Requests applied."),
            &["api"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Metrics {
            requests,
            requests_by_api: (0..APIS_MAX).map(|_| OnceLock::new()).collect(),
            bad_requests: counter("bad_requests_total", "Requests that could not be read.")?,
            connections: gauge("connections", "Open client connections.")?,
            connections_refused: counter(
                "connections_refused_total",
                "Connections closed at once because max.connections was reached.",
            )?,
            produce_bytes: counter("produce_bytes_total", "Bytes of accepted batches.")?,
            produce_records: counter("produce_records_total", "Records of accepted batches.")?,
            produce_refused: counter("produce_refused_total", "Batches refused.")?,
            fetch_bytes: counter("fetch_bytes_total", "Bytes of batches sent to consumers.")?,
            commit_rounds: counter("commit_rounds_total", "Group commit rounds that synced.")?,
            partitions: gauge("partitions", "Partitions that this broker hosts.")?,
            partitions_offline: gauge(
                "partitions_offline",
                "Hosted partitions that cannot be served: damaged, or their directory has failed.",
            )?,
            directories_failed: gauge("log_directories_failed", "Log directories that failed.")?,
            durability_relaxed: gauge(
                "log_durability_relaxed",
                "1 where acknowledged records may be lost in a crash of the machine.",
            )?,
            unclean_elections: counter(
                "unclean_elections_total",
                "Partitions led without proof that every acknowledged record is there.",
            )?,
            tier_upload_bytes: counter("tier_upload_bytes_total", "Bytes of objects uploaded.")?,
            tier_uploads: counter("tier_uploads_total", "Uploads that were committed.")?,
            tier_upload_failures: counter("tier_upload_failures_total", "Uploads that failed.")?,
            tier_bucket_unverified: gauge(
                "tier_bucket_unverified",
                "1 while the object store is not known to be this cluster's.",
            )?,
            tier_bucket_foreign: gauge(
                "tier_bucket_foreign",
                "1 where the object store is another cluster's, or has no marker.",
            )?,
            tier_read_bytes: counter("tier_read_bytes_total", "Bytes served from the tier.")?,
            tier_deleted_objects: counter("tier_deleted_objects_total", "Objects deleted.")?,
            local_deleted_bytes: counter(
                "local_deleted_bytes_total",
                "Bytes of local segments deleted by retention.",
            )?,
            coordinator_loads: counter(
                "coordinator_loads_total",
                "Partitions of __consumer_offsets whose groups were loaded.",
            )?,
            coordinator_load_ms: counter(
                "coordinator_load_milliseconds_total",
                "Time that loading groups took.",
            )?,
            compaction_passes: counter("compaction_passes_total", "Passes over a log that ended.")?,
            compaction_failures: counter(
                "compaction_failures_total",
                "Passes over a log that were given up.",
            )?,
            compaction_read_bytes: counter(
                "compaction_read_bytes_total",
                "Bytes read by compaction.",
            )?,
            compaction_written_bytes: counter(
                "compaction_written_bytes_total",
                "Bytes written by compaction.",
            )?,
            compaction_removed_records: counter(
                "compaction_removed_records_total",
                "Records that compaction took away.",
            )?,
            compaction_map_bytes: gauge(
                "compaction_map_bytes",
                "Memory for the keys of the logs being compacted.",
            )?,
            compaction_dirty_percent: gauge(
                "compaction_dirty_percent_max",
                "The dirty share of the dirtiest compacted log.",
            )?,
            compaction_uncleanable: gauge(
                "compaction_uncleanable_partitions",
                "Partitions that cannot be compacted.",
            )?,
        })
    }

    pub(crate) fn request(&self, api: ApiKey) {
        let of_name = || self.requests.with_label_values(&[api.name()]);
        let place = usize::try_from(api.number());
        match place.ok().and_then(|place| self.requests_by_api.get(place)) {
            Some(counter) => counter.get_or_init(of_name).inc(),
            None => of_name().inc(),
        }
    }

    pub(crate) fn bad_request(&self) {
        self.bad_requests.inc();
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    pub(crate) fn produced(&self, bytes: usize, records: i64) {
        self.produce_bytes.inc_by(bytes as u64);
        self.produce_records
            .inc_by(u64::try_from(records).unwrap_or(0));
    }

    pub(crate) fn produce_refused(&self) {
        self.produce_refused.inc();
    }

    pub(crate) fn fetched(&self, bytes: usize) {
        self.fetch_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn committed(&self) {
        self.commit_rounds.inc();
    }

    pub(crate) fn set_partitions(&self, hosted: usize, offline: usize) {
        self.partitions
            .set(i64::try_from(hosted).unwrap_or(i64::MAX));
        self.partitions_offline
            .set(i64::try_from(offline).unwrap_or(i64::MAX));
    }

    pub(crate) fn directory_failed(&self) {
        self.directories_failed.inc();
    }

    pub(crate) fn set_relaxed(&self, relaxed: bool) {
        self.durability_relaxed.set(i64::from(relaxed));
    }

    pub(crate) fn unclean_election(&self) {
        self.unclean_elections.inc();
    }

    pub(crate) fn set_bucket(&self, unverified: bool, foreign: bool) {
        self.tier_bucket_unverified.set(i64::from(unverified));
        self.tier_bucket_foreign.set(i64::from(foreign));
    }

    pub(crate) fn uploaded(&self, bytes: u64) {
        self.tier_uploads.inc();
        self.tier_upload_bytes.inc_by(bytes);
    }

    pub(crate) fn upload_failed(&self) {
        self.tier_upload_failures.inc();
    }

    pub(crate) fn read_from_tier(&self, bytes: usize) {
        self.tier_read_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn deleted_objects(&self, count: usize) {
        self.tier_deleted_objects.inc_by(count as u64);
    }

    pub(crate) fn deleted_locally(&self, bytes: u64) {
        self.local_deleted_bytes.inc_by(bytes);
    }

    pub(crate) fn coordinator_loaded(&self, elapsed_ms: u64) {
        self.coordinator_loads.inc();
        self.coordinator_load_ms.inc_by(elapsed_ms);
    }

    pub(crate) fn compaction_began(&self, map_bytes: usize) {
        self.compaction_map_bytes
            .add(i64::try_from(map_bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn compaction_stepped(&self, read_bytes: u64, written_bytes: u64) {
        self.compaction_read_bytes.inc_by(read_bytes);
        self.compaction_written_bytes.inc_by(written_bytes);
    }

    pub(crate) fn compaction_ended(&self, map_bytes: usize, removed_records: u64, failed: bool) {
        self.compaction_map_bytes
            .sub(i64::try_from(map_bytes).unwrap_or(i64::MAX));
        self.compaction_removed_records.inc_by(removed_records);
        match failed {
            true => self.compaction_failures.inc(),
            false => self.compaction_passes.inc(),
        }
    }

    pub(crate) fn set_dirty_percent(&self, percent: i64) {
        self.compaction_dirty_percent.set(percent);
    }

    pub(crate) fn set_uncleanable(&self, partitions: usize) {
        self.compaction_uncleanable
            .set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }
}

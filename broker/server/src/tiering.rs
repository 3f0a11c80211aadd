//! The broker's side of the tier: its uploader and reader, and the loops that offload and collect.
//!
//! The store being away stops offloading and cold reads, and nothing else; work is tried again with
//! growing, jittered pauses for ever. A store that was away at start is not written to, and nothing
//! there is deleted, before its marker has been read and is this cluster's (P2).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_protocol::{Offset, Timestamp, TopicId};
use esker_tier::collect::{self, Collector};
use esker_tier::plan::OffloadConfig;
use esker_tier::pool::{CpuPool, Spawner as TierSpawner};
use esker_tier::read::{ReadConfig, Reader};
use esker_tier::retention::{LocalSegment, RetentionConfig};
use esker_tier::upload::{Progress, UploadConfig, Uploader};
use esker_tier::{Pointer, layout};
use futures::StreamExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::broker::Shared;
use crate::bucket;
use crate::config::Config;
use crate::config::topic::TopicConfig;
use crate::environment::{Environment, Spawner, Work};
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::partition::tiering::{self, TierError};
use crate::startup::Opened;

/// Partitions that are offloaded side by side.
const OFFLOADS_MAX: usize = 4;

/// How often partitions are looked at for segments whose waiting has ended.
const OFFLOAD_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// The first and the longest pause after a pass in which something failed.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often objects that nothing names are looked for.
const COLLECT_INTERVAL: Duration = Duration::from_secs(60);

/// What a broker needs to use its object store; empty where it has none.
pub struct Tiering {
    parts: Option<Parts>,
    offload: OffloadConfig,
    cluster_id: Arc<str>,
    incarnation: u32,
    bucket: Mutex<Marker>,
    wake: Notify,
}

/// What is known of the bucket's marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    /// The store has not answered yet.
    Unread,
    /// It is another cluster's, or has none.
    Foreign,
    /// It is this cluster's, and stays so while the process lives.
    Ours,
}

struct Parts {
    store: Arc<dyn ObjectStore>,
    uploader: Uploader,
    reader: Reader,
    collector: Collector,
}

/// The environment's threads, as the tier crate asks for them.
struct Threads(Arc<dyn Spawner>);

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Threads")
    }
}

impl CpuPool for Threads {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        self.0.execute(Work::Compute, job);
    }
}

impl TierSpawner for Threads {
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.0.spawn(future);
    }
}

impl Tiering {
    /// The tier of a broker that has opened what it was given.
    #[must_use]
    pub fn new(config: &Config, environment: &Environment, opened: &Opened) -> Tiering {
        let threads = Arc::new(Threads(Arc::clone(&environment.spawner)));
        let random: esker_tier::remote::Random = {
            let randomness = environment.randomness.clone();
            Arc::new(move || u128::from_be_bytes(randomness.bytes16()))
        };
        let parts = environment.object_store.as_ref().map(|store| {
            let read = ReadConfig {
                frame_bytes_max: config.remote_cache_bytes,
                ..ReadConfig::default()
            };
            let upload = UploadConfig {
                verification: opened.bucket.verification,
                ..UploadConfig::default()
            };
            let reader = Reader::new(
                Arc::clone(store),
                Arc::clone(&threads) as Arc<dyn CpuPool>,
                Arc::clone(&threads) as Arc<dyn TierSpawner>,
                Arc::clone(&random),
                &read,
            );
            Parts {
                store: Arc::clone(store),
                collector: Collector::new(Arc::clone(store), reader.clone()),
                reader,
                uploader: Uploader::new(
                    Arc::clone(store),
                    Arc::clone(&threads) as Arc<dyn CpuPool>,
                    threads as Arc<dyn TierSpawner>,
                    random,
                    upload,
                ),
            }
        });
        Tiering {
            parts,
            offload: OffloadConfig {
                offload_bytes_min: config.offload_bytes_min,
                age_max_ms: i64::try_from(config.offload_age_max.as_millis()).unwrap_or(i64::MAX),
                ..OffloadConfig::default()
            },
            cluster_id: opened.cluster_id.as_str().into(),
            incarnation: opened.cluster_incarnation,
            bucket: Mutex::new(if opened.bucket.is_ours {
                Marker::Ours
            } else {
                Marker::Unread
            }),
            wake: Notify::new(),
        }
    }

    /// Reads objects, where there is a store.
    #[must_use]
    pub fn reader(&self) -> Option<&Reader> {
        self.parts.as_ref().map(|parts| &parts.reader)
    }

    /// Writes objects, where there is a store that is known to be this cluster's.
    #[must_use]
    pub fn uploader(&self) -> Option<&Uploader> {
        let parts = self.parts.as_ref().filter(|_| self.is_ours());
        parts.map(|parts| &parts.uploader)
    }

    /// Whether the bucket's marker was read, and is this cluster's.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        *self.marker() == Marker::Ours
    }

    fn marker(&self) -> MutexGuard<'_, Marker> {
        // Each change is whole in itself.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the marker, unless that was done, and returns whether the bucket is this cluster's. One
    /// that is not is looked at again: what is mounted late shows itself late.
    async fn verify_bucket(&self, metrics: &Metrics) -> bool {
        let Some(parts) = self.parts.as_ref().filter(|_| !self.is_ours()) else {
            return self.is_ours();
        };
        let verified = bucket::verify(&parts.store, &self.cluster_id, self.incarnation).await;
        let before = *self.marker();
        let now = match &verified {
            Ok(()) => Marker::Ours,
            Err(error) if error.is_away() => before,
            Err(_) => Marker::Foreign,
        };
        *self.marker() = now;
        metrics.set_bucket(now != Marker::Ours, now == Marker::Foreign);
        match verified {
            Ok(()) => info!("the object store answers and belongs to this cluster"),
            Err(error) if now != before => {
                error!(%error, "nothing is written to the object store, nor deleted there");
            }
            Err(error) => warn!(%error, "offloading waits for the object store"),
        }
        now == Marker::Ours
    }

    /// When sealed segments are due.
    #[must_use]
    pub fn offload_config(&self) -> &OffloadConfig {
        &self.offload
    }

    /// The partition's place in the bucket.
    #[must_use]
    pub fn identity(&self, partition: &Partition) -> layout::Partition {
        layout::Partition {
            cluster_id: Arc::clone(&self.cluster_id),
            incarnation: u64::from(self.incarnation),
            topic_id: partition.topic_id,
            partition: partition.index,
        }
    }

    /// Whether the partition's sealed segments go to the store, or have gone there.
    #[must_use]
    pub fn covers(&self, partition: &Partition) -> bool {
        self.parts.is_some() && (partition.is_tiered() || partition.tier.pointer().is_some())
    }

    /// Something was sealed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Where log start goes by total retention, both tiers counted once.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub async fn log_start_after_retention(
        &self,
        shared: &Shared,
        partition: &Partition,
        pointer: &Pointer,
        config: &TopicConfig,
    ) -> Result<Offset, TierError> {
        // Before the first commit nothing of the log is in the bucket, whosever it is (P7).
        let needs_none = pointer.manifest.is_none();
        let Some(parts) = self.parts.as_ref().filter(|_| needs_none || self.is_ours()) else {
            return Ok(pointer.log_start);
        };
        let high_watermark = partition.high_watermark();
        let local: Vec<LocalSegment> = partition
            .log
            .segments()
            .iter()
            .filter(|segment| segment.end > pointer.tier_end)
            .map(|segment| LocalSegment {
                end: segment.end,
                bytes: segment.bytes,
                // Records without a timestamp are as old as their segment.
                timestamp: if segment.max_timestamp < Timestamp(0) {
                    segment.created
                } else {
                    segment.max_timestamp
                },
                deletable: segment.sealed && segment.end <= high_watermark,
            })
            .collect();
        let limits = RetentionConfig {
            ms: (config.retention_ms >= 0).then_some(config.retention_ms),
            bytes: u64::try_from(config.retention_bytes).ok(),
        };
        let identity = self.identity(partition);
        let now = shared.environment.now();
        Ok(parts
            .reader
            .retention_start(&identity, pointer, &local, &limits, now)
            .await?)
    }

    /// Deletes all objects of a deleted topic; returns how many there were.
    ///
    /// # Errors
    /// The store cannot be reached, or is not known to be this cluster's.
    pub async fn delete_topic(&self, id: TopicId) -> Result<usize, TierError> {
        let Some(parts) = &self.parts else {
            return Ok(0);
        };
        // Another bucket has none of its objects, which would stay in the right one for ever.
        if !self.is_ours() {
            return Err(TierError::UnverifiedBucket);
        }
        Ok(parts.collector.delete_topic(&self.cluster_id, id).await?)
    }
}

/// Offloads and collects until `stop`.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    if shared.tiering.parts.is_none() {
        return;
    }
    let interval =
        (shared.config.offload_age_max / 4).clamp(Duration::from_millis(50), OFFLOAD_INTERVAL_MAX);
    let mut pause = PAUSE_MIN;
    let mut collect_at = tokio::time::Instant::now() + COLLECT_INTERVAL;
    loop {
        let pass = async {
            if !shared.tiering.verify_bucket(&shared.metrics).await {
                return true;
            }
            let failed = offload_all(&shared).await;
            if tokio::time::Instant::now() >= collect_at {
                collect_all(&shared).await;
                collect_at = tokio::time::Instant::now() + COLLECT_INTERVAL;
            }
            failed
        };
        let failed = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            failed = pass => failed,
        };
        let rest = if failed {
            // Jitter keeps many brokers from coming back to a store at the same moment.
            let jitter = shared.environment.randomness.next_u64() % 1000;
            let rest = pause.mul_f64(0.5 + jitter as f64 / 1000.0);
            pause = (pause * 2).min(PAUSE_MAX);
            rest
        } else {
            pause = PAUSE_MIN;
            interval
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = shared.tiering.wake.notified(), if !failed => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// How long an upload may stand still before it is given up; the next pass tries again. A store that
/// is away must not keep other partitions waiting for ever, and one that is slow must not have
/// everything put anew for ever.
const UPLOAD_STALL_MAX: Duration = Duration::from_secs(300);

/// Drops local copies that the tier has where a directory nears its reserve, until `stop`. It needs
/// the pointer only, and so goes on while the store is away (P7).
pub async fn guard_reserve(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RESERVE_INTERVAL) => {}
        }
        for partition in shared.partitions.all() {
            if partition.tier.pointer().is_some() && is_near_reserve(&shared, &partition) {
                tiering::apply_local_retention(&shared, &partition, true).await;
            }
        }
    }
}

/// How often the free space is looked at.
const RESERVE_INTERVAL: Duration = Duration::from_secs(1);

/// Offloads whatever is due in every partition led here. Returns whether anything failed.
async fn offload_all(shared: &Arc<Shared>) -> bool {
    let partitions = shared.partitions.all();
    futures::stream::iter(partitions)
        .map(|partition| offload_one(shared, partition))
        .buffer_unordered(OFFLOADS_MAX)
        .fold(false, |any, failed| async move { any || failed })
        .await
}

async fn offload_one(shared: &Arc<Shared>, partition: Arc<Partition>) -> bool {
    let is_due = partition.leading().is_some()
        && !partition.is_offline()
        && shared.tiering.covers(&partition)
        && partition.is_tiered();
    if !is_due {
        return false;
    }
    let near_reserve = is_near_reserve(shared, &partition);
    loop {
        let progress = Progress::default();
        let done = tokio::select! {
            biased;
            done = tiering::offload(shared, &partition, near_reserve, &progress) => Some(done),
            () = progress.stalled(UPLOAD_STALL_MAX) => None,
        };
        match done {
            Some(Ok(true)) => {}
            Some(Ok(false)) => break,
            None => {
                shared.metrics.upload_failed();
                warn!(topic = %partition.topic, partition = partition.index, "upload given up for now: the store does not answer");
                return true;
            }
            Some(Err(error)) => {
                shared.metrics.upload_failed();
                warn!(topic = %partition.topic, partition = partition.index, %error, "upload failed");
                return true;
            }
        }
    }
    false
}

fn is_near_reserve(shared: &Shared, partition: &Partition) -> bool {
    let id = partition.directory.id();
    shared
        .directories
        .iter()
        .find(|(directory, _)| directory.id() == id)
        .is_some_and(|(directory, _)| directory.near_reserve().unwrap_or(false))
}

/// Deletes what nothing names any more (P7, collection).
async fn collect_all(shared: &Arc<Shared>) {
    for partition in shared.partitions.all() {
        if partition.leading().is_none() || !shared.tiering.covers(&partition) {
            continue;
        }
        match collect_one(shared, &partition).await {
            Ok(0) => {}
            Ok(count) => {
                shared.metrics.deleted_objects(count);
                info!(topic = %partition.topic, partition = partition.index, objects = count, "objects collected");
            }
            Err(error @ TierError::RewoundStore(_)) => {
                error!(topic = %partition.topic, partition = partition.index, %error, "the partition stops");
                partition.take_offline();
            }
            Err(error) => {
                warn!(topic = %partition.topic, partition = partition.index, %error, "collection failed");
            }
        }
    }
}

async fn collect_one(shared: &Arc<Shared>, partition: &Arc<Partition>) -> Result<usize, TierError> {
    let (Some(parts), Some(epoch)) = (&shared.tiering.parts, partition.leading()) else {
        return Ok(0);
    };
    // Listed first, read second: what the key names is then at least as new as the listing (P2).
    let identity = shared.tiering.identity(partition);
    let listing = parts.collector.list(&identity).await?;
    tiering::refresh(shared, partition).await?;
    let pointer = partition.tier.pointer();
    collect::check_not_rewound(&listing, identity.incarnation, epoch, pointer.as_ref())?;
    let Some(pointer) = pointer.filter(|pointer| pointer.claimed_epoch == epoch) else {
        return Ok(0);
    };
    let limits = collect::Limits {
        manifest_retention_ms: i64::try_from(shared.config.manifest_retention.as_millis())
            .unwrap_or(i64::MAX),
        file_delete_delay_ms: partition.config().file_delete_delay_ms,
        ..collect::Limits::default()
    };
    let now = shared.environment.now();
    let collected = parts
        .collector
        .collect(&identity, &listing, &pointer, &parts.uploader, &limits, now)
        .await?;
    Ok(collected.len())
}

//! Brings what this broker hosts and leads in line with the image.
//!
//! Invariants
//! - A process that starts leads nothing: before it leads a partition, a transaction of this
//!   process has raised the partition's leader epoch (P4), unless the partition was made after this
//!   process registered.
//! - A replica without proof (P6) is not led; it says why, once, and is offline.
//! - The directory of a deleted partition is renamed away durably before anything else (P3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_metadata::image::Versioned;
use esker_metadata::values::{DirectoryId, PartitionValue, ProcessId, Value};
use esker_metadata::{Image, Revision, Transaction};
use esker_protocol::{FixedHashMap, LeaderEpoch, TopicId};
use esker_storage::{LogDirectory, OpenLogError, RecoveryReport};
use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::authority::{Commit, commit};
use crate::broker::Shared;
use crate::commit::Dirty;
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::config::topic::TopicConfig;
use crate::environment::Work;
use crate::partition::Partition;
use crate::partition::tiering::{self, TierError};

/// Logs that are recovered side by side at start.
const RECOVERIES_MAX: usize = 8;

/// Partitions whose epochs one transaction raises: each is a compare and a put of P1's 100.
const EPOCHS_PER_TRANSACTION_MAX: usize = 100;

/// How long a pass that failed waits before the next.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What the proof of P6 rests on: facts read before this process registered.
#[derive(Debug, Default)]
pub struct Proof {
    /// The incarnation that registered last, if any ever did.
    pub last_incarnation: Option<ProcessId>,
    /// The directories that list it.
    pub directories: Vec<DirectoryId>,
    /// The directories that may lack what it acknowledged: it was relaxed, and they have no
    /// clean-shutdown file of it.
    pub unclean: Vec<DirectoryId>,
}

impl Proof {
    /// Whether leading from this directory is an unclean election: as the sole replica it is elected
    /// all the same, but visibly.
    fn is_unclean(&self, directory: DirectoryId) -> bool {
        self.unclean.contains(&directory)
    }

    fn covers(&self, directory: DirectoryId) -> bool {
        self.last_incarnation.is_none() || self.directories.contains(&directory)
    }
}

/// Tells those who wait for a partition to be led that something has changed.
#[derive(Debug)]
pub struct Replicas {
    passes: watch::Sender<u64>,
    /// Partitions whose logs are damaged; they stay offline until they are repaired and the process
    /// is started again.
    damaged: Mutex<BTreeSet<(TopicId, i32)>>,
    /// Epochs that this process has raised: where leading fails after that, it is tried again under
    /// the same epoch.
    raised: Mutex<BTreeMap<(TopicId, i32), LeaderEpoch>>,
}

impl Default for Replicas {
    fn default() -> Replicas {
        Replicas {
            passes: watch::channel(0).0,
            damaged: Mutex::default(),
            raised: Mutex::default(),
        }
    }
}

impl Replicas {
    /// Waits until this broker leads the partition, or has found that it cannot, or does not have
    /// to any more.
    pub async fn wait_until_led(&self, shared: &Shared, topic: TopicId, index: i32) {
        let mut passes = self.passes.subscribe();
        loop {
            let is_settled = match shared.partitions.get(topic, index) {
                Some(partition) => partition.leading().is_some() || partition.is_offline(),
                None => {
                    self.is_damaged(topic, index)
                        || shared.image().partition(topic, index).is_none()
                }
            };
            if is_settled || passes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether the partition's log was found damaged.
    #[must_use]
    pub fn is_damaged(&self, topic: TopicId, index: i32) -> bool {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.contains(&(topic, index))
    }

    fn raised(&self, topic: TopicId, index: i32) -> Option<LeaderEpoch> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get(&(topic, index)).copied()
    }

    fn note_raised(&self, topic: TopicId, index: i32, epoch: LeaderEpoch) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.insert((topic, index), epoch);
    }

    fn note_damaged(&self, topic: TopicId, index: i32) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.insert((topic, index));
    }

    fn passed(&self) {
        self.passes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Follows the image until `stop`.
pub async fn run(
    shared: Arc<Shared>,
    proof: Arc<Proof>,
    mut is_settled: bool,
    stop: CancellationToken,
) {
    let mut images = shared.images();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_PAUSE), if !is_settled => {}
        }
        images.mark_unchanged();
        is_settled = reconcile(&shared, &proof).await;
    }
}

/// One pass. Returns whether all is as it should be; if not, another pass helps.
pub async fn reconcile(shared: &Arc<Shared>, proof: &Proof) -> bool {
    let image = shared.image();
    drop_unassigned(shared, &image).await;
    update_configs(shared, &image);
    let hosted = host_assigned(shared, &image, proof).await;
    let led = lead_assigned(shared, &image, proof).await;
    shared.replicas.passed();
    hosted && led
}

/// Stops hosting what the image no longer assigns to this broker.
async fn drop_unassigned(shared: &Arc<Shared>, image: &Image) {
    for partition in shared.partitions.all() {
        let stays = image
            .partition(partition.topic_id, partition.index)
            .is_some_and(|value| value.value.brokers().any(|id| id == shared.config.node_id))
            && image.topic_by_id(partition.topic_id).is_some();
        if stays {
            continue;
        }
        partition.let_go();
        let (log, directory) = (Arc::clone(&partition.log), Arc::clone(&partition.directory));
        // Only what is known to be deleted, or to be somebody else's now, is marked for deletion (P3).
        let is_known = image.deleted_topic(partition.topic_id).is_some()
            || image.topic_by_id(partition.topic_id).is_some();
        let deleted = shared
            .environment
            .run(Work::Blocking, move || {
                if is_known {
                    directory.delete_log(&log)
                } else {
                    directory.make_stray(&log)
                }
            })
            .await;
        match deleted {
            Ok(()) => {
                info!(topic = %partition.topic, partition = partition.index, is_known, "local log put aside");
            }
            Err(error) => {
                warn!(topic = %partition.topic, partition = partition.index, %error, "the local log stays until the next start");
            }
        }
        shared
            .partitions
            .remove(partition.topic_id, partition.index);
    }
}

fn update_configs(shared: &Shared, image: &Image) {
    for partition in shared.partitions.all() {
        let Some((_, topic)) = image.topic_by_id(partition.topic_id) else {
            continue;
        };
        let next = TopicConfig::new(&topic.value.configs, &shared.config.properties);
        if *partition.config() != next {
            partition.log.update_config(log_config(shared, &next));
            partition.set_config(Arc::new(next));
        }
    }
}

/// The part of a topic's settings that its logs act on.
#[must_use]
pub fn log_config(shared: &Shared, config: &TopicConfig) -> esker_storage::LogConfig {
    esker_storage::LogConfig {
        segment_bytes: u64::from(config.segment_bytes),
        segment_ms: config.segment_ms,
        segment_jitter_ms: config.segment_jitter_ms,
        index_interval_bytes: u64::from(config.index_interval_bytes),
        index_bytes_max: u64::from(config.segment_index_bytes),
        producer_expiration_ms: i64::try_from(shared.config.producer_id_expiration.as_millis())
            .unwrap_or(i64::MAX),
        ..esker_storage::LogConfig::default()
    }
}

/// Opens the logs of partitions that are assigned to this broker and not hosted yet.
async fn host_assigned(shared: &Arc<Shared>, image: &Image, proof: &Proof) -> bool {
    let mut missing = Vec::new();
    for (topic_id, index, value) in image.all_partitions() {
        let is_own = value.value.brokers().any(|id| id == shared.config.node_id);
        if is_own
            && shared.partitions.get(topic_id, index).is_none()
            && !shared.replicas.is_damaged(topic_id, index)
            && let Some((name, topic)) = image.topic_by_id(topic_id)
        {
            let settings = TopicConfig::new(&topic.value.configs, &shared.config.properties);
            missing.push((
                name.to_owned(),
                topic_id,
                index,
                Arc::new(settings),
                Arc::clone(value),
            ));
        }
    }
    if missing.is_empty() {
        return true;
    }
    let (found, counts) = list_directories(shared, image).await;
    let wanted: Vec<_> = missing
        .into_iter()
        .map(|(name, topic_id, index, config, value)| {
            let found = found.get(&(topic_id, index)).copied();
            let place = place(shared, found, &counts, &value.value);
            (name, topic_id, index, config, value, place)
        })
        .collect();
    let opened = futures::stream::iter(wanted)
        .map(|(name, topic_id, index, config, value, place)| async move {
            let Some((directory, dirty)) = place else {
                error!(
                    topic = name,
                    partition = index,
                    "no healthy log directory for the partition"
                );
                return false;
            };
            let opening = Arc::clone(&directory);
            let (topic, now) = (name.clone(), shared.environment.now());
            let settings = log_config(shared, &config);
            let opened = shared
                .environment
                .run(Work::Blocking, move || {
                    opening.open_log(&topic, index, topic_id, settings, now)
                })
                .await;
            match opened {
                Ok((log, report)) => {
                    log_report(&name, index, &report);
                    let place = (directory, dirty);
                    let partition =
                        Partition::new(name.into(), topic_id, index, log, config, place);
                    if let Err(doubt) = check_proof(shared, proof, &partition, &value) {
                        error!(topic = %partition.topic, partition = index, "{doubt}");
                        partition.take_offline();
                    }
                    #[cfg(feature = "planted-bugs")]
                    match shared.config.planted_bug {
                        Some(PlantedBug::CutBatch) => crate::planted::cut_batch(&partition),
                        Some(PlantedBug::KeepTruncatedTail) => {
                            crate::planted::keep_truncated_tail(shared, &partition);
                        }
                        _ => {}
                    }
                    shared.partitions.insert(Arc::new(partition));
                    true
                }
                Err(error @ OpenLogError::Damaged { .. }) => {
                    error!(topic = name, partition = index, %error, "the partition stays offline");
                    shared.replicas.note_damaged(topic_id, index);
                    true
                }
                Err(error) => {
                    error!(topic = name, partition = index, %error, "the log cannot be opened");
                    false
                }
            }
        })
        .buffered(RECOVERIES_MAX);
    let all_open = opened
        .fold(true, |all, is_open| async move { all && is_open })
        .await;
    make_durable(shared).await;
    all_open
}

/// Syncs what recovery kept, one round for all logs: only then may they be led ([`lead`]).
async fn make_durable(shared: &Arc<Shared>) {
    for (directory, _) in &shared.directories {
        let all = shared.partitions.all();
        let mut of_directory = all
            .iter()
            .filter(|one| Arc::ptr_eq(&one.directory, directory));
        if of_directory.any(|one| !is_durable(one)) {
            let directory = Arc::clone(directory);
            let round = move || directory.commit_round();
            // A directory that fails here is the commit loop's to report.
            let _ = shared.environment.run(Work::Blocking, round).await;
        }
    }
}

fn is_durable(partition: &Partition) -> bool {
    partition.log.durable_end() >= partition.log.written_end()
}

/// Which directory holds which partition, and how many each holds. What belongs to no topic is put
/// aside first (P3): a deleted topic's goes, one that nobody knows is kept as a stray.
async fn list_directories(
    shared: &Arc<Shared>,
    image: &Image,
) -> (
    FixedHashMap<(TopicId, i32), TopicId>,
    BTreeMap<TopicId, usize>,
) {
    let mut found = FixedHashMap::default();
    let mut counts = BTreeMap::new();
    for (directory, _) in &shared.directories {
        let listing = Arc::clone(directory);
        let list = move || Ok((listing.partitions()?, listing.strays()?));
        let listed: Result<_, esker_storage::DirectoryError> =
            shared.environment.run(Work::Blocking, list).await;
        let (partitions, strays) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                warn!(directory = %directory.path().display(), %error, "cannot be listed");
                continue;
            }
        };
        counts.insert(directory.id(), partitions.len());
        // Where a log was set aside its directory refuses an empty one; another would make one.
        for key in strays {
            found.entry(key).or_insert(directory.id());
        }
        for partition in partitions {
            let Some(id) = partition.topic_id else {
                continue;
            };
            if shared.partitions.get(id, partition.partition).is_some() {
                continue;
            }
            let is_deleted = image.deleted_topic(id).is_some();
            if !is_deleted && image.topic_by_id(id).is_some() {
                found.insert((id, partition.partition), directory.id());
                continue;
            }
            info!(topic = partition.topic, partition = partition.partition, %id, is_deleted, "a log of no topic is put aside");
            let setting = Arc::clone(directory);
            let put_aside = shared.environment.run(Work::Blocking, move || {
                if is_deleted {
                    setting.delete_found(&partition)
                } else {
                    setting.make_found_stray(&partition)
                }
            });
            if let Err(error) = put_aside.await {
                warn!(directory = %directory.path().display(), %error, "a log of no topic stays");
            }
        }
    }
    (found, counts)
}

fn log_report(topic: &str, partition: i32, report: &RecoveryReport) {
    if report.created {
        info!(topic, partition, "log made");
        return;
    }
    if let Some(damage) = &report.damage {
        info!(topic, partition, %damage, "the log ends at what a crash left");
    }
    info!(
        topic,
        partition,
        end = %report.end,
        scanned_bytes = report.scanned_bytes,
        truncated_bytes = report.truncated_bytes,
        "log recovered"
    );
}

/// Where a partition's log is or goes: where it was found, where it was assigned, or where there
/// are the fewest.
fn place(
    shared: &Shared,
    found: Option<TopicId>,
    counts: &BTreeMap<TopicId, usize>,
    value: &PartitionValue,
) -> Option<(Arc<LogDirectory>, Dirty)> {
    let healthy = || {
        shared
            .directories
            .iter()
            .filter(|(directory, _)| !directory.is_failed())
    };
    let of = |id: TopicId| {
        healthy()
            .find(|(directory, _)| directory.id() == id)
            .cloned()
    };
    let assigned = value
        .directory(shared.config.node_id)
        .map(|id| TopicId(id.0));
    found
        .and_then(of)
        .or_else(|| assigned.and_then(of))
        .or_else(|| {
            healthy()
                .min_by_key(|(directory, _)| counts.get(&directory.id()))
                .cloned()
        })
}

/// Whether a replica can prove that it has what it acknowledged (P6); if not, why.
fn check_proof(
    shared: &Shared,
    proof: &Proof,
    partition: &Partition,
    value: &Versioned<PartitionValue>,
) -> Result<(), String> {
    // Made after this process registered: there is no earlier process to prove anything of.
    if value.create_revision > shared.registration.revision {
        return Ok(());
    }
    let value = &value.value;
    let own = DirectoryId(partition.directory.id().0);
    // Never assigned to a directory: nothing was ever acknowledged.
    let Some(assigned) = value.directory(shared.config.node_id) else {
        return Ok(());
    };
    if assigned != own {
        return Err(format!(
            "the log directory {} that held the partition is gone; the partition stays offline",
            TopicId(assigned.0)
        ));
    }
    if !proof.covers(own) {
        return Err(format!(
            "the log directory {} does not list the process that registered last: it was rolled back or replaced; the partition stays offline",
            TopicId(own.0)
        ));
    }
    Ok(())
}

/// A partition that this broker should lead and does not.
struct Candidate {
    partition: Arc<Partition>,
    key: String,
    revision: Revision,
    next: PartitionValue,
    is_unclean: bool,
}

/// Leads what the image says this broker leads, after raising epochs where P4 asks for it.
async fn lead_assigned(shared: &Arc<Shared>, image: &Image, proof: &Proof) -> bool {
    let own = shared.config.node_id;
    let mut candidates = Vec::new();
    let mut is_settled = true;
    for (topic_id, index, value) in image.all_partitions() {
        if value.value.leader.is_some_and(|leader| leader != own)
            || !value.value.brokers().any(|id| id == own)
        {
            continue;
        }
        let Some(partition) = shared.partitions.get(topic_id, index) else {
            continue;
        };
        if partition.leading().is_some() || partition.is_offline() {
            continue;
        }
        let own_epoch = shared.replicas.raised(topic_id, index);
        if is_fresh(shared, value, &partition) || own_epoch == Some(value.value.leader_epoch) {
            let claims_first =
                own_epoch.is_some() && proof.is_unclean(DirectoryId(partition.directory.id().0));
            let epoch = value.value.leader_epoch;
            is_settled &= lead(shared, partition, epoch, claims_first).await;
        } else {
            candidates.push(candidate(shared, proof, value, partition));
        }
    }
    for batch in candidates.chunks(EPOCHS_PER_TRANSACTION_MAX) {
        is_settled &= raise_and_lead(shared, batch).await;
    }
    is_settled
}

/// Whether the partition was made after this process registered, in the directory it is in: then
/// no earlier process can have led it under this epoch.
fn is_fresh(shared: &Shared, value: &Versioned<PartitionValue>, partition: &Partition) -> bool {
    let own = shared.config.node_id;
    let directory = DirectoryId(partition.directory.id().0);
    value.create_revision > shared.registration.revision
        && value.value.leader == Some(own)
        && value.value.directory(own) == Some(directory)
        && value.revision == value.create_revision
}

fn candidate(
    shared: &Shared,
    proof: &Proof,
    value: &Versioned<PartitionValue>,
    partition: Arc<Partition>,
) -> Candidate {
    let own = shared.config.node_id;
    let directory = DirectoryId(partition.directory.id().0);
    let mut next = value.value.clone();
    next.leader = Some(own);
    next.last_known_leader = Some(own);
    next.leader_epoch = next.leader_epoch.next();
    let is_unclean = value.value.directory(own) == Some(directory) && proof.is_unclean(directory);
    if is_unclean {
        warn!(topic = %partition.topic, partition = partition.index, epoch = %next.leader_epoch, "unclean election: the last process was relaxed and did not stop cleanly");
        shared.metrics.unclean_election();
        next.last_unclean_epoch = Some(next.leader_epoch);
    }
    if !next.isr.contains(&own) {
        next.isr.push(own);
    }
    for replica in next
        .replicas
        .iter_mut()
        .filter(|replica| replica.broker == own)
    {
        replica.directory = Some(directory);
    }
    Candidate {
        key: shared.keys.partition(partition.topic_id, partition.index),
        partition,
        revision: value.revision,
        next,
        is_unclean,
    }
}

/// Raises the epochs of a batch in one transaction; where a compare fails, each by itself (P1).
async fn raise_and_lead(shared: &Arc<Shared>, batch: &[Candidate]) -> bool {
    match raise(shared, batch).await {
        Ok(Commit::Done(_)) => {
            let mut all_led = true;
            for candidate in batch {
                let partition = Arc::clone(&candidate.partition);
                let epoch = candidate.next.leader_epoch;
                shared
                    .replicas
                    .note_raised(partition.topic_id, partition.index, epoch);
                all_led &= lead(shared, partition, epoch, candidate.is_unclean).await;
            }
            all_led
        }
        Ok(Commit::Refused | Commit::Moved) if batch.len() > 1 => {
            let mut all_led = true;
            for candidate in batch {
                all_led &= Box::pin(raise_and_lead(shared, std::slice::from_ref(candidate))).await;
            }
            all_led
        }
        // The image will show what the key is now, and the next pass acts on that.
        Ok(Commit::Refused | Commit::Moved) => false,
        Err(error) => {
            warn!(%error, "leader epochs cannot be raised");
            false
        }
    }
}

async fn raise(shared: &Shared, batch: &[Candidate]) -> Result<Commit, esker_metadata::StoreError> {
    let mut transaction = Transaction::new();
    for candidate in batch {
        transaction = transaction
            .expect_revision(&candidate.key, candidate.revision)
            .put(&candidate.key, candidate.next.encode());
    }
    commit(shared.environment.metadata.as_ref(), transaction).await
}

/// Leads a partition under an epoch that is committed: what the tier holds is checked first (P8).
async fn lead(
    shared: &Arc<Shared>,
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    claims_first: bool,
) -> bool {
    if let Err(error) = tiering::prepare(shared, &partition, epoch, claims_first).await {
        if matches!(error, TierError::Rewound { .. }) {
            error!(topic = %partition.topic, partition = partition.index, %error, "the partition stays offline");
            partition.take_offline();
            return true;
        }
        warn!(topic = %partition.topic, partition = partition.index, %epoch, %error, "cannot lead yet");
        return false;
    }
    if !is_durable(&partition) {
        // Consumers have seen all of it: they must not meet an end below what they have read.
        debug!(topic = %partition.topic, partition = partition.index, "not led yet: what was recovered is not durable yet");
        return false;
    }
    let led = {
        let partition = Arc::clone(&partition);
        shared
            .environment
            .run(Work::Blocking, move || partition.lead(epoch))
            .await
    };
    match led {
        Ok(()) => {
            info!(topic = %partition.topic, partition = partition.index, %epoch, end = %partition.log.written_end(), "leading");
            true
        }
        Err(error) => {
            error!(topic = %partition.topic, partition = partition.index, %epoch, %error, "cannot lead");
            false
        }
    }
}

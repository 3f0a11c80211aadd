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

use esker_metadata::Image;
use esker_metadata::controller as decide;
use esker_metadata::image::Versioned;
use esker_metadata::values::{DirectoryId, PartitionValue, ProcessId, TopicValue};
use esker_protocol::{FixedHashMap, LeaderEpoch, TopicId};
use esker_storage::{LogDirectory, OpenLogError, RecoveryReport};
use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::authority::commit_batch;
use crate::broker::Shared;
use crate::commit::Dirty;
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::config::topic::TopicConfig;
use crate::environment::Work;
use crate::membership::{self, MembershipError};
use crate::partition::tiering::{self, TierError};
use crate::partition::{Partition, Settings};

/// Logs that are recovered side by side at start.
const RECOVERIES_MAX: usize = 8;

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

/// Follows the image until `stop`. `settled` is the image that everything is in line with, if there
/// is one.
///
/// Ends with the reason when another process has become this broker: this one must end.
pub async fn run(
    shared: Arc<Shared>,
    proof: Proof,
    mut settled: Option<Arc<Image>>,
    stop: CancellationToken,
) -> Option<MembershipError> {
    let mut images = shared.images();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            changed = images.changed() => if changed.is_err() { return None },
            () = tokio::time::sleep(RETRY_PAUSE), if settled.is_none() => {}
        }
        images.mark_unchanged();
        settled = match reconcile(&shared, &proof, settled.as_deref()).await {
            Ok(settled) => settled,
            Err(replaced) => return Some(replaced),
        };
    }
}

/// One pass: over what has changed since the image that everything was in line with, or over
/// everything where there is no such image. Returns the image that everything is in line with now,
/// or `None` where something is left that another pass helps.
///
/// # Errors
/// Another process has become this broker; nothing else.
pub async fn reconcile(
    shared: &Arc<Shared>,
    proof: &Proof,
    settled: Option<&Image>,
) -> Result<Option<Arc<Image>>, MembershipError> {
    let image = shared.image();
    let own = shared.config.node_id;
    // What the image gives to the broker is the other process's then.
    if decide::is_replaced(&image, own, shared.registration.incarnation) {
        return Err(MembershipError::Replaced(own));
    }
    let touched = settled
        .and_then(|settled| image.partitions_changed_since(settled))
        .unwrap_or_else(|| everything(shared, &image));
    let mut settings = TopicSettings::default();
    drop_unassigned(shared, &image, &touched).await;
    update_settings(shared, &image, &touched, &mut settings);
    let hosted = host_assigned(shared, &image, &touched, proof, settings).await;
    let led = lead_assigned(shared, &image, &touched, proof).await?;
    shared.replicas.passed();
    Ok((hosted && led).then_some(image))
}

/// The partitions that a pass looks at, sorted.
type Touched = BTreeSet<(TopicId, i32)>;

/// What the image knows, and what is hosted and no longer in it.
fn everything(shared: &Shared, image: &Image) -> Touched {
    let hosted = shared.partitions.all();
    let hosted = hosted
        .iter()
        .map(|partition| (partition.topic_id, partition.index));
    let known = image
        .all_partitions()
        .map(|(topic, index, _)| (topic, index));
    known.chain(hosted).collect()
}

/// The hosted ones of these partitions.
fn hosted<'a>(
    shared: &'a Shared,
    touched: &'a Touched,
) -> impl Iterator<Item = Arc<Partition>> + 'a {
    touched
        .iter()
        .filter_map(|(topic, index)| shared.partitions.get(*topic, *index))
}

/// The settings of topics, computed once in a pass.
#[derive(Default)]
struct TopicSettings(BTreeMap<TopicId, Settings>);

impl TopicSettings {
    fn of(&mut self, shared: &Shared, topic: &Versioned<TopicValue>) -> Settings {
        let compute = || Settings {
            config: Arc::new(TopicConfig::new(
                &topic.value.configs,
                &shared.config.properties,
            )),
            revision: topic.revision,
        };
        let settings = self.0.entry(topic.value.topic_id).or_insert_with(compute);
        settings.clone()
    }
}

/// Stops hosting what the image no longer assigns to this broker.
async fn drop_unassigned(shared: &Arc<Shared>, image: &Image, touched: &Touched) {
    for partition in hosted(shared, touched) {
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

/// Puts changed settings of hosted partitions in force.
fn update_settings(
    shared: &Shared,
    image: &Image,
    touched: &Touched,
    settings: &mut TopicSettings,
) {
    for partition in hosted(shared, touched) {
        let Some((_, topic)) = image.topic_by_id(partition.topic_id) else {
            continue;
        };
        if partition.configured_at() == topic.revision {
            continue;
        }
        let next = settings.of(shared, topic);
        if partition.config() != next.config {
            partition
                .log
                .update_config(log_config(shared, &next.config));
        }
        partition.configure(next);
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
async fn host_assigned(
    shared: &Arc<Shared>,
    image: &Image,
    touched: &Touched,
    proof: &Proof,
    mut settings: TopicSettings,
) -> bool {
    let mut missing = Vec::new();
    for &(topic_id, index) in touched {
        let Some(value) = image.partition(topic_id, index) else {
            continue;
        };
        let is_own = value.value.brokers().any(|id| id == shared.config.node_id);
        if is_own
            && shared.partitions.get(topic_id, index).is_none()
            && !shared.replicas.is_damaged(topic_id, index)
            && let Some((name, topic)) = image.topic_by_id(topic_id)
        {
            missing.push((
                name.to_owned(),
                topic_id,
                index,
                settings.of(shared, topic),
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
        .map(|(name, topic_id, index, settings, value)| {
            let found = found.get(&(topic_id, index)).copied();
            let place = place(shared, found, &counts, &value.value);
            (name, topic_id, index, settings, value, place)
        })
        .collect();
    let opened = futures::stream::iter(wanted)
        .map(|(name, topic_id, index, settings, value, place)| async move {
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
            let log_settings = log_config(shared, &settings.config);
            let opened = shared
                .environment
                .run(Work::Blocking, move || {
                    opening.open_log(&topic, index, topic_id, log_settings, now)
                })
                .await;
            match opened {
                Ok((log, report)) => {
                    log_report(&name, index, &report);
                    let place = (directory, dirty);
                    let partition =
                        Partition::new(name.into(), topic_id, index, log, settings, place);
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
    opened
        .fold(true, |all, is_open| async move { all && is_open })
        .await
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
        let partitions = match shared
            .environment
            .run(Work::Blocking, move || listing.partitions())
            .await
        {
            Ok(partitions) => partitions,
            Err(error) => {
                warn!(directory = %directory.path().display(), %error, "cannot be listed");
                continue;
            }
        };
        counts.insert(directory.id(), partitions.len());
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

/// A partition that this broker leads once its epoch is raised.
struct Candidate {
    partition: Arc<Partition>,
    next: PartitionValue,
    is_unclean: bool,
}

/// Leads what the image says this broker leads, after raising epochs where P4 asks for it.
async fn lead_assigned(
    shared: &Arc<Shared>,
    image: &Image,
    touched: &Touched,
    proof: &Proof,
) -> Result<bool, MembershipError> {
    let own = shared.config.node_id;
    let mut candidates = Vec::new();
    let mut is_settled = true;
    for &(topic_id, index) in touched {
        let Some(value) = image.partition(topic_id, index) else {
            continue;
        };
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
        let directory = DirectoryId(partition.directory.id().0);
        let epoch = value.value.leader_epoch;
        let is_raised = shared.replicas.raised(topic_id, index) == Some(epoch);
        if is_raised || decide::is_fresh(value, own, directory, shared.registration.revision) {
            let claims_first = is_raised && proof.is_unclean(directory);
            is_settled &= lead(shared, partition, epoch, claims_first).await;
        } else {
            let is_unclean =
                value.value.directory(own) == Some(directory) && proof.is_unclean(directory);
            candidates.push(Candidate {
                partition,
                next: decide::led_anew(&value.value, own, directory, is_unclean),
                is_unclean,
            });
        }
    }
    Ok(is_settled & raise_and_lead(shared, image, candidates).await?)
}

/// Raises epochs, and leads where that was committed. Returns whether all are led.
async fn raise_and_lead(
    shared: &Arc<Shared>,
    image: &Image,
    candidates: Vec<Candidate>,
) -> Result<bool, MembershipError> {
    if candidates.is_empty() {
        return Ok(true);
    }
    let (own, incarnation) = (shared.config.node_id, shared.registration.incarnation);
    let values = candidates.iter().map(|candidate| {
        let partition = &candidate.partition;
        (partition.topic_id, partition.index, candidate.next.clone())
    });
    let batches = match decide::raise_epochs(image, own, incarnation, values) {
        Ok(batches) => batches,
        // The lease has ended, and the broker registers again (`membership::keep`).
        Err(error) => {
            warn!(%error, "leader epochs cannot be raised");
            return Ok(false);
        }
    };
    let mut by_key: BTreeMap<String, Candidate> = candidates
        .into_iter()
        .map(|candidate| {
            let partition = &candidate.partition;
            let key = shared.keys.partition(partition.topic_id, partition.index);
            (key, candidate)
        })
        .collect();
    let store = shared.environment.metadata.as_ref();
    let mut are_led = true;
    for batch in batches {
        match commit_batch(store, batch).await {
            Ok(Some(committed)) => {
                let raised = committed.keys().filter_map(|key| by_key.remove(key));
                for candidate in raised.collect::<Vec<_>>() {
                    are_led &= lead_raised(shared, candidate).await;
                }
            }
            // The registration has changed, or all these partitions have: the image will show how.
            // An image that lags must not keep a process leading that was replaced.
            Ok(None) => {
                let checked =
                    membership::check_replaced(store, &shared.keys, own, incarnation).await;
                if let Err(error @ MembershipError::Replaced(_)) = checked {
                    return Err(error);
                }
            }
            Err(error) => warn!(%error, "leader epochs cannot be raised"),
        }
    }
    // What was not committed is left, and the next pass plans it anew.
    Ok(are_led && by_key.is_empty())
}

/// Leads a partition whose epoch this process has raised.
async fn lead_raised(shared: &Arc<Shared>, candidate: Candidate) -> bool {
    let Candidate {
        partition,
        next,
        is_unclean,
    } = candidate;
    let epoch = next.leader_epoch;
    if is_unclean {
        warn!(topic = %partition.topic, partition = partition.index, %epoch, "unclean election: the last process was relaxed and did not stop cleanly");
        shared.metrics.unclean_election();
    }
    shared
        .replicas
        .note_raised(partition.topic_id, partition.index, epoch);
    lead(shared, partition, epoch, is_unclean).await
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

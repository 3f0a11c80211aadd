//! Which partitions have their logs open here.
//!
//! Invariants
//! - A replica without proof (P6) is not led; it says why, once, and is offline.
//! - The directory of a deleted partition is renamed away durably before anything else (P3).

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_metadata::image::Versioned;
use esker_metadata::values::{DirectoryId, PartitionValue, TopicValue};
use esker_metadata::{Image, Revision};
use esker_protocol::{FixedHashMap, LeaderEpoch, Offset, Timestamp, TopicId};
use esker_storage::{Log, LogDirectory, OpenLogError, RecoveryReport};
use futures::StreamExt;
use tracing::{error, info, warn};

use super::{Proof, Touched};
use crate::broker::Shared;
use crate::commit::{Dirty, Urgency};
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::config::topic::TopicConfig;
use crate::configs;
use crate::environment::Work;
use crate::partition::{Partition, Settings};

/// Logs that are recovered side by side at start.
const RECOVERIES_MAX: usize = 8;

/// Puts aside the logs of what this broker no longer hosts, puts changed settings in force, and opens
/// the logs of what is new. Returns whether all of it is done.
pub(super) async fn reconcile(
    shared: &Arc<Shared>,
    image: &Image,
    touched: &Touched,
    proof: &Proof,
) -> bool {
    let mut settings = TopicSettings::default();
    drop_unassigned(shared, image, touched).await;
    update_settings(shared, image, touched, &mut settings);
    host_assigned(shared, image, touched, proof, settings).await
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
    fn of(&mut self, shared: &Shared, image: &Image, topic: &Versioned<TopicValue>) -> Settings {
        let compute = || Settings {
            config: Arc::new(TopicConfig::new(
                &topic.value.configs,
                configs::settings(shared, image).merged(),
            )),
            revision: configured_at(shared, image, topic),
        };
        let settings = self.0.entry(topic.value.topic_id).or_insert_with(compute);
        settings.clone()
    }
}

/// The latest revision of what a topic's settings are computed from: its own key and the brokers'.
fn configured_at(shared: &Shared, image: &Image, topic: &Versioned<TopicValue>) -> Revision {
    topic.revision.max(configs::revision(shared, image))
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
        if partition.configured_at() == configured_at(shared, image, topic) {
            continue;
        }
        let next = settings.of(shared, image, topic);
        partition
            .log
            .update_config(log_config(shared, &next.config));
        partition.configure(next);
    }
}

/// The part of a topic's settings that its logs act on.
fn log_config(shared: &Shared, config: &TopicConfig) -> esker_storage::LogConfig {
    esker_storage::LogConfig {
        segment_bytes: u64::from(config.segment_bytes),
        segment_ms: config.segment_ms_max(),
        segment_jitter_ms: config.segment_jitter_ms,
        index_interval_bytes: u64::from(config.index_interval_bytes),
        index_bytes_max: u64::from(config.segment_index_bytes),
        producer_expiration_ms: {
            let given = shared.config.producer_id_expiration;
            let expiration = shared.settings().producer_id_expiration(given);
            i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX)
        },
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
                settings.of(shared, image, topic),
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
            let of = Arc::clone(&directory);
            // A tier end only rises: one that is late drops less.
            let tier = image.tier(topic_id, index).map(|tier| &tier.value);
            let opening = Opening {
                topic: name.clone(),
                index,
                topic_id,
                settings: log_config(shared, &settings.config),
                tier: tier.map(|tier| (tier.tier_end, tier.tier_end_epoch)),
                now: shared.environment.now(),
            };
            let open = move || open_log(&of, &opening);
            let opened = shared.environment.run(Work::Blocking, open).await;
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
                // It is looked for again and again, since somebody may rename it back; said once.
                Err(error @ OpenLogError::SetAside { .. }) => {
                    if shared.replicas.note_aside(topic_id, index) {
                        error!(topic = name, partition = index, %error, "the partition is offline");
                    }
                    false
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

/// A log that is to be opened.
struct Opening {
    topic: String,
    index: i32,
    topic_id: TopicId,
    settings: esker_storage::LogConfig,
    /// The end of what the tier has of it, and the epoch before that.
    tier: Option<(Offset, LeaderEpoch)>,
    now: Timestamp,
}

/// Opens a log. Of one that is damaged, what the tier has goes, so that the rest can be opened (P6).
fn open_log(
    directory: &LogDirectory,
    opening: &Opening,
) -> Result<(Arc<Log>, RecoveryReport), OpenLogError> {
    let Opening {
        topic,
        index,
        topic_id,
        settings,
        tier,
        now,
    } = opening;
    let open = || directory.open_log(topic, *index, *topic_id, settings.clone(), *now);
    let error = match open() {
        Err(error @ OpenLogError::Damaged { .. }) => error,
        other => return other,
    };
    let (OpenLogError::Damaged { damage, .. }, Some(tier)) = (&error, *tier) else {
        return Err(error);
    };
    match directory.drop_tiered_segments((topic, *index, *topic_id), damage, tier) {
        Ok(Some(local_start)) => {
            error!(topic, partition = index, %error, %local_start, "damaged segments were dropped; the tier has them");
            open()
        }
        Ok(None) | Err(_) => Err(error),
    }
}

/// Syncs what recovery kept: only then are logs led.
async fn make_durable(shared: &Arc<Shared>) {
    for (directory, dirty) in &shared.directories {
        // Those that are led are the commit loop's.
        let waiting = || {
            let all = shared.partitions.all();
            all.iter()
                .filter(|one| Arc::ptr_eq(&one.directory, directory))
                .filter(|one| one.leading().is_none() && !one.is_durable())
                .count()
        };
        // A round takes some of them at least. One that cannot be made durable must not keep this going.
        for _ in 0..waiting() {
            let committing = Arc::clone(directory);
            let round = move || committing.commit_round();
            // A directory that fails here is the commit loop's to report.
            let Ok(round) = shared.environment.run(Work::Blocking, round).await else {
                break;
            };
            for log in &round.published {
                shared.partitions.published(log.topic_id(), log.partition());
            }
            dirty.mark(Urgency::Urgent);
            if !round.more || waiting() == 0 {
                break;
            }
        }
    }
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

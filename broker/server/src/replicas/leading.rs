//! Which partitions this broker leads, and under which epoch.
//!
//! Invariant
//! - A process that starts leads nothing: before it leads a partition, a transaction of this
//!   process has raised the partition's leader epoch (P4), unless the partition was made after this
//!   process registered.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_metadata::Image;
use esker_metadata::controller as decide;
use esker_metadata::values::{DirectoryId, PartitionValue};
use esker_protocol::LeaderEpoch;
use tracing::{debug, error, info, warn};

use super::{Proof, Touched};
use crate::authority::commit_batch;
use crate::broker::Shared;
use crate::commit::Urgency;
use crate::environment::Work;
use crate::membership::{self, MembershipError};
use crate::partition::Partition;
use crate::partition::tiering::{self, TierError};

/// A partition that this broker leads once its epoch is raised.
struct Candidate {
    partition: Arc<Partition>,
    next: PartitionValue,
    is_unclean: bool,
}

/// Leads what the image says this broker leads, after raising epochs where P4 asks for it. Returns
/// whether all of it is led.
///
/// # Errors
/// Another process has become this broker; nothing else.
pub(super) async fn reconcile(
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
    if !partition.is_durable() {
        // Consumers have seen all of it: they must not meet an end below what they have read.
        debug!(topic = %partition.topic, partition = partition.index, "not led yet: what was recovered is not durable yet");
        partition.ask_for_commit(Urgency::Urgent);
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

//! A process that starts leads nothing (P4).

use esker_protocol::{BrokerId, TopicId};

use super::batch::{Batch, Change};
use crate::image::{Image, Versioned};
use crate::store::{Compare, Condition, Revision};
use crate::values::{DirectoryId, PartitionValue, ProcessId, Value};

/// Whether no earlier process of the broker can have led the partition in its present epoch, so that
/// it is led without [`raise_epochs`]: it was made after this process registered, for the directory
/// that it is in, and nobody has changed it since.
#[must_use]
pub fn is_fresh(
    partition: &Versioned<PartitionValue>,
    broker: BrokerId,
    directory: DirectoryId,
    registered: Revision,
) -> bool {
    partition.create_revision > registered
        && partition.revision == partition.create_revision
        && partition.value.leader == Some(broker)
        && partition.value.directory(broker) == Some(directory)
}

/// What a partition becomes when the broker begins to lead it in a new epoch, from its log in
/// `directory`.
///
/// `is_unclean` says that this broker cannot prove that it has all that was acknowledged (P6).
#[must_use]
pub fn led_anew(
    current: &PartitionValue,
    broker: BrokerId,
    directory: DirectoryId,
    is_unclean: bool,
) -> PartitionValue {
    let mut next = current.clone();
    next.leader = Some(broker);
    next.last_known_leader = Some(broker);
    next.leader_epoch = next.leader_epoch.next();
    if is_unclean {
        next.last_unclean_epoch = Some(next.leader_epoch);
    }
    if !next.isr.contains(&broker) {
        next.isr.push(broker);
    }
    // P5: what the ISR proves by itself needs no ELR beside it.
    if i32::try_from(next.isr.len()).is_ok_and(|members| members >= next.min_isr_effective) {
        next.elr.clear();
    }
    let own = next.replicas.iter_mut().filter(|r| r.broker == broker);
    for replica in own {
        replica.directory = Some(directory);
    }
    next
}

/// The image does not show the process as the one that is registered: its lease has ended, or
/// another process has become the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process is not registered as broker {0}")]
pub struct NotRegistered(pub BrokerId);

/// The batches that raise the leader epochs of these partitions, each to the value that
/// [`led_anew`] has computed from the same image, in the order given: the busiest first, or just the
/// one that a request waits for.
///
/// Each also compares the registration of this very process: one that was replaced raises nothing.
/// Partitions that are gone or that another broker leads are left out.
///
/// # Errors
///
/// The process is not registered.
pub fn raise_epochs(
    image: &Image,
    broker: BrokerId,
    incarnation: ProcessId,
    partitions: impl IntoIterator<Item = (TopicId, i32, PartitionValue)>,
) -> Result<Vec<Batch>, NotRegistered> {
    // The registration of the process that came after this one would be a fence for that one only.
    let registration = image
        .broker(broker)
        .filter(|registration| registration.value.incarnation == incarnation)
        .ok_or(NotRegistered(broker))?;
    let changes = partitions
        .into_iter()
        .filter_map(|(topic, partition, next)| {
            let current = image.partition(topic, partition)?;
            if current.value.leader.is_some_and(|leader| leader != broker) {
                return None;
            }
            assert!(
                next.leader_epoch > current.value.leader_epoch,
                "the epoch of partition {partition} of {topic} is not raised"
            );
            let key = image.keys().partition(topic, partition);
            Some(Change::replace(key, current.revision, next.encode()))
        })
        .collect();
    let guard = Compare {
        key: image.keys().broker(broker),
        condition: Condition::ModRevision(registration.revision),
    };
    Ok(Batch::divide(&[guard], changes))
}

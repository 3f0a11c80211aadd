//! A process that starts leads nothing (P4).

use esker_protocol::{BrokerId, TopicId};

use super::batch::{Batch, Change};
use crate::image::Image;
use crate::store::{Compare, Condition};
use crate::values::Value;

/// The partitions that an earlier process of the broker may have led in their present epoch: those
/// that it leads and that existed before it registered.
///
/// The broker takes this list from the first image that shows its registration, and leads none of
/// them before [`raise_epochs`] has raised the epoch. What is created or elected later begins an
/// epoch that no earlier process has seen.
pub fn led_before(image: &Image, broker: BrokerId) -> impl Iterator<Item = (TopicId, i32)> {
    let registered = image.broker(broker).map(|broker| broker.revision);
    image
        .all_partitions()
        .filter(move |(_, _, partition)| {
            let existed = registered.is_none_or(|epoch| partition.create_revision < epoch);
            existed && partition.value.leader == Some(broker)
        })
        .map(|(topic, partition, _)| (topic, partition))
}

/// The batches that raise the leader epochs of these partitions, in the order given: the busiest
/// first, or just the one that a request waits for.
///
/// Each also compares the broker's registration: a process that was replaced raises nothing.
/// Partitions that the broker does not lead (any longer) are left out.
#[must_use]
pub fn raise_epochs(
    image: &Image,
    broker: BrokerId,
    partitions: impl IntoIterator<Item = (TopicId, i32)>,
) -> Vec<Batch> {
    let Some(registration) = image.broker(broker) else {
        return Vec::new();
    };
    let changes = partitions
        .into_iter()
        .filter_map(|(topic, partition)| {
            let current = image.partition(topic, partition)?;
            if current.value.leader != Some(broker) {
                return None;
            }
            let mut value = current.value.clone();
            value.leader_epoch = value.leader_epoch.next();
            let key = image.keys().partition(topic, partition);
            Some(Change::replace(key, current.revision, value.encode()))
        })
        .collect();
    let guard = Compare {
        key: image.keys().broker(broker),
        condition: Condition::ModRevision(registration.revision),
    };
    Batch::divide(&[guard], changes)
}

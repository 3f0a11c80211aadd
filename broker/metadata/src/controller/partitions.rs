//! What a partition's value says at its creation.

use esker_protocol::{BrokerId, LeaderEpoch, TopicId};

use crate::image::Image;
use crate::values::{Configs, DirectoryId, PartitionValue, Replica, TopicValue, Unknown};

/// The topic setting that says how many replicas must hold a record.
const MIN_ISR: &str = "min.insync.replicas";

/// How many members the ISR must have: the lesser of `min.insync.replicas` and the number of
/// replicas (P5).
#[must_use]
pub fn effective_min_isr(configs: &Configs, default: i32, replicas: usize) -> i32 {
    let configured = configs
        .get(MIN_ISR)
        .and_then(|text| text.parse().ok())
        .unwrap_or(default);
    configured
        .min(i32::try_from(replicas).unwrap_or(i32::MAX))
        .max(1)
}

/// The value of a new partition: the live replicas are in sync, because there is nothing to hold.
pub(super) fn new_partition(
    image: &Image,
    topic: &TopicValue,
    partition: i32,
    replicas: &[BrokerId],
    min_isr_default: i32,
) -> PartitionValue {
    let live = replicas
        .iter()
        .filter(|broker| image.broker(**broker).is_some());
    let isr: Vec<BrokerId> = live.copied().collect();
    let leader = isr.first().copied();
    PartitionValue {
        replicas: replicas
            .iter()
            .map(|&broker| Replica {
                broker,
                directory: choose_directory(image, broker, topic.topic_id, partition),
                unknown: Unknown::new(),
            })
            .collect(),
        adding: Vec::new(),
        removing: Vec::new(),
        isr,
        elr: Vec::new(),
        leader,
        last_known_leader: leader,
        leader_epoch: LeaderEpoch(0),
        last_unclean_epoch: None,
        min_isr_effective: effective_min_isr(&topic.configs, min_isr_default, replicas.len()),
        unknown: Unknown::new(),
    }
}

/// Spreads partitions over a broker's log directories; a broker that is not live chooses itself.
fn choose_directory(
    image: &Image,
    broker: BrokerId,
    topic: TopicId,
    partition: i32,
) -> Option<DirectoryId> {
    let directories = &image.broker(broker)?.value.directories;
    let [.., a, b] = topic.0;
    // Topics of one partition spread as well.
    let index = u64::from(u16::from_be_bytes([a, b])) + u64::from(partition.unsigned_abs());
    let index = usize::try_from(index)
        .ok()?
        .checked_rem(directories.len())?;
    directories.get(index).copied()
}

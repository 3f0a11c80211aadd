//! Topics from creation to the last trace (P3).

use std::collections::BTreeSet;

use esker_protocol::{BrokerId, TopicId};

use super::batch::{Batch, Change};
use super::partitions::new_partition;
use crate::image::{Image, Versioned};
use crate::keys::Keys;
use crate::store::{Compare, Condition, OPERATIONS_MAX, Transaction};
use crate::values::{
    Configs, DeletedValue, TopicNameValue, TopicState, TopicValue, Unknown, Value,
};

/// The most transactions of one plan: the next image plans the rest.
const PLAN_TRANSACTIONS_MAX: usize = 64;
/// The partitions whose two keys are deleted in one transaction.
const PARTITIONS_PER_DELETE: usize = OPERATIONS_MAX / 2;

/// A topic to create. Everything about it is already checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// A valid name.
    pub name: String,
    /// New for every try, so that a late answer never names another topic than it made.
    pub topic_id: TopicId,
    /// The brokers of each partition, the preferred leader first.
    pub assignment: Vec<Vec<BrokerId>>,
    /// The settings that differ from the defaults.
    pub configs: Configs,
}

/// A topic that is created or grows cannot grow: its partitions are still being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the topic is not live yet")]
pub struct NotLive;

/// Creates a topic, in the state from which the controller takes over. Fails where the name, or one
/// that differs in `.` and `_` only, exists.
///
/// Only absence fences it, so a lost one may land after a deletion. It is never sent again as it
/// is: the next try has a new topic id, and then even the late one makes a topic that is whole.
#[must_use]
pub fn create_topic(keys: &Keys, new: &NewTopic) -> Transaction {
    let value = TopicValue {
        topic_id: new.topic_id,
        partitions: count(new.assignment.len()),
        state: TopicState::Creating,
        assignment: new.assignment.clone(),
        configs: new.configs.clone(),
        unknown: Unknown::new(),
    };
    let name = TopicNameValue {
        topic: new.name.clone(),
        unknown: Unknown::new(),
    };
    let (topic, topic_name) = (keys.topic(&new.name), keys.topic_name(&new.name));
    Transaction::new()
        .expect_absent(&topic)
        .expect_absent(&topic_name)
        .put(topic, value.encode())
        .put(topic_name, name.encode())
}

/// Adds partitions to a topic, with the brokers of each new one.
///
/// # Errors
///
/// The topic is still being created, or grows already.
pub fn grow_topic(
    keys: &Keys,
    name: &str,
    topic: &Versioned<TopicValue>,
    more: Vec<Vec<BrokerId>>,
) -> Result<Transaction, NotLive> {
    if topic.value.state != TopicState::Live {
        return Err(NotLive);
    }
    let value = TopicValue {
        state: TopicState::Growing,
        assignment: more,
        ..topic.value.clone()
    };
    Ok(replace_topic(keys, name, topic, &value))
}

/// Replaces a topic's settings, in whatever state it is.
#[must_use]
pub fn set_topic_configs(
    keys: &Keys,
    name: &str,
    topic: &Versioned<TopicValue>,
    configs: Configs,
) -> Transaction {
    replace_topic(
        keys,
        name,
        topic,
        &TopicValue {
            configs,
            ..topic.value.clone()
        },
    )
}

/// Deletes a topic, in whatever state it is. Its name is free at once; the controller cleans.
#[must_use]
pub fn delete_topic(keys: &Keys, name: &str, topic: &Versioned<TopicValue>) -> Transaction {
    let deleted = DeletedValue {
        topic: name.to_owned(),
        partitions: topic.value.partitions_after_growth(),
        unknown: Unknown::new(),
    };
    Transaction::new()
        .expect_revision(keys.topic(name), topic.revision)
        .delete(keys.topic(name))
        .delete(keys.topic_name(name))
        .put(keys.deleted(topic.value.topic_id), deleted.encode())
}

/// Drops the last trace of a deleted topic. The caller knows that its directories and objects are
/// gone; `None` where keys of its partitions are left.
#[must_use]
pub fn forget_topic(image: &Image, id: TopicId) -> Option<Transaction> {
    let deleted = image.deleted_topic(id)?;
    if image.partitions(id).next().is_some() || image.tiers(id).next().is_some() {
        return None;
    }
    let key = image.keys().deleted(id);
    Some(
        Transaction::new()
            .expect_revision(&key, deleted.revision)
            .delete(key),
    )
}

/// What the controller does not find in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanSettings {
    /// `min.insync.replicas` of topics that do not say otherwise.
    pub min_isr_default: i32,
}

/// What the controller should do now about topics: none when all are settled.
///
/// The transactions are independent of each other; those of one topic follow in a later plan.
#[must_use]
pub fn plan(image: &Image, settings: PlanSettings) -> Vec<Transaction> {
    let mut transactions = Vec::new();
    let unsettled = image
        .unsettled_topics()
        .flat_map(|(name, topic)| expand(image, name, topic, settings));
    let deleted = image
        .deleted()
        .flat_map(|(id, deleted)| clean(image, id, deleted));
    transactions.extend(unsettled.chain(deleted).take(PLAN_TRANSACTIONS_MAX));
    transactions
}

/// Writes the partitions that are missing; when none is, flips the topic to live.
fn expand(
    image: &Image,
    name: &str,
    topic: &Versioned<TopicValue>,
    settings: PlanSettings,
) -> Vec<Transaction> {
    let value = &topic.value;
    let first = match value.state {
        TopicState::Live => return Vec::new(),
        TopicState::Creating => 0,
        TopicState::Growing => value.partitions,
    };
    let missing: Vec<Change> = (first..)
        .zip(&value.assignment)
        .filter(|(partition, _)| image.partition(value.topic_id, *partition).is_none())
        .map(|(partition, replicas)| {
            let new = new_partition(image, value, partition, replicas, settings.min_isr_default);
            let key = image.keys().partition(value.topic_id, partition);
            Change::create(key, new.encode())
        })
        .collect();
    if !missing.is_empty() {
        let guard = Compare {
            key: image.keys().topic(name),
            condition: Condition::ModRevision(topic.revision),
        };
        let batches = Batch::divide(&[guard], missing);
        return batches.iter().map(Batch::transaction).collect();
    }
    let live = TopicValue {
        state: TopicState::Live,
        partitions: value.partitions_after_growth(),
        assignment: Vec::new(),
        ..value.clone()
    };
    vec![replace_topic(image.keys(), name, topic, &live)]
}

/// Deletes what is left of a deleted topic's keys, both of a partition together: a tier key that
/// outlives its partition's key would have no fence.
///
/// An image that shows the deletion shows all partition keys that will ever exist. It may not show
/// the latest claim of a tier key, so both keys are always named.
fn clean(image: &Image, id: TopicId, deleted: &Versioned<DeletedValue>) -> Vec<Transaction> {
    let keys = image.keys();
    let partitions = image.partitions(id).map(|(partition, _)| partition);
    let tiers = image.tiers(id).map(|(partition, _)| partition);
    let left: Vec<i32> = partitions
        .chain(tiers)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    left.chunks(PARTITIONS_PER_DELETE)
        .map(|partitions| {
            let guarded = Transaction::new().expect_revision(keys.deleted(id), deleted.revision);
            partitions.iter().fold(guarded, |transaction, partition| {
                transaction
                    .delete(keys.partition(id, *partition))
                    .delete(keys.tier(id, *partition))
            })
        })
        .collect()
}

fn replace_topic(
    keys: &Keys,
    name: &str,
    read: &Versioned<TopicValue>,
    value: &TopicValue,
) -> Transaction {
    let key = keys.topic(name);
    Transaction::new()
        .expect_revision(&key, read.revision)
        .put(key, value.encode())
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

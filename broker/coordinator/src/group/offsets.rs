//! Committed offsets.
//!
//! Offsets of a transaction wait apart, by producer, until its marker: a commit makes them visible
//! unless something younger is there already, an abort drops them.
//!
//! Invariants
//! - Only replay changes anything here.
//! - No empty map is kept: a group, topic or producer without offsets is not there.
//! - `open` counts, of each partition, the producers whose transactions hold an offset for it.

pub(crate) mod commit;
mod expire;
pub(crate) mod fetch;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::messages::{OffsetCommitKey, OffsetCommitValue};
use esker_protocol::{Offset, ProducerId, Timestamp, TopicId};

use crate::record::{Key, Record};

/// An offset and what was committed with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Committed {
    pub(crate) offset: Offset,
    /// The epoch of the last record read, as the client said it; -1 if it gave none.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Box<str>,
    pub(crate) committed_at: Timestamp,
    /// Set by old clients only, and honoured.
    pub(crate) expires_at: Option<Timestamp>,
    /// Zero if the client or an old broker gave none.
    pub(crate) topic_id: TopicId,
    /// Where the record is in the log, or follows from what was: tells which of two is younger.
    pub(crate) position: Offset,
}

impl Committed {
    fn of(value: &OffsetCommitValue<'_>, position: Offset) -> Committed {
        Committed {
            offset: Offset(value.offset),
            leader_epoch: value.leader_epoch,
            metadata: Box::from(&*value.metadata),
            committed_at: Timestamp(value.commit_timestamp),
            expires_at: (value.expire_timestamp != -1).then_some(Timestamp(value.expire_timestamp)),
            topic_id: value.topic_id,
            position,
        }
    }
}

/// The values of a group's partitions, by topic.
type Partitions<V> = BTreeMap<Arc<str>, BTreeMap<i32, V>>;
type Groups<V> = BTreeMap<Arc<str>, Partitions<V>>;

/// The offsets of all groups of a shard.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Offsets {
    committed: Groups<Committed>,
    pending: BTreeMap<ProducerId, Groups<Committed>>,
    open: Groups<usize>,
}

impl Offsets {
    /// Applies an offset commit or its tombstone.
    pub(crate) fn replay(
        &mut self,
        key: &OffsetCommitKey<'_>,
        value: Option<&OffsetCommitValue<'_>>,
        position: Offset,
    ) {
        match value {
            Some(value) => {
                let committed = Committed::of(value, position);
                insert(
                    &mut self.committed,
                    &key.group,
                    &key.topic,
                    key.partition,
                    committed,
                );
            }
            None => self.delete(&key.group, &key.topic, key.partition),
        }
    }

    /// Applies commits of one group for partitions of one topic, each with its position.
    pub(crate) fn replay_commits<'v>(
        &mut self,
        group: &str,
        topic: &str,
        commits: impl Iterator<Item = (i32, OffsetCommitValue<'v>, Offset)>,
    ) {
        change(&mut self.committed, group, topic, |partitions| {
            for (partition, value, position) in commits {
                partitions.insert(partition, Committed::of(&value, position));
            }
        });
    }

    /// Applies an offset commit of a transaction that is still open.
    pub(crate) fn replay_transactional(
        &mut self,
        producer: ProducerId,
        key: &OffsetCommitKey<'_>,
        value: Option<&OffsetCommitValue<'_>>,
        position: Offset,
    ) {
        let Some(value) = value else {
            return self.delete(&key.group, &key.topic, key.partition);
        };
        let (group, topic, partition) = (&*key.group, &*key.topic, key.partition);
        let pending = self.pending.entry(producer).or_default();
        let committed = Committed::of(value, position);
        if insert(pending, group, topic, partition, committed).is_none() {
            let open = get(&self.open, group, topic, partition).copied();
            insert(
                &mut self.open,
                group,
                topic,
                partition,
                open.unwrap_or(0) + 1,
            );
        }
    }

    /// Applies the end of a producer's transaction.
    pub(crate) fn replay_marker(&mut self, producer: ProducerId, is_commit: bool) {
        for (group, topics) in self.pending.remove(&producer).unwrap_or_default() {
            for (topic, partitions) in topics {
                for (partition, committed) in partitions {
                    self.close(&group, &topic, partition);
                    let known = get(&self.committed, &group, &topic, partition);
                    // Compaction may keep an older record of a transaction beside a younger one.
                    let is_younger = known.is_none_or(|known| committed.position > known.position);
                    if is_commit && is_younger {
                        insert(&mut self.committed, &group, &topic, partition, committed);
                    }
                }
            }
        }
    }

    /// A tombstone also takes what transactions hold for the partition.
    fn delete(&mut self, group: &str, topic: &str, partition: i32) {
        remove(&mut self.committed, group, topic, partition);
        if remove(&mut self.open, group, topic, partition).is_some() {
            self.pending.retain(|_, pending| {
                remove(pending, group, topic, partition);
                !pending.is_empty()
            });
        }
    }

    fn close(&mut self, group: &str, topic: &str, partition: i32) {
        match get(&self.open, group, topic, partition).copied() {
            None => {}
            Some(0 | 1) => {
                remove(&mut self.open, group, topic, partition);
            }
            Some(count) => {
                insert(&mut self.open, group, topic, partition, count - 1);
            }
        }
    }

    pub(crate) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        get(&self.committed, group, topic, partition)
    }

    /// Whether an open transaction holds an offset for the partition.
    pub(crate) fn is_open(&self, group: &str, topic: &str, partition: i32) -> bool {
        get(&self.open, group, topic, partition).is_some()
    }

    /// Every committed offset of a group.
    pub(crate) fn of_group(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&str, i32, &Committed)> + use<'_> {
        let topics = self.committed.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| {
            let partitions = partitions.iter();
            partitions.map(move |(partition, committed)| (&**topic, *partition, committed))
        })
    }

    /// The groups that have offsets, in order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.committed.keys().map(|group| &**group)
    }

    /// The same without positions in the log, which a shard that appends only predicts.
    pub(crate) fn without_positions(&self) -> Offsets {
        let mut offsets = self.clone();
        let pending = offsets.pending.values_mut();
        let groups = pending.chain([&mut offsets.committed]);
        let topics = groups
            .flat_map(BTreeMap::values_mut)
            .flat_map(BTreeMap::values_mut);
        for committed in topics.flat_map(BTreeMap::values_mut) {
            committed.position = Offset::ZERO;
        }
        offsets
    }
}

/// The record that deletes an offset.
fn tombstone(group: &str, topic: &str, partition: i32) -> Record<'static> {
    Record {
        key: key(group.to_owned().into(), topic.to_owned().into(), partition),
        value: None,
    }
}

fn key<'r>(group: Cow<'r, str>, topic: Cow<'r, str>, partition: i32) -> Key<'r> {
    Key::OffsetCommit(OffsetCommitKey {
        group,
        topic,
        partition,
    })
}

fn get<'g, V>(groups: &'g Groups<V>, group: &str, topic: &str, partition: i32) -> Option<&'g V> {
    groups.get(group)?.get(topic)?.get(&partition)
}

fn insert<V>(
    groups: &mut Groups<V>,
    group: &str,
    topic: &str,
    partition: i32,
    value: V,
) -> Option<V> {
    change(groups, group, topic, |partitions| {
        partitions.insert(partition, value)
    })
}

/// Changes the values of a group's partitions of one topic. There are some afterwards.
fn change<V, R>(
    groups: &mut Groups<V>,
    group: &str,
    topic: &str,
    change: impl FnOnce(&mut BTreeMap<i32, V>) -> R,
) -> R {
    // Names are only copied when they are new: most commits are to where one was before.
    let topics = match groups.get_mut(group) {
        Some(topics) => topics,
        None => groups.entry(Arc::from(group)).or_default(),
    };
    let partitions = match topics.get_mut(topic) {
        Some(partitions) => partitions,
        None => topics.entry(Arc::from(topic)).or_default(),
    };
    change(partitions)
}

fn remove<V>(groups: &mut Groups<V>, group: &str, topic: &str, partition: i32) -> Option<V> {
    let topics = groups.get_mut(group)?;
    let partitions = topics.get_mut(topic)?;
    let value = partitions.remove(&partition);
    if partitions.is_empty() {
        topics.remove(topic);
        if topics.is_empty() {
            groups.remove(group);
        }
    }
    value
}

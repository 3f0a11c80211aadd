//! What ends committed offsets: age, their topic's end, their group's.

use std::collections::BTreeSet;

use esker_protocol::{Timestamp, TopicId};

use super::{Committed, Offsets, tombstone};
use crate::group::Group;
use crate::group::classic::State;
use crate::record::Record;

/// From when an offset's age counts.
#[derive(Debug, Clone, Copy)]
enum Age {
    /// From its commit.
    Commit,
    /// From when the last member left, if that is known.
    Empty(Option<Timestamp>),
}

/// From when the age of a group's offsets counts; `None` while they do not age (KIP-211).
fn age(group: &Group) -> Option<Age> {
    let Group::Classic(group) = group else {
        return Some(Age::Commit);
    };
    if group.protocol_type().is_none() {
        return Some(Age::Commit);
    }
    match group.state() {
        State::Empty => Some(Age::Empty(group.since())),
        State::Stable if group.has_consumers() && group.subscribed().is_some() => Some(Age::Commit),
        _ => None,
    }
}

impl Offsets {
    /// Adds tombstones for what has expired. Whether the group then has no offsets, nor open
    /// transactions with any.
    pub(crate) fn expire(
        &self,
        group_id: &str,
        group: &Group,
        now: Timestamp,
        retention_ms: i64,
        records: &mut Vec<Record<'_>>,
    ) -> bool {
        let mut all_expired = !self.open.contains_key(group_id);
        if !self.committed.contains_key(group_id) {
            return all_expired;
        }
        let Some(age) = age(group) else {
            return false;
        };
        let is_expired = |committed: &Committed| match committed.expires_at {
            Some(expires_at) => now >= expires_at,
            None => {
                let base = match age {
                    Age::Empty(Some(since)) => since,
                    Age::Empty(None) | Age::Commit => committed.committed_at,
                };
                now.0.saturating_sub(base.0) >= retention_ms
            }
        };
        for (topic, partition, committed) in self.of_group(group_id) {
            if is_expired(committed)
                && !group.subscribes_to(topic)
                && !self.is_open(group_id, topic, partition)
            {
                records.push(tombstone(group_id, topic, partition));
            } else {
                all_expired = false;
            }
        }
        all_expired
    }

    /// How many offsets of a group an expiry looks at.
    pub(crate) fn count(&self, group_id: &str) -> usize {
        let topics = self.committed.get(group_id).into_iter().flatten();
        topics.map(|(_, partitions)| partitions.len()).sum()
    }

    /// Tombstones for all that a group has, what transactions hold included.
    pub(crate) fn delete_all(&self, group_id: &str, records: &mut Vec<Record<'_>>) {
        let committed = self
            .of_group(group_id)
            .map(|(topic, partition, _)| (topic, partition));
        let open = self.open.get(group_id).into_iter().flatten();
        let open = open.flat_map(|(topic, partitions)| {
            partitions.keys().map(|partition| (&**topic, *partition))
        });
        let all: BTreeSet<(&str, i32)> = committed.chain(open).collect();
        let tombstones = all
            .into_iter()
            .map(|(topic, partition)| tombstone(group_id, topic, partition));
        records.extend(tombstones);
    }

    /// Tombstones for offsets of topics that are gone. A topic that was made again under the same
    /// name keeps its own; offsets without an id go with the name.
    pub(crate) fn delete_topics(&self, topics: &[(String, TopicId)]) -> Vec<Record<'static>> {
        let mut gone: BTreeSet<(&str, &str, i32)> = BTreeSet::new();
        for groups in self.pending.values().chain([&self.committed]) {
            for (group, of_topics) in groups {
                for (name, id) in topics {
                    for (partition, committed) in of_topics.get(&**name).into_iter().flatten() {
                        if committed.topic_id == *id || committed.topic_id == TopicId::ZERO {
                            gone.insert((&**group, name.as_str(), *partition));
                        }
                    }
                }
            }
        }
        gone.into_iter()
            .map(|(group, topic, partition)| tombstone(group, topic, partition))
            .collect()
    }
}

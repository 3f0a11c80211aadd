//! Members subscribe to different topics: the topics are balanced one by one, round after round.
//!
//! 1. Members keep what they own of the topics that they subscribe to.
//! 2. The other partitions go, topic by topic, to the subscribers that have the fewest.
//! 3. Topic by topic, the subscribers that have the most give partitions of it to those that have
//!    the fewest, until a whole round moves nothing or [`ROUNDS_MAX`] is reached.
//!
//! Topics with many partitions for each subscriber go first: those after them even out what they
//! leave uneven. Where subscriptions overlap without being equal, the result is near balance, not
//! always at it: a chain of moves through several topics is never looked for.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::TopicId;

use super::super::{AssignError, Assignment, PartitionCounts, Spec, Topics, java_id_key};
use super::levels::{Levels, Sizes};

/// Each round about halves what is uneven.
const ROUNDS_MAX: usize = 16;

pub(super) fn assign<'a>(
    spec: &Spec<'a>,
    counts: &dyn PartitionCounts,
) -> Result<BTreeMap<&'a str, Assignment>, AssignError> {
    let (mut topics, mut sizes) = keep(spec, counts)?;
    for topic in &mut topics {
        topic.fill(&mut sizes);
    }
    balance(&mut topics, &mut sizes);

    let mut assignments = vec![Assignment::new(); spec.members.len()];
    for topic in &topics {
        for (partition, owner) in (0..).zip(&topic.owners) {
            if let Some(member) = owner {
                let assignment = &mut assignments[*member];
                assignment.entry(topic.id).or_default().insert(partition);
            }
        }
    }
    Ok(spec.members.keys().copied().zip(assignments).collect())
}

/// A topic that someone subscribes to. Members are their indexes in the group.
struct Topic {
    id: TopicId,
    /// Ascending, at least one.
    subscribers: Vec<usize>,
    /// Of each partition.
    owners: Vec<Option<usize>>,
}

/// The topics in the order in which they are dealt with, with what members keep of them.
fn keep(
    spec: &Spec<'_>,
    counts: &dyn PartitionCounts,
) -> Result<(Vec<Topic>, Vec<i64>), AssignError> {
    let ids = Topics::of_all(spec, counts)?;
    let mut topics: Vec<_> = ids
        .0
        .iter()
        .map(|(id, partitions)| Topic {
            id: *id,
            subscribers: Vec::new(),
            owners: vec![None; usize::try_from(*partitions).unwrap_or(0)],
        })
        .collect();
    let mut sizes = vec![0; spec.members.len()];
    for (member, of) in spec.members.values().enumerate() {
        for index in of.topics.iter().filter_map(|id| ids.index_of(*id)) {
            let topic = &mut topics[index];
            topic.subscribers.push(member);
            if let Some(owned) = of.owned.get(&topic.id) {
                sizes[member] += topic.own(member, owned);
            }
        }
    }
    topics.sort_by(Topic::order);
    Ok((topics, sizes))
}

fn balance(topics: &mut [Topic], sizes: &mut Sizes) {
    let mut movable: Vec<_> = topics
        .iter_mut()
        .filter(|topic| topic.subscribers.len() > 1)
        .collect();
    let count = movable.len();
    let mut last_moved = None;
    for index in (0..ROUNDS_MAX).flat_map(|_| 0..count) {
        if last_moved == Some(index) {
            // A whole round has moved nothing.
            return;
        }
        if movable[index].balance(sizes) || last_moved.is_none() {
            last_moved = Some(index);
        }
    }
}

impl Topic {
    /// Most partitions for each subscriber first, then fewest subscribers.
    fn order(&self, other: &Topic) -> Ordering {
        // As fractions, without the division.
        let load = self.owners.len() * other.subscribers.len();
        let other_load = other.owners.len() * self.subscribers.len();
        other_load
            .cmp(&load)
            .then(self.subscribers.len().cmp(&other.subscribers.len()))
            .then(java_id_key(self.id).cmp(&java_id_key(other.id)))
    }

    /// Lets a member keep what it owns, and returns how many partitions that are.
    fn own(&mut self, member: usize, partitions: &BTreeSet<i32>) -> i64 {
        let mut count = 0;
        for partition in partitions {
            let index = usize::try_from(*partition).ok();
            if let Some(owner @ None) = index.and_then(|index| self.owners.get_mut(index)) {
                *owner = Some(member);
                count += 1;
            }
        }
        count
    }

    /// Gives the partitions without an owner to the subscribers that have the fewest.
    fn fill(&mut self, sizes: &mut Sizes) {
        if !self.owners.contains(&None) {
            return;
        }
        let mut levels = Levels::new(&self.subscribers, sizes);
        for owner in self.owners.iter_mut().filter(|owner| owner.is_none()) {
            let member = levels.take(sizes);
            sizes[member] += 1;
            *owner = Some(member);
        }
    }

    /// Moves partitions from the subscribers that have the most to those that have the fewest.
    /// Returns whether any moved.
    fn balance(&mut self, sizes: &mut Sizes) -> bool {
        let loads = || self.subscribers.iter().map(|member| sizes[*member]);
        let spread = loads().max().unwrap_or(0) - loads().min().unwrap_or(0);
        if spread <= 1 {
            return false;
        }
        // What each member can give: what it takes meanwhile is not given on.
        let mut held: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.owners.iter().enumerate() {
            if let Some(member) = owner {
                held.entry(*member).or_default().push(partition);
            }
        }
        let mut levels = Levels::new(&self.subscribers, sizes);
        let mut moved = false;
        while let Some(giver) = levels.give(sizes) {
            let Some(partition) = held.get_mut(&giver).and_then(Vec::pop) else {
                levels.exhausted();
                continue;
            };
            let taker = levels.take(sizes);
            if levels.balanced() {
                break;
            }
            self.owners[partition] = Some(taker);
            sizes[giver] -= 1;
            sizes[taker] += 1;
            moved = true;
        }
        moved
    }
}

//! All members subscribe to the same topics: each has a quota of all partitions together.
//!
//! ```text
//! 8 partitions, 3 members: quotas 3 3 2     a owns 0 1 2 3   b owns 4   c is new
//!
//! revoke   a keeps 0 1 2 and gives up 3     b keeps 4        free: 5 6 7, then 3
//! fill     b: 5                             c: 6 7 3
//! ```
//!
//! Who may have one partition more than the others is settled on the way: a member that owns that
//! many keeps it, and what is left of that right falls to the last members.

use std::collections::BTreeMap;

use esker_protocol::TopicId;

use super::super::{AssignError, Assignment, PartitionCounts, Spec, Topics};

pub(super) fn assign<'a>(
    spec: &Spec<'a>,
    counts: &dyn PartitionCounts,
) -> Result<BTreeMap<&'a str, Assignment>, AssignError> {
    let Some(first) = spec.members.values().next() else {
        return Ok(BTreeMap::new());
    };
    let mut claims = Claims::new(spec, &Topics::new(first.topics, counts)?);
    let mut free = claims.unowned();

    let quota = claims.count / spec.members.len();
    let mut extras = claims.count % spec.members.len();
    let mut assignments = BTreeMap::new();
    let mut unfilled = Vec::new();
    for (index, (member_id, member)) in spec.members.iter().enumerate() {
        let mut room = quota + usize::from(extras > 0);
        let mut kept = Assignment::new();
        for (topic, partition) in claims.settle(member.owned) {
            if room > 0 {
                room -= 1;
                kept.entry(topic).or_default().insert(partition);
            } else {
                free.push((topic, partition));
            }
        }
        if extras > 0 {
            let members_left = spec.members.len() - index;
            if room > 0 && members_left > extras {
                // A later member may own enough to use it without a move.
                room -= 1;
            } else {
                extras -= 1;
            }
        }
        if room > 0 {
            unfilled.push((*member_id, room));
        }
        assignments.insert(*member_id, kept);
    }

    let mut free = free.into_iter();
    for (member_id, room) in unfilled {
        let assignment = assignments.entry(member_id).or_default();
        for (topic, partition) in free.by_ref().take(room) {
            assignment.entry(topic).or_default().insert(partition);
        }
    }
    debug_assert!(free.next().is_none(), "the quotas add up to all partitions");
    Ok(assignments)
}

/// What is known of a partition so far.
#[derive(Clone, Copy, PartialEq)]
enum Claim {
    Unowned,
    /// By some member that has not been asked yet.
    Owned,
    /// The first of its owners was asked, and keeps it or gave it up.
    Settled,
}

struct Claims {
    topics: BTreeMap<TopicId, Vec<Claim>>,
    /// Of partitions, those of all topics.
    count: usize,
}

impl Claims {
    fn new(spec: &Spec<'_>, topics: &Topics) -> Claims {
        let mut claims = Claims {
            topics: BTreeMap::new(),
            count: 0,
        };
        for (id, partitions) in &topics.0 {
            let partitions = usize::try_from(*partitions).unwrap_or(0);
            claims.topics.insert(*id, vec![Claim::Unowned; partitions]);
            claims.count += partitions;
        }
        for member in spec.members.values() {
            claims.turn(member.owned, Claim::Unowned, Claim::Owned);
        }
        claims
    }

    /// The partitions that nobody owns.
    fn unowned(&self) -> Vec<(TopicId, i32)> {
        let mut unowned = Vec::new();
        for (id, claims) in &self.topics {
            for (partition, claim) in (0..).zip(claims) {
                if *claim == Claim::Unowned {
                    unowned.push((*id, partition));
                }
            }
        }
        unowned
    }

    /// The partitions of which a member is the first owner to be asked.
    fn settle(&mut self, owned: &Assignment) -> Vec<(TopicId, i32)> {
        self.turn(owned, Claim::Owned, Claim::Settled)
    }

    /// Turns `from` into `to` and returns the partitions where that was so; those that do not exist
    /// or are not subscribed to are passed over.
    fn turn(&mut self, owned: &Assignment, from: Claim, to: Claim) -> Vec<(TopicId, i32)> {
        let mut turned = Vec::new();
        for (id, partitions) in owned {
            let Some(claims) = self.topics.get_mut(id) else {
                continue;
            };
            for partition in partitions {
                let index = usize::try_from(*partition).ok();
                match index.and_then(|index| claims.get_mut(index)) {
                    Some(claim) if *claim == from => {
                        *claim = to;
                        turned.push((*id, *partition));
                    }
                    _ => {}
                }
            }
        }
        turned
    }
}

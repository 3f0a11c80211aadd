//! `range`: the partitions of each topic are dealt out in stretches, in the order of the members.
//!
//! Static members come first, in the order of their instance ids, so that one that comes back under
//! another member id finds its stretch again. What members own does not matter.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{AssignError, Assignment, MemberSpec, PartitionCounts, Spec, Topics, java_text_order};

/// A topic while it is dealt out.
struct Dealt {
    partitions: i32,
    subscribers: i32,
    /// How many of the subscribers have had their stretch.
    served: i32,
}

impl Dealt {
    /// Where the stretch of the next subscriber starts. The first few have one partition more.
    fn start(&self) -> i32 {
        let each = self.partitions / self.subscribers;
        let extra = self.partitions % self.subscribers;
        self.served * each + self.served.min(extra)
    }
}

pub(super) fn assign<'a>(
    spec: &Spec<'a>,
    counts: &dyn PartitionCounts,
) -> Result<BTreeMap<&'a str, Assignment>, AssignError> {
    let topics = Topics::of_all(spec, counts)?;
    let mut dealt: BTreeMap<_, _> = topics
        .0
        .into_iter()
        .map(|(id, partitions)| {
            let fresh = Dealt {
                partitions,
                subscribers: 0,
                served: 0,
            };
            (id, fresh)
        })
        .collect();
    for id in spec.members.values().flat_map(|member| member.topics) {
        if let Some(topic) = dealt.get_mut(id) {
            topic.subscribers += 1;
        }
    }

    let mut members: Vec<_> = spec.members.iter().collect();
    members.sort_by(|one, other| order(*one, *other));

    let mut assignments = BTreeMap::new();
    for (member_id, member) in members {
        let mut assignment = Assignment::new();
        for id in member.topics {
            let Some(topic) = dealt.get_mut(id) else {
                continue;
            };
            let start = topic.start();
            topic.served += 1;
            let end = topic.start();
            if start < end {
                assignment.insert(*id, (start..end).collect());
            }
        }
        assignments.insert(*member_id, assignment);
    }
    Ok(assignments)
}

fn order(one: (&&str, &MemberSpec<'_>), other: (&&str, &MemberSpec<'_>)) -> Ordering {
    match (one.1.instance_id, other.1.instance_id) {
        (Some(one), Some(other)) => java_text_order(one, other),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => java_text_order(one.0, other.0),
    }
}

//! The server-side assignors of consumer groups (KIP-848): which member reads which partitions.
//!
//! Given the same group in the same order, [`assign`] answers what the `uniform` and `range`
//! assignors of Kafka 4.3.0 answer; `e2e/assignors` asks both about thousands of random groups.
//! Neither looks at racks, in Kafka 4.3.0 as here.
//!
//! Kafka's coordinator keeps members and topics in hash maps, so the order in which its assignors
//! meet them is an accident of hash codes and of the JDK. Here members come in the order of their
//! ids and topics in the order of theirs: one of the answers that Kafka might give, and always the
//! same one. Where Kafka itself sorts, it compares as Java does, and so does this module: text by
//! UTF-16 code units, topic ids as two signed integers.
//!
//! Invariants
//! - Every partition of a topic that has a subscriber goes to exactly one member, which subscribes
//!   to the topic; nothing else is assigned. That holds for whatever members are said to own:
//!   where two claim one partition, the first has it; partitions that do not exist are ignored.
//! - Every member of the group is in the answer, even with nothing.
//! - Equal groups get equal answers.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::TopicId;

/// The partitions of one member.
pub type Assignment = BTreeMap<TopicId, BTreeSet<i32>>;

/// The assignors that a group may name, by default the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Balances the number of partitions over the members and moves as few of them as it can.
    Uniform,
    /// Gives each member one stretch of each topic, the same one where topics have equal partitions.
    Range,
}

impl Assignor {
    /// Every assignor; the first is the default.
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// The assignor of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Assignor> {
        Assignor::ALL
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// The name by which configurations and heartbeats ask for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }
}

/// A group as an assignor sees it.
#[derive(Debug, Clone, Default)]
pub struct Spec<'a> {
    /// The members by their ids.
    pub members: BTreeMap<&'a str, MemberSpec<'a>>,
    /// All members subscribe to the same topics, by name or by regular expression. Kafka decides
    /// that by names, topics that do not exist included, and `uniform` goes another way then.
    pub homogeneous: bool,
}

/// A member as an assignor sees it.
#[derive(Debug, Clone, Copy)]
pub struct MemberSpec<'a> {
    /// The instance id, if the member is static.
    pub instance_id: Option<&'a str>,
    /// The topics it subscribes to, as far as they exist.
    pub topics: &'a BTreeSet<TopicId>,
    /// Its target assignment up to now. One that takes the place of another static member owns
    /// what that one did, which is then no member any more.
    pub owned: &'a Assignment,
}

/// How many partitions topics have.
pub trait PartitionCounts {
    /// The number of partitions of a topic, if it exists.
    fn partitions(&self, topic: TopicId) -> Option<i32>;
}

impl<F: Fn(TopicId) -> Option<i32>> PartitionCounts for F {
    fn partitions(&self, topic: TopicId) -> Option<i32> {
        self(topic)
    }
}

/// Why a group got no assignment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// A member subscribes to a topic id that does not exist.
    #[error("a member subscribes to topic {0}, which does not exist")]
    UnknownTopic(TopicId),
}

/// The target assignment of every member.
///
/// # Errors
///
/// A member subscribes to a topic of which `topics` knows nothing.
pub fn assign<'a>(
    assignor: Assignor,
    spec: &Spec<'a>,
    topics: &dyn PartitionCounts,
) -> Result<BTreeMap<&'a str, Assignment>, AssignError> {
    match assignor {
        Assignor::Uniform => uniform::assign(spec, topics),
        Assignor::Range => range::assign(spec, topics),
    }
}

/// Topics in the order of their ids, each with its number of partitions.
struct Topics(Vec<(TopicId, i32)>);

impl Topics {
    fn new<'a>(
        ids: impl IntoIterator<Item = &'a TopicId>,
        counts: &dyn PartitionCounts,
    ) -> Result<Topics, AssignError> {
        let mut ids: Vec<TopicId> = ids.into_iter().copied().collect();
        ids.sort();
        ids.dedup();
        let topics = ids.into_iter().map(|id| {
            let count = counts.partitions(id).ok_or(AssignError::UnknownTopic(id))?;
            Ok((id, count.max(0)))
        });
        Ok(Topics(topics.collect::<Result<_, _>>()?))
    }

    /// The topics that any member subscribes to.
    fn of_all<'a>(spec: &Spec<'a>, counts: &dyn PartitionCounts) -> Result<Topics, AssignError> {
        Topics::new(
            spec.members.values().flat_map(|member| member.topics),
            counts,
        )
    }

    fn index_of(&self, id: TopicId) -> Option<usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id).ok()
    }
}

/// How Java orders text.
fn java_text_order(one: &str, other: &str) -> Ordering {
    one.encode_utf16().cmp(other.encode_utf16())
}

/// What Java orders topic ids by.
fn java_id_key(id: TopicId) -> (i64, i64) {
    let bits = u128::from_be_bytes(id.0).cast_signed();
    ((bits >> 64) as i64, bits as i64)
}

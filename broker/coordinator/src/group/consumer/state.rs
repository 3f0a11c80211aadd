//! The state that survives: what the records of a group say, and what follows from that alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_protocol::TopicId;
use esker_protocol::messages::{
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberValue,
};

use super::member::{Current, LEAVE_EPOCH, Member, MemberState, Metadata, Partitions};
use crate::assignor::Assignment;
use crate::record::{Key, Record, Value};

/// The epoch of a group, and of its target assignment, before any is written.
const INITIAL_EPOCH: i32 = 1;

/// The topics that a regular expression matched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) topics: BTreeSet<String>,
    /// The metadata's revision when it was resolved.
    pub(super) version: i64,
    /// The wall clock's time when it was resolved.
    pub(super) timestamp: i64,
}

/// How many members name a topic, and how many regular expressions match it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Subscribers {
    pub(super) by_name: usize,
    pub(super) by_regex: usize,
}

impl Subscribers {
    pub(super) fn is_none(self) -> bool {
        self.by_name == 0 && self.by_regex == 0
    }
}

/// What the records of a group say.
///
/// Everything below `members`, `targets` and `regexes` is an index that follows from these three,
/// in whatever order their records came.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    epoch: Option<i32>,
    metadata_hash: i64,
    target: Option<(i32, i64)>,
    has_partition_metadata: bool,
    members: BTreeMap<String, Member>,
    targets: BTreeMap<String, Assignment>,
    regexes: BTreeMap<String, Resolved>,

    static_members: BTreeMap<String, String>,
    subscribed_topics: BTreeMap<String, Subscribers>,
    subscribed_regexes: BTreeMap<String, usize>,
    assignors: BTreeMap<String, usize>,
    /// How many members hold a partition or have yet to give it up: 0 or 1, but for a log whose
    /// records come in an order that compaction left.
    owners: BTreeMap<TopicId, BTreeMap<i32, usize>>,
    /// How many members are stable at which epoch.
    stable: BTreeMap<i32, usize>,
    classic_members: usize,
    classic_protocols: BTreeMap<String, usize>,
    /// What members take in memory, about.
    bytes: usize,
}

impl State {
    /// Follows one record.
    pub(super) fn replay(&mut self, record: &Record<'_>) {
        match (&record.key, &record.value) {
            (Key::ConsumerGroupMetadata(_), Some(Value::ConsumerGroupMetadata(value))) => {
                self.epoch = Some(value.epoch);
                self.metadata_hash = value.metadata_hash;
            }
            (Key::ConsumerGroupMetadata(_), None) => {
                self.epoch = None;
                self.metadata_hash = 0;
            }
            (Key::ConsumerGroupPartitionMetadata(_), value) => {
                self.has_partition_metadata = value.is_some();
            }
            (Key::ConsumerGroupTarget(_), Some(Value::ConsumerGroupTarget(value))) => {
                self.target = Some((value.assignment_epoch, value.assignment_timestamp));
            }
            (Key::ConsumerGroupTarget(_), None) => self.target = None,
            (Key::ConsumerGroupMember(key), Some(Value::ConsumerGroupMember(value))) => {
                let mut member = self.member_or_new(&key.member_id);
                member.metadata = Arc::new(Metadata::from_record(value));
                self.update(member);
            }
            (Key::ConsumerGroupMember(key), None) => self.remove(&key.member_id),
            (
                Key::ConsumerGroupCurrentMember(key),
                Some(Value::ConsumerGroupCurrentMember(value)),
            ) => {
                let mut member = self.member_or_new(&key.member_id);
                member.current = Arc::new(Current::from_record(value));
                self.update(member);
            }
            (Key::ConsumerGroupCurrentMember(key), None) => {
                if let Some(mut member) = self.members.get(&*key.member_id).cloned() {
                    member.current = Arc::new(Current {
                        epoch: LEAVE_EPOCH,
                        previous_epoch: LEAVE_EPOCH,
                        ..Current::default()
                    });
                    self.update(member);
                }
            }
            (
                Key::ConsumerGroupTargetMember(key),
                Some(Value::ConsumerGroupTargetMember(value)),
            ) => {
                self.targets
                    .insert(key.member_id.clone().into_owned(), target(value));
            }
            (Key::ConsumerGroupTargetMember(key), None) => {
                self.targets.remove(&*key.member_id);
            }
            (Key::ConsumerGroupRegex(key), Some(Value::ConsumerGroupRegex(value))) => {
                self.resolve(&key.regular_expression, Some(resolved(value)));
            }
            (Key::ConsumerGroupRegex(key), None) => self.resolve(&key.regular_expression, None),
            // Records of other groups never come here.
            _ => {}
        }
    }

    /// Whether no record of the group is left.
    pub(super) fn is_empty(&self) -> bool {
        self.epoch.is_none()
            && self.target.is_none()
            && !self.has_partition_metadata
            && self.members.is_empty()
            && self.targets.is_empty()
            && self.regexes.is_empty()
    }

    /// What members take in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The epoch of the group.
    pub(super) fn epoch(&self) -> i32 {
        self.epoch.unwrap_or(INITIAL_EPOCH)
    }

    /// The hash over the topics when the epoch was written.
    pub(super) fn metadata_hash(&self) -> i64 {
        self.metadata_hash
    }

    /// The epoch of the target assignment.
    pub(super) fn target_epoch(&self) -> i32 {
        self.target.map_or(INITIAL_EPOCH, |(epoch, _)| epoch)
    }

    /// When the target assignment was computed; 0 where that is not known.
    pub(super) fn target_timestamp(&self) -> i64 {
        self.target.map_or(0, |(_, timestamp)| timestamp)
    }

    /// Whether a record of type 4 is left from before 4.1.
    pub(super) fn has_partition_metadata(&self) -> bool {
        self.has_partition_metadata
    }

    pub(super) fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    pub(super) fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    pub(super) fn static_member(&self, instance_id: &str) -> Option<&Member> {
        self.members.get(self.static_members.get(instance_id)?)
    }

    pub(super) fn targets(&self) -> &BTreeMap<String, Assignment> {
        &self.targets
    }

    pub(super) fn target_of(&self, member: &str) -> Option<&Assignment> {
        self.targets.get(member)
    }

    pub(super) fn regexes(&self) -> &BTreeMap<String, Resolved> {
        &self.regexes
    }

    /// The regular expressions that members subscribe to, and how many do.
    pub(super) fn subscribed_regexes(&self) -> &BTreeMap<String, usize> {
        &self.subscribed_regexes
    }

    pub(super) fn subscribed_topics(&self) -> &BTreeMap<String, Subscribers> {
        &self.subscribed_topics
    }

    /// How many members ask for which assignor.
    pub(super) fn assignors(&self) -> &BTreeMap<String, usize> {
        &self.assignors
    }

    /// Whether a member holds the partition or has yet to give it up.
    pub(super) fn is_owned(&self, topic: TopicId, partition: i32) -> bool {
        self.owners
            .get(&topic)
            .is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Whether every member has reached the target.
    pub(super) fn is_reconciled(&self) -> bool {
        self.stable.get(&self.target_epoch()).copied().unwrap_or(0) == self.members.len()
    }

    /// How many members use the classic protocol.
    pub(super) fn classic_members(&self) -> usize {
        self.classic_members
    }

    /// How many of them support an embedded protocol of that name.
    pub(super) fn classic_members_with(&self, protocol: &str) -> usize {
        self.classic_protocols.get(protocol).copied().unwrap_or(0)
    }

    fn member_or_new(&self, id: &str) -> Member {
        match self.members.get(id) {
            Some(member) => member.clone(),
            None => Member::new(id),
        }
    }

    fn update(&mut self, member: Member) {
        if let Some(before) = self.members.remove(&member.id) {
            self.index(&before, false);
        }
        self.index(&member, true);
        self.members.insert(member.id.clone(), member);
    }

    fn remove(&mut self, id: &str) {
        if let Some(before) = self.members.remove(id) {
            self.index(&before, false);
        }
    }

    fn index(&mut self, member: &Member, is_there: bool) {
        let Member {
            id,
            metadata,
            current,
        } = member;
        let bytes = id.len() + metadata.bytes();
        self.bytes = match is_there {
            true => self.bytes.saturating_add(bytes),
            false => self.bytes.saturating_sub(bytes),
        };
        if let Some(instance_id) = &metadata.instance_id {
            if is_there {
                self.static_members.insert(instance_id.clone(), id.clone());
            } else if self.static_members.get(instance_id) == Some(id) {
                self.static_members.remove(instance_id);
            }
        }
        for topic in &metadata.topics {
            count_topic(&mut self.subscribed_topics, topic, is_there, |count| {
                &mut count.by_name
            });
        }
        if let Some(regex) = metadata.regex() {
            count(&mut self.subscribed_regexes, regex, is_there);
        }
        if let Some(assignor) = &metadata.assignor {
            count(&mut self.assignors, assignor, is_there);
        }
        if let Some(classic) = &metadata.classic {
            match is_there {
                true => self.classic_members += 1,
                false => self.classic_members = self.classic_members.saturating_sub(1),
            }
            for (protocol, _) in &classic.protocols {
                count(&mut self.classic_protocols, protocol, is_there);
            }
        }
        if current.state == MemberState::Stable {
            count_key(&mut self.stable, current.epoch, is_there);
        }
        self.own(&current.assigned, is_there);
        self.own(&current.revoking, is_there);
    }

    fn own(&mut self, partitions: &Partitions, is_there: bool) {
        for (topic, partitions) in partitions {
            let of_topic = self.owners.entry(*topic).or_default();
            for partition in partitions.keys() {
                count_key(of_topic, *partition, is_there);
            }
            if of_topic.is_empty() {
                self.owners.remove(topic);
            }
        }
    }

    fn resolve(&mut self, regex: &str, resolved: Option<Resolved>) {
        let mut count = |topics: &BTreeSet<String>, is_there| {
            for topic in topics {
                count_topic(&mut self.subscribed_topics, topic, is_there, |count| {
                    &mut count.by_regex
                });
            }
        };
        if let Some(before) = self.regexes.remove(regex) {
            count(&before.topics, false);
        }
        if let Some(resolved) = resolved {
            count(&resolved.topics, true);
            self.regexes.insert(regex.to_owned(), resolved);
        }
    }
}

fn count(counts: &mut BTreeMap<String, usize>, key: &str, is_there: bool) {
    if let Some(count) = counts.get_mut(key) {
        match is_there {
            true => *count += 1,
            false => *count = count.saturating_sub(1),
        }
        if *count == 0 {
            counts.remove(key);
        }
    } else if is_there {
        counts.insert(key.to_owned(), 1);
    }
}

fn count_key<K: Ord + Copy>(counts: &mut BTreeMap<K, usize>, key: K, is_there: bool) {
    let count = counts.entry(key).or_default();
    match is_there {
        true => *count += 1,
        false => *count = count.saturating_sub(1),
    }
    if *count == 0 {
        counts.remove(&key);
    }
}

fn count_topic(
    counts: &mut BTreeMap<String, Subscribers>,
    topic: &str,
    is_there: bool,
    of: impl Fn(&mut Subscribers) -> &mut usize,
) {
    if !counts.contains_key(topic) {
        counts.insert(topic.to_owned(), Subscribers::default());
    }
    if let Some(subscribers) = counts.get_mut(topic) {
        let count = of(subscribers);
        match is_there {
            true => *count += 1,
            false => *count = count.saturating_sub(1),
        }
        if subscribers.is_none() {
            counts.remove(topic);
        }
    }
}

fn target(value: &ConsumerGroupTargetAssignmentMemberValue) -> Assignment {
    let mut target = Assignment::new();
    for topic in &value.topic_partitions {
        target
            .entry(topic.topic_id)
            .or_default()
            .extend(topic.partitions.iter().copied());
    }
    target
}

fn resolved(value: &ConsumerGroupRegularExpressionValue<'_>) -> Resolved {
    Resolved {
        topics: (value.topics.iter())
            .map(|topic| topic.clone().into_owned())
            .collect(),
        version: value.version,
        timestamp: value.timestamp,
    }
}

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;

use super::*;

/// A group that owns its parts.
#[derive(Debug, Clone, Default)]
struct Group {
    counts: BTreeMap<TopicId, i32>,
    members: BTreeMap<String, Member>,
    homogeneous: bool,
}

#[derive(Debug, Clone, Default)]
struct Member {
    instance_id: Option<String>,
    topics: BTreeSet<TopicId>,
    owned: Assignment,
}

impl Group {
    fn new(counts: &[i32]) -> Group {
        Group {
            counts: (0..).map(topic).zip(counts.iter().copied()).collect(),
            members: BTreeMap::new(),
            homogeneous: true,
        }
    }

    fn member(mut self, id: &str, topics: &[u8]) -> Group {
        let topics = topics.iter().map(|index| topic(*index)).collect();
        let member = Member {
            topics,
            ..Member::default()
        };
        self.homogeneous &= self
            .members
            .values()
            .all(|other| other.topics == member.topics);
        self.members.insert(id.to_owned(), member);
        self
    }

    fn statically(mut self, id: &str, instance_id: &str) -> Group {
        if let Some(member) = self.members.get_mut(id) {
            member.instance_id = Some(instance_id.to_owned());
        }
        self
    }

    fn owning(mut self, id: &str, index: u8, partitions: impl IntoIterator<Item = i32>) -> Group {
        if let Some(member) = self.members.get_mut(id) {
            let partitions = partitions.into_iter().collect();
            member.owned.insert(topic(index), partitions);
        }
        self
    }

    fn assign(&self, assignor: Assignor) -> Result<BTreeMap<String, Assignment>, AssignError> {
        let members = self.members.iter().map(|(id, member)| {
            let spec = MemberSpec {
                instance_id: member.instance_id.as_deref(),
                topics: &member.topics,
                owned: &member.owned,
            };
            (id.as_str(), spec)
        });
        let spec = Spec {
            members: members.collect(),
            homogeneous: self.homogeneous,
        };
        let counts = |id| self.counts.get(&id).copied();
        let assignments = assign(assignor, &spec, &counts)?;
        Ok(assignments
            .into_iter()
            .map(|(id, assignment)| (id.to_owned(), assignment))
            .collect())
    }

    /// What every assignor promises, whatever members own.
    fn check(&self, assignments: &BTreeMap<String, Assignment>) {
        assert!(assignments.keys().eq(self.members.keys()));
        let mut assigned = BTreeSet::new();
        for (id, assignment) in assignments {
            for (topic, partitions) in assignment {
                assert!(self.members[id].topics.contains(topic), "{id} subscribes");
                assert!(!partitions.is_empty(), "no topic without a partition");
                for partition in partitions {
                    assert!(assigned.insert((*topic, *partition)), "{partition} twice");
                }
            }
        }
        let topics: BTreeSet<_> = self
            .members
            .values()
            .flat_map(|member| &member.topics)
            .collect();
        let subscribed: BTreeSet<_> = topics
            .into_iter()
            .flat_map(|topic| (0..self.counts[topic]).map(|partition| (*topic, partition)))
            .collect();
        assert_eq!(assigned, subscribed);
    }
}

fn topic(index: u8) -> TopicId {
    TopicId([index; 16])
}

fn size(assignment: &Assignment) -> usize {
    assignment.values().map(BTreeSet::len).sum()
}

/// `a: 0/0,1 1/2` and so on, one member after the other.
fn text(assignments: &BTreeMap<String, Assignment>) -> String {
    let members = assignments.iter().map(|(id, assignment)| {
        let topics = assignment.iter().map(|(topic, partitions)| {
            let partitions: Vec<_> = partitions.iter().map(i32::to_string).collect();
            format!("{}/{}", topic.0[0], partitions.join(","))
        });
        format!("{id}: {}", topics.collect::<Vec<_>>().join(" "))
    });
    members.collect::<Vec<_>>().join("; ")
}

fn check(assignor: Assignor, group: &Group, expected: &str) {
    let assignments = group.assign(assignor).expect("topics that exist");
    assert_eq!(text(&assignments), expected);
    group.check(&assignments);
}

#[test]
fn assignors_have_kafkas_names() {
    for assignor in Assignor::ALL {
        assert_eq!(Assignor::parse(assignor.name()), Some(assignor));
    }
    assert_eq!(Assignor::ALL.map(Assignor::name), ["uniform", "range"]);
    assert_eq!(Assignor::parse("sticky"), None);
}

#[test]
fn a_group_without_members_gets_nothing() {
    for assignor in Assignor::ALL {
        for homogeneous in [true, false] {
            let group = Group {
                homogeneous,
                ..Group::new(&[3])
            };
            check(assignor, &group, "");
        }
    }
}

#[test]
fn members_without_topics_get_nothing_and_are_named() {
    for assignor in Assignor::ALL {
        check(assignor, &Group::new(&[3]).member("a", &[]), "a: ");
    }
}

#[test]
fn a_topic_that_does_not_exist_is_an_error() {
    for assignor in Assignor::ALL {
        for homogeneous in [true, false] {
            let mut group = Group::new(&[3]).member("a", &[0, 7]);
            group.homogeneous = homogeneous;
            let error = group.assign(assignor).expect_err("no topic 7");
            assert_eq!(error, AssignError::UnknownTopic(topic(7)));
        }
    }
}

#[test]
fn range_gives_the_same_stretch_of_every_topic() {
    let group = Group::new(&[3, 3])
        .member("a", &[0, 1])
        .member("b", &[0, 1]);
    check(Assignor::Range, &group, "a: 0/0,1 1/0,1; b: 0/2 1/2");
}

#[test]
fn range_leaves_out_the_last_members_when_partitions_are_few() {
    let group = Group::new(&[1]).member("a", &[0]).member("b", &[0]);
    check(Assignor::Range, &group, "a: 0/0; b: ");
}

#[test]
fn range_puts_static_members_first_in_the_order_of_their_instance_ids() {
    let group = Group::new(&[4])
        .member("a", &[0])
        .member("b", &[0])
        .member("c", &[0])
        .member("d", &[0])
        .statically("b", "host-2")
        .statically("d", "host-1");
    check(Assignor::Range, &group, "a: 0/2; b: 0/1; c: 0/3; d: 0/0");
}

#[test]
fn range_orders_ids_as_java_does() {
    // In UTF-16 the crab is a surrogate pair, which sorts before the full-width letter.
    let group = Group::new(&[2])
        .member("\u{1f980}", &[0])
        .member("\u{ff21}", &[0]);
    check(Assignor::Range, &group, "\u{ff21}: 0/1; \u{1f980}: 0/0");
}

#[test]
fn uniform_revokes_as_little_as_balance_allows() {
    let group = Group::new(&[8])
        .member("a", &[0])
        .member("b", &[0])
        .member("c", &[0])
        .owning("a", 0, 0..4)
        .owning("b", 0, 4..5);
    check(
        Assignor::Uniform,
        &group,
        "a: 0/0,1,2; b: 0/4,5; c: 0/3,6,7",
    );
}

#[test]
fn uniform_lets_who_owns_one_more_keep_it() {
    let group = Group::new(&[3])
        .member("a", &[0])
        .member("b", &[0])
        .owning("a", 0, 0..1)
        .owning("b", 0, 1..3);
    check(Assignor::Uniform, &group, "a: 0/0; b: 0/1,2");
}

#[test]
fn uniform_balances_across_topics_with_different_subscribers() {
    let group = Group::new(&[4, 4])
        .member("a", &[0])
        .member("b", &[0, 1])
        .member("c", &[1]);
    let assignments = group.assign(Assignor::Uniform).expect("topics that exist");
    let mut sizes: Vec<_> = assignments.values().map(size).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 3, 3]);
    group.check(&assignments);
}

#[test]
fn uniform_forgets_topics_that_a_member_left() {
    let group = Group::new(&[2, 2])
        .member("a", &[0])
        .member("b", &[0, 1])
        .owning("a", 0, 0..2)
        .owning("a", 1, 0..2);
    check(Assignor::Uniform, &group, "a: 0/0,1; b: 1/0,1");
}

#[test]
fn a_partition_that_two_members_claim_stays_with_the_first() {
    for homogeneous in [true, false] {
        let mut group = Group::new(&[4])
            .member("a", &[0])
            .member("b", &[0])
            .owning("a", 0, 0..2)
            .owning("b", 0, 1..3);
        group.homogeneous = homogeneous;
        check(Assignor::Uniform, &group, "a: 0/0,1; b: 0/2,3");
    }
}

#[test]
fn owned_partitions_that_do_not_exist_are_ignored() {
    for homogeneous in [true, false] {
        let mut group = Group::new(&[2])
            .member("a", &[0])
            .member("b", &[0])
            .owning("a", 0, [i32::MIN, -1, 2, i32::MAX])
            .owning("b", 9, 0..5);
        group.homogeneous = homogeneous;
        check(Assignor::Uniform, &group, "a: 0/0; b: 0/1");
    }
}

#[test]
fn a_thousand_members_and_ten_thousand_partitions_are_assigned() {
    for homogeneous in [true, false] {
        let mut group = Group::new(&[500; 20]);
        let member = Member {
            topics: group.counts.keys().copied().collect(),
            ..Member::default()
        };
        for index in 0..1000 {
            group
                .members
                .insert(format!("member-{index}"), member.clone());
        }
        group.homogeneous = homogeneous;
        let assignments = group.assign(Assignor::Uniform).expect("topics that exist");
        group.check(&assignments);
        assert!(
            assignments
                .values()
                .all(|assignment| size(assignment) == 10)
        );
    }
}

const TOPICS: u8 = 5;

fn topics() -> impl Strategy<Value = BTreeSet<TopicId>> {
    btree_set((0..TOPICS).prop_map(topic), 0..=usize::from(TOPICS))
}

/// Whatever records of a damaged log may say.
fn owned() -> impl Strategy<Value = Assignment> {
    btree_map(
        (0..TOPICS + 1).prop_map(topic),
        btree_set(-2..12, 1..8),
        0..4,
    )
}

fn group() -> impl Strategy<Value = Group> {
    let member = (prop::option::of("[a-c]"), topics(), owned());
    let members = btree_map("[a-z]{1,3}", member, 1..9);
    let counts = prop::collection::vec(1..12, usize::from(TOPICS));
    (counts, members, topics(), any::<bool>()).prop_map(|(counts, members, shared, homogeneous)| {
        let mut group = Group::new(&counts);
        group.homogeneous = homogeneous;
        for (id, (instance_id, topics, owned)) in members {
            let member = Member {
                instance_id,
                topics: if homogeneous { shared.clone() } else { topics },
                owned,
            };
            group.members.insert(id, member);
        }
        group
    })
}

/// The group after it has taken what it was given.
fn settled(mut group: Group, assignments: BTreeMap<String, Assignment>) -> Group {
    for (member, assignment) in group.members.values_mut().zip(assignments.into_values()) {
        member.owned = assignment;
    }
    group
}

proptest! {
    #[test]
    fn every_partition_has_one_owner_that_subscribes(group in group()) {
        for assignor in Assignor::ALL {
            let assignments = group.assign(assignor).expect("topics that exist");
            group.check(&assignments);
        }
    }

    #[test]
    fn an_unchanged_group_keeps_its_assignment(group in group()) {
        for assignor in Assignor::ALL {
            let assignments = group.assign(assignor).expect("topics that exist");
            let group = settled(group.clone(), assignments.clone());
            prop_assert_eq!(group.assign(assignor), Ok(assignments));
        }
    }

    #[test]
    fn uniform_differs_by_at_most_one_where_subscriptions_are_equal(group in group(), homogeneous: bool) {
        prop_assume!(group.homogeneous);
        // Also where the group counts as heterogeneous for names that do not exist.
        let group = Group { homogeneous, ..group };
        let assignments = group.assign(Assignor::Uniform).expect("topics that exist");
        let sizes = || assignments.values().map(size);
        prop_assert!(sizes().max() <= sizes().min().map(|least| least + 1));
    }

    #[test]
    fn uniform_moves_nothing_from_members_below_their_quota_when_one_leaves(group in group()) {
        prop_assume!(group.homogeneous && group.members.len() > 1);
        let assignments = group.assign(Assignor::Uniform).expect("topics that exist");
        let mut group = settled(group, assignments.clone());
        group.members.pop_first();
        let after = group.assign(Assignor::Uniform).expect("topics that exist");
        for (id, assignment) in &after {
            for (topic, partitions) in &assignments[id] {
                prop_assert!(partitions.is_subset(&assignment[topic]), "{} lost some of {}", id, topic);
            }
        }
    }
}

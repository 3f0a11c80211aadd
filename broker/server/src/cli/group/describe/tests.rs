use esker_client::{Coordinator, Endpoint};
use esker_protocol::BrokerId;

use super::super::tests::{committed, end, place};
use super::*;

fn member(id: &str, owned: &[TopicPartition]) -> GroupMember {
    GroupMember {
        id: id.to_owned(),
        instance_id: None,
        client_id: "app".to_owned(),
        host: "/10.0.0.7".to_owned(),
        rack: None,
        epoch: Some(3),
        is_classic: false,
        assignment: Some(owned.iter().cloned().collect()),
        target: None,
    }
}

fn group(members: Vec<GroupMember>) -> DescribedGroup {
    let endpoint = Endpoint {
        host: "h".to_owned(),
        port: 9092,
    };
    DescribedGroup {
        group: "g".to_owned(),
        kind: GroupKind::Consumer,
        state: "Stable".to_owned(),
        protocol_type: "consumer".to_owned(),
        assignor: "uniform".to_owned(),
        epochs: Some((4, 3)),
        coordinator: Coordinator {
            broker: BrokerId(1),
            endpoint,
        },
        members,
    }
}

fn facts() -> (DescribedGroup, Vec<Progress>) {
    let group = group(vec![member("m1", &[place("a", 0)]), member("m2", &[])]);
    let offsets = BTreeMap::from([(place("a", 0), committed(5)), (place("a", 1), committed(2))]);
    let ends = BTreeMap::from([(place("a", 0), end(15)), (place("a", 1), end(3))]);
    let owned = owned(&group).into_keys().collect();
    let progress = progress(&offsets, &owned, &ends);
    (group, progress)
}

const BOTH: Parts = Parts {
    offsets: true,
    members: true,
};

#[test]
fn a_description_begins_with_the_lag() {
    let (group, progress) = facts();
    assert_eq!(
        shown(&group, &progress, BOTH),
        "group g  lag 11 over 2 partitions, at most 10 in a-0\n\
         state Stable  type consumer  protocol consumer  assignor uniform  coordinator 1 at h:9092  \
         members 2  epoch 4  assignment epoch 3\n\
         TOPIC  PARTITION  CURRENT  END  LAG  OWNER  CLIENT  HOST\n\
         a      0          5        15   10   m1     app     /10.0.0.7\n\
         a      1          2        3    1    -      -       -\n\
         MEMBER  CLIENT  HOST       INSTANCE  EPOCH  PARTITIONS  ASSIGNMENT\n\
         m1      app     /10.0.0.7  -         3      1           a:0\n\
         m2      app     /10.0.0.7  -         3      0           -"
    );
}

#[test]
fn one_part_can_be_shown_alone() {
    let (group, progress) = facts();
    let offsets = Parts {
        members: false,
        ..BOTH
    };
    let text = shown(&group, &progress, offsets);
    assert!(text.contains("PARTITION") && !text.contains("MEMBER  "));
    assert!(
        shown_json(&group, &progress, offsets)
            .get("members")
            .is_none()
    );
    let members = Parts {
        offsets: false,
        ..BOTH
    };
    let text = shown(&group, &progress, members);
    assert!(text.contains("MEMBER  ") && !text.contains("CURRENT"));
    assert!(
        shown_json(&group, &progress, members)
            .get("offsets")
            .is_none()
    );
}

#[test]
fn programs_get_the_lag_of_the_group_and_of_each_partition() {
    let (group, progress) = facts();
    let shown = shown_json(&group, &progress, BOTH);
    assert_eq!(shown["lag"], 11);
    assert_eq!(shown["offsets"][0]["lag"], 10);
    assert_eq!(shown["offsets"][0]["owners"], json!(["m1"]));
    assert_eq!(shown["members"][0]["assignment"], json!({"a": [0]}));
    assert_eq!(shown["members"][0]["target"], Value::Null);
}

#[test]
fn two_owners_of_one_partition_are_both_named() {
    let group = group(vec![
        member("m1", &[place("a", 0)]),
        member("m2", &[place("a", 0)]),
    ]);
    let owned = owned(&group).into_keys().collect();
    let progress = progress(&BTreeMap::new(), &owned, &BTreeMap::new());
    assert!(shown(&group, &progress, BOTH).contains("m1,m2"));
}

#[test]
fn an_assignment_that_nobody_can_read_is_said_to_be_unknown() {
    let mut odd = member("m\u{1b}[2J", &[]);
    odd.assignment = None;
    let text = shown(&group(vec![odd]), &[], BOTH);
    assert!(text.ends_with("3      ?           ?"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn assignments_are_short() {
    let partitions = [0, 1, 2, 5, 7, 8].map(|number| place("b", number));
    let mut all = BTreeSet::from(partitions);
    all.insert(place("a", i32::MAX));
    assert_eq!(compact(&all), "a:2147483647 b:0-2,5,7-8");
    assert_eq!(compact(&BTreeSet::new()), "");
}

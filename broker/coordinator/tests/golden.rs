//! The assignors against answers of Kafka 4.3.0's own; `e2e/assignors` writes and proves the files.

#[path = "../examples/assign/script.rs"]
mod script;

const GROUPS: &str = include_str!("../testdata/groups.txt");
const ASSIGNMENTS: &str = include_str!("../testdata/assignments.txt");

#[test]
fn groups_are_assigned_as_kafka_assigns_them() {
    let mut group = script::Group::default();
    let mut expected = ASSIGNMENTS.lines();
    for line in GROUPS.lines() {
        let answer = group.apply(line).expect("a script without errors");
        for answer in answer.lines() {
            assert_eq!(Some(answer), expected.next(), "after `{line}`");
        }
    }
    assert_eq!(expected.next(), None);
    assert!(ASSIGNMENTS.lines().count() > 1000);
}

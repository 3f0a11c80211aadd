use super::{Bench, assigned, join};

#[test]
fn a_topic_that_grows_is_assigned_at_the_next_heartbeat() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.world.grow("foo", 3);
    let response = bench.beat("a", 2);
    assert_eq!((response.member_epoch, assigned(&response)), (3, Some(vec![0, 1, 2])));
    assert_eq!(bench.types(), [3, 7, 6, 8]);
}

#[test]
fn a_change_of_other_topics_does_not_rebalance() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.world.create("bar", 1);
    bench.beat("a", 2);
    assert!(bench.types().is_empty());
}

#[test]
fn a_topic_is_assigned_once_it_is_created() {
    let mut bench = Bench::new();
    let response = bench.send(&join("a", &["foo"]));
    assert_eq!((response.member_epoch, assigned(&response)), (2, Some(vec![])));
    bench.pass(1_000);
    bench.world.create("foo", 1);
    let response = bench.beat("a", 2);
    assert_eq!((response.member_epoch, assigned(&response)), (3, Some(vec![0])));
}

#[test]
fn a_topic_that_is_deleted_is_taken_from_its_owner() {
    let (mut bench, foo) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.world.delete("foo");
    let response = bench.beat("a", 2);
    assert_eq!((response.member_epoch, assigned(&response)), (2, Some(vec![])));
    let response = bench.own("a", 2, foo, &[]);
    assert_eq!((response.member_epoch, assigned(&response)), (3, None));
    assert_eq!(bench.group.state_name(), "Stable");
}

#[test]
fn a_topic_that_was_made_anew_under_its_name_is_another_one() {
    let (mut bench, before) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.world.delete("foo");
    let after = bench.world.create("foo", 2);
    let response = bench.beat("a", 2);
    assert_eq!((response.member_epoch, assigned(&response)), (2, Some(vec![])));
    let response = bench.own("a", 2, before, &[]);
    assert_eq!((response.member_epoch, assigned(&response)), (3, Some(vec![0, 1])));
    let told = response.assignment.expect("it changed");
    assert_eq!(told.topic_partitions[0].topic_id, after);
}

#[test]
fn a_loaded_group_looks_at_its_topics() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.world.grow("foo", 2);
    bench.reload();
    assert_eq!(bench.beat("a", 2).member_epoch, 3);
}

#[test]
fn a_description_names_topics_and_shows_what_is_yet_to_be_given_up() {
    let (mut bench, foo) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.send(&join("b", &["foo"]));
    bench.beat("a", 2);
    let view = crate::view::View {
        topics: &bench.world,
        configuration: &bench.world,
        now: bench.now(),
    };
    let described = bench.group.describe(&view);
    assert_eq!(described.group_state, "Reconciling");
    assert_eq!((described.group_epoch, described.assignment_epoch), (3, 3));
    let [a, b] = &described.members[..] else {
        panic!("two members: {described:?}");
    };
    assert_eq!((a.member_epoch, b.member_epoch), (2, 3));
    assert_eq!(a.client_host, "/127.0.0.1");
    let held = &a.assignment.topic_partitions[0];
    assert_eq!((held.topic_id, &*held.topic_name), (foo, "foo"));
    assert_eq!(held.partitions, [0, 1]);
    assert_eq!(a.target_assignment.topic_partitions[0].partitions, [0]);
    assert!(b.assignment.topic_partitions.is_empty());
    assert_eq!(b.target_assignment.topic_partitions[0].partitions, [1]);
    assert_eq!(a.member_type, 1);
    assert!(bench.group.subscribes_to("foo"));
    assert!(!bench.group.subscribes_to("bar"));
}

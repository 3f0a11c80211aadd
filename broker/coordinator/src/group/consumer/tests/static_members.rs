use std::borrow::Cow;

use esker_protocol::ErrorCode;
use esker_protocol::messages::ConsumerGroupHeartbeatRequest;

use super::{Bench, assigned, beat, join};

fn with_instance<'a>(
    request: ConsumerGroupHeartbeatRequest<'a>,
    instance: &'a str,
) -> ConsumerGroupHeartbeatRequest<'a> {
    ConsumerGroupHeartbeatRequest {
        instance_id: Some(Cow::Borrowed(instance)),
        ..request
    }
}

#[test]
fn a_static_member_that_comes_back_gets_what_it_had_without_a_rebalance() {
    let (mut bench, topic) = Bench::with_topic("foo", 2);
    bench.send(&with_instance(join("a", &["foo"]), "one"));
    let response = bench.send(&with_instance(beat("a", -2), "one"));
    assert_eq!((response.error_code, response.member_epoch), (0, -2));
    assert_eq!(bench.types(), [8]);
    assert_eq!(bench.epoch(), 2);
    // Commits under its old id are refused from now on.
    assert_eq!(
        bench.group.validate_commit("a", None, 2, 9, topic, 0),
        Err(ErrorCode::StaleMemberEpoch)
    );

    let response = bench.send(&with_instance(join("b", &["foo"]), "one"));
    assert_eq!((response.member_epoch, assigned(&response)), (2, Some(vec![0, 1])));
    assert_eq!(bench.types(), [-8, -7, -5, 5, 7, 8, 8]);
    assert_eq!(bench.epoch(), 2);
    assert!(bench.group.state.member("a").is_none());
    assert_eq!(bench.group.validate_commit("b", None, 0, 9, topic, 0), Ok(()));
}

#[test]
fn a_static_member_that_stays_away_is_removed_when_its_session_ends() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.send(&with_instance(join("a", &["foo"]), "one"));
    bench.pass(10_000);
    bench.send(&with_instance(beat("a", -2), "one"));
    bench.pass(34_999);
    assert!(bench.group.has_members());
    bench.pass(1);
    assert_eq!(bench.group.state_name(), "Empty");
}

#[test]
fn an_instance_id_belongs_to_one_member() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.send(&with_instance(join("a", &["foo"]), "one"));
    let response = bench.send(&with_instance(join("b", &["foo"]), "one"));
    assert_eq!(response.error_code, ErrorCode::UnreleasedInstanceId.code());
    assert_eq!(
        response.error_message.as_deref(),
        Some(
            "Static member b with instance id one cannot join the group because the instance id is \
             owned by a member."
        )
    );
    let fenced = ErrorCode::FencedInstanceId.code();
    for epoch in [2, -1, -2] {
        let response = bench.send(&with_instance(beat("b", epoch), "one"));
        assert_eq!(response.error_code, fenced);
    }
    let unknown = ErrorCode::UnknownMemberId.code();
    for epoch in [2, -1, -2] {
        let response = bench.send(&with_instance(beat("a", epoch), "two"));
        assert_eq!(response.error_code, unknown);
    }
    let response = bench.send(&with_instance(beat("a", -1), "one"));
    assert_eq!((response.error_code, response.member_epoch), (0, -1));
    assert_eq!(bench.types(), [-8, -7, -5, 3]);
}

#[test]
fn a_static_member_may_repeat_a_join_whose_reply_was_lost() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.send(&with_instance(join("a", &["foo"]), "one"));
    let response = bench.send(&with_instance(join("a", &["foo"]), "one"));
    assert_eq!((response.error_code, response.member_epoch), (0, 2));
    assert_eq!(assigned(&response), Some(vec![0, 1]));
}

#[test]
fn a_successor_that_wants_something_else_bumps_the_epoch() {
    let (mut bench, foo) = Bench::with_topic("foo", 2);
    bench.world.create("bar", 1);
    bench.send(&with_instance(join("a", &["foo"]), "one"));
    bench.send(&with_instance(beat("a", -2), "one"));
    bench.pass(1_000);
    let response = bench.send(&with_instance(join("b", &["foo", "bar"]), "one"));
    assert_eq!(response.member_epoch, 3);
    assert_eq!(bench.types(), [-8, -7, -5, 5, 7, 8, 5, 3, 7, 6, 8]);
    let told = response.assignment.expect("it joined").topic_partitions;
    assert_eq!(told.len(), 2);
    assert!(told.iter().any(|told| told.topic_id == foo));
    assert_eq!(bench.group.state_name(), "Stable");
}

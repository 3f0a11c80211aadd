use std::borrow::Cow;

use esker_protocol::ErrorCode;
use esker_protocol::messages::ConsumerGroupHeartbeatRequest;
use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;

use super::{Bench, assigned, beat, join, member_of};

#[test]
fn the_first_member_gets_everything_in_one_batch_in_kafkas_order() {
    let (mut bench, _) = Bench::with_topic("foo", 3);
    let response = bench.send(&join("a", &["foo"]));
    assert_eq!(response.error_code, 0);
    assert_eq!(response.member_id.as_deref(), Some("a"));
    assert_eq!(response.member_epoch, 2);
    assert_eq!(assigned(&response), Some(vec![0, 1, 2]));
    assert_eq!(bench.types(), [5, 3, 7, 6, 8]);
    assert_eq!(bench.epoch(), 2);
    assert_eq!(bench.group.state_name(), "Stable");
}

#[test]
fn members_are_heard_sooner_while_their_group_changes() {
    let (mut bench, topic) = Bench::with_topic("foo", 2);
    bench.world.settings.group.consumer_assignment_interval_ms = 1_000;
    let first = bench.send(&join("a", &["foo"]));
    assert_eq!(first.heartbeat_interval_ms, 1_000, "its target is young");
    bench.pass(400);
    let second = bench.send(&join("b", &["foo"]));
    assert_eq!(second.heartbeat_interval_ms, 600, "the next target is due");
    bench.pass(600);
    let waits = bench.beat("b", second.member_epoch);
    assert_eq!(waits.heartbeat_interval_ms, 250, "it waits for another");
    bench.pass(2_000);
    let waits = bench.beat("b", waits.member_epoch);
    assert_eq!(waits.heartbeat_interval_ms, 1_000, "it has waited for long");
    bench.pass(30_000);
    let waits = bench.beat("b", waits.member_epoch);
    assert_eq!(
        waits.heartbeat_interval_ms, 5_000,
        "a whole interval at most"
    );
    let gives_up = bench.beat("a", first.member_epoch);
    let kept = assigned(&gives_up).expect("it gives one up");
    let told = bench.own("a", first.member_epoch, topic, &kept);
    assert_eq!(told.heartbeat_interval_ms, 5_000);
    let takes = bench.beat("b", waits.member_epoch);
    assert_eq!(assigned(&takes).map(|taken| taken.len()), Some(1));
    assert_eq!(takes.heartbeat_interval_ms, 5_000);
}

#[test]
fn a_clock_that_was_set_back_hurries_nobody() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    let joined = bench.send(&join("a", &["foo"]));
    bench.now_ms -= 500_000;
    let told = bench.beat("a", joined.member_epoch);
    assert_eq!(told.heartbeat_interval_ms, 5_000);
}

#[test]
fn a_member_without_an_id_gets_one_in_version_0() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    let view = crate::view::View {
        topics: &bench.world,
        configuration: &bench.world,
        now: bench.now(),
    };
    let context = crate::step::RequestContext {
        version: 0,
        ..super::CONTEXT
    };
    let request = join("", &["foo"]);
    let (_, response) = bench.group.heartbeat(
        &request,
        &context,
        &view,
        &mut bench.timers,
        &mut bench.random,
    );
    assert_eq!(response.error_code, 0);
    assert_eq!(response.member_id.map(|id| id.len()), Some(22));
}

#[test]
fn a_heartbeat_that_says_nothing_new_writes_nothing_and_is_told_nothing() {
    let (mut bench, topic) = Bench::with_topic("foo", 3);
    bench.send(&join("a", &["foo"]));
    let response = bench.beat("a", 2);
    assert_eq!(response.member_epoch, 2);
    assert_eq!(assigned(&response), None);
    assert!(bench.types().is_empty());
    let response = bench.own("a", 2, topic, &[0, 1, 2]);
    assert_eq!(assigned(&response), None);
    assert!(bench.types().is_empty());
}

#[test]
fn a_full_request_is_told_its_assignment() {
    let (mut bench, topic) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    let response = bench.send(&ConsumerGroupHeartbeatRequest {
        member_epoch: 2,
        topic_partitions: Some(vec![TopicPartitions {
            topic_id: topic,
            partitions: vec![0],
        }]),
        ..join("a", &["foo"])
    });
    assert_eq!(assigned(&response), Some(vec![0, 1]));
    assert!(bench.types().is_empty());
}

#[test]
fn a_partition_moves_once_its_owner_gave_it_up() {
    let (mut bench, topic) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    let response = bench.send(&join("b", &["foo"]));
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (3, Some(vec![]))
    );
    assert_eq!(bench.types(), [5, 3, 7, 7, 6, 8]);
    assert_eq!(bench.group.state_name(), "Reconciling");

    // Asked to give up a partition, a stays in its epoch.
    let response = bench.beat("a", 2);
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (2, Some(vec![0]))
    );
    assert_eq!(bench.beat("b", 3).assignment, None);
    assert_eq!(bench.beat("a", 2).assignment, None);

    let response = bench.own("a", 2, topic, &[0]);
    assert_eq!((response.member_epoch, assigned(&response)), (3, None));
    let response = bench.beat("b", 3);
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (3, Some(vec![1]))
    );
    assert_eq!(bench.group.state_name(), "Stable");
}

#[test]
fn the_target_is_computed_once_in_an_interval() {
    let (mut bench, _) = Bench::with_topic("foo", 4);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.send(&join("b", &["foo"]));
    let response = bench.send(&join("c", &["foo"]));
    assert_eq!(bench.types(), [5, 3, 8], "no target yet");
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (3, Some(vec![]))
    );
    assert_eq!(bench.group.state_name(), "Assigning");
    bench.pass(999);
    bench.beat("c", 3);
    assert!(bench.types().is_empty());
    bench.pass(1);
    let response = bench.beat("c", 3);
    assert!(bench.types().contains(&6));
    assert_eq!(response.member_epoch, 4);
}

#[test]
fn a_wall_clock_that_went_back_does_not_stop_the_target() {
    let (mut bench, _) = Bench::with_topic("foo", 4);
    bench.send(&join("a", &["foo"]));
    bench.now_ms -= 100_000;
    bench.send(&join("b", &["foo"]));
    assert!(bench.types().contains(&6));
}

#[test]
fn wrong_epochs_are_fenced_and_a_lost_reply_is_forgiven() {
    let (mut bench, topic) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.send(&join("b", &["foo"]));
    bench.beat("a", 2);
    // The reply that tells epoch 3 is lost.
    bench.own("a", 2, topic, &[0]);
    let response = bench.own("a", 2, topic, &[0]);
    assert_eq!((response.error_code, response.member_epoch), (0, 3));
    let fenced = ErrorCode::FencedMemberEpoch.code();
    assert_eq!(bench.own("a", 2, topic, &[0, 1]).error_code, fenced);
    assert_eq!(bench.beat("a", 2).error_code, fenced);
    assert_eq!(bench.beat("a", 1).error_code, fenced);
    let response = bench.beat("a", 4);
    assert_eq!(response.error_code, fenced);
    assert_eq!(
        response.error_message.as_deref(),
        Some(
            "The consumer group member has a greater member epoch (4) than the one known by the \
             group coordinator (3). The member must abandon all its partitions and rejoin."
        )
    );
    // It comes back with nothing and is told all that is its own.
    let response = bench.send(&join("a", &["foo"]));
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (3, Some(vec![0]))
    );
    let unknown = ErrorCode::UnknownMemberId.code();
    assert_eq!(bench.beat("c", 1).error_code, unknown);
    assert_eq!(bench.beat("c", -1).error_code, unknown);
}

#[test]
fn a_group_that_is_not_there_is_not_found() {
    let mut bench = Bench::new();
    let not_found = ErrorCode::GroupIdNotFound.code();
    assert_eq!(bench.beat("a", 1).error_code, not_found);
    assert_eq!(bench.beat("a", -1).error_code, not_found);
}

#[test]
fn a_member_that_leaves_is_removed_in_kafkas_order() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    let response = bench.beat("a", -1);
    assert_eq!((response.error_code, response.member_epoch), (0, -1));
    assert_eq!(bench.types(), [-8, -7, -5, 3]);
    assert_eq!(bench.epoch(), 3);
    assert_eq!(bench.group.state_name(), "Empty");
    assert!(bench.timers.is_empty());

    let records = bench.group.tombstones();
    bench.apply(&records);
    assert_eq!(bench.types(), [-6, -4, -3]);
    assert!(bench.group.is_empty_state());
}

#[test]
fn a_member_of_which_nothing_is_heard_is_removed() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.send(&join("b", &["foo"]));
    bench.pass(44_000);
    assert!(bench.group.state.member("a").is_none());
    let response = bench.beat("b", 3);
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (4, Some(vec![0, 1]))
    );
    bench.pass(44_999);
    assert!(bench.group.state.member("b").is_some());
    bench.pass(1);
    assert_eq!(bench.group.state_name(), "Empty");
}

#[test]
fn a_member_that_gives_nothing_up_is_removed_after_its_rebalance_timeout() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.send(&join("b", &["foo"]));
    bench.beat("a", 2);
    for _ in 0..2 {
        bench.pass(14_999);
        bench.beat("a", 2);
        bench.beat("b", 3);
    }
    assert!(bench.group.state.member("a").is_some());
    bench.pass(2);
    assert!(bench.group.state.member("a").is_none());
    let removed = member_of(&bench.log[bench.last_batch]);
    assert_eq!(removed.as_deref(), Some("a"));
}

#[test]
fn timers_start_again_when_a_group_is_loaded() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.send(&join("b", &["foo"]));
    bench.beat("a", 2);
    bench.pass(20_000);
    bench.reload();
    bench.pass(29_999);
    assert!(bench.group.state.member("a").is_some());
    bench.pass(1);
    assert!(
        bench.group.state.member("a").is_none(),
        "its rebalance timeout"
    );
    bench.pass(15_000);
    assert_eq!(bench.group.state_name(), "Empty");
}

#[test]
fn a_topic_that_a_member_leaves_is_taken_from_it_at_once() {
    let (mut bench, foo) = Bench::with_topic("foo", 1);
    bench.world.create("bar", 1);
    bench.send(&join("a", &["foo", "bar"]));
    // The target is too young to be computed again.
    let response = bench.send(&ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(super::names(&["foo"])),
        ..beat("a", 2)
    });
    assert_eq!(response.member_epoch, 2);
    let told = response.assignment.expect("it changed").topic_partitions;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].topic_id, foo);
    assert_eq!(bench.types(), [5, 3, 8]);
}

#[test]
fn the_assignor_that_most_ask_for_is_used() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    let with = |member, assignor| ConsumerGroupHeartbeatRequest {
        server_assignor: Some(Cow::Borrowed(assignor)),
        ..join(member, &["foo"])
    };
    let assignor = |bench: &Bench| {
        let view = crate::view::View {
            topics: &bench.world,
            configuration: &bench.world,
            now: bench.now(),
        };
        bench.group.describe(&view).assignor_name.into_owned()
    };
    bench.send(&join("a", &["foo"]));
    assert_eq!(assignor(&bench), "uniform");
    bench.send(&with("b", "range"));
    assert_eq!(assignor(&bench), "range");
    bench.send(&with("c", "uniform"));
    assert_eq!(assignor(&bench), "uniform", "of equally many the first one");
    let response = bench.send(&with("d", "sticky"));
    assert_eq!(response.error_code, ErrorCode::UnsupportedAssignor.code());
    assert_eq!(
        response.error_message.as_deref(),
        Some("ServerAssignor sticky is not supported. Supported assignors: uniform, range.")
    );
}

#[test]
fn commits_pass_from_the_epoch_in_which_a_partition_was_given() {
    let (mut bench, topic) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    bench.pass(1_000);
    bench.send(&join("b", &["foo"]));
    bench.beat("a", 2);
    bench.own("a", 2, topic, &[0]);
    bench.beat("b", 3);
    let commit = |member: &str, epoch, version, partition| {
        bench
            .group
            .validate_commit(member, None, epoch, version, topic, partition)
    };
    assert_eq!(commit("a", 3, 9, 0), Ok(()));
    assert_eq!(commit("a", 2, 9, 0), Ok(()), "it has had it since epoch 2");
    assert_eq!(commit("b", 2, 9, 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(commit("a", 2, 9, 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(commit("a", 4, 9, 0), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(commit("a", 3, 8, 0), Err(ErrorCode::UnsupportedVersion));
    assert_eq!(commit("c", 3, 9, 0), Err(ErrorCode::UnknownMemberId));
    assert_eq!(commit("", -1, 9, 0), Err(ErrorCode::UnknownMemberId));
    let fetch = |member, epoch| bench.group.validate_fetch(member, epoch);
    assert_eq!(fetch(None, -1), Ok(()));
    assert_eq!(fetch(Some("a"), 3), Ok(()));
    assert_eq!(fetch(Some("a"), 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(fetch(Some("c"), 2), Err(ErrorCode::UnknownMemberId));
    assert_eq!(fetch(None, 3), Err(ErrorCode::UnknownServerError));

    bench.beat("a", -1);
    bench.beat("b", -1);
    let nobody = bench.group.validate_commit("", None, -1, 8, topic, 0);
    assert_eq!(nobody, Ok(()));
}

use std::borrow::Cow;

use esker_protocol::ErrorCode;
use esker_protocol::messages::ConsumerGroupHeartbeatRequest;
use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;

use super::super::check_heartbeat;
use super::{Bench, beat, join};
use crate::view::Settings;

type Request = ConsumerGroupHeartbeatRequest<'static>;

#[test]
fn requests_that_say_too_little_or_too_much_are_refused_in_kafkas_words() {
    let text = |text: &'static str| Some(Cow::Borrowed(text));
    let joins = || join("a", &["foo"]);
    let cases: Vec<(Request, &str)> = vec![
        (join(" ", &["foo"]), "MemberId can't be empty."),
        (beat("", 1), "MemberId can't be empty."),
        (beat("", -1), "MemberId can't be empty."),
        (
            Request { group_id: Cow::Borrowed(""), ..joins() },
            "GroupId can't be empty.",
        ),
        (
            Request { instance_id: text(""), ..joins() },
            "InstanceId can't be empty.",
        ),
        (
            Request { rack_id: text(" "), ..joins() },
            "RackId can't be empty.",
        ),
        (
            Request { rebalance_timeout_ms: -1, ..joins() },
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            Request { topic_partitions: None, ..joins() },
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            Request {
                topic_partitions: Some(vec![TopicPartitions::default()]),
                ..joins()
            },
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            Request { subscribed_topic_names: None, ..joins() },
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        (beat("a", -2), "InstanceId can't be null."),
        (beat("a", -3), "MemberEpoch is invalid."),
    ];
    for (request, message) in cases {
        let refusal = check_heartbeat(&request, 1, &Settings::default()).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidRequest);
        assert_eq!(refusal.message, message);
    }
    assert!(check_heartbeat(&join("", &["foo"]), 0, &Settings::default()).is_ok());
    let off = Settings {
        consumer_enabled: false,
        ..Settings::default()
    };
    let refusal = check_heartbeat(&joins(), 1, &off).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::UnsupportedVersion);
}

#[test]
fn a_full_group_takes_no_more_members() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.world.settings.consumer_members_max = 1;
    bench.send(&join("a", &["foo"]));
    let response = bench.send(&join("b", &["foo"]));
    assert_eq!(response.error_code, ErrorCode::GroupMaxSizeReached.code());
    assert_eq!(
        response.error_message.as_deref(),
        Some("The consumer group has reached its maximum capacity of 1 members.")
    );
    assert_eq!(bench.beat("a", 2).error_code, 0);
    assert_eq!(bench.send(&join("a", &["foo"])).error_code, 0);
}

#[test]
fn what_does_not_fit_into_a_batch_is_refused_and_forgotten() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.world.settings.batch_bytes_max = 2_000;
    let topics: Vec<String> = (0..300).map(|number| format!("topic-{number}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let response = bench.send(&join("a", &topics));
    assert_eq!(response.error_code, ErrorCode::UnknownServerError.code());
    assert!(bench.log.is_empty());
    let long = "a|".repeat(2_000) + "b";
    let response = bench.send(&Request {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(Cow::Owned(long)),
        ..join("a", &[])
    });
    assert_eq!(response.error_code, ErrorCode::UnknownServerError.code());
    assert!(bench.log.is_empty());
    assert_eq!(bench.send(&join("a", &["foo"])).member_epoch, 2);
}

#[test]
fn a_client_cannot_be_made_to_own_what_it_invents() {
    let (mut bench, topic) = Bench::with_topic("foo", 1);
    bench.send(&join("a", &["foo"]));
    let invented: Vec<i32> = (-500..500).collect();
    let response = bench.own("a", 2, topic, &invented);
    assert_eq!(response.error_code, 0);
    assert!(bench.types().is_empty());
    let held = &bench.group.state.member("a").expect("it joined").current;
    assert_eq!(held.assigned[&topic].len(), 1);
}

#[test]
fn a_thousand_members_find_their_places() {
    let (mut bench, topic) = Bench::with_topic("foo", 1_000);
    bench.world.settings.group.consumer_assignment_interval_ms = 10_000;
    let ids: Vec<String> = (0..1_000).map(|number| format!("member-{number}")).collect();
    for id in &ids {
        assert_eq!(bench.send(&join(id, &["foo"])).error_code, 0);
    }
    bench.pass(10_000);
    // The first one has all but one partition to give up.
    let first = bench.beat(&ids[0], 2);
    let kept = super::assigned(&first).expect("it changed");
    assert_eq!(kept.len(), 1);
    assert_eq!(bench.own(&ids[0], 2, topic, &kept).member_epoch, bench.epoch());
    for id in &ids[1..] {
        let epoch = bench.group.state.member(id).expect("it joined").current.epoch;
        let response = bench.beat(id, epoch);
        assert_eq!(super::assigned(&response).map(|it| it.len()), Some(1));
    }
    assert_eq!(bench.group.state_name(), "Stable");
    bench.reload();
    assert_eq!(bench.group.state_name(), "Stable");
}

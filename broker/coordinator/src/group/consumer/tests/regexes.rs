use std::borrow::Cow;

use esker_protocol::ErrorCode;
use esker_protocol::messages::ConsumerGroupHeartbeatRequest;

use super::{Bench, assigned, beat, join};

fn join_by<'a>(member: &str, regex: &'a str) -> ConsumerGroupHeartbeatRequest<'a> {
    ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(Cow::Borrowed(regex)),
        ..join(member, &[])
    }
}

#[test]
fn an_expression_is_resolved_apart_from_the_heartbeat() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.world.create("bar", 1);
    let response = bench.send(&join_by("a", "fo+"));
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (1, Some(vec![]))
    );
    assert_eq!(bench.types(), [5, 8]);
    bench.pass(0);
    assert_eq!(bench.types(), [16, 3]);
    assert_eq!(bench.epoch(), 2);
    assert!(bench.group.subscribes_to("foo"));
    let response = bench.beat("a", 1);
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (2, Some(vec![0, 1]))
    );
}

#[test]
fn a_new_topic_is_found_at_most_every_ten_seconds() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    bench.send(&join_by("a", "f.*"));
    bench.pass(0);
    bench.pass(1_000);
    bench.beat("a", 1);
    bench.world.create("fun", 1);
    bench.beat("a", 2);
    bench.pass(8_999);
    bench.beat("a", 2);
    assert_eq!(bench.epoch(), 2);
    bench.pass(1);
    assert_eq!(bench.types(), [16, 3]);
    let response = bench.beat("a", 2);
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (3, Some(vec![0, 0]))
    );
}

#[test]
fn what_matches_nothing_new_is_written_again_after_ten_minutes_only() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    bench.send(&join_by("a", "f.*"));
    bench.pass(0);
    bench.beat("a", 1);
    bench.world.create("bar", 1);
    let mut written = 0;
    for _ in 0..30 {
        bench.pass(20_000);
        bench.beat("a", 2);
        bench.pass(0);
        written += bench.log.len() - bench.last_batch;
    }
    assert_eq!(written, 0);
    bench.pass(20_000);
    bench.beat("a", 2);
    bench.pass(0);
    assert_eq!(bench.types(), [16]);
    assert_eq!(bench.epoch(), 2);
}

#[test]
fn an_expression_that_is_none_is_refused() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    let response = bench.send(&join_by("a", "["));
    assert_eq!(
        response.error_code,
        ErrorCode::InvalidRegularExpression.code()
    );
    let message = response.error_message.expect("it says why");
    assert!(message.starts_with("SubscribedTopicRegex `[` is not a valid regular expression: "));
    assert!(!bench.group.has_members());
}

#[test]
fn an_expression_that_matches_more_than_a_batch_holds_does_not_stop_the_others() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    for index in 0..40 {
        bench
            .world
            .create(&format!("{}{index}", "b".repeat(200)), 1);
    }
    bench.world.settings.batch_bytes_max = 4_000;
    bench.send(&join_by("a", "b.*"));
    bench.send(&join_by("b", "fo+"));
    bench.pass(0);
    assert!(bench.group.subscribes_to("foo"));
    assert!(!bench.group.subscribes_to(&format!("{}0", "b".repeat(200))));
}

#[test]
fn an_expression_that_nobody_uses_any_more_is_forgotten() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    bench.send(&join_by("a", "f.*"));
    bench.pass(0);
    bench.pass(1_000);
    bench.send(&join_by("b", "f.*"));
    assert!(bench.types().contains(&3), "it is resolved already");
    bench.beat("b", -1);
    assert_eq!(bench.types(), [-8, -7, -5, 3]);
    bench.pass(1_000);
    bench.send(&ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(super::names(&["foo"])),
        subscribed_topic_regex: Some(Cow::Borrowed("")),
        ..beat("a", 1)
    });
    assert!(bench.types().starts_with(&[5, -16, 3]));
    assert!(bench.group.subscribes_to("foo"));
    assert!(bench.group.state.regexes().is_empty());
}

#[test]
fn the_last_member_takes_its_expression_along() {
    let (mut bench, _) = Bench::with_topic("foo", 1);
    bench.send(&join_by("a", "f.*"));
    bench.pass(0);
    bench.beat("a", -1);
    assert_eq!(bench.types(), [-8, -7, -5, -16, 3]);
    assert!(!bench.group.subscribes_to("foo"));
    assert!(bench.timers.is_empty());
}

//! Groups of a shard that change their type.

use std::borrow::Cow;

use esker_protocol::ErrorCode;
use esker_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use esker_protocol::messages::leave_group_request::MemberIdentity;
use esker_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use esker_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};

use crate::view::{MigrationPolicy, Settings};
use crate::world::World;
use crate::{Request, Response};

/// A version in which members need no id to join.
const JOIN_VERSION: i16 = 3;

/// Version 0, the topic `t`, no user data.
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";

fn join<'a>(member: &'a str, protocol_type: &'a str) -> Request<'a> {
    Request::JoinGroup(JoinGroupRequest {
        group_id: Cow::Borrowed("g"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 20_000,
        member_id: Cow::Borrowed(member),
        protocol_type: Cow::Borrowed(protocol_type),
        protocols: vec![JoinGroupRequestProtocol {
            name: Cow::Borrowed("range"),
            metadata: Cow::Borrowed(SUBSCRIPTION),
        }],
        ..JoinGroupRequest::default()
    })
}

fn joined(response: Response) -> JoinGroupResponse<'static> {
    match response {
        Response::JoinGroup(response) => response,
        other => panic!("{other:?}"),
    }
}

fn beat(world: &mut World, member: &str, generation: i32) -> i16 {
    let request = HeartbeatRequest {
        group_id: Cow::Borrowed("g"),
        member_id: Cow::Borrowed(member),
        generation_id: generation,
        ..HeartbeatRequest::default()
    };
    match world.ask(Request::Heartbeat(request), 3) {
        Response::Heartbeat(response) => response.error_code,
        other => panic!("{other:?}"),
    }
}

fn sync(world: &mut World, member: &str, generation: i32) -> i16 {
    let request = SyncGroupRequest {
        group_id: Cow::Borrowed("g"),
        member_id: Cow::Borrowed(member),
        generation_id: generation,
        assignments: vec![SyncGroupRequestAssignment {
            member_id: Cow::Borrowed(member),
            assignment: Cow::Borrowed(b"\0\0\0\0\0\0\xff\xff\xff\xff"),
        }],
        ..SyncGroupRequest::default()
    };
    match world.ask(Request::SyncGroup(request), 3) {
        Response::SyncGroup(response) => response.error_code,
        other => panic!("{other:?}"),
    }
}

fn consumer_beat(world: &mut World, epoch: i32) -> ConsumerGroupHeartbeatResponse<'static> {
    let is_joining = epoch == 0;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: Cow::Borrowed("g"),
        member_id: Cow::Borrowed("new"),
        member_epoch: epoch,
        rebalance_timeout_ms: if is_joining { 20_000 } else { -1 },
        subscribed_topic_names: is_joining.then(|| vec![Cow::Borrowed("t")]),
        topic_partitions: is_joining.then(Vec::new),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    match world.ask(Request::ConsumerGroupHeartbeat(request), 1) {
        Response::ConsumerGroupHeartbeat(response) => response,
        other => panic!("{other:?}"),
    }
}

/// A stable classic group of one member, in generation 1.
fn classic(settings: Settings, protocol_type: &str) -> (World, String) {
    let mut world = World::with(settings);
    let ticket = world.send(join("", protocol_type), JOIN_VERSION);
    world.advance(3_000);
    let response = joined(world.reply(ticket).expect("the first rebalance is over"));
    assert_eq!((response.error_code, response.generation_id), (0, 1));
    let member = response.member_id.into_owned();
    assert_eq!(sync(&mut world, &member, 1), 0);
    (world, member)
}

fn check(world: &World, group_type: &'static str, state: &'static str) {
    let groups = world.shard.groups();
    assert_eq!(groups.get(&(group_type, state)), Some(&1), "{groups:?}");
    let replayed = world.replayed(world.log_len());
    assert_eq!(replayed.durable_state(), world.shard.durable_state());
}

#[test]
fn a_live_group_becomes_a_consumer_group_and_a_classic_one_again() {
    let (mut world, member) = classic(Settings::default(), "consumer");
    let response = consumer_beat(&mut world, 0);
    assert_eq!((response.error_code, response.member_epoch), (0, 2));
    check(&world, "consumer", "Reconciling");

    let rebalance = ErrorCode::RebalanceInProgress.code();
    assert_eq!(beat(&mut world, &member, 1), rebalance);
    let response = joined(world.ask(join(&member, "consumer"), JOIN_VERSION));
    assert_eq!((response.error_code, response.generation_id), (0, 2));
    assert!(response.leader.is_empty(), "the coordinator assigns");
    assert_eq!(sync(&mut world, &member, 2), 0);
    assert_eq!(beat(&mut world, &member, 2), 0);
    check(&world, "consumer", "Stable");

    assert_eq!(consumer_beat(&mut world, -1).error_code, 0);
    check(&world, "classic", "PreparingRebalance");
    assert_eq!(beat(&mut world, &member, 2), rebalance);
    let ticket = world.send(join(&member, "consumer"), JOIN_VERSION);
    let response = joined(world.reply(ticket).expect("it is the only one"));
    assert_eq!((response.error_code, response.generation_id), (0, 3));
    assert_eq!(*response.leader, *member);
    assert_eq!(sync(&mut world, &member, 3), 0);
    check(&world, "classic", "Stable");
}

#[test]
fn a_group_that_is_too_large_to_become_classic_lets_its_member_go_and_keeps_its_timers() {
    let (mut world, _) = classic(Settings::default(), "consumer");
    assert_eq!(consumer_beat(&mut world, 0).error_code, 0);
    world.settings.batch_bytes_max = 450;
    assert_eq!(consumer_beat(&mut world, -1).error_code, 0);
    assert!(
        !world
            .shard
            .groups()
            .contains_key(&("classic", "PreparingRebalance"))
    );
    // The session of the one that is left ends as ever.
    world.advance(60_000);
    check(&world, "consumer", "Empty");
}

#[test]
fn sessions_of_classic_members_go_on_in_a_consumer_group() {
    let (mut world, member) = classic(Settings::default(), "consumer");
    consumer_beat(&mut world, 0);
    world.advance(10_001);
    assert_eq!(
        beat(&mut world, &member, 1),
        ErrorCode::UnknownMemberId.code()
    );
    // Its own session is longer.
    assert_eq!(consumer_beat(&mut world, 2).error_code, 0);
    world.restart();
    assert_eq!(consumer_beat(&mut world, 3).error_code, 0);
    world.advance(45_000);
    check(&world, "consumer", "Empty");
}

#[test]
fn who_waits_for_a_classic_rebalance_is_told_to_rejoin() {
    let (mut world, _) = classic(Settings::default(), "consumer");
    let waiting = world.send(join("", "consumer"), JOIN_VERSION);
    assert_eq!(world.reply(waiting), None);
    assert_eq!(consumer_beat(&mut world, 0).error_code, 0);
    let response = joined(world.reply(waiting).expect("it need not wait any more"));
    assert_eq!(response.error_code, ErrorCode::RebalanceInProgress.code());
    assert_eq!(world.shard.pending(), 0);
}

#[test]
fn groups_that_may_not_or_cannot_change_stay_as_they_are() {
    let not_found = ErrorCode::GroupIdNotFound.code();
    for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let settings = Settings {
            consumer_migration: policy,
            ..Settings::default()
        };
        let (mut world, member) = classic(settings, "consumer");
        assert_eq!(consumer_beat(&mut world, 0).error_code, not_found);
        assert_eq!(beat(&mut world, &member, 1), 0);
        check(&world, "classic", "Stable");
    }
    let (mut world, _) = classic(Settings::default(), "connect");
    let response = consumer_beat(&mut world, 0);
    assert_eq!(response.error_code, not_found);
    assert_eq!(
        response.error_message.as_deref(),
        Some(
            "Cannot upgrade classic group g to consumer group because the group does not use the \
             consumer embedded protocol."
        )
    );
    let (mut world, _) = classic(Settings::default(), "consumer");
    assert_eq!(consumer_beat(&mut world, 1).error_code, not_found);
    check(&world, "classic", "Stable");
}

#[test]
fn an_empty_group_becomes_what_the_next_member_speaks() {
    let (mut world, member) = classic(Settings::default(), "connect");
    let leave = LeaveGroupRequest {
        group_id: Cow::Borrowed("g"),
        members: vec![MemberIdentity {
            member_id: Cow::Owned(member),
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    };
    world.ask(Request::LeaveGroup(leave), 4);
    check(&world, "classic", "Empty");
    assert_eq!(consumer_beat(&mut world, 0).error_code, 0);
    check(&world, "consumer", "Stable");
    consumer_beat(&mut world, -1);
    check(&world, "consumer", "Empty");
    let ticket = world.send(join("", "connect"), JOIN_VERSION);
    world.advance(3_000);
    let response = joined(world.reply(ticket).expect("the first rebalance is over"));
    assert_eq!(response.error_code, 0);
    check(&world, "classic", "CompletingRebalance");
}

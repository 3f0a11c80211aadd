//! Groups that know what their members read, and the offsets that they keep for it.

use esker_protocol::ErrorCode;
use esker_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use esker_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest, OffsetDeleteRequest,
};

use super::join_request;
use crate::world::World;
use crate::{Request, Response};

const DAY_MS: i64 = 24 * 3_600_000;

/// What a consumer tells its leader, in the oldest version.
fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}

/// A stable group of one member that reads `read`, with offsets for `read` and `left`. Its id.
fn reading(world: &mut World, protocol_type: &str) -> String {
    let id = world.new_id();
    let metadata = subscription(&["read"]);
    let protocols: &[(&str, &[u8])] = &[("range", &metadata)];
    let request = JoinGroupRequest {
        protocol_type: protocol_type.to_owned().into(),
        session_timeout_ms: 1_800_000,
        ..join_request(&id, None, protocols)
    };
    world.join(request, 9);
    world.advance(3_000);
    let request = super::SyncGroupRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: id.as_str().into(),
        ..super::SyncGroupRequest::default()
    };
    world.send(Request::SyncGroup(request), 5);
    assert_eq!(world.state(), "Stable");
    let topics = ["read", "left"].map(|name| OffsetCommitRequestTopic {
        name: name.into(),
        partitions: vec![OffsetCommitRequestPartition::default()],
        ..OffsetCommitRequestTopic::default()
    });
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: 1,
        member_id: id.as_str().into(),
        retention_time_ms: -1,
        topics: topics.into(),
        ..OffsetCommitRequest::default()
    };
    world.send(Request::OffsetCommit(request), 9);
    assert_eq!(world.shard.committed().count(), 2);
    id
}

fn live_for(world: &mut World, id: &str, days: i64) {
    for _ in 0..days * 96 {
        world.advance(DAY_MS / 96);
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: 1,
            member_id: id.to_owned().into(),
            group_instance_id: None,
        };
        let Response::Heartbeat(response) = world.ask(Request::Heartbeat(request), 4) else {
            panic!();
        };
        assert_eq!(response.error_code, 0);
    }
}

fn topics(world: &World) -> Vec<String> {
    let committed = world.shard.committed();
    committed
        .map(|committed| committed.topic.to_owned())
        .collect()
}

#[test]
fn a_stable_group_keeps_the_offsets_of_what_it_reads() {
    let mut world = World::new();
    let id = reading(&mut world, "consumer");
    live_for(&mut world, &id, 6);
    assert_eq!(topics(&world), ["left", "read"]);
    live_for(&mut world, &id, 2);
    assert_eq!(topics(&world), ["read"]);
}

#[test]
fn the_offsets_of_a_group_age_from_when_its_last_member_left() {
    let mut world = World::new();
    let id = reading(&mut world, "consumer");
    live_for(&mut world, &id, 5);
    assert_eq!(world.leave(&id, None), 0);
    world.advance(6 * DAY_MS);
    assert_eq!(topics(&world), ["left", "read"]);
    world.restart();
    world.advance(2 * DAY_MS);
    assert!(topics(&world).is_empty());
    assert!(world.shard.groups().is_empty());
}

fn delete(world: &mut World) -> (i16, Vec<i16>) {
    let topics = ["read", "left"].map(|name| OffsetDeleteRequestTopic {
        name: name.into(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    });
    let request = OffsetDeleteRequest {
        group_id: "g".into(),
        topics: topics.into(),
    };
    let Response::OffsetDelete(response) = world.ask(Request::OffsetDelete(request), 0) else {
        panic!();
    };
    let codes = response.topics.iter();
    let codes = codes.map(|topic| topic.partitions[0].error_code);
    (response.error_code, codes.collect())
}

#[test]
fn offsets_of_what_is_read_are_not_deleted() {
    let mut world = World::new();
    reading(&mut world, "consumer");
    let subscribed = ErrorCode::GroupSubscribedToTopic as i16;
    assert_eq!(delete(&mut world), (0, vec![subscribed, 0]));
    assert_eq!(topics(&world), ["read"]);
}

#[test]
fn offsets_of_a_group_of_others_are_not_deleted_while_it_has_members() {
    let mut world = World::new();
    let id = world.new_id();
    let request = JoinGroupRequest {
        protocol_type: "connect".into(),
        ..join_request(&id, None, super::RANGE)
    };
    world.join(request, 9);
    assert_eq!(
        delete(&mut world),
        (ErrorCode::NonEmptyGroup as i16, Vec::new())
    );
}

#[test]
fn what_cannot_be_read_keeps_every_offset() {
    let mut world = World::new();
    // The metadata `m` of these members is no subscription.
    let ids = world.stable(1);
    let subscribed = ErrorCode::GroupSubscribedToTopic as i16;
    assert_eq!(delete(&mut world), (0, vec![subscribed, subscribed]));
    assert_eq!(world.heartbeat(&ids[0], 1), 0);
}

//! The table of error codes.

use esker_protocol::ErrorCode::{
    self, GroupMaxSizeReached, IllegalGeneration, InconsistentGroupProtocol, InvalidGroupId,
    InvalidSessionTimeout, NonEmptyGroup, RebalanceInProgress, UnknownMemberId, UnknownServerError,
};
use esker_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest,
};

use super::{RANGE, join_request};
use crate::view::Settings;
use crate::world::World;
use crate::{Request, Response};

const DONE: ErrorCode = ErrorCode::None;

fn join_code(world: &mut World, request: JoinGroupRequest<'_>, version: i16) -> ErrorCode {
    let ticket = world.join(request, version);
    code(world.joined(ticket).error_code)
}

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).expect("a code of Kafka")
}

#[test]
fn a_join_is_refused_before_the_group_is_looked_at() {
    let base = || join_request("", None, RANGE);
    let cases = [
        (
            JoinGroupRequest {
                group_id: "".into(),
                ..base()
            },
            InvalidGroupId,
        ),
        (
            JoinGroupRequest {
                session_timeout_ms: 5_999,
                ..base()
            },
            InvalidSessionTimeout,
        ),
        (
            JoinGroupRequest {
                session_timeout_ms: 1_800_001,
                ..base()
            },
            InvalidSessionTimeout,
        ),
        (
            JoinGroupRequest {
                member_id: "unknown".into(),
                ..base()
            },
            UnknownMemberId,
        ),
        (
            JoinGroupRequest {
                protocol_type: "".into(),
                ..base()
            },
            InconsistentGroupProtocol,
        ),
        (
            JoinGroupRequest {
                protocols: Vec::new(),
                ..base()
            },
            InconsistentGroupProtocol,
        ),
    ];
    for (request, expected) in cases {
        let mut world = World::new();
        assert_eq!(join_code(&mut world, request, 9), expected);
    }
}

#[test]
fn a_join_to_a_stable_group_is_checked_against_it() {
    let mut world = World::new();
    world.stable(2);
    let cases: [(JoinGroupRequest<'_>, ErrorCode); 4] = [
        (
            join_request("", None, &[("sticky", b"")]),
            InconsistentGroupProtocol,
        ),
        (
            JoinGroupRequest {
                protocol_type: "connect".into(),
                ..join_request("", None, RANGE)
            },
            InconsistentGroupProtocol,
        ),
        (join_request("unknown", None, RANGE), UnknownMemberId),
        (
            join_request("unknown", Some("instance"), RANGE),
            UnknownMemberId,
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(join_code(&mut world, request, 9), expected);
        assert_eq!(world.state(), "Stable");
    }
}

#[test]
fn a_pending_id_cannot_become_a_static_member() {
    let mut world = World::new();
    let id = world.new_id();
    let request = join_request(&id, Some("instance"), RANGE);
    assert_eq!(join_code(&mut world, request, 9), UnknownServerError);
}

#[test]
fn before_version_7_a_missing_protocol_name_is_empty() {
    let mut world = World::new();
    world.stable(1);
    for (version, expected) in [(6, Some("")), (7, None)] {
        let ticket = world.join(join_request("unknown", None, RANGE), version);
        let response = world.joined(ticket);
        assert_eq!(response.protocol_name.as_deref(), expected);
    }
}

#[test]
fn syncs_are_refused_by_the_table() {
    let mut world = World::new();
    let ids = world.stable(2);
    let base = || SyncGroupRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: ids[1].as_str().into(),
        ..SyncGroupRequest::default()
    };
    let cases: [(SyncGroupRequest<'_>, ErrorCode); 7] = [
        (
            SyncGroupRequest {
                group_id: "".into(),
                ..base()
            },
            InvalidGroupId,
        ),
        (
            SyncGroupRequest {
                group_id: "absent".into(),
                ..base()
            },
            UnknownMemberId,
        ),
        (
            SyncGroupRequest {
                member_id: "unknown".into(),
                ..base()
            },
            UnknownMemberId,
        ),
        (
            SyncGroupRequest {
                generation_id: 2,
                ..base()
            },
            IllegalGeneration,
        ),
        (
            SyncGroupRequest {
                protocol_name: Some("sticky".into()),
                ..base()
            },
            InconsistentGroupProtocol,
        ),
        (
            SyncGroupRequest {
                protocol_type: Some("connect".into()),
                ..base()
            },
            InconsistentGroupProtocol,
        ),
        (base(), DONE),
    ];
    for (request, expected) in cases {
        let ticket = world.send(Request::SyncGroup(request), 5);
        let response = world.synced(ticket);
        assert_eq!(code(response.error_code), expected);
        assert_eq!(response.assignment.is_empty(), expected != DONE);
    }
    world.join(join_request(&ids[0], None, RANGE), 9);
    let ticket = world.send(Request::SyncGroup(base()), 5);
    assert_eq!(code(world.synced(ticket).error_code), RebalanceInProgress);
}

#[test]
fn heartbeats_are_answered_by_state() {
    let mut world = World::new();
    assert_eq!(code(world.heartbeat("unknown", 0)), UnknownMemberId);
    let ids = world.stable(2);
    assert_eq!(code(world.heartbeat(&ids[0], 1)), DONE);
    assert_eq!(code(world.heartbeat(&ids[0], 2)), IllegalGeneration);
    assert_eq!(code(world.heartbeat("unknown", 1)), UnknownMemberId);
    let fenced = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: ids[0].as_str().into(),
        group_instance_id: Some("instance".into()),
    };
    let Response::Heartbeat(response) = world.ask(Request::Heartbeat(fenced), 4) else {
        panic!();
    };
    assert_eq!(code(response.error_code), UnknownMemberId);
    world.join(join_request(&ids[0], None, RANGE), 9);
    assert_eq!(code(world.heartbeat(&ids[1], 1)), RebalanceInProgress);
    world.join(join_request(&ids[1], None, RANGE), 9);
    assert_eq!(world.state(), "CompletingRebalance");
    assert_eq!(code(world.heartbeat(&ids[1], 2)), DONE);
}

#[test]
fn a_leave_is_answered_for_each_member_from_version_3_on() {
    let mut world = World::new();
    assert_eq!(code(world.leave("unknown", None)), UnknownMemberId);
    let ids = world.stable(2);
    assert_eq!(code(world.leave("unknown", None)), UnknownMemberId);
    assert_eq!(code(world.leave("", Some("instance"))), UnknownMemberId);
    assert_eq!(world.state(), "Stable");
    assert_eq!(code(world.leave(&ids[1], None)), DONE);
    assert_eq!(world.state(), "PreparingRebalance");
    let old = |member_id: &str| {
        Request::LeaveGroup(LeaveGroupRequest {
            group_id: "g".into(),
            member_id: member_id.to_owned().into(),
            ..LeaveGroupRequest::default()
        })
    };
    for (member_id, expected) in [("unknown", UnknownMemberId), (ids[0].as_str(), DONE)] {
        let Response::LeaveGroup(response) = world.ask(old(member_id), 2) else {
            panic!();
        };
        assert_eq!(code(response.error_code), expected);
        assert!(response.members.is_empty());
    }
    assert_eq!(world.state(), "Empty");
}

#[test]
fn commits_are_checked_against_member_and_generation() {
    let mut world = World::new();
    let ids = world.stable(2);
    let commit = |world: &mut World, member_id: &str, instance_id, generation| {
        let mut request = OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: generation,
            member_id: member_id.to_owned().into(),
            group_instance_id: instance_id,
            retention_time_ms: -1,
            ..OffsetCommitRequest::default()
        };
        request.topics.push(Default::default());
        request.topics[0].partitions.push(Default::default());
        let Response::OffsetCommit(response) = world.ask(Request::OffsetCommit(request), 9) else {
            panic!();
        };
        code(response.topics[0].partitions[0].error_code)
    };
    let none = None;
    assert_eq!(commit(&mut world, &ids[0], none.clone(), 1), DONE);
    assert_eq!(
        commit(&mut world, &ids[0], none.clone(), 2),
        IllegalGeneration
    );
    assert_eq!(
        commit(&mut world, "unknown", none.clone(), 1),
        UnknownMemberId
    );
    assert_eq!(commit(&mut world, "", none.clone(), -1), UnknownMemberId);
    assert_eq!(
        commit(&mut world, &ids[0], Some("instance".into()), 1),
        UnknownMemberId
    );
    world.join(join_request(&ids[0], None, RANGE), 9);
    assert_eq!(commit(&mut world, &ids[1], none.clone(), 1), DONE);
    world.join(join_request(&ids[1], None, RANGE), 9);
    assert_eq!(commit(&mut world, &ids[1], none, 2), RebalanceInProgress);
}

#[test]
fn a_group_with_members_is_not_deleted() {
    let mut world = World::new();
    world.stable(1);
    let answer = world.ask(Request::DeleteGroup("g"), 2);
    assert_eq!(answer, Response::DeleteGroup(NonEmptyGroup));
}

#[test]
fn members_above_the_limit_are_refused() {
    let mut world = World::with(Settings {
        classic_members_max: 2,
        ..Settings::default()
    });
    world.stable(2);
    let request = join_request("", None, RANGE);
    assert_eq!(join_code(&mut world, request, 3), GroupMaxSizeReached);
    assert_eq!(world.state(), "Stable");
}

#[test]
fn a_group_above_its_limit_sheds_members_after_a_load() {
    let mut world = World::new();
    let ids = world.stable(3);
    world.settings.classic_members_max = 2;
    world.restart();
    assert_eq!(world.state(), "PreparingRebalance");
    let tickets: Vec<_> = ids
        .iter()
        .map(|id| world.join(join_request(id, None, RANGE), 9))
        .collect();
    let last = world.joined(tickets[2]);
    assert_eq!(code(last.error_code), GroupMaxSizeReached);
    world.advance(i64::from(super::REBALANCE_MS));
    assert_eq!(world.joined(tickets[0]).generation_id, 2);
}

#[test]
fn what_members_hold_is_bounded() {
    let mut world = World::new();
    let metadata = vec![0; 1 << 20];
    let mut refused = 0;
    for _ in 0..1_000 {
        let protocols: &[(&str, &[u8])] = &[("range", &metadata)];
        let ticket = world.join(join_request("", None, protocols), 3);
        if let Some(Response::JoinGroup(response)) = world.reply(ticket) {
            assert_eq!(code(response.error_code), GroupMaxSizeReached);
            refused += 1;
        }
    }
    assert!(refused > 990, "{refused}");
}

#[test]
fn a_group_that_does_not_fit_into_a_batch_rebalances_with_an_error() {
    let mut world = World::with(Settings {
        batch_bytes_max: 20_000,
        ..Settings::default()
    });
    let id = world.new_id();
    let ticket = world.join(join_request(&id, None, RANGE), 9);
    world.advance(3_000);
    let generation = world.joined(ticket).generation_id;
    let assignment = vec![0; 30_000];
    let before = world.log_len();
    let ticket = world.sync(&id, generation, &[(&id, &assignment)]);
    assert_eq!(code(world.synced(ticket).error_code), UnknownServerError);
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(world.log_len(), before);
    // The next generation may do better.
    let ticket = world.join(join_request(&id, None, RANGE), 9);
    let generation = world.joined(ticket).generation_id;
    let ticket = world.sync(&id, generation, &[(&id, b"less")]);
    assert_eq!(code(world.synced(ticket).error_code), DONE);
}

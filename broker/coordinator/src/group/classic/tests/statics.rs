//! Static members (KIP-345).

use esker_protocol::ErrorCode;
use esker_protocol::messages::{HeartbeatRequest, JoinGroupRequest, JoinGroupResponse};

use super::{RANGE, SESSION_MS, join_request};
use crate::world::World;
use crate::{Request, Response, Ticket};

/// A stable group of static members `a` and `b`; `a` leads. Their ids.
fn stable(world: &mut World) -> [String; 2] {
    let tickets = ["a", "b"].map(|name| world.join(join_request("", Some(name), RANGE), 9));
    world.advance(6_000);
    let [a, b] = tickets.map(|ticket| world.joined(ticket));
    let ids = [a, b].map(|response| response.member_id.into_owned());
    assert!(ids[0].starts_with("a-") && ids[1].starts_with("b-"));
    let syncs = [
        world.sync(&ids[0], 1, &[(&ids[0], b"1"), (&ids[1], b"2")]),
        world.sync(&ids[1], 1, &[]),
    ];
    for ticket in syncs {
        assert_eq!(world.synced(ticket).error_code, 0);
    }
    ids
}

fn come_back(world: &mut World, name: &str, version: i16) -> JoinGroupResponse<'static> {
    let ticket = world.join(join_request("", Some(name), RANGE), version);
    world.joined(ticket)
}

#[test]
fn a_static_member_comes_back_under_a_new_id_without_a_rebalance() {
    let mut world = World::new();
    let ids = stable(&mut world);
    let response = come_back(&mut world, "b", 9);
    assert_eq!(response.error_code, 0);
    assert_eq!(response.generation_id, 1);
    assert_ne!(response.member_id, ids[1]);
    assert!(!response.skip_assignment);
    assert_eq!(world.state(), "Stable");
    // The assignment is the instance's.
    let ticket = world.sync(&response.member_id, 1, &[]);
    assert_eq!(&*world.synced(ticket).assignment, b"2");
    let heartbeat = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: ids[1].as_str().into(),
        group_instance_id: Some("b".into()),
    };
    let Response::Heartbeat(answer) = world.ask(Request::Heartbeat(heartbeat), 4) else {
        panic!();
    };
    assert_eq!(answer.error_code, ErrorCode::FencedInstanceId as i16);
    // And it survives a failover.
    world.restart();
    assert_eq!(world.heartbeat(&response.member_id, 1), 0);
    assert_eq!(
        world.heartbeat(&ids[1], 1),
        ErrorCode::UnknownMemberId as i16
    );
}

#[test]
fn a_static_leader_that_comes_back_is_told_not_to_assign() {
    let mut world = World::new();
    let ids = stable(&mut world);
    let response = come_back(&mut world, "a", 9);
    assert!(response.skip_assignment);
    assert_eq!(response.leader, response.member_id);
    assert_eq!(response.members.len(), 2);
    let now_id = response.member_id.into_owned();
    // Older clients do not see themselves as the leader.
    let response = come_back(&mut world, "a", 8);
    assert_eq!(response.leader, now_id);
    assert_ne!(response.member_id, now_id);
    assert!(response.members.is_empty());
    assert_ne!(now_id, ids[0]);
}

#[test]
fn a_static_member_that_changes_the_protocol_starts_a_rebalance() {
    let mut world = World::new();
    stable(&mut world);
    let other: &[(&str, &[u8])] = &[("sticky", b""), ("range", b"")];
    let ticket = world.join(join_request("", Some("b"), other), 9);
    // The vote stays with what both know.
    assert_eq!(world.joined(ticket).generation_id, 1);
    let only: &[(&str, &[u8])] = &[("range", b"x"), ("sticky", b"")];
    let first = world.join(join_request("", Some("a"), only), 9);
    // Now both know both, and they disagree: the first by name of equals is the same as before.
    assert_eq!(world.joined(first).generation_id, 1);
    let ticket = world.join(join_request("", Some("a"), other), 9);
    assert!(world.reply(ticket).is_none());
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn whoever_waits_under_the_old_id_is_fenced() {
    let mut world = World::new();
    let first = world.join(join_request("", Some("a"), RANGE), 9);
    let second = world.join(join_request("", Some("a"), RANGE), 9);
    let response = world.joined(first);
    assert_eq!(response.error_code, ErrorCode::FencedInstanceId as i16);
    world.advance(6_000);
    let response = world.joined(second);
    assert_eq!((response.error_code, response.generation_id), (0, 1));
    // In CompletingRebalance a replacement starts over.
    let sync: Ticket = world.sync(&response.member_id, 1, &[]);
    assert_eq!(world.synced(sync).error_code, 0);
}

#[test]
fn a_replacement_while_the_leader_assigns_starts_over() {
    let mut world = World::new();
    let tickets = ["a", "b"].map(|name| world.join(join_request("", Some(name), RANGE), 9));
    world.advance(6_000);
    let [_, b] = tickets.map(|ticket| world.joined(ticket));
    let sync = world.sync(&b.member_id, 1, &[]);
    let again = world.join(join_request("", Some("b"), RANGE), 9);
    assert_eq!(
        world.synced(sync).error_code,
        ErrorCode::FencedInstanceId as i16
    );
    assert!(world.reply(again).is_none());
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_static_member_that_does_not_rejoin_keeps_its_place_until_its_session_ends() {
    let mut world = World::new();
    let ids = stable(&mut world);
    let ticket = world.join(join_request(&ids[0], Some("a"), RANGE), 9);
    for _ in 0..12 {
        world.advance(5_000);
        world.heartbeat(&ids[1], 1);
    }
    let response = world.joined(ticket);
    assert_eq!((response.generation_id, response.members.len()), (2, 2));
}

#[test]
fn an_administrator_removes_static_members_by_name() {
    let mut world = World::new();
    stable(&mut world);
    assert_eq!(world.leave("", Some("b")), 0);
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(
        world.leave("wrong", Some("a")),
        ErrorCode::FencedInstanceId as i16
    );
}

#[test]
fn a_static_member_that_stays_away_is_dropped() {
    let mut world = World::new();
    let ids = stable(&mut world);
    for _ in 0..3 {
        world.advance(i64::from(SESSION_MS) / 2);
        world.heartbeat(&ids[0], 1);
    }
    assert_eq!(world.state(), "PreparingRebalance");
    let ticket = world.join(join_request(&ids[0], Some("a"), RANGE), 9);
    assert_eq!(world.joined(ticket).members.len(), 1);
}

#[test]
fn a_rebalance_that_nobody_joined_waits_even_where_members_allow_no_time() {
    let mut world = World::new();
    let join = |member_id: &'static str, instance_id, rebalance_timeout_ms| JoinGroupRequest {
        rebalance_timeout_ms,
        ..join_request(member_id, instance_id, RANGE)
    };
    let ticket = world.join(join("", Some("static"), 500), 9);
    world.advance(3_000);
    let leader = world.joined(ticket).member_id.into_owned();
    let ticket = world.sync(&leader, 1, &[(&leader, b"a")]);
    assert_eq!(world.synced(ticket).error_code, 0);
    // It returns, and allows no time from now on.
    let ticket = world.join(join("", Some("static"), 0), 9);
    assert_eq!(world.joined(ticket).error_code, 0);
    let other = world.new_id();
    let ticket = world.join(
        JoinGroupRequest {
            member_id: (&*other).into(),
            ..join("", None, 500)
        },
        9,
    );
    world.advance(500);
    assert_eq!(world.joined(ticket).generation_id, 2);
    assert_eq!(world.leave(&other, None), 0);
    world.advance(0);
    let due_ms = world.shard.next_due().expect("it goes on");
    assert!(due_ms > world.now_ms());
}

//! Generations, and the timers that end waits.

use esker_protocol::ErrorCode;
use esker_protocol::messages::JoinGroupRequest;

use super::{RANGE, REBALANCE_MS, SESSION_MS, join_request};
use crate::record::Value;
use crate::world::World;
use crate::{Request, Response, Ticket};

#[test]
fn the_first_members_form_a_generation_after_the_initial_delay() {
    let mut world = World::new();
    let ids = [world.new_id(), world.new_id()];
    let first = world.join(join_request(&ids[0], None, RANGE), 9);
    assert_eq!(world.state(), "PreparingRebalance");
    world.advance(2_000);
    let second = world.join(join_request(&ids[1], None, RANGE), 9);
    world.advance(1_000);
    // A member came meanwhile: the delay starts again.
    assert!(world.reply(first).is_none());
    world.advance(3_000);
    let (first, second) = (world.joined(first), world.joined(second));
    assert_eq!((first.generation_id, second.generation_id), (1, 1));
    assert_eq!(first.leader, ids[0]);
    assert_eq!(second.leader, ids[0]);
    assert_eq!(first.members.len(), 2);
    assert!(second.members.is_empty());
    assert_eq!(first.protocol_name.as_deref(), Some("range"));
    assert_eq!(first.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(world.state(), "CompletingRebalance");
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_timeout() {
    let mut world = World::new();
    let request = |id: &str| JoinGroupRequest {
        rebalance_timeout_ms: 8_000,
        member_id: id.to_owned().into(),
        ..join_request("", None, RANGE)
    };
    let mut ids = vec![world.new_id()];
    let first = world.join(request(&ids[0]), 9);
    let start_ms = world.now_ms();
    for _ in 0..20 {
        world.advance(1_000);
        let id = world.new_id();
        world.join(request(&id), 9);
        ids.push(id);
        if let Some(Response::JoinGroup(_)) = world.reply(first) {
            assert!((7_000..=9_000).contains(&(world.now_ms() - start_ms)));
            return;
        }
    }
    panic!("the first rebalance never ended");
}

#[test]
fn a_new_group_is_written_before_its_first_generation() {
    let mut world = World::new();
    world.new_id();
    let records = world.records(0);
    let Some(Value::GroupMetadata(value)) = &records[0].value else {
        panic!();
    };
    assert_eq!((&*value.protocol_type, value.generation), ("", 0));
    assert_eq!(value.current_state_timestamp, crate::world::START);
    assert!(value.members.is_empty());
}

#[test]
fn the_leaders_sync_writes_the_group() {
    let mut world = World::new();
    let ids = world.stable(2);
    let records = world.records(0);
    assert_eq!(records.len(), 2);
    let Some(Value::GroupMetadata(value)) = &records[1].value else {
        panic!();
    };
    assert_eq!(value.generation, 1);
    assert_eq!(value.leader.as_deref(), Some(ids[0].as_str()));
    assert_eq!(value.protocol.as_deref(), Some("range"));
    for member in &value.members {
        assert_eq!(&*member.assignment, member.member_id.as_bytes());
        assert_eq!(&*member.subscription, b"m");
        assert_eq!(member.client_host, "/127.0.0.1");
        assert_eq!(member.rebalance_timeout, REBALANCE_MS);
    }
}

#[test]
fn a_member_that_is_silent_is_dropped_and_the_others_rebalance() {
    let mut world = World::new();
    let ids = world.stable(2);
    for _ in 0..4 {
        world.advance(i64::from(SESSION_MS) / 2);
        let code = world.heartbeat(&ids[0], 1);
        if code != 0 {
            assert_eq!(code, ErrorCode::RebalanceInProgress as i16);
            let ticket = world.join(join_request(&ids[0], None, RANGE), 9);
            let response = world.joined(ticket);
            assert_eq!(response.generation_id, 2);
            assert_eq!(response.members.len(), 1);
            return;
        }
    }
    panic!("the silent member was kept");
}

#[test]
fn members_that_do_not_rejoin_are_left_behind() {
    let mut world = World::new();
    let ids = world.stable(3);
    let leader = world.join(join_request(&ids[0], None, RANGE), 9);
    let follower = world.join(join_request(&ids[1], None, RANGE), 9);
    for _ in 0..12 {
        world.advance(5_000);
        // Alive, but it does not join.
        world.heartbeat(&ids[2], 1);
    }
    let response = world.joined(leader);
    assert_eq!((response.generation_id, response.members.len()), (2, 2));
    assert_eq!(world.joined(follower).generation_id, 2);
    assert_eq!(
        world.heartbeat(&ids[2], 2),
        ErrorCode::UnknownMemberId as i16
    );
}

#[test]
fn a_leader_that_does_not_rejoin_is_followed_by_one_who_did() {
    let mut world = World::new();
    let ids = world.stable(2);
    let changed: &[(&str, &[u8])] = &[("range", b"changed")];
    let ticket = world.join(join_request(&ids[1], None, changed), 9);
    assert!(world.reply(ticket).is_none());
    world.advance(i64::from(REBALANCE_MS));
    let response = world.joined(ticket);
    assert_eq!(response.leader, ids[1]);
    assert_eq!(response.members.len(), 1);
}

#[test]
fn members_that_do_not_sync_are_dropped() {
    let mut world = World::new();
    let ids = [world.new_id(), world.new_id()];
    let tickets = ids
        .each_ref()
        .map(|id| world.join(join_request(id, None, RANGE), 9));
    world.advance(6_000);
    let generation = tickets.map(|ticket| world.joined(ticket).generation_id)[0];
    let ticket = world.sync(&ids[0], generation, &[]);
    assert_eq!(world.synced(ticket).error_code, 0);
    for _ in 0..12 {
        world.advance(5_000);
        world.heartbeat(&ids[0], generation);
        world.heartbeat(&ids[1], generation);
    }
    assert_eq!(world.state(), "PreparingRebalance");
    let ticket = world.join(join_request(&ids[0], None, RANGE), 9);
    assert_eq!(world.joined(ticket).members.len(), 1);
}

#[test]
fn followers_wait_for_the_leaders_assignment() {
    let mut world = World::new();
    let ids = [world.new_id(), world.new_id()];
    let tickets = ids
        .each_ref()
        .map(|id| world.join(join_request(id, None, RANGE), 9));
    world.advance(6_000);
    for ticket in tickets {
        world.joined(ticket);
    }
    let follower = world.sync(&ids[1], 1, &[]);
    assert!(world.reply(follower).is_none());
    assert_eq!(world.shard.pending(), 1);
    // A retry replaces the request of a connection that is gone.
    let retry = world.sync(&ids[1], 1, &[]);
    assert_eq!(
        world.synced(follower).error_code,
        ErrorCode::RebalanceInProgress as i16
    );
    let leader = world.sync(&ids[0], 1, &[(&ids[1], b"work")]);
    assert_eq!(&*world.synced(retry).assignment, b"work");
    assert!(world.synced(leader).assignment.is_empty());
    assert_eq!(world.shard.pending(), 0);
}

#[test]
fn a_follower_that_joins_again_unchanged_gets_the_same_generation() {
    let mut world = World::new();
    let ids = world.stable(2);
    let ticket = world.join(join_request(&ids[1], None, RANGE), 9);
    assert_eq!(world.joined(ticket).generation_id, 1);
    assert_eq!(world.state(), "Stable");
    let ticket = world.join(join_request(&ids[0], None, RANGE), 9);
    assert!(world.reply(ticket).is_none());
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_join_whose_answer_was_lost_is_answered_again() {
    let mut world = World::new();
    let id = world.new_id();
    world.join(join_request(&id, None, RANGE), 9);
    world.advance(3_000);
    assert_eq!(world.state(), "CompletingRebalance");
    let ticket = world.join(join_request(&id, None, RANGE), 9);
    let response = world.joined(ticket);
    assert_eq!((response.generation_id, response.members.len()), (1, 1));
}

#[test]
fn the_protocol_is_the_one_that_most_prefer_of_those_that_all_know() {
    let mut world = World::new();
    let preferences: [&[(&str, &[u8])]; 3] = [
        &[("only-mine", b""), ("range", b"1"), ("sticky", b"1")],
        &[("sticky", b"2"), ("range", b"2")],
        &[("sticky", b"3"), ("range", b"3")],
    ];
    let ids = preferences.map(|_| world.new_id());
    let tickets: Vec<Ticket> = ids
        .iter()
        .zip(preferences)
        .map(|(id, protocols)| world.join(join_request(id, None, protocols), 9))
        .collect();
    world.advance(6_000);
    let leader = world.joined(tickets[0]);
    assert_eq!(leader.protocol_name.as_deref(), Some("sticky"));
    let metadata: Vec<&[u8]> = leader
        .members
        .iter()
        .map(|member| &*member.metadata)
        .collect();
    assert_eq!(metadata.len(), 3);
    assert!(metadata.contains(&&b"1"[..]) && metadata.contains(&&b"3"[..]));
}

#[test]
fn an_id_that_was_handed_out_is_kept_for_one_session() {
    let mut world = World::new();
    let id = world.new_id();
    world.advance(i64::from(SESSION_MS));
    let ticket = world.join(join_request(&id, None, RANGE), 9);
    let code = world.joined(ticket).error_code;
    assert_eq!(code, ErrorCode::UnknownMemberId as i16);
}

#[test]
fn a_rebalance_waits_for_ids_that_were_handed_out() {
    let mut world = World::new();
    let ids = world.stable(1);
    let new = world.new_id();
    let ticket = world.join(join_request(&ids[0], None, RANGE), 9);
    assert!(world.reply(ticket).is_none());
    let other = world.join(join_request(&new, None, RANGE), 9);
    assert_eq!(world.joined(ticket).members.len(), 2);
    assert_eq!(world.joined(other).generation_id, 2);
}

#[test]
fn before_version_4_a_member_joins_without_an_id() {
    let mut world = World::new();
    let ticket = world.join(join_request("", None, RANGE), 3);
    world.advance(3_000);
    let response = world.joined(ticket);
    assert_eq!(response.error_code, 0);
    assert!(response.member_id.starts_with("client-"));
    assert_eq!(response.member_id.len(), "client-".len() + 36);
}

#[test]
fn a_new_member_that_gave_up_is_dropped_at_last() {
    let mut world = World::new();
    let ids = world.stable(1);
    let request = JoinGroupRequest {
        rebalance_timeout_ms: 1_000_000,
        ..join_request("", None, RANGE)
    };
    let ticket = world.join(request, 3);
    for _ in 0..60 {
        world.advance(5_000);
        world.heartbeat(&ids[0], 1);
    }
    let code = world.joined(ticket).error_code;
    assert_eq!(code, ErrorCode::UnknownMemberId as i16);
}

#[test]
fn members_go_on_over_a_failover() {
    let mut world = World::new();
    let ids = world.stable(3);
    world.restart();
    assert_eq!(world.state(), "Stable");
    for id in &ids {
        assert_eq!(world.heartbeat(id, 1), 0);
        let ticket = world.sync(id, 1, &[]);
        assert_eq!(&*world.synced(ticket).assignment, id.as_bytes());
    }
    // Who does not come back is dropped by its session.
    world.advance(i64::from(SESSION_MS));
    assert_ne!(world.state(), "Stable");
}

#[test]
fn the_last_member_leaves_an_empty_group() {
    let mut world = World::new();
    let ids = world.stable(1);
    assert_eq!(world.leave(&ids[0], None), 0);
    assert_eq!(world.state(), "Empty");
    let records = world.records(2);
    let Some(Value::GroupMetadata(value)) = &records[0].value else {
        panic!();
    };
    assert_eq!((&*value.protocol_type, value.generation), ("consumer", 2));
    assert_eq!(
        (value.protocol.as_deref(), value.leader.as_deref()),
        (None, None)
    );
}

#[test]
fn a_group_is_described_with_metadata_once_it_is_stable() {
    let mut world = World::new();
    let ids = world.stable(2);
    let Response::DescribeGroup(group) = world.ask(Request::DescribeGroup("g"), 6) else {
        panic!();
    };
    assert_eq!(
        (&*group.protocol_type, &*group.protocol_data),
        ("consumer", "range")
    );
    assert_eq!(group.members.len(), 2);
    for member in &group.members {
        assert_eq!(&*member.member_metadata, b"m");
        assert_eq!(&*member.member_assignment, member.member_id.as_bytes());
        assert_eq!(member.client_id, "client");
    }
    world.join(join_request(&ids[0], None, RANGE), 9);
    let Response::DescribeGroup(group) = world.ask(Request::DescribeGroup("g"), 6) else {
        panic!();
    };
    assert_eq!(
        (&*group.group_state, &*group.protocol_data),
        ("PreparingRebalance", "")
    );
    assert!(
        group
            .members
            .iter()
            .all(|member| member.member_metadata.is_empty())
    );
}

#[test]
fn tickets_that_wait_are_handed_back_when_the_shard_ends() {
    let mut world = World::new();
    let id = world.new_id();
    let ticket = world.join(join_request(&id, None, RANGE), 9);
    assert_eq!(world.shard.take_pending(), [ticket]);
    assert_eq!(world.shard.pending(), 0);
}

#[test]
fn a_sync_in_a_stable_group_begins_the_session_anew() {
    let mut world = World::new();
    let ids = world.stable(2);
    world.advance(i64::from(SESSION_MS) - 1_000);
    let ticket = world.sync(&ids[1], 1, &[]);
    assert_eq!(world.synced(ticket).error_code, 0);
    world.advance(i64::from(SESSION_MS) - 1_000);
    // The other's session has ended, and so the group rebalances.
    assert_eq!(
        world.heartbeat(&ids[1], 1),
        ErrorCode::RebalanceInProgress as i16
    );
}

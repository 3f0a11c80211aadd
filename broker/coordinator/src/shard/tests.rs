//! What a shard answers: the table of codes, listings, offsets.

use std::borrow::Cow;

use esker_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use esker_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use esker_protocol::messages::*;
use esker_protocol::{ErrorCode, Offset, ProducerId, Timestamp, TopicId};

use crate::record::{Key, Record, Value};
use crate::view::Settings;
use crate::world::{START, World};
use crate::{Request, Response, Shard};

const DAY_MS: i64 = 24 * 3_600_000;

/// A commit of offset `offset` for partition 0 of `topic`, without a member.
fn commit<'a>(group: &'a str, topic: &'a str, offset: i64) -> OffsetCommitRequest<'a> {
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            topic_id: TopicId([1; 16]),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: 3,
                committed_metadata: Some("note".into()),
            }],
        }],
        ..OffsetCommitRequest::default()
    }
}

fn commit_codes(response: Response) -> Vec<i16> {
    let Response::OffsetCommit(response) = response else {
        panic!("{response:?}");
    };
    let topics = response.topics.iter();
    topics
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|partition| partition.error_code)
        })
        .collect()
}

fn fetch(world: &mut World, group: &str, topic: &str, stable: bool) -> (i64, i16) {
    let request = Request::OffsetFetch {
        group: OffsetFetchRequestGroup {
            group_id: group.into(),
            member_epoch: -1,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic.into(),
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        },
        require_stable: stable,
    };
    let Response::OffsetFetch(response) = world.ask(request, 9) else {
        panic!();
    };
    assert_eq!(response.error_code, 0);
    let partition = &response.topics[0].partitions[0];
    (partition.committed_offset, partition.error_code)
}

#[test]
fn a_commit_without_members_makes_a_simple_group_and_is_read_back() {
    let mut world = World::new();
    let codes = commit_codes(world.ask(Request::OffsetCommit(commit("g", "t", 5)), 8));
    assert_eq!(codes, [0]);
    let request = Request::OffsetFetch {
        group: OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_epoch: -1,
            topics: None,
            ..OffsetFetchRequestGroup::default()
        },
        require_stable: false,
    };
    let Response::OffsetFetch(response) = world.ask(request, 9) else {
        panic!();
    };
    let topic = &response.topics[0];
    assert_eq!((&*topic.name, topic.topic_id), ("t", TopicId::ZERO));
    let partition = &topic.partitions[0];
    assert_eq!(partition.committed_offset, 5);
    assert_eq!(partition.committed_leader_epoch, 3);
    assert_eq!(partition.metadata.as_deref(), Some("note"));
    assert_eq!(world.shard.groups()[&("classic", "Empty")], 1);
    let committed: Vec<_> = world.shard.committed().collect();
    assert_eq!((committed[0].group, committed[0].offset), ("g", Offset(5)));
    assert_eq!(fetch(&mut world, "g", "other", false), (-1, 0));
    assert_eq!(fetch(&mut world, "absent", "t", false), (-1, 0));
}

#[test]
fn commits_are_refused_by_the_table() {
    use ErrorCode::{GroupIdNotFound, IllegalGeneration, OffsetMetadataTooLarge};
    let cases: [(OffsetCommitRequest<'_>, i16, ErrorCode); 3] = [
        (
            OffsetCommitRequest {
                generation_id_or_member_epoch: 1,
                ..commit("absent", "t", 1)
            },
            9,
            GroupIdNotFound,
        ),
        (
            OffsetCommitRequest {
                generation_id_or_member_epoch: 1,
                ..commit("absent", "t", 1)
            },
            8,
            IllegalGeneration,
        ),
        (
            {
                let mut request = commit("g", "t", 1);
                request.topics[0].partitions[0].committed_metadata =
                    Some(Cow::Owned("x".repeat(4097)));
                request
            },
            9,
            OffsetMetadataTooLarge,
        ),
    ];
    for (request, version, error) in cases {
        let mut world = World::new();
        let codes = commit_codes(world.ask(Request::OffsetCommit(request), version));
        assert_eq!(codes, [error as i16]);
        assert_eq!(world.log_len(), 0);
    }
}

#[test]
fn metadata_is_measured_in_utf_16_units() {
    let mut request = commit("g", "t", 1);
    // 4096 units, 8192 bytes.
    request.topics[0].partitions[0].committed_metadata = Some(Cow::Owned("é".repeat(4096)));
    let mut world = World::new();
    assert_eq!(
        commit_codes(world.ask(Request::OffsetCommit(request), 9)),
        [0]
    );
}

#[test]
fn a_commit_that_does_not_fit_into_a_batch_changes_nothing() {
    let mut world = World::with(Settings {
        batch_bytes_max: 10_000,
        ..Settings::default()
    });
    let mut request = commit("g", "t", 1);
    let partition = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = (0..200)
        .map(|index| OffsetCommitRequestPartition {
            partition_index: index,
            ..partition.clone()
        })
        .collect();
    let codes = commit_codes(world.ask(Request::OffsetCommit(request), 9));
    assert_eq!(codes, [ErrorCode::UnknownServerError as i16; 200]);
    assert_eq!(world.log_len(), 0);
    assert_eq!(fetch(&mut world, "g", "t", false), (-1, 0));
}

#[test]
fn thousands_of_partitions_are_committed_at_once() {
    let mut request = commit("a-group-of-consumers", "a-topic-with-records", 1);
    let partition = OffsetCommitRequestPartition {
        committed_metadata: None,
        ..request.topics[0].partitions[0].clone()
    };
    request.topics[0].partitions = (0..9_000)
        .map(|index| OffsetCommitRequestPartition {
            partition_index: index,
            ..partition.clone()
        })
        .collect();
    let mut world = World::new();
    let codes = commit_codes(world.ask(Request::OffsetCommit(request), 9));
    assert_eq!(codes, [0; 9_000]);
}

#[test]
fn junk_group_names_are_refused_above_the_limit() {
    let mut world = World::with(Settings {
        groups_max: 10,
        ..Settings::default()
    });
    for index in 0..20 {
        let group = format!("g{index}");
        let codes = commit_codes(world.ask(Request::OffsetCommit(commit(&group, "t", 1)), 9));
        let expected = if index < 10 {
            ErrorCode::None
        } else {
            ErrorCode::PolicyViolation
        };
        assert_eq!(codes, [expected as i16]);
    }
    // Known groups go on.
    assert_eq!(
        commit_codes(world.ask(Request::OffsetCommit(commit("g1", "t", 2)), 9)),
        [0]
    );
}

fn heartbeat(member: &'static str, epoch: i32, topics: &[&str]) -> Request<'static> {
    Request::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest {
        group_id: "consumers".into(),
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(
            topics
                .iter()
                .map(|name| Cow::Owned((*name).to_owned()))
                .collect(),
        ),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    })
}

fn heartbeat_code(response: Response) -> (i16, i32) {
    let Response::ConsumerGroupHeartbeat(response) = response else {
        panic!("{response:?}");
    };
    (response.error_code, response.member_epoch)
}

#[test]
fn without_room_for_members_nobody_joins_and_members_go_on() {
    const FULL: i16 = ErrorCode::GroupMaxSizeReached as i16;
    let mut world = World::new();
    assert_eq!(world.shard.members_bytes(), 0);
    let (code, epoch) = heartbeat_code(world.ask(heartbeat("a", 0, &["t"]), 1));
    assert_eq!(code, 0);
    let one = world.shard.members_bytes();
    assert!(one > 0);
    world.members_bytes_max = one;
    assert_eq!(
        heartbeat_code(world.ask(heartbeat("b", 0, &["t"]), 1)).0,
        FULL
    );
    let join = JoinGroupRequest {
        group_id: "classic".into(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group_request::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Cow::Borrowed(b"any"),
        }],
        ..JoinGroupRequest::default()
    };
    let Response::JoinGroup(joined) = world.ask(Request::JoinGroup(join), 9) else {
        panic!();
    };
    assert_eq!(joined.error_code, FULL);
    assert_eq!(
        heartbeat_code(world.ask(heartbeat("a", epoch, &["t", "u"]), 1)).0,
        0
    );
    // A member that is there does not take what is left either.
    let long = "n".repeat(100 << 10);
    let grown = heartbeat("a", epoch + 1, &[&long]);
    assert_eq!(heartbeat_code(world.ask(grown, 1)).0, FULL);
    assert_eq!(heartbeat_code(world.ask(heartbeat("a", -1, &[]), 1)).0, 0);
    assert_eq!(world.shard.members_bytes(), 0);
    world.members_bytes_max = 1;
    assert_eq!(heartbeat_code(world.ask(heartbeat("b", 0, &["t"]), 1)).0, 0);
    // The one that reads the log counts the same.
    let taken = world.shard.members_bytes();
    world.restart();
    assert_eq!(world.shard.members_bytes(), taken);
}

#[test]
fn offsets_of_a_simple_group_expire_by_their_commit_and_the_group_goes_with_them() {
    let mut world = World::new();
    world.send(Request::OffsetCommit(commit("g", "old", 1)), 9);
    world.advance(3 * DAY_MS);
    world.send(Request::OffsetCommit(commit("g", "young", 2)), 9);
    world.advance(4 * DAY_MS + 600_000);
    assert_eq!(fetch(&mut world, "g", "old", false), (-1, 0));
    assert_eq!(fetch(&mut world, "g", "young", false), (2, 0));
    world.advance(3 * DAY_MS);
    assert_eq!(fetch(&mut world, "g", "young", false), (-1, 0));
    assert!(world.shard.groups().is_empty());
}

#[test]
fn a_retention_that_the_client_gave_is_honoured_and_written_in_version_1() {
    let mut world = World::new();
    let request = OffsetCommitRequest {
        retention_time_ms: 1_000,
        ..commit("g", "t", 1)
    };
    world.send(Request::OffsetCommit(request), 3);
    let records = world.records(0);
    let Some(Value::OffsetCommit(value)) = &records[0].value else {
        panic!();
    };
    assert_eq!(value.expire_timestamp, START + 1_000);
    assert_eq!(
        world.replayed(1).durable_state(),
        world.shard.durable_state()
    );
    world.advance(600_000);
    assert_eq!(fetch(&mut world, "g", "t", false), (-1, 0));
}

#[test]
fn an_expiry_of_many_groups_is_cut_into_steps() {
    let mut world = World::new();
    for index in 0..2_500 {
        let group = format!("g{index:04}");
        world.send(Request::OffsetCommit(commit(&group, "t", 1)), 9);
    }
    let before = world.log_len();
    world.advance(7 * DAY_MS + 600_000);
    // A tombstone for each offset and each group.
    assert_eq!(world.log_len() - before, 5_000);
    assert!(world.shard.groups().is_empty());
    assert_eq!(
        world.replayed(world.log_len()).durable_state(),
        world.shard.durable_state()
    );
}

#[test]
fn offsets_of_deleted_topics_go_unless_the_topic_was_made_again() {
    let mut world = World::new();
    world.send(Request::OffsetCommit(commit("g", "t", 1)), 9);
    world.send(Request::OffsetCommit(commit("h", "t", 1)), 9);
    assert_eq!(
        world.delete_topics(&[("t".to_owned(), TopicId([9; 16]))]),
        0
    );
    assert_eq!(
        world.delete_topics(&[("t".to_owned(), TopicId([1; 16]))]),
        2
    );
    assert_eq!(fetch(&mut world, "g", "t", false), (-1, 0));
}

fn delete_offset(world: &mut World, group: &str, topic: &str) -> (i16, Option<i16>) {
    let request = OffsetDeleteRequest {
        group_id: group.to_owned().into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: topic.to_owned().into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let Response::OffsetDelete(response) = world.ask(Request::OffsetDelete(request), 0) else {
        panic!();
    };
    let topic = response.topics.first();
    (
        response.error_code,
        topic.map(|topic| topic.partitions[0].error_code),
    )
}

#[test]
fn offset_delete_answers_for_groups_and_partitions() {
    let mut world = World::new();
    assert_eq!(
        delete_offset(&mut world, "absent", "t"),
        (ErrorCode::GroupIdNotFound as i16, None)
    );
    assert_eq!(
        delete_offset(&mut world, "", "t"),
        (ErrorCode::InvalidGroupId as i16, None)
    );
    world.send(Request::OffsetCommit(commit("g", "t", 1)), 9);
    assert_eq!(delete_offset(&mut world, "g", "t"), (0, Some(0)));
    let before = world.log_len();
    assert_eq!(delete_offset(&mut world, "g", "t"), (0, Some(0)));
    assert_eq!(world.log_len(), before);
    assert_eq!(fetch(&mut world, "g", "t", false), (-1, 0));
}

#[test]
fn a_deleted_group_leaves_nothing() {
    let mut world = World::new();
    let delete = |world: &mut World, group: &'static str| world.ask(Request::DeleteGroup(group), 2);
    assert_eq!(
        delete(&mut world, "g"),
        Response::DeleteGroup(ErrorCode::GroupIdNotFound)
    );
    world.send(Request::OffsetCommit(commit("g", "t", 1)), 9);
    assert_eq!(
        delete(&mut world, "g"),
        Response::DeleteGroup(ErrorCode::None)
    );
    assert!(world.shard.groups().is_empty());
    assert_eq!(world.shard.committed().count(), 0);
    assert_eq!(
        world.replayed(world.log_len()).durable_state(),
        Shard::new([0; 32]).durable_state()
    );
}

#[test]
fn describing_an_absent_group_depends_on_the_version() {
    let mut world = World::new();
    for (version, code) in [(5, ErrorCode::None), (6, ErrorCode::GroupIdNotFound)] {
        let Response::DescribeGroup(group) = world.ask(Request::DescribeGroup("g"), version) else {
            panic!();
        };
        assert_eq!(group.error_code, code as i16);
        assert_eq!(group.group_state, "Dead");
        assert_eq!(group.error_message.is_some(), version >= 6);
    }
    let Response::ConsumerGroupDescribe(group) = world.ask(Request::ConsumerGroupDescribe("g"), 1)
    else {
        panic!();
    };
    assert_eq!(group.error_code, ErrorCode::GroupIdNotFound as i16);
}

#[test]
fn lists_are_filtered_without_regard_to_case() {
    let mut world = World::new();
    world.send(Request::OffsetCommit(commit("g", "t", 1)), 9);
    let mut list = |states: &[&'static str], types: &[&'static str]| {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|state| (*state).into()).collect(),
            types_filter: types.iter().map(|name| (*name).into()).collect(),
        };
        match world.ask(Request::ListGroups(request), 5) {
            Response::ListGroups(groups) => groups.expect("groups are listed").len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&[], &[]), 1);
    assert_eq!(list(&["eMPTY"], &["Classic"]), 1);
    assert_eq!(list(&["Stable"], &[]), 0);
    assert_eq!(list(&["Stable", "Empty"], &["consumer"]), 0);
    assert_eq!(list(&[], &["nonsense"]), 0);
}

/// A record of an offset commit as a transaction writes it.
fn record(topic: &str, offset: i64) -> Record<'static> {
    Record {
        key: Key::OffsetCommit(OffsetCommitKey {
            group: "g".into(),
            topic: topic.to_owned().into(),
            partition: 0,
        }),
        value: Some(Value::OffsetCommit(OffsetCommitValue {
            offset,
            ..OffsetCommitValue::default()
        })),
    }
}

/// Commits for many partitions are replayed by topic; a log is read record by record.
#[test]
fn a_commit_for_many_partitions_leaves_what_its_records_say() {
    let mut world = World::new();
    let of_topic = |name: &'static str, partitions: &[i32], offset: i64| OffsetCommitRequestTopic {
        name: name.into(),
        partitions: (partitions.iter())
            .map(|&partition_index| OffsetCommitRequestPartition {
                partition_index,
                committed_offset: offset + i64::from(partition_index),
                ..OffsetCommitRequestPartition::default()
            })
            .collect(),
        ..OffsetCommitRequestTopic::default()
    };
    let request = |group: &'static str, topics: Vec<OffsetCommitRequestTopic<'static>>| {
        Request::OffsetCommit(OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics,
            ..OffsetCommitRequest::default()
        })
    };
    let all = vec![
        of_topic("a", &[0, 2, 1], 10),
        of_topic("b", &[0], 20),
        // Named twice, and a partition twice: the last one counts.
        of_topic("a", &[1, 1, 3], 30),
    ];
    world.send(request("g", all), 9);
    world.send(request("h", vec![of_topic("a", &[0, 1], 40)]), 9);
    world.send(request("g", vec![of_topic("a", &[0, 1], 50)]), 9);
    let read = world.replayed(world.log_len());
    assert_eq!(read.durable_state(), world.shard.durable_state());
    // With their positions in the log.
    assert_eq!(read.state.offsets, world.shard.state.offsets);
    let committed = world.shard.committed();
    let committed: Vec<_> = committed
        .map(|one| (one.group, one.topic, one.partition, one.offset.0))
        .collect();
    let expected = [
        ("g", "a", 0, 50),
        ("g", "a", 1, 51),
        ("g", "a", 2, 12),
        ("g", "a", 3, 33),
        ("g", "b", 0, 20),
        ("h", "a", 0, 40),
        ("h", "a", 1, 41),
    ];
    assert_eq!(committed, expected);
}

#[test]
fn offsets_of_an_open_transaction_are_unstable_until_its_marker() {
    let (one, two) = (ProducerId(1), ProducerId(2));
    let mut world = World::new();
    world
        .shard
        .replay_transactional(one, &record("t", 5), Offset(10));
    assert_eq!(
        fetch(&mut world, "g", "t", true),
        (-1, ErrorCode::UnstableOffsetCommit as i16)
    );
    assert_eq!(fetch(&mut world, "g", "t", false), (-1, 0));
    world
        .shard
        .replay_transactional(two, &record("t", 6), Offset(11));
    world.shard.replay_marker(one, true);
    assert_eq!(fetch(&mut world, "g", "t", false), (5, 0));
    assert_eq!(
        fetch(&mut world, "g", "t", true).1,
        ErrorCode::UnstableOffsetCommit as i16
    );
    world.shard.replay_marker(two, false);
    assert_eq!(fetch(&mut world, "g", "t", true), (5, 0));
}

#[test]
fn a_transaction_does_not_hide_a_younger_commit() {
    let mut shard = Shard::new([0; 32]);
    shard.replay_transactional(ProducerId(1), &record("t", 5), Offset(10));
    shard.replay(&record("t", 6), Offset(11), Timestamp(0));
    shard.replay_marker(ProducerId(1), true);
    let committed: Vec<_> = shard
        .committed()
        .map(|committed| committed.offset)
        .collect();
    assert_eq!(committed, [Offset(6)]);
}

#[test]
fn a_tombstone_takes_what_transactions_hold() {
    let mut world = World::new();
    world
        .shard
        .replay_transactional(ProducerId(1), &record("t", 5), Offset(10));
    assert_eq!(delete_offset(&mut world, "g", "t"), (0, Some(0)));
    world.shard.replay_marker(ProducerId(1), true);
    assert_eq!(fetch(&mut world, "g", "t", true), (-1, 0));
}

#[test]
fn an_open_transaction_keeps_an_offset_from_expiring() {
    let mut world = World::new();
    world.send(Request::OffsetCommit(commit("g", "t", 1)), 9);
    world
        .shard
        .replay_transactional(ProducerId(1), &record("t", 5), Offset(10));
    world.advance(8 * DAY_MS);
    assert_eq!(fetch(&mut world, "g", "t", false), (1, 0));
    world.shard.replay_marker(ProducerId(1), false);
    world.advance(DAY_MS);
    assert_eq!(fetch(&mut world, "g", "t", false), (-1, 0));
}

#[test]
fn refusals_have_the_form_that_each_request_wants() {
    let error = ErrorCode::NotCoordinator;
    let commits = Request::OffsetCommit(commit("g", "t", 1));
    assert_eq!(
        commit_codes(Shard::refuse(&commits, 9, error)),
        [error as i16]
    );
    let heartbeat = Request::Heartbeat(HeartbeatRequest::default());
    let loading = ErrorCode::CoordinatorLoadInProgress;
    let Response::Heartbeat(response) = Shard::refuse(&heartbeat, 4, loading) else {
        panic!();
    };
    assert_eq!(response.error_code, 0);
    let Response::Heartbeat(response) = Shard::refuse(&heartbeat, 4, error) else {
        panic!();
    };
    assert_eq!(response.error_code, error as i16);
    let fetches = Request::OffsetFetch {
        group: OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0, 1],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        },
        require_stable: false,
    };
    let Response::OffsetFetch(group) = Shard::refuse(&fetches, 8, error) else {
        panic!();
    };
    assert_eq!((group.error_code, group.topics.len()), (error as i16, 0));
    let Response::OffsetFetch(group) = Shard::refuse(&fetches, 1, error) else {
        panic!();
    };
    assert_eq!(group.error_code, 0);
    assert!(
        group.topics[0]
            .partitions
            .iter()
            .all(|partition| partition.error_code == error as i16)
    );
}

//! Groups through a socket: members join and are given partitions, offsets outlive crashes, and what
//! is not there yet is an error, never an empty answer.

mod common;

use std::borrow::Cow;
use std::sync::Arc;

use common::{Stores, Wire, create};
use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use esker_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use esker_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use esker_protocol::messages::*;
use esker_protocol::{ErrorCode, TopicId};
use esker_server::Broker;

/// No delays: a group's first member is alone.
const QUICK: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.num.partitions", "4"),
    ("group.consumer.assignment.interval.ms", "0"),
];

fn find_coordinator<'a>(key: &'a str) -> FindCoordinatorRequest<'a> {
    FindCoordinatorRequest {
        coordinator_keys: vec![Cow::Borrowed(key)],
        ..FindCoordinatorRequest::default()
    }
}

/// A broker whose coordinators serve, and a connection to it.
async fn start(stores: &Stores) -> (Broker, Wire) {
    start_with(stores, &[]).await
}

async fn start_with(stores: &Stores, more: &[(&str, &str)]) -> (Broker, Wire) {
    let broker = common::start(stores, &[QUICK, more].concat()).await;
    let mut wire = Wire::connect(&broker).await;
    let found = wire
        .call(
            4,
            &find_coordinator("any"),
            |r: FindCoordinatorResponse<'_>| {
                let found = &r.coordinators[0];
                (found.error_code, found.node_id)
            },
        )
        .await;
    assert_eq!(found, (0, 1));
    (broker, wire)
}

/// Asks until the group's coordinator has loaded.
async fn loaded<R: PartialEq + std::fmt::Debug>(
    wire: &mut Wire,
    mut ask: impl AsyncFnMut(&mut Wire) -> (i16, R),
) -> (i16, R) {
    loop {
        let answer = ask(wire).await;
        let still = [
            ErrorCode::CoordinatorLoadInProgress.code(),
            ErrorCode::NotCoordinator.code(),
        ];
        if !still.contains(&answer.0) {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

fn join<'a>(group: &'a str, member: &'a str) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: Cow::Borrowed(group),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: Cow::Borrowed(member),
        protocol_type: Cow::Borrowed("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Cow::Borrowed("range"),
            metadata: Cow::Borrowed(b"subscription"),
        }],
        ..JoinGroupRequest::default()
    }
}

fn commit<'a>(
    group: &'a str,
    member: &'a str,
    generation: i32,
    topic: &'a str,
    offset: i64,
) -> OffsetCommitRequest<'a> {
    OffsetCommitRequest {
        group_id: Cow::Borrowed(group),
        member_id: Cow::Borrowed(member),
        generation_id_or_member_epoch: generation,
        topics: vec![OffsetCommitRequestTopic {
            name: Cow::Borrowed(topic),
            topic_id: TopicId::ZERO,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_metadata: Some(Cow::Borrowed("note")),
                ..OffsetCommitRequestPartition::default()
            }],
        }],
        ..OffsetCommitRequest::default()
    }
}

async fn commit_code(wire: &mut Wire, version: i16, request: &OffsetCommitRequest<'_>) -> i16 {
    wire.call(version, request, |r: OffsetCommitResponse<'_>| {
        r.topics[0].partitions[0].error_code
    })
    .await
}

/// Group error and committed offset of partition 0.
async fn fetched(wire: &mut Wire, group: &str, topic: &str) -> (i16, i64) {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Cow::Borrowed(group),
            member_epoch: -1,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: Cow::Borrowed(topic),
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    };
    wire.call(9, &request, |r: OffsetFetchResponse<'_>| {
        let group = &r.groups[0];
        let offset = group
            .topics
            .first()
            .map_or(-2, |topic| topic.partitions[0].committed_offset);
        (group.error_code, offset)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_member_joins_commits_and_goes_on_after_a_crash() {
    let stores = Stores::new();
    let (broker, mut wire) = start(&stores).await;
    create(&mut wire, "topic", 1, &[]).await;

    let (code, member) = loaded(&mut wire, async |wire| {
        wire.call(9, &join("group", ""), |r: JoinGroupResponse<'_>| {
            (r.error_code, r.member_id.into_owned())
        })
        .await
    })
    .await;
    assert_eq!(code, ErrorCode::MemberIdRequired.code());
    let (leader, generation) = wire
        .call(9, &join("group", &member), |r: JoinGroupResponse<'_>| {
            assert_eq!(r.error_code, 0);
            (r.leader.into_owned(), r.generation_id)
        })
        .await;
    assert_eq!((leader.as_str(), generation), (member.as_str(), 1));
    let sync = SyncGroupRequest {
        group_id: Cow::Borrowed("group"),
        generation_id: 1,
        member_id: Cow::Borrowed(&member),
        protocol_type: Some(Cow::Borrowed("consumer")),
        protocol_name: Some(Cow::Borrowed("range")),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: Cow::Borrowed(&member),
            assignment: Cow::Borrowed(b"all"),
        }],
        ..SyncGroupRequest::default()
    };
    wire.call(5, &sync, |r: SyncGroupResponse<'_>| {
        assert_eq!((r.error_code, &*r.assignment), (0, b"all".as_slice()));
    })
    .await;
    let request = commit("group", &member, 1, "topic", 42);
    assert_eq!(commit_code(&mut wire, 9, &request).await, 0);
    let stale = commit("group", &member, 0, "topic", 7);
    let code = commit_code(&mut wire, 9, &stale).await;
    assert_eq!(code, ErrorCode::IllegalGeneration.code());
    assert_eq!(fetched(&mut wire, "group", "topic").await, (0, 42));

    // What was answered has been synced: it outlives the power.
    let mut crashed = stores.clone();
    crashed.disk = Arc::new(stores.disk.after_power_cut(1));
    broker.stop().await;
    let (broker, mut wire) = start(&crashed).await;
    let found = loaded(&mut wire, async |wire| {
        fetched(wire, "group", "topic").await
    })
    .await;
    assert_eq!(found, (0, 42));
    let heartbeat = HeartbeatRequest {
        group_id: Cow::Borrowed("group"),
        generation_id: 1,
        member_id: Cow::Borrowed(&member),
        group_instance_id: None,
    };
    let code = wire
        .call(4, &heartbeat, |r: HeartbeatResponse| r.error_code)
        .await;
    assert_eq!(code, 0, "the member is still in the group");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_linger_are_answered_when_they_are_durable() {
    let stores = Stores::new();
    let linger = [("group.coordinator.append.linger.ms", "20")];
    let (broker, mut wire) = start_with(&stores, &linger).await;
    create(&mut wire, "topic", 1, &[]).await;
    for offset in 1..4 {
        let request = commit("group", "", -1, "topic", offset);
        let (code, ()) = loaded(&mut wire, async |wire| {
            (commit_code(wire, 9, &request).await, ())
        })
        .await;
        assert_eq!(code, 0);
    }
    let mut crashed = stores.clone();
    crashed.disk = Arc::new(stores.disk.after_power_cut(1));
    broker.stop().await;
    // A stop waits for nobody who lingers, and takes along what there is.
    let linger = [("group.coordinator.append.linger.ms", "1000")];
    let (broker, mut wire) = start_with(&crashed, &linger).await;
    let found = loaded(&mut wire, async |wire| {
        fetched(wire, "group", "topic").await
    })
    .await;
    assert_eq!(found, (0, 3));
    wire.send(9, &commit("group", "", -1, "topic", 4)).await;
    broker.stop().await;
    let (broker, mut wire) = start(&crashed).await;
    let (code, offset) = loaded(&mut wire, async |wire| {
        fetched(wire, "group", "topic").await
    })
    .await;
    assert!(code == 0 && (3..5).contains(&offset), "{offset}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_group_is_assigned_by_the_broker_and_shares_with_a_second_member() {
    let stores = Stores::new();
    let (broker, mut wire) = start(&stores).await;
    create(&mut wire, "topic", 4, &[]).await;
    let heartbeat = |member: &'static str, epoch: i32, owned: Option<Vec<TopicPartitions>>| {
        let joins = epoch == 0;
        ConsumerGroupHeartbeatRequest {
            group_id: Cow::Borrowed("group"),
            member_id: Cow::Borrowed(member),
            member_epoch: epoch,
            rebalance_timeout_ms: if joins { 30_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec![Cow::Borrowed("topic")]),
            topic_partitions: if joins { Some(Vec::new()) } else { owned },
            ..ConsumerGroupHeartbeatRequest::default()
        }
    };
    type Told = (i16, i32, Option<Vec<i32>>);
    async fn beat(wire: &mut Wire, request: &ConsumerGroupHeartbeatRequest<'_>) -> Told {
        wire.call(1, request, |r: ConsumerGroupHeartbeatResponse<'_>| {
            let assigned = r.assignment.map(|assignment| {
                let topics = assignment.topic_partitions.into_iter();
                let mut all: Vec<i32> = topics.flat_map(|topic| topic.partitions).collect();
                all.sort_unstable();
                all
            });
            (r.error_code, r.member_epoch, assigned)
        })
        .await
    }
    let first = heartbeat("first", 0, None);
    let (code, (epoch, assigned)) = loaded(&mut wire, async |wire| {
        let (code, epoch, assigned) = beat(wire, &first).await;
        (code, (epoch, assigned))
    })
    .await;
    assert_eq!((code, assigned), (0, Some(vec![0, 1, 2, 3])));

    let (code, _, assigned) = beat(&mut wire, &heartbeat("second", 0, None)).await;
    assert_eq!((code, assigned), (0, Some(vec![])), "nothing is free yet");
    let (code, _, assigned) = beat(&mut wire, &heartbeat("first", epoch, None)).await;
    assert_eq!(code, 0);
    let kept = assigned.expect("the first member gives some back");
    assert_eq!(kept.len(), 2);

    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec![Cow::Borrowed("group")],
        include_authorized_operations: false,
    };
    wire.call(1, &describe, |r: ConsumerGroupDescribeResponse<'_>| {
        let group = &r.groups[0];
        assert_eq!((group.error_code, group.members.len()), (0, 2));
        assert_eq!(group.group_state, "Reconciling");
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_group_apis_carry_kafkas_codes() {
    let stores = Stores::new();
    let (broker, mut wire) = start(&stores).await;
    create(&mut wire, "topic", 1, &[]).await;
    let _ = loaded(&mut wire, async |wire| {
        fetched(wire, "group", "topic").await
    })
    .await;

    let mut short = join("group", "");
    short.session_timeout_ms = 1;
    for (request, expected) in [
        (join("", ""), ErrorCode::InvalidGroupId),
        (short, ErrorCode::InvalidSessionTimeout),
        (join("group", "nobody"), ErrorCode::UnknownMemberId),
    ] {
        let code = wire
            .call(9, &request, |r: JoinGroupResponse<'_>| r.error_code)
            .await;
        assert_eq!(code, expected.code());
    }
    for (topic, version, expected) in [
        ("topic", 9, ErrorCode::GroupIdNotFound),
        ("topic", 8, ErrorCode::IllegalGeneration),
        ("unknown", 9, ErrorCode::UnknownTopicOrPartition),
    ] {
        let request = commit("nobody", "member", 3, topic, 1);
        assert_eq!(
            commit_code(&mut wire, version, &request).await,
            expected.code()
        );
    }
    let delete = DeleteGroupsRequest {
        groups_names: vec![Cow::Borrowed("nobody")],
    };
    let code = wire
        .call(2, &delete, |r: DeleteGroupsResponse<'_>| {
            r.results[0].error_code
        })
        .await;
    assert_eq!(code, ErrorCode::GroupIdNotFound.code());
    let share = FindCoordinatorRequest {
        key_type: 2,
        ..find_coordinator("group:topic:0")
    };
    let code = wire
        .call(6, &share, |r: FindCoordinatorResponse<'_>| {
            r.coordinators[0].error_code
        })
        .await;
    assert_eq!(code, ErrorCode::CoordinatorNotAvailable.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_cannot_write_what_coordinators_keep() {
    let stores = Stores::new();
    let (broker, mut wire) = start(&stores).await;
    let batch = common::batch(&[b"junk"], 1_700_000_000_000);
    let (code, base_offset, _) = common::produce(&mut wire, "__consumer_offsets", batch, -1).await;
    let refused = ErrorCode::InvalidTopicException.code();
    assert_eq!((code, base_offset), (refused, -1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_commits_and_lets_them_in_again() {
    let stores = Stores::new();
    let (broker, mut wire) = start(&stores).await;
    create(&mut wire, "topic", PARTITIONS, &[]).await;
    let note = "n".repeat(4_000);
    let request = large_commit("group", 5, &note);
    let (code, ()) = loaded(&mut wire, async |wire| {
        (commit_code(wire, 9, &request).await, ())
    })
    .await;
    assert_eq!(code, 0);

    stores.disk.set_capacity(0);
    let mut acknowledged = 5;
    // Space that was taken before is used up first.
    let refused = loop {
        let request = large_commit("group", acknowledged + 1, &note);
        match commit_code(&mut wire, 9, &request).await {
            0 => acknowledged += 1,
            code => break code,
        }
    };
    assert_eq!(refused, ErrorCode::CoordinatorNotAvailable.code());
    stores.disk.set_capacity(u64::MAX);
    let (_, offset) = wait_for(&mut wire, "group").await;
    assert!(offset >= acknowledged, "{offset} is behind {acknowledged}");
    let request = commit("group", "", -1, "topic", offset + 1);
    assert_eq!(commit_code(&mut wire, 9, &request).await, 0);
    let found = fetched(&mut wire, "group", "topic").await;
    assert_eq!(found, (0, offset + 1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_too_large_for_the_log_is_refused_alone() {
    let stores = Stores::new();
    let (broker, mut wire) = start_with(&stores, &[("message.max.bytes", "10000")]).await;
    create(&mut wire, "topic", PARTITIONS, &[]).await;
    let small = commit("group", "", -1, "topic", 5);
    let (code, ()) = loaded(&mut wire, async |wire| {
        (commit_code(wire, 9, &small).await, ())
    })
    .await;
    assert_eq!(code, 0);
    let note = "n".repeat(4_000);
    let large = large_commit("group", 6, &note);
    let refused = ErrorCode::UnknownServerError.code();
    assert_eq!(commit_code(&mut wire, 9, &large).await, refused);
    // The coordinator is still there.
    assert_eq!(fetched(&mut wire, "group", "topic").await, (0, 5));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topic_of_the_groups_does_not_grow() {
    let stores = Stores::new();
    let (broker, mut wire) = start(&stores).await;
    let request = CreatePartitionsRequest {
        topics: vec![create_partitions_request::CreatePartitionsTopic {
            name: Cow::Borrowed("__consumer_offsets"),
            count: 8,
            assignments: None,
        }],
        timeout_ms: 30_000,
        validate_only: false,
    };
    let code = wire
        .call(3, &request, |r: CreatePartitionsResponse<'_>| {
            r.results[0].error_code
        })
        .await;
    assert_eq!(code, ErrorCode::InvalidRequest.code());
    broker.stop().await;
}

/// Partitions of the topic whose commits are to fill a disk soon.
const PARTITIONS: i32 = 64;

fn large_commit<'a>(group: &'a str, offset: i64, note: &'a str) -> OffsetCommitRequest<'a> {
    let mut request = commit(group, "", -1, "topic", offset);
    let of = |index| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: offset,
        committed_metadata: Some(Cow::Borrowed(note)),
        ..OffsetCommitRequestPartition::default()
    };
    request.topics[0].partitions = (0..PARTITIONS).map(of).collect();
    request
}

/// Asks until the coordinator that failed is there again.
async fn wait_for(wire: &mut Wire, group: &str) -> (i16, i64) {
    loop {
        let found = fetched(wire, group, "topic").await;
        if found.0 == 0 {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

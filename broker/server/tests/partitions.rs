//! More partitions, fewer records: CreatePartitions and DeleteRecords through the socket.

mod common;

use std::borrow::Cow;

use common::{Stores, Wire, batch, create, delete_records as delete, fetch, produce};
use esker_protocol::ErrorCode;
use esker_protocol::messages::*;
use esker_protocol::records::Batches;
use esker_server::Broker;

const NOW: i64 = 1_700_000_000_000;

/// A topic, its new partition count, and the replicas of the new partitions where they are chosen.
type Growth<'a> = (&'a str, i32, Option<&'a [&'a [i32]]>);

async fn grow(
    wire: &mut Wire,
    version: i16,
    topics: &[Growth<'_>],
    validate_only: bool,
) -> Vec<(String, i16, String)> {
    use create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
    let request = CreatePartitionsRequest {
        topics: topics
            .iter()
            .map(|(name, count, assignments)| CreatePartitionsTopic {
                name: Cow::Borrowed(*name),
                count: *count,
                assignments: assignments.map(|all| {
                    let ids = all.iter().map(|ids| CreatePartitionsAssignment {
                        broker_ids: ids.to_vec(),
                    });
                    ids.collect()
                }),
            })
            .collect(),
        timeout_ms: 10_000,
        validate_only,
    };
    wire.call(version, &request, |r: CreatePartitionsResponse<'_>| {
        let results = r.results.iter();
        results
            .map(|one| {
                let message = one.error_message.as_deref().unwrap_or_default();
                (one.name.to_string(), one.error_code, message.to_owned())
            })
            .collect()
    })
    .await
}

async fn partitions(wire: &mut Wire, topic: &str) -> Vec<(i32, i32)> {
    use metadata_request::MetadataRequestTopic;
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(Cow::Borrowed(topic)),
            ..Default::default()
        }]),
        ..MetadataRequest::default()
    };
    wire.call(12, &request, |r: MetadataResponse<'_>| {
        let partitions = r.topics[0].partitions.iter();
        partitions
            .map(|one| (one.partition_index, one.leader_id))
            .collect()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_grows_and_its_new_partitions_serve_when_that_is_answered() {
    let stores = Stores::new();
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    for version in 0..=3 {
        let count = i32::from(version) + 2;
        let grown = grow(&mut wire, version, &[("topic", count, None)], false).await;
        assert_eq!(grown, [("topic".to_owned(), 0, String::new())]);
        let all: Vec<_> = (0..count).map(|index| (index, 1)).collect();
        assert_eq!(partitions(&mut wire, "topic").await, all);
    }
    let mut request = common::produce_request("topic", batch(&[b"v"], NOW), -1);
    request.topic_data[0].partition_data[0].index = 4;
    let code = wire
        .call(12, &request, |r: ProduceResponse<'_>| {
            r.responses[0].partition_responses[0].error_code
        })
        .await;
    assert_eq!(code, 0);
    broker.stop().await;
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    assert_eq!(partitions(&mut wire, "topic").await.len(), 5);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growth_is_refused_as_kafka_refuses_it() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 3, &[]).await;
    let invalid = ErrorCode::InvalidPartitions;
    let bad_assignment = ErrorCode::InvalidReplicaAssignment;
    for (name, count, assignment, code, message) in [
        ("missing", 4, None, ErrorCode::UnknownTopicOrPartition, ""),
        (
            "topic",
            3,
            None,
            invalid,
            "Topic already has 3 partition(s).",
        ),
        (
            "topic",
            2,
            None,
            invalid,
            "The topic topic currently has 3 partition(s); 2 would not be an increase.",
        ),
        (
            "topic",
            5,
            Some(&[&[1][..]][..]),
            bad_assignment,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            "topic",
            4,
            Some(&[&[2][..]]),
            bad_assignment,
            "The manual partition assignment includes broker 2, but no such broker is registered.",
        ),
        (
            "topic",
            4,
            Some(&[&[1, 1][..]]),
            bad_assignment,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            "topic",
            4,
            Some(&[&[][..]]),
            bad_assignment,
            "The manual partition assignment includes an empty replica list.",
        ),
    ] {
        let refused = grow(&mut wire, 3, &[(name, count, assignment)], false).await;
        assert_eq!(
            refused,
            [(name.to_owned(), code.code(), message.to_owned())]
        );
    }
    let twice = [("topic", 4, None), ("topic", 5, None)];
    let refused = grow(&mut wire, 3, &twice, false).await;
    let code = ErrorCode::InvalidRequest.code();
    assert_eq!(
        refused,
        [("topic".to_owned(), code, "Duplicate topic name.".to_owned())]
    );
    let fits = grow(&mut wire, 3, &[("topic", 4, Some(&[&[1]]))], true).await;
    assert_eq!(fits[0].1, 0);
    assert_eq!(partitions(&mut wire, "topic").await.len(), 3);
    broker.stop().await;
}

async fn earliest(wire: &mut Wire, topic: &str) -> i64 {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: Cow::Borrowed(topic),
            partitions: vec![ListOffsetsPartition {
                timestamp: -2,
                ..Default::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    wire.call(9, &request, |r: ListOffsetsResponse<'_>| {
        r.topics[0].partitions[0].offset
    })
    .await
}

/// Five records, each in a batch of its own.
async fn five(wire: &mut Wire, topic: &str) {
    for _ in 0..5 {
        assert_eq!(produce(wire, topic, batch(&[b"v"], NOW), -1).await.0, 0);
    }
}

async fn started(stores: &Stores) -> (Broker, Wire) {
    let broker = common::start(stores, &[]).await;
    let wire = Wire::connect(&broker).await;
    (broker, wire)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_deleted_inside_a_segment_and_stay_so() {
    for tiered in ["false", "true"] {
        let stores = Stores::new();
        let (broker, mut wire) = started(&stores).await;
        let configs = [("remote.storage.enable", tiered)];
        create(&mut wire, "topic", 1, &configs).await;
        five(&mut wire, "topic").await;
        for version in 0..=2 {
            let to = i64::from(version) + 1;
            assert_eq!(delete(&mut wire, version, "topic", 0, to).await, (0, to));
            assert_eq!(earliest(&mut wire, "topic").await, to);
        }
        let out_of_range = ErrorCode::OffsetOutOfRange.code();
        assert_eq!(fetch(&mut wire, "topic", 2, 4096).await.0, out_of_range);
        let (code, _, records) = fetch(&mut wire, "topic", 3, 4096).await;
        assert_eq!((code, Batches::new(&records).count()), (0, 2));
        // It never goes back.
        assert_eq!(delete(&mut wire, 2, "topic", 0, 1).await, (0, 3));
        // The power goes before anything else is written.
        let crashed = Stores {
            disk: std::sync::Arc::new(stores.disk.after_power_cut(7)),
            ..stores.clone()
        };
        broker.stop().await;
        let (broker, mut wire) = started(&crashed).await;
        assert_eq!(earliest(&mut wire, "topic").await, 3, "tiered: {tiered}");
        // -1 is the high watermark: nothing is left.
        assert_eq!(delete(&mut wire, 2, "topic", 0, -1).await, (0, 5));
        assert_eq!(fetch(&mut wire, "topic", 5, 4096).await.0, 0);
        broker.stop().await;
        let (broker, mut wire) = started(&crashed).await;
        assert_eq!(earliest(&mut wire, "topic").await, 5, "tiered: {tiered}");
        assert_eq!(
            produce(&mut wire, "topic", batch(&[b"v"], NOW), -1).await,
            (0, 5, 5)
        );
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_of_records_is_refused_as_kafka_refuses_it() {
    let (broker, mut wire) = started(&Stores::new()).await;
    create(&mut wire, "topic", 1, &[]).await;
    create(&mut wire, "compacted", 1, &[("cleanup.policy", "compact")]).await;
    create(
        &mut wire,
        "both",
        1,
        &[("cleanup.policy", "compact,delete")],
    )
    .await;
    create(&mut wire, "__transaction_state", 1, &[]).await;
    five(&mut wire, "topic").await;
    five(&mut wire, "both").await;
    for (topic, index, offset, code) in [
        ("missing", 0, 0, ErrorCode::UnknownTopicOrPartition),
        ("topic", 1, 0, ErrorCode::UnknownTopicOrPartition),
        ("topic", 0, 6, ErrorCode::OffsetOutOfRange),
        ("topic", 0, -2, ErrorCode::OffsetOutOfRange),
        ("compacted", 0, 0, ErrorCode::PolicyViolation),
        (
            "__transaction_state",
            0,
            0,
            ErrorCode::InvalidTopicException,
        ),
    ] {
        let refused = delete(&mut wire, 2, topic, index, offset).await;
        assert_eq!(refused, (code.code(), -1), "{topic} {index} {offset}");
    }
    assert_eq!(delete(&mut wire, 2, "both", 0, 2).await, (0, 2));
    broker.stop().await;
}

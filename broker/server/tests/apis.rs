//! The served APIs through a socket: every version is answered, and refusals carry Kafka's codes.

mod common;

use std::borrow::Cow;

use common::{
    Stores, Wire, api_range, batch, batch_with, create, create_request, epoch_ends, fetch, produce,
};
use esker_protocol::api::ApiKey;
use esker_protocol::messages::*;
use esker_protocol::records::{BatchOptions, Batches};
use esker_protocol::{ErrorCode, ProducerEpoch, ProducerId, TopicId};

const NOW: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_every_served_api_is_answered() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    let id = wire
        .call(12, &metadata_request("topic"), |r: MetadataResponse<'_>| {
            r.topics[0].topic_id
        })
        .await;

    for version in api_range(ApiKey::ApiVersions) {
        let request = ApiVersionsRequest {
            client_software_name: Cow::Borrowed(if version >= 3 { "test" } else { "" }),
            client_software_version: Cow::Borrowed(if version >= 3 { "1.0" } else { "" }),
        };
        let served = esker_server::dispatch::SERVED.len();
        wire.call(version, &request, |r: ApiVersionsResponse<'_>| {
            assert_eq!((r.error_code, r.api_keys.len()), (0, served));
        })
        .await;
    }
    for version in api_range(ApiKey::Metadata) {
        let mut request = metadata_request("topic");
        request.allow_auto_topic_creation = true;
        wire.call(version, &request, |r: MetadataResponse<'_>| {
            assert_eq!(
                (r.brokers.len(), r.topics.len()),
                (1, 1),
                "version {version}"
            );
            assert_eq!(r.topics[0].partitions[0].leader_id, 1);
        })
        .await;
    }
    for version in api_range(ApiKey::Produce) {
        let mut request = common::produce_request("topic", batch(&[b"value"], NOW), -1);
        if version >= 13 {
            request.topic_data[0].name = Cow::Borrowed("");
            request.topic_data[0].topic_id = id;
        }
        wire.call(version, &request, |r: ProduceResponse<'_>| {
            let partition = &r.responses[0].partition_responses[0];
            let expected = i64::from(version - api_range(ApiKey::Produce).start());
            assert_eq!((partition.error_code, partition.base_offset), (0, expected));
        })
        .await;
    }
    for version in api_range(ApiKey::Fetch) {
        let request = fetch_request(version, id);
        wire.call(version, &request, |r: FetchResponse<'_>| {
            let partition = &r.responses[0].partitions[0];
            let records = partition.records.as_ref().expect("records").to_bytes();
            assert_eq!(partition.error_code, 0, "version {version}");
            assert_eq!(Batches::new(&records).count(), 11, "version {version}");
        })
        .await;
    }
    for version in api_range(ApiKey::ListOffsets) {
        use esker_protocol::messages::list_offsets_request::{
            ListOffsetsPartition, ListOffsetsTopic,
        };
        for (timestamp, version_min, offset) in [
            (-1, 1, 11),
            (-2, 1, 0),
            (-3, 7, 0),
            (-4, 8, 0),
            (-5, 9, -1),
            (NOW, 1, 0),
            (NOW + 1, 1, -1),
        ] {
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: vec![ListOffsetsTopic {
                    name: Cow::Borrowed("topic"),
                    partitions: vec![ListOffsetsPartition {
                        timestamp,
                        ..Default::default()
                    }],
                }],
                ..ListOffsetsRequest::default()
            };
            let found = wire
                .call(version, &request, |r: ListOffsetsResponse<'_>| {
                    let partition = &r.topics[0].partitions[0];
                    (partition.error_code, partition.offset)
                })
                .await;
            let expected = if version < version_min {
                (ErrorCode::UnsupportedVersion.code(), -1)
            } else {
                (0, offset)
            };
            assert_eq!(found, expected, "version {version}, timestamp {timestamp}");
        }
    }
    for version in api_range(ApiKey::FindCoordinator) {
        let request = if version >= 4 {
            FindCoordinatorRequest {
                coordinator_keys: vec![Cow::Borrowed("group")],
                ..FindCoordinatorRequest::default()
            }
        } else {
            FindCoordinatorRequest {
                key: Cow::Borrowed("group"),
                ..Default::default()
            }
        };
        wire.call(version, &request, |r: FindCoordinatorResponse<'_>| {
            let found = r
                .coordinators
                .first()
                .map_or((r.error_code, r.node_id), |c| (c.error_code, c.node_id));
            assert_eq!(found, (0, 1), "version {version}");
        })
        .await;
    }
    for version in api_range(ApiKey::OffsetForLeaderEpoch) {
        let ends = epoch_ends(&mut wire, version, "topic", -1, &[-1, 0, 1]).await;
        let unknown = (0, -1, -1);
        assert_eq!(ends, [unknown, (0, 0, 11), unknown], "version {version}");
    }
    for version in api_range(ApiKey::InitProducerId) {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 1,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let expected = i64::from(version);
        wire.call(version, &request, |r: InitProducerIdResponse| {
            assert_eq!(
                (r.error_code, r.producer_id, r.producer_epoch),
                (0, expected, 0)
            );
        })
        .await;
    }
    for version in api_range(ApiKey::DescribeConfigs) {
        use esker_protocol::messages::describe_configs_request::DescribeConfigsResource;
        let resource = |resource_type, name| DescribeConfigsResource {
            resource_type,
            resource_name: Cow::Borrowed(name),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![
                resource(2, "topic"),
                resource(4, "1"),
                resource(2, "missing"),
            ],
            include_synonyms: true,
            include_documentation: version >= 3,
        };
        wire.call(version, &request, |r: DescribeConfigsResponse<'_>| {
            assert_eq!(r.results[0].error_code, 0);
            assert!(
                r.results[0]
                    .configs
                    .iter()
                    .any(|c| c.name == "retention.ms")
            );
            assert!(r.results[1].configs.iter().any(|c| c.name == "log.dirs"));
            assert_eq!(
                r.results[2].error_code,
                ErrorCode::UnknownTopicOrPartition.code()
            );
        })
        .await;
    }
    for version in api_range(ApiKey::DescribeCluster) {
        let request = DescribeClusterRequest {
            endpoint_type: 1,
            ..Default::default()
        };
        wire.call(version, &request, |r: DescribeClusterResponse<'_>| {
            assert_eq!((r.error_code, r.brokers.len()), (0, 1));
        })
        .await;
    }
    for version in api_range(ApiKey::CreateTopics) {
        let name = format!("created-{version}");
        wire.call(
            version,
            &create_request(&name, 2, &[]),
            |r: CreateTopicsResponse<'_>| {
                assert_eq!(r.topics[0].error_code, 0, "version {version}");
            },
        )
        .await;
    }
    for version in api_range(ApiKey::DeleteTopics) {
        use esker_protocol::messages::delete_topics_request::DeleteTopicState;
        let name = format!("created-{}", version + 1);
        let request = if version >= 6 {
            DeleteTopicsRequest {
                topics: vec![DeleteTopicState {
                    name: Some(Cow::Borrowed(&name)),
                    topic_id: TopicId::ZERO,
                }],
                timeout_ms: 10_000,
                ..DeleteTopicsRequest::default()
            }
        } else {
            DeleteTopicsRequest {
                topic_names: vec![Cow::Borrowed(&name)],
                timeout_ms: 10_000,
                ..DeleteTopicsRequest::default()
            }
        };
        let expected = if name == "created-2" || version >= 1 {
            0
        } else {
            3
        };
        wire.call(version, &request, |r: DeleteTopicsResponse<'_>| {
            assert_eq!(r.responses[0].error_code, expected, "version {version}");
        })
        .await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_page_cache_has_lost_is_read_from_the_disk() {
    let stores = Stores::new();
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    produce(&mut wire, "topic", batch(&[b"value"], NOW), -1).await;
    stores.disk.cache_nothing(true);
    let (code, high_watermark, records) = fetch(&mut wire, "topic", 0, 4096).await;
    assert_eq!((code, high_watermark), (0, 1));
    assert_eq!(Batches::new(&records).count(), 1);
    broker.stop().await;
}

fn metadata_request(topic: &str) -> MetadataRequest<'_> {
    use esker_protocol::messages::metadata_request::MetadataRequestTopic;
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            topic_id: TopicId::ZERO,
            name: Some(Cow::Borrowed(topic)),
        }]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    }
}

fn fetch_request<'a>(version: i16, id: TopicId) -> FetchRequest<'a> {
    use esker_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    FetchRequest {
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: Cow::Borrowed(if version < 13 { "topic" } else { "" }),
            topic_id: if version < 13 { TopicId::ZERO } else { id },
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
        }],
        ..FetchRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_are_not_served_close_the_connection_or_say_what_is() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    // ApiVersions 9: answered in version 0's form with the one row that helps (KIP-511).
    wire.raw(&[0, 0, 0, 11, 0, 18, 0, 9, 0, 0, 0, 7, 0xff, 0xff, 0])
        .await;
    let frame = wire.receive().await.expect("an answer");
    assert_eq!(
        frame.as_ref(),
        [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]
    );
    for bytes in [
        // Produce 2, an unknown API, Fetch 3, a frame that ends inside its header, garbage.
        &[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 7, 0xff, 0xff][..],
        &[0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 1, 0, 3, 0, 0, 0, 7, 0xff, 0xff],
        &[0, 0, 0, 3, 0, 1, 0],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut wire = Wire::connect(&broker).await;
        wire.raw(bytes).await;
        assert_eq!(wire.receive().await, None, "{bytes:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_refuses_what_kafka_refuses_with_its_codes() {
    let broker = common::start(&Stores::new(), &[("auto.create.topics.enable", "false")]).await;
    let mut wire = Wire::connect(&broker).await;
    let now = i64::try_from(
        std::time::UNIX_EPOCH
            .elapsed()
            .expect("the clock is after 1970")
            .as_millis(),
    )
    .expect("fits");
    create(&mut wire, "topic", 1, &[("max.message.bytes", "1000")]).await;
    create(
        &mut wire,
        "recent",
        1,
        &[("message.timestamp.before.max.ms", "1000")],
    )
    .await;
    create(&mut wire, "compacted", 1, &[("cleanup.policy", "compact")]).await;

    let good = batch(&[b"value"], now);
    assert_eq!(
        produce(&mut wire, "topic", good.clone(), -1).await,
        (0, 0, 0)
    );
    let check = async |wire: &mut Wire, topic: &str, batch: Vec<u8>, acks, code: ErrorCode| {
        let (found, base, _) = produce(wire, topic, batch.into(), acks).await;
        assert_eq!((found, base), (code.code(), -1), "{topic} {code}");
    };
    let mut corrupt = good.to_vec();
    *corrupt.last_mut().expect("not empty") ^= 1;
    let mut offset = good.to_vec();
    offset[7] = 1;
    let twice = [good.as_ref(), good.as_ref()].concat();
    let large = batch(&[&[7; 2000]], now).to_vec();
    check(
        &mut wire,
        "missing",
        good.to_vec(),
        -1,
        ErrorCode::UnknownTopicOrPartition,
    )
    .await;
    check(
        &mut wire,
        "topic",
        good.to_vec(),
        2,
        ErrorCode::InvalidRequiredAcks,
    )
    .await;
    check(&mut wire, "topic", Vec::new(), -1, ErrorCode::InvalidRecord).await;
    check(&mut wire, "topic", twice, -1, ErrorCode::InvalidRecord).await;
    check(&mut wire, "topic", offset, -1, ErrorCode::InvalidRecord).await;
    check(&mut wire, "topic", corrupt, -1, ErrorCode::CorruptMessage).await;
    check(&mut wire, "topic", large, 1, ErrorCode::MessageTooLarge).await;
    let old = batch(&[b"old"], now - 3_600_000).to_vec();
    check(&mut wire, "recent", old, -1, ErrorCode::InvalidTimestamp).await;
    let mut keyless = esker_protocol::records::BatchBuilder::new(BatchOptions::default());
    keyless
        .append(esker_protocol::Timestamp(now), None, Some(b"v"), &[])
        .expect("fits");
    let keyless = keyless.build().expect("builds").to_vec();
    check(
        &mut wire,
        "compacted",
        keyless,
        -1,
        ErrorCode::InvalidRecord,
    )
    .await;
    let transactional = BatchOptions {
        producer_id: ProducerId(5),
        producer_epoch: ProducerEpoch(0),
        base_sequence: 0,
        transactional: true,
        ..BatchOptions::default()
    };
    let transactional = batch_with(transactional, &[b"v"], now).to_vec();
    check(
        &mut wire,
        "topic",
        transactional.clone(),
        -1,
        ErrorCode::TransactionalIdAuthorizationFailed,
    )
    .await;
    let mut request = common::produce_request("topic", transactional.into(), -1);
    request.transactional_id = Some(Cow::Borrowed("transactions"));
    let code = wire
        .call(12, &request, |r: ProduceResponse<'_>| {
            r.responses[0].partition_responses[0].error_code
        })
        .await;
    assert_eq!(code, ErrorCode::InvalidTxnState.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_a_request_names_twice_is_written_once() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    let (first, last) = (batch(&[b"first"], NOW), batch(&[b"the last"], NOW));
    let mut request = common::produce_request("topic", first, -1);
    let again = common::produce_request("topic", last.clone(), -1);
    let empty = common::produce_request("nothing", last.clone(), -1);
    request.topic_data.extend(again.topic_data);
    request.topic_data.extend(empty.topic_data);
    request.topic_data[2].partition_data.clear();
    let answered = wire
        .call(12, &request, |r: ProduceResponse<'_>| {
            let partitions = r.responses.iter().flat_map(|t| &t.partition_responses);
            let answered: Vec<_> = partitions.map(|p| (p.error_code, p.base_offset)).collect();
            (r.responses.len(), answered)
        })
        .await;
    assert_eq!(answered, (1, vec![(0, 0)]));
    let (code, _, records) = fetch(&mut wire, "topic", 0, 1 << 20).await;
    assert_eq!((code, records.len()), (0, last.len()));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotent_batches_are_stored_once_and_in_order() {
    let stores = Stores::new();
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    let numbered = |sequence, epoch| {
        let options = BatchOptions {
            producer_id: ProducerId(9),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: sequence,
            ..BatchOptions::default()
        };
        batch_with(options, &[b"a", b"b"], NOW)
    };
    assert_eq!(
        produce(&mut wire, "topic", numbered(0, 1), -1).await,
        (0, 0, 0)
    );
    assert_eq!(
        produce(&mut wire, "topic", numbered(2, 1), -1).await,
        (0, 2, 0)
    );
    assert_eq!(
        produce(&mut wire, "topic", numbered(0, 1), -1).await,
        (0, 0, 0)
    );
    let out_of_order = ErrorCode::OutOfOrderSequenceNumber.code();
    assert_eq!(
        produce(&mut wire, "topic", numbered(6, 1), -1).await,
        (out_of_order, -1, 0)
    );
    let fenced = ErrorCode::InvalidProducerEpoch.code();
    assert_eq!(
        produce(&mut wire, "topic", numbered(4, 0), -1).await,
        (fenced, -1, 0)
    );
    broker.stop().await;

    // The state is the log's, not the process's.
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    assert_eq!(
        produce(&mut wire, "topic", numbered(2, 1), -1).await,
        (0, 2, 0)
    );
    assert_eq!(
        produce(&mut wire, "topic", numbered(4, 1), -1).await,
        (0, 4, 0)
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_zero_has_no_reply_and_a_refusal_closes_the_connection() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    wire.send(9, &common::produce_request("topic", batch(&[b"v"], NOW), 0))
        .await;
    // The next reply is that of the next request.
    let (code, high_watermark, _) = fetch(&mut wire, "topic", 0, 1 << 20).await;
    assert_eq!(code, 0);
    assert!((0..=1).contains(&high_watermark));
    wire.send(
        9,
        &common::produce_request("topic", batch(&[b"v"], NOW).slice(1..), 0),
    )
    .await;
    assert_eq!(wire.receive().await, None);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetch_returns_whole_batches_within_its_limits() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    for _ in 0..3 {
        assert_eq!(
            produce(&mut wire, "topic", batch(&[b"v", b"w"], NOW), -1)
                .await
                .0,
            0
        );
    }
    let count = |records: &[u8]| Batches::new(records).count();
    let one = batch(&[b"v", b"w"], NOW).len() as i32;
    // The first batch comes whatever the limit says; an offset inside a batch gets the batch.
    assert_eq!(count(&fetch(&mut wire, "topic", 0, 1).await.2), 1);
    assert_eq!(count(&fetch(&mut wire, "topic", 3, 2 * one).await.2), 2);
    assert_eq!(count(&fetch(&mut wire, "topic", 0, 1 << 20).await.2), 3);
    assert_eq!(
        fetch(&mut wire, "topic", 6, 1 << 20).await,
        (0, 6, Default::default())
    );
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    assert_eq!(fetch(&mut wire, "topic", 7, 1 << 20).await.0, out_of_range);
    assert_eq!(fetch(&mut wire, "topic", -1, 1 << 20).await.0, out_of_range);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(fetch(&mut wire, "missing", 0, 1).await.0, unknown);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_refused_with_kafkas_codes() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "a.b", 1, &[]).await;
    let check = async |wire: &mut Wire, request: CreateTopicsRequest<'_>, code: ErrorCode| {
        let found = wire
            .call(7, &request, |r: CreateTopicsResponse<'_>| {
                r.topics[0].error_code
            })
            .await;
        assert_eq!(found, code.code(), "{request:?}");
    };
    check(
        &mut wire,
        create_request("a.b", 1, &[]),
        ErrorCode::TopicAlreadyExists,
    )
    .await;
    check(
        &mut wire,
        create_request("a_b", 1, &[]),
        ErrorCode::InvalidTopicException,
    )
    .await;
    check(
        &mut wire,
        create_request("a b", 1, &[]),
        ErrorCode::InvalidTopicException,
    )
    .await;
    check(
        &mut wire,
        create_request("x", 0, &[]),
        ErrorCode::InvalidPartitions,
    )
    .await;
    check(
        &mut wire,
        create_request("x", 1, &[("no", "1")]),
        ErrorCode::InvalidConfig,
    )
    .await;
    check(
        &mut wire,
        create_request("x", 1, &[("segment.bytes", "1")]),
        ErrorCode::InvalidConfig,
    )
    .await;
    let compacted = [
        ("cleanup.policy", "compact"),
        ("remote.storage.enable", "true"),
    ];
    check(
        &mut wire,
        create_request("x", 1, &compacted),
        ErrorCode::InvalidConfig,
    )
    .await;
    let mut replicated = create_request("x", 1, &[]);
    replicated.topics[0].replication_factor = 3;
    check(&mut wire, replicated, ErrorCode::InvalidReplicationFactor).await;
    broker.stop().await;
}

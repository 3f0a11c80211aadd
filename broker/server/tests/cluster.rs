//! What tools ask of the cluster as a whole: topics page by page, log directories, the quorum,
//! features.

mod common;

use std::borrow::Cow;

use common::{Stores, Wire, api_range, batch, create, produce};
use esker_protocol::ErrorCode;
use esker_protocol::api::ApiKey;
use esker_protocol::messages::*;

const NOW: i64 = 1_700_000_000_000;

type Page = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

async fn page(wire: &mut Wire, topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> Page {
    use describe_topic_partitions_request::{Cursor, TopicRequest};
    let request = DescribeTopicPartitionsRequest {
        topics: topics
            .iter()
            .map(|name| TopicRequest {
                name: Cow::Borrowed(*name),
            })
            .collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(topic, partition_index)| Cursor {
            topic_name: Cow::Borrowed(topic),
            partition_index,
        }),
    };
    wire.call(0, &request, |r: DescribeTopicPartitionsResponse<'_>| {
        let topics = r.topics.iter().map(|topic| {
            let indexes = topic.partitions.iter().map(|one| {
                assert_eq!((one.leader_id, &one.isr_nodes[..]), (1, &[1][..]));
                one.partition_index
            });
            let name = topic.name.as_deref().unwrap_or_default().to_owned();
            (name, topic.error_code, indexes.collect())
        });
        let next = r.next_cursor.as_ref();
        let next = next.map(|next| (next.topic_name.to_string(), next.partition_index));
        (topics.collect(), next)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_described_page_by_page() {
    let limit = [("max.request.partition.size.limit", "4")];
    let broker = common::start(&Stores::new(), &limit).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "a", 2, &[]).await;
    create(&mut wire, "b", 3, &[]).await;
    create(&mut wire, "c", 1, &[]).await;
    let row = |name: &str, indexes: &[i32]| (name.to_owned(), 0, indexes.to_vec());
    let at = |name: &str, index| Some((name.to_owned(), index));
    // The broker's limit is less than what is asked for.
    assert_eq!(
        page(&mut wire, &[], 100, None).await,
        (vec![row("a", &[0, 1]), row("b", &[0, 1])], at("b", 2))
    );
    assert_eq!(
        page(&mut wire, &[], 100, Some(("b", 2))).await,
        (vec![row("b", &[2]), row("c", &[0])], None)
    );
    // A page that ends with a topic says where the next begins.
    assert_eq!(
        page(&mut wire, &["c", "a"], 2, None).await,
        (vec![row("a", &[0, 1])], at("c", 0))
    );
    assert_eq!(page(&mut wire, &[], 0, None).await.1, at("a", 1));
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let invalid = ErrorCode::InvalidTopicException.code();
    assert_eq!(
        page(&mut wire, &["b c", "missing"], 9, None).await,
        (
            vec![
                ("b c".to_owned(), invalid, vec![]),
                ("missing".to_owned(), unknown, vec![])
            ],
            None
        )
    );
    let bad_request = ErrorCode::InvalidRequest.code();
    for cursor in [("z", 0), ("a", -1)] {
        assert_eq!(
            page(&mut wire, &["a"], 9, Some(cursor)).await,
            (vec![("a".to_owned(), bad_request, vec![])], None)
        );
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_directories_are_described_with_what_is_in_them() {
    use describe_log_dirs_request::DescribableLogDirTopic;
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "a", 2, &[]).await;
    create(&mut wire, "b", 1, &[]).await;
    let written = batch(&[b"value"], NOW);
    produce(&mut wire, "a", written.clone(), -1).await;
    let some = vec![DescribableLogDirTopic {
        topic: Cow::Borrowed("a"),
        partitions: vec![0, 7],
    }];
    for version in api_range(ApiKey::DescribeLogDirs) {
        for (topics, expected) in [(None, 3), (Some(some.clone()), 1), (Some(vec![]), 0)] {
            let request = DescribeLogDirsRequest { topics };
            wire.call(version, &request, |r: DescribeLogDirsResponse<'_>| {
                assert_eq!((r.error_code, r.results.len()), (0, 1));
                let directory = &r.results[0];
                assert_eq!((directory.error_code, &*directory.log_dir), (0, "/data"));
                let partitions = directory.topics.iter().flat_map(|topic| &topic.partitions);
                assert_eq!(partitions.clone().count(), expected);
                let bytes: i64 = partitions.map(|one| one.partition_size).sum();
                let all = if expected > 0 {
                    written.len() as i64
                } else {
                    0
                };
                assert_eq!(bytes, all);
                assert_eq!(version >= 4, directory.total_bytes > 0);
            })
            .await;
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controller_stands_for_a_quorum() {
    use describe_quorum_request::{PartitionData, TopicData};
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    // A topic is there once a controller is.
    create(&mut wire, "settled", 1, &[]).await;
    let ask = |topic, index| DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: Cow::Borrowed(topic),
            partitions: vec![PartitionData {
                partition_index: index,
            }],
        }],
    };
    for version in api_range(ApiKey::DescribeQuorum) {
        let request = ask("__cluster_metadata", 0);
        wire.call(version, &request, |r: DescribeQuorumResponse<'_>| {
            let partition = &r.topics[0].partitions[0];
            assert_eq!((r.error_code, partition.error_code), (0, 0));
            assert_eq!(partition.leader_id, 1);
            assert!(partition.leader_epoch > 0 && partition.high_watermark > 0);
            assert_eq!(partition.current_voters.len(), 1);
            assert_eq!(partition.current_voters[0].replica_id, 1);
            assert!(partition.observers.is_empty());
            assert_eq!(r.nodes.len(), usize::from(version >= 2));
        })
        .await;
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        for request in [ask("topic", 0), ask("__cluster_metadata", 1)] {
            wire.call(version, &request, |r: DescribeQuorumResponse<'_>| {
                assert_eq!(r.topics[0].partitions[0].error_code, unknown);
            })
            .await;
        }
    }
    broker.stop().await;
}

async fn features(wire: &mut Wire, version: i16) -> (Vec<String>, Vec<(String, i16)>) {
    let request = ApiVersionsRequest {
        client_software_name: Cow::Borrowed("test"),
        client_software_version: Cow::Borrowed("1.0"),
    };
    wire.call(version, &request, |r: ApiVersionsResponse<'_>| {
        let supported = r.supported_features.iter();
        let finalized = r.finalized_features.iter();
        (
            supported.map(|one| one.name.to_string()).collect(),
            finalized
                .map(|one| (one.name.to_string(), one.max_version_level))
                .collect(),
        )
    })
    .await
}

async fn update(
    wire: &mut Wire,
    version: i16,
    (feature, level, kind): (&str, i16, i8),
    validate_only: bool,
) -> (i16, String) {
    use update_features_request::FeatureUpdateKey;
    let request = UpdateFeaturesRequest {
        timeout_ms: 10_000,
        feature_updates: vec![FeatureUpdateKey {
            feature: Cow::Borrowed(feature),
            max_version_level: level,
            allow_downgrade: version == 0 && kind != 1,
            upgrade_type: if version == 0 { 1 } else { kind },
        }],
        validate_only: validate_only && version >= 1,
    };
    wire.call(version, &request, |r: UpdateFeaturesResponse<'_>| {
        let message = r.error_message.as_deref().unwrap_or_default();
        (r.error_code, message.to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_are_shown_and_updated() {
    let stores = Stores::new();
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let finalized = |group: Option<i16>| {
        let levels = [
            ("eligible.leader.replicas.version", Some(1)),
            ("group.version", group),
            ("metadata.version", Some(30)),
        ];
        let levels = levels.iter();
        levels
            .filter_map(|(name, level)| Some(((*name).to_owned(), (*level)?)))
            .collect::<Vec<_>>()
    };
    let (supported, levels) = features(&mut wire, 4).await;
    assert_eq!(supported.len(), 3);
    assert_eq!(levels, finalized(Some(1)));
    // Version 3 cannot show what begins at 0.
    assert_eq!(features(&mut wire, 3).await.0, ["metadata.version"]);

    let (up, down) = (1, 2);
    let invalid = ErrorCode::InvalidUpdateVersion.code();
    for (what, problem) in [
        (
            ("group.version", 0, up),
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.",
        ),
        (
            ("group.version", 2, up),
            "Local controller 1 only supports versions 0-1",
        ),
        (
            ("share.version", 1, up),
            "Local controller 1 does not support this feature.",
        ),
        (
            ("group.version", -1, down),
            "A feature version cannot be less than 0.",
        ),
        (
            ("group.version", 0, 9),
            "The controller does not support the given upgrade type.",
        ),
        (
            ("metadata.version", 29, down),
            "The level of this feature is that of the version that runs.",
        ),
    ] {
        let (code, message) = update(&mut wire, 2, what, false).await;
        assert_eq!(code, invalid, "{what:?}");
        assert!(message.ends_with(problem), "{message}");
    }
    let lower = ("group.version", 0, down);
    assert_eq!(update(&mut wire, 2, lower, true).await.0, 0);
    assert_eq!(features(&mut wire, 4).await.1, finalized(Some(1)));
    // The first version cannot ask for a downgrade that Kafka's controller would see.
    assert_eq!(update(&mut wire, 0, lower, false).await.0, invalid);
    for version in 1..=2 {
        assert_eq!(update(&mut wire, version, lower, false).await.0, 0);
        assert_eq!(features(&mut wire, 4).await.1, finalized(None));
        let raise = ("group.version", 1, up);
        assert_eq!(update(&mut wire, version, raise, false).await.0, 0);
        assert_eq!(features(&mut wire, 4).await.1, finalized(Some(1)));
    }
    assert_eq!(update(&mut wire, 2, lower, false).await.0, 0);
    broker.stop().await;
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    assert_eq!(features(&mut wire, 4).await.1, finalized(None));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_controllers_are_not_here() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    for (kind, code) in [
        (2, ErrorCode::MismatchedEndpointType),
        (3, ErrorCode::UnsupportedEndpointType),
    ] {
        let request = DescribeClusterRequest {
            endpoint_type: kind,
            ..Default::default()
        };
        wire.call(1, &request, |r: DescribeClusterResponse<'_>| {
            assert_eq!(r.error_code, code.code());
        })
        .await;
    }
    broker.stop().await;
}

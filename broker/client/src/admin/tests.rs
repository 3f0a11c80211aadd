use std::collections::BTreeSet;

use esker_protocol::api::ApiKey;
use esker_protocol::messages::*;
use esker_protocol::primitive::{Decode, Response};
use esker_protocol::sample::{Random, message};
use esker_protocol::{BrokerId, ErrorCode, Offset, Timestamp};
use tokio::time::Duration;

use super::*;
use crate::testing::{Fault, Network, TOPIC, answer, within};
use crate::{ConfigChange, ConfigResource, ConfigSource, OffsetSpec};

#[test]
fn settings_tell_where_they_come_from_and_are_sorted() {
    let network = Network::new();
    network.script(ApiKey::DescribeConfigs, |request, _| {
        let asked: DescribeConfigsRequest<'_> = request.decode().expect("a request");
        let resource = &asked.resources[0];
        assert_eq!(
            (resource.resource_type, &*resource.resource_name),
            (2, TOPIC)
        );
        let entry = |name: &'static str, config_source| {
            describe_configs_response::DescribeConfigsResourceResult {
                name: name.into(),
                value: Some("1".into()),
                config_source,
                config_type: 5,
                ..Default::default()
            }
        };
        let response = DescribeConfigsResponse {
            results: vec![describe_configs_response::DescribeConfigsResult {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs: vec![entry("b", 1), entry("a", 5), entry("c", 77)],
                ..Default::default()
            }],
            ..Default::default()
        };
        answer(request, &response)
    });
    network.run(async {
        let client = network.client();
        let topic = ConfigResource::Topic(TOPIC.to_owned());
        let entries = client
            .describe_config(&topic, within(5))
            .await
            .expect("settings");
        let found: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.source, entry.kind))
            .collect();
        let expected = [
            ("a", ConfigSource::Default, "long"),
            ("b", ConfigSource::Topic, "long"),
            ("c", ConfigSource::Unknown, "long"),
        ];
        assert_eq!(found, expected);
        let settings = client.describe_topic_settings(TOPIC, within(5)).await;
        let set: Vec<bool> = settings
            .expect("settings")
            .iter()
            .map(|setting| setting.is_set)
            .collect();
        assert_eq!(set, [false, true, false]);
    });
}

#[test]
fn a_brokers_settings_are_asked_of_that_broker() {
    let network = Network::new();
    network.script(ApiKey::DescribeConfigs, |request, _| {
        let result = describe_configs_response::DescribeConfigsResult::default();
        let response = DescribeConfigsResponse {
            results: vec![result],
            ..Default::default()
        };
        answer(request, &response)
    });
    network.run(async {
        let client = network.client();
        // Nobody else answers: the one that the client begins with is away from now on.
        client.metadata(None, within(5)).await.expect("metadata");
        network.state().away.push("first".to_owned());
        let here = ConfigResource::Broker(BrokerId(3));
        assert_eq!(
            client
                .describe_config(&here, within(5))
                .await
                .expect("none"),
            []
        );
        let absent = ConfigResource::Broker(BrokerId(7));
        let error = client
            .describe_config(&absent, within(5))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::BrokerNotAvailable));
        assert!(
            error
                .to_string()
                .ends_with("there is no broker 7, or it is away")
        );
    });
}

#[test]
fn changes_are_sent_as_they_are_and_tried_again_where_that_helps() {
    let network = Network::new();
    network.script(ApiKey::IncrementalAlterConfigs, |request, code| {
        let asked: IncrementalAlterConfigsRequest<'_> = request.decode().expect("a request");
        let resource = &asked.resources[0];
        let sent: Vec<_> = resource
            .configs
            .iter()
            .map(|one| (&*one.name, one.config_operation, one.value.as_deref()))
            .collect();
        assert_eq!(sent, [("a", 0, Some("1")), ("b", 1, None)]);
        assert!(asked.validate_only);
        let response = IncrementalAlterConfigsResponse {
            responses: vec![
                incremental_alter_configs_response::AlterConfigsResourceResponse {
                    error_code: code.code(),
                    error_message: (code != ErrorCode::None).then(|| "no".into()),
                    ..Default::default()
                },
            ],
            ..Default::default()
        };
        answer(request, &response)
    });
    let changes = [
        ConfigChange::Set("a".to_owned(), "1".to_owned()),
        ConfigChange::Delete("b".to_owned()),
    ];
    let group = ConfigResource::Group("g".to_owned());
    network.fail(
        ApiKey::IncrementalAlterConfigs,
        [
            Some(Fault::Refused(ErrorCode::NotController)),
            None,
            Some(Fault::Refused(ErrorCode::InvalidConfig)),
            Some(Fault::Refused(ErrorCode::UnknownTopicOrPartition)),
        ],
    );
    network.run(async {
        let client = network.client();
        let alter = || client.alter_config(&group, &changes, true, within(5));
        alter().await.expect("they can be changed");
        assert_eq!(network.calls(ApiKey::IncrementalAlterConfigs), 2);
        let refused = alter().await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "changing the settings of group g: INVALID_CONFIG: no"
        );
        let unknown = alter().await.unwrap_err();
        assert_eq!(unknown.code(), Some(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(network.calls(ApiKey::IncrementalAlterConfigs), 4);
    });
}

#[test]
fn offsets_of_many_partitions_are_asked_for_at_once_and_unknown_ones_refused_at_once() {
    let network = Network::new();
    let moved = Some(Fault::Refused(ErrorCode::NotLeaderOrFollower));
    network.fail(ApiKey::ListOffsets, [moved]);
    network.run(async {
        let client = network.client();
        let place = |topic: &str, partition| (topic.to_owned(), partition);
        let wanted = BTreeSet::from([
            place(TOPIC, 0),
            place(TOPIC, 1),
            place(TOPIC, 2),
            place("absent", 0),
        ]);
        let listed = client
            .list_offsets(&wanted, OffsetSpec::Earliest, within(5))
            .await;
        assert_eq!(listed.len(), 4);
        for partition in [0, 1] {
            let found = listed[&place(TOPIC, partition)]
                .as_ref()
                .expect("an offset");
            assert_eq!(found.map(|found| found.offset), Some(Offset(0)));
        }
        for absent in [place(TOPIC, 2), place("absent", 0)] {
            let error = listed[&absent].as_ref().unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
        }
        assert_eq!(network.calls(ApiKey::ListOffsets), 2);
        let at = OffsetSpec::At(Timestamp(9));
        let wanted = BTreeSet::from([place(TOPIC, 0)]);
        let listed = client.list_offsets(&wanted, at, within(5)).await;
        assert!(matches!(listed[&place(TOPIC, 0)], Ok(None)));
    });
}

#[test]
fn partitions_whose_leader_stays_away_have_an_outcome_at_the_deadline() {
    let network = Network::new();
    network.state().away.push("leader".to_owned());
    network.run(async {
        let client = network.client();
        let wanted = BTreeSet::from([(TOPIC.to_owned(), 0), (TOPIC.to_owned(), 1)]);
        let started = Instant::now();
        let listed = client
            .list_offsets(&wanted, OffsetSpec::Latest, within(5))
            .await;
        assert!(started.elapsed() <= Duration::from_secs(5));
        assert_eq!(listed.len(), 2);
        let late = |one: &Result<_, ClientError>| matches!(one, Err(ClientError::Deadline { .. }));
        assert!(listed.values().all(late));
    });
}

#[test]
fn old_brokers_are_asked_for_the_cluster_as_they_know_it() {
    for newest in [2, 1, 0] {
        let network = Network::new();
        network
            .state()
            .newest
            .insert(ApiKey::DescribeCluster, newest);
        network.script(ApiKey::DescribeCluster, move |request, _| {
            let asked: DescribeClusterRequest = request.decode().expect("a request");
            assert_eq!(asked.include_fenced_brokers, newest >= 2);
            let response = DescribeClusterResponse {
                cluster_id: "c".into(),
                brokers: vec![describe_cluster_response::DescribeClusterBroker {
                    broker_id: 3,
                    host: "h".into(),
                    port: 9,
                    ..Default::default()
                }],
                ..Default::default()
            };
            answer(request, &response)
        });
        network.run(async {
            let client = network.client();
            let cluster = client.describe_cluster(within(5)).await.expect("a cluster");
            assert_eq!(
                (cluster.cluster_id.as_str(), cluster.controller),
                ("c", None)
            );
            assert_eq!(cluster.brokers[&BrokerId(3)].port, 9);
        });
    }
}

/// Answers an API with random valid messages.
fn babble<T: Response + Decode<'static>>(network: &Network, api: ApiKey, seed: u64) {
    let mut random = Random::new(seed);
    network.script(api, move |request, _| {
        let body: T = message(&mut random, request.version);
        answer(request, &body)
    });
}

#[test]
fn whatever_brokers_answer_every_call_ends_with_an_outcome() {
    for seed in 0..200 {
        let network = Network::new();
        babble::<DescribeConfigsResponse<'_>>(&network, ApiKey::DescribeConfigs, seed);
        babble::<IncrementalAlterConfigsResponse<'_>>(
            &network,
            ApiKey::IncrementalAlterConfigs,
            seed,
        );
        babble::<ListConfigResourcesResponse<'_>>(&network, ApiKey::ListConfigResources, seed);
        babble::<DescribeClusterResponse<'_>>(&network, ApiKey::DescribeCluster, seed);
        babble::<DescribeLogDirsResponse<'_>>(&network, ApiKey::DescribeLogDirs, seed);
        babble::<ListGroupsResponse<'_>>(&network, ApiKey::ListGroups, seed);
        babble::<DescribeGroupsResponse<'_>>(&network, ApiKey::DescribeGroups, seed);
        babble::<ConsumerGroupDescribeResponse<'_>>(&network, ApiKey::ConsumerGroupDescribe, seed);
        babble::<DeleteGroupsResponse<'_>>(&network, ApiKey::DeleteGroups, seed);
        babble::<OffsetFetchResponse<'_>>(&network, ApiKey::OffsetFetch, seed);
        babble::<OffsetCommitResponse<'_>>(&network, ApiKey::OffsetCommit, seed);
        babble::<OffsetDeleteResponse<'_>>(&network, ApiKey::OffsetDelete, seed);
        babble::<ListOffsetsResponse<'_>>(&network, ApiKey::ListOffsets, seed);
        if seed % 2 == 0 {
            babble::<FindCoordinatorResponse<'_>>(&network, ApiKey::FindCoordinator, seed);
        } else {
            network.script(ApiKey::FindCoordinator, |request, _| {
                let coordinators = vec![find_coordinator_response::Coordinator {
                    key: "g".into(),
                    host: "h".into(),
                    port: 1,
                    ..Default::default()
                }];
                let response = FindCoordinatorResponse {
                    coordinators,
                    ..Default::default()
                };
                answer(request, &response)
            });
        }
        network.run(async {
            let client = network.client();
            let deadline = || within(2);
            let groups = ["g".to_owned()];
            let place = (TOPIC.to_owned(), 0);
            let topic = ConfigResource::Topic(TOPIC.to_owned());
            let changes = [ConfigChange::Delete("a".to_owned())];
            // Which outcome it is does not matter, and no group or partition is left without one.
            let _ = client.describe_config(&topic, deadline()).await;
            let _ = client
                .alter_config(&topic, &changes, false, deadline())
                .await;
            let _ = client.list_config_resources(deadline()).await;
            let _ = client.describe_cluster(deadline()).await;
            let _ = client.features(deadline()).await;
            client.metadata(None, deadline()).await.expect("metadata");
            let _ = client.log_dirs(BrokerId(3), deadline()).await;
            let _ = client.list_groups(&[], &[], deadline()).await;
            assert_eq!(client.describe_groups(&groups, deadline()).await.len(), 1);
            assert_eq!(client.committed_offsets(&groups, deadline()).await.len(), 1);
            assert_eq!(client.delete_groups(&groups, deadline()).await.len(), 1);
            let offsets = [(place.clone(), Offset(1))].into();
            if let Ok(set) = client.set_offsets("g", offsets, deadline()).await {
                assert_eq!(set.len(), 1);
            }
            let places = BTreeSet::from([place]);
            if let Ok(deleted) = client.delete_offsets("g", places.clone(), deadline()).await {
                assert_eq!(deleted.len(), 1);
            }
            let listed = client
                .list_offsets(&places, OffsetSpec::Latest, deadline())
                .await;
            assert_eq!(listed.len(), 1);
        });
    }
}

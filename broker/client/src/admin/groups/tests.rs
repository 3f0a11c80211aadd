use std::sync::Arc;

use esker_protocol::api::ApiKey;
use esker_protocol::frame::RequestFrame;
use esker_protocol::messages::*;
use esker_protocol::primitive::{Encode, Writer};

use super::*;
use crate::testing::{Fault, Network, TOPIC, answer, within};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A network whose brokers name one coordinator for every group.
fn coordinated() -> Arc<Network> {
    let network = Network::new();
    network.script(ApiKey::FindCoordinator, |request, code| {
        let asked: FindCoordinatorRequest<'_> = request.decode().expect("a request");
        assert_eq!(asked.key_type, 0);
        let host = || "coordinator".into();
        let coordinators =
            asked
                .coordinator_keys
                .iter()
                .map(|key| find_coordinator_response::Coordinator {
                    key: key.clone(),
                    node_id: 4,
                    host: host(),
                    port: 4,
                    error_code: code.code(),
                    error_message: None,
                });
        let coordinators: Vec<_> = coordinators.collect();
        let response = if request.version >= 4 {
            FindCoordinatorResponse {
                coordinators,
                ..Default::default()
            }
        } else {
            FindCoordinatorResponse {
                error_code: code.code(),
                node_id: 4,
                host: host(),
                port: 4,
                ..Default::default()
            }
        };
        answer(request, &response)
    });
    network
}

fn deleted(request: &RequestFrame<'_>, code: impl Fn(&str) -> ErrorCode) -> Vec<bytes::Bytes> {
    let asked: DeleteGroupsRequest<'_> = request.decode().expect("a request");
    let results =
        asked
            .groups_names
            .iter()
            .map(|group| delete_groups_response::DeletableGroupResult {
                group_id: group.clone(),
                error_code: code(group).code(),
            });
    let response = DeleteGroupsResponse {
        results: results.collect(),
        ..Default::default()
    };
    answer(request, &response)
}

fn refusals(codes: &[ErrorCode]) -> Vec<Option<Fault>> {
    codes
        .iter()
        .map(|code| Some(Fault::Refused(*code)))
        .collect()
}

#[test]
fn coordinators_that_move_load_or_are_not_there_yet_are_looked_for_again() {
    for newest_find in [6, 3] {
        let network = coordinated();
        let newest = newest_find;
        network
            .state()
            .newest
            .insert(ApiKey::FindCoordinator, newest);
        network.script(ApiKey::DeleteGroups, |request, code| {
            deleted(request, |_| code)
        });
        network.fail(
            ApiKey::FindCoordinator,
            refusals(&[ErrorCode::CoordinatorNotAvailable]),
        );
        let later = [
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::CoordinatorNotAvailable,
        ];
        network.fail(ApiKey::DeleteGroups, refusals(&later));
        network.fail(ApiKey::DeleteGroups, [Some(Fault::LostBefore)]);
        network.run(async {
            let client = network.client();
            let outcomes = client.delete_groups(&names(&["g"]), within(10)).await;
            assert!(outcomes["g"].is_ok(), "{outcomes:?}");
            assert_eq!(network.calls(ApiKey::DeleteGroups), 5);
            assert_eq!(network.calls(ApiKey::FindCoordinator), 6);
        });
    }
}

#[test]
fn a_coordinator_that_stays_away_ends_at_the_deadline() {
    let network = coordinated();
    network.state().away.push("coordinator".to_owned());
    network.run(async {
        let client = network.client();
        let started = Instant::now();
        let outcomes = client.delete_groups(&names(&["a", "b"]), within(10)).await;
        assert!(started.elapsed() <= Duration::from_secs(10));
        for group in ["a", "b"] {
            let error = outcomes[group].as_ref().unwrap_err();
            assert!(matches!(error, ClientError::Deadline { last: Some(_), .. }));
            assert!(error.to_string().contains("coordinator:4"), "{error}");
        }
    });
}

#[test]
fn the_error_of_one_group_fails_no_other() {
    let network = coordinated();
    network.script(ApiKey::DeleteGroups, |request, _| {
        deleted(request, |group| match group {
            "full" => ErrorCode::NonEmptyGroup,
            _ => ErrorCode::None,
        })
    });
    network.run(async {
        let client = network.client();
        let outcomes = client
            .delete_groups(&names(&["full", "idle", "idle"]), within(5))
            .await;
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes["idle"].is_ok());
        let error = outcomes["full"].as_ref().unwrap_err();
        assert_eq!(error.to_string(), "deleting group full: NON_EMPTY_GROUP");
        assert_eq!(network.calls(ApiKey::DeleteGroups), 1);
    });
}

#[test]
fn a_group_that_the_answer_leaves_out_has_an_outcome_nevertheless() {
    let network = coordinated();
    network.script(ApiKey::DeleteGroups, |request, _| {
        answer(request, &DeleteGroupsResponse::default())
    });
    network.run(async {
        let client = network.client();
        let outcomes = client.delete_groups(&names(&["g"]), within(5)).await;
        let error = outcomes["g"].as_ref().unwrap_err();
        assert!(matches!(error, ClientError::Nonsense { .. }), "{error}");
    });
}

#[test]
fn many_groups_are_asked_about_in_bounded_requests() {
    let network = coordinated();
    network.script(ApiKey::DeleteGroups, |request, _| {
        let asked: DeleteGroupsRequest<'_> = request.decode().expect("a request");
        assert!(asked.groups_names.len() <= 200);
        deleted(request, |_| ErrorCode::None)
    });
    network.run(async {
        let client = network.client();
        let groups: Vec<String> = (0..450).map(|n| format!("group-{n}")).collect();
        let outcomes = client.delete_groups(&groups, within(5)).await;
        assert_eq!(outcomes.len(), 450);
        assert!(outcomes.values().all(Result::is_ok));
        assert_eq!(network.calls(ApiKey::DeleteGroups), 3);
    });
}

/// The bytes of an assignment, as the Java client writes them.
fn assignment(version: i16, topic: &str, partitions: &[i32]) -> Vec<u8> {
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
            topic: topic.into(),
            partitions: partitions.to_vec(),
        }],
        user_data: None,
    };
    let mut writer = Writer::new();
    assignment
        .encode(&mut writer, version.min(3))
        .expect("an assignment");
    [&version.to_be_bytes()[..], &writer.into_bytes()].concat()
}

#[test]
fn assignments_of_classic_members_are_read_and_bad_bytes_are_none() {
    let owned = BTreeSet::from([(TOPIC.to_owned(), 0), (TOPIC.to_owned(), 2)]);
    for version in [0, 3, 9] {
        let bytes = assignment(version, TOPIC, &[0, 2]);
        assert_eq!(consumers_assignment(&bytes), Some(owned.clone()));
    }
    assert_eq!(consumers_assignment(&[]), Some(BTreeSet::new()));
    let whole = assignment(1, TOPIC, &[0, 2]);
    for cut in 1..whole.len() {
        assert_eq!(consumers_assignment(&whole[..cut]), None, "{cut}");
    }
    assert_eq!(consumers_assignment(&[0xff; 40]), None);
    // An array that claims more than there is.
    assert_eq!(consumers_assignment(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
}

fn classic(request: &RequestFrame<'_>, gone: bool) -> Vec<bytes::Bytes> {
    let asked: DescribeGroupsRequest<'_> = request.decode().expect("a request");
    let groups = asked.groups.iter().map(|group| {
        if gone {
            let code = if request.version >= 6 {
                ErrorCode::GroupIdNotFound
            } else {
                ErrorCode::None
            };
            return describe_groups_response::DescribedGroup {
                error_code: code.code(),
                group_id: group.clone(),
                group_state: "Dead".into(),
                ..Default::default()
            };
        }
        describe_groups_response::DescribedGroup {
            group_id: group.clone(),
            group_state: "Stable".into(),
            protocol_type: "consumer".into(),
            protocol_data: "range".into(),
            members: vec![describe_groups_response::DescribedGroupMember {
                member_id: "m".into(),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                member_assignment: assignment(1, TOPIC, &[1]).into(),
                ..Default::default()
            }],
            ..Default::default()
        }
    });
    let response = DescribeGroupsResponse {
        groups: groups.collect(),
        ..Default::default()
    };
    answer(request, &response)
}

fn no_consumer_groups(network: &Network) {
    network.script(ApiKey::ConsumerGroupDescribe, |request, _| {
        let asked: ConsumerGroupDescribeRequest<'_> = request.decode().expect("a request");
        let groups =
            asked
                .group_ids
                .iter()
                .map(|group| consumer_group_describe_response::DescribedGroup {
                    error_code: ErrorCode::GroupIdNotFound.code(),
                    error_message: Some("it is no consumer group".into()),
                    group_id: group.clone(),
                    ..Default::default()
                });
        let response = ConsumerGroupDescribeResponse {
            groups: groups.collect(),
            ..Default::default()
        };
        answer(request, &response)
    });
}

#[test]
fn classic_groups_are_found_where_there_are_consumer_groups_and_where_there_are_none() {
    for knows_consumer_groups in [true, false] {
        let network = coordinated();
        if knows_consumer_groups {
            no_consumer_groups(&network);
        } else {
            let newest = &mut network.state().newest;
            newest.insert(ApiKey::ConsumerGroupDescribe, -1);
        }
        network.script(ApiKey::DescribeGroups, |request, _| classic(request, false));
        network.run(async {
            let client = network.client();
            let outcomes = client.describe_groups(&names(&["g"]), within(5)).await;
            let group = outcomes["g"].as_ref().expect("a group");
            assert_eq!(group.kind, GroupKind::Classic);
            assert_eq!(group.coordinator.broker, BrokerId(4));
            assert!(!group.is_inactive());
            let owned = BTreeSet::from([(TOPIC.to_owned(), 1)]);
            assert_eq!(group.members[0].assignment, Some(owned));
        });
    }
}

#[test]
fn a_group_that_is_not_there_is_not_found_in_every_version() {
    for newest in [6, 5] {
        let network = coordinated();
        no_consumer_groups(&network);
        network
            .state()
            .newest
            .insert(ApiKey::DescribeGroups, newest);
        network.script(ApiKey::DescribeGroups, |request, _| classic(request, true));
        network.run(async {
            let client = network.client();
            let outcomes = client.describe_groups(&names(&["g"]), within(5)).await;
            let error = outcomes["g"].as_ref().unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound));
        });
    }
}

#[test]
fn offsets_are_fetched_in_old_versions_one_group_at_a_time() {
    for newest in [9, 8, 7, 2] {
        let network = coordinated();
        network.state().newest.insert(ApiKey::OffsetFetch, newest);
        network.script(ApiKey::OffsetFetch, |request, _| {
            let asked: OffsetFetchRequest<'_> = request.decode().expect("a request");
            let response = if request.version >= 8 {
                let groups = asked.groups.iter().map(|group| {
                    assert!(group.topics.is_none(), "all are asked for");
                    let partition = |partition_index, committed_offset| {
                        offset_fetch_response::OffsetFetchResponsePartitions {
                            partition_index,
                            committed_offset,
                            ..Default::default()
                        }
                    };
                    offset_fetch_response::OffsetFetchResponseGroup {
                        group_id: group.group_id.clone(),
                        topics: vec![offset_fetch_response::OffsetFetchResponseTopics {
                            name: TOPIC.into(),
                            partitions: vec![partition(0, 7), partition(1, -1)],
                            ..Default::default()
                        }],
                        error_code: 0,
                    }
                });
                OffsetFetchResponse {
                    groups: groups.collect(),
                    ..Default::default()
                }
            } else {
                assert!(asked.topics.is_none(), "all are asked for");
                let partition = |partition_index, committed_offset| {
                    offset_fetch_response::OffsetFetchResponsePartition {
                        partition_index,
                        committed_offset,
                        ..Default::default()
                    }
                };
                OffsetFetchResponse {
                    topics: vec![offset_fetch_response::OffsetFetchResponseTopic {
                        name: TOPIC.into(),
                        partitions: vec![partition(0, 7), partition(1, -1)],
                    }],
                    ..Default::default()
                }
            };
            answer(request, &response)
        });
        network.run(async {
            let client = network.client();
            let outcomes = client
                .committed_offsets(&names(&["a", "b"]), within(5))
                .await;
            assert_eq!(outcomes.len(), 2);
            for committed in outcomes.values() {
                let committed = committed.as_ref().expect("offsets");
                assert_eq!(committed.len(), 1, "below zero there is none");
                assert_eq!(committed[&(TOPIC.to_owned(), 0)].offset, Offset(7));
            }
            let calls = if newest >= 8 { 1 } else { 2 };
            assert_eq!(network.calls(ApiKey::OffsetFetch), calls);
        });
    }
}

#[test]
fn brokers_that_cannot_tell_all_offsets_are_named() {
    let network = coordinated();
    network.state().newest.insert(ApiKey::OffsetFetch, 1);
    network.run(async {
        let client = network.client();
        let outcomes = client.committed_offsets(&names(&["g"]), within(5)).await;
        let error = outcomes["g"].as_ref().unwrap_err().to_string();
        assert!(
            error.starts_with("coordinator:4: the broker serves OffsetFetch"),
            "{error}"
        );
    });
}

fn committing(network: &Network, codes: impl Fn(i32) -> ErrorCode + Send + 'static) {
    network.script(ApiKey::OffsetCommit, move |request, code| {
        let asked: OffsetCommitRequest<'_> = request.decode().expect("a request");
        assert_eq!(
            (&*asked.member_id, asked.generation_id_or_member_epoch),
            ("", -1)
        );
        let topics = asked.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                assert_eq!(
                    partition.committed_offset,
                    i64::from(partition.partition_index)
                );
                let code = match code {
                    ErrorCode::None => codes(partition.partition_index),
                    code => code,
                };
                offset_commit_response::OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code.code(),
                }
            });
            offset_commit_response::OffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        let response = OffsetCommitResponse {
            topics: topics.collect(),
            ..Default::default()
        };
        answer(request, &response)
    });
}

#[test]
fn offsets_are_set_and_each_partition_has_its_outcome() {
    let network = coordinated();
    committing(&network, |partition| match partition {
        1 => ErrorCode::UnknownTopicOrPartition,
        _ => ErrorCode::None,
    });
    let loading = refusals(&[ErrorCode::CoordinatorLoadInProgress]);
    network.fail(ApiKey::OffsetCommit, loading);
    network.run(async {
        let client = network.client();
        let offsets = (0..3).map(|n| ((TOPIC.to_owned(), n), Offset(n.into())));
        let outcomes = client
            .set_offsets("g", offsets.collect(), within(5))
            .await
            .expect("an answer");
        assert_eq!(outcomes.len(), 3);
        for ((_, partition), outcome) in &outcomes {
            assert_eq!(outcome.is_err(), *partition == 1);
        }
        // Loading was waited for; what a partition is refused with is not.
        assert_eq!(network.calls(ApiKey::OffsetCommit), 2);
        assert!(network.state().seen.contains(&(ApiKey::OffsetCommit, 9)));
    });
}

#[test]
fn groups_are_listed_of_all_brokers_and_filters_need_brokers_that_know_them() {
    let network = coordinated();
    network.script(ApiKey::ListGroups, |request, code| {
        let asked: ListGroupsRequest<'_> = request.decode().expect("a request");
        let group = |group: &'static str| list_groups_response::ListedGroup {
            group_id: group.into(),
            protocol_type: "consumer".into(),
            group_state: if request.version >= 4 { "Stable" } else { "" }.into(),
            group_type: if request.version >= 5 { "classic" } else { "" }.into(),
        };
        let filtered = !asked.states_filter.is_empty();
        let response = ListGroupsResponse {
            error_code: code.code(),
            groups: if filtered {
                Vec::new()
            } else {
                vec![group("b"), group("a"), group("b")]
            },
            ..Default::default()
        };
        answer(request, &response)
    });
    network.fail(
        ApiKey::ListGroups,
        refusals(&[ErrorCode::CoordinatorLoadInProgress]),
    );
    network.run(async {
        let client = network.client();
        let listed = client
            .list_groups(&[], &[], within(5))
            .await
            .expect("groups");
        let ids: Vec<&str> = listed.iter().map(|group| group.group.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(listed[0].coordinator, BrokerId(3));
        let states = names(&["Empty"]);
        let none = client.list_groups(&states, &[], within(5)).await;
        assert_eq!(none.expect("groups"), []);
    });
    for (newest, states, types) in [(3, "Empty", ""), (4, "", "classic")] {
        let network = coordinated();
        network.state().newest.insert(ApiKey::ListGroups, newest);
        network.run(async {
            let client = network.client();
            let filter = |text: &str| {
                names(&[text])
                    .into_iter()
                    .filter(|one| !one.is_empty())
                    .collect()
            };
            let (states, types): (Vec<String>, Vec<String>) = (filter(states), filter(types));
            let error = client
                .list_groups(&states, &types, within(5))
                .await
                .unwrap_err();
            assert!(
                error.to_string().contains("the broker serves ListGroups"),
                "{error}"
            );
        });
    }
}

#[test]
fn a_coordinator_at_no_port_is_nonsense() {
    let network = Network::new();
    network.script(ApiKey::FindCoordinator, |request, _| {
        let coordinators = vec![find_coordinator_response::Coordinator {
            key: "g".into(),
            host: "h".into(),
            port: 70_000,
            ..Default::default()
        }];
        let response = FindCoordinatorResponse {
            coordinators,
            ..Default::default()
        };
        answer(request, &response)
    });
    network.run(async {
        let client = network.client();
        let outcomes = client.delete_groups(&names(&["g"]), within(5)).await;
        let error = outcomes["g"].as_ref().unwrap_err();
        assert!(error.to_string().ends_with("70000 is no port"), "{error}");
    });
}

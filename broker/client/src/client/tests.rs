use esker_protocol::api::ApiKey;
use esker_protocol::messages::InitProducerIdRequest;

use super::*;
use crate::admin::NewTopic;
use crate::testing::{Fault, Network, TOPIC, TOPIC_ID, within};
use crate::{OffsetSpec, offsets::ListedOffset};

#[test]
fn metadata_names_brokers_and_topics() {
    let network = Network::new();
    network.run(async {
        let client = network.client();
        let metadata = client.metadata(None, within(5)).await.expect("metadata");
        assert_eq!(metadata.cluster_id.as_deref(), Some("cluster"));
        assert_eq!(metadata.controller, Some(BrokerId(3)));
        assert_eq!(metadata.topics[TOPIC].id, TOPIC_ID);
        assert_eq!(metadata.topics[TOPIC].partitions.len(), 2);
        let (leader, endpoint, _) = metadata.leader(TOPIC, 1).expect("a leader");
        assert_eq!(
            (leader, endpoint.to_string()),
            (BrokerId(3), "leader:3".to_owned())
        );
        assert_eq!(
            metadata.leader(TOPIC, 2).unwrap_err(),
            ErrorCode::UnknownTopicOrPartition
        );
        let absent = client
            .metadata(Some(&["absent"]), within(5))
            .await
            .expect("metadata");
        assert_eq!(
            absent.topics["absent"].error,
            Some(ErrorCode::UnknownTopicOrPartition)
        );
    });
}

#[test]
fn brokers_that_are_away_are_tried_again_until_the_deadline() {
    let network = Network::new();
    network.state().away.push("first".to_owned());
    network.run(async {
        let client = network.client();
        let started = Instant::now();
        let error = client.metadata(None, within(10)).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Deadline { last: Some(_), .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains("cannot connect to first:1"),
            "{error}"
        );
        assert!(started.elapsed() <= Duration::from_secs(10));
        // With pauses that grow to a second, ten seconds are about fifteen tries.
        assert!((10..25).contains(&network.state().connects));
        network.state().away.clear();
        client.metadata(None, within(10)).await.expect("metadata");
    });
}

#[test]
fn lost_answers_are_asked_for_again_where_that_is_harmless() {
    for fault in [
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::CutAnswer,
        Fault::Silence,
    ] {
        let network = Network::new();
        network.fail(ApiKey::InitProducerId, [Some(fault); 2]);
        network.run(async {
            let client = network.client();
            let (id, _) = client.init_producer_id(within(30)).await.expect("an id");
            assert!(id.0 > 0);
            let calls = |api| {
                network
                    .state()
                    .seen
                    .iter()
                    .filter(|seen| seen.0 == api)
                    .count()
            };
            assert_eq!(calls(ApiKey::InitProducerId), 3);
            network.fail(ApiKey::InitProducerId, [Some(fault)]);
            let request = InitProducerIdRequest::default();
            let once = client
                .call(Target::Any, None, &request, false, within(30))
                .await;
            assert!(once.unwrap_err().may_have_happened());
            assert_eq!(calls(ApiKey::InitProducerId), 4);
        });
    }
}

#[test]
fn one_connection_serves_all_clones_and_is_made_anew_when_it_fails() {
    let network = Network::new();
    network.run(async {
        let client = network.client();
        let clone = client.clone();
        let (one, two) = futures::join!(
            client.metadata(None, within(5)),
            clone.metadata(None, within(5))
        );
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(network.state().connects, 1);
        network.fail(ApiKey::Metadata, [Some(Fault::LostBefore)]);
        client.metadata(None, within(5)).await.expect("metadata");
        // Asked at the leader's own address, now that it is known, then of the other broker again.
        assert_eq!(network.state().connects, 2);
        client.metadata(None, within(5)).await.expect("metadata");
        assert_eq!(network.state().connects, 3);
    });
}

#[test]
fn topics_are_made_and_deleted() {
    for newest in [None, Some(4)] {
        let network = Network::new();
        if let Some(newest) = newest {
            network.state().newest.insert(ApiKey::DeleteTopics, newest);
        }
        network.run(async {
            let client = network.client();
            let topics = [NewTopic::new("new"), NewTopic::new(TOPIC)];
            let made = client
                .create_topics(&topics, false, within(5))
                .await
                .expect("an answer");
            assert!(made[0].1.is_ok());
            let refused = made[1].1.as_ref().unwrap_err();
            assert_eq!(refused.code(), Some(ErrorCode::TopicAlreadyExists));
            assert!(
                refused
                    .to_string()
                    .ends_with("TOPIC_ALREADY_EXISTS: it is there")
            );
            let deleted = client
                .delete_topics(&["new", "new"], within(5))
                .await
                .expect("an answer");
            assert!(deleted[0].1.is_ok() && deleted[1].1.is_err());
            assert_eq!(network.state().topics, [TOPIC]);
        });
    }
}

#[test]
fn offsets_are_asked_of_the_leader() {
    let network = Network::new();
    network.fail(
        ApiKey::ListOffsets,
        [Some(Fault::Refused(ErrorCode::NotLeaderOrFollower))],
    );
    network.run(async {
        let client = network.client();
        let earliest = client
            .list_offset(TOPIC, 0, OffsetSpec::Earliest, within(5))
            .await;
        let Some(ListedOffset {
            offset,
            timestamp: None,
            ..
        }) = earliest.expect("an answer")
        else {
            panic!("an offset without a timestamp");
        };
        assert_eq!(offset.0, 0);
        let at = OffsetSpec::At(esker_protocol::Timestamp(9));
        assert_eq!(
            client
                .list_offset(TOPIC, 0, at, within(5))
                .await
                .expect("an answer"),
            None
        );
        // The refusal made it look for the leader again.
        let asked = network
            .state()
            .seen
            .iter()
            .filter(|seen| seen.0 == ApiKey::Metadata)
            .count();
        assert_eq!(asked, 2);
    });
}

#[test]
fn futures_can_move_between_threads() {
    fn check<T: Send>(_: T) {}
    fn all(client: &Client, deadline: Instant) {
        check(client.metadata(None, deadline));
        check(client.list_offset("", 0, OffsetSpec::Latest, deadline));
        check(client.create_topics(&[], false, deadline));
        check(client.delete_topics(&[], deadline));
        check(client.describe_topic_settings("", deadline));
        check(client.list_groups(&[], &[], deadline));
        check(client.describe_groups(&[], deadline));
        check(client.committed_offsets(&[], deadline));
        check(client.set_offsets("", Default::default(), deadline));
        check(client.describe_cluster(deadline));
    }
    let _ = all;
}

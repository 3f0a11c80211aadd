use esker_client::{Partition, Topic};
use esker_protocol::{LeaderEpoch, Offset, TopicId};

use super::*;

pub(super) fn place(topic: &str, partition: i32) -> TopicPartition {
    (topic.to_owned(), partition)
}

pub(super) fn committed(offset: i64) -> CommittedOffset {
    CommittedOffset {
        offset: Offset(offset),
        leader_epoch: None,
        metadata: String::new(),
    }
}

pub(super) fn end(offset: i64) -> Result<Option<ListedOffset>, ClientError> {
    Ok(Some(ListedOffset {
        offset: Offset(offset),
        timestamp: None,
        leader_epoch: LeaderEpoch(0),
    }))
}

fn refused() -> ClientError {
    ClientError::Kafka {
        what: "looking up an offset".to_owned(),
        code: ErrorCode::LeaderNotAvailable,
        message: None,
    }
}

#[test]
fn states_and_types_are_kafkas_in_any_spelling() {
    assert_eq!(
        state("preparing-rebalance"),
        Ok("PreparingRebalance".to_owned())
    );
    assert_eq!(state("STABLE"), Ok("Stable".to_owned()));
    assert_eq!(kind("Consumer"), Ok("consumer".to_owned()));
    assert!(state("stabel").unwrap_err().contains("Stable"));
    assert!(kind("").is_err());
}

#[test]
fn lag_is_the_way_from_what_was_committed_to_the_end() {
    let offsets = BTreeMap::from([
        (place("a", 0), committed(5)),
        (place("a", 1), committed(7)),
        // Further than the log goes: it was made anew.
        (place("b", 0), committed(9)),
        (place("b", 1), committed(1)),
    ]);
    let owned = BTreeSet::from([place("a", 0), place("c", 0)]);
    let ends = BTreeMap::from([
        (place("a", 0), end(15)),
        (place("a", 1), end(7)),
        (place("b", 0), end(4)),
        (place("b", 1), Err(refused())),
        (place("c", 0), end(3)),
    ]);
    let progress = progress(&offsets, &owned, &ends);
    let found: Vec<_> = progress
        .iter()
        .map(|one| (one.current(), one.end, one.lag()))
        .collect();
    let expected = [
        (Some(5), Some(15), Some(10)),
        (Some(7), Some(7), Some(0)),
        (Some(9), Some(4), Some(-5)),
        (Some(1), None, None),
        (None, Some(3), None),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        Lag::of(&progress).to_string(),
        "lag 10 over 5 partitions, at most 10 in a-0, not known of 2"
    );
}

#[test]
fn lag_never_overflows() {
    let one = |committed_at, end| Progress {
        topic: "a".to_owned(),
        partition: 0,
        committed: Some(committed(committed_at)),
        end: Some(end),
    };
    let far = one(i64::MIN, i64::MAX);
    assert_eq!(far.lag(), Some(i64::MAX));
    let lag = Lag::of(&[far.clone(), far]);
    assert_eq!(lag.total, i64::MAX);
    assert_eq!(Lag::of(&[]).to_string(), "lag 0 over 0 partitions");
    let at_end = Lag::of(&[one(3, 3)]);
    assert_eq!(at_end.to_string(), "lag 0 over 1 partition");
}

#[test]
fn groups_are_listed_with_their_lag_where_it_was_asked_for() {
    let groups = [ListedGroup {
        group: "g\n1".to_owned(),
        protocol_type: String::new(),
        state: "Empty".to_owned(),
        kind: "classic".to_owned(),
        coordinator: esker_protocol::BrokerId(4),
    }];
    assert_eq!(
        listed(&groups, None),
        "GROUP  TYPE     PROTOCOL  STATE  COORDINATOR\n\
         g\\n1   classic  -         Empty  4"
    );
    let lag = Lag {
        total: 12,
        ..Lag::default()
    };
    let lags = BTreeMap::from([("g\n1".to_owned(), lag)]);
    assert!(listed(&groups, Some(&lags)).ends_with("Empty  4            12"));
    assert!(listed(&groups, Some(&BTreeMap::new())).ends_with("Empty  4            -"));
}

#[test]
fn partitions_are_selected_by_topic_and_number() {
    let all = |topic: &str| Selection {
        topic: topic.to_owned(),
        partitions: None,
    };
    assert_eq!(selection("events"), Ok(all("events")));
    let some = Selection {
        partitions: Some(BTreeSet::from([0, 7])),
        ..all("events")
    };
    assert_eq!(selection("events:7, 0,7"), Ok(some));
    for bad in [
        "",
        ":1",
        "events:",
        "events:a",
        "events:-1",
        "events:1,",
        "events:1:2",
    ] {
        assert!(selection(bad).is_err(), "{bad}");
    }
}

fn metadata() -> Metadata {
    let partition = Partition {
        error: None,
        leader: None,
        leader_epoch: LeaderEpoch(0),
        replicas: Vec::new(),
        isr: Vec::new(),
        offline: Vec::new(),
    };
    let topic = |error| Topic {
        id: TopicId::ZERO,
        is_internal: false,
        error,
        partitions: BTreeMap::from([(0, partition.clone()), (1, partition.clone())]),
    };
    let mut metadata = Metadata::default();
    metadata.topics.insert("here".to_owned(), topic(None));
    let gone = Some(ErrorCode::UnknownTopicOrPartition);
    metadata.topics.insert("gone".to_owned(), topic(gone));
    metadata
}

#[test]
fn only_partitions_that_exist_can_be_selected() {
    let choose = |text: &str| {
        let chosen = selected(&[selection(text).unwrap()], &metadata());
        chosen.map_err(|failure| match failure {
            Failure::Failed(line) => line,
            Failure::Usage(line) => panic!("{line}"),
        })
    };
    let both = BTreeSet::from([place("here", 0), place("here", 1)]);
    assert_eq!(choose("here"), Ok(both));
    assert_eq!(choose("here:1"), Ok(BTreeSet::from([place("here", 1)])));
    assert_eq!(
        choose("here:0,2").unwrap_err(),
        "topic here has no partition 2"
    );
    for topic in ["gone", "never"] {
        assert_eq!(
            choose(topic).unwrap_err(),
            format!("topic {topic}: UNKNOWN_TOPIC_OR_PARTITION")
        );
    }
}

use std::collections::BTreeMap;

use esker_client::Partition;
use esker_protocol::{LeaderEpoch, TopicId};

use super::*;

fn topic(error: Option<ErrorCode>) -> Topic {
    let partition = Partition {
        error: None,
        leader: Some(BrokerId(1)),
        leader_epoch: LeaderEpoch(3),
        replicas: vec![BrokerId(1), BrokerId(2)],
        isr: vec![BrokerId(1)],
        offline: Vec::new(),
    };
    Topic {
        id: TopicId([0xff; 16]),
        is_internal: false,
        error,
        partitions: BTreeMap::from([(0, partition)]),
    }
}

#[test]
fn a_description_names_leaders_and_what_the_topic_sets_itself() {
    let setting = |name: &str, is_set| TopicSetting {
        name: name.to_owned(),
        value: Some("5".to_owned()),
        is_set,
    };
    let settings = [
        setting("retention.ms", true),
        setting("segment.bytes", false),
    ];
    assert_eq!(
        described("a", &topic(None), &settings),
        "topic a  id _____________________w  settings: retention.ms=5\n\
         PARTITION  LEADER  EPOCH  REPLICAS  ISR  OFFLINE  ERROR\n\
         0          1       3      1,2       1    -"
    );
}

#[test]
fn only_topics_that_are_there_could_be_deleted() {
    let mut metadata = Metadata::default();
    metadata.topics.insert("here".to_owned(), topic(None));
    let unknown = Some(ErrorCode::UnknownTopicOrPartition);
    metadata.topics.insert("gone".to_owned(), topic(unknown));
    assert!(existing(&metadata, "here").is_ok());
    for name in ["gone", "never"] {
        let error = existing(&metadata, name).unwrap_err();
        assert_eq!(error.code(), unknown, "{name}");
    }
}

use esker_protocol::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicId};

use super::*;

/// The file holds exactly what the value is written as, and reads back as the value.
fn check<V: Value + PartialEq + std::fmt::Debug>(golden: &str, value: &V) {
    let line = golden
        .strip_suffix('\n')
        .expect("a golden file ends its line");
    assert_eq!(
        std::str::from_utf8(&value.encode()).expect("JSON is text"),
        line
    );
    assert_eq!(V::decode("key", line.as_bytes()).as_ref(), Ok(value));
}

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../testdata/v1/", $name, ".json"))
    };
}

const PROCESS: ProcessId = ProcessId([1, 1, 1, 1, 1, 1, 0x41, 1, 0x81, 1, 1, 1, 1, 1, 1, 1]);
const FIRST: DirectoryId = DirectoryId([2, 2, 2, 2, 2, 2, 0x42, 2, 0x82, 2, 2, 2, 2, 2, 2, 2]);
const SECOND: DirectoryId = DirectoryId([3, 3, 3, 3, 3, 3, 0x43, 3, 0x83, 3, 3, 3, 3, 3, 3, 3]);

fn configs(name: &str, value: &str) -> Configs {
    Configs::from([(name.to_owned(), value.to_owned())])
}

#[test]
fn cluster_values_are_what_the_golden_files_hold() {
    check(
        golden!("cluster"),
        &ClusterValue {
            cluster_id: "AAECAwQFBgcICQoLDA0ODw".into(),
            incarnation: 2,
            bucket_used: true,
            features: [("metadata.version".to_owned(), 27)].into(),
            unknown: Unknown::new(),
        },
    );
    let unknown = Unknown::new;
    check(
        golden!("controller"),
        &ControllerValue {
            broker: BrokerId(3),
            unknown: unknown(),
        },
    );
    let configs = configs("log.retention.ms", "1000");
    check(
        golden!("config"),
        &ConfigValue {
            configs,
            unknown: unknown(),
        },
    );
    let next = ProducerId(2000);
    check(
        golden!("producer-ids"),
        &ProducerIdsValue {
            next,
            unknown: unknown(),
        },
    );
}

#[test]
fn broker_values_are_what_the_golden_files_hold() {
    check(
        golden!("broker"),
        &BrokerValue {
            incarnation: PROCESS,
            directories: vec![FIRST, SECOND],
            version: "0.1.0".into(),
            unknown: Unknown::new(),
        },
    );
    check(
        golden!("broker-info"),
        &BrokerInfoValue {
            incarnation: PROCESS,
            endpoints: vec![Endpoint {
                listener: "PLAINTEXT".into(),
                host: "127.0.0.1".into(),
                port: 9092,
                security: "PLAINTEXT".into(),
                unknown: Unknown::new(),
            }],
            rack: Some("a".into()),
            capacity_bytes: Some(1_000_000_000_000),
            unknown: Unknown::new(),
        },
    );
}

#[test]
fn topic_values_are_what_the_golden_files_hold() {
    let live = TopicValue {
        topic_id: TopicId([0xab; 16]),
        partitions: 2,
        state: TopicState::Live,
        assignment: Vec::new(),
        configs: Configs::new(),
        unknown: Unknown::new(),
    };
    check(golden!("topic-live"), &live);
    let creating = TopicValue {
        state: TopicState::Creating,
        assignment: vec![
            vec![BrokerId(1), BrokerId(2)],
            vec![BrokerId(2), BrokerId(1)],
        ],
        configs: configs("retention.ms", "1000"),
        ..live
    };
    check(golden!("topic-creating"), &creating);
    let topic = "orders.v1".to_owned();
    check(
        golden!("topic-name"),
        &TopicNameValue {
            topic: topic.clone(),
            unknown: Unknown::new(),
        },
    );
    let deleted = DeletedValue {
        topic,
        partitions: 4,
        unknown: Unknown::new(),
    };
    check(golden!("deleted"), &deleted);
}

#[test]
fn partition_values_are_what_the_golden_files_hold() {
    let replica = |broker, directory| Replica {
        broker: BrokerId(broker),
        directory,
        unknown: Unknown::new(),
    };
    check(
        golden!("partition"),
        &PartitionValue {
            replicas: vec![replica(1, Some(FIRST)), replica(2, None)],
            adding: vec![BrokerId(3)],
            removing: vec![BrokerId(2)],
            isr: vec![BrokerId(1)],
            elr: vec![BrokerId(2)],
            leader: Some(BrokerId(1)),
            last_known_leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(5),
            last_unclean_epoch: Some(LeaderEpoch(4)),
            min_isr_effective: 2,
            unknown: Unknown::new(),
        },
    );
    check(
        golden!("partition-new"),
        &PartitionValue {
            replicas: vec![replica(1, None)],
            adding: Vec::new(),
            removing: Vec::new(),
            isr: vec![BrokerId(1)],
            elr: Vec::new(),
            leader: None,
            last_known_leader: None,
            leader_epoch: LeaderEpoch(0),
            last_unclean_epoch: None,
            min_isr_effective: 1,
            unknown: Unknown::new(),
        },
    );
}

#[test]
fn tier_values_are_what_the_golden_files_hold() {
    let zeros = "0".repeat(32);
    check(
        golden!("tier"),
        &TierValue {
            claimed_epoch: LeaderEpoch(5),
            manifest: Some(format!(
                "manifest/{:010}-{:010}-{:020}-{zeros}.head",
                2, 5, 7
            )),
            checksum: 0xdead_beef,
            version: 7,
            tier_end: Offset(1000),
            tier_end_epoch: LeaderEpoch(4),
            log_start: Offset(10),
            local_floor: Offset(900),
            unknown: Unknown::new(),
        },
    );
    check(
        golden!("tier-claimed"),
        &TierValue {
            claimed_epoch: LeaderEpoch(0),
            manifest: None,
            checksum: 0,
            version: 0,
            tier_end: Offset(0),
            tier_end_epoch: LeaderEpoch::NONE,
            log_start: Offset(0),
            local_floor: Offset(0),
            unknown: Unknown::new(),
        },
    );
}

#[test]
fn unknown_fields_are_kept_at_every_level() {
    let text = r#"{"v":1,"replicas":[{"broker":1,"later":[1]}],"isr":[1],"leader":1,"leader_epoch":0,"min_isr_effective":1,"more":{"x":null}}"#;
    let mut value = PartitionValue::decode("key", text.as_bytes()).expect("readable");
    assert_eq!(
        value.unknown.get("more"),
        Some(&serde_json::json!({"x": null}))
    );
    assert_eq!(
        value.replicas[0].unknown.get("later"),
        Some(&serde_json::json!([1]))
    );
    assert_eq!(value.encode(), text);
    value.leader_epoch = value.leader_epoch.next();
    let text = text.replace("\"leader_epoch\":0", "\"leader_epoch\":1");
    assert_eq!(value.encode(), text);
}

#[test]
fn a_newer_version_is_an_error_that_names_both() {
    // Also where everything else changed its meaning.
    for text in [
        r#"{"v":2,"broker":1}"#,
        r#"{"v":2,"broker":"one"}"#,
        r#"{"v":2}"#,
    ] {
        let error = ControllerValue::decode("/esker/controller", text.as_bytes());
        let key = "/esker/controller".to_owned();
        assert_eq!(
            error,
            Err(ValueError::Newer {
                key,
                found: 2,
                known: 1
            }),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_value_is_an_error_that_names_the_key() {
    let bad: &[&[u8]] = &[
        b"",
        b"{}",
        b"null",
        b"[]",
        b"{\"v\":1}",
        b"{\"v\":\"1\",\"broker\":1}",
        b"{\"v\":-1,\"broker\":1}",
        b"{\"v\":1,\"broker\":1",
        b"{\"v\":1,\"broker\":2147483648}",
        b"{\"v\":1,\"broker\":1}{}",
        b"\xff\xfe",
        &[b'['; 100_000],
    ];
    for bytes in bad {
        let error = ControllerValue::decode("/esker/controller", bytes).expect_err("no value");
        assert!(matches!(error, ValueError::Invalid { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .starts_with("/esker/controller holds no readable controller")
        );
    }
    let topic = golden!("topic-live").replace("abab", "xyxy");
    assert!(TopicValue::decode("key", topic.as_bytes()).is_err());
    let broker = golden!("broker").replace("AQEB", "!!!!");
    assert!(BrokerValue::decode("key", broker.as_bytes()).is_err());
}

#[test]
fn a_growing_topic_shows_its_old_count() {
    let text = golden!("topic-creating").replace("creating", "growing");
    let value = TopicValue::decode("key", text.as_bytes()).expect("readable");
    assert_eq!((value.partitions, value.partitions_after_growth()), (2, 4));
    let value = TopicValue::decode("key", golden!("topic-creating").as_bytes());
    assert_eq!(value.expect("readable").partitions_after_growth(), 2);
}

use esker_client::{ClusterBroker, Endpoint, Partition, Topic};
use esker_protocol::{LeaderEpoch, TopicId};

use super::*;

fn partition(leader: Option<i32>, replicas: &[i32], isr: &[i32]) -> Partition {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    Partition {
        error: None,
        leader: leader.map(BrokerId),
        leader_epoch: LeaderEpoch(0),
        replicas: ids(replicas),
        isr: ids(isr),
        offline: Vec::new(),
    }
}

fn facts() -> Facts {
    let topic = Topic {
        id: TopicId::ZERO,
        is_internal: false,
        error: None,
        partitions: BTreeMap::from([
            (0, partition(Some(1), &[1, 2], &[1, 2])),
            (1, partition(Some(1), &[1, 2], &[1])),
            (2, partition(None, &[2], &[])),
        ]),
    };
    let endpoint = Endpoint {
        host: "h".to_owned(),
        port: 9,
    };
    let mut metadata = Metadata::default();
    metadata.topics.insert("t".to_owned(), topic);
    let live = esker_client::Broker {
        endpoint,
        rack: None,
    };
    metadata.brokers.insert(BrokerId(1), live);
    let broker = |rack: Option<&str>, is_fenced| ClusterBroker {
        host: "h".to_owned(),
        port: 9,
        rack: rack.map(str::to_owned),
        is_fenced,
    };
    let dir = LogDir {
        path: "/d".to_owned(),
        error: None,
        total_bytes: Some(4 << 30),
        usable_bytes: None,
        partitions: BTreeMap::from([(("t".to_owned(), 0), 1024), (("t".to_owned(), 1), 512)]),
    };
    Facts {
        cluster: ClusterDescription {
            cluster_id: "c".to_owned(),
            controller: Some(BrokerId(1)),
            brokers: BTreeMap::from([
                (BrokerId(1), broker(Some("r"), false)),
                (BrokerId(2), broker(None, true)),
            ]),
        },
        metadata,
        features: Features {
            supported: BTreeMap::from([("a".to_owned(), (0, 2)), ("b".to_owned(), (1, 1))]),
            finalized: BTreeMap::from([("a".to_owned(), (1, 1))]),
            epoch: Some(7),
        },
        log_dirs: BTreeMap::from([(BrokerId(1), vec![dir])]),
    }
}

#[test]
fn a_description_counts_what_is_wrong() {
    assert_eq!(
        facts().shown(),
        "cluster c  brokers 2  controller 1\n\
         topics 1  partitions 3  under-replicated 1  offline 1\n\
         features a=1\n\
         BROKER  ENDPOINT  RACK  STATE       CONTROLLER  LEADS  REPLICAS  STORED\n\
         1       h:9       r     in service  yes         2      2         1.5 KiB\n\
         2       h:9       -     fenced                  0      3         -\n\
         BROKER  LOG DIRECTORY  REPLICAS  STORED   FREE  TOTAL    ERROR\n\
         1       /d             2         1.5 KiB  -     4.0 GiB"
    );
}

#[test]
fn programs_get_the_same_facts() {
    let json = facts().json();
    assert_eq!(
        (&json["offline"], &json["under_replicated"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(json["features"], json!({"a": 1}));
    assert_eq!(json["brokers"][0]["log_dirs"][0]["bytes"], 1536);
    assert_eq!(json["brokers"][1]["log_dirs"], Value::Null);
}

#[test]
fn features_show_what_is_supported_and_what_is_in_effect() {
    let features = facts().features;
    assert_eq!(
        features_table(&features),
        "epoch 7\n\
         FEATURE  SUPPORTED  FINALIZED\n\
         a        0-2        1\n\
         b        1-1        -"
    );
    let json = features_json(&features);
    assert_eq!(json["features"][1]["finalized"], Value::Null);
    assert_eq!(features_table(&Features::default()), "no features");
}

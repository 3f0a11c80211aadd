//! What a broker hosts and leads while the metadata changes.

mod common;

use std::sync::Arc;

use common::{Stores, Wire};
use esker_metadata::controller::{delete_topic, grow_topic, set_topic_configs};
use esker_metadata::image::Versioned;
use esker_metadata::memory::{Faults, ReadFault, TransactionFault};
use esker_metadata::values::{
    BrokerInfoValue, BrokerValue, PartitionValue, ProcessId, TopicValue, Value,
};
use esker_metadata::{Image, Keys, MetadataStore, Operation, Transaction, WatchLost};
use esker_protocol::{BrokerId, LeaderEpoch, TopicId};

async fn read<V: Value>(stores: &Stores, key: &str) -> Versioned<V> {
    let (entry, _) = stores.metadata.get(key).await.expect("answered");
    Versioned::decode(&entry.expect("the key exists")).expect("readable")
}

async fn run(stores: &Stores, transaction: Transaction) {
    let outcome = stores.metadata.transact(transaction).await;
    assert!(outcome.expect("answered").succeeded);
}

/// Another process becomes broker 1.
async fn replace(stores: &Stores, keys: &Keys) -> Transaction {
    let (own, own_info) = (keys.broker(BrokerId(1)), keys.broker_info(BrokerId(1)));
    let mut registration: Versioned<BrokerValue> = read(stores, &own).await;
    let mut info: Versioned<BrokerInfoValue> = read(stores, &own_info).await;
    registration.value.incarnation = ProcessId([7; 16]);
    info.value.incarnation = ProcessId([7; 16]);
    Transaction::new()
        .put(own, registration.value.encode())
        .put(own_info, info.value.encode())
}

/// What does not get through to the store.
#[derive(Clone, Copy)]
struct Blocked {
    leading: bool,
    following: bool,
}

impl Faults for Blocked {
    fn read(&mut self, key: &str) -> ReadFault {
        if self.following && key == Keys::default().root() {
            ReadFault::Unavailable
        } else {
            ReadFault::None
        }
    }

    fn transaction(&mut self, transaction: &Transaction) -> TransactionFault {
        let leads = |operation: &Operation| operation.key().contains("/partitions/");
        if self.leading && transaction.then.iter().any(leads) {
            TransactionFault::Unavailable
        } else {
            TransactionFault::None
        }
    }
}

fn topic_id(broker: &esker_server::Broker, name: &str) -> TopicId {
    broker.shared().topic_id(name).expect("the topic is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_replaced_raises_nothing_and_leads_nothing() {
    let (stores, keys) = (Stores::new(), Keys::default());
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    common::create(&mut wire, "t", 1, &[]).await;
    let id = topic_id(&broker, "t");
    let led = broker.shared().partitions.get(id, 0).expect("hosted");
    assert!(led.leading().is_some());

    // In the same revision there is more to lead.
    let partition: Versioned<PartitionValue> = read(&stores, &keys.partition(id, 0)).await;
    let mut more = partition.value;
    more.leader = None;
    let replaced = replace(&stores, &keys).await;
    run(&stores, replaced.put(keys.partition(id, 1), more.encode())).await;

    let reason = broker.failed().await;
    assert_eq!(reason, "another process has registered as broker 1");
    assert_eq!(led.leading(), None);
    let (code, ..) = common::produce(&mut wire, "t", common::batch(&[b"late"], 0), 1).await;
    assert_eq!(code, 6, "NOT_LEADER_OR_FOLLOWER");
    broker.stop().await;
    let untouched: Versioned<PartitionValue> = read(&stores, &keys.partition(id, 1)).await;
    assert_eq!(untouched.value, more);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_replaced_learns_it_from_the_transaction_where_its_image_lags() {
    let (stores, keys) = (Stores::new(), Keys::default());
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    common::create(&mut wire, "t", 1, &[]).await;
    let id = topic_id(&broker, "t");
    broker.stop().await;

    let block = |leading, following| {
        let blocked = Blocked { leading, following };
        stores.metadata.set_faults(Box::new(blocked));
    };
    block(true, false);
    let next = Stores {
        seed: 2,
        ..stores.clone()
    };
    let broker = common::start(&next, &[]).await;
    let hosted = broker.shared().partitions.get(id, 0).expect("hosted");
    assert_eq!(hosted.leading(), None, "its epoch could not be raised");
    block(true, true);
    stores.metadata.end_watches(WatchLost::Closed);
    run(&stores, replace(&stores, &keys).await).await;
    block(false, true);

    let reason = broker.failed().await;
    assert_eq!(reason, "another process has registered as broker 1");
    assert_eq!(hosted.leading(), None);
    let partition: Versioned<PartitionValue> = read(&stores, &keys.partition(id, 0)).await;
    assert_eq!(partition.value.leader_epoch, LeaderEpoch(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_followed_one_by_one() {
    let (stores, keys) = (Stores::new(), Keys::default());
    let broker = common::start(&stores, &[]).await;
    let shared = broker.shared();
    let mut wire = Wire::connect(&broker).await;
    common::create(&mut wire, "t", 1, &[]).await;
    common::create(&mut wire, "other", 1, &[]).await;
    let (id, other) = (topic_id(&broker, "t"), topic_id(&broker, "other"));
    let untouched = shared.partitions.get(other, 0).expect("hosted");
    let before = untouched.config();

    // Settings: the next topic is led only after they are in force.
    let topic: Versioned<TopicValue> = read(&stores, &keys.topic("t")).await;
    let mut configs = topic.value.configs.clone();
    configs.insert("max.message.bytes".to_owned(), "123".to_owned());
    run(&stores, set_topic_configs(&keys, "t", &topic, configs)).await;
    common::create(&mut wire, "barrier", 1, &[]).await;
    let partition = shared.partitions.get(id, 0).expect("hosted");
    assert_eq!(partition.config().message_bytes_max, 123);
    assert!(partition.leading().is_some());
    assert!(Arc::ptr_eq(&before, &untouched.config()));

    // Growth.
    let topic: Versioned<TopicValue> = read(&stores, &keys.topic("t")).await;
    let growth = grow_topic(&keys, "t", &topic, vec![vec![BrokerId(1)]; 2]);
    run(&stores, growth.expect("live")).await;
    let grown = |image: &Arc<Image>| {
        image
            .topic("t")
            .is_some_and(|topic| topic.value.partitions == 3)
    };
    shared.images().wait_for(grown).await.expect("followed");
    for index in 1..3 {
        shared.replicas.wait_until_led(shared, id, index).await;
        let partition = shared.partitions.get(id, index).expect("hosted");
        assert!(partition.leading().is_some());
        assert_eq!(partition.config().message_bytes_max, 123);
    }

    // Deletion.
    let topic: Versioned<TopicValue> = read(&stores, &keys.topic("t")).await;
    run(&stores, delete_topic(&keys, "t", &topic)).await;
    let gone = |image: &Arc<Image>| image.topic("t").is_none();
    shared.images().wait_for(gone).await.expect("followed");
    common::create(&mut wire, "t", 1, &[]).await;
    for index in 0..3 {
        assert!(shared.partitions.get(id, index).is_none());
    }
    assert_eq!(partition.leading(), None);
    assert!(untouched.leading().is_some());
    broker.stop().await;
}

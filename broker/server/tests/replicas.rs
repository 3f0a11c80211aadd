//! What a broker hosts and leads while the metadata changes.

mod common;

use common::{Stores, Wire};
use esker_metadata::image::Versioned;
use esker_metadata::memory::{Faults, ReadFault, TransactionFault};
use esker_metadata::values::{BrokerInfoValue, BrokerValue, PartitionValue, ProcessId, Value};
use esker_metadata::{Keys, MetadataStore, Operation, Transaction, WatchLost};
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

use std::collections::BTreeSet;

use esker_protocol::{BrokerId, LeaderEpoch, ProducerId, TopicId};
use proptest::prelude::*;

use super::*;
use crate::image::{Image, Versioned};
use crate::keys::Keys;
use crate::memory::MemoryStore;
use crate::store::{MetadataStore, Revision, Transaction, TransactionOutcome};
use crate::values::{
    BrokerInfoValue, BrokerValue, Configs, DirectoryId, PartitionValue, ProcessId, Replica,
    TopicState, Unknown, Value,
};

mod random;

const SETTINGS: PlanSettings = PlanSettings { min_isr_default: 1 };

fn topic_id(number: u64) -> TopicId {
    TopicId((u128::from(number) << 64).to_be_bytes())
}

async fn load(store: &MemoryStore) -> Image {
    let (entries, revision) = store.list(Keys::default().root()).await.expect("a list");
    Image::load(Keys::default(), &entries, revision).expect("readable")
}

async fn run(store: &MemoryStore, transaction: Transaction) -> TransactionOutcome {
    store.transact(transaction).await.expect("answered")
}

/// Runs plans until there is nothing left to do.
async fn settle(store: &MemoryStore) -> Image {
    const ROUNDS_MAX: usize = 100;
    for _ in 0..ROUNDS_MAX {
        let image = load(store).await;
        let transactions = plan(&image, SETTINGS);
        if transactions.is_empty() {
            return image;
        }
        for transaction in transactions {
            run(store, transaction).await;
        }
    }
    panic!("the controller finds more to do in every round");
}

fn broker_value(process: u8, directories: &[u8]) -> (BrokerValue, BrokerInfoValue) {
    let incarnation = ProcessId([process; 16]);
    let value = BrokerValue {
        incarnation,
        directories: directories
            .iter()
            .map(|number| DirectoryId([*number; 16]))
            .collect(),
        version: "0.1.0".into(),
        unknown: Unknown::new(),
    };
    let info = BrokerInfoValue {
        incarnation,
        endpoints: Vec::new(),
        rack: None,
        capacity_bytes: None,
        unknown: Unknown::new(),
    };
    (value, info)
}

/// Registers a broker as its next process would, on a lease that lasts.
async fn start(store: &MemoryStore, broker: i32, process: u8, directories: &[u8]) {
    let lease = store
        .grant_lease(std::time::Duration::from_secs(1 << 30))
        .await
        .expect("a lease");
    let image = load(store).await;
    let (value, info) = broker_value(process, directories);
    let proof = image
        .broker_info(BrokerId(broker))
        .map(|info| info.revision);
    let registration = register(&image, BrokerId(broker), &value, &info, proof, lease);
    assert!(run(store, registration.expect("allowed")).await.succeeded);
}

fn new_topic(name: &str, id: u64, assignment: Vec<Vec<BrokerId>>) -> NewTopic {
    NewTopic {
        name: name.into(),
        topic_id: topic_id(id),
        assignment,
        configs: Configs::new(),
    }
}

fn on_one_broker(partitions: usize) -> Vec<Vec<BrokerId>> {
    vec![vec![BrokerId(1)]; partitions]
}

#[tokio::test(start_paused = true)]
async fn a_topic_goes_from_creation_over_growth_to_the_last_trace() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    start(&store, 1, 1, &[1]).await;
    run(
        &store,
        create_topic(&keys, &new_topic("t", 1, on_one_broker(250))),
    )
    .await;

    let image = load(&store).await;
    let batches = plan(&image, SETTINGS);
    assert_eq!(batches.len(), 3, "250 partitions beside one guard");
    for batch in batches {
        assert!(run(&store, batch).await.succeeded);
    }
    assert_eq!(
        load(&store).await.visible_topics().count(),
        0,
        "not before the flip"
    );
    let image = settle(&store).await;
    let topic = image.topic("t").expect("created");
    assert_eq!(
        (topic.value.state, topic.value.partitions),
        (TopicState::Live, 250)
    );
    assert!(topic.value.assignment.is_empty());
    let partition = &image.partition(topic_id(1), 249).expect("written").value;
    assert_eq!(partition.leader, Some(BrokerId(1)));
    assert_eq!(
        (partition.leader_epoch, partition.min_isr_effective),
        (LeaderEpoch(0), 1)
    );
    assert_eq!(partition.directory(BrokerId(1)), Some(DirectoryId([1; 16])));

    let growth = grow_topic(&keys, "t", topic, on_one_broker(10)).expect("live");
    run(&store, growth).await;
    let image = load(&store).await;
    let topic = image.topic("t").expect("there");
    assert_eq!(
        (topic.value.state, topic.value.partitions),
        (TopicState::Growing, 250)
    );
    assert_eq!(
        grow_topic(&keys, "t", topic, on_one_broker(1)),
        Err(NotLive)
    );
    let image = settle(&store).await;
    assert_eq!(image.topic("t").expect("there").value.partitions, 260);
    assert_eq!(image.partitions(topic_id(1)).count(), 260);

    // A claim that nobody has seen yet when the cleaning is planned.
    run(
        &store,
        delete_topic(&keys, "t", image.topic("t").expect("there")),
    )
    .await;
    let image = load(&store).await;
    assert!(image.topic("t").is_none() && image.topic_like("t").is_none());
    assert_eq!(
        image
            .deleted_topic(topic_id(1))
            .expect("noted")
            .value
            .partitions,
        260
    );
    assert_eq!(
        forget_topic(&image, topic_id(1)),
        None,
        "keys of its partitions are left"
    );
    let cleaning = plan(&image, SETTINGS);
    run(
        &store,
        Transaction::new().put(keys.tier(topic_id(1), 3), TIER),
    )
    .await;
    for transaction in cleaning {
        run(&store, transaction).await;
    }
    let image = settle(&store).await;
    assert_eq!(
        (
            image.partitions(topic_id(1)).count(),
            image.tiers(topic_id(1)).count()
        ),
        (0, 0)
    );
    run(&store, forget_topic(&image, topic_id(1)).expect("clean")).await;
    let (entries, _) = store.list("/esker/").await.expect("a list");
    let left: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(left, ["/esker/broker-info/1", "/esker/brokers/1"]);
}

const TIER: &str = r#"{"v":1,"claimed_epoch":0,"checksum":0,"version":0,"tier_end":0,"tier_end_epoch":-1,"log_start":0,"local_floor":0}"#;

#[tokio::test(start_paused = true)]
async fn a_batch_of_a_dead_controller_cannot_land_after_a_deletion() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    start(&store, 1, 1, &[1]).await;
    run(
        &store,
        create_topic(&keys, &new_topic("t", 1, on_one_broker(2))),
    )
    .await;
    let image = load(&store).await;
    let late = plan(&image, SETTINGS);
    run(
        &store,
        delete_topic(&keys, "t", image.topic("t").expect("created")),
    )
    .await;
    run(
        &store,
        create_topic(&keys, &new_topic("t", 2, on_one_broker(1))),
    )
    .await;
    for transaction in late {
        assert!(!run(&store, transaction).await.succeeded);
    }
    let image = settle(&store).await;
    assert_eq!(image.partitions(topic_id(1)).count(), 0);
    assert_eq!(
        image.topic("t").expect("created").value.topic_id,
        topic_id(2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_topic_deleted_while_it_grows_counts_what_may_exist() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    run(
        &store,
        create_topic(&keys, &new_topic("t", 1, on_one_broker(2))),
    )
    .await;
    let image = settle(&store).await;
    let topic = image.topic("t").expect("created");
    run(
        &store,
        grow_topic(&keys, "t", topic, on_one_broker(3)).expect("live"),
    )
    .await;
    let image = load(&store).await;
    run(
        &store,
        delete_topic(&keys, "t", image.topic("t").expect("growing")),
    )
    .await;
    let image = load(&store).await;
    assert_eq!(
        image
            .deleted_topic(topic_id(1))
            .expect("noted")
            .value
            .partitions,
        5
    );
}

#[tokio::test(start_paused = true)]
async fn names_that_collide_exclude_each_other() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    let create = async |name: &str, id| {
        run(
            &store,
            create_topic(&keys, &new_topic(name, id, on_one_broker(1))),
        )
        .await
        .succeeded
    };
    assert!(create("a.b_c", 1).await);
    assert!(!create("a.b_c", 2).await);
    assert!(!create("a_b.c", 3).await);
    assert!(create("a-b-c", 4).await);
    let image = load(&store).await;
    run(
        &store,
        delete_topic(&keys, "a.b_c", image.topic("a.b_c").expect("there")),
    )
    .await;
    assert!(create("a_b.c", 5).await, "the name is free at once");
}

#[test]
fn topic_names_follow_kafkas_rules() {
    let longest = "a".repeat(249);
    for name in [
        "a",
        "A-z_0.9",
        "...",
        "__consumer_offsets",
        longest.as_str(),
    ] {
        assert_eq!(validate_topic_name(name), Ok(()), "{name}");
    }
    let long = "a".repeat(250);
    for (name, error) in [
        ("", InvalidTopicName::Empty),
        (".", InvalidTopicName::Dots),
        ("..", InvalidTopicName::Dots),
        (long.as_str(), InvalidTopicName::Long(long.clone())),
    ] {
        assert_eq!(validate_topic_name(name), Err(error), "{name}");
    }
    for name in ["a b", "a/b", "a:b", "\u{e9}", "a\n", "a\0"] {
        let error = InvalidTopicName::Characters(name.into());
        assert_eq!(validate_topic_name(name), Err(error), "{name}");
    }
}

#[test]
fn what_cannot_be_placed_is_refused() {
    let brokers = [BrokerId(1), BrokerId(2)];
    assert_eq!(
        place(&brokers, 0, 0, 1, 0),
        Err(PlacementError::Partitions(0))
    );
    assert_eq!(place(&brokers, 0, 1, 0, 0), Err(PlacementError::Factor(0)));
    assert_eq!(
        place(&brokers, 0, 1, -1, 0),
        Err(PlacementError::Factor(-1))
    );
    let error = PlacementError::TooFewBrokers {
        factor: 3,
        brokers: 2,
    };
    assert_eq!(place(&brokers, 0, 1, 3, 0), Err(error));
    let error = PlacementError::TooFewBrokers {
        factor: 1,
        brokers: 0,
    };
    assert_eq!(place(&[], 0, 1, 1, 0), Err(error));
}

proptest! {
    #[test]
    fn placement_spreads_leaders_and_replicas(
        brokers in 1..12_i32,
        factor in 1..12_i32,
        first in 0..50_i32,
        rounds in 1..20_i32,
        start in any::<u64>(),
    ) {
        prop_assume!(factor <= brokers);
        let ids: Vec<BrokerId> = (0..brokers).map(|index| BrokerId(10 * index)).collect();
        let count = rounds * brokers;
        let rows = place(&ids, first, count, factor, start).expect("enough brokers");
        prop_assert_eq!(rows.len(), count as usize);
        for row in &rows {
            let distinct: BTreeSet<_> = row.iter().collect();
            prop_assert_eq!((row.len(), distinct.len()), (factor as usize, factor as usize));
        }
        for id in &ids {
            let leads = rows.iter().filter(|row| row.first() == Some(id)).count();
            prop_assert_eq!(leads, rounds as usize);
        }
        // Growth goes on where creation ended.
        let whole = place(&ids, 0, first + count, factor, start).expect("enough brokers");
        prop_assert_eq!(&whole[first as usize..], rows.as_slice());
    }
}

#[test]
fn followers_of_one_leader_spread_over_all_others() {
    let ids: Vec<BrokerId> = (0..5).map(BrokerId).collect();
    let rows = place(&ids, 0, 5 * 4, 2, 3).expect("enough brokers");
    let followers: BTreeSet<BrokerId> = rows
        .iter()
        .filter(|row| row[0] == BrokerId(3))
        .map(|row| row[1])
        .collect();
    assert_eq!(followers.len(), 4);
}

const OWN: BrokerId = BrokerId(1);

/// What process `process` of broker 1 does to lead these partitions of topic 1.
fn raise(
    image: &Image,
    process: u8,
    partitions: impl IntoIterator<Item = i32>,
) -> Result<Vec<Batch>, NotRegistered> {
    let values: Vec<_> = partitions
        .into_iter()
        .map(|partition| {
            let current = &image
                .partition(topic_id(1), partition)
                .expect("there")
                .value;
            let next = led_anew(current, OWN, DirectoryId([1; 16]), false);
            (topic_id(1), partition, next)
        })
        .collect();
    raise_epochs(image, OWN, ProcessId([process; 16]), values)
}

fn epoch(image: &Image, partition: i32) -> LeaderEpoch {
    let partition = image.partition(topic_id(1), partition);
    partition.expect("there").value.leader_epoch
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_raises_what_an_earlier_one_led() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    start(&store, 1, 1, &[1]).await;
    start(&store, 2, 1, &[2]).await;
    let mut assignment = vec![vec![OWN]; 150];
    assignment.push(vec![BrokerId(2), OWN]);
    run(&store, create_topic(&keys, &new_topic("t", 1, assignment))).await;
    settle(&store).await;
    start(&store, 1, 2, &[1]).await;
    let image = load(&store).await;

    // The busiest first, and one that another broker leads is left out.
    let busiest = 77;
    let order = [busiest, 150]
        .into_iter()
        .chain((0..150).filter(|partition| *partition != busiest));
    let batches = raise(&image, 2, order).expect("registered");
    assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [99, 51]);
    let first = batches[0].keys().next();
    assert_eq!(first, Some(keys.partition(topic_id(1), busiest).as_str()));
    // One partition changes under the first batch: only that one is left for a later plan.
    let key = keys.partition(topic_id(1), busiest);
    let value = image.partition(topic_id(1), busiest).expect("there");
    run(&store, Transaction::new().put(&key, value.value.encode())).await;
    let outcome = run(&store, batches[0].transaction()).await;
    assert!(!outcome.succeeded);
    let rest = batches[0]
        .without_failed(&outcome)
        .expect("98 are as expected");
    assert_eq!(rest.len(), 98);
    assert!(run(&store, rest.transaction()).await.succeeded);
    let second = run(&store, batches[1].transaction()).await;
    assert!(second.succeeded);
    assert_eq!(batches[1].without_failed(&second), None);
    let image = load(&store).await;
    let low: Vec<i32> = (0..=150)
        .filter(|partition| epoch(&image, *partition) == LeaderEpoch(0))
        .collect();
    assert_eq!(low, [busiest, 150]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_replaced_raises_nothing() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    let registration = keys.broker(OWN);
    start(&store, 1, 1, &[1]).await;
    run(
        &store,
        create_topic(&keys, &new_topic("t", 1, on_one_broker(1))),
    )
    .await;
    let before = settle(&store).await;
    let own = ProcessId([1; 16]);
    assert!(!is_replaced(&before, OWN, own));
    start(&store, 1, 2, &[1]).await;

    // Planned before the other registered: there is nothing left to try again.
    let late = raise(&before, 1, [0]).expect("registered");
    let outcome = run(&store, late[0].transaction()).await;
    assert!(!outcome.succeeded);
    assert_eq!(late[0].without_failed(&outcome), None);
    // Planned from an image that shows the other: its registration is no fence for this process.
    let image = load(&store).await;
    assert_eq!(raise(&image, 1, [0]), Err(NotRegistered(OWN)));
    assert!(is_replaced(&image, OWN, own));
    // Also once the other is gone.
    run(&store, Transaction::new().delete(&registration)).await;
    let image = load(&store).await;
    assert_eq!(raise(&image, 1, [0]), Err(NotRegistered(OWN)));
    assert!(is_replaced(&image, OWN, own));
    assert_eq!(epoch(&image, 0), LeaderEpoch(0));
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_lease_has_ended_raises_nothing_until_it_registers_again() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    start(&store, 1, 1, &[1]).await;
    run(
        &store,
        create_topic(&keys, &new_topic("t", 1, on_one_broker(1))),
    )
    .await;
    let before = settle(&store).await;
    run(&store, Transaction::new().delete(keys.broker(OWN))).await;
    let late = raise(&before, 1, [0]).expect("registered");
    assert!(!run(&store, late[0].transaction()).await.succeeded);
    let image = load(&store).await;
    assert_eq!(raise(&image, 1, [0]), Err(NotRegistered(OWN)));
    assert!(!is_replaced(&image, OWN, ProcessId([1; 16])));
    start(&store, 1, 1, &[1]).await;
    let again = raise(&load(&store).await, 1, [0]).expect("registered");
    assert!(run(&store, again[0].transaction()).await.succeeded);
    assert_eq!(epoch(&load(&store).await, 0), LeaderEpoch(1));
}

#[tokio::test(start_paused = true)]
async fn only_what_was_made_since_the_start_is_led_without_a_new_epoch() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    let directory = DirectoryId([1; 16]);
    start(&store, 1, 1, &[1]).await;
    run(
        &store,
        create_topic(&keys, &new_topic("old", 1, on_one_broker(1))),
    )
    .await;
    settle(&store).await;
    start(&store, 1, 2, &[1]).await;
    run(
        &store,
        create_topic(&keys, &new_topic("new", 2, on_one_broker(1))),
    )
    .await;
    let image = settle(&store).await;
    let registered = image.broker(OWN).expect("registered").revision;
    let old = image.partition(topic_id(1), 0).expect("written");
    let new = image.partition(topic_id(2), 0).expect("written");
    let is_led = |partition, broker| is_fresh(partition, broker, directory, registered);
    assert!(is_led(new, OWN));
    assert!(!is_led(old, OWN), "an earlier process may have led it");
    assert!(!is_led(new, BrokerId(2)), "another broker's");
    let other = DirectoryId([2; 16]);
    assert!(
        !is_fresh(new, OWN, other, registered),
        "in another directory than it was made for"
    );
    let changed = Versioned {
        revision: registered.next().next().next().next().next(),
        ..Versioned::clone(new)
    };
    assert!(changed.revision > new.revision);
    assert!(!is_led(&changed, OWN), "somebody has changed it since");
}

#[test]
fn what_is_led_anew_names_its_leader_its_directory_and_whether_it_is_proven() {
    let replica = |broker, directory: Option<u8>| Replica {
        broker: BrokerId(broker),
        directory: directory.map(|number| DirectoryId([number; 16])),
        unknown: Unknown::new(),
    };
    let current = PartitionValue {
        replicas: vec![replica(1, None), replica(2, Some(9))],
        adding: Vec::new(),
        removing: Vec::new(),
        isr: Vec::new(),
        elr: vec![BrokerId(2)],
        leader: None,
        last_known_leader: None,
        leader_epoch: LeaderEpoch(4),
        last_unclean_epoch: Some(LeaderEpoch(2)),
        min_isr_effective: 1,
        unknown: Unknown::new(),
    };
    let next = led_anew(&current, OWN, DirectoryId([1; 16]), false);
    let expected = PartitionValue {
        replicas: vec![replica(1, Some(1)), replica(2, Some(9))],
        isr: vec![OWN],
        elr: Vec::new(),
        leader: Some(OWN),
        last_known_leader: Some(OWN),
        leader_epoch: LeaderEpoch(5),
        ..current.clone()
    };
    assert_eq!(next, expected);
    let unclean = led_anew(&next, OWN, DirectoryId([1; 16]), true);
    assert_eq!(unclean.last_unclean_epoch, Some(LeaderEpoch(6)));
    let two = PartitionValue {
        min_isr_effective: 2,
        ..current
    };
    let next = led_anew(&two, OWN, DirectoryId([1; 16]), false);
    assert_eq!(next.elr, [BrokerId(2)], "the ISR is below its minimum");
}

#[test]
fn the_effective_minimum_is_bounded_by_the_replicas() {
    let configs = |value: &str| Configs::from([("min.insync.replicas".into(), value.into())]);
    assert_eq!(effective_min_isr(&Configs::new(), 2, 3), 2);
    assert_eq!(effective_min_isr(&Configs::new(), 2, 1), 1);
    assert_eq!(effective_min_isr(&configs("1"), 2, 3), 1);
    assert_eq!(effective_min_isr(&configs("5"), 2, 3), 3);
    assert_eq!(effective_min_isr(&configs("0"), 2, 3), 1);
    assert_eq!(effective_min_isr(&configs("x"), 2, 3), 2);
}

#[tokio::test(start_paused = true)]
async fn replicas_on_brokers_that_are_away_are_not_in_sync() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    start(&store, 2, 1, &[1, 2]).await;
    let away = vec![vec![BrokerId(1), BrokerId(2)], vec![BrokerId(1)]];
    run(&store, create_topic(&keys, &new_topic("t", 1, away))).await;
    let image = settle(&store).await;
    let first = &image.partition(topic_id(1), 0).expect("written").value;
    assert_eq!(
        (first.isr.as_slice(), first.leader),
        ([BrokerId(2)].as_slice(), Some(BrokerId(2)))
    );
    assert_eq!(
        first.directory(BrokerId(1)),
        None,
        "it chooses when it is there"
    );
    assert!(first.directory(BrokerId(2)).is_some());
    let second = &image.partition(topic_id(1), 1).expect("written").value;
    assert_eq!((second.isr.len(), second.leader), (0, None));
}

#[tokio::test(start_paused = true)]
async fn registration_keeps_identities_apart() {
    let store = MemoryStore::new();
    let lease = store
        .grant_lease(std::time::Duration::from_secs(1 << 30))
        .await
        .expect("a lease");
    start(&store, 1, 1, &[1, 2]).await;
    start(&store, 2, 1, &[3]).await;
    let image = load(&store).await;
    let proof = |image: &Image| image.broker_info(BrokerId(1)).map(|info| info.revision);
    let attempt = |image: &Image, process, directories: &[u8]| {
        let (value, info) = broker_value(process, directories);
        register(image, BrokerId(1), &value, &info, proof(image), lease)
    };
    // The same process again; the next one over one of the same disks.
    assert!(attempt(&image, 1, &[1, 2]).is_ok());
    assert!(attempt(&image, 2, &[2, 9]).is_ok());
    // Another machine with the same id; a copy of another broker's disk.
    let alive = RegistrationError::Alive {
        broker: BrokerId(1),
    };
    assert_eq!(attempt(&image, 2, &[9]), Err(alive));
    let shared = RegistrationError::DirectoryShared {
        broker: BrokerId(1),
        directory: DirectoryId([3; 16]),
        other: BrokerId(2),
    };
    assert_eq!(attempt(&image, 2, &[1, 3]), Err(shared));

    // Whoever registered since makes the proof void.
    let late = attempt(&image, 2, &[1]).expect("allowed");
    start(&store, 1, 3, &[1]).await;
    assert!(!run(&store, late).await.succeeded);
    // After the lease has gone, any process may have the id; only broker-info tells.
    let image = load(&store).await;
    let held = image
        .broker(BrokerId(1))
        .expect("registered")
        .lease
        .expect("on a lease");
    store.revoke(held).await.expect("revoked");
    let image = load(&store).await;
    assert!(image.broker(BrokerId(1)).is_none() && proof(&image).is_some());
    assert!(
        run(&store, attempt(&image, 4, &[8]).expect("allowed"))
            .await
            .succeeded
    );
}

#[tokio::test(start_paused = true)]
async fn the_cluster_and_its_controller_are_made_once() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    assert!(run(&store, create_cluster(&keys, "one")).await.succeeded);
    assert!(!run(&store, create_cluster(&keys, "two")).await.succeeded);
    let image = load(&store).await;
    let cluster = image.cluster().expect("created");
    assert_eq!(
        (cluster.value.cluster_id.as_str(), cluster.value.bucket_used),
        ("one", false)
    );
    let mark = mark_bucket_used(&keys, cluster);
    assert!(run(&store, mark.clone()).await.succeeded);
    assert!(!run(&store, mark).await.succeeded);
    assert!(
        load(&store)
            .await
            .cluster()
            .expect("there")
            .value
            .bucket_used
    );

    let lease = store
        .grant_lease(std::time::Duration::from_secs(9))
        .await
        .expect("a lease");
    assert!(
        run(&store, elect_controller(&keys, BrokerId(1), lease))
            .await
            .succeeded
    );
    assert!(
        !run(&store, elect_controller(&keys, BrokerId(2), lease))
            .await
            .succeeded
    );
    assert_eq!(
        load(&store)
            .await
            .controller()
            .expect("elected")
            .value
            .broker,
        BrokerId(1)
    );
    store.revoke(lease).await.expect("revoked");
    assert!(load(&store).await.controller().is_none());
    let ended = store
        .transact(elect_controller(&keys, BrokerId(1), lease))
        .await;
    assert!(
        ended.is_err(),
        "a late election of a broker that lost its lease"
    );
}

#[tokio::test(start_paused = true)]
async fn producer_ids_are_given_once() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    let image = load(&store).await;
    let (first, take) = take_producer_ids(&keys, None, 1000).expect("plenty");
    let (_, same) =
        take_producer_ids(&keys, image.producer_ids().map(AsRef::as_ref), 1000).expect("plenty");
    assert_eq!(first, ProducerId(0)..ProducerId(1000));
    assert!(run(&store, take).await.succeeded);
    assert!(!run(&store, same).await.succeeded);
    let image = load(&store).await;
    let current = image.producer_ids().expect("taken");
    let (second, take) = take_producer_ids(&keys, Some(current), 10).expect("plenty");
    assert_eq!(second, ProducerId(1000)..ProducerId(1010));
    assert!(run(&store, take).await.succeeded);
    let mut last = current.as_ref().clone();
    last.value.next = ProducerId(i64::MAX - 5);
    assert!(take_producer_ids(&keys, Some(&last), 6).is_none());
}

#[test]
fn a_batch_never_exceeds_what_a_store_takes() {
    let guard = crate::store::Compare {
        key: "guard".into(),
        condition: crate::store::Condition::ModRevision(Revision(1)),
    };
    let changes: Vec<Change> = (0..250)
        .map(|index| Change::create(format!("k{index:03}"), vec![0; 30_000].into()))
        .collect();
    let batches = Batch::divide(&[guard], changes.clone());
    for batch in &batches {
        assert_eq!(batch.transaction().check(), Ok(()));
        assert!(!batch.is_empty());
    }
    assert!(batches.len() > 3, "bytes count, not keys alone");
    let keys: Vec<String> = batches
        .iter()
        .flat_map(|batch| batch.transaction().then)
        .map(|operation| operation.key().to_owned())
        .collect();
    let all: Vec<String> = changes
        .iter()
        .map(|c| c.operation.key().to_owned())
        .collect();
    assert_eq!(keys, all, "in their order, each once");
}

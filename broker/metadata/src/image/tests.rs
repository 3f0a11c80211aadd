use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::watch;

use super::*;
use crate::controller::{NewTopic, create_topic, delete_topic, grow_topic, set_configs};
use crate::memory::{Faults, MemoryStore, ReadFault};
use crate::store::{MetadataStore, StoreError, Transaction, WatchLost};
use crate::values::Configs;

const CASES: u32 = 64;

const PARTITION: &str =
    r#"{"v":1,"replicas":[],"isr":[],"leader":1,"leader_epoch":0,"min_isr_effective":1}"#;
const TIER: &str = r#"{"v":1,"claimed_epoch":0,"checksum":0,"version":0,"tier_end":0,"tier_end_epoch":-1,"log_start":0,"local_floor":0}"#;

fn topic_id(number: u8) -> TopicId {
    TopicId([number; 16])
}

async fn load(store: &MemoryStore) -> Image {
    let (entries, revision) = store.list(Keys::default().root()).await.expect("a list");
    Image::load(Keys::default(), &entries, revision).expect("readable")
}

/// One change to a few keys of each kind, so that they meet.
#[derive(Debug, Clone)]
struct Change {
    key: String,
    value: Option<&'static str>,
}

fn change() -> impl Strategy<Value = Change> {
    // No two topics ever have the same id.
    fn topics(name: u8) -> Vec<&'static str> {
        [(1, "live"), (1, "creating"), (2, "live"), (3, "growing")]
            .map(|(id, state)| {
                let id = topic_id(10 * name + id).to_hex();
                let text = format!(
                    r#"{{"v":1,"topic_id":"{id}","partitions":1,"state":"{state}","configs":{{}}}}"#
                );
                // Leaked: a test's strategy lives as long as its process.
                &*text.leak()
            })
            .to_vec()
    }
    const BROKER: &str =
        r#"{"v":1,"incarnation":"AQEBAQEBQQGBAQEBAQEBAQ","directories":[],"version":"1"}"#;
    const INFO: &str = r#"{"v":1,"incarnation":"AQEBAQEBQQGBAQEBAQEBAQ","endpoints":[]}"#;
    let of = |key: Key, values: Vec<&'static str>| {
        let key = Keys::default().name(&key);
        proptest::option::of(proptest::sample::select(values)).prop_map(move |value| Change {
            key: key.clone(),
            value,
        })
    };
    let id = || (1_u8..4).prop_map(topic_id);
    prop_oneof![
        4 => (0..3_u8).prop_flat_map(move |name| {
            of(Key::Topic(format!("t{name}")), topics(name))
        }),
        2 => (id(), 0..3_i32).prop_flat_map(move |(topic, partition)| {
            of(Key::Partition(topic, partition), vec![PARTITION])
        }),
        2 => (id(), 0..3_i32).prop_flat_map(move |(topic, partition)| {
            of(Key::Tier(topic, partition), vec![TIER])
        }),
        1 => id().prop_flat_map(move |topic| {
            of(Key::Deleted(topic), vec![r#"{"v":1,"topic":"t","partitions":1}"#])
        }),
        1 => (0..2_i32).prop_flat_map(move |id| of(Key::Broker(BrokerId(id)), vec![BROKER])),
        1 => (0..2_i32).prop_flat_map(move |id| of(Key::BrokerInfo(BrokerId(id)), vec![INFO])),
        1 => of(Key::TopicName("t".into()), vec![r#"{"v":1,"topic":"t"}"#]),
        1 => of(Key::Controller, vec![r#"{"v":1,"broker":1}"#, r#"{"v":1,"broker":2}"#]),
        1 => of(Key::ProducerIds, vec![r#"{"v":1,"next":5}"#]),
        1 => of(
            Key::Cluster,
            vec![r#"{"v":1,"cluster_id":"x","incarnation":0,"bucket_used":false}"#]
        ),
        1 => of(Key::Config(ConfigKind::Group, "g".into()), vec![r#"{"v":1,"configs":{}}"#]),
        // Another version's key, and another cluster's.
        1 => Just(Change { key: "/esker/later/x".into(), value: Some("not ours") }),
        1 => Just(Change { key: "/other/topics/x".into(), value: Some("not ours") }),
    ]
}

/// A partition of which anything differs is named.
fn check_changed(earlier: &Image, later: &Image) {
    let changed = later
        .partitions_changed_since(earlier)
        .expect("one was made from the other");
    let all = earlier.all_partitions().chain(later.all_partitions());
    for (topic, partition, _) in all {
        let look = |image: &Image| {
            let value = image.partition(topic, partition).cloned();
            let topic = image.topic_by_id(topic);
            (
                value,
                topic.map(|(name, topic)| (name.to_owned(), Arc::clone(topic))),
            )
        };
        assert!(
            changed.contains(&(topic, partition)) || look(earlier) == look(later),
            "{topic} {partition} has changed"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn applying_events_gives_what_loading_gives(
        transactions in vec(vec(change(), 1..4), 1..40),
        first in 0..20_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let store = MemoryStore::new();
            let mut image = load(&store).await;
            let mut from = image.revision();
            for (index, changes) in transactions.into_iter().enumerate() {
                let mut transaction = Transaction::new();
                let mut seen = Vec::new();
                for Change { key, value } in changes {
                    if seen.contains(&key) {
                        continue;
                    }
                    transaction = match value {
                        Some(value) => transaction.put(&key, value),
                        None => transaction.delete(&key),
                    };
                    seen.push(key);
                }
                store.transact(transaction).await.expect("answered");
                if index == first {
                    image = load(&store).await;
                    from = image.revision();
                }
            }
            let last = load(&store).await;
            let mut earlier = vec![image.clone()];
            let mut watch = store.watch("/esker/", from.next()).await.expect("a watch");
            // The image keeps the revision of its last change under the prefix.
            loop {
                let next = tokio::time::timeout(Duration::from_millis(1), watch.next()).await;
                let Ok(next) = next else { break };
                let Step::Publish(next) = step(&image, next.as_ref().map_err(|lost| *lost))
                    .expect("readable")
                else {
                    panic!("nothing was lost");
                };
                image = Arc::unwrap_or_clone(next);
                earlier.push(image.clone());
            }
            for earlier in earlier {
                check_changed(&earlier, &image);
                assert_eq!(last.partitions_changed_since(&earlier), None, "read again");
            }
            image.revision = last.revision;
            // An image that was loaded does not know since when it is so.
            assert!(image.topology_revision <= last.topology_revision);
            image.topology_revision = last.topology_revision;
            image.changes = last.changes.clone();
            assert_eq!(image, last);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn one_change_shares_everything_else() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    for number in 0..100 {
        let new = NewTopic {
            name: format!("t{number}"),
            topic_id: topic_id(number),
            assignment: vec![vec![BrokerId(1)]],
            configs: Configs::new(),
        };
        store
            .transact(create_topic(&keys, &new))
            .await
            .expect("answered");
    }
    let image = load(&store).await;
    let mut watch = store
        .watch(keys.root(), image.revision().next())
        .await
        .expect("a watch");
    let topic = image.topic("t7").expect("created");
    let deletion = delete_topic(&keys, "t7", topic);
    assert!(store.transact(deletion).await.expect("answered").succeeded);
    let next = image
        .apply(&watch.next().await.expect("an event"))
        .expect("readable");

    assert!(image.topic("t7").is_some(), "an image never changes");
    assert!(next.topic("t7").is_none() && next.topic_by_id(topic_id(7)).is_none());
    assert!(next.topic_like("t7").is_none());
    assert_eq!(
        next.deleted_topic(topic_id(7))
            .expect("deleted")
            .value
            .topic,
        "t7"
    );
    for (name, topic) in next.topics() {
        assert!(
            Arc::ptr_eq(topic, image.topic(name).expect("kept")),
            "{name} was copied"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_places_topics_moves_the_topology() {
    const ELSEWHERE: &str = r#"{"v":1,"replicas":[{"broker":7}],"isr":[],"leader":1,"leader_epoch":1,"min_isr_effective":1}"#;
    const LED: &str =
        r#"{"v":1,"replicas":[],"isr":[],"leader":2,"leader_epoch":5,"min_isr_effective":1}"#;
    const INFO: &str = r#"{"v":1,"incarnation":"AQEBAQEBQQGBAQEBAQEBAQ","endpoints":[]}"#;
    let store = MemoryStore::new();
    let keys = Keys::default();
    let partition = Key::Partition(topic_id(1), 0);
    let put = async |key: &Key, value: &str| {
        let transaction = Transaction::new().put(keys.name(key), value.as_bytes().to_vec());
        store.transact(transaction).await.expect("answered");
    };
    put(&partition, PARTITION).await;
    let mut image = load(&store).await;
    let mut watch = store
        .watch(keys.root(), image.revision().next())
        .await
        .expect("a watch");
    let steps = [
        (Key::Tier(topic_id(1), 0), TIER, false),
        (partition.clone(), LED, false),
        (partition, ELSEWHERE, true),
        (Key::BrokerInfo(BrokerId(7)), INFO, true),
    ];
    for (key, value, moves) in steps {
        put(&key, value).await;
        let next = image
            .apply(&watch.next().await.expect("an event"))
            .expect("readable");
        let moved = next.topology_revision() == next.revision();
        assert_eq!(moved, moves, "{key:?}");
        image = next;
    }
}

#[tokio::test(start_paused = true)]
async fn topics_are_seen_by_name_id_and_state() {
    let store = MemoryStore::new();
    let keys = Keys::default();
    let new = NewTopic {
        name: "a.b".into(),
        topic_id: topic_id(1),
        assignment: vec![vec![BrokerId(1)]],
        configs: Configs::new(),
    };
    store
        .transact(create_topic(&keys, &new))
        .await
        .expect("answered");
    let image = load(&store).await;
    assert_eq!(
        image.visible_topics().count(),
        0,
        "nobody sees a topic that is being created"
    );
    assert_eq!(
        image
            .unsettled_topics()
            .map(|(name, _)| name)
            .collect::<Vec<_>>(),
        ["a.b"]
    );
    assert_eq!(image.topic_by_id(topic_id(1)).expect("known").0, "a.b");
    assert_eq!(image.topic_like("a_b").expect("taken").value.topic, "a.b");
    let topic = image.topic("a.b").expect("created");
    assert!(grow_topic(&keys, "a.b", topic, vec![vec![BrokerId(1)]]).is_err());
}

/// Refuses the first reads, and breaks the first watches.
struct Broken {
    reads: u32,
    events: u32,
}

impl Faults for Broken {
    fn read(&mut self, _: &str) -> ReadFault {
        if self.reads == 0 {
            return ReadFault::None;
        }
        self.reads -= 1;
        ReadFault::Unavailable
    }

    fn event(&mut self, _: &str, _: Revision) -> Option<WatchLost> {
        if self.events == 0 {
            return None;
        }
        self.events -= 1;
        Some(WatchLost::Gap)
    }
}

async fn put_config(store: &MemoryStore, value: &str) -> Revision {
    let key = Keys::default().config(ConfigKind::Broker, "default");
    let value = format!(r#"{{"v":1,"configs":{{"k":"{value}"}}}}"#);
    store
        .transact(Transaction::new().put(key, value))
        .await
        .expect("answered")
        .revision
}

fn config(image: &Image) -> &str {
    &image
        .config(ConfigKind::Broker, "default")
        .expect("put")
        .value
        .configs["k"]
}

#[tokio::test(start_paused = true)]
async fn a_follower_survives_refused_reads_lost_watches_and_a_rewind() {
    let store = MemoryStore::with_faults(Box::new(Broken {
        reads: 3,
        events: 2,
    }));
    put_config(&store, "0").await;
    let backup = store.snapshot();
    let (sender, mut images) = watch::channel(Arc::new(Image::empty(Keys::default())));
    let follower = follow(Arc::new(store.clone()), Keys::default(), sender);
    let test = async {
        images
            .wait_for(|image| image.revision() > Revision::NONE)
            .await
            .expect("read");
        for value in ["1", "2", "3"] {
            let revision = put_config(&store, value).await;
            let image = images.wait_for(|image| image.revision() >= revision).await;
            assert_eq!(config(&image.expect("followed")), value);
        }
        store.compact();
        let revision = put_config(&store, "4").await;
        let image = images.wait_for(|image| image.revision() >= revision).await;
        assert_eq!(config(&image.expect("followed")), "4");
        store.rewind(&backup);
        images
            .wait_for(|image| config(image) == "0")
            .await
            .expect("the store as it is now");
    };
    tokio::select! {
        biased;
        () = test => {}
        error = follower => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_of_a_later_version_ends_the_follower() {
    let store = MemoryStore::new();
    let revision = put_config(&store, "0").await;
    let (sender, mut images) = watch::channel(Arc::new(Image::empty(Keys::default())));
    let follower = follow(Arc::new(store.clone()), Keys::default(), sender);
    let test = async {
        images
            .wait_for(|image| image.revision() >= revision)
            .await
            .expect("read");
        let key = Keys::default().cluster();
        store
            .transact(Transaction::new().put(key, r#"{"v":9}"#))
            .await
            .expect("answered");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = test => {}
        error = follower => {
            let FollowError::Value(ValueError::Newer { key, found: 9, .. }) = error else {
                panic!("{error}");
            };
            assert_eq!(key, "/esker/cluster");
        }
    }
}

#[test]
fn an_older_revision_is_a_reload() {
    let image = Image::load(Keys::default(), &[], Revision(5)).expect("empty");
    for (revision, reload) in [(4, true), (5, true), (6, false), (9, false)] {
        let event = WatchEvent {
            revision: Revision(revision),
            changes: Vec::new(),
        };
        let step = step(&image, Ok(&event)).expect("readable");
        assert_eq!(
            matches!(step, Step::Reload(ReloadReason::Older)),
            reload,
            "{revision}"
        );
    }
    let lost = step(&image, Err(WatchLost::Gap)).expect("nothing to read");
    assert!(matches!(
        lost,
        Step::Reload(ReloadReason::Lost(WatchLost::Gap))
    ));
}

#[test]
fn retriable_errors_are_those_without_effect() {
    assert!(StoreError::Unavailable("x".into()).is_retriable());
    assert!(!StoreError::Unknown.is_retriable());
    assert!(!StoreError::Fatal("x".into()).is_retriable());
}

/// The image after a transaction.
async fn after(store: &MemoryStore, image: &Image, transaction: Transaction) -> Image {
    let from = image.revision().next();
    let mut watch = store.watch("/esker/", from).await.expect("a watch");
    assert!(
        store
            .transact(transaction)
            .await
            .expect("answered")
            .succeeded
    );
    image
        .apply(&watch.next().await.expect("an event"))
        .expect("readable")
}

#[tokio::test(start_paused = true)]
async fn an_image_names_the_partitions_that_changed() {
    let (store, keys) = (MemoryStore::new(), Keys::default());
    let new = |name: &str, id| NewTopic {
        name: name.into(),
        topic_id: topic_id(id),
        assignment: Vec::new(),
        configs: Configs::new(),
    };
    let (a, b, again) = (topic_id(1), topic_id(2), topic_id(3));
    let named = |later: &Image, earlier: &Image| {
        let changed = later.partitions_changed_since(earlier).expect("known");
        changed.into_iter().collect::<Vec<_>>()
    };
    for (name, id) in [("a", 1), ("b", 2)] {
        store
            .transact(create_topic(&keys, &new(name, id)))
            .await
            .expect("answered");
    }
    let mut filling = Transaction::new();
    for (topic, partition) in [(a, 0), (a, 1), (b, 0)] {
        filling = filling.put(keys.partition(topic, partition), PARTITION);
    }
    store.transact(filling).await.expect("answered");
    let loaded = load(&store).await;
    assert_eq!(named(&loaded, &loaded), []);

    let tiered = after(
        &store,
        &loaded,
        Transaction::new().put(keys.tier(a, 0), TIER),
    )
    .await;
    assert_eq!(named(&tiered, &loaded), [], "a tier commit changes none");
    let put = Transaction::new().put(keys.partition(b, 0), PARTITION);
    let changed = after(&store, &tiered, put).await;
    assert_eq!(named(&changed, &tiered), [(b, 0)]);
    assert_eq!(named(&changed, &changed), []);
    let topic = changed.topic("a").expect("there");
    let gone = after(&store, &changed, delete_topic(&keys, "a", topic)).await;
    assert_eq!(named(&gone, &changed), [(a, 0), (a, 1)], "all of the topic");
    // The name is another topic's, and the partitions of the first go: both are named.
    let created = after(&store, &gone, create_topic(&keys, &new("a", 3))).await;
    let moving = Transaction::new()
        .delete(keys.partition(a, 0))
        .delete(keys.partition(a, 1))
        .put(keys.partition(again, 0), PARTITION);
    let moved = after(&store, &created, moving).await;
    assert_eq!(named(&moved, &changed), [(a, 0), (a, 1), (again, 0)]);
    assert_eq!(
        named(&moved, &loaded),
        [(a, 0), (a, 1), (b, 0), (again, 0)],
        "over several revisions"
    );
    let of_group = set_configs(&keys, ConfigKind::Group, "g", None, Configs::new());
    let of_group = after(&store, &moved, of_group).await;
    assert_eq!(
        named(&of_group, &moved),
        [],
        "a group's settings change none"
    );
    let name = crate::keys::ALL_BROKERS;
    let of_brokers = set_configs(&keys, ConfigKind::Broker, name, None, Configs::new());
    let of_brokers = after(&store, &of_group, of_brokers).await;
    assert_eq!(
        of_brokers.partitions_changed_since(&of_group),
        None,
        "the brokers' settings are the defaults of all"
    );
    let reloaded = load(&store).await;
    assert_eq!(
        reloaded.partitions_changed_since(&moved),
        None,
        "read again"
    );
}

#[tokio::test(start_paused = true)]
async fn what_changed_too_long_ago_is_not_known() {
    let (store, keys) = (MemoryStore::new(), Keys::default());
    let tier = || Transaction::new().put(keys.tier(topic_id(1), 0), TIER);
    let put = Transaction::new().put(keys.partition(topic_id(1), 0), PARTITION);
    let first = load(&store).await;
    let second = after(&store, &first, put).await;
    let mut image = second.clone();
    for _ in 1..changes::REVISIONS_MAX {
        image = after(&store, &image, tier()).await;
    }
    let changed = image.partitions_changed_since(&first).expect("known");
    assert_eq!(changed.len(), 1);
    image = after(&store, &image, tier()).await;
    assert_eq!(image.partitions_changed_since(&first), None);
    let changed = image.partitions_changed_since(&second).expect("known");
    assert!(changed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn settings_are_listed_by_kind_and_stay_when_nothing_is_set_any_more() {
    let (store, keys) = (MemoryStore::new(), Keys::default());
    let one = Configs::from([("a".to_owned(), "1".to_owned())]);
    for (kind, name) in [
        (ConfigKind::Broker, "1"),
        (ConfigKind::Group, "b"),
        (ConfigKind::Group, "a"),
        (ConfigKind::ClientMetrics, "c"),
    ] {
        let put = set_configs(&keys, kind, name, None, one.clone());
        assert!(store.transact(put).await.expect("answered").succeeded);
    }
    let image = load(&store).await;
    let names = |image: &Image, kind| -> Vec<String> {
        image
            .configs(kind)
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    assert_eq!(names(&image, ConfigKind::Group), ["a", "b"]);
    assert_eq!(names(&image, ConfigKind::ClientMetrics), ["c"]);
    assert_eq!(image.configs_count(), 4);
    let current = image.config(ConfigKind::Group, "a").map(AsRef::as_ref);
    let emptied = set_configs(&keys, ConfigKind::Group, "a", current, Configs::new());
    assert!(
        store
            .transact(emptied.clone())
            .await
            .expect("answered")
            .succeeded
    );
    // The same again was decided from what is no more.
    assert!(!store.transact(emptied).await.expect("answered").succeeded);
    let image = load(&store).await;
    assert_eq!(names(&image, ConfigKind::Group), ["a", "b"]);
    let late = set_configs(&keys, ConfigKind::Group, "a", None, one);
    assert!(!store.transact(late).await.expect("answered").succeeded);
}

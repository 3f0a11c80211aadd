//! A partition across both tiers: offload, cold reads, the seam, restarts.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Stores, Wire, batch, create, delete_records, epoch_ends, fetch, produce};
use esker_protocol::ErrorCode;
use esker_protocol::records::{Batches, Caps};
use esker_server::Broker;
use esker_storage::{Disk, MemoryDisk};
use esker_tier::fault::{Fault, FaultStore, Operation, Rule};
use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

const SETTINGS: &[(&str, &str)] = &[
    ("offload.min.bytes", "1"),
    ("offload.max.age.ms", "200"),
    ("log.retention.check.interval.ms", "50"),
    ("remote.fetch.max.wait.ms", "10000"),
];

/// Topic settings under which every batch of a kilobyte seals a segment and leaves the disk.
const COLD: &[(&str, &str)] = &[
    ("internal.segment.bytes", "2048"),
    ("local.retention.bytes", "1"),
    ("retention.ms", "-1"),
];

fn value(index: usize) -> Vec<u8> {
    let mut value = format!("{index:08}").into_bytes();
    value.resize(1024, (index % 251) as u8);
    value
}

async fn fill(wire: &mut Wire, range: std::ops::Range<usize>) {
    for index in range {
        let (code, base, _) = produce(
            wire,
            "topic",
            batch(&[&value(index)], 1_000_000 + index as i64),
            -1,
        )
        .await;
        assert_eq!((code, base), (0, index as i64));
    }
}

/// Reads from `start` to the high watermark and checks every value and offset.
async fn read_all(wire: &mut Wire, start: usize, end: usize) {
    let mut next = start as i64;
    while next < end as i64 {
        let (code, high_watermark, records) = fetch(wire, "topic", next, 4096).await;
        assert_eq!((code, high_watermark), (0, end as i64), "at {next}");
        next = check(&records, next);
    }
}

fn check(records: &Bytes, mut next: i64) -> i64 {
    for batch in Batches::new(records) {
        let batch = batch.expect("a whole batch");
        assert!(batch.crc_is_valid());
        for record in batch.records(&Caps::default()).expect("decodes").iter() {
            let record = record.expect("reads");
            assert_eq!(record.offset.0, next);
            assert!(record.value.expect("a value") == value(next as usize));
            next += 1;
        }
    }
    next
}

/// Waits until the local log begins at or above `offset`: below it, everything is cold.
async fn until_cold(broker: &Broker, offset: i64) {
    let shared = broker.shared();
    let partition = shared
        .partitions
        .all()
        .into_iter()
        .next()
        .expect("a partition");
    tokio::time::timeout(Duration::from_secs(20), async {
        while partition.log.local_start_offset().0 < offset {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("segments are offloaded and leave the disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_records_are_read_back_across_the_seam_and_restarts() {
    let stores = Stores::new();
    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, COLD).await;
    fill(&mut wire, 0..40).await;
    until_cold(&broker, 30).await;
    read_all(&mut wire, 0, 40).await;
    broker.stop().await;

    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    read_all(&mut wire, 0, 40).await;
    fill(&mut wire, 40..60).await;
    until_cold(&broker, 50).await;
    read_all(&mut wire, 7, 60).await;
    // The first process's epoch lies in the store alone, and its end is known still.
    let ends = epoch_ends(&mut wire, 4, "topic", -1, &[0, 1, 2]).await;
    assert_eq!(ends, [(0, 0, 40), (0, 1, 60), (0, -1, -1)]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_records_are_deleted_for_good() {
    let stores = Stores::new();
    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, COLD).await;
    fill(&mut wire, 0..40).await;
    until_cold(&broker, 30).await;
    assert_eq!(delete_records(&mut wire, 2, "topic", 0, 17).await, (0, 17));
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    assert_eq!(fetch(&mut wire, "topic", 16, 4096).await.0, out_of_range);
    read_all(&mut wire, 17, 40).await;
    // Another broker would read the start in the tier key.
    let topic = broker.shared().topic_id("topic").expect("a topic");
    let tier = broker.shared().image().tier(topic, 0).cloned();
    assert_eq!(tier.map(|tier| tier.value.log_start.0), Some(17));
    broker.stop().await;

    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    assert_eq!(fetch(&mut wire, "topic", 16, 4096).await.0, out_of_range);
    read_all(&mut wire, 17, 40).await;
    // Beyond what is in the store.
    assert_eq!(delete_records(&mut wire, 2, "topic", 0, 39).await, (0, 39));
    read_all(&mut wire, 39, 40).await;
    fill(&mut wire, 40..60).await;
    until_cold(&broker, 50).await;
    read_all(&mut wire, 39, 60).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_moves_log_start_over_both_tiers_and_objects_follow() {
    let stores = Stores::new();
    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    let mut settings = COLD.to_vec();
    settings.push(("retention.bytes", "16384"));
    create(&mut wire, "topic", 1, &settings).await;
    fill(&mut wire, 0..60).await;
    let partition = broker.shared().partitions.all().remove(0);
    tokio::time::timeout(Duration::from_secs(20), async {
        while partition.start_offset().0 < 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("retention moves the log start");
    let start = partition.start_offset().0;
    let (code, _, _) = fetch(&mut wire, "topic", start - 1, 4096).await;
    assert_eq!(code, ErrorCode::OffsetOutOfRange.code());
    let mut next = start;
    while next < 60 {
        let (code, _, records) = fetch(&mut wire, "topic", next, 4096).await;
        if code == ErrorCode::None.code() {
            next = check(&records, next);
        } else {
            // It may move on by a segment yet.
            let start = partition.start_offset().0;
            assert!(start > next, "code {code} at {next}");
            next = start;
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_tier_has_of_a_damaged_log_is_served_from_there() {
    let mut stores = Stores::new();
    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    let settings = [("internal.segment.bytes", "2048"), ("retention.ms", "-1")];
    create(&mut wire, "topic", 1, &settings).await;
    fill(&mut wire, 0..20).await;
    let partition = broker.shared().partitions.all().remove(0);
    tokio::time::timeout(Duration::from_secs(20), async {
        while partition.tier.end().is_none_or(|(end, _)| end.0 < 10) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("segments are offloaded");
    assert_eq!(partition.log.local_start_offset().0, 0, "and stay");
    broker.stop().await;

    stores.disk = Arc::new(stores.disk.after_kill());
    let first = Path::new("/data/topic-0/00000000000000000000.log");
    stores.disk.remove_file(first).expect("it is there");
    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    read_all(&mut wire, 0, 20).await;
    fill(&mut wire, 20..22).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_disk_with_a_tier_is_never_offset_zero() {
    let mut stores = Stores::new();
    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, COLD).await;
    fill(&mut wire, 0..20).await;
    until_cold(&broker, 10).await;
    broker.stop().await;

    stores.disk = Arc::new(MemoryDisk::new());
    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    // The directory that acknowledged is gone, and nobody can prove what it had: offline, not empty.
    let (code, base, _) = produce(&mut wire, "topic", batch(&[b"v"], 1), -1).await;
    assert_ne!(code, 0);
    assert_eq!(base, -1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_takes_its_objects_along_and_its_name_is_free() {
    let stores = Stores::new();
    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, COLD).await;
    fill(&mut wire, 0..20).await;
    until_cold(&broker, 10).await;
    let old = broker
        .shared()
        .topic_id("topic")
        .expect("the topic is there");
    let request = esker_protocol::messages::DeleteTopicsRequest {
        topic_names: vec!["topic".into()],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let code = wire
        .call(
            5,
            &request,
            |r: esker_protocol::messages::DeleteTopicsResponse<'_>| r.responses[0].error_code,
        )
        .await;
    assert_eq!(code, 0);
    create(&mut wire, "topic", 1, COLD).await;
    fill(&mut wire, 0..3).await;
    read_all(&mut wire, 0, 3).await;
    // The key of the deletion stays until a late upload can no longer arrive; the objects go now.
    let objects = stores.objects.clone().expect("there is a store");
    let old = old.to_hex();
    let cleaned = async {
        loop {
            let listed: Vec<_> = objects.list(None).collect().await;
            let is_left = |path: &object_store::path::Path| path.as_ref().contains(&old);
            if !listed
                .iter()
                .flatten()
                .any(|object| is_left(&object.location))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), cleaned)
        .await
        .expect("objects go");
    broker.stop().await;
}

/// A store of which the marker cannot be read, until it is healed.
fn away(objects: &Arc<dyn ObjectStore>) -> FaultStore {
    let store = FaultStore::new(Arc::clone(objects));
    let marker = Rule::next(Operation::Get, Fault::Fail).at("cluster.json");
    store.add(marker.times(1_000_000));
    store
}

/// Waits until what is asked for holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_offloaded_before_the_marker_was_read() {
    let mut stores = Stores::new();
    common::start(&stores, SETTINGS).await.stop().await;
    let objects = stores.objects.clone().expect("a store");
    let faults = away(&objects);
    stores.objects = Some(Arc::new(faults.clone()));

    let broker = common::start(&stores, SETTINGS).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, COLD).await;
    fill(&mut wire, 0..20).await;
    let looked = faults.count(Operation::Get);
    until("the marker is looked for again", || {
        faults.count(Operation::Get) > looked + 1
    })
    .await;
    assert_eq!(faults.count(Operation::Put), 0);
    faults.heal();
    until_cold(&broker, 10).await;
    read_all(&mut wire, 0, 20).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_turns_out_to_be_another_clusters_is_never_written_to() {
    let stores = Stores::new();
    common::start(&stores, SETTINGS).await.stop().await;
    // The first has a marker of another incarnation, the second has none.
    let markers = [Some("\"incarnation\":7"), None];
    for (number, incarnation) in markers.into_iter().enumerate() {
        let wrong_bucket = Stores::new().objects.expect("a store");
        let right = stores.objects.clone().expect("a store");
        let names = |store: &Arc<dyn ObjectStore>| store.list(None).collect::<Vec<_>>();
        let found = names(&right).await;
        let marker = found
            .into_iter()
            .map(|meta| meta.expect("listed").location)
            .find(|path| path.as_ref().ends_with("cluster.json"))
            .expect("a marker");
        if let Some(incarnation) = incarnation {
            let text = right.get(&marker).await.expect("read").bytes().await;
            let text = String::from_utf8(text.expect("read").to_vec()).expect("text");
            let other = text.replace("\"incarnation\":0", incarnation);
            assert_ne!(text, other);
            wrong_bucket.put(&marker, other.into()).await.expect("put");
        }
        let before = names(&wrong_bucket).await.len();
        let faults = away(&wrong_bucket);
        let mut wrong = stores.clone();
        wrong.objects = Some(Arc::new(faults.clone()));

        let environment = wrong.environment();
        let registry = environment.registry.clone();
        let broker = Broker::start(common::config(SETTINGS), environment)
            .await
            .expect("starts without its store");
        let mut wire = Wire::connect(&broker).await;
        let name = format!("topic-{number}");
        create(&mut wire, &name, 1, COLD).await;
        for index in 0..20 {
            let records = batch(&[&value(index)], 1_000_000 + index as i64);
            let (code, _, _) = produce(&mut wire, &name, records, -1).await;
            assert_eq!(code, 0);
        }
        faults.heal();
        until("the broker says so", || {
            registry.gather().iter().any(|family| {
                family.name() == "esker_tier_bucket_foreign"
                    && family.get_metric()[0].get_gauge().get_value() > 0.0
            })
        })
        .await;
        let looked = faults.count(Operation::Get);
        until("the marker is looked at again", || {
            faults.count(Operation::Get) > looked
        })
        .await;
        assert_eq!(faults.count(Operation::Put), 0);
        assert_eq!(faults.count(Operation::Delete), 0);
        assert_eq!(names(&wrong_bucket).await.len(), before);
        broker.stop().await;
    }
}

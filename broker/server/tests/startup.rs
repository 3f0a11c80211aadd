//! What a broker refuses at start: one clear line, and nothing is changed.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Stores, Wire, batch, config, create, fetch, produce};
use esker_metadata::MemoryStore;
use esker_server::Broker;
use esker_storage::{LogDirectory, MemoryDisk};

async fn refusal(stores: &Stores, pairs: &[(&str, &str)]) -> String {
    match Broker::start(config(pairs), stores.environment()).await {
        Ok(_) => panic!("the broker started"),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n'), "{line}");
            line
        }
    }
}

async fn run_once(stores: &Stores, pairs: &[(&str, &str)]) {
    common::start(stores, pairs).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_cluster_or_node_is_refused() {
    let mut stores = Stores::new();
    run_once(&stores, &[]).await;
    let line = refusal(&stores, &[("node.id", "2")]).await;
    assert!(line.contains("belongs to node.id 1, not 2"), "{line}");
    stores.metadata = MemoryStore::new();
    stores.seed = 2;
    stores.objects = None;
    let line = refusal(&stores, &[]).await;
    assert!(line.contains("belongs to cluster"), "{line}");
    let (entries, _) = esker_metadata::MetadataStore::list(&stores.metadata, "/")
        .await
        .unwrap();
    assert!(entries.is_empty(), "a refusal changes nothing: {entries:?}");
}

#[tokio::test]
async fn after_a_crash_consumers_see_all_that_they_had_seen() {
    let stores = Stores::new();
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    for _ in 0..5 {
        let (code, _, _) = produce(&mut wire, "topic", batch(&[b"v"], 1), -1).await;
        assert_eq!(code, 0);
    }
    let mut crashed = stores.clone();
    crashed.disk = Arc::new(stores.disk.after_power_cut(1));
    broker.stop().await;

    let broker = common::start(&crashed, &[]).await;
    // Nothing else has run since it began to lead.
    let partition = broker.shared().partitions.all().remove(0);
    assert_eq!(partition.high_watermark().0, 5);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_id_is_refused() {
    let stores = Stores::new();
    run_once(&stores, &[]).await;
    let line = refusal(&stores, &[("cluster.id", "AAECAwQFBgcICQoLDA0ODw")]).await;
    assert!(line.contains("not to AAECAwQFBgcICQoLDA0ODw"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_was_used_must_be_there() {
    let mut stores = Stores::new();
    run_once(&stores, &[]).await;
    stores.objects = None;
    let line = refusal(&stores, &[]).await;
    assert!(line.contains("object.store.url is none"), "{line}");
    stores.objects = Some(Arc::new(object_store::memory::InMemory::new()));
    let line = refusal(&stores, &[]).await;
    assert!(line.contains("another bucket or prefix"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_refused() {
    let stores = Stores::new();
    let broker = common::start(&stores, &[]).await;
    let mut other = Stores::new();
    other.disk = Arc::new(MemoryDisk::new());
    let taken = format!("PLAINTEXT://{}", broker.kafka_address());
    let line = refusal(&other, &[("listeners", &taken)]).await;
    assert!(line.starts_with("cannot listen on 127.0.0.1:"), "{line}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advertised_listener_must_be_a_listener() {
    let line = refusal(
        &Stores::new(),
        &[("advertised.listeners", "OTHER://localhost:9092")],
    )
    .await;
    assert_eq!(
        line,
        "advertised.listeners names OTHER, which is not among listeners"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_set_aside_is_missed_and_served_again_once_it_is_back() {
    let stores = Stores::new();
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let names = ["stray", "other"];
    for name in names {
        create(&mut wire, name, 1, &[]).await;
        let (code, _, _) = produce(&mut wire, name, batch(&[b"v"], 1_000_000), -1).await;
        assert_eq!(code, 0);
    }
    let identity = esker_storage::Identity {
        cluster_id: broker.shared().cluster_id.clone(),
        node_id: broker.shared().config.node_id,
    };
    broker.stop().await;

    // What a start with a metadata store of before the topic did.
    let disk = Arc::clone(&stores.disk) as Arc<dyn esker_storage::Disk>;
    let config = esker_storage::DirectoryConfig::new("/data");
    let directory = LogDirectory::open(Arc::clone(&disk), config, &identity, &mut || [9; 16]);
    let directory = directory.expect("the broker has stopped");
    let found = directory.partitions().expect("listed");
    let found = found.iter().find(|found| found.topic == "stray");
    directory
        .make_found_stray(found.expect("it is there"))
        .expect("renamed");
    drop(directory);

    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let (code, _, records) = fetch(&mut wire, "other", 0, 1 << 20).await;
    assert_eq!((code, records.is_empty()), (0, false));
    let (code, _, _) = fetch(&mut wire, "stray", 0, 1 << 20).await;
    assert_ne!(code, 0);
    let (code, _, _) = produce(&mut wire, "stray", batch(&[b"v"], 1_000_000), -1).await;
    assert_ne!(code, 0);

    let entries = disk.read_dir(Path::new("/data")).expect("listed");
    let mut entries = entries.iter().map(|entry| &entry.name);
    let aside = entries.find(|name| name.ends_with("-stray"));
    let aside = Path::new("/data").join(aside.expect("it is aside"));
    disk.rename(&aside, Path::new("/data/stray-0"))
        .expect("renamed back");
    let served = async {
        loop {
            let (code, high_watermark, records) = fetch(&mut wire, "stray", 0, 1 << 20).await;
            if code == 0 {
                return (high_watermark, records.is_empty());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let served = tokio::time::timeout(Duration::from_secs(20), served).await;
    assert_eq!(served.expect("it is opened again"), (1, false));
    broker.stop().await;
}

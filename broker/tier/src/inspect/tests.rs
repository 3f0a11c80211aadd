use std::sync::Arc;

use esker_protocol::Offset;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use super::{Bucket, Progress};
use crate::layout::{self, Place};
use crate::pool::Inline;
use crate::testing::{Tier, partition, segments};

fn place() -> Place {
    let partition = partition();
    Place {
        cluster_id: partition.cluster_id.to_string(),
        topic_id: partition.topic_id,
        partition: partition.partition,
    }
}

async fn tier() -> Tier {
    let mut tier = Tier::plain();
    for chunk in segments(Offset::ZERO, 6, 10).chunks(2) {
        tier.offload(chunk).await;
    }
    tier
}

fn bucket(tier: &Tier) -> Bucket {
    Bucket::new(Arc::clone(&tier.inner), Arc::new(Inline))
}

#[tokio::test(start_paused = true)]
async fn a_bucket_lists_by_partition_and_names_what_is_strange() {
    let tier = tier().await;
    let marker = layout::marker("clusterclusterclustere");
    tier.inner
        .put(&marker, PutPayload::from("{}"))
        .await
        .unwrap();
    tier.inner
        .put(&Path::from("holiday.jpg"), PutPayload::from("?"))
        .await
        .unwrap();
    let listing = bucket(&tier).list(None).await.unwrap();
    assert_eq!(listing.clusters, ["clusterclusterclustere"]);
    assert_eq!(listing.unknown, [(Path::from("holiday.jpg"), 1)]);
    let contents = &listing.partitions[&place()];
    assert_eq!((contents.objects.len(), contents.manifests.len()), (3, 3));
    let newest = contents.newest_head().unwrap().to_string();
    assert_eq!(Some(newest), tier.pointer.manifest);
}

#[tokio::test(start_paused = true)]
async fn an_object_decodes_without_its_manifest() {
    let tier = tier().await;
    let bucket = bucket(&tier);
    let listing = bucket.list(None).await.unwrap();
    let mut all = Vec::new();
    for (name, bytes) in &listing.partitions[&place()].objects {
        let path = layout::object(&partition(), name);
        let (index, _) = bucket.index(&path, *bytes).await.unwrap();
        assert_eq!(index.segments.len(), 2);
        assert_eq!(index.segments[0].offset_index().unwrap().len(), 10);
        bucket
            .cat(&path, &index, |bytes| all.extend_from_slice(&bytes))
            .await
            .unwrap();
    }
    assert_eq!(all, tier.expected(Offset::ZERO));
}

#[tokio::test(start_paused = true)]
async fn verification_passes_what_is_whole_and_finds_what_is_not() {
    let tier = tier().await;
    let bucket = bucket(&tier);
    let listing = bucket.list(None).await.unwrap();
    let contents = &listing.partitions[&place()];
    let mut seen = Vec::new();
    let report = bucket
        .verify(&place(), contents, |progress| seen.push(progress))
        .await
        .unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(
        report.segment_bytes,
        tier.expected(Offset::ZERO).len() as u64
    );
    assert_eq!(seen.len(), 4);
    let Progress {
        objects,
        objects_total,
        bytes,
        bytes_total,
    } = seen[3];
    assert_eq!((objects, objects_total, bytes), (3, 3, bytes_total));

    // Every byte of an object counts.
    let name = *contents.objects.keys().next().unwrap();
    let path = layout::object(&partition(), &name);
    let good = tier.inner.get(&path).await.unwrap().bytes().await.unwrap();
    for position in (0..good.len()).step_by(37) {
        let mut bad = good.to_vec();
        bad[position] ^= 0x10;
        tier.inner.put(&path, PutPayload::from(bad)).await.unwrap();
        let report = bucket.verify(&place(), contents, |_| {}).await.unwrap();
        assert_eq!(report.problems.len(), 1, "{position}");
    }
    tier.inner.delete(&path).await.unwrap();
    let report = bucket.verify(&place(), contents, |_| {}).await.unwrap();
    assert!(
        report.problems[0].contains("does not exist"),
        "{:?}",
        report.problems
    );
}

#[tokio::test(start_paused = true)]
async fn garbage_is_no_object_and_no_panic() {
    let tier = Tier::plain();
    let bucket = bucket(&tier);
    let path = Path::from("garbage");
    for length in 0..40_usize {
        for fill in [0x00, 0xff, 0xb1] {
            let bytes = vec![fill; length];
            tier.inner
                .put(&path, PutPayload::from(bytes))
                .await
                .unwrap();
            assert!(bucket.index(&path, length as u64).await.is_err());
        }
    }
}

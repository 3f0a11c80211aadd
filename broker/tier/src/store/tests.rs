use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use super::*;
use crate::fault::{Fault, FaultStore, Operation, Rule};
use crate::testing::listed;

const CLUSTER: &str = "clusterclusterclustere";

#[tokio::test(start_paused = true)]
async fn memory_passes_the_probe_and_keeps_nothing_of_it() {
    let store = open("memory:", &Options::default()).unwrap();
    assert_eq!(
        probe(&store, CLUSTER, [1; 16]).await,
        Ok(Verification::ReadBack)
    );
    assert_eq!(listed(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_folder_passes_the_probe_and_loses_what_no_put_finished() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("objects");
    let url = format!("file://{}", place.display());
    let store = open(&url, &Options::default()).unwrap();
    assert_eq!(
        probe(&store, CLUSTER, [1; 16]).await,
        Ok(Verification::ReadBack)
    );
    store
        .put(&Path::from("a/b/kept"), PutPayload::from("x"))
        .await
        .unwrap();
    drop(store);
    let half = place.join("a/b/object#17");
    let named = place.join("a/b/object#17b");
    #[expect(
        clippy::disallowed_methods,
        reason = "what a crash leaves behind is made by hand"
    )]
    for path in [&half, &named] {
        std::fs::write(path, "half").unwrap();
    }
    let store = open(&url, &Options::default()).unwrap();
    assert!(!half.exists() && named.exists());
    assert_eq!(
        store
            .get(&Path::from("a/b/kept"))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        "x"
    );
}

#[tokio::test]
async fn a_probe_takes_along_what_older_ones_left() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let store = open(&url, &Options::default()).unwrap();
    let probes = folder.path().join(CLUSTER).join("probe");
    let object = folder.path().join(CLUSTER).join("object");
    let hours = |count: u64| std::time::Duration::from_secs(3600 * count);
    for (path, age) in [
        (probes.join("old"), hours(2)),
        (probes.join("old-spoiled"), hours(48)),
        // Another broker's, which probes just now.
        (probes.join("present"), hours(0)),
        (object.clone(), hours(48)),
    ] {
        #[expect(
            clippy::disallowed_methods,
            reason = "what a killed process left is made by hand, with its age"
        )]
        {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = std::fs::File::create(&path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.set_modified(modified - age).unwrap();
        }
    }
    probe(&store, CLUSTER, [1; 16]).await.unwrap();
    let left: Vec<_> = [
        format!("{CLUSTER}/object"),
        format!("{CLUSTER}/probe/present"),
    ]
    .into();
    assert_eq!(listed(&store).await, left);
}

#[test]
fn urls_that_name_no_store_are_refused_in_one_line() {
    for url in [
        "",
        "memory",
        "memory:x",
        "file:relative",
        "file://relative/path",
        "s3://",
        "s3:///x",
        "gs://b",
        "/data",
    ] {
        let error = open(url, &Options::default()).unwrap_err().to_string();
        assert!(
            error.contains("is no object store") && !error.contains('\n'),
            "{url}: {error}"
        );
    }
    let error = open("file:///proc/version/x", &Options::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("object store folder /proc/version/x: "),
        "{error}"
    );
}

#[cfg(not(feature = "aws"))]
#[test]
fn without_the_feature_s3_is_refused() {
    assert!(matches!(
        open("s3://bucket/prefix", &Options::default()),
        Err(OpenError::NoS3)
    ));
}

#[cfg(feature = "aws")]
#[test]
fn a_bucket_opens_without_asking_it() {
    let options = Options {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        access_key: Some("key".to_owned()),
        secret_key: Some("secret".to_owned()),
        ..Options::default()
    };
    for url in ["s3://bucket", "s3://bucket/", "s3://bucket/pre/fix"] {
        open(url, &options).unwrap();
    }
    assert!(!format!("{options:?}").contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_do_one_thing_is_told_which() {
    for (operation, fault, says) in [
        (Operation::Put, Fault::Fail, "cannot put an object"),
        (Operation::Put, Fault::Hang, "cannot put an object"),
        (Operation::Get, Fault::Fail, "cannot get an object"),
        (Operation::Get, Fault::Flip, "gives other bytes"),
        (Operation::List, Fault::Fail, "cannot list objects"),
        (Operation::List, Fault::Stale(1), "does not list"),
        (Operation::Delete, Fault::Fail, "cannot delete an object"),
    ] {
        let faults = FaultStore::new(Arc::new(InMemory::new()));
        // Of deletions the first is that of the second object, whose failure is not the store's end.
        let skip = usize::from(operation == Operation::Delete);
        faults.add(Rule::next(operation, fault).after(skip));
        let store: Arc<dyn ObjectStore> = Arc::new(faults);
        let error = probe(&store, CLUSTER, [1; 16])
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(says) && !error.contains('\n'),
            "{operation:?} {fault:?}: {error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_proves_nothing_about_checksums() {
    for fault in [Fault::Fail, Fault::Hang, Fault::Zombie] {
        let faulty = FaultStore::new(Arc::new(InMemory::new()));
        faulty.add(Rule::next(Operation::Put, fault).at("-spoiled"));
        let store: Arc<dyn ObjectStore> = Arc::new(faulty);
        assert_eq!(
            probe(&store, CLUSTER, [1; 16]).await,
            Ok(Verification::ReadBack),
            "{fault:?}"
        );
    }
}

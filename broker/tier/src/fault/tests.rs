use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::time::timeout;

use super::*;

fn store() -> FaultStore {
    FaultStore::new(Arc::new(InMemory::new()))
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn faults_before_and_after_the_deed_differ_in_the_deed_only() {
    for (fault, happened) in [
        (Fault::Fail, false),
        (Fault::FailAfter, true),
        (Fault::Hang, false),
        (Fault::HangAfter, true),
        (Fault::Zombie, false),
    ] {
        let (store, path) = (store(), Path::from("a"));
        store.add(Rule::next(Operation::Put, fault));
        let put = timeout(SECOND, store.put(&path, PutPayload::from("x"))).await;
        assert!(put.is_err() || put.unwrap().is_err(), "{fault:?}");
        assert_eq!(store.get(&path).await.is_ok(), happened, "{fault:?}");
        let zombies = store.release().await.unwrap();
        assert_eq!(zombies, usize::from(fault == Fault::Zombie));
        assert_eq!(store.get(&path).await.is_ok(), happened || zombies == 1);
        assert!(
            store.put(&path, PutPayload::from("y")).await.is_ok(),
            "one fault, one time"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_truncated_flipped_or_missing() {
    let (store, path) = (store(), Path::from("a"));
    store
        .put(&path, PutPayload::from("sixteen bytes..."))
        .await
        .unwrap();
    store.add(Rule::next(Operation::Get, Fault::Truncate));
    store.add(Rule::next(Operation::Get, Fault::Flip));
    store.add(Rule::next(Operation::Get, Fault::NotFound));
    let get = || async { store.get(&path).await.unwrap().bytes().await.unwrap() };
    assert_eq!(get().await, "sixteen ");
    let flipped = get().await;
    let differs: u32 = flipped
        .iter()
        .zip(b"sixteen bytes...")
        .map(|(a, b)| (a ^ b).count_ones())
        .sum();
    assert_eq!((flipped.len(), differs), (16, 1));
    let missing = store.get(&path).await;
    assert!(matches!(missing, Err(object_store::Error::NotFound { .. })));
    assert_eq!(get().await, "sixteen bytes...");
}

#[tokio::test(start_paused = true)]
async fn a_listing_may_be_of_the_past_or_fail() {
    let store = store();
    for name in ["a", "b", "c"] {
        store
            .put(&Path::from(name), PutPayload::from("x"))
            .await
            .unwrap();
    }
    let list = || {
        store
            .list(None)
            .map_ok(|meta| meta.location)
            .try_collect::<Vec<_>>()
    };
    store.add(Rule::next(Operation::List, Fault::Stale(2)));
    assert_eq!(list().await.unwrap(), [Path::from("a")]);
    store.add(Rule::next(Operation::List, Fault::Fail));
    assert!(list().await.is_err());
    assert_eq!(list().await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn rules_wait_for_their_turn_and_their_place() {
    let store = store();
    store.add(
        Rule::next(Operation::Put, Fault::Fail)
            .at(".head")
            .after(1)
            .times(2),
    );
    let mut went = Vec::new();
    for name in ["x.head", "x.log", "y.head", "z.head", "w.head"] {
        went.push(
            store
                .put(&Path::from(name), PutPayload::from("x"))
                .await
                .is_ok(),
        );
    }
    assert_eq!(went, [true, true, false, false, true]);
    assert_eq!(store.count(Operation::Put), 5);
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_the_same_faults_and_another_others() {
    let run = |seed| async move {
        let store = store();
        let rates = Rates {
            permille: vec![(Operation::Put, Fault::Fail, 300)],
        };
        store.set_rates(rates, seed);
        let mut went = Vec::new();
        for number in 0..200 {
            let path = Path::from(format!("{number}"));
            went.push(store.put(&path, PutPayload::from("x")).await.is_ok());
        }
        went
    };
    let first = run(7).await;
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
    let failed = first.iter().filter(|ok| !**ok).count();
    assert!((30..90).contains(&failed), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn deletions_and_parts_fail_too() {
    let (store, path) = (store(), Path::from("a"));
    store.put(&path, PutPayload::from("x")).await.unwrap();
    store.add(Rule::next(Operation::Delete, Fault::FailAfter));
    assert!(store.delete(&path).await.is_err());
    assert!(store.get(&path).await.is_err(), "it happened");
    store.add(Rule::next(Operation::Part, Fault::Fail));
    let mut upload = store.put_multipart(&path).await.unwrap();
    assert!(upload.put_part(PutPayload::from("x")).await.is_err());
    upload.abort().await.unwrap();
    assert!(store.get(&path).await.is_err());
}

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::contract;
use crate::pending::{Pending, Settled};

#[tokio::test(start_paused = true)]
async fn the_contract_holds() {
    contract::run_all(async || Arc::new(MemoryStore::new()) as contract::Subject).await;
}

/// Does one thing to the next transaction, and nothing to later ones.
struct Once(Option<TransactionFault>);

impl Faults for Once {
    fn transaction(&mut self, _: &Transaction) -> TransactionFault {
        self.0.take().unwrap_or(TransactionFault::None)
    }
}

async fn store_with_key() -> (MemoryStore, Revision) {
    let store = MemoryStore::new();
    let outcome = store
        .transact(Transaction::new().put("k", "old"))
        .await
        .expect("answered");
    (store, outcome.revision)
}

async fn value(store: &MemoryStore) -> Vec<u8> {
    let (entry, _) = store.get("k").await.expect("readable");
    entry.map_or(Vec::new(), |entry| entry.value.to_vec())
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_hides_what_happened() {
    for (fault, expected) in [
        (TransactionFault::Lost, b"old".as_ref()),
        (TransactionFault::LostAnswer, b"new".as_ref()),
        (
            TransactionFault::LostAndLate(Duration::from_secs(1)),
            b"old".as_ref(),
        ),
    ] {
        let (store, read) = store_with_key().await;
        store.set_faults(Box::new(Once(Some(fault))));
        let swap = Transaction::new()
            .expect_revision("k", read)
            .put("k", "new");
        assert_eq!(
            store.transact(swap).await,
            Err(StoreError::Unknown),
            "{fault:?}"
        );
        assert_eq!(value(&store).await, expected, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_transaction_lands_unless_its_key_moved_on() {
    for settle in [false, true] {
        let (store, read) = store_with_key().await;
        let late = TransactionFault::LostAndLate(Duration::from_secs(5));
        store.set_faults(Box::new(Once(Some(late))));
        let swap = Transaction::new()
            .expect_revision("k", read)
            .put("k", "new");
        store.transact(swap.clone()).await.expect_err("no answer");
        assert_eq!(
            value(&store).await,
            b"old",
            "a read that shows the old revision proves nothing"
        );
        if settle {
            let pending = Pending::new(swap).expect("fenced");
            let settled = pending.settle(&store).await.expect("answered");
            assert!(matches!(settled, Settled::Never(_)), "{settled:?}");
        }
        tokio::time::advance(Duration::from_secs(6)).await;
        let expected = if settle { b"old" } else { b"new" };
        assert_eq!(value(&store).await, expected);
        assert_eq!(store.late_count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_transaction_wakes_a_watch_that_waits() {
    let (store, read) = store_with_key().await;
    let late = TransactionFault::LostAndLate(Duration::from_secs(5));
    store.set_faults(Box::new(Once(Some(late))));
    let mut watch = store.watch("", read.next()).await.expect("a watch");
    store
        .transact(Transaction::new().put("k", "new"))
        .await
        .expect_err("no answer");
    let event = watch.next().await.expect("the late effect");
    assert_eq!(event.revision, read.next());
}

#[tokio::test(start_paused = true)]
async fn a_late_put_on_a_lease_that_ended_fails() {
    let (store, _) = store_with_key().await;
    let lease = store
        .grant_lease(Duration::from_secs(3))
        .await
        .expect("a lease");
    let late = TransactionFault::LostAndLate(Duration::from_secs(5));
    store.set_faults(Box::new(Once(Some(late))));
    let put = Transaction::new().put_leased("k", "new", lease);
    store.transact(put).await.expect_err("no answer");
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(value(&store).await, b"old");
    assert_eq!(store.late_count(), 0, "it arrived, and failed");
}

#[tokio::test(start_paused = true)]
async fn a_rewound_store_gives_revisions_again_and_breaks_watches() {
    let (store, read) = store_with_key().await;
    let backup = store.snapshot();
    let later = store
        .transact(Transaction::new().put("k", "new"))
        .await
        .expect("answered");
    let mut watch = store
        .watch("", later.revision.next())
        .await
        .expect("a watch");
    store.rewind(&backup);
    assert_eq!(watch.next().await, Err(WatchLost::Gap));
    assert_eq!(value(&store).await, b"old");
    let again = store
        .transact(Transaction::new().put("k", "other"))
        .await
        .expect("answered");
    assert_eq!(
        (again.revision, read.next()),
        (later.revision, later.revision)
    );

    // What was read before the backup's restoration cannot be settled: it is gone.
    let pending = Pending::new(
        Transaction::new()
            .expect_revision("k", Revision(later.revision.0 + 5))
            .delete("k"),
    );
    let error = pending
        .expect("fenced")
        .settle(&store)
        .await
        .expect_err("rewound");
    assert!(matches!(error, StoreError::Fatal(_)), "{error}");
}

struct BrokenWatches(WatchLost);

impl Faults for BrokenWatches {
    fn event(&mut self, _: &str, _: Revision) -> Option<WatchLost> {
        Some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn watches_break_on_demand() {
    for lost in [WatchLost::Gap, WatchLost::Compacted, WatchLost::Closed] {
        let (store, read) = store_with_key().await;
        store.set_faults(Box::new(BrokenWatches(lost)));
        let mut watch = store.watch("", read).await.expect("a watch");
        assert_eq!(watch.next().await, Err(lost));
    }
    let (store, read) = store_with_key().await;
    let mut watch = store.watch("", read).await.expect("a watch");
    store.compact();
    assert_eq!(watch.next().await, Err(WatchLost::Compacted));
    let mut watch = store.watch("", read.next()).await.expect("a watch");
    store.end_watches(WatchLost::Closed);
    assert_eq!(watch.next().await, Err(WatchLost::Closed));
}

struct EndLeases;

impl Faults for EndLeases {
    fn lease(&mut self, _: LeaseId) -> LeaseFault {
        LeaseFault::End
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_on_demand() {
    let store = MemoryStore::new();
    let lease = store
        .grant_lease(Duration::from_secs(9))
        .await
        .expect("a lease");
    store
        .transact(Transaction::new().put_leased("k", "1", lease))
        .await
        .expect("answered");
    store.set_faults(Box::new(EndLeases));
    assert_eq!(
        store.keep_alive(lease).await,
        Err(StoreError::LeaseEnded(lease))
    );
    assert_eq!(value(&store).await, b"");
    let lease = store
        .grant_lease(Duration::from_secs(9))
        .await
        .expect("granted, and over");
    let put = store
        .transact(Transaction::new().put_leased("k", "1", lease))
        .await;
    assert_eq!(put, Err(StoreError::LeaseEnded(lease)));
}

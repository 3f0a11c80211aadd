use std::time::Duration;

use super::*;
use crate::memory::{Faults, MemoryStore, TransactionFault};

/// Does these things to the next transactions, and nothing to later ones.
struct Script(Vec<TransactionFault>);

impl Faults for Script {
    fn transaction(&mut self, _: &Transaction) -> TransactionFault {
        if self.0.is_empty() {
            TransactionFault::None
        } else {
            self.0.remove(0)
        }
    }
}

async fn with_key(faults: &[TransactionFault]) -> (MemoryStore, Revision) {
    let store = MemoryStore::new();
    let outcome = store
        .transact(Transaction::new().put("k", "old"))
        .await
        .expect("answered");
    store.set_faults(Box::new(Script(faults.to_vec())));
    (store, outcome.revision)
}

const LATE: TransactionFault = TransactionFault::LostAndLate(Duration::from_secs(1));

#[tokio::test(start_paused = true)]
async fn settling_ends_a_swap_whatever_became_of_it() {
    for (fault, expected) in [
        (TransactionFault::Lost, "old"),
        (LATE, "old"),
        (TransactionFault::LostAnswer, "new"),
    ] {
        let (store, read) = with_key(&[fault]).await;
        let swap = Transaction::new()
            .expect_revision("k", read)
            .put("k", "new");
        store.transact(swap.clone()).await.expect_err("no answer");
        let pending = Pending::new(swap).expect("fenced");
        let settled = pending.settle(&store).await.expect("answered");
        tokio::time::advance(Duration::from_secs(2)).await;
        let (entry, revision) = store.get("k").await.expect("readable");
        assert_eq!(entry.as_ref().expect("there").value, expected, "{fault:?}");
        assert!(pending.is_ended_by("k", entry.as_ref(), revision));
        match settled {
            Settled::Never(ended) => assert_eq!((expected, ended), ("old", revision)),
            Settled::Beyond(seen) => assert_eq!((expected, seen), ("new", entry)),
            Settled::Repeated(_) => panic!("a swap is not repeated"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn settling_without_an_answer_is_tried_again() {
    for fault in [TransactionFault::Lost, TransactionFault::LostAnswer, LATE] {
        let (store, read) = with_key(&[LATE, fault]).await;
        let swap = Transaction::new()
            .expect_revision("k", read)
            .put("k", "new");
        store.transact(swap.clone()).await.expect_err("no answer");
        let pending = Pending::new(swap).expect("fenced");
        assert_eq!(
            pending.settle(&store).await,
            Err(StoreError::Unknown),
            "{fault:?}"
        );
        pending.settle(&store).await.expect("answered");
        tokio::time::advance(Duration::from_secs(2)).await;
        let entry = store.get("k").await.expect("readable").0.expect("there");
        assert_eq!(entry.value, "old", "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_is_ended_by_its_own_repetition() {
    for fault in [TransactionFault::Lost, TransactionFault::LostAnswer, LATE] {
        let store = MemoryStore::with_faults(Box::new(Script(vec![fault])));
        let create = Transaction::new()
            .expect_absent("k")
            .expect_absent("l")
            .put("k", "new");
        store.transact(create.clone()).await.expect_err("no answer");
        let pending = Pending::new(create).expect("fenced");
        let settled = pending.settle(&store).await.expect("answered");
        let entry = store.get("k").await.expect("readable").0.expect("created");
        match settled {
            Settled::Repeated(revision) => assert_eq!(entry.create_revision, revision),
            Settled::Beyond(seen) => assert_eq!(seen.as_ref(), Some(&entry)),
            Settled::Never(_) => panic!("a creation is repeated"),
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        let after = store.get("k").await.expect("readable").0;
        assert_eq!(after, Some(entry), "{fault:?}: it happened twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_key_ends_what_compared_it() {
    let (store, read) = with_key(&[LATE]).await;
    let swap = Transaction::new()
        .expect_revision("k", read)
        .put("k", "new");
    store.transact(swap.clone()).await.expect_err("no answer");
    store
        .transact(Transaction::new().delete("k"))
        .await
        .expect("answered");
    let pending = Pending::new(swap).expect("fenced");
    assert_eq!(pending.settle(&store).await, Ok(Settled::Beyond(None)));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(store.get("k").await.expect("readable").0, None);
}

#[test]
fn only_a_later_sight_of_a_compared_key_is_proof() {
    let entry = |revision| Entry {
        key: "k".into(),
        value: "v".into(),
        mod_revision: Revision(revision),
        create_revision: Revision(1),
        lease: None,
    };
    let swap = Transaction::new()
        .expect_revision("k", Revision(5))
        .expect_present("other");
    let pending = Pending::new(swap.put("k", "new")).expect("fenced");
    let ended =
        |entry: Option<Entry>, read| pending.is_ended_by("k", entry.as_ref(), Revision(read));
    assert!(!ended(Some(entry(5)), 9), "the old revision proves nothing");
    assert!(!ended(Some(entry(4)), 4), "an older read proves nothing");
    assert!(!ended(None, 5), "an older read proves nothing");
    assert!(ended(Some(entry(6)), 6));
    assert!(ended(None, 6));
    assert!(
        !pending.is_ended_by("other", None, Revision(9)),
        "presence fences nothing"
    );

    let create = Pending::new(Transaction::new().expect_absent("k").put("k", "v"));
    let create = create.expect("fenced");
    assert!(!create.is_ended_by("k", None, Revision(9)));
    assert!(create.is_ended_by("k", Some(&entry(6)), Revision(9)));
}

#[test]
fn what_fences_nothing_cannot_be_taken_up() {
    for transaction in [
        Transaction::new().put("k", "v"),
        Transaction::new().expect_present("k").put("k", "v"),
    ] {
        assert_eq!(Pending::new(transaction), Err(Unfenced));
    }
}

#[test]
fn the_fence_is_a_revision_and_a_written_key_where_possible() {
    let transaction = Transaction::new()
        .expect_absent("absent")
        .expect_revision("written", Revision(2))
        .expect_revision("read", Revision(3))
        .put("absent", "v")
        .put("written", "v");
    let pending = Pending::new(transaction).expect("fenced");
    assert_eq!(
        pending.fence(),
        Some(("written", Condition::ModRevision(Revision(2))))
    );
}

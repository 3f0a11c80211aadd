//! Transactions: conditions, wholeness, revisions, limits.

use super::{Subject, get, had_no_effect, put, transact};
use crate::pending::{Pending, Settled};
use crate::store::{
    COMPARES_MAX, Compare, Condition, OPERATIONS_MAX, Operation, Revision, StoreError,
    TRANSACTION_BYTES_MAX, Transaction, TransactionLimit,
};

pub(super) async fn every_condition_holds_exactly_when_it_says(store: Subject, prefix: String) {
    let (there, gone, never) = (
        format!("{prefix}there"),
        format!("{prefix}gone"),
        format!("{prefix}never"),
    );
    let older = put(&store, &there, "one").await;
    let now = put(&store, &there, "two").await;
    let removed = put(&store, &gone, "one").await;
    transact(&store, Transaction::new().delete(&gone)).await;
    let cases = [
        (&there, Condition::ModRevision(now), true),
        (&there, Condition::ModRevision(older), false),
        (&there, Condition::ModRevision(now.next()), false),
        (&there, Condition::ModRevision(Revision::NONE), false),
        (&there, Condition::Present, true),
        (&there, Condition::Absent, false),
        (&gone, Condition::ModRevision(removed), false),
        (&gone, Condition::Present, false),
        (&gone, Condition::Absent, true),
        (&never, Condition::ModRevision(Revision::NONE), false),
        (&never, Condition::Present, false),
        (&never, Condition::Absent, true),
    ];
    for (key, condition, holds) in cases {
        let compares = vec![Compare {
            key: key.clone(),
            condition,
        }];
        let outcome = transact(
            &store,
            Transaction {
                compares,
                ..Transaction::new()
            },
        )
        .await;
        assert_eq!(outcome.succeeded, holds, "{key} {condition:?}");
    }
}

pub(super) async fn a_transaction_is_whole_or_nothing(store: Subject, prefix: String) {
    let key = |name: &str| format!("{prefix}{name}");
    let a = put(&store, &key("a"), "1").await;
    put(&store, &key("b"), "1").await;
    // The last of several compares fails: only the other side happens.
    let mut transaction = Transaction::new()
        .expect_revision(key("a"), a)
        .expect_present(key("b"))
        .expect_absent(key("b"))
        .put(key("a"), "2")
        .delete(key("b"))
        .put(key("c"), "2");
    transaction.otherwise = vec![
        Operation::Put {
            key: key("d"),
            value: "other".into(),
            lease: None,
        },
        Operation::Delete { key: key("b") },
    ];
    let outcome = transact(&store, transaction).await;
    assert!(!outcome.succeeded);
    assert!(
        outcome.current.is_empty(),
        "there was something to do otherwise"
    );
    assert_eq!(get(&store, &key("a")).await.expect("kept").mod_revision, a);
    assert_eq!(get(&store, &key("b")).await, None);
    assert_eq!(get(&store, &key("c")).await, None);
    let d = get(&store, &key("d")).await.expect("put otherwise");
    assert_eq!(d.mod_revision, outcome.revision);

    let transaction = Transaction::new()
        .expect_revision(key("a"), a)
        .expect_absent(key("b"))
        .put(key("a"), "2")
        .delete(key("d"))
        .delete(key("never"))
        .put(key("c"), "2");
    let outcome = transact(&store, transaction).await;
    assert!(outcome.succeeded);
    let (a, c) = (get(&store, &key("a")).await, get(&store, &key("c")).await);
    let (a, c) = (a.expect("put"), c.expect("put"));
    assert_eq!(
        (a.mod_revision, c.mod_revision),
        (outcome.revision, outcome.revision)
    );
    assert_eq!(get(&store, &key("d")).await, None);
}

pub(super) async fn a_failed_compare_shows_the_compared_keys(store: Subject, prefix: String) {
    let (a, b) = (format!("{prefix}a"), format!("{prefix}b"));
    put(&store, &a, "1").await;
    let transaction = Transaction::new()
        .expect_absent(&a)
        .expect_present(&b)
        .put(&b, "never");
    let outcome = transact(&store, transaction).await;
    assert!(!outcome.succeeded);
    assert_eq!(
        outcome.current,
        [(a.clone(), get(&store, &a).await), (b.clone(), None)]
    );
    let outcome = transact(&store, Transaction::new().expect_present(&a)).await;
    assert!(outcome.succeeded && outcome.current.is_empty());
}

pub(super) async fn revisions_grow_by_changes_only(store: Subject, prefix: String) {
    let key = format!("{prefix}key");
    let first = put(&store, &key, "1").await;
    for unchanged in [
        Transaction::new(),
        Transaction::new().expect_present(&key),
        Transaction::new().expect_absent(&key).put(&key, "2"),
        Transaction::new().delete(format!("{prefix}never")),
    ] {
        assert_eq!(transact(&store, unchanged).await.revision, first);
    }
    // The same value again is a change: that is how a pending transaction is ended (P1).
    let again = put(&store, &key, "1").await;
    assert!(again > first);
    let entry = get(&store, &key).await.expect("there");
    assert_eq!((entry.mod_revision, entry.create_revision), (again, first));
    let deleted = transact(&store, Transaction::new().delete(&key))
        .await
        .revision;
    assert!(deleted > again);
}

pub(super) async fn a_key_that_comes_back_has_a_new_creation(store: Subject, prefix: String) {
    let key = format!("{prefix}key");
    let first = put(&store, &key, "1").await;
    transact(&store, Transaction::new().delete(&key)).await;
    let second = put(&store, &key, "2").await;
    let entry = get(&store, &key).await.expect("there");
    assert!(second > first);
    assert_eq!(
        (entry.mod_revision, entry.create_revision),
        (second, second)
    );
}

pub(super) async fn limits_are_the_same_in_every_store(store: Subject, prefix: String) {
    let key = |index: usize| format!("{prefix}{index:05}");
    let of = |compares: usize, then: usize, otherwise: usize| Transaction {
        compares: (0..compares)
            .map(|index| Compare {
                key: key(index),
                condition: Condition::Absent,
            })
            .collect(),
        then: (0..then)
            .map(|index| Operation::Put {
                key: key(index),
                value: "1".into(),
                lease: None,
            })
            .collect(),
        otherwise: (0..otherwise)
            .map(|index| Operation::Delete { key: key(index) })
            .collect(),
    };
    let large = |bytes: usize| Transaction::new().put(key(0), vec![7; bytes]);
    let overhead = large(0).weight();
    let mut twice = of(0, 2, 0);
    twice.then.push(Operation::Delete { key: key(1) });
    let refused = [
        (
            of(COMPARES_MAX + 1, 0, 0),
            TransactionLimit::Compares(COMPARES_MAX + 1),
        ),
        (
            of(0, OPERATIONS_MAX + 1, 0),
            TransactionLimit::Operations(OPERATIONS_MAX + 1),
        ),
        (
            of(0, 1, OPERATIONS_MAX + 1),
            TransactionLimit::Operations(OPERATIONS_MAX + 1),
        ),
        (twice, TransactionLimit::KeyTwice(key(1))),
        (
            large(TRANSACTION_BYTES_MAX - overhead + 1),
            TransactionLimit::Bytes(TRANSACTION_BYTES_MAX + 1),
        ),
    ];
    for (transaction, limit) in refused {
        let error = store.transact(transaction).await.expect_err("too large");
        assert_eq!(error, StoreError::Limit(limit));
        assert!(had_no_effect(&error));
    }
    let (entries, _) = store.list(&prefix).await.expect("a list");
    assert!(
        entries.is_empty(),
        "a refused transaction changed something"
    );

    let full = of(COMPARES_MAX, OPERATIONS_MAX, OPERATIONS_MAX);
    assert!(transact(&store, full.clone()).await.succeeded);
    assert!(!transact(&store, full).await.succeeded);
    assert!(
        transact(&store, large(TRANSACTION_BYTES_MAX - overhead))
            .await
            .succeeded
    );
}

pub(super) async fn concurrent_swaps_lose_no_update(store: Subject, prefix: String) {
    const ROUNDS: usize = 25;
    let key = format!("{prefix}counter");
    let count = async || {
        for _ in 0..ROUNDS {
            loop {
                let read = get(&store, &key).await;
                let now: usize = read.as_ref().map_or(0, |entry| {
                    let text = std::str::from_utf8(&entry.value).expect("our digits");
                    text.parse().expect("our digits")
                });
                let swap = Transaction::new()
                    .expect_entry(&key, read.as_ref())
                    .put(&key, (now + 1).to_string());
                tokio::task::yield_now().await;
                if transact(&store, swap).await.succeeded {
                    break;
                }
            }
        }
    };
    tokio::join!(count(), count(), count(), count());
    let entry = get(&store, &key).await.expect("counted");
    assert_eq!(entry.value.as_ref(), (4 * ROUNDS).to_string().as_bytes());
}

pub(super) async fn a_request_that_nobody_waited_for_can_be_ended(store: Subject, prefix: String) {
    let key = format!("{prefix}key");
    let read = put(&store, &key, "old").await;
    let transaction = Transaction::new()
        .expect_revision(&key, read)
        .put(&key, "new");
    tokio::select! {
        biased;
        _ = store.transact(transaction.clone()) => {}
        () = std::future::ready(()) => {}
    }
    let pending = Pending::new(transaction).expect("it compares a revision");
    let settled = pending
        .settle(store.as_ref())
        .await
        .expect("the store answers");
    let (entry, revision) = store.get(&key).await.expect("readable");
    assert!(pending.is_ended_by(&key, entry.as_ref(), revision));
    let entry = entry.expect("there");
    match settled {
        Settled::Never(_) => assert_eq!(entry.value.as_ref(), b"old"),
        Settled::Beyond(_) => assert_eq!(entry.value.as_ref(), b"new"),
        Settled::Repeated(_) => panic!("the transaction compares a revision"),
    }
}

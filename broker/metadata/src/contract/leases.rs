//! Leases: their ends, and what may no longer happen then.

use std::time::Duration;

use super::{Subject, changes, get, had_no_effect, next, put, transact, watch};
use crate::store::{StoreError, Transaction};

/// Long enough to outlast a case on a slow machine.
const LONG: Duration = Duration::from_secs(600);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_secs(2);

pub(super) async fn the_end_of_a_lease_deletes_its_keys_together(store: Subject, prefix: String) {
    let (a, b, c) = (
        format!("{prefix}a"),
        format!("{prefix}b"),
        format!("{prefix}c"),
    );
    let lease = store.grant_lease(LONG).await.expect("a lease");
    let other = store.grant_lease(LONG).await.expect("a lease");
    assert_ne!(lease, other);
    let leased = Transaction::new()
        .put_leased(&a, "1", lease)
        .put_leased(&b, "1", lease);
    transact(&store, leased.put_leased(&c, "1", other)).await;
    assert_eq!(get(&store, &a).await.expect("put").lease, Some(lease));
    let start = store.get(&a).await.expect("readable").1;
    let mut events = watch(&store, &prefix, start.next()).await;

    store.revoke(lease).await.expect("revoked");
    let event = next(&mut events).await;
    assert_eq!(changes(&event), [(a.as_str(), None), (b.as_str(), None)]);
    assert_eq!((get(&store, &a).await, get(&store, &b).await), (None, None));
    assert!(
        get(&store, &c).await.is_some(),
        "another lease was ended too"
    );
    store
        .revoke(lease)
        .await
        .expect("a lease that has ended is fine");
    assert_eq!(
        store.keep_alive(lease).await,
        Err(StoreError::LeaseEnded(lease))
    );
}

pub(super) async fn a_lease_ends_by_itself(store: Subject, prefix: String) {
    let key = format!("{prefix}key");
    let lease = store.grant_lease(SHORT).await.expect("a lease");
    let put = transact(&store, Transaction::new().put_leased(&key, "1", lease))
        .await
        .revision;
    let mut events = watch(&store, &prefix, put.next()).await;
    let event = next(&mut events).await;
    assert_eq!(changes(&event), [(key.as_str(), None)]);
    assert_eq!(get(&store, &key).await, None);
    assert_eq!(
        store.keep_alive(lease).await,
        Err(StoreError::LeaseEnded(lease))
    );
}

pub(super) async fn a_lease_that_is_kept_alive_stays(store: Subject, prefix: String) {
    let (kept, lost) = (format!("{prefix}kept"), format!("{prefix}lost"));
    let (keep, lose) = (
        store.grant_lease(SHORT).await.expect("a lease"),
        store.grant_lease(SHORT).await.expect("a lease"),
    );
    let both = Transaction::new()
        .put_leased(&kept, "1", keep)
        .put_leased(&lost, "1", lose);
    let put = transact(&store, both).await.revision;
    let mut events = watch(&store, &prefix, put.next()).await;
    let event = {
        let keeping = async {
            loop {
                store.keep_alive(keep).await.expect("kept alive in time");
                tokio::time::sleep(SHORT / 4).await;
            }
        };
        tokio::select! {
            biased;
            event = next(&mut events) => event,
            () = keeping => panic!("keeping alive never ends"),
        }
    };
    assert_eq!(
        changes(&event),
        [(lost.as_str(), None)],
        "the lease that nobody kept ended"
    );
    assert!(get(&store, &kept).await.is_some());
}

pub(super) async fn a_put_on_an_ended_lease_changes_nothing(store: Subject, prefix: String) {
    let (a, b) = (format!("{prefix}a"), format!("{prefix}b"));
    let lease = store.grant_lease(LONG).await.expect("a lease");
    store.revoke(lease).await.expect("revoked");
    let before = put(&store, &a, "old").await;
    let late = Transaction::new()
        .put(&a, "new")
        .put_leased(&b, "new", lease);
    let error = store.transact(late).await.expect_err("the lease has ended");
    assert_eq!(error, StoreError::LeaseEnded(lease));
    assert!(had_no_effect(&error));
    let (entry, revision) = store.get(&a).await.expect("readable");
    assert_eq!(
        (entry.expect("kept").value.as_ref(), revision),
        (b"old".as_ref(), before)
    );
    assert_eq!(get(&store, &b).await, None);
    // A side that does not happen needs no lease.
    let other = Transaction::new()
        .expect_absent(&a)
        .put_leased(&b, "new", lease);
    assert!(!transact(&store, other).await.succeeded);
}

pub(super) async fn a_key_leaves_its_lease_with_the_next_put(store: Subject, prefix: String) {
    let (free, moved) = (format!("{prefix}free"), format!("{prefix}moved"));
    let old = store.grant_lease(LONG).await.expect("a lease");
    let new = store.grant_lease(LONG).await.expect("a lease");
    let both = Transaction::new()
        .put_leased(&free, "1", old)
        .put_leased(&moved, "1", old);
    transact(&store, both).await;
    transact(
        &store,
        Transaction::new()
            .put(&free, "2")
            .put_leased(&moved, "2", new),
    )
    .await;
    store.revoke(old).await.expect("revoked");
    assert_eq!(get(&store, &free).await.expect("kept").lease, None);
    assert_eq!(get(&store, &moved).await.expect("kept").lease, Some(new));
    store.revoke(new).await.expect("revoked");
    assert!(get(&store, &free).await.is_some());
    assert_eq!(get(&store, &moved).await, None);
}

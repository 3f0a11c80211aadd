//! Watches: order, wholeness, prefixes, where they begin.

use super::{Subject, assert_nothing_before, changes, is_lost, next, put, transact, watch};
use crate::store::{Revision, Transaction};

pub(super) async fn events_come_in_order_and_whole(store: Subject, prefix: String) {
    let (a, b) = (format!("{prefix}a"), format!("{prefix}b"));
    let start = put(&store, &a, "0").await;
    let mut events = watch(&store, &prefix, start.next()).await;
    let both = transact(&store, Transaction::new().put(&b, "1").put(&a, "1"))
        .await
        .revision;
    let last = transact(&store, Transaction::new().delete(&a).put(&b, "2"))
        .await
        .revision;

    let event = next(&mut events).await;
    assert_eq!(event.revision, both);
    assert_eq!(
        changes(&event),
        [
            (a.as_str(), Some(b"1".as_ref())),
            (b.as_str(), Some(b"1".as_ref()))
        ]
    );
    for (_, entry) in &event.changes {
        assert_eq!(entry.as_ref().expect("put").mod_revision, both);
    }
    let event = next(&mut events).await;
    assert_eq!(event.revision, last);
    assert_eq!(
        changes(&event),
        [(a.as_str(), None), (b.as_str(), Some(b"2".as_ref()))]
    );
    assert_nothing_before(&store, &mut events, &a).await;
}

pub(super) async fn a_watch_sees_its_prefix_only(store: Subject, prefix: String) {
    let (inside, outside) = (format!("{prefix}in/a"), format!("{prefix}in"));
    let start = put(&store, &outside, "0").await;
    let mut events = watch(&store, &format!("{prefix}in/"), start.next()).await;
    put(&store, &outside, "1").await;
    let both = transact(
        &store,
        Transaction::new().put(&outside, "2").put(&inside, "2"),
    )
    .await;
    let event = next(&mut events).await;
    assert_eq!(event.revision, both.revision);
    assert_eq!(changes(&event), [(inside.as_str(), Some(b"2".as_ref()))]);
    put(&store, &outside, "3").await;
    assert_nothing_before(&store, &mut events, &inside).await;
}

pub(super) async fn a_watch_begins_in_the_past(store: Subject, prefix: String) {
    let key = format!("{prefix}key");
    let mut revisions = Vec::new();
    for value in ["1", "2", "3"] {
        revisions.push(put(&store, &key, value).await);
    }
    for (index, from) in revisions.iter().enumerate() {
        let mut events = watch(&store, &prefix, *from).await;
        for revision in revisions.get(index..).expect("within") {
            assert_eq!(next(&mut events).await.revision, *revision);
        }
    }
    // Whatever a store has kept, it has not kept what came before everything.
    let mut events = watch(&store, &prefix, Revision::NONE).await;
    let result = events.next().await;
    assert!(is_lost(&result), "{result:?}");
    assert_eq!(events.next().await, result, "a lost watch stays lost");
}

pub(super) async fn a_waiting_watch_is_woken(store: Subject, prefix: String) {
    let key = format!("{prefix}key");
    let start = put(&store, &key, "0").await;
    let mut first = watch(&store, &prefix, start.next()).await;
    let mut second = watch(&store, &prefix, start.next()).await;
    let write = async {
        tokio::task::yield_now().await;
        put(&store, &key, "1").await
    };
    let (one, two, revision) = tokio::join!(next(&mut first), next(&mut second), write);
    assert_eq!((one.revision, two.revision), (revision, revision));
}

pub(super) async fn an_abandoned_wait_loses_no_event(store: Subject, prefix: String) {
    let key = format!("{prefix}key");
    let start = put(&store, &key, "0").await;
    let mut events = watch(&store, &prefix, start.next()).await;
    for round in 0..5 {
        tokio::select! {
            biased;
            event = events.next() => panic!("nothing has happened yet in round {round}: {event:?}"),
            () = tokio::task::yield_now() => {}
        }
        let revision = put(&store, &key, "again").await;
        assert_eq!(next(&mut events).await.revision, revision);
    }
}

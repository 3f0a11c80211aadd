//! Reads and lists.

use super::{Subject, get, put, transact};
use crate::store::{LIST_PAGE_ENTRIES, Transaction};

pub(super) async fn an_answered_change_is_read_by_all(store: Subject, prefix: String) {
    let key = format!("{prefix}key");
    assert_eq!(get(&store, &key).await, None);
    let revision = put(&store, &key, "one").await;
    let (entry, read) = store.get(&key).await.expect("readable");
    let entry = entry.expect("it was answered, so it is there");
    assert_eq!(
        (entry.key.as_str(), entry.value.as_ref()),
        (key.as_str(), b"one".as_ref())
    );
    assert_eq!(
        (entry.mod_revision, entry.create_revision),
        (revision, revision)
    );
    assert_eq!(entry.lease, None);
    assert!(
        read >= revision,
        "a read at {read} shows revision {revision}"
    );
    transact(&store, Transaction::new().delete(&key)).await;
    assert_eq!(get(&store, &key).await, None);
}

pub(super) async fn a_list_is_sorted_and_ends_with_its_prefix(store: Subject, prefix: String) {
    let under = format!("{prefix}a/");
    for name in ["a/2", "a/10", "a/", "a", "a0", "b/1", "a/1/x", "a/\u{e9}"] {
        put(&store, &format!("{prefix}{name}"), "value").await;
    }
    let (entries, _) = store.list(&under).await.expect("a list");
    let keys: Vec<&str> = entries
        .iter()
        .map(|entry| &entry.key[prefix.len()..])
        .collect();
    assert_eq!(keys, ["a/", "a/1/x", "a/10", "a/2", "a/\u{e9}"]);
    let (entries, _) = store.list(&format!("{prefix}none/")).await.expect("a list");
    assert!(entries.is_empty());
}

/// Two keys that lie on different pages always change together.
pub(super) async fn a_list_of_many_pages_shows_one_revision(store: Subject, prefix: String) {
    let count = 2 * LIST_PAGE_ENTRIES + 10;
    for first in (0..count).step_by(100) {
        let mut transaction = Transaction::new();
        for index in first..(first + 100).min(count) {
            transaction = transaction.put(format!("{prefix}{index:05}"), "0");
        }
        transact(&store, transaction).await;
    }
    let (low, high) = (
        format!("{prefix}00000"),
        format!("{prefix}{:05}", count - 1),
    );
    transact(&store, Transaction::new().put(&low, "0").put(&high, "0")).await;
    let writer = async {
        for round in 1..50 {
            let value = round.to_string();
            let both = Transaction::new()
                .put(&low, value.clone())
                .put(&high, value);
            transact(&store, both).await;
            // Lets the reader in between.
            tokio::task::yield_now().await;
        }
    };
    let reader = async {
        for _ in 0..20 {
            let (entries, revision) = store.list(&prefix).await.expect("a list");
            assert_eq!(entries.len(), count);
            let (low, high) = (
                entries.first().expect("full"),
                entries.last().expect("full"),
            );
            assert_eq!(
                (&low.value, low.mod_revision),
                (&high.value, high.mod_revision)
            );
            assert!(entries.iter().all(|entry| entry.mod_revision <= revision));
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writer, reader);
}

pub(super) async fn a_list_holds_more_than_8_megabytes(store: Subject, prefix: String) {
    const VALUE_BYTES: usize = 8 * 1024;
    const COUNT: usize = 1_100;
    for first in (0..COUNT).step_by(100) {
        let mut transaction = Transaction::new();
        for index in first..first + 100 {
            let value = vec![u8::try_from(index % 251).expect("below 251"); VALUE_BYTES];
            transaction = transaction.put(format!("{prefix}{index:05}"), value);
        }
        transact(&store, transaction).await;
    }
    let (entries, _) = store.list(&prefix).await.expect("a list");
    let bytes: usize = entries.iter().map(|entry| entry.value.len()).sum();
    assert!(bytes > 8 * 1024 * 1024, "{bytes}");
    assert_eq!(entries.len(), COUNT);
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(entry.key, format!("{prefix}{index:05}"));
        assert!(
            entry
                .value
                .iter()
                .all(|byte| usize::from(*byte) == index % 251)
        );
    }
}

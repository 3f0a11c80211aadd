//! What every implementation of [`MetadataStore`] must do, as tests that run on each of them.
//!
//! Each case gets a store and a prefix of its own, and waits for events, never for time to pass: it
//! runs on a paused clock and on a real store alike. [`CASES`] lists them all.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::store::{
    Entry, MetadataStore, Revision, StoreError, Transaction, TransactionOutcome, Watch, WatchEvent,
    WatchLost,
};

mod leases;
mod reads;
mod transactions;
mod watches;

/// How long a case waits for an event before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The store under test.
pub type Subject = Arc<dyn MetadataStore>;

/// A case in flight; it panics where the store is wrong.
pub type Case = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A case by its name. The text is the prefix that is its own.
pub type NamedCase = (&'static str, fn(Subject, String) -> Case);

macro_rules! cases {
    ($($module:ident :: $case:ident,)*) => {
        /// Every case.
        pub const CASES: &[NamedCase] = &[
            $((stringify!($case), |store, prefix| Box::pin($module::$case(store, prefix))),)*
        ];
    };
}

cases! {
    reads::an_answered_change_is_read_by_all,
    reads::a_list_is_sorted_and_ends_with_its_prefix,
    reads::a_list_of_many_pages_shows_one_revision,
    reads::a_list_holds_more_than_8_megabytes,
    transactions::every_condition_holds_exactly_when_it_says,
    transactions::a_transaction_is_whole_or_nothing,
    transactions::a_failed_compare_shows_the_compared_keys,
    transactions::revisions_grow_by_changes_only,
    transactions::a_key_that_comes_back_has_a_new_creation,
    transactions::limits_are_the_same_in_every_store,
    transactions::concurrent_swaps_lose_no_update,
    transactions::a_request_that_nobody_waited_for_can_be_ended,
    watches::events_come_in_order_and_whole,
    watches::a_watch_sees_its_prefix_only,
    watches::a_watch_begins_in_the_past,
    watches::a_waiting_watch_is_woken,
    watches::an_abandoned_wait_loses_no_event,
    leases::the_end_of_a_lease_deletes_its_keys_together,
    leases::a_lease_ends_by_itself,
    leases::a_lease_that_is_kept_alive_stays,
    leases::a_put_on_an_ended_lease_changes_nothing,
    leases::a_key_leaves_its_lease_with_the_next_put,
}

/// Runs every case on a store of its own.
pub async fn run_all(fresh: impl AsyncFn() -> Subject) {
    for (name, case) in CASES {
        tracing::info!(name, "contract case");
        case(fresh().await, format!("/contract/{name}/")).await;
    }
}

/// Reads a key that must be readable.
async fn get(store: &Subject, key: &str) -> Option<Entry> {
    store.get(key).await.expect("the key can be read").0
}

/// Runs a transaction that must be answered.
async fn transact(store: &Subject, transaction: Transaction) -> TransactionOutcome {
    store
        .transact(transaction)
        .await
        .expect("the transaction is answered")
}

/// Puts one key, whatever it was.
async fn put(store: &Subject, key: &str, value: &'static str) -> Revision {
    transact(store, Transaction::new().put(key, value))
        .await
        .revision
}

/// The next event, which must come.
async fn next(watch: &mut Watch) -> WatchEvent {
    tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("an event comes in time")
        .expect("the watch goes on")
}

/// Begins a watch.
async fn watch(store: &Subject, prefix: &str, from: Revision) -> Watch {
    store.watch(prefix, from).await.expect("a watch can begin")
}

/// Keys and values of an event, for comparison.
fn changes(event: &WatchEvent) -> Vec<(&str, Option<&[u8]>)> {
    event
        .changes
        .iter()
        .map(|(key, entry)| {
            (
                key.as_str(),
                entry.as_ref().map(|entry| entry.value.as_ref()),
            )
        })
        .collect()
}

/// Asserts that nothing more comes before a change that is made now.
async fn assert_nothing_before(store: &Subject, watch: &mut Watch, key: &str) {
    let revision = put(store, key, "marker").await;
    let event = next(watch).await;
    assert_eq!(
        event.revision, revision,
        "an event that nobody made: {event:?}"
    );
}

/// That the error is one of a watch which must be read again.
fn is_lost(result: &Result<WatchEvent, WatchLost>) -> bool {
    result.is_err()
}

/// That the error certainly had no effect.
fn had_no_effect(error: &StoreError) -> bool {
    !matches!(error, StoreError::Unknown | StoreError::Fatal(_))
}

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use redb::StorageBackend;
use tempfile::TempDir;

use super::*;
use crate::contract;

fn inline() -> Arc<dyn Blocking> {
    Arc::new(|job: Box<dyn FnOnce() + Send>| job())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test of the store on real threads"
)]
fn threads() -> Arc<dyn Blocking> {
    Arc::new(|job: Box<dyn FnOnce() + Send>| drop(tokio::task::spawn_blocking(job)))
}

fn never_fatal() -> OnFatal {
    Arc::new(|reason| panic!("the store failed: {reason}"))
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("metadata.redb")
}

async fn open(directory: &TempDir) -> EmbeddedStore {
    EmbeddedStore::open(file(directory), inline(), never_fatal())
        .await
        .expect("it opens")
}

async fn put(store: &EmbeddedStore, key: &str, value: &'static str) -> Revision {
    store
        .transact(Transaction::new().put(key, value))
        .await
        .expect("answered")
        .revision
}

#[tokio::test(start_paused = true)]
async fn the_contract_holds() {
    let directories = Mutex::new(Vec::new());
    contract::run_all(async || {
        let directory = TempDir::new().expect("a directory");
        let store = Arc::new(open(&directory).await) as contract::Subject;
        directories.lock().expect("whole").push(directory);
        store
    })
    .await;
}

#[tokio::test]
async fn concurrent_writers_on_real_threads_share_the_one_writer() {
    let directory = TempDir::new().expect("a directory");
    let store = EmbeddedStore::open(file(&directory), threads(), never_fatal()).await;
    let store = Arc::new(store.expect("it opens")) as contract::Subject;
    for (name, case) in contract::CASES {
        if !name.contains("lease") {
            case(Arc::clone(&store), format!("/{name}/")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_there_after_reopening() {
    let directory = TempDir::new().expect("a directory");
    let store = open(&directory).await;
    let first = put(&store, "a", "1").await;
    let last = put(&store, "a", "2").await;
    put(&store, "b", "1").await;
    store
        .transact(Transaction::new().delete("b"))
        .await
        .expect("answered");
    let (before, revision) = store.list("").await.expect("a list");
    store.close().await;

    let store = open(&directory).await;
    let (after, reopened) = store.list("").await.expect("a list");
    assert_eq!(after, before);
    assert_eq!(reopened, revision);
    assert_eq!(after.len(), 1);
    assert_eq!(
        (after[0].create_revision, after[0].mod_revision),
        (first, last)
    );
    let mut watch = store.watch("", revision).await.expect("a watch");
    assert_eq!(
        watch.next().await,
        Err(WatchLost::Compacted),
        "history is not kept"
    );
    assert_eq!(put(&store, "c", "1").await, revision.next());
}

#[tokio::test(start_paused = true)]
async fn opening_ends_all_leases_for_good() {
    let directory = TempDir::new().expect("a directory");
    let store = open(&directory).await;
    let lease = store
        .grant_lease(Duration::from_secs(600))
        .await
        .expect("a lease");
    let leased = Transaction::new()
        .put_leased("leased", "1", lease)
        .put("free", "1");
    let before = store.transact(leased).await.expect("answered").revision;
    store.close().await;

    let store = open(&directory).await;
    let (entries, revision) = store.list("").await.expect("a list");
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect::<Vec<_>>(),
        ["free"]
    );
    assert_eq!(
        revision,
        before.next(),
        "the end of a lease is a change like any other"
    );
    assert_eq!(
        store.keep_alive(lease).await,
        Err(StoreError::LeaseEnded(lease))
    );
    let late = store
        .transact(Transaction::new().put_leased("late", "1", lease))
        .await;
    assert_eq!(late, Err(StoreError::LeaseEnded(lease)));
    let next = store
        .grant_lease(Duration::from_secs(600))
        .await
        .expect("a lease");
    assert_ne!(next, lease, "a lease id is never given twice");
}

#[tokio::test(start_paused = true)]
async fn a_closed_store_refuses_and_ends_its_watches() {
    let directory = TempDir::new().expect("a directory");
    let store = open(&directory).await;
    let revision = put(&store, "a", "1").await;
    let mut watch = store.watch("", revision.next()).await.expect("a watch");
    store.close().await;
    assert_eq!(watch.next().await, Err(WatchLost::Closed));
    assert!(store.get("a").await.expect_err("closed").is_retriable());
    assert!(
        store
            .transact(Transaction::new())
            .await
            .expect_err("closed")
            .is_retriable()
    );
    store.close().await;

    let store = open(&directory).await;
    let mut watch = store.watch("", revision.next()).await.expect("a watch");
    drop(store);
    assert_eq!(watch.next().await, Err(WatchLost::Closed));
    open(&directory).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_in_use_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let _store = open(&directory).await;
    let second = EmbeddedStore::open(file(&directory), inline(), never_fatal()).await;
    let error = second.err().expect("in use");
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::disallowed_methods,
    reason = "the test makes files that are not ours"
)]
async fn files_that_cannot_be_used_are_refused_with_one_line() {
    let directory = TempDir::new().expect("a directory");
    let refused = async || {
        let result = EmbeddedStore::open(file(&directory), inline(), never_fatal()).await;
        let error = result.err().expect("refused");
        let text = error.to_string();
        assert!(
            !text.contains('\n') && text.contains("metadata.redb"),
            "{text}"
        );
        error
    };
    std::fs::write(file(&directory), b"these bytes are no database at all").expect("written");
    refused().await;

    std::fs::remove_file(file(&directory)).expect("removed");
    drop(redb::Database::create(file(&directory)).expect("a database of somebody else"));
    assert!(matches!(refused().await, OpenError::Damaged { .. }));

    std::fs::remove_file(file(&directory)).expect("removed");
    open(&directory).await.close().await;
    let database = redb::Database::open(file(&directory)).expect("it opens");
    let transaction = database.begin_write().expect("a transaction");
    let numbers: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("numbers");
    transaction
        .open_table(numbers)
        .expect("ours")
        .insert("format", 2)
        .expect("written");
    transaction.commit().expect("committed");
    drop(database);
    assert!(matches!(refused().await, OpenError::Newer { found: 2, .. }));

    let missing = directory.path().join("missing").join("metadata.redb");
    let result = EmbeddedStore::open(missing, inline(), never_fatal()).await;
    assert!(matches!(
        result.err().expect("refused"),
        OpenError::Storage { .. }
    ));
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::disallowed_methods,
    reason = "the test makes what a crash leaves"
)]
async fn a_crash_while_the_file_is_made_does_no_harm() {
    let directory = TempDir::new().expect("a directory");
    std::fs::write(directory.path().join("metadata.redb.new"), b"half a file").expect("written");
    let store = open(&directory).await;
    put(&store, "a", "1").await;
}

/// Memory that counts syncs, looks around in each, and fails on demand.
#[derive(Default)]
struct Backend {
    bytes: redb::backends::InMemoryBackend,
    syncs: AtomicUsize,
    fails: AtomicBool,
    probe: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
struct SharedBackend(Arc<Backend>);

impl StorageBackend for SharedBackend {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.bytes.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.bytes.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        if let Some(probe) = &*self.0.probe.lock().expect("whole") {
            probe();
        }
        if self.0.fails.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("injected"));
        }
        self.0.bytes.sync_data()
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), std::io::Error> {
        self.0.bytes.write(offset, bytes)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A store whose jobs wait until they are run by hand.
struct Held {
    store: Arc<EmbeddedStore>,
    backend: Arc<Backend>,
    jobs: Arc<Mutex<Vec<Job>>>,
    fatal: Arc<Mutex<Vec<String>>>,
}

impl Held {
    fn new() -> Held {
        let backend = Arc::new(Backend::default());
        let database = redb::Database::builder()
            .create_with_backend(SharedBackend(Arc::clone(&backend)))
            .expect("memory");
        disk::format(&database).expect("memory");
        let opened = Disk::load(database, std::path::Path::new("memory")).expect("memory");
        let jobs: Arc<Mutex<Vec<Job>>> = Arc::default();
        let fatal: Arc<Mutex<Vec<String>>> = Arc::default();
        let blocking = {
            let jobs = Arc::clone(&jobs);
            move |job| jobs.lock().expect("whole").push(job)
        };
        let on_fatal = {
            let fatal = Arc::clone(&fatal);
            move |reason: &str| fatal.lock().expect("whole").push(reason.to_owned())
        };
        let store = EmbeddedStore::over(opened, Arc::new(blocking), Arc::new(on_fatal));
        Held {
            store: Arc::new(store),
            backend,
            jobs,
            fatal,
        }
    }

    fn run_jobs(&self) {
        let jobs = std::mem::take(&mut *self.jobs.lock().expect("whole"));
        jobs.into_iter().for_each(|job| job());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shown_before_its_sync_and_waiting_transactions_share_one() {
    let held = Held::new();
    let writes = async {
        let put = |key: &'static str| held.store.transact(Transaction::new().put(key, "1"));
        let swap = Transaction::new().expect_present("a").put("d", "1");
        tokio::join!(put("a"), put("b"), put("c"), held.store.transact(swap))
    };
    let checks = async {
        tokio::task::yield_now().await;
        assert_eq!(
            held.store.get("a").await.expect("readable").0,
            None,
            "not durable yet"
        );
        assert_eq!(
            held.jobs.lock().expect("whole").len(),
            1,
            "one writer at a time"
        );
        let before = held.backend.syncs.load(Ordering::SeqCst);
        held.run_jobs();
        held.backend.syncs.load(Ordering::SeqCst) - before
    };
    let ((a, b, c, d), syncs) = tokio::join!(writes, checks);
    let revisions = [a, b, c].map(|outcome| outcome.expect("answered").revision);
    assert_eq!(
        revisions[1],
        revisions[0].next(),
        "each has a revision of its own"
    );
    assert_eq!(revisions[2], revisions[1].next());
    assert!(
        d.expect("answered").succeeded,
        "later ones see earlier ones of the same commit"
    );

    let single = async {
        tokio::join!(
            held.store.transact(Transaction::new().put("a", "2")),
            async {
                tokio::task::yield_now().await;
                let before = held.backend.syncs.load(Ordering::SeqCst);
                held.run_jobs();
                held.backend.syncs.load(Ordering::SeqCst) - before
            }
        )
    };
    let (_, syncs_of_one) = single.await;
    assert!(
        syncs_of_one > 0,
        "a commit that syncs nothing is not durable"
    );
    assert_eq!(syncs, syncs_of_one, "four transactions cost what one costs");
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_invisible_during_its_own_sync() {
    let held = Held::new();
    let seen = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&held.store.shared);
    let count = Arc::clone(&seen);
    let probe = move || {
        let visible = shared
            .read(|state| state.get("a").is_some())
            .expect("readable");
        count.fetch_add(usize::from(visible), Ordering::SeqCst);
    };
    *held.backend.probe.lock().expect("whole") = Some(Box::new(probe));
    let put = Transaction::new().put("a", "1");
    let (put, ()) = tokio::join!(held.store.transact(put), async {
        tokio::task::yield_now().await;
        held.run_jobs();
    });
    put.expect("answered");
    *held.backend.probe.lock().expect("whole") = None;
    assert!(held.backend.syncs.load(Ordering::SeqCst) > 0);
    assert_eq!(
        seen.load(Ordering::SeqCst),
        0,
        "shown before it was durable"
    );
    assert!(held.store.get("a").await.expect("readable").0.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_ends_the_store() {
    let held = Held::new();
    let revision = held.store.get("a").await.expect("readable").1;
    let mut watch = held
        .store
        .watch("", revision.next())
        .await
        .expect("a watch");
    held.backend.fails.store(true, Ordering::SeqCst);
    let (put, ()) = tokio::join!(
        held.store.transact(Transaction::new().put("a", "1")),
        async {
            tokio::task::yield_now().await;
            held.run_jobs();
        }
    );
    assert!(matches!(put, Err(StoreError::Fatal(_))), "{put:?}");
    assert_eq!(
        held.fatal.lock().expect("whole").len(),
        1,
        "the process is told once"
    );
    // Never tried again, also when the disk seems well.
    held.backend.fails.store(false, Ordering::SeqCst);
    assert!(matches!(
        held.store.get("a").await,
        Err(StoreError::Fatal(_))
    ));
    let (put, ()) = tokio::join!(
        held.store.transact(Transaction::new().put("a", "1")),
        async {
            tokio::task::yield_now().await;
            held.run_jobs();
        }
    );
    assert!(matches!(put, Err(StoreError::Fatal(_))), "{put:?}");
    assert_eq!(watch.next().await, Err(WatchLost::Closed));
    assert_eq!(held.fatal.lock().expect("whole").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_dropped_leaves_nobody_waiting() {
    let held = Held::new();
    let (put, ()) = tokio::join!(
        held.store.transact(Transaction::new().put("a", "1")),
        async {
            tokio::task::yield_now().await;
            held.jobs.lock().expect("whole").clear();
        }
    );
    assert_eq!(put, Err(StoreError::Unknown));
    assert!(
        held.store
            .get("a")
            .await
            .expect_err("stopped")
            .is_retriable()
    );
}

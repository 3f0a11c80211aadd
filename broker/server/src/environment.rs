//! Everything a broker touches outside itself, behind seams.
//!
//! [`crate::Broker::start`] is the same call in `main`, in `esker demo`, in tests and in simulation;
//! only the [`Environment`] differs. Whatever would make two runs of one seed differ is reached
//! through here: disk, network, object store, metadata store, wall clock, randomness, threads.

pub mod network;
pub mod real;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use esker_metadata::MetadataStore;
use esker_protocol::{Timestamp, TopicId};
use esker_storage::Disk;
use futures::future::BoxFuture;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

pub use network::{Listener, Network, Stream};

/// The components a broker is built from. Values are in [`crate::config::Config`].
#[derive(Clone)]
pub struct Environment {
    /// Where log directories live.
    pub disk: Arc<dyn Disk>,
    /// Where listeners are bound and peers are reached.
    pub network: Arc<dyn Network>,
    /// Where sealed segments go; `None` means that nothing is tiered.
    pub object_store: Option<Arc<dyn object_store::ObjectStore>>,
    /// The one authority for metadata.
    pub metadata: Arc<dyn MetadataStore>,
    /// The wall clock: record timestamps and retention, never safety.
    pub clock: Arc<dyn Clock>,
    /// The only source of randomness.
    pub randomness: Randomness,
    /// Where tasks, blocking work and computation run.
    pub spawner: Arc<dyn Spawner>,
    /// Where metrics are registered.
    pub registry: prometheus::Registry,
}

/// A wall clock.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now(&self) -> Timestamp;
}

/// What a piece of work does to the thread that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Reads and writes that the page cache answers: tens of microseconds.
    PageCache,
    /// Work that waits for a device: syncs, recovery, deletion, uncached reads.
    Blocking,
    /// Work that keeps a core busy: compression and checksums off the request path.
    Compute,
}

/// Runs tasks and work. Threads and runtimes are a property of the real spawner; simulation runs
/// all of it on one thread.
pub trait Spawner: Send + Sync {
    /// Starts a task. Its owner awaits it through a tracker of its own.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Runs `job` where its kind of work may run. `job` may have run already when this returns.
    fn execute(&self, work: Work, job: Box<dyn FnOnce() + Send>);

    /// Whether blocking work may stay on its thread for the work that follows it, and wait for that a
    /// moment. Not where others are to come in between.
    fn may_stay(&self) -> bool {
        true
    }

    /// Whether [`Spawner::execute`] runs this kind of work on the calling thread. A caller then
    /// calls its job directly and saves the hand-over.
    fn is_inline(&self, work: Work) -> bool;
}

impl Environment {
    /// Runs `job` as `work` and returns its result.
    pub async fn run<T: Send + 'static>(
        &self,
        work: Work,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if self.spawner.is_inline(work) {
            return job();
        }
        let (sender, receiver) = oneshot::channel();
        self.spawner.execute(
            work,
            Box::new(move || {
                // A caller that went away has no use for the result; the work is done all the same.
                let _ = sender.send(job());
            }),
        );
        match receiver.await {
            Ok(value) => value,
            // The job was dropped unrun, which a spawner does only while its runtime shuts down; then
            // this future is dropped as well, or waits for that.
            Err(_) => std::future::pending().await,
        }
    }

    /// Starts a task that `tracker` awaits.
    pub fn spawn(
        &self,
        tracker: &tokio_util::task::TaskTracker,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawner.spawn(Box::pin(tracker.track_future(task)));
    }

    /// The wall clock's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A seeded generator that all of one broker shares.
#[derive(Clone)]
pub struct Randomness(Arc<Mutex<rand::rngs::StdRng>>);

impl Randomness {
    /// A generator that gives the same numbers for the same seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Randomness {
        Randomness(Arc::new(Mutex::new(rand::rngs::StdRng::from_seed(seed))))
    }

    /// 16 random bytes.
    #[must_use]
    pub fn bytes16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(&mut bytes);
        bytes
    }

    /// A random 64-bit number.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }

    /// A fresh id for a topic, a cluster, a directory or a process.
    #[must_use]
    pub fn id(&self) -> TopicId {
        loop {
            if let Some(id) = TopicId::from_random(self.bytes16()) {
                return id;
            }
        }
    }
}

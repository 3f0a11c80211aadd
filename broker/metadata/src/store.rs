//! The store that holds what the cluster knows: reads, compare-and-swap, watches and leases.
//!
//! This is the seam between the broker and its one authority (P1). Safety rests on transactions
//! that compare the revision last read of the key that fences a change; watches and leases give
//! liveness only. It knows nothing of topics or partitions: keys are text, values are bytes.
//!
//! Invariants, for every implementation (the contract suite checks them)
//! - Revisions only grow. Each transaction that changes a key makes one revision of its own.
//! - A transaction happens as a whole or not at all. One without an answer
//!   ([`StoreError::Unknown`]) may have happened, or may happen later.
//! - A watch delivers all changes of one revision as one event, in order, or says that it cannot.
//! - A put on an ended lease fails, also when it arrives late.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

mod transaction;

pub use transaction::{
    COMPARES_MAX, Compare, Condition, OPERATIONS_MAX, Operation, TRANSACTION_BYTES_MAX,
    Transaction, TransactionLimit, TransactionOutcome,
};

/// How many keys one page of a list holds, in stores that read over a network (P1).
pub const LIST_PAGE_ENTRIES: usize = 1_000;

/// The count of changes that a store had seen when something was true.
///
/// A store that holds nothing is at [`Revision::FIRST`]; the first change makes the next one. 0 is
/// the revision of nothing at all, and older than every real one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of an image that has read nothing.
    pub const NONE: Revision = Revision(0);
    /// The revision of a store before its first change.
    pub const FIRST: Revision = Revision(1);

    /// The revision that follows.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a lease; never given twice by one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A key with its value and the revisions that made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// The revision of the latest put: the fence of this key.
    pub mod_revision: Revision,
    /// The revision of the put that found the key absent.
    pub create_revision: Revision,
    /// The lease whose end deletes the key.
    pub lease: Option<LeaseId>,
}

/// All changes of one revision under the watched prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// The revision that made them.
    pub revision: Revision,
    /// Each changed key once, sorted, with its entry, or `None` where it was deleted.
    pub changes: Vec<(String, Option<Entry>)>,
}

/// Why a watch ended. All three are answered alike: read everything again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchLost {
    /// The store no longer holds the revisions that come next.
    #[error("the revisions that the watch needs next are compacted")]
    Compacted,
    /// Revisions are missing, or the store is at an older one than the watch has seen.
    #[error("the watch has a gap")]
    Gap,
    /// The store or the connection ended the watch.
    #[error("the watch was closed")]
    Closed,
}

/// The implementation's side of a [`Watch`].
#[async_trait]
pub trait WatchSource: Send {
    /// See [`Watch::next`]; must be cancel-safe.
    async fn next(&mut self) -> Result<WatchEvent, WatchLost>;
}

/// An ordered stream of changes.
pub struct Watch {
    source: Box<dyn WatchSource>,
    lost: Option<WatchLost>,
}

impl Watch {
    /// Wraps an implementation's stream.
    #[must_use]
    pub fn new(source: Box<dyn WatchSource>) -> Watch {
        Watch { source, lost: None }
    }

    /// Waits for the next event. Cancel-safe: an event is delivered by the call that returns it.
    ///
    /// # Errors
    ///
    /// The first error ends the watch; later calls return it again.
    pub async fn next(&mut self) -> Result<WatchEvent, WatchLost> {
        if let Some(lost) = self.lost {
            return Err(lost);
        }
        let next = self.source.next().await;
        if let Err(lost) = next {
            self.lost = Some(lost);
        }
        next
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

/// Why a call on the store gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The request certainly had no effect and may be tried again.
    #[error("the metadata store is not available: {0}")]
    Unavailable(String),
    /// There was no answer: the transaction may have happened, or may happen later (P1).
    ///
    /// It stays pending until [`crate::Pending::settle`] has ended it.
    #[error("the metadata store gave no answer: the request may have happened or happen later")]
    Unknown,
    /// The lease has ended, or was never granted; nothing was changed.
    #[error("lease {0} has ended")]
    LeaseEnded(LeaseId),
    /// The transaction is larger than any store takes; nothing was changed.
    #[error(transparent)]
    Limit(#[from] TransactionLimit),
    /// The store cannot go on and the process must end: what it holds on disk is no longer known.
    #[error("the metadata store failed: {0}")]
    Fatal(String),
}

impl StoreError {
    /// Whether the same request, sent again, may succeed without further thought.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}

/// The one authority of the cluster.
#[async_trait]
pub trait MetadataStore: Send + Sync {
    /// Reads one key, linearisably, with the revision at which that was true.
    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), StoreError>;

    /// Reads all keys that begin with `prefix`, sorted, at one revision.
    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError>;

    /// Runs a transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] where no answer came. After [`StoreError::Fatal`] nobody knows
    /// either, and the process ends. Every other error means that it did not happen and will not.
    /// Dropping the future before it is done is the same as `Unknown`.
    async fn transact(&self, transaction: Transaction) -> Result<TransactionOutcome, StoreError>;

    /// Watches the keys that begin with `prefix`: every change of revision `from` and later.
    ///
    /// Whoever has listed at revision `r` watches from `r.next()`.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError>;

    /// Makes a lease that ends when it was not kept alive for `ttl`.
    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Starts the lease's time anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseEnded`] where it is too late.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends the lease now and deletes its keys, in one revision. A lease that has ended is fine.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}

//! The store of one process: durable on disk, for `esker dev` and clusters inside one process.
//!
//! ```text
//!   transact ─▶ queue ─▶ one writer: run against the state ─▶ commit to disk and sync
//!                                                          ─▶ make visible ─▶ answer
//! ```
//!
//! The keys are mirrored in memory, so reads never touch the disk. Transactions that arrive while
//! the writer syncs share the next sync, each with a revision of its own.
//!
//! Invariants (P1)
//! - A commit is on disk before it is answered or shown to any reader or watch.
//! - A commit that fails ends the store: what the disk holds is no longer known, so the process
//!   must end. [`OnFatal`] is told once; every later call returns [`StoreError::Fatal`].
//! - Opening ends all leases; a lease expires by tokio's monotonic clock.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cursor::{Cursor, Host, Look};
use crate::history::Found;
use crate::store::{
    Entry, LeaseId, MetadataStore, Revision, StoreError, Transaction, TransactionOutcome, Watch,
    WatchLost,
};

mod disk;
mod writer;

use disk::Disk;
pub use disk::OpenError;
use writer::{Shared, Work, Writer};

/// Runs jobs that block on the disk, off the reactor.
///
/// A job that is dropped instead of run is answered with [`StoreError::Unknown`].
pub trait Blocking: Send + Sync {
    /// Runs the job, now or soon.
    fn run(&self, job: Box<dyn FnOnce() + Send>);
}

impl<F: Fn(Box<dyn FnOnce() + Send>) + Send + Sync> Blocking for F {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        self(job);
    }
}

/// Told once, with the reason, when the store has failed and the process must end.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// A store in one file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

impl EmbeddedStore {
    /// Opens the store in the file at `path`, or makes it. Its directory must exist.
    ///
    /// All leases of earlier processes end here.
    ///
    /// # Errors
    ///
    /// The file is in use, is not ours or a later version's, or cannot be read or written.
    pub async fn open(
        path: PathBuf,
        blocking: Arc<dyn Blocking>,
        on_fatal: OnFatal,
    ) -> Result<EmbeddedStore, OpenError> {
        let (answer, opened) = oneshot::channel();
        let file = path.clone();
        // Whoever stops waiting drops the store, and with it the file's lock.
        blocking.run(Box::new(move || drop(answer.send(Disk::open(&file)))));
        let opened = opened.await.map_err(|_| OpenError::Storage {
            path,
            reason: "the job that opens it was dropped".into(),
        })??;
        Ok(EmbeddedStore::over(opened, blocking, on_fatal))
    }

    fn over(
        (disk, state): (Disk, crate::state::State),
        blocking: Arc<dyn Blocking>,
        on_fatal: OnFatal,
    ) -> EmbeddedStore {
        let lease_base = disk.lease_base();
        let shared = Arc::new(Shared::new(state, lease_base));
        let writer = Arc::new(Writer::new(Arc::clone(&shared), disk, blocking, on_fatal));
        EmbeddedStore { shared, writer }
    }

    /// Finishes what was sent, closes the file and gives up its lock. Later calls fail.
    pub async fn close(&self) {
        // An answer that does not come means that the file is closed, or that its writer is gone.
        let _ = self.writer.submit(Work::Close, Instant::now()).await;
    }

    /// Ends the leases whose time is over, without waiting for it.
    fn run_due(&self) {
        self.writer.expire_due(Instant::now());
    }
}

#[async_trait]
impl MetadataStore for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), StoreError> {
        self.run_due();
        self.shared
            .read(|state| (state.get(key).cloned(), state.revision()))
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        self.run_due();
        self.shared
            .read(|state| (state.list(prefix), state.revision()))
    }

    async fn transact(&self, transaction: Transaction) -> Result<TransactionOutcome, StoreError> {
        transaction.check()?;
        self.run_due();
        self.writer
            .submit(Work::Transact(transaction), Instant::now())
            .await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.shared.read(|_| ())?;
        let host = EmbeddedHost {
            shared: Arc::clone(&self.shared),
            writer: Arc::downgrade(&self.writer),
        };
        let cursor = Cursor::new(Arc::new(host), prefix, from, self.shared.subscribe());
        Ok(Watch::new(Box::new(cursor)))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.run_due();
        self.shared.grant(ttl, Instant::now())
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.run_due();
        self.shared
            .change(|state| state.keep_alive(lease, Instant::now()))?
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.writer
            .submit(Work::End(lease), Instant::now())
            .await
            .map(|_| ())
    }
}

/// One watch's view of the store. It does not keep the file open.
struct EmbeddedHost {
    shared: Arc<Shared>,
    writer: Weak<Writer>,
}

impl Host for EmbeddedHost {
    fn run_due(&self, now: Instant) {
        if let Some(writer) = self.writer.upgrade() {
            writer.expire_due(now);
        }
    }

    fn look(&self, from: Revision, prefix: &str) -> Look {
        let found = self.shared.read(|state| state.history().find(from, prefix));
        match found {
            Ok(Found::Event(event)) => Look::Event(event),
            Ok(Found::Nothing(next)) => Look::Wait(next, self.shared.next_deadline()),
            Ok(Found::Lost(lost)) => Look::Lost(lost),
            Err(_) => Look::Lost(WatchLost::Closed),
        }
    }
}

#[cfg(test)]
mod tests;

//! A store in memory, for tests and simulation, that can go wrong on purpose.
//!
//! It has the semantics of the real stores, and it is the authority of a simulated cluster: shared
//! by all brokers, it survives the restart of each. [`Faults`] decides what goes wrong, call by call
//! (P1: answers that are lost, effects that come late, watches that break, leases that end);
//! [`MemoryStore::rewind`] makes it what a restored backup would be (P2).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cursor::{Cursor, Host, Look};
use crate::history::{Found, History};
use crate::state::State;
use crate::store::{
    Entry, LeaseId, MetadataStore, Revision, StoreError, Transaction, TransactionOutcome, Watch,
    WatchLost,
};

mod faults;

pub use faults::{Faults, LeaseFault, NoFaults, ReadFault, TransactionFault};

/// A store in memory. Clones share what they hold.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    world: Mutex<World>,
    changed: watch::Sender<()>,
}

struct World {
    state: State,
    late: Vec<Late>,
    leases_granted: i64,
    faults: Box<dyn Faults>,
    /// Watches of an earlier generation are over, for this reason.
    generation: u64,
    watches_lost: WatchLost,
}

/// A transaction that was sent, was not answered, and has not arrived yet.
struct Late {
    due: Instant,
    transaction: Transaction,
}

/// What a store held at some time: the backup that [`MemoryStore::rewind`] restores.
#[derive(Debug, Clone)]
pub struct Snapshot(State);

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl MemoryStore {
    /// An empty store in which nothing goes wrong.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::with_faults(Box::new(NoFaults))
    }

    /// An empty store in which goes wrong what `faults` says.
    #[must_use]
    pub fn with_faults(faults: Box<dyn Faults>) -> MemoryStore {
        let world = World {
            state: State::new(BTreeMap::new(), Revision::FIRST),
            late: Vec::new(),
            leases_granted: 0,
            faults,
            generation: 0,
            watches_lost: WatchLost::Closed,
        };
        let (changed, _) = watch::channel(());
        MemoryStore {
            inner: Arc::new(Inner {
                world: Mutex::new(world),
                changed,
            }),
        }
    }

    /// Replaces the faults from now on.
    pub fn set_faults(&self, faults: Box<dyn Faults>) {
        self.inner.world().faults = faults;
    }

    /// What the store holds now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.inner.world().state.clone())
    }

    /// Makes the store what it was at the snapshot, as if restored from a backup (P2): every watch
    /// has a gap, leases begin anew, and revisions are given a second time.
    pub fn rewind(&self, snapshot: &Snapshot) {
        let now = Instant::now();
        self.inner.change(|world| {
            world.state = snapshot.0.clone();
            *world.state.history_mut() = History::new(world.state.revision());
            world.state.keep_all_alive(now);
            world.late.clear();
            world.end_watches(WatchLost::Gap);
        });
    }

    /// Forgets all changes up to now: whoever still needs them is told that they are compacted.
    pub fn compact(&self) {
        self.inner
            .change(|world| world.state.history_mut().compact());
    }

    /// Ends all watches.
    pub fn end_watches(&self, lost: WatchLost) {
        self.inner.change(|world| world.end_watches(lost));
    }

    /// Lets every transaction arrive that was to come late.
    pub fn deliver_late(&self) {
        let now = Instant::now();
        self.inner.change(|world| {
            while !world.late.is_empty() {
                world.deliver_next(now);
            }
        });
    }

    /// How many transactions are still on their way.
    #[must_use]
    pub fn late_count(&self) -> usize {
        self.inner.world().late.len()
    }
}

impl Inner {
    fn world(&self) -> MutexGuard<'_, World> {
        // A panic in a fault closure leaves the state whole: every change is one step.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the world after letting happen what is due, and wakes the watches.
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = {
            let mut world = self.world();
            world.run_due(Instant::now());
            change(&mut world)
        };
        self.changed.send_replace(());
        result
    }

    async fn read<T>(
        &self,
        what: &str,
        read: impl FnOnce(&State) -> T,
    ) -> Result<(T, Revision), StoreError> {
        let fault = self.world().faults.read(what);
        match fault {
            ReadFault::None => {}
            ReadFault::Unavailable => return Err(unavailable()),
            ReadFault::Delayed(delay) => tokio::time::sleep(delay).await,
        }
        Ok(self.change(|world| (read(&world.state), world.state.revision())))
    }
}

impl World {
    fn apply(
        &mut self,
        transaction: Transaction,
        now: Instant,
    ) -> Result<TransactionOutcome, StoreError> {
        let mut batch = self.state.batch();
        let outcome = self.state.run(&mut batch, transaction, now)?;
        self.state.commit(batch);
        Ok(outcome)
    }

    fn end_leases(&mut self, leases: impl IntoIterator<Item = LeaseId>) {
        let mut batch = self.state.batch();
        self.state.end_leases(&mut batch, leases);
        self.state.commit(batch);
    }

    fn end_watches(&mut self, lost: WatchLost) {
        self.generation += 1;
        self.watches_lost = lost;
    }

    /// Lets the transaction arrive that is due first. It finds the store as it is at that time, and
    /// nobody hears of its result.
    fn deliver_next(&mut self, now: Instant) {
        let first = self
            .late
            .iter()
            .enumerate()
            .min_by_key(|(index, late)| (late.due, *index));
        if let Some((index, _)) = first {
            let late = self.late.remove(index);
            let result = self.apply(late.transaction, now);
            tracing::debug!(?result, "late transaction arrived");
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let late = self.late.iter().map(|late| late.due).min();
        [late, self.state.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Lets happen, in the order of their times, what is due by `now`.
    fn run_due(&mut self, now: Instant) -> bool {
        let mut ran = false;
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            ran = true;
            if self.late.iter().any(|late| late.due == due) {
                self.deliver_next(due);
            } else {
                let expired = self.state.expired(due);
                self.end_leases(expired);
            }
        }
        ran
    }
}

/// One watch's view of the store.
struct MemoryHost {
    inner: Arc<Inner>,
    generation: u64,
}

impl Host for MemoryHost {
    fn run_due(&self, now: Instant) {
        let ran = self.inner.world().run_due(now);
        if ran {
            self.inner.changed.send_replace(());
        }
    }

    fn look(&self, from: Revision, prefix: &str) -> Look {
        let mut world = self.inner.world();
        if world.generation != self.generation {
            return Look::Lost(world.watches_lost);
        }
        match world.state.history().find(from, prefix) {
            Found::Event(event) => match world.faults.event(prefix, event.revision) {
                None => Look::Event(event),
                Some(lost) => Look::Lost(lost),
            },
            Found::Nothing(next) => Look::Wait(next, world.next_due()),
            Found::Lost(lost) => Look::Lost(lost),
        }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("a fault was injected".into())
}

#[async_trait]
impl MetadataStore for MemoryStore {
    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), StoreError> {
        self.inner.read(key, |state| state.get(key).cloned()).await
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        self.inner.read(prefix, |state| state.list(prefix)).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<TransactionOutcome, StoreError> {
        transaction.check()?;
        let fault = self.inner.world().faults.transaction(&transaction);
        let apply = |transaction| {
            self.inner
                .change(|world| world.apply(transaction, Instant::now()))
        };
        match fault {
            TransactionFault::None => apply(transaction),
            TransactionFault::Unavailable => Err(unavailable()),
            TransactionFault::Lost => Err(StoreError::Unknown),
            TransactionFault::LostAnswer => {
                // Whatever came of it, nobody hears.
                let _ = apply(transaction);
                Err(StoreError::Unknown)
            }
            TransactionFault::LostAndLate(delay) => {
                let due = Instant::now() + delay;
                self.inner
                    .change(|world| world.late.push(Late { due, transaction }));
                Err(StoreError::Unknown)
            }
            TransactionFault::Delayed(delay) => {
                tokio::time::sleep(delay).await;
                apply(transaction)
            }
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        let fault = self.inner.world().faults.read(prefix);
        match fault {
            ReadFault::None => {}
            ReadFault::Unavailable => return Err(unavailable()),
            ReadFault::Delayed(delay) => tokio::time::sleep(delay).await,
        }
        let generation = self.inner.world().generation;
        let host = Arc::new(MemoryHost {
            inner: Arc::clone(&self.inner),
            generation,
        });
        let cursor = Cursor::new(host, prefix, from, self.inner.changed.subscribe());
        Ok(Watch::new(Box::new(cursor)))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let now = Instant::now();
        self.inner.change(|world| {
            let id = LeaseId(world.leases_granted + 1);
            match world.faults.lease(id) {
                LeaseFault::Unavailable => return Err(unavailable()),
                LeaseFault::None => world.state.grant(id, ttl, now),
                // Granted, and over before its owner hears of it.
                LeaseFault::End => {}
            }
            world.leases_granted += 1;
            Ok(id)
        })
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let now = Instant::now();
        self.inner.change(|world| match world.faults.lease(lease) {
            LeaseFault::None => world.state.keep_alive(lease, now),
            LeaseFault::Unavailable => Err(unavailable()),
            LeaseFault::End => {
                world.end_leases([lease]);
                Err(StoreError::LeaseEnded(lease))
            }
        })
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.change(|world| match world.faults.lease(lease) {
            LeaseFault::Unavailable => Err(unavailable()),
            LeaseFault::None | LeaseFault::End => {
                world.end_leases([lease]);
                Ok(())
            }
        })
    }
}

#[cfg(test)]
mod tests;

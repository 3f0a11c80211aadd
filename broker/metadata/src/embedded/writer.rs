//! The one writer: takes what is queued, makes it durable with one sync, shows it, answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::disk::Disk;
use super::{Blocking, OnFatal};
use crate::state::State;
use crate::store::{LeaseId, StoreError, Transaction, TransactionOutcome};

/// The most requests that wait for the writer.
const REQUESTS_QUEUED_MAX: usize = 1_024;
/// The most requests that share one sync.
const REQUESTS_PER_COMMIT_MAX: usize = 128;

/// What readers and watches see: everything that is durable, nothing else.
pub(super) struct Shared {
    view: Mutex<View>,
    changed: watch::Sender<()>,
}

struct View {
    state: State,
    lease_next: i64,
    /// A request that ends leases is queued, so that nobody queues another.
    expiring: bool,
    over: Option<StoreError>,
}

impl Shared {
    pub(super) fn new(state: State, lease_base: i64) -> Shared {
        let view = View {
            state,
            lease_next: lease_base,
            expiring: false,
            over: None,
        };
        Shared {
            view: Mutex::new(view),
            changed: watch::channel(()).0,
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        // Only a broken invariant of the state panics under this lock. In the writer's job that ends
        // the store ([`Drain`]); elsewhere the state was only read.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, StoreError> {
        let view = self.view();
        match &view.over {
            Some(error) => Err(error.clone()),
            None => Ok(read(&view.state)),
        }
    }

    /// Changes what is not durable: leases.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let mut view = self.view();
        match &view.over {
            Some(error) => Err(error.clone()),
            None => Ok(change(&mut view.state)),
        }
    }

    pub(super) fn grant(&self, ttl: Duration, now: Instant) -> Result<LeaseId, StoreError> {
        let mut view = self.view();
        if let Some(error) = &view.over {
            return Err(error.clone());
        }
        let id = LeaseId(view.lease_next);
        view.lease_next += 1;
        view.state.grant(id, ttl, now);
        drop(view);
        // Watches wait for the next lease to end, and this one may be it.
        self.changed.send_replace(());
        Ok(id)
    }

    /// When a watch should look for leases that end; never while they are being ended.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let view = self.view();
        if view.expiring {
            None
        } else {
            view.state.next_deadline()
        }
    }

    /// Refuses everything from now on, with the first reason that was given.
    fn end(&self, reason: StoreError) {
        self.view().over.get_or_insert(reason);
        self.changed.send_replace(());
    }
}

/// What the writer is asked for.
pub(super) enum Work {
    Transact(Transaction),
    /// Ends one lease.
    End(LeaseId),
    /// Ends all leases whose time is over.
    Expire,
    /// Closes the file.
    Close,
}

type Answer = Result<TransactionOutcome, StoreError>;

struct Request {
    work: Work,
    now: Instant,
    answer: oneshot::Sender<Answer>,
}

struct Queue {
    requests: VecDeque<Request>,
    /// A job that empties the queue is running, or on its way.
    draining: bool,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    blocking: Arc<dyn Blocking>,
    on_fatal: OnFatal,
    room: Semaphore,
    queue: Mutex<Queue>,
    /// Held by the job that drains; `None` once closed.
    disk: Mutex<Option<Disk>>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        disk: Disk,
        blocking: Arc<dyn Blocking>,
        on_fatal: OnFatal,
    ) -> Writer {
        Writer {
            shared,
            blocking,
            on_fatal,
            room: Semaphore::new(REQUESTS_QUEUED_MAX),
            queue: Mutex::new(Queue {
                requests: VecDeque::new(),
                draining: false,
            }),
            disk: Mutex::new(Some(disk)),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request and waits for its answer. Once queued it happens, also when nobody waits.
    pub(super) async fn submit(self: &Arc<Self>, work: Work, now: Instant) -> Answer {
        let _room = self.room.acquire().await.map_err(|_| StoreError::Unknown)?;
        let (answer, answered) = oneshot::channel();
        self.push(Request { work, now, answer });
        answered.await.unwrap_or(Err(StoreError::Unknown))
    }

    /// Queues the end of the leases whose time is over, if there are any. At most one such request
    /// is queued, beside the bound of the others.
    pub(super) fn expire_due(self: &Arc<Self>, now: Instant) {
        {
            let mut view = self.shared.view();
            let due = view
                .state
                .next_deadline()
                .is_some_and(|deadline| deadline <= now);
            if !due || view.expiring || view.over.is_some() {
                return;
            }
            view.expiring = true;
        }
        let (answer, _) = oneshot::channel();
        self.push(Request {
            work: Work::Expire,
            now,
            answer,
        });
    }

    fn push(self: &Arc<Self>, request: Request) {
        let start = {
            let mut queue = self.queue();
            queue.requests.push_back(request);
            !std::mem::replace(&mut queue.draining, true)
        };
        if start {
            let mut job = Drain {
                writer: Arc::clone(self),
                finished: false,
            };
            self.blocking.run(Box::new(move || job.run()));
        }
    }

    fn drain(&self) {
        loop {
            let requests: Vec<Request> = {
                let mut queue = self.queue();
                let count = queue.requests.len().min(REQUESTS_PER_COMMIT_MAX);
                if count == 0 {
                    queue.draining = false;
                    return;
                }
                queue.requests.drain(..count).collect()
            };
            self.process(requests);
        }
    }

    /// Runs requests in their order, with one commit for all.
    fn process(&self, requests: Vec<Request>) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut close = false;
        let mut expires = false;
        let mut answers = Vec::with_capacity(requests.len());
        let batch = {
            let view = self.shared.view();
            let mut batch = view.state.batch();
            for Request { work, now, answer } in requests {
                let outcome = match (&view.over, work) {
                    (Some(error), _) => Err(error.clone()),
                    (None, Work::Transact(transaction)) => {
                        view.state.run(&mut batch, transaction, now)
                    }
                    (None, Work::End(lease)) => {
                        view.state.end_leases(&mut batch, [lease]);
                        Ok(done(batch.revision()))
                    }
                    (None, Work::Expire) => {
                        view.state.end_leases(&mut batch, view.state.expired(now));
                        expires = true;
                        Ok(done(batch.revision()))
                    }
                    (None, Work::Close) => {
                        close = true;
                        Ok(done(batch.revision()))
                    }
                };
                answers.push((answer, outcome));
            }
            batch
        };
        // The writer is the only one that changes entries, so the state under the batch stays what
        // it was while the lock is not held.
        let committed = match disk.as_ref() {
            Some(disk) if !batch.is_empty() => disk.commit(&batch),
            _ => Ok(()),
        };
        match committed {
            Ok(()) => {
                let mut view = self.shared.view();
                view.state.commit(batch);
                if expires {
                    view.expiring = false;
                }
                drop(view);
                self.shared.changed.send_replace(());
            }
            Err(reason) => {
                // Never tried again: after a failed sync nobody knows what the disk holds.
                self.shared.end(StoreError::Fatal(reason.clone()));
                (self.on_fatal)(&reason);
                answers.iter_mut().for_each(|(_, outcome)| {
                    *outcome = Err(StoreError::Fatal(reason.clone()));
                });
            }
        }
        if close {
            self.shared
                .end(StoreError::Unavailable("it is closed".into()));
            // Before the answer: whoever has waited may open the file again.
            *disk = None;
        }
        for (answer, outcome) in answers {
            // Whoever stopped waiting does not need the answer.
            let _ = answer.send(outcome);
        }
    }
}

fn done(revision: crate::store::Revision) -> TransactionOutcome {
    TransactionOutcome {
        succeeded: true,
        revision,
        current: Vec::new(),
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Watches outlive the store; they end here.
        self.shared
            .end(StoreError::Unavailable("it is closed".into()));
    }
}

/// The job that empties the queue. Dropped without having run, or by a panic, it ends the store
/// rather than leaving requests without an answer for ever.
struct Drain {
    writer: Arc<Writer>,
    finished: bool,
}

impl Drain {
    fn run(&mut self) {
        self.writer.drain();
        self.finished = true;
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // The queue is still this job's: nobody starts another before `draining` is false.
        let mut queue = self.writer.queue();
        queue.draining = false;
        queue.requests.clear();
        drop(queue);
        self.writer
            .shared
            .end(StoreError::Unavailable("its writer was stopped".into()));
    }
}

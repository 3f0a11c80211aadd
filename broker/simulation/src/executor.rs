//! Runs all tasks of a simulation, in an order that the seed draws.
//!
//! Tasks that can go on form a set, and the seed picks the next: the order in which they were woken
//! does not matter, which is what makes a run repeatable (tokio wakes the receivers of a watch
//! channel in an order of its own), and which makes other seeds try other interleavings. Tasks
//! belong to groups; a group can be killed between any two polls, which is how a process dies.
//!
//! Invariants
//! - Tasks are polled on one thread, one at a time, never by tokio itself.
//! - Of a dead group nothing runs any more, and nothing new starts.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::random::Random;

/// Polls of one run before it counts as one that goes round and round without time passing.
const POLLS_MAX: u64 = 200_000_000;

/// Polls at one moment of simulated time, likewise.
const POLLS_AT_ONCE_MAX: u64 = 2_000_000;

/// Tasks that live and die together: a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group(pub(crate) u64);

/// The tasks of the simulation itself: never killed.
pub(crate) const OUTSIDE: Group = Group(0);

/// Whether a group is to die now; asked after each of its polls.
pub(crate) type Doom = Box<dyn FnMut() -> bool + Send>;

/// The executor; clones are the same one.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Wakes the one tokio task in which everything runs.
    root: Mutex<Option<Waker>>,
    random: Random,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Task>,
    /// Those that can go on, sorted: few at a time, and the seed picks by place.
    ready: Vec<u64>,
    dead: BTreeSet<Group>,
    dooms: BTreeMap<Group, Doom>,
    started: u64,
    polls: u64,
}

struct Task {
    group: Group,
    /// Away while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Waker,
}

struct Wakes {
    task: u64,
    inner: Weak<Inner>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        if !inner.state().make_ready(self.task) {
            // Whoever made it ready woke the root.
            return;
        }
        let root = inner
            .root
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(root) = root {
            root.wake();
        }
    }
}

impl State {
    /// Adds a task to those that can go on; false where it was one of them.
    fn make_ready(&mut self, task: u64) -> bool {
        match self.ready.binary_search(&task) {
            Ok(_) => false,
            Err(place) => {
                self.ready.insert(place, task);
                true
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executor {
    pub(crate) fn new(random: Random) -> Executor {
        let inner = Inner {
            state: Mutex::default(),
            root: Mutex::default(),
            random,
        };
        Executor(Arc::new(inner))
    }

    /// Starts a task; one of a dead group is dropped.
    pub(crate) fn spawn(&self, group: Group, future: BoxFuture<'static, ()>) {
        let dropped = {
            let mut state = self.0.state();
            if state.dead.contains(&group) {
                Some(future)
            } else {
                state.started += 1;
                let id = state.started;
                let wakes = Wakes {
                    task: id,
                    inner: Arc::downgrade(&self.0),
                };
                let waker = Waker::from(Arc::new(wakes));
                state.tasks.insert(
                    id,
                    Task {
                        group,
                        future: Some(future),
                        waker,
                    },
                );
                state.make_ready(id);
                None
            }
        };
        // What a future drops may wake or spawn others.
        drop(dropped);
        let root = self
            .0
            .root
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(root) = root {
            root.wake();
        }
    }

    /// Ends all tasks of a group where they stand, for good.
    pub(crate) fn kill(&self, group: Group) {
        let killed: Vec<Task> = {
            let mut state = self.0.state();
            state.dead.insert(group);
            state.dooms.remove(&group);
            let of_group = |(id, task): (&u64, &Task)| (task.group == group).then_some(*id);
            let ids: Vec<u64> = state.tasks.iter().filter_map(of_group).collect();
            ids.iter().filter_map(|id| state.tasks.remove(id)).collect()
        };
        drop(killed);
    }

    /// Kills a group once `doom` says so.
    pub(crate) fn doom(&self, group: Group, doom: Doom) {
        self.0.state().dooms.insert(group, doom);
    }

    /// Takes a doom back.
    pub(crate) fn spare(&self, group: Group) {
        self.0.state().dooms.remove(&group);
    }

    /// Whether a group was killed.
    pub(crate) fn is_dead(&self, group: Group) -> bool {
        self.0.state().dead.contains(&group)
    }

    /// How often tasks were polled so far: equal in equal runs.
    pub(crate) fn polls(&self) -> u64 {
        self.0.state().polls
    }

    /// Runs `main` and whatever it starts until `main` ends; then all is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        main: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (sender, mut receiver) = oneshot::channel();
        self.spawn(
            OUTSIDE,
            Box::pin(async move {
                // The receiver lives in this very function.
                let _ = sender.send(main.await);
            }),
        );
        let steps = poll_fn(|context| {
            *self.0.root.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(context.waker().clone());
            let mut polls = 0;
            loop {
                if let Ok(value) = receiver.try_recv() {
                    return Poll::Ready(value);
                }
                if !self.step() {
                    return Poll::Pending;
                }
                polls += 1;
                assert!(
                    polls < POLLS_AT_ONCE_MAX,
                    "tasks wake each other and time stands still"
                );
            }
        });
        // tokio would otherwise count all tasks as one and make it pause in the middle.
        let value = tokio::task::unconstrained(steps).await;
        let left = std::mem::take(&mut self.0.state().tasks);
        drop(left);
        value
    }

    /// Polls one task that can go on; false where there is none.
    fn step(&self) -> bool {
        let (id, group, mut future, waker) = {
            let mut state = self.0.state();
            if state.ready.is_empty() {
                return false;
            }
            let place = self.0.random.below(state.ready.len() as u64);
            let place = usize::try_from(place).unwrap_or(0);
            let id = state.ready.remove(place);
            let Some(task) = state.tasks.get_mut(&id) else {
                return true;
            };
            let (group, waker) = (task.group, task.waker.clone());
            let Some(future) = task.future.take() else {
                return true;
            };
            state.polls += 1;
            assert!(state.polls < POLLS_MAX, "the run does not end");
            (id, group, future, waker)
        };
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = self.0.state();
        let ended = match polled {
            Poll::Ready(()) => {
                state.tasks.remove(&id);
                Some(future)
            }
            Poll::Pending => match state.tasks.get_mut(&id) {
                Some(task) => {
                    task.future = Some(future);
                    None
                }
                None => Some(future),
            },
        };
        let doom = state.dooms.remove(&group);
        drop(state);
        drop(ended);
        if let Some(mut doom) = doom {
            if doom() {
                self.kill(group);
            } else {
                self.0.state().dooms.entry(group).or_insert(doom);
            }
        }
        true
    }
}

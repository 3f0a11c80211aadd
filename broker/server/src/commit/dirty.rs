//! How the commit loop of a directory is called, by whoever has appended to it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How much the caller is in a hurry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// The round may wait for more, for so long.
    CanWait(Duration),
    /// Somebody does nothing but wait.
    Urgent,
}

impl Urgency {
    /// Nobody waits for the answer, or who waits sends on meanwhile. Clients that send on while they wait
    /// then pay for a fraction of the rounds.
    pub const A_MOMENT: Urgency = Urgency::CanWait(MOMENT);
}

/// How long a round waits for more that nobody is in a hurry for.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// By when a round is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    AtOnce,
    /// `None` is never, as far as time goes.
    By(Option<Instant>),
}

impl Due {
    fn of(urgency: Urgency) -> Due {
        match urgency {
            Urgency::Urgent => Due::AtOnce,
            Urgency::CanWait(time) => Due::By(Instant::now().checked_add(time)),
        }
    }

    fn is_before(self, other: Due) -> bool {
        match (self, other) {
            (_, Due::AtOnce) | (Due::By(None), _) => false,
            (Due::AtOnce, _) | (_, Due::By(None)) => true,
            (Due::By(Some(one)), Due::By(Some(other))) => one < other,
        }
    }

    /// How long the round may wait.
    fn left(self) -> Duration {
        match self {
            Due::AtOnce => Duration::ZERO,
            Due::By(None) => Duration::MAX,
            Due::By(Some(due)) => due.saturating_duration_since(Instant::now()),
        }
    }
}

/// Tells a directory's commit loop that there is something to sync. Calls that nobody has answered
/// yet are answered together, by one round.
#[derive(Debug, Clone, Default)]
pub struct Dirty(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Wakes the task.
    task: Notify,
    /// Wakes the thread.
    thread: Condvar,
}

#[derive(Debug, Default)]
struct State {
    call: Option<Due>,
    /// How many of the calls are urgent.
    urgent: usize,
    /// With how many urgent calls the thread goes on that waits for more.
    enough: usize,
    listener: Listener,
}

/// A crowd of which none has come for this part of its time is waited for no longer.
const SLICES: u32 = 4;

/// For whom a round waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    /// How many urgent calls are expected.
    pub(super) calls: usize,
    /// How long those that are there already wait for the others.
    pub(super) patience: Duration,
}

impl Crowd {
    /// Nobody is expected.
    pub(super) const NOBODY: Crowd = Crowd {
        calls: 0,
        patience: Duration::ZERO,
    };
}

/// Who is told of the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Listener {
    /// A task, which hands the work over to a thread.
    #[default]
    Task,
    /// Nobody: a thread works, and looks for a call when it is done.
    BusyThread,
    /// A thread that waits for a call.
    IdleThread,
}

impl Dirty {
    /// Asks for a round.
    pub fn mark(&self, urgency: Urgency) {
        let mut state = self.state();
        let due = match state.call {
            // No earlier one is possible.
            Some(Due::AtOnce) => Due::AtOnce,
            _ => Due::of(urgency),
        };
        let mut wakes = state.call.is_none_or(|call| due.is_before(call));
        let is_earlier = wakes;
        if urgency == Urgency::Urgent {
            state.urgent += 1;
            wakes |= state.urgent == state.enough;
        }
        if !wakes {
            return;
        }
        if is_earlier {
            state.call = Some(due);
        }
        let listener = state.listener;
        // Who is woken needs the lock.
        drop(state);
        match listener {
            Listener::Task => self.0.task.notify_one(),
            Listener::BusyThread => {}
            Listener::IdleThread => self.0.thread.notify_one(),
        }
    }

    /// Waits for a call, as a task.
    pub(super) async fn called(&self) {
        // What woke this task may have been answered by a thread.
        while self.state().call.is_none() {
            self.0.task.notified().await;
        }
    }

    /// Answers what calls there are, before the work that they ask for. How many of them are urgent, if there
    /// is any.
    pub(super) fn answer(&self) -> Option<usize> {
        let mut state = self.state();
        let urgent = std::mem::take(&mut state.urgent);
        state.call.take().map(|_| urgent)
    }

    /// How many urgent calls nobody has answered yet.
    pub(super) fn urgent(&self) -> usize {
        self.state().urgent
    }

    /// Makes this thread the one that is told, until it lets go.
    pub(super) fn listen(&self) -> ThreadListens<'_> {
        self.state().listener = Listener::BusyThread;
        ThreadListens(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread is told of calls. When this is dropped the task is again.
#[derive(Debug)]
pub(super) struct ThreadListens<'a>(&'a Dirty);

impl ThreadListens<'_> {
    /// Waits for a call, for so long. Whether there is one.
    pub(super) fn called_within(&self, patience: Duration) -> bool {
        let state = self.wait_while(self.0.state(), patience, |state| state.call.is_none());
        state.call.is_some()
    }

    /// Where there are calls: waits for more. Until one is due, and where that is urgent until as many are as
    /// are expected, for as long as those may wait, no longer than so, and as others come.
    pub(super) fn gather(&self, patience: Duration, crowd: Crowd) {
        let mut state = self.0.state();
        while let Some(call) = state.call {
            let left = call.left();
            if left.is_zero() {
                break;
            }
            state = self.wait_while(state, left, |state| state.call == Some(call));
        }
        if state.urgent == 0 {
            return;
        }
        let patience = crowd.patience.min(patience);
        state.enough = crowd.calls;
        for _ in 0..SLICES {
            let before = state.urgent;
            state = self.wait_while(state, patience / SLICES, |state| state.urgent < crowd.calls);
            // None came, or all are there.
            if state.urgent == before {
                break;
            }
        }
        state.enough = 0;
    }

    fn wait_while<'d>(
        &'d self,
        mut state: MutexGuard<'d, State>,
        patience: Duration,
        waits_on: impl Fn(&State) -> bool,
    ) -> MutexGuard<'d, State> {
        if !waits_on(&state) || patience.is_zero() {
            return state;
        }
        state.listener = Listener::IdleThread;
        let waited = (self.0.0.thread)
            .wait_timeout_while(state, patience, |state| waits_on(state))
            .unwrap_or_else(PoisonError::into_inner);
        let mut state = waited.0;
        state.listener = Listener::BusyThread;
        state
    }
}

impl Drop for ThreadListens<'_> {
    fn drop(&mut self) {
        // A call that came last is still there: the task looks before it waits.
        self.0.state().listener = Listener::Task;
    }
}

#[cfg(test)]
mod tests;

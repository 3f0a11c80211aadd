//! How the commit loop of a directory is called, by whoever has appended to it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How much the caller is in a hurry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody waits for the answer, or who waits sends on meanwhile: the round may wait a moment for more.
    CanWait,
    /// Somebody does nothing but wait.
    Urgent,
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
    call: Option<Urgency>,
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
        let mut wakes = state.call < Some(urgency);
        if urgency == Urgency::Urgent {
            state.urgent += 1;
            wakes |= state.urgent == state.enough;
        }
        if !wakes {
            return;
        }
        state.call = Some(urgency);
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

    /// Answers what calls there are, before the work that they ask for. How many of them are urgent.
    pub(super) fn answer(&self) -> usize {
        let mut state = self.state();
        state.call = None;
        std::mem::take(&mut state.urgent)
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

    /// Where there are calls: waits for more. For so long while none is urgent, and then until as many
    /// are as are expected, for as long as those may wait and others come.
    pub(super) fn gather(&self, patience: Duration, crowd: Crowd) {
        let began = Instant::now();
        let mut state = self.wait_while(self.0.state(), patience, |state| {
            state.call == Some(Urgency::CanWait)
        });
        if state.urgent == 0 {
            return;
        }
        let patience = (crowd.patience).min(patience.saturating_sub(began.elapsed()));
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

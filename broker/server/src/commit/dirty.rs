//! How the commit loop of a directory is called, by whoever has appended to it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How much the caller is in a hurry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody waits for the answer, or who waits sends on meanwhile: the round may wait a moment for more.
    CanWait,
    /// Somebody does nothing but wait.
    Urgent,
}

/// Tells a directory's commit loop that there is something to sync. Calls that nobody has answered
/// yet are one.
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
    listener: Listener,
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
        if state.call >= Some(urgency) {
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

    /// Answers what calls there are, before the work that they ask for.
    pub(super) fn answer(&self) {
        self.state().call = None;
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
        self.wait_while(patience, |call| call.is_none()).is_some()
    }

    /// Where there are calls and none is urgent: waits for more, until one is, for so long.
    pub(super) fn gather(&self, patience: Duration) {
        self.wait_while(patience, |call| call == Some(Urgency::CanWait));
    }

    fn wait_while(
        &self,
        patience: Duration,
        waits_on: impl Fn(Option<Urgency>) -> bool,
    ) -> Option<Urgency> {
        let inner = &self.0.0;
        let mut state = self.0.state();
        if !waits_on(state.call) {
            return state.call;
        }
        state.listener = Listener::IdleThread;
        let waited = (inner.thread)
            .wait_timeout_while(state, patience, |state| waits_on(state.call))
            .unwrap_or_else(PoisonError::into_inner);
        let mut state = waited.0;
        state.listener = Listener::BusyThread;
        state.call
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

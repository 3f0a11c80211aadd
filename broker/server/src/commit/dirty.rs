//! How the commit loop of a directory is called, by whoever has appended to it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How much the caller is in a hurry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// The round may wait for more, for so long from now on.
    Lingers(Duration),
    /// Nobody waits for the answer, or who waits sends on meanwhile: the round may wait a moment for more.
    /// Clients that send on while they wait then pay for a fraction of the rounds.
    CanWait,
    /// Somebody does nothing but wait.
    Urgent,
}

/// A time that does not come, and that a clock can still say.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// What is asked for, and nobody has answered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Call {
    /// How many of the calls are urgent.
    urgent: usize,
    /// Whether a round is to come in a moment.
    can_wait: bool,
    /// When one is to come for those that linger.
    lingers: Option<Instant>,
}

impl Call {
    fn is_any(self) -> bool {
        self.urgent > 0 || self.can_wait || self.lingers.is_some()
    }

    /// Adds a call. Whether a round is called for, or is to come earlier than it was.
    fn add(&mut self, urgency: Urgency) -> bool {
        let before = *self;
        match urgency {
            Urgency::Urgent => {
                self.urgent += 1;
                before.urgent == 0
            }
            Urgency::CanWait => {
                self.can_wait = true;
                before.urgent == 0 && !before.can_wait
            }
            Urgency::Lingers(time) => {
                let due = Instant::now() + time.min(NEVER);
                let is_earlier = before.lingers.is_none_or(|before| due < before);
                if is_earlier {
                    self.lingers = Some(due);
                }
                is_earlier && before.urgent == 0 && !before.can_wait
            }
        }
    }

    /// How long a round may wait that others of the same kind may join, where a moment ends in `moment`.
    fn patience(self, moment: Duration) -> Duration {
        if self.urgent > 0 {
            return Duration::ZERO;
        }
        let lingers = self.lingers;
        let lingers = lingers.map(|due| due.saturating_duration_since(Instant::now()));
        let moment = self.can_wait.then_some(moment);
        lingers.into_iter().chain(moment).min().unwrap_or_default()
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
    call: Call,
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
        let mut wakes = state.call.add(urgency);
        wakes |= urgency == Urgency::Urgent && state.call.urgent == state.enough;
        if !wakes {
            return;
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
        while !self.state().call.is_any() {
            self.0.task.notified().await;
        }
    }

    /// Answers what calls there are, before the work that they ask for. How many of them are urgent, if there
    /// is any.
    pub(super) fn answer(&self) -> Option<usize> {
        let call = std::mem::take(&mut self.state().call);
        call.is_any().then_some(call.urgent)
    }

    /// How many urgent calls nobody has answered yet.
    pub(super) fn urgent(&self) -> usize {
        self.state().call.urgent
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
        let state = self.wait_while(self.0.state(), patience, |state| !state.call.is_any());
        state.call.is_any()
    }

    /// Where there are calls: waits for more. For a moment of `patience`, or until one is due that lingers; where
    /// one is urgent until as many are as are expected, for as long as those may wait and others come.
    pub(super) fn gather(&self, patience: Duration, crowd: Crowd) {
        let began = Instant::now();
        let mut state = self.0.state();
        loop {
            let call = state.call;
            let left = call.patience(patience.saturating_sub(began.elapsed()));
            if left.is_zero() {
                break;
            }
            state = self.wait_while(state, left, |state| state.call == call);
        }
        if state.call.urgent == 0 {
            return;
        }
        let patience = (crowd.patience).min(patience.saturating_sub(began.elapsed()));
        state.enough = crowd.calls;
        for _ in 0..SLICES {
            let before = state.call.urgent;
            state = self.wait_while(state, patience / SLICES, |state| {
                state.call.urgent < crowd.calls
            });
            // None came, or all are there.
            if state.call.urgent == before {
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

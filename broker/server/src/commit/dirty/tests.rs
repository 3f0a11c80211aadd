use futures::FutureExt as _;

use super::*;

fn is_called(dirty: &Dirty) -> bool {
    dirty.called().now_or_never().is_some()
}

#[test]
fn calls_that_nobody_has_answered_are_one() {
    let dirty = Dirty::default();
    assert!(!is_called(&dirty));
    dirty.mark(Urgency::Urgent);
    dirty.mark(Urgency::CanWait);
    assert!(is_called(&dirty));
    dirty.answer();
    assert!(!is_called(&dirty));
    dirty.mark(Urgency::CanWait);
    assert!(is_called(&dirty));
}

#[test]
fn a_call_that_a_thread_has_answered_is_none_for_the_task() {
    let dirty = Dirty::default();
    // The task is woken for this one.
    dirty.mark(Urgency::Urgent);
    let thread = dirty.listen();
    assert!(thread.called_within(Duration::ZERO));
    dirty.answer();
    assert!(!thread.called_within(Duration::ZERO));
    drop(thread);
    assert!(!is_called(&dirty));
}

#[test]
fn a_call_during_the_work_is_left_to_the_task_when_the_thread_goes() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    dirty.mark(Urgency::CanWait);
    drop(thread);
    assert!(is_called(&dirty));
}

impl Dirty {
    /// Calls as soon as a thread waits, which then waits no longer.
    pub(in crate::commit) fn mark_when_waited_for(&self, urgency: Urgency) {
        while self.state().listener != Listener::IdleThread {
            std::thread::yield_now();
        }
        self.mark(urgency);
    }
}

/// Waits while another thread calls.
fn while_called(calls: impl FnOnce() + Send, wait: impl FnOnce()) {
    std::thread::scope(|scope| {
        scope.spawn(calls);
        wait();
    });
}

fn call_while_waiting(dirty: &Dirty, urgency: Urgency, wait: impl FnOnce()) {
    while_called(|| dirty.mark_when_waited_for(urgency), wait);
}

#[test]
fn a_call_wakes_a_thread_that_waits() {
    for urgency in [Urgency::CanWait, Urgency::Urgent] {
        let dirty = Dirty::default();
        let thread = dirty.listen();
        call_while_waiting(&dirty, urgency, || {
            assert!(thread.called_within(Duration::MAX));
        });
    }
}

#[test]
fn an_urgent_call_ends_the_wait_for_more() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    dirty.mark(Urgency::CanWait);
    call_while_waiting(&dirty, Urgency::Urgent, || {
        thread.gather(Duration::MAX, Crowd::NOBODY);
    });
    assert_eq!(dirty.urgent(), 1);
}

#[test]
fn who_lingers_waits_until_the_first_of_them_is_due() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    dirty.mark(Urgency::Lingers(Duration::MAX));
    let calls = || {
        dirty.mark_when_waited_for(Urgency::Lingers(Duration::from_millis(1)));
        dirty.mark(Urgency::Lingers(Duration::from_secs(3600)));
    };
    while_called(calls, || thread.gather(Duration::ZERO, Crowd::NOBODY));
    assert_eq!(dirty.answer(), Some(0));
}

#[test]
fn who_lingers_goes_with_whoever_is_in_more_of_a_hurry() {
    for (urgency, urgent) in [(Urgency::CanWait, 0), (Urgency::Urgent, 1)] {
        let dirty = Dirty::default();
        let thread = dirty.listen();
        dirty.mark(Urgency::Lingers(Duration::MAX));
        call_while_waiting(&dirty, urgency, || {
            thread.gather(Duration::ZERO, Crowd::NOBODY);
        });
        assert_eq!(dirty.answer(), Some(urgent));
        assert!(!is_called(&dirty));
    }
}

#[test]
fn a_call_wakes_where_a_round_is_to_come_earlier() {
    use Urgency::{CanWait, Lingers, Urgent};
    let [soon, late] = [10, 20].map(|seconds| Lingers(Duration::from_secs(seconds)));
    let mut call = Call::default();
    let calls = [
        (Lingers(Duration::MAX), true),
        (late, true),
        (Lingers(Duration::MAX), false),
        (soon, true),
        (late, false),
        (CanWait, true),
        (Lingers(Duration::ZERO), false),
        (CanWait, false),
        (Urgent, true),
        (Urgent, false),
        (CanWait, false),
    ];
    for (urgency, wakes) in calls {
        assert_eq!(call.add(urgency), wakes, "{urgency:?}");
    }
    assert_eq!(call.urgent, 2);
}

#[test]
fn more_is_waited_for_only_where_somebody_calls_and_nobody_is_in_a_hurry() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    // These return at once.
    thread.gather(Duration::MAX, Crowd::NOBODY);
    dirty.mark(Urgency::Urgent);
    dirty.mark(Urgency::CanWait);
    thread.gather(Duration::MAX, Crowd::NOBODY);
    dirty.answer();
    dirty.mark(Urgency::CanWait);
    thread.gather(Duration::ZERO, Crowd::NOBODY);
    assert!(is_called(&dirty));
}

const CROWD: Crowd = Crowd {
    calls: 3,
    patience: Duration::MAX,
};

#[test]
fn a_crowd_is_waited_for_until_the_last_of_it_calls() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    dirty.mark(Urgency::Urgent);
    let calls = || {
        dirty.mark_when_waited_for(Urgency::Urgent);
        // Counts for nobody.
        dirty.mark(Urgency::CanWait);
        dirty.mark(Urgency::Urgent);
    };
    while_called(calls, || {
        thread.gather(Duration::MAX, CROWD);
        assert_eq!(dirty.urgent(), 3);
    });
    assert_eq!(dirty.answer(), Some(3));
    assert_eq!(dirty.answer(), None);
    assert_eq!(dirty.urgent(), 0);
    // What comes during the work counts for the next.
    dirty.mark(Urgency::Urgent);
    assert_eq!(dirty.urgent(), 1);
}

#[test]
fn a_crowd_that_is_there_or_has_no_time_is_not_waited_for() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    // Nobody calls at all.
    thread.gather(Duration::MAX, CROWD);
    dirty.mark(Urgency::Urgent);
    let hasty = Crowd {
        patience: Duration::ZERO,
        ..CROWD
    };
    thread.gather(Duration::MAX, hasty);
    // Nobody waits for longer than for those who are in no hurry.
    thread.gather(Duration::ZERO, CROWD);
    dirty.mark(Urgency::Urgent);
    dirty.mark(Urgency::Urgent);
    dirty.mark(Urgency::Urgent);
    thread.gather(Duration::MAX, CROWD);
    assert_eq!(dirty.answer(), Some(4));
}

#[test]
fn the_first_urgent_call_begins_the_wait_for_its_crowd() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    dirty.mark(Urgency::CanWait);
    let calls = || (0..3).for_each(|_| dirty.mark_when_waited_for(Urgency::Urgent));
    while_called(calls, || {
        thread.gather(Duration::MAX, CROWD);
        assert_eq!(dirty.urgent(), 3);
    });
}

#[test]
fn a_crowd_of_which_nobody_comes_is_given_up() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    dirty.mark(Urgency::Urgent);
    let slow = Crowd {
        patience: Duration::from_millis(4),
        ..CROWD
    };
    thread.gather(Duration::MAX, slow);
    assert_eq!(dirty.urgent(), 1);
}

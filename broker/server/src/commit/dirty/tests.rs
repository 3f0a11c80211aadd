use futures::FutureExt as _;

use super::*;

/// Waits for ever for more.
const PATIENT: Urgency = Urgency::CanWait(Duration::MAX);

fn is_called(dirty: &Dirty) -> bool {
    dirty.called().now_or_never().is_some()
}

#[test]
fn calls_that_nobody_has_answered_are_one() {
    let dirty = Dirty::default();
    assert!(!is_called(&dirty));
    dirty.mark(Urgency::Urgent);
    dirty.mark(PATIENT);
    assert!(is_called(&dirty));
    dirty.answer();
    assert!(!is_called(&dirty));
    dirty.mark(PATIENT);
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
    dirty.mark(PATIENT);
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
    for urgency in [PATIENT, Urgency::Urgent] {
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
    dirty.mark(PATIENT);
    call_while_waiting(&dirty, Urgency::Urgent, || {
        thread.gather(Duration::MAX, Crowd::NOBODY);
    });
    assert_eq!(dirty.state().call, Some(Due::AtOnce));
}

#[test]
fn the_wait_for_more_ends_when_the_first_of_the_calls_is_due() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    dirty.mark(PATIENT);
    let due = || {
        dirty.mark_when_waited_for(Urgency::CanWait(Duration::from_millis(1)));
        dirty.mark(Urgency::CanWait(Duration::from_secs(3600)));
    };
    while_called(due, || thread.gather(Duration::MAX, Crowd::NOBODY));
    assert!(is_called(&dirty));
}

#[test]
fn an_earlier_due_replaces_a_later() {
    let by = |seconds| Due::By(Some(Instant::now() + Duration::from_secs(seconds)));
    let (soon, late) = (by(10), by(20));
    let order = [Due::AtOnce, soon, late, Due::By(None)];
    for (at, one) in order.iter().enumerate() {
        for (than, other) in order.iter().enumerate() {
            assert_eq!(one.is_before(*other), at < than, "{one:?} {other:?}");
        }
    }
    assert!(late.left() > Duration::from_secs(19) && by(0).left().is_zero());
}

#[test]
fn more_is_waited_for_only_where_somebody_calls_and_nobody_is_in_a_hurry() {
    let dirty = Dirty::default();
    let thread = dirty.listen();
    // These return at once.
    thread.gather(Duration::MAX, Crowd::NOBODY);
    dirty.mark(Urgency::Urgent);
    dirty.mark(PATIENT);
    thread.gather(Duration::MAX, Crowd::NOBODY);
    dirty.answer();
    dirty.mark(Urgency::CanWait(Duration::ZERO));
    thread.gather(Duration::MAX, Crowd::NOBODY);
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
        dirty.mark(PATIENT);
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
    dirty.mark(PATIENT);
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

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;

use super::*;

fn round(more: bool, unrecorded: bool) -> CommitRound {
    CommitRound {
        more,
        unrecorded,
        ..CommitRound::default()
    }
}

#[test]
fn only_want_of_space_makes_a_pause() {
    assert_eq!(after(&round(false, false), false), Next::WhenCalled);
    assert_eq!(after(&round(false, true), false), Next::AfterPause);
    assert_eq!(after(&round(true, true), false), Next::AtOnce);
}

#[test]
fn nobody_waits_for_a_record() {
    let round = CommitRound {
        only_records: true,
        ..round(true, false)
    };
    assert_eq!(after(&round, false), Next::ToRecord);
    assert_eq!(after(&round, true), Next::WhenDue);
}

#[test]
fn an_idle_directory_is_settled_round_by_round() {
    let settles_on = CommitRound {
        settles_on: true,
        ..round(true, false)
    };
    assert_eq!(after(&settles_on, false), Next::ToSettle);
    let (dirty, stop) = (Dirty::default(), CancellationToken::new());
    let rounds: [Step<'_>; 3] = [
        (Next::ToSettle, false, &nothing),
        (Next::ToSettle, false, &nothing),
        (Next::WhenCalled, false, &nothing),
    ];
    // By a thread that may stay, or by one after the other.
    let ended = chain_of(&dirty, Some(NONE), &stop, &rounds);
    assert_eq!(ended, (Ok(Next::WhenCalled), 3));
    let ended = chain_of(&dirty, None, &stop, &rounds);
    assert_eq!(ended, (Ok(Next::ToSettle), 1));
}

#[test]
fn a_round_is_told_whether_it_was_called_for() {
    let (dirty, stop) = (Dirty::default(), CancellationToken::new());
    let mut told = Vec::new();
    let ended = chain(&dirty, Some(NONE), &stop, |is_called| {
        told.push(is_called);
        if told.len() == 1 {
            dirty.mark(Urgency::Urgent);
        }
        Ok::<Ran, ()>(Ran {
            next: if told.len() == 3 {
                Next::WhenCalled
            } else {
                Next::ToSettle
            },
            puts_off: false,
            took: Duration::ZERO,
        })
    });
    assert_eq!(
        (ended, told),
        (Ok(Next::WhenCalled), vec![false, true, false])
    );
}

#[test]
fn a_relaxed_directory_syncs_once_in_a_while_also_under_load() {
    assert_eq!(after(&round(true, false), true), Next::WhenDue);
    assert_eq!(after(&round(false, false), true), Next::WhenCalled);
    assert_eq!(after(&round(true, true), true), Next::AfterPause);
}

#[test]
fn a_round_expects_as_many_as_waited_at_the_same_time_and_no_few() {
    let took = Duration::from_micros(150);
    let crowd = crowd_after(5, CROWD_MIN, took);
    assert_eq!((crowd.calls, crowd.patience), (CROWD_MIN + 5, took));
    // A lone client, and a few, are not held up.
    for answered in 0..CROWD_MIN {
        assert_eq!(crowd_after(answered, 0, took).calls, 0);
    }
}

/// Waits for nothing.
const NONE: Patience = Patience {
    next: Duration::ZERO,
    more: Duration::ZERO,
};

/// Waits until more is called for, however long that takes.
const FOR_EVER: Patience = Patience {
    more: Duration::MAX,
    ..NONE
};

/// What a round says of itself, and what others do during it.
type Step<'a> = (Next, bool, &'a dyn Fn());

/// Runs a chain of these rounds, with what others do during each. Returns how it ended, and how many ran.
fn chain_of(
    dirty: &Dirty,
    patience: Option<Patience>,
    stop: &CancellationToken,
    rounds: &[Step<'_>],
) -> (Result<Next, ()>, usize) {
    let mut left = rounds.iter();
    let ended = chain(dirty, patience, stop, |_| {
        let (next, puts_off, meanwhile) = *left.next().ok_or(())?;
        meanwhile();
        Ok(Ran {
            next,
            puts_off,
            took: Duration::MAX,
        })
    });
    (ended, rounds.len() - left.len())
}

fn nothing() {}

/// A round that another follows at once, and that.
fn two_rounds(puts_off: bool, meanwhile: &dyn Fn()) -> [Step<'_>; 2] {
    [
        (Next::AtOnce, puts_off, meanwhile),
        (Next::WhenCalled, false, &nothing),
    ]
}

#[test]
fn rounds_follow_each_other_until_nobody_calls() {
    let (dirty, stop) = (Dirty::default(), CancellationToken::new());
    let calls = || dirty.mark(Urgency::Urgent);
    let rounds: [Step<'_>; 4] = [
        (Next::AtOnce, false, &nothing),
        (Next::ToRecord, false, &nothing),
        (Next::WhenCalled, false, &calls),
        (Next::WhenCalled, false, &nothing),
    ];
    let ended = chain_of(&dirty, Some(NONE), &stop, &rounds);
    assert_eq!(ended, (Ok(Next::WhenCalled), 4));
}

#[test]
fn a_call_that_the_next_round_answers_makes_no_third() {
    let (dirty, stop) = (Dirty::default(), CancellationToken::new());
    let calls = || dirty.mark(Urgency::Urgent);
    let rounds = two_rounds(false, &calls);
    let ended = chain_of(&dirty, Some(NONE), &stop, &rounds);
    assert_eq!(ended, (Ok(Next::WhenCalled), 2));
}

#[test]
fn who_was_put_off_does_not_wait_for_more() {
    let (dirty, stop) = (Dirty::default(), CancellationToken::new());
    let calls = || dirty.mark(Urgency::CanWait);
    let rounds = two_rounds(true, &calls);
    let ended = chain_of(&dirty, Some(FOR_EVER), &stop, &rounds);
    assert_eq!(ended, (Ok(Next::WhenCalled), 2));
}

#[test]
fn a_round_waits_for_as_many_as_the_one_before_answered_and_left_waiting() {
    let (dirty, stop) = (Dirty::default(), CancellationToken::new());
    for _ in 0..CROWD_MIN {
        dirty.mark(Urgency::Urgent);
    }
    let another = || dirty.mark(Urgency::Urgent);
    let called_again = AtomicUsize::new(0);
    let all = || assert_eq!(called_again.load(Ordering::SeqCst), CROWD_MIN);
    let rounds: [Step<'_>; 2] = [
        (Next::WhenCalled, false, &another),
        (Next::WhenCalled, false, &all),
    ];
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..CROWD_MIN {
                called_again.fetch_add(1, Ordering::SeqCst);
                dirty.mark_when_waited_for(Urgency::Urgent);
            }
        });
        chain_of(&dirty, Some(FOR_EVER), &stop, &rounds)
    });
    assert_eq!(ended, (Ok(Next::WhenCalled), 2));
}

#[test]
fn a_round_at_once_waits_for_the_call_of_what_is_being_appended() {
    let (dirty, stop) = (Dirty::default(), CancellationToken::new());
    let rounds = two_rounds(false, &nothing);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| dirty.mark_when_waited_for(Urgency::Urgent));
        chain_of(&dirty, Some(FOR_EVER), &stop, &rounds)
    });
    assert_eq!(ended, (Ok(Next::WhenCalled), 2));
}

#[test]
fn a_pause_a_stop_and_a_thread_that_may_not_stay_end_a_chain() {
    let (dirty, stop) = (Dirty::default(), CancellationToken::new());
    let calls = || dirty.mark(Urgency::Urgent);
    let paused: [Step<'_>; 1] = [(Next::AfterPause, false, &calls)];
    let ended = chain_of(&dirty, Some(NONE), &stop, &paused);
    assert_eq!(ended, (Ok(Next::AfterPause), 1));
    let busy = two_rounds(false, &calls);
    let ended = chain_of(&dirty, None, &stop, &busy);
    assert_eq!(ended, (Ok(Next::AtOnce), 1));
    stop.cancel();
    let ended = chain_of(&dirty, Some(NONE), &stop, &busy);
    assert_eq!(ended, (Ok(Next::AtOnce), 1));
}

#[test]
fn after_a_failure_the_task_is_called_again() {
    let (dirty, stop) = (Dirty::default(), CancellationToken::new());
    dirty.mark(Urgency::Urgent);
    let ended = chain_of(&dirty, Some(NONE), &stop, &[]);
    assert_eq!(ended, (Err(()), 0));
    assert_eq!(dirty.called().now_or_never(), None);
    dirty.mark(Urgency::Urgent);
    assert_eq!(dirty.called().now_or_never(), Some(()));
}

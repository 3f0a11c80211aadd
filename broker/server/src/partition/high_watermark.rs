//! The high watermark, as a pure function (P5), and those who wait for it.

use std::sync::{Mutex, PoisonError, Weak};

use esker_protocol::Offset;
use tokio::sync::Notify;

/// The high watermark: the least durable end over the maximal ISR, and only while the committed ISR
/// has the effective `min.insync.replicas`. It never goes back within an epoch.
///
/// `durable_ends` are those of the maximal ISR (committed and pending members), the leader's own
/// included.
#[must_use]
pub fn advance(
    current: Offset,
    durable_ends: impl IntoIterator<Item = Offset>,
    committed_isr_size: usize,
    min_isr_effective: usize,
) -> Offset {
    if committed_isr_size < min_isr_effective {
        return current;
    }
    durable_ends
        .into_iter()
        .min()
        .map_or(current, |least| least.max(current))
}

/// Those who wait until the high watermark passes an offset.
///
/// A waiter is woken once and then forgotten; it looks at the partition again and registers anew
/// where it must go on waiting.
#[derive(Debug, Default)]
pub struct Waiters(Mutex<Vec<Waiter>>);

#[derive(Debug)]
struct Waiter {
    above: Offset,
    wake: Weak<Notify>,
}

/// Below this many entries a registration does not look for waiters that have gone.
const SWEEP_LENGTH_MIN: usize = 16;

impl Waiters {
    /// Wakes `wake` when the high watermark is above `above`. The caller must look at the high
    /// watermark once more after registering.
    pub fn register(&self, above: Offset, wake: Weak<Notify>) {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Sweeping only when the list is about to grow keeps the cost of one registration constant
        // over time, and the list at most twice as long as there are waiters.
        if waiters.len() >= SWEEP_LENGTH_MIN && waiters.len() == waiters.capacity() {
            waiters.retain(|waiter| waiter.wake.strong_count() > 0);
        }
        waiters.push(Waiter { above, wake });
    }

    /// Wakes those whose offset `high_watermark` has passed.
    pub fn wake(&self, high_watermark: Offset) {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.retain(|waiter| {
            let stays = waiter.above >= high_watermark;
            if !stays && let Some(wake) = waiter.wake.upgrade() {
                wake.notify_one();
            }
            stays
        });
    }

    /// Wakes all: leadership, log or configuration has changed.
    pub fn wake_all(&self) {
        for waiter in self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            if let Some(wake) = waiter.wake.upgrade() {
                wake.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_is_the_least_durable_end_and_never_goes_back() {
        let ends = |list: &[i64]| list.iter().map(|&end| Offset(end)).collect::<Vec<_>>();
        assert_eq!(advance(Offset(3), ends(&[9, 5, 7]), 3, 2), Offset(5));
        assert_eq!(advance(Offset(8), ends(&[9, 5, 7]), 3, 2), Offset(8));
        assert_eq!(advance(Offset(3), ends(&[]), 0, 0), Offset(3));
    }

    #[test]
    fn it_stands_still_while_the_committed_isr_is_too_small() {
        assert_eq!(advance(Offset(3), [Offset(9), Offset(9)], 1, 2), Offset(3));
    }

    #[tokio::test]
    async fn a_waiter_is_woken_when_its_offset_is_passed() {
        let waiters = Waiters::default();
        let (near, far) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        waiters.register(Offset(4), Arc::downgrade(&near));
        waiters.register(Offset(5), Arc::downgrade(&far));
        waiters.wake(Offset(5));
        near.notified().await;
        let still_waiting = futures::poll!(std::pin::pin!(far.notified()));
        assert!(still_waiting.is_pending());
        waiters.wake_all();
        far.notified().await;
    }

    #[test]
    fn waiters_that_went_away_are_swept() {
        let waiters = Waiters::default();
        for _ in 0..10_000 {
            waiters.register(Offset(0), Arc::downgrade(&Arc::new(Notify::new())));
        }
        assert!(waiters.0.lock().unwrap().len() <= 2 * SWEEP_LENGTH_MIN);
    }
}

//! How far an upload has come, for the caller who gives up one that stands still.
//!
//! Only what was never reached before counts: a try that begins anew, and fails where the one before
//! it failed, is no progress. So an upload has a bounded number of steps, and either comes to its end
//! or stands still, however slow the store is.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How far an upload has come.
#[derive(Debug, Default)]
pub struct Progress(watch::Sender<Reached>);

#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    /// The upload waits for others to end, and none of its time counts.
    queued: bool,
    /// Everything before the present step.
    finished: u64,
    /// The most that any try of the present step has reached.
    furthest: u64,
}

impl Progress {
    /// Waits until nothing was reached for so long. Never ends while the upload waits for its turn:
    /// those before it are watched too.
    pub async fn stalled(&self, time_max: Duration) {
        let mut seen = self.0.subscribe();
        loop {
            let queued = seen.borrow_and_update().queued;
            // The sender is borrowed, so that a change, or none, is all that there can be.
            if queued {
                let _ = seen.changed().await;
            } else if timeout(time_max, seen.changed()).await.is_err() {
                return;
            }
        }
    }

    /// The upload waits for its turn.
    pub(super) fn queue(&self) {
        self.0.send_modify(|reached| reached.queued = true);
    }

    /// Its turn has come.
    pub(super) fn start(&self) {
        self.0.send_modify(|reached| reached.queued = false);
    }

    /// A try of the present step has come so far.
    pub(super) fn reach(&self, bytes: u64) {
        self.0.send_if_modified(|reached| {
            let at = reached.finished.saturating_add(bytes);
            let is_further = at > reached.furthest;
            reached.furthest = reached.furthest.max(at);
            is_further
        });
    }

    /// The present step is done, and is not begun again.
    pub(super) fn finish(&self) {
        self.0.send_modify(|reached| {
            reached.furthest += 1;
            reached.finished = reached.furthest;
        });
    }
}

//! How long to wait between tries, and when to stop.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::ClientError;

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The tries of one call.
pub(crate) struct Retry {
    deadline: Instant,
    pause: Duration,
    attempts: usize,
}

impl Retry {
    pub(crate) fn new(deadline: Instant) -> Retry {
        Retry {
            deadline,
            pause: PAUSE_MIN,
            attempts: 0,
        }
    }

    /// How many tries have failed.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts
    }

    /// Waits before the next try, or returns why there is none.
    pub(crate) async fn pause(
        &mut self,
        what: impl FnOnce() -> String,
        error: ClientError,
    ) -> Result<(), ClientError> {
        if !error.is_retriable() {
            return Err(error);
        }
        if Instant::now() + self.pause >= self.deadline {
            return Err(ClientError::Deadline {
                what: what(),
                last: Some(Box::new(error)),
            });
        }
        tracing::debug!(%error, attempts = self.attempts, "trying again");
        sleep(self.pause).await;
        self.attempts += 1;
        self.pause = PAUSE_MAX.min(self.pause * 2);
        Ok(())
    }
}

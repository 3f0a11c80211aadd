//! The product's environment, simulated.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use esker_protocol::Timestamp;
use esker_server::environment::{Clock, Spawner, Work};
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::executor::{Executor, Group};
use crate::random::Random;

/// The wall clock's time when a run begins.
const EPOCH_MS: i64 = 1_800_000_000_000;

/// A wall clock that follows the simulated time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimClock(pub(crate) Instant);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(EPOCH_MS.saturating_add(elapsed))
    }
}

/// Runs a broker's tasks in its group. Work runs where it is asked for, or as a task of its own that
/// may come late, as on the threads of a loaded machine: the seed chooses for the whole process.
pub(crate) struct SimSpawner {
    pub(crate) executor: Executor,
    pub(crate) group: Group,
    pub(crate) random: Random,
    pub(crate) is_inline: bool,
}

impl Spawner for SimSpawner {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.executor.spawn(self.group, task);
    }

    fn execute(&self, work: Work, job: Box<dyn FnOnce() + Send>) {
        if self.is_inline(work) {
            job();
            return;
        }
        let delay_ms = match self.random.below(8) {
            0 => self.random.between(1, 20),
            _ => 0,
        };
        self.executor.spawn(
            self.group,
            Box::pin(async move {
                if delay_ms > 0 {
                    sleep(Duration::from_millis(delay_ms)).await;
                } else {
                    turn().await;
                }
                job();
            }),
        );
    }

    // A crash, a cut or an append may come between any two.
    fn may_stay(&self) -> bool {
        false
    }

    fn is_inline(&self, work: Work) -> bool {
        self.is_inline || work == Work::PageCache
    }
}

/// Lets others go first, once.
async fn turn() {
    let mut waited = false;
    poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

//! The two seams through which this crate gets threads and tasks.
//!
//! zstd and checksums never run on the reactor: they are jobs for a [`CpuPool`]. Work that must
//! outlive its caller (a download that goes on into the cache) is a task for a [`Spawner`]. Both are
//! handed in; in simulation the pool runs jobs inline and the spawner is the one paused runtime.

use futures::future::BoxFuture;
use tokio::sync::oneshot;

/// Runs work that computes, or reads local files, off the reactor.
pub trait CpuPool: Send + Sync + std::fmt::Debug {
    /// Runs `job`, now or later, on any thread. A pool that shuts down may drop it.
    fn run(&self, job: Box<dyn FnOnce() + Send>);
}

/// Starts tasks that outlive the call that needed them.
pub trait Spawner: Send + Sync + std::fmt::Debug {
    /// Runs `future` to its end in the background. A spawner that shuts down may drop it.
    fn spawn(&self, future: BoxFuture<'static, ()>);
}

/// A pool that runs every job at once on the caller's thread: for simulation, tools and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inline;

impl CpuPool for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

/// The pool or the spawner dropped the work: the process is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker pool is shutting down")]
pub struct Stopped;

/// Runs `job` on the pool and waits for its answer.
///
/// # Errors
/// [`Stopped`] when the pool dropped the job.
pub async fn on_cpu<T: Send + 'static>(
    pool: &dyn CpuPool,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let (answer, answered) = oneshot::channel();
    pool.run(Box::new(move || {
        // A caller that went away does not need the answer.
        let _ = answer.send(job());
    }));
    answered.await.map_err(|_| Stopped)
}

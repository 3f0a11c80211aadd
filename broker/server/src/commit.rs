//! The loop that runs group commit for one log directory (P6).
//!
//! Appends only mark the directory as dirty; one round then syncs whatever was dirtied meanwhile,
//! so that rounds grow by themselves under load and no timer delays a lone record.

use std::sync::Arc;
use std::time::Duration;

use esker_storage::LogDirectory;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::broker::Shared;
use crate::config::Durability;
use crate::environment::Work;

/// How often a relaxed broker syncs what it has written. Nobody waits for it; it bounds what a
/// restart must scan.
const RELAXED_ROUND_INTERVAL: Duration = Duration::from_secs(1);

/// How long a round that found no space waits before the next.
const STARVED_PAUSE: Duration = Duration::from_millis(100);

/// After so long without a write a directory is looked at, and what only its journal has is synced
/// in its files, which may then close.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Tells a directory's commit loop that there is something to sync.
#[derive(Debug, Clone, Default)]
pub struct Dirty(Arc<Notify>);

impl Dirty {
    /// Asks for a round.
    pub fn mark(&self) {
        self.0.notify_one();
    }
}

/// Runs rounds until `stop`, or until the directory has failed.
pub async fn run(
    shared: &Shared,
    directory: Arc<LogDirectory>,
    dirty: Dirty,
    stop: CancellationToken,
) {
    loop {
        let mut settles = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = dirty.0.notified() => false,
            // A deletion or a roll that failed fails the directory as well, and nobody appends to
            // a failed one: without a look of its own the process would never say so (P6).
            () = tokio::time::sleep(IDLE_INTERVAL) => {
                let rests = directory.is_settled() && !directory.needs_commit();
                if !directory.is_failed() && rests {
                    continue;
                }
                true
            }
        };
        if shared.config.durability == Durability::Relaxed {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELAXED_ROUND_INTERVAL) => {}
            }
        }
        loop {
            let round = {
                let directory = Arc::clone(&directory);
                // Once: what comes meanwhile is load, and that is what the journal is for.
                let settles = std::mem::take(&mut settles);
                shared
                    .environment
                    .run(Work::Blocking, move || match settles {
                        true => directory.settle_round(),
                        false => directory.commit_round(),
                    })
                    .await
            };
            match round {
                Ok(round) => {
                    shared.metrics.committed();
                    for log in &round.published {
                        shared.partitions.published(log);
                    }
                    if !round.more {
                        if directory.needs_commit() {
                            // Something could not be written for want of space; it is tried again.
                            retry(&dirty, &stop).await;
                        }
                        break;
                    }
                }
                Err(failure) => {
                    error!(directory = %directory.path().display(), error = %failure, "log directory failed");
                    shared.partitions.directory_failed(&directory);
                    return;
                }
            }
        }
    }
}

async fn retry(dirty: &Dirty, stop: &CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = tokio::time::sleep(STARVED_PAUSE) => dirty.mark(),
    }
}

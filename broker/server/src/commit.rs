//! The loop that runs group commit for one log directory (P6).
//!
//! Appends only mark the directory as dirty; one round then syncs whatever was dirtied meanwhile,
//! so that rounds grow by themselves under load and no timer delays a lone record.

use std::sync::Arc;
use std::time::Duration;

use esker_storage::{CommitRound, DirectoryFailed, LogDirectory};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::broker::Shared;
use crate::config::Durability;
use crate::environment::Work;

/// How often a relaxed broker syncs what it has written. Nobody waits for it; it bounds what a
/// restart must scan.
const RELAXED_ROUND_INTERVAL: Duration = Duration::from_secs(1);

/// How long it is until the next round where one found no space.
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
    shared: &Arc<Shared>,
    directory: Arc<LogDirectory>,
    dirty: Dirty,
    stop: CancellationToken,
) {
    let is_relaxed = shared.config.durability == Durability::Relaxed;
    loop {
        let settles = tokio::select! {
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
        if is_relaxed {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELAXED_ROUND_INTERVAL) => {}
            }
        }
        let job = {
            let (shared, directory) = (Arc::clone(shared), Arc::clone(&directory));
            let stop = stop.clone();
            move || rounds(&shared, &directory, settles, &stop)
        };
        match shared.environment.run(Work::Blocking, job).await {
            Ok(Next::AfterPause) => retry(&dirty, &stop).await,
            Ok(Next::AtOnce | Next::WhenDue) => dirty.mark(),
            Ok(Next::WhenCalled) => {}
            Err(failure) => {
                error!(directory = %directory.path().display(), error = %failure, "log directory failed");
                shared.partitions.directory_failed(&directory);
                return;
            }
        }
    }
}

/// Runs rounds and tells who waits for them, for as long as one must follow the other at once. All of
/// them are one piece of work: to hand over each would cost a busy directory more than many a sync.
fn rounds(
    shared: &Shared,
    directory: &LogDirectory,
    settles: bool,
    stop: &CancellationToken,
) -> Result<Next, DirectoryFailed> {
    let is_relaxed = shared.config.durability == Durability::Relaxed;
    // Once: what comes meanwhile is load, and that is what the journal is for.
    let mut round = match settles {
        true => directory.settle_round()?,
        false => directory.commit_round()?,
    };
    let mut left = shared.environment.spawner.chain_max();
    loop {
        shared.metrics.committed();
        for log in &round.published {
            shared.partitions.published(log);
        }
        match after(&round, is_relaxed) {
            Next::AtOnce if left > 0 && !stop.is_cancelled() => {
                left -= 1;
                round = directory.commit_round()?;
            }
            next => return Ok(next),
        }
    }
}

/// When the next round comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Something was written meanwhile, or waits for its turn.
    AtOnce,
    /// Something could not be written for want of space; it is tried again.
    AfterPause,
    /// In a relaxed directory there is more to do, for which nobody waits.
    WhenDue,
    /// When somebody appends.
    WhenCalled,
}

/// What follows a round is what the round says, and not what the directory needs by now: what was
/// appended after it has called for a round of its own, which must come without a pause.
fn after(round: &CommitRound, is_relaxed: bool) -> Next {
    if round.more && !is_relaxed {
        Next::AtOnce
    } else if !round.starved.is_empty() || round.unrecorded {
        Next::AfterPause
    } else if round.more {
        Next::WhenDue
    } else {
        Next::WhenCalled
    }
}

async fn retry(dirty: &Dirty, stop: &CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        // Who appends meanwhile may need no space.
        () = dirty.0.notified() => dirty.mark(),
        () = tokio::time::sleep(STARVED_PAUSE) => dirty.mark(),
    }
}

#[cfg(test)]
mod tests {
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
    fn a_relaxed_directory_syncs_once_in_a_while_also_under_load() {
        assert_eq!(after(&round(true, false), true), Next::WhenDue);
        assert_eq!(after(&round(false, false), true), Next::WhenCalled);
        assert_eq!(after(&round(true, true), true), Next::AfterPause);
    }
}

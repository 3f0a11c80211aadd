//! The loop that runs group commit for one log directory (P6).
//!
//! Appends only mark the directory as dirty; one round then syncs whatever was dirtied meanwhile,
//! so that rounds grow by themselves under load. No timer delays who does nothing but wait, unless many
//! others who do are about to call as well ([`crowd_after`]).

mod dirty;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_protocol::TopicId;
use esker_storage::{CommitRound, DirectoryFailed, LogDirectory};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::broker::Shared;
use crate::config::Durability;
use crate::environment::Work;

use dirty::Crowd;
pub use dirty::{Dirty, Urgency};

/// How often a relaxed broker syncs what it has written. Nobody waits for it; it bounds what a
/// restart must scan.
const RELAXED_ROUND_INTERVAL: Duration = Duration::from_secs(1);

/// How long it is until the next round where one found no space.
const STARVED_PAUSE: Duration = Duration::from_millis(100);

/// After so long without a write a directory is looked at, and what only its journal has is synced
/// in its files, which may then close.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a thread that may stay waits.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For a call to the next round: to hand the work over anew costs a busy directory more than many
    /// a sync.
    next: Duration,
    /// For more to take along, before a round that nobody is in a hurry for, and for a crowd.
    more: Duration,
}

const PATIENCE: Patience = Patience {
    next: Duration::from_millis(10),
    more: Duration::from_millis(1),
};

/// With fewer that wait at the same time each is better served at once: measured, with 8 a second round
/// costs them less than waiting for each other does.
const CROWD_MIN: usize = 16;

/// The partitions of which a round has made more durable and nobody was told yet.
#[derive(Debug, Default)]
struct Published {
    partitions: Mutex<BTreeSet<(TopicId, i32)>>,
    arrived: Notify,
}

impl Published {
    fn add(&self, round: &CommitRound) {
        if round.published.is_empty() {
            return;
        }
        let keys = (round.published.iter()).map(|log| (log.topic_id(), log.partition()));
        self.lock().extend(keys);
        self.arrived.notify_one();
    }

    fn take(&self) -> BTreeSet<(TopicId, i32)> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<(TopicId, i32)>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs rounds until `stop`, or until the directory has failed.
pub async fn run(
    shared: &Arc<Shared>,
    directory: Arc<LogDirectory>,
    dirty: Dirty,
    stop: CancellationToken,
) {
    let rounds = Arc::new(Rounds {
        shared: Arc::clone(shared),
        directory,
        is_relaxed: shared.config.durability == Durability::Relaxed,
        dirty,
        published: Published::default(),
        stop,
    });
    let mut settles_on = false;
    loop {
        let is_idle = tokio::select! {
            biased;
            () = rounds.stop.cancelled() => return,
            () = rounds.dirty.called() => false,
            () = std::future::ready(()), if settles_on => true,
            // A deletion or a roll that failed fails the directory as well, and nobody appends to
            // a failed one: without a look of its own the process would never say so (P6).
            () = tokio::time::sleep(IDLE_INTERVAL) => {
                let rests = rounds.directory.is_settled() && !rounds.directory.needs_commit();
                if !rounds.directory.is_failed() && rests {
                    continue;
                }
                true
            }
        };
        if rounds.is_relaxed {
            tokio::select! {
                biased;
                () = rounds.stop.cancelled() => return,
                () = tokio::time::sleep(RELAXED_ROUND_INTERVAL) => {}
            }
        }
        let running = Arc::clone(&rounds);
        let job = move || running.run(is_idle);
        let ran = while_telling(shared, &rounds, job).await;
        settles_on = matches!(ran, Ok(Next::ToSettle));
        match ran {
            Ok(Next::AfterPause) => retry(&rounds.dirty, &rounds.stop).await,
            Ok(Next::AtOnce | Next::ToRecord | Next::WhenDue) => rounds.dirty.mark(Urgency::Urgent),
            Ok(Next::WhenCalled | Next::ToSettle) => {}
            Err(failure) => {
                error!(directory = %rounds.directory.path().display(), error = %failure, "log directory failed");
                shared.partitions.directory_failed(&rounds.directory);
                return;
            }
        }
    }
}

/// Runs `job` on a thread that may wait, and meanwhile tells who waits for what its rounds publish.
/// From here: whoever is woken runs on this thread, which a thread of its own would have to wake for
/// each of them.
async fn while_telling<T: Send + 'static>(
    shared: &Shared,
    rounds: &Rounds,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    let published = &rounds.published;
    let tell = || {
        for (topic, partition) in published.take() {
            shared.partitions.published(topic, partition);
        }
    };
    let mut outcome = pin!(shared.environment.run(Work::Blocking, job));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            biased;
            outcome = &mut outcome => {
                tell();
                return outcome;
            }
            () = rounds.stop.cancelled(), if !is_stopping => {
                // Nobody lingers any more.
                is_stopping = true;
                rounds.dirty.mark(Urgency::Urgent);
            }
            () = published.arrived.notified() => tell(),
        }
    }
}

/// The rounds of a directory.
struct Rounds {
    shared: Arc<Shared>,
    directory: Arc<LogDirectory>,
    is_relaxed: bool,
    dirty: Dirty,
    published: Published,
    stop: CancellationToken,
}

impl Rounds {
    /// Runs those that are one piece of work.
    fn run(&self, is_idle: bool) -> Result<Next, DirectoryFailed> {
        let stays = self.shared.environment.spawner.may_stay() && !self.is_relaxed;
        let mut is_idle = is_idle;
        let round = |is_called: bool| {
            let began = Instant::now();
            // What comes meanwhile is load, and that is what the journal is for.
            let round = match is_idle && !is_called {
                true => self.directory.idle_round()?,
                false => self.directory.commit_round()?,
            };
            is_idle = round.settles_on;
            let took = began.elapsed();
            self.shared.metrics.committed();
            self.published.add(&round);
            Ok(Ran {
                next: after(&round, self.is_relaxed),
                puts_off: round.puts_off,
                took,
            })
        };
        chain(&self.dirty, stays.then_some(PATIENCE), &self.stop, round)
    }
}

/// What a round says of itself.
#[derive(Debug, Clone, Copy)]
struct Ran {
    /// What follows it.
    next: Next,
    /// Whether it has put off what had been called for.
    puts_off: bool,
    took: Duration,
}

/// Runs rounds for as long as one must follow the other at once, or is called for soon. Each is told
/// whether it was called for.
fn chain<E>(
    dirty: &Dirty,
    patience: Option<Patience>,
    stop: &CancellationToken,
    mut round: impl FnMut(bool) -> Result<Ran, E>,
) -> Result<Next, E> {
    let listens = patience.map(|patience| (dirty.listen(), patience));
    let mut puts_off = false;
    let mut crowd = Crowd::NOBODY;
    loop {
        // Those that were put off may be in a hurry, and have called before.
        if let Some((calls, patience)) = listens.as_ref().filter(|_| !puts_off) {
            calls.gather(patience.more, crowd);
        }
        // Who calls has appended before: this round takes it.
        let answered = dirty.answer();
        let ran = round(answered.is_some())?;
        let next = ran.next;
        puts_off = ran.puts_off;
        crowd = crowd_after(answered.unwrap_or(0), dirty.urgent(), ran.took);
        let goes_on = match listens.as_ref().filter(|_| !stop.is_cancelled()) {
            None => false,
            Some((calls, patience)) => match next {
                Next::AtOnce => {
                    // A request that is just being appended calls when all of it is there.
                    if !puts_off {
                        calls.called_within(patience.more);
                    }
                    true
                }
                Next::ToRecord | Next::ToSettle => {
                    // Something that comes soon takes the record along, or is no more idle.
                    calls.called_within(patience.more);
                    true
                }
                Next::WhenCalled => calls.called_within(patience.next),
                Next::AfterPause | Next::WhenDue => false,
            },
        };
        if !goes_on {
            return Ok(next);
        }
    }
}

/// Whom the next round expects, after one that took so long, answered so many and was waited for by so
/// many others: as many as waited at the same time. Who is answered now asks again, or does not: the
/// others wait for no longer than that round took once more.
fn crowd_after(answered: usize, others: usize, took: Duration) -> Crowd {
    match answered + others {
        calls if calls < CROWD_MIN => Crowd::NOBODY,
        calls => Crowd {
            calls,
            patience: took,
        },
    }
}

/// When the next round comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Something was written meanwhile, or waits for its turn.
    AtOnce,
    /// What was reached is to be recorded, for which nobody waits.
    ToRecord,
    /// The directory is idle, and more files are to be settled.
    ToSettle,
    /// Something could not be written for want of space; it is tried again.
    AfterPause,
    /// In a relaxed directory there is more to do, for which nobody waits.
    WhenDue,
    /// When somebody appends.
    WhenCalled,
}

/// What follows a round is what the round says, and not what the directory needs by now: what was
/// appended after it has called for a round of its own, which must come without the pause of a full disk.
fn after(round: &CommitRound, is_relaxed: bool) -> Next {
    if round.settles_on {
        Next::ToSettle
    } else if round.more && !is_relaxed {
        match round.only_records {
            true => Next::ToRecord,
            false => Next::AtOnce,
        }
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
        // Who appends meanwhile may need no space. The others wait no longer than they would.
        () = dirty.called() => dirty.mark(Urgency::Lingers(STARVED_PAUSE)),
        () = tokio::time::sleep(STARVED_PAUSE) => dirty.mark(Urgency::Urgent),
    }
}

#[cfg(test)]
mod tests;

//! The loops that compact: of the partitions led here the dirtiest, in slices, so that other work goes
//! on between them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_protocol::{Timestamp, TopicId};
use esker_storage::{Cleanable, Compaction, CompactionError, CompactionLimits, CompactionRules};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::broker::Shared;
use crate::commit::Urgency;
use crate::environment::Work;
use crate::partition::Partition;

/// More partitions are never compacted side by side.
pub const WORKERS_MAX: usize = 64;

/// What a slice reads and writes before others have their turn.
const SLICE_BYTES: u64 = 1 << 20;

/// What the loops know of each other's work.
#[derive(Debug, Default)]
pub struct Progress {
    /// Being compacted.
    busy: Mutex<BTreeSet<Key>>,
    /// Cannot be compacted, until the next start.
    uncleanable: Mutex<BTreeSet<Key>>,
}

type Key = (TopicId, i32);

impl Progress {
    fn busy(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uncleanable(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.uncleanable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pass that is worth it.
struct Due {
    partition: Arc<Partition>,
    part: Cleanable,
    rules: CompactionRules,
}

/// Compacts until `stop`, and rests where nothing is dirty enough.
pub async fn run(shared: Arc<Shared>, progress: Arc<Progress>, stop: CancellationToken) {
    loop {
        let worked = match take_dirtiest(&shared, &progress).await {
            Some(due) => {
                let key = (due.partition.topic_id, due.partition.index);
                let worked = compact(&shared, &progress, due, &stop).await;
                progress.busy().remove(&key);
                worked
            }
            None => false,
        };
        if stop.is_cancelled() {
            return;
        }
        if !worked {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(shared.config.cleaner.backoff.max(BACKOFF_MIN)) => {}
            }
        }
    }
}

/// Nobody is served by looking more often.
const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// Finds the dirtiest log that is worth a pass, and takes it.
async fn take_dirtiest(shared: &Arc<Shared>, progress: &Arc<Progress>) -> Option<Due> {
    let partitions: Vec<Arc<Partition>> = shared
        .partitions
        .all()
        .into_iter()
        .filter(|one| one.leading().is_some() && !one.is_offline() && is_compacted(shared, one))
        .collect();
    if partitions.is_empty() {
        return None;
    }
    let now = shared.environment.now();
    let look = move || -> Vec<Due> {
        partitions
            .into_iter()
            .filter_map(|partition| look_at(partition, now))
            .collect()
    };
    let found = shared.environment.run(Work::Blocking, look).await;
    let ratio = |due: &Due| due.part.ratio();
    let dirtiest = found.iter().map(ratio).fold(0.0, f64::max);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a percentage is a small number"
    )]
    shared.metrics.set_dirty_percent((dirtiest * 100.0) as i64);
    let mut busy = progress.busy();
    let uncleanable = progress.uncleanable();
    let due = found
        .into_iter()
        .filter(|due| {
            let key = (due.partition.topic_id, due.partition.index);
            due.part.is_due(&due.rules) && !busy.contains(&key) && !uncleanable.contains(&key)
        })
        .max_by(|a, b| ratio(a).total_cmp(&ratio(b)))?;
    busy.insert((due.partition.topic_id, due.partition.index));
    Some(due)
}

/// Whether the partition's log is compacted: not while a part of it is in the object store.
fn is_compacted(shared: &Shared, partition: &Partition) -> bool {
    partition.config().compact && !shared.tiering.covers(partition)
}

/// What a pass over the partition would take. Blocks for as long as the disk takes.
fn look_at(partition: Arc<Partition>, now: Timestamp) -> Option<Due> {
    let rules = partition.config().compaction;
    let looked = seal_in_time(&partition, &rules, now).and_then(|()| {
        let bound = partition.last_stable_offset();
        let part = partition.log.cleanable(bound, &rules, now);
        part.map_err(|error| error.to_string())
    });
    match looked {
        Ok(part) => part.map(|part| Due {
            partition,
            part,
            rules,
        }),
        Err(error) => {
            warn!(topic = %partition.topic, partition = partition.index, %error, "compaction cannot look at the log");
            None
        }
    }
}

/// The active segment is never compacted: where nothing is appended, nothing but this seals it before
/// `max.compaction.lag.ms`.
fn seal_in_time(
    partition: &Partition,
    rules: &CompactionRules,
    now: Timestamp,
) -> Result<(), String> {
    if rules.lag_ms_max == i64::MAX {
        return Ok(());
    }
    let sealed = partition.log.roll_if_expired(now);
    if sealed.as_ref().is_ok_and(|sealed| *sealed) {
        partition.ask_for_commit(Urgency::CanWait);
    }
    sealed.map(|_| ()).map_err(|error| error.to_string())
}

/// Runs a pass. Whether it came to its end.
async fn compact(
    shared: &Arc<Shared>,
    progress: &Progress,
    due: Due,
    stop: &CancellationToken,
) -> bool {
    let partition = Arc::clone(&due.partition);
    let begin = {
        let cleaner = &shared.config.cleaner;
        let limits = CompactionLimits {
            map_bytes: cleaner.map_bytes / cleaner.threads.max(1),
            load_factor: cleaner.load_factor,
            hash_key: shared.environment.randomness.bytes16(),
        };
        let now = shared.environment.now();
        move || {
            due.partition
                .log
                .compact(&due.part, &due.rules, &limits, now)
        }
    };
    let outcome = match shared.environment.run(Work::Blocking, begin).await {
        Ok(pass) => {
            let map_bytes = pass.compacted().map_bytes;
            shared.metrics.compaction_began(map_bytes);
            let (pass, outcome) = go_through(shared, &partition, pass, stop).await;
            let done = pass.compacted();
            let removed = done.records - done.records_left;
            let failed = !matches!(outcome, Ok(true));
            shared.metrics.compaction_ended(map_bytes, removed, failed);
            if !failed {
                info!(topic = %partition.topic, partition = partition.index, clean_end = %done.clean_end, records = done.records, records_left = done.records_left, bytes = done.bytes, bytes_left = done.bytes_left, "compacted");
            }
            outcome
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(done) => done,
        Err(error) if error.is_retriable() => {
            warn!(topic = %partition.topic, partition = partition.index, %error, "compaction was given up");
            false
        }
        Err(error) => {
            error!(topic = %partition.topic, partition = partition.index, %error, "the partition cannot be compacted");
            let mut uncleanable = progress.uncleanable();
            uncleanable.insert((partition.topic_id, partition.index));
            shared.metrics.set_uncleanable(uncleanable.len());
            false
        }
    }
}

/// Goes through a pass slice by slice, while the partition is led here. Whether it came to its end.
async fn go_through(
    shared: &Arc<Shared>,
    partition: &Partition,
    mut pass: Compaction,
    stop: &CancellationToken,
) -> (Compaction, Result<bool, CompactionError>) {
    let cleaner = shared.config.cleaner;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate need not be exact to the worker"
    )]
    let bytes_per_second = cleaner.bytes_per_second_max / cleaner.threads.max(1) as f64;
    loop {
        if stop.is_cancelled() || partition.leading().is_none() {
            let abandon = move || {
                pass.abandon();
                pass
            };
            let pass = shared.environment.run(Work::Blocking, abandon).await;
            return (pass, Ok(false));
        }
        let slice = move || {
            let step = pass.step(SLICE_BYTES);
            (pass, step)
        };
        let (back, step) = shared.environment.run(Work::Blocking, slice).await;
        pass = back;
        let step = match step {
            Ok(step) => step,
            Err(error) => return (pass, Err(error)),
        };
        shared
            .metrics
            .compaction_stepped(step.read_bytes, step.written_bytes);
        if step.done {
            return (pass, Ok(true));
        }
        #[expect(clippy::cast_precision_loss, reason = "a slice has few bytes")]
        let seconds = (step.read_bytes + step.written_bytes) as f64 / bytes_per_second;
        if let Ok(rest) = Duration::try_from_secs_f64(seconds)
            && !rest.is_zero()
        {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(rest) => {}
            }
        } else {
            tokio::task::yield_now().await;
        }
    }
}

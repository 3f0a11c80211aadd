//! The loop that applies retention: what is too old or too much goes, locally and in the tier.

use std::sync::Arc;
use std::time::Duration;

use esker_storage::retention as decide;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::broker::Shared;
use crate::environment::Work;
use crate::partition::{Partition, tiering};

/// How long one partition may keep the others waiting: its manifest may lie in a store that is away.
const CHECK_TIME_MAX: Duration = Duration::from_secs(10);

/// The first check comes so long after the start, as Kafka's does: a start has other work.
const FIRST_CHECK_DELAY_MAX: Duration = Duration::from_secs(30);

/// Checks every `log.retention.check.interval.ms` until `stop`.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let interval = shared.config.retention_check_interval;
    let interval = interval.max(Duration::from_millis(10));
    let first = Instant::now() + interval.min(FIRST_CHECK_DELAY_MAX);
    let mut ticks = tokio::time::interval_at(first, interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for partition in shared.partitions.all() {
            if partition.leading().is_none() || partition.is_offline() {
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                checked = tokio::time::timeout(CHECK_TIME_MAX, check(&shared, &partition)) => {
                    if checked.is_err() {
                        warn!(topic = %partition.topic, partition = partition.index, "retention waits for the object store");
                    }
                }
            }
        }
    }
}

async fn check(shared: &Arc<Shared>, partition: &Arc<Partition>) {
    let config = partition.config();
    let limits = limits(config.retention_ms, config.retention_bytes);
    let now = shared.environment.now();
    let log = Arc::clone(&partition.log);
    let work = move || {
        log.expire_producers(now);
        // What is all expired is sealed first, so that retention can take it.
        if decide::wants_roll(&log.segments(), limits, now) {
            log.roll_now(now)
        } else {
            log.roll_if_expired(now)
        }
    };
    match shared.environment.run(Work::Blocking, work).await {
        Ok(true) => shared.tiering.wake(),
        Ok(false) => {}
        Err(error) => {
            warn!(topic = %partition.topic, partition = partition.index, %error, "roll failed");
        }
    }
    if shared.tiering.covers(partition) {
        tiering::apply_retention(shared, partition).await;
    } else {
        if config.delete {
            apply_local_retention(shared, partition, limits).await;
        }
        delete_passed(shared, partition).await;
    }
}

/// Removes the segments that log start has passed, whatever the topic's policy: an administrator's
/// deletion of records left them.
pub(crate) async fn delete_passed(shared: &Arc<Shared>, partition: &Arc<Partition>) {
    // What is tiered goes by the tier's rules.
    if shared.tiering.covers(partition) {
        return;
    }
    let start = partition.start_offset();
    let segments = partition.log.segments();
    if !segments
        .first()
        .is_some_and(|first| first.sealed && first.end <= start)
    {
        return;
    }
    let log = Arc::clone(&partition.log);
    let deleted = shared
        .environment
        .run(Work::Blocking, move || log.delete_local_below(start))
        .await;
    match deleted {
        Ok(segments) => {
            let bytes = segments.iter().map(|segment| segment.bytes).sum();
            shared.metrics.deleted_locally(bytes);
        }
        Err(error) => {
            warn!(topic = %partition.topic, partition = partition.index, %error, "deleted records are still on the disk");
        }
    }
}

/// Kafka's -1 is no limit.
#[must_use]
pub fn limits(ms: i64, bytes: i64) -> decide::Limits {
    decide::Limits {
        ms: (ms >= 0).then_some(ms),
        bytes: u64::try_from(bytes).ok(),
    }
}

/// Retention of a partition that is not tiered: whole segments below the high watermark.
async fn apply_local_retention(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    limits: decide::Limits,
) {
    let now = shared.environment.now();
    let segments = partition.log.segments();
    let Some(start) = decide::log_start(&segments, limits, now, partition.high_watermark()) else {
        return;
    };
    let log = Arc::clone(&partition.log);
    let deleted = shared
        .environment
        .run(Work::Blocking, move || {
            log.advance_start(start)?;
            log.delete_local_below(start)
        })
        .await;
    match deleted {
        Ok(segments) => {
            let bytes = segments.iter().map(|segment| segment.bytes).sum();
            shared.metrics.deleted_locally(bytes);
            info!(topic = %partition.topic, partition = partition.index, log_start_offset = %start, bytes, "retention");
        }
        Err(error) => {
            warn!(topic = %partition.topic, partition = partition.index, %error, "retention failed");
        }
    }
}

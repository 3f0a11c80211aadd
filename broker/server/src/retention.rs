//! The loop that applies retention: what is too old or too much goes, locally and in the tier.

use std::sync::Arc;

use esker_storage::retention as decide;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::broker::Shared;
use crate::environment::Work;
use crate::partition::{Partition, tiering};

/// Checks every `log.retention.check.interval.ms` until `stop`.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(
        shared.config.retention_check_interval.max(std::time::Duration::from_millis(10)),
    );
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for partition in shared.partitions.all() {
            if partition.leading().is_some() && !partition.is_offline() {
                check(&shared, &partition).await;
            }
        }
    }
}

async fn check(shared: &Arc<Shared>, partition: &Arc<Partition>) {
    let rolled = {
        let (log, now) = (Arc::clone(&partition.log), shared.environment.now());
        let work = move || {
            log.expire_producers(now);
            log.roll_if_expired(now)
        };
        shared.environment.run(Work::Blocking, work).await
    };
    match rolled {
        Ok(true) => shared.tiering.wake(),
        Ok(false) => {}
        Err(error) => warn!(topic = %partition.topic, partition = partition.index, %error, "roll failed"),
    }
    if !partition.config().delete {
        return;
    }
    if shared.tiering.covers(partition) {
        tiering::apply_retention(shared, partition).await;
    } else {
        apply_local_retention(shared, partition).await;
    }
}

/// Retention of a partition that is not tiered: whole segments below the high watermark.
async fn apply_local_retention(shared: &Arc<Shared>, partition: &Arc<Partition>) {
    let config = partition.config();
    let segments = partition.log.segments();
    let limits =
        decide::Limits { retention_ms: config.retention_ms, retention_bytes: config.retention_bytes };
    let start = decide::log_start_after(
        &segments,
        &limits,
        partition.log.start_offset(),
        partition.high_watermark(),
        shared.environment.now(),
    );
    let Some(start) = start else { return };
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

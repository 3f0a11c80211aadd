//! Bugs planted on purpose, in builds with the feature `planted-bugs` only: the crash tests must
//! fail on each of them, or they prove nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::Offset;
use esker_protocol::records::BatchHeader;
use esker_storage::{Appended, OpenMode};

use crate::broker::Shared;
use crate::commit::Urgency;
use crate::partition::Partition;

/// How long a batch that was acknowledged stays unwritten.
const WRITE_DELAY: Duration = Duration::from_millis(20);

/// Bytes that the file of the last batch loses.
const TORN_BYTES: u64 = 7;

/// Batches that were acknowledged and not written.
#[derive(Debug, Default)]
pub(crate) struct Unwritten(Mutex<(VecDeque<Bytes>, Offset)>);

/// Acknowledges a batch and writes it later.
pub(crate) fn acknowledge_before_write(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    batch: Bytes,
) -> Option<Appended> {
    let header = BatchHeader::parse(&batch).ok()?;
    let base_offset = {
        let mut unwritten = partition
            .unwritten
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let base_offset = unwritten.1.max(partition.log.written_end());
        unwritten.1 = base_offset + i64::from(header.records_count);
        unwritten.0.push_back(batch);
        base_offset
    };
    let (environment, partition) = (shared.environment.clone(), Arc::clone(partition));
    let log_start_offset = partition.start_offset();
    shared.environment.spawner.spawn(Box::pin(async move {
        tokio::time::sleep(WRITE_DELAY).await;
        let mut unwritten = partition
            .unwritten
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(batch) = unwritten.0.pop_front() {
            let rules = partition.produce_rules(environment.now(), true);
            let written = partition.append(batch, &rules);
            partition.ask_for_commit(Urgency::Urgent);
            tracing::debug!(written = written.is_ok(), "planted bug: written late");
        }
    }));
    Some(Appended {
        base_offset,
        end: Offset::ZERO,
        log_append_time: None,
        duplicate: false,
        log_start_offset,
        rolled: false,
    })
}

/// Cuts the last batch of a log that was just opened.
pub(crate) fn cut_batch(partition: &Partition) {
    let log = &partition.log;
    let end = log.written_end();
    if let Ok(read) = log.read(end + -1, 1, end, true) {
        let cut = log.truncate_to(read.start);
        tracing::warn!(topic = %partition.topic, ?cut, "planted bug: a batch was cut");
    }
}

/// Tears the last batch of a log that was just opened, which goes on as if it were whole.
pub(crate) fn keep_truncated_tail(shared: &Shared, partition: &Partition) {
    let Some(active) = partition
        .log
        .segments()
        .pop()
        .filter(|segment| segment.bytes > 0)
    else {
        return;
    };
    let path = partition
        .directory
        .path()
        .join(format!("{}-{}", partition.topic, partition.index))
        .join(format!("{:020}.log", active.base.0));
    let torn = shared
        .environment
        .disk
        .open(&path, OpenMode::Write)
        .and_then(|file| file.truncate(file.len()?.saturating_sub(TORN_BYTES)));
    tracing::warn!(topic = %partition.topic, ?torn, "planted bug: a torn tail was kept");
}

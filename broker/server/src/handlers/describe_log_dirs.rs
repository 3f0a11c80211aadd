//! DescribeLogDirs: the log directories, and how much each partition takes in them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use esker_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use esker_protocol::{ErrorCode, FixedHashSet};
use esker_storage::LogDirectory;

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::environment::Work;
use crate::partition::Partition;

/// Answers with each log directory and the wanted partitions in it.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &DescribeLogDirsRequest<'_>,
) -> Reply {
    let wanted: Option<FixedHashSet<(&str, i32)>> = request.topics.as_ref().map(|topics| {
        let partitions = topics.iter().flat_map(|topic| {
            let indexes = topic.partitions.iter();
            indexes.map(|index| (topic.topic.as_ref(), *index))
        });
        partitions.collect()
    });
    let mut hosted = shared.partitions.all();
    hosted.retain(|one| {
        let wanted = wanted.as_ref();
        wanted.is_none_or(|wanted| wanted.contains(&(one.topic.as_ref(), one.index)))
    });
    let mut results = Vec::with_capacity(shared.directories.len());
    for (directory, _) in &shared.directories {
        results.push(describe(shared, directory, &hosted).await);
    }
    super::reply(
        &answer,
        &DescribeLogDirsResponse {
            results,
            ..Default::default()
        },
    )
}

async fn describe<'a>(
    shared: &Shared,
    directory: &Arc<LogDirectory>,
    hosted: &[Arc<Partition>],
) -> DescribeLogDirsResult<'a> {
    let path = directory.path().to_path_buf();
    let log_dir = path.display().to_string();
    let disk = Arc::clone(&shared.environment.disk);
    let space = move || Ok((disk.total_bytes(&path)?, disk.available_bytes(&path)?));
    let space: std::io::Result<_> = shared.environment.run(Work::Blocking, space).await;
    let (Ok((total, usable)), false) = (space, directory.is_failed()) else {
        return DescribeLogDirsResult {
            error_code: ErrorCode::KafkaStorageError.code(),
            log_dir: Cow::Owned(log_dir),
            ..Default::default()
        };
    };
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in hosted {
        if !Arc::ptr_eq(&partition.directory, directory) {
            continue;
        }
        let segments = partition.log.segments();
        let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let topic = topics.entry(partition.topic.as_ref()).or_default();
        topic.push(DescribeLogDirsPartition {
            partition_index: partition.index,
            partition_size: number(bytes),
            // The leader lags behind nobody.
            offset_lag: 0,
            is_future_key: false,
        });
    }
    DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir: Cow::Owned(log_dir),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| DescribeLogDirsTopic {
                name: Cow::Owned(name.to_owned()),
                partitions,
            })
            .collect(),
        total_bytes: number(total),
        usable_bytes: number(usable),
        is_cordoned: false,
    }
}

fn number(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

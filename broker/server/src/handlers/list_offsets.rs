//! ListOffsets: offsets by time, across both tiers.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use esker_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use esker_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use esker_protocol::{ErrorCode, LeaderEpoch, Offset, Timestamp};

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::partition::Partition;
use crate::partition::read::{self, Position};

/// What a timestamp below zero asks for, and the version that first knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Latest,
    Earliest,
    MaxTimestamp,
    EarliestLocal,
    LatestTiered,
    EarliestPendingUpload,
    Time(Timestamp),
}

impl Target {
    fn parse(timestamp: i64, version: i16) -> Option<Target> {
        let (target, version_min) = match timestamp {
            -1 => (Target::Latest, 1),
            -2 => (Target::Earliest, 1),
            -3 => (Target::MaxTimestamp, 7),
            -4 => (Target::EarliestLocal, 8),
            -5 => (Target::LatestTiered, 9),
            -6 => (Target::EarliestPendingUpload, 11),
            0.. => (Target::Time(Timestamp(timestamp)), 1),
            _ => return None,
        };
        (version >= version_min).then_some(target)
    }
}

/// One partition of the request, owned so that it can wait.
struct Asked {
    index: i32,
    current_leader_epoch: LeaderEpoch,
    timestamp: i64,
    /// The request names the partition more than once: nobody can tell the answers apart.
    is_repeated: bool,
}

/// The partitions of each topic, each once.
fn by_topic(request: &ListOffsetsRequest<'_>) -> Vec<(String, Vec<Asked>)> {
    let all = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(move |partition| (topic.name.as_ref(), partition))
    });
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<_> = all
        .clone()
        .map(|(topic, partition)| (topic, partition.partition_index))
        .filter(|partition| !seen.insert(*partition))
        .collect();
    let once = super::once_each(all, |(topic, partition)| {
        (*topic, partition.partition_index)
    });
    let asked = once.into_iter().map(|(topic, partition)| {
        let asked = Asked {
            index: partition.partition_index,
            current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
            timestamp: partition.timestamp,
            is_repeated: repeated.contains(&(topic, partition.partition_index)),
        };
        (topic.to_owned(), asked)
    });
    super::grouped(asked)
}

/// Answers each partition; a lookup that must read objects waits for them.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &ListOffsetsRequest<'_>,
) -> Reply {
    let shared = Arc::clone(shared);
    let isolation = request.isolation_level;
    let topics = by_topic(request);
    Reply::Later(Box::pin(async move {
        let mut responses = Vec::with_capacity(topics.len());
        for (name, partitions) in &topics {
            let mut answers = Vec::with_capacity(partitions.len());
            for asked in partitions {
                let found = if !matches!(isolation, 0 | 1) {
                    // So Kafka refuses what it does not expect.
                    Err(ErrorCode::UnknownServerError)
                } else if asked.is_repeated {
                    Err(ErrorCode::InvalidRequest)
                } else {
                    find(&shared, answer.version, name, asked, isolation == 1).await
                };
                answers.push(partition_response(answer.version, asked.index, found));
            }
            responses.push(ListOffsetsTopicResponse {
                name: Cow::Borrowed(name.as_str()),
                partitions: answers,
            });
        }
        super::respond(
            &answer,
            &ListOffsetsResponse {
                topics: responses,
                ..Default::default()
            },
        )
        .map(Into::into)
    }))
}

/// The first version that tells the epoch of a record.
const EPOCH_VERSION_MIN: i16 = 4;

fn partition_response(
    version: i16,
    index: i32,
    found: Result<Position, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let none = Position::NONE;
    let (code, position) = match found {
        Ok(position) => (ErrorCode::None, position),
        Err(code) => (code, none),
    };
    ListOffsetsPartitionResponse {
        partition_index: index,
        error_code: code.code(),
        timestamp: position.timestamp.0,
        offset: position.offset.0,
        leader_epoch: if version >= EPOCH_VERSION_MIN {
            position.leader_epoch.0
        } else {
            -1
        },
    }
}

async fn find(
    shared: &Arc<Shared>,
    version: i16,
    topic: &str,
    asked: &Asked,
    read_committed: bool,
) -> Result<Position, ErrorCode> {
    let target = Target::parse(asked.timestamp, version).ok_or(ErrorCode::UnsupportedVersion)?;
    let partition = shared.led_partition(topic, asked.index, asked.current_leader_epoch)?;
    let below = if read_committed {
        partition.last_stable_offset()
    } else {
        partition.high_watermark()
    };
    let at = |offset: Offset, leader_epoch| Position {
        offset,
        timestamp: Timestamp::NONE,
        leader_epoch,
    };
    match target {
        Target::Latest => Ok(at(below, partition.leading().unwrap_or(LeaderEpoch::NONE))),
        Target::Earliest => {
            let start = partition.start_offset();
            Ok(at(start, epoch_at(&partition, start)))
        }
        Target::EarliestLocal => {
            let start = partition
                .log
                .local_start_offset()
                .max(partition.start_offset());
            Ok(at(start, epoch_at(&partition, start)))
        }
        Target::LatestTiered => Ok(match partition.tier.end() {
            // The highest offset that the store holds, as KIP-1005 asks; an end is one beyond.
            Some((end, epoch)) if end > partition.start_offset() => at(end + -1, epoch),
            _ => Position::NONE,
        }),
        Target::EarliestPendingUpload => Ok(match partition.tier.end() {
            Some((end, _)) => at(end, epoch_at(&partition, end)),
            None => Position::NONE,
        }),
        Target::Time(time) => read::find_time(shared, &partition, time, below).await,
        Target::MaxTimestamp => read::find_max_timestamp(shared, &partition, below).await,
    }
}

/// The epoch of the batch at an offset, or that of the next one to be written.
fn epoch_at(partition: &Partition, offset: Offset) -> LeaderEpoch {
    let written = partition.log.epoch_at(offset);
    written
        .or_else(|| partition.leading())
        .unwrap_or(LeaderEpoch::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_is_named_twice_is_answered_once() {
        use esker_protocol::messages::list_offsets_request::{
            ListOffsetsPartition, ListOffsetsTopic,
        };
        let topic = |name, indexes: &[i32]| ListOffsetsTopic {
            name: Cow::Borrowed(name),
            partitions: indexes
                .iter()
                .map(|index| ListOffsetsPartition {
                    partition_index: *index,
                    ..ListOffsetsPartition::default()
                })
                .collect(),
        };
        let request = ListOffsetsRequest {
            topics: vec![
                topic("a", &[0, 1, 0]),
                topic("empty", &[]),
                topic("b", &[0]),
                topic("a", &[2]),
            ],
            ..ListOffsetsRequest::default()
        };
        let asked: Vec<(String, Vec<(i32, bool)>)> = by_topic(&request)
            .into_iter()
            .map(|(name, asked)| {
                let asked = asked.iter().map(|one| (one.index, one.is_repeated));
                (name, asked.collect())
            })
            .collect();
        assert_eq!(
            asked,
            [
                ("a".to_owned(), vec![(0, true), (1, false), (2, false)]),
                ("b".to_owned(), vec![(0, false)]),
            ]
        );
    }

    #[test]
    fn special_times_are_known_from_their_version_on() {
        assert_eq!(Target::parse(-3, 6), None);
        assert_eq!(Target::parse(-3, 7), Some(Target::MaxTimestamp));
        assert_eq!(Target::parse(-6, 10), None);
        assert_eq!(Target::parse(-7, 11), None);
        assert_eq!(Target::parse(5, 1), Some(Target::Time(Timestamp(5))));
    }
}

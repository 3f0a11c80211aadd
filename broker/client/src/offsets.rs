//! Asking leaders for offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use esker_protocol::messages::{ListOffsetsRequest, list_offsets_request, list_offsets_response};
use esker_protocol::{BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp};
use tokio::time::Instant;

use crate::admin::{ByPartition, TopicPartition};
use crate::client::{Client, Retry, Target};
use crate::error::{ClientError, check};

/// Which offset of a partition is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that can be read.
    Earliest,
    /// The one that the next visible record gets.
    Latest,
    /// The first record that carries the largest timestamp.
    MaxTimestamp,
    /// The first that lies on the broker's own disks.
    EarliestLocal,
    /// The last that lies in the object store.
    LatestTiered,
    /// The first record at or after a time.
    At(Timestamp),
}

impl OffsetSpec {
    fn wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::EarliestLocal => -4,
            OffsetSpec::LatestTiered => -5,
            OffsetSpec::At(timestamp) => timestamp.0,
        }
    }
}

/// An offset that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset.
    pub offset: Offset,
    /// The record's timestamp, where a record was looked for.
    pub timestamp: Option<Timestamp>,
    /// The epoch of the leader that wrote it.
    pub leader_epoch: LeaderEpoch,
}

/// No broker, as consumers ask.
const CONSUMER: i32 = -1;

impl Client {
    /// Looks up an offset of a partition; `None` where there is no such record.
    pub async fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        spec: OffsetSpec,
        deadline: Instant,
    ) -> Result<Option<ListedOffset>, ClientError> {
        let what = || looking_up(topic, partition);
        let mut retry = Retry::new(deadline);
        loop {
            let attempts = retry.attempts();
            match self
                .list_offset_once(topic, partition, spec, attempts, deadline)
                .await
            {
                Ok(listed) => return Ok(listed),
                Err(error) => {
                    self.forget_topic(topic);
                    retry.pause(what, error).await?;
                }
            }
        }
    }

    async fn list_offset_once(
        &self,
        topic: &str,
        partition: i32,
        spec: OffsetSpec,
        attempt: usize,
        deadline: Instant,
    ) -> Result<Option<ListedOffset>, ClientError> {
        let (link, _) = self
            .leader(topic, partition, false, attempt, deadline)
            .await?;
        let version = link.version_of::<ListOffsetsRequest<'_>>(None)?;
        let request = ListOffsetsRequest {
            replica_id: CONSUMER,
            topics: vec![list_offsets_request::ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![list_offsets_request::ListOffsetsPartition {
                    partition_index: partition,
                    timestamp: spec.wire(),
                    ..Default::default()
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let answer = link
            .call(version, &request, Duration::ZERO, deadline)
            .await?;
        let response = answer.body().map_err(|source| link.error(source))?;
        let what = || looking_up(topic, partition);
        let answered = response
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .find(|answered| answered.partition_index == partition)
            .ok_or_else(|| absent(&what()))?;
        check(answered.error_code, None, what)?;
        Ok(ListedOffset::of(answered))
    }

    /// Looks up an offset of each of these partitions, asking each leader once; the outcome of
    /// each, `None` where there is no such record. A topic or partition that no broker knows is
    /// refused at once rather than waited for.
    pub async fn list_offsets(
        &self,
        partitions: &BTreeSet<TopicPartition>,
        spec: OffsetSpec,
        deadline: Instant,
    ) -> ByPartition<Result<Option<ListedOffset>, ClientError>> {
        let mut outcomes = BTreeMap::new();
        let mut waiting: BTreeMap<TopicPartition, Option<ClientError>> = partitions
            .iter()
            .map(|partition| (partition.clone(), None))
            .collect();
        let mut retry = Retry::new(deadline);
        loop {
            let led = self.leaders(&mut waiting, &mut outcomes, deadline).await;
            for (leader, partitions) in led {
                match self
                    .list_offsets_of(leader, &partitions, spec, deadline)
                    .await
                {
                    Ok(listed) => {
                        for (partition, outcome) in listed {
                            settle(partition, outcome, &mut waiting, &mut outcomes);
                        }
                    }
                    Err(error) => {
                        for partition in partitions {
                            settle(partition, Err(error.clone()), &mut waiting, &mut outcomes);
                        }
                    }
                }
            }
            let Some(((topic, partition), last)) = waiting.first_key_value() else {
                return outcomes;
            };
            let what = looking_up(topic, *partition);
            let last = last.clone().unwrap_or_else(|| absent(&what));
            if let Err(error) = retry.pause(|| what, last).await {
                for (partition, _) in waiting {
                    outcomes.insert(partition, Err(error.clone()));
                }
                return outcomes;
            }
        }
    }

    /// The leaders of those that wait, as one broker knows them.
    async fn leaders(
        &self,
        waiting: &mut BTreeMap<TopicPartition, Option<ClientError>>,
        outcomes: &mut ByPartition<Result<Option<ListedOffset>, ClientError>>,
        deadline: Instant,
    ) -> BTreeMap<BrokerId, Vec<TopicPartition>> {
        let mut led: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
        let wanted: Vec<TopicPartition> = waiting.keys().cloned().collect();
        let topics: BTreeSet<&str> = wanted.iter().map(|(topic, _)| topic.as_str()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        if topics.is_empty() {
            return led;
        }
        let metadata = match self.metadata(Some(&topics), deadline).await {
            Ok(metadata) => metadata,
            Err(error) => {
                for partition in wanted {
                    settle(partition, Err(error.clone()), waiting, outcomes);
                }
                return led;
            }
        };
        for partition in wanted {
            match metadata.leader(&partition.0, partition.1) {
                Ok((leader, _, _)) => led.entry(leader).or_default().push(partition),
                Err(code) => {
                    let error = ClientError::Kafka {
                        what: looking_up(&partition.0, partition.1),
                        code,
                        message: None,
                    };
                    if code == ErrorCode::UnknownTopicOrPartition {
                        waiting.remove(&partition);
                        outcomes.insert(partition, Err(error));
                    } else {
                        settle(partition, Err(error), waiting, outcomes);
                    }
                }
            }
        }
        led
    }

    async fn list_offsets_of(
        &self,
        leader: BrokerId,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
        deadline: Instant,
    ) -> Result<Vec<(TopicPartition, Result<Option<ListedOffset>, ClientError>)>, ClientError> {
        let link = self.link(Target::Broker(leader), 0, deadline).await?;
        let version = link.version_of::<ListOffsetsRequest<'_>>(None)?;
        let mut topics: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (topic, partition) in partitions {
            let partition = list_offsets_request::ListOffsetsPartition {
                partition_index: *partition,
                timestamp: spec.wire(),
                ..Default::default()
            };
            topics.entry(topic).or_default().push(partition);
        }
        let topics =
            topics.into_iter().map(
                |(topic, partitions)| list_offsets_request::ListOffsetsTopic {
                    name: topic.into(),
                    partitions,
                },
            );
        let request = ListOffsetsRequest {
            replica_id: CONSUMER,
            topics: topics.collect(),
            ..ListOffsetsRequest::default()
        };
        let answer = link
            .call(version, &request, Duration::ZERO, deadline)
            .await?;
        let response = answer.body().map_err(|source| link.error(source))?;
        let mut answered = BTreeMap::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                let place = (topic.name.to_string(), partition.partition_index);
                answered.insert(place, partition);
            }
        }
        let outcomes = partitions.iter().map(|place| {
            let what = || looking_up(&place.0, place.1);
            let outcome = match answered.get(place) {
                Some(one) => check(one.error_code, None, what).map(|()| ListedOffset::of(one)),
                None => Err(absent(&what())),
            };
            (place.clone(), outcome)
        });
        Ok(outcomes.collect())
    }
}

impl ListedOffset {
    fn of(answered: &list_offsets_response::ListOffsetsPartitionResponse) -> Option<ListedOffset> {
        (answered.offset >= 0).then_some(ListedOffset {
            offset: Offset(answered.offset),
            timestamp: (answered.timestamp >= 0).then_some(Timestamp(answered.timestamp)),
            leader_epoch: LeaderEpoch(answered.leader_epoch),
        })
    }
}

/// Takes an outcome, or leaves the partition waiting where trying again may help.
fn settle<V>(
    partition: TopicPartition,
    outcome: Result<V, ClientError>,
    waiting: &mut BTreeMap<TopicPartition, Option<ClientError>>,
    outcomes: &mut ByPartition<Result<V, ClientError>>,
) {
    match outcome {
        Err(error) if error.is_retriable() => {
            waiting.insert(partition, Some(error));
        }
        outcome => {
            waiting.remove(&partition);
            outcomes.insert(partition, outcome);
        }
    }
}

fn looking_up(topic: &str, partition: i32) -> String {
    format!("looking up an offset of {topic}-{partition}")
}

fn absent(what: &str) -> ClientError {
    ClientError::Nonsense {
        what: what.to_owned(),
        reason: "the partition is missing".to_owned(),
    }
}

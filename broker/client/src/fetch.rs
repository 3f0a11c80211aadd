//! Reading batches from leaders.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::messages::{FetchRequest, fetch_request, fetch_response};
use esker_protocol::primitive::Blob;
use esker_protocol::records::whole_batches;
use esker_protocol::{Offset, TopicId};
use futures::future::join_all;
use tokio::time::Instant;

use crate::client::{Client, Retry};
use crate::endpoint::Endpoint;
use crate::error::{ClientError, check};

/// How much to read and how long to wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchOptions {
    /// The most bytes of an answer; a first batch that is larger comes nevertheless.
    pub bytes_max: i32,
    /// The most bytes of each partition, likewise.
    pub partition_bytes_max: i32,
    /// The broker waits until there are so many bytes.
    pub bytes_min: i32,
    /// The longest that it waits.
    pub wait: Duration,
}

impl Default for FetchOptions {
    fn default() -> FetchOptions {
        FetchOptions {
            bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            bytes_min: 1,
            wait: Duration::from_millis(500),
        }
    }
}

/// Where to read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPosition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset that is wanted.
    pub offset: Offset,
}

/// What a partition gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Whole batches, of which the first may begin before the offset that was asked for.
    pub records: Bytes,
    /// The end of what may be read.
    pub high_watermark: Offset,
    /// The end of what may be read without open transactions.
    pub last_stable_offset: Offset,
    /// The first offset that can be read.
    pub log_start_offset: Offset,
}

/// The last version that names topics; later ones name their ids.
const NAMES_UNTIL: i16 = 12;
/// A full fetch that wants no session.
const NO_SESSION: i32 = -1;

impl Client {
    /// Reads one partition from an offset on; empty when nothing came within the wait.
    pub async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: Offset,
        options: &FetchOptions,
        deadline: Instant,
    ) -> Result<Fetched, ClientError> {
        let what = || format!("reading {topic}-{partition} at {offset}");
        let position = [FetchPosition {
            topic: topic.to_owned(),
            partition,
            offset,
        }];
        let mut retry = Retry::new(deadline);
        loop {
            let outcomes = self
                .fetch_many(&position, options, retry.attempts(), deadline)
                .await;
            match outcomes.into_iter().next() {
                Some(Ok(fetched)) => return Ok(fetched),
                Some(Err(error)) => retry.pause(what, error).await?,
                None => {
                    let reason = "no outcome".to_owned();
                    return Err(ClientError::Nonsense {
                        what: what(),
                        reason,
                    });
                }
            }
        }
    }

    /// Reads several partitions with one request to each leader; outcomes in the positions' order.
    ///
    /// One try: what failed and is worth trying again is the caller's to ask for again.
    pub async fn fetch_many(
        &self,
        positions: &[FetchPosition],
        options: &FetchOptions,
        attempt: usize,
        deadline: Instant,
    ) -> Vec<Result<Fetched, ClientError>> {
        let mut outcomes = BTreeMap::new();
        let mut by_leader: BTreeMap<Endpoint, Vec<(usize, TopicId)>> = BTreeMap::new();
        for (index, position) in positions.iter().enumerate() {
            let FetchPosition {
                topic, partition, ..
            } = position;
            match self
                .leader(topic, *partition, false, attempt, deadline)
                .await
            {
                Ok((link, id)) => by_leader
                    .entry(link.endpoint)
                    .or_default()
                    .push((index, id)),
                Err(error) => {
                    outcomes.insert(index, Err(error));
                }
            }
        }
        let from_leaders = by_leader.into_iter().map(|(leader, wanted)| async move {
            let outcome = self
                .fetch_from(leader, &wanted, positions, options, deadline)
                .await;
            (wanted, outcome)
        });
        for (wanted, outcome) in join_all(from_leaders).await {
            match outcome {
                Ok(fetched) => outcomes.extend(fetched),
                Err(error) => {
                    outcomes.extend(wanted.iter().map(|(index, _)| (*index, Err(error.clone()))));
                }
            }
        }
        let outcome = |(index, position): (usize, &FetchPosition)| {
            let outcome = outcomes.remove(&index).unwrap_or_else(|| {
                Err(ClientError::Nonsense {
                    what: format!("reading {}-{}", position.topic, position.partition),
                    reason: "the partition is missing".to_owned(),
                })
            });
            if outcome.is_err() {
                self.forget_topic(&position.topic);
            }
            outcome
        };
        positions.iter().enumerate().map(outcome).collect()
    }

    async fn fetch_from(
        &self,
        leader: Endpoint,
        wanted: &[(usize, TopicId)],
        positions: &[FetchPosition],
        options: &FetchOptions,
        deadline: Instant,
    ) -> Result<Vec<(usize, Result<Fetched, ClientError>)>, ClientError> {
        let link = self.connect(leader, deadline).await?;
        let without_id = wanted.iter().any(|(_, id)| *id == TopicId::ZERO);
        let version = link.version_of::<FetchRequest<'_>>(without_id.then_some(NAMES_UNTIL))?;
        let by_name = version <= NAMES_UNTIL;
        let asked: Vec<(usize, TopicId, &FetchPosition)> = wanted
            .iter()
            .filter_map(|(index, id)| Some((*index, *id, positions.get(*index)?)))
            .collect();
        // Half of what is left at most: the answer has to come back before the deadline.
        let wait = options
            .wait
            .min(deadline.saturating_duration_since(Instant::now()) / 2);
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: options.bytes_min,
            max_bytes: options.bytes_max,
            session_id: 0,
            session_epoch: NO_SESSION,
            topics: asked
                .iter()
                .map(|(_, id, position)| fetch_request::FetchTopic {
                    topic: if by_name {
                        position.topic.as_str().into()
                    } else {
                        "".into()
                    },
                    topic_id: if by_name { TopicId::ZERO } else { *id },
                    partitions: vec![fetch_request::FetchPartition {
                        partition: position.partition,
                        fetch_offset: position.offset.0,
                        partition_max_bytes: options.partition_bytes_max,
                        ..Default::default()
                    }],
                })
                .collect(),
            ..FetchRequest::default()
        };
        let answer = link.call(version, &request, wait, deadline).await?;
        let response = answer.body().map_err(|source| link.error(source))?;
        check(response.error_code, None, || {
            format!("reading from {}", link.endpoint)
        })?;
        let answered = response.responses.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(move |partition| (topic, partition))
        });
        let fetched = answered.filter_map(|(topic, partition)| {
            let (index, _, position) = asked.iter().find(|(_, id, position)| {
                let same_topic = if by_name {
                    topic.topic == position.topic
                } else {
                    topic.topic_id == *id
                };
                same_topic && partition.partition_index == position.partition
            })?;
            Some((*index, fetched(partition, position, answer.frame())))
        });
        Ok(fetched.collect())
    }
}

fn fetched(
    partition: &fetch_response::PartitionData<'_>,
    position: &FetchPosition,
    frame: &Bytes,
) -> Result<Fetched, ClientError> {
    check(partition.error_code, None, || {
        format!(
            "reading {}-{} at {}",
            position.topic, position.partition, position.offset
        )
    })?;
    let records = match &partition.records {
        None => Bytes::new(),
        Some(Blob::Borrowed(bytes)) => frame.slice_ref(bytes),
        Some(blob) => blob.to_bytes(),
    };
    // A broker may cut the last batch off where the limit was.
    let records = records.slice(whole_batches(&records));
    Ok(Fetched {
        records,
        high_watermark: Offset(partition.high_watermark),
        last_stable_offset: Offset(partition.last_stable_offset),
        log_start_offset: Offset(partition.log_start_offset),
    })
}

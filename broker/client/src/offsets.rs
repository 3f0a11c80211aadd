//! Asking leaders for offsets.

use std::time::Duration;

use esker_protocol::messages::{ListOffsetsRequest, list_offsets_request};
use esker_protocol::{LeaderEpoch, Offset, Timestamp};
use tokio::time::Instant;

use crate::client::{Client, Retry};
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
        let what = || format!("looking up an offset of {topic}-{partition}");
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
        let what = || format!("looking up an offset of {topic}-{partition}");
        let answered = response
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .find(|answered| answered.partition_index == partition)
            .ok_or_else(|| ClientError::Nonsense {
                what: what(),
                reason: "the partition is missing".to_owned(),
            })?;
        check(answered.error_code, None, what)?;
        Ok((answered.offset >= 0).then_some(ListedOffset {
            offset: Offset(answered.offset),
            timestamp: (answered.timestamp >= 0).then_some(Timestamp(answered.timestamp)),
            leader_epoch: LeaderEpoch(answered.leader_epoch),
        }))
    }
}

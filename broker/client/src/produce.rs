//! Sending batches to leaders.

use std::time::Duration;

use bytes::Bytes;
use esker_protocol::messages::{ProduceRequest, produce_request};
use esker_protocol::primitive::Blob;
use esker_protocol::records::Batch;
use esker_protocol::{Offset, Timestamp, TopicId};
use tokio::time::Instant;

use crate::client::{Client, Retry};
use crate::error::{ClientError, check};

/// What a producer waits for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nothing; the broker does not answer.
    None,
    /// The leader has written the batch.
    Leader,
    /// The in-sync replicas have it, durably.
    #[default]
    All,
}

impl Acks {
    fn wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Where a batch was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// The offset of its first record; unknown without acknowledgement.
    pub base_offset: Option<Offset>,
    /// The leader's clock, on topics that use it.
    pub log_append_time: Option<Timestamp>,
}

/// The broker waits for replicas for at most this long before it answers.
const REPLICATION_WAIT_MAX: Duration = Duration::from_secs(30);
/// The last version that names topics; later ones name their ids.
const NAMES_UNTIL: i16 = 12;

impl Client {
    /// Sends one finished batch to a partition's leader.
    ///
    /// Tries again until the deadline. A batch without a producer id is not sent again once it may
    /// have been stored: the error is then [`ClientError::OutcomeUnknown`].
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        acks: Acks,
        deadline: Instant,
    ) -> Result<Produced, ClientError> {
        let what = || format!("producing to {topic}-{partition}");
        let (parsed, _) = Batch::parse(&batch).map_err(|error| ClientError::Batch {
            what: what(),
            reason: error.to_string(),
        })?;
        // With a sequence number the broker recognises what it has.
        let repeatable = parsed.header().has_producer();
        let mut retry = Retry::new(deadline);
        let mut in_doubt = false;
        loop {
            let attempts = retry.attempts();
            let try_once = self.produce_once(topic, partition, &batch, acks, attempts, deadline);
            let error = match try_once.await {
                Ok(produced) => return Ok(produced),
                Err(error) => error,
            };
            in_doubt |= error.may_have_happened();
            self.forget_topic(topic);
            let unknown = |error| ClientError::OutcomeUnknown {
                what: what(),
                source: Box::new(error),
            };
            if in_doubt && !repeatable {
                return Err(unknown(error));
            }
            if let Err(error) = retry.pause(what, error).await {
                return Err(if in_doubt { unknown(error) } else { error });
            }
        }
    }

    async fn produce_once(
        &self,
        topic: &str,
        partition: i32,
        batch: &Bytes,
        acks: Acks,
        attempt: usize,
        deadline: Instant,
    ) -> Result<Produced, ClientError> {
        let (link, id) = self
            .leader(topic, partition, true, attempt, deadline)
            .await?;
        let newest = (id == TopicId::ZERO).then_some(NAMES_UNTIL);
        let version = link.version_of::<ProduceRequest<'_>>(newest)?;
        // Half of what is left at most: the answer has to come back before the deadline.
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = REPLICATION_WAIT_MAX.min(left / 2);
        let request = ProduceRequest {
            transactional_id: None,
            acks: acks.wire(),
            timeout_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![produce_request::TopicProduceData {
                name: if version <= NAMES_UNTIL {
                    topic.into()
                } else {
                    "".into()
                },
                topic_id: if version <= NAMES_UNTIL {
                    TopicId::ZERO
                } else {
                    id
                },
                partition_data: vec![produce_request::PartitionProduceData {
                    index: partition,
                    records: Some(Blob::Shared(batch.clone())),
                }],
            }],
        };
        if acks == Acks::None {
            link.send(version, &request, deadline).await?;
            return Ok(Produced {
                base_offset: None,
                log_append_time: None,
            });
        }
        let answer = link.call(version, &request, wait, deadline).await?;
        let response = answer.body().map_err(|source| link.error(source))?;
        let what = || format!("producing to {topic}-{partition}");
        let answered = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
            .find(|answered| answered.index == partition)
            .ok_or_else(|| ClientError::Nonsense {
                what: what(),
                reason: "the partition is missing".to_owned(),
            })?;
        check(answered.error_code, answered.error_message.as_deref(), what)?;
        Ok(Produced {
            base_offset: Some(Offset(answered.base_offset)),
            log_append_time: (answered.log_append_time_ms >= 0)
                .then_some(Timestamp(answered.log_append_time_ms)),
        })
    }
}

#[cfg(test)]
mod tests;

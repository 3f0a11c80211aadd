//! An idempotent producer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use esker_protocol::records::{
    Batch, BatchBuilder, BatchOptions, Compression, Header, increment_sequence,
};
use esker_protocol::{ProducerEpoch, ProducerId, Timestamp};
use tokio::time::{Instant, timeout_at};

use crate::client::Client;
use crate::error::ClientError;
use crate::produce::{Acks, Produced};

/// How a producer behaves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ProducerOptions {
    /// The codec of its batches.
    pub compression: Compression,
    /// Its level; `None` is Kafka's default.
    pub compression_level: Option<i32>,
}

/// A record to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// Its time.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [Header<'a>],
}

/// A producer whose records are stored once, in order, however often they had to be sent.
///
/// One batch of a partition is on its way at a time; calls for one partition take turns in the
/// order in which they were made. A batch whose fate is unknown when its caller's deadline passes
/// is kept: whoever sends to that partition next learns its fate first, so that nothing overtakes
/// it. It may then turn out to have been stored although its caller was told
/// [`ClientError::OutcomeUnknown`].
pub struct Producer {
    client: Client,
    options: ProducerOptions,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    partitions: Mutex<BTreeMap<(String, i32), Turn>>,
}

/// Whoever holds it sends to the partition.
type Turn = Arc<tokio::sync::Mutex<Sequence>>;

/// Where a partition's sequence stands.
#[derive(Default)]
struct Sequence {
    next: i32,
    /// Sent, without a known outcome.
    in_doubt: Option<Bytes>,
}

impl Producer {
    /// A producer with an id of its own.
    pub async fn new(
        client: Client,
        options: ProducerOptions,
        deadline: Instant,
    ) -> Result<Producer, ClientError> {
        let (producer_id, producer_epoch) = client.init_producer_id(deadline).await?;
        Ok(Producer {
            client,
            options,
            producer_id,
            producer_epoch,
            partitions: Mutex::default(),
        })
    }

    /// The id that its batches carry.
    #[must_use]
    pub fn id(&self) -> ProducerId {
        self.producer_id
    }

    /// Sends records as one batch; returns when the in-sync replicas have it.
    pub async fn send(
        &self,
        topic: &str,
        partition: i32,
        records: &[NewRecord<'_>],
        deadline: Instant,
    ) -> Result<Produced, ClientError> {
        let what = || format!("producing to {topic}-{partition}");
        let sequence = {
            let mut partitions = self
                .partitions
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(partitions.entry((topic.to_owned(), partition)).or_default())
        };
        let mut sequence =
            timeout_at(deadline, sequence.lock())
                .await
                .map_err(|_| ClientError::Deadline {
                    what: what(),
                    last: None,
                })?;
        self.settle(topic, partition, &mut sequence, deadline)
            .await?;
        let batch = self
            .batch(sequence.next, records)
            .map_err(|reason| ClientError::Batch {
                what: what(),
                reason,
            })?;
        // Kept before the first byte goes out: when this future is dropped, the doubt stays.
        sequence.in_doubt = Some(batch);
        match self
            .settle(topic, partition, &mut sequence, deadline)
            .await?
        {
            Some(produced) => Ok(produced),
            None => Err(ClientError::Nonsense {
                what: what(),
                reason: "nothing was in doubt".to_owned(),
            }),
        }
    }

    /// Sends what is in doubt until its fate is known.
    async fn settle(
        &self,
        topic: &str,
        partition: i32,
        sequence: &mut Sequence,
        deadline: Instant,
    ) -> Result<Option<Produced>, ClientError> {
        let Some(batch) = sequence.in_doubt.clone() else {
            return Ok(None);
        };
        match self
            .client
            .produce(topic, partition, batch.clone(), Acks::All, deadline)
            .await
        {
            Ok(produced) => {
                sequence.in_doubt = None;
                let count =
                    Batch::parse(&batch).map_or(0, |(batch, _)| batch.header().records_count);
                sequence.next = increment_sequence(sequence.next, count);
                Ok(Some(produced))
            }
            Err(error) => {
                if !matches!(error, ClientError::OutcomeUnknown { .. }) {
                    // Refused for good, or never sent: the next batch takes its sequence number.
                    sequence.in_doubt = None;
                }
                Err(error)
            }
        }
    }

    fn batch(&self, base_sequence: i32, records: &[NewRecord<'_>]) -> Result<Bytes, String> {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: self.options.compression,
            compression_level: self.options.compression_level,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence,
            ..BatchOptions::default()
        });
        for record in records {
            builder
                .append(record.timestamp, record.key, record.value, record.headers)
                .map_err(|error| error.to_string())?;
        }
        builder.build().map_err(|error| error.to_string())
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("producer_id", &self.producer_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

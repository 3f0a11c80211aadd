//! A consumer of partitions that are assigned to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_protocol::Offset;
use esker_protocol::records::{Batches, Caps, Record};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::error::ClientError;
use crate::fetch::{FetchOptions, FetchPosition};

/// How a consumer behaves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// How much it reads at once and how long it waits for more.
    pub fetch: FetchOptions,
    /// What compressed batches may become.
    pub caps: Caps,
}

/// Reads partitions from given offsets on; remembers positions, commits none.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    options: ConsumerOptions,
    positions: BTreeMap<(String, i32), Offset>,
    /// The partition that comes first in the next request, so that a limit starves none.
    turn: usize,
}

/// What one partition gave to one poll.
#[derive(Debug, Clone)]
pub struct Polled {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset that was wanted.
    pub from: Offset,
    /// The first offset that comes next.
    pub next: Offset,
    /// The end of what may be read.
    pub high_watermark: Offset,
    batches: Bytes,
    caps: Caps,
}

/// Between polls in vain, when no broker does the waiting.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

impl Consumer {
    /// A consumer without partitions.
    #[must_use]
    pub fn new(client: Client, options: ConsumerOptions) -> Consumer {
        Consumer {
            client,
            options,
            positions: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Reads a partition from an offset on, also when it was assigned before.
    pub fn assign(&mut self, topic: &str, partition: i32, offset: Offset) {
        self.positions.insert((topic.to_owned(), partition), offset);
    }

    /// Reads a partition no more.
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        self.positions.remove(&(topic.to_owned(), partition));
    }

    /// The offset that comes next.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.positions.get(&(topic.to_owned(), partition)).copied()
    }

    /// Reads what there is; empty when nothing came within the wait.
    ///
    /// Positions move behind what is returned. Brokers that are away are tried again until the
    /// deadline; an error that trying again cannot mend is returned, positions unmoved.
    pub async fn poll(&mut self, deadline: Instant) -> Result<Vec<Polled>, ClientError> {
        let mut positions: Vec<FetchPosition> = self
            .positions
            .iter()
            .map(|((topic, partition), offset)| FetchPosition {
                topic: topic.clone(),
                partition: *partition,
                offset: *offset,
            })
            .collect();
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.turn % positions.len();
        positions.rotate_left(first);
        self.turn = self.turn.wrapping_add(1);
        let mut attempt = 0;
        loop {
            let fetch = &self.options.fetch;
            let outcomes = self
                .client
                .fetch_many(&positions, fetch, attempt, deadline)
                .await;
            let mut polled = Vec::new();
            let mut failed = None;
            for (position, outcome) in positions.iter().zip(outcomes) {
                match outcome {
                    Ok(fetched) if fetched.records.is_empty() => {}
                    Ok(fetched) => polled.push(self.polled(position, fetched)?),
                    Err(error) if error.is_retriable() => failed = Some(error),
                    Err(error) => return Err(error),
                }
            }
            for one in &polled {
                self.positions
                    .insert((one.topic.clone(), one.partition), one.next);
            }
            match failed {
                Some(last) if polled.is_empty() => {
                    if Instant::now() + PAUSE >= deadline {
                        let what = "reading".to_owned();
                        return Err(ClientError::Deadline {
                            what,
                            last: Some(Box::new(last)),
                        });
                    }
                    attempt += 1;
                    sleep(PAUSE).await;
                }
                _ => return Ok(polled),
            }
        }
    }

    fn polled(
        &self,
        position: &FetchPosition,
        fetched: crate::fetch::Fetched,
    ) -> Result<Polled, ClientError> {
        let bad = |reason: String| ClientError::Batch {
            what: format!("reading {}-{}", position.topic, position.partition),
            reason,
        };
        let mut next = position.offset;
        for batch in Batches::new(&fetched.records) {
            let batch = batch.map_err(|error| bad(error.to_string()))?;
            let header = batch.header();
            if !batch.crc_is_valid() {
                return Err(bad(format!(
                    "the batch at {} is damaged",
                    header.base_offset
                )));
            }
            next = next.max(header.next_offset());
        }
        Ok(Polled {
            topic: position.topic.clone(),
            partition: position.partition,
            from: position.offset,
            next,
            high_watermark: fetched.high_watermark,
            batches: fetched.records,
            caps: self.options.caps,
        })
    }
}

impl Polled {
    /// Shows every record from the wanted offset on, in order, control records left out.
    pub fn for_each(&self, mut look: impl FnMut(&Record<'_>)) -> Result<(), ClientError> {
        let bad = |reason: String| ClientError::Batch {
            what: format!("reading {}-{}", self.topic, self.partition),
            reason,
        };
        for batch in Batches::new(&self.batches) {
            let batch = batch.map_err(|error| bad(error.to_string()))?;
            if batch.header().attributes.is_control() || batch.header().last_offset() < self.from {
                continue;
            }
            let records = batch
                .records(&self.caps)
                .map_err(|error| bad(error.to_string()))?;
            for record in &records {
                let record = record.map_err(|error| bad(error.to_string()))?;
                if record.offset >= self.from {
                    look(&record);
                }
            }
        }
        Ok(())
    }

    /// The batches as they came, of which the first may begin before the wanted offset.
    #[must_use]
    pub fn batches(&self) -> &Bytes {
        &self.batches
    }
}

#[cfg(test)]
mod tests;

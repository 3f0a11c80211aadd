//! Producer ids: unique for ever, taken from the store in blocks.
//!
//! A block is a compare-and-swap on `producer-ids`; what a process has not used when it ends is
//! never used.

use esker_metadata::controller as decide;
use esker_metadata::image::Versioned;
use esker_metadata::{Keys, MetadataStore, StoreError};
use esker_protocol::ProducerId;
use tokio::sync::Mutex;

use crate::authority::{Commit, commit};
use crate::broker::Shared;

/// Ids taken at a time, as Kafka's controller hands them out.
const BLOCK_SIZE: u32 = 1000;

/// Tries to take a block while others do the same.
const TRIES_MAX: usize = 8;

/// The block that this broker is using up.
#[derive(Debug, Default)]
pub struct ProducerIds(Mutex<Block>);

#[derive(Debug, Default)]
struct Block {
    next: i64,
    end: i64,
}

/// No id can be had now; asking again may help.
#[derive(Debug, thiserror::Error)]
pub enum NoProducerId {
    /// The store gave no block.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored value cannot be read.
    #[error(transparent)]
    Value(#[from] esker_metadata::values::ValueError),
    /// All ids there are have been given.
    #[error("all producer ids are used up")]
    Exhausted,
    /// Other brokers were faster every time.
    #[error("other brokers keep taking blocks of producer ids")]
    Contended,
}

impl ProducerIds {
    /// The next id.
    ///
    /// # Errors
    /// A new block is needed and cannot be had.
    pub async fn next(&self, shared: &Shared) -> Result<ProducerId, NoProducerId> {
        let mut block = self.0.lock().await;
        if block.next == block.end {
            *block = take_block(shared.environment.metadata.as_ref(), &shared.keys).await?;
        }
        let id = block.next;
        block.next += 1;
        Ok(ProducerId(id))
    }
}

async fn take_block(store: &dyn MetadataStore, keys: &Keys) -> Result<Block, NoProducerId> {
    for _ in 0..TRIES_MAX {
        let (entry, _) = store.get(&keys.producer_ids()).await?;
        let current = entry.as_ref().map(Versioned::decode).transpose()?;
        let (ids, transaction) = decide::take_producer_ids(keys, current.as_ref(), BLOCK_SIZE)
            .ok_or(NoProducerId::Exhausted)?;
        // After a lost answer the block may be ours and may be another's: it is left unused.
        if let Commit::Done(_) = commit(store, transaction).await? {
            return Ok(Block {
                next: ids.start.0,
                end: ids.end.0,
            });
        }
    }
    Err(NoProducerId::Contended)
}

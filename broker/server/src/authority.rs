//! Transactions on the metadata store, with the outcomes that P1 asks to tell apart.

use esker_metadata::controller::Batch;
use esker_metadata::pending::{Pending, Settled};
use esker_metadata::{MetadataStore, Revision, StoreError, Transaction};

/// How a transaction ended. There is no "maybe": a transaction without an answer is settled first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// It happened, at this revision.
    Done(Revision),
    /// A compare failed, and nothing happened or will happen.
    Refused,
    /// A key that it compared has moved while there was no answer: whether this transaction or
    /// another did that, the caller reads from the key.
    Moved,
}

/// Runs a transaction to its end.
///
/// # Errors
/// The store cannot be reached, or has failed.
pub async fn commit(
    store: &dyn MetadataStore,
    transaction: Transaction,
) -> Result<Commit, StoreError> {
    match store.transact(transaction.clone()).await {
        Ok(outcome) if outcome.succeeded => Ok(Commit::Done(outcome.revision)),
        Ok(_) => Ok(Commit::Refused),
        Err(StoreError::Unknown) => settle(store, transaction).await,
        Err(error) => Err(error),
    }
}

async fn settle(store: &dyn MetadataStore, transaction: Transaction) -> Result<Commit, StoreError> {
    let pending = Pending::new(transaction).map_err(|_| StoreError::Unknown)?;
    Ok(match pending.settle(store).await? {
        Settled::Never(_) => Commit::Refused,
        Settled::Repeated(revision) => Commit::Done(revision),
        Settled::Beyond(_) => Commit::Moved,
    })
}

/// Runs a batch to its end; changes whose own keys have moved are left out (P1).
///
/// Returns what was committed of it, or `None` where nothing was, as far as this process knows.
///
/// # Errors
/// The store cannot be reached, or has failed.
pub async fn commit_batch(
    store: &dyn MetadataStore,
    mut batch: Batch,
) -> Result<Option<Batch>, StoreError> {
    loop {
        let transaction = batch.transaction();
        match store.transact(transaction.clone()).await {
            Ok(outcome) if outcome.succeeded => return Ok(Some(batch)),
            Ok(outcome) => match batch.without_failed(&outcome) {
                Some(rest) if rest.len() < batch.len() => batch = rest,
                _ => return Ok(None),
            },
            Err(StoreError::Unknown) => {
                let settled = settle(store, transaction).await?;
                return Ok(matches!(settled, Commit::Done(_)).then_some(batch));
            }
            Err(error) => return Err(error),
        }
    }
}

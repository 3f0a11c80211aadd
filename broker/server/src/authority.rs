//! Transactions on the metadata store, with the outcomes that P1 asks to tell apart.

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
        Err(StoreError::Unknown) => {
            let pending = Pending::new(transaction).map_err(|_| StoreError::Unknown)?;
            match pending.settle(store).await? {
                Settled::Never(_) => Ok(Commit::Refused),
                Settled::Repeated(revision) => Ok(Commit::Done(revision)),
                Settled::Beyond(_) => Ok(Commit::Moved),
            }
        }
        Err(error) => Err(error),
    }
}

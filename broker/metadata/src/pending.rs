//! Transactions without an answer (P1).
//!
//! A request that timed out may have happened, or happen later, and a read that shows the old
//! revision proves nothing. It is over only when a key that it compared is seen beyond the revision
//! that it compared. Until then all outcomes count.
//!
//! A transaction that compares keys with absence alone is fenced only while one of them exists:
//! where such a key may be deleted again, the transaction must also compare a revision, or what it
//! creates must have a new identity in every try (as topics do, P3).

use crate::store::{Condition, Entry, MetadataStore, Operation, Revision, StoreError, Transaction};

/// A transaction that may have happened, or may happen later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    transaction: Transaction,
}

/// The transaction compares no key's revision or absence, so nothing can ever end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the transaction compares no revision that could fence it")]
pub struct Unfenced;

/// How a pending transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It never happened and never will: its key was put again, as it was, at this revision.
    Never(Revision),
    /// It never happened before, and has happened now at this revision: it was sent again.
    Repeated(Revision),
    /// The key was already beyond: this is its entry, which shows who has written it.
    Beyond(Option<Entry>),
}

impl Pending {
    /// Takes up a transaction that got no answer.
    ///
    /// # Errors
    ///
    /// Nothing can ever end it.
    pub fn new(transaction: Transaction) -> Result<Pending, Unfenced> {
        let pending = Pending { transaction };
        if pending.fence().is_some() {
            Ok(pending)
        } else {
            Err(Unfenced)
        }
    }

    /// The transaction.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// The key that ends it: one that it compares by revision if there is one, and writes if
    /// possible, because then its entry tells whether it happened.
    fn fence(&self) -> Option<(&str, Condition)> {
        let written = |key: &str| self.transaction.then.iter().any(|then| then.key() == key);
        self.transaction
            .compares
            .iter()
            .filter(|compare| compare.condition != Condition::Present)
            .map(|compare| (compare.key.as_str(), compare.condition))
            .max_by_key(|(key, condition)| (*condition != Condition::Absent, written(key)))
    }

    /// Whether a key, read at `read`, proves that the transaction is over.
    #[must_use]
    pub fn is_ended_by(&self, key: &str, entry: Option<&Entry>, read: Revision) -> bool {
        self.transaction
            .compares
            .iter()
            .filter(|compare| compare.key == key)
            .any(|compare| is_beyond(compare.condition, entry, read))
    }

    /// Ends the transaction: reads its key, and puts it again as it is, if need be.
    ///
    /// # Errors
    ///
    /// It is still pending; the caller tries again. [`StoreError::Fatal`]: the store has forgotten
    /// the revision that the transaction compared, so it was rewound (P2).
    pub async fn settle(&self, store: &dyn MetadataStore) -> Result<Settled, StoreError> {
        let Some((key, condition)) = self.fence() else {
            return Err(StoreError::Unknown);
        };
        let Condition::ModRevision(compared) = condition else {
            return self.repeat(store, key).await;
        };
        let (entry, read) = store.get(key).await?;
        if is_beyond(condition, entry.as_ref(), read) {
            return Ok(Settled::Beyond(entry));
        }
        let Some(entry) = entry.filter(|entry| entry.mod_revision == compared) else {
            return Err(StoreError::Fatal(format!(
                "{key} is older than revision {compared}, at which it was read: the store was rewound"
            )));
        };
        let again = Transaction {
            compares: Transaction::new().expect_revision(key, compared).compares,
            then: vec![Operation::Put {
                key: entry.key,
                value: entry.value,
                lease: entry.lease,
            }],
            otherwise: Vec::new(),
        };
        match store.transact(again).await {
            Ok(outcome) if outcome.succeeded => Ok(Settled::Never(outcome.revision)),
            Ok(outcome) => {
                let entry = outcome
                    .current
                    .into_iter()
                    .find(|(current, _)| current == key);
                Ok(Settled::Beyond(entry.and_then(|(_, entry)| entry)))
            }
            // The key goes with its lease, and then it is beyond.
            Err(StoreError::LeaseEnded(lease)) => Err(StoreError::Unavailable(format!(
                "lease {lease} of {key} is ending"
            ))),
            Err(error) => Err(error),
        }
    }

    /// Ends a transaction that creates keys by sending it again: once one exists, the other copy
    /// can no longer happen.
    async fn repeat(&self, store: &dyn MetadataStore, key: &str) -> Result<Settled, StoreError> {
        let outcome = store.transact(self.transaction.clone()).await?;
        if outcome.succeeded {
            return Ok(Settled::Repeated(outcome.revision));
        }
        // Only absence was compared, so one of the keys exists; it tells who came first.
        let existing = outcome.current.into_iter().find_map(|(_, entry)| entry);
        match existing {
            Some(entry) => Ok(Settled::Beyond(Some(entry))),
            None => Ok(Settled::Beyond(store.get(key).await?.0)),
        }
    }
}

fn is_beyond(condition: Condition, entry: Option<&Entry>, read: Revision) -> bool {
    match (condition, entry) {
        (Condition::ModRevision(compared), Some(entry)) => entry.mod_revision > compared,
        // Deleted since: the revision never comes back.
        (Condition::ModRevision(compared), None) => read > compared,
        (Condition::Absent, entry) => entry.is_some(),
        (Condition::Present, _) => false,
    }
}

#[cfg(test)]
mod tests;

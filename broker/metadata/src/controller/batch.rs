//! Many keys, each with its own fence, in as few transactions as the limits allow.

use bytes::Bytes;

use crate::store::{
    COMPARES_MAX, Compare, Condition, OPERATIONS_MAX, Operation, Revision, TRANSACTION_BYTES_MAX,
    Transaction, TransactionOutcome,
};

/// One key's change with its fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What the key must be.
    pub condition: Condition,
    /// What happens to it.
    pub operation: Operation,
}

impl Change {
    /// Creates a key.
    #[must_use]
    pub fn create(key: String, value: Bytes) -> Change {
        Change {
            condition: Condition::Absent,
            operation: Operation::Put {
                key,
                value,
                lease: None,
            },
        }
    }

    /// Replaces a key that was read at this revision.
    #[must_use]
    pub fn replace(key: String, read: Revision, value: Bytes) -> Change {
        Change {
            condition: Condition::ModRevision(read),
            operation: Operation::Put {
                key,
                value,
                lease: None,
            },
        }
    }

    fn compare(&self) -> Compare {
        Compare {
            key: self.operation.key().to_owned(),
            condition: self.condition,
        }
    }
}

/// Changes that are independent of each other, made together to save round trips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What must be true for any of them.
    guards: Vec<Compare>,
    changes: Vec<Change>,
}

impl Batch {
    /// Divides changes, in their order, into batches that every store takes.
    pub(super) fn divide(guards: &[Compare], changes: Vec<Change>) -> Vec<Batch> {
        let count_max = OPERATIONS_MAX.min(COMPARES_MAX - guards.len());
        let empty = || Batch {
            guards: guards.to_vec(),
            changes: Vec::new(),
        };
        let mut batches = Vec::new();
        let mut batch = empty();
        let mut bytes = batch.transaction().weight();
        for change in changes {
            let one = Batch {
                guards: Vec::new(),
                changes: vec![change],
            };
            let weight = one.transaction().weight();
            let full = batch.changes.len() == count_max || bytes + weight > TRANSACTION_BYTES_MAX;
            if full && !batch.changes.is_empty() {
                batches.push(std::mem::replace(&mut batch, empty()));
                bytes = batch.transaction().weight();
            }
            bytes += weight;
            batch.changes.extend(one.changes);
        }
        if !batch.changes.is_empty() {
            batches.push(batch);
        }
        batches
    }

    /// The transaction that makes all changes or none.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        let own = self.changes.iter().map(Change::compare);
        Transaction {
            compares: self.guards.iter().cloned().chain(own).collect(),
            then: self
                .changes
                .iter()
                .map(|change| change.operation.clone())
                .collect(),
            otherwise: Vec::new(),
        }
    }

    /// The keys that change, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().map(|change| change.operation.key())
    }

    /// How many keys change.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether no key changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What is left to try after the transaction failed: the changes whose own keys are as
    /// expected. A batch that fails on one compare is split, not retried whole (P1).
    ///
    /// `None` where nothing is left, or a guard failed: plan anew from a later image.
    #[must_use]
    pub fn without_failed(&self, outcome: &TransactionOutcome) -> Option<Batch> {
        let holds = |compare: &Compare| {
            let entry = outcome.current.iter().find(|(key, _)| *key == compare.key);
            entry.is_some_and(|(_, entry)| compare.condition.holds(entry.as_ref()))
        };
        if outcome.succeeded || !self.guards.iter().all(holds) {
            return None;
        }
        let left: Vec<Change> = self
            .changes
            .iter()
            .filter(|change| holds(&change.compare()))
            .cloned()
            .collect();
        (!left.is_empty()).then(|| Batch {
            guards: self.guards.clone(),
            changes: left,
        })
    }
}

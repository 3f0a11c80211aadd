//! Transactions: compares, and what to do when all of them hold or when one does not.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Entry, LeaseId, Revision};

/// The most compares of one transaction (P1; etcd's default is 128).
pub const COMPARES_MAX: usize = 100;
/// The most operations on either side of one transaction (P1; etcd's default is 128).
pub const OPERATIONS_MAX: usize = 100;
/// The most bytes of one transaction (P1; etcd's default is 1.5 MiB).
pub const TRANSACTION_BYTES_MAX: usize = 1024 * 1024;
/// What a compare or an operation weighs beside its key and value.
const ITEM_BYTES: usize = 32;

/// What a compare demands of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The key exists and was last put at this revision.
    ModRevision(Revision),
    /// The key does not exist.
    Absent,
    /// The key exists.
    Present,
}

impl Condition {
    /// Whether the entry of the key, as it is now, satisfies the condition.
    #[must_use]
    pub fn holds(self, entry: Option<&Entry>) -> bool {
        match self {
            Condition::ModRevision(revision) => {
                entry.is_some_and(|entry| entry.mod_revision == revision)
            }
            Condition::Absent => entry.is_none(),
            Condition::Present => entry.is_some(),
        }
    }
}

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// What it must be.
    pub condition: Condition,
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Creates or replaces a key. Its lease becomes the one given here, or none.
    Put {
        /// The key.
        key: String,
        /// The new value.
        value: Bytes,
        /// The lease whose end deletes the key.
        lease: Option<LeaseId>,
    },
    /// Deletes a key; a key that does not exist is fine.
    Delete {
        /// The key.
        key: String,
    },
}

impl Operation {
    /// The key that the operation changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Operation::Put { key, .. } | Operation::Delete { key } => key,
        }
    }
}

/// Changes that happen together, if all compares hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must be true.
    pub compares: Vec<Compare>,
    /// What happens when all of it is.
    pub then: Vec<Operation>,
    /// What happens when any of it is not.
    pub otherwise: Vec<Operation>,
}

impl Transaction {
    /// A transaction that demands nothing and does nothing.
    #[must_use]
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// Demands that the key was last put at this revision.
    #[must_use]
    pub fn expect_revision(mut self, key: impl Into<String>, revision: Revision) -> Transaction {
        let condition = Condition::ModRevision(revision);
        self.compares.push(Compare {
            key: key.into(),
            condition,
        });
        self
    }

    /// Demands that the key does not exist.
    #[must_use]
    pub fn expect_absent(mut self, key: impl Into<String>) -> Transaction {
        self.compares.push(Compare {
            key: key.into(),
            condition: Condition::Absent,
        });
        self
    }

    /// Demands that the key exists.
    #[must_use]
    pub fn expect_present(mut self, key: impl Into<String>) -> Transaction {
        self.compares.push(Compare {
            key: key.into(),
            condition: Condition::Present,
        });
        self
    }

    /// Demands that the key still is what was read: this entry, or absent.
    #[must_use]
    pub fn expect_entry(self, key: impl Into<String>, read: Option<&Entry>) -> Transaction {
        match read {
            Some(entry) => self.expect_revision(key, entry.mod_revision),
            None => self.expect_absent(key),
        }
    }

    /// Puts a key, on no lease, if all compares hold.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Transaction {
        self.then.push(Operation::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        });
        self
    }

    /// Puts a key on a lease if all compares hold.
    #[must_use]
    pub fn put_leased(
        mut self,
        key: impl Into<String>,
        value: impl Into<Bytes>,
        lease: LeaseId,
    ) -> Transaction {
        let lease = Some(lease);
        self.then.push(Operation::Put {
            key: key.into(),
            value: value.into(),
            lease,
        });
        self
    }

    /// Deletes a key if all compares hold.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Transaction {
        self.then.push(Operation::Delete { key: key.into() });
        self
    }

    /// What the transaction weighs, in bytes: keys, values and a fixed share for each item.
    #[must_use]
    pub fn weight(&self) -> usize {
        let compares = self
            .compares
            .iter()
            .map(|compare| ITEM_BYTES + compare.key.len());
        let operations = self.then.iter().chain(&self.otherwise).map(|operation| {
            ITEM_BYTES
                + match operation {
                    Operation::Put { key, value, .. } => key.len() + value.len(),
                    Operation::Delete { key } => key.len(),
                }
        });
        compares.chain(operations).fold(0, usize::saturating_add)
    }

    /// Checks the limits that hold in every store (P1), so that none is met for the first time in
    /// production.
    ///
    /// # Errors
    ///
    /// The first limit that the transaction exceeds.
    pub fn check(&self) -> Result<(), TransactionLimit> {
        if self.compares.len() > COMPARES_MAX {
            return Err(TransactionLimit::Compares(self.compares.len()));
        }
        for side in [&self.then, &self.otherwise] {
            if side.len() > OPERATIONS_MAX {
                return Err(TransactionLimit::Operations(side.len()));
            }
            let mut keys = BTreeSet::new();
            if let Some(twice) = side.iter().find(|operation| !keys.insert(operation.key())) {
                return Err(TransactionLimit::KeyTwice(twice.key().to_owned()));
            }
        }
        let bytes = self.weight();
        if bytes > TRANSACTION_BYTES_MAX {
            return Err(TransactionLimit::Bytes(bytes));
        }
        Ok(())
    }
}

/// A transaction that no store takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionLimit {
    /// Too many compares.
    #[error("a transaction has {0} compares, more than {COMPARES_MAX}")]
    Compares(usize),
    /// Too many operations on one side.
    #[error("a transaction has {0} operations, more than {OPERATIONS_MAX}")]
    Operations(usize),
    /// Too large.
    #[error("a transaction has {0} bytes, more than {TRANSACTION_BYTES_MAX}")]
    Bytes(usize),
    /// One side changes the same key twice.
    #[error("a transaction changes the key {0:?} twice")]
    KeyTwice(String),
}

/// The answer to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionOutcome {
    /// Whether all compares held, and so which side happened.
    pub succeeded: bool,
    /// The store's revision after the transaction; the one it made, if it changed anything.
    pub revision: Revision,
    /// When a compare failed and there was nothing to do `otherwise`: the compared keys as they
    /// are now. Else empty.
    pub current: Vec<(String, Option<Entry>)>,
}

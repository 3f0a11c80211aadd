//! What a store in one process holds, and what a transaction does to it: pure.
//!
//! A [`Batch`] runs transactions against the state without changing it, so that their changes can
//! be made durable first; [`State::commit`] then makes them visible at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::history::History;
use crate::store::{
    Entry, LeaseId, Operation, Revision, StoreError, Transaction, TransactionOutcome, WatchEvent,
};

/// All keys at one revision, with the changes that led there and the leases.
#[derive(Debug, Clone)]
pub(crate) struct State {
    entries: BTreeMap<String, Entry>,
    revision: Revision,
    leases: BTreeMap<LeaseId, Lease>,
    history: History,
}

#[derive(Debug, Clone)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
    keys: BTreeSet<String>,
}

/// Transactions that have run, and are not visible yet.
#[derive(Debug)]
pub(crate) struct Batch {
    changes: BTreeMap<String, Option<Entry>>,
    events: Vec<WatchEvent>,
    revision: Revision,
    ended: BTreeSet<LeaseId>,
}

impl Batch {
    /// Whether nothing was changed, so that nothing needs to become durable.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The changed keys as they are after the batch.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&str, Option<&Entry>)> {
        self.changes
            .iter()
            .map(|(key, entry)| (key.as_str(), entry.as_ref()))
    }

    /// The revision after the batch.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }
}

impl State {
    /// A state with these entries and no lease, that knows no earlier changes.
    pub(crate) fn new(entries: BTreeMap<String, Entry>, revision: Revision) -> State {
        State {
            entries,
            revision,
            leases: BTreeMap::new(),
            history: History::new(revision),
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn list(&self, prefix: &str) -> Vec<Entry> {
        self.entries
            .range(prefix.to_owned()..)
            .map(|(_, entry)| entry)
            .take_while(|entry| entry.key.starts_with(prefix))
            .cloned()
            .collect()
    }

    pub(crate) fn batch(&self) -> Batch {
        Batch {
            changes: BTreeMap::new(),
            events: Vec::new(),
            revision: self.revision,
            ended: BTreeSet::new(),
        }
    }

    fn lookup<'a>(&'a self, batch: &'a Batch, key: &str) -> Option<&'a Entry> {
        match batch.changes.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.entries.get(key),
        }
    }

    /// Runs a transaction after those already in the batch.
    pub(crate) fn run(
        &self,
        batch: &mut Batch,
        transaction: Transaction,
        now: Instant,
    ) -> Result<TransactionOutcome, StoreError> {
        transaction.check()?;
        let Transaction {
            compares,
            then,
            otherwise,
        } = transaction;
        let succeeded = compares
            .iter()
            .all(|compare| compare.condition.holds(self.lookup(batch, &compare.key)));
        let mut current = Vec::new();
        if !succeeded && otherwise.is_empty() {
            for compare in compares {
                let entry = self.lookup(batch, &compare.key).cloned();
                current.push((compare.key, entry));
            }
        }
        let operations = if succeeded { then } else { otherwise };
        // Every lease is checked before anything changes: a transaction is whole or nothing.
        for operation in &operations {
            if let Operation::Put {
                lease: Some(lease), ..
            } = operation
                && (batch.ended.contains(lease) || !self.is_live(*lease, now))
            {
                return Err(StoreError::LeaseEnded(*lease));
            }
        }
        self.change(batch, operations);
        Ok(TransactionOutcome {
            succeeded,
            revision: batch.revision,
            current,
        })
    }

    /// Makes the operations one revision, unless they change nothing.
    fn change(&self, batch: &mut Batch, operations: Vec<Operation>) {
        let revision = batch.revision.next();
        let mut changes = BTreeMap::new();
        for operation in operations {
            match operation {
                Operation::Put { key, value, lease } => {
                    let create_revision = self
                        .lookup(batch, &key)
                        .map_or(revision, |entry| entry.create_revision);
                    let entry = Entry {
                        key: key.clone(),
                        value,
                        mod_revision: revision,
                        create_revision,
                        lease,
                    };
                    changes.insert(key, Some(entry));
                }
                Operation::Delete { key } => {
                    if self.lookup(batch, &key).is_some() {
                        changes.insert(key, None);
                    }
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        batch.revision = revision;
        batch.changes.extend(
            changes
                .iter()
                .map(|(key, entry)| (key.clone(), entry.clone())),
        );
        batch.events.push(WatchEvent {
            revision,
            changes: changes.into_iter().collect(),
        });
    }

    /// Ends leases and deletes their keys, in one revision for each lease.
    pub(crate) fn end_leases(&self, batch: &mut Batch, leases: impl IntoIterator<Item = LeaseId>) {
        for lease in leases {
            if !batch.ended.insert(lease) {
                continue;
            }
            let held = self.leases.get(&lease).map(|lease| &lease.keys);
            let keys: BTreeSet<&String> = held
                .into_iter()
                .flatten()
                .chain(batch.changes.keys())
                .collect();
            let on_lease =
                |key: &str| self.lookup(batch, key).and_then(|entry| entry.lease) == Some(lease);
            let deletes = keys
                .into_iter()
                .filter(|key| on_lease(key))
                .map(|key| Operation::Delete { key: key.clone() })
                .collect();
            self.change(batch, deletes);
        }
    }

    /// Deletes all keys that are on a lease which this state does not know: those of an earlier
    /// process.
    pub(crate) fn delete_orphans(&self, batch: &mut Batch) {
        let orphaned = |entry: &&Entry| {
            entry
                .lease
                .is_some_and(|lease| !self.leases.contains_key(&lease))
        };
        let deletes = self
            .entries
            .values()
            .filter(orphaned)
            .map(|entry| Operation::Delete {
                key: entry.key.clone(),
            })
            .collect();
        self.change(batch, deletes);
    }

    /// Makes a batch visible.
    pub(crate) fn commit(&mut self, batch: Batch) {
        assert!(
            batch.revision >= self.revision,
            "a batch is committed once, in order"
        );
        for (key, entry) in batch.changes {
            if let Some(lease) = self.entries.get(&key).and_then(|entry| entry.lease)
                && let Some(lease) = self.leases.get_mut(&lease)
            {
                lease.keys.remove(&key);
            }
            match entry {
                Some(entry) => {
                    if let Some(lease) = entry.lease
                        && let Some(lease) = self.leases.get_mut(&lease)
                    {
                        lease.keys.insert(key.clone());
                    }
                    self.entries.insert(key, entry);
                }
                None => {
                    self.entries.remove(&key);
                }
            }
        }
        for lease in batch.ended {
            self.leases.remove(&lease);
        }
        self.revision = batch.revision;
        for event in batch.events {
            self.history.push(event);
        }
    }

    /// A lease is over at its deadline, also when nobody has deleted its keys yet.
    fn is_live(&self, lease: LeaseId, now: Instant) -> bool {
        self.leases
            .get(&lease)
            .is_some_and(|lease| now < lease.deadline)
    }

    pub(crate) fn grant(&mut self, id: LeaseId, ttl: Duration, now: Instant) {
        let lease = Lease {
            ttl,
            deadline: now + ttl,
            keys: BTreeSet::new(),
        };
        assert!(
            self.leases.insert(id, lease).is_none(),
            "a lease id is never given twice"
        );
    }

    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Result<(), StoreError> {
        match self.leases.get_mut(&id) {
            Some(lease) if now < lease.deadline => {
                lease.deadline = now + lease.ttl;
                Ok(())
            }
            _ => Err(StoreError::LeaseEnded(id)),
        }
    }

    /// Starts the time of every lease anew.
    pub(crate) fn keep_all_alive(&mut self, now: Instant) {
        for lease in self.leases.values_mut() {
            lease.deadline = now + lease.ttl;
        }
    }

    /// When the next lease ends.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.deadline).min()
    }

    /// The leases whose time is over.
    pub(crate) fn expired(&self, now: Instant) -> Vec<LeaseId> {
        self.leases
            .iter()
            .filter(|(_, lease)| lease.deadline <= now)
            .map(|(id, _)| *id)
            .collect()
    }
}

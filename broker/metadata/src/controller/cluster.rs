//! The cluster itself: its identity, its controller, its brokers, its producer ids.

use std::collections::BTreeMap;
use std::ops::Range;

use esker_protocol::{BrokerId, ProducerId};

use crate::image::{Image, Versioned};
use crate::keys::Keys;
use crate::store::{LeaseId, Revision, Transaction};
use crate::values::{
    BrokerInfoValue, BrokerValue, ClusterValue, ControllerValue, DirectoryId, ProcessId,
    ProducerIdsValue, Unknown, Value,
};

/// Creates the cluster's identity, once (P2).
#[must_use]
pub fn create_cluster(keys: &Keys, cluster_id: &str) -> Transaction {
    let value = ClusterValue {
        cluster_id: cluster_id.to_owned(),
        incarnation: 0,
        bucket_used: false,
        features: BTreeMap::new(),
        unknown: Unknown::new(),
    };
    Transaction::new()
        .expect_absent(keys.cluster())
        .put(keys.cluster(), value.encode())
}

/// Notes that a bucket holds the cluster's marker, before the first object is put (P2).
#[must_use]
pub fn mark_bucket_used(keys: &Keys, cluster: &Versioned<ClusterValue>) -> Transaction {
    let value = ClusterValue {
        bucket_used: true,
        ..cluster.value.clone()
    };
    Transaction::new()
        .expect_revision(keys.cluster(), cluster.revision)
        .put(keys.cluster(), value.encode())
}

/// Makes the broker the controller, if there is none.
#[must_use]
pub fn elect_controller(keys: &Keys, broker: BrokerId, lease: LeaseId) -> Transaction {
    let value = ControllerValue {
        broker,
        unknown: Unknown::new(),
    };
    Transaction::new()
        .expect_absent(keys.controller())
        .put_leased(keys.controller(), value.encode(), lease)
}

/// Takes the next `count` producer ids for one broker.
///
/// Returns the ids that are its own once the transaction has succeeded. `None` where they are used
/// up, after 2^63 of them.
#[must_use]
pub fn take_producer_ids(
    keys: &Keys,
    current: Option<&Versioned<ProducerIdsValue>>,
    count: u32,
) -> Option<(Range<ProducerId>, Transaction)> {
    let key = keys.producer_ids();
    let (first, unknown) = match current {
        Some(current) => (current.value.next, current.value.unknown.clone()),
        None => (ProducerId(0), Unknown::new()),
    };
    let next = ProducerId(first.0.checked_add(i64::from(count))?);
    let guarded = match current {
        Some(current) => Transaction::new().expect_revision(&key, current.revision),
        None => Transaction::new().expect_absent(&key),
    };
    let value = ProducerIdsValue { next, unknown };
    Some((first..next, guarded.put(key, value.encode())))
}

/// Why a broker may not register.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// Another process with the id is alive, and this one does not show that it follows it.
    #[error("broker {broker} is registered by another process, which is alive")]
    Alive {
        /// The broker.
        broker: BrokerId,
    },
    /// Two brokers show the same log directory: one of the two volumes is a copy.
    #[error("log directory {directory} of broker {broker} is shown by live broker {other} too")]
    DirectoryShared {
        /// The broker that registers.
        broker: BrokerId,
        /// The directory.
        directory: DirectoryId,
        /// The broker that has it.
        other: BrokerId,
    },
}

/// Registers a broker, or registers it again (P2).
///
/// `proof` is the revision of `broker-info/<id>` on which the broker's proof of its own log rested,
/// or `None` where the key was absent: whoever registered since makes the proof void.
///
/// # Errors
///
/// Another process holds the id, or one of the directories.
pub fn register(
    image: &Image,
    broker: BrokerId,
    value: &BrokerValue,
    info: &BrokerInfoValue,
    proof: Option<Revision>,
    lease: LeaseId,
) -> Result<Transaction, RegistrationError> {
    for (other, registration) in image.brokers().filter(|(id, _)| *id != broker) {
        let theirs = &registration.value.directories;
        if let Some(directory) = value.directories.iter().find(|own| theirs.contains(own)) {
            let directory = *directory;
            return Err(RegistrationError::DirectoryShared {
                broker,
                directory,
                other,
            });
        }
    }
    let keys = image.keys();
    let (key, info_key) = (keys.broker(broker), keys.broker_info(broker));
    let guarded = match image.broker(broker) {
        None => Transaction::new().expect_absent(&key),
        Some(old) => {
            // The same process after a lost lease, or the next one over the same disks while the
            // lease of the dead one still runs.
            let follows = old.value.incarnation == value.incarnation
                || old
                    .value
                    .directories
                    .iter()
                    .any(|old| value.directories.contains(old));
            if !follows {
                return Err(RegistrationError::Alive { broker });
            }
            Transaction::new().expect_revision(&key, old.revision)
        }
    };
    let guarded = match proof {
        Some(revision) => guarded.expect_revision(&info_key, revision),
        None => guarded.expect_absent(&info_key),
    };
    Ok(guarded
        .put_leased(key, value.encode(), lease)
        .put(info_key, info.encode()))
}

/// Whether another process has registered as the broker since this one did. This one must end then
/// (P2), also where the other is gone again.
#[must_use]
pub fn is_replaced(image: &Image, broker: BrokerId, incarnation: ProcessId) -> bool {
    image
        .broker_info(broker)
        .is_some_and(|info| info.value.incarnation != incarnation)
}

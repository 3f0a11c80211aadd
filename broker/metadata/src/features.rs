//! Feature levels: what a cluster of this version can do, and what it has agreed on.
//!
//! Kafka's names and numbers, so that its clients and tools understand them. A feature that is not
//! here is not supported.

use std::collections::BTreeMap;

use crate::image::{Image, Versioned};
use crate::keys::Keys;
use crate::store::Transaction;
use crate::values::{ClusterValue, Value};

/// A feature that this version supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The least level that can be finalized.
    pub min: i16,
    /// The greatest level.
    pub max: i16,
    /// The level of a cluster where nobody has said otherwise.
    pub initial: i16,
}

/// `group.version`: from level 1 on there are consumer groups of the new protocol.
pub const GROUP_VERSION: &str = "group.version";

/// Every supported feature, sorted by name.
pub const FEATURES: [Feature; 3] = [
    Feature {
        name: "eligible.leader.replicas.version",
        min: 0,
        max: 1,
        initial: 1,
    },
    Feature {
        name: GROUP_VERSION,
        min: 0,
        max: 1,
        initial: 1,
    },
    // Stands for the version of Apache Kafka that this one is compatible with.
    Feature {
        name: "metadata.version",
        min: 7,
        max: 30,
        initial: 30,
    },
];

/// The finalized level of each feature.
#[must_use]
pub fn finalized(image: &Image) -> BTreeMap<&'static str, i16> {
    let stored = image.cluster().map(|cluster| &cluster.value.features);
    FEATURES
        .iter()
        .map(|feature| {
            let stored = stored.and_then(|levels| levels.get(feature.name));
            (feature.name, stored.copied().unwrap_or(feature.initial))
        })
        .collect()
}

/// The supported feature of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

/// Finalizes these levels, which are checked already; the others stay.
#[must_use]
pub fn finalize(
    keys: &Keys,
    cluster: &Versioned<ClusterValue>,
    levels: &BTreeMap<String, i16>,
) -> Transaction {
    let mut value = cluster.value.clone();
    value
        .features
        .extend(levels.iter().map(|(name, level)| (name.clone(), *level)));
    Transaction::new()
        .expect_revision(keys.cluster(), cluster.revision)
        .put(keys.cluster(), value.encode())
}

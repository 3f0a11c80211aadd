//! What belongs to the cluster as a whole.

use std::collections::BTreeMap;

use esker_protocol::{BrokerId, ProducerId};
use serde::{Deserialize, Serialize};

use super::{Configs, Unknown, fields};

/// `cluster`: who this cluster is (P2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterValue {
    /// Kafka's 22-character form.
    pub cluster_id: String,
    /// Raised by every recovery from the bucket; brokers refuse a lower one than they have seen.
    pub incarnation: u32,
    /// Whether a bucket was ever used: from then on none, or one without our marker, is refused.
    pub bucket_used: bool,
    /// Finalized feature levels.
    #[serde(default)]
    pub features: BTreeMap<String, i16>,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `controller`: the broker that reacts for all, on its lease. The key's create revision is the
/// controller epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerValue {
    /// Who was elected.
    #[serde(with = "fields::broker")]
    pub broker: BrokerId,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `config/...`: settings that an administrator changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigValue {
    /// The settings.
    pub configs: Configs,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `producer-ids`: the first producer id that no broker has taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdsValue {
    /// The next block begins here.
    #[serde(with = "fields::producer")]
    pub next: ProducerId,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

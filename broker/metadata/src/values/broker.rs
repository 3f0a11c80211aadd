//! What brokers say of themselves.

use serde::{Deserialize, Serialize};

use super::{DirectoryId, ProcessId, Unknown};

/// `brokers/<id>`: a live broker. On a lease, written only at registration, so that its mod
/// revision is the broker epoch (P2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerValue {
    /// The run of the process that registered.
    pub incarnation: ProcessId,
    /// Its log directories.
    pub directories: Vec<DirectoryId>,
    /// The version of Esker that it runs.
    pub version: String,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `broker-info/<id>`: what outlives the lease, and what changes while the broker runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerInfoValue {
    /// The run of the process that registered last: what proofs rest on (P6).
    pub incarnation: ProcessId,
    /// Where clients and brokers reach it.
    pub endpoints: Vec<Endpoint>,
    /// Its failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// The bytes that its log directories hold when full, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One advertised listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: String,
    /// The host that clients are told.
    pub host: String,
    /// The port that clients are told.
    pub port: u16,
    /// Kafka's name of its security protocol.
    pub security: String,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

//! What is true of one partition: who leads and follows, and where its tier stands.

use esker_protocol::{BrokerId, LeaderEpoch, Offset};
use serde::{Deserialize, Serialize};

use super::{DirectoryId, Unknown, fields};

/// `partitions/<topic-id>/<n>`. Fenced by its own revision, with three writers (P3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionValue {
    /// Who holds copies, the preferred leader first.
    pub replicas: Vec<Replica>,
    /// Replicas that a reassignment adds.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        with = "fields::broker::list"
    )]
    pub adding: Vec<BrokerId>,
    /// Replicas that a reassignment removes.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        with = "fields::broker::list"
    )]
    pub removing: Vec<BrokerId>,
    /// The replicas whose durable ends count for the high watermark (P5).
    #[serde(with = "fields::broker::list")]
    pub isr: Vec<BrokerId>,
    /// Replicas outside the ISR that hold everything acknowledged (KIP-966). Empty whenever the ISR
    /// has the effective min ISR.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        with = "fields::broker::list"
    )]
    pub elr: Vec<BrokerId>,
    /// Who leads, if anyone does.
    #[serde(with = "fields::broker::optional")]
    pub leader: Option<BrokerId>,
    /// Who may lead when ISR and ELR are empty (P6); cleared when it lost data.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "fields::broker::optional"
    )]
    pub last_known_leader: Option<BrokerId>,
    /// Raised by every change of leader, and by every process that begins to lead (P4).
    #[serde(with = "fields::epoch")]
    pub leader_epoch: LeaderEpoch,
    /// The last epoch whose leader was elected without proof of all acknowledged records (P4).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "fields::epoch::optional"
    )]
    pub last_unclean_epoch: Option<LeaderEpoch>,
    /// The lesser of `min.insync.replicas` and the number of replicas (P5).
    pub min_isr_effective: i32,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl PartitionValue {
    /// The brokers that hold copies, the preferred leader first.
    pub fn brokers(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.replicas.iter().map(|replica| replica.broker)
    }

    /// The log directory that the broker's copy was last assigned to.
    #[must_use]
    pub fn directory(&self, broker: BrokerId) -> Option<DirectoryId> {
        self.replicas
            .iter()
            .find(|replica| replica.broker == broker)?
            .directory
    }
}

/// One copy of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Who holds it.
    #[serde(with = "fields::broker")]
    pub broker: BrokerId,
    /// In which log directory; absent until the broker has chosen one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryId>,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `tier/<topic-id>/<n>`: the pointer to a partition's manifest (P7). All ends are exclusive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierValue {
    /// The epoch of the leader that claimed the tier: the only one that writes here.
    #[serde(with = "fields::epoch")]
    pub claimed_epoch: LeaderEpoch,
    /// The name of the manifest's head, or none before the first commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The CRC-32C of the manifest's head.
    pub checksum: u32,
    /// Grows by one with every manifest, also with every retry.
    pub version: u64,
    /// Where the tiered part of the log ends.
    #[serde(with = "fields::offset")]
    pub tier_end: Offset,
    /// The leader epoch of the batch before the tier end, or none (-1).
    #[serde(with = "fields::epoch")]
    pub tier_end_epoch: LeaderEpoch,
    /// Where the log starts: everything below is gone, in both tiers.
    #[serde(with = "fields::offset")]
    pub log_start: Offset,
    /// Below it local copies may go.
    #[serde(with = "fields::offset")]
    pub local_floor: Offset,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

//! Where the replicas of new partitions go.

use esker_protocol::BrokerId;

/// Why replicas cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A topic has at least one partition.
    #[error("a topic needs at least one partition, not {0}")]
    Partitions(i32),
    /// A partition has at least one replica.
    #[error("a partition needs at least one replica, not {0}")]
    Factor(i32),
    /// No two replicas of a partition share a broker.
    #[error("replication factor {factor} is larger than the number of brokers, {brokers}")]
    TooFewBrokers {
        /// The replicas that were wanted.
        factor: i32,
        /// The brokers that there are.
        brokers: usize,
    },
}

/// Places the replicas of partitions `first..first + count`, the preferred leader first.
///
/// Leaders go round the brokers from `start`, a random number, so that many small topics spread.
/// Followers go round too, one broker further in every round, so that the load of a broker that
/// fails spreads over all others.
///
/// # Errors
///
/// There is nothing to place, or there are not enough brokers.
pub fn place(
    brokers: &[BrokerId],
    first: i32,
    count: i32,
    factor: i32,
    start: u64,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    if count < 1 || first < 0 {
        return Err(PlacementError::Partitions(count));
    }
    let replicas = match usize::try_from(factor) {
        Ok(replicas) if replicas > 0 => replicas,
        _ => return Err(PlacementError::Factor(factor)),
    };
    if replicas > brokers.len() {
        return Err(PlacementError::TooFewBrokers {
            factor,
            brokers: brokers.len(),
        });
    }
    let brokers_count = brokers.len() as u64;
    let broker = |index: u64| -> Option<BrokerId> {
        brokers
            .get(usize::try_from(index % brokers_count).ok()?)
            .copied()
    };
    let row = |partition: i32| -> Vec<BrokerId> {
        let partition = u64::from(partition.unsigned_abs());
        let leader = (start % brokers_count) + partition;
        let round = partition / brokers_count;
        // The distance from the leader: 1 to n - 1, each once, beginning elsewhere in every round.
        let followers = (0..replicas as u64 - 1)
            .map(|follower| leader + 1 + (round + follower) % (brokers_count - 1));
        std::iter::once(leader)
            .chain(followers)
            .filter_map(broker)
            .collect()
    };
    Ok((first..first.saturating_add(count)).map(row).collect())
}

//! The broker's place in the cluster: the cluster key, its registration, its lease, the controller's
//! key (P2).
//!
//! Invariants
//! - `brokers/<id>` is written only at registration; its revision is the broker epoch.
//! - A registration compares the `broker-info` revision on which the proof of the log directories
//!   rested.
//! - A lease gives liveness only: a failed keepalive never stops a leader from serving.

use std::sync::Arc;
use std::time::Duration;

use esker_metadata::controller::{self as decide, RegistrationError};
use esker_metadata::image::Versioned;
use esker_metadata::values::{
    BrokerInfoValue, BrokerValue, ClusterValue, DirectoryId, Endpoint, ProcessId, Unknown,
    ValueError,
};
use esker_metadata::{Image, Keys, LeaseId, MetadataStore, Revision, StoreError};
use esker_protocol::BrokerId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::authority::{Commit, commit};

/// `broker.session.timeout.ms`: how long a broker counts as alive after its last sign of life.
const SESSION: Duration = Duration::from_secs(9);

/// Tries of a compare-and-swap that others may win.
const TRIES_MAX: usize = 8;

/// Why this process cannot be a member of the cluster. Each is one clear line.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The store cannot be used.
    #[error("metadata store: {0}")]
    Store(#[from] StoreError),
    /// A value in the store cannot be read.
    #[error("metadata store: {0}")]
    Value(#[from] ValueError),
    /// The store is that of another cluster.
    #[error("the metadata store belongs to cluster {found}, not to {wanted}")]
    OtherCluster {
        /// The cluster of the store.
        found: String,
        /// The cluster that was configured, or that the log directories belong to.
        wanted: String,
    },
    /// Another process is this broker, or has one of its directories.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// Another process has become this broker.
    #[error("broker {0} is already registered by another process that is alive")]
    Taken(BrokerId),
    /// Another process has become this broker since this one registered.
    #[error("another process has registered as broker {0}")]
    Replaced(BrokerId),
    /// Others change the same keys all the time.
    #[error("broker {0} could not register: its keys keep changing")]
    Contended(BrokerId),
}

/// Reads the cluster key.
///
/// # Errors
/// The store cannot be read.
pub async fn read_cluster(
    store: &dyn MetadataStore,
    keys: &Keys,
) -> Result<Option<Versioned<ClusterValue>>, MembershipError> {
    let (entry, _) = store.get(&keys.cluster()).await?;
    Ok(entry.as_ref().map(Versioned::decode).transpose()?)
}

/// Makes the cluster key with this id if it is absent, and returns what is there.
///
/// # Errors
/// The store cannot be used, or has another cluster meanwhile.
pub async fn create_cluster(
    store: &dyn MetadataStore,
    keys: &Keys,
    cluster_id: &str,
) -> Result<ClusterValue, MembershipError> {
    for _ in 0..TRIES_MAX {
        if let Some(found) = read_cluster(store, keys).await? {
            if found.value.cluster_id != cluster_id {
                return Err(MembershipError::OtherCluster {
                    found: found.value.cluster_id,
                    wanted: cluster_id.to_owned(),
                });
            }
            return Ok(found.value);
        }
        commit(store, decide::create_cluster(keys, cluster_id)).await?;
    }
    Err(StoreError::Unavailable("the cluster key cannot be made".to_owned()).into())
}

/// Notes in the cluster key that a bucket is in use, for ever.
///
/// # Errors
/// The store cannot be used.
pub async fn mark_bucket_used(
    store: &dyn MetadataStore,
    keys: &Keys,
) -> Result<(), MembershipError> {
    for _ in 0..TRIES_MAX {
        let Some(cluster) = read_cluster(store, keys).await? else {
            break;
        };
        if cluster.value.bucket_used {
            return Ok(());
        }
        commit(store, decide::mark_bucket_used(keys, &cluster)).await?;
    }
    Err(StoreError::Unavailable("the cluster key keeps changing".to_owned()).into())
}

/// Who this process is.
#[derive(Debug, Clone)]
pub struct Member {
    /// The broker.
    pub id: BrokerId,
    /// This process.
    pub incarnation: ProcessId,
    /// Its healthy log directories.
    pub directories: Vec<DirectoryId>,
    /// Where clients reach it.
    pub endpoints: Vec<Endpoint>,
}

/// What the store says of the broker before it registers: what the proof of its log directories
/// rests on (P6).
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// The revision of `broker-info/<id>`.
    pub revision: Option<Revision>,
    /// The incarnation that registered last.
    pub last_incarnation: Option<ProcessId>,
}

/// Reads what the proof of the log directories rests on (P6).
///
/// # Errors
/// The store cannot be read.
pub async fn before_registration(
    store: &dyn MetadataStore,
    keys: &Keys,
    id: BrokerId,
) -> Result<Before, MembershipError> {
    let (entry, _) = store.get(&keys.broker_info(id)).await?;
    let info: Option<Versioned<BrokerInfoValue>> =
        entry.as_ref().map(Versioned::decode).transpose()?;
    Ok(Before {
        revision: info.as_ref().map(|info| info.revision),
        last_incarnation: info.map(|info| info.value.incarnation),
    })
}

/// Asks the store whether another process has become the broker, and returns what it says where
/// none has.
///
/// # Errors
/// Another process has, or the store cannot be read.
pub async fn check_replaced(
    store: &dyn MetadataStore,
    keys: &Keys,
    id: BrokerId,
    incarnation: ProcessId,
) -> Result<Before, MembershipError> {
    let now = before_registration(store, keys, id).await?;
    if now.last_incarnation == Some(incarnation) {
        Ok(now)
    } else {
        Err(MembershipError::Replaced(id))
    }
}

/// A live registration.
#[derive(Debug, Clone, Copy)]
pub struct Registration {
    /// The process.
    pub incarnation: ProcessId,
    /// The lease that holds it.
    pub lease: LeaseId,
    /// The broker epoch.
    pub revision: Revision,
}

/// Registers this process as the broker.
///
/// # Errors
/// Another process is this broker, or the store cannot be used.
pub async fn register(
    store: &dyn MetadataStore,
    keys: &Keys,
    member: &Member,
    before: &Before,
) -> Result<Registration, MembershipError> {
    let value = BrokerValue {
        incarnation: member.incarnation,
        directories: member.directories.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        unknown: Unknown::default(),
    };
    let info = BrokerInfoValue {
        incarnation: member.incarnation,
        endpoints: member.endpoints.clone(),
        rack: None,
        capacity_bytes: None,
        unknown: Unknown::default(),
    };
    let mut proof = before.revision;
    for _ in 0..TRIES_MAX {
        let (entries, revision) = store.list(keys.root()).await?;
        let image = Image::load(keys.clone(), &entries, revision)?;
        let lease = store.grant_lease(SESSION).await?;
        let transaction = decide::register(&image, member.id, &value, &info, proof, lease)?;
        match commit(store, transaction).await? {
            Commit::Done(revision) => {
                return Ok(Registration {
                    incarnation: member.incarnation,
                    lease,
                    revision,
                });
            }
            Commit::Refused | Commit::Moved => {
                store.revoke(lease).await?;
                let now = before_registration(store, keys, member.id).await?;
                // The proof holds only against the process it was made against, or this one.
                if now.last_incarnation != before.last_incarnation
                    && now.last_incarnation != Some(member.incarnation)
                {
                    return Err(MembershipError::Taken(member.id));
                }
                proof = now.revision;
            }
        }
    }
    Err(MembershipError::Contended(member.id))
}

/// Keeps the registration and, where nobody else holds it, the controller's key.
///
/// Ends with the reason when another process has become this broker: this one must end.
pub async fn keep(
    store: Arc<dyn MetadataStore>,
    keys: Keys,
    member: Member,
    mut registration: Registration,
    images: watch::Receiver<Arc<Image>>,
    stop: CancellationToken,
) -> Option<MembershipError> {
    let mut ticks = tokio::time::interval(SESSION / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut changes = images.clone();
    loop {
        let is_due = tokio::select! {
            biased;
            () = stop.cancelled() => {
                if let Err(error) = store.revoke(registration.lease).await {
                    warn!(%error, "the registration was not withdrawn; its lease will end it");
                }
                return None;
            }
            _ = ticks.tick() => true,
            changed = changes.changed() => match changed {
                Ok(()) => false,
                Err(_) => return None,
            },
        };
        let image = Arc::clone(&changes.borrow_and_update());
        if decide::is_replaced(&image, member.id, member.incarnation) {
            return Some(MembershipError::Replaced(member.id));
        }
        if image.controller().is_none() {
            claim_controller(store.as_ref(), &keys, member.id, registration.lease).await;
        }
        if !is_due {
            continue;
        }
        match store.keep_alive(registration.lease).await {
            Ok(()) => {}
            Err(StoreError::LeaseEnded(_)) => {
                let again = async {
                    let before =
                        check_replaced(store.as_ref(), &keys, member.id, member.incarnation)
                            .await?;
                    register(store.as_ref(), &keys, &member, &before).await
                };
                match again.await {
                    Ok(next) => {
                        info!(broker = %member.id, "registered again after the lease had ended");
                        registration = next;
                    }
                    Err(error @ (MembershipError::Replaced(_) | MembershipError::Taken(_))) => {
                        return Some(error);
                    }
                    Err(error) => warn!(%error, "registering again failed"),
                }
            }
            Err(error) => warn!(%error, "keepalive failed"),
        }
    }
}

async fn claim_controller(store: &dyn MetadataStore, keys: &Keys, id: BrokerId, lease: LeaseId) {
    if let Err(error) = commit(store, decide::elect_controller(keys, id, lease)).await {
        warn!(%error, "the controller's key cannot be claimed");
    }
}

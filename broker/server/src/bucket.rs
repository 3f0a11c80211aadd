//! The bucket and its marker: `<cluster-id>/cluster.json` (P2).
//!
//! The marker is put if it is absent, then the cluster key notes that a bucket is in use, then the
//! first object is put: a bucket that was used is never mistaken for an empty one. Where the bucket is
//! away when a broker starts, its marker is read before anything is written there or deleted.

use std::sync::Arc;

use bytes::Bytes;
use esker_metadata::values::ClusterValue;
use esker_tier::layout;
use esker_tier::remote::{GET_DEADLINE, PUT_DEADLINE};
use esker_tier::store::{self, ProbeError};
use esker_tier::upload::Verification;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::warn;

use crate::environment::Environment;
use crate::membership::MembershipError;

/// Why the bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The cluster has objects, and no store is configured.
    #[error(
        "this cluster has used an object store, but object.store.url is none: give the same store again"
    )]
    Missing,
    /// The cluster has used a bucket, and this one has no marker of it.
    #[error(
        "the object store has no {0}, but this cluster has used one: it is another bucket or prefix"
    )]
    MarkerMissing(String),
    /// The marker is that of another cluster, or of another incarnation of it.
    #[error(
        "the object store's {path} says {found}, not {expected}: it belongs to another cluster"
    )]
    OtherCluster {
        /// The marker.
        path: String,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// The marker cannot be read.
    #[error("the object store's {0} is not a cluster marker that this version reads")]
    BadMarker(String),
    /// The store refuses something that Esker needs.
    #[error("object store: {0}")]
    Probe(#[from] ProbeError),
    /// The store cannot be reached.
    #[error("object store: {0}")]
    Store(#[from] object_store::Error),
    /// The store takes a request and does not answer it.
    #[error("object store: no answer in time")]
    Silent,
    /// The cluster key cannot be changed.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// The marker's contents: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    v: u32,
    cluster_id: String,
    incarnation: u32,
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

const MARKER_VERSION: u32 = 1;

impl Marker {
    fn new(cluster_id: &str, incarnation: u32) -> Marker {
        Marker {
            v: MARKER_VERSION,
            cluster_id: cluster_id.to_owned(),
            incarnation,
            unknown: serde_json::Map::new(),
        }
    }
}

/// What a start found out of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// How uploads to it are verified.
    pub verification: Verification,
    /// Whether its marker was read. Until it was, nothing may be written there ([`verify`]).
    pub is_ours: bool,
}

/// Checks or makes the marker and probes the store. `mark_used` notes in the cluster key that a
/// bucket is in use.
///
/// # Errors
/// The bucket belongs to another cluster, or cannot be used.
pub async fn open<F: Future<Output = Result<(), MembershipError>>>(
    environment: &Environment,
    objects: &Arc<dyn ObjectStore>,
    cluster: &ClusterValue,
    mark_used: impl FnOnce() -> F,
) -> Result<Bucket, BucketError> {
    let path = layout::marker(&cluster.cluster_id);
    let expected = Marker::new(&cluster.cluster_id, cluster.incarnation);
    match get(objects, &path).await {
        Ok(found) => check(&path, &found, &expected)?,
        Err(BucketError::Store(object_store::Error::NotFound { .. })) if cluster.bucket_used => {
            return Err(BucketError::MarkerMissing(path.to_string()));
        }
        Err(BucketError::Store(object_store::Error::NotFound { .. })) => {
            put(objects, &path, &expected).await?;
        }
        // Only the tier waits for a store that is away; hot data is served all the same.
        Err(error) if error.is_away() && cluster.bucket_used => {
            warn!(%error, "the object store cannot be reached; starting without it for now");
            return Ok(Bucket {
                verification: Verification::ReadBack,
                is_ours: false,
            });
        }
        Err(error) => return Err(error),
    }
    let random = environment.randomness.bytes16();
    let verification = match store::probe(objects, &cluster.cluster_id, random).await {
        Ok(verification) => verification,
        Err(error @ ProbeError::Request { .. }) if cluster.bucket_used => {
            warn!(%error, "the object store was not probed; uploads are read back");
            Verification::ReadBack
        }
        Err(error) => return Err(error.into()),
    };
    if !cluster.bucket_used {
        mark_used().await?;
    }
    Ok(Bucket {
        verification,
        is_ours: true,
    })
}

/// Reads the marker of a bucket that was away at start.
///
/// # Errors
/// It is away still ([`BucketError::is_away`]), or is not this cluster's.
pub async fn verify(
    objects: &Arc<dyn ObjectStore>,
    cluster_id: &str,
    incarnation: u32,
) -> Result<(), BucketError> {
    let path = layout::marker(cluster_id);
    match get(objects, &path).await {
        Ok(found) => check(&path, &found, &Marker::new(cluster_id, incarnation)),
        Err(BucketError::Store(object_store::Error::NotFound { .. })) => {
            Err(BucketError::MarkerMissing(path.to_string()))
        }
        Err(error) => Err(error),
    }
}

impl BucketError {
    /// Whether the store gave no answer, so that nothing is known of the bucket.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, BucketError::Store(_) | BucketError::Silent)
    }
}

/// A small object, whole.
async fn get(
    objects: &Arc<dyn ObjectStore>,
    path: &object_store::path::Path,
) -> Result<Bytes, BucketError> {
    let getting = async { objects.get(path).await?.bytes().await };
    Ok(timeout(GET_DEADLINE, getting)
        .await
        .map_err(|_| BucketError::Silent)??)
}

async fn put(
    objects: &Arc<dyn ObjectStore>,
    path: &object_store::path::Path,
    marker: &Marker,
) -> Result<(), BucketError> {
    let text = serde_json::to_vec(marker).map_err(|_| BucketError::BadMarker(path.to_string()))?;
    let options = PutOptions {
        mode: PutMode::Create,
        ..PutOptions::default()
    };
    let putting = objects.put_opts(path, PutPayload::from(text), options);
    match timeout(PUT_DEADLINE, putting)
        .await
        .map_err(|_| BucketError::Silent)?
    {
        Ok(_) => Ok(()),
        // Somebody made it meanwhile, or this very request was sent twice: its content decides.
        Err(object_store::Error::AlreadyExists { .. }) => {
            check(path, &get(objects, path).await?, marker)
        }
        Err(error) => Err(error.into()),
    }
}

fn check(
    path: &object_store::path::Path,
    text: &[u8],
    expected: &Marker,
) -> Result<(), BucketError> {
    let found: Marker = serde_json::from_slice(text)
        .ok()
        .filter(|marker: &Marker| marker.v <= MARKER_VERSION)
        .ok_or_else(|| BucketError::BadMarker(path.to_string()))?;
    if found.cluster_id != expected.cluster_id || found.incarnation != expected.incarnation {
        let name = |marker: &Marker| {
            format!(
                "cluster {} incarnation {}",
                marker.cluster_id, marker.incarnation
            )
        };
        return Err(BucketError::OtherCluster {
            path: path.to_string(),
            found: name(&found),
            expected: name(expected),
        });
    }
    Ok(())
}

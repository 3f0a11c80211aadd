//! What is opened and checked before a broker shows itself: log directories, cluster key, bucket.

use std::io;
use std::sync::Arc;

use esker_metadata::image::Versioned;
use esker_metadata::values::{DirectoryId, ProcessId};
use esker_metadata::{Keys, MetadataStore, Revision};
use esker_protocol::TopicId;
use esker_storage::{CommitMode, DirectoryConfig, Identity, LogDirectory, OpenError, Seen};
use esker_tier::upload::Verification;
use tracing::info;

use crate::bucket::{self, Bucket};
use crate::config::{Config, Durability};
use crate::environment::{Environment, Work};
use crate::membership::{self, Before, MembershipError};
use crate::replicas::Proof;

/// Why a broker does not start. Each is one clear line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A log directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// What a log directory must note cannot be written.
    #[error(transparent)]
    Note(#[from] esker_storage::DirectoryError),
    /// The cluster's metadata cannot be used.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The same, in other words.
    #[error("{0}")]
    Metadata(String),
    /// The bucket cannot be used.
    #[error(transparent)]
    Bucket(#[from] bucket::BucketError),
    /// A listener's address cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        error: io::Error,
    },
    /// An advertised listener that is none.
    #[error("advertised.listeners names {0}, which is not among listeners")]
    Advertised(String),
    /// Metrics cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What was opened.
pub struct Opened {
    /// The cluster's id.
    pub cluster_id: String,
    /// The metadata incarnation of the cluster.
    pub cluster_incarnation: u32,
    /// The healthy log directories.
    pub directories: Vec<Arc<LogDirectory>>,
    /// What was found out of the bucket.
    pub bucket: Bucket,
    /// What the store says of this broker.
    pub before: Before,
}

impl Opened {
    /// What the proof of P6 rests on. Taken before this process is listed anywhere.
    #[must_use]
    pub fn proof(&self) -> Proof {
        let is_unclean = |directory: &LogDirectory, last: ProcessId| {
            let was_relaxed = directory.incarnations().iter().any(|incarnation| {
                incarnation.id.0 == last.0
                    && incarnation.durability == esker_storage::Durability::Relaxed
            });
            let may_lack = was_relaxed || directory.records_lost();
            may_lack && directory.last_clean_shutdown() != Some(TopicId(last.0))
        };
        let lists = |directory: &LogDirectory, last: ProcessId| {
            directory
                .incarnations()
                .iter()
                .any(|incarnation| incarnation.id.0 == last.0)
        };
        Proof {
            last_incarnation: self.before.last_incarnation,
            directories: self
                .directories
                .iter()
                .filter(|directory| {
                    self.before
                        .last_incarnation
                        .is_some_and(|last| lists(directory, last))
                })
                .map(|directory| DirectoryId(directory.id().0))
                .collect(),
            unclean: self
                .directories
                .iter()
                .filter(|directory| {
                    self.before
                        .last_incarnation
                        .is_some_and(|last| is_unclean(directory, last))
                })
                .map(|directory| DirectoryId(directory.id().0))
                .collect(),
        }
    }
}

/// Opens and checks everything.
///
/// # Errors
/// The first thing that stands in the way.
pub async fn open(
    config: &Config,
    environment: &Environment,
    keys: &Keys,
) -> Result<Opened, StartError> {
    let store: &dyn MetadataStore = environment.metadata.as_ref();
    let existing = membership::read_cluster(store, keys).await?;
    let cluster_id = match &existing {
        Some(Versioned { value, .. }) => {
            let found = &value.cluster_id;
            if let Some(wanted) = config.cluster_id.as_ref().filter(|wanted| *wanted != found) {
                return Err(MembershipError::OtherCluster {
                    found: found.clone(),
                    wanted: wanted.clone(),
                }
                .into());
            }
            if value.bucket_used && environment.object_store.is_none() {
                return Err(bucket::BucketError::Missing.into());
            }
            found.clone()
        }
        // A directory that has a cluster and a store that has none do not belong together, unless
        // the configuration says so; opening the directory below tells them apart.
        None => config
            .cluster_id
            .clone()
            .unwrap_or_else(|| environment.randomness.id().to_string()),
    };
    // A new cluster's key comes before its directories are formatted: a crash in between leaves an
    // id to find again. Directories that have been formatted are opened first, and refuse.
    if existing.is_none() && !is_any_formatted(config, environment).await {
        membership::create_cluster(store, keys, &cluster_id).await?;
    }
    let directories = open_directories(config, environment, &cluster_id).await?;
    let cluster = membership::create_cluster(store, keys, &cluster_id).await?;
    let bucket = match &environment.object_store {
        Some(objects) => {
            bucket::open(environment, objects, &cluster, || {
                membership::mark_bucket_used(store, keys)
            })
            .await?
        }
        None => Bucket {
            verification: Verification::ReadBack,
            is_ours: false,
        },
    };
    let before = membership::before_registration(store, keys, config.node_id).await?;
    info!(
        cluster_id,
        node_id = %config.node_id,
        directories = directories.len(),
        "starting"
    );
    Ok(Opened {
        cluster_id,
        cluster_incarnation: cluster.incarnation,
        directories,
        bucket,
        before,
    })
}

async fn is_any_formatted(config: &Config, environment: &Environment) -> bool {
    let (disk, paths) = (Arc::clone(&environment.disk), config.log_dirs.clone());
    let check = move || {
        // What cannot be looked at is refused when it is opened.
        paths
            .iter()
            .any(|path| disk.exists(&path.join("meta.properties")).unwrap_or(true))
    };
    environment.run(Work::Blocking, check).await
}

/// The most that a journal takes of its disk.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// The size of a journal on a file system of so many bytes: of a small one it takes a part only.
fn journal_bytes(total: Option<u64>) -> u64 {
    const PART: u64 = 64;
    const BYTES_MIN: u64 = 256 << 10;
    let part = total.map_or(JOURNAL_BYTES_MAX, |total| total / PART);
    part.clamp(BYTES_MIN, JOURNAL_BYTES_MAX)
}

/// Opens the log directories side by side. One that cannot be used is refused as a whole: a broker
/// that starts without one of its disks by accident would take its partitions for lost.
async fn open_directories(
    config: &Config,
    environment: &Environment,
    cluster_id: &str,
) -> Result<Vec<Arc<LogDirectory>>, StartError> {
    let mut directories = Vec::with_capacity(config.log_dirs.len());
    for path in &config.log_dirs {
        let settings = DirectoryConfig {
            commit: CommitMode::Journal,
            durability: match config.durability {
                Durability::Durable => esker_storage::Durability::Durable,
                Durability::Relaxed => esker_storage::Durability::Relaxed,
            },
            reserve_bytes: config.reserve_bytes,
            ..DirectoryConfig::new(path)
        };
        let identity = Identity {
            cluster_id: cluster_id.to_owned(),
            node_id: config.node_id,
        };
        let disk = Arc::clone(&environment.disk);
        let randomness = environment.randomness.clone();
        let opened = environment
            .run(Work::Blocking, move || {
                // On a directory that cannot be made or looked at, opening says what is wrong.
                let parent = settings.path.parent().unwrap_or(&settings.path);
                let total = [settings.path.as_path(), parent]
                    .iter()
                    .find_map(|path| disk.total_bytes(path).ok());
                let settings = DirectoryConfig {
                    journal_bytes_max: journal_bytes(total),
                    ..settings
                };
                LogDirectory::open(disk, settings, &identity, &mut || randomness.bytes16())
            })
            .await;
        directories.push(opened?);
    }
    Ok(directories)
}

/// Lists this process in every directory, durably, before it registers (P2).
///
/// # Errors
/// A directory cannot be written.
pub async fn list_incarnation(
    environment: &Environment,
    opened: &Opened,
    incarnation: ProcessId,
) -> Result<(), StartError> {
    let registered = opened.before.last_incarnation.map(|last| TopicId(last.0));
    for directory in &opened.directories {
        let listing = Arc::clone(directory);
        environment
            .run(Work::Blocking, move || {
                listing.register_incarnation(TopicId(incarnation.0), registered)
            })
            .await?;
    }
    Ok(())
}

/// Notes the cluster incarnation and the broker epoch in every directory, and refuses lower ones than
/// it has seen: the metadata store was rewound (P2).
///
/// # Errors
/// The store is older than a directory, or a directory cannot be written.
pub async fn note_seen(
    environment: &Environment,
    opened: &Opened,
    broker_epoch: Revision,
) -> Result<(), StartError> {
    let seen = Seen {
        cluster_incarnation: i64::from(opened.cluster_incarnation),
        broker_epoch: i64::try_from(broker_epoch.0).unwrap_or(i64::MAX),
    };
    for directory in &opened.directories {
        let noting = Arc::clone(directory);
        environment
            .run(Work::Blocking, move || noting.note_seen(seen))
            .await?;
    }
    Ok(())
}

//! The shell around the decision: listing, gathering what is named, deleting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esker_protocol::{Timestamp, TopicId};
use object_store::ObjectStore;
use object_store::path::Path;

use super::{Limits, Memory, Names, Superseded, View, decide};
use crate::layout::{self, Partition};
use crate::manifest::{self, Head};
use crate::pointer::Pointer;
use crate::read::{ReadError, Reader};
use crate::remote::{Remote, RequestError, Requests};
use crate::upload::Uploader;

/// Superseded heads read in one round at most; the next round goes on.
const HEADS_READ_MAX: usize = 64;

/// Why a round of collection ended early. What it deleted is deleted, nothing else changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The current manifest cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Collects what is expired or orphaned.
#[derive(Debug)]
pub struct Collector {
    remote: Remote,
    reader: Reader,
    /// What is remembered of each partition that this process collects.
    memory: Mutex<BTreeMap<(TopicId, i32), Memory>>,
}

impl Collector {
    /// A collector of `store`, which carries the bucket's prefix.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, reader: Reader) -> Collector {
        Collector {
            remote: Remote::new(store),
            reader,
            memory: Mutex::default(),
        }
    }

    /// What was asked of the store so far.
    #[must_use]
    pub fn requests(&self) -> &Arc<Requests> {
        &self.remote.requests
    }

    /// What the store lists below a partition. Read the pointer linearisably *afterwards*.
    ///
    /// # Errors
    /// [`CollectError::Request`].
    pub async fn list(&self, partition: &Partition) -> Result<Vec<Path>, CollectError> {
        let prefix = layout::partition_prefix(partition);
        let listed = self.remote.list(Some(&prefix)).await?;
        Ok(listed.into_iter().map(|(path, _)| path).collect())
    }

    /// Deletes what may go; gives the paths that went. Call it for a partition once at a time.
    ///
    /// `pointer` was read linearisably after `listing`. What `uploader` has handed up and nobody has
    /// called committed or abandoned yet is pending, and stays.
    ///
    /// # Errors
    /// [`CollectError`].
    pub async fn collect(
        &self,
        partition: &Partition,
        listing: &[Path],
        pointer: &Pointer,
        uploader: &Uploader,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Vec<Path>, CollectError> {
        let key = (partition.topic_id, partition.partition);
        let mut memory = self.lock().remove(&key).unwrap_or_default();
        let view = (listing, pointer);
        let collected = self
            .round(partition, view, uploader, &mut memory, limits, now)
            .await;
        // A round that was dropped half-way forgets, which only delays.
        self.lock().insert(key, memory);
        collected
    }

    /// Forgets a partition that this process does not collect any more.
    pub fn forget(&self, partition: &Partition) {
        self.lock()
            .remove(&(partition.topic_id, partition.partition));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TopicId, i32), Memory>> {
        // Each change is one insertion or removal.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn round(
        &self,
        partition: &Partition,
        (listing, pointer): (&[Path], &Pointer),
        uploader: &Uploader,
        memory: &mut Memory,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Vec<Path>, CollectError> {
        let head = self.reader.manifest(partition, pointer).await?;
        let ended = uploader.ended_puts();
        // Taken before what is named is gathered: what is committed meanwhile counts as pending.
        let pending = uploader.pending_puts();
        let named = self
            .named(partition, pointer, head.as_deref(), &pending)
            .await?;
        let chain = self
            .chain(partition, head.as_deref(), listing, memory)
            .await?;
        let committed = head.is_some_and(|head| head.leader_epoch == pointer.claimed_epoch);
        let view = View {
            listing,
            pointer,
            claimant_committed: committed,
            named: &named,
            chain: chain.as_deref(),
            ended: &ended,
        };
        let deletions = decide(memory, &view, limits, now);
        let mut paths = Vec::new();
        if let (Some(chain), false) = (&chain, deletions.unless_retained.is_empty()) {
            let retained = self.retained(partition, chain, limits, now).await?;
            let unnamed = deletions.unless_retained.iter();
            let free = unnamed.filter(|(_, name)| !retained.has_object(name));
            paths.extend(free.map(|(path, _)| path.clone()));
        }
        paths.extend(deletions.now);
        for path in &paths {
            self.remote.delete(path).await?;
        }
        uploader.forget_puts(&paths);
        Ok(paths)
    }

    /// Deletes everything of a deleted topic that the store lists; gives how many objects went. The
    /// caller does it again after the upload deadline.
    ///
    /// # Errors
    /// [`CollectError::Request`].
    pub async fn delete_topic(
        &self,
        cluster_id: &str,
        topic_id: TopicId,
    ) -> Result<usize, CollectError> {
        self.delete_prefix(&layout::topic_prefix(cluster_id, topic_id))
            .await
    }

    /// Deletes everything that the store lists below a prefix; gives how many objects went.
    ///
    /// # Errors
    /// [`CollectError::Request`].
    pub async fn delete_prefix(&self, prefix: &Path) -> Result<usize, CollectError> {
        let listed = self.remote.list(Some(prefix)).await?;
        for (path, _) in &listed {
            self.remote.delete(path).await?;
        }
        Ok(listed.len())
    }

    async fn named(
        &self,
        partition: &Partition,
        pointer: &Pointer,
        head: Option<&Head>,
        pending: &BTreeSet<Path>,
    ) -> Result<Names, CollectError> {
        let mut named = Names::default();
        if let (Some(name), Some(head)) = (&pointer.manifest, head) {
            named.add_head(name, head);
            for page in &head.pages {
                named.add_page(&*self.reader.page(partition, page).await?);
            }
        }
        pending.iter().for_each(|path| named.add_path(path));
        Ok(named)
    }

    /// The committed heads before the current one, oldest first; none while not all are known.
    async fn chain(
        &self,
        partition: &Partition,
        head: Option<&Head>,
        listing: &[Path],
        memory: &mut Memory,
    ) -> Result<Option<Vec<(String, Superseded)>>, CollectError> {
        let Some(head) = head else {
            return Ok(Some(Vec::new()));
        };
        let listed: BTreeSet<&Path> = listing.iter().collect();
        let is_listed = |name: &str| listed.contains(&layout::manifest(partition, name));
        memory.superseded.retain(|name, _| is_listed(name));
        let mut chain = Vec::new();
        let mut read = 0;
        let (mut next, mut superseded_at) = (head.previous.clone(), head.written_at);
        while let Some(name) = next {
            if !memory.superseded.contains_key(&name) {
                if read == HEADS_READ_MAX {
                    return Ok(None);
                }
                read += 1;
                // One that is gone was collected in an earlier round, and all before it.
                let Some(superseded) = self.head(partition, &name).await? else {
                    break;
                };
                let known = Superseded {
                    at: superseded_at,
                    written_at: superseded.written_at,
                    pages: superseded
                        .pages
                        .iter()
                        .map(|page| page.name.clone())
                        .collect(),
                    previous: superseded.previous,
                };
                memory.superseded.insert(name.clone(), known);
            }
            let Some(known) = memory.superseded.get(&name) else {
                break;
            };
            next = known.previous.clone();
            superseded_at = known.written_at;
            chain.push((name, known.clone()));
        }
        chain.reverse();
        Ok(Some(chain))
    }

    /// What the heads within retention name.
    async fn retained(
        &self,
        partition: &Partition,
        chain: &[(String, Superseded)],
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Names, CollectError> {
        let mut retained = Names::default();
        for (name, superseded) in chain {
            if now.0.saturating_sub(superseded.at.0) >= limits.manifest_retention_ms {
                continue;
            }
            let Some(head) = self.head(partition, name).await? else {
                continue;
            };
            retained.add_head(name, &head);
            for page in &head.pages {
                retained.add_page(&*self.reader.page(partition, page).await?);
            }
        }
        Ok(retained)
    }

    /// A head by its file name; none if it is gone.
    async fn head(&self, partition: &Partition, name: &str) -> Result<Option<Head>, CollectError> {
        let path = layout::manifest(partition, name);
        let bytes = match self.remote.whole(&path).await {
            Ok(bytes) => bytes,
            Err(RequestError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let decoded = manifest::decode_head(&bytes);
        let (head, _) = decoded.map_err(|error| ReadError::Corrupt(format!("{path}: {error}")))?;
        Ok(Some(head))
    }
}

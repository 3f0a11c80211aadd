//! Looking into a bucket: what `esker tier ls`, `cat`, `verify` and `stat` show.
//!
//! Nothing here needs a broker, and nothing changes anything. Without a pointer the newest head of a
//! partition stands for what is committed: the last one that a leader wrote may be one that it never
//! came to commit, and tools say so.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::layout::{self, ManifestKind, ManifestName, Named, ObjectName, Partition, Place};
use crate::manifest::{self, Entry, Head, Page};
use crate::object::{self, FOOTER_BYTES, Index, decode_frame};
use crate::pool::{CpuPool, Stopped, on_cpu};
use crate::remote::{METADATA_BYTES_MAX, Remote, RequestError};

/// Why a bucket, or a part of it, cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What was found is damaged.
    #[error("{path}: {problem}")]
    Damaged {
        /// What.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The tool is ending.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What a bucket holds of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Data objects and their lengths, by offset.
    pub objects: BTreeMap<ObjectName, u64>,
    /// Manifest files and their lengths, oldest first.
    pub manifests: BTreeMap<ManifestName, u64>,
}

impl Contents {
    /// The newest head: what is committed, or was about to be.
    #[must_use]
    pub fn newest_head(&self) -> Option<&ManifestName> {
        self.manifests
            .keys()
            .rfind(|name| name.kind == ManifestKind::Head)
    }

    /// Bytes of all data objects.
    #[must_use]
    pub fn object_bytes(&self) -> u64 {
        self.objects.values().copied().fold(0, u64::saturating_add)
    }
}

/// What a bucket holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Cluster markers.
    pub clusters: Vec<String>,
    /// Partitions.
    pub partitions: BTreeMap<Place, Contents>,
    /// What this crate does not write, and its length.
    pub unknown: Vec<(Path, u64)>,
}

/// What verification has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Objects done.
    pub objects: u64,
    /// Objects to do.
    pub objects_total: u64,
    /// Bytes of objects done.
    pub bytes: u64,
    /// Bytes of objects to do.
    pub bytes_total: u64,
}

/// What verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The head that was verified.
    pub head: Option<String>,
    /// What was done.
    pub progress: Progress,
    /// Bytes of segments, decompressed and checked.
    pub segment_bytes: u64,
    /// Listed objects that the manifest does not name: orphans, or of a newer manifest.
    pub unnamed: Vec<ObjectName>,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
}

/// A bucket to look into.
#[derive(Debug)]
pub struct Bucket {
    remote: Remote,
    cpu: Arc<dyn CpuPool>,
}

impl Bucket {
    /// The bucket behind `store`, which carries its prefix.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, cpu: Arc<dyn CpuPool>) -> Bucket {
        Bucket {
            remote: Remote::new(store),
            cpu,
        }
    }

    /// What the bucket holds below a prefix.
    ///
    /// # Errors
    /// [`InspectError::Request`].
    pub async fn list(&self, prefix: Option<&Path>) -> Result<Listing, InspectError> {
        let mut listing = Listing::default();
        for (path, bytes) in self.remote.list(prefix).await? {
            match layout::parse(&path) {
                Some(Named::Marker { cluster_id }) => listing.clusters.push(cluster_id),
                Some(Named::Object { place, name }) => {
                    listing
                        .partitions
                        .entry(place)
                        .or_default()
                        .objects
                        .insert(name, bytes);
                }
                Some(Named::Manifest { place, name }) => {
                    listing
                        .partitions
                        .entry(place)
                        .or_default()
                        .manifests
                        .insert(name, bytes);
                }
                None => listing.unknown.push((path, bytes)),
            }
        }
        Ok(listing)
    }

    /// A head by its file name.
    ///
    /// # Errors
    /// [`InspectError`].
    pub async fn head(&self, place: &Place, name: &str) -> Result<Head, InspectError> {
        let path = layout::manifest(&partition_of(place), name);
        let bytes = self.remote.whole(&path).await?;
        let decoded = manifest::decode_head(&bytes);
        Ok(decoded.map_err(|error| damaged(&path, error))?.0)
    }

    /// All entries that a head and its pages name, oldest first.
    ///
    /// # Errors
    /// [`InspectError`].
    pub async fn entries(&self, place: &Place, head: &Head) -> Result<Vec<Entry>, InspectError> {
        let mut entries = Vec::new();
        for page_ref in &head.pages {
            let path = layout::manifest(&partition_of(place), &page_ref.name);
            let bytes = self.remote.whole(&path).await?;
            let (page, checksum): (Page, u32) =
                manifest::decode_page(&bytes).map_err(|error| damaged(&path, error))?;
            if checksum != page_ref.checksum {
                return Err(damaged(&path, "it is not the page that its head names"));
            }
            page.check_against(page_ref)
                .map_err(|error| damaged(&path, error))?;
            entries.extend(page.entries);
        }
        entries.extend(head.entries.iter().cloned());
        Ok(entries)
    }

    /// The index of an object that is met without its manifest; gives its position too.
    ///
    /// # Errors
    /// [`InspectError`].
    pub async fn index(&self, path: &Path, bytes: u64) -> Result<(Index, u64), InspectError> {
        let mut tail_bytes = FOOTER_BYTES as u64;
        // The footer gives the table's length, the table the index frame's, and then all is there.
        for _ in 0..3 {
            if tail_bytes > bytes.min(METADATA_BYTES_MAX) {
                return Err(damaged(path, "it does not end like an object"));
            }
            let position = bytes - tail_bytes;
            let tail = self.remote.range(path, position..bytes).await?;
            let known = object::tail_bytes(&tail).map_err(|error| damaged(path, error))?;
            if known == tail_bytes {
                let index =
                    object::open_tail(&tail, position).map_err(|error| damaged(path, error))?;
                return Ok((index, position));
            }
            tail_bytes = known;
        }
        Err(damaged(path, "it does not end like an object"))
    }

    /// Gives the segments of an object to `write`, frame by frame, every checksum checked.
    ///
    /// # Errors
    /// [`InspectError`]; what was written before it was checked.
    pub async fn cat(
        &self,
        path: &Path,
        index: &Index,
        mut write: impl FnMut(Bytes),
    ) -> Result<(), InspectError> {
        for at in index.frames.iter().copied() {
            let range = at.position..at.position + u64::from(at.compressed_bytes);
            let compressed = self.remote.range(path, range).await?;
            let frame = on_cpu(&*self.cpu, move || decode_frame(&compressed, &at)).await?;
            let frame = frame.map_err(|error| damaged(path, error))?;
            write(frame.bytes().clone());
        }
        Ok(())
    }

    /// Checks everything that the newest head names: heads and pages against their checksums and
    /// sums, every object's length and checksum against its entry, every frame and batch of it.
    ///
    /// What is wrong is in the report; only a store that fails ends it early.
    ///
    /// # Errors
    /// [`InspectError::Request`], [`InspectError::Stopped`].
    pub async fn verify(
        &self,
        place: &Place,
        contents: &Contents,
        mut progress: impl FnMut(Progress),
    ) -> Result<Report, InspectError> {
        let mut report = Report::default();
        let Some(name) = contents.newest_head() else {
            report.unnamed = contents.objects.keys().copied().collect();
            return Ok(report);
        };
        report.head = Some(name.to_string());
        let Some(entries) = report.note(self.named_entries(place, &name.to_string()).await)? else {
            return Ok(report);
        };
        let mut named: BTreeMap<ObjectName, ()> = BTreeMap::new();
        report.progress.objects_total = entries.len() as u64;
        report.progress.bytes_total = entries
            .iter()
            .map(|entry| entry.object_bytes)
            .fold(0, u64::saturating_add);
        progress(report.progress);
        for entry in &entries {
            named.insert(entry.name(), ());
            let checked = self.verify_object(place, entry).await;
            if let Some(segment_bytes) = report.note(checked)? {
                report.segment_bytes += segment_bytes;
            }
            report.progress.objects += 1;
            report.progress.bytes = report.progress.bytes.saturating_add(entry.object_bytes);
            progress(report.progress);
        }
        let unnamed = contents
            .objects
            .keys()
            .filter(|name| !named.contains_key(name));
        report.unnamed = unnamed.copied().collect();
        Ok(report)
    }

    async fn named_entries(&self, place: &Place, name: &str) -> Result<Vec<Entry>, InspectError> {
        let head = self.head(place, name).await?;
        self.entries(place, &head).await
    }

    /// Checks one object against its entry; gives how many bytes of segments it holds.
    async fn verify_object(&self, place: &Place, entry: &Entry) -> Result<u64, InspectError> {
        let path = layout::object(&partition_of(place), &entry.name());
        let (bytes, checksum) = self.remote.checksum(&path, |_| {}).await?;
        if bytes != entry.object_bytes {
            let problem = format!(
                "it has {bytes} bytes, its manifest says {}",
                entry.object_bytes
            );
            return Err(damaged(&path, problem));
        }
        if checksum != entry.checksum {
            let problem = format!("its checksum is {checksum:08x}, not {:08x}", entry.checksum);
            return Err(damaged(&path, problem));
        }
        let (index, position) = self.index(&path, bytes).await?;
        let same = position == entry.index_position
            && (index.base, index.end) == (entry.base, entry.end)
            && index.epochs == entry.epochs;
        if !same {
            return Err(damaged(&path, "its index is not what its manifest says"));
        }
        let mut segment_bytes = 0_u64;
        self.cat(&path, &index, |bytes| segment_bytes += bytes.len() as u64)
            .await?;
        if segment_bytes != entry.segment_bytes {
            return Err(damaged(
                &path,
                "its segments are not as long as its manifest says",
            ));
        }
        Ok(segment_bytes)
    }
}

impl Report {
    /// Notes what is wrong with a part; a store that fails is no part of the report.
    fn note<T>(&mut self, result: Result<T, InspectError>) -> Result<Option<T>, InspectError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(InspectError::Request(error)) if !error.is_answer() => Err(error.into()),
            Err(InspectError::Stopped(stopped)) => Err(stopped.into()),
            Err(problem) => {
                self.problems.push(problem.to_string());
                Ok(None)
            }
        }
    }
}

/// The partition of a place; its incarnation names nothing that is read.
#[must_use]
pub fn partition_of(place: &Place) -> Partition {
    Partition {
        cluster_id: place.cluster_id.as_str().into(),
        incarnation: 0,
        topic_id: place.topic_id,
        partition: place.partition,
    }
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> InspectError {
    InspectError::Damaged {
        path: path.to_string(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests;

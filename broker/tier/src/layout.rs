//! Where things are in the bucket: every object name is made and read here, and nowhere else.
//!
//! ```text
//! <cluster-id>/cluster.json
//! <cluster-id>/<topic-id>/<partition>/<base>-<end>-<leader-epoch>-<uuid>.log.zst
//! <cluster-id>/<topic-id>/<partition>/manifest/<incarnation>-<epoch>-<version>-<uuid>.head
//! <cluster-id>/<topic-id>/<partition>/manifest/<incarnation>-<epoch>-<version>-<uuid>.page
//! ```
//!
//! Below the bucket's own prefix, which the store handed in already carries. Topic ids and uuids are
//! lower-case hex, offsets and versions have 20 digits and epochs 10, so that names sort as numbers.

use std::fmt;
use std::sync::Arc;

use esker_protocol::{LeaderEpoch, Offset, TopicId};
use object_store::path::Path;

/// A partition, as the bucket knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// The cluster's id, in Kafka's 22-character form.
    pub cluster_id: Arc<str>,
    /// The cluster's incarnation (P2).
    pub incarnation: u64,
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

/// The bytes of a uuid; every try of an upload takes a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

impl Uuid {
    fn parse(text: &str) -> Option<Uuid> {
        lower_hex(text)
            .then(|| TopicId::from_hex(text))
            .flatten()
            .map(|id| Uuid(id.0))
    }
}

/// What the name of a data object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// First offset.
    pub base: Offset,
    /// End, exclusive.
    pub end: Offset,
    /// Epoch of the leader that uploaded it.
    pub leader_epoch: LeaderEpoch,
    /// The try.
    pub uuid: Uuid,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectName {
            base,
            end,
            leader_epoch,
            uuid,
        } = self;
        write!(
            f,
            "{:020}-{:020}-{:010}-{uuid}.log.zst",
            base.0, end.0, leader_epoch.0
        )
    }
}

impl ObjectName {
    /// Reads a file name; none if it is not exactly one that [`ObjectName`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<ObjectName> {
        let mut parts = text.strip_suffix(".log.zst")?.split('-');
        let name = ObjectName {
            base: Offset(number(parts.next()?, 20)?),
            end: Offset(number(parts.next()?, 20)?),
            leader_epoch: LeaderEpoch(number(parts.next()?, 10)?),
            uuid: Uuid::parse(parts.next()?)?,
        };
        (parts.next().is_none() && name.base < name.end).then_some(name)
    }
}

/// Head or page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ManifestKind {
    /// What a pointer names.
    Head,
    /// What a head names.
    Page,
}

/// What the name of a manifest file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestName {
    /// Incarnation of the cluster that wrote it.
    pub incarnation: u64,
    /// Epoch of the leader that wrote it.
    pub leader_epoch: LeaderEpoch,
    /// The committed version plus one, also on retry.
    pub version: u64,
    /// The try.
    pub uuid: Uuid,
    /// Head or page.
    pub kind: ManifestKind,
}

impl fmt::Display for ManifestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ManifestName {
            incarnation,
            leader_epoch,
            version,
            uuid,
            kind,
        } = self;
        let suffix = match kind {
            ManifestKind::Head => "head",
            ManifestKind::Page => "page",
        };
        write!(
            f,
            "{incarnation:020}-{:010}-{version:020}-{uuid}.{suffix}",
            leader_epoch.0
        )
    }
}

impl ManifestName {
    /// Reads a file name; none if it is not exactly one that [`ManifestName`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<ManifestName> {
        let (stem, kind) = match text.rsplit_once('.')? {
            (stem, "head") => (stem, ManifestKind::Head),
            (stem, "page") => (stem, ManifestKind::Page),
            _ => return None,
        };
        let mut parts = stem.split('-');
        let name = ManifestName {
            incarnation: number(parts.next()?, 20)?,
            leader_epoch: LeaderEpoch(number(parts.next()?, 10)?),
            version: number(parts.next()?, 20)?,
            uuid: Uuid::parse(parts.next()?)?,
            kind,
        };
        parts.next().is_none().then_some(name)
    }
}

/// What a path in the bucket is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// `cluster.json` of a cluster.
    Marker {
        /// The cluster.
        cluster_id: String,
    },
    /// A data object.
    Object {
        /// Whose.
        place: Place,
        /// Which.
        name: ObjectName,
    },
    /// A manifest head or page.
    Manifest {
        /// Whose.
        place: Place,
        /// Which.
        name: ManifestName,
    },
}

/// The partition that a path belongs to; the incarnation is no part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The cluster's id.
    pub cluster_id: String,
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: i32,
}

/// `<cluster-id>/cluster.json`: the marker that says whose bucket this is.
#[must_use]
pub fn marker(cluster_id: &str) -> Path {
    Path::from_iter([cluster_id, "cluster.json"])
}

/// The folder of a topic.
#[must_use]
pub fn topic_prefix(cluster_id: &str, topic_id: TopicId) -> Path {
    Path::from_iter([cluster_id, topic_id.to_hex().as_str()])
}

/// The folder of a partition.
#[must_use]
pub fn partition_prefix(partition: &Partition) -> Path {
    topic_prefix(&partition.cluster_id, partition.topic_id).join(partition.partition.to_string())
}

/// The path of a data object.
#[must_use]
pub fn object(partition: &Partition, name: &ObjectName) -> Path {
    partition_prefix(partition).join(name.to_string())
}

/// The path of a manifest file by its file name.
#[must_use]
pub fn manifest(partition: &Partition, file_name: &str) -> Path {
    partition_prefix(partition).join("manifest").join(file_name)
}

/// Reads a path; none if this crate never writes one like it.
#[must_use]
pub fn parse(path: &Path) -> Option<Named> {
    let parts: Vec<_> = path.parts().collect();
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match parts.as_slice() {
        [cluster_id, "cluster.json"] => Some(Named::Marker {
            cluster_id: (*cluster_id).to_owned(),
        }),
        [cluster_id, topic, partition, file] => Some(Named::Object {
            place: place(cluster_id, topic, partition)?,
            name: ObjectName::parse(file)?,
        }),
        [cluster_id, topic, partition, "manifest", file] => Some(Named::Manifest {
            place: place(cluster_id, topic, partition)?,
            name: ManifestName::parse(file)?,
        }),
        _ => None,
    }
}

fn place(cluster_id: &str, topic: &str, partition: &str) -> Option<Place> {
    let number: i32 = partition.parse().ok()?;
    let canonical = number >= 0 && number.to_string() == partition && lower_hex(topic);
    canonical.then_some(())?;
    Some(Place {
        cluster_id: cluster_id.to_owned(),
        topic_id: TopicId::from_hex(topic)?,
        partition: number,
    })
}

fn lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A number of exactly `digits` decimal digits.
fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Option<T> {
    let exact = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    exact.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;

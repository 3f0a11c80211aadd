//! Collection: which objects and manifests nothing can ever need again (P7), and their deletion.
//!
//! ```text
//! list -> read the pointer linearisably -> gather what is named -> decide (pure) -> delete
//! ```
//!
//! Deletion is the dangerous verb, so [`decide`] is pure and says no unless it can prove a yes; what
//! it cannot prove leaks, and a later round, or a later leader epoch, proves it.
//!
//! An object or manifest goes if
//! - it is an object that a log start has passed, `file.delete.delay.ms` after that commit; or
//! - no manifest names it, current, pending or within retention; and its epoch is older than the
//!   claimed one whose claimant has committed, or this process knows that its PUT has ended; and it
//!   has been so for the readers' grace; or
//! - it is a committed manifest, superseded for `manifest.retention.ms`.
//!
//! Age alone proves nothing.

mod gather;

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::{LeaderEpoch, Offset, Timestamp};
use object_store::path::Path;

use crate::layout::{self, ManifestKind, ManifestName, Named, ObjectName};
use crate::manifest::{Head, Page};
use crate::pointer::Pointer;

pub use gather::{CollectError, Collector};

/// How long to wait before what may be deleted is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `file.delete.delay.ms`: after the log start's commit.
    pub file_delete_delay_ms: i64,
    /// `manifest.retention.ms`: after a manifest was superseded.
    pub manifest_retention_ms: i64,
    /// For readers that may still hold an older pointer.
    pub reader_grace_ms: i64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            file_delete_delay_ms: 60_000,
            manifest_retention_ms: 7 * 24 * 3_600_000,
            reader_grace_ms: 600_000,
        }
    }
}

/// Names that manifests name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    objects: BTreeSet<ObjectName>,
    manifests: BTreeSet<String>,
}

impl Names {
    /// Adds a head by its file name, its entries, and the names of its pages.
    pub fn add_head(&mut self, file_name: &str, head: &Head) {
        self.manifests.insert(file_name.to_owned());
        self.manifests
            .extend(head.pages.iter().map(|page| page.name.clone()));
        self.objects
            .extend(head.entries.iter().map(|entry| entry.name()));
    }

    /// Adds the entries of a page.
    pub fn add_page(&mut self, page: &Page) {
        self.objects
            .extend(page.entries.iter().map(|entry| entry.name()));
    }

    /// Adds a path, whatever it is.
    pub fn add_path(&mut self, path: &Path) {
        match layout::parse(path) {
            Some(Named::Object { name, .. }) => drop(self.objects.insert(name)),
            Some(Named::Manifest { name, .. }) => drop(self.manifests.insert(name.to_string())),
            _ => {}
        }
    }

    /// Whether an object is named.
    #[must_use]
    pub fn has_object(&self, name: &ObjectName) -> bool {
        self.objects.contains(name)
    }

    fn has_manifest(&self, name: &ManifestName) -> bool {
        self.manifests.contains(&name.to_string())
    }
}

/// A committed head that another has superseded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// When its successor was written.
    pub at: Timestamp,
    /// When it was written itself: when it superseded the one before.
    pub written_at: Timestamp,
    /// The pages that it names.
    pub pages: Vec<String>,
    /// The head that it superseded itself.
    pub previous: Option<String>,
}

/// What collection of one partition remembers between rounds. Losing it only delays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    log_starts: BTreeMap<Offset, Timestamp>,
    unnamed_since: BTreeMap<Path, Timestamp>,
    superseded: BTreeMap<String, Superseded>,
}

/// What a decision rests on. The listing is older than the pointer, which was read linearisably.
#[derive(Debug)]
pub struct View<'a> {
    /// What the store listed below the partition.
    pub listing: &'a [Path],
    /// The pointer.
    pub pointer: &'a Pointer,
    /// Whether the epoch that holds the key has committed a manifest.
    pub claimant_committed: bool,
    /// What the current manifest and its pages name, and every pending commit.
    pub named: &'a Names,
    /// The committed heads that were superseded, oldest first; none while they are not all known.
    pub chain: Option<&'a [(String, Superseded)]>,
    /// Paths whose PUT this process knows to have ended, and that it will not commit.
    pub ended: &'a BTreeSet<Path>,
}

/// What may be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletions {
    /// What may go now, in this order.
    pub now: Vec<Path>,
    /// Objects that may go if no manifest within retention names them.
    pub unless_retained: Vec<(Path, ObjectName)>,
}

/// Says what may be deleted of one partition.
#[must_use]
pub fn decide(memory: &mut Memory, view: &View<'_>, config: &Limits, now: Timestamp) -> Deletions {
    let settled = memory.settle_log_start(view.pointer, config, now);
    let expired = Expired::of(view.chain.unwrap_or_default(), config, now);
    let mut deletions = Deletions::default();
    let mut heads = BTreeMap::new();
    let mut unnamed = BTreeSet::new();
    for path in view.listing {
        match layout::parse(path) {
            Some(Named::Object { name, .. }) => {
                if settled.is_some_and(|log_start| name.end <= log_start) {
                    deletions.now.push(path.clone());
                } else if !view.named.has_object(&name) {
                    unnamed.insert(path.clone());
                    if view.is_dead(path, name.leader_epoch)
                        && memory.grace_is_over(path, config, now)
                    {
                        deletions.unless_retained.push((path.clone(), name));
                    }
                }
            }
            Some(Named::Manifest { name, .. }) if !view.named.has_manifest(&name) => {
                unnamed.insert(path.clone());
                let file = name.to_string();
                // Before all superseded heads are known, any of them may be within retention.
                if view.chain.is_none() || expired.retains(&file) {
                    continue;
                }
                let dead = view.is_dead(path, name.leader_epoch) || expired.knows(&file);
                if dead && memory.grace_is_over(path, config, now) {
                    match (name.kind, expired.heads.get(&file)) {
                        // Oldest last superseded first: the chain is walked from its new end.
                        (ManifestKind::Head, Some(place)) => {
                            drop(heads.insert(*place, path.clone()))
                        }
                        _ => deletions.now.push(path.clone()),
                    }
                }
            }
            // What this crate does not write is not its to delete.
            _ => {}
        }
    }
    memory
        .unnamed_since
        .retain(|path, _| unnamed.contains(path));
    // Heads go after what they alone name, so that a crash in between loses no trace of that.
    deletions.now.extend(heads.into_values());
    deletions
}

impl View<'_> {
    /// Whether nothing can commit it any more, by its epoch or by what this process knows.
    fn is_dead(&self, path: &Path, epoch: LeaderEpoch) -> bool {
        let outlived = epoch < self.pointer.claimed_epoch && self.claimant_committed;
        outlived || self.ended.contains(path)
    }
}

impl Memory {
    /// Remembers when the pointer's log start was first seen; gives the largest one seen at least
    /// `file.delete.delay.ms` ago.
    fn settle_log_start(
        &mut self,
        pointer: &Pointer,
        config: &Limits,
        now: Timestamp,
    ) -> Option<Offset> {
        self.log_starts.entry(pointer.log_start).or_insert(now);
        let waited =
            |since: &Timestamp| now.0.saturating_sub(since.0) >= config.file_delete_delay_ms;
        let settled = self
            .log_starts
            .iter()
            .rev()
            .find(|(_, since)| waited(since));
        let settled = settled.map(|(offset, _)| *offset);
        // Smaller ones have nothing left to say.
        self.log_starts
            .retain(|offset, _| settled.is_none_or(|settled| *offset >= settled));
        settled
    }

    /// Whether a path has been unnamed for the readers' grace, counting from the first time it is
    /// asked for.
    fn grace_is_over(&mut self, path: &Path, config: &Limits, now: Timestamp) -> bool {
        let since = *self.unnamed_since.entry(path.clone()).or_insert(now);
        now.0.saturating_sub(since.0) >= config.reader_grace_ms
    }
}

/// Superseded heads by whether their retention has passed.
#[derive(Debug, Default)]
struct Expired {
    /// Heads beyond retention, with their place in the chain, oldest first.
    heads: BTreeMap<String, usize>,
    /// Pages that only such heads name.
    pages: BTreeSet<String>,
    /// Heads within retention, and their pages.
    retained: BTreeSet<String>,
}

impl Expired {
    fn of(chain: &[(String, Superseded)], config: &Limits, now: Timestamp) -> Expired {
        let mut expired = Expired::default();
        for (place, (name, superseded)) in chain.iter().enumerate() {
            let age = now.0.saturating_sub(superseded.at.0);
            if age >= config.manifest_retention_ms {
                expired.heads.insert(name.clone(), place);
                expired.pages.extend(superseded.pages.iter().cloned());
            } else {
                expired.retained.insert(name.clone());
                expired.retained.extend(superseded.pages.iter().cloned());
            }
        }
        expired
    }

    fn retains(&self, file: &str) -> bool {
        self.retained.contains(file)
    }

    /// Whether it was committed once: then its PUT has ended.
    fn knows(&self, file: &str) -> bool {
        self.heads.contains_key(file) || self.pages.contains(file)
    }
}

/// The store holds what the metadata store has forgotten: it was rewound (P2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the bucket holds manifest {name}, the metadata store knows leader epoch {epoch} and version \
     {version}: it was set back to an older state"
)]
pub struct Rewound {
    /// What proves it.
    pub name: String,
    /// The partition's leader epoch.
    pub epoch: LeaderEpoch,
    /// The committed version.
    pub version: u64,
}

/// Compares a listing with the key that was read linearisably *after* it (P2).
///
/// # Errors
/// [`Rewound`] when a manifest of this incarnation has an epoch above the partition's or a version
/// more than one above the committed one.
pub fn check_not_rewound(
    listing: &[Path],
    incarnation: u64,
    partition_epoch: LeaderEpoch,
    pointer: Option<&Pointer>,
) -> Result<(), Rewound> {
    let version = pointer.map_or(0, |pointer| pointer.version);
    for path in listing {
        if let Some(Named::Manifest { name, .. }) = layout::parse(path)
            && name.incarnation == incarnation
            && (name.leader_epoch > partition_epoch || name.version > version.saturating_add(1))
        {
            return Err(Rewound {
                name: name.to_string(),
                epoch: partition_epoch,
                version,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

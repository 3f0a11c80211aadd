//! The manifest: which objects of a partition are its log.
//!
//! An object that the manifest does not name does not exist, so it is written last:
//!
//! ```text
//! put objects -> verify -> put page, if the head is full -> put head -> verify -> commit pointer
//! ```
//!
//! A head holds the newest entries, at most [`HEAD_ENTRIES_MAX`], and points to pages of at most
//! [`PAGE_ENTRIES_MAX`] older ones. It keeps sums of every page, so that retention and lookups read
//! no page that they do not need. Heads and pages are immutable: growing the last page writes a new one.
//!
//! Invariants
//! - Entries are sorted and touch: each starts where the one before ends; the last ends at the tier end.
//! - The first entry starts at or below the log start.
//! - This module is pure: it neither knows the store nor the clock.

mod codec;

use esker_protocol::{LeaderEpoch, Offset, Timestamp, TopicId};

use crate::layout::{ObjectName, Uuid};
use crate::pointer::Pointer;

pub use codec::{DecodeError, decode_head, decode_page, encode_head, encode_page};
pub(crate) use codec::{read_epochs, write_epoch};

/// Entries in a head at most.
pub const HEAD_ENTRIES_MAX: usize = 64;
/// Entries that stay in a head when it overflows: half, so that a page is written once in 32 commits
/// and the newest entries are always at hand.
pub const HEAD_ENTRIES_KEPT: usize = 32;
/// Entries in a page at most.
pub const PAGE_ENTRIES_MAX: usize = 1024;

/// Where a leader epoch starts.
pub type EpochStart = (LeaderEpoch, Offset);

/// One object of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// First offset.
    pub base: Offset,
    /// End, exclusive.
    pub end: Offset,
    /// Epoch of the leader that uploaded it.
    pub leader_epoch: LeaderEpoch,
    /// The uuid in its name.
    pub uuid: Uuid,
    /// Length of the object.
    pub object_bytes: u64,
    /// Where its index frame begins.
    pub index_position: u64,
    /// CRC-32C of the whole object.
    pub checksum: u32,
    /// Length of the segments in it.
    pub segment_bytes: u64,
    /// Largest timestamp in it.
    pub max_timestamp: Timestamp,
    /// When it was uploaded.
    pub uploaded_at: Timestamp,
    /// Leader epoch of its last batch.
    pub last_epoch: LeaderEpoch,
    /// The epochs in it: the first starts at its base.
    pub epochs: Vec<EpochStart>,
}

impl Entry {
    /// The object's name.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        ObjectName {
            base: self.base,
            end: self.end,
            leader_epoch: self.leader_epoch,
            uuid: self.uuid,
        }
    }

    /// What retention by time goes by: the newest record, or the upload where records bear no time.
    #[must_use]
    pub fn retention_timestamp(&self) -> Timestamp {
        if self.max_timestamp.0 >= 0 {
            self.max_timestamp
        } else {
            self.uploaded_at
        }
    }
}

/// What a head says of a page: enough for lookups and retention to pass it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRef {
    /// File name.
    pub name: String,
    /// The page's trailing CRC-32C.
    pub checksum: u32,
    /// Base of its first entry.
    pub base: Offset,
    /// End of its last entry.
    pub end: Offset,
    /// How many entries it has.
    pub entry_count: u32,
    /// Sum of object lengths.
    pub object_bytes: u64,
    /// Sum of segment lengths.
    pub segment_bytes: u64,
    /// Largest timestamp of all entries.
    pub max_timestamp: Timestamp,
    /// Largest retention timestamp of all entries.
    pub retention_timestamp_max: Timestamp,
    /// Retention timestamp of the first entry: while it is kept, the page need not be read.
    pub retention_timestamp_first: Timestamp,
    /// Segment length of the first entry, for the same reason.
    pub segment_bytes_first: u64,
    /// The epochs in it.
    pub epochs: Vec<EpochStart>,
}

/// A run of older entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: i32,
    /// The entries, never none.
    pub entries: Vec<Entry>,
}

/// What a pointer names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: i32,
    /// Incarnation of the cluster that wrote it.
    pub incarnation: u64,
    /// Epoch of the leader that wrote it.
    pub leader_epoch: LeaderEpoch,
    /// The committed version plus one.
    pub version: u64,
    /// The head that it supersedes.
    pub previous: Option<String>,
    /// When it was written.
    pub written_at: Timestamp,
    /// The log start then; entries below the pointer's are absent.
    pub log_start: Offset,
    /// End of the last entry.
    pub tier_end: Offset,
    /// Leader epoch of the last batch.
    pub tier_end_epoch: LeaderEpoch,
    /// Older entries, in pages.
    pub pages: Vec<PageRef>,
    /// The newest entries, never none.
    pub entries: Vec<Entry>,
}

/// Where the entry of an offset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located<'a> {
    /// In the head.
    Entry(&'a Entry),
    /// In this page.
    Page(&'a PageRef),
}

/// The manifest contradicts itself, or what should follow it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// An entry does not start where the one before ends.
    #[error("an entry starts at {found}, the one before ends at {expected}")]
    Gap {
        /// Where it should start.
        expected: Offset,
        /// Where it starts.
        found: Offset,
    },
    /// There is nothing in it.
    #[error("a manifest has no entries")]
    Empty,
    /// More entries than a head or a page may have.
    #[error("a manifest holds {count} entries, {max} are allowed")]
    TooLong {
        /// What it has.
        count: usize,
        /// What it may have.
        max: usize,
    },
    /// Its first entry starts behind the log start.
    #[error("a manifest starts at {base}, behind its log start {log_start}")]
    StartsLate {
        /// Base of the first entry.
        base: Offset,
        /// The log start.
        log_start: Offset,
    },
    /// Its own words disagree with its entries.
    #[error("a manifest's entries disagree with its {0}")]
    Disagrees(&'static str),
}

/// A sum that no claimed size can make overflow.
fn total(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// Finds the entry that holds `offset` in entries that touch.
fn entry_at(entries: &[Entry], offset: Offset) -> Option<&Entry> {
    let entry = entries.get(entries.partition_point(|entry| entry.end <= offset))?;
    (entry.base <= offset).then_some(entry)
}

/// Checks that entries touch, and each by itself.
fn check_entries(entries: &[Entry], max: usize) -> Result<(), ManifestError> {
    if entries.len() > max {
        return Err(ManifestError::TooLong {
            count: entries.len(),
            max,
        });
    }
    let mut expected = entries.first().ok_or(ManifestError::Empty)?.base;
    for entry in entries {
        if entry.base != expected {
            return Err(ManifestError::Gap {
                expected,
                found: entry.base,
            });
        }
        if entry.end <= entry.base {
            return Err(ManifestError::Disagrees("offsets"));
        }
        if entry.index_position >= entry.object_bytes {
            return Err(ManifestError::Disagrees("index position"));
        }
        if entry
            .epochs
            .first()
            .is_none_or(|(_, start)| *start != entry.base)
        {
            return Err(ManifestError::Disagrees("epochs"));
        }
        if entry
            .epochs
            .last()
            .is_none_or(|(epoch, _)| *epoch != entry.last_epoch)
        {
            return Err(ManifestError::Disagrees("last epoch"));
        }
        expected = entry.end;
    }
    Ok(())
}

/// Appends epochs to a list, leaving out a first one that only goes on.
pub(crate) fn extend_epochs(epochs: &mut Vec<EpochStart>, more: &[EpochStart]) {
    for (epoch, start) in more {
        if epochs.last().is_none_or(|(last, _)| last != epoch) {
            epochs.push((*epoch, *start));
        }
    }
}

impl Page {
    /// Finds the entry that holds `offset`.
    #[must_use]
    pub fn entry_at(&self, offset: Offset) -> Option<&Entry> {
        entry_at(&self.entries, offset)
    }

    /// Checks the page's own invariants.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ManifestError> {
        check_entries(&self.entries, PAGE_ENTRIES_MAX)
    }

    /// Checks that the page is the one that a head describes.
    ///
    /// # Errors
    /// What disagrees.
    pub fn check_against(&self, page: &PageRef) -> Result<(), ManifestError> {
        let sums = self
            .sums(page.name.clone(), page.checksum)
            .ok_or(ManifestError::Empty)?;
        if sums == *page {
            Ok(())
        } else {
            Err(ManifestError::Disagrees("page sums"))
        }
    }

    /// What a head says of this page; none of an empty one.
    #[must_use]
    pub fn sums(&self, name: String, checksum: u32) -> Option<PageRef> {
        let (first, last) = (self.entries.first()?, self.entries.last()?);
        let mut epochs = Vec::new();
        for entry in &self.entries {
            extend_epochs(&mut epochs, &entry.epochs);
        }
        let max = |of: fn(&Entry) -> Timestamp| {
            self.entries.iter().map(of).max().unwrap_or(Timestamp::NONE)
        };
        Some(PageRef {
            name,
            checksum,
            base: first.base,
            end: last.end,
            entry_count: u32::try_from(self.entries.len()).unwrap_or(u32::MAX),
            object_bytes: total(self.entries.iter().map(|entry| entry.object_bytes)),
            segment_bytes: total(self.entries.iter().map(|entry| entry.segment_bytes)),
            max_timestamp: max(|entry| entry.max_timestamp),
            retention_timestamp_max: max(Entry::retention_timestamp),
            retention_timestamp_first: first.retention_timestamp(),
            segment_bytes_first: first.segment_bytes,
            epochs,
        })
    }
}

impl Head {
    /// Base of the oldest entry.
    #[must_use]
    pub fn base(&self) -> Offset {
        let page = self.pages.first().map(|page| page.base);
        page.or(self.entries.first().map(|entry| entry.base))
            .unwrap_or(self.tier_end)
    }

    /// Where the entry of `offset` is; none if no entry holds it.
    #[must_use]
    pub fn locate(&self, offset: Offset) -> Option<Located<'_>> {
        if let Some(entry) = entry_at(&self.entries, offset) {
            return Some(Located::Entry(entry));
        }
        let page = self
            .pages
            .get(self.pages.partition_point(|page| page.end <= offset))?;
        (page.base <= offset).then_some(Located::Page(page))
    }

    /// All epochs of the tiered log, from `log_start` on.
    #[must_use]
    pub fn epochs(&self, log_start: Offset) -> Vec<EpochStart> {
        let mut epochs = Vec::new();
        for page in &self.pages {
            extend_epochs(&mut epochs, &page.epochs);
        }
        for entry in &self.entries {
            extend_epochs(&mut epochs, &entry.epochs);
        }
        clip_epochs(epochs, log_start)
    }

    /// Sum of the object lengths of what is not passed by `log_start`.
    #[must_use]
    pub fn object_bytes(&self, log_start: Offset) -> u64 {
        let pages = self.pages.iter().filter(|page| page.end > log_start);
        let entries = self.entries.iter().filter(|entry| entry.end > log_start);
        total(
            pages
                .map(|page| page.object_bytes)
                .chain(entries.map(|entry| entry.object_bytes)),
        )
    }

    /// Sum of the segment lengths of what is not passed by `log_start`; a page that it passed in
    /// part counts whole.
    #[must_use]
    pub fn segment_bytes(&self, log_start: Offset) -> u64 {
        let pages = self.pages.iter().filter(|page| page.end > log_start);
        let entries = self.entries.iter().filter(|entry| entry.end > log_start);
        total(
            pages
                .map(|page| page.segment_bytes)
                .chain(entries.map(|entry| entry.segment_bytes)),
        )
    }

    /// Checks the head's own invariants.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ManifestError> {
        check_entries(&self.entries, HEAD_ENTRIES_MAX)?;
        let mut expected = self.base();
        let starts = self.pages.iter().map(|page| (page.base, page.end));
        let first = self.entries.first().map(|entry| (entry.base, entry.end));
        for (base, end) in starts.chain(first) {
            if base != expected || end <= base {
                return Err(ManifestError::Gap {
                    expected,
                    found: base,
                });
            }
            expected = end;
        }
        let last = self.entries.last().ok_or(ManifestError::Empty)?;
        if last.end != self.tier_end || last.last_epoch != self.tier_end_epoch {
            return Err(ManifestError::Disagrees("tier end"));
        }
        if self.base() > self.log_start {
            return Err(ManifestError::StartsLate {
                base: self.base(),
                log_start: self.log_start,
            });
        }
        Ok(())
    }
}

/// Drops epochs that end at or below `log_start`, and lets the one in force there start at it.
#[must_use]
pub fn clip_epochs(mut epochs: Vec<EpochStart>, log_start: Offset) -> Vec<EpochStart> {
    let in_force = epochs.partition_point(|(_, start)| *start <= log_start);
    if in_force > 1 {
        epochs.drain(..in_force - 1);
    }
    if in_force > 0
        && let Some((_, start)) = epochs.first_mut()
    {
        *start = log_start;
    }
    epochs
}

/// How the next manifest follows from the committed one: pages kept as they are, entries for the
/// head, and entries that move into pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// Pages kept.
    pub pages: Vec<PageRef>,
    /// The last page, if it has room for what moves: it is to be read, extended and replaced.
    pub extends: Option<PageRef>,
    /// Entries that move out of the head, oldest first.
    pub moved: Vec<Entry>,
    /// Entries of the next head.
    pub entries: Vec<Entry>,
}

/// Says what the manifest after `previous` holds when `added` is uploaded on top of `pointer`.
///
/// What the pointer's log start has passed is left out. Where the pointer's tier end has moved past
/// the manifest's, nothing of the manifest is left, and the next one starts anew.
///
/// # Errors
/// [`ManifestError`] when the new entries do not start at the pointer's tier end and touch.
pub fn next(
    previous: Option<&Head>,
    pointer: &Pointer,
    added: Vec<Entry>,
) -> Result<Next, ManifestError> {
    let first = added.first().ok_or(ManifestError::Empty)?;
    if first.base != pointer.tier_end {
        return Err(ManifestError::Gap {
            expected: pointer.tier_end,
            found: first.base,
        });
    }
    check_entries(&added, usize::MAX)?;
    if let Some(head) = previous.filter(|head| head.tier_end > pointer.tier_end) {
        return Err(ManifestError::Gap {
            expected: head.tier_end,
            found: pointer.tier_end,
        });
    }
    let previous = previous.filter(|head| head.tier_end == pointer.tier_end);
    let mut pages: Vec<PageRef> = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    if let Some(head) = previous {
        pages.extend(
            head.pages
                .iter()
                .filter(|page| page.end > pointer.log_start)
                .cloned(),
        );
        entries.extend(
            head.entries
                .iter()
                .filter(|e| e.end > pointer.log_start)
                .cloned(),
        );
    }
    entries.extend(added);
    let mut moved = Vec::new();
    let mut extends = None;
    if entries.len() > HEAD_ENTRIES_MAX {
        moved = entries.drain(..entries.len() - HEAD_ENTRIES_KEPT).collect();
        extends = pages.pop_if(|page| (page.entry_count as usize) < PAGE_ENTRIES_MAX);
    }
    Ok(Next {
        pages,
        extends,
        moved,
        entries,
    })
}

/// Cuts the entries of an extended page and those that move in into pages.
#[must_use]
pub fn paginate(
    topic_id: TopicId,
    partition: i32,
    extended: Vec<Entry>,
    moved: Vec<Entry>,
) -> Vec<Page> {
    let mut entries = extended;
    entries.extend(moved);
    let mut pages = Vec::new();
    while !entries.is_empty() {
        let rest = entries.split_off(entries.len().min(PAGE_ENTRIES_MAX));
        pages.push(Page {
            topic_id,
            partition,
            entries,
        });
        entries = rest;
    }
    pages
}

#[cfg(test)]
mod tests;

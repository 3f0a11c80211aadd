//! Lookups in the tier: offsets by timestamp, epochs, the state at its end, retention.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::records::{Batches, Caps, search};
use esker_protocol::{LeaderEpoch, Offset, Timestamp};

use super::{ReadError, Reader};
use crate::layout::Partition;
use crate::manifest::{Entry, EpochStart, Head, Page, PageRef};
use crate::object::{Frame, FrameAt};
use crate::pointer::Pointer;
use crate::pool::on_cpu;
use crate::retention::{self, LocalSegment, RetentionConfig};
use crate::source::{AbortedTransaction, OpenTransaction, ProducerEntry};

/// What a leader needs of the tier to start a log at its end (P8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndState {
    /// The epochs from the log start on.
    pub epochs: Vec<EpochStart>,
    /// Producer state as of the tier end; empty where the last object ends elsewhere.
    pub producers: Vec<ProducerEntry>,
    /// Transactions open at the tier end, with the outcome that their markers must have.
    pub open_transactions: Vec<OpenTransaction>,
    /// Aborted transactions that reach across the tier end.
    pub aborted: Vec<AbortedTransaction>,
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

/// What is searched for in a frame.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    AtOrAfter(Timestamp),
    Largest,
}

impl Reader {
    /// The manifest that a pointer names, with its pages unread; none before the first commit.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn manifest(
        &self,
        partition: &Partition,
        pointer: &Pointer,
    ) -> Result<Option<Arc<Head>>, ReadError> {
        self.shared.head(partition, pointer).await
    }

    /// A page of a manifest.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn page(
        &self,
        partition: &Partition,
        page: &PageRef,
    ) -> Result<Arc<Page>, ReadError> {
        self.shared.page(partition, page).await
    }

    /// The first record at or above the log start whose timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn offset_for_timestamp(
        &self,
        partition: &Partition,
        pointer: &Pointer,
        timestamp: Timestamp,
    ) -> Result<Option<Found>, ReadError> {
        let Some(head) = self.shared.head(partition, pointer).await? else {
            return Ok(None);
        };
        self.search_from(partition, &head, pointer.log_start, timestamp)
            .await
    }

    /// The first record at or above `start` whose timestamp is at least `timestamp`.
    async fn search_from(
        &self,
        partition: &Partition,
        head: &Head,
        start: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<Found>, ReadError> {
        for page_ref in &head.pages {
            if page_ref.end <= start || page_ref.max_timestamp < timestamp {
                continue;
            }
            let page = self.shared.page(partition, page_ref).await?;
            let found = self
                .search_entries(partition, &page.entries, start, timestamp)
                .await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        self.search_entries(partition, &head.entries, start, timestamp)
            .await
    }

    /// The first record at or above the log start that has the largest timestamp of all tiered ones.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn offset_of_max_timestamp(
        &self,
        partition: &Partition,
        pointer: &Pointer,
    ) -> Result<Option<Found>, ReadError> {
        let Some(head) = self.shared.head(partition, pointer).await? else {
            return Ok(None);
        };
        let start = pointer.log_start;
        if start >= head.tier_end {
            return Ok(None);
        }
        // An object that the log start has passed in part may have lost its largest timestamp, so
        // its records are looked at; of all others the manifest knows it.
        let first = self.entry_at(partition, &head, start).await?;
        let (partial, from) = if first.base < start {
            (self.largest_in(partition, &first, start).await?, first.end)
        } else {
            (None, start)
        };
        let rest = self.max_timestamp_from(partition, &head, from).await?;
        let larger = |max: &Timestamp| partial.is_none_or(|found| *max > found.timestamp);
        match rest.filter(larger) {
            Some(max) => self.search_from(partition, &head, from, max).await,
            None => Ok(partial),
        }
    }

    /// The largest timestamp of the objects from `from` on.
    async fn max_timestamp_from(
        &self,
        partition: &Partition,
        head: &Head,
        from: Offset,
    ) -> Result<Option<Timestamp>, ReadError> {
        let mut max: Option<Timestamp> = None;
        for page_ref in head.pages.iter().filter(|page| page.end > from) {
            if page_ref.base >= from {
                max = max.max(Some(page_ref.max_timestamp));
                continue;
            }
            let page = self.shared.page(partition, page_ref).await?;
            let kept = page.entries.iter().filter(|entry| entry.base >= from);
            max = max.max(kept.map(|entry| entry.max_timestamp).max());
        }
        let kept = head.entries.iter().filter(|entry| entry.base >= from);
        Ok(max.max(kept.map(|entry| entry.max_timestamp).max()))
    }

    async fn search_entries(
        &self,
        partition: &Partition,
        entries: &[Entry],
        start: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<Found>, ReadError> {
        for entry in entries {
            if entry.end <= start || entry.max_timestamp < timestamp {
                continue;
            }
            let wanted = |frame: &FrameAt| frame.max_timestamp >= timestamp;
            let search = Wanted::AtOrAfter(timestamp);
            let found = self
                .search_frames(partition, entry, start, wanted, search)
                .await?;
            if let Some(found) = found.first() {
                return Ok(Some(*found));
            }
        }
        Ok(None)
    }

    async fn largest_in(
        &self,
        partition: &Partition,
        entry: &Entry,
        start: Offset,
    ) -> Result<Option<Found>, ReadError> {
        let found = self
            .search_frames(partition, entry, start, |_| true, Wanted::Largest)
            .await?;
        Ok(found.into_iter().reduce(later))
    }

    /// What is found in the frames of an object that may hold it; for a timestamp, the first only.
    async fn search_frames(
        &self,
        partition: &Partition,
        entry: &Entry,
        start: Offset,
        wanted: impl Fn(&FrameAt) -> bool,
        search: Wanted,
    ) -> Result<Vec<Found>, ReadError> {
        let index = self.shared.index(partition, entry).await?;
        let mut all = Vec::new();
        for (number, at) in index.frames.iter().enumerate() {
            if at.end <= start || !wanted(at) {
                continue;
            }
            let frames = self
                .shared
                .frames(partition, entry, &index, number..number + 1, false);
            for frame in frames {
                let frame = frame.wait().await?;
                let found = on_cpu(self.shared.cpu(), move || {
                    search_frame(&frame, start, search)
                })
                .await??;
                all.extend(found);
            }
            if matches!(search, Wanted::AtOrAfter(_)) && !all.is_empty() {
                break;
            }
        }
        Ok(all)
    }

    /// All epochs of the tiered log from the log start on.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn epochs(
        &self,
        partition: &Partition,
        pointer: &Pointer,
    ) -> Result<Vec<EpochStart>, ReadError> {
        let head = self.shared.head(partition, pointer).await?;
        Ok(head
            .map(|head| head.epochs(pointer.log_start))
            .unwrap_or_default())
    }

    /// What a log that starts anew at the tier end begins with (P8).
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn end_state(
        &self,
        partition: &Partition,
        pointer: &Pointer,
    ) -> Result<EndState, ReadError> {
        let head = self.shared.head(partition, pointer).await?;
        // Where the tier end was moved behind the last object, none of it says anything of it.
        let Some(head) = head.filter(|head| head.tier_end == pointer.tier_end) else {
            return Ok(EndState::default());
        };
        let epochs = head.epochs(pointer.log_start);
        let Some(entry) = head.entries.last() else {
            return Ok(EndState {
                epochs,
                ..EndState::default()
            });
        };
        let index = self.shared.whole_index(partition, entry).await?;
        let aborted = index
            .aborted
            .into_iter()
            .filter(|a| a.last_offset >= head.tier_end)
            .collect();
        Ok(EndState {
            epochs,
            producers: index.producers,
            open_transactions: index.open_transactions,
            aborted,
        })
    }

    /// Every aborted transaction that overlaps the tiered part of `from..to`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn aborted_transactions(
        &self,
        partition: &Partition,
        pointer: &Pointer,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let Some(head) = self.shared.head(partition, pointer).await? else {
            return Ok(Vec::new());
        };
        let mut aborted = Vec::new();
        let mut next = from.max(pointer.log_start);
        while next < to.min(pointer.tier_end) {
            let entry = self.entry_at(partition, &head, next).await?;
            let index = self.shared.index(partition, &entry).await?;
            let overlaps = |a: &&AbortedTransaction| a.first_offset < to && a.last_offset >= from;
            aborted.extend(index.aborted.iter().filter(overlaps));
            next = entry.end;
        }
        aborted.sort_unstable();
        aborted.dedup();
        Ok(aborted)
    }

    /// Where retention moves the log start to, both tiers counted once; reads only the pages that
    /// the decision needs. `local` is what lies at or above the tier end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn retention_start(
        &self,
        partition: &Partition,
        pointer: &Pointer,
        local: &[LocalSegment],
        config: &RetentionConfig,
        now: Timestamp,
    ) -> Result<Offset, ReadError> {
        let head = self.shared.head(partition, pointer).await?;
        let mut pages: BTreeMap<usize, Arc<Page>> = BTreeMap::new();
        loop {
            let decision =
                retention::retention(head.as_deref(), &pages, pointer, local, config, now);
            let number = match decision {
                retention::Decision::LogStart(start) => return Ok(start),
                retention::Decision::NeedsPage(number) => number,
            };
            let page_ref = head.as_deref().and_then(|head| head.pages.get(number));
            let page_ref = page_ref
                .ok_or_else(|| ReadError::Corrupt("retention asks for no page".to_owned()))?;
            pages.insert(number, self.shared.page(partition, page_ref).await?);
        }
    }
}

fn later(a: Found, b: Found) -> Found {
    if b.timestamp > a.timestamp { b } else { a }
}

/// Searches a frame for records at or above `start`.
fn search_frame(frame: &Frame, start: Offset, wanted: Wanted) -> Result<Option<Found>, ReadError> {
    let damaged = |error: &dyn std::fmt::Display| ReadError::Corrupt(error.to_string());
    let mut best: Option<Found> = None;
    for batch in Batches::new(frame.bytes()) {
        let batch = batch.map_err(|error| damaged(&error))?;
        let header = batch.header();
        let needless = match wanted {
            Wanted::AtOrAfter(timestamp) => header.max_timestamp < timestamp,
            Wanted::Largest => best.is_some_and(|best| header.max_timestamp <= best.timestamp),
        };
        if header.next_offset() <= start || needless {
            continue;
        }
        let found = search_batch(&batch, start, wanted).map_err(|error| damaged(&error))?;
        let Some((offset, timestamp)) = found else {
            continue;
        };
        let leader_epoch = header.partition_leader_epoch;
        let found = Found {
            timestamp,
            offset,
            leader_epoch,
        };
        if matches!(wanted, Wanted::AtOrAfter(_)) {
            return Ok(Some(found));
        }
        best = Some(best.map_or(found, |best| later(best, found)));
    }
    Ok(best)
}

fn search_batch(
    batch: &esker_protocol::records::Batch<'_>,
    start: Offset,
    wanted: Wanted,
) -> Result<Option<(Offset, Timestamp)>, esker_protocol::records::RecordsError> {
    if batch.header().base_offset >= start {
        return match wanted {
            Wanted::AtOrAfter(timestamp) => {
                search::first_at_or_after(batch, timestamp, &Caps::DEFAULT)
            }
            Wanted::Largest => search::first_of_max_timestamp(batch, &Caps::DEFAULT),
        };
    }
    // The log start lies inside this batch: records below it are not there.
    let mut best: Option<(Offset, Timestamp)> = None;
    for record in &batch.records(&Caps::DEFAULT)? {
        let record = record?;
        if record.offset < start {
            continue;
        }
        match wanted {
            Wanted::AtOrAfter(timestamp) if record.timestamp >= timestamp => {
                return Ok(Some((record.offset, record.timestamp)));
            }
            Wanted::Largest if best.is_none_or(|(_, max)| record.timestamp > max) => {
                best = Some((record.offset, record.timestamp));
            }
            _ => {}
        }
    }
    Ok(best)
}

//! Cold reads: from an offset below the local start to checked batches.
//!
//! ```text
//! pointer -> head -> (page) -> index -> frames, in runs of one GET each -> batches
//! ```
//!
//! Everything on the way is immutable, so it is cached by name: manifests and indexes in one bounded
//! cache, decompressed frames in another. A download has one flight however many want it, and goes on
//! when they give up. Readers that come back where they stopped are read ahead of, across objects.
//!
//! Invariants
//! - No byte is handed out whose frame checksum and batch CRC were not checked.
//! - A 404 or a bad checksum is [`ReadError::Moved`]: the caller reads the pointer again,
//!   linearisably. It is never an empty success.
//! - A read is one run of batches: it ends at the first that does not fit, and passes over none.

mod ahead;
mod cache;
mod lookup;
mod shared;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use esker_protocol::Offset;
use object_store::ObjectStore;

use crate::layout::Partition;
use crate::manifest::{Entry, Head, Located};
use crate::object::Index;
use crate::pointer::Pointer;
use crate::pool::{CpuPool, Spawner};
use crate::remote::{Random, Remote, Requests};
use crate::source::AbortedTransaction;

pub use lookup::{EndState, Found};
use shared::{Pending, Shared};

/// One read gives at most this much, whatever was asked for; a single larger batch still goes.
pub const READ_BYTES_MAX: usize = 16 << 20;

/// How much memory reads may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadConfig {
    /// Bytes of decompressed frames kept.
    pub frame_bytes_max: usize,
    /// Bytes of manifests and indexes kept.
    pub metadata_bytes_max: usize,
    /// How far ahead of one reader to read; 0 switches it off.
    pub read_ahead_bytes_max: u64,
}

impl Default for ReadConfig {
    fn default() -> ReadConfig {
        ReadConfig {
            frame_bytes_max: 64 << 20,
            metadata_bytes_max: 16 << 20,
            read_ahead_bytes_max: 16 << 20,
        }
    }
}

/// Why a read gives nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The offset lies below the log start.
    #[error("offset {offset} lies below the log start {log_start}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The log start.
        log_start: Offset,
    },
    /// The offset lies at or above the tier end.
    #[error("offset {offset} is not tiered, the tier ends at {tier_end}")]
    NotInTier {
        /// What was asked for.
        offset: Offset,
        /// The tier end.
        tier_end: Offset,
    },
    /// Something that the pointer leads to is gone or damaged: read the pointer again, linearisably,
    /// and try again with it.
    #[error("the tier moved: {0}")]
    Moved(String),
    /// The store does not answer.
    #[error("the object store is not available: {0}")]
    Unavailable(String),
    /// A verified manifest or index contradicts itself.
    #[error("the tier is damaged: {0}")]
    Corrupt(String),
    /// The process is shutting down.
    #[error("the broker is shutting down")]
    Stopped,
}

impl ReadError {
    /// Whether the same read may work later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, ReadError::Moved(_) | ReadError::Unavailable(_))
    }
}

/// What a read gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TierRead {
    /// Whole batches, in order, the first one holding the offset that was asked for.
    pub bytes: Vec<Bytes>,
    /// The offset behind them.
    pub next: Offset,
    /// Aborted transactions that overlap them.
    pub aborted: Vec<AbortedTransaction>,
}

impl TierRead {
    /// How many bytes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.iter().map(Bytes::len).sum()
    }

    /// Whether it holds none: the first batch was larger than the limit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Reads of all partitions.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("cached_bytes", &self.cached_bytes())
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader of `store`, which carries the bucket's prefix.
    #[must_use]
    pub fn new(
        store: Arc<dyn ObjectStore>,
        cpu: Arc<dyn CpuPool>,
        spawner: Arc<dyn Spawner>,
        random: Random,
        config: &ReadConfig,
    ) -> Reader {
        let shared = Shared::new(Remote::new(store), cpu, spawner, random, config);
        Reader {
            shared: Arc::new(shared),
        }
    }

    /// What was asked of the store so far.
    #[must_use]
    pub fn requests(&self) -> &Arc<Requests> {
        &self.shared.remote.requests
    }

    /// Bytes in the caches.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        let state = self.shared.lock();
        state.frames.bytes() + state.metadata.bytes()
    }

    /// Whole batches from the one that holds `offset` on, of at most `bytes_max` bytes; the first
    /// whatever its size if `at_least_one`.
    ///
    /// # Errors
    /// [`ReadError`]. Dropping the future leaves its downloads running into the cache.
    pub async fn read(
        &self,
        partition: &Partition,
        pointer: &Pointer,
        offset: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<TierRead, ReadError> {
        check_range(pointer, offset)?;
        let head = self.head(partition, pointer).await?;
        let mut left = bytes_max.min(READ_BYTES_MAX);
        let mut read = TierRead {
            next: offset,
            ..TierRead::default()
        };
        while read.next < pointer.tier_end && (left > 0 || (at_least_one && read.is_empty())) {
            let from = read.next;
            let whole = match self
                .read_object(partition, &head, &mut read, left, at_least_one)
                .await
            {
                Ok(whole) => whole,
                // What was read is good; the next read meets the error again.
                Err(_) if !read.is_empty() => break,
                Err(error) => return Err(error),
            };
            left = bytes_max.min(READ_BYTES_MAX).saturating_sub(read.len());
            if !whole || read.next == from {
                break;
            }
        }
        read.aborted.sort_unstable();
        read.aborted.dedup();
        self.read_ahead(partition, pointer, &head, offset, read.next);
        Ok(read)
    }

    /// Reads on in the object that holds `read.next`; says whether it was read to its end.
    async fn read_object(
        &self,
        partition: &Partition,
        head: &Head,
        read: &mut TierRead,
        left: usize,
        at_least_one: bool,
    ) -> Result<bool, ReadError> {
        let entry = self.entry_at(partition, head, read.next).await?;
        let index = self.shared.index(partition, &entry).await?;
        let from = read.next;
        let first = frame_of(&index, from)?;
        let numbers = first..frames_end(&index, first, left as u64);
        let frames = self
            .shared
            .frames(partition, &entry, &index, numbers, false);
        let taken = take_frames(frames, read, left, at_least_one).await;
        // Also of a read that an error cut short: what it took may be handed out.
        let overlaps = |aborted: &&AbortedTransaction| {
            aborted.first_offset < read.next && aborted.last_offset >= from
        };
        read.aborted.extend(index.aborted.iter().filter(overlaps));
        taken?;
        Ok(read.next >= entry.end)
    }

    async fn head(&self, partition: &Partition, pointer: &Pointer) -> Result<Arc<Head>, ReadError> {
        let head = self.shared.head(partition, pointer).await?;
        head.ok_or_else(|| ReadError::Corrupt(format!("the tier of {partition} has no manifest")))
    }

    /// The entry that holds `offset`.
    async fn entry_at(
        &self,
        partition: &Partition,
        head: &Head,
        offset: Offset,
    ) -> Result<Entry, ReadError> {
        let gap = || ReadError::Corrupt(format!("no object of {partition} holds offset {offset}"));
        match head.locate(offset).ok_or_else(gap)? {
            Located::Entry(entry) => Ok(entry.clone()),
            Located::Page(page) => {
                let page = self.shared.page(partition, page).await?;
                page.entry_at(offset).cloned().ok_or_else(gap)
            }
        }
    }

    /// Starts the downloads that a reader which keeps up will want next.
    fn read_ahead(
        &self,
        partition: &Partition,
        pointer: &Pointer,
        head: &Arc<Head>,
        offset: Offset,
        next: Offset,
    ) {
        let place = (partition.topic_id, partition.partition);
        let window = self.shared.lock().readers.observe(place, offset, next);
        if window == 0 || next >= pointer.tier_end {
            return;
        }
        let (reader, partition, head) = (self.clone(), partition.clone(), Arc::clone(head));
        self.shared.spawn(async move {
            // A failure shows again when someone reads there.
            let _ = reader.fill_window(&partition, &head, next, window).await;
        });
    }

    async fn fill_window(
        &self,
        partition: &Partition,
        head: &Head,
        from: Offset,
        window: u64,
    ) -> Result<(), ReadError> {
        let mut left = window;
        let mut next = from;
        while left > 0 && next < head.tier_end {
            let entry = self.entry_at(partition, head, next).await?;
            let index = self.shared.index(partition, &entry).await?;
            let first = frame_of(&index, next)?;
            let end = frames_end(&index, first, left);
            let ready = self.frames_at_hand(&entry, first..end);
            let ready_bytes = frames_bytes(&index, first..first + ready);
            // Frames are fetched in runs: a window that has lost less than half is left alone.
            if first + ready < end && ready_bytes <= left / 2 {
                self.shared
                    .frames(partition, &entry, &index, first + ready..end, true);
            }
            left = left.saturating_sub(frames_bytes(&index, first..end));
            next = entry.end;
        }
        Ok(())
    }

    /// How many frames from the first of `numbers` on are cached or in flight.
    fn frames_at_hand(&self, entry: &Entry, numbers: std::ops::Range<usize>) -> usize {
        let state = self.shared.lock();
        numbers
            .take_while(|number| state.has_frame(&(entry.uuid, *number)))
            .count()
    }
}

/// Adds to a read what fits of each frame, in order, up to the first batch that does not fit.
async fn take_frames(
    frames: Vec<Pending>,
    read: &mut TierRead,
    left: usize,
    at_least_one: bool,
) -> Result<(), ReadError> {
    let mut left = left;
    for frame in frames {
        let frame = frame.wait().await?;
        let first_batch = at_least_one && read.is_empty();
        let sliced = frame.slice(read.next, left, first_batch);
        // The index and the frames were checked against each other, so this is no fault of the store.
        let sliced = sliced.map_err(|error| ReadError::Corrupt(error.to_string()))?;
        let Some((bytes, next)) = sliced else {
            break;
        };
        left = left.saturating_sub(bytes.len());
        read.bytes.push(bytes);
        read.next = next;
        // What is left of this frame comes before the next one, also where that begins smaller.
        if next < frame.end() {
            break;
        }
    }
    Ok(())
}

fn check_range(pointer: &Pointer, offset: Offset) -> Result<(), ReadError> {
    if offset < pointer.log_start {
        return Err(ReadError::OutOfRange {
            offset,
            log_start: pointer.log_start,
        });
    }
    if offset >= pointer.tier_end {
        return Err(ReadError::NotInTier {
            offset,
            tier_end: pointer.tier_end,
        });
    }
    Ok(())
}

fn frame_of(index: &Index, offset: Offset) -> Result<usize, ReadError> {
    let gap = || ReadError::Corrupt(format!("no frame holds offset {offset}"));
    index.frame_of(offset).ok_or_else(gap)
}

/// The end of the frames from `first` on that `bytes` more bytes may touch: at least one.
fn frames_end(index: &Index, first: usize, bytes: u64) -> usize {
    let mut end = first + 1;
    // The first frame may be entered at its last batch, so it counts for nothing.
    let mut sum = 0_u64;
    while sum < bytes
        && let Some(frame) = index.frames.get(end)
    {
        sum += u64::from(frame.bytes);
        end += 1;
    }
    end.min(index.frames.len())
}

fn frames_bytes(index: &Index, numbers: std::ops::Range<usize>) -> u64 {
    let frames = index.frames.get(numbers).unwrap_or_default();
    frames.iter().map(|frame| u64::from(frame.bytes)).sum()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod stitch;

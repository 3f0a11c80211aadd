//! A log directory: whose it is, the logs in it, what was durable, and the rounds that make it so.
//!
//! ```text
//! .lock  meta.properties  durable-ends.log  journal.log  .esker_clean_shutdown
//! cleaner-offset-checkpoint
//! <topic>-<partition>/                        a log
//! <topic>-<partition>.<topic id>-delete/      a deleted log, waiting to be removed
//! <topic>-<partition>.<topic id>-stray/       a log that nobody claims; never removed, and no empty
//!                                             one takes its place while it is there
//! ```
//! Invariants
//! - Once an I/O error left in doubt what the disk holds, the directory has failed and stays failed.
//! - `durable-ends.log` is made and synced before `meta.properties`, so a formatted directory
//!   without a sound one has been tampered with, and its records prove nothing (P6).

pub(crate) mod clean_points;
pub(crate) mod commit;
pub(crate) mod durable_ends;
pub(crate) mod meta;
pub(crate) mod names;

mod ends_file;
mod format;
pub(crate) mod journal;
mod logs;
mod shared;
mod turns;
mod unsettled;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use esker_protocol::TopicId;

use crate::config::{DirectoryConfig, Durability, Identity};
use crate::disk::{Disk, DiskLock, replace_file};
use crate::error::{DirectoryError, DirectoryFailed, OpenError};
use crate::lock::lock;

pub use commit::CommitRound;
use commit::Settle;
pub(crate) use format::RecordedEnd;
pub use logs::FoundPartition;
pub(crate) use logs::{STRAY, read_epochs};
pub use meta::{Incarnation, Seen};
pub(crate) use shared::{IoFailure, Shared, is_refusal};

/// An open log directory.
#[derive(Debug)]
pub struct LogDirectory {
    shared: Arc<Shared>,
    meta: Mutex<meta::Meta>,
    /// The incarnation of the last clean stop, as found at the start.
    clean_shutdown: Option<TopicId>,
    records_lost: bool,
    /// One round at a time.
    round: Mutex<()>,
    _lock: Box<dyn DiskLock>,
}

impl LogDirectory {
    /// Opens a directory, and formats it when it is empty. A directory of another cluster, another
    /// broker or a newer version is refused, and nothing in it is changed. `random` gives the id of
    /// a new directory.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: DirectoryConfig,
        identity: &Identity,
        random: &mut dyn FnMut() -> [u8; 16],
    ) -> Result<Arc<LogDirectory>, OpenError> {
        let opened = format::open(disk, config, identity, random)?;
        Ok(Arc::new(LogDirectory {
            shared: opened.shared,
            meta: Mutex::new(opened.meta),
            clean_shutdown: opened.clean_shutdown,
            records_lost: opened.records_lost,
            round: Mutex::new(()),
            _lock: opened.lock,
        }))
    }

    /// The directory's own id.
    #[must_use]
    pub fn id(&self) -> TopicId {
        lock(&self.meta).directory_id
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.shared.config.path
    }

    /// What its acknowledgements are worth.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.shared.config.durability
    }

    /// The latest process incarnations that ran here, the latest last.
    #[must_use]
    pub fn incarnations(&self) -> Vec<Incarnation> {
        lock(&self.meta).incarnations.clone()
    }

    /// The incarnation whose clean stop this directory shows, as found when it was opened.
    #[must_use]
    pub fn last_clean_shutdown(&self) -> Option<TopicId> {
        self.clean_shutdown
    }

    /// Lists the incarnation of this process, durably; to be done before it registers (P2).
    /// `registered` is the incarnation that registered last, which is never dropped.
    pub fn register_incarnation(
        &self,
        incarnation: TopicId,
        registered: Option<TopicId>,
    ) -> Result<(), DirectoryError> {
        let added = Incarnation {
            id: incarnation,
            durability: self.durability(),
        };
        self.change_meta(|meta| {
            meta.add_incarnation(added, registered);
            Ok(())
        })
    }

    /// The highest cluster incarnation and broker epoch that this directory has seen.
    #[must_use]
    pub fn seen(&self) -> Seen {
        lock(&self.meta).seen
    }

    /// Notes values seen, durably, and refuses lower ones: the metadata store went back in time.
    pub fn note_seen(&self, seen: Seen) -> Result<(), DirectoryError> {
        let before = self.seen();
        let rises = |what, given: i64, seen: i64| {
            if given < seen {
                return Err(DirectoryError::WentBack { what, given, seen });
            }
            Ok(())
        };
        rises(
            "cluster incarnation",
            seen.cluster_incarnation,
            before.cluster_incarnation,
        )?;
        if seen.cluster_incarnation == before.cluster_incarnation {
            // A new incarnation counts broker epochs anew.
            rises("broker epoch", seen.broker_epoch, before.broker_epoch)?;
        }
        if seen == before {
            return Ok(());
        }
        self.change_meta(|meta| {
            meta.seen = seen;
            Ok(())
        })
    }

    fn change_meta(
        &self,
        change: impl FnOnce(&mut meta::Meta) -> Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        self.shared.alive()?;
        let mut current = lock(&self.meta);
        let mut next = current.clone();
        change(&mut next)?;
        let path = self.shared.config.path.join(meta::FILE_NAME);
        let disk = &self.shared.disk;
        let written = replace_file(disk.as_ref(), &path, next.encode().as_bytes())
            .and_then(|_| self.shared.file_system.sync_names());
        self.shared.settle(written)?;
        *current = next;
        Ok(())
    }

    /// Makes everything that was appended durable; see [`commit`].
    pub fn commit_round(&self) -> Result<CommitRound, DirectoryFailed> {
        let _one_at_a_time = lock(&self.round);
        commit::round(&self.shared, Settle::InTime)
    }

    /// A commit round of a directory that is idle: it syncs files of a few of the logs of which the
    /// journal has more, and says whether there are others. Where more logs changed than a round does, it is
    /// one like any other.
    pub fn idle_round(&self) -> Result<CommitRound, DirectoryFailed> {
        let _one_at_a_time = lock(&self.round);
        commit::round(&self.shared, Settle::Some)
    }

    /// The same for all logs at once, so that nothing is in the journal alone: for a stop.
    pub fn settle_round(&self) -> Result<CommitRound, DirectoryFailed> {
        let _one_at_a_time = lock(&self.round);
        commit::round(&self.shared, Settle::All)
    }

    /// Whether everything that is durable is so in the logs' own files.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        lock(&self.shared.journal).is_settled()
    }

    /// Whether a commit round has anything to do.
    #[must_use]
    pub fn needs_commit(&self) -> bool {
        !lock(&self.shared.dirty).is_empty() || !lock(&self.shared.unrecorded).is_empty()
    }

    /// Whether what was recorded of the logs was lost: that they are whole proves nothing (P6).
    #[must_use]
    pub fn records_lost(&self) -> bool {
        self.records_lost
    }

    /// Whether the directory has failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.shared.failed.get().is_some()
    }

    /// Why the directory has failed.
    #[must_use]
    pub fn failure(&self) -> Option<DirectoryFailed> {
        self.shared.failed.get().cloned()
    }

    /// Bytes that can still be written.
    pub fn available_bytes(&self) -> std::io::Result<u64> {
        self.shared.disk.available_bytes(&self.shared.config.path)
    }

    /// The size of the file system.
    pub fn total_bytes(&self) -> std::io::Result<u64> {
        self.shared.disk.total_bytes(&self.shared.config.path)
    }

    /// Whether less than twice the reserve is left: local copies that the tier has should go.
    pub fn near_reserve(&self) -> std::io::Result<bool> {
        Ok(self.available_bytes()? < self.shared.config.reserve_bytes.saturating_mul(2))
    }

    /// Whether appends are refused for want of space.
    pub fn at_reserve(&self) -> std::io::Result<bool> {
        Ok(self.available_bytes()? < self.shared.config.reserve_bytes)
    }

    /// Files that are open although nothing in them waits for a sync.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.shared.files.open_count()
    }

    /// Stops cleanly: nothing is appended from here on, everything is synced and recorded, space
    /// taken ahead is given back, and the latest incarnation is written down as stopped.
    pub fn clean_shutdown(&self) -> Result<(), DirectoryFailed> {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let mut complete = true;
        for log in self.shared.open_logs() {
            match log.finish() {
                Ok(()) => {}
                Err(IoFailure::Failed(failed)) => return Err(failed),
                Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => complete = false,
            }
        }
        // What a full disk leaves out must not keep the others from being synced.
        loop {
            let round = self.settle_round()?;
            if !round.more {
                complete &= round.starved.is_empty() && !round.unrecorded;
                break;
            }
        }
        // The mark says that nothing needs recovery: not after a crash, of a log that nobody opened.
        let recovered = self.shared.started_clean || self.all_opened().unwrap_or(false);
        if !complete || !recovered || !self.is_settled() {
            // What the full disk left out is recovered at the next start.
            return Ok(());
        }
        let Some(latest) = self.incarnations().last().copied() else {
            return Ok(());
        };
        let path = self.shared.config.path.join(format::CLEAN_SHUTDOWN);
        let content = format::encode_clean_shutdown(latest.id);
        let written = replace_file(self.shared.disk.as_ref(), &path, content.as_bytes())
            .and_then(|_| self.shared.file_system.sync_names());
        match self.shared.judge(written) {
            Err(IoFailure::Failed(failed)) => Err(failed),
            // Without the file the next start recovers.
            Ok(()) | Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

//! What a directory and its logs share.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use super::clean_points::CleanPoints;
use super::durable_ends::{PartitionKey, Recorded};
use super::ends_file::EndsFile;
use super::format::CLEAN_SHUTDOWN;
use super::journal::Journal;
use super::turns::Turns;
use super::unsettled::Unsettled;
use crate::config::DirectoryConfig;
use crate::disk::{Disk, DiskFile, FileSystem, is_exhausted};
use crate::error::{AppendError, ChangeError, DirectoryError, DirectoryFailed};
use crate::files::Files;
use crate::lock::lock;
use crate::log::Log;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: DirectoryConfig,
    /// Opened before the first write, so that every failed write-back is reported to it (P6).
    pub(crate) file_system: Arc<dyn FileSystem>,
    pub(crate) files: Files,
    pub(crate) failed: OnceLock<DirectoryFailed>,
    pub(crate) stopped: AtomicBool,
    /// Logs with anything to sync or record.
    pub(crate) dirty: Mutex<BTreeMap<u64, Arc<Log>>>,
    pub(crate) open: Mutex<BTreeMap<PartitionKey, Weak<Log>>>,
    /// Logs that are being opened, which takes as long as their recovery.
    pub(crate) opening: Mutex<BTreeSet<PartitionKey>>,
    /// `durable-ends.log`; may be held across a sync, and never together with a log's state.
    pub(crate) ends: Mutex<EndsFile>,
    /// What the last rounds reached and no record says yet.
    pub(crate) unrecorded: Mutex<BTreeMap<PartitionKey, Recorded>>,
    /// The bytes that are durable before their files are synced.
    pub(crate) journal: Mutex<Journal>,
    /// Logs of which the journal has more than their files are known to have.
    pub(crate) unsettled: Mutex<Unsettled>,
    /// Whether descriptors or memory ran out: logs that only wait for their files' sync must go on to
    /// let theirs go.
    pub(crate) short_of_files: AtomicBool,
    /// Deleted logs whose records in the journal could not be declared void for want of space.
    pub(crate) not_void: Mutex<BTreeSet<PartitionKey>>,
    /// Logs that this process has opened.
    pub(crate) opened: Mutex<BTreeSet<PartitionKey>>,
    /// Up to where the logs have been compacted; may be held across a sync, and never together with a
    /// log's state.
    pub(crate) clean_points: Mutex<CleanPoints>,
    /// Whose turn it is in a commit round.
    pub(crate) turns: Mutex<Turns>,
    /// Whether names in the directory itself wait for a sync.
    pub(crate) names_unsynced: AtomicBool,
    /// Rounds since ends were recorded in `durable-ends.log`.
    pub(crate) rounds_since_record: AtomicU32,
    /// Whether the process before stopped cleanly, so that all that it wrote is on the disk.
    pub(crate) started_clean: bool,
    /// Whether the file of a clean stop is still there.
    pub(crate) clean_marker: Mutex<bool>,
    pub(crate) log_id_next: AtomicU64,
}

/// How an operation on the disk failed.
#[derive(Debug)]
pub(crate) enum IoFailure {
    /// For want of space, and it can be tried again.
    NoSpace,
    /// For want of descriptors or memory to open something, and it can be tried again.
    Exhausted(io::Error),
    /// In a way that leaves what the disk holds in doubt.
    Failed(DirectoryFailed),
}

impl From<IoFailure> for AppendError {
    fn from(failure: IoFailure) -> AppendError {
        match failure {
            IoFailure::NoSpace => AppendError::NoSpace,
            IoFailure::Exhausted(error) => AppendError::Exhausted(Arc::new(error)),
            IoFailure::Failed(failed) => AppendError::Poisoned(failed.source),
        }
    }
}

impl From<IoFailure> for ChangeError {
    fn from(failure: IoFailure) -> ChangeError {
        match failure {
            IoFailure::NoSpace => ChangeError::NoSpace,
            IoFailure::Exhausted(error) => ChangeError::Exhausted(Arc::new(error)),
            IoFailure::Failed(failed) => ChangeError::Failed(failed),
        }
    }
}

impl Shared {
    /// Fails the directory; the first failure stays.
    pub(crate) fn fail(&self, error: io::Error) -> DirectoryFailed {
        let path = self.config.path.clone();
        let failed = self.failed.get_or_init(|| {
            tracing::error!(path = %path.display(), %error, "log directory failed");
            DirectoryFailed {
                path,
                source: Arc::new(error),
            }
        });
        failed.clone()
    }

    /// Fails the directory where even want of space or descriptors cannot be waited out.
    pub(crate) fn fail_with(&self, failure: IoFailure) -> DirectoryFailed {
        match failure {
            IoFailure::NoSpace => self.fail(io::ErrorKind::StorageFull.into()),
            IoFailure::Exhausted(error) => self.fail(error),
            IoFailure::Failed(failed) => failed,
        }
    }

    /// The verdict on a change: want of space, descriptors or memory is an answer, anything else fails
    /// the directory.
    pub(crate) fn judge<T>(&self, result: io::Result<T>) -> Result<T, IoFailure> {
        result.map_err(|error| {
            if is_no_space(&error) {
                IoFailure::NoSpace
            } else if is_exhausted(&error) {
                self.short_of_files.store(true, Ordering::SeqCst);
                IoFailure::Exhausted(error)
            } else {
                IoFailure::Failed(self.fail(error))
            }
        })
    }

    /// The same for operations on the directory.
    pub(crate) fn settle<T>(&self, result: io::Result<T>) -> Result<T, DirectoryError> {
        self.judge(result).map_err(|failure| self.refused(failure))
    }

    pub(crate) fn refused(&self, failure: IoFailure) -> DirectoryError {
        match failure {
            IoFailure::NoSpace => DirectoryError::NoSpace(self.config.path.clone()),
            IoFailure::Exhausted(source) => DirectoryError::Exhausted {
                path: self.config.path.clone(),
                source,
            },
            IoFailure::Failed(failed) => DirectoryError::Failed(failed),
        }
    }

    /// Refuses work in a directory that has failed.
    pub(crate) fn alive(&self) -> Result<(), DirectoryFailed> {
        match self.failed.get() {
            Some(failed) => Err(failed.clone()),
            None => Ok(()),
        }
    }

    /// Whether appends and changes are refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.failed.get().is_some() || self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn open_logs(&self) -> Vec<Arc<Log>> {
        lock(&self.open)
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    pub(crate) fn next_log_id(&self) -> u64 {
        self.log_id_next.fetch_add(1, Ordering::Relaxed)
    }

    /// Removes the file of a clean stop, durably, before the first change after it (P6).
    pub(crate) fn remove_clean_marker(&self) -> Result<(), IoFailure> {
        let mut present = lock(&self.clean_marker);
        if *present {
            let removed = self
                .remove_if_there(&self.config.path.join(CLEAN_SHUTDOWN))
                .and_then(|()| self.file_system.sync_names());
            self.judge(removed)?;
            *present = false;
        }
        Ok(())
    }

    /// Takes space in a file from `from` to `to`, or to `at_least` when there is no more. Returns
    /// how far space was taken.
    pub(crate) fn take_space(
        &self,
        file: &dyn DiskFile,
        from: u64,
        at_least: u64,
        to: u64,
    ) -> io::Result<u64> {
        let reserve = self.config.reserve_bytes;
        let mut to = to;
        if reserve > 0 {
            let free = self
                .disk
                .available_bytes(&self.config.path)?
                .saturating_sub(reserve);
            if at_least.saturating_sub(from) > free {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if to.saturating_sub(from) > free {
                to = at_least;
            }
        }
        let taken = file
            .allocate_keep_size(from, to.saturating_sub(from))
            .map(|()| to);
        match taken {
            Err(error) if is_no_space(&error) && to > at_least => file
                .allocate_keep_size(from, at_least.saturating_sub(from))
                .map(|()| at_least),
            // Where the file system cannot, running out shows at the write, which is taken back.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(to),
            other => other,
        }
    }

    /// Records where a log ends from now on, durably, in place of what the last round reached:
    /// before it is cut or started anew (P6). What the journal has of it becomes void; the log must
    /// say already that it was cut, so that no round journals more of it.
    pub(crate) fn record_now(
        &self,
        key: PartitionKey,
        recorded: Recorded,
    ) -> Result<(), IoFailure> {
        let recorded = Recorded {
            journal_sequence: lock(&self.journal).last_sequence(),
            ..recorded
        };
        let mut ends = lock(&self.ends);
        lock(&self.unrecorded).remove(&key);
        let result = ends
            .append(self, BTreeMap::from([(key, recorded)]))
            .and_then(|()| ends.sync());
        self.judge(result)
    }

    /// Records durably where a log begins from now on, and takes nothing back of what a round has
    /// published since `recorded` was read.
    pub(crate) fn record_front(
        &self,
        key: PartitionKey,
        recorded: Recorded,
    ) -> Result<(), IoFailure> {
        let mut ends = lock(&self.ends);
        // It says the old start, and must not follow.
        let published = lock(&self.unrecorded).remove(&key);
        let recorded = [ends.get(key), published]
            .into_iter()
            .flatten()
            .fold(recorded, Recorded::and);
        let result = ends
            .append(self, BTreeMap::from([(key, recorded)]))
            .and_then(|()| ends.sync());
        if let (Err(_), Some(published)) = (&result, published) {
            lock(&self.unrecorded).entry(key).or_insert(published);
        }
        self.judge(result)
    }

    /// Removes the files of a path that may be absent.
    pub(crate) fn remove_if_there(&self, path: &Path) -> io::Result<()> {
        match self.disk.remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Whether an operation was refused in a way that can be tried again.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    is_no_space(error) || is_exhausted(error)
}

/// Whether the disk or a quota is full.
fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

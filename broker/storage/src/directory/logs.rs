//! The logs of a directory: finding, opening, deleting, setting aside.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use esker_protocol::{LeaderEpoch, Offset, Timestamp, TopicId};

use super::durable_ends::{PartitionKey, Recorded};
use super::format::{self, RecordedEnd};
use super::names::{
    self, DirectoryName, EPOCH_CHECKPOINT, FileKind, PARTITION_METADATA, decode_partition_metadata,
    parse_directory,
};
use super::{IoFailure, LogDirectory, Shared};
use crate::config::LogConfig;
use crate::disk::{Disk, OpenMode, read_all};
use crate::error::{Damage, DirectoryError, OpenLogError};
use crate::leader_epochs::LeaderEpochs;
use crate::lock::lock;
use crate::log::{Log, LogName, RecoveryReport};

/// A log that was found in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPartition {
    /// The topic, by the directory's name.
    pub topic: String,
    /// The partition, by the directory's name.
    pub partition: i32,
    /// The topic id in `partition.metadata`; `None` when that is missing or damaged, which only an
    /// interrupted creation or foul play explains.
    pub topic_id: Option<TopicId>,
}

const DELETE: &str = "-delete";
pub(crate) const STRAY: &str = "-stray";

impl LogDirectory {
    /// The logs that are here; deleted and stray ones are not listed.
    pub fn partitions(&self) -> Result<Vec<FoundPartition>, DirectoryError> {
        let path = &self.shared.config.path;
        let entries = self.shared.settle(self.shared.disk.read_dir(path))?;
        let mut found = Vec::new();
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            if let DirectoryName::Partition { topic, partition } = parse_directory(&entry.name) {
                let topic_id = self
                    .shared
                    .settle(self.topic_id_at(&path.join(&entry.name)))?;
                found.push(FoundPartition {
                    topic,
                    partition,
                    topic_id,
                });
            }
        }
        Ok(found)
    }

    /// Whether every log that is here was opened, and so recovered, by this process.
    pub(super) fn all_opened(&self) -> Result<bool, DirectoryError> {
        let opened = lock(&self.shared.opened).clone();
        for one in self.partitions()? {
            let path = names::partition(&one.topic, one.partition);
            let path = self.shared.config.path.join(path);
            let is_opened = match one.topic_id {
                Some(id) => opened.contains(&(id, one.partition)),
                // An interrupted creation holds nothing that could need recovery.
                None => !self.shared.settle(self.holds_records(&path))?,
            };
            if !is_opened {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn topic_id_at(&self, directory: &std::path::Path) -> io::Result<Option<TopicId>> {
        read_topic_id(self.shared.disk.as_ref(), directory)
    }

    /// Opens a log, making it when it is absent and recovering it when it was not stopped cleanly.
    ///
    /// What recovery kept above the recorded durable end counts as durable only after the next
    /// commit round. On [`OpenLogError::Damaged`] nothing was changed.
    pub fn open_log(
        &self,
        topic: &str,
        partition: i32,
        topic_id: TopicId,
        config: LogConfig,
        now: Timestamp,
    ) -> Result<(Arc<Log>, RecoveryReport), OpenLogError> {
        let shared = &self.shared;
        shared.alive()?;
        assert!(
            names::is_topic(topic) && partition >= 0,
            "{topic}-{partition} is a valid name"
        );
        let key = (topic_id, partition);
        let name = LogName {
            topic: topic.to_owned(),
            partition,
            topic_id,
        };
        let is_open = lock(&shared.open)
            .get(&key)
            .is_some_and(|log| log.strong_count() > 0);
        if is_open || !lock(&shared.opening).insert(key) {
            return Err(OpenLogError::AlreadyOpen {
                topic: name.topic,
                partition,
            });
        }
        let opened = self.open_alone(name, config, now);
        if let Ok((log, _)) = &opened {
            lock(&shared.open).insert(key, Arc::downgrade(log));
        }
        lock(&shared.opening).remove(&key);
        opened
    }

    fn open_alone(
        &self,
        name: LogName,
        config: LogConfig,
        now: Timestamp,
    ) -> Result<(Arc<Log>, RecoveryReport), OpenLogError> {
        let shared = &self.shared;
        let path = shared
            .config
            .path
            .join(names::partition(&name.topic, name.partition));
        self.refuse_stray(&name, &path)?;
        let prepared = match self.make_void((name.topic_id, name.partition)) {
            Ok(()) => self.prepare(&name, &path)?,
            failed => failed,
        };
        prepared.map_err(|failure| not_opened(&name, failure))?;
        let key = (name.topic_id, name.partition);
        let recorded = RecordedEnd::from(lock(&shared.ends).get(key));
        if !matches!(recorded, RecordedEnd::Known(_)) {
            // Of another log of the name, or nobody knows of which.
            lock(&shared.clean_points).forget(&name.topic, name.partition);
        }
        let opened = Log::open(shared.clone(), name, path, recorded, config, now)?;
        lock(&shared.opened).insert(key);
        Ok(opened)
    }

    /// Makes void what the journal has of a deleted log of this id, where that is still to be done.
    fn make_void(&self, key: (TopicId, i32)) -> Result<(), IoFailure> {
        if !lock(&self.shared.not_void).contains(&key) {
            return Ok(());
        }
        self.shared.record_now(key, Recorded::NOTHING)?;
        lock(&self.shared.not_void).remove(&key);
        Ok(())
    }

    /// Refuses to make an empty log where one was set aside as a stray, and is still there. One that
    /// disagreed with the tier was not recorded as a stray: its place is begun anew, also after a crash.
    fn refuse_stray(&self, name: &LogName, path: &std::path::Path) -> Result<(), OpenLogError> {
        let shared = &self.shared;
        let key = (name.topic_id, name.partition);
        let recorded = lock(&shared.ends).get(key);
        if !recorded.is_some_and(|recorded| recorded.is_stray) {
            return Ok(());
        }
        let looked = || -> io::Result<Option<Vec<String>>> {
            if shared.disk.exists(path)? {
                return Ok(None);
            }
            let strays = self.stray_directories()?.into_iter();
            let own = strays.filter(|(of, _)| *of == key);
            Ok(Some(own.map(|(_, directory)| directory).collect()))
        };
        let looked = shared.judge(looked());
        match looked.map_err(|failure| not_opened(name, failure))? {
            // It was renamed back, or never away.
            None => Ok(()),
            // Somebody took it away, and nothing is left to hide.
            Some(strays) if strays.is_empty() => shared
                .record_now(key, Recorded::NOTHING)
                .map_err(|failure| not_opened(name, failure)),
            Some(strays) => Err(OpenLogError::SetAside {
                topic: name.topic.clone(),
                partition: name.partition,
                aside: strays.join(", "),
            }),
        }
    }

    /// The stray directories, by topic id and partition.
    fn stray_directories(&self) -> io::Result<Vec<(PartitionKey, String)>> {
        let path = &self.shared.config.path;
        let mut strays = Vec::new();
        for entry in self.shared.disk.read_dir(path)? {
            if !entry.is_dir || parse_directory(&entry.name) != DirectoryName::Stray {
                continue;
            }
            // A second one of a log has a name of its own: what is in it counts.
            let Some((_, (of_name, partition))) = format::set_aside(&entry.name) else {
                continue;
            };
            let topic_id = self.topic_id_at(&path.join(&entry.name))?;
            strays.push(((topic_id.unwrap_or(of_name), partition), entry.name));
        }
        Ok(strays)
    }

    /// The logs that were set aside as strays and are still there: opening one of them anywhere would
    /// hide its records.
    pub fn strays(&self) -> Result<Vec<(TopicId, i32)>, DirectoryError> {
        let strays = self.shared.settle(self.stray_directories())?;
        let ends = lock(&self.shared.ends);
        let keys = strays.into_iter().map(|(key, _)| key);
        Ok(keys
            .filter(|key| ends.get(*key).is_some_and(|recorded| recorded.is_stray))
            .collect())
    }

    /// Makes sure that the log's directory is there and is its own. A directory without a readable
    /// `partition.metadata` is what an interrupted creation leaves, if it holds no record.
    fn prepare(
        &self,
        name: &LogName,
        path: &std::path::Path,
    ) -> Result<Result<(), IoFailure>, OpenLogError> {
        let shared = &self.shared;
        let attempt = || -> io::Result<Option<TopicId>> {
            let there = shared.disk.exists(path)?;
            if there {
                if let Some(found) = self.topic_id_at(path)? {
                    return Ok(Some(found));
                }
                if self.holds_records(path)? {
                    shared.set_aside(name, path, STRAY)?;
                }
            }
            shared.make_log_directory(name, path)?;
            Ok(None)
        };
        match shared.judge(attempt()) {
            Ok(Some(found)) if found != name.topic_id => Err(OpenLogError::OtherTopic {
                topic: name.topic.clone(),
                partition: name.partition,
                found,
                expected: name.topic_id,
            }),
            Ok(_) => Ok(Ok(())),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn holds_records(&self, path: &std::path::Path) -> io::Result<bool> {
        for entry in self.shared.disk.read_dir(path)? {
            if let Some((_, names::FileKind::Log)) = names::parse_segment_file(&entry.name)
                && self
                    .shared
                    .disk
                    .len(&path.join(&entry.name))?
                    .is_some_and(|bytes| bytes > 0)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes a log: it is offline at once, and its directory is renamed away, durably. The bytes
    /// go with [`LogDirectory::remove_deleted`].
    pub fn delete_log(&self, log: &Arc<Log>) -> Result<(), DirectoryError> {
        self.retire(log, DELETE)
    }

    /// Sets a log aside that nobody claims: it is offline at once, and is never removed (P3).
    pub fn make_stray(&self, log: &Arc<Log>) -> Result<(), DirectoryError> {
        self.retire(log, STRAY)
    }

    /// Sets a log aside that was found and that nobody uses.
    pub fn make_found_stray(&self, found: &FoundPartition) -> Result<(), DirectoryError> {
        self.retire_found(found, STRAY)
    }

    /// Deletes a log that was found and that nobody uses, because its topic is known to be deleted.
    pub fn delete_found(&self, found: &FoundPartition) -> Result<(), DirectoryError> {
        self.retire_found(found, DELETE)
    }

    fn retire_found(&self, found: &FoundPartition, suffix: &str) -> Result<(), DirectoryError> {
        self.shared.alive()?;
        let topic_id = found.topic_id.unwrap_or(TopicId::ZERO);
        let opened = lock(&self.shared.open)
            .get(&(topic_id, found.partition))
            .cloned();
        if let Some(log) = opened.and_then(|log| log.upgrade()) {
            // It was to go before, and could not.
            return self.retire(&log, suffix);
        }
        let name = LogName {
            topic: found.topic.clone(),
            partition: found.partition,
            topic_id,
        };
        self.rename_away(&name, suffix)
    }

    /// Drops the whole segments below the tier end of a log that is too damaged to be opened: they are
    /// served from the tier (P6). Where the log does not have the tier's epoch before the tier end,
    /// its lineage is another, and where dropping would leave the `damage` or a gap, nothing is
    /// gained: then nothing is changed. Returns the new local start.
    pub fn drop_tiered_segments(
        &self,
        found: (&str, i32, TopicId),
        damage: &Damage,
        (tier_end, tier_end_epoch): (Offset, LeaderEpoch),
    ) -> Result<Option<Offset>, DirectoryError> {
        let shared = &self.shared;
        shared.alive()?;
        let (topic, partition, topic_id) = found;
        let key = (topic_id, partition);
        let RecordedEnd::Known(recorded) = RecordedEnd::from(lock(&shared.ends).get(key)) else {
            return Ok(None);
        };
        let path = shared.config.path.join(names::partition(topic, partition));
        if shared.settle(self.topic_id_at(&path))? != Some(topic_id) {
            return Ok(None);
        }
        let epochs = read_epochs(shared.disk.as_ref(), &path);
        let lineage = shared
            .settle(epochs)?
            .and_then(|epochs| epochs.at(tier_end + -1));
        let files: Vec<(Offset, FileKind)> = shared
            .settle(shared.disk.read_dir(&path))?
            .iter()
            .filter_map(|entry| names::parse_segment_file(&entry.name))
            .collect();
        let of_data = |(base, kind): &(Offset, FileKind)| (*kind == FileKind::Log).then_some(*base);
        let mut bases: Vec<Offset> = files.iter().filter_map(of_data).collect();
        bases.sort();
        // The last one that begins no later: all below it end where another begins.
        let start = bases.iter().rev().find(|base| **base <= tier_end).copied();
        let Some(start) = start.filter(|start| {
            lineage == Some(tier_end_epoch)
                && damage.segment < start.0
                && recorded.log_start < *start
        }) else {
            return Ok(None);
        };
        let front = Recorded {
            local_start: start,
            ..recorded
        };
        match shared.record_front(key, front) {
            Ok(()) => {}
            Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => return Ok(None),
            Err(IoFailure::Failed(failed)) => return Err(failed.into()),
        }
        let removed = files
            .iter()
            .filter(|(base, _)| *base < start)
            .try_for_each(|(base, kind)| {
                shared.remove_if_there(&path.join(names::segment_file(*base, *kind)))
            })
            .and_then(|()| shared.disk.sync_dir(&path));
        shared.settle(removed)?;
        Ok(Some(start))
    }

    fn retire(&self, log: &Arc<Log>, suffix: &str) -> Result<(), DirectoryError> {
        self.shared.alive()?;
        // Maintenance works by path, and must have ended before the path becomes another log's.
        let _ended = log.hold_maintenance();
        if suffix == STRAY {
            // The journal will say no more of it. What a round still takes before the log is closed is
            // settled below.
            let settled = log.settle_for_good();
            settled.map_err(|failure| self.shared.refused(failure))?;
        }
        log.close();
        if suffix == STRAY {
            let settled = log.settle_for_good();
            settled.map_err(|failure| self.shared.refused(failure))?;
        }
        let key = (log.topic_id(), log.partition());
        lock(&self.shared.open).remove(&key);
        lock(&self.shared.dirty).remove(&log.id());
        lock(&self.shared.unsettled).remove(log.id());
        self.shared.files.forget_log(log.id());
        self.rename_away(log.name(), suffix)
    }

    fn rename_away(&self, name: &LogName, suffix: &str) -> Result<(), DirectoryError> {
        let shared = &self.shared;
        let path = shared
            .config
            .path
            .join(names::partition(&name.topic, name.partition));
        let key = (name.topic_id, name.partition);
        if suffix == STRAY {
            // Recorded before the rename, so that no crash leaves a stray that is not known as one;
            // without space for it the log stays where it is. What is known of it stays: renamed back,
            // it is the same again.
            let published = lock(&shared.unrecorded).get(&key).copied();
            let known = [lock(&shared.ends).get(key), published];
            let known = known.into_iter().flatten().reduce(Recorded::and);
            let stray = Recorded {
                is_stray: true,
                ..known.unwrap_or(Recorded::NOTHING)
            };
            let recorded = shared.record_now(key, stray);
            recorded.map_err(|failure| shared.refused(failure))?;
            shared.settle(shared.set_aside(name, &path, suffix))?;
            return Ok(());
        }
        shared.settle(shared.set_aside(name, &path, suffix))?;
        // A log of the same id that comes later begins anew (P6).
        match shared.record_now(key, Recorded::NOTHING) {
            Ok(()) => Ok(()),
            // The renamed directory says the same at the next start, unless there is another by then.
            Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => {
                lock(&shared.not_void).insert(key);
                Ok(())
            }
            Err(IoFailure::Failed(failed)) => Err(failed.into()),
        }
    }

    /// Removes what was deleted, deletions of earlier processes included. Returns how many went.
    pub fn remove_deleted(&self) -> Result<usize, DirectoryError> {
        let shared = &self.shared;
        shared.alive()?;
        let path = &shared.config.path;
        let mut removed = 0;
        for entry in shared.settle(shared.disk.read_dir(path))? {
            if entry.is_dir && parse_directory(&entry.name) == DirectoryName::Deleted {
                shared.settle(shared.disk.remove_dir_all(&path.join(&entry.name)))?;
                removed += 1;
            }
        }
        if removed > 0 {
            shared.settle(shared.file_system.sync_names())?;
        }
        Ok(removed)
    }

    /// The bytes of the logs that are open, by partition.
    #[must_use]
    pub fn open_log_bytes(&self) -> BTreeMap<(TopicId, i32), u64> {
        let bytes = |log: Arc<Log>| ((log.topic_id(), log.partition()), log.local_bytes());
        self.shared.open_logs().into_iter().map(bytes).collect()
    }
}

fn not_opened(name: &LogName, failure: IoFailure) -> OpenLogError {
    let (topic, partition) = (name.topic.clone(), name.partition);
    match failure {
        IoFailure::NoSpace => OpenLogError::NoSpace { topic, partition },
        IoFailure::Exhausted(source) => OpenLogError::Exhausted {
            topic,
            partition,
            source,
        },
        IoFailure::Failed(failed) => OpenLogError::Failed(failed),
    }
}

impl Shared {
    /// Makes the directory of a log. Its name waits for a sync.
    pub(crate) fn make_log_directory(
        &self,
        name: &LogName,
        path: &std::path::Path,
    ) -> io::Result<()> {
        self.disk.create_dir_all(path)?;
        let metadata = path.join(PARTITION_METADATA);
        let file = self.disk.open(&metadata, OpenMode::Replace)?;
        let text = names::encode_partition_metadata(name.topic_id);
        file.write_all_at(0, text.as_bytes())?;
        file.sync_data()?;
        self.names_unsynced.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Renames a log's directory away, durably. An older one of the same name goes.
    pub(crate) fn set_aside(
        &self,
        name: &LogName,
        path: &std::path::Path,
        suffix: &str,
    ) -> io::Result<PathBuf> {
        let aside = names::set_aside(&name.topic, name.partition, name.topic_id, suffix);
        let mut target = self.config.path.join(&aside);
        if suffix == DELETE {
            if self.disk.exists(&target)? {
                self.disk.remove_dir_all(&target)?;
            }
        } else {
            // A stray one is never removed: the next takes a name of its own.
            let mut number = 0u8;
            while self.disk.exists(&target)? {
                number = number.checked_add(1).ok_or(io::ErrorKind::AlreadyExists)?;
                let mut id = name.topic_id;
                if let Some(last) = id.0.last_mut() {
                    *last = last.wrapping_add(number);
                }
                let aside = names::set_aside(&name.topic, name.partition, id, suffix);
                target = self.config.path.join(aside);
            }
        }
        self.disk.rename(path, &target)?;
        self.file_system.sync_names()?;
        Ok(target)
    }
}

/// The topic id that a log's directory holds; `None` where it is missing or damaged.
pub(super) fn read_topic_id(
    disk: &dyn Disk,
    directory: &std::path::Path,
) -> io::Result<Option<TopicId>> {
    match read_all(disk, &directory.join(PARTITION_METADATA)) {
        Ok(bytes) => Ok(std::str::from_utf8(&bytes)
            .ok()
            .and_then(decode_partition_metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The leader epochs that a log's directory holds; `None` where they cannot be read.
pub(crate) fn read_epochs(
    disk: &dyn Disk,
    path: &std::path::Path,
) -> io::Result<Option<LeaderEpochs>> {
    match read_all(disk, &path.join(EPOCH_CHECKPOINT)) {
        Ok(bytes) => Ok(std::str::from_utf8(&bytes)
            .ok()
            .and_then(LeaderEpochs::decode)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

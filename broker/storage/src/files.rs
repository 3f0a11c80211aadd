//! Open files without unsynced bytes, of which a bounded number stays open.
//!
//! Files with unsynced bytes are held by their logs, so dropping one from here never closes it: a
//! failed write-back must reach the descriptor that wrote (P6).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use esker_protocol::Offset;

use crate::directory::names::{FileKind, segment_file};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::lock::lock;

/// A file of an open log: the log's number in this process, segment base, kind.
pub(crate) type FileKey = (u64, Offset, FileKind);

#[derive(Debug)]
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    open_max: usize,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    open: BTreeMap<FileKey, (u64, Arc<dyn DiskFile>)>,
    by_use: BTreeMap<u64, FileKey>,
    uses: u64,
    /// Files that do not have their names yet; see [`Files::pin`].
    pinned: BTreeMap<FileKey, Arc<dyn DiskFile>>,
    /// Rises whenever files are forgotten: what was opened before is not kept.
    forgotten: u64,
}

impl Cache {
    fn get(&mut self, key: FileKey) -> Option<Arc<dyn DiskFile>> {
        if let Some(file) = self.pinned.get(&key) {
            return Some(file.clone());
        }
        let (last_use, file) = self.open.get_mut(&key)?;
        self.by_use.remove(last_use);
        self.uses += 1;
        *last_use = self.uses;
        self.by_use.insert(self.uses, key);
        Some(file.clone())
    }

    fn put(&mut self, key: FileKey, file: Arc<dyn DiskFile>, open_max: usize) {
        if let Some((last_use, _)) = self.open.remove(&key) {
            self.by_use.remove(&last_use);
        }
        self.uses += 1;
        self.open.insert(key, (self.uses, file));
        self.by_use.insert(self.uses, key);
        while self.open.len() > open_max.max(1)
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.open.remove(&oldest);
        }
    }

    fn remove(&mut self, key: FileKey) {
        self.forgotten += 1;
        if let Some((last_use, _)) = self.open.remove(&key) {
            self.by_use.remove(&last_use);
        }
    }
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, open_max: usize) -> Files {
        Files {
            disk,
            open_max,
            cache: Mutex::default(),
        }
    }

    /// An existing file of a log.
    pub(crate) fn open(&self, directory: &Path, key: FileKey) -> io::Result<Arc<dyn DiskFile>> {
        self.open_as(directory, key, OpenMode::Write)
    }

    /// A file of a log, made when it is absent.
    pub(crate) fn create(&self, directory: &Path, key: FileKey) -> io::Result<Arc<dyn DiskFile>> {
        self.open_as(directory, key, OpenMode::Create)
    }

    fn open_as(
        &self,
        directory: &Path,
        key: FileKey,
        mode: OpenMode,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let forgotten = {
            let mut cache = lock(&self.cache);
            if let Some(file) = cache.get(key) {
                return Ok(file);
            }
            cache.forgotten
        };
        let file = self
            .disk
            .open(&directory.join(segment_file(key.1, key.2)), mode)?;
        let mut cache = lock(&self.cache);
        // The name may be another file's by now.
        if cache.forgotten == forgotten {
            cache.put(key, file.clone(), self.open_max);
        }
        Ok(file)
    }

    /// Gives out these files under their keys before they have the names for it.
    pub(crate) fn pin(&self, files: impl IntoIterator<Item = (FileKey, Arc<dyn DiskFile>)>) {
        let mut cache = lock(&self.cache);
        for (key, file) in files {
            cache.remove(key);
            cache.pinned.insert(key, file);
        }
    }

    /// The files have their names.
    pub(crate) fn unpin(&self, keys: impl IntoIterator<Item = FileKey>) {
        let mut cache = lock(&self.cache);
        for key in keys {
            cache.remove(key);
            cache.pinned.remove(&key);
        }
    }

    /// Forgets a file that is going away.
    pub(crate) fn forget(&self, key: FileKey) {
        lock(&self.cache).remove(key);
    }

    /// Forgets all files of a log, those that are being opened included.
    pub(crate) fn forget_log(&self, log: u64) {
        let mut cache = lock(&self.cache);
        cache.forgotten += 1;
        let first = (log, Offset(i64::MIN), FileKind::Log);
        let last = (log, Offset(i64::MAX), FileKind::Snapshot);
        let keys: Vec<FileKey> = cache
            .open
            .range(first..=last)
            .map(|(&key, _)| key)
            .collect();
        for key in keys {
            cache.remove(key);
        }
    }

    /// How many files are open here.
    pub(crate) fn open_count(&self) -> usize {
        lock(&self.cache).open.len()
    }
}

//! The open `durable-ends.log`: appending, syncing, rewriting when it has grown.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::durable_ends::{self, PartitionKey, Recorded};
use super::format::UNKNOWN_END;
use super::shared::Shared;
use crate::disk::{Disk, DiskFile, replace_file};

#[derive(Debug)]
pub(crate) struct EndsFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    bytes: u64,
    /// Whether the last record waits for a sync: it must not be followed by another.
    unsynced: bool,
    /// The last entry of every log.
    known: BTreeMap<PartitionKey, Recorded>,
}

impl EndsFile {
    /// Writes a file that holds exactly `known`, durably but for its name's directory, and opens it.
    pub(crate) fn rewrite(
        disk: &dyn Disk,
        path: PathBuf,
        known: BTreeMap<PartitionKey, Recorded>,
    ) -> io::Result<EndsFile> {
        let content = if known.is_empty() {
            Vec::new()
        } else {
            durable_ends::encode(&known)
        };
        // The handle outlives the rename: nothing can fail once the name is the new file's.
        let file = replace_file(disk, &path, &content)?;
        Ok(EndsFile {
            path,
            file,
            bytes: content.len() as u64,
            unsynced: false,
            known,
        })
    }

    pub(crate) fn get(&self, key: PartitionKey) -> Option<Recorded> {
        self.known.get(&key).copied()
    }

    /// Whether there are logs of which the records were lost; strays, which nobody opens, aside.
    pub(crate) fn knows_nothing_of_some(&self) -> bool {
        let mut logs = self.known.values().filter(|one| !one.is_stray);
        logs.any(|one| one.end == UNKNOWN_END)
    }

    /// Appends one record, once the one before is synced: only the last can be torn. After an error
    /// the file is as before, or the directory has failed.
    pub(crate) fn append(
        &mut self,
        shared: &Shared,
        entries: BTreeMap<PartitionKey, Recorded>,
    ) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.unsynced {
            self.sync()?;
        }
        let record = durable_ends::encode(&entries);
        if self.bytes + record.len() as u64 > shared.config.durable_ends_bytes_max.max(self.floor())
        {
            return self.compact(shared, entries);
        }
        if let Err(error) = self.file.write_all_at(self.bytes, &record) {
            // What cannot be taken back is no mere want of space: the caller fails the directory.
            self.file.truncate(self.bytes).map_err(io::Error::other)?;
            return Err(error);
        }
        self.bytes += record.len() as u64;
        self.unsynced = true;
        self.known.extend(entries);
        Ok(())
    }

    /// Below this size a rewrite gains too little.
    fn floor(&self) -> u64 {
        self.known.len() as u64 * 128
    }

    fn compact(
        &mut self,
        shared: &Shared,
        entries: BTreeMap<PartitionKey, Recorded>,
    ) -> io::Result<()> {
        let mut known = self.known.clone();
        known.extend(entries);
        durable_ends::forget_empty(&mut known);
        *self = EndsFile::rewrite(shared.disk.as_ref(), self.path.clone(), known)?;
        shared.file_system.sync_names()
    }

    /// Syncs the last record. A failure is no mere want of space: the caller fails the directory.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data().map_err(io::Error::other)?;
        self.unsynced = false;
        Ok(())
    }

    /// A sync of the whole file system has covered the last record.
    pub(crate) fn note_synced(&mut self) {
        self.unsynced = false;
    }
}

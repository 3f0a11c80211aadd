//! The disk as the broker sees it, and bugs planted in it: what the invariants must notice.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker_storage::{DirEntry, Disk, DiskFile, DiskLock, FileSystem, MemoryDisk, OpenMode};

/// A bug below the broker. Each names what it loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// None.
    Nothing,
    /// Directories are never synced, but for the log directory itself: a power cut loses the names
    /// of new segments and logs, with all that was acknowledged in them.
    ForgetsDirectories,
    /// Every other sync of a segment answers at once and does nothing: a power cut loses what was
    /// acknowledged since the one before.
    SyncsLate,
    /// Syncs say that they are done and do nothing: a power cut loses anything.
    SyncsLie,
    /// As `SyncsLate`, and every other sync of the journal too, which covers what is small: a power cut
    /// loses commits of groups that were acknowledged.
    JournalLate,
    /// Rewritten segments are not synced before they take the place of what they were made of: a power
    /// cut loses what was compacted.
    SwapsUnsynced,
}

/// The size that a file system tells, whatever room it has: a broker gives it the smallest of journals, which
/// comes round many times in a run.
const TOTAL_BYTES: u64 = 1 << 20;

/// The disk as the broker gets it.
pub(crate) fn plant(disk: &MemoryDisk, planted: Planted) -> Arc<dyn Disk> {
    disk.lie_about_syncs(planted == Planted::SyncsLie);
    Arc::new(SimulatedDisk {
        disk: disk.clone(),
        planted,
    })
}

#[derive(Debug)]
struct SimulatedDisk {
    disk: MemoryDisk,
    planted: Planted,
}

impl Disk for SimulatedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // `/data` is spared: without its names nothing is left to be checked.
        if self.planted == Planted::ForgetsDirectories && path.components().count() > 2 {
            return Ok(());
        }
        self.disk.sync_dir(path)
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.len(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        // `durable-ends.log` is spared: it would be the one that is missed.
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let is_segment = name.ends_with(".log") && name.starts_with(|c: char| c.is_ascii_digit());
        let (is_met, skips_all) = match self.planted {
            Planted::SyncsLate => (is_segment, false),
            Planted::JournalLate => (is_segment || name == "journal.log", false),
            Planted::SwapsUnsynced => (name.ends_with(".cleaned"), true),
            Planted::Nothing | Planted::ForgetsDirectories | Planted::SyncsLie => (false, false),
        };
        if !is_met {
            return Ok(file);
        }
        Ok(Arc::new(LateFile {
            file,
            skips: AtomicBool::new(true),
            skips_all,
        }))
    }

    fn open_file_system(&self, directory: &Path) -> io::Result<Arc<dyn FileSystem>> {
        self.disk.open_file_system(directory)
    }

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.available_bytes(path)
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.total_bytes(path).map(|_| TOTAL_BYTES)
    }

    fn lock_exclusive(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock_exclusive(path)
    }
}

#[derive(Debug)]
struct LateFile {
    file: Arc<dyn DiskFile>,
    /// Whether the next sync does nothing.
    skips: AtomicBool,
    /// Whether none does anything.
    skips_all: bool,
}

impl DiskFile for LateFile {
    fn read_at(&self, position: u64, bytes_max: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.file.read_at(position, bytes_max, buffer)
    }

    fn write_all_vectored_at(&self, position: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.file.write_all_vectored_at(position, slices)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.skips.fetch_xor(true, Ordering::Relaxed) || self.skips_all {
            Ok(())
        } else {
            self.file.sync_data()
        }
    }

    fn allocate_keep_size(&self, position: u64, bytes: u64) -> io::Result<()> {
        self.file.allocate_keep_size(position, bytes)
    }
}

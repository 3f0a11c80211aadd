//! A disk with a planted bug: directories are never synced.

use std::io;
use std::path::Path;
use std::sync::Arc;

use esker_storage::{DirEntry, Disk, DiskFile, DiskLock, FileSystem, MemoryDisk, OpenMode};

#[derive(Debug, Clone)]
pub struct ForgetsDirectories(pub MemoryDisk);

impl Disk for ForgetsDirectories {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // The directory of the whole is spared: without it nothing is left to be checked.
        if path.components().count() > 1 {
            Ok(())
        } else {
            self.0.sync_dir(path)
        }
    }
    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        self.0.len(path)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(path, mode)
    }
    fn open_file_system(&self, directory: &Path) -> io::Result<Arc<dyn FileSystem>> {
        self.0.open_file_system(directory)
    }
    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.0.available_bytes(path)
    }
    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        self.0.total_bytes(path)
    }
    fn lock_exclusive(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.0.lock_exclusive(path)
    }
}

//! A disk that runs something around a sync: what another thread might do just then.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::lock::lock;
use crate::{DirEntry, Disk, DiskFile, DiskLock, FileSystem, MemoryDisk, OpenMode};

enum Hook {
    Before(Box<dyn FnOnce() + Send>),
    After(Box<dyn FnOnce() + Send>),
}

/// A memory disk whose files of a name that begins so run a hook around a sync, once.
#[derive(Clone)]
pub(crate) struct Hooked {
    disk: MemoryDisk,
    name: &'static str,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Hooked")
    }
}

impl Hooked {
    pub(crate) fn new(disk: MemoryDisk, name: &'static str) -> Hooked {
        let hook = Arc::default();
        Hooked { disk, name, hook }
    }

    /// What runs after the next sync of the file.
    pub(crate) fn after_sync(&self, hook: impl FnOnce() + Send + 'static) {
        *lock(&self.hook) = Some(Hook::After(Box::new(hook)));
    }

    /// What runs before the next sync of the file.
    pub(crate) fn before_sync(&self, hook: impl FnOnce() + Send + 'static) {
        *lock(&self.hook) = Some(Hook::Before(Box::new(hook)));
    }
}

#[derive(Debug)]
struct HookedFile {
    file: Arc<dyn DiskFile>,
    disk: Hooked,
}

impl DiskFile for HookedFile {
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
        let hook = lock(&self.disk.hook).take();
        match hook {
            None => self.file.sync_data(),
            Some(Hook::Before(hook)) => {
                hook();
                self.file.sync_data()
            }
            Some(Hook::After(hook)) => {
                self.file.sync_data()?;
                hook();
                Ok(())
            }
        }
    }
    fn allocate_keep_size(&self, position: u64, bytes: u64) -> io::Result<()> {
        self.file.allocate_keep_size(position, bytes)
    }
}

impl Disk for Hooked {
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
        self.disk.sync_dir(path)
    }
    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.len(path)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(self.name)) {
            let disk = self.clone();
            return Ok(Arc::new(HookedFile { file, disk }));
        }
        Ok(file)
    }
    fn open_file_system(&self, directory: &Path) -> io::Result<Arc<dyn FileSystem>> {
        self.disk.open_file_system(directory)
    }
    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.available_bytes(path)
    }
    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.total_bytes(path)
    }
    fn lock_exclusive(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock_exclusive(path)
    }
}

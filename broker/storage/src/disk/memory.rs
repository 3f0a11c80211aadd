//! A disk in memory that can be crashed at any step.
//!
//! Each file and each directory is kept twice: as programs see it, and as a power cut leaves it,
//! with the changes between the two in order. [`MemoryDisk::after_power_cut`] keeps what was synced and
//! any subset of the rest: writes survive block by block and may be torn inside one, lengths
//! independently of content, names independently of both. [`MemoryDisk::after_kill`] is the end of
//! the process alone: the page cache stays. Everything follows from seeds and arguments.

mod crash;
mod faults;
mod tree;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{DirEntry, Disk, DiskFile, DiskLock, FileSystem, OpenMode};
use crate::lock::lock;
use tree::{Inode, Tree};

/// A disk in memory with a crash model and faults on demand. Clones share one disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    tree: Arc<Mutex<Tree>>,
}

impl MemoryDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    /// A change: counted, and the last one before a planned crash takes effect without an answer.
    fn change<T>(&self, apply: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        let mut tree = self.tree();
        tree.faults.alive()?;
        let dies = tree.faults.count_operation();
        let result = apply(&mut tree);
        if dies {
            tree.faults.die();
            tree.faults.alive()?;
        }
        result
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    inode: Inode,
    writes: bool,
}

#[derive(Debug)]
struct MemoryFileSystem {
    disk: MemoryDisk,
    directory: PathBuf,
}

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    path: PathBuf,
}

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.disk.tree().locked.remove(&self.path);
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.disk.tree().close(self.inode);
    }
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(|tree| tree.create_dir_all(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut tree = self.tree();
        tree.faults.alive()?;
        tree.faults.count_open()?;
        tree.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|tree| tree.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(|tree| tree.remove(path, false))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(|tree| tree.remove(path, true))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.tree().faults.count_open()?;
        self.change(|tree| tree.sync_dir(path))
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        let tree = self.tree();
        tree.faults.alive()?;
        Ok(tree.find(path).map(|inode| tree.len(inode)))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.tree().faults.count_open()?;
        let open = |tree: &mut Tree| tree.open(path, mode);
        let inode = if matches!(mode, OpenMode::Create | OpenMode::Replace) {
            self.change(open)?
        } else {
            let mut tree = self.tree();
            tree.faults.alive()?;
            open(&mut tree)?
        };
        Ok(Arc::new(MemoryFile {
            disk: self.clone(),
            inode,
            writes: mode != OpenMode::Read,
        }))
    }

    fn open_file_system(&self, directory: &Path) -> io::Result<Arc<dyn FileSystem>> {
        let mut tree = self.tree();
        tree.faults.alive()?;
        tree.faults.count_open()?;
        tree.find(directory).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFileSystem {
            disk: self.clone(),
            directory: directory.to_owned(),
        }))
    }

    fn available_bytes(&self, _path: &Path) -> io::Result<u64> {
        let tree = self.tree();
        tree.faults.alive()?;
        Ok(tree.faults.capacity.saturating_sub(tree.used))
    }

    fn total_bytes(&self, _path: &Path) -> io::Result<u64> {
        let tree = self.tree();
        tree.faults.alive()?;
        Ok(tree.faults.capacity)
    }

    fn lock_exclusive(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        drop(self.open(path, OpenMode::Create)?);
        if !self.tree().locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }
}

impl MemoryFile {
    fn writable(&self) -> io::Result<()> {
        if self.writes {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, position: u64, bytes_max: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let tree = self.disk.tree();
        tree.faults.alive()?;
        let content = tree.content(self.inode)?;
        let start = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let end = start.saturating_add(bytes_max).min(content.len());
        let bytes = content.get(start..end).unwrap_or_default();
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn read_cached_at(
        &self,
        position: u64,
        bytes_max: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        if self.disk.tree().faults.caches_nothing() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read_at(position, bytes_max, buffer)
    }

    fn write_all_vectored_at(&self, position: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.writable()?;
        self.disk.change(|tree| {
            let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
            for slice in slices.iter() {
                bytes.extend_from_slice(slice);
            }
            tree.write(self.inode, position, bytes)
        })
    }

    fn len(&self) -> io::Result<u64> {
        let tree = self.disk.tree();
        tree.faults.alive()?;
        Ok(tree.len(self.inode))
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.writable()?;
        self.disk.change(|tree| tree.truncate(self.inode, bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change(|tree| tree.sync_file(self.inode))
    }

    fn allocate_keep_size(&self, position: u64, bytes: u64) -> io::Result<()> {
        self.writable()?;
        self.disk
            .change(|tree| tree.allocate(self.inode, position.saturating_add(bytes)))
    }
}

impl FileSystem for MemoryFileSystem {
    fn sync(&self) -> io::Result<()> {
        self.disk.change(Tree::sync_all)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.change(|tree| tree.sync_dir(&self.directory))
    }
}

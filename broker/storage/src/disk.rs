//! The seam to the file system: everything that the log writes goes through [`Disk`].
//!
//! Two implementations pass one contract: [`RealDisk`] and [`MemoryDisk`], whose crash model keeps
//! only what was synced and any subset of the rest. Nothing here knows logs or batches.
//!
//! What callers may rely on, and nothing more:
//! - bytes survive a power cut once [`DiskFile::sync_data`] on the same handle returned `Ok`;
//! - names (created, renamed, removed) survive once [`Disk::sync_dir`] of their directory did;
//! - a rename within one directory is atomic;
//! - after a failed sync nothing written before it may ever reach the medium;
//! - an open refused for want of descriptors or memory says so ([`is_exhausted`]): the disk is well,
//!   nothing was changed, and it can be tried again.

mod memory;
mod real;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use memory::MemoryDisk;
pub use real::RealDisk;
use rustix::io::Errno;

/// The unit of a disk: what is aligned to it can go past the page cache.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// How a file is opened; every mode can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that is made when it is absent, for reading and writing.
    Create,
    /// Like [`OpenMode::Create`], and whatever the file held is gone.
    Replace,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last component of the path. Names that are not UTF-8 are not listed: none is ours.
    pub name: String,
    /// Whether the name is a directory.
    pub is_dir: bool,
}

/// A file system, or part of one.
pub trait Disk: Send + Sync + Debug {
    /// Makes a directory and its missing parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, sorted by name.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Renames within one directory; an existing file of that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that it holds.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The length of a file, `None` when nothing has that name.
    fn len(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file to be written over and over in whole blocks of [`BLOCK_BYTES`] and synced after each
    /// write: past the page cache where that is possible. Like [`OpenMode::Create`] in all else.
    fn open_journal(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, OpenMode::Create)
    }

    /// Opens the file system that holds a directory. A failed write-back is reported once per open
    /// description, so the handle is opened before the first write and kept (P6).
    fn open_file_system(&self, directory: &Path) -> io::Result<Arc<dyn FileSystem>>;

    /// Bytes that can still be written in the file system that holds `path`.
    fn available_bytes(&self, path: &Path) -> io::Result<u64>;

    /// The size of the file system that holds `path`.
    fn total_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Takes the exclusive lock that the file stands for, making the file when it is absent.
    /// Fails with [`io::ErrorKind::WouldBlock`] while another holds it.
    fn lock_exclusive(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    /// Whether anything has that name.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.len(path)?.is_some())
    }
}

/// An open file. Positions are absolute: handles share no cursor.
pub trait DiskFile: Send + Sync + Debug {
    /// Appends to `buffer` what stands at `position`, at most `bytes_max`, in one read. Fewer bytes
    /// only at the end of the file.
    fn read_at(&self, position: u64, bytes_max: usize, buffer: &mut Vec<u8>) -> io::Result<usize>;

    /// The same of what is in memory already; [`io::ErrorKind::WouldBlock`] where the disk would have
    /// to be asked.
    fn read_cached_at(
        &self,
        position: u64,
        bytes_max: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        self.read_at(position, bytes_max, buffer)
    }

    /// Writes all slices back to back at `position`. After an error any part may have been written.
    fn write_all_vectored_at(&self, position: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Cuts or extends to `bytes`, and gives back space taken beyond.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Makes content and length durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Takes space for a range without changing the length. [`io::ErrorKind::StorageFull`] when
    /// there is none; [`io::ErrorKind::Unsupported`] where the file system cannot.
    fn allocate_keep_size(&self, position: u64, bytes: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `position`.
    fn write_all_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_vectored_at(position, &mut [IoSlice::new(bytes)])
    }

    /// Whether the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A whole file system.
pub trait FileSystem: Send + Sync + Debug {
    /// Makes all that was written to it durable, names included.
    fn sync(&self) -> io::Result<()>;

    /// Makes the names in the directory by which it was opened durable, and opens nothing to do so.
    fn sync_names(&self) -> io::Result<()> {
        self.sync()
    }
}

/// A file of which only what is in memory is read.
#[derive(Debug)]
pub(crate) struct CachedOnly(pub(crate) Arc<dyn DiskFile>);

impl DiskFile for CachedOnly {
    fn read_at(&self, position: u64, bytes_max: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.0.read_cached_at(position, bytes_max, buffer)
    }

    fn write_all_vectored_at(&self, position: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.0.write_all_vectored_at(position, slices)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate_keep_size(&self, position: u64, bytes: u64) -> io::Result<()> {
        self.0.allocate_keep_size(position, bytes)
    }
}

/// An exclusive lock, held until it is dropped.
pub trait DiskLock: Send + Sync + Debug {}

/// An open was refused for want of descriptors or memory.
#[derive(Debug, thiserror::Error)]
#[error("out of descriptors or memory: {0}")]
struct Exhausted(io::Error);

/// Marks the error of an open where it says nothing about the disk. Other operations never pass
/// here: a sync or a write that fails for want of memory has failed.
fn of_open(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
            io::Error::new(error.kind(), Exhausted(error))
        }
        _ => error,
    }
}

/// Whether an open was refused for want of descriptors or memory.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Exhausted>())
}

/// Reads a whole file; an absent one is an error.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let bytes = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut buffer = Vec::new();
    file.read_at(0, bytes, &mut buffer)?;
    Ok(buffer)
}

/// Replaces a small file so that a reader finds the old content or the new, never a mixture:
/// `<name>.tmp`, sync, rename. The caller syncs the directory. Returns the new file.
pub(crate) fn replace_file(
    disk: &dyn Disk,
    path: &Path,
    content: &[u8],
) -> io::Result<Arc<dyn DiskFile>> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let file = disk.open(temporary, OpenMode::Replace)?;
    file.write_all_at(0, content)?;
    file.sync_data()?;
    disk.rename(temporary, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests;

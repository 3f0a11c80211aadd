//! The disk of the machine, through rustix: pread, pwritev, fdatasync, fallocate, syncfs.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that touches the real disk"
)]

mod direct;

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use direct::DirectFile;

use super::{DirEntry, Disk, DiskFile, DiskLock, FileSystem, OpenMode, of_open};

/// A file that is read after each of its writes would else note each time when that was, and its inode be
/// written once more.
const NO_ACCESS_TIME: i32 = OFlags::NOATIME.bits().cast_signed();

/// The disk of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealFileSystem(File);

#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "the lock ends when the descriptor closes")] File);

impl DiskLock for RealLock {}

fn may_be_for_the_flag(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(of_open)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_socket() || kind.is_fifo() {
                continue;
            }
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry {
                    name,
                    is_dir: kind.is_dir(),
                });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let directory = File::open(path).map_err(of_open)?;
        Ok(retry_on_intr(|| rustix::fs::fsync(&directory))?)
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(of_open(error)),
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let writes = mode != OpenMode::Read;
        let creates = matches!(mode, OpenMode::Create | OpenMode::Replace);
        let mut options = File::options();
        options
            .read(true)
            .write(writes)
            .create(creates)
            .truncate(mode == OpenMode::Replace);
        let quiet = options.clone().custom_flags(NO_ACCESS_TIME).open(path);
        let file = match quiet {
            // Only a file's owner may ask for it (open(2)), and not every file system knows it.
            Err(error) if may_be_for_the_flag(&error) => options.open(path),
            other => other,
        };
        Ok(Arc::new(RealFile(file.map_err(of_open)?)))
    }

    fn open_journal(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open(path, OpenMode::Create)?;
        Ok(match DirectFile::open(path, &file) {
            Some(direct) => Arc::new(direct),
            None => file,
        })
    }

    fn open_file_system(&self, directory: &Path) -> io::Result<Arc<dyn FileSystem>> {
        let directory = File::open(directory).map_err(of_open)?;
        Ok(Arc::new(RealFileSystem(directory)))
    }

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(path)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(path)?;
        Ok(figures.f_blocks.saturating_mul(figures.f_frsize))
    }

    fn lock_exclusive(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive))?;
        Ok(Box::new(RealLock(file)))
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, position: u64, bytes_max: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let before = buffer.len();
        buffer.reserve_exact(bytes_max);
        while buffer.len() - before < bytes_max {
            let at = position + (buffer.len() - before) as u64;
            let count = retry_on_intr(|| {
                rustix::io::pread(&self.0, rustix::buffer::spare_capacity(buffer), at)
            })?;
            if count == 0 {
                break;
            }
        }
        // The vector may have had more room than was asked for, and all of it was read into.
        buffer.truncate(before + bytes_max);
        Ok(buffer.len() - before)
    }

    fn read_cached_at(
        &self,
        position: u64,
        bytes_max: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let before = buffer.len();
        let mut filled = before;
        buffer.resize(before + bytes_max, 0);
        let outcome = loop {
            let at = position + (filled - before) as u64;
            let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) else {
                break Ok(());
            };
            let mut slices = [IoSliceMut::new(rest)];
            let read = retry_on_intr(|| {
                rustix::io::preadv2(&self.0, &mut slices, at, ReadWriteFlags::NOWAIT)
            });
            match read {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(error) => break Err(error),
            }
        };
        buffer.truncate(filled);
        match outcome {
            Ok(()) => Ok(filled - before),
            Err(error) => {
                buffer.truncate(before);
                match error {
                    // A file system that cannot tell.
                    Errno::OPNOTSUPP | Errno::NOSYS => self.read_at(position, bytes_max, buffer),
                    other => Err(other.into()),
                }
            }
        }
    }

    fn write_all_vectored_at(&self, position: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut position = position;
        let mut slices = slices;
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let written = retry_on_intr(|| rustix::io::pwritev(&self.0, slices, position))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            position += written as u64;
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(&self.0, bytes))?)
    }

    fn sync_data(&self) -> io::Result<()> {
        // Interrupted or not: a sync is never repeated on the same dirty pages (P6).
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn allocate_keep_size(&self, position: u64, bytes: u64) -> io::Result<()> {
        let result = retry_on_intr(|| {
            rustix::fs::fallocate(&self.0, FallocateFlags::KEEP_SIZE, position, bytes)
        });
        match result {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            other => Ok(other?),
        }
    }
}

impl FileSystem for RealFileSystem {
    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fsync(&self.0))?)
    }
}

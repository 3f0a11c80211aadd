//! A file whose whole blocks are written past the page cache (`O_DIRECT`).
//!
//! What is synced at once and not read again gains nothing from the page cache: to copy it there, to
//! write it back and to keep account of the pages took more than half of what a small round of group
//! commit costs. A write that is not of whole blocks, and every write where the file system refuses,
//! goes the usual way.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::disk::{BLOCK_BYTES, DiskFile};
use crate::lock::lock;

/// What is copied at a time of memory that is not aligned.
const COPY_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct DirectFile {
    /// For all but whole blocks.
    plain: Arc<dyn DiskFile>,
    direct: File,
    /// Until the file system refuses.
    works: AtomicBool,
    /// The kernel takes from aligned memory only; other is copied here.
    buffer: Mutex<Vec<u8>>,
}

impl DirectFile {
    /// The file that is open already, if it can be opened so.
    pub(super) fn open(path: &Path, plain: &Arc<dyn DiskFile>) -> Option<DirectFile> {
        let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let direct = rustix::fs::open(path, flags, Mode::empty())
            .inspect_err(|error| {
                tracing::info!(path = %path.display(), %error, "is written through the page cache");
            })
            .ok()?;
        Some(DirectFile {
            plain: Arc::clone(plain),
            direct: direct.into(),
            works: AtomicBool::new(true),
            buffer: Mutex::default(),
        })
    }

    /// Writes memory that may stand anywhere.
    fn write_blocks(&self, position: u64, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.as_ptr().align_offset(BLOCK_BYTES) == 0 {
            return self.write_aligned(position, bytes);
        }
        let mut buffer = lock(&self.buffer);
        let room = bytes.len().min(COPY_BYTES_MAX) + BLOCK_BYTES;
        if buffer.len() < room {
            *buffer = vec![0; room];
        }
        let start = buffer.as_ptr().align_offset(BLOCK_BYTES);
        let mut position = position;
        for part in bytes.chunks(COPY_BYTES_MAX) {
            let aligned = buffer.get_mut(start..).unwrap_or_default();
            let aligned = aligned.get_mut(..part.len()).ok_or(Errno::INVAL)?;
            aligned.copy_from_slice(part);
            self.write_aligned(position, aligned)?;
            position += part.len() as u64;
        }
        Ok(())
    }

    fn write_aligned(&self, position: u64, bytes: &[u8]) -> Result<(), Errno> {
        let (mut position, mut left) = (position, bytes);
        while !left.is_empty() {
            let written = retry_on_intr(|| rustix::io::pwrite(&self.direct, left, position))?;
            if written == 0 {
                return Err(Errno::NOSPC);
            }
            position += written as u64;
            left = left.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

impl DiskFile for DirectFile {
    fn write_all_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let block = BLOCK_BYTES as u64;
        let is_whole = position.is_multiple_of(block) && (bytes.len() as u64).is_multiple_of(block);
        if is_whole && self.works.load(Ordering::Relaxed) {
            match self.write_blocks(position, bytes) {
                Err(Errno::INVAL | Errno::OPNOTSUPP) => self.works.store(false, Ordering::Relaxed),
                // Pages of this process could not be held for the disk.
                Err(Errno::NOMEM) => {}
                outcome => return Ok(outcome?),
            }
        }
        self.plain.write_all_at(position, bytes)
    }

    fn write_all_vectored_at(&self, position: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.plain.write_all_vectored_at(position, slices)
    }

    fn read_at(&self, position: u64, bytes_max: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.plain.read_at(position, bytes_max, buffer)
    }

    fn len(&self) -> io::Result<u64> {
        self.plain.len()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.plain.truncate(bytes)
    }

    /// Of both: they are one file.
    fn sync_data(&self) -> io::Result<()> {
        self.plain.sync_data()
    }

    fn allocate_keep_size(&self, position: u64, bytes: u64) -> io::Result<()> {
        self.plain.allocate_keep_size(position, bytes)
    }
}

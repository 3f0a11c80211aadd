//! A file of fixed-size entries in rising order, the newest of which are still in memory.
//!
//! Invariant: entries on disk, then entries of the tail, both rising. The file may hold more bytes
//! behind `on_disk` entries (a flush that failed half way, a crash); they are never read, and the
//! next flush overwrites them.

use std::io;

use crate::disk::DiskFile;

/// One entry.
pub(crate) trait Entry: Copy + Sized {
    /// Its size in the file.
    const BYTES: usize;
    /// Appends its bytes.
    fn put(&self, bytes: &mut Vec<u8>);
    /// Reads it from exactly [`Entry::BYTES`] bytes.
    fn get(bytes: &[u8]) -> Option<Self>;
}

/// The entries of the segment that is being written.
#[derive(Debug, Clone)]
pub(crate) struct EntryFile<E> {
    on_disk: u32,
    tail: Vec<E>,
    last: Option<E>,
}

/// Below this many entries a search reads them all at once.
const SEARCH_ENTRIES: u32 = 256;

impl<E: Entry> EntryFile<E> {
    pub(crate) fn new() -> EntryFile<E> {
        EntryFile {
            on_disk: 0,
            tail: Vec::new(),
            last: None,
        }
    }

    /// Entries whose first `on_disk` are in the file.
    pub(crate) fn with_prefix(on_disk: u32, last: Option<E>) -> EntryFile<E> {
        EntryFile {
            on_disk,
            tail: Vec::new(),
            last,
        }
    }

    pub(crate) fn push(&mut self, entry: E) {
        self.tail.push(entry);
        self.last = Some(entry);
    }

    pub(crate) fn last(&self) -> Option<E> {
        self.last
    }

    pub(crate) fn on_disk(&self) -> u32 {
        self.on_disk
    }

    pub(crate) fn count(&self) -> u64 {
        u64::from(self.on_disk) + self.tail.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.count() * E::BYTES as u64
    }

    pub(crate) fn tail(&self) -> &[E] {
        &self.tail
    }

    /// The last entry of the tail for which `holds`, which turns false once.
    pub(crate) fn tail_floor(&self, holds: impl Fn(&E) -> bool) -> Option<E> {
        let count = self.tail.partition_point(holds);
        count
            .checked_sub(1)
            .and_then(|index| self.tail.get(index))
            .copied()
    }

    /// Appends the bytes of the tail.
    pub(crate) fn put_tail(&self, bytes: &mut Vec<u8>) {
        for entry in &self.tail {
            entry.put(bytes);
        }
    }

    /// Writes the tail behind the entries on disk.
    pub(crate) fn flush(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.tail.len() * E::BYTES);
        self.put_tail(&mut bytes);
        file.write_all_at(u64::from(self.on_disk) * E::BYTES as u64, &bytes)?;
        self.on_disk += self.tail.len() as u32;
        self.tail = Vec::new();
        Ok(())
    }
}

/// Reads `count` entries from the one at `index` on; fewer when the file ends.
pub(crate) fn read_entries<E: Entry>(
    file: &dyn DiskFile,
    index: u32,
    count: u32,
) -> io::Result<Vec<E>> {
    let mut bytes = Vec::new();
    let position = u64::from(index) * E::BYTES as u64;
    file.read_at(position, count as usize * E::BYTES, &mut bytes)?;
    Ok(bytes.chunks_exact(E::BYTES).filter_map(E::get).collect())
}

/// The last of the first `count` entries of a file for which `holds`, which turns false once, with
/// how many entries hold.
pub(crate) fn file_floor<E: Entry>(
    file: &dyn DiskFile,
    count: u32,
    holds: impl Fn(&E) -> bool,
) -> io::Result<(u32, Option<E>)> {
    let (mut low, mut high) = (0, count);
    let mut floor = None;
    while high - low > SEARCH_ENTRIES {
        let middle = low + (high - low) / 2;
        match read_entries::<E>(file, middle, 1)?.first() {
            Some(entry) if holds(entry) => {
                floor = Some(*entry);
                low = middle + 1;
            }
            _ => high = middle,
        }
    }
    let entries = read_entries::<E>(file, low, high - low)?;
    let held = entries.partition_point(holds);
    if let Some(entry) = held.checked_sub(1).and_then(|index| entries.get(index)) {
        floor = Some(*entry);
    }
    Ok((low + held as u32, floor))
}

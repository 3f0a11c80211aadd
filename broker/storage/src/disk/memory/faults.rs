//! Faults on demand: failed and lying syncs, short writes, a full disk, rot, a crash at any step.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::super::of_open;
use super::MemoryDisk;
use super::tree::{Directory, File, FileChange, Node, rename_in, write_into};

#[derive(Debug)]
pub(super) struct Faults {
    pub(super) capacity: u64,
    operations: u64,
    crash_at: Option<u64>,
    dead: bool,
    syncs_to_fail: u32,
    syncs_lie: bool,
    caches_nothing: bool,
    write_cut: Option<usize>,
    opens_left: Option<u64>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            capacity: u64::MAX,
            operations: 0,
            crash_at: None,
            dead: false,
            syncs_to_fail: 0,
            syncs_lie: false,
            caches_nothing: false,
            write_cut: None,
            opens_left: None,
        }
    }
}

/// What becomes of the changes that a sync covers.
#[derive(Debug, Clone, Copy)]
pub(super) enum SyncVerdict {
    /// They are durable.
    Keeps,
    /// They are reported lost and dropped: later syncs say `Ok` and the medium never sees them.
    Fails,
    /// They are reported durable and are not.
    Lies,
}

impl SyncVerdict {
    pub(super) fn settle_file(self, file: &mut File) -> io::Result<()> {
        match self {
            SyncVerdict::Lies => Ok(()),
            SyncVerdict::Keeps => {
                for change in std::mem::take(&mut file.pending) {
                    match change {
                        FileChange::Write { position, bytes } => {
                            write_into(&mut file.durable, position, &bytes);
                        }
                        FileChange::Truncate { bytes } => {
                            file.durable.resize(usize::try_from(bytes).unwrap_or(0), 0);
                        }
                    }
                }
                Ok(())
            }
            SyncVerdict::Fails => {
                file.pending.clear();
                Err(io::Error::other("the sync failed on demand"))
            }
        }
    }

    pub(super) fn settle_directory(self, directory: &mut Directory) -> io::Result<()> {
        match self {
            SyncVerdict::Lies => Ok(()),
            SyncVerdict::Keeps => {
                for change in std::mem::take(&mut directory.pending) {
                    rename_in(&mut directory.durable, &change);
                }
                Ok(())
            }
            SyncVerdict::Fails => Err(io::Error::other("the sync failed on demand")),
        }
    }
}

impl Faults {
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.dead {
            Err(io::Error::other("the machine is down"))
        } else {
            Ok(())
        }
    }

    /// Counts a change; `true` when the planned crash falls on it.
    pub(super) fn count_operation(&mut self) -> bool {
        self.operations += 1;
        self.crash_at == Some(self.operations)
    }

    /// Counts an open, and refuses it when there is no descriptor for it.
    pub(super) fn count_open(&mut self) -> io::Result<()> {
        match &mut self.opens_left {
            None => Ok(()),
            Some(0) => Err(of_open(Errno::MFILE.into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    pub(super) fn die(&mut self) {
        self.dead = true;
    }

    pub(super) fn sync_verdict(&mut self) -> SyncVerdict {
        if self.syncs_to_fail > 0 {
            self.syncs_to_fail -= 1;
            SyncVerdict::Fails
        } else if self.syncs_lie {
            SyncVerdict::Lies
        } else {
            SyncVerdict::Keeps
        }
    }

    /// Whether reads of what is in memory find nothing there.
    pub(super) fn caches_nothing(&self) -> bool {
        self.caches_nothing
    }

    /// How many bytes of a write still arrive, when it is to fail.
    pub(super) fn cut_write(&mut self, bytes: usize) -> Option<usize> {
        self.write_cut.take().map(|kept| kept.min(bytes))
    }

    /// The faults of the disk after a crash: its size stays, nothing else does.
    pub(super) fn after_crash(&self) -> Faults {
        Faults {
            capacity: self.capacity,
            ..Faults::default()
        }
    }
}

impl MemoryDisk {
    /// Changes made so far: opened for creation, written, cut, renamed, removed, synced.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.tree().faults.operations
    }

    /// Plans a crash: the change that brings [`MemoryDisk::operations`] to `operation` takes effect
    /// but gets no answer, and everything after it fails.
    pub fn crash_at(&self, operation: u64) {
        self.tree().faults.crash_at = Some(operation);
    }

    /// Whether the planned crash has happened.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.tree().faults.dead
    }

    /// Makes the next `count` syncs fail. What they covered is lost for good, though programs
    /// go on reading it until the machine restarts.
    pub fn fail_syncs(&self, count: u32) {
        self.tree().faults.syncs_to_fail = count;
    }

    /// Makes syncs say `Ok` and keep nothing, until told otherwise. For tests that name what is lost.
    pub fn lie_about_syncs(&self, lie: bool) {
        self.tree().faults.syncs_lie = lie;
    }

    /// Makes reads of what is in memory find nothing there, as where other files have taken it.
    pub fn cache_nothing(&self, nothing: bool) {
        self.tree().faults.caches_nothing = nothing;
    }

    /// Makes the next write fail after `bytes` of it.
    pub fn fail_next_write_after(&self, bytes: usize) {
        self.tree().faults.write_cut = Some(bytes);
    }

    /// Lets so many more opens of files and directories succeed, as where descriptors run out;
    /// `None` lifts the limit.
    pub fn limit_opens(&self, opens: Option<u64>) {
        self.tree().faults.opens_left = opens;
    }

    /// Sets the size of the disk; what it holds may already be more.
    pub fn set_capacity(&self, bytes: u64) {
        self.tree().faults.capacity = bytes;
    }

    /// Flips bits of a byte in a file, on the medium and in the cache.
    pub fn rot(&self, path: &Path, position: usize, mask: u8) -> io::Result<()> {
        let mut tree = self.tree();
        let inode = tree.find(path).ok_or(io::ErrorKind::NotFound)?;
        let Some(Node::File(file)) = tree.nodes.get_mut(&inode) else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        for bytes in [&mut file.content, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(position) {
                *byte ^= mask;
            }
        }
        Ok(())
    }
}

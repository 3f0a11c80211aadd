//! Putting a rewritten segment in the place of those that it was made of, safe at a crash anywhere.
//!
//! ```text
//! <base>.log.cleaned, .index.cleaned, ...   being written; worth nothing
//! <base>.index.swap, ..., then .log.swap    from this name on the swap is decided
//! <others>.log.deleted, ...                 what is replaced and begins elsewhere goes
//! <base>.index, ..., then <base>.log        the swap is done
//! ```
//! Names are synced between the steps. A start finishes a swap that has a `.log.swap`, and removes
//! whatever else is left. Which segments are replaced follows from the new one: those that begin inside
//! it, for its last batch reaches to the next segment.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use esker_protocol::Offset;

use super::Log;
use super::recovery::PlanError;
use super::scan::BatchReader;
use crate::directory::names::{FileKind, parse_segment_file, segment_file};
use crate::disk::{DiskFile, FileSystem, OpenMode};
use crate::error::Damage;

/// The kinds that are replaced, the data last: snapshots say the same as before.
pub(super) const KINDS: [FileKind; 4] = [
    FileKind::OffsetIndex,
    FileKind::TimeIndex,
    FileKind::TransactionIndex,
    FileKind::Log,
];

/// A name that a file has on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Cleaned,
    Swap,
    Deleted,
}

impl Stage {
    fn suffix(self) -> &'static str {
        match self {
            Stage::Cleaned => ".cleaned",
            Stage::Swap => ".swap",
            Stage::Deleted => ".deleted",
        }
    }
}

impl Log {
    pub(super) fn staged_path(&self, base: Offset, kind: FileKind, stage: Stage) -> PathBuf {
        let name = segment_file(base, kind) + stage.suffix();
        self.path.join(name)
    }

    /// Makes an empty file of a rewritten segment.
    pub(super) fn create_staged(
        &self,
        base: Offset,
        kind: FileKind,
        stage: Stage,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.staged_path(base, kind, stage);
        self.directory.disk.open(&path, OpenMode::Replace)
    }

    fn rename_if_there(&self, from: PathBuf, to: PathBuf) -> io::Result<()> {
        match self.directory.disk.rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes what was written of a segment that takes no other's place. Not in a directory that has
    /// failed: a swap may have been decided there that was not finished, and then what lies here is
    /// the only copy. The next start knows.
    pub(super) fn discard_staged(&self, base: Offset) -> io::Result<()> {
        if self.directory.failed.get().is_some() {
            return Ok(());
        }
        for kind in KINDS {
            for stage in [Stage::Cleaned, Stage::Swap] {
                let path = self.staged_path(base, kind, stage);
                self.directory.remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Gives the files of a rewritten segment that are not its data the names for a swap: it is not
    /// decided yet, and can be discarded.
    pub(super) fn prepare_swap(&self, base: Offset) -> io::Result<()> {
        for kind in KINDS {
            if kind != FileKind::Log {
                let from = self.staged_path(base, kind, Stage::Cleaned);
                self.rename_if_there(from, self.staged_path(base, kind, Stage::Swap))?;
            }
        }
        Ok(())
    }

    /// Decides the swap: from here on a start finishes it.
    pub(super) fn decide_swap(&self, base: Offset, names: &dyn FileSystem) -> io::Result<()> {
        // What is prepared, and that nothing is left of an older attempt.
        names.sync_names()?;
        let from = self.staged_path(base, FileKind::Log, Stage::Cleaned);
        let to = self.staged_path(base, FileKind::Log, Stage::Swap);
        self.directory.disk.rename(&from, &to)?;
        names.sync_names()
    }

    /// Finishes a decided swap: the segments in `replaced`, which begin inside the new one, go.
    pub(super) fn finish_swap(
        &self,
        base: Offset,
        replaced: &[Offset],
        names: &dyn FileSystem,
    ) -> io::Result<()> {
        for &old in replaced {
            for kind in KINDS {
                let from = self.path.join(segment_file(old, kind));
                self.rename_if_there(from, self.staged_path(old, kind, Stage::Deleted))?;
            }
        }
        names.sync_names()?;
        for kind in KINDS {
            if kind == FileKind::Log {
                names.sync_names()?;
            }
            let to = self.path.join(segment_file(base, kind));
            self.rename_if_there(self.staged_path(base, kind, Stage::Swap), to)?;
        }
        names.sync_names()?;
        for &old in replaced {
            for kind in KINDS {
                let path = self.staged_path(old, kind, Stage::Deleted);
                self.directory.remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Finishes the swaps that a crash has interrupted after they were decided.
    pub(super) fn complete_swaps(&self) -> Result<(), PlanError> {
        let suffix = Stage::Swap.suffix();
        let mut bases = Vec::new();
        let mut swapped = Vec::new();
        for entry in self.directory.disk.read_dir(&self.path)? {
            if let Some((base, FileKind::Log)) = parse_segment_file(&entry.name) {
                bases.push(base);
            }
            let name = entry.name.strip_suffix(suffix);
            if let Some((base, FileKind::Log)) = name.and_then(parse_segment_file) {
                swapped.push(base);
            }
        }
        for base in swapped {
            let end = self.end_of_swapped(base)?;
            let inside = bases
                .iter()
                .copied()
                .filter(|one| *one > base && *one < end);
            let replaced: Vec<Offset> = inside.collect();
            tracing::info!(path = %self.path.display(), %base, %end, "an interrupted compaction is finished");
            self.finish_swap(base, &replaced, self.open_names()?.as_ref())?;
        }
        Ok(())
    }

    /// Where a segment ends that is about to take its place.
    fn end_of_swapped(&self, base: Offset) -> Result<Offset, PlanError> {
        let path = self.staged_path(base, FileKind::Log, Stage::Swap);
        let file = self.directory.disk.open(&path, OpenMode::Read)?;
        let length = file.len()?;
        let mut reader = BatchReader::of_headers(file.as_ref(), 0, length);
        let mut end = base;
        loop {
            match reader.header()? {
                Ok(Some(header)) if header.base_offset >= end => {
                    end = header.next_offset();
                    reader.skip(&header);
                }
                Ok(None) if end > base => return Ok(end),
                other => {
                    let reason = match other {
                        Ok(Some(header)) => format!("a batch of offset {}", header.base_offset),
                        Ok(None) => "a rewritten segment without a batch".to_owned(),
                        Err(reason) => reason,
                    };
                    // It was synced before it got its name.
                    return Err(PlanError::Damage(Damage {
                        segment: base.0,
                        position: reader.position,
                        offset: end,
                        reason,
                    }));
                }
            }
        }
    }
}

//! The commit round: group commit of everything that was written to a directory (P6).
//!
//! ```text
//! take the dirty logs, note their written ends and generations
//! append the ends that the previous round reached to durable-ends.log
//! sync: every file and directory that changed, or the file system once
//! publish the noted ends of logs that were not cut or started anew meanwhile
//! ```
//! Appends go on during all of it. Ends are recorded once in [`RECORD_ROUNDS_MAX`] busy rounds and in
//! every idle one. A record lags one round, so what it says was synced before it was
//! written; a directory that falls idle runs one more round, which records and syncs nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::{IoFailure, Shared};
use crate::config::CommitMode;
use crate::disk::is_exhausted;
use crate::error::DirectoryFailed;
use crate::lock::lock;
use crate::log::{Capture, Log};

/// Busy rounds that one record covers: what a crash makes recovery scan again is at most what so many
/// rounds wrote.
const RECORD_ROUNDS_MAX: u32 = 16;

/// What a round did.
#[derive(Debug, Default)]
pub struct CommitRound {
    /// The logs whose durable end this round set.
    pub published: Vec<Arc<Log>>,
    /// Whether another round is due: something was written meanwhile, or what this round reached
    /// is not recorded yet.
    pub more: bool,
    /// Whether the disk was too full to record what the previous round reached, and log starts that
    /// moved: a later round does.
    pub unrecorded: bool,
    /// Logs that the round left out because the disk is full, or for want of descriptors or memory;
    /// a later round tries again.
    pub starved: Vec<Arc<Log>>,
}

pub(super) fn round(shared: &Shared) -> Result<CommitRound, DirectoryFailed> {
    shared.alive()?;
    let taken = std::mem::take(&mut *lock(&shared.dirty));
    let mut done = CommitRound::default();
    let mut captures = Vec::with_capacity(taken.len());
    for log in taken.into_values() {
        match log.capture() {
            Ok(capture) => captures.push((log, capture)),
            Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => done.starved.push(log),
            Err(IoFailure::Failed(failed)) => return Err(failed),
        }
    }
    // While data keeps coming, ends are recorded once in so many rounds: the record only says from
    // where recovery must look, and an older one is weaker but true. Each record is synced before the
    // next is appended, so that only the last can be torn.
    let waited = shared.rounds_since_record.fetch_add(1, Ordering::SeqCst) + 1;
    let record = if captures.is_empty() || waited >= RECORD_ROUNDS_MAX {
        shared.rounds_since_record.store(0, Ordering::SeqCst);
        record_previous(shared)?
    } else {
        Record::NotDue
    };
    let unnamed = sync(shared, &captures, record == Record::Appended)?;
    for (index, (log, capture)) in captures.into_iter().enumerate() {
        if unnamed.contains(&index) {
            log.give_back(&capture);
            done.starved.push(log);
        } else if log.publish(&capture) {
            done.published.push(log);
        }
    }
    let unrecorded = record != Record::Starved && !lock(&shared.unrecorded).is_empty();
    done.unrecorded = record == Record::Starved;
    done.more = unrecorded || !lock(&shared.dirty).is_empty();
    for log in &done.starved {
        log.queue();
    }
    Ok(done)
}

/// What became of the record of the previous round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    /// It reached nothing.
    NotDue,
    /// It waits for the sync.
    Appended,
    /// There was no space for it.
    Starved,
}

/// Appends what the previous round reached.
fn record_previous(shared: &Shared) -> Result<Record, DirectoryFailed> {
    let mut ends = lock(&shared.ends);
    let entries = std::mem::take(&mut *lock(&shared.unrecorded));
    if entries.is_empty() {
        return Ok(Record::NotDue);
    }
    let appended = ends.append(shared, entries.clone());
    match shared.judge(appended) {
        Ok(()) => Ok(Record::Appended),
        Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => {
            // An older record is weaker but true. The ends wait for a round that finds space.
            put_back(shared, entries);
            Ok(Record::Starved)
        }
        Err(IoFailure::Failed(failed)) => Err(failed),
    }
}

fn put_back(
    shared: &Shared,
    entries: BTreeMap<super::durable_ends::PartitionKey, super::durable_ends::Recorded>,
) {
    let mut unrecorded = lock(&shared.unrecorded);
    for (key, recorded) in entries {
        unrecorded.entry(key).or_insert(recorded);
    }
}

/// Syncs what was captured. Returns the captures whose directory could not be opened.
fn sync(
    shared: &Shared,
    captures: &[(Arc<Log>, Capture)],
    recorded: bool,
) -> Result<BTreeSet<usize>, DirectoryFailed> {
    let root = shared.names_unsynced.swap(false, Ordering::SeqCst);
    if captures.is_empty() && !recorded && !root {
        return Ok(BTreeSet::new());
    }
    let result = match shared.config.commit {
        CommitMode::SyncFs => shared.file_system.sync().map(|()| BTreeSet::new()),
        CommitMode::FileByFile => sync_each(shared, captures, recorded, root),
    };
    result.map_err(|error| shared.fail(error))
}

fn sync_each(
    shared: &Shared,
    captures: &[(Arc<Log>, Capture)],
    recorded: bool,
    root: bool,
) -> std::io::Result<BTreeSet<usize>> {
    let mut unnamed = BTreeSet::new();
    if recorded {
        let file = lock(&shared.ends).file();
        file.sync_data()?;
    }
    for (index, (log, capture)) in captures.iter().enumerate() {
        for file in &capture.files {
            file.sync_data()?;
        }
        if capture.names {
            match shared.disk.sync_dir(log.path()) {
                Err(error) if is_exhausted(&error) => {
                    unnamed.insert(index);
                }
                // Deleted, or put aside and begun anew, meanwhile: its directory has another name.
                Err(error) if error.kind() == ErrorKind::NotFound && !log.is_captured(capture) => {}
                other => other?,
            }
        }
    }
    if root {
        shared.file_system.sync_names()?;
    }
    Ok(unnamed)
}

//! The commit round: group commit of everything that was written to a directory (P6).
//!
//! ```text
//! take the dirty logs, note their written ends and generations
//! append the ends that the previous round reached to durable-ends.log, and how far the journal is settled
//! sync: the journal with what is small, every other file and directory that changed, and a few of the
//!       files of which the journal has more; or the file system once
//! publish the noted ends of logs that were not cut or started anew meanwhile
//! ```
//! A sync of one file after another takes as long as there are files: a round takes so many logs at most
//! that the journal cannot serve, those first that have records, and the next ones take the others. The
//! first records of a thousand new partitions would else hold up everybody's.
//!
//! The files of what is in the journal are due by and by ([`Unsettled::due`]), the oldest first, so that
//! nobody waits for all of them at once; a few at a time as well when the directory is idle. Only where the
//! journal is full all the same, descriptors run out or the broker stops, a round syncs all.
//!
//! Appends go on during all of it. Ends are recorded once in [`RECORD_ROUNDS_MAX`] busy rounds and in
//! every idle one. A record lags one round, so what it says was synced before it was
//! written; a directory that falls idle runs one more round, which records and syncs nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::durable_ends::{JOURNAL, PartitionKey, Recorded};
use super::journal::{Range, Room};
use super::shared::{IoFailure, Shared};
use crate::config::{CommitMode, Durability};
use crate::disk::DiskFile;
use crate::disk::is_exhausted;
use crate::error::DirectoryFailed;
use crate::lock::lock;
use crate::log::{Capture, Log, LogName, Need};

/// Busy rounds that one record covers: what a crash makes recovery scan again is at most what so many
/// rounds wrote.
const RECORD_ROUNDS_MAX: u32 = 16;

/// Logs whose files one round of an idle directory settles at most: who appends meanwhile waits for them.
const IDLE_LOGS_MAX: usize = 4;

/// What a round did.
#[derive(Debug, Default)]
pub struct CommitRound {
    /// The logs whose durable end this round set.
    pub published: Vec<Arc<Log>>,
    /// Whether another round is due: something was written meanwhile, or what this round reached
    /// is not recorded yet.
    pub more: bool,
    /// Whether that is all: what this round reached is to be recorded. Nobody waits for it.
    pub only_records: bool,
    /// Whether something that was called for has to wait for a later round: logs for their turn, or the
    /// settling of a directory that is not idle.
    pub puts_off: bool,
    /// Whether a round of an idle directory left files for the next one to settle.
    pub settles_on: bool,
    /// Whether the disk was too full to record what the previous round reached, and log starts that
    /// moved: a later round does.
    pub unrecorded: bool,
    /// Logs that the round left out because the disk is full, or for want of descriptors or memory;
    /// a later round tries again.
    pub starved: Vec<Arc<Log>>,
}

/// When the files of what the journal holds are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settle {
    /// As they become due.
    InTime,
    /// A few, for nobody waits.
    Some,
    /// All.
    All,
}

pub(super) fn round(shared: &Shared, settle: Settle) -> Result<CommitRound, DirectoryFailed> {
    shared.alive()?;
    let mut taken = std::mem::take(&mut *lock(&shared.dirty));
    // Nobody waits for the rounds of a relaxed directory.
    let is_relaxed = shared.config.durability == Durability::Relaxed;
    let by_turns = shared.config.commit != CommitMode::SyncFs && !is_relaxed;
    // So many are not idle: those that wait would wait for the files of everybody.
    let is_put_off = settle != Settle::InTime && by_turns && {
        let turns = lock(&shared.turns);
        let waiting = taken.keys().filter(|id| !turns.is_in_want(**id)).count();
        waiting > shared.config.round_logs_max
    };
    let settle = if is_put_off { Settle::InTime } else { settle };
    // Rounds alone write to the journal, one at a time.
    let (sequence, mut room, settles, due) = settling(shared, settle);
    let journals = settle != Settle::All && !settles;
    // Those whose files this round settles.
    let (before, settled) = {
        let unsettled = lock(&shared.unsettled);
        (unsettled.len(), unsettled.oldest(due))
    };
    let mut done = CommitRound {
        puts_off: is_put_off,
        ..CommitRound::default()
    };
    if by_turns && settle == Settle::InTime {
        taken.retain(|id, _| !settled.contains_key(id));
        let waiting = put_off(shared, &mut taken, journals.then(|| room.clone()));
        done.puts_off |= !waiting.is_empty();
        // They still count as queued.
        lock(&shared.dirty).extend(waiting);
    }
    // While one of these is left out the journal may hold more than the files.
    let must_settle: BTreeSet<u64> = settled.keys().copied().collect();
    taken.extend(settled);
    {
        let mut turns = lock(&shared.turns);
        taken.keys().for_each(|id| turns.take(*id));
    }
    let mut captures = Vec::with_capacity(taken.len());
    for log in taken.into_values() {
        let room = (journals && !must_settle.contains(&log.id())).then_some(&mut room);
        match log.capture(room, sequence) {
            Ok(capture) => captures.push((log, capture)),
            Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => done.starved.push(log),
            Err(IoFailure::Failed(failed)) => return Err(failed),
        }
    }
    // While data keeps coming, ends are recorded once in so many rounds: the record only says from
    // where recovery must look, and an older one is weaker but true. Each record is synced before the
    // next is appended, so that only the last can be torn.
    let waited = shared.rounds_since_record.fetch_add(1, Ordering::SeqCst) + 1;
    let reached = lock(&shared.unsettled).settled(sequence);
    let is_due = captures.is_empty() || is_relaxed || waited >= RECORD_ROUNDS_MAX;
    let record = if is_due || lock(&shared.journal).wants_record(reached) {
        shared.rounds_since_record.store(0, Ordering::SeqCst);
        record_previous(shared, reached)?
    } else {
        Record::NotDue
    };
    let journal = write_journal(shared, &captures)?;
    let mut unnamed = sync(shared, &captures, record == Record::Appended, &journal)?;
    if record == Record::Appended {
        lock(&shared.journal).settle(reached);
    }
    unnamed.extend(journal.left_out);
    publish(shared, captures, &unnamed, &mut done)?;
    let mut starved = record == Record::Starved;
    let is_whole = {
        let mut unsettled = lock(&shared.unsettled);
        // Where none of them could be, another round at once could not either.
        done.settles_on = settle == Settle::Some && !settles && unsettled.len() < before;
        unsettled.note_turn(&must_settle)
    };
    if settles && is_whole {
        starved = !record_settled(shared, sequence)?;
    }
    // A round that was to settle and could not would reach the same ends again at once.
    let is_in_vain = settles && !is_whole;
    let unrecorded = !starved && !is_in_vain && !lock(&shared.unrecorded).is_empty();
    done.unrecorded = starved;
    let mut turns = lock(&shared.turns);
    done.starved
        .iter()
        .for_each(|log| turns.leave_out(log.id()));
    let dirty = lock(&shared.dirty);
    let waits = dirty.keys().any(|id| !turns.is_in_want(*id));
    done.more = is_put_off || unrecorded || waits;
    done.only_records = unrecorded && !is_put_off && !waits;
    if !done.more {
        // The next round comes after a pause, or with something new. Those that were left out earlier
        // and have had no other turn are told as well: else nobody would come for them.
        done.starved.extend(dirty.values().cloned());
        turns.pause();
    }
    drop((turns, dirty));
    for log in &done.starved {
        log.queue();
    }
    Ok(done)
}

/// Takes over what was synced, of all but those that are `unnamed`.
fn publish(
    shared: &Shared,
    captures: Vec<(Arc<Log>, Capture)>,
    unnamed: &BTreeSet<usize>,
    done: &mut CommitRound,
) -> Result<(), DirectoryFailed> {
    for (index, (log, capture)) in captures.into_iter().enumerate() {
        if unnamed.contains(&index) {
            log.give_back(&capture);
            done.starved.push(log);
            continue;
        }
        let id = log.id();
        let published = log.publish(&capture);
        let is_closed_and_settled = capture.is_closed && settle_closed(shared, &log)?;
        if published.files || is_closed_and_settled {
            // Only now: that it is so is to be recorded no later than that the journal need not say it.
            lock(&shared.unsettled).remove(id);
        }
        if published.end {
            done.published.push(log);
        }
    }
    Ok(())
}

/// Settles a log that was closed, where whoever closed it could not. Whether it did.
fn settle_closed(shared: &Shared, log: &Log) -> Result<bool, DirectoryFailed> {
    let is_unsettled = || lock(&shared.unsettled).contains(log.id());
    match log.settle_closed(is_unsettled) {
        Ok(is_settled) => Ok(is_settled),
        Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => Ok(false),
        Err(IoFailure::Failed(failed)) => Err(failed),
    }
}

/// What a round finds of the journal: its last record, the room in it, whether the round settles all that
/// is in it, and of how many logs it settles the files.
fn settling(shared: &Shared, settle: Settle) -> (i64, Room, bool, usize) {
    let (few, most) = (shared.config.round_logs_max, shared.config.open_files_max);
    let idle = few.min(IDLE_LOGS_MAX);
    let mut journal = lock(&shared.journal);
    let mut unsettled = lock(&shared.unsettled);
    let logs = unsettled.len();
    let short = shared.short_of_files.swap(false, Ordering::SeqCst);
    let all = match settle {
        Settle::All => true,
        Settle::Some => short || logs <= idle,
        Settle::InTime => short || journal.is_full() || logs >= most,
    };
    let settles = all && !journal.is_settled();
    let in_time = unsettled.due(journal.written(), journal.lap_bytes());
    let due = match settle {
        _ if all => logs,
        // Each holds a file open, and soon all would have to go at once.
        Settle::InTime if logs + few >= most => in_time.max(few),
        Settle::InTime => in_time,
        Settle::Some | Settle::All => in_time.max(idle),
    };
    (journal.last_sequence(), journal.room(), settles, due)
}

/// Takes out of the dirty logs those whose turn comes in a later round. `room` is that of the journal,
/// where the round writes to it.
fn put_off(
    shared: &Shared,
    dirty: &mut BTreeMap<u64, Arc<Log>>,
    mut room: Option<Room>,
) -> Vec<(u64, Arc<Log>)> {
    let most = shared.config.round_logs_max;
    if dirty.len() <= most {
        return Vec::new();
    }
    let (mut with_records, mut others) = (Vec::new(), Vec::new());
    for (id, log) in dirty.iter() {
        match log.need(room.as_mut()) {
            Need::Journal => {}
            Need::Records => with_records.push(*id),
            Need::Rest => others.push(*id),
        }
    }
    let waiting = lock(&shared.turns).leave_waiting(with_records, others, most);
    waiting
        .iter()
        .filter_map(|id| dirty.remove_entry(id))
        .collect()
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

/// Appends what the previous round reached, and that the files have all that the journal has up to
/// `settled`.
fn record_previous(shared: &Shared, settled: i64) -> Result<Record, DirectoryFailed> {
    let mut ends = lock(&shared.ends);
    let entries = std::mem::take(&mut *lock(&shared.unrecorded));
    let marker = ends
        .get(JOURNAL)
        .filter(|one| one.journal_sequence < settled);
    if entries.is_empty() && marker.is_none() {
        return Ok(Record::NotDue);
    }
    let mut all = entries.clone();
    all.extend(marker.map(|marker| (JOURNAL, settled_up_to(settled, marker))));
    let appended = ends.append(shared, all);
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

/// Records durably that the files have everything that the journal has up to `sequence`, and begins
/// the journal again. Whether there was space for it.
fn record_settled(shared: &Shared, sequence: i64) -> Result<bool, DirectoryFailed> {
    {
        let mut ends = lock(&shared.ends);
        let entries = std::mem::take(&mut *lock(&shared.unrecorded));
        let marker = ends.get(JOURNAL).unwrap_or(Recorded::NOTHING);
        let mut all = entries.clone();
        all.insert(JOURNAL, settled_up_to(sequence, marker));
        let appended = ends.append(shared, all);
        match shared.judge(appended) {
            Ok(()) => {}
            Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => {
                put_back(shared, entries);
                return Ok(false);
            }
            Err(IoFailure::Failed(failed)) => return Err(failed),
        }
        ends.sync().map_err(|error| shared.fail(error))?;
    }
    lock(&shared.journal).settle(sequence);
    lock(&shared.unsettled).clear();
    Ok(true)
}

fn settled_up_to(sequence: i64, marker: Recorded) -> Recorded {
    Recorded {
        journal_sequence: sequence,
        ..marker
    }
}

/// What a round wrote to the journal.
#[derive(Debug, Default)]
struct Journaled {
    /// The journal, to be synced.
    file: Option<Arc<dyn DiskFile>>,
    /// The captures for which there was no space.
    left_out: Vec<usize>,
}

/// Writes what was captured for the journal.
fn write_journal(
    shared: &Shared,
    captures: &[(Arc<Log>, Capture)],
) -> Result<Journaled, DirectoryFailed> {
    let is_wanted = |capture: &Capture| capture.journal.is_some();
    if !captures.iter().any(|(_, capture)| is_wanted(capture)) {
        return Ok(Journaled::default());
    }
    let mut journal = lock(&shared.journal);
    // Under the journal's lock: a log that is cut from here on makes void what is written now.
    let ranges: Vec<(&LogName, &Range, esker_protocol::Offset)> = {
        let (next, written) = (journal.last_sequence() + 1, journal.written());
        // And under this one: a log that is closed from here on is taken out again.
        let mut unsettled = lock(&shared.unsettled);
        captures
            .iter()
            .filter_map(|(log, capture)| Some((log, capture, capture.journal.as_ref()?)))
            .filter(|(log, capture, _)| log.is_captured(capture))
            .map(|(log, capture, range)| {
                // Until a round has settled it, it must not go.
                unsettled.add(log.id(), log, next, written);
                (log.name(), range, capture.end)
            })
            .collect()
    };
    if ranges.is_empty() {
        return Ok(Journaled::default());
    }
    let written = journal.write(&ranges);
    drop(journal);
    match shared.judge(written) {
        Ok(file) => Ok(Journaled {
            file,
            left_out: Vec::new(),
        }),
        Err(IoFailure::NoSpace | IoFailure::Exhausted(_)) => Ok(Journaled {
            file: None,
            left_out: (captures.iter().enumerate())
                .filter_map(|(index, (_, capture))| is_wanted(capture).then_some(index))
                .collect(),
        }),
        Err(IoFailure::Failed(failed)) => Err(failed),
    }
}

fn put_back(shared: &Shared, entries: BTreeMap<PartitionKey, Recorded>) {
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
    journal: &Journaled,
) -> Result<BTreeSet<usize>, DirectoryFailed> {
    let root = shared.names_unsynced.swap(false, Ordering::SeqCst);
    if captures.is_empty() && !recorded && !root {
        return Ok(BTreeSet::new());
    }
    if let Some(file) = &journal.file {
        file.sync_data().map_err(|error| shared.fail(error))?;
    }
    let result = match shared.config.commit {
        CommitMode::SyncFs => shared.file_system.sync().map(|()| {
            if recorded {
                lock(&shared.ends).note_synced();
            }
            BTreeSet::new()
        }),
        CommitMode::FileByFile | CommitMode::Journal => sync_each(shared, captures, recorded, root),
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
        lock(&shared.ends).sync()?;
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

#[cfg(test)]
mod tests;

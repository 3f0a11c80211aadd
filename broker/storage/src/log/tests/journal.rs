//! Logs whose directory has a journal.

use super::*;
use crate::disk::OpenMode;

/// Opens what a power cut left, and gives the end and the report.
fn after_power_cut(disk: &MemoryDisk, seed: u64) -> (Arc<LogDirectory>, Arc<Log>, RecoveryReport) {
    let disk = disk.after_power_cut(seed);
    let directory = open(&disk).unwrap();
    let (log, report) = open_log(&directory).unwrap();
    (directory, log, report)
}

#[test]
fn one_sync_of_the_journal_makes_an_append_durable() {
    let rig = Rig::journaling();
    rig.append(10);
    rig.settle();
    for _ in 0..3 {
        rig.append(50);
        let round = rig.directory.commit_round().unwrap();
        assert_eq!(round.published.len(), 1);
        assert!(!round.more, "nothing waits to be recorded");
    }
    assert_eq!(rig.log.durable_end(), Offset(4));
    assert!(!rig.directory.is_settled());
    for seed in 0..40 {
        let (directory, log, report) = after_power_cut(&rig.disk, seed);
        assert_eq!(
            (log.written_end(), report.damage),
            (Offset(4), None),
            "seed {seed}"
        );
        // Whatever else happens: the next start has it too.
        drop((directory, log));
        let again = after_power_cut(&rig.disk.after_power_cut(seed), seed + 1);
        assert_eq!(again.1.written_end(), Offset(4), "seed {seed}");
    }
}

#[test]
fn a_settled_journal_leaves_nothing_to_replay() {
    let rig = Rig::journaling();
    rig.append(10);
    rig.settle();
    rig.append(10);
    rig.settle();
    assert!(!rig.directory.is_settled());
    rig.directory.settle_round().unwrap();
    assert!(rig.directory.is_settled());
    assert!(!rig.directory.needs_commit());
    rig.disk.remove_file(Path::new("d/journal.log")).unwrap();
    for seed in 0..20 {
        assert_eq!(
            after_power_cut(&rig.disk, seed).1.written_end(),
            Offset(2),
            "seed {seed}"
        );
    }
}

#[test]
fn what_the_journal_proved_must_be_there() {
    let rig = Rig::journaling();
    rig.append(10);
    rig.settle();
    rig.append(10);
    rig.settle();
    let disk = rig.disk.after_kill();
    drop(open(&disk).unwrap());
    // Replayed, recorded and gone: its end counts like any other.
    let segment = disk.open(&log_path(0), OpenMode::Write).unwrap();
    let length = segment.len().unwrap();
    segment.truncate(length - 1).unwrap();
    let directory = open(&disk).unwrap();
    let error = open_log(&directory).unwrap_err();
    assert!(
        matches!(
            &error,
            OpenLogError::Damaged {
                recorded_end: Some(Offset(2)),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_cut_loses_nothing_below_it_that_only_the_journal_had() {
    for changes in 1..60 {
        let rig = Rig::journaling();
        rig.append(10);
        rig.settle();
        for _ in 0..3 {
            rig.append(50);
            rig.settle();
        }
        rig.disk.crash_at(rig.disk.operations() + changes);
        let done = rig.log.truncate_to(Offset(3)).is_ok();
        for seed in 0..8 {
            let (_, log, _) = after_power_cut(&rig.disk, seed);
            let end = log.written_end();
            let ends = if done { 3..=3 } else { 3..=4 };
            assert!(
                ends.contains(&end.0),
                "{end} after {changes} changes, seed {seed}"
            );
        }
        if done {
            assert!(changes > 3, "every step was interrupted");
            return;
        }
    }
    panic!("the cut takes more steps than that");
}

#[test]
fn a_deleted_log_does_not_come_back_out_of_the_journal() {
    let rig = Rig::journaling();
    rig.append(10);
    rig.settle();
    rig.append(10);
    rig.settle();
    rig.directory.delete_log(&rig.log).unwrap();
    let (log, _) = open_log(&rig.directory).unwrap();
    assert_eq!(log.written_end(), Offset(0));
    drop(log);
    rig.settle();
    for seed in 0..20 {
        assert_eq!(
            after_power_cut(&rig.disk, seed).1.written_end(),
            Offset(0),
            "seed {seed}"
        );
    }
}

#[test]
fn without_room_for_the_journal_the_files_are_synced() {
    let rig = Rig::journaling();
    rig.append(10);
    rig.settle();
    rig.append(10);
    rig.disk.set_capacity(0);
    let round = rig.directory.commit_round().unwrap();
    assert_eq!((round.published.len(), round.starved.len()), (0, 1));
    let round = rig.directory.commit_round().unwrap();
    assert_eq!((round.published.len(), round.starved.len()), (1, 0));
    assert_eq!(rig.log.durable_end(), Offset(2));
    assert!(rig.directory.is_settled());
    rig.disk.set_capacity(u64::MAX);
    assert_eq!(after_power_cut(&rig.disk, 1).1.written_end(), Offset(2));
}

//! Logs whose directory has a journal.

use super::*;
use crate::CommitMode;
use crate::disk::OpenMode;
use crate::testing::{new_partition_with, open_partition};

/// Opens what a power cut left, and gives the end and the report.
fn after_power_cut(disk: &MemoryDisk, seed: u64) -> (Arc<LogDirectory>, Arc<Log>, RecoveryReport) {
    let disk = disk.after_power_cut(seed);
    let directory = open(&disk).unwrap();
    let (log, report) = open_log(&directory).unwrap();
    (directory, log, report)
}

/// Whatever unsynced writes a power cut keeps, the log ends here.
fn assert_ends_after_power_cuts(rig: &Rig, end: Offset) {
    for seed in 0..20 {
        let (_, log, _) = after_power_cut(&rig.disk, seed);
        assert_eq!(log.written_end(), end, "seed {seed}");
    }
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
    assert_ends_after_power_cuts(&rig, Offset(2));
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
    assert_ends_after_power_cuts(&rig, Offset(0));
}

#[test]
fn without_room_for_the_journal_the_files_are_synced() {
    let rig = Rig::journaling();
    rig.append(10);
    rig.settle();
    rig.append(10);
    fill(&rig.disk);
    let round = rig.directory.commit_round().unwrap();
    assert_eq!((round.published.len(), round.starved.len()), (0, 1));
    let round = rig.directory.commit_round().unwrap();
    assert_eq!((round.published.len(), round.starved.len()), (1, 0));
    assert_eq!(rig.log.durable_end(), Offset(2));
    assert!(rig.directory.is_settled());
    rig.disk.set_capacity(u64::MAX);
    assert_eq!(after_power_cut(&rig.disk, 1).1.written_end(), Offset(2));
}

fn journaling() -> DirectoryConfig {
    DirectoryConfig {
        commit: CommitMode::Journal,
        ..DirectoryConfig::new("d")
    }
}

/// Logs with one batch each.
fn many(directory: &LogDirectory, count: i32) -> Vec<Arc<Log>> {
    let open = |index| {
        let opened = directory.open_log("many", index, TopicId([2; 16]), log_config(), NOW);
        let (log, _) = opened.unwrap();
        log.begin_epoch(EPOCH).unwrap();
        append_to(&log, 10);
        log
    };
    (0..count).map(open).collect()
}

#[test]
fn a_replay_touches_each_file_once() {
    let operations = |count, rounds| {
        let disk = MemoryDisk::new();
        let directory = open_with(&disk, journaling()).unwrap();
        let logs = many(&directory, count);
        while directory.commit_round().unwrap().more {}
        for _ in 0..rounds {
            logs.iter().for_each(|log| _ = append_to(log, 10));
            directory.commit_round().unwrap();
        }
        let disk = disk.after_kill();
        let before = disk.operations();
        drop(open_with(&disk, journaling()).unwrap());
        disk.operations() - before
    };
    // A write per batch; opening and syncing do not multiply.
    let (few, often) = (operations(300, 1), operations(300, 4));
    assert!(often < few + 300 * 4, "{few}, {often}");
}

#[test]
fn the_void_of_a_torn_record_is_not_the_void_of_the_next() {
    for seed in 0..60 {
        let disk = MemoryDisk::new();
        let hooked = Hooked::new(disk.clone(), "journal.log");
        let shared: Arc<dyn crate::Disk> = Arc::new(hooked.clone());
        let directory =
            LogDirectory::open(shared, journaling(), &identity(), &mut || [3; 16]).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        log.begin_epoch(EPOCH).unwrap();
        for _ in 0..4 {
            append_to(&log, 10);
            while directory.commit_round().unwrap().more {}
        }
        append_to(&log, 10);
        let (dying, cut) = (disk.clone(), Arc::clone(&log));
        hooked.before_sync(move || {
            cut.truncate_to(Offset(3)).unwrap();
            dying.crash_at(dying.operations() + 1);
            let _ = dying.create_dir_all(Path::new("elsewhere"));
        });
        directory.commit_round().unwrap_err();
        let disk = disk.after_power_cut(seed);
        let directory = open_with(&disk, journaling()).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        let epoch = LeaderEpoch(2);
        log.begin_epoch(epoch).unwrap();
        for _ in 0..2 {
            log.append_as_leader(&batch(10), epoch, NOW, false).unwrap();
            directory.commit_round().unwrap();
        }
        let acknowledged = log.durable_end();
        let disk = disk.after_power_cut(seed + 1000);
        let directory = open_with(&disk, journaling()).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        assert!(log.written_end() >= acknowledged, "seed {seed}");
    }
}

#[test]
fn a_log_deleted_without_space_and_made_again_is_its_own() {
    let rig = Rig::journaling();
    for _ in 0..2 {
        rig.append(10);
        rig.directory.commit_round().unwrap();
    }
    fill(&rig.disk);
    rig.directory.delete_log(&rig.log).unwrap();
    let refused = open_log(&rig.directory).unwrap_err();
    assert!(matches!(refused, OpenLogError::NoSpace { .. }), "{refused}");
    rig.disk.set_capacity(u64::MAX);
    let (log, _) = open_log(&rig.directory).unwrap();
    log.begin_epoch(EPOCH).unwrap();
    log.append_as_leader(&batch(300), EPOCH, NOW, false)
        .unwrap();
    rig.directory.commit_round().unwrap();
    for seed in 0..20 {
        let (_, log, report) = after_power_cut(&rig.disk, seed);
        assert_eq!(
            (log.written_end(), report.damage),
            (Offset(1), None),
            "seed {seed}"
        );
    }
}

#[test]
fn a_journal_that_is_missing_proves_nothing() {
    let rig = Rig::journaling();
    rig.append(10);
    rig.settle();
    rig.append(10);
    rig.settle();
    assert!(!rig.directory.records_lost());
    for lost in ["d/journal.log", "d/durable-ends.log"] {
        let disk = rig.disk.after_power_cut(1);
        disk.remove_file(Path::new(lost)).unwrap();
        let directory = open_with(&disk, journaling()).unwrap();
        assert!(directory.records_lost(), "{lost}");
        let (_, report) = open_log(&directory).unwrap();
        assert!(report.records_lost, "{lost}");
        let kept = disk.exists(Path::new("d/journal.log.0.aside")).unwrap();
        assert_eq!(
            kept,
            lost == "d/durable-ends.log",
            "what cannot be replayed is kept"
        );
    }
}

#[test]
fn a_cut_after_a_replay_remembers_what_must_be_there() {
    let rig = Rig::journaling();
    for _ in 0..6 {
        rig.append(10);
        rig.settle();
    }
    let disk = rig.disk.after_kill();
    let directory = open_with(&disk, journaling()).unwrap();
    let (log, _) = open_log(&directory).unwrap();
    log.truncate_to(Offset(5)).unwrap();
    let disk = disk.after_kill();
    let segment = disk.open(&log_path(0), OpenMode::Write).unwrap();
    segment.truncate(segment.len().unwrap() - 100).unwrap();
    let directory = open_with(&disk, journaling()).unwrap();
    let error = open_log(&directory).unwrap_err();
    assert!(matches!(error, OpenLogError::Damaged { .. }), "{error}");
}

#[test]
fn logs_that_only_wait_to_be_settled_let_their_files_go() {
    let disk = MemoryDisk::new();
    let config = DirectoryConfig {
        open_files_max: 64,
        ..journaling()
    };
    let directory = open_with(&disk, config).unwrap();
    let logs = many(&directory, 300);
    while directory.commit_round().unwrap().more {}
    let held = || -> usize { logs.iter().map(|log| log.state().unsynced.len()).sum() };
    for log in &logs {
        append_to(log, 10);
        while directory.commit_round().unwrap().more {}
        assert!(held() <= 65, "{}", held());
    }
    // Out of descriptors: the next round settles, whatever it holds.
    append_to(&logs[0], 10);
    directory.commit_round().unwrap();
    disk.limit_opens(Some(0));
    let refused = logs[200].append_as_leader(&batch(10), EPOCH, NOW, false);
    assert!(
        matches!(refused, Err(AppendError::Exhausted(_))),
        "{refused:?}"
    );
    directory.commit_round().unwrap();
    assert_eq!(held(), 0);
}

#[test]
fn files_are_synced_a_few_at_a_time_while_records_keep_coming() {
    // With so many of the logs in each round.
    for (rounds, count, each) in [(300, 40, 1), (900, 40, 1), (2000, 40, 1), (900, 8, 8)] {
        let disk = MemoryDisk::new();
        let config = DirectoryConfig {
            journal_bytes_max: 2 << 20,
            ..journaling()
        };
        let directory = open_with(&disk, config).unwrap();
        // In segments that do not end meanwhile.
        let roomy = |partition| new_partition_with(&directory, partition, LogConfig::default());
        let logs: Vec<Arc<Log>> = (0..count).map(roomy).collect();
        while directory.commit_round().unwrap().more {}
        let files_ends = || logs.iter().map(|log| log.state().files_end);
        let mut settled = vec![0; logs.len()];
        for round in 0..rounds {
            for more in 0..each {
                append_to(&logs[(round + more) % logs.len()], 10 + round % 7 * 1000);
            }
            let before: Vec<Offset> = files_ends().collect();
            directory.commit_round().unwrap();
            let is_durable = |log: &Arc<Log>| log.durable_end() == log.written_end();
            assert!(logs.iter().all(is_durable), "round {round}");
            let moved = files_ends()
                .zip(before)
                .map(|(after, before)| after > before);
            let moved: Vec<bool> = moved.collect();
            assert!(moved.iter().filter(|moved| **moved).count() <= 2);
            let counts = settled.iter_mut().zip(moved);
            counts.for_each(|(count, moved)| *count += usize::from(moved));
        }
        let turns = settled.iter().min();
        assert!(
            turns.is_some_and(|turns| *turns >= rounds / 600),
            "{settled:?}"
        );
        let journal = disk.len(Path::new("d/journal.log")).unwrap();
        assert!(journal.is_some_and(|bytes| bytes <= 2 << 20), "{journal:?}");
        let directory = open_with(&disk.after_power_cut(1), journaling()).unwrap();
        for log in &logs {
            let (again, _) = open_partition(&directory, log.name().partition).unwrap();
            assert_eq!(again.written_end(), log.durable_end());
        }
    }
}

#[test]
fn records_of_ends_are_never_torn_in_the_middle() {
    for seed in 0..200 {
        let disk = MemoryDisk::new();
        let hooked = Hooked::new(disk.clone(), "journal.log");
        let shared: Arc<dyn crate::Disk> = Arc::new(hooked.clone());
        let directory =
            LogDirectory::open(shared, journaling(), &identity(), &mut || [3; 16]).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        log.begin_epoch(EPOCH).unwrap();
        append_to(&log, 10);
        let others = many(&directory, 40);
        while directory.commit_round().unwrap().more {}
        // Something to record in a later round: these are synced in their files.
        for one in &others {
            one.begin_epoch(LeaderEpoch(2)).unwrap();
        }
        let ends = Path::new("d/durable-ends.log");
        for _ in 0..20 {
            append_to(&log, 10);
            let before = disk.len(ends).unwrap();
            let (dying, of, victim) =
                (disk.clone(), Arc::clone(&directory), Arc::clone(&others[0]));
            hooked.after_sync(move || {
                if dying.len(Path::new("d/durable-ends.log")).unwrap() > before {
                    // Meanwhile a log is deleted, and the power goes in the sync of its record.
                    dying.crash_at(dying.operations() + 3 + seed % 3);
                    let _ = of.delete_log(&victim);
                }
            });
            if directory.commit_round().is_err() {
                break;
            }
        }
        let acknowledged = log.durable_end();
        let disk = disk.after_power_cut(seed);
        let directory = open_with(&disk, journaling()).unwrap();
        assert!(!directory.records_lost(), "seed {seed}");
        let (log, _) = open_log(&directory).unwrap();
        assert!(log.written_end() >= acknowledged, "seed {seed}");
    }
}

use std::ops::Range;

use esker_protocol::{LeaderEpoch, Offset};

use super::*;
use crate::disk::Disk as _;
use crate::testing::{
    EPOCH, NOW, Rig, append_to, batch, fill, new_partition, new_partition_with, open, open_log,
    open_partition, open_with,
};
use crate::{DirectoryConfig, LogConfig, MemoryDisk};

/// More than the journal takes of one log.
const LARGE: usize = 300 << 10;

/// Logs with room for large batches.
fn roomy_partitions(rig: &Rig, partitions: Range<i32>) -> Vec<Arc<Log>> {
    let config = LogConfig::default();
    partitions
        .map(|partition| new_partition_with(&rig.directory, partition, config.clone()))
        .collect()
}

/// The same, known to the disk and with nothing to sync.
fn settled_partitions(rig: &Rig, partitions: Range<i32>) -> Vec<Arc<Log>> {
    let logs = roomy_partitions(rig, partitions);
    rig.settle();
    logs
}

#[test]
fn a_round_publishes_and_the_next_records() {
    let rig = Rig::new();
    rig.append(10);
    assert_eq!(rig.log.durable_end(), Offset(0));
    assert!(rig.directory.needs_commit());
    let round = rig.directory.commit_round().unwrap();
    assert_eq!(round.published.len(), 1);
    assert!(round.more && round.only_records && !round.puts_off);
    assert_eq!(rig.log.durable_end(), Offset(1));
    let round = rig.directory.commit_round().unwrap();
    assert!(round.published.is_empty() && !round.more);
    assert!(!rig.directory.needs_commit());
    let directory = open(&rig.power_cut(1)).unwrap();
    assert_eq!(
        open_log(&directory).unwrap().1.recorded_end,
        Some(Offset(1))
    );
}

#[test]
fn relaxed_durability_counts_what_is_written_and_records_what_is_synced() {
    let disk = MemoryDisk::new();
    let config = DirectoryConfig {
        durability: Durability::Relaxed,
        ..DirectoryConfig::new("d")
    };
    let directory = open_with(&disk, config).unwrap();
    let (log, _) = open_log(&directory).unwrap();
    log.begin_epoch(EPOCH).unwrap();
    log.append_as_leader(&batch(1), EPOCH, NOW, false).unwrap();
    assert_eq!(
        (log.durable_end(), log.synced_end()),
        (Offset(1), Offset(0))
    );
    while directory.commit_round().unwrap().more {}
    assert_eq!(log.synced_end(), Offset(1));
}

#[test]
fn new_logs_take_turns_and_hold_nobody_up() {
    let rig = Rig::journaling();
    rig.append(10);
    rig.settle();
    let most = DirectoryConfig::new("d").round_logs_max;
    let new = |partition| new_partition(&rig.directory, partition);
    let count = i32::try_from(4 * most).unwrap();
    let empty: Vec<_> = (1..=count).map(new).collect();
    let written: Vec<_> = (count + 1..=2 * count).map(new).collect();
    written.iter().for_each(|log| _ = append_to(log, 10));
    let (mut rounds, mut seen) = (0, Vec::new());
    // Those with records come first, and what is in the journal comes with every round.
    while written.iter().any(|log| log.durable_end() != Offset(1)) {
        let end = rig.append(10).end;
        // Nor does a directory settle that was thought to be idle.
        let round = match rounds % 2 {
            0 => rig.directory.commit_round().unwrap(),
            _ => rig.directory.settle_round().unwrap(),
        };
        assert_eq!(rig.log.durable_end(), end, "round {rounds}");
        assert!(round.more && round.puts_off && !round.only_records);
        assert!(round.published.len() <= most + 1);
        seen.extend(round.published.iter().map(|log| log.name().partition));
        rounds += 1;
    }
    assert_eq!(rounds, 4);
    assert!(
        empty
            .iter()
            .all(|log| !seen.contains(&log.name().partition))
    );
    while rig.directory.commit_round().unwrap().more {
        rounds += 1;
        assert!(rounds < 20, "rounds do not end");
    }
    assert!(!rig.directory.needs_commit());
    for seed in 0..5 {
        let directory = open(&rig.disk.after_power_cut(seed)).unwrap();
        assert_eq!(directory.partitions().unwrap().len(), 2 * written.len() + 1);
        for partition in [count + 1, 2 * count] {
            let (log, _) = open_partition(&directory, partition).unwrap();
            assert_eq!(log.written_end(), Offset(1), "seed {seed}");
        }
    }
}

#[test]
fn turns_come_round_where_nothing_is_journaled() {
    let disk = MemoryDisk::new();
    let config = DirectoryConfig {
        round_logs_max: 2,
        ..DirectoryConfig::new("d")
    };
    let directory = open_with(&disk, config).unwrap();
    let logs: Vec<_> = (0..5)
        .map(|partition| new_partition(&directory, partition))
        .collect();
    let mut published = [0; 5];
    for _ in 0..10 {
        logs.iter().for_each(|log| _ = append_to(log, 10));
        for log in directory.commit_round().unwrap().published {
            published[usize::try_from(log.name().partition).unwrap()] += 1;
        }
    }
    assert_eq!(published, [4; 5]);
}

#[test]
fn logs_that_a_full_disk_left_out_have_their_turns_again() {
    let rig = Rig::journaling();
    let logs = settled_partitions(&rig, 1..41);
    let (small, large) = logs.split_at(20);
    small.iter().for_each(|log| _ = append_to(log, 10));
    large.iter().for_each(|log| _ = append_to(log, LARGE));
    fill(&rig.disk);
    let round = rig.directory.commit_round().unwrap();
    assert!(round.more);
    assert_eq!((round.published.len(), round.starved.len()), (16, 20));
    rig.disk.set_capacity(u64::MAX);
    // The journal is left alone for a while, so that there is no room for all.
    let mut published = [0; 41];
    for _ in 0..20 {
        logs.iter().for_each(|log| _ = append_to(log, 10));
        let round = rig.directory.commit_round().unwrap();
        for log in round.published {
            published[usize::try_from(log.name().partition).unwrap()] += 1;
        }
    }
    assert_eq!(published[1..], [8; 40]);
}

#[test]
fn a_stop_on_a_full_disk_syncs_what_it_can() {
    let rig = Rig::journaling();
    let written = settled_partitions(&rig, 1..31);
    let new = roomy_partitions(&rig, 31..71);
    let both = written.iter().chain(&new);
    both.for_each(|log| _ = append_to(log, LARGE));
    fill(&rig.disk);
    rig.directory.clean_shutdown().unwrap();
    assert!(new.iter().all(|log| log.durable_end() == Offset(0)));
    let directory = open(&rig.disk.after_power_cut(1)).unwrap();
    for log in &written {
        assert_eq!(log.durable_end(), Offset(1));
        let (again, _) = open_partition(&directory, log.name().partition).unwrap();
        assert_eq!(again.written_end(), Offset(1));
    }
}

#[test]
fn a_round_that_settles_the_journal_takes_some_of_the_others() {
    let rig = Rig::journaling_with_open_files(30);
    let logs = settled_partitions(&rig, 1..71);
    let (small, large) = logs.split_at(30);
    small.iter().for_each(|log| _ = append_to(log, 10));
    assert_eq!(rig.directory.commit_round().unwrap().published.len(), 30);
    assert!(!rig.directory.is_settled());
    large.iter().for_each(|log| _ = append_to(log, LARGE));
    let round = rig.directory.commit_round().unwrap();
    assert!(rig.directory.is_settled() && round.more);
    assert_eq!(round.published.len(), 16);
    rig.settle();
    assert!(logs.iter().all(|log| log.durable_end() == Offset(1)));
}

/// The logs whose files lack what the journal has.
fn unsettled(rig: &Rig) -> usize {
    lock(&rig.directory.shared.unsettled).len()
}

#[test]
fn a_closed_log_keeps_what_only_the_journal_has() {
    for is_being_taken in [false, true] {
        let rig = Rig::journaling();
        rig.append(10);
        rig.settle();
        rig.append(10);
        rig.directory.commit_round().unwrap();
        // Whoever sets it aside could not sync its files, or has not yet.
        rig.log.close();
        let held = is_being_taken.then(|| rig.log.hold_maintenance());
        for _ in 0..3 {
            rig.directory.idle_round().unwrap();
            assert_eq!(rig.directory.is_settled(), !is_being_taken);
        }
        drop(held);
        while rig.directory.idle_round().unwrap().more {}
        assert!(rig.directory.is_settled());
        let directory = open(&rig.disk.after_power_cut(1)).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        assert_eq!(log.written_end(), Offset(2), "{is_being_taken}");
    }
}

#[test]
fn a_log_that_could_not_be_set_aside_keeps_what_it_has() {
    let rig = Rig::journaling();
    let other = new_partition(&rig.directory, 1);
    for _ in 0..2 {
        rig.append(10);
        append_to(&other, 10);
        rig.settle();
    }
    // A file of it cannot be opened.
    rig.directory.shared.files.forget_log(rig.log.id());
    rig.log.close();
    rig.disk.limit_opens(Some(0));
    rig.directory.make_stray(&rig.log).unwrap_err();
    rig.directory.idle_round().unwrap();
    rig.disk.limit_opens(None);
    // It is found again, and goes at last.
    let found = rig.directory.partitions().unwrap();
    let found = found.iter().find(|one| one.partition == 0).unwrap();
    rig.directory.make_found_stray(found).unwrap();
    assert_eq!(rig.directory.strays().unwrap().len(), 1);
    append_to(&other, 10);
    while rig.directory.idle_round().unwrap().more {}
    assert!(rig.directory.is_settled() && !rig.directory.is_failed());
    // Renamed back it has everything.
    let disk = rig.disk.after_power_cut(1);
    let stray = disk.read_dir(std::path::Path::new("d")).unwrap();
    let stray = stray.iter().find(|entry| entry.name.ends_with("-stray"));
    let from = std::path::Path::new("d").join(&stray.unwrap().name);
    disk.rename(&from, std::path::Path::new("d/topic-0"))
        .unwrap();
    let (log, _) = open_log(&open(&disk).unwrap()).unwrap();
    assert_eq!(
        (log.written_end(), log.durable_end()),
        (Offset(2), Offset(2))
    );
}

#[test]
fn an_idle_directory_settles_a_few_logs_in_a_round() {
    let rig = Rig::journaling();
    let logs = settled_partitions(&rig, 1..11);
    logs.iter().for_each(|log| _ = append_to(log, 10));
    rig.directory.commit_round().unwrap();
    assert_eq!(unsettled(&rig), 10);
    for left in [6, 2] {
        append_to(&logs[9], 10);
        let round = rig.directory.idle_round().unwrap();
        assert!(round.settles_on && !rig.directory.is_settled());
        assert_eq!((round.published.len(), unsettled(&rig)), (1, left));
    }
    let round = rig.directory.idle_round().unwrap();
    assert!(!round.settles_on && rig.directory.is_settled());
    assert_eq!(unsettled(&rig), 0);
}

#[test]
fn a_log_that_is_left_out_neither_fills_the_journal_nor_makes_rounds_go_round() {
    for is_journaled in [false, true] {
        let rig = Rig::journaling();
        rig.append(10);
        rig.settle();
        rig.append(10);
        rig.directory.commit_round().unwrap();
        assert!(!rig.directory.is_settled());
        // It has leader epochs to write, for which a file must be opened.
        let left_out = match is_journaled {
            true => {
                rig.log.begin_epoch(LeaderEpoch(EPOCH.0 + 1)).unwrap();
                let one = batch(10);
                let epoch = LeaderEpoch(EPOCH.0 + 1);
                rig.log.append_as_leader(&one, epoch, NOW, false).unwrap();
                rig.log.clone()
            }
            false => {
                let log = new_partition(&rig.directory, 1);
                append_to(&log, 10);
                log
            }
        };
        rig.disk.limit_opens(Some(0));
        let mut rounds = 0;
        while rig.directory.settle_round().unwrap().more {
            rounds += 1;
            assert!(rounds < 5, "rounds do not end");
        }
        assert_eq!(rig.directory.is_settled(), !is_journaled);
        rig.directory.clean_shutdown().unwrap();
        assert!(left_out.durable_end() < left_out.written_end());
        rig.disk.limit_opens(None);
        while rig.directory.settle_round().unwrap().more {}
        assert!(rig.directory.is_settled());
        assert_eq!(left_out.durable_end(), left_out.written_end());
    }
}

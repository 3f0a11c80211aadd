use std::path::Path;

use esker_protocol::{BrokerId, LeaderEpoch, Offset, TopicId};

use super::*;
use crate::LogConfig;
use crate::disk::{MemoryDisk, OpenMode, read_all};
use crate::error::{AppendError, OpenLogError, ReadError};
use crate::testing::{
    EPOCH, NOW, Rig, TOPIC_ID, batch, identity, log_config, log_path, open, open_log, open_with,
};

fn refused(disk: &MemoryDisk, identity: &Identity) -> OpenError {
    let before = disk.operations();
    let config = DirectoryConfig::new("d");
    let opened = LogDirectory::open(Arc::new(disk.clone()), config, identity, &mut || [4; 16]);
    let error = opened.unwrap_err();
    assert_eq!(disk.operations(), before, "a refusal changes nothing");
    assert!(!error.to_string().contains('\n'));
    error
}

#[test]
fn a_formatted_directory_keeps_its_id_through_power_cuts() {
    for seed in 0..20 {
        let disk = MemoryDisk::new();
        let id = open(&disk).unwrap().id();
        let disk = disk.after_power_cut(seed);
        let directory = LogDirectory::open(
            Arc::new(disk),
            DirectoryConfig::new("d"),
            &identity(),
            &mut || panic!("it is formatted already"),
        );
        assert_eq!(directory.unwrap().id(), id);
    }
}

#[test]
fn formatting_can_be_interrupted_anywhere() {
    for operation in 1..20 {
        let disk = MemoryDisk::new();
        disk.crash_at(operation);
        drop(open(&disk));
        let disk = disk.after_power_cut(operation);
        let directory = open(&disk).unwrap();
        assert!(open_log(&directory).is_ok());
    }
}

#[test]
fn another_clusters_brokers_or_versions_directory_is_refused_unchanged() {
    let disk = MemoryDisk::new();
    drop(open(&disk).unwrap());
    let other = Identity {
        cluster_id: "other".to_owned(),
        ..identity()
    };
    assert!(matches!(
        refused(&disk, &other),
        OpenError::OtherCluster { .. }
    ));
    let other = Identity {
        node_id: BrokerId(2),
        ..identity()
    };
    assert!(matches!(
        refused(&disk, &other),
        OpenError::OtherNode { .. }
    ));
    let path = Path::new("d/meta.properties");
    let text = String::from_utf8(read_all(&disk, path).unwrap()).unwrap();
    let write = |text: &str| {
        disk.open(path, OpenMode::Replace)
            .unwrap()
            .write_all_at(0, text.as_bytes())
            .unwrap();
    };
    write(&text.replace("version=1", "version=2"));
    assert!(matches!(
        refused(&disk, &identity()),
        OpenError::NewerVersion { .. }
    ));
    write(&text.replace("node.id=1\n", ""));
    assert!(matches!(
        refused(&disk, &identity()),
        OpenError::Damaged { .. }
    ));
}

#[test]
fn a_directory_with_other_files_is_not_formatted() {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new("d")).unwrap();
    disk.open(Path::new("d/holiday.jpg"), OpenMode::Create)
        .unwrap();
    assert!(matches!(
        refused(&disk, &identity()),
        OpenError::Foreign { .. }
    ));
}

#[test]
fn only_one_process_works_in_a_directory() {
    let disk = MemoryDisk::new();
    let first = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::InUse(_))));
    drop(first);
    assert!(open(&disk).is_ok());
}

#[test]
fn incarnations_and_values_seen_survive_and_never_fall() {
    let disk = MemoryDisk::new();
    let directory = open(&disk).unwrap();
    directory
        .register_incarnation(TopicId([8; 16]), None)
        .unwrap();
    directory
        .note_seen(Seen {
            cluster_incarnation: 2,
            broker_epoch: 40,
        })
        .unwrap();
    let disk = disk.after_power_cut(5);
    let directory = open(&disk).unwrap();
    assert_eq!(
        directory.incarnations().last().unwrap().id,
        TopicId([8; 16])
    );
    let lower = directory.note_seen(Seen {
        cluster_incarnation: 2,
        broker_epoch: 39,
    });
    assert!(matches!(
        lower,
        Err(DirectoryError::WentBack { seen: 40, .. })
    ));
    let lower = directory.note_seen(Seen {
        cluster_incarnation: 1,
        broker_epoch: 99,
    });
    assert!(matches!(
        lower,
        Err(DirectoryError::WentBack { seen: 2, .. })
    ));
    directory
        .note_seen(Seen {
            cluster_incarnation: 3,
            broker_epoch: 1,
        })
        .unwrap();
}

#[test]
fn a_failed_sync_fails_the_directory_for_ever() {
    let rig = Rig::new();
    rig.append(10);
    rig.disk.fail_syncs(1);
    let failed = rig.directory.commit_round().unwrap_err();
    assert_eq!(failed.path, Path::new("d"));
    assert!(rig.directory.is_failed());
    assert!(rig.directory.commit_round().is_err());
    assert_eq!(rig.log.durable_end(), Offset(0));
    let refused = rig.log.append_as_leader(&batch(1), EPOCH, NOW, false);
    assert!(matches!(refused, Err(AppendError::Offline)));
    assert!(matches!(
        rig.log.read(Offset(0), 1, Offset::MAX, true),
        Err(ReadError::Offline)
    ));
    assert!(rig.log.is_offline());
}

#[test]
fn what_a_failed_sync_lost_is_written_again_by_recovery() {
    let rig = Rig::new();
    rig.append(10);
    rig.settle();
    rig.append(10);
    rig.disk.fail_syncs(1);
    assert!(rig.directory.commit_round().is_err());
    // The process ends; the page cache still shows the batch.
    let disk = rig.disk.after_kill();
    let directory = open(&disk).unwrap();
    let (log, report) = open_log(&directory).unwrap();
    assert_eq!(log.written_end(), Offset(2));
    assert_eq!(log.durable_end(), Offset(1));
    assert!(report.rewritten_bytes > 0);
    while directory.commit_round().unwrap().more {}
    assert_eq!(log.durable_end(), Offset(2));
    let directory = open(&disk.after_power_cut(3)).unwrap();
    assert_eq!(open_log(&directory).unwrap().0.written_end(), Offset(2));
}

#[test]
fn lost_records_make_all_damage_count() {
    let rig = Rig::new();
    for _ in 0..20 {
        rig.append(100);
    }
    rig.settle();
    let disk = rig.disk.after_kill();
    disk.remove_file(Path::new("d/durable-ends.log")).unwrap();
    let directory = open(&disk).unwrap();
    let (log, report) = open_log(&directory).unwrap();
    assert!(report.records_lost);
    assert_eq!(log.written_end(), Offset(20));
    drop((log, directory));
    // The loss is remembered until a round has published the log again.
    disk.rot(&crate::testing::log_path(0), 100, 1).unwrap();
    let directory = open(&disk).unwrap();
    let damaged = open_log(&directory).unwrap_err();
    assert!(
        matches!(
            damaged,
            OpenLogError::Damaged {
                recorded_end: None,
                ..
            }
        ),
        "{damaged}"
    );
}

#[test]
fn damaged_records_prove_nothing() {
    let rig = Rig::new();
    for _ in 0..3 {
        rig.append(10);
        rig.settle();
    }
    let disk = rig.disk.after_kill();
    disk.rot(Path::new("d/durable-ends.log"), 20, 1).unwrap();
    let directory = open(&disk).unwrap();
    assert!(open_log(&directory).unwrap().1.records_lost);
    while directory.commit_round().unwrap().more {}
    drop(directory);
    let (_, report) = open_log(&open(&disk).unwrap()).unwrap();
    assert_eq!(
        (report.records_lost, report.recorded_end),
        (false, Some(Offset(3)))
    );
}

#[test]
fn a_deleted_log_is_gone_at_once_and_a_new_one_begins_anew() {
    for seed in 0..10 {
        let rig = Rig::new();
        rig.append(100);
        rig.settle();
        rig.directory.delete_log(&rig.log).unwrap();
        assert!(rig.log.is_offline());
        assert!(rig.directory.partitions().unwrap().is_empty());
        let disk = rig.power_cut(seed);
        let directory = open(&disk).unwrap();
        assert!(directory.partitions().unwrap().is_empty());
        let (log, _) = open_log(&directory).unwrap();
        assert_eq!(log.written_end(), Offset(0));
        assert_eq!(directory.remove_deleted().unwrap(), 1);
        assert_eq!(directory.remove_deleted().unwrap(), 0);
        assert_eq!(directory.partitions().unwrap().len(), 1);
    }
}

#[test]
fn deleting_can_be_interrupted_anywhere() {
    for change in 1..8 {
        let rig = Rig::new();
        rig.append(100);
        rig.settle();
        rig.disk.crash_at(rig.disk.operations() + change);
        drop(rig.directory.delete_log(&rig.log));
        let directory = open(&rig.power_cut(change)).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        assert!([0, 1].contains(&log.written_end().0));
    }
}

#[test]
fn stray_logs_are_kept_and_never_removed() {
    let rig = Rig::new();
    rig.append(100);
    // The first one disagreed with the tier, and its place was begun anew.
    let none = crate::ProducerSnapshot::default();
    rig.log
        .set_aside_and_restart_at(Offset(1), Vec::new(), &none, NOW)
        .unwrap();
    rig.directory.make_stray(&rig.log).unwrap();
    rig.directory.remove_deleted().unwrap();
    let entries = rig.disk.read_dir(Path::new("d")).unwrap();
    let stray = entries
        .iter()
        .filter(|entry| entry.name.ends_with("-stray"));
    assert_eq!(stray.count(), 2);
}

fn stray_of(disk: &MemoryDisk) -> Option<String> {
    let entries = disk.read_dir(Path::new("d")).unwrap();
    let mut names = entries.into_iter().map(|entry| entry.name);
    names.find(|name| name.ends_with("-stray"))
}

#[test]
fn no_empty_log_takes_the_place_of_a_stray() {
    for found in [true, false] {
        let mut rig = Rig::new();
        for _ in 0..5 {
            rig.append(100);
        }
        rig.settle();
        if found {
            // An older metadata store at a start knows nothing of the topic.
            rig.disk = rig.power_cut(1);
            rig.directory = open(&rig.disk).unwrap();
            let partition = rig.directory.partitions().unwrap().remove(0);
            rig.directory.make_found_stray(&partition).unwrap();
        } else {
            rig.directory.make_stray(&rig.log).unwrap();
        }
        for restart in [false, true] {
            if restart {
                rig.disk = rig.power_cut(2);
                rig.directory = open(&rig.disk).unwrap();
            }
            assert_eq!(rig.directory.strays().unwrap(), [(TOPIC_ID, 0)]);
            let before = rig.disk.operations();
            let error = open_log(&rig.directory).unwrap_err();
            assert!(matches!(error, OpenLogError::SetAside { .. }), "{error}");
            let stray = stray_of(&rig.disk).unwrap();
            assert!(error.to_string().contains(&stray), "{error}");
            assert_eq!(rig.disk.operations(), before, "a refusal changes nothing");
            // Other partitions, and other topics of that name, go on.
            for (partition, id) in [(1, TOPIC_ID), (0, TopicId([7; 16]))] {
                let opened = rig
                    .directory
                    .open_log("topic", partition, id, log_config(), NOW);
                let (log, _) = opened.unwrap();
                rig.directory.delete_log(&log).unwrap();
            }
        }
        // Renamed back it is the same log.
        let stray = Path::new("d").join(stray_of(&rig.disk).unwrap());
        rig.disk.rename(&stray, Path::new("d/topic-0")).unwrap();
        let directory = open(&rig.power_cut(3)).unwrap();
        assert_eq!(directory.strays().unwrap(), []);
        let (log, report) = open_log(&directory).unwrap();
        assert_eq!(log.written_end(), Offset(5), "{report:?}");
        assert_eq!(report.recorded_end, Some(Offset(5)));
    }
}

#[test]
fn a_stray_that_was_taken_away_leaves_room_for_an_empty_log() {
    let rig = Rig::new();
    rig.append(100);
    rig.settle();
    rig.directory.make_stray(&rig.log).unwrap();
    let stray = Path::new("d").join(stray_of(&rig.disk).unwrap());
    rig.disk.remove_dir_all(&stray).unwrap();
    let (log, _) = open_log(&rig.directory).unwrap();
    assert_eq!(log.written_end(), Offset(0));
    let directory = open(&rig.power_cut(1)).unwrap();
    assert_eq!(open_log(&directory).unwrap().0.written_end(), Offset(0));
}

#[test]
fn a_stray_is_known_as_one_wherever_setting_it_aside_is_cut_short() {
    for change in 1..20 {
        let rig = Rig::new();
        rig.append(100);
        rig.settle();
        rig.disk.crash_at(rig.disk.operations() + change);
        drop(rig.directory.make_stray(&rig.log));
        let directory = open(&rig.power_cut(change)).unwrap();
        match open_log(&directory) {
            Ok((log, _)) => assert_eq!(log.written_end(), Offset(1), "{change}"),
            Err(error) => assert!(matches!(error, OpenLogError::SetAside { .. }), "{error}"),
        }
    }
}

#[test]
fn a_stray_stays_one_when_the_records_are_lost() {
    let rig = Rig::new();
    rig.append(100);
    rig.settle();
    rig.directory.make_stray(&rig.log).unwrap();
    let disk = rig.disk.after_kill();
    disk.remove_file(Path::new("d/durable-ends.log")).unwrap();
    let directory = open(&disk).unwrap();
    let error = open_log(&directory).unwrap_err();
    assert!(matches!(error, OpenLogError::SetAside { .. }), "{error}");
}

#[test]
fn a_replica_that_comes_back_begins_anew_beside_what_disagreed_once() {
    let rig = Rig::new();
    rig.append(100);
    rig.settle();
    let none = crate::ProducerSnapshot::default();
    rig.log
        .set_aside_and_restart_at(Offset(1), Vec::new(), &none, NOW)
        .unwrap();
    rig.directory.delete_log(&rig.log).unwrap();
    assert_eq!(rig.directory.strays().unwrap(), []);
    assert_eq!(open_log(&rig.directory).unwrap().0.written_end(), Offset(0));
}

#[test]
fn a_log_is_opened_once_and_only_as_its_own_topic() {
    let rig = Rig::new();
    assert!(matches!(
        open_log(&rig.directory),
        Err(OpenLogError::AlreadyOpen { .. })
    ));
    let other = TopicId([2; 16]);
    let opened = rig
        .directory
        .open_log("topic", 0, other, LogConfig::default(), NOW);
    assert!(matches!(
        opened,
        Err(OpenLogError::OtherTopic { found: TOPIC_ID, expected, .. }) if expected == other
    ));
}

#[test]
fn a_clean_stop_shows_until_the_first_change() {
    let rig = Rig::new();
    rig.directory
        .register_incarnation(TopicId([8; 16]), None)
        .unwrap();
    rig.append(100);
    rig.directory.clean_shutdown().unwrap();
    let refused = rig.log.append_as_leader(&batch(1), EPOCH, NOW, false);
    assert!(matches!(refused, Err(AppendError::Offline)));
    let disk = rig.power_cut(1);
    let directory = open(&disk).unwrap();
    assert_eq!(directory.last_clean_shutdown(), Some(TopicId([8; 16])));
    let (log, report) = open_log(&directory).unwrap();
    assert_eq!((log.durable_end(), report.rewritten_bytes), (Offset(1), 0));
    assert!(!directory.needs_commit(), "nothing is left to be synced");
    log.begin_epoch(LeaderEpoch(2)).unwrap();
    let directory = open(&disk.after_power_cut(2)).unwrap();
    assert_eq!(directory.last_clean_shutdown(), None);
}

#[test]
fn appends_stop_at_the_reserve_and_go_on_with_space() {
    let disk = MemoryDisk::new();
    disk.set_capacity(1 << 20);
    let config = DirectoryConfig {
        reserve_bytes: 1 << 19,
        ..DirectoryConfig::new("d")
    };
    let directory = open_with(&disk, config).unwrap();
    let (log, _) = directory
        .open_log("topic", 0, TOPIC_ID, LogConfig::default(), NOW)
        .unwrap();
    log.begin_epoch(EPOCH).unwrap();
    assert!(!directory.at_reserve().unwrap());
    let mut refusals = 0;
    for _ in 0..100 {
        match log.append_as_leader(&batch(10_000), EPOCH, NOW, false) {
            Ok(_) => assert_eq!(refusals, 0),
            Err(AppendError::NoSpace) => refusals += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refusals > 0 && log.written_end().0 > 40);
    assert!(directory.near_reserve().unwrap());
    disk.set_capacity(1 << 21);
    log.append_as_leader(&batch(10_000), EPOCH, NOW, false)
        .unwrap();
}

#[test]
fn idle_logs_hold_no_files_beyond_the_bound() {
    let disk = MemoryDisk::new();
    let config = DirectoryConfig {
        open_files_max: 4,
        ..DirectoryConfig::new("d")
    };
    let directory = open_with(&disk, config).unwrap();
    for partition in 0..30 {
        let (log, _) = directory
            .open_log("topic", partition, TOPIC_ID, LogConfig::default(), NOW)
            .unwrap();
        log.begin_epoch(EPOCH).unwrap();
        log.append_as_leader(&batch(10), EPOCH, NOW, false).unwrap();
    }
    while directory.commit_round().unwrap().more {}
    assert!(directory.open_files() <= 4);
}

#[test]
fn what_the_tier_has_of_a_damaged_log_is_dropped() {
    let rig = Rig::new();
    for _ in 0..20 {
        rig.append(300);
    }
    rig.settle();
    let bases: Vec<Offset> = rig.log.segments().iter().map(|one| one.base).collect();
    let end = rig.log.written_end();
    let disk = rig.disk.after_kill();
    disk.remove_file(&log_path(0)).unwrap();
    let directory = open(&disk).unwrap();
    let damage = |directory: &LogDirectory| match open_log(directory).unwrap_err() {
        OpenLogError::Damaged { damage, .. } => damage,
        error => panic!("{error}"),
    };
    let found = damage(&directory);
    let log = ("topic", 0, TOPIC_ID);
    let tier_end = bases[2] + 1;
    let drop_below = |tier_end, epoch| {
        directory
            .drop_tiered_segments(log, &found, (tier_end, LeaderEpoch(epoch)))
            .unwrap()
    };
    assert_eq!(drop_below(tier_end, EPOCH.0 + 1), None, "another lineage");
    assert_eq!(drop_below(Offset(1), EPOCH.0), None, "a gap would stay");
    damage(&directory);
    assert_eq!(drop_below(tier_end, EPOCH.0), Some(bases[2]));
    let (log, _) = open_log(&directory).unwrap();
    assert_eq!(
        (log.start_offset(), log.local_start_offset()),
        (Offset(0), bases[2])
    );
    assert_eq!(log.written_end(), end);
    // Nothing of it is undone by a crash.
    let after = open(&disk.after_power_cut(1)).unwrap();
    assert_eq!(open_log(&after).unwrap().0.local_start_offset(), bases[2]);
}

use std::path::Path;

use esker_protocol::records::{BatchHeader, BatchOptions, EndTransactionMarker, TimestampType};
use esker_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId};

use super::*;
use crate::disk::Disk as _;
use crate::error::{AppendError, DirectoryError, OpenLogError, ReadError};
use crate::testing::{
    EPOCH, Hooked, NOW, Rig, append_to, batch, batch_by, batch_of, fill, identity, log_config,
    log_path, open, open_log, open_with, used_bytes,
};
use crate::{DirectoryConfig, LogDirectory, MemoryDisk};

#[test]
fn a_read_gives_whole_batches_within_its_bounds() {
    let rig = Rig::new();
    for _ in 0..10 {
        rig.append(30);
    }
    let size = batch(30).bytes.len();
    let read = |offset: i64, max, below: i64, one| {
        let read = rig
            .log
            .read(Offset(offset), max, Offset(below), one)
            .unwrap();
        (read.start.0, read.next.0, read.bytes.len() / size)
    };
    assert_eq!(read(0, 3 * size, 10, false), (0, 3, 3));
    assert_eq!(read(3, 3 * size + 5, 10, false), (3, 6, 3));
    assert_eq!(read(2, 1000 * size, 5, false), (2, 5, 3));
    assert_eq!(read(2, 1, 10, false), (2, 2, 0));
    assert_eq!(read(2, 1, 10, true), (2, 3, 1));
    assert_eq!(read(5, 100, 5, true), (5, 5, 0));
    assert_eq!(read(10, 100, 99, true), (10, 10, 0));
    let beyond = rig.log.read(Offset(11), 1, Offset::MAX, true);
    assert!(matches!(
        beyond,
        Err(ReadError::OutOfRange {
            end: Offset(10),
            ..
        })
    ));
}

#[test]
fn a_small_read_does_not_keep_a_large_buffer() {
    let rig = Rig::new();
    for _ in 0..100 {
        rig.append(30);
    }
    let size = batch(30).bytes.len();
    // Read as far as the limit goes, and cut at the offset.
    let read = rig.log.read(Offset(0), 100 * size, Offset(2), false);
    let bytes = read.unwrap().bytes;
    assert_eq!(bytes.len(), 2 * size);
    let kept = bytes.try_into_mut().unwrap().capacity();
    assert!(kept <= 4 * size, "{kept}");
}

#[test]
fn appends_are_refused_outside_the_epoch_that_was_begun() {
    let rig = Rig::new();
    for epoch in [0, 2] {
        let refused = rig
            .log
            .append_as_leader(&batch(1), LeaderEpoch(epoch), NOW, false);
        assert!(matches!(
            refused,
            Err(AppendError::Fenced { current: EPOCH, .. })
        ));
    }
    let back = rig.log.begin_epoch(LeaderEpoch(0));
    assert!(matches!(back, Err(ChangeError::EpochWentBack { .. })));
    // A process that starts leads nothing.
    rig.append(1);
    rig.settle();
    let directory = open(&rig.power_cut(1)).unwrap();
    let (log, _) = open_log(&directory).unwrap();
    assert_eq!(log.latest_epoch(), EPOCH);
    let refused = log.append_as_leader(&batch(1), EPOCH, NOW, false);
    assert!(matches!(
        refused,
        Err(AppendError::Fenced {
            current: LeaderEpoch::NONE,
            ..
        })
    ));
}

#[test]
fn an_epoch_without_batches_is_remembered() {
    let rig = Rig::new();
    rig.log.begin_epoch(LeaderEpoch(9)).unwrap();
    rig.settle();
    let directory = open(&rig.power_cut(1)).unwrap();
    assert_eq!(
        open_log(&directory).unwrap().0.latest_epoch(),
        LeaderEpoch(9)
    );
}

#[test]
fn a_batch_larger_than_a_segment_is_refused() {
    let rig = Rig::new();
    let refused = rig.log.append_as_leader(&batch(1000), EPOCH, NOW, false);
    assert!(matches!(
        refused,
        Err(AppendError::BatchLargerThanSegment { .. })
    ));
    assert_eq!(rig.append(10).base_offset, Offset(0));
}

#[test]
fn log_append_time_is_the_leaders_clock() {
    let rig = Rig::new();
    let now = Timestamp(NOW.0 + 5);
    let appended = rig
        .log
        .append_as_leader(&batch(1), EPOCH, now, true)
        .unwrap();
    assert_eq!(appended.log_append_time, Some(now));
    let header = BatchHeader::parse(&rig.bytes()).unwrap();
    assert_eq!(header.max_timestamp, now);
    assert_eq!(
        header.attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert_eq!(rig.append(1).log_append_time, None);
}

#[test]
fn a_write_that_fails_is_taken_back() {
    let rig = Rig::new();
    rig.append(10);
    let bytes = rig.bytes();
    rig.disk
        .set_capacity(rig.disk.total_bytes(Path::new("d")).unwrap() - 1);
    rig.disk.fail_next_write_after(30);
    let refused = rig.log.append_as_leader(&batch(10), EPOCH, NOW, false);
    assert!(
        matches!(refused, Err(AppendError::Poisoned(_))),
        "a failed write fails the disk"
    );
    assert_eq!(
        rig.disk.len(&log_path(0)).unwrap(),
        Some(bytes.len() as u64)
    );
}

#[test]
fn a_full_disk_refuses_cleanly_and_forgets_nothing() {
    let rig = Rig::new();
    rig.append(10);
    rig.settle();
    fill(&rig.disk);
    let appends: Vec<bool> = (0..40)
        .map(
            |_| match rig.log.append_as_leader(&batch(100), EPOCH, NOW, false) {
                Ok(_) => true,
                Err(AppendError::NoSpace) => false,
                Err(other) => panic!("{other}"),
            },
        )
        .collect();
    assert!(appends.contains(&false));
    rig.disk.set_capacity(u64::MAX);
    let end = rig.append(100).end;
    rig.settle();
    assert_eq!(rig.log.durable_end(), end);
    assert_eq!(rig.bytes().len() as u64, rig.log.local_bytes());
}

#[test]
fn space_taken_ahead_never_shows_in_the_length() {
    let rig = Rig::new();
    let first = rig.append(10);
    let length = batch(10).bytes.len() as u64;
    assert_eq!(rig.disk.len(&log_path(0)).unwrap(), Some(length));
    let used = used_bytes(&rig.disk);
    assert!(used >= 1000, "a segment's worth was taken");
    rig.log.roll_now(NOW).unwrap();
    let after = used_bytes(&rig.disk);
    assert!(after < used, "sealing gives it back");
    assert_eq!(first.end, Offset(1));
}

#[test]
fn segments_roll_by_the_span_of_record_time() {
    let rig = Rig::new();
    rig.log.update_config(LogConfig {
        segment_ms: 1000,
        segment_jitter_ms: 100,
        ..log_config()
    });
    let append = |ms: i64| {
        let batch = batch_of(BatchOptions::default(), 1, Timestamp(NOW.0 + ms));
        rig.log
            .append_as_leader(&batch, EPOCH, NOW, false)
            .unwrap()
            .rolled
    };
    assert!(!append(0));
    assert!(!append(900));
    assert!(append(901));
    assert!(!append(5));
    assert!(!rig.log.roll_if_expired(Timestamp(NOW.0 + 1500)).unwrap());
    assert!(rig.log.roll_if_expired(Timestamp(NOW.0 + 1802)).unwrap());
    assert!(
        !rig.log.roll_if_expired(Timestamp(NOW.0 + 99_999)).unwrap(),
        "it is empty"
    );
}

#[test]
fn damage_below_the_recorded_end_is_reported_and_changes_nothing() {
    let rig = Rig::new();
    for _ in 0..4 {
        rig.append(100);
    }
    rig.settle();
    let size = batch(100).bytes.len();
    let disk = rig.disk.after_kill();
    disk.rot(&log_path(0), 2 * size + 80, 4).unwrap();
    let directory = open(&disk).unwrap();
    let before = disk.operations();
    let OpenLogError::Damaged {
        recorded_end,
        damage,
        ..
    } = open_log(&directory).unwrap_err()
    else {
        panic!("it is damaged");
    };
    assert_eq!(recorded_end, Some(Offset(4)));
    assert_eq!((damage.segment, damage.position), (0, 2 * size as u64));
    assert_eq!(damage.offset, Offset(2));
    // Only partition.metadata was looked at, and nothing cut.
    assert_eq!(disk.len(&log_path(0)).unwrap(), Some(4 * size as u64));
    assert!(disk.operations() - before <= 1);
}

#[test]
fn an_end_short_of_the_recorded_one_is_damage() {
    let rig = Rig::new();
    for _ in 0..4 {
        rig.append(100);
    }
    rig.settle();
    let disk = rig.disk.after_kill();
    let file = disk.open(&log_path(0), crate::OpenMode::Write).unwrap();
    file.truncate(2 * batch(100).bytes.len() as u64).unwrap();
    let directory = open(&disk).unwrap();
    assert!(matches!(
        open_log(&directory),
        Err(OpenLogError::Damaged { .. })
    ));
    disk.remove_file(&log_path(0)).unwrap();
    assert!(matches!(
        open_log(&directory),
        Err(OpenLogError::Damaged { .. })
    ));
}

#[test]
fn damage_above_the_recorded_end_ends_the_log_whatever_follows() {
    let rig = Rig::new();
    rig.append(100);
    rig.settle();
    for _ in 0..20 {
        rig.append(100);
    }
    let disk = rig.disk.after_kill();
    disk.rot(&log_path(0), 2 * batch(100).bytes.len() + 80, 4)
        .unwrap();
    let directory = open(&disk).unwrap();
    let (log, report) = open_log(&directory).unwrap();
    assert_eq!(log.written_end(), Offset(2));
    assert!(report.damage.is_some() && report.removed_segments > 0 && report.truncated_bytes > 0);
    assert_eq!(log.segments().len(), 1);
}

#[test]
fn a_read_meets_damage_and_says_where() {
    let rig = Rig::new();
    for _ in 0..3 {
        rig.append(100);
    }
    let size = batch(100).bytes.len();
    rig.disk.rot(&log_path(0), size + 16, 0x10).unwrap();
    assert_eq!(
        rig.log
            .read(Offset(0), size, Offset::MAX, true)
            .unwrap()
            .next,
        Offset(1)
    );
    let Err(ReadError::Damaged(damage)) = rig.log.read(Offset(1), 1, Offset::MAX, true) else {
        panic!("the magic byte is wrong");
    };
    assert_eq!((damage.segment, damage.position), (0, size as u64));
}

#[test]
fn a_follower_takes_over_bytes_producers_and_epochs() {
    let leader = Rig::new();
    for sequence in 0..4 {
        let batch = batch_by(5, sequence, false);
        leader
            .log
            .append_as_leader(&batch, EPOCH, NOW, false)
            .unwrap();
    }
    leader.log.begin_epoch(LeaderEpoch(3)).unwrap();
    leader
        .log
        .append_as_leader(&batch(10), LeaderEpoch(3), NOW, false)
        .unwrap();
    let bytes = leader.bytes();

    let follower = Rig::new();
    let appended = follower.log.append_as_follower(&bytes, NOW).unwrap();
    assert_eq!((appended.base_offset, appended.end), (Offset(0), Offset(5)));
    assert_eq!(follower.bytes(), bytes);
    assert_eq!(follower.log.producers(), leader.log.producers());
    assert_eq!(follower.log.epochs(), leader.log.epochs());
    assert_eq!(
        follower.log.end_offset_for_epoch(EPOCH),
        Some((EPOCH, Offset(4)))
    );

    let again = follower.log.append_as_follower(&bytes, NOW);
    assert!(matches!(
        again,
        Err(AppendError::NotContiguous {
            expected: Offset(5),
            ..
        })
    ));
    let other = Rig::new();
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let refused = other.log.append_as_follower(&damaged, NOW);
    assert!(matches!(refused, Err(AppendError::Corrupt(Offset(4)))));
    assert_eq!(
        other.log.written_end(),
        Offset(4),
        "what was whole has been appended"
    );
    other.log.begin_epoch(LeaderEpoch(7)).unwrap();
    let last = leader
        .log
        .read(Offset(4), 1, Offset::MAX, true)
        .unwrap()
        .bytes;
    let refused = other.log.append_as_follower(&last, NOW);
    assert!(matches!(refused, Err(AppendError::EpochWentBack { .. })));
    assert!(other.log.append_as_follower(&last[..50], NOW).is_err());
}

#[test]
fn aborted_transactions_are_found_across_segments_and_crashes() {
    let rig = Rig::new();
    let append = |producer, sequence| {
        let batch = batch_by(producer, sequence, true);
        rig.log.append_as_leader(&batch, EPOCH, NOW, false).unwrap();
    };
    append(1, 0);
    append(2, 0);
    for _ in 0..20 {
        rig.append(100);
    }
    let end = |producer, commit| {
        let marker = EndTransactionMarker {
            commit,
            coordinator_epoch: 0,
        };
        let (id, epoch) = (ProducerId(producer), ProducerEpoch(0));
        rig.log
            .append_marker(id, epoch, marker, EPOCH, NOW)
            .unwrap()
    };
    let high = rig.log.written_end();
    assert_eq!(rig.log.last_stable_offset(high), Offset(0));
    end(1, false);
    end(2, true);
    assert_eq!(
        rig.log.last_stable_offset(rig.log.written_end()),
        Offset(24)
    );
    let check = |log: &Log| {
        let aborted = log.aborted_transactions(Offset(0), Offset(1)).unwrap();
        let found: Vec<_> = aborted
            .iter()
            .map(|one| (one.producer_id.0, one.first_offset.0, one.last_offset.0))
            .collect();
        assert_eq!(found, [(1, 0, 22)]);
        assert_eq!(log.export(Offset(0)).unwrap().unwrap().aborted, aborted);
    };
    check(&rig.log);
    rig.settle();
    for seed in 0..10 {
        let (log, _) = open_log(&open(&rig.power_cut(seed)).unwrap()).unwrap();
        check(&log);
    }
}

#[test]
fn starting_anew_leaves_the_old_log_or_the_new_one_at_every_step() {
    let mut producers = None;
    for change in 1.. {
        let rig = Rig::new();
        for sequence in 0..30 {
            let batch = batch_by(5, sequence, false);
            rig.log.append_as_leader(&batch, EPOCH, NOW, false).unwrap();
        }
        rig.settle();
        let given = producers.get_or_insert_with(|| rig.log.producers()).clone();
        rig.disk.crash_at(rig.disk.operations() + change);
        let epochs = vec![(LeaderEpoch(1), Offset(0)), (LeaderEpoch(4), Offset(70))];
        let done = rig.log.restart_at(Offset(100), epochs, &given, NOW).is_ok();
        let directory = open(&rig.power_cut(change)).unwrap();
        let (log, report) = open_log(&directory).unwrap();
        let (start, end) = (log.local_start_offset(), log.written_end());
        if done || start == Offset(100) {
            assert_eq!((start, end), (Offset(100), Offset(100)), "{report:?}");
        } else {
            assert_eq!(end, Offset(30), "{report:?}");
        }
        if done {
            assert_eq!(log.producers(), given);
            assert_eq!(log.latest_epoch(), LeaderEpoch(4));
            assert_eq!(log.epoch_at(Offset(80)), Some(LeaderEpoch(4)));
            log.begin_epoch(LeaderEpoch(5)).unwrap();
            let batch = batch_by(5, 30, false);
            let appended = log
                .append_as_leader(&batch, LeaderEpoch(5), NOW, false)
                .unwrap();
            assert_eq!(appended.base_offset, Offset(100));
            let below = log.read(Offset(50), 1, Offset::MAX, true);
            assert!(matches!(below, Err(ReadError::BelowLocalStart { .. })));
            break;
        }
    }
}

#[test]
fn removing_the_front_leaves_no_hole_at_any_step() {
    for change in 1.. {
        let rig = Rig::new();
        for _ in 0..30 {
            rig.append(100);
        }
        rig.settle();
        let floor = rig.log.segments()[3].base;
        rig.disk.crash_at(rig.disk.operations() + change);
        let done = rig.log.delete_local_below(floor).is_ok();
        let directory = open(&rig.power_cut(change)).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        assert!(log.local_start_offset() <= floor);
        assert_eq!(log.written_end(), Offset(30));
        let mut at = log.local_start_offset();
        while at < log.written_end() {
            at = log.read(at, 1, Offset::MAX, true).unwrap().next;
        }
        assert_eq!(
            log.epochs(),
            [(EPOCH, Offset(0))],
            "the tier needs the lineage"
        );
        if done {
            assert_eq!(log.local_start_offset(), floor);
            assert_eq!(log.start_offset(), Offset(0));
            let below = log.read(Offset(0), 1, Offset::MAX, true);
            assert!(
                matches!(below, Err(ReadError::BelowLocalStart { local_start }) if local_start == floor)
            );
            break;
        }
    }
}

#[test]
fn nothing_goes_before_it_is_durable() {
    let rig = Rig::new();
    for _ in 0..30 {
        rig.append(100);
    }
    assert!(rig.log.delete_local_below(Offset::MAX).unwrap().is_empty());
    rig.settle();
    let gone = rig.log.delete_local_below(Offset::MAX).unwrap();
    assert!(!gone.is_empty() && gone.iter().all(|segment| segment.sealed));
}

#[test]
fn an_export_is_read_to_its_end_though_the_segment_goes() {
    let rig = Rig::new();
    for _ in 0..30 {
        rig.append(100);
    }
    rig.settle();
    let first = rig.log.segments()[0];
    let export = rig.log.export(first.base).unwrap().unwrap();
    assert!(rig.log.export(Offset(1)).unwrap().is_none());
    let expected = rig
        .log
        .read(Offset(0), first.bytes as usize, Offset::MAX, true)
        .unwrap()
        .bytes;
    rig.log.delete_local_below(first.end).unwrap();
    assert_eq!(export.read_at(0, usize::MAX).unwrap(), expected);
    let size = batch(100).bytes.len() as u64;
    assert_eq!(export.position_of(Offset(3)).unwrap(), Some(3 * size));
    assert_eq!(export.position_of(first.end).unwrap(), Some(first.bytes));
    assert_eq!(export.epochs, [(EPOCH, Offset(0))]);
}

#[test]
fn a_cut_in_a_segment_goes_back_to_its_producers_and_epochs() {
    let rig = Rig::new();
    for sequence in 0..10 {
        rig.log
            .append_as_leader(&batch_by(5, sequence, false), EPOCH, NOW, false)
            .unwrap();
    }
    let before = rig.log.producers();
    rig.log.begin_epoch(LeaderEpoch(2)).unwrap();
    for sequence in 10..40 {
        let batch = batch_by(5, sequence, false);
        rig.log
            .append_as_leader(&batch, LeaderEpoch(2), NOW, false)
            .unwrap();
    }
    assert_eq!(rig.log.truncate_to(Offset(10)).unwrap(), Offset(10));
    assert_eq!(rig.log.producers(), before);
    assert_eq!(rig.log.epochs(), [(EPOCH, Offset(0))]);
    assert_eq!(
        rig.log.latest_epoch(),
        LeaderEpoch(2),
        "what was seen stays seen"
    );
    assert!(matches!(
        rig.log.truncate_to(Offset(-1)),
        Err(ChangeError::OutOfRange { .. })
    ));
    let batch = batch_by(5, 10, false);
    let appended = rig
        .log
        .append_as_leader(&batch, LeaderEpoch(2), NOW, false)
        .unwrap();
    assert_eq!(appended.base_offset, Offset(10));
    assert_eq!(rig.log.epoch_at(Offset(10)), Some(LeaderEpoch(2)));
}

#[test]
fn a_round_does_not_publish_across_a_cut() {
    let rig = Rig::new();
    rig.append(10);
    rig.append(10);
    let capture = rig.log.capture(None, 0).unwrap();
    rig.log.truncate_to(Offset(1)).unwrap();
    assert_eq!(rig.log.publish(&capture), commit::Published::default());
    assert_eq!(rig.log.durable_end(), Offset(0));
    rig.append(10);
    rig.settle();
    assert_eq!(rig.log.durable_end(), Offset(2));
}

#[test]
fn the_largest_timestamp_is_found_where_it_first_is() {
    let rig = Rig::new();
    assert_eq!(rig.log.offset_of_max_timestamp().unwrap(), None);
    for ms in [5, 9, 2, 9, 7, 1, 3, 8, 9, 4, 4, 4] {
        let batch = batch_of(BatchOptions::default(), 100, Timestamp(NOW.0 + ms));
        rig.log.append_as_leader(&batch, EPOCH, NOW, false).unwrap();
    }
    let found = rig.log.offset_of_max_timestamp().unwrap();
    assert_eq!(found, Some((Timestamp(NOW.0 + 9), Offset(1), EPOCH)));
    let at_or_after = |ms: i64, below: i64| {
        let found = rig
            .log
            .offset_for_timestamp(Timestamp(NOW.0 + ms), Offset(below))
            .unwrap();
        found.map(|(_, offset, _)| offset.0)
    };
    assert_eq!(at_or_after(0, 12), Some(0));
    assert_eq!(at_or_after(6, 12), Some(1));
    assert_eq!(at_or_after(6, 1), None);
    assert_eq!(at_or_after(10, 12), None);
}

#[test]
fn a_directory_without_metadata_that_holds_records_is_set_aside() {
    let rig = Rig::new();
    rig.append(10);
    rig.settle();
    let disk = rig.disk.after_kill();
    disk.remove_file(Path::new("d/topic-0/partition.metadata"))
        .unwrap();
    let directory = open(&disk).unwrap();
    assert_eq!(directory.partitions().unwrap()[0].topic_id, None);
    let opened = directory
        .open_log("topic", 0, TopicId([9; 16]), log_config(), NOW)
        .unwrap();
    assert_eq!(opened.0.written_end(), Offset(0));
    let entries = disk.read_dir(Path::new("d")).unwrap();
    assert!(entries.iter().any(|entry| entry.name.ends_with("-stray")));
}

#[test]
fn epochs_below_log_start_stay_known_while_local_segments_hold_them() {
    let rig = Rig::new();
    for epoch in 1..=4 {
        rig.log.begin_epoch(LeaderEpoch(epoch)).unwrap();
        for _ in 0..10 {
            rig.log
                .append_as_leader(&batch(100), LeaderEpoch(epoch), NOW, false)
                .unwrap();
        }
    }
    rig.settle();
    rig.log.advance_start(Offset(35)).unwrap();
    rig.settle();
    let floor = rig.log.segments()[3].base;
    rig.log.delete_local_below(floor).unwrap();
    assert!(rig.log.local_start_offset() == floor && floor < Offset(30));
    let check = |log: &Log| {
        assert_eq!(log.start_offset(), Offset(35));
        for offset in floor.0..40 {
            let epoch = i32::try_from(offset / 10).unwrap() + 1;
            assert_eq!(log.epoch_at(Offset(offset)), Some(LeaderEpoch(epoch)));
        }
    };
    check(&rig.log);
    rig.settle();
    for seed in 0..4 {
        let (log, _) = open_log(&open(&rig.power_cut(seed)).unwrap()).unwrap();
        check(&log);
    }
}

#[test]
fn a_round_that_ends_while_the_front_goes_does_not_record_the_old_start() {
    let disk = MemoryDisk::new();
    let hooked = Hooked::new(disk.clone(), "durable-ends.log");
    let config = DirectoryConfig::new("d");
    let directory = LogDirectory::open(Arc::new(hooked.clone()), config, &identity(), &mut || {
        [3; 16]
    })
    .unwrap();
    let (log, _) = open_log(&directory).unwrap();
    log.begin_epoch(EPOCH).unwrap();
    for _ in 0..30 {
        log.append_as_leader(&batch(100), EPOCH, NOW, false)
            .unwrap();
    }
    while directory.commit_round().unwrap().more {}
    log.append_as_leader(&batch(1), EPOCH, NOW, false).unwrap();
    let capture = log.capture(None, 0).unwrap();
    for file in &capture.files {
        file.sync_data().unwrap();
    }
    let publishing = Arc::clone(&log);
    hooked.after_sync(move || {
        publishing.publish(&capture);
    });
    let floor = log.segments()[3].base;
    assert_eq!(log.delete_local_below(floor).unwrap().len(), 3);
    // It records what was published meanwhile, and syncs that segments are gone.
    directory.commit_round().unwrap();
    for seed in 0..10 {
        let directory = open(&disk.after_power_cut(seed)).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        assert_eq!(log.local_start_offset(), floor);
        assert_eq!(log.written_end(), Offset(31));
    }
}

#[test]
fn the_front_that_could_not_be_recorded_stays() {
    let rig = Rig::new();
    for _ in 0..30 {
        rig.append(100);
    }
    rig.settle();
    let floor = rig.log.segments()[3].base;
    fill(&rig.disk);
    let refused = rig.log.delete_local_below(floor);
    assert!(matches!(refused, Err(ChangeError::NoSpace)), "{refused:?}");
    assert_eq!(rig.log.local_start_offset(), Offset(0));
    assert!(rig.log.read(Offset(0), 1, Offset::MAX, true).is_ok());
    rig.disk.set_capacity(u64::MAX);
    assert_eq!(rig.log.delete_local_below(floor).unwrap().len(), 3);
}

#[test]
fn what_a_round_published_before_the_front_went_is_not_recorded_behind_it() {
    let rig = Rig::new();
    for _ in 0..30 {
        rig.append(100);
    }
    assert!(
        rig.directory.commit_round().unwrap().more,
        "a record is due"
    );
    let floor = rig.log.segments()[3].base;
    assert_eq!(rig.log.delete_local_below(floor).unwrap().len(), 3);
    rig.directory.commit_round().unwrap();
    for seed in 0..10 {
        let directory = open(&rig.power_cut(seed)).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        assert_eq!(log.local_start_offset(), floor);
        assert_eq!(log.written_end(), Offset(30));
    }
}

/// Everything that a log does while it grows; what was refused is tried again without a limit.
fn grow(rig: &Rig, limits: &mut dyn FnMut()) -> usize {
    let refusals = std::cell::Cell::new(0);
    let attempt = |result: Result<(), AppendError>| match result {
        Ok(()) => true,
        Err(AppendError::Exhausted(_)) => {
            refusals.set(refusals.get() + 1);
            rig.disk.limit_opens(None);
            false
        }
        Err(other) => panic!("{other}"),
    };
    for sequence in 0..8 {
        for transactional in [false, true] {
            let one = batch_by(5 + i64::from(transactional), sequence, transactional);
            limits();
            while !attempt(rig.log.append_as_leader(&one, EPOCH, NOW, false).map(drop)) {}
        }
        let marker = EndTransactionMarker {
            commit: sequence % 2 == 0,
            coordinator_epoch: 0,
        };
        let (id, epoch) = (ProducerId(6), ProducerEpoch(0));
        let end = || {
            rig.log
                .append_marker(id, epoch, marker, EPOCH, NOW)
                .map(drop)
        };
        limits();
        while !attempt(end()) {}
        limits();
        let round = rig.directory.commit_round().unwrap();
        if !round.starved.is_empty() {
            assert!(rig.log.durable_end() < rig.log.written_end());
            refusals.set(refusals.get() + 1);
        }
        rig.disk.limit_opens(None);
    }
    refusals.get()
}

#[test]
fn want_of_descriptors_refuses_cleanly_and_fails_nothing() {
    let mut refusals = 0;
    for opens in 0..6 {
        let rig = Rig::with_open_files(1);
        refusals += grow(&rig, &mut || rig.disk.limit_opens(Some(opens)));
        assert!(!rig.directory.is_failed());
        rig.settle();
        let well = Rig::new();
        grow(&well, &mut || {});
        assert_eq!(rig.bytes(), well.bytes(), "nothing twice, nothing torn");
        assert_eq!(rig.log.durable_end(), rig.log.written_end());
        for seed in 0..4 {
            let (log, _) = open_log(&open(&rig.power_cut(seed)).unwrap()).unwrap();
            assert_eq!(log.written_end(), well.log.written_end());
            let all = |log: &Log| log.aborted_transactions(Offset(0), Offset::MAX).unwrap();
            assert_eq!(all(&log), all(&well.log));
        }
    }
    assert!(refusals > 12, "{refusals}");
}

#[test]
fn changes_that_want_descriptors_are_refused_and_done_later() {
    let rig = Rig::with_open_files(1);
    for _ in 0..30 {
        rig.append(100);
    }
    rig.settle();
    rig.disk.limit_opens(Some(0));
    let refused = |result: Result<(), ChangeError>| {
        assert!(
            matches!(result, Err(ChangeError::Exhausted(_))),
            "{result:?}"
        );
    };
    let floor = rig.log.segments()[3].base;
    refused(rig.log.delete_local_below(floor).map(drop));
    refused(rig.log.roll_now(NOW).map(drop));
    let none = ProducerSnapshot::default();
    refused(rig.log.restart_at(Offset(100), Vec::new(), &none, NOW));
    let listed = rig.directory.partitions();
    assert!(matches!(listed, Err(DirectoryError::Exhausted { .. })));
    assert!(!rig.directory.is_failed());
    assert_eq!(rig.log.written_end(), Offset(30));
    rig.disk.limit_opens(None);
    rig.log.delete_local_below(floor).unwrap();
    rig.log.roll_now(NOW).unwrap();
    rig.append(10);
    assert_eq!(rig.directory.partitions().unwrap().len(), 1);

    let directory = open(&rig.disk.after_kill()).unwrap();
    drop(directory);
    let disk = rig.disk.after_kill();
    let directory = open(&disk).unwrap();
    for opens in 0.. {
        disk.limit_opens(Some(opens));
        match open_log(&directory) {
            Ok((log, _)) => {
                assert_eq!(log.written_end(), Offset(31));
                break;
            }
            Err(OpenLogError::Exhausted { .. }) => assert!(!directory.is_failed()),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn without_aborted_transactions_no_index_is_opened() {
    let rig = Rig::with_open_files(1);
    for _ in 0..30 {
        rig.append(100);
    }
    rig.settle();
    let found = |rig: &Rig, log: &Log, opens| {
        rig.disk.limit_opens(Some(opens));
        let found = log.aborted_transactions(Offset(0), Offset(60)).unwrap();
        rig.disk.limit_opens(None);
        found.len()
    };
    assert_eq!(found(&rig, &rig.log, 0), 0);
    // One in a segment in the middle, and nothing is asked of the others.
    rig.log
        .append_as_leader(&batch_by(6, 0, true), EPOCH, NOW, false)
        .unwrap();
    let abort = EndTransactionMarker {
        commit: false,
        coordinator_epoch: 0,
    };
    rig.log
        .append_marker(ProducerId(6), ProducerEpoch(0), abort, EPOCH, NOW)
        .unwrap();
    for _ in 0..20 {
        rig.append(100);
    }
    assert_eq!(found(&rig, &rig.log, 1), 1);
    assert_eq!(
        rig.log
            .aborted_transactions(Offset(40), Offset(50))
            .unwrap(),
        []
    );
    rig.settle();
    let reopened = |disk: MemoryDisk| {
        let config = DirectoryConfig {
            open_files_max: 1,
            ..DirectoryConfig::new("d")
        };
        let directory = open_with(&disk, config).unwrap();
        let (log, _) = open_log(&directory).unwrap();
        let rig = Rig {
            disk,
            directory,
            log,
        };
        assert_eq!(found(&rig, &rig.log, 1), 1);
        rig
    };
    for seed in 0..4 {
        let rig = reopened(rig.power_cut(seed));
        assert_eq!(rig.log.truncate_to(Offset(35)).unwrap(), Offset(35));
        assert_eq!(found(&rig, &rig.log, 1), 1);
        assert_eq!(rig.log.truncate_to(Offset(31)).unwrap(), Offset(31));
        assert_eq!(found(&rig, &rig.log, 0), 0);
    }
    let rig = reopened(rig.power_cut(9));
    rig.directory
        .register_incarnation(TopicId([8; 16]), None)
        .unwrap();
    rig.directory.clean_shutdown().unwrap();
    reopened(rig.disk.after_kill());
}

#[test]
fn a_log_that_disagrees_is_set_aside_and_begun_anew_at_every_step() {
    let stray = |disk: &MemoryDisk| {
        let entries = disk.read_dir(Path::new("d")).unwrap();
        let mut names = entries.into_iter().map(|entry| entry.name);
        names.find(|name| name.ends_with("-stray"))
    };
    for change in 1.. {
        let rig = Rig::new();
        for sequence in 0..30 {
            let batch = batch_by(5, sequence, false);
            rig.log.append_as_leader(&batch, EPOCH, NOW, false).unwrap();
        }
        rig.settle();
        let given = rig.log.producers();
        let bytes = rig.bytes();
        let epochs = vec![(LeaderEpoch(2), Offset(0)), (LeaderEpoch(4), Offset(10))];
        rig.disk.crash_at(rig.disk.operations() + change);
        let restarted = rig
            .log
            .set_aside_and_restart_at(Offset(20), epochs, &given, NOW);
        let done = restarted.is_ok();
        let disk = rig.power_cut(change);
        let directory = open(&disk).unwrap();
        let (log, report) = open_log(&directory).unwrap();
        if log.written_end() == Offset(30) {
            assert!(!done, "{report:?}");
            assert_eq!(stray(&disk), None, "it is where it was");
            let rig = Rig {
                disk,
                directory,
                log,
            };
            assert!(rig.bytes() == bytes);
            continue;
        }
        let (start, end) = (log.local_start_offset(), log.written_end());
        assert_eq!(start, end, "{report:?}");
        assert!(start == Offset(20) || (start == Offset(0) && !done));
        // What was there is there still, to the byte.
        let aside = Path::new("d").join(stray(&disk).unwrap());
        let mut kept = Vec::new();
        for entry in disk.read_dir(&aside).unwrap() {
            if entry.name.ends_with(".log") {
                kept.extend(crate::disk::read_all(&disk, &aside.join(entry.name)).unwrap());
            }
        }
        assert!(kept == bytes);
        if done {
            assert_eq!(restarted.unwrap().file_name(), aside.file_name());
            assert_eq!(log.producers(), given);
            assert_eq!(log.epoch_at(Offset(19)), Some(LeaderEpoch(4)));
            assert_eq!(log.latest_epoch(), LeaderEpoch(4));
            log.begin_epoch(LeaderEpoch(5)).unwrap();
            let appended = log
                .append_as_leader(&batch(1), LeaderEpoch(5), NOW, false)
                .unwrap();
            assert_eq!(appended.base_offset, Offset(20));
            break;
        }
    }
}

#[test]
fn a_log_goes_on_in_place_of_the_one_that_was_set_aside() {
    let rig = Rig::new();
    for _ in 0..30 {
        rig.append(100);
    }
    let epochs = || vec![(LeaderEpoch(2), Offset(0))];
    let none = ProducerSnapshot::default();
    let first = rig
        .log
        .set_aside_and_restart_at(Offset(20), epochs(), &none, NOW)
        .unwrap();
    assert_eq!(rig.log.epoch_at(Offset(20)), None);
    rig.log.begin_epoch(LeaderEpoch(3)).unwrap();
    for _ in 0..20 {
        rig.log
            .append_as_leader(&batch(100), LeaderEpoch(3), NOW, false)
            .unwrap();
    }
    assert_eq!(rig.log.epoch_at(Offset(20)), Some(LeaderEpoch(3)));
    let second = rig
        .log
        .set_aside_and_restart_at(Offset(30), epochs(), &none, NOW)
        .unwrap();
    assert_ne!(first, second, "none takes the place of another");
    assert_eq!(rig.directory.partitions().unwrap().len(), 1);
    rig.log.begin_epoch(LeaderEpoch(4)).unwrap();
    rig.log
        .append_as_leader(&batch(100), LeaderEpoch(4), NOW, false)
        .unwrap();
    rig.settle();
    assert_eq!(rig.log.durable_end(), Offset(31));
    let (log, _) = open_log(&open(&rig.power_cut(1)).unwrap()).unwrap();
    assert_eq!(
        (log.local_start_offset(), log.written_end()),
        (Offset(30), Offset(31))
    );
}

#[test]
fn a_roll_that_finds_no_space_leaves_the_indexes_as_they_were() {
    let rig = Rig::new();
    rig.append(100);
    rig.append(100);
    let entries = |rig: &Rig| {
        let state = rig.log.state();
        let active = &state.active;
        (active.offset_index.count(), active.time_index.count())
    };
    let before = entries(&rig);
    rig.disk.set_capacity(0);
    rig.log.roll_now(NOW).unwrap_err();
    assert_eq!(entries(&rig), before);
    rig.disk.set_capacity(u64::MAX);
    rig.log.roll_now(NOW).unwrap();
}

mod compaction;
mod journal;

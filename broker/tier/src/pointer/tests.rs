use super::*;

const NONE: LeaderEpoch = LeaderEpoch::NONE;

fn pointer() -> Pointer {
    Pointer {
        claimed_epoch: LeaderEpoch(3),
        manifest: Some("head".to_owned()),
        checksum: 9,
        version: 4,
        tier_end: Offset(100),
        tier_end_epoch: LeaderEpoch(2),
        log_start: Offset(50),
        local_floor: Offset(100),
    }
}

fn facts(log_start: i64, batch: Option<(i64, i32)>, before: i32) -> LogFacts {
    LogFacts {
        log_start: Offset(log_start),
        log_start_batch: batch.map(|(base, epoch)| BatchBefore {
            base: Offset(base),
            epoch_before: LeaderEpoch(epoch),
        }),
        epoch_before: LeaderEpoch(before),
    }
}

#[test]
fn a_claim_on_an_absent_key_starts_at_the_log_start() {
    let claimed = claim(None, &facts(0, None, -1), LeaderEpoch(5)).unwrap();
    assert_eq!(
        (claimed.tier_end, claimed.log_start, claimed.version),
        (Offset(0), Offset(0), 0)
    );
    assert_eq!((claimed.tier_end_epoch, claimed.manifest), (NONE, None));
    // The log start lies inside a batch: an object can only start where one does.
    let claimed = claim(None, &facts(17, Some((15, 2)), 2), LeaderEpoch(5)).unwrap();
    assert_eq!(
        (claimed.tier_end, claimed.log_start),
        (Offset(15), Offset(17))
    );
    assert_eq!(
        (claimed.tier_end_epoch, claimed.local_floor),
        (LeaderEpoch(2), Offset(15))
    );
    let claimed = claim(None, &facts(17, None, 4), LeaderEpoch(5)).unwrap();
    assert_eq!(
        (claimed.tier_end, claimed.tier_end_epoch),
        (Offset(17), LeaderEpoch(4))
    );
}

#[test]
fn a_claim_changes_the_epoch_only_and_never_backwards() {
    let claimed = claim(Some(&pointer()), &facts(0, None, -1), LeaderEpoch(5)).unwrap();
    assert_eq!(
        claimed,
        Pointer {
            claimed_epoch: LeaderEpoch(5),
            ..pointer()
        }
    );
    assert_eq!(
        claim(Some(&pointer()), &facts(0, None, -1), LeaderEpoch(3)),
        Ok(pointer())
    );
    let fenced = Fenced {
        given: LeaderEpoch(2),
        claimed: LeaderEpoch(3),
    };
    assert_eq!(
        claim(Some(&pointer()), &facts(0, None, -1), LeaderEpoch(2)),
        Err(fenced)
    );
}

#[test]
fn a_log_start_moves_forward_only() {
    assert_eq!(
        advance_log_start(&pointer(), Offset(49), None, NONE),
        pointer()
    );
    let moved = advance_log_start(&pointer(), Offset(70), None, NONE);
    assert_eq!(
        moved,
        Pointer {
            log_start: Offset(70),
            ..pointer()
        }
    );
    let moved = advance_log_start(&pointer(), Offset(100), None, NONE);
    assert_eq!(
        moved,
        Pointer {
            log_start: Offset(100),
            ..pointer()
        }
    );
}

#[test]
fn a_log_start_beyond_the_tier_end_takes_it_along_to_a_batch_border() {
    let batch = BatchBefore {
        base: Offset(118),
        epoch_before: LeaderEpoch(3),
    };
    let moved = advance_log_start(&pointer(), Offset(120), Some(batch), LeaderEpoch(3));
    assert_eq!(
        (moved.tier_end, moved.log_start),
        (Offset(118), Offset(120))
    );
    assert_eq!(
        (moved.tier_end_epoch, moved.local_floor),
        (LeaderEpoch(3), Offset(118))
    );
    assert_eq!(moved.version, 4, "no manifest was written");
    let moved = advance_log_start(&pointer(), Offset(120), None, LeaderEpoch(3));
    assert_eq!(
        (moved.tier_end, moved.tier_end_epoch),
        (Offset(120), LeaderEpoch(3))
    );
    // The batch at the tier end itself holds the new log start: the tier end stays.
    let batch = BatchBefore {
        base: Offset(100),
        epoch_before: LeaderEpoch(2),
    };
    let moved = advance_log_start(&pointer(), Offset(101), Some(batch), LeaderEpoch(3));
    assert_eq!(
        (moved.tier_end, moved.tier_end_epoch),
        (Offset(100), LeaderEpoch(2))
    );
}

#[test]
fn a_log_that_starts_anew_above_the_tier_moves_its_end() {
    let ahead = Pointer {
        log_start: Offset(130),
        ..pointer()
    };
    assert_eq!(ahead.restart_offset(), Offset(130));
    let moved = restart_at(&ahead, Offset(130), LeaderEpoch(6)).unwrap();
    assert_eq!(
        (moved.tier_end, moved.tier_end_epoch),
        (Offset(130), LeaderEpoch(6))
    );
    assert_eq!(
        (moved.claimed_epoch, moved.local_floor),
        (LeaderEpoch(6), Offset(130))
    );
    let same = restart_at(&pointer(), Offset(100), LeaderEpoch(6)).unwrap();
    assert_eq!(
        same,
        Pointer {
            claimed_epoch: LeaderEpoch(6),
            ..pointer()
        }
    );
    assert!(restart_at(&pointer(), Offset(100), LeaderEpoch(2)).is_err());
}

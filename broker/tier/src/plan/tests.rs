use esker_protocol::{LeaderEpoch, Offset, Timestamp};
use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn pointer(tier_end: i64) -> Pointer {
    Pointer {
        claimed_epoch: LeaderEpoch(1),
        manifest: None,
        checksum: 0,
        version: 0,
        tier_end: Offset(tier_end),
        tier_end_epoch: LeaderEpoch(1),
        log_start: Offset(0),
        local_floor: Offset(tier_end),
    }
}

/// Segments of ten offsets each, from 0 on.
fn segments(sizes: &[(u64, i64)]) -> Vec<SealedSegment> {
    let segment = |(number, (bytes, sealed_at)): (usize, &(u64, i64))| SealedSegment {
        base: Offset(10 * number as i64),
        end: Offset(10 * (number as i64 + 1)),
        bytes: *bytes,
        sealed_at: Timestamp(*sealed_at),
    };
    sizes.iter().enumerate().map(segment).collect()
}

fn check(
    sizes: &[(u64, i64)],
    tier_end: i64,
    committable: i64,
    now: i64,
    reserve: bool,
) -> Vec<Vec<i64>> {
    let config = OffloadConfig::default();
    let (end, now) = (Offset(committable), Timestamp(now));
    let plan = plan_offload(
        &segments(sizes),
        &pointer(tier_end),
        end,
        &config,
        now,
        reserve,
    );
    let bases = |object: &Vec<SealedSegment>| object.iter().map(|segment| segment.base.0).collect();
    plan.map(|plan| plan.objects.iter().map(bases).collect())
        .unwrap_or_default()
}

const NOTHING: [Vec<i64>; 0] = [];

#[test]
fn what_is_large_enough_goes_and_what_is_small_waits_for_its_age() {
    assert_eq!(check(&[(MIB, 0)], 0, 10, 1, false), [[0]]);
    assert_eq!(check(&[(MIB - 1, 0)], 0, 10, 599_999, false), NOTHING);
    assert_eq!(check(&[(MIB - 1, 0)], 0, 10, 600_000, false), [[0]]);
    assert_eq!(
        check(&[(MIB - 1, 0)], 0, 10, 1, true),
        [[0]],
        "near the reserve nothing waits"
    );
    assert_eq!(
        check(&[(MIB / 2, 0), (MIB / 2, 0)], 0, 20, 1, false),
        [[0, 10]]
    );
}

#[test]
fn only_what_is_committed_goes() {
    let sizes = [(MIB, 0), (MIB, 0), (MIB, 0)];
    assert_eq!(check(&sizes, 0, 29, 1, false), [[0, 10]]);
    assert_eq!(check(&sizes, 0, 9, 1, true), NOTHING);
    assert_eq!(check(&sizes, 10, 30, 1, false), [[10, 20]]);
    assert_eq!(check(&sizes, 30, 30, 1, true), NOTHING);
}

#[test]
fn a_tier_end_inside_a_segment_starts_there() {
    let plan = plan_offload(
        &segments(&[(MIB, 0), (MIB, 0)]),
        &pointer(4),
        Offset(20),
        &OffloadConfig::default(),
        Timestamp(1),
        false,
    )
    .unwrap();
    assert_eq!(
        (plan.from, plan.to, plan.segments().count()),
        (Offset(4), Offset(20), 2)
    );
}

#[test]
fn a_log_that_does_not_reach_down_to_the_tier_end_offloads_nothing() {
    let mut all = segments(&[(MIB, 0), (MIB, 0)]);
    all.remove(0);
    let config = OffloadConfig::default();
    assert_eq!(
        plan_offload(&all, &pointer(5), Offset(20), &config, Timestamp(1), true),
        None
    );
    let mut gap = segments(&[(MIB, 0), (MIB, 0), (MIB, 0)]);
    gap.remove(1);
    let plan = plan_offload(&gap, &pointer(0), Offset(30), &config, Timestamp(1), true).unwrap();
    assert_eq!(plan.to, Offset(10));
}

#[test]
fn segments_are_bundled_up_to_the_object_size_and_a_large_one_is_alone() {
    let sizes = [
        (30 * MIB, 0),
        (30 * MIB, 0),
        (30 * MIB, 0),
        (1024 * MIB, 0),
        (MIB / 2, 0),
    ];
    let goes = check(&sizes, 0, 50, 1, false);
    assert_eq!(
        goes,
        [vec![0, 10], vec![20], vec![30]],
        "the small rest waits"
    );
    assert_eq!(check(&sizes, 0, 50, 1, true).last().unwrap(), &[40]);
}

#[test]
fn the_wait_ends_by_age() {
    let all = segments(&[(10, 1000), (10, 2000)]);
    let config = OffloadConfig::default();
    let at = next_offload_at(&all, &pointer(0), Offset(20), &config);
    assert_eq!(at, Some(Timestamp(601_000)));
    assert_eq!(
        next_offload_at(&all, &pointer(20), Offset(20), &config),
        None
    );
    let plan = plan_offload(
        &all,
        &pointer(0),
        Offset(20),
        &config,
        Timestamp(601_000),
        false,
    );
    assert_eq!(
        plan.unwrap().to,
        Offset(20),
        "the one that is due takes its successor with it"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_an_unbroken_run_from_the_tier_end(
        sizes in prop::collection::vec((1..80 * MIB, 0..1_000_000_i64), 1..30),
        tier_end in 0..300_i64,
        committable in 0..320_i64,
        now in 0..2_000_000_i64,
        reserve in any::<bool>(),
    ) {
        let all = segments(&sizes);
        let config = OffloadConfig::default();
        let end = Offset(committable);
        let plan = plan_offload(&all, &pointer(tier_end), end, &config, Timestamp(now), reserve);
        let Some(plan) = plan else {
            // Nothing goes only if nothing may, or all that may is small and young.
            let may: Vec<_> = all.iter().filter(|s| s.end.0 > tier_end && s.end <= end).collect();
            let bytes: u64 = may.iter().map(|segment| segment.bytes).sum();
            let young = may.iter().all(|s| now < s.sealed_at.0 + config.age_max_ms);
            prop_assert!(may.is_empty() || (bytes < MIB && young && !reserve));
            return Ok(());
        };
        prop_assert_eq!(plan.from, Offset(tier_end));
        let planned: Vec<_> = plan.segments().collect();
        prop_assert!(planned[0].base <= plan.from && plan.from < planned[0].end);
        prop_assert!(planned.windows(2).all(|pair| pair[0].end == pair[1].base));
        prop_assert_eq!(planned.last().unwrap().end, plan.to);
        prop_assert!(plan.to <= end);
        prop_assert!(plan.objects.len() <= COMMIT_OBJECTS_MAX);
        for object in &plan.objects {
            let bytes: u64 = object.iter().map(|segment| segment.bytes).sum();
            prop_assert!(object.len() == 1 || bytes <= config.object_bytes_max);
        }
    }
}

use super::*;

fn pointer(tier_end: i64, log_start: i64) -> Pointer {
    Pointer {
        claimed_epoch: LeaderEpoch(3),
        manifest: Some("m".to_owned()),
        checksum: 0,
        version: 1,
        tier_end: Offset(tier_end),
        tier_end_epoch: LeaderEpoch(2),
        log_start: Offset(log_start),
        local_floor: Offset(tier_end),
    }
}

fn log(start: i64, end: i64, epoch: Option<i32>) -> LocalFacts {
    LocalFacts {
        start: Offset(start),
        end: Offset(end),
        epoch_at_tier_end: epoch.map(LeaderEpoch),
    }
}

#[test]
fn a_log_with_the_tiers_last_epoch_agrees() {
    assert_eq!(
        agreement(&pointer(100, 0), log(0, 150, Some(2))),
        Agreement::Agrees
    );
    assert_eq!(
        agreement(&pointer(100, 0), log(50, 100, Some(2))),
        Agreement::Agrees
    );
    assert_eq!(
        agreement(&pointer(100, 0), log(100, 120, None)),
        Agreement::Agrees
    );
    assert_eq!(
        agreement(&pointer(0, 0), log(0, 0, None)),
        Agreement::Agrees
    );
}

#[test]
fn a_shorter_log_or_another_one_starts_anew_where_the_tier_ends() {
    let restarts = Agreement::RestartsAt(Offset(100));
    assert_eq!(agreement(&pointer(100, 0), log(0, 0, None)), restarts);
    assert_eq!(agreement(&pointer(100, 0), log(0, 99, None)), restarts);
    assert_eq!(agreement(&pointer(100, 0), log(0, 150, Some(1))), restarts);
    assert_eq!(
        agreement(&pointer(100, 120), log(0, 110, Some(2))),
        Agreement::RestartsAt(Offset(120))
    );
}

#[test]
fn a_log_that_begins_above_the_tier_proves_a_rewound_store() {
    assert_eq!(
        agreement(&pointer(100, 0), log(101, 150, None)),
        Agreement::Rewound
    );
}

#[test]
fn pointers_and_values_are_the_same_facts() {
    let original = pointer(100, 7);
    let unknown = Unknown::default();
    assert_eq!(from_value(to_value(&original, &unknown)).0, original);
}

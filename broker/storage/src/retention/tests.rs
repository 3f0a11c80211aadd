use super::*;

fn segment(base: i64, end: i64, bytes: u64, max_timestamp: i64, sealed: bool) -> SegmentInfo {
    SegmentInfo {
        base: Offset(base),
        end: Offset(end),
        bytes,
        max_timestamp: Timestamp(max_timestamp),
        sealed,
        created: Timestamp(500),
    }
}

fn segments() -> Vec<SegmentInfo> {
    vec![
        segment(0, 10, 100, 1000, true),
        segment(10, 20, 100, 2000, true),
        segment(20, 30, 100, 3000, true),
        segment(30, 35, 50, 4000, false),
    ]
}

const HIGH: Offset = Offset(35);

fn by_bytes(bytes: u64) -> Limits {
    Limits {
        bytes: Some(bytes),
        ms: None,
    }
}

fn by_ms(ms: i64) -> Limits {
    Limits {
        bytes: None,
        ms: Some(ms),
    }
}

#[test]
fn size_keeps_at_least_the_limit() {
    let start = |bytes| log_start(&segments(), by_bytes(bytes), Timestamp(0), HIGH);
    assert_eq!(start(350), None);
    assert_eq!(start(251), None);
    assert_eq!(start(250), Some(Offset(10)));
    assert_eq!(start(150), Some(Offset(20)));
    // The active segment stays whatever the limit.
    assert_eq!(start(0), Some(Offset(30)));
}

#[test]
fn time_goes_by_the_newest_record_of_a_segment() {
    let start = |now| log_start(&segments(), by_ms(1000), Timestamp(now), HIGH);
    assert_eq!(start(2000), None);
    assert_eq!(start(2001), Some(Offset(10)));
    assert_eq!(start(9999), Some(Offset(30)));
}

#[test]
fn a_segment_without_timestamps_ages_from_its_beginning() {
    let segments = [segment(0, 5, 10, -1, true), segment(5, 6, 10, 9000, false)];
    assert_eq!(
        log_start(&segments, by_ms(1000), Timestamp(1500), HIGH),
        None
    );
    assert_eq!(
        log_start(&segments, by_ms(1000), Timestamp(1501), HIGH),
        Some(Offset(5))
    );
}

#[test]
fn nothing_above_the_high_watermark_or_the_floor_goes() {
    assert_eq!(
        log_start(&segments(), by_bytes(0), Timestamp(0), Offset(19)),
        Some(Offset(10))
    );
    assert_eq!(
        local_start(&segments(), by_bytes(0), Timestamp(0), Offset(20)),
        Some(Offset(20))
    );
    assert_eq!(
        local_start(&segments(), by_bytes(0), Timestamp(0), Offset(9)),
        None
    );
    assert_eq!(
        local_start(&segments(), Limits::default(), Timestamp(9999), HIGH),
        None
    );
}

#[test]
fn the_reserve_takes_only_what_is_wanted_and_allowed() {
    let start = |wanted, floor| local_start_at_reserve(&segments(), wanted, Offset(floor));
    assert_eq!(start(0, 30), None);
    assert_eq!(start(1, 30), Some(Offset(10)));
    assert_eq!(start(101, 30), Some(Offset(20)));
    assert_eq!(start(u64::MAX, 25), Some(Offset(20)));
}

#[test]
fn an_active_segment_that_is_all_too_old_is_sealed_first() {
    assert!(!wants_roll(&segments(), by_ms(1000), Timestamp(5000)));
    assert!(wants_roll(&segments(), by_ms(1000), Timestamp(5001)));
    assert!(!wants_roll(
        &segments(),
        Limits::default(),
        Timestamp(9_999_999)
    ));
    let empty = [segment(0, 0, 0, -1, false)];
    assert!(!wants_roll(&empty, by_ms(1), Timestamp(9_999_999)));
}

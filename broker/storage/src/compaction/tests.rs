use std::collections::BTreeSet;
use std::convert::Infallible;

use bytes::Bytes;
use esker_protocol::records::{Batch, BatchBuilder, BatchHeader, BatchOptions, Caps, Compression};
use esker_protocol::{ProducerEpoch, ProducerId, Timestamp};

use super::filter::Judged;
use super::*;
use crate::log::SegmentInfo;

const NOW: Timestamp = Timestamp(1_000_000);
const DAY_MS: i64 = 24 * 3_600_000;

/// Sealed segments of 10 offsets and 100 bytes each, and an active one behind them.
fn segments(sealed: i64) -> Vec<SegmentInfo> {
    let segment = |index: i64| SegmentInfo {
        base: Offset(index * 10),
        end: Offset(index * 10 + 10),
        bytes: 100,
        max_timestamp: Timestamp(NOW.0 - 1000 * (sealed - index)),
        sealed: index < sealed,
        created: NOW,
    };
    (0..=sealed).map(segment).collect()
}

fn part(sealed: i64, clean_end: i64, bound: i64, rules: CompactionRules) -> Option<Cleanable> {
    let first = |base: Offset| Ok::<_, Infallible>(Timestamp(NOW.0 - 10_000 + base.0));
    let found = cleanable(
        &segments(sealed),
        Offset(clean_end),
        Offset(bound),
        &rules,
        NOW,
        first,
    );
    found.unwrap()
}

/// First dirty offset, end, clean bytes, dirty bytes.
fn bounds(part: Option<Cleanable>) -> Option<(i64, i64, u64, u64)> {
    part.map(|part| {
        let (first, end) = (part.first_dirty.0, part.end.0);
        (first, end, part.clean_bytes, part.dirty_bytes)
    })
}

#[test]
fn a_pass_takes_whole_sealed_segments_below_its_bound() {
    let rules = CompactionRules::default();
    let taken = |clean, bound| bounds(part(4, clean, bound, rules));
    assert_eq!(taken(0, 1000), Some((0, 40, 0, 400)));
    assert_eq!(taken(20, 1000), Some((20, 40, 200, 200)));
    assert_eq!(taken(20, 39), Some((20, 30, 200, 100)));
    assert_eq!(taken(20, 30), Some((20, 30, 200, 100)));
    assert_eq!(taken(20, 29), None);
    assert_eq!(taken(40, 1000), None);
    // A pass that a full map ended inside a segment goes on there.
    assert_eq!(taken(25, 1000), Some((25, 40, 300, 200)));
    assert_eq!(bounds(part(0, 0, 1000, rules)), None);
}

#[test]
fn a_pass_is_worth_it_above_the_ratio_alone_unless_a_record_waits_too_long() {
    let rules = CompactionRules::default();
    let due = |clean, rules: CompactionRules| part(4, clean, 1000, rules).unwrap().is_due(&rules);
    assert!(due(10, rules));
    // Exactly the ratio is not above it.
    assert!(!due(20, rules));
    assert!(!due(30, rules));
    let overdue = CompactionRules {
        lag_ms_max: 9_000,
        ..rules
    };
    assert!(due(30, overdue));
    let patient = CompactionRules {
        lag_ms_max: 11_000,
        ..rules
    };
    assert!(!due(30, patient));
    let all = CompactionRules {
        dirty_ratio_min: 0.0,
        ..rules
    };
    assert!(due(30, all));
}

#[test]
fn a_segment_with_a_young_record_ends_the_pass() {
    let until = |lag_ms_min| {
        let rules = CompactionRules {
            lag_ms_min,
            ..CompactionRules::default()
        };
        part(4, 0, 1000, rules).map(|part| part.end.0)
    };
    assert_eq!(until(0), Some(40));
    assert_eq!(until(999), Some(40));
    assert_eq!(until(1001), Some(30));
    assert_eq!(until(3500), Some(10));
    assert_eq!(until(5000), None);
}

fn source(base: i64, end: i64, bytes: u64) -> Source {
    Source {
        base: Offset(base),
        end: Offset(end),
        bytes,
        created: NOW,
        offset_index_bytes: bytes / 10,
        time_index_bytes: bytes / 20,
    }
}

#[test]
fn neighbours_merge_within_the_size_of_a_segment_its_indexes_and_its_reach() {
    let bases = |sources: &[Source], segment_bytes, index_bytes| -> Vec<Vec<i64>> {
        groups(sources, segment_bytes, index_bytes)
            .iter()
            .map(|group| group.iter().map(|source| source.base.0).collect())
            .collect()
    };
    let small = [
        source(0, 10, 40),
        source(10, 20, 40),
        source(20, 30, 40),
        source(30, 40, 200),
        source(40, 50, 1),
    ];
    assert_eq!(
        bases(&small, 100, 1000),
        [vec![0, 10], vec![20], vec![30], vec![40]]
    );
    assert_eq!(bases(&small, 1000, 1000), [[0, 10, 20, 30, 40]]);
    assert_eq!(
        bases(&small, 1000, 8),
        [vec![0, 10], vec![20], vec![30], vec![40]]
    );
    let far = i64::from(i32::MAX);
    let wide = [
        source(0, 10, 1),
        source(10, far, 1),
        source(far, far + 2, 1),
    ];
    assert_eq!(bases(&wide, 1000, 1000), [vec![0, 10], vec![far]]);
    assert_eq!(bases(&[], 1000, 1000), Vec::<Vec<i64>>::new());
}

fn map(map_bytes: usize, records: u64) -> OffsetMap {
    OffsetMap::new(map_bytes, 0.5, records, &[9; 16], Offset(0))
}

#[test]
fn the_map_keeps_the_last_offset_of_each_key_and_says_when_it_is_full() {
    let mut keys = map(24 * 64, 1 << 40);
    assert_eq!(keys.bytes(), 24 * 64);
    for offset in 0..32u8 {
        assert!(keys.put(&[offset % 16], Offset(i64::from(offset))));
    }
    for key in 0..16u8 {
        assert_eq!(keys.get(&[key]), Some(Offset(i64::from(key) + 16)));
    }
    assert_eq!(keys.get(b"another"), None);
    for key in 16..32u8 {
        assert!(keys.put(&[key], Offset(100)));
    }
    assert!(!keys.put(b"one too many", Offset(101)));
    assert_eq!(keys.get(b"one too many"), None);
    // A key that is known needs no more room.
    assert!(keys.put(&[3], Offset(102)));
    assert_eq!(keys.get(&[3]), Some(Offset(102)));
}

#[test]
fn the_map_takes_no_more_memory_than_the_records_need() {
    assert!(map(128 << 20, 100).bytes() < 24 * 300);
    assert!(map(1000, 1 << 40).bytes() <= 1000);
}

/// A batch at `base` of one record each of `keys`, `None` being a tombstone.
fn batch(base: i64, producer: Option<i64>, keys: &[(&[u8], Option<&[u8]>)]) -> Bytes {
    let mut options = BatchOptions {
        base_offset: Offset(base),
        compression: Compression::Lz4,
        ..BatchOptions::default()
    };
    if let Some(id) = producer {
        options.producer_id = ProducerId(id);
        options.producer_epoch = ProducerEpoch(0);
        options.base_sequence = 7;
    }
    let mut builder = BatchBuilder::new(options);
    for (key, value) in keys {
        let key = (*key != b"none").then_some(*key);
        builder.append(NOW, key, *value, &[]).unwrap();
    }
    builder.build().unwrap()
}

/// A filter that has mapped `keys`, up to `end`.
fn filter(keys: &[(&[u8], i64)], end: i64, now: Timestamp) -> Filter {
    let mut map = map(1 << 16, 1000);
    for (key, offset) in keys {
        assert!(map.put(key, Offset(*offset)));
    }
    map.advance(Offset(end));
    Filter {
        map,
        now,
        delete_retention_ms: DAY_MS,
        last_of_producers: BTreeSet::from([(ProducerId(1), Offset(1))]),
    }
}

fn judge(filter: &Filter, bytes: &[u8], is_last: bool) -> Judged {
    let (batch, _) = Batch::parse(bytes).unwrap();
    filter.judge(&batch, is_last).unwrap()
}

/// The offsets that are left of a batch.
fn left(judged: &Judged, before: &[u8]) -> Option<Vec<i64>> {
    let bytes = match &judged.verdict {
        Verdict::Goes => return None,
        Verdict::Stays => before,
        Verdict::Becomes(bytes) => bytes,
    };
    let (batch, _) = Batch::parse(bytes).unwrap();
    assert!(batch.crc_is_valid());
    let records = batch.records(&Caps::DEFAULT).unwrap();
    let offsets: Vec<i64> = records.iter().map(|one| one.unwrap().offset.0).collect();
    assert_eq!(offsets.len() as u64, judged.records_left);
    Some(offsets)
}

#[test]
fn of_a_key_the_last_record_stays() {
    let value = Some(&b"v"[..]);
    let bytes = batch(0, None, &[(b"a", value), (b"b", value), (b"none", value)]);
    let filter = filter(&[(b"a", 5), (b"b", 1)], 10, NOW);
    assert_eq!(left(&judge(&filter, &bytes, false), &bytes), Some(vec![1]));
    // What is not mapped yet is as it was, records without a key too.
    let later = batch(10, None, &[(b"a", value), (b"none", value)]);
    assert_eq!(judge(&filter, &later, false).verdict, Verdict::Stays);
}

#[test]
fn a_batch_with_nothing_left_goes_unless_something_rests_on_it() {
    let value = Some(&b"v"[..]);
    let keys = [(&b"a"[..], value), (b"a", value)];
    let filter = filter(&[(b"a", 5)], 10, NOW);
    let verdict = |producer, is_last| {
        let bytes = batch(0, producer, &keys);
        let judged = judge(&filter, &bytes, is_last);
        left(&judged, &bytes).map(|offsets| {
            assert!(offsets.is_empty());
            let Verdict::Becomes(bytes) = &judged.verdict else {
                panic!("{judged:?}");
            };
            let header = BatchHeader::parse(bytes).unwrap();
            (header.last_offset().0, header.last_sequence())
        })
    };
    assert_eq!(verdict(None, false), None);
    assert_eq!(verdict(None, true), Some((1, -1)));
    // The last batch of a producer says what its next sequence is.
    assert_eq!(verdict(Some(1), false), Some((1, 8)));
    assert_eq!(verdict(Some(2), false), None);
    // An empty one stays as it is, or goes.
    let before = batch(0, Some(1), &keys);
    let header = BatchHeader::parse(&before).unwrap();
    let empty = esker_protocol::records::emptied(&header);
    assert_eq!(judge(&filter, &empty, false).verdict, Verdict::Stays);
    let header = BatchHeader::parse(&batch(0, None, &keys)).unwrap();
    let empty = esker_protocol::records::emptied(&header);
    assert_eq!(judge(&filter, &empty, true).verdict, Verdict::Stays);
    assert_eq!(judge(&filter, &empty, false).verdict, Verdict::Goes);
}

#[test]
fn a_tombstone_goes_when_the_horizon_that_its_first_pass_set_has_passed() {
    let value = Some(&b"v"[..]);
    let bytes = batch(0, None, &[(b"a", value), (b"b", None)]);
    let keys: &[(&[u8], i64)] = &[(b"a", 0), (b"b", 1)];
    let met = judge(&filter(keys, 10, NOW), &bytes, false);
    let Verdict::Becomes(met) = met.verdict else {
        panic!("{met:?}");
    };
    let horizon = Timestamp(NOW.0 + DAY_MS);
    let header = BatchHeader::parse(&met).unwrap();
    assert!(header.attributes.has_delete_horizon());
    assert_eq!(header.base_timestamp, horizon);
    assert_eq!(header.max_timestamp, NOW);
    // A later pass moves nothing, until the time has come.
    let before = Timestamp(horizon.0 - 1);
    let kept = judge(&filter(&[], 10, before), &met, false);
    assert_eq!(kept.verdict, Verdict::Stays);
    let gone = judge(&filter(&[], 10, horizon), &met, false);
    assert_eq!(left(&gone, &met), Some(vec![0]));
}

#[test]
fn control_batches_stay() {
    let marker = esker_protocol::records::EndTransactionMarker {
        commit: true,
        coordinator_epoch: 1,
    };
    let bytes = marker.to_batch(
        ProducerId(1),
        ProducerEpoch(0),
        NOW,
        Offset(3),
        esker_protocol::LeaderEpoch(0),
    );
    let judged = judge(&filter(&[], 10, NOW), &bytes, false);
    assert_eq!(judged.verdict, Verdict::Stays);
}

#[test]
fn a_batch_that_cannot_be_read_ends_the_pass() {
    let mut bytes = batch(0, None, &[(b"a", Some(b"v"))]).to_vec();
    let last = bytes.len() - 1;
    bytes.truncate(last);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let judged = filter(&[], 10, NOW).judge(&batch, false);
    let error = judged.unwrap_err();
    assert!(matches!(
        error,
        CompactionError::Records {
            offset: Offset(0),
            ..
        }
    ));
    assert!(!error.is_retriable());
}

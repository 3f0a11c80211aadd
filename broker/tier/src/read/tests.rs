use std::time::Duration;

use bytes::Bytes;
use esker_protocol::records::Batches;
use esker_protocol::{LeaderEpoch, Offset, ProducerId, Timestamp};
use tokio::time::timeout;

use super::ahead::Readers;
use super::cache::Cache;
use super::{ReadConfig, ReadError};
use crate::fault::{Fault, Operation, Rule};
use crate::pointer::{BatchBefore, advance_log_start};
use crate::source::AbortedTransaction;
use crate::testing::{BatchPlan, EPOCH, Segment, Tier, partition, random, segment, segments};
use crate::upload::UploadConfig;

const NO_CACHE: ReadConfig = ReadConfig {
    frame_bytes_max: 0,
    metadata_bytes_max: 0,
    read_ahead_bytes_max: 0,
};

/// Segments of several frames each.
fn large_segments(count: usize, batches: usize) -> Vec<Segment> {
    let random = random(9);
    let mut all = Vec::new();
    let mut next = Offset::ZERO;
    for number in 0..count {
        let plan = |n: usize| BatchPlan {
            records: 2,
            value_bytes: 40_000,
            timestamp: (number * batches + n) as i64,
            epoch: EPOCH,
            noise: n.is_multiple_of(2),
        };
        let plans: Vec<_> = (0..batches).map(plan).collect();
        let made = segment(next, &plans, &random);
        next = made.end;
        all.push(made);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn what_was_uploaded_is_read_back_byte_for_byte() {
    let mut tier = Tier::plain();
    for chunk in segments(Offset::ZERO, 12, 20).chunks(3) {
        tier.offload(chunk).await;
    }
    for bytes_max in [1, 500, 4096, 1 << 20] {
        assert_eq!(
            tier.read_all(Offset::ZERO, bytes_max).await,
            tier.expected(Offset::ZERO)
        );
    }
    for offset in [1, 59, 60, 61, 300, 719] {
        let offset = Offset(offset);
        assert_eq!(tier.read_all(offset, 1 << 20).await, tier.expected(offset));
    }
}

#[tokio::test(start_paused = true)]
async fn frames_and_objects_are_crossed() {
    let upload = UploadConfig {
        object_bytes_max: 1,
        ..UploadConfig::default()
    };
    let mut tier = Tier::new(upload, &ReadConfig::default());
    tier.offload(&large_segments(3, 60)).await;
    assert_eq!(
        tier.read_all(Offset::ZERO, 3 << 20).await,
        tier.expected(Offset::ZERO)
    );
    assert_eq!(
        tier.read_all(Offset(119), 200_000).await,
        tier.expected(Offset(119))
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_but_for_the_first_batch() {
    let mut tier = Tier::plain();
    tier.offload(&segments(Offset::ZERO, 1, 10)).await;
    let reader = &tier.reader;
    let first = Batches::new(&tier.log[0].bytes)
        .next()
        .unwrap()
        .unwrap()
        .bytes()
        .len();
    let none = reader
        .read(&partition(), &tier.pointer, Offset(0), first - 1, false)
        .await
        .unwrap();
    assert!(none.is_empty() && none.next == Offset(0));
    let one = reader
        .read(&partition(), &tier.pointer, Offset(0), 1, true)
        .await
        .unwrap();
    assert_eq!((one.len(), one.next), (first, Offset(3)));
    let two = reader
        .read(&partition(), &tier.pointer, Offset(0), 2 * first, true)
        .await
        .unwrap();
    assert_eq!((two.len(), two.next), (2 * first, Offset(6)));
}

#[tokio::test(start_paused = true)]
async fn offsets_outside_the_tier_are_told_apart() {
    let mut tier = Tier::plain();
    tier.offload(&segments(Offset::ZERO, 1, 10)).await;
    tier.pointer = advance_log_start(&tier.pointer, Offset(7), None, LeaderEpoch::NONE);
    let place = partition();
    let read = |offset| {
        tier.reader
            .read(&place, &tier.pointer, Offset(offset), 1 << 20, true)
    };
    let log_start = Offset(7);
    assert_eq!(
        read(6).await,
        Err(ReadError::OutOfRange {
            offset: Offset(6),
            log_start
        })
    );
    let tier_end = Offset(30);
    assert_eq!(
        read(30).await,
        Err(ReadError::NotInTier {
            offset: Offset(30),
            tier_end
        })
    );
    assert_eq!(read(7).await.unwrap().next, Offset(30));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_answer_never_yields_bytes() {
    for fault in [Fault::Flip, Fault::Truncate, Fault::NotFound] {
        for part in [".head", ".log.zst"] {
            // The head, the index, and the frames are each got in one request.
            for skip in 0..2 {
                let mut tier = Tier::new(UploadConfig::default(), &NO_CACHE);
                tier.offload(&segments(Offset::ZERO, 2, 30)).await;
                tier.faults
                    .add(Rule::next(Operation::Get, fault).at(part).after(skip));
                let gets = tier.faults.count(Operation::Get);
                let read = tier
                    .reader
                    .read(&partition(), &tier.pointer, Offset(0), 1 << 20, true)
                    .await;
                if part == ".head" && skip == 1 {
                    assert_eq!(
                        tier.faults.count(Operation::Get) - gets,
                        3,
                        "one head is read"
                    );
                    assert!(read.is_ok());
                    continue;
                }
                assert!(
                    matches!(read, Err(ReadError::Moved(_))),
                    "{fault:?} {part} {skip}: {read:?}"
                );
                // The pointer still stands, so the same read works once the store does.
                tier.faults.heal();
                assert_eq!(
                    tier.read_all(Offset::ZERO, 1 << 20).await,
                    tier.expected(Offset::ZERO)
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_flipped_bit_of_an_answer_is_noticed() {
    let mut tier = Tier::new(UploadConfig::default(), &NO_CACHE);
    tier.offload(&segments(Offset::ZERO, 2, 30)).await;
    let expected = tier.expected(Offset::ZERO);
    let mut noticed = 0;
    for seed in 0..300 {
        let rates = vec![(Operation::Get, Fault::Flip, 300)];
        tier.faults
            .set_rates(crate::fault::Rates { permille: rates }, seed * 7919);
        match tier
            .reader
            .read(&partition(), &tier.pointer, Offset(0), 1 << 20, true)
            .await
        {
            Ok(read) => assert_eq!(read.bytes.concat(), expected),
            Err(ReadError::Moved(_)) => noticed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(noticed > 100, "{noticed}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_unavailable_and_a_hiccup_is_not_seen() {
    let mut tier = Tier::new(UploadConfig::default(), &NO_CACHE);
    tier.offload(&segments(Offset::ZERO, 1, 10)).await;
    tier.faults
        .add(Rule::next(Operation::Get, Fault::Fail).times(2));
    assert_eq!(
        tier.read_all(Offset::ZERO, 1 << 20).await,
        tier.expected(Offset::ZERO)
    );
    tier.faults
        .add(Rule::next(Operation::Get, Fault::Hang).times(100));
    let read = tier
        .reader
        .read(&partition(), &tier.pointer, Offset(0), 100, true)
        .await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_gives_up_leaves_its_download_running() {
    let mut tier = Tier::plain();
    tier.offload(&segments(Offset::ZERO, 1, 10)).await;
    let slow = Fault::Slow(Duration::from_secs(2));
    tier.faults.add(Rule::next(Operation::Get, slow).times(3));
    let (place, pointer) = (partition(), tier.pointer.clone());
    let mut waited = 0;
    loop {
        let read = tier.reader.read(&place, &pointer, Offset(0), 1 << 20, true);
        match timeout(Duration::from_millis(500), read).await {
            Ok(read) => break assert_eq!(read.unwrap().bytes.concat(), tier.expected(Offset(0))),
            Err(_) => waited += 1,
        }
    }
    assert!(
        (10..=14).contains(&waited),
        "head, index and frames take 6 s: {waited}"
    );
}

#[tokio::test(start_paused = true)]
async fn readers_of_the_same_range_share_one_download() {
    let mut tier = Tier::plain();
    tier.offload(&segments(Offset::ZERO, 1, 10)).await;
    let before = tier.faults.count(Operation::Get);
    let (place, pointer) = (partition(), tier.pointer.clone());
    let all = futures::future::join_all(
        (0..10).map(|_| tier.reader.read(&place, &pointer, Offset(0), 1 << 20, true)),
    )
    .await;
    assert!(
        all.iter()
            .all(|one| one.as_ref().unwrap().next == Offset(30))
    );
    assert_eq!(
        tier.faults.count(Operation::Get) - before,
        3,
        "head, index, frames"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_keeps_up_is_read_ahead_of_across_objects() {
    let upload = UploadConfig {
        object_bytes_max: 1,
        ..UploadConfig::default()
    };
    let mut tier = Tier::new(upload, &ReadConfig::default());
    tier.offload(&large_segments(4, 50)).await;
    let mut next = Offset::ZERO;
    let mut waits = Vec::new();
    tier.faults
        .add(Rule::next(Operation::Get, Fault::Slow(Duration::from_millis(100))).times(usize::MAX));
    while next < tier.pointer.tier_end {
        let begun = tokio::time::Instant::now();
        let read = tier
            .reader
            .read(&partition(), &tier.pointer, next, 1 << 20, true)
            .await
            .unwrap();
        waits.push(begun.elapsed().as_millis());
        next = read.next;
        // The reader takes its time over what it got; meanwhile the next is fetched.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(
        waits[0] >= 300,
        "the first read waits for head, index and frames: {waits:?}"
    );
    let waited = waits.iter().skip(4).filter(|wait| **wait > 0).count();
    assert_eq!(waited, 0, "later reads find what was read ahead: {waits:?}");
}

#[tokio::test(start_paused = true)]
async fn caches_stay_within_their_bounds() {
    let read = ReadConfig {
        frame_bytes_max: 3 << 20,
        metadata_bytes_max: 4096,
        ..ReadConfig::default()
    };
    let mut tier = Tier::new(UploadConfig::default(), &read);
    tier.offload(&large_segments(3, 60)).await;
    assert_eq!(
        tier.read_all(Offset::ZERO, 1 << 20).await,
        tier.expected(Offset::ZERO)
    );
    assert!(
        tier.reader.cached_bytes() <= (3 << 20) + 4096,
        "{}",
        tier.reader.cached_bytes()
    );
}

#[tokio::test(start_paused = true)]
async fn timestamps_are_found_as_a_scan_finds_them() {
    let mut tier = Tier::plain();
    for chunk in segments(Offset::ZERO, 6, 10).chunks(2) {
        tier.offload(chunk).await;
    }
    for start in [0, 4, 60, 61] {
        tier.pointer = advance_log_start(&tier.pointer, Offset(start), None, LeaderEpoch::NONE);
        let mut all = Vec::new();
        for batch in Batches::new(&tier.expected(Offset(0))) {
            let batch = batch.unwrap();
            for record in &batch
                .records(&esker_protocol::records::Caps::DEFAULT)
                .unwrap()
            {
                let record = record.unwrap();
                if record.offset >= Offset(start) {
                    all.push((record.timestamp, record.offset));
                }
            }
        }
        for timestamp in (990..1620).step_by(3).map(Timestamp) {
            let expected = all.iter().find(|(at, _)| *at >= timestamp).copied();
            let found = tier
                .reader
                .offset_for_timestamp(&partition(), &tier.pointer, timestamp)
                .await
                .unwrap();
            assert_eq!(
                found.map(|found| (found.timestamp, found.offset)),
                expected,
                "{timestamp}"
            );
        }
        let largest = tier
            .reader
            .offset_of_max_timestamp(&partition(), &tier.pointer)
            .await
            .unwrap();
        let largest = largest.map(|found| (found.timestamp, found.offset));
        assert_eq!(
            largest,
            all.iter()
                .max_by_key(|(at, offset)| (*at, -offset.0))
                .copied()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_timestamp_below_the_log_start_does_not_count() {
    let mut tier = Tier::plain();
    let late = [BatchPlan::small(9000), BatchPlan::small(2000)];
    tier.offload(&[segment(Offset(0), &late, &random(1))]).await;
    let find = |tier: &Tier| {
        let (reader, pointer) = (tier.reader.clone(), tier.pointer.clone());
        async move {
            reader
                .offset_of_max_timestamp(&partition(), &pointer)
                .await
                .unwrap()
        }
    };
    assert_eq!(find(&tier).await.map(|found| found.offset), Some(Offset(2)));
    tier.pointer = advance_log_start(&tier.pointer, Offset(3), None, LeaderEpoch::NONE);
    assert_eq!(find(&tier).await.map(|found| found.offset), Some(Offset(5)));
}

#[tokio::test(start_paused = true)]
async fn aborted_transactions_come_with_what_they_overlap() {
    let mut tier = Tier::plain();
    let mut all = segments(Offset::ZERO, 2, 10);
    let aborted = AbortedTransaction {
        first_offset: Offset(10),
        producer_id: ProducerId(5),
        last_offset: Offset(40),
        last_stable_offset: Offset(41),
    };
    all.iter_mut()
        .for_each(|segment| segment.aborted.push(aborted));
    tier.offload(&all[..1]).await;
    tier.offload(&all[1..]).await;
    let read = tier
        .reader
        .read(&partition(), &tier.pointer, Offset(0), 1 << 20, true)
        .await
        .unwrap();
    assert_eq!(read.aborted, [aborted]);
    let read = tier
        .reader
        .read(&partition(), &tier.pointer, Offset(45), 1 << 20, true)
        .await
        .unwrap();
    assert_eq!(read.aborted, []);
    let (reader, pointer) = (&tier.reader, &tier.pointer);
    let place = partition();
    let found = reader
        .aborted_transactions(&place, pointer, Offset(0), Offset(10))
        .await
        .unwrap();
    assert_eq!(found, []);
    let found = reader
        .aborted_transactions(&place, pointer, Offset(35), Offset(60))
        .await
        .unwrap();
    assert_eq!(found, [aborted]);
    let end = reader.end_state(&place, pointer).await.unwrap();
    assert_eq!(end.producers.len(), 1);
    assert_eq!(end.epochs, [(EPOCH, Offset(0))]);
}

#[tokio::test(start_paused = true)]
async fn a_tier_end_moved_past_the_manifest_has_no_state() {
    let mut tier = Tier::plain();
    tier.offload(&segments(Offset::ZERO, 1, 10)).await;
    let batch = BatchBefore {
        base: Offset(33),
        epoch_before: EPOCH,
    };
    tier.pointer = advance_log_start(&tier.pointer, Offset(34), Some(batch), EPOCH);
    assert_eq!(
        (tier.pointer.tier_end, tier.pointer.log_start),
        (Offset(33), Offset(34))
    );
    let end = tier
        .reader
        .end_state(&partition(), &tier.pointer)
        .await
        .unwrap();
    assert_eq!(end, super::EndState::default());
    // The next manifest starts there, and names nothing of before.
    let next = segments(Offset(33), 1, 5);
    tier.log.clear();
    let commit = tier.offload(&next).await;
    assert_eq!(
        (commit.head.base(), commit.head.entries.len()),
        (Offset(33), 1)
    );
    assert_eq!(
        tier.read_all(Offset(34), 1 << 20).await,
        tier.expected(Offset(34))
    );
}

#[test]
fn a_cache_forgets_what_was_used_longest_ago() {
    let mut cache = Cache::new(10);
    cache.insert('a', Bytes::from("a"), 4);
    cache.insert('b', Bytes::from("b"), 4);
    assert!(cache.get(&'a').is_some());
    cache.insert('c', Bytes::from("c"), 4);
    assert_eq!(
        (
            cache.contains(&'a'),
            cache.contains(&'b'),
            cache.contains(&'c')
        ),
        (true, false, true)
    );
    cache.insert('d', Bytes::from("d"), 11);
    assert!(!cache.contains(&'d'), "larger than the cache");
    cache.insert('a', Bytes::from("A"), 2);
    assert_eq!(cache.bytes(), 6);
    cache.remove(&'a');
    assert_eq!((cache.bytes(), cache.get(&'a')), (4, None));
}

#[test]
fn a_window_doubles_for_a_reader_that_goes_on_and_for_no_other() {
    let mut readers = Readers::new(10 << 20);
    let place = (partition().topic_id, 3);
    assert_eq!(readers.observe(place, Offset(0), Offset(10)), 0);
    assert_eq!(
        readers.observe(place, Offset(5), Offset(12)),
        0,
        "another reader"
    );
    assert_eq!(readers.observe(place, Offset(10), Offset(20)), 2 << 20);
    assert_eq!(
        readers.observe((place.0, 4), Offset(20), Offset(30)),
        0,
        "another partition"
    );
    assert_eq!(readers.observe(place, Offset(20), Offset(30)), 4 << 20);
    assert_eq!(readers.observe(place, Offset(30), Offset(40)), 8 << 20);
    assert_eq!(
        readers.observe(place, Offset(40), Offset(50)),
        10 << 20,
        "the bound"
    );
    for reader in 0..2000 {
        readers.observe(place, Offset(1000 + reader), Offset(5000 + reader));
    }
    assert_eq!(
        readers.observe(place, Offset(50), Offset(60)),
        0,
        "forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn a_read_that_an_error_cuts_short_still_names_its_aborted_transactions() {
    let mut tier = Tier::new(UploadConfig::default(), &NO_CACHE);
    let mut made = large_segments(1, 160);
    let aborted = AbortedTransaction {
        first_offset: Offset(2),
        producer_id: ProducerId(5),
        last_offset: Offset(4),
        last_stable_offset: Offset(5),
    };
    made[0].aborted.push(aborted);
    tier.offload(&made).await;
    // The head, the index and a run of frames are got; the second run of frames is damaged.
    tier.faults
        .add(Rule::next(Operation::Get, Fault::Flip).after(3));
    let read = tier
        .reader
        .read(&partition(), &tier.pointer, Offset(0), 16 << 20, true)
        .await;
    let read = read.unwrap();
    assert!(
        !read.is_empty() && read.next < tier.pointer.tier_end,
        "{}",
        read.next
    );
    assert_eq!(read.aborted, [aborted]);
}

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::{LeaderEpoch, Offset, Timestamp, TopicId};
use proptest::prelude::*;

use super::*;
use crate::layout::Uuid;
use crate::manifest::{Entry, Page};

#[derive(Debug, Clone, Copy)]
struct Piece {
    bytes: u64,
    timestamp: i64,
}

fn piece() -> impl Strategy<Value = Piece> {
    (1..100_u64, -1..1000_i64).prop_map(|(bytes, timestamp)| Piece { bytes, timestamp })
}

fn entry(number: usize, piece: Piece) -> Entry {
    let base = Offset(10 * number as i64);
    Entry {
        base,
        end: base + 10,
        leader_epoch: LeaderEpoch(1),
        uuid: Uuid([0; 16]),
        object_bytes: 100,
        index_position: 50,
        checksum: 0,
        segment_bytes: piece.bytes,
        max_timestamp: Timestamp(piece.timestamp),
        uploaded_at: Timestamp(500),
        last_epoch: LeaderEpoch(1),
        epochs: vec![(LeaderEpoch(1), base)],
    }
}

/// A head whose first entries are in pages of `page_entries`.
fn head(entries: &[Entry], page_entries: usize, in_head: usize) -> (Head, Vec<Arc<Page>>) {
    let (paged, kept) = entries.split_at(entries.len().saturating_sub(in_head.max(1)));
    let mut pages = Vec::new();
    let mut refs = Vec::new();
    for chunk in paged.chunks(page_entries) {
        let page = Page {
            topic_id: TopicId([1; 16]),
            partition: 0,
            entries: chunk.to_vec(),
        };
        refs.extend(page.sums(String::new(), 0));
        pages.push(Arc::new(page));
    }
    let head = Head {
        topic_id: TopicId([1; 16]),
        partition: 0,
        incarnation: 1,
        leader_epoch: LeaderEpoch(1),
        version: 1,
        previous: None,
        written_at: Timestamp(0),
        log_start: Offset(0),
        tier_end: kept.last().unwrap().end,
        tier_end_epoch: LeaderEpoch(1),
        pages: refs,
        entries: kept.to_vec(),
    };
    (head, pages)
}

fn pointer(head: Option<&Head>, log_start: i64) -> Pointer {
    let tier_end = head.map_or(Offset(0), |head| head.tier_end);
    Pointer {
        claimed_epoch: LeaderEpoch(1),
        manifest: None,
        checksum: 0,
        version: 1,
        tier_end,
        tier_end_epoch: LeaderEpoch(1),
        log_start: Offset(log_start),
        local_floor: tier_end,
    }
}

/// Asks until no page is needed any more; gives the log start and how many pages were read.
fn decide(
    head: Option<&Head>,
    pages: &[Arc<Page>],
    log_start: i64,
    local: &[LocalSegment],
    config: &RetentionConfig,
    now: i64,
) -> (Offset, usize) {
    let mut read = BTreeMap::new();
    loop {
        match retention(
            head,
            &read,
            &pointer(head, log_start),
            local,
            config,
            Timestamp(now),
        ) {
            Decision::LogStart(start) => return (start, read.len()),
            Decision::NeedsPage(number) => {
                assert!(
                    read.insert(number, Arc::clone(&pages[number])).is_none(),
                    "asked twice"
                );
            }
        }
    }
}

/// Kafka's rules over a plain list.
fn model(
    pieces: &[(Offset, u64, i64)],
    log_start: i64,
    config: &RetentionConfig,
    now: i64,
    undeletable: usize,
) -> Offset {
    let mut start = Offset(log_start);
    let kept: Vec<_> = pieces.iter().filter(|piece| piece.0 > start).collect();
    let mut total: u64 = kept.iter().map(|piece| piece.1).sum();
    for (end, bytes, timestamp) in kept.iter().take(kept.len() - undeletable.min(kept.len())) {
        let expired = config.ms.is_some_and(|ms| now - timestamp > ms);
        let exceeds = config
            .bytes
            .is_some_and(|max| total > max && total - max >= *bytes);
        if !expired && !exceeds {
            break;
        }
        total -= bytes;
        start = *end;
    }
    start
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn retention_over_both_tiers_is_retention_over_one_list(
        tiered in prop::collection::vec(piece(), 1..40),
        local in prop::collection::vec(piece(), 0..5),
        page_entries in 1..8_usize,
        in_head in 1..10_usize,
        start in 0..420_i64,
        ms in prop::option::of(0..1200_i64),
        bytes in prop::option::of(0..2500_u64),
        now in 0..1500_i64,
    ) {
        let entries: Vec<_> = tiered.iter().enumerate().map(|(n, p)| entry(n, *p)).collect();
        let (head, pages) = head(&entries, page_entries, in_head);
        let config = RetentionConfig { ms, bytes };
        let mut all: Vec<_> = entries
            .iter()
            .map(|entry| (entry.end, entry.segment_bytes, entry.retention_timestamp().0))
            .collect();
        let mut segments = Vec::new();
        for (number, piece) in local.iter().enumerate() {
            let end = head.tier_end + 10 * (number as i64 + 1);
            let deletable = number + 1 < local.len();
            segments.push(LocalSegment { end, bytes: piece.bytes, timestamp: Timestamp(piece.timestamp), deletable });
            all.push((end, piece.bytes, piece.timestamp));
        }
        let start = start.min(head.tier_end.0);
        let undeletable = usize::from(!local.is_empty());
        let expected = model(&all, start, &config, now, undeletable);
        let (found, _) = decide(Some(&head), &pages, start, &segments, &config, now);
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_log_of_a_million_objects_is_trimmed_with_one_page() {
    let kept = |number: usize| Piece {
        bytes: 10,
        timestamp: number as i64,
    };
    let entries: Vec<_> = (0..100_000)
        .map(|number| entry(number, kept(number)))
        .collect();
    let (head, pages) = head(&entries, 1024, 40);
    let config = RetentionConfig {
        ms: Some(1000),
        bytes: None,
    };
    let (start, read) = decide(Some(&head), &pages, 0, &[], &config, 51_000);
    assert_eq!((start, read), (Offset(500_000), 1));
    let (start, read) = decide(Some(&head), &pages, 0, &[], &config, 900);
    assert_eq!(
        (start, read),
        (Offset(0), 0),
        "nothing has expired: no page is read"
    );
    let config = RetentionConfig {
        ms: None,
        bytes: Some(400_000),
    };
    let (start, read) = decide(Some(&head), &pages, 0, &[], &config, 0);
    assert_eq!((start, read), (Offset(600_000), 1));
}

#[test]
fn an_untiered_log_keeps_its_active_segment() {
    let segment = |end, deletable| LocalSegment {
        end: Offset(end),
        bytes: 10,
        timestamp: Timestamp(0),
        deletable,
    };
    let local = [segment(10, true), segment(20, true), segment(30, false)];
    let config = RetentionConfig {
        ms: Some(1),
        bytes: Some(0),
    };
    assert_eq!(decide(None, &[], 0, &local, &config, 100).0, Offset(20));
    assert_eq!(
        decide(None, &[], 0, &local, &RetentionConfig::default(), 100).0,
        Offset(0)
    );
}

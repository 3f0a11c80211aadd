use esker_protocol::{LeaderEpoch, Offset, Timestamp, TopicId};
use proptest::prelude::*;

use super::*;
use crate::layout::{ManifestKind, ManifestName};

const TOPIC: TopicId = TopicId([0xab; 16]);

fn uuid(number: u64) -> Uuid {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Uuid(bytes)
}

fn entry(number: u64, base: i64, length: i64, epoch: i32) -> Entry {
    let max_timestamp = Timestamp(if number.is_multiple_of(7) {
        -1
    } else {
        1000 + number as i64
    });
    Entry {
        base: Offset(base),
        end: Offset(base + length),
        leader_epoch: LeaderEpoch(epoch),
        uuid: uuid(number),
        object_bytes: 100 + number,
        index_position: 50,
        checksum: number as u32,
        segment_bytes: 1000 * (1 + number % 3),
        max_timestamp,
        uploaded_at: Timestamp(5000 + number as i64),
        last_epoch: LeaderEpoch(epoch),
        epochs: vec![(LeaderEpoch(epoch), Offset(base))],
    }
}

/// A store of pages, and the commits of a leader, without any I/O.
struct Tier {
    pointer: Pointer,
    head: Option<Head>,
    pages: Vec<(PageRef, Page)>,
    pages_written: usize,
    number: u64,
}

impl Tier {
    fn new() -> Tier {
        let pointer = Pointer {
            claimed_epoch: LeaderEpoch(1),
            manifest: None,
            checksum: 0,
            version: 0,
            tier_end: Offset(0),
            tier_end_epoch: LeaderEpoch::NONE,
            log_start: Offset(0),
            local_floor: Offset(0),
        };
        Tier {
            pointer,
            head: None,
            pages: Vec::new(),
            pages_written: 0,
            number: 0,
        }
    }

    fn commit(&mut self, lengths: &[i64], epoch: i32) -> Vec<Entry> {
        let mut added = Vec::new();
        let mut base = self.pointer.tier_end.0;
        for length in lengths {
            self.number += 1;
            added.push(entry(self.number, base, *length, epoch));
            base += length;
        }
        let next = next(self.head.as_ref(), &self.pointer, added.clone()).expect("they touch");
        let mut pages = next.pages;
        let extended = next.extends.map(|page| self.page(&page).entries.clone());
        for page in paginate(TOPIC, 3, extended.unwrap_or_default(), next.moved) {
            let (bytes, checksum) = encode_page(&page);
            assert_eq!(decode_page(&bytes), Ok((page.clone(), checksum)));
            let sums = page
                .sums(format!("page-{}", self.pages_written), checksum)
                .unwrap();
            self.pages_written += 1;
            pages.push(sums.clone());
            self.pages.push((sums, page));
        }
        let last = added.last().unwrap();
        let head = Head {
            topic_id: TOPIC,
            partition: 3,
            incarnation: 1,
            leader_epoch: LeaderEpoch(epoch),
            version: self.pointer.version + 1,
            previous: self.pointer.manifest.clone(),
            written_at: Timestamp(9),
            log_start: self.pointer.log_start,
            tier_end: last.end,
            tier_end_epoch: last.last_epoch,
            pages,
            entries: next.entries,
        };
        let (bytes, checksum) = encode_head(&head);
        assert_eq!(decode_head(&bytes), Ok((head.clone(), checksum)));
        self.pointer.version += 1;
        self.pointer.manifest = Some(format!("head-{}", self.pointer.version));
        self.pointer.tier_end = head.tier_end;
        self.pointer.tier_end_epoch = head.tier_end_epoch;
        self.head = Some(head);
        added
    }

    fn page(&self, wanted: &PageRef) -> &Page {
        let (sums, page) = self
            .pages
            .iter()
            .find(|(sums, _)| sums.name == wanted.name)
            .unwrap();
        assert_eq!(sums, wanted);
        page
    }

    /// The entry that the manifest gives for an offset.
    fn lookup(&self, offset: Offset) -> Option<Entry> {
        match self.head.as_ref()?.locate(offset)? {
            Located::Entry(entry) => Some(entry.clone()),
            Located::Page(page) => self.page(page).entry_at(offset).cloned(),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<i64>),
    AdvanceLogStart(i64),
    NewEpoch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(1..50_i64, 1..9).prop_map(Step::Commit),
        2 => (0..600_i64).prop_map(Step::AdvanceLogStart),
        1 => Just(Step::NewEpoch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_manifest_with_pages_is_a_plain_list_of_entries(steps in prop::collection::vec(step(), 1..160)) {
        let mut tier = Tier::new();
        let mut model: Vec<Entry> = Vec::new();
        let mut epoch = 1;
        for step in steps {
            match step {
                Step::Commit(lengths) => {
                    model.retain(|entry| entry.end > tier.pointer.log_start);
                    model.extend(tier.commit(&lengths, epoch));
                }
                Step::AdvanceLogStart(by) => {
                    let to = Offset(tier.pointer.log_start.0 + by).min(tier.pointer.tier_end);
                    tier.pointer.log_start = to;
                }
                Step::NewEpoch => epoch += 1,
            }
            let Some(head) = &tier.head else { continue };
            prop_assert!(head.entries.len() <= HEAD_ENTRIES_MAX);
            prop_assert!(head.check().is_ok());
            let log_start = tier.pointer.log_start;
            for entry in model.iter().filter(|entry| entry.end > log_start) {
                for offset in [entry.base, Offset(entry.end.0 - 1)] {
                    prop_assert_eq!(tier.lookup(offset), Some(entry.clone()));
                }
            }
            prop_assert_eq!(tier.lookup(head.tier_end), None);
            if log_start == head.tier_end {
                continue;
            }
            let mut epochs = Vec::new();
            for entry in model.iter().filter(|entry| entry.end > log_start) {
                extend_epochs(&mut epochs, &entry.epochs);
            }
            prop_assert_eq!(head.epochs(log_start), clip_epochs(epochs, log_start));
        }
    }

    #[test]
    fn no_bytes_make_a_manifest_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode_head(&bytes).is_err());
        prop_assert!(decode_page(&bytes).is_err());
    }
}

#[test]
fn ten_thousand_commits_write_few_pages() {
    let mut tier = Tier::new();
    for _ in 0..10_000 {
        tier.commit(&[5], 1);
    }
    let head = tier.head.as_ref().unwrap();
    assert_eq!(head.pages.len(), 10_000 / PAGE_ENTRIES_MAX + 1);
    assert!(head.pages[..9].iter().all(|page| page.entry_count == 1024));
    assert!(tier.pages_written < 10_000 / 30, "{}", tier.pages_written);
    assert!(encode_head(head).0.len() < 16 << 10);
    for offset in (0..50_000).step_by(777) {
        let entry = tier.lookup(Offset(offset)).unwrap();
        assert!(entry.base.0 <= offset && offset < entry.end.0);
    }
    assert_eq!(
        head.segment_bytes(Offset(0)),
        (1..=10_000).map(|n| 1000 * (1 + n % 3)).sum::<u64>()
    );
}

#[test]
fn entries_must_start_at_the_tier_end_and_touch() {
    let mut tier = Tier::new();
    tier.commit(&[10], 1);
    let (head, pointer) = (tier.head.as_ref(), &tier.pointer);
    let gap = ManifestError::Gap {
        expected: Offset(10),
        found: Offset(11),
    };
    assert_eq!(next(head, pointer, vec![entry(9, 11, 5, 1)]), Err(gap));
    let gap = ManifestError::Gap {
        expected: Offset(15),
        found: Offset(16),
    };
    assert_eq!(
        next(head, pointer, vec![entry(9, 10, 5, 1), entry(10, 16, 5, 1)]),
        Err(gap)
    );
    assert_eq!(next(head, pointer, vec![]), Err(ManifestError::Empty));
    let behind = Pointer {
        tier_end: Offset(5),
        ..pointer.clone()
    };
    assert!(
        next(head, &behind, vec![entry(9, 5, 5, 1)]).is_err(),
        "a head ahead of its pointer"
    );
}

#[test]
fn a_tier_end_that_moved_past_the_manifest_starts_it_anew() {
    let mut tier = Tier::new();
    tier.commit(&[10; 100], 1);
    tier.pointer.tier_end = Offset(1500);
    tier.pointer.log_start = Offset(1500);
    let next = next(
        tier.head.as_ref(),
        &tier.pointer,
        vec![entry(500, 1500, 5, 2)],
    )
    .unwrap();
    assert_eq!(
        (next.pages.len(), next.entries.len(), next.moved.len()),
        (0, 1, 0)
    );
}

#[test]
fn heads_that_contradict_themselves_are_refused() {
    let mut tier = Tier::new();
    tier.commit(&[10; 80], 1);
    let head = tier.head.unwrap();
    let refused = |change: fn(&mut Head)| {
        let mut changed = head.clone();
        change(&mut changed);
        decode_head(&encode_head(&changed).0).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|head| head.tier_end = Offset(1)));
    assert!(refused(|head| head.tier_end_epoch = LeaderEpoch(9)));
    assert!(refused(|head| head.entries.clear()));
    assert!(refused(|head| drop(head.entries.remove(5))));
    assert!(
        refused(|head| head.pages.clear()),
        "the log start has passed no page"
    );
    assert!(refused(|head| head.entries[0].epochs.clear()));
    assert!(refused(
        |head| head.entries[3].index_position = head.entries[3].object_bytes
    ));
    assert!(refused(|head| head.pages[0].end = Offset(3)));
}

#[test]
fn every_bit_of_a_manifest_counts() {
    let mut tier = Tier::new();
    tier.commit(&[10; 70], 1);
    let (bytes, _) = encode_head(tier.head.as_ref().unwrap());
    for position in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1 << (position % 8);
        assert!(decode_head(&damaged).is_err(), "{position}");
        assert!(decode_head(&bytes[..position]).is_err());
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(decode_head(&longer).is_err());
}

#[test]
fn epochs_are_clipped_at_the_log_start() {
    let epochs = vec![
        (LeaderEpoch(1), Offset(0)),
        (LeaderEpoch(3), Offset(10)),
        (LeaderEpoch(4), Offset(20)),
    ];
    assert_eq!(clip_epochs(epochs.clone(), Offset(0)), epochs);
    assert_eq!(
        clip_epochs(epochs.clone(), Offset(5))[0],
        (LeaderEpoch(1), Offset(5))
    );
    assert_eq!(clip_epochs(epochs.clone(), Offset(10)), epochs[1..]);
    assert_eq!(
        clip_epochs(epochs.clone(), Offset(99)),
        [(LeaderEpoch(4), Offset(99))]
    );
    assert_eq!(clip_epochs(vec![], Offset(99)), []);
}

#[test]
fn manifest_names_sort_by_incarnation_epoch_and_version() {
    let name = |incarnation, epoch, version| ManifestName {
        incarnation,
        leader_epoch: LeaderEpoch(epoch),
        version,
        uuid: uuid(1),
        kind: ManifestKind::Head,
    };
    let names = [name(1, 2, 9), name(1, 2, 10), name(1, 10, 3), name(2, 1, 1)];
    assert!(names.is_sorted());
    assert!(names.map(|name| name.to_string()).is_sorted());
}

#[test]
fn golden_manifests_are_read_and_written_byte_for_byte() {
    let mut tier = Tier::new();
    for length in 1..80 {
        tier.commit(&[length], 1 + i32::try_from(length / 30).unwrap());
    }
    tier.pointer.log_start = Offset(3);
    tier.commit(&[7], 5);
    let head = tier.head.unwrap();
    let (bytes, checksum) = encode_head(&head);
    let golden = crate::testing::golden("manifest.head", &bytes);
    assert_eq!(decode_head(&golden), Ok((head, checksum)));
    assert_eq!(bytes, golden);
    let (_, page) = tier.pages.pop().unwrap();
    let (bytes, checksum) = encode_page(&page);
    let golden = crate::testing::golden("manifest.page", &bytes);
    assert_eq!(decode_page(&golden), Ok((page, checksum)));
    assert_eq!(bytes, golden);
}

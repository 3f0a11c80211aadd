use super::*;

fn recorded(end: i64) -> Recorded {
    Recorded {
        epoch: LeaderEpoch(3),
        end: Offset(end),
        log_start: Offset(end / 3),
        local_start: Offset(end / 2),
        journal_sequence: end / 4,
        journaled_end: Offset(end + 1),
        is_stray: false,
        compacted_end: Offset::ZERO,
    }
}

fn round(partitions: i32, end: i64) -> BTreeMap<PartitionKey, Recorded> {
    (0..partitions)
        .map(|number| ((TopicId([9; 16]), number), recorded(end)))
        .collect()
}

#[test]
fn the_last_entry_of_a_partition_wins() {
    let file = [encode(&round(3, 10)), encode(&round(2, 40))].concat();
    let mut expected = round(3, 10);
    expected.extend(round(2, 40));
    assert_eq!(decode(&file), Content::Sound(expected));
    assert_eq!(decode(&[]), Content::Sound(BTreeMap::new()));
}

#[test]
fn a_torn_last_record_is_ignored_wherever_it_tears() {
    let first = encode(&round(3, 10));
    let second = encode(&round(2, 40));
    for kept in 0..second.len() {
        let torn = [&first[..], &second[..kept]].concat();
        assert_eq!(decode(&torn), Content::Sound(round(3, 10)), "{kept}");
        let mut holes = [&first[..], &second[..kept]].concat();
        holes.resize(first.len() + second.len(), 0);
        let sound = [
            Content::Sound(round(3, 10)),
            decode(&[first.clone(), second.clone()].concat()),
        ];
        assert!(sound.contains(&decode(&holes)), "{kept}");
    }
}

#[test]
fn damage_before_a_whole_record_is_damage_of_the_file() {
    let records = [encode(&round(3, 10)), encode(&round(2, 40))];
    for position in 0..records[0].len() {
        let mut file = records.concat();
        file[position] ^= 0x40;
        assert_eq!(decode(&file), Content::Damaged, "{position}");
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut record = encode(&round(1, 10));
    record[5] = 1;
    let end = record.len() - 4;
    let crc = crc32c(&record[4..end]);
    record[end..].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(decode(&record), Content::Newer(1));
}

#[test]
fn the_bytes_are_pinned() {
    let pinned = |recorded: Recorded, expected: &str| {
        let one = BTreeMap::from([((TopicId([0xab; 16]), 7), recorded)]);
        let bytes = encode(&one);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
        assert_eq!(decode(&bytes), Content::Sound(one));
    };
    // What was written before there was a journal reads the same.
    let without_journal = Recorded {
        journal_sequence: 0,
        journaled_end: Offset::ZERO,
        ..recorded(300)
    };
    pinned(
        without_journal,
        "45736b44000000000037\
         02abababababababababababababababab0000000700000003000000000000012c\
         0200080000000000000064010800000000000000960008f055ae",
    );
    pinned(
        recorded(300),
        "45736b4400000000004b\
         02abababababababababababababababab0000000700000003000000000000012c\
         04000800000000000000640108000000000000009602080000000000000\
         04b0308000000000000012d007694520a",
    );
    let compacted = Recorded {
        compacted_end: Offset(60),
        ..without_journal
    };
    pinned(
        compacted,
        "45736b44000000000041\
         02abababababababababababababababab0000000700000003000000000000012c\
         0300080000000000000064010800000000000000960508000000000000003c\
         00c4e8e7bb",
    );
}

#[test]
fn a_stray_reads_back_and_is_not_forgotten() {
    let stray = Recorded {
        is_stray: true,
        ..Recorded::NOTHING
    };
    let mut known = BTreeMap::from([((TopicId([9; 16]), 0), stray)]);
    assert_eq!(decode(&encode(&known)), Content::Sound(known.clone()));
    forget_empty(&mut known);
    assert_eq!(known.len(), 1);
    assert!(!stray.and(recorded(10)).is_stray);
}

#[test]
fn what_says_nothing_is_forgotten_but_for_the_journal() {
    let void = |journal_sequence| Recorded {
        journal_sequence,
        ..Recorded::NOTHING
    };
    let key = |number| (TopicId([9; 16]), number);
    let mut known = BTreeMap::from([
        (JOURNAL, void(5)),
        (key(0), void(5)),
        (key(1), void(6)),
        (key(2), recorded(10)),
    ]);
    forget_empty(&mut known);
    let left: Vec<PartitionKey> = known.keys().copied().collect();
    // The records of a deleted log that the journal still has must stay void.
    assert_eq!(left, [JOURNAL, key(1), key(2)]);
}

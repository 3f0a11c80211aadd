use super::*;

fn recorded(end: i64) -> Recorded {
    Recorded {
        epoch: LeaderEpoch(3),
        end: Offset(end),
        log_start: Offset(end / 3),
        local_start: Offset(end / 2),
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
    let one = BTreeMap::from([((TopicId([0xab; 16]), 7), recorded(300))]);
    let hex: String = encode(&one)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "45736b44000000000037\
         02abababababababababababababababab0000000700000003000000000000012c\
         0200080000000000000064010800000000000000960008f055ae"
    );
}

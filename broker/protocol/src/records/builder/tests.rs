use super::*;
use crate::records::{Batch, Caps, golden};

#[test]
fn an_uncompressed_batch_is_byte_for_byte_kafkas() {
    let mut builder = BatchBuilder::default();
    let headers = [
        Header {
            key: b"h1",
            value: Some(b"one"),
        },
        Header {
            key: b"",
            value: None,
        },
        Header {
            key: b"h1",
            value: Some(b""),
        },
    ];
    let now = golden::NOW;
    builder
        .append(Timestamp(now), Some(b"key"), Some(b"value"), &headers)
        .unwrap();
    builder
        .append(Timestamp(now - 1000), None, Some(b""), &[])
        .unwrap();
    builder
        .append(Timestamp(now + 5), Some(b""), None, &[])
        .unwrap();
    assert_eq!(builder.build().unwrap(), golden::batch("three-none"));
}

#[test]
fn options_reach_the_header() {
    let options = BatchOptions {
        compression: Compression::Lz4,
        base_offset: Offset(9),
        leader_epoch: LeaderEpoch(4),
        producer_id: ProducerId(11),
        producer_epoch: ProducerEpoch(1),
        base_sequence: 5,
        transactional: true,
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    builder.append(Timestamp(1), None, Some(b"a"), &[]).unwrap();
    builder
        .append_at(7, Timestamp(0), None, Some(b"b"), &[])
        .unwrap();
    let bytes = builder.build().unwrap();
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let header = batch.header();
    assert_eq!(header.attributes, Attributes(0b1_0011));
    assert_eq!(
        (header.base_offset, header.last_offset()),
        (Offset(9), Offset(16))
    );
    assert_eq!(
        (header.partition_leader_epoch, header.records_count),
        (LeaderEpoch(4), 2)
    );
    assert_eq!(
        (header.producer_id, header.producer_epoch),
        (ProducerId(11), ProducerEpoch(1))
    );
    assert_eq!((header.base_sequence, header.last_sequence()), (5, 12));
    assert_eq!(
        (header.base_timestamp, header.max_timestamp),
        (Timestamp(1), Timestamp(1))
    );
    let records = batch.records(&Caps::DEFAULT).unwrap();
    let offsets: Vec<_> = records
        .iter()
        .map(|record| record.unwrap().offset)
        .collect();
    assert_eq!(offsets, [Offset(9), Offset(16)]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut builder = BatchBuilder::default();
    assert!(matches!(builder.build(), Err(BuildError::Empty)));
    builder
        .append_at(3, Timestamp(-2), None, None, &[])
        .unwrap();
    let before = builder.build().unwrap();
    let again = builder.append_at(3, Timestamp(0), None, None, &[]);
    assert!(matches!(
        again,
        Err(BuildError::OffsetDelta { given: 3, last: 3 })
    ));
    let far = builder.append(Timestamp(i64::MAX), None, None, &[]);
    assert!(matches!(far, Err(BuildError::Timestamp(_))));
    assert_eq!(builder.build().unwrap(), before);
}

use super::*;
use crate::records::{Batch, Compression, golden};
use proptest::prelude::*;

fn any_header() -> impl Strategy<Value = BatchHeader> {
    (
        any::<[u8; BatchHeader::BYTES]>(),
        49i32..=i32::MAX,
        0i64..1 << 40,
        any::<u16>(),
    )
        .prop_map(|(bytes, batch_length, base_offset, count)| {
            let mut header = BatchHeader::from_bytes(&bytes);
            header.magic = MAGIC;
            header.batch_length = batch_length;
            header.base_offset = Offset(base_offset);
            header.records_count = i32::from(count);
            header.last_offset_delta = i32::from(count);
            header
        })
}

proptest! {
    #[test]
    fn header_reads_back(header in any_header()) {
        prop_assert_eq!(BatchHeader::parse(&header.to_bytes()), Ok(header));
    }

    #[test]
    fn any_bytes_parse_or_are_refused(bytes: Vec<u8>) {
        if let Ok(header) = BatchHeader::parse(&bytes) {
            prop_assert!(header.size_in_bytes() >= BatchHeader::BYTES);
            prop_assert!(header.next_offset() > header.base_offset);
        }
    }
}

#[test]
fn fields_are_where_kafka_puts_them() {
    let bytes = golden::batch("transactional");
    let header = BatchHeader::parse(&bytes).expect("a golden batch");
    assert_eq!(
        header,
        BatchHeader {
            base_offset: Offset(77),
            batch_length: i32::try_from(bytes.len()).unwrap() - 12,
            partition_leader_epoch: LeaderEpoch(5),
            magic: 2,
            crc: crc32c(&bytes[21..]),
            attributes: Attributes::default()
                .with_timestamp_type(TimestampType::LogAppendTime)
                .with_transactional(true),
            last_offset_delta: 3,
            base_timestamp: Timestamp(-1),
            max_timestamp: Timestamp(golden::NOW),
            producer_id: ProducerId(4242),
            producer_epoch: ProducerEpoch(3),
            base_sequence: 2_147_483_646,
            records_count: 4,
        }
    );
    assert_eq!(header.to_bytes(), bytes[..61]);
    assert_eq!(header.last_offset(), Offset(80));
    assert_eq!(header.next_offset(), Offset(81));
    assert_eq!(header.last_sequence(), 1);
    assert!(header.has_producer());
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(increment_sequence(i32::MAX, 1), 0);
    assert_eq!(increment_sequence(i32::MAX - 1, 1), i32::MAX);
    assert_eq!(increment_sequence(0, 0), 0);
    assert_eq!(increment_sequence(i32::MAX, i32::MAX), i32::MAX - 1);
}

#[test]
fn headers_that_overflow_are_refused() {
    let good = BatchHeader::parse(&golden::batch("three-none")).expect("a golden batch");
    for bad in [
        BatchHeader {
            base_offset: Offset(i64::MAX - 1),
            ..good
        },
        BatchHeader {
            base_offset: Offset(-1),
            ..good
        },
        BatchHeader {
            last_offset_delta: -1,
            ..good
        },
        BatchHeader {
            records_count: -1,
            ..good
        },
    ] {
        assert!(
            matches!(
                BatchHeader::parse(&bad.to_bytes()),
                Err(BatchError::Offsets { .. })
            ),
            "{bad:?}"
        );
    }
    for length in [i32::MIN, -1, 0, 13, 14, 48] {
        let bad = BatchHeader {
            batch_length: length,
            ..good
        };
        assert_eq!(
            BatchHeader::parse(&bad.to_bytes()),
            Err(BatchError::Length(length))
        );
    }
}

#[test]
fn stamping_leaves_a_valid_batch_and_the_rest_alone() {
    for codec in Compression::ALL {
        let sent = golden::batch(&format!("three-{codec}"));
        let header = BatchHeader::parse(&sent).expect("a golden batch");
        let payload = &sent[BatchHeader::BYTES..];
        for time in [None, Some(Timestamp(5))] {
            let stamped = stamp(&header, payload, Offset(1 << 40), LeaderEpoch(8), time);
            let log = [&stamped, payload].concat();
            let (batch, rest) = Batch::parse(&log).expect("a stamped batch");
            assert!(rest.is_empty());
            assert!(batch.crc_is_valid(), "{codec} {time:?}");
            let expected = BatchHeader {
                base_offset: Offset(1 << 40),
                partition_leader_epoch: LeaderEpoch(8),
                attributes: if time.is_some() {
                    header
                        .attributes
                        .with_timestamp_type(TimestampType::LogAppendTime)
                } else {
                    header.attributes
                },
                max_timestamp: time.unwrap_or(header.max_timestamp),
                crc: batch.header().crc,
                ..header
            };
            assert_eq!(*batch.header(), expected);
        }
    }
}

#[test]
fn stamping_does_not_bless_a_damaged_payload() {
    let mut sent = golden::batch("three-none");
    let header = BatchHeader::parse(&sent).expect("a golden batch");
    *sent.last_mut().unwrap() ^= 1;
    let payload = &sent[BatchHeader::BYTES..];
    let stamped = stamp(
        &header,
        payload,
        Offset(1),
        LeaderEpoch(1),
        Some(Timestamp(5)),
    );
    let log = [&stamped, payload].concat();
    assert!(!Batch::parse(&log).expect("still a batch").0.crc_is_valid());
}

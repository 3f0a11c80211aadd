use super::*;
use crate::records::{Batch, BatchBuilder, BatchError, BatchOptions, golden};
use proptest::prelude::*;

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Clone, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<OwnedHeader>,
}

impl Owned {
    fn of(record: &Record<'_>) -> Owned {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Owned {
            timestamp: record.timestamp.0,
            key: owned(record.key),
            value: owned(record.value),
            headers: record
                .headers
                .iter()
                .map(|h| (h.key.to_vec(), owned(h.value)))
                .collect(),
        }
    }
}

fn decode(bytes: &[u8]) -> Vec<(i64, Owned)> {
    let (batch, rest) = Batch::parse(bytes).expect("a batch");
    assert!(rest.is_empty() && batch.crc_is_valid());
    let records = batch.records(&Caps::DEFAULT).expect("decodable");
    records
        .iter()
        .map(|record| record.map(|record| (record.offset.0, Owned::of(&record))))
        .collect::<Result<_, _>>()
        .expect("well-formed records")
}

#[test]
fn kafkas_batches_read_alike_in_every_codec() {
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let expected = [
        Owned {
            timestamp: golden::NOW,
            key: some("key"),
            value: some("value"),
            headers: vec![
                (b"h1".to_vec(), some("one")),
                (Vec::new(), None),
                (b"h1".to_vec(), some("")),
            ],
        },
        Owned {
            timestamp: golden::NOW - 1000,
            key: None,
            value: some(""),
            headers: Vec::new(),
        },
        Owned {
            timestamp: golden::NOW + 5,
            key: some(""),
            value: None,
            headers: Vec::new(),
        },
    ];
    for codec in Compression::ALL {
        let records = decode(&golden::batch(&format!("three-{codec}")));
        assert_eq!(
            records,
            (0..).zip(expected.clone()).collect::<Vec<_>>(),
            "{codec}"
        );
    }
}

#[test]
fn kafkas_streams_of_several_blocks_read_in_every_codec() {
    for codec in golden::codecs() {
        let records = decode(&golden::batch(&format!("many-{codec}")));
        assert_eq!(records.len(), 3000, "{codec}");
        for (index, (offset, record)) in (0i64..).zip(records) {
            assert_eq!(offset, index);
            assert_eq!(record.timestamp, golden::NOW + index);
            assert_eq!(record.key, Some(format!("k{}", index % 7).into_bytes()));
            let value = format!("the value of this record is {index}");
            assert_eq!(record.value, Some(value.into_bytes()));
        }
    }
}

#[test]
fn log_append_time_is_every_records_time() {
    let records = decode(&golden::batch("transactional"));
    assert_eq!(records.len(), 4);
    assert!(
        records
            .iter()
            .all(|(_, record)| record.timestamp == golden::NOW)
    );
    assert_eq!(records[3].0, 80);
}

fn payload_error(payload: &[u8], records_count: i32) -> RecordsError {
    let header = BatchHeader {
        records_count,
        ..BatchHeader::parse(&golden::batch("three-none")).expect("a golden batch")
    };
    let records = Records::decode(header, payload, &Caps::DEFAULT).expect("not compressed");
    let error = records
        .iter()
        .find_map(Result::err)
        .expect("a malformed record");
    assert!(records.iter().count() <= usize::try_from(records_count).unwrap() + 1);
    error
}

#[test]
fn malformed_records_are_refused_with_the_reason() {
    for (payload, reason) in [
        (&[][..], "its length is missing"),
        (&[1], "its length is negative"),
        (&[0x80, 0x80, 0x80, 0x80, 0x80], "its length is missing"),
        (&[14, 0, 0, 0, 1, 1], "it ends after its batch"),
        (&[0], "it is empty"),
        (&[2, 0], "its timestamp is cut off"),
        (&[4, 0, 0], "its offset is cut off"),
        (&[6, 0, 0, 0], "its key ends after it"),
        (&[8, 0, 0, 0, 2], "its key ends after it"),
        (&[8, 0, 0, 0, 1], "its value ends after it"),
        (&[10, 0, 0, 0, 1, 1], "its header count is missing"),
        (&[12, 0, 0, 0, 1, 1, 1], "its header count is negative"),
        (
            &[12, 0, 0, 0, 1, 1, 2],
            "it claims more headers than it has bytes",
        ),
        (
            &[14, 0, 0, 0, 1, 1, 2, 1],
            "one of its headers is malformed",
        ),
        (&[14, 0, 0, 0, 1, 1, 0, 0], "bytes follow its headers"),
        (&[12, 0, 0, 1, 1, 1, 0], "its offset lies before its batch"),
    ] {
        assert_eq!(
            payload_error(payload, 1),
            RecordsError::Record { index: 0, reason }
        );
    }
    let good = [12, 0, 0, 0, 1, 1, 0];
    assert_eq!(
        payload_error(&[&good[..], &[9]].concat(), 1),
        RecordsError::Trailing {
            records_count: 1,
            bytes: 1
        }
    );
    assert_eq!(
        payload_error(&good, 2),
        RecordsError::Record {
            index: 1,
            reason: "its length is missing"
        }
    );
}

fn any_record() -> impl Strategy<Value = Owned> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let headers = prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), bytes()), 0..4);
    (-5i64..1 << 41, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Owned {
        timestamp,
        key,
        value,
        headers,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn built_records_read_back(
        records in prop::collection::vec(any_record(), 1..40),
        codec in prop::sample::select(&Compression::ALL[..]),
    ) {
        let options = BatchOptions { compression: codec, ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        for record in &records {
            let headers: Vec<Header<'_>> = record
                .headers
                .iter()
                .map(|(key, value)| Header { key, value: value.as_deref() })
                .collect();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            let before = builder.size_estimate();
            builder.append(Timestamp(record.timestamp), key, value, &headers).unwrap();
            let added = builder.size_estimate() - before;
            prop_assert!(added <= BatchBuilder::record_bytes_max(key, value, &headers));
        }
        let built = builder.build().unwrap();
        if codec == Compression::None {
            prop_assert_eq!(built.len(), builder.size_estimate());
        }
        let expected: Vec<_> = (0..).zip(records.iter().cloned()).collect();
        prop_assert_eq!(decode(&built), expected);
        let max = records.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(Batch::parse(&built).unwrap().0.header().max_timestamp.0, max.unwrap());
    }

    #[test]
    fn garbage_payloads_never_panic(
        payload in prop::collection::vec(any::<u8>(), 0..300),
        codec in 0i16..8,
        records_count in 0i32..20,
    ) {
        let mut header = BatchHeader::parse(&golden::batch("three-none")).unwrap();
        header.attributes = super::super::Attributes(codec);
        header.records_count = records_count;
        if let Ok(records) = Records::decode(header, &payload, &Caps::DEFAULT) {
            prop_assert!(records.iter().count() <= 21);
        }
    }
}

#[test]
fn truncated_batches_are_incomplete_at_every_length() {
    let bytes = golden::batch("three-lz4");
    for length in 0..bytes.len() {
        let error = Batch::parse(&bytes[..length]).expect_err("cut off");
        assert!(
            matches!(error, BatchError::Incomplete { .. }),
            "{length}: {error}"
        );
    }
}

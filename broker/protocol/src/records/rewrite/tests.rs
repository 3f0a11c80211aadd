use super::*;
use crate::records::{Batch, BatchBuilder, BatchOptions, Caps, Header};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

fn batch(options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    let header = Header {
        key: b"trace",
        value: None,
    };
    for (index, value) in [Some(&b"one"[..]), None, Some(b"three")]
        .into_iter()
        .enumerate()
    {
        let timestamp = Timestamp(1000 - 10 * index as i64);
        let key = [b'a' + index as u8];
        builder
            .append(timestamp, Some(&key), value, &[header])
            .unwrap();
    }
    builder.build().unwrap()
}

fn options(compression: Compression) -> BatchOptions {
    BatchOptions {
        compression,
        base_offset: Offset(40),
        leader_epoch: LeaderEpoch(3),
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(2),
        base_sequence: 5,
        ..BatchOptions::default()
    }
}

/// Offset, timestamp, key, value and count of headers.
type Seen = (i64, i64, Vec<u8>, Option<Vec<u8>>, usize);

fn seen(bytes: &[u8]) -> Vec<Seen> {
    let (batch, rest) = Batch::parse(bytes).unwrap();
    assert!(rest.is_empty() && batch.crc_is_valid());
    let records = batch.records(&Caps::DEFAULT).unwrap();
    let record = |record: Result<Record<'_>, _>| {
        let record = record.unwrap();
        let key = record.key.unwrap().to_vec();
        let value = record.value.map(<[u8]>::to_vec);
        let headers = record.headers.len();
        (record.offset.0, record.timestamp.0, key, value, headers)
    };
    records.iter().map(record).collect()
}

#[test]
fn what_is_kept_is_as_it_was_in_every_codec() {
    for codec in Compression::ALL {
        let sent = batch(options(codec));
        let (whole, _) = Batch::parse(&sent).unwrap();
        let records = whole.records(&Caps::DEFAULT).unwrap();
        let kept: Vec<_> = records.iter().skip(1).map(Result::unwrap).collect();
        for horizon in [None, Some(Timestamp(86_400_000))] {
            let rewritten = rewrite(whole.header(), &kept, horizon).unwrap();
            assert_eq!(seen(&rewritten), seen(&sent)[1..]);
            let (header, before) = (BatchHeader::parse(&rewritten).unwrap(), whole.header());
            assert_eq!(header.records_count, 2);
            assert_eq!(header.last_offset(), Offset(42));
            assert_eq!(header.last_sequence(), before.last_sequence());
            assert_eq!(header.max_timestamp, Timestamp(990));
            assert_eq!(header.attributes.compression(), Ok(codec));
            assert_eq!(header.attributes.has_delete_horizon(), horizon.is_some());
            assert_eq!(header.base_timestamp, horizon.unwrap_or(Timestamp(990)));
        }
    }
}

#[test]
fn the_leaders_clock_stays_the_time_of_all_records() {
    let sent = batch(BatchOptions {
        timestamp_type: TimestampType::LogAppendTime,
        ..options(Compression::Zstd)
    });
    let (whole, _) = Batch::parse(&sent).unwrap();
    let records = whole.records(&Caps::DEFAULT).unwrap();
    let kept: Vec<_> = records.iter().skip(2).map(Result::unwrap).collect();
    let rewritten = rewrite(whole.header(), &kept, Some(Timestamp(5))).unwrap();
    assert_eq!(seen(&rewritten), seen(&sent)[2..]);
}

#[test]
fn timestamps_at_the_edge_survive_a_delete_horizon() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder
        .append(Timestamp(i64::MAX), Some(b"k"), None, &[])
        .unwrap();
    let sent = builder.build().unwrap();
    let (whole, _) = Batch::parse(&sent).unwrap();
    let records = whole.records(&Caps::DEFAULT).unwrap();
    let kept: Vec<_> = records.iter().map(Result::unwrap).collect();
    let rewritten = rewrite(whole.header(), &kept, Some(Timestamp(-1))).unwrap();
    assert_eq!(seen(&rewritten), seen(&sent));
}

#[test]
fn an_emptied_batch_remembers_its_producer() {
    let sent = batch(options(Compression::Gzip));
    let before = BatchHeader::parse(&sent).unwrap();
    let bytes = emptied(&before);
    assert_eq!(seen(&bytes), []);
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!(header.size_in_bytes(), BatchHeader::BYTES);
    assert_eq!(header.last_offset(), before.last_offset());
    assert_eq!(header.last_sequence(), before.last_sequence());
    assert_eq!(header.producer_id, before.producer_id);
    assert_eq!(header.partition_leader_epoch, before.partition_leader_epoch);
}

#[test]
fn a_batch_of_no_records_is_not_rewritten() {
    let sent = batch(options(Compression::None));
    let header = BatchHeader::parse(&sent).unwrap();
    assert!(matches!(
        rewrite(&header, &[], None),
        Err(BuildError::Empty)
    ));
}

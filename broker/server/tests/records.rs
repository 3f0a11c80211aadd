//! Topic settings that change what is stored: compression and timestamps.

mod common;

use std::borrow::Cow;

use common::{Stores, Wire, batch_with, create, fetch, produce_request};
use esker_protocol::ErrorCode;
use esker_protocol::messages::*;
use esker_protocol::records::{
    Batch, BatchBuilder, BatchOptions, Batches, Caps, Compression, TimestampType,
};
use esker_protocol::{ProducerEpoch, ProducerId, Timestamp};

const NOW: i64 = 1_700_000_000_000;

/// Produces to partition 0; returns code, base offset and log append time.
async fn produce(wire: &mut Wire, topic: &str, records: bytes::Bytes) -> (i16, i64, i64) {
    let request = produce_request(topic, records, -1);
    wire.call(12, &request, |r: ProduceResponse<'_>| {
        let partition = &r.responses[0].partition_responses[0];
        (
            partition.error_code,
            partition.base_offset,
            partition.log_append_time_ms,
        )
    })
    .await
}

fn compressed(codec: Compression, sequence: i32) -> bytes::Bytes {
    let options = BatchOptions {
        compression: codec,
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(0),
        base_sequence: sequence,
        ..BatchOptions::default()
    };
    batch_with(options, &[&[1; 300], &[2; 300]], NOW)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_stored_in_the_codec_of_their_topic() {
    let stores = Stores::new();
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    for (name, codec) in [
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
        ("uncompressed", Compression::None),
    ] {
        create(&mut wire, name, 1, &[("compression.type", name)]).await;
        for (sequence, from) in [Compression::None, Compression::Lz4, codec]
            .into_iter()
            .enumerate()
        {
            let sequence = 2 * sequence as i32;
            let sent = compressed(from, sequence);
            let offset = i64::from(sequence);
            assert_eq!(
                produce(&mut wire, name, sent.clone()).await,
                (0, offset, -1)
            );
            // A repetition is known although what is stored has other bytes.
            assert_eq!(
                produce(&mut wire, name, sent.clone()).await,
                (0, offset, NOW)
            );
            let (_, _, records) = fetch(&mut wire, name, offset, 1).await;
            let (read, _) = Batch::parse(&records).expect("a batch");
            assert!(read.crc_is_valid());
            assert_eq!(
                read.header().attributes.compression(),
                Ok(codec),
                "{from} to {name}"
            );
            let read = read.records(&Caps::DEFAULT).expect("reads");
            let values = read
                .iter()
                .map(|r| r.expect("reads").value.expect("a value").to_vec());
            assert_eq!(values.collect::<Vec<_>>(), [vec![1; 300], vec![2; 300]]);
            if from == codec {
                assert_eq!(
                    records[61..],
                    sent[61..],
                    "nothing is compressed without need"
                );
            }
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_a_connection_keep_their_order_where_they_are_compressed_anew() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[("compression.type", "zstd")]).await;
    // All sent before any answer is read.
    for sequence in 0..20 {
        let request = produce_request("topic", compressed(Compression::Gzip, 2 * sequence), -1);
        wire.send(12, &request).await;
    }
    for _ in 0..20 {
        assert!(wire.receive().await.is_some());
    }
    let (code, _, records) = fetch(&mut wire, "topic", 0, 1 << 20).await;
    assert_eq!((code, Batches::new(&records).count()), (0, 20));
    broker.stop().await;
}

async fn offset_for(wire: &mut Wire, topic: &str, timestamp: i64) -> (i64, i64) {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: Cow::Borrowed(topic),
            partitions: vec![ListOffsetsPartition {
                timestamp,
                ..Default::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    wire.call(9, &request, |r: ListOffsetsResponse<'_>| {
        let partition = &r.topics[0].partitions[0];
        (partition.offset, partition.timestamp)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_the_append_is_the_time_of_the_records_everywhere() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    for codec in ["producer", "gzip"] {
        let configs = [
            ("message.timestamp.type", "LogAppendTime"),
            ("compression.type", codec),
        ];
        create(&mut wire, codec, 1, &configs).await;
        let mut times = Vec::new();
        for sequence in 0..3 {
            let sent = compressed(Compression::Lz4, 2 * sequence);
            let (code, base, time) = produce(&mut wire, codec, sent.clone()).await;
            assert_eq!((code, base), (0, i64::from(2 * sequence)));
            assert!(time > NOW, "the broker's clock, not the producer's");
            // A repetition is answered with the first one's time.
            assert_eq!(produce(&mut wire, codec, sent).await, (0, base, time));
            times.push(time);
        }
        let (_, _, records) = fetch(&mut wire, codec, 0, 1 << 20).await;
        for (batch, time) in Batches::new(&records).zip(&times) {
            let batch = batch.expect("a batch");
            assert!(batch.crc_is_valid());
            let header = batch.header();
            assert_eq!(
                header.attributes.timestamp_type(),
                TimestampType::LogAppendTime
            );
            assert_eq!(header.max_timestamp, Timestamp(*time));
            for record in batch.records(&Caps::DEFAULT).expect("reads").iter() {
                assert_eq!(record.expect("reads").timestamp, Timestamp(*time));
            }
        }
        // No record is as old as its producer says; the first of a time is the first of its batch.
        let first = times
            .iter()
            .position(|time| *time == times[0])
            .expect("there");
        assert_eq!(
            offset_for(&mut wire, codec, NOW).await,
            (2 * first as i64, times[0])
        );
        assert_eq!(offset_for(&mut wire, codec, times[2] + 1).await, (-1, -1));
        let (offset, time) = offset_for(&mut wire, codec, -3).await;
        assert_eq!(time, times[2]);
        assert!(offset % 2 == 0 || offset == 5, "{offset}");
    }
    // A producer cannot set it.
    create(
        &mut wire,
        "strict",
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    )
    .await;
    let mut builder = BatchBuilder::new(BatchOptions {
        timestamp_type: TimestampType::LogAppendTime,
        ..BatchOptions::default()
    });
    builder
        .append(Timestamp(NOW), Some(b"k"), Some(b"v"), &[])
        .expect("fits");
    let sent = builder.build().expect("builds");
    let (code, _, _) = produce(&mut wire, "strict", sent).await;
    assert_eq!(code, ErrorCode::InvalidTimestamp.code());
    broker.stop().await;
}
